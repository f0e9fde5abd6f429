"""NumPy's C API as a table of addresses, for compiled code and ctypes."""

from __future__ import annotations

import ctypes
import functools


@functools.cache
def array_api() -> int:
    """Return the address of the table; its slots are fixed by NumPy's ABI."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # NumPy's stubs leave it out

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(_multiarray_umath._ARRAY_API, None))
