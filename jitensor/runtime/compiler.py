"""Kernel text to machine code, once per text: from this process, from disk, or through Numba's code library.

Owns the table of the kernels of this process, the counting of compiled, loaded and reused ones, and the LLVM path. Must
not know what a kernel computes or who wrote its text. Numba is imported when the first kernel is compiled, llvmlite
when the first is loaded.

    kernel = load_kernel(llvm_text, "k_3f9a")     # llvm_text defines @k_3f9a
    kernel.address, kernel.origin, kernel.seconds

A kernel's calling convention, whichever writer made it:

    int64_t kernel(char **buffers, int64_t *ints, char *scalars /* 8-byte slots */, int64_t begin, int64_t end)
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from jitensor import events, settings
from jitensor.errors import CompileError
from jitensor.runtime import disk, loader
from jitensor.runtime.counters import tally
from jitensor.runtime.fingerprint import fingerprint, kernel_key

TextMaker = Callable[[], str]


class Code(Protocol):
    """Machine code in memory that lives as long as this object."""

    @property
    def address(self) -> int:
        """Where the code starts."""


class Compiled:
    """A compilation's outcome: Numba's finalised library, which keeps the code alive, and the symbol to call in it."""

    __slots__ = ("address", "library", "symbol")

    def __init__(self, library: Any, symbol: str) -> None:
        self.library = library
        self.symbol = symbol
        self.address: int = library.get_pointer_to_function(symbol)

    def object_code(self) -> bytes:
        """Return the object code; the library must have been made with object caching enabled."""
        return bytes(self.library.serialize_using_object_code()[2][0])


def _nothing() -> None:
    pass


class Recipe(NamedTuple):
    """How to obtain one kernel: its key, its symbol, the text that the key was made from, and how to compile it.

    build: compiles, given the symbol that object code is to use. make_source: makes the text that is compiled, where
    that is not `text`. before_load: what object code from disk needs of this process.
    """

    key: str
    symbol: str
    text: str
    build: Callable[[str], Compiled]
    make_source: TextMaker | None = None
    before_load: Callable[[], None] = _nothing

    def entry(self) -> str:
        """Return the symbol in object code: unique per key, since one engine holds all of a process's kernels."""
        return f"{self.symbol}_{self.key[:16]}"

    def source(self) -> str:
        """Return the text that is compiled."""
        return self.make_source() if self.make_source is not None else self.text


class CompiledKernel:
    """A kernel that can be called at `address`.

    key: the hex content key. text: what the key was made from. origin: `compiled` or `loaded` (from disk). seconds:
    what that took. The code lives as long as this object.
    """

    __slots__ = ("_code", "_inspected", "_recipe", "address", "key", "origin", "seconds", "symbol", "text")

    def __init__(self, recipe: Recipe, code: Code, origin: str, seconds: float) -> None:
        self.key = recipe.key
        self.symbol = recipe.symbol
        self.text = recipe.text
        self.address = code.address
        self.origin = origin
        self.seconds = seconds
        self._recipe = recipe
        self._code = code
        self._inspected = code if isinstance(code, Compiled) else None

    def __repr__(self) -> str:
        return f"<CompiledKernel {self.symbol} {self.origin} in {self.seconds * 1e3:.1f} ms>"

    def source(self) -> str:
        """Return the text that was compiled: LLVM IR, or Python source for the @njit writer."""
        return self._recipe.source()

    def llvm(self) -> str:
        """Return the optimised LLVM IR. A kernel that came from disk is compiled for this, outside the counters."""
        return str(self._library().get_llvm_str())

    def assembly(self) -> str:
        """Return the assembly. A kernel that came from disk is compiled for this, outside the counters."""
        return str(self._library().get_asm_str())

    def _library(self) -> Any:
        if self._inspected is None:
            self._inspected = self._recipe.build(self._recipe.entry())
        return self._inspected.library


_kernels: dict[str, CompiledKernel] = {}
_turns: dict[str, threading.Lock] = {}
_entries: dict[str, Code] = {}  # the latest native entries' code, by key
ENTRIES = 512


def load_kernel(text: str, symbol: str, *, make_source: TextMaker | None = None) -> CompiledKernel:
    """Return the kernel that `text` describes, ready to call.

    text: LLVM IR defining `i64 @symbol(ptr, ptr, ptr, i64, i64)`; or, with `make_source`, any canonical text that
    decides that IR, which `make_source()` returns when nobody has the kernel yet. Safe from any thread: one text is
    compiled once. Raises CompileError.
    """

    def build(entry: str) -> Compiled:
        return compile_llvm(recipe.source(), symbol, entry)

    recipe = Recipe(kernel_key(text, f"llvm {symbol}"), symbol, text, build, make_source)
    return obtain(recipe)


def uncounted_code(text: str, symbol: str) -> Code:
    """Return machine code that is no kernel (a native entry): known, from disk, or compiled, and not counted. Raises
    CompileError."""

    def build(entry: str) -> Compiled:
        return compile_llvm(text, symbol, entry)

    recipe = Recipe(kernel_key(text, f"entry {symbol}"), symbol, text, build)
    code = _entries.get(recipe.key)
    if code is None:
        if len(_entries) >= ENTRIES:
            _entries.pop(next(iter(_entries)), None)
        code = _entries[recipe.key] = _from_disk(recipe) or _compile(recipe)
    return code


def obtain(recipe: Recipe) -> CompiledKernel:
    """Return the kernel of `recipe`: this process's, else from disk, else compiled; counts which."""
    kernel = _kernels.get(recipe.key)
    if kernel is None:
        with _turn(recipe.key):
            kernel = _kernels.get(recipe.key)
            if kernel is None:
                kernel = _kernels[recipe.key] = _make(recipe)
                return kernel
    tally.kernels_reused += 1
    return kernel


def _make(recipe: Recipe) -> CompiledKernel:
    start = time.perf_counter()
    code: Code | None = _from_disk(recipe)
    if code is not None:
        origin = "loaded"
        tally.kernels_loaded += 1
    else:
        origin = "compiled"
        code = _compile(recipe)
        tally.kernels_compiled += 1
    seconds = time.perf_counter() - start
    if events.wanted("compile"):
        events.emit("compile", symbol=recipe.symbol, origin=origin, seconds=seconds)
    return CompiledKernel(recipe, code, origin, seconds)


def _compile(recipe: Recipe) -> Compiled:
    compiled = recipe.build(recipe.entry())
    cache = disk.active()
    if cache is not None:
        payload = compiled.symbol.encode() + b"\n" + compiled.object_code()
        cache.store(recipe.key, fingerprint(), payload)
    if settings.active().dump is not None:
        events.dump(recipe.symbol, "s", str(compiled.library.get_asm_str()))
    return compiled


def _from_disk(recipe: Recipe) -> loader.LoadedObject | None:
    cache = disk.active()
    payload = cache.load(recipe.key, fingerprint()) if cache is not None else None
    if payload is None:
        return None
    recipe.before_load()
    symbol, _, code = payload.partition(b"\n")
    try:
        return loader.load_object(code, symbol.decode())
    except loader.LinkError as error:
        events.emit("compile.unlinkable", symbol=symbol.decode(), error=str(error))
        return None


@contextlib.contextmanager
def _turn(key: str) -> Iterator[None]:
    """Let one thread at a time work on `key`; other keys do not wait here.

    The lock is dropped only after success, when the kernel is in the table: who comes later finds it there.
    """
    with _turns.setdefault(key, threading.Lock()):
        yield
    _turns.pop(key, None)


def compile_llvm(text: str, symbol: str, entry: str) -> Compiled:
    """Return the machine code of LLVM IR defining `@symbol`, which is called `entry` in it. Raises CompileError."""
    import llvmlite.binding as llvm
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    show_text("llvm", symbol, "ll", text)
    with global_compiler_lock:
        # This codegen alone does not load Numba's typing registries, which cost 250 ms.
        codegen = cpu_target.target_context.codegen()
        kernels_only = _library_class()
        library = kernels_only(codegen, entry) if kernels_only else codegen.create_library(entry)
        library.enable_object_caching()
        try:
            module = llvm.parse_assembly(text)
            module.get_function(symbol).name = entry
            module.name = entry
            module.verify()
        except (RuntimeError, NameError) as error:
            raise CompileError(f"kernel {symbol}: LLVM does not accept its text: {error}") from None
        _require_callees(module, symbol)
        library.add_llvm_module(module)
        library.finalize()
        return Compiled(library, entry)


@functools.cache
def _library_class() -> Any:
    """Numba's code library with its full pipeline of passes alone, or None where this Numba is built otherwise.

    Numba optimises each function and then the module cheaply before the full pipeline, to prune its own reference
    counts; a kernel has none, and the full pipeline does all of it again (a third of the time for 500 operations).
    """
    from numba.core.codegen import JITCodeLibrary

    needed = ("_optimize_functions", "_optimize_final_module")
    if not all(callable(getattr(JITCodeLibrary, name, None)) for name in needed):
        return None

    class KernelLibrary(JITCodeLibrary):
        def _optimize_functions(self, ll_module: Any) -> None:
            ll_module.data_layout = self._codegen._data_layout

        def _optimize_final_module(self) -> None:
            made = self._codegen._module_pass_manager()
            if isinstance(made, tuple):
                manager, builder = made
                manager.run(self._final_module, builder)
            else:
                made.run(self._final_module)

    return KernelLibrary


def show_text(stage: str, symbol: str, kind: str, text: str) -> None:
    """Emit a kernel's text as an event of `stage`, and write it to the dump folder as `<symbol>.<kind>`."""
    if events.wanted(stage):
        events.emit(stage, symbol=symbol, text=text)
    events.dump(symbol, kind, text)


def _require_callees(module: Any, symbol: str) -> None:
    """Refuse a module that calls what this process does not have: LLVM would end the process."""
    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm.") and not loader.has_symbol(function.name):
            raise CompileError(f"kernel {symbol}: its text calls `{function.name}`, which this process does not have.")


def forget_kernels() -> None:
    """Forget the kernels of this process; those that a program holds stay callable. For tests and measurements."""
    _kernels.clear()


def kernel_count() -> int:
    """Return how many kernels this process holds."""
    return len(_kernels)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)
