"""Gradients of reductions and of running sums, products and extremes."""

from __future__ import annotations

from typing import Any

from jitensor.ir import types
from jitensor.ops import comparison, movement, ordering, reductions, structure
from jitensor.ops.composites import layout
from jitensor.ops.composites.numbers import Axes, Emit
from jitensor.ops.vjps.arithmetic import as_dtype
from jitensor.ops.vjps.expression import Expr, on, where
from jitensor.ops.vjps.indexing import add_along

Values = tuple[Any, ...]
equal, logical_and = on(comparison.equal), on(comparison.logical_and)


def _kept(reduced: Expr, axes: Axes) -> Expr:
    """With the reduced dimensions, of size 1, so that it broadcasts against the operand."""
    return on(movement.expand_dims)(reduced, axes=axes)


def _sum(x: Expr, axes: Axes) -> Expr:
    return on(reductions.reduce_sum)(x, axes=axes)


def _sum_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    return (lambda: layout.broadcast_to(emit, _kept(Expr(emit, g), axes).value, inputs[0].type.shape),)


def _extreme_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    """Elements that tie share the cotangent, as in TensorFlow."""

    def cotangent() -> Any:
        x = Expr(emit, inputs[0])
        hits = as_dtype(equal(x, _kept(Expr(emit, outputs[0]), axes)), x.dtype)
        share = Expr(emit, g) / _sum(hits, axes)
        return (hits * _kept(share, axes)).value

    return (cotangent,)


def _prod_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    """The product of the others: y / x, and without division where x is 0. The factor left over from two zeros is 0,
    but has a slope of its own."""

    def cotangent() -> Any:
        x = Expr(emit, inputs[0])
        is_zero = equal(x, 0)
        safe = where(is_zero, 1, x)
        others = on(reductions.reduce_prod)(safe, axes=axes)
        zeros = _sum(as_dtype(is_zero, types.int64), axes)
        rest = _sum(where(is_zero, x, 0), axes)
        second = where(_kept(equal(zeros, 2), axes), _kept(others, axes) * (_kept(rest, axes) - x), 0)
        at_zero = where(_kept(equal(zeros, 1), axes), _kept(others, axes), second)
        partial = where(is_zero, at_zero, _kept(Expr(emit, outputs[0]), axes) / safe)
        return (_kept(Expr(emit, g), axes) * partial.conj).value

    return (cotangent,)


reductions.reduce_sum.vjp = _sum_vjp
reductions.reduce_prod.vjp = _prod_vjp
reductions.reduce_max.vjp = _extreme_vjp
reductions.reduce_min.vjp = _extreme_vjp


# Running --------------------------------------------------------------------------------------------------------------


def _sum_from_end(x: Expr, axis: int) -> Expr:
    back = layout.flip(x.emit, x.value, (axis,))
    return Expr(x.emit, layout.flip(x.emit, x.emit(ordering.cumsum, back, axis=axis), (axis,)))


def _cumsum_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int) -> Values:
    return (lambda: _sum_from_end(Expr(emit, g), axis).value,)


def _cumprod_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int) -> Values:
    """Each result after x has x as a factor: their sum over x. At the first zero the results are made again with 1 in
    its place; behind it every product is 0."""

    def cotangent() -> Any:
        x, y = Expr(emit, inputs[0]), Expr(emit, outputs[0])
        is_zero = equal(x, 0)
        zeros = on(ordering.cumsum)(as_dtype(is_zero, types.int64), axis=axis)
        is_first = logical_and(is_zero, equal(zeros, 1))
        others = on(ordering.cumprod)(where(is_first, 1, x), axis=axis)
        at_first = where(is_first, _sum_from_end(Expr(emit, g) * others.conj, axis), 0)
        elsewhere = _sum_from_end(Expr(emit, g) * y.conj, axis) / where(is_zero, 1, x).conj
        return where(is_zero, at_first, elsewhere).value

    return (cotangent,)


def _running_extreme_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int) -> Values:
    """Every result is an earlier element: the one where the extreme last changed."""

    def cotangent() -> Any:
        x, y = Expr(emit, inputs[0]), Expr(emit, outputs[0])
        n = x.type.shape[axis]
        line = Expr(emit, emit(structure.iota, shape=x.type.shape, axis=axis, dtype=types.int64))
        before = layout.slice_axis(emit, y.value, axis, 0, n - 1)
        start = layout.slice_axis(emit, y.value, axis, 0, 1)
        changed = on(comparison.not_equal)(y, Expr(emit, layout.concatenate(emit, [start, before], axis)))
        position = on(ordering.cummax)(where(changed, line, 0), axis=axis)
        return add_along(emit, x.type, g, position.value, axis)

    return (cotangent,)


ordering.cumsum.vjp = _cumsum_vjp
ordering.cumprod.vjp = _cumprod_vjp
ordering.cummax.vjp = _running_extreme_vjp
ordering.cummin.vjp = _running_extreme_vjp
