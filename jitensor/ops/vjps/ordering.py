"""Gradients of sorting and repeating: each result is some element, whose position gets the cotangent."""

from __future__ import annotations

from typing import Any

from jitensor.ir import types
from jitensor.ir.types import TensorType
from jitensor.ops import indexing, ordering, structure
from jitensor.ops.composites import layout
from jitensor.ops.composites.numbers import Emit
from jitensor.ops.vjps.expression import zeros_like
from jitensor.ops.vjps.indexing import add_along

Values = tuple[Any, ...]


def _sort(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int) -> Values:
    def cotangent() -> Any:
        positions = emit(ordering.argsort, inputs[0], axis=axis, stable=True)
        return add_along(emit, inputs[0].type, g, positions, axis)

    return (cotangent,)


def _top_k(emit: Emit, g: Values, outputs: Values, inputs: Values, k: int) -> Values:
    x = inputs[0].type
    return (None if g[0] is None else lambda: add_along(emit, x, g[0], outputs[1], x.rank - 1),)


def _unique(emit: Emit, g: Values, outputs: Values, inputs: Values, size: str) -> Values:
    """Each value is the element where it came first."""
    x = inputs[0].type

    def cotangent() -> Any:
        flat = TensorType(x.dtype, outputs[2].type.shape)
        total = emit(indexing.index_add, zeros_like(emit, flat), g[0], outputs[1], axes=(0,))
        return layout.reshape(emit, total, x.shape)

    return (None if g[0] is None else cotangent,)


def _repeat_each(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int, size: str) -> Values:
    x, repeats = inputs

    def cotangent() -> Any:
        line = emit(structure.iota, shape=(x.type.shape[axis],), axis=0, dtype=types.int64)
        origin = emit(ordering.repeat_each, line, repeats, axis=0, size=size)
        return emit(indexing.index_add, zeros_like(emit, x.type), g, origin, axes=(axis,))

    return cotangent, None


ordering.sort.vjp = _sort
ordering.top_k.vjp = _top_k
ordering.unique.vjp = _unique
ordering.repeat_each.vjp = _repeat_each
