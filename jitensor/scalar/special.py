"""Error functions, cbrt and hypot as scalar programs, for f32 and f64.

Owns erf, erfc, ndtr, cbrt, hypot. It must not know arrays or loops. Branch-free, with nan, infinities, -0.0 and
subnormals right. Coefficients are minimax fits (Remez) made for this file.
"""

from __future__ import annotations

import math
from itertools import zip_longest

from .exp_log import LARGEST, LN2, LOG2_E, MANTISSA, polynomial
from .hyperbolic import EXPM1, ONE_BITS, UNSIGNED
from .program import ScalarValue, bitcast, equal, fabs, fma, scalar_function, select, sqrt
from .trig import ROUNDER, flip_sign, sign_bits

# erf ------------------------------------------------------------------------------------------------------------------

_ERF_SPLIT = 1.25
_ERF_ONE = {"f32": 3.95, "f64": 5.95}  # erf rounds to 1 from here
# erf(x)/x - 1 in x^2 <= _ERF_SPLIT^2; errors relative to erf 2^-56 (f64), 2^-25 (f32).
_ERF_SMALL = {
    "f64": (
        0.12837916709551256, -0.37612638903183726, 0.11283791670954088, -0.02686617064496399, 0.00522397762403022,
        -0.0008548326951814664, 0.00012055330619422894, -1.4925597289481614e-05, 1.6461279988496076e-06,
        -1.6356550128632272e-07, 1.4733916278287943e-08, -1.1888107457769164e-09, 7.936794739308607e-11,
        -3.2618707303142603e-12,
    ),
    "f32": (
        0.12837913632392883, -0.3761247992515564, 0.11282194405794144, -0.02680491842329502, 0.005109995137900114,
        -0.0007426093798130751, 6.202440999913961e-05,
    ),
}  # fmt: skip
# erfc(x)^(1/8) in x - centre, from _ERF_SPLIT to about _ERF_ONE. The eighth power weighs the error: this is accurate
# where erfc counts beside 1, and short: half as long as for erfc itself, and without exp(-x^2) or a division.
# Absolute errors of erfc 2^-56 (f64), 2^-26.8 (f32).
_ERFC_CENTRE = {"f32": 1.5, "f64": 1.625}
_ERFC_LARGE = {
    "f64": (
        0.6190086155033161, -0.28885464142812906, -0.0023809153166546595, 0.020297066355171752,
        -0.0012028075772302933, -0.0010363757918384427, 0.00014387292862108684, 2.5240234980925565e-05,
        -5.878846379470559e-06, -2.0846443166214282e-07, 7.592134809290485e-08, 2.07846061124406e-08,
        -5.496613992553876e-09, 7.108337503106079e-11, 1.166350750919557e-10, -1.700908615602297e-11,
        8.632196022058219e-13,
    ),
    "f32": (
        0.6550383567810059, -0.28729990124702454, -0.010084536857903004, 0.020734740421175957,
        -0.000522487098351121, -0.0011669851373881102, 0.00017220254812855273,
    ),
}  # fmt: skip


@scalar_function
def erf(x: ScalarValue) -> ScalarValue:
    """The error function; 2.5 ULP (f64), 2 ULP (f32); x P(x^2) below 1.25, 1 - P(x)^8 above.

    One polynomial is evaluated, with coefficients chosen by the range: a select costs less than a multiply-add.
    """
    t = x.type
    a = fabs(x)
    small = a < _ERF_SPLIT
    a = select(a > _ERF_ONE[t], _ERF_ONE[t], a)
    u = select(small, a * a, a - _ERFC_CENTRE[t])
    pairs = zip_longest(_ERF_SMALL[t], _ERFC_LARGE[t], fillvalue=0.0)
    chosen = [select(small, low, x._pair(high)) for low, high in pairs]
    value = chosen[-1]
    for c in chosen[-2::-1]:
        value = fma(u, value, c)
    fourth = value * value
    half = fourth * fourth
    return flip_sign(select(small, fma(a, value, a), fma(-half, half, 1.0)), sign_bits(x))


# erfc -----------------------------------------------------------------------------------------------------------------

_ERFC_SPLIT = 0.75
_ERFC_ZERO = {"f32": 10.5, "f64": 28.0}  # erfc rounds to 0 from here
# erf(x)/x - 1 in x^2 <= _ERFC_SPLIT^2; errors 2^-56 (f64), 2^-29 (f32).
_ERF_BELOW = {
    "f64": (
        0.1283791670955126, -0.3761263890318372, 0.11283791670952487, -0.026866170644402543, 0.005223977615121563,
        -0.0008548326168965694, 0.00012055288769700552, -1.4924176401250716e-05, 1.6430384082960443e-06,
        -1.5937561692106952e-07, 1.1463610924767799e-08,
    ),
    "f32": (
        0.12837916612625122, -0.3761261999607086, 0.11283379048109055, -0.026834625750780106, 0.005114336498081684,
        -0.0006749416934326291,
    ),
}  # fmt: skip
# exp(x^2) erfc(x) (x + shift) in q = (x - shift)/(x + shift) - centre, from _ERFC_SPLIT to _ERFC_ZERO; relative errors
# 2^-54.7 (f64), 2^-28.5 (f32).
_ERFC_SHIFT = 2.0
_ERFCX_CENTRE = {"f32": 0.359375, "f64": 0.34375}
_ERFCX = {
    "f64": (
        0.8166497856282319, -0.5109082400247913, 0.22980641927925582, -0.05642471373987881, -0.00666061758822313,
        0.0095152171827426, -0.0005492289741763429, -0.0017773824804657146, 0.00020280546978604334,
        0.0004279277213472705, -2.613673513882072e-05, -0.00012310085236859206, -1.1611273174420933e-05,
        3.6746244780112206e-05, 1.2717741707129692e-05, -9.260314222858356e-06, -7.338907509192651e-06,
        9.093063162177915e-07, 2.7545165739227754e-06, 6.166131446875331e-07, -4.406919503634003e-07,
        -1.9158704073601133e-07,
    ),
    "f32": (
        0.808722734451294, -0.5037682056427002, 0.22715216875076294, -0.056818630546331406, -0.005921900738030672,
        0.009466767311096191, -0.0007011472480371594, -0.0017805477837100625, 3.789815309573896e-05,
        0.00020955099898856133,
    ),
}  # fmt: skip
# A power of two that keeps e^-x^2 normal until the last step, which then rounds once.
_LIFT = {"f32": 60, "f64": 200}


def _erfc_positive(x: ScalarValue) -> ScalarValue:
    """erfc(x) for x >= _ERFC_SPLIT: e^(-x^2) P(q)/(x + shift), with the larger rounding errors carried along."""
    t, shift = x.type, _ERFC_SHIFT
    x = select(x > _ERFC_ZERO[t], _ERFC_ZERO[t], x)
    square = x * x
    square_low = fma(x, x, -square)
    shifted = fma(square, -LOG2_E, ROUNDER[t])
    k = shifted - ROUNDER[t]
    head = fma(-k, LN2[t][0], -square)
    less = fma(k, LN2[t][1], square_low)
    r = head - less
    bend = fma(r * r, polynomial(r, EXPM1[t]), (head - r) - less)  # e^-x^2 = 2^k (1 + r + bend)
    scale = bitcast((bitcast(shifted, UNSIGNED[t]) << MANTISSA[t]) + (ONE_BITS[t] + (_LIFT[t] << MANTISSA[t])), t)
    denominator = x + shift
    lost = x - (denominator - shift)
    inverse = 1.0 / denominator
    rest = fma(-inverse, lost, fma(-inverse, denominator, 1.0))
    step, one = inverse * (-2.0 * shift), 1.0 - _ERFCX_CENTRE[t]  # step is exact, and so is what q loses
    q = step + one
    q_low = fma(step, rest, (one - q) + step)
    slope = polynomial(q, _ERFCX[t][1:])
    p = fma(q, slope, _ERFCX[t][0])
    p_low = fma(q_low, slope, fma(q, slope, _ERFCX[t][0] - p))
    product = p * inverse
    product_low = fma(product, rest, fma(p_low, inverse, fma(p, inverse, -product)))
    product_low = fma(product_low, r, product_low)
    return (product + fma(product, r, fma(product, bend, product_low))) * scale * 2.0 ** -_LIFT[t]


@scalar_function
def erfc(x: ScalarValue) -> ScalarValue:
    """1 - erf(x) without cancellation; 2.5 ULP, subnormal results included; e^(-x^2) P((x - c)/(x + c))/(x + c)."""
    a = fabs(x)
    middle = 0.5 - fma(x, polynomial(x * x, _ERF_BELOW[x.type]), x - 0.5)
    tail = _erfc_positive(a)
    tail = select(x < 0.0, 2.0 - tail, tail)
    return select(a < _ERFC_SPLIT, middle, tail)


@scalar_function
def ndtr(x: ScalarValue) -> ScalarValue:
    """The normal distribution function, erfc(-x/sqrt 2)/2; scipy.special.ndtr."""
    return erfc(x * -math.sqrt(0.5)) * 0.5


# cbrt, hypot ----------------------------------------------------------------------------------------------------------

_SMALLEST_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}
_CBRT_LIFT = {"f32": 24, "f64": 54}
_CBRT_ABOVE = {"f32": 2.0**120, "f64": 2.0**1010}  # lifts any lifted subnormal above the scale that undoes the lift
# m^(-1/3) on [1/2, 4]; relative error 2^-8.4, 2^-7.2.
_CBRT_START = {
    "f64": (
        1.7952563696438513, -1.5034946253733676, 1.0271814439491682, -0.3891498526806569, 0.07450012797757043,
        -0.005619680173199977,
    ),
    "f32": (1.6854537650192563, -1.1109893977434644, 0.5469668448531896, -0.13094224340123428, 0.011803607713549042),
}  # fmt: skip
# (1 - h)^(-1/3) = 1 + h/3 + 2 h^2/9 + 14 h^3/81 + ..., without its 1.
_CBRT_STEP = {"f64": (1 / 3, 2 / 9, 14 / 81), "f32": (1 / 3, 2 / 9)}


@scalar_function
def cbrt(x: ScalarValue) -> ScalarValue:
    """The cube root; 1 ULP; m^(-1/3) by a polynomial and one high-order step, then Newton on y^3 - m. No division."""
    t, bits = x.type, UNSIGNED[x.type]
    a = fabs(x)
    subnormal = a < _SMALLEST_NORMAL[t]
    lifted = a * 2.0 ** _CBRT_LIFT[t]
    pattern = bitcast(select(subnormal, lifted, a), bits)
    bias = ONE_BITS[t] >> MANTISSA[t]
    integer = bitcast(x._pair(2.0 ** MANTISSA[t]), bits)
    exponent = bitcast((pattern >> MANTISSA[t]) | integer, t) - (2.0 ** MANTISSA[t] + bias)
    third = bitcast(fma(exponent, 1 / 3, ROUNDER[t]), bits)
    m = bitcast(pattern - ((third + third + third) << MANTISSA[t]), t)
    r = polynomial(m, _CBRT_START[t])
    h = fma(-(m * r), r * r, 1.0)
    r = fma(r * h, polynomial(h, _CBRT_STEP[t]), r)
    square = r * r
    y = m * square
    y_square = y * y
    excess = fma(y_square, y, -m)
    if t == "f64":
        excess = fma(fma(y, y, -y_square), y, excess)
    y = fma(excess * (-1 / 3), square, y)
    root = bitcast(bitcast(y, bits) + (third << MANTISSA[t]), t)
    lower, down = 2.0 ** -(_CBRT_LIFT[t] // 3), lifted * _CBRT_ABOVE[t]
    root = root * select(subnormal, select(down > lower, lower, down), root._pair(1.0))  # and 0 at 0
    beyond = a - LARGEST[t]  # above any root for inf and nan only
    return flip_sign(select(root > beyond, root, beyond), sign_bits(x))


_HYPOT_HIGH = {"f32": 2.0**60, "f64": 2.0**500}
_HYPOT_LOW = {"f32": 2.0**-50, "f64": 2.0**-450}
_HYPOT_SCALE = {"f32": 2.0**90, "f64": 2.0**700}


@scalar_function
def hypot(x: ScalarValue, y: ScalarValue) -> ScalarValue:
    """sqrt(x^2 + y^2) without overflow, inf if either is infinite; 1 ULP; squares scaled by a power of two."""
    t = x.type
    ax, ay = fabs(x), fabs(y)
    larger = select(ax > ay, ax, ay)
    high, low = larger > _HYPOT_HIGH[t], larger < _HYPOT_LOW[t]
    scale = _HYPOT_SCALE[t]
    down = select(high, 1 / scale, select(low, scale, x._pair(1.0)))
    up = select(high, scale, select(low, 1 / scale, x._pair(1.0)))
    u, v = ax * down, ay * down
    length = sqrt(fma(u, u, v * v)) * up
    return select(equal(ax, math.inf) | equal(ay, math.inf), math.inf, length)
