"""Exponentials and logarithms, branch-free, for f32 and f64.

Owns exp, exp2, expm1, log, log2, log10, log1p and what is made of them directly (sigmoid, logaddexp). All take nan,
infinities, zeros and subnormals, and round subnormal results once. Polynomials are minimax fits of our own
(benchmarks/fit_coefficients.py); the reductions are the classic ones of Cody and Waite, and of FDLIBM's e_log.c.

    exp(%0 : f64)  ->  max, min, fma, sub, fma, fma, 9 fma ..., fma, mul : f64
"""

from __future__ import annotations

import functools
import math
import struct
from fractions import Fraction

from .program import ScalarValue, bitcast, equal, fabs, fma, is_nan, scalar_function, select

BITS = {"f32": "u32", "f64": "u64"}
MANTISSA = {"f32": 23, "f64": 52}
SIZE = {"f32": 4, "f64": 8}
BIAS = {"f32": 127, "f64": 1023}
EPSILON = {"f32": 2.0**-23, "f64": 2.0**-52}
SMALLEST_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}
LARGEST = {"f32": (2.0 - 2.0**-23) * 2.0**127, "f64": (2.0 - 2.0**-52) * 2.0**1023}

LOG2_E = 1.4426950408889634074
# ln 2 in two parts, the first with so few bits that k * first is exact for every exponent k.
LN2 = {
    "f32": (0.693145751953125, 1.428606765330187045e-06),
    "f64": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
# exp reduces to r within ln(2) * (-1/2, 1/2) + OFF_CENTRE: with r off centre, the roundings of r and of e^r - 1 weigh
# less on results just below a power of two, and the worst error falls from 1.03 to 0.9 ULP.
OFF_CENTRE = 0.0624
_EXP = {  # (exp(r) - 1 - r) / r^2 there: relative error 2^-57.8 of exp (f64), 2^-34 (f32)
    "f64": (
        0.4999999999999998, 0.16666666666667715, 0.04166666666670342, 0.008333333332430162, 0.0013888888877991302,
        0.00019841272510885173, 2.4801587618266724e-05, 2.7553990462719895e-06, 2.7584127642459807e-07,
        2.6565672980663137e-08,
    ),
    "f32": (
        0.5000000028292619, 0.16666671095781146, 0.04166649563029317, 0.008331896714112106, 0.001392458356219035,
        0.00020951947126417346,
    ),
}  # fmt: skip
_EXPM1 = {  # the same with one degree more: relative error 2^-61 of r (f64), 2^-32 (f32)
    "f64": (
        0.5, 0.16666666666666677, 0.0416666666666667, 0.00833333333332162, 0.0013888888888866915,
        0.00019841269886143508, 2.4801587360367373e-05, 2.7557244198236734e-06, 2.7557242937341473e-07,
        2.510903895540209e-08, 2.0924386056837592e-09,
    ),
    "f32": (
        0.5000000046530382, 0.16666666812739164, 0.04166635444015197, 0.008333274218510461, 0.001394101765134138,
        0.00019913483366509633,
    ),
}  # fmt: skip
_EXP2 = {  # (2^r - 1 - r ln 2) / r^2 on |r| <= 1/2
    "f64": (
        0.24022650695910133, 0.05550410866482168, 0.009618129107593548, 0.001333355814638937, 0.00015403530457842898,
        1.5252733859856214e-05, 1.32154349227723e-06, 1.0178049114313271e-07, 7.073843556027879e-09,
        4.4570419838571393e-10,
    ),
    "f32": (
        0.24022651134917272, 0.055503616667271986, 0.009618024955652522, 0.001339042793463252, 0.00015471249591773902,
    ),
}  # fmt: skip
_EXP_RANGE = {"f32": (-104.5, 89.5), "f64": (-746.0, 710.0)}  # beyond it the result is 0 or inf
_EXP2_RANGE = {"f32": (-151.0, 129.0), "f64": (-1076.0, 1025.0)}


def polynomial(x: ScalarValue, coefficients: tuple[float, ...]) -> ScalarValue:
    """sum of coefficients[i] * x^i by Horner with fma: the fewest operations, since throughput decides, not latency."""
    total: ScalarValue | float = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = fma(x, total, c)
    assert isinstance(total, ScalarValue)
    return total


def clamp(x: ScalarValue, low: float, high: float) -> ScalarValue:
    """x within [low, high]; nan stays nan."""
    x = select(x < low, low, x)
    return select(x > high, high, x)


def nearest_integer(x: ScalarValue, factor: float) -> tuple[ScalarValue, ScalarValue]:
    """k = x * factor rounded to an integer, as a float, and an integer whose low bits are k + 2 * bias.

    Adding 1.5 * 2^mantissa rounds on every instruction set and leaves the integer in the low bits of the sum.
    """
    t = x.type
    shift = 1.5 * 2.0 ** MANTISSA[t] + 2 * BIAS[t]
    shifted = fma(x, factor, shift) if factor != 1.0 else x + shift
    return shifted - shift, bitcast(shifted, BITS[t])


def scales(bits: ScalarValue, t: str) -> tuple[ScalarValue, ScalarValue]:
    """Two normal powers of two whose product is 2^k: scaling by both rounds once, even where 2^k is not normal."""
    half = bits >> 1
    return bitcast(half << MANTISSA[t], t), bitcast((bits - half) << MANTISSA[t], t)


@scalar_function
def exp(x: ScalarValue) -> ScalarValue:
    """e^x. At most 1 ULP, subnormal results included. Cody and Waite's reduction, minimax polynomial."""
    t = x.type
    x = clamp(x, *_EXP_RANGE[t])
    k, bits = nearest_integer(x - OFF_CENTRE, LOG2_E)
    r = fma(-k, LN2[t][0], x)
    r = fma(-k, LN2[t][1], r)
    square = r * r
    s = fma(square, polynomial(r, _EXP[t]), r)
    first, second = scales(bits, t)
    return fma(s, first, first) * second


@scalar_function
def exp2(x: ScalarValue) -> ScalarValue:
    """2^x. At most 1 ULP, subnormal results included; exact for integers."""
    t = x.type
    x = clamp(x, *_EXP2_RANGE[t])
    k, bits = nearest_integer(x, 1.0)
    r = x - k
    high, low = split_constant(t, "0.693147180559945309417232121458176568")
    s = fma(r, high, r * fma(r, polynomial(r, _EXP2[t]), low))
    first, second = scales(bits, t)
    return fma(s, first, first) * second


@scalar_function
def expm1(x: ScalarValue) -> ScalarValue:
    """e^x - 1 without cancellation near 0. At most 1 ULP."""
    t = x.type
    clamped = clamp(x, -40.0, {"f32": 89.0, "f64": 710.0}[t])  # not so high that 2^(k-1) overflows
    k, bits = nearest_integer(clamped, LOG2_E)
    a = fma(-k, LN2[t][0], clamped)
    b = k * LN2[t][1]
    r = a - b
    correction = (a - r) - b
    square = r * r
    tail = fma(square, polynomial(r, _EXPM1[t]), fma(correction, r, correction))
    # half = 2^(k-1) is a normal number for every k that occurs; (half - 1/2) + half*r as an exact sum head + error.
    half = bitcast((bits - (BIAS[t] + 1)) << MANTISSA[t], t)
    base, step = half - 0.5, half * r
    head = base + step
    error = (step - (head - base)) + ((half - base) - 0.5)
    result = fma(half, tail, error) + head
    return select(fabs(x) < EPSILON[t] / 4, x, result + result)


@scalar_function
def sigmoid(x: ScalarValue) -> ScalarValue:
    """1 / (1 + e^-x). At most 2 ULP (1.5 measured), subnormal results included."""
    e = exp(-fabs(x))
    top, bottom = select(x < 0.0, e, 1.0), e + 1.0
    lost = e - (bottom - 1.0)
    inverse = 1.0 / bottom
    quotient = top * inverse
    rest = fma(-quotient, lost, fma(-quotient, bottom, top))
    return fma(rest, inverse, quotient)


# Logarithms -----------------------------------------------------------------------------------------------------------

_LOG = (  # (2 atanh(s) - 2 s) / s^3 in z = s^2, |s| <= 0.1716: error 2^-62 of log(1+f), f = 2s/(1-s); for f64
    0.6666666666666812, 0.39999999999003805, 0.2857142882069416, 0.22222191425478963, 0.18183902645371045,
    0.15306038668628627, 0.1487102718151042,
)  # fmt: skip
_LOG_F32 = {  # (log(1+f) - f) / f^2 on f in [sqrt(1/2)-1, sqrt(2)-1], to three bases: error 2^-27.6 of log(1+f)
    "e": (
        -0.49999988079071045, 0.33333322405815125, -0.2500159740447998, 0.20002149045467377, -0.1660897582769394,
        0.14178907871246338, -0.13240846991539001, 0.12919923663139343, -0.07644623517990112,
    ),
    "2": (
        -0.7213473320007324, 0.4808981716632843, -0.3606986403465271, 0.2885735034942627, -0.23957064747810364,
        0.20444443821907043, -0.19131478667259216, 0.18734802305698395, -0.11078985780477524,
    ),
    "10": (
        -0.21714718639850616, 0.14476478099822998, -0.10858083516359329, 0.08686873316764832, -0.072125643491745,
        0.061560217291116714, -0.05753357708454132, 0.05625374987721443, -0.03332307189702988,
    ),
}  # fmt: skip
_LN2_F32 = math.log(2.0)  # as f32 it errs by 2^-29, which no result notices
_SQRT_HALF = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}
_MANTISSA_MASK = {"f32": 0x007FFFFF, "f64": 0x000FFFFFFFFFFFFF}
_TWO_TO_MANTISSA = {"f32": 0x4B000000, "f64": 0x4330000000000000}
_SIGNED = {"f32": "i32", "f64": "i64"}
_MINUS_INFINITY = {"f32": 0xFF80_0000, "f64": 0xFFF0_0000_0000_0000}


@functools.cache
def split_constant(t: str, digits: str) -> tuple[float, float]:
    """A constant with more digits than t holds, as the nearest number and the rest."""
    value = Fraction(digits)
    high = float(value)
    if t == "f32":
        high = struct.unpack("<f", struct.pack("<f", high))[0]
    return high, float(value - Fraction(high))


def log_reduction(x: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(k, f): x = 2^k * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), k a float, f exact; x positive and finite."""
    t = x.type
    subnormal = x < SMALLEST_NORMAL[t]
    lift = MANTISSA[t] + 1
    exponent, mantissa = _split_exponent(select(subnormal, x * 2.0**lift, x))
    base = 2.0 ** MANTISSA[t] + BIAS[t]
    k = bitcast(exponent | _TWO_TO_MANTISSA[t], t) - select(subnormal, x.program.constant(base + lift, t), base)
    return k, mantissa - 1.0


def _split_exponent(x: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(e, m): x = 2^(e - bias) * m with sqrt(1/2) <= m < sqrt(2); x positive and normal."""
    t = x.type
    split = _SQRT_HALF[t]
    moved = bitcast(x, BITS[t]) + ((BIAS[t] << MANTISSA[t]) - split)
    return moved >> MANTISSA[t], bitcast((moved & _MANTISSA_MASK[t]) + split, t)


def _log_tail(f: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(h, tail): log(1 + f) = f - h + tail in f64, with h = f^2/2 rounded, and |tail| small."""
    s = f / (f + 2.0)
    z = s * s
    h = f * f * 0.5
    return h, s * fma(z, polynomial(z, _LOG), h)


def log_edges(x: ScalarValue, result: ScalarValue) -> ScalarValue:
    """`result` for positive finite x, else -inf at 0, nan below, and inf or nan as they are.

    x less the largest number is below any logarithm, unless x is inf or nan. The sign of x + 0 (no -0) smeared over
    all bits turns -inf into nan. Both are cheaper than a comparison.
    """
    beyond = x - LARGEST[x.type]
    pattern = bitcast(x + 0.0, _SIGNED[x.type])
    outside = pattern | (pattern >> (8 * SIZE[x.type] - 1)) | _MINUS_INFINITY[x.type]
    return select(x > 0.0, select(result > beyond, result, beyond), bitcast(outside, x.type))


@scalar_function
def log(x: ScalarValue) -> ScalarValue:
    """Natural logarithm. At most 1 ULP. FDLIBM's e_log.c with an own minimax polynomial; f32 without a division."""
    t = x.type
    k, f = log_reduction(x)
    if t == "f32":
        return log_edges(x, fma(k, _LN2_F32, fma(f * f, polynomial(f, _LOG_F32["e"]), f)))
    h, tail = _log_tail(f)
    low = fma(k, LN2[t][1], tail)
    return log_edges(x, fma(k, LN2[t][0], f - (h - low)))


def _log_scaled(x: ScalarValue, base: str, inverse: str, unit: tuple[float, float]) -> ScalarValue:
    """k * unit + log(1 + f) * inverse, its larger terms f * inverse and k * unit[0] carried without an error."""
    t = x.type
    k, f = log_reduction(x)
    high, low = split_constant(t, inverse)
    product = f * high
    rest = fma(f, low, fma(f, high, -product))
    if unit[1]:
        rest = fma(k, unit[1], rest)
    if t == "f32":
        rest = fma(f * f, polynomial(f, _LOG_F32[base]), rest)
    else:
        h, tail = _log_tail(f)
        rest = fma(tail - h, high, rest)
    whole = k * unit[0]
    total = whole + product
    return log_edges(x, total + (rest + ((whole - total) + product)))


@scalar_function
def log2(x: ScalarValue) -> ScalarValue:
    """Logarithm to base 2. At most 1 ULP; exact for powers of two."""
    return _log_scaled(x, "2", "1.44269504088896340735992468100189214", (1.0, 0.0))


@scalar_function
def log10(x: ScalarValue) -> ScalarValue:
    """Logarithm to base 10. At most 1 ULP."""
    unit = {
        "f32": (0.30102920532226562, 7.9034151667656262e-07),
        "f64": (3.01029995663611771306e-01, 3.69423907715893078616e-13),
    }[x.type]
    return _log_scaled(x, "10", "0.434294481903251827651128918916605082", unit)


def log_of_sum(x: ScalarValue, lost: ScalarValue, more: ScalarValue | None = None) -> ScalarValue:
    """log(x + lost) + more * ln 2 for positive, finite, normal x, where lost is at most a rounding error of x, or 1.

    `lost` is scaled and added to f; what that sum loses in turn, times 1/(1 + f) or about 1 - f, joins the result.
    """
    t = x.type
    exponent, mantissa = _split_exponent(x)
    k = bitcast(exponent | _TWO_TO_MANTISSA[t], t) - (2.0 ** MANTISSA[t] + BIAS[t])
    k = k if more is None else k + more
    # 2^-k as a normal number or 0, which is as good where k is large
    scale = bitcast((2 * BIAS[t] - select(exponent > 2 * BIAS[t], 2 * BIAS[t], exponent)) << MANTISSA[t], t)
    top, lost = mantissa - 1.0, lost * scale
    f = top + lost
    lost = (top - f) + lost
    lost = fma(-f, lost, lost)
    if t == "f32":
        return fma(k, _LN2_F32, f + fma(f * f, polynomial(f, _LOG_F32["e"]), lost))
    h, tail = _log_tail(f)
    return fma(k, LN2[t][0], f - (h - fma(k, LN2[t][1], tail + lost)))


@scalar_function
def log1p(x: ScalarValue) -> ScalarValue:
    """log(1 + x) without cancellation near 0. At most 1 ULP; log of 1 + x and what that sum loses."""
    t = x.type
    u = x + 1.0
    step = u - 1.0
    result = log_edges(u, log_of_sum(u, (1.0 - (u - step)) + (x - step)))
    signed = bitcast(result, BITS[t]) | (bitcast(x, BITS[t]) & (1 << (8 * SIZE[t] - 1)))  # -0.0 stays
    return bitcast(signed, t)


@scalar_function
def logaddexp(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """log(e^a + e^b) without overflow. As numpy.logaddexp, equal infinities included."""
    return _logaddexp(a, b, exp, log1p, math.log(2.0))


@scalar_function
def logaddexp2(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """log2(2^a + 2^b) without overflow. As numpy.logaddexp2."""
    return _logaddexp(a, b, exp2, lambda x: log1p(x) * LOG2_E, 1.0)


def _logaddexp(a, b, power, log_of_one_plus, log_of_two):  # type: ignore[no-untyped-def]
    difference = a - b
    larger = select(difference > 0.0, a, b)
    result = larger + log_of_one_plus(power(-fabs(difference)))
    return select(equal(a, b), a + log_of_two, select(is_nan(difference), difference, result))
