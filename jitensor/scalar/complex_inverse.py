"""Inverse circular and hyperbolic functions of complex numbers, with NumPy's branch cuts, signed zeros and infinities.

Formulas by W. Kahan, "Branch Cuts for Complex Elementary Functions, or Much Ado About Nothing's Sign Bit" (1987). The
error is a few ULP of the modulus. A nan in either part makes both nan.
"""

from __future__ import annotations

import math

from . import exp_log, hyperbolic, trig
from .complex import ComplexValue, choose, isnan, sqrt_complex, strict
from .minmax import copysign, isinf
from .program import ScalarValue, equal, fabs, not_equal, select


def _one_plus(z: ComplexValue) -> ComplexValue:
    return ComplexValue(z.re + 1.0, z.im)


def _one_minus(z: ComplexValue) -> ComplexValue:
    return ComplexValue(1.0 - z.re, -z.im)


def _at_infinity(z: ComplexValue, result: ComplexValue, limit: ComplexValue) -> ComplexValue:
    """`limit` where a part of z is infinite, nan where one is nan, else `result`."""
    result = choose(isinf(z.re) | isinf(z.im), limit, result)
    nan = z.program.constant(math.nan, z.re.type)
    return choose(isnan(z), ComplexValue(nan, nan), result)


def _direction(z: ComplexValue) -> tuple[ScalarValue, ScalarValue]:
    """(x, y) that points where an infinite z does: an infinite part becomes a signed 1, a finite one a signed 0."""
    one = z.program.constant(1.0, z.re.type)
    return tuple(copysign(select(isinf(part), one, 0.0), part) for part in (z.re, z.im))


@strict
def asin(z: ComplexValue) -> ComplexValue:
    """The angle whose sine is z; cuts outside [-1, 1] on the real axis."""
    minus, plus = sqrt_complex(_one_minus(z)), sqrt_complex(_one_plus(z))
    re = trig.atan2(z.re, minus.re * plus.re - minus.im * plus.im)
    im = hyperbolic.asinh(minus.re * plus.im - minus.im * plus.re)
    x, y = _direction(z)
    far = copysign(z.program.constant(math.inf, z.re.type), z.im)
    return _at_infinity(z, ComplexValue(re, im), ComplexValue(trig.atan2(x, fabs(y)), far))


@strict
def acos(z: ComplexValue) -> ComplexValue:
    """The angle whose cosine is z; cuts outside [-1, 1] on the real axis."""
    minus, plus = sqrt_complex(_one_minus(z)), sqrt_complex(_one_plus(z))
    re = 2.0 * trig.atan2(minus.re, plus.re)
    im = hyperbolic.asinh(plus.re * minus.im - plus.im * minus.re)
    x, y = _direction(z)
    far = -copysign(z.program.constant(math.inf, z.re.type), z.im)
    return _at_infinity(z, ComplexValue(re, im), ComplexValue(trig.atan2(fabs(y), x), far))


@strict
def acosh(z: ComplexValue) -> ComplexValue:
    """The inverse hyperbolic cosine; a cut below 1 on the real axis."""
    minus = sqrt_complex(ComplexValue(z.re - 1.0, z.im))
    plus = sqrt_complex(_one_plus(z))
    re = hyperbolic.asinh(minus.re * plus.re + minus.im * plus.im)
    im = 2.0 * trig.atan2(minus.im, plus.re)
    x, y = _direction(z)
    far = z.program.constant(math.inf, z.re.type)
    return _at_infinity(z, ComplexValue(re, im), ComplexValue(far, copysign(trig.atan2(fabs(y), x), z.im)))


@strict
def atanh(z: ComplexValue) -> ComplexValue:
    """The inverse hyperbolic tangent; cuts outside [-1, 1] on the real axis."""
    x, y = fabs(z.re), z.im
    below = 1.0 - x
    square = below * below + y * y
    # Right above or below the pole y * y may underflow: there 4 / square is (2 / y)**2.
    near_pole = equal(square, 0.0) & not_equal(y, 0.0)
    re = 0.25 * exp_log.log1p(4.0 * x / square)
    re = select(near_pole, 0.5 * (math.log(2.0) - exp_log.log(fabs(y))), re)
    im = 0.5 * trig.atan2(2.0 * y, below * (1.0 + x) - y * y)
    quarter = z.program.constant(math.pi / 2, z.re.type)
    zero = z.program.constant(0.0, z.re.type)
    limit = ComplexValue(copysign(zero, z.re), copysign(quarter, z.im))
    return _at_infinity(z, ComplexValue(copysign(re, z.re), im), limit)


@strict
def asinh(z: ComplexValue) -> ComplexValue:
    """The inverse hyperbolic sine: -i asin(iz)."""
    turned = asin(ComplexValue(-z.im, z.re))
    return ComplexValue(turned.im, -turned.re)


@strict
def atan(z: ComplexValue) -> ComplexValue:
    """The angle whose tangent is z: -i atanh(iz)."""
    turned = atanh(ComplexValue(-z.im, z.re))
    return ComplexValue(turned.im, -turned.re)
