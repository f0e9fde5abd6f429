"""@njit source to machine code: the second CPU back end, called exactly like the LLVM one.

Owns running generated source, its entry in `linecache`, and its compilation as a C function by Numba. Must not know
what the source computes or who wrote it. The source is plain Python that defines the kernel under an `@njit` decorator:

    @njit(error_model="numpy", fastmath={"contract"})
    def k_3f9a(buffers, ints, scalars, begin, end):
        x = at(buffers[0], 0, float64)          # at(): from the prelude, see codegen
        y = at(buffers[1], 0, float64)
        for i in range(begin, end):
            y[i] = x[i] * at(scalars, 0, float64)[0]
        return 0

with buffers `CPointer(CPointer(uint8))`, ints `CPointer(int64)`, scalars `CPointer(uint8)` (8-byte slots), begin and
end `int64`, result `int64`. Truth values are read and written as `uint8`: Numba cannot store through a
`CPointer(boolean)`. Numba's typing registries load at the first kernel (250 ms).
"""

from __future__ import annotations

import functools
import itertools
import linecache
from types import CodeType
from typing import Any

from jitensor.errors import CompileError
from jitensor.runtime.compiler import Compiled, CompiledKernel, Recipe, obtain, show_text
from jitensor.runtime.fingerprint import kernel_key

_serial = itertools.count()


def load_source(source: str, symbol: str, *, prelude: str = "") -> CompiledKernel:
    """Return the kernel that the @njit function `symbol` of `source` defines, ready to call.

    prelude: Python source that comes first: its imports and shared functions, run once per process for all kernels that
    have the same prelude. Raises CompileError.
    """

    def build(_: str) -> Compiled:
        return compile_source(source, symbol, prelude)

    key = kernel_key(f"{prelude}\n{source}", f"njit {symbol}")
    return obtain(Recipe(key, symbol, source, build, before_load=_prepare_numba))


def define(source: str, symbol: str, prelude: str = "") -> Any:
    """Return the function `symbol` that running `prelude` and then `source` defines; its lines show in tracebacks."""
    names = dict(_run_prelude(prelude))
    exec(_compile_listed(source, f"<jitensor kernel {symbol}>"), names)
    return names[symbol]


def compile_source(source: str, symbol: str, prelude: str = "") -> Compiled:
    """Return the machine code of the @njit function `symbol`. Raises CompileError."""
    from numba.core.ccallback import CFunc
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.errors import NumbaError

    show_text("source", symbol, "py", f"{prelude}\n{source}")
    with global_compiler_lock:
        dispatcher = define(source, symbol, prelude)
        callback: Any = CFunc(dispatcher.py_func, _signature(), locals={}, options=dict(dispatcher.targetoptions))
        try:
            callback.compile()
        # Numba's lowering and LLVM raise plain built-ins too.
        except (NumbaError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise CompileError(f"kernel {symbol}: Numba does not accept its source: {error}") from None
        return Compiled(callback._library, callback.native_name)


def _prepare_numba() -> None:
    """Register the symbols that code compiled by Numba's front end may call."""
    from numba.core.registry import cpu_target

    cpu_target.target_context.codegen()


@functools.cache
def _signature() -> tuple[tuple[Any, ...], Any]:
    from numba.core import types as numba_types

    types: Any = numba_types
    bytes_at = types.CPointer(types.uint8)
    return (types.CPointer(bytes_at), types.CPointer(types.int64), bytes_at, types.int64, types.int64), types.int64


@functools.cache
def _run_prelude(prelude: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "jitensor_prelude"}
    exec(_compile_listed(prelude, f"<jitensor prelude {next(_serial)}>"), names)
    return names


def _compile_listed(source: str, file: str) -> CodeType:
    """Return the compiled source, listed in `linecache` so that tracebacks and `inspect` show it."""
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return compile(source, file, "exec")
