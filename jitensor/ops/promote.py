"""NumPy's promotion (NEP 50), asked of NumPy itself: the dtypes of a ufunc's loop, and the common dtype of operands.

An operand is a DType, or Python's `int`, `float` or `complex` for a Python number, which is weak: it takes the others'
width. A Python bool is strong: pass `types.bool_`.

    >>> loop_dtypes(np.add, (types.float32, int))
    ((float32, float32), (float32,))
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jitensor.errors import DTypeError
from jitensor.ir.graph import Primitive
from jitensor.ir.types import BY_NUMPY, DType
from jitensor.ops import arithmetic, bits, rounding, trig
from jitensor.ops.base import BY_UFUNC
from jitensor.ops.special import by_ufunc

Operand = DType | type
_ZERO = {int: 0, float: 0.0, complex: 0j}


@functools.lru_cache(maxsize=4096)
def loop_dtypes(ufunc: Any, operands: tuple[Operand, ...]) -> tuple[tuple[DType, ...], tuple[DType, ...]]:
    """The dtypes that the ufunc casts its inputs to, and those of its results. Raises DTypeError with NumPy's text
    where it has no loop, or has one only for a dtype that jitensor lacks."""
    asked = tuple(t.numpy if isinstance(t, DType) else t for t in operands)
    try:
        resolved = ufunc.resolve_dtypes((*asked, *(None,) * ufunc.nout))
    except TypeError as error:
        raise DTypeError(str(error)) from None
    try:
        dtypes = tuple(BY_NUMPY[t] for t in resolved)
    except KeyError as missing:
        raise DTypeError(f"{ufunc.__name__}: its result has dtype {missing}, which jitensor lacks") from None
    return dtypes[: ufunc.nin], dtypes[ufunc.nin :]


@functools.lru_cache(maxsize=4096)
def result_type(*operands: Operand) -> DType:
    """The dtype that holds every operand: of where, concatenate, matmul ... Mirrors numpy.result_type."""
    asked = [t.numpy if isinstance(t, DType) else _ZERO[t] for t in operands]
    try:
        return BY_NUMPY[np.result_type(*asked)]
    except (KeyError, TypeError) as error:
        raise DTypeError(f"no common dtype of {', '.join(_name(t) for t in operands)}: {error}") from None


def _name(operand: Operand) -> str:
    return operand.name if isinstance(operand, DType) else f"Python {operand.__name__}"


# Ufuncs of two results, each result a primitive of its own; and second names of one ufunc.
_TWO_RESULTS: dict[Any, tuple[Primitive, ...]] = {
    np.modf: (rounding.modf_fraction, rounding.modf_integral),
    np.frexp: (bits.frexp_mantissa, bits.frexp_exponent),
    np.divmod: (arithmetic.floor_divide, arithmetic.remainder),
}
BY_UFUNC[np.rad2deg] = trig.degrees
BY_UFUNC[np.deg2rad] = trig.radians


def primitives_of(ufunc: Any) -> tuple[Primitive, ...]:
    """The primitives that give a ufunc's results, one for each, on the same operands; () for a ufunc that has none."""
    if ufunc in _TWO_RESULTS:
        return _TWO_RESULTS[ufunc]
    single = by_ufunc(ufunc)
    return () if single is None else (single,)
