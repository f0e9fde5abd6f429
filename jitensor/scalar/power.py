"""Powers: `power` as C's pow and numpy.power, and the exact small cases square and reciprocal.

Owns the logarithm and exponential in two parts ("double-double": a value and its rounding error) that pow needs. f32 is
computed in f64. Integers are in `integer.py`.
"""

from __future__ import annotations

import math

from .exp_log import _EXP as EXP_COEFFICIENTS
from .exp_log import (
    BITS,
    LN2,
    LOG2_E,
    MANTISSA,
    OFF_CENTRE,
    clamp,
    log_reduction,
    nearest_integer,
    polynomial,
    scales,
)
from .program import ScalarValue, bitcast, convert, equal, fabs, fma, is_nan, not_equal, scalar_function, select, trunc

Pair = tuple[ScalarValue, ScalarValue]

_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LOG_BEYOND_CUBE = (  # (2 atanh(s) - 2 s - 2/3 s^3) / s^5 in z = s^2: relative error 2^-73 of log
    0.39999999999999974, 0.28571428571445334, 0.2222222221748141, 0.18181818877104752, 0.15384556405699693,
    0.13336335382963224, 0.11674452888076013, 0.1199206405033265,
)  # fmt: skip
_LOG_F32 = (0.6666666668266505, 0.3999999373114129, 0.2857228203284264, 0.22169735788590805, 0.19668970836463182)
_EXP_F32 = (
    0.5000000078098893, 0.16666666854193987, 0.04166626962584345, 0.008333265839568227, 0.0013946085154940252,
    0.00019917591886479881,
)  # fmt: skip


def two_product(a: ScalarValue, b: ScalarValue | float) -> Pair:
    """a * b and its rounding error, exactly."""
    product = a * b
    return product, fma(a, b, -product)


def fast_two_sum(a: ScalarValue, b: ScalarValue) -> Pair:
    """a + b and its rounding error, exactly, where |a| >= |b| or a is 0."""
    total = a + b
    return total, (a - total) + b


def log_pair(x: ScalarValue) -> Pair:
    """log(x) for positive finite f64 x, as a sum of two, to a relative 2^-64."""
    k, f = log_reduction(x)
    denominator = f + 2.0
    below = f - (denominator - 2.0)
    inverse = 1.0 / denominator
    s = f * inverse
    s_low = fma(-s, below, fma(-s, denominator, f)) * inverse
    z, z_low = two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    cube, cube_low = two_product(z, s)
    cube_low = cube_low + fma(z_low, s, z * s_low)
    u, u_low = fast_two_sum(f.program.constant(_TWO_THIRDS[0], "f64"), z * polynomial(z, _LOG_BEYOND_CUBE))
    u_low = u_low + _TWO_THIRDS[1]
    term, term_low = two_product(cube, u)
    term_low = term_low + fma(cube, u_low, cube_low * u)
    head, low = fast_two_sum(s + s, term)
    low = low + (term_low + (s_low + s_low))
    high, rest = fast_two_sum(k * LN2["f64"][0], head)
    return high, rest + fma(k, LN2["f64"][1], low)


def exp_pair(high: ScalarValue, low: ScalarValue) -> ScalarValue:
    """e^(high + low) in f64, where low is the rounding error of high; at most 1 ULP."""
    low = select(fabs(high) < 800.0, low, 0.0)
    high = clamp(high, -760.0, 720.0)
    k, bits = nearest_integer(high - OFF_CENTRE, LOG2_E)
    a = fma(-k, LN2["f64"][0], high)
    b = fma(-k, LN2["f64"][1], low)
    r, correction = fast_two_sum(a, b)
    s = fma(r * r, polynomial(r, EXP_COEFFICIENTS["f64"]), fma(correction, r, correction)) + r
    first, second = scales(bits, "f64")
    return fma(s, first, first) * second


@scalar_function
def power(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """x^y with C's special cases. At most 1 ULP (f64: a logarithm in two parts; f32: computed in f64)."""
    if x.type == "f32":
        wide_x, wide_y = convert(x, "f64"), convert(y, "f64")
        return convert(_special_cases(wide_x, wide_y, _magnitude_f32(fabs(wide_x), wide_y)), "f32")
    log_high, log_low = log_pair(fabs(x))
    high, error = two_product(log_high, y)
    return _special_cases(x, y, exp_pair(high, fma(log_low, y, error)))


@scalar_function
def float_power(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """`power` in f64, whatever the operands' float type."""
    return power(convert(x, "f64"), convert(y, "f64"))


def _magnitude_f32(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """x^y in f64 to the 35 bits that an f32 result needs; x is no negative number."""
    bits = bitcast(x, "u64")
    offset = 0x3FF0000000000000 - 0x3FE6A09E667F3BCD
    moved = bits + offset
    k = bitcast((moved >> 52) | 0x4330000000000000, "f64") - (2.0**52 + 1023.0)
    f = bitcast((moved & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD, "f64") - 1.0
    s = f / (f + 2.0)
    z = s * s
    log_x = fma(k, math.log(2.0), fma(s * z, polynomial(z, _LOG_F32), s + s))
    target = clamp(log_x * y, -200.0, 200.0)
    exponent, shifted = nearest_integer(target, LOG2_E)
    r = fma(-exponent, math.log(2.0), target)
    s = fma(r * r, polynomial(r, _EXP_F32), r)
    scale = bitcast((shifted - 1023) << 52, "f64")
    return fma(s, scale, scale)


def _special_cases(x: ScalarValue, y: ScalarValue, magnitude: ScalarValue) -> ScalarValue:
    """pow's result from |x|^y as computed for ordinary operands: C11 F.10.4.4."""
    t = x.type
    size = fabs(x)
    infinite = x.program.constant(math.inf, t)
    at_edge = equal(size, 0.0) | equal(size, math.inf)
    inverse = select(equal(size, 0.0), infinite, 0.0)
    magnitude = select(at_edge, select(y > 0.0, size, inverse), magnitude)
    magnitude = select(equal(size, 1.0), 1.0, magnitude)
    half = y * 0.5
    whole = equal(trunc(y), y)
    odd = whole & not_equal(trunc(half), half)
    sign = bitcast(x, BITS[t]) & (1 << (MANTISSA[t] + (8 if t == "f32" else 11)))
    signed = bitcast(bitcast(magnitude, BITS[t]) | select(odd, sign, 0), t)
    result = select((x < 0.0) & ~whole & (size < math.inf), math.nan, signed)
    result = select(is_nan(x) | is_nan(y), math.nan, result)
    return select(equal(y, 0.0) | equal(x, 1.0), 1.0, result)


@scalar_function
def square(x: ScalarValue) -> ScalarValue:
    """x * x; integers wrap."""
    return x * x


@scalar_function
def reciprocal(x: ScalarValue) -> ScalarValue:
    """1 / x, correctly rounded. For integers see `integer.reciprocal`."""
    return 1.0 / x
