"""Gradients of reads and writes at positions: what was read from is added to, what was overwritten gets 0."""

from __future__ import annotations

import itertools
from typing import Any

from jitensor.ir import dims, types
from jitensor.ir.dims import Dim
from jitensor.ir.types import Shape, TensorType
from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, indexing, movement, reductions, structure
from jitensor.ops.composites import layout
from jitensor.ops.composites.numbers import Axes, Emit, cast, constant, size_as
from jitensor.ops.vjps.expression import Expr, Onto, unbroadcast, where, zeros_like

Values = tuple[Any, ...]
_fresh = itertools.count()


def along(emit: Emit, positions: Any, axis: int) -> Values:
    """One index array per dimension, for `positions` along `axis` and each element's own place in the others."""
    shape = positions.type.shape
    return tuple(
        positions if d == axis else emit(structure.iota, shape=shape, axis=d, dtype=types.int64)
        for d in range(len(shape))
    )


def add_along(emit: Emit, type: TensorType, g: Any, positions: Any, axis: int) -> Any:
    """Zeros of `type` to which each element of g is added at its position along `axis`."""
    index = along(emit, positions, axis)
    return emit(indexing.index_add, zeros_like(emit, type), g, *index, axes=tuple(range(type.rank)))


# Reads ----------------------------------------------------------------------------------------------------------------


def _in_range(emit: Emit, indices: Any, size: int | Dim, mode: str) -> Any:
    """The indices that a mode other than "raise" reads at."""
    if mode == "raise":
        return indices
    indices = cast(emit, indices, types.int64)
    if mode == "wrap":
        return emit(a.remainder, indices, size_as(emit, size, types.int64))
    return emit(a.clip, indices, constant(emit, 0, types.int64), size_as(emit, size - 1, types.int64))


def _gather(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int, mode: str) -> Values:
    x, indices = inputs

    def add(total: Any) -> Any:
        at = _in_range(emit, indices, x.type.shape[axis], mode)
        return emit(indexing.index_add, total, g, at, axes=(axis,))

    return Onto(lambda: add(zeros_like(emit, x.type)), add), None


def _index_get(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    x, *indices = inputs

    def add(total: Any) -> Any:
        return emit(indexing.index_add, total, g, *indices, axes=axes)

    return Onto(lambda: add(zeros_like(emit, x.type)), add), *(None for _ in indices)


def _columns(emit: Emit, indices: Any) -> Values:
    """The last dimension of `indices` taken apart: one index array per dimension that it points into."""
    last = indices.type.rank - 1
    depth = dims.known(indices.type.shape[-1], "gather_nd: the index depth")
    columns = [layout.slice_axis(emit, indices, last, i, 1) for i in range(depth)]
    return tuple(emit(movement.squeeze, c, axes=(last,)) for c in columns)


def _gather_nd(emit: Emit, g: Any, outputs: Values, inputs: Values) -> Values:
    x, indices = inputs

    if dims.same(indices.type.shape[-1], 0):
        return lambda: unbroadcast(emit, g, x.type), None

    def add(total: Any) -> Any:
        columns = _columns(emit, indices)
        return emit(indexing.index_add, total, g, *columns, axes=tuple(range(len(columns))))

    return Onto(lambda: add(zeros_like(emit, x.type)), add), None


# Writes ---------------------------------------------------------------------------------------------------------------


def _index_put(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    x, value, *indices = inputs

    def of_value() -> Any:
        picked = emit(indexing.index_get, g, *indices, axes=axes)
        wins = _written_last(emit, x.type, picked.type.shape, indices, axes)
        return unbroadcast(emit, where(wins, Expr(emit, picked), 0).value, value.type)

    zero = constant(emit, 0, x.type.dtype)
    return lambda: emit(indexing.index_put, g, zero, *indices, axes=axes), of_value, *(None for _ in indices)


def _written_last(emit: Emit, type: TensorType, shape: Shape, indices: list[Any], axes: Axes) -> Expr:
    """Which of the values written are still there afterwards: where positions repeat, the last one."""
    line = emit(structure.iota, shape=(dims.product(shape),), axis=0, dtype=types.int64)
    stamps = layout.reshape(emit, line, shape)
    blank = zeros_like(emit, TensorType(types.int64, type.shape))
    written = emit(indexing.index_put, blank, stamps, *indices, axes=axes)
    return Expr(emit, emit(comparison.equal, emit(indexing.index_get, written, *indices, axes=axes), stamps))


def _index_add(emit: Emit, g: Any, outputs: Values, inputs: Values, axes: Axes) -> Values:
    _, value, *indices = inputs
    return (
        lambda: g,
        lambda: unbroadcast(emit, emit(indexing.index_get, g, *indices, axes=axes), value.type),
        *(None for _ in indices),
    )


def _scatter_nd_update(emit: Emit, g: Any, outputs: Values, inputs: Values) -> Values:
    """As in TensorFlow, every update gets the cotangent at its position, where positions repeat too."""
    _, indices, value = inputs
    return (
        lambda: emit(indexing.scatter_nd_update, g, indices, zeros_like(emit, value.type)),
        None,
        lambda: emit(indexing.gather_nd, g, indices),
    )


# Masks ----------------------------------------------------------------------------------------------------------------


def _boolean_mask(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int, size: str) -> Values:
    x, mask = inputs
    return lambda: emit(indexing.mask_put, zeros_like(emit, x.type), mask, g, axis=axis), None


def _mask_put(emit: Emit, g: Any, outputs: Values, inputs: Values, axis: int) -> Values:
    x, mask, value = inputs
    zero = constant(emit, 0, x.type.dtype)

    def of_value() -> Any:
        if value.type.rank == 0:
            spread = layout.reshape(emit, mask, (*mask.type.shape, *(1,) * (x.type.rank - axis - mask.type.rank)))
            kept = where(Expr(emit, spread), Expr(emit, g), 0).value
            return emit(reductions.reduce_sum, kept, axes=tuple(range(x.type.rank)))
        picked = emit(indexing.mask_get, g, mask, axis=axis, size=_size_name(x.type, mask.type, value.type, axis))
        return unbroadcast(emit, picked, value.type)

    return lambda: emit(indexing.mask_put, g, mask, zero, axis=axis), None, of_value


def _size_name(x: TensorType, mask: TensorType, value: TensorType, axis: int) -> str:
    """The symbol for the number of elements under the mask: the value's own size where that is one."""
    place = x.rank - axis - mask.rank + 1  # counted from the end
    size = value.shape[-place] if value.rank >= place else 1
    if isinstance(size, Dim) and len(size.symbols) == 1:
        (name,) = size.symbols
        if size == dims.symbol(name):
            return name
    return f"masked{next(_fresh)}"


indexing.gather.vjp = _gather
indexing.index_get.vjp = _index_get
indexing.gather_nd.vjp = _gather_nd
indexing.index_put.vjp = _index_put
indexing.index_add.vjp = _index_add
indexing.scatter_nd_update.vjp = _scatter_nd_update
indexing.mask_get.vjp = _boolean_mask
indexing.mask_put.vjp = _mask_put
