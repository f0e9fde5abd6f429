"""Trigonometric functions as scalar programs, for f32 and f64.

Owns argument reduction modulo pi/2, the polynomials and the quadrant logic. It must not know arrays or loops. Every
function is branch-free and keeps nan, infinities, -0.0 and subnormals right; sin, cos and tan of huge arguments are
left to libm, in the exact program. Coefficients without a named source are minimax fits (Remez) made for this file.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .exp_log import polynomial
from .program import (
    ScalarValue,
    bitcast,
    call,
    equal,
    fabs,
    fma,
    not_equal,
    scalar_function,
    select,
    sqrt,
)

INTEGER = {"f32": "i32", "f64": "i64"}
SIGN_BIT = {"f32": 0x8000_0000, "f64": 0x8000_0000_0000_0000}
# Adding and subtracting this rounds to an integer, and leaves that integer in the low bits of the sum.
ROUNDER = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}

# pi/2 and pi as a number and the rest of it.
HALF_PI = {"f32": (1.5707963705062866, -4.371138828673793e-08), "f64": (math.pi / 2, 6.123233995736766e-17)}
PI = {t: (2 * high, 2 * low) for t, (high, low) in HALF_PI.items()}
ZERO = (0.0, 0.0)

Pair = tuple[ScalarValue, ScalarValue]


def sign_bits(x: ScalarValue) -> ScalarValue:
    """The sign bit of x alone, as an integer to xor into a result."""
    return bitcast(x, INTEGER[x.type]) & SIGN_BIT[x.type]


def flip_sign(x: ScalarValue, bits: ScalarValue) -> ScalarValue:
    return bitcast(bitcast(x, INTEGER[x.type]) ^ bits, x.type)


def is_negative(x: ScalarValue) -> ScalarValue:
    """The sign bit as truth: -0.0 is negative."""
    return bitcast(x, INTEGER[x.type]) < 0


# sin, cos, tan --------------------------------------------------------------------------------------------------------

# Beyond it the reduction below loses bits: the count of quarter turns must stay below 2^20 (f64), 2^17 (f32).
REDUCTION_LIMIT = {"f32": 131072.0, "f64": 1e6}

# (sin r - r)/r^3 and (cos r - 1 + r^2/2)/r^4 as polynomials in r^2, |r| <= pi/4; errors relative to r and to 1:
# 2^-58 and 2^-64 (f64), 2^-32.5 and 2^-33 (f32).
_SIN = {
    "f64": (
        -0.16666666666666632, 0.00833333333332247, -0.00019841269829834062, 2.755731369678371e-06,
        -2.5050758404696546e-08, 1.5896791516440979e-10,
    ),
    "f32": (-0.1666666716337204, 0.008333379402756691, -0.0001985298004001379, 2.8307531465543434e-06),
}  # fmt: skip
_COS = {
    "f64": (
        0.0416666666666666, -0.0013888888888874457, 2.4801587289654156e-05, -2.755731439456344e-07,
        2.08757282257684e-09, -1.1359870848481501e-11,
    ),
    "f32": (0.04166664555668831, -0.00138873013202101, 2.443067751300987e-05),
}  # fmt: skip
# (tan r - r)/r^3 likewise; errors relative to tan r 2^-56 (f64), 2^-29 (f32).
_TAN = {
    "f64": (
        0.3333333333333277, 0.13333333333415584, 0.053968253926210685, 0.021869489619886627, 0.008863219012092628,
        0.003592290441525847, 0.001454749737475031, 0.0005950992241542652, 0.00022227842112721618,
        0.00013673405305146706, -2.667987768672639e-05, 8.972233335159528e-05, -4.50224576430505e-05,
        2.089840394604966e-05,
    ),
    "f32": (
        0.3333335220813751, 0.1333257108926773, 0.054071005433797836, 0.02122248336672783, 0.010995810851454735,
        -0.00011903555423486978, 0.0044816662557423115,
    ),
}  # fmt: skip


class Turn(NamedTuple):
    """x = quarters * pi/2 + r - d, with |r| <= pi/4 and d the rounding error of r."""

    quarters: ScalarValue
    r: ScalarValue
    d: ScalarValue


def _reduce(x: ScalarValue) -> Turn:
    """Cody and Waite's reduction with fma. First an exact step: x - n*high is below 1, in units of x's last bit."""
    shifted = fma(x, 2 / math.pi, ROUNDER[x.type])
    n = shifted - ROUNDER[x.type]
    quarters = bitcast(shifted, INTEGER[x.type])
    if x.type == "f64":
        # The middle part has 33 bits, so that n times it is exact and so is its subtraction under cancellation.
        r1 = fma(-n, 1.5707963267948966, x)
        r = fma(-n, 6.12323399538461e-17, r1)
        d = fma(n, 6.12323399538461e-17, r - r1)
        return Turn(quarters, r, fma(n, 3.5215598651832e-27, d))
    # f32 has no room for that: the middle product is kept as a rounded number and its error. The middle part is
    # positive so that -0.0 stays -0.0.
    r1 = fma(-n, 1.570796251296997, x)
    product = n * 7.549790126404332e-08
    error = fma(n, 7.549790126404332e-08, -product)
    r = r1 - product
    d = (r - r1) + product
    return Turn(quarters, r, d + fma(n, -1.7151245100058819e-15, error))


def _sin_and_cos(turn: Turn) -> tuple[ScalarValue, ScalarValue]:
    """sin(r - d), cos(r - d); as fdlibm's __kernel_sin and __kernel_cos arrange them."""
    r, d, t = turn.r, turn.d, turn.r.type
    z = r * r
    half = z * 0.5
    sine = r - fma(-(z * r), polynomial(z, _SIN[t]), fma(-half, d, d))
    top = 1.0 - half
    rest = (1.0 - top) - half
    cosine = top + fma(z * z, polynomial(z, _COS[t]), fma(r, d, rest))
    return sine, cosine


def sincos(x: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """sin(x) and cos(x) with one reduction, for callers that keep |x| below REDUCTION_LIMIT; bounds as sin and cos."""
    turn = _reduce(x)
    sine, cosine = _sin_and_cos(turn)
    odd = not_equal(turn.quarters & 1, 0)
    return (
        flip_sign(select(odd, cosine, sine), _bit_one_to_sign(turn.quarters)),
        flip_sign(select(odd, sine, cosine), _bit_one_to_sign(turn.quarters + 1)),
    )


def _bit_one_to_sign(quarters: ScalarValue) -> ScalarValue:
    shift, mask = (62, SIGN_BIT["f64"]) if quarters.type == "i64" else (30, SIGN_BIT["f32"])
    return (quarters << shift) & mask


def _beyond_reduction(x: ScalarValue) -> ScalarValue:
    return fabs(x) > REDUCTION_LIMIT[x.type]


@scalar_function(slow=_beyond_reduction)
def sin(x: ScalarValue) -> ScalarValue:
    """sin(x), x in radians; 1 ULP; fdlibm's kernels after Cody and Waite's reduction."""
    return call("sin", x) if x.program.exact else sincos(x)[0]


@scalar_function(slow=_beyond_reduction)
def cos(x: ScalarValue) -> ScalarValue:
    """cos(x), x in radians; 1 ULP; fdlibm's kernels after Cody and Waite's reduction."""
    return call("cos", x) if x.program.exact else sincos(x)[1]


@scalar_function(slow=_beyond_reduction)
def tan(x: ScalarValue) -> ScalarValue:
    """tan(x), x in radians; 2 ULP; tan of the reduced argument, or -1/tan in odd quadrants."""
    if x.program.exact:
        return call("tan", x)
    quarters, r, d = _reduce(x)
    z = r * r
    slope = fma(z, fma(z, 2 / 3, 1.0), 1.0)
    tangent = r + fma(z * r, polynomial(z, _TAN[x.type]), -(d * slope))
    odd = not_equal(quarters & 1, 0)
    return select(odd, -1.0, tangent) / select(odd, tangent, 1.0)


# asin, acos, atan, atan2 ----------------------------------------------------------------------------------------------

# (asin s - s)/s^3 as a polynomial in s^2 <= 1/4; errors relative to s 2^-55.9 (f64), 2^-27.6 (f32).
_ASIN = {
    "f64": (
        0.16666666666665383, 0.07500000000342923, 0.04464285682355172, 0.030381959329897533, 0.02237175352592944,
        0.01735977140272788, 0.013884593170046144, 0.012173325214551316, 0.006510620895131394, 0.019574607354794042,
        -0.01629524494466584, 0.031959802001938764,
    ),
    "f32": (
        0.16666753590106964, 0.07495251297950745, 0.04547615721821785, 0.02415149100124836, 0.04221281781792641,
    ),
}  # fmt: skip
# (atan s - s)/s^3 as a polynomial in s^2 <= 1; errors relative to atan s 2^-55 (f64), 2^-28.5 (f32).
_ATAN = {
    "f64": (
        -0.3333333333333186, 0.19999999999755183, -0.1428571427134038, 0.11111110678855943, -0.0909090123670582,
        0.07692212941253766, -0.06665860422344755, 0.058773079909726154, -0.05239233513465223, 0.04673950116601905,
        -0.040926371421703765, 0.034067754422151465, -0.025826672984599477, 0.01697786341620683,
        -0.009184394944825253, 0.0038558675705554894, -0.0011640255204481648, 0.00022301053390452372,
        -2.0257176307100683e-05,
    ),
    "f32": (
        -0.33333298563957214, 0.1999852955341339, -0.1426403969526291, 0.10951151698827744, -0.08400530368089676,
        0.05790935829281807, -0.031131401658058167, 0.010890452191233635, -0.0017883769469335675,
    ),
}  # fmt: skip


def _offset(base: Pair, factor: ScalarValue, s: ScalarValue, z: ScalarValue, tail: ScalarValue) -> ScalarValue:
    """base + factor*(s + s*z*tail), with base as two parts and factor*s exact; base is 0 or the larger."""
    high, low = base
    scaled = s * factor
    sum_ = high + scaled
    return sum_ + (fma(scaled * z, tail, low) + (scaled - (sum_ - high)))


def _choose(condition: ScalarValue, a: Pair, b: Pair) -> Pair:
    return select(condition, a[0], b[0]), select(condition, a[1], b[1])


def _pair(x: ScalarValue, parts: tuple[float, float]) -> Pair:
    return x.program.constant(parts[0], x.type), x.program.constant(parts[1], x.type)


@scalar_function
def asin(x: ScalarValue) -> ScalarValue:
    """asin(x); 2 ULP, nan beyond [-1, 1]; pi/2 - 2 asin(sqrt((1 - |x|)/2)) above 1/2, as fdlibm."""
    t, a = x.type, fabs(x)
    large = a > 0.5
    z = select(large, (1.0 - a) * 0.5, x * x)
    s = select(large, sqrt(z), a)
    base = _choose(large, _pair(x, HALF_PI[t]), _pair(x, ZERO))
    factor = select(large, -2.0, x._pair(1.0))
    return flip_sign(_offset(base, factor, s, z, polynomial(z, _ASIN[t])), sign_bits(x))


@scalar_function
def acos(x: ScalarValue) -> ScalarValue:
    """acos(x); 2 ULP, nan beyond [-1, 1]; 2 asin(sqrt((1 - |x|)/2)) or pi minus it outside [-1/2, 1/2], as fdlibm."""
    t, a = x.type, fabs(x)
    large, negative = a > 0.5, x < 0.0
    z = select(large, (1.0 - a) * 0.5, x * x)
    s = select(large, sqrt(z), x)
    base = _choose(large, _choose(negative, _pair(x, PI[t]), _pair(x, ZERO)), _pair(x, HALF_PI[t]))
    factor = select(large, select(negative, -2.0, x._pair(2.0)), -1.0)
    return _offset(base, factor, s, z, polynomial(z, _ASIN[t]))


@scalar_function
def atan(x: ScalarValue) -> ScalarValue:
    """atan(x); 2 ULP; pi/2 - atan(1/|x|) above 1, one polynomial on [0, 1]."""
    t, a = x.type, fabs(x)
    steep = a > 1.0
    s = select(steep, 1.0 / a, a)
    z = s * s
    base = _choose(steep, _pair(x, HALF_PI[t]), _pair(x, ZERO))
    factor = select(steep, -1.0, x._pair(1.0))
    return flip_sign(_offset(base, factor, s, z, polynomial(z, _ATAN[t])), sign_bits(x))


@scalar_function
def atan2(y: ScalarValue, x: ScalarValue) -> ScalarValue:
    """The angle of the point (x, y), signed zeros and infinities as in C; 2 ULP; atan of the lesser ratio."""
    t, ax, ay = x.type, fabs(x), fabs(y)
    steep, behind = ay > ax, is_negative(x)
    least, most = select(steep, ax, ay), select(steep, ay, ax)
    s = least / most
    s = select(equal(least, most), 1.0, s)  # inf/inf
    s = select(equal(most, 0.0), least, s)  # 0/0, and nan stays nan
    z = s * s
    base = _choose(steep, _pair(x, HALF_PI[t]), _choose(behind, _pair(x, PI[t]), _pair(x, ZERO)))
    factor = select(steep ^ behind, -1.0, s._pair(1.0))
    return flip_sign(_offset(base, factor, s, z, polynomial(z, _ATAN[t])), sign_bits(y))


# Degrees, sinc --------------------------------------------------------------------------------------------------------


@scalar_function
def rad2deg(x: ScalarValue) -> ScalarValue:
    """x * (180/pi); numpy.rad2deg and numpy.degrees."""
    return x * (180.0 / math.pi)


@scalar_function
def deg2rad(x: ScalarValue) -> ScalarValue:
    """x * (pi/180); numpy.deg2rad and numpy.radians."""
    return x * (math.pi / 180.0)


degrees = rad2deg
radians = deg2rad


@scalar_function
def sinc(x: ScalarValue) -> ScalarValue:
    """sin(pi x)/(pi x), 1 at 0; numpy.sinc, which also rounds pi x before it takes the sine."""
    y = x * math.pi
    return select(equal(y, 0.0), 1.0, sin(y) / y)
