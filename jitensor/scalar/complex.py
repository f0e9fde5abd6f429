"""Complex numbers as pairs of scalar values: arithmetic, order and functions as NumPy has them.

Owns the formulas; loads and stores of interleaved numbers are a writer's matter. A `ComplexValue` never reaches a
scalar program, only its parts do. Formulas run with `contract` off, so that z * conj(z) is real, and
quotients are NumPy's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from . import exp_log, hyperbolic, minmax, special, trig
from .exp_log import BITS, LOG2_E, MANTISSA
from .minmax import copysign, isfinite, isinf
from .power import two_product
from .program import ScalarProgram, ScalarValue, bitcast, equal, fabs, fma, is_nan, not_equal, select, sqrt, trunc
from .program import rint as scalar_rint

Number = complex | float | int


class ComplexValue:
    """`re` + `im` i, two values of one float type. Operators record; Python numbers and real values are lifted."""

    __slots__ = ("re", "im")

    def __init__(self, re: ScalarValue, im: ScalarValue) -> None:
        if re.type != im.type:
            raise TypeError(f"complex value of parts {re.type} and {im.type}")
        self.re, self.im = re, im

    @property
    def program(self) -> ScalarProgram:
        return self.re.program

    @property
    def type(self) -> str:
        return {"f32": "c64", "f64": "c128"}[self.re.type]

    def lift(self, other: ComplexValue | ScalarValue | Number) -> ComplexValue:
        """`other` as a complex value of this one's type."""
        if isinstance(other, ComplexValue):
            return other
        if isinstance(other, ScalarValue):
            return ComplexValue(other, other.program.constant(0.0, other.type))
        return constant(self.program, other, self.re.type)

    def __add__(self, other: Any) -> ComplexValue:
        return add(self, self.lift(other))

    def __radd__(self, other: Any) -> ComplexValue:
        return add(self.lift(other), self)

    def __sub__(self, other: Any) -> ComplexValue:
        return subtract(self, self.lift(other))

    def __rsub__(self, other: Any) -> ComplexValue:
        return subtract(self.lift(other), self)

    def __mul__(self, other: Any) -> ComplexValue:
        return multiply(self, self.lift(other))

    def __rmul__(self, other: Any) -> ComplexValue:
        return multiply(self.lift(other), self)

    def __truediv__(self, other: Any) -> ComplexValue:
        return divide(self, self.lift(other))

    def __rtruediv__(self, other: Any) -> ComplexValue:
        return divide(self.lift(other), self)

    def __neg__(self) -> ComplexValue:
        return negative(self)

    def __bool__(self) -> bool:
        raise TypeError("a scalar program has no branches: use select")

    def __repr__(self) -> str:
        return f"({self.re!r}, {self.im!r})"


def constant(program: ScalarProgram, value: Number, part_type: str) -> ComplexValue:
    """A complex literal; part_type is `f32` or `f64`."""
    value = complex(value)
    return ComplexValue(program.constant(value.real, part_type), program.constant(value.imag, part_type))


def strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """Records the function's instructions with `contract` off."""

    @functools.wraps(function)
    def apply(z: ComplexValue, *others: Any) -> Any:
        program = z.program
        before, program.contract = program.contract, False
        try:
            return function(z, *others)
        finally:
            program.contract = before

    return apply


def choose(condition: ScalarValue, a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """`a` where condition, else `b`."""
    return ComplexValue(select(condition, a.re, b.re), select(condition, a.im, b.im))


def _literal(z: ComplexValue, value: float) -> ScalarValue:
    return z.program.constant(value, z.re.type)


def _times_i(z: ComplexValue) -> ComplexValue:
    return ComplexValue(-z.im, z.re)


def _over_i(z: ComplexValue) -> ComplexValue:
    return ComplexValue(z.im, -z.re)


# Arithmetic -----------------------------------------------------------------------------------------------------------


@strict
def add(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """a + b."""
    return ComplexValue(a.re + b.re, a.im + b.im)


@strict
def subtract(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """a - b."""
    return ComplexValue(a.re - b.re, a.im - b.im)


@strict
def multiply(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """a * b by the plain formula, as NumPy (not C's Annex G)."""
    return ComplexValue(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)


@strict
def divide(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """a / b by Smith's algorithm, step for step as NumPy's loops; (re/0, im/0) for b = 0."""
    wide = fabs(b.re) >= fabs(b.im)
    p, q = select(wide, b.re, b.im), select(wide, b.im, b.re)
    x, y = select(wide, a.re, a.im), select(wide, a.im, a.re)
    ratio = q / p
    scale = 1.0 / (p + q * ratio)
    cross = x * ratio
    re = (x + y * ratio) * scale
    im = select(wide, y - cross, cross - y) * scale
    zero = equal(p, 0.0)
    size = fabs(b.re)
    return ComplexValue(select(zero, a.re / size, re), select(zero, a.im / size, im))


@strict
def reciprocal(z: ComplexValue) -> ComplexValue:
    """1 / z by Smith's algorithm."""
    wide = fabs(z.im) <= fabs(z.re)
    p, q = select(wide, z.re, z.im), select(wide, z.im, z.re)
    ratio = q / p
    bottom = p + q * ratio
    return ComplexValue(select(wide, 1.0, ratio) / bottom, -(select(wide, ratio, 1.0) / bottom))


@strict
def negative(z: ComplexValue) -> ComplexValue:
    """-z."""
    return ComplexValue(-z.re, -z.im)


@strict
def conjugate(z: ComplexValue) -> ComplexValue:
    """z with the sign of its imaginary part flipped."""
    return ComplexValue(z.re, -z.im)


@strict
def square(z: ComplexValue) -> ComplexValue:
    """z * z."""
    return ComplexValue(z.re * z.re - z.im * z.im, z.re * z.im + z.im * z.re)


@strict
def absolute(z: ComplexValue) -> ScalarValue:
    """|z|, without overflow on the way."""
    return special.hypot(z.re, z.im)


@strict
def angle(z: ComplexValue) -> ScalarValue:
    """The argument of z in (-pi, pi]."""
    return trig.atan2(z.im, z.re)


@strict
def sign(z: ComplexValue) -> ComplexValue:
    """z / |z|, as numpy.sign since 2.0: 0 for 0, and one part where only that one is infinite."""
    size = absolute(z)
    re, im = z.re / size, z.im / size
    far_re, far_im = isinf(z.re), isinf(z.im)
    one = _literal(z, 1.0)
    re = select(far_re, copysign(one, z.re), select(far_im, 0.0, re))
    im = select(far_im, copysign(one, z.im), select(far_re, 0.0, im))
    broken = (isnan(z) & ~(far_re | far_im)) | (far_re & far_im)
    zero = equal(size, 0.0)
    return ComplexValue(*(select(broken, math.nan, select(zero, 0.0, part)) for part in (re, im)))


@strict
def rint(z: ComplexValue) -> ComplexValue:
    """Each part rounded to an integer."""
    return ComplexValue(scalar_rint(z.re), scalar_rint(z.im))


# Order and classes ----------------------------------------------------------------------------------------------------


@strict
def equal_to(a: ComplexValue, b: ComplexValue) -> ScalarValue:
    """Both parts are equal."""
    return equal(a.re, b.re) & equal(a.im, b.im)


@strict
def not_equal_to(a: ComplexValue, b: ComplexValue) -> ScalarValue:
    """Some part differs."""
    return not_equal(a.re, b.re) | not_equal(a.im, b.im)


def _ordered(a: ComplexValue, b: ComplexValue, real: ScalarValue, imaginary: ScalarValue) -> ScalarValue:
    return (real & equal(a.im, a.im) & equal(b.im, b.im)) | (equal(a.re, b.re) & imaginary)


@strict
def less(a: ComplexValue, b: ComplexValue) -> ScalarValue:
    """a before b in NumPy's lexicographic order: by the real part, then by the imaginary part."""
    return _ordered(a, b, a.re < b.re, a.im < b.im)


@strict
def less_equal(a: ComplexValue, b: ComplexValue) -> ScalarValue:
    """a before b or equal, in lexicographic order."""
    return _ordered(a, b, a.re < b.re, a.im <= b.im)


def greater(a: ComplexValue, b: ComplexValue) -> ScalarValue:
    """a after b in lexicographic order."""
    return less(b, a)


def greater_equal(a: ComplexValue, b: ComplexValue) -> ScalarValue:
    """a after b or equal, in lexicographic order."""
    return less_equal(b, a)


@strict
def isnan(z: ComplexValue) -> ScalarValue:
    """Some part is nan."""
    return is_nan(z.re) | is_nan(z.im)


@strict
def is_infinite(z: ComplexValue) -> ScalarValue:
    """Some part is infinite."""
    return isinf(z.re) | isinf(z.im)


@strict
def is_finite(z: ComplexValue) -> ScalarValue:
    """Both parts are finite."""
    return isfinite(z.re) & isfinite(z.im)


@strict
def truth(z: ComplexValue) -> ScalarValue:
    """Whether z is not zero; nan is true."""
    return not_equal(z.re, 0.0) | not_equal(z.im, 0.0)


def maximum(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """The later in lexicographic order; the first that has a nan, if one has."""
    return choose(isnan(a) | greater_equal(a, b), a, b)


def minimum(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """The earlier in lexicographic order; the first that has a nan, if one has."""
    return choose(isnan(a) | less_equal(a, b), a, b)


def fmax(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """The later in lexicographic order; one with a nan gives way."""
    return choose(isnan(b) | greater_equal(a, b), a, b)


def fmin(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """The earlier in lexicographic order; one with a nan gives way."""
    return choose(isnan(b) | less_equal(a, b), a, b)


# Functions ------------------------------------------------------------------------------------------------------------


def _sincos(x: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """sin(x) and cos(x), which share their reduction in the program and record their slow condition."""
    return trig.sin(x), trig.cos(x)


_HALVE_ABOVE = {"f32": 88.0, "f64": 709.0}


def _polar(exponent: ScalarValue, x: ScalarValue, y: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(e^exponent * x, e^exponent * y) where e^exponent alone might overflow."""
    large = exponent > _HALVE_ABOVE[exponent.type]
    part = exp_log.exp(select(large, exponent * 0.5, exponent))
    again = select(large, part, 1.0)
    return part * x * again, part * y * again


@strict
def exp(z: ComplexValue) -> ComplexValue:
    """e^z, with C's special cases."""
    sine, cosine = _sincos(z.im)
    re, im = _polar(z.re, cosine, sine)
    im = select(equal(z.im, 0.0), z.im, im)
    re = select(equal(z.im, 0.0), exp_log.exp(z.re), re)
    wild = ~isfinite(z.im)
    vanishes, grows = wild & equal(z.re, -math.inf), wild & equal(z.re, math.inf)
    re = select(vanishes, 0.0, select(grows, math.inf, re))
    return ComplexValue(re, select(vanishes, copysign(_literal(z, 0.0), z.im), im))


@strict
def exp2(z: ComplexValue) -> ComplexValue:
    """2^z."""
    return exp(ComplexValue(z.re * math.log(2.0), z.im * math.log(2.0)))


@strict
def expm1(z: ComplexValue) -> ComplexValue:
    """e^z - 1 without cancellation near 0."""
    sine, cosine = _sincos(z.im)
    half = trig.sin(z.im * 0.5)
    re = exp_log.expm1(z.re) * cosine - 2.0 * half * half
    return ComplexValue(re, exp_log.exp(z.re) * sine)


def _log_size(z: ComplexValue) -> ScalarValue:
    """log|z|, also where |z| is close to 1 or would overflow."""
    x, y = fabs(z.re), fabs(z.im)
    larger, smaller = select(x > y, x, y), select(x > y, y, x)
    ratio = smaller / larger
    ratio = select(equal(larger, 0.0) | equal(smaller, math.inf), 0.0, ratio)
    # |z|^2 - 1 in two parts: larger^2 - 1 is exact where it matters.
    square_x, error_x = two_product(larger, larger)
    square_y, error_y = two_product(smaller, smaller)
    base = square_x - 1.0
    total = base + square_y
    back = total - base
    error = (base - (total - back)) + (square_y - back)
    excess = total + (error + (error_x + error_y))
    near = (square_x + square_y > 0.5) & (square_x + square_y < 3.0)
    result = fma(exp_log.log1p(select(near, excess, ratio * ratio)), 0.5, select(near, 0.0, exp_log.log(larger)))
    return select(isinf(z.re) | isinf(z.im), math.inf, select(isnan(z), math.nan, result))


@strict
def log(z: ComplexValue) -> ComplexValue:
    """The principal logarithm: (log|z|, angle)."""
    return ComplexValue(_log_size(z), angle(z))


@strict
def log2(z: ComplexValue) -> ComplexValue:
    """log(z) / log(2)."""
    result = log(z)
    return ComplexValue(result.re * LOG2_E, result.im * LOG2_E)


@strict
def log10(z: ComplexValue) -> ComplexValue:
    """log(z) / log(10)."""
    result = log(z)
    return ComplexValue(result.re * math.log10(math.e), result.im * math.log10(math.e))


@strict
def log1p(z: ComplexValue) -> ComplexValue:
    """log(1 + z); the real part without cancellation near 0."""
    shifted = ComplexValue(z.re + 1.0, z.im)
    small = (fabs(z.re) < 0.5) & (fabs(z.im) < 0.5)
    near = 0.5 * exp_log.log1p(fma(z.re, z.re + 2.0, z.im * z.im))
    return ComplexValue(select(small, near, _log_size(shifted)), angle(shifted))


@strict
def sqrt_complex(z: ComplexValue) -> ComplexValue:
    """The principal square root, with C's special cases. As FreeBSD's s_csqrt.c, scaled against over- and underflow."""
    x, y = fabs(z.re), fabs(z.im)
    size = select(x > y, x, y)
    top = 2.0**120 if z.re.type == "f32" else 2.0**1000
    up = 2.0**60 if z.re.type == "f32" else 2.0**300
    large, small = size > top, size < 2.0**24 / top
    scale = select(large, 2.0**-8, select(small, _literal(z, up * up), 1.0))
    unscale = select(large, 2.0**4, select(small, _literal(z, 1.0 / up), 1.0))
    re, im = z.re * scale, z.im * scale
    t = sqrt((fabs(re) + special.hypot(re, im)) * 0.5)
    other = fabs(im) / (t + t)
    forward = z.re >= 0.0
    root_re = select(forward, t, other) * unscale
    root_im = copysign(select(forward, other, t) * unscale, z.im)
    zero = ~truth(z)
    root_re, root_im = select(zero, 0.0, root_re), select(zero, z.im, root_im)
    right, left = equal(z.re, math.inf), equal(z.re, -math.inf)
    root_re = select(right, math.inf, select(left, select(is_nan(z.im), z.im, 0.0), root_re))
    far = copysign(_literal(z, math.inf), z.im)
    root_im = select(right, select(is_nan(z.im), z.im, copysign(_literal(z, 0.0), z.im)), select(left, far, root_im))
    vertical = isinf(z.im)
    return ComplexValue(select(vertical, math.inf, root_re), select(vertical, z.im, root_im))


@strict
def sinh(z: ComplexValue) -> ComplexValue:
    """Hyperbolic sine, with C's special cases."""
    sine, cosine = _bounded_sincos(z)
    plain_re, plain_im = hyperbolic.sinh(z.re) * cosine, hyperbolic.cosh(z.re) * sine
    far_re, far_im = _polar(fabs(z.re), cosine, sine)
    far = fabs(z.re) > 25.0
    re = select(far, copysign(_literal(z, 0.5), z.re) * far_re, plain_re)
    im = select(far, 0.5 * far_im, plain_im)
    return ComplexValue(re, select(equal(z.im, 0.0), z.im, im))


@strict
def cosh(z: ComplexValue) -> ComplexValue:
    """Hyperbolic cosine, with C's special cases."""
    sine, cosine = _sincos(z.im)
    plain_re, plain_im = hyperbolic.cosh(z.re) * cosine, hyperbolic.sinh(z.re) * sine
    far_re, far_im = _polar(fabs(z.re), cosine, sine)
    far = fabs(z.re) > 25.0
    re = select(far, 0.5 * far_re, plain_re)
    im = select(far, copysign(_literal(z, 0.5), z.re) * far_im, plain_im)
    # An infinity times 0 is 0 here, and 0 times an infinite or missing angle too.
    flat = equal(z.im, 0.0) | equal(z.re, 0.0)
    product = copysign(_literal(z, 0.0), z.re) * select(is_nan(sine), 0.0, sine)
    im = select(flat, select(equal(z.im, 0.0), copysign(_literal(z, 1.0), z.re) * z.im, product), im)
    wild = isinf(z.re) & ~isfinite(z.im)
    return ComplexValue(select(wild, math.inf, re), im)


def _bounded_sincos(z: ComplexValue) -> tuple[ScalarValue, ScalarValue]:
    """sin and cos of the imaginary part; cos is 1 where the angle is wild and the real part 0 or infinite."""
    sine, cosine = _sincos(z.im)
    unaffected = ~isfinite(z.im) & (equal(z.re, 0.0) | isinf(z.re))
    return sine, select(unaffected, 1.0, cosine)


@strict
def tanh(z: ComplexValue) -> ComplexValue:
    """Hyperbolic tangent. Kahan's formula, as FreeBSD's s_ctanh.c."""
    t = trig.tan(z.im)
    beta = fma(t, t, 1.0)
    s = hyperbolic.sinh(z.re)
    rho = sqrt(fma(s, s, 1.0))
    bottom = fma(beta * s, s, 1.0)
    sine, cosine = _sincos(z.im)
    far = fabs(z.re) > (11.0 if z.re.type == "f32" else 22.0)
    decay = exp_log.exp(-fabs(z.re))
    far_im = 4.0 * sine * cosine * decay * decay
    limit = isinf(z.re)
    far_im = select(isfinite(z.im), far_im, select(limit, copysign(_literal(z, 0.0), z.im), math.nan))
    far_re = select(isfinite(z.im) | limit, copysign(_literal(z, 1.0), z.re), math.nan)
    re = select(far, far_re, beta * rho * s / bottom)
    im = select(far, far_im, t / bottom)
    re = select(equal(z.re, 0.0), z.re, re)
    return ComplexValue(re, select(equal(z.im, 0.0), z.im, im))


@strict
def sin(z: ComplexValue) -> ComplexValue:
    """Sine: -i sinh(iz)."""
    return _over_i(sinh(_times_i(z)))


@strict
def cos(z: ComplexValue) -> ComplexValue:
    """Cosine: cosh(iz)."""
    return cosh(_times_i(z))


@strict
def tan(z: ComplexValue) -> ComplexValue:
    """Tangent: -i tanh(iz)."""
    return _over_i(tanh(_times_i(z)))


_INTEGER_STEPS = 7  # NumPy multiplies for integer exponents below 100, and so uses 7 bits


@strict
def power(a: ComplexValue, b: ComplexValue) -> ComplexValue:
    """a^b as NumPy: by multiplication for real integer exponents below 100, else e^(b log a).

    0^b is 0 for b.re > 0 and nan otherwise, but z^0 is always 1.
    """
    general = exp(multiply(b, log(a)))
    size = fabs(b.re)
    whole = equal(b.im, 0.0) & equal(trunc(b.re), b.re) & (size < 100.0)
    t = a.re.type
    count = bitcast(select(whole, size, 0.0) + 1.5 * 2.0 ** MANTISSA[t], BITS[t])
    product = constant(a.program, 1.0, a.re.type)
    factor = a
    for bit in range(_INTEGER_STEPS):
        product = choose(not_equal(count & (1 << bit), 0), multiply(product, factor), product)
        factor = multiply(factor, factor)
    product = choose(b.re < 0.0, reciprocal(product), product)
    result = choose(whole, product, general)
    zero_base = ~truth(a)
    at_zero = select(b.re > 0.0, _literal(a, 0.0), math.nan)
    result = choose(zero_base, ComplexValue(at_zero, at_zero), result)
    return choose(~truth(b), constant(a.program, 1.0, a.re.type), result)


def logical_not(z: ComplexValue) -> ScalarValue:
    """z is zero."""
    return minmax.logical_not(truth(z))
