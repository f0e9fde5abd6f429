"""Memory of results: large arrays whose owners dropped them lend theirs to the next ones.

Owns the store (`codegen.emit_store`), NumPy's handler for it, `empty` and what users see of it. The handler is in force
only while a result is made, so no other array is affected; an array gives its memory back to the store when it dies,
whoever holds it by then. Must not know programs. Where NumPy's allocation does not run under the GIL, or the platform
is unknown, results come from `np.empty`.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
from typing import Any, NamedTuple

import numpy as np

from jitensor import settings
from jitensor.codegen.emit_entry import LARGE, NO_STORE, SET_HANDLER
from jitensor.codegen.emit_store import (
    CACHED,
    COUNT,
    FUNCTIONS,
    IN_USE,
    LIMIT,
    MADE,
    PEAK,
    REUSED,
    STORE_WORDS,
    emit_store,
)
from jitensor.runtime.compiler import Code, uncounted_code
from jitensor.runtime.numpy_api import array_api

_DEFAULT_LIMIT = 256 << 20
_CAPSULE_NAME = b"mem_handler"

_store = (ctypes.c_int64 * STORE_WORDS)()
_handler_word = (ctypes.c_int64 * 1)()  # the address of NumPy's handler object, 0 before there is one, or NO_STORE
HANDLER = ctypes.addressof(_handler_word)


class MemoryStats(NamedTuple):
    """in_use, peak, cached: bytes of results alive now, at most so far, and waiting to be used again. allocations:
    blocks taken from the system. reuses: results that got a waiting block."""

    in_use: int
    peak: int
    cached: int
    allocations: int
    reuses: int


class _Handler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("functions", ctypes.c_int64 * 4),
    )


class _Native(NamedTuple):
    """What must stay for good: arrays hold the capsule, and call its functions to the very end."""

    code: Code
    handler: _Handler
    capsule: Any
    trim: Any
    set_handler: Any


def is_used() -> bool:
    """Do large results come from the store in this process?"""
    return sys.platform == "linux" and getattr(sys, "_is_gil_enabled", lambda: True)() and _store[LIMIT] > 0


def limit() -> int:
    """Return how many bytes may wait for the next results."""
    return int(_store[LIMIT])


@functools.cache
def _native() -> _Native:
    code = uncounted_code(emit_store("jitensor_store"), "jitensor_store")
    table = (ctypes.c_int64 * len(FUNCTIONS))()
    fill = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address)
    fill(ctypes.addressof(table))
    handler = _Handler(b"jitensor", 1, ctypes.addressof(_store), (ctypes.c_int64 * 4)(*table[:4]))
    make_capsule = ctypes.pythonapi.PyCapsule_New
    make_capsule.restype = ctypes.py_object
    make_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule = make_capsule(ctypes.addressof(handler), _CAPSULE_NAME, None)
    trim = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(table[4])
    slot = ctypes.c_int64.from_address(array_api() + 8 * SET_HANDLER).value
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(slot)
    native = _Native(code, handler, capsule, trim, set_handler)
    for thing in (native, _store):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return native


def prepare() -> _Native:
    """Make the store ready for native entries too."""
    native = _native()
    if is_used():
        _handler_word[0] = id(native.capsule)
    return native


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return a new array, not set, like np.empty."""
    if math.prod(shape) * dtype.itemsize < LARGE or not is_used():
        return np.empty(shape, dtype)
    native = prepare()
    before = native.set_handler(native.capsule)
    try:
        return np.empty(shape, dtype)
    finally:
        native.set_handler(before)


def memory_stats() -> MemoryStats:
    """Return what the memory of large results does in this process."""
    return MemoryStats(_store[IN_USE], _store[PEAK], _store[CACHED], _store[MADE], _store[REUSED])


def empty_cache() -> None:
    """Give the memory that waits for the next results back to the system."""
    if _store[COUNT]:
        _native().trim(ctypes.addressof(_store), 0, 0)


def _default_limit() -> int:
    """A sixteenth of the machine's memory, at most 256 MiB."""
    try:
        return min(_DEFAULT_LIMIT, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16)
    except (AttributeError, ValueError, OSError):
        return _DEFAULT_LIMIT


def _update() -> None:
    asked = settings.of_process().memory_limit
    _store[LIMIT] = _default_limit() if asked is None else asked
    if _store[CACHED] > _store[LIMIT]:
        _native().trim(ctypes.addressof(_store), _store[LIMIT], _store[COUNT])
    _handler_word[0] = 0 if is_used() else NO_STORE


settings.watch(_update)
