"""Powers: `power` as C's pow and numpy.power, and the exact small cases square and reciprocal.

Owns the logarithm and exponential to base 2 in two parts ("double-double": a value and its rounding error) that pow
needs. Integers are in `integer.py`.
"""

from __future__ import annotations

import math

from .exp_log import BITS, LARGEST, clamp, log_reduction, nearest_integer, polynomial, scales, split_constant
from .program import ScalarValue, bitcast, convert, equal, fabs, fma, scalar_function, select, trunc

Pair = tuple[ScalarValue, ScalarValue]

_SIGN = {"f32": 1 << 31, "f64": 1 << 63}
_ONE = {"f32": 0x3F80_0000, "f64": 0x3FF0_0000_0000_0000}
_INFINITY = {"f32": 0x7F80_0000, "f64": 0x7FF0_0000_0000_0000}
_TWO_LOG2_E = "2.88539008177792681471984936200378427"
_TWO_THIRDS_LOG2_E = "0.961796693925975604906616454001261"
_LOG2_BEYOND_CUBE = {  # (2 atanh(s) - 2 s - 2/3 s^3) / (s^5 ln 2) in z = s^2, |s| <= 0.1717: 2^-36.8, 2^-66.3 of log2
    "f32": (0.5770802212993551, 0.41184705078830863, 0.3378847175163519),
    "f64": (
        0.5770780163556184, 0.4121985830917251, 0.32059890231416033, 0.2623076974033468, 0.2219841761480403,
        0.19125086144172262, 0.19042656893968518,
    ),
}  # fmt: skip
_EXP2 = {  # (2^r - 1) / r on |r| <= 1/2: error 2^-28.9 and 2^-58 of 2^r
    "f32": (
        0.6931472028418137, 0.24022647926131604, 0.055503324695319836, 0.009618436026873648, 0.0013398881218305953,
        0.00015353718259786305,
    ),
    "f64": (
        0.6931471805599453, 0.2402265069591013, 0.05550410866482008, 0.009618129107594076, 0.0013333558146775394,
        0.00015403530457173335, 1.5252733492565176e-05, 1.3215435248983056e-06, 1.0178199721362562e-07,
        7.073789424206834e-09, 4.4347614454406243e-10,
    ),
}  # fmt: skip
_EXPONENT_RANGE = {"f32": (-160.0, 136.0), "f64": (-1090.0, 1032.0)}  # beyond it the power is 0 or inf


def two_product(a: ScalarValue, b: ScalarValue | float) -> Pair:
    """a * b and its rounding error, exactly."""
    product = a * b
    return product, fma(a, b, -product)


def log2_pair(x: ScalarValue) -> Pair:
    """log2(x) as a sum of two, to a relative 2^-29.5 (f32), 2^-64 (f64); x is no negative number.

    The second part is at most 2^-12 of the first. -inf, inf and nan come in the first, with anything in the second.
    """
    t = x.type
    top, top_low = split_constant(t, _TWO_LOG2_E)
    third, third_low = split_constant(t, _TWO_THIRDS_LOG2_E)
    k, f = log_reduction(x)
    # s = f/(2 + f) and what it lacks; 1/(2 + f) is (1 - s)/2.
    bottom = f + 2.0
    s = f / bottom
    s_low = fma(-s, f - (bottom - 2.0), fma(-s, bottom, f)) * fma(s, -0.5, 0.5)
    z = s * s
    cubic = z * third
    tail = fma(z, polynomial(z, _LOG2_BEYOND_CUBE[t]), third_low)
    if t == "f64":
        low = fma(fma(s, s, -z), third, fma(z, tail, fma(z, third, -cubic)))
    else:  # the errors of z and cubic are 2^-30 of the result
        low = z * tail
    factor = cubic + top
    low = low + ((top - factor) + cubic + top_low)
    term = s * factor
    term_low = fma(s_low, fma(z, 3 * third, top), fma(s, low, fma(s, factor, -term)))
    high = k + term
    low = ((k - high) + term) + term_low
    beyond = x - LARGEST[t]
    high = select(high > beyond, high, beyond)
    return select(equal(x, 0.0), -math.inf, high), low


def exp2_pair(high: ScalarValue, low: ScalarValue) -> ScalarValue:
    """2^(high + low), where |low| < 1, or low is anything (nan too) where high is out of range."""
    t = high.type
    low = select(low > -1.0, low, -1.0)
    low = select(low < 1.0, low, 1.0)
    high = clamp(high, *_EXPONENT_RANGE[t])
    k, bits = nearest_integer(high + low, 1.0)
    r = (high - k) + low
    first, second = scales(bits, t)
    return fma(r, polynomial(r, _EXP2[t]), 1.0) * first * second


@scalar_function
def power(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """x^y with C's special cases (C11 F.10.4.4). At most 2 ULP; 2^(y log2 x) with the logarithm in two parts.

    The parts give the right infinities and zeros by themselves, with an infinite y taken as the largest number.
    """
    t, bits = x.type, BITS[x.type]
    finite = clamp(y, -LARGEST[t], LARGEST[t])
    log_high, log_low = log2_pair(fabs(x))
    high = log_high * finite
    magnitude = exp2_pair(high, fma(log_low, finite, fma(log_high, finite, -high)))
    whole = equal(trunc(y), y)
    size = fabs(finite)
    parity = fma(trunc(size * 0.5), -2.0, size)  # 1 for odd whole numbers, 0 for even ones
    pattern = bitcast(x, bits)
    odd = bitcast(parity, bits) + (_SIGN[t] - _ONE[t])  # its sign bit is set from parity 1 on
    sign = select(whole, odd & pattern & _SIGN[t], 0)
    signed = bitcast(bitcast(magnitude, bits) | sign, t)
    negative = (pattern - (_SIGN[t] + 1)) < (_INFINITY[t] - 1)  # and neither -0 nor -inf
    result = select(negative & ~whole, math.nan, signed)
    return select(equal(y, 0.0) | equal(x, 1.0), 1.0, result)


@scalar_function
def float_power(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """`power` in f64, whatever the operands' float type."""
    return power(convert(x, "f64"), convert(y, "f64"))


@scalar_function
def square(x: ScalarValue) -> ScalarValue:
    """x * x; integers wrap."""
    return x * x


@scalar_function
def reciprocal(x: ScalarValue) -> ScalarValue:
    """1 / x, correctly rounded. For integers see `integer.reciprocal`."""
    return 1.0 / x
