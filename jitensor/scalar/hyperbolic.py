"""Hyperbolic functions and their inverses as scalar programs, for f32 and f64.

Owns sinh, cosh, tanh, asinh, acosh, atanh. It must not know arrays or loops. Branch-free, with nan, infinities, -0.0,
subnormals and the overflow threshold right. The reductions are exp's and log's; the arrangements below are chosen for
one division at most, and none in sinh and cosh. Coefficients are minimax fits (Remez) made for this file.
"""

from __future__ import annotations

import math

from .exp_log import LARGEST, LN2, LOG2_E, MANTISSA, log_of_sum, polynomial
from .program import ScalarValue, bitcast, equal, fabs, fma, scalar_function, select, sqrt
from .trig import ROUNDER, flip_sign, sign_bits

UNSIGNED = {"f32": "u32", "f64": "u64"}
ONE_BITS = {"f32": 0x3F80_0000, "f64": 0x3FF0_0000_0000_0000}

# sinh, cosh, tanh -----------------------------------------------------------------------------------------------------

# sinh and cosh reach infinity below this.
_OVERFLOW = {"f32": 89.5, "f64": 710.5}
# (sinh r - r)/r^3 and (cosh r - 1)/r^2 in r^2, |r| <= ln(2)/2; errors 2^-61.7 and 2^-58 (f64), 2^-37 and 2^-34 (f32).
_SINH = {
    "f64": (
        0.16666666666666677, 0.008333333333321617, 0.00019841269886155752, 2.755724418445464e-06,
        2.510904409033412e-08,
    ),
    "f32": (0.1666666716337204, 0.008333289064466953, 0.0001990496093640104),
}  # fmt: skip
_COSH = {
    "f64": (
        0.5, 0.04166666666666671, 0.0013888888888863944, 2.480158736338629e-05, 2.755724182887429e-07,
        2.0924425137484344e-09,
    ),
    "f32": (0.5, 0.041666265577077866, 0.0013946230756118894),
}  # fmt: skip


def _halves(x: ScalarValue) -> tuple[ScalarValue, ScalarValue, ScalarValue, ScalarValue]:
    """For x >= 0: up + down, up - down, sinh r and cosh r - 1, where e^(+-x)/4 = (up or down) e^(+-r).

    Quarters, so that the largest power of two is a normal number; `down` is dropped where it no longer counts.
    """
    t = x.type
    x = select(x > _OVERFLOW[t], _OVERFLOW[t], x)
    shifted = fma(x, LOG2_E, ROUNDER[t])
    k = shifted - ROUNDER[t]
    r = fma(-k, LN2[t][0], x)
    r = fma(-k, LN2[t][1], r)
    bits, quarter = bitcast(shifted, UNSIGNED[t]), ONE_BITS[t] - (2 << MANTISSA[t])
    up = bitcast((bits << MANTISSA[t]) + quarter, t)
    down = select(k < 40.0, bitcast(quarter - (bits << MANTISSA[t]), t), 0.0)
    z = r * r
    sinh_r = fma(z * r, polynomial(z, _SINH[t]), r)
    return up + down, up - down, sinh_r, z * polynomial(z, _COSH[t])


@scalar_function
def sinh(x: ScalarValue) -> ScalarValue:
    """sinh(x); 2 ULP; addition theorem on x = k ln 2 + r, no division."""
    a = fabs(x)
    total, difference, sinh_r, cosh_r = _halves(a)
    half = difference + fma(difference, cosh_r, total * sinh_r)
    return flip_sign(select(a < 2.0**-28, a, half + half), sign_bits(x))


@scalar_function
def cosh(x: ScalarValue) -> ScalarValue:
    """cosh(x); 2 ULP; addition theorem on x = k ln 2 + r, no division."""
    total, difference, sinh_r, cosh_r = _halves(fabs(x))
    half = total + fma(total, cosh_r, difference * sinh_r)
    return half + half


# tanh rounds to 1 from here.
_TANH_LIMIT = {"f32": 10.0, "f64": 20.0}
# (e^r - 1 - r)/r^2 on |r| <= ln(2)/2; errors relative to r 2^-55.6 (f64), 2^-26 (f32).
EXPM1 = {
    "f64": (
        0.5000000000000006, 0.1666666666666669, 0.041666666666573864, 0.008333333333311039, 0.0013888888932364009,
        0.00019841269912702287, 2.480150441854618e-05, 2.75572174683303e-06, 2.7626349686322376e-07,
        2.5118385993802317e-08,
    ),
    "f32": (0.5, 0.1666654348373413, 0.04166626185178757, 0.008366605266928673, 0.001394810969941318),
}  # fmt: skip


@scalar_function
def tanh(x: ScalarValue) -> ScalarValue:
    """tanh(x); 2 ULP; e/(e + 2) with e = expm1(2 |x|), as fdlibm, and the quotient corrected by its remainder."""
    t = x.type
    a = fabs(x)
    y = select(a > _TANH_LIMIT[t], _TANH_LIMIT[t], a)
    y = y + y
    shifted = fma(y, LOG2_E, ROUNDER[t])
    k = shifted - ROUNDER[t]
    r = fma(k, -math.log(2.0), y)  # what ln 2 lacks is 2^-55 k (f32: 2^-29 k), which counts little beside e + 2
    scale = bitcast((bitcast(shifted, UNSIGNED[t]) << MANTISSA[t]) + ONE_BITS[t], t)
    e = fma(scale, fma(r * r, polynomial(r, EXPM1[t]), r), scale - 1.0)
    denominator = e + 2.0
    lost = e - (denominator - 2.0)
    inverse = 1.0 / denominator
    quotient = e * inverse
    rest = fma(-quotient, lost, fma(-quotient, denominator, e))
    return flip_sign(fma(rest, inverse, quotient), sign_bits(x))


# asinh, acosh, atanh --------------------------------------------------------------------------------------------------

_INTEGER_BITS = {"f32": 0x4B00_0000, "f64": 0x4330_0000_0000_0000}  # 2^23, 2^52: or-ing an integer in adds it
_LARGE = {"f32": 2.0**12, "f64": 2.0**28}  # x^2 + 1 rounds to x^2 from here


def _log1p_or_log_of_double(u: ScalarValue, u_low: ScalarValue, large: ScalarValue, x: ScalarValue) -> ScalarValue:
    """log(1 + u + u_low) for u >= 0, or log(2 x) where `large`."""
    total = 1.0 + u
    lost = select(large, 0.0, (u - (total - 1.0)) + u_low)
    total = select(large, x, total)
    result = log_of_sum(total, lost, select(large, x._pair(1.0), 0.0))
    beyond = total - LARGEST[x.type]  # above any logarithm for inf and nan only
    return select(result > beyond, result, beyond)


@scalar_function
def asinh(x: ScalarValue) -> ScalarValue:
    """asinh(x); 2 ULP; log1p(|x| + x^2/(1 + sqrt(1 + x^2))), as fdlibm."""
    a = fabs(x)
    z = a * a
    step = z / (1.0 + sqrt(1.0 + z))
    u = a + step
    return flip_sign(_log1p_or_log_of_double(u, step - (u - a), a > _LARGE[x.type], a), sign_bits(x))


@scalar_function
def acosh(x: ScalarValue) -> ScalarValue:
    """acosh(x); 2 ULP, nan below 1; log1p((x - 1) + sqrt((x - 1)(x + 1)))."""
    above = x - 1.0
    root = sqrt(fma(above, above, above + above))
    u = above + root
    return select(x < 1.0, math.nan, _log1p_or_log_of_double(u, above - (u - root), x > _LARGE[x.type], x))


# (atanh s - s)/s^3 in s^2, |s| <= 0.202; errors relative to s 2^-55.6 (f64), 2^-28 (f32).
_ATANH = {
    "f64": (
        0.3333333333333666, 0.19999999997890922, 0.14285714733854887, 0.11111066194265548, 0.09093305629847218,
        0.07622512581286581, 0.07704300840090099,
    ),
    "f32": (0.3333348035812378, 0.19978106021881104, 0.15197885036468506),
}  # fmt: skip


@scalar_function
def atanh(x: ScalarValue) -> ScalarValue:
    """atanh(x); 2 ULP, inf at 1, nan beyond; k ln(2)/2 + atanh(s) with (1 + x)/(1 - x) = 2^k (1 + s)/(1 - s).

    s = (x (1 + 2^k) + 1 - 2^k)/(x (1 - 2^k) + 1 + 2^k), k from the difference of the bit patterns of 1 + x and 1 - x.
    """
    t = x.type
    a = fabs(x)
    bits = UNSIGNED[t]
    moved = bitcast(1.0 + a, bits) - bitcast(1.0 - a, bits) + (1 << (MANTISSA[t] - 1))
    exponent = moved >> MANTISSA[t]
    k = bitcast(exponent | _INTEGER_BITS[t], t) - 2.0 ** MANTISSA[t]
    power = bitcast((exponent << MANTISSA[t]) + ONE_BITS[t], t)
    more, less = power + 1.0, 1.0 - power
    far = a > 0.9  # there 1 - a is exact, and 1 + 2^k may not be
    numerator = select(far, fma(power, a - 1.0, 1.0 + a), fma(a, more, less))
    s = numerator / select(far, fma(power, 1.0 - a, 1.0 + a), fma(a, less, more))
    z = s * s
    high = k * (0.5 * LN2[t][0])
    head = high + s
    tail = fma(s * z, polynomial(z, _ATANH[t]), k * (0.5 * LN2[t][1]))
    inside = head + (tail + (s - (head - high)))
    edge = select(equal(a, 1.0), a._pair(math.inf), math.nan)
    return flip_sign(select(a < 1.0, inside, edge), sign_bits(x))
