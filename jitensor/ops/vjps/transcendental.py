"""Gradients of exponentials, logarithms, angles and special functions, each in the form that keeps its digits."""

from __future__ import annotations

import math

from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, exp_log, special, trig
from jitensor.ops.vjps.arithmetic import as_dtype
from jitensor.ops.vjps.expression import Expr, on, rule, where

exp, sigmoid, square, sqrt, hypot = on(exp_log.exp), on(exp_log.sigmoid), on(a.square), on(a.sqrt), on(a.hypot)
sin, cos, sinh, cosh = on(trig.sin), on(trig.cos), on(trig.sinh), on(trig.cosh)
xlogy, xlog1py = on(special.xlogy), on(special.xlog1py)
_LN2, _LN10 = math.log(2), math.log(10)
_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

rule(exp_log.exp, lambda g, y, x: g * y.conj)
rule(exp_log.exp2, lambda g, y, x: g * (y * _LN2).conj)
rule(exp_log.expm1, lambda g, y, x: g * exp(x).conj)  # y + 1 has lost its digits far below 0
rule(exp_log.log, lambda g, y, x: g / x.conj)
rule(exp_log.log2, lambda g, y, x: g / (x * _LN2).conj)
rule(exp_log.log10, lambda g, y, x: g / (x * _LN10).conj)
rule(exp_log.log1p, lambda g, y, x: g / (x + 1).conj)
rule(exp_log.sigmoid, lambda g, y, x: g * (y * (1 - y)))
rule(exp_log.logaddexp, lambda g, y, p, q: g * sigmoid(p - q), lambda g, y, p, q: g * sigmoid(q - p))
rule(
    exp_log.logaddexp2,
    lambda g, y, p, q: g * sigmoid((p - q) * _LN2),
    lambda g, y, p, q: g * sigmoid((q - p) * _LN2),
)


# Angles ---------------------------------------------------------------------------------------------------------------


def _leg(x: Expr) -> Expr:
    """sqrt(1 - x*x), exact near 1."""
    return sqrt((1 - x) * (x + 1))


def _asinh_slope(x: Expr) -> Expr:
    return sqrt(square(x) + 1) if x.is_complex else hypot(x, 1)


def _squared_radius(p: Expr, q: Expr) -> Expr:
    return square(p) + square(q)


rule(trig.sin, lambda g, y, x: g * cos(x).conj)
rule(trig.cos, lambda g, y, x: -(g * sin(x).conj))
rule(trig.tan, lambda g, y, x: g * (square(y) + 1).conj)
rule(trig.arcsin, lambda g, y, x: g / _leg(x).conj)
rule(trig.arccos, lambda g, y, x: -(g / _leg(x).conj))
rule(trig.arctan, lambda g, y, x: g / (square(x) + 1).conj)
rule(trig.sinh, lambda g, y, x: g * cosh(x).conj)
rule(trig.cosh, lambda g, y, x: g * sinh(x).conj)
rule(trig.tanh, lambda g, y, x: g * (1 - square(y)).conj)
rule(trig.arcsinh, lambda g, y, x: g / _asinh_slope(x).conj)
rule(trig.arccosh, lambda g, y, x: g / (sqrt(x - 1) * sqrt(x + 1)).conj)  # as one root it would leave the branch
rule(trig.arctanh, lambda g, y, x: g / ((1 - x) * (x + 1)).conj)
rule(
    trig.arctan2,
    lambda g, y, p, q: g / _squared_radius(p, q) * q,
    lambda g, y, p, q: -(g / _squared_radius(p, q) * p),
)
rule(trig.degrees, lambda g, y, x: on(trig.degrees)(g))
rule(trig.radians, lambda g, y, x: on(trig.radians)(g))


# Special functions ----------------------------------------------------------------------------------------------------


def _bell(g: Expr, x: Expr) -> Expr:
    return g * (exp(-square(x)) * _TWO_OVER_ROOT_PI)


def _is_not_zero(x: Expr) -> Expr:
    return as_dtype(on(comparison.not_equal)(x, 0), x.dtype)


def _x_over(x: Expr, y: Expr) -> Expr:
    """x / y, and 0 where x is 0."""
    zero = on(comparison.equal)(x, 0)
    return where(zero, 0, x / where(zero, 1, y))


rule(special.erf, lambda g, y, x: _bell(g, x))
rule(special.erfc, lambda g, y, x: -_bell(g, x))
rule(special.xlogy, lambda g, y, p, q: g * xlogy(_is_not_zero(p), q), lambda g, y, p, q: g * _x_over(p, q))
rule(special.xlog1py, lambda g, y, p, q: g * xlog1py(_is_not_zero(p), q), lambda g, y, p, q: g * _x_over(p, q + 1))
