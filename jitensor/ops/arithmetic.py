"""Arithmetic: sums, products, quotients, powers, signs, extremes. Must not know promotion: operands come in one dtype.

bool follows NumPy's loops: its sum is "or" and its product is "and"; it has no difference, quotient or sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.errors import DTypeError
from jitensor.ir import types
from jitensor.ir.types import DType
from jitensor.ops.base import Interval, elementwise, to_real
from jitensor.scalar.program import INTEGERS, SIGNED


def _is_integer(a: Any) -> bool:
    return isinstance(a, scalar.ScalarValue) and a.type in INTEGERS


def _is_bool(a: Any) -> bool:
    return isinstance(a, scalar.ScalarValue) and a.type == "i1"


add = elementwise(
    "add",
    scalar=lambda a, b: a | b if _is_bool(a) else a + b,
    numpy=np.add,
    arity=2,
    tf=("add", "math.add"),
    doc="Sum of the operands. Mirrors numpy.add.",
)
subtract = elementwise(
    "subtract",
    scalar=lambda a, b: a - b,
    numpy=np.subtract,
    arity=2,
    kinds="iufc",
    tf=("subtract", "math.subtract"),
    doc="Difference of the operands. Mirrors numpy.subtract.",
)
multiply = elementwise(
    "multiply",
    scalar=lambda a, b: a & b if _is_bool(a) else a * b,
    numpy=np.multiply,
    arity=2,
    tf=("multiply", "math.multiply"),
    tolerance=2,  # complex: NumPy's vector loop fuses a product with the sum, ours does not
    doc="Product of the operands. Mirrors numpy.multiply.",
)
divide = elementwise(
    "divide",
    scalar=lambda a, b: a / b,
    numpy=np.divide,
    arity=2,
    kinds="fc",
    cost=4,
    tf=("divide", "math.divide", "truediv", "math.truediv"),
    # Complex: Smith's division; a contracted product may differ in the last places where the sum cancels.
    tolerance=4,
    doc="Quotient of floats. Mirrors numpy.divide.",
)
floor_divide = elementwise(
    "floor_divide",
    scalar=scalar.floor_divide,
    numpy=np.floor_divide,
    arity=2,
    kinds="iuf",
    cost=10,
    tf=("floordiv", "math.floordiv"),
    doc="Quotient rounded toward minus infinity; an integer divisor of 0 gives 0. Mirrors numpy.floor_divide.",
)
remainder = elementwise(
    "remainder",
    scalar=scalar.remainder,
    numpy=np.remainder,
    arity=2,
    kinds="iuf",
    cost=10,
    tf=("math.floormod", "math.mod", "floormod", "mod"),
    doc="Remainder with the divisor's sign. Mirrors numpy.remainder.",
)
fmod = elementwise(
    "fmod",
    scalar=scalar.fmod,
    numpy=np.fmod,
    arity=2,
    kinds="iuf",
    cost=10,
    tf=("truncatemod",),
    doc="Remainder with the dividend's sign. Mirrors numpy.fmod.",
)
power = elementwise(
    "power",
    scalar=lambda a, b: _integer_power(a, b) if _is_integer(b) else scalar.power(a, b),
    numpy=lambda a, b: _power(a, b),
    ufunc=np.power,
    arity=2,
    kinds="iufc",
    cost=80,
    literal_constants=(1,),  # small integer exponents become products
    samples=(Interval(0.01, 10.0), Interval(0.0, 6.0)),
    tf=("pow", "math.pow"),
    # Ours is within 2.5 ULP, NumPy's within 1. Complex: exp(b * log(a)) magnifies the rounding of the product.
    tolerance=32,
    doc="First operand to the power of the second. Mirrors numpy.power, negative integer exponents apart.",
)
float_power = elementwise(
    "float_power",
    scalar=scalar.power,
    numpy=np.float_power,
    rule=lambda a, b: _double(a, b),
    cost=80,
    samples=(Interval(0.01, 10.0), Interval(0.0, 6.0)),
    tolerance=32,  # as power
    doc="Power in float64 or complex128. Mirrors numpy.float_power.",
)


def _double(a: DType, b: DType) -> DType:
    if a is not b or a not in (types.float64, types.complex128):
        raise DTypeError(f"float_power: operands are {a.name} and {b.name}; needed two float64 or two complex128")
    return a


def _power(a: Any, b: Any) -> Any:
    """numpy.power, but an integer to a negative power is 0 instead of an error: the door checks where NumPy raises."""
    if b.dtype.kind == "i" and np.any(b < 0):
        return np.where(b < 0, np.zeros((), a.dtype), np.power(a, np.maximum(b, 0)))
    return np.power(a, b)


def _integer_power(a: Any, b: Any) -> Any:
    power = scalar.power(a, b)
    return scalar.select(b < 0, 0, power) if b.type in SIGNED else power


negative = elementwise(
    "negative",
    scalar=scalar.negative,
    numpy=np.negative,
    kinds="iufc",
    tf=("negative", "math.negative"),
    doc="The value with the other sign. Mirrors numpy.negative.",
)
positive = elementwise(
    "positive",
    scalar=lambda a: a,
    numpy=np.positive,
    kinds="iufc",
    doc="The value itself. Mirrors numpy.positive.",
)
absolute = elementwise(
    "absolute",
    scalar=scalar.absolute,
    numpy=np.absolute,
    result=to_real,
    tf=("abs", "math.abs"),
    tolerance=2,  # complex: hypot
    doc="Absolute value; of a complex number the modulus. Mirrors numpy.absolute.",
)
fabs = elementwise(
    "fabs", scalar=scalar.fabs, numpy=np.fabs, kinds="f", doc="Absolute value of a float. Mirrors numpy.fabs."
)
sign = elementwise(
    "sign",
    scalar=scalar.sign,
    numpy=np.sign,
    kinds="iufc",
    cost=3,
    tf=("sign", "math.sign"),
    tolerance=4,  # complex: z / |z|
    doc="-1, 0 or 1; nan for nan; of a complex number z / |z|. Mirrors numpy.sign.",
)
square = elementwise(
    "square",
    scalar=lambda a: a * a,
    numpy=np.square,
    kinds="iufc",
    tf=("square", "math.square"),
    tolerance=2,  # complex: as multiply
    doc="The value times itself. Mirrors numpy.square.",
)
reciprocal = elementwise(
    "reciprocal",
    scalar=scalar.reciprocal,
    numpy=np.reciprocal,
    kinds="iufc",
    cost=4,
    samples=(Interval(1.0, 10.0),),
    tf=("math.reciprocal",),
    tolerance=4,  # complex: Smith's division
    doc="1 divided by the value; an integer's is truncated. Mirrors numpy.reciprocal.",
)
sqrt = elementwise(
    "sqrt",
    scalar=scalar.sqrt,
    numpy=np.sqrt,
    kinds="fc",
    cost=6,
    samples=(Interval(0.0, 100.0),),
    tf=("sqrt", "math.sqrt"),
    tolerance=4,  # complex: two roundings more than the C library's csqrt
    doc="Square root; a float's is correctly rounded. Mirrors numpy.sqrt.",
)
cbrt = elementwise(
    "cbrt",
    scalar=scalar.cbrt,
    numpy=np.cbrt,
    kinds="f",
    cost=30,
    tolerance=2,
    doc="Cube root. Mirrors numpy.cbrt.",
)
hypot = elementwise(
    "hypot",
    scalar=scalar.hypot,
    numpy=np.hypot,
    arity=2,
    kinds="f",
    cost=20,
    tolerance=2,
    doc="sqrt(a*a + b*b) without overflow. Mirrors numpy.hypot.",
)
gcd = elementwise(
    "gcd",
    scalar=scalar.gcd,
    numpy=np.gcd,
    arity=2,
    kinds="iu",
    cost=200,
    doc="Greatest common divisor, not negative. Mirrors numpy.gcd.",
)
lcm = elementwise(
    "lcm",
    scalar=scalar.lcm,
    numpy=np.lcm,
    arity=2,
    kinds="iu",
    cost=220,
    doc="Least common multiple, not negative. Mirrors numpy.lcm.",
)
heaviside = elementwise(
    "heaviside",
    scalar=scalar.heaviside,
    numpy=np.heaviside,
    arity=2,
    kinds="f",
    cost=4,
    doc="0 below 0, 1 above, the second operand at 0. Mirrors numpy.heaviside.",
)
conjugate = elementwise(
    "conjugate",
    scalar=scalar.conjugate,
    numpy=np.conjugate,
    kinds="iufc",
    tf=("math.conj",),
    doc="The value with its imaginary part negated. Mirrors numpy.conjugate.",
)


# Extremes -------------------------------------------------------------------------------------------------------------

maximum = elementwise(
    "maximum",
    scalar=scalar.maximum,
    numpy=np.maximum,
    arity=2,
    cost=3,
    tf=("maximum", "math.maximum"),
    doc="The larger operand; nan if either is. Mirrors numpy.maximum.",
)
minimum = elementwise(
    "minimum",
    scalar=scalar.minimum,
    numpy=np.minimum,
    arity=2,
    cost=3,
    tf=("minimum", "math.minimum"),
    doc="The smaller operand; nan if either is. Mirrors numpy.minimum.",
)
fmax = elementwise(
    "fmax",
    scalar=scalar.fmax,
    numpy=np.fmax,
    arity=2,
    cost=3,
    doc="The larger operand, or the one that is not nan. Mirrors numpy.fmax.",
)
fmin = elementwise(
    "fmin",
    scalar=scalar.fmin,
    numpy=np.fmin,
    arity=2,
    cost=3,
    doc="The smaller operand, or the one that is not nan. Mirrors numpy.fmin.",
)
clip = elementwise(
    "clip",
    scalar=lambda x, low, high: scalar.minimum(scalar.maximum(x, low), high),
    numpy=lambda x, low, high: np.minimum(np.maximum(x, low), high),
    ufunc=getattr(getattr(np, "_core", np).umath, "clip", None),
    arity=3,
    cost=6,
    samples=(Interval(-10.0, 10.0), Interval(-5.0, 0.0), Interval(1.0, 5.0)),
    tf=("clip_by_value",),
    doc="The value held between two bounds: minimum(maximum(x, low), high). Mirrors numpy.clip.",
)
