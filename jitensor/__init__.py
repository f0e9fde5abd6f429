"""jitensor: decorated Python functions become fused native kernels.

`@jitensor.jit` for NumPy functions; `@jitensor.function` and TensorFlow's names for TensorFlow-style ones. Names are
loaded when they are first used, so that `import jitensor` costs little more than `import numpy`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

import numpy as _numpy  # noqa: F401  (the one import that every use needs)

__version__ = "0.1.0"

# Names that have a module of their own; all others are TensorFlow's, listed in jitensor.api.names.
_HOMES = {
    "jit": "jitensor.jit_door",
    "counters": "jitensor.runtime.counters",
    "Counters": "jitensor.runtime.counters",
    "MemoryStats": "jitensor.runtime.memory",
    "empty_cache": "jitensor.runtime.memory",
    "get_num_threads": "jitensor.runtime.threads",
    "memory_stats": "jitensor.runtime.memory",
    "set_num_threads": "jitensor.runtime.threads",
}

if TYPE_CHECKING:
    from jitensor.runtime.counters import Counters as Counters
    from jitensor.runtime.counters import counters as counters
    from jitensor.runtime.memory import MemoryStats as MemoryStats
    from jitensor.runtime.memory import empty_cache as empty_cache
    from jitensor.runtime.memory import memory_stats as memory_stats
    from jitensor.runtime.threads import get_num_threads as get_num_threads
    from jitensor.runtime.threads import set_num_threads as set_num_threads


@functools.cache
def _rooms() -> frozenset[str]:
    """The package's own modules."""
    return frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module 'jitensor' has no attribute {name!r}")
    if name in _rooms():  # `from jitensor import ir` asks for the attribute before it imports the module
        return importlib.import_module(f"jitensor.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        value = importlib.import_module("jitensor.api.names").lookup(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    public = importlib.import_module("jitensor.api.names").PUBLIC
    return sorted({*public, *_HOMES, "errors", "nest", "__version__"})
