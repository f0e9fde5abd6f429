"""Gradients of arithmetic, powers, extremes, parts of numbers and casts."""

from __future__ import annotations

from typing import Any

from jitensor.ir import types
from jitensor.ops import arithmetic as a
from jitensor.ops import bits, cast, comparison, differentiation, exp_log, rounding
from jitensor.ops.composites import numbers
from jitensor.ops.composites.numbers import Emit
from jitensor.ops.vjps.expression import Expr, Partial, flat, on, rule, unbroadcast, where

power, sign, floor_divide, trunc = on(a.power), on(a.sign), on(a.floor_divide), on(rounding.trunc)
log, ldexp = on(exp_log.log), on(bits.ldexp)
equal, not_equal = on(comparison.equal), on(comparison.not_equal)
greater, greater_equal, less, less_equal = (
    on(p) for p in (comparison.greater, comparison.greater_equal, comparison.less, comparison.less_equal)
)
isnan, signbit, logical_or = on(comparison.isnan), on(comparison.signbit), on(comparison.logical_or)
real, imag, make_complex = on(cast.real), on(cast.imag), on(cast.make_complex)


def as_dtype(x: Expr, dtype: types.DType) -> Expr:
    return Expr(x.emit, numbers.cast(x.emit, x.value, dtype))


rule(a.add, lambda g, y, p, q: g, lambda g, y, p, q: g)
rule(a.subtract, lambda g, y, p, q: g, lambda g, y, p, q: -g)
rule(a.multiply, lambda g, y, p, q: g * q.conj, lambda g, y, p, q: g * p.conj)
rule(a.divide, lambda g, y, p, q: g / q.conj, lambda g, y, p, q: -(g / q.conj * y.conj))  # one division for both
rule(a.remainder, lambda g, y, p, q: g, lambda g, y, p, q: -(g * floor_divide(p, q)))
rule(a.fmod, lambda g, y, p, q: g, lambda g, y, p, q: -(g * trunc(p / q)))
rule(a.negative, lambda g, y, x: -g)
rule(a.positive, lambda g, y, x: g)
rule(a.conjugate, lambda g, y, x: g.conj)
rule(a.square, lambda g, y, x: g * (x.conj * 2))
rule(a.reciprocal, lambda g, y, x: -(g * (y * y).conj))
rule(a.sqrt, lambda g, y, x: g / (y.conj * 2))
rule(a.cbrt, lambda g, y, x: g / (y * y * 3))
flat(a.floor_divide, rounding.floor, rounding.ceil, rounding.trunc, rounding.rint, rounding.modf_integral)
flat(bits.spacing, differentiation.stop_gradient)


def _hypot_part(g: Expr, y: Expr, part: Expr) -> Expr:
    """part / y, and 0 at the origin."""
    return g * (part / where(equal(y, 0), 1, y))


rule(a.hypot, lambda g, y, p, q: _hypot_part(g, y, p), lambda g, y, p, q: _hypot_part(g, y, q))


# Signs ----------------------------------------------------------------------------------------------------------------


def _absolute(g: Expr, y: Expr, x: Expr) -> Expr:
    return as_dtype(g, x.dtype) * sign(x)


def _sign(g: Expr, y: Expr, x: Expr) -> Expr:
    """0, as in TensorFlow, which is not "unconnected"; of z / |z| the part of g across z."""
    if not x.is_complex:
        return x.zeros()
    size = on(a.absolute)(x)
    along = as_dtype(real(y.conj * g), x.dtype)
    return (g - y * along) / as_dtype(where(equal(size, 0), 1, size), x.dtype)


rule(a.absolute, _absolute)
rule(a.fabs, lambda g, y, x: g * sign(x))
rule(a.sign, _sign)
rule(bits.copysign, lambda g, y, p, q: where(equal(signbit(p), signbit(q)), g, -g), lambda g, y, p, q: q.zeros())
rule(a.heaviside, None, lambda g, y, p, q: where(equal(p, 0), g, 0))


# Powers ---------------------------------------------------------------------------------------------------------------


def _of_base(g: Expr, y: Expr, x: Expr, n: Expr) -> Expr:
    """n * x**(n - 1), and 0 where n is 0, at x = 0 too."""
    less_one = where(equal(n, 0), 1, n - 1)
    return g * (n * power(x, less_one)).conj


def _of_exponent(g: Expr, y: Expr, x: Expr, n: Expr) -> Expr:
    """y * log(x), and 0 where x has no logarithm."""
    valid = not_equal(x, 0) if x.is_complex else greater(x, 0)
    return g * (y * where(valid, log(where(valid, x, 1)), 0)).conj


def _of_base_literal(g: Expr, x: Expr, n: Any) -> Expr:
    """As `_of_base`, with the exponent known: the constant n - 1 lets a pass make products of small powers."""
    if n == 0:
        return x.zeros()
    if n == 1:
        return g
    return g * ((x if n == 2 else power(x, (n - 1).item())) * n.item()).conj


def _power_vjp(
    emit: Emit, g: Any, outputs: tuple[Any, ...], inputs: tuple[Any, ...], literals: dict[int, Any]
) -> tuple[Any, ...]:
    formula = [Expr(emit, v) for v in (g, outputs[0], *inputs)]
    n = literals.get(1)

    def of_base() -> Any:
        if n is None:
            return unbroadcast(emit, _of_base(*formula).value, inputs[0].type)
        return unbroadcast(emit, _of_base_literal(formula[0], formula[2], n).value, inputs[0].type)

    return of_base, lambda: unbroadcast(emit, _of_exponent(*formula).value, inputs[1].type)


a.power.vjp = _power_vjp
rule(a.float_power, _of_base, _of_exponent)


# Extremes -------------------------------------------------------------------------------------------------------------


def _chosen(relation: Any) -> tuple[Partial, Partial]:
    """The operand that the relation chooses gets the cotangent; the first one at a tie, as in TensorFlow."""
    return (
        lambda g, y, p, q: where(relation(p, q), g, 0),
        lambda g, y, p, q: where(relation(p, q), 0, g),
    )


def _number_chosen(relation: Any) -> tuple[Partial, Partial]:
    """As `_chosen`, but a nan on the right leaves the choice to the left operand."""
    return _chosen(lambda p, q: logical_or(relation(p, q), isnan(q)))


rule(a.maximum, *_chosen(greater_equal))
rule(a.minimum, *_chosen(less_equal))
rule(a.fmax, *_number_chosen(greater_equal))
rule(a.fmin, *_number_chosen(less_equal))


def _above(x: Expr, low: Expr, high: Expr) -> Expr:
    return greater(on(a.maximum)(x, low), high)


rule(
    a.clip,
    lambda g, y, x, low, high: where(logical_or(less(x, low), _above(x, low, high)), 0, g),
    lambda g, y, x, low, high: where(_above(x, low, high), 0, where(less(x, low), g, 0)),
    lambda g, y, x, low, high: where(_above(x, low, high), g, 0),
)
rule(comparison.where, None, lambda g, y, c, p, q: where(c, g, 0), lambda g, y, c, p, q: where(c, 0, g))


# Bits of floats -------------------------------------------------------------------------------------------------------

rule(bits.nextafter, lambda g, y, p, q: g, lambda g, y, p, q: q.zeros())
rule(bits.ldexp, lambda g, y, x, n: ldexp(g, n), None)
rule(bits.frexp_mantissa, lambda g, y, x: ldexp(g, -on(bits.frexp_exponent)(x)))
rule(rounding.modf_fraction, lambda g, y, x: g)


# Parts and casts ------------------------------------------------------------------------------------------------------


def _imag(g: Expr, y: Expr, x: Expr) -> Expr:
    return make_complex(g.zeros(), g) if x.is_complex else x.zeros()


rule(cast.real, lambda g, y, x: as_dtype(g, x.dtype))
rule(cast.imag, _imag)
rule(cast.make_complex, lambda g, y, p, q: real(g), lambda g, y, p, q: imag(g))


def _cast_vjp(
    emit: Emit, g: Any, outputs: tuple[Any, ...], inputs: tuple[Any, ...], dtype: types.DType
) -> tuple[Any, ...]:
    return (lambda: numbers.cast(emit, g, inputs[0].type.dtype),)


cast.cast.vjp = _cast_vjp
