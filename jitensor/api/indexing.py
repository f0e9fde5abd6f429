"""Reads and writes at positions that are tensors, choices, masks, sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.api.convert import cast_to, convert_to_tensor, pair, to_tensor, weak
from jitensor.api.shaping import integers, normal_axis, part, shape, sizes_of
from jitensor.api.slicing import checked_index
from jitensor.errors import DTypeError, InvalidArgumentError, ShapeError
from jitensor.ir.types import DType, as_dtype, bool_, int32, int64
from jitensor.ops import TABLE
from jitensor.recording import HostCall, array_constant, bind, located, operation
from jitensor.runtime.signature import TensorSpec
from jitensor.runtime.tensor_shape import TensorShape
from jitensor.tensor import Tensor, active, make_eager


@operation
def select(condition: Any, x: Any, y: Any, name: str | None = None) -> Tensor:
    """x where the condition holds, else y; all three broadcast."""
    mask = condition if isinstance(condition, Tensor) else to_tensor(condition)
    if mask._dtype is not bool_:
        raise DTypeError(f"where: the condition is {mask._text()}; needed bool. Compare it with 0")
    return bind(TABLE["where"], (mask, *pair("where", x, y)))


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """x where the condition holds, else y. Without x and y: the positions of what is not 0, int64 [n, rank]. Mirrors
    tf.where."""
    if x is None and y is None:
        condition = convert_to_tensor(condition)
        rank = None if condition.shape.rank is None else condition.ndim
        return data_shaped("where", _positions, [condition], [TensorSpec([None, rank], int64)])[0]
    if x is None or y is None:
        raise ValueError("where: x and y must both be given, or neither")
    return select(condition, x, y)


def _positions(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    return [np.argwhere(arrays[0]).astype(np.int64)]


def data_shaped(
    name: str,
    run: Callable[[list[Any]], list[np.ndarray[Any, Any]]],
    tensors: Sequence[Tensor],
    specs: Sequence[TensorSpec],
) -> list[Tensor]:
    """An op whose result's shape is data: NumPy runs it, between the kernels before and after it."""
    trace = active.context
    if trace is None:
        return [make_eager(r, s.dtype) for r, s in zip(run([t._data(name) for t in tensors]), specs, strict=True)]
    return trace.host_call(HostCall(name, run, tuple(specs)), tensors)


def boolean_mask(tensor: Any, mask: Any, axis: Any = None, name: str = "boolean_mask") -> Tensor:
    """The slices of the tensor where the mask holds; the mask covers dimensions from `axis` on. Mirrors
    tf.boolean_mask."""
    x, chosen = convert_to_tensor(tensor), convert_to_tensor(mask)
    if chosen._dtype is not bool_:
        raise DTypeError(f"boolean_mask: the mask is {chosen._text()}; needed bool")
    if chosen._sizes is None or x._sizes is None:
        raise ShapeError("boolean_mask: the ranks of tensor and mask must be known")
    first = 0 if axis is None else int(axis)
    covered = x._sizes[first : first + chosen.ndim]
    if not chosen.ndim or not TensorShape.of(covered).is_compatible_with(chosen.shape):
        raise ShapeError(
            f"boolean_mask: x is {x._text()} and the mask {chosen._text()}; they must agree from axis {first} on"
        )
    if x._dtype.kind in "fc" and (active.context is not None or active.tapes):
        return _gathered_mask(x, chosen, first)
    sizes = (*x._sizes[:first], None, *x._sizes[first + chosen.ndim :])

    def run(arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
        values, where_ = arrays
        if values.shape[first : first + where_.ndim] != where_.shape:
            raise InvalidArgumentError(f"boolean_mask: the tensor has shape {values.shape} and the mask {where_.shape}")
        return [np.ascontiguousarray(values[(*(slice(None),) * first, where_)])]

    return data_shaped("boolean_mask", run, [x, chosen], [TensorSpec(sizes, x._dtype)])[0]


def _gathered_mask(x: Tensor, chosen: Tensor, first: int) -> Tensor:
    """boolean_mask as positions and a gather, which has a gradient."""
    last = first + chosen.ndim
    sizes = x._sizes
    assert sizes is not None
    whole = TensorShape.of(sizes[first:last]).is_fully_defined() and chosen.shape.is_fully_defined()

    def run(arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
        mask = arrays[0]
        if not whole and mask.shape != tuple(arrays[1][first:last]):
            raise InvalidArgumentError(
                f"boolean_mask: the tensor has shape {tuple(arrays[1])}, the mask {mask.shape}; they must agree from "
                f"axis {first} on"
            )
        return [np.flatnonzero(mask)]

    operands = [chosen] if whole else [chosen, shape(x)]
    positions = data_shaped("boolean_mask", run, operands, [TensorSpec([None], int64)])[0]
    if chosen.ndim > 1:
        x = _flat_between(x, first, last)
    return _gather_known(x, positions, first)


@operation
def _flat_between(x: Tensor, first: int, last: int) -> Tensor:
    """x with the dimensions from `first` to before `last` as one."""
    sizes = sizes_of(x)
    count = int(np.prod(sizes[first:last]))
    return bind(TABLE["reshape"], (x,), shape=(*sizes[:first], count, *sizes[last:]))


@operation
def _gather_known(x: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Slices at positions that are known to be in range."""
    return bind(TABLE["gather"], (x, positions), axis=axis, mode="clip")


def unique(x: Any, out_idx: Any = int32, name: str | None = None) -> Unique:
    """The distinct elements of a vector in order of first appearance, and which one each element is. Mirrors
    tf.unique."""
    values = convert_to_tensor(x)
    kind = as_dtype(out_idx)
    specs = [TensorSpec([None], values._dtype), TensorSpec(values.shape, kind)]
    return Unique(data_shaped("unique", lambda arrays: _unique(arrays, kind), [values], specs))


class Unique(tuple[Any, ...]):
    """(y, idx)"""

    __slots__ = ()

    @property
    def y(self) -> Tensor:
        return self[0]

    @property
    def idx(self) -> Tensor:
        return self[1]


def _unique(arrays: list[Any], kind: DType) -> list[np.ndarray[Any, Any]]:
    values, first, inverse = np.unique(arrays[0], return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(order.size)
    return [values[order], position[inverse.reshape(-1)].astype(kind.numpy)]


def _index(op: str, indices: Any) -> Tensor:
    index = to_tensor(indices)
    if index._dtype.kind not in "iu":
        raise DTypeError(f"{op}: the indices are {index._text()}; needed integers")
    return index


@operation
def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: Any = None,
    batch_dims: int = 0,
    name: str | None = None,
) -> Tensor:
    """Slices of params at `indices` along `axis`. Mirrors tf.gather."""
    x, index = to_tensor(params), _index("gather", indices)
    if batch_dims:
        return _gather_batched(x, index, axis, batch_dims)
    along = normal_axis("gather", 0 if axis is None else axis, x.ndim)
    index = checked_index("gather", index, sizes_of(x)[along], negative=False)
    return bind(TABLE["gather"], (x, index), axis=along, mode="clip")


def _gather_batched(x: Tensor, index: Tensor, axis: Any, batch_dims: int) -> Tensor:
    along = normal_axis("gather", batch_dims if axis is None else axis, x.ndim)
    if along != batch_dims or sizes_of(x)[:batch_dims] != sizes_of(index)[:batch_dims]:
        raise ShapeError(
            f"gather: params are {x._text()}, indices {index._text()}, batch_dims {batch_dims}; the batch sizes must "
            "be equal, and axis must follow them"
        )
    sizes = sizes_of(index)
    index = checked_index("gather", index, sizes_of(x)[along], negative=False)
    parts = [cast_to(index, int64)]
    for d in range(batch_dims):
        shape = tuple([n if i == d else 1 for i, n in enumerate(sizes)])
        line = bind(TABLE["iota"], (), shape=shape, axis=d, dtype=int64)
        parts.insert(d, bind(TABLE["broadcast_to"], (line,), shape=sizes) if shape != sizes else line)
    return bind(TABLE["index_get"], (x, *parts), axes=tuple(range(batch_dims + 1)))


def _checked_positions(op: str, x: Tensor, index: Tensor) -> Tensor:
    depth = sizes_of(index)[-1] if index.ndim else 0
    if depth > x.ndim:
        raise ShapeError(
            f"{op}: the tensor is {x._text()} and indices {index._text()}; the last size of indices is too large"
        )
    limits = array_constant(np.array(sizes_of(x)[:depth], index._dtype.numpy), index._dtype)
    fits = bind(
        TABLE["logical_and"],
        (bind(TABLE["greater_equal"], (index, weak(0, index._dtype))), bind(TABLE["less"], (index, limits))),
    )
    bind(
        TABLE["check"],
        (fits, index),
        message=located(f"{op}: indices {{0}} out of bounds of shape {sizes_of(x)}"),
        error=InvalidArgumentError,
    )
    return index


@operation
def gather_nd(params: Any, indices: Any, batch_dims: int = 0, name: str | None = None) -> Tensor:
    """Slices of params at the positions in the last dimension of indices. Mirrors tf.gather_nd."""
    x, index = to_tensor(params), _index("gather_nd", indices)
    if batch_dims:
        raise ShapeError("gather_nd: batch_dims other than 0 is not supported; use jt.gather with batch_dims")
    return bind(TABLE["gather_nd"], (x, _checked_positions("gather_nd", x, index)))


@operation
def tensor_scatter_nd_update(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with the slices at `indices` replaced. Mirrors tf.tensor_scatter_nd_update."""
    x, index = to_tensor(tensor), _index("tensor_scatter_nd_update", indices)
    x, values = pair("tensor_scatter_nd_update", x, updates)
    return bind(TABLE["scatter_nd_update"], (x, _checked_positions("tensor_scatter_nd_update", x, index), values))


def _scatter_with(op: str, tensor: Any, indices: Any, updates: Any, negate: bool) -> Tensor:
    x, index = to_tensor(tensor), _index(op, indices)
    x, values = pair(op, x, updates)
    index = cast_to(_checked_positions(op, x, index), int64)
    depth = sizes_of(index)[-1]
    last = index.ndim - 1
    columns = [bind(TABLE["squeeze"], (part(index, last, d, 1),), axes=(last,)) for d in range(depth)]
    if negate:
        values = bind(TABLE["negative"], (values,))
    return bind(TABLE["index_add"], (x, values, *columns), axes=tuple(range(depth)))


@operation
def tensor_scatter_nd_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with updates added at `indices`, repeats included. Mirrors tf.tensor_scatter_nd_add."""
    return _scatter_with("tensor_scatter_nd_add", tensor, indices, updates, False)


@operation
def tensor_scatter_nd_sub(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with updates subtracted at `indices`. Mirrors tf.tensor_scatter_nd_sub."""
    return _scatter_with("tensor_scatter_nd_sub", tensor, indices, updates, True)


@operation
def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor:
    """Zeros with updates added at `indices`. Mirrors tf.scatter_nd."""
    values = to_tensor(updates)
    base = bind(TABLE["full"], (weak(0, values._dtype),), shape=integers(shape))
    return _scatter_with("scatter_nd", base, indices, values, False)


# Slices by begin and size ---------------------------------------------------------------------------------------------


@operation
def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """size[d] elements from begin[d] on in each dimension; -1 means the rest. Mirrors tf.slice."""
    x = to_tensor(input_)
    starts, lengths = integers(begin), integers(size)
    total = sizes_of(x)
    if len(starts) != len(total) or len(lengths) != len(total):
        raise ShapeError(f"slice: x is {x._text()}; begin and size need {len(total)} elements each")
    lengths = tuple([n - s if k == -1 else k for n, s, k in zip(total, starts, lengths, strict=True)])
    if any(s < 0 or k < 0 or s + k > n for n, s, k in zip(total, starts, lengths, strict=True)):
        raise ShapeError(f"slice: x is {x._text()}; begin {starts} and size {lengths} go out of it")
    return x if lengths == total else bind(TABLE["slice"], (x,), starts=starts, sizes=lengths, steps=(1,) * x.ndim)


# Sorting --------------------------------------------------------------------------------------------------------------


def _descending(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ShapeError(f"sort: direction {direction!r} is neither ASCENDING nor DESCENDING")
    return direction == "DESCENDING"


@operation
def sort(values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """Elements in order along `axis`. Mirrors tf.sort."""
    x = to_tensor(values)
    along = normal_axis("sort", axis, x.ndim)
    result = bind(TABLE["sort"], (x,), axis=along)
    n = sizes_of(x)[along]
    return part(result, along, max(n - 1, 0), n, -1) if _descending(direction) else result


@operation
def argsort(
    values: Any, axis: Any = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None
) -> Tensor:
    """int32 positions that sort along `axis`; of equal elements the earlier comes first. Mirrors tf.argsort."""
    x = to_tensor(values)
    along = normal_axis("argsort", axis, x.ndim)
    if not _descending(direction):
        return cast_to(bind(TABLE["argsort"], (x,), axis=along, stable=True), int32)
    n = sizes_of(x)[along]
    turned = part(x, along, max(n - 1, 0), n, -1)
    order = bind(TABLE["argsort"], (turned,), axis=along, stable=True)
    order = bind(TABLE["subtract"], (weak(n - 1, int64), order))
    return cast_to(part(order, along, max(n - 1, 0), n, -1), int32)


class TopK(tuple[Any, ...]):
    """(values, indices)"""

    __slots__ = ()

    @property
    def values(self) -> Tensor:
        return self[0]

    @property
    def indices(self) -> Tensor:
        return self[1]


@operation
def _top_k(x: Any, k: Any) -> tuple[Tensor, Tensor]:
    (count,) = integers(k)
    return bind(TABLE["top_k"], (to_tensor(x),), k=count)


def top_k(input: Any, k: Any = 1, sorted: bool = True, index_type: Any = int32, name: str | None = None) -> TopK:
    """The k largest along the last axis and their positions. Mirrors tf.math.top_k."""
    return TopK(_top_k(input, k))


@operation
def searchsorted(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = int32, name: str | None = None
) -> Tensor:
    """Positions in a sorted vector that keep it sorted. Mirrors tf.searchsorted."""
    x, y = pair("searchsorted", sorted_sequence, values)
    return cast_to(bind(TABLE["searchsorted"], (x, y), side=side), as_dtype(out_type))
