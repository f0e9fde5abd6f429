"""`x[...]`: slices, single indices, newaxis, ellipsis, and tensors as bounds. Index arrays are gather's, as in
TensorFlow."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from jitensor.api.convert import to_tensor
from jitensor.errors import InvalidArgumentError, ShapeError
from jitensor.ops import TABLE
from jitensor.recording import bind, elements_of, located, operation
from jitensor.tensor import Tensor, make_eager


def get_item(x: Any, key: Any) -> Any:
    """Basic indexing. Raises TypeError for index lists and arrays."""
    items = key if isinstance(key, tuple) else (key,)
    for item in items:
        _check_item(item)
    return strided_slice(x, items)


def _check_item(item: Any) -> None:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return
    if isinstance(item, Tensor) and item._dtype.kind in "iu" and (item._sizes is None or not item._sizes):
        return
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return
    if isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind in "iu":
        return
    raise TypeError(
        "Only integers, slices (`:`), ellipsis (`...`), jt.newaxis (`None`) and scalar integer tensors are valid "
        f"indices, got {item!r}. Use jt.gather, jt.gather_nd or jt.boolean_mask"
    )


@operation
def strided_slice(x: Tensor, items: tuple[Any, ...]) -> Tensor:
    """The part of x that the items of a subscript select."""
    if not isinstance(x, Tensor):
        x = to_tensor(x)
    if x._dtype.kind == "S":
        return _slice_strings(x, items)
    dynamic = _one_tensor_index(x, items)
    if dynamic is not None:
        return dynamic
    sizes: tuple[int, ...] = x._sizes  # type: ignore[assignment]
    starts: list[int] = []
    lengths: list[int] = []
    steps: list[int] = []
    dropped: list[int] = []
    added: list[int] = []
    axis = 0
    for item in _expanded(items, len(sizes)):
        if item is None:
            added.append(axis + len(added) - len(dropped))
            continue
        start, length, step = _bounds(item, sizes[axis], axis)
        starts.append(start)
        lengths.append(length)
        steps.append(step)
        if not isinstance(item, slice):
            dropped.append(axis)
        axis += 1
    result = x
    if tuple(lengths) != sizes or any(s != 1 for s in steps):
        result = bind(TABLE["slice"], (x,), starts=tuple(starts), sizes=tuple(lengths), steps=tuple(steps))
    if dropped:
        result = bind(TABLE["squeeze"], (result,), axes=tuple(dropped))
    return bind(TABLE["expand_dims"], (result,), axes=tuple(added)) if added else result


def _expanded(items: tuple[Any, ...], rank: int) -> list[Any]:
    """Items without ellipsis, one per dimension, Nones besides."""
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
    if used > rank:
        raise ShapeError(f"slice: {used} indices for a tensor of {rank} dimensions")
    full = [slice(None)] * (rank - used)
    result: list[Any] = []
    seen = False
    for item in items:
        if item is Ellipsis:
            if seen:
                raise ShapeError("slice: more than one ellipsis")
            seen = True
            result.extend(full)
        else:
            result.append(item)
    return result if seen else result + full


def _bounds(item: Any, size: int, axis: int) -> tuple[int, int, int]:
    """(start, length, step), everything in range."""
    if isinstance(item, slice):
        parts = [None if p is None else _integer(p) for p in (item.start, item.stop, item.step)]
        if parts[2] == 0:
            raise ShapeError("slice: the step must not be 0")
        start, stop, step = slice(*parts).indices(size)
        length = len(range(start, stop, step))
        return (start if length else 0), length, step
    index = _integer(item)
    if not -size <= index < size:
        raise ShapeError(f"slice index {index} of dimension {axis} out of bounds: its size is {size}")
    return index % size, 1, 1


def _integer(value: Any) -> int:
    return int(elements_of(value)) if isinstance(value, Tensor) else operator.index(value)


def _one_tensor_index(x: Tensor, items: tuple[Any, ...]) -> Tensor | None:
    """`x[i]` with a tensor i among whole slices and Python integers: a gather, whose index is data."""
    tensors = [i for i in items if isinstance(i, Tensor)]
    if len(tensors) != 1 or any(isinstance(i, slice) and i != slice(None) or i is None or i is Ellipsis for i in items):
        return None
    index = tensors[0]
    axis = next(d for d, i in enumerate(items) if i is index)
    if len(items) > x.ndim:
        raise ShapeError(f"slice: {len(items)} indices for a tensor of {x.ndim} dimensions")
    index = checked_index("slice", index, x.shape[axis])
    result = bind(TABLE["gather"], (x, index), axis=axis, mode="clip")
    rest = tuple(slice(None) if i is items[axis] else i for i in items if i is not items[axis])
    return strided_slice(result, rest) if rest else result


def checked_index(op: str, index: Tensor, size: int, negative: bool = True) -> Tensor:
    """The index with a check that each element is in range; negative ones count from the end where `negative`."""
    zero, end = to_tensor(0, index._dtype), to_tensor(size, index._dtype)
    below = to_tensor(-size if negative else 0, index._dtype)
    fits = bind(TABLE["logical_and"], (bind(TABLE["greater_equal"], (index, below)), bind(TABLE["less"], (index, end))))
    bind(
        TABLE["check"],
        (fits, index),
        message=located(f"{op}: index {{0}} out of bounds: the size is {size}"),
        error=InvalidArgumentError,
    )
    if not negative:
        return index
    wrapped = bind(TABLE["add"], (index, end))
    return bind(TABLE["where"], (bind(TABLE["less"], (index, zero)), wrapped, index))


def _slice_strings(x: Tensor, items: tuple[Any, ...]) -> Tensor:
    index = tuple(int(elements_of(i)) if isinstance(i, Tensor) else i for i in items)
    array = np.empty((), object)
    picked = x._data("slicing")[index]
    if isinstance(picked, np.ndarray):
        return make_eager(picked.copy(), x._dtype)
    array[()] = picked
    return make_eager(array, x._dtype)


def sliced_update(x: Any, key: Any, value: Any) -> Tensor:
    """x with the part that a subscript selects replaced by `value`, which broadcasts to it."""
    items = key if isinstance(key, tuple) else (key,)
    for item in items:
        _check_item(item)
    return strided_slice_update(x, items, value)


@operation
def strided_slice_update(x: Any, items: tuple[Any, ...], value: Any) -> Tensor:
    """x with the part that the items of a subscript select replaced by `value`, which broadcasts to it."""
    x, value = to_tensor(x), to_tensor(value)
    sizes: tuple[int, ...] = x._sizes
    bounds, shown = [], []
    axis = 0
    for item in _expanded(items, len(sizes)):
        if item is None:
            shown.append(1)
            continue
        bounds.append(_bounds(item, sizes[axis], axis))
        if isinstance(item, slice):
            shown.append(bounds[-1][1])
        axis += 1
    starts, lengths, steps = ([b[i] for b in bounds] for i in range(3))
    if value._sizes != tuple(shown):
        value = bind(TABLE["broadcast_to"], (value,), shape=tuple(shown))
    if value._sizes != tuple(lengths):
        value = bind(TABLE["reshape"], (value,), shape=tuple(lengths))
    return bind(TABLE["update_slice"], (x, value), starts=tuple(starts), sizes=tuple(lengths), steps=tuple(steps))
