"""Error functions, cbrt and hypot as scalar programs, for f32 and f64.

Owns erf, erfc, ndtr, cbrt, hypot. It must not know arrays or loops. Branch-free, with nan, infinities, -0.0 and
subnormals right. Coefficients are minimax fits (Remez) made for this file.
"""

from __future__ import annotations

import math

from .exp_log import LN2, LOG2_E, MANTISSA, polynomial
from .hyperbolic import ONE_BITS, UNSIGNED
from .program import ScalarValue, bitcast, equal, fabs, fma, scalar_function, select, sqrt
from .trig import ROUNDER, flip_sign, sign_bits

# erf ------------------------------------------------------------------------------------------------------------------

_ERF_SPLIT = {"f32": 1.25, "f64": 1.0}
_ERF_ONE = {"f32": 3.84, "f64": 5.87}  # erf rounds to 1 from here, to within one unit in the last place
# erf(x)/x - 1 in x^2 <= _ERF_SPLIT^2; errors relative to erf 2^-56 (f64), 2^-24.5 (f32).
_ERF_SMALL = {
    "f64": (
        0.12837916709551256, -0.3761263890318352, 0.11283791670944188, -0.026866170643111736, 0.005223977606120689,
        -0.000854832592941229, 0.00012055293579535854, -1.4924712346947769e-05, 1.6447132057794093e-06,
        -1.6206316994408131e-07, 1.3710992429798272e-08, -7.77948757627459e-10,
    ),
    "f32": (
        0.12837913632392883, -0.3761247992515564, 0.11282194405794144, -0.02680491842329502, 0.005109995137900114,
        -0.0007426093798130751, 6.202440999913961e-05,
    ),
}  # fmt: skip
# erfc(x)^(1/8) in x - centre, from _ERF_SPLIT to _ERF_ONE. The eighth power weighs the error, so that this is accurate
# where erfc counts beside 1, and short: half as long as for erfc itself, and without exp(-x^2) or a division.
# Absolute errors of erfc 2^-55 (f64), 2^-26 (f32).
_ERFC_CENTRE = {"f32": 2.0, "f64": 3.0}
_ERFC_LARGE = {
    "f64": (
        0.2618337862286681, -0.20631696198014537, 0.04995093773553959, 0.003098036420564932,
        -0.0034115553386035967, 0.0003256082511619729, 0.00010421871797982637, -2.3491757575155683e-05,
        -8.679873964230059e-07, 6.987257632260601e-07, -2.9935433156974176e-08, -1.3534337927242792e-08,
        1.4232170475153427e-09, 2.4712153911080096e-10, -3.701336005588781e-11, -6.6047917001262924e-12,
        -2.3210858247211127e-12, -3.7516687806407295e-13,
    ),
    "f32": (
        0.5113925933837891, -0.2824271321296692, 0.018936745822429657, 0.017203062772750854, -0.002794192871078849,
        -0.000650377303827554, 0.00017220254812855273,
    ),
}  # fmt: skip


@scalar_function
def erf(x: ScalarValue) -> ScalarValue:
    """The error function; 2.5 ULP (f64), 2 ULP (f32); x P(x^2) below 1, 1 - P(x)^8 above."""
    t = x.type
    a = fabs(x)
    small = fma(a, polynomial(a * a, _ERF_SMALL[t]), a)
    root = polynomial(a - _ERFC_CENTRE[t], _ERFC_LARGE[t])
    fourth = root * root
    half = fourth * fourth
    large = select(a > _ERF_ONE[t], 1.0, fma(-half, half, 1.0))
    return flip_sign(select(a < _ERF_SPLIT[t], small, large), sign_bits(x))


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
# 2^-55 (f64), 2^-26 (f32).
_ERFC_SHIFT = 2.5
_ERFCX_CENTRE = 0.328125
_ERFCX = {
    "f64": (
        0.8331812027785079, -0.5577017077869946, 0.3057770448800456, -0.12842308085955953, 0.03437339071069491,
        -0.000724032997073226, -0.003820185235872643, 0.0011438610692807117, 0.0003398219902641527,
        -0.0002574787250074667, -3.078546174106389e-05, 5.555803420492653e-05, 4.1118708356720365e-06,
        -1.3064957393288902e-05, -1.3976088321505248e-06, 3.2772745720136944e-06, 7.427170314537267e-07,
        -7.127552517340578e-07, -3.238577166584778e-07, 3.4209166797472744e-08, 3.118521274344124e-08,
    ),
    "f32": (
        0.8331812024116516, -0.5577017068862915, 0.30577707290649414, -0.12842215597629547, 0.03437323868274689,
        -0.0007425906951539218, -0.0038478118367493153, 0.0012327427975833416, 0.00062389369122684,
    ),
}  # fmt: skip
# (e^r - 1 - r)/r^2 on |r| <= ln(2)/2; errors relative to e^r 2^-57 (f64), 2^-27.7 (f32).
_EXPM1 = {
    "f64": (
        0.5000000000000006, 0.1666666666666669, 0.041666666666573864, 0.008333333333311039, 0.0013888888932364009,
        0.00019841269912702287, 2.480150441854618e-05, 2.75572174683303e-06, 2.7626349686322376e-07,
        2.5118385993802317e-08,
    ),
    "f32": (0.5, 0.1666654348373413, 0.04166626185178757, 0.008366605266928673, 0.001394810969941318),
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
    bend = fma(r * r, polynomial(r, _EXPM1[t]), (head - r) - less)  # e^-x^2 = 2^k (1 + r + bend)
    scale = bitcast((bitcast(shifted, UNSIGNED[t]) << MANTISSA[t]) + (ONE_BITS[t] + (_LIFT[t] << MANTISSA[t])), t)
    denominator = x + shift
    lost = x - (denominator - shift)
    inverse = 1.0 / denominator
    rest = fma(-inverse, lost, fma(-inverse, denominator, 1.0))
    q = fma(inverse * rest, -2.0 * shift, fma(inverse, -2.0 * shift, 1.0 - _ERFCX_CENTRE))
    slope = polynomial(q, _ERFCX[t][1:])
    p = fma(q, slope, _ERFCX[t][0])
    p_low = fma(q, slope, _ERFCX[t][0] - p)
    product = p * inverse
    product_low = fma(product, rest, fma(p_low, inverse, fma(p, inverse, -product)))
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
    pattern = bitcast(select(subnormal, a * 2.0 ** _CBRT_LIFT[t], a), bits)
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
    excess = fma(fma(y, y, -y_square), y, fma(y_square, y, -m))
    y = fma(excess * (-1 / 3), square, y)
    root = bitcast(bitcast(y, bits) + (third << MANTISSA[t]), t)
    root = root * select(subnormal, 2.0 ** -(_CBRT_LIFT[t] // 3), root._pair(1.0))
    return select((a > 0.0) & (a < math.inf), flip_sign(root, sign_bits(x)), x)


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
