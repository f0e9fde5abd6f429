"""Matrix products through BLAS.

Owns finding BLAS and counting its calls. Must not know graphs or kernels. The pointers are those of the OpenBLAS that
NumPy's wheels bring (CBLAS convention, 64-bit integers): it is in the process already, found in 0.2 ms, and shares
NumPy's thread settings; SciPy's `cython_blas` costs 140 ms to import. Without it every product goes to `np.matmul`.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
from typing import Any

import numpy as np

from jitensor.runtime.counters import tally

ROW_MAJOR = 101
NO_TRANSPOSE = 111
TRANSPOSE = 112


def matmul(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return `out` holding the matrix product of a: [..., m, k] and b: [..., k, n], of one dtype. Counts one call.

    out: [..., m, n], overlapping neither input. Mirrors numpy.matmul, which sends float and complex products to BLAS
    and has loops of its own for the rest. Raises ValueError where NumPy does.
    """
    tally.library_calls += 1
    return np.matmul(a, b, out=out)


def cblas_address(routine: str) -> int | None:
    """Return the address of a CBLAS routine (`dgemm`, `sgemv`, `ddot`) with 64-bit integers, or None without one.

    The convention is CBLAS's: orders and transposes are C ints (`ROW_MAJOR`, `NO_TRANSPOSE`), sizes are int64.
    """
    library = _numpy_openblas()
    function = getattr(library, f"scipy_cblas_{routine}64_", None) if library is not None else None
    return ctypes.cast(function, ctypes.c_void_p).value if function is not None else None


def library_path() -> str | None:
    """Return the file of the BLAS library in use, or None when it is `np.matmul`'s own business."""
    library = _numpy_openblas()
    return library._name if library is not None else None


@functools.cache
def _numpy_openblas() -> ctypes.CDLL | None:
    package = os.path.dirname(np.__file__)
    folders = (package + ".libs", os.path.join(package, ".dylibs"))
    files = [file for folder in folders for file in sorted(glob.glob(os.path.join(folder, "*openblas64*")))]
    try:
        return ctypes.CDLL(files[0]) if files else None
    except OSError:
        return None
