"""Bits: of integers (and, or, shifts, counts) and of floats (sign, neighbours, exponent).

A shift by at least the width gives 0, or -1 for a negative left operand of a right shift, as in NumPy; so does a
negative count, which NumPy reads as a huge one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.errors import DTypeError
from jitensor.ir import types
from jitensor.ir.types import DType
from jitensor.ops.base import Interval, elementwise

bitwise_and = elementwise(
    "bitwise_and",
    scalar=lambda a, b: a & b,
    numpy=np.bitwise_and,
    arity=2,
    kinds="biu",
    tf=("bitwise.bitwise_and",),
    doc="Bits set in both. Mirrors numpy.bitwise_and.",
)
bitwise_or = elementwise(
    "bitwise_or",
    scalar=lambda a, b: a | b,
    numpy=np.bitwise_or,
    arity=2,
    kinds="biu",
    tf=("bitwise.bitwise_or",),
    doc="Bits set in either. Mirrors numpy.bitwise_or.",
)
bitwise_xor = elementwise(
    "bitwise_xor",
    scalar=lambda a, b: a ^ b,
    numpy=np.bitwise_xor,
    arity=2,
    kinds="biu",
    tf=("bitwise.bitwise_xor",),
    doc="Bits set in exactly one. Mirrors numpy.bitwise_xor.",
)
invert = elementwise(
    "invert",
    scalar=lambda a: ~a,
    numpy=np.invert,
    kinds="biu",
    tf=("bitwise.invert",),
    doc="Every bit the other way; of a bool, not. Mirrors numpy.invert.",
)
left_shift = elementwise(
    "left_shift",
    scalar=scalar.left_shift,
    numpy=np.left_shift,
    arity=2,
    kinds="iu",
    cost=3,
    samples=(Interval(-100.0, 100.0), Interval(0.0, 70.0)),
    tf=("bitwise.left_shift",),
    doc="Bits moved up. Mirrors numpy.left_shift.",
)
right_shift = elementwise(
    "right_shift",
    scalar=scalar.right_shift,
    numpy=np.right_shift,
    arity=2,
    kinds="iu",
    cost=3,
    samples=(Interval(-100.0, 100.0), Interval(0.0, 70.0)),
    tf=("bitwise.right_shift",),
    doc="Bits moved down, the sign kept. Mirrors numpy.right_shift.",
)
bitwise_count = elementwise(
    "bitwise_count",
    scalar=scalar.bit_count,
    numpy=np.bitwise_count,
    kinds="iu",
    result=lambda dtype: types.uint8,
    cost=12,
    doc="Number of bits set in the absolute value. Mirrors numpy.bitwise_count.",
)

# Floats ---------------------------------------------------------------------------------------------------------------

copysign = elementwise(
    "copysign",
    scalar=scalar.copysign,
    numpy=np.copysign,
    arity=2,
    kinds="f",
    cost=3,
    doc="The first operand's magnitude with the second's sign. Mirrors numpy.copysign.",
)


def _wide_float(name: str) -> Any:
    """dtype rule: float16's neighbours are not float32's, so a loop that computes in float32 cannot find them."""

    def rule(*dtypes: DType) -> DType:
        if dtypes[0] not in (types.float32, types.float64) or any(t is not dtypes[0] for t in dtypes):
            raise DTypeError(f"{name}: operands are {', '.join(t.name for t in dtypes)}; needed float32 or float64")
        return dtypes[0]

    return rule


nextafter = elementwise(
    "nextafter",
    scalar=scalar.nextafter,
    numpy=np.nextafter,
    rule=_wide_float("nextafter"),
    cost=12,
    samples=(Interval(-10.0, 10.0), Interval(-10.0, 10.0)),
    tf=("math.nextafter",),
    doc="The next float after the first operand toward the second. Mirrors numpy.nextafter.",
)
spacing = elementwise(
    "spacing",
    scalar=scalar.spacing,
    numpy=np.spacing,
    rule=_wide_float("spacing"),
    cost=12,
    samples=(Interval(-10.0, 10.0),),
    doc="Distance to the next float away from 0, with the value's sign. Mirrors numpy.spacing.",
)
frexp_mantissa = elementwise(
    "frexp_mantissa",
    scalar=lambda a: scalar.frexp(a)[0],
    numpy=lambda a: np.frexp(a)[0],
    kinds="f",
    cost=10,
    doc="m with a = m * 2**e and 0.5 <= |m| < 1: the first result of numpy.frexp.",
)
frexp_exponent = elementwise(
    "frexp_exponent",
    scalar=lambda a: scalar.frexp(a)[1],
    numpy=lambda a: np.frexp(a)[1],
    kinds="f",
    result=lambda dtype: types.int32,
    cost=10,
    doc="e with a = m * 2**e and 0.5 <= |m| < 1, int32: the second result of numpy.frexp.",
)


def _ldexp_rule(a: DType, n: DType) -> DType:
    if a.kind != "f" or n not in (types.int32, types.int64):
        raise DTypeError(f"ldexp: operands are {a.name} and {n.name}; needed a float and int32 or int64")
    return a


ldexp = elementwise(
    "ldexp",
    scalar=scalar.ldexp,
    numpy=np.ldexp,
    rule=_ldexp_rule,
    cost=10,
    samples=(Interval(-10.0, 10.0), Interval(-20.0, 20.0)),
    doc="First operand times 2 to the power of the second, an int32 or int64. Mirrors numpy.ldexp.",
)
