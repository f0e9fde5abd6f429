"""jitensor's threads under the limits of threadpoolctl, where the user imported that package.

threadpoolctl finds thread pools by the shared libraries that hold them. The driver of kernels is in none, so its
controller stands beside NumPy's core library, which every process with jitensor has.
"""

from __future__ import annotations

import sys
from typing import Any

from jitensor import settings
from jitensor.runtime import threads

USER_API = "jitensor"
_registered: list[Any] = []


def register() -> bool:
    """Make jitensor known to threadpoolctl, once. Returns False where that package is not imported."""
    package = sys.modules.get("threadpoolctl")
    if package is None or not hasattr(package, "register"):
        return False
    if not _registered:
        _registered.append(_controller(package.LibController))
        package.register(_registered[0])
    return True


def _controller(base: Any) -> Any:
    class Controller(base):
        """The number of threads for one kernel."""

        user_api = USER_API
        internal_api = USER_API
        filename_prefixes = ("_multiarray_umath",)
        check_symbols = ("PyInit__multiarray_umath",)

        def get_num_threads(self) -> int:
            return threads.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            settings.configure(num_threads=num_threads)

        def get_version(self) -> None:
            return None

    return Controller


register()
