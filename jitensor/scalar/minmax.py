"""Choosing, classifying and taking apart numbers: maximum ... clip, truth, sign and its friends, a float's fields.

Owns what works on comparisons and bit fields, for every type where NumPy has it. Division with a remainder is in
`rounding.py` (floats) and `integer.py`.
"""

from __future__ import annotations

import math

from .exp_log import BIAS, BITS, MANTISSA, SMALLEST_NORMAL
from .program import (
    FLOATS,
    UNSIGNED,
    WIDTH,
    ScalarValue,
    bitcast,
    convert,
    equal,
    fabs,
    is_nan,
    not_equal,
    scalar_function,
    select,
    trunc,
)

SIGNED_BITS = {"f32": "i32", "f64": "i64"}


@scalar_function
def maximum(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """The larger; nan if either is nan. Of 0.0 and -0.0 the second, as numpy.maximum gives on x86."""
    if a.type == "i1":
        return a | b
    larger = select(a > b, a, b)
    return select(is_nan(a), a, larger) if a.type in FLOATS else larger


@scalar_function
def minimum(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """The smaller; nan if either is nan. Of 0.0 and -0.0 the second, as numpy.minimum gives on x86."""
    if a.type == "i1":
        return a & b
    smaller = select(a < b, a, b)
    return select(is_nan(a), a, smaller) if a.type in FLOATS else smaller


@scalar_function
def fmax(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """The larger; a nan gives way to a number."""
    if a.type not in FLOATS:
        return maximum(a, b)
    return select(is_nan(b), a, select(a > b, a, b))


@scalar_function
def fmin(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """The smaller; a nan gives way to a number."""
    if a.type not in FLOATS:
        return minimum(a, b)
    return select(is_nan(b), a, select(a < b, a, b))


@scalar_function
def clip(x: ScalarValue, low: ScalarValue, high: ScalarValue) -> ScalarValue:
    """minimum(maximum(x, low), high): nan in any place gives nan, and `high` wins where the bounds cross."""
    return minimum(maximum(x, low), high)


# Truth ----------------------------------------------------------------------------------------------------------------


def truth(x: ScalarValue) -> ScalarValue:
    """Whether x is not zero; nan is true."""
    return x if x.type == "i1" else not_equal(x, 0)


@scalar_function
def logical_and(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """Both are true."""
    return truth(a) & truth(b)


@scalar_function
def logical_or(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """At least one is true."""
    return truth(a) | truth(b)


@scalar_function
def logical_xor(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """Just one is true."""
    return truth(a) ^ truth(b)


@scalar_function
def logical_not(a: ScalarValue) -> ScalarValue:
    """The value is zero."""
    return ~truth(a)


@scalar_function
def isnan(x: ScalarValue) -> ScalarValue:
    """Whether x is nan; false for integers."""
    return is_nan(x) if x.type in FLOATS else x.program.constant(False, "i1")


@scalar_function
def isinf(x: ScalarValue) -> ScalarValue:
    """Whether x is an infinity; false for integers."""
    return equal(fabs(x), math.inf) if x.type in FLOATS else x.program.constant(False, "i1")


@scalar_function
def isfinite(x: ScalarValue) -> ScalarValue:
    """Whether x is neither nan nor an infinity; true for integers."""
    return fabs(x) < math.inf if x.type in FLOATS else x.program.constant(True, "i1")


def less(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a < b; false for nan."""
    return a < b


def less_equal(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a <= b; false for nan."""
    return a <= b


def greater(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a > b; false for nan."""
    return a > b


def greater_equal(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a >= b; false for nan."""
    return a >= b


# Sign -----------------------------------------------------------------------------------------------------------------


@scalar_function
def signbit(x: ScalarValue) -> ScalarValue:
    """Whether the sign bit is set: true for -0.0 and for a nan with it."""
    if x.type in FLOATS:
        return bitcast(x, SIGNED_BITS[x.type]) < 0
    return x.program.constant(False, "i1") if x.type in UNSIGNED or x.type == "i1" else x < 0


@scalar_function
def copysign(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """|x| with the sign bit of y."""
    sign = 1 << (WIDTH[x.type] - 1)
    bits = BITS[x.type]
    return bitcast((bitcast(x, bits) & (sign - 1)) | (bitcast(y, bits) & sign), x.type)


@scalar_function
def sign(x: ScalarValue) -> ScalarValue:
    """-1, 0 or 1; nan stays nan and -0.0 gives 0.0. An unsigned integer gives 0 or 1."""
    t = x.type
    if t in UNSIGNED:
        return convert(not_equal(x, 0), t)
    result = select(x > 0, 1, select(x < 0, -1, x.program.constant(0, t)))
    return select(is_nan(x), x, result) if t in FLOATS else result


def positive(x: ScalarValue) -> ScalarValue:
    """x itself."""
    return x


def negative(x: ScalarValue) -> ScalarValue:
    """-x; integers wrap."""
    return -x


@scalar_function
def angle(x: ScalarValue) -> ScalarValue:
    """The argument of a real number: 0, or pi where the sign bit is set; nan for nan."""
    return select(is_nan(x), x, select(signbit(x), math.pi, x.program.constant(0.0, x.type)))


@scalar_function
def absolute(x: ScalarValue) -> ScalarValue:
    """The absolute value; the least signed integer stays itself."""
    if x.type in FLOATS:
        return fabs(x)
    return x if x.type in UNSIGNED or x.type == "i1" else select(x < 0, -x, x)


@scalar_function
def heaviside(x: ScalarValue, at_zero: ScalarValue) -> ScalarValue:
    """0 below zero, 1 above, `at_zero` at zero, nan for nan."""
    result = select(x > 0.0, 1.0, select(equal(x, 0.0), at_zero, 0.0))
    return select(is_nan(x), x, result)


# The fields of a float ------------------------------------------------------------------------------------------------


@scalar_function
def nextafter(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """The next float from x toward y; y where they are equal."""
    t = x.type
    bits = bitcast(x, BITS[t])
    stepped = bitcast(select((x < y) ^ (x < 0.0), bits + 1, bits - 1), t)
    least = copysign(x.program.constant(_least(t), t), y)
    moved = select(equal(x, 0.0), least, stepped)
    return select(equal(x, y), y, select(is_nan(x) | is_nan(y), math.nan, moved))


@scalar_function
def spacing(x: ScalarValue) -> ScalarValue:
    """The distance to the next float away from zero, with x's sign; infinite for the largest, nan for infinities."""
    size = fabs(x)
    magnitude = bitcast(bitcast(size, BITS[x.type]) + 1, x.type) - size
    return select(x < 0.0, -magnitude, magnitude)


def _least(t: str) -> float:
    return SMALLEST_NORMAL[t] * 2.0 ** -MANTISSA[t]


def frexp(x: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(m, e): x = m * 2^e with 1/2 <= |m| < 1 and e an i32; zero, infinities and nan give (x, 0)."""
    t = x.type
    before, x.program.contract = x.program.contract, False
    subnormal = fabs(x) < SMALLEST_NORMAL[t]
    lift = MANTISSA[t] + 1
    bits = bitcast(select(subnormal, x * 2.0**lift, x), BITS[t])
    field = (1 << (WIDTH[t] - 1 - MANTISSA[t])) - 1
    exponent = (bits >> MANTISSA[t]) & field
    plain = (fabs(x) < math.inf) & not_equal(x, 0.0)
    mantissa = bitcast((bits & ~(field << MANTISSA[t])) | ((BIAS[t] - 1) << MANTISSA[t]), t)
    shift = select(subnormal, x.program.constant(BIAS[t] - 1 + lift, "i32"), BIAS[t] - 1)
    e = select(plain, convert(exponent, "i32") - shift, 0)
    x.program.contract = before
    return select(plain, mantissa, x), e


@scalar_function
def ldexp(x: ScalarValue, e: ScalarValue) -> ScalarValue:
    """x * 2^e, rounded once; e is any integer type. As musl's scalbn.c: no step but the last can round."""
    t = x.type
    bias, width = BIAS[t], MANTISSA[t]
    e = convert(e, "i64")
    limit = 2 * (bias + width) + 200
    e = select(e > limit, limit, select(e < -limit, -limit, e))
    down = -(bias - 1) + width + 1
    for _ in range(2):
        step = select(e > bias, bias, select(e < 1 - bias, e.program.constant(down, "i64"), 0))
        x = x * _power_of_two(step, t)
        e = e - step
    e = select(e > bias, bias, select(e < 1 - bias, 1 - bias, e))
    return x * _power_of_two(e, t)


def _power_of_two(e: ScalarValue, t: str) -> ScalarValue:
    return bitcast(convert(e + BIAS[t], BITS[t]) << MANTISSA[t], t)


def modf(x: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(fraction, whole), each with x's sign; an infinity gives (0, itself)."""
    return modf_fraction(x), trunc(x)


@scalar_function
def modf_fraction(x: ScalarValue) -> ScalarValue:
    """x - trunc(x) with x's sign; 0 for an infinity."""
    whole = trunc(x)
    return copysign(select(equal(fabs(x), math.inf), 0.0, x - whole), x)
