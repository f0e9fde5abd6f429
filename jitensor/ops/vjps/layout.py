"""Gradients of views, joins, overwrites and fills: the cotangent goes back the way that the elements came."""

from __future__ import annotations

from typing import Any

from jitensor.ir.dims import Dim
from jitensor.ir.types import Shape
from jitensor.ops import movement, reductions, structure
from jitensor.ops.arithmetic import add as addition
from jitensor.ops.composites import layout
from jitensor.ops.composites.numbers import Axes, Emit
from jitensor.ops.vjps.expression import Onto, unbroadcast, zeros_like

Values = tuple[Any, ...]


def _transpose(emit: Emit, g: Any, outputs: Values, inputs: Values, perm: Axes) -> Values:
    return (lambda: emit(movement.transpose, g, perm=tuple(perm.index(d) for d in range(len(perm)))),)


def _expand_dims(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    return (lambda: emit(movement.squeeze, g, axes=axes),)


def _squeeze(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    return (lambda: emit(movement.expand_dims, g, axes=axes),)


def _broadcast_to(emit: Emit, g: Any, outputs: Values, inputs: Values, shape: Shape) -> Values:
    return (lambda: unbroadcast(emit, g, inputs[0].type),)


def _reshape(emit: Emit, g: Any, outputs: Values, inputs: Values, shape: Shape) -> Values:
    return (lambda: emit(movement.reshape, g, shape=inputs[0].type.shape),)


def _slice(emit: Emit, g: Any, outputs: Values, inputs: Values, **region: Any) -> Values:
    def add(total: Any) -> Any:
        return emit(structure.update_slice, total, emit(addition, emit(movement.slice_, total, **region), g), **region)

    return (Onto(lambda: emit(structure.update_slice, zeros_like(emit, inputs[0].type), g, **region), add),)


def _update_slice(emit: Emit, g: Any, outputs: Values, inputs: Values, **region: Any) -> Values:
    return (
        lambda: emit(structure.update_slice, g, zeros_like(emit, inputs[1].type), **region),
        lambda: emit(movement.slice_, g, **region),
    )


def _concatenate(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int) -> Values:
    starts: list[int | Dim] = [0]
    for part in inputs:
        starts.append(starts[-1] + part.type.shape[axis])
    return tuple(
        lambda start=start, part=part: layout.slice_axis(emit, g, axis, start, part.type.shape[axis])
        for start, part in zip(starts, inputs, strict=False)
    )


def _full(emit: Emit, g: Any, outputs: Values, inputs: Values, shape: Shape) -> Values:
    axes = tuple(range(len(shape)))
    return (lambda: emit(reductions.reduce_sum, g, axes=axes) if axes else g,)


movement.transpose.vjp = _transpose
movement.expand_dims.vjp = _expand_dims
movement.squeeze.vjp = _squeeze
movement.broadcast_to.vjp = _broadcast_to
movement.slice_.vjp = _slice
movement.reshape.vjp = _reshape
structure.update_slice.vjp = _update_slice
structure.concatenate.vjp = _concatenate
structure.full.vjp = _full
