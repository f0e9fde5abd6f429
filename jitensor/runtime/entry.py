"""Native entries: compiled code that CPython calls directly, in front of a Python function that knows everything else.

Owns the probing of the interpreter (`offsets`), the callable that tries its specialisations in turn and then the slow
function (`NativeEntry`), and the contexts that hold every address. Must not know what an entry checks
(codegen.emit_entry). Where anything about the interpreter or NumPy is unknown, `why_not()` says so and the Python path
serves alone.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor import settings
from jitensor.codegen.emit_entry import DISPATCHER, FIRST_WORD, Offsets
from jitensor.runtime import memory, threads
from jitensor.runtime.compiler import Code, uncounted_code
from jitensor.runtime.counters import native
from jitensor.runtime.numpy_api import array_api

CHAIN = 4  # specialisations tried before the slow function, the latest first
_TESTED = ((3, 11), (3, 14))
_FASTCALL_KEYWORDS = 0x80 | 0x02


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@functools.cache
def why_not() -> str:
    """Why native entries cannot serve in this process, or ""."""
    if sys.implementation.name != "cpython":
        return f"the interpreter is {sys.implementation.name}, not CPython"
    if not _TESTED[0] <= sys.version_info[:2] <= _TESTED[1]:
        return f"Python {sys.version_info.major}.{sys.version_info.minor} has not been tested"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "the interpreter runs without the GIL"
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return f"the platform is {sys.platform}"
    if not _array_fields_are_known():
        return "arrays do not lie in memory as expected"
    return ""


def is_used() -> bool:
    """Do new functions get native entries?"""
    return settings.active().entry == "native" and not why_not()


@functools.cache
def offsets() -> Offsets:
    return Offsets(object.__basicsize__, tuple.__basicsize__)


def _array_fields_are_known() -> bool:
    """Reads the fields of two arrays through the offsets and compares them with what NumPy says."""
    at = offsets()
    for array in (np.arange(6.0).reshape(2, 3), np.arange(24, dtype=np.int32).reshape(2, 3, 4)[:, ::2, 1]):
        address = id(array)

        def word(offset: int, base: int = address) -> int:
            return ctypes.c_int64.from_address(base + offset).value

        shape = [word(8 * d, word(at.dims)) for d in range(array.ndim)]
        if (
            word(at.type) != id(np.ndarray)
            or word(at.data) != array.ctypes.data
            or ctypes.c_int.from_address(address + at.rank).value != array.ndim
            or shape != list(array.shape)
            or word(at.descr) != id(array.dtype)
            or ctypes.c_int.from_address(address + at.flags).value & 0xFFFF != array.flags.num & 0xFFFF
        ):
            return False
    pair = (at, "item")
    items = [ctypes.c_int64.from_address(id(pair) + at.tuple_items + 8 * i).value for i in range(2)]
    return items == [id(item) for item in pair] and ctypes.c_int64.from_address(id(pair) + at.head).value == 2


@functools.cache
def _dispatcher() -> Code:
    return uncounted_code(DISPATCHER.replace("SYMBOL", "jitensor_dispatch"), "jitensor_dispatch")


class Specialisation:
    """One compiled entry with its context. `keep`: what the addresses in the context belong to."""

    def __init__(self, code: Code, words: Sequence[int], keep: Sequence[Any]) -> None:
        threads.driver()
        memory.prepare()
        counts = ctypes.addressof(native)
        fixed = [id(np.ndarray), array_api(), counts, counts + 8, threads.POOL, memory.HANDLER, counts + 16]
        assert len(fixed) == FIRST_WORD
        self.code = code
        self.keep = keep
        self.context = (ctypes.c_int64 * (len(fixed) + len(words)))(*fixed, *words)


class NativeEntry:
    """`callable` is a built-in function object: it tries the installed specialisations, then calls `slow`."""

    def __init__(self, name: str, slow: Callable[..., Any]) -> None:
        self.slow = slow
        self.code = _dispatcher()
        self.installed: list[Specialisation] = []
        self._retired: list[Any] = []  # chains and contexts that a running call may still read
        # chain, slow function, whether native calls may run now, calls that are inside the chain
        self._place = (ctypes.c_int64 * 4)(0, id(slow), settings.native_flag(), 0)
        self._set_chain([])
        self._name = name.encode()
        self._definition = _MethodDef(self._name, self.code.address, _FASTCALL_KEYWORDS, None)
        make_capsule = ctypes.pythonapi.PyCapsule_New
        make_capsule.restype = ctypes.py_object
        make_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        capsule = make_capsule(ctypes.addressof(self._place), None, None)
        make_function = ctypes.pythonapi.PyCFunction_NewEx
        make_function.restype = ctypes.py_object
        make_function.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
        # The function object holds this one (as its module), and with it all that its code reads.
        self.callable: Callable[..., Any] = make_function(ctypes.addressof(self._definition), capsule, self)

    def _set_chain(self, chain: list[Specialisation]) -> None:
        words = [len(chain)]
        for s in chain:
            words += [s.code.address, ctypes.addressof(s.context)]
        array = (ctypes.c_int64 * len(words))(*words)
        self._place[0] = ctypes.addressof(array)
        if self._place[3] == 0:  # nobody reads what is no longer installed; the GIL keeps it so
            self._retired.clear()
        self._retired.append((array, chain))

    def install(self, specialisation: Specialisation) -> None:
        """Puts a specialisation first; the oldest beyond CHAIN leaves."""
        self.installed = [specialisation, *self.installed][:CHAIN]
        self._set_chain(self.installed)

    def clear(self) -> None:
        """Every call goes to the slow function from now on."""
        self.installed = []
        self._set_chain([])
