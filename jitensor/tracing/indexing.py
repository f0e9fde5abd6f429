"""Indexing of traced arrays: integers, slices, newaxis and ellipsis as views; masks and index arrays where sizes allow.

Owns the resolution of an index against symbolic sizes, with NumPy's IndexError texts. Must not know NumPy's functions.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.ir.dims import Dim, opaque
from jitensor.ops import TABLE
from jitensor.tracing.arrays import (
    Layout,
    Tracer,
    any_traced,
    as_tracer,
    broadcast_to,
    concrete,
    expand_dims,
    fresh,
    slice_view,
    squeeze,
    write,
)
from jitensor.tracing.context import TraceContext
from jitensor.tracing.numbers import IntNumber, Number
from jitensor.tracing.ufuncs import assign, cast, fit, supported

Size = int | Dim


class Region(NamedTuple):
    """A basic index: one (start, size, step) per axis, the axes that integers drop, the positions of new axes."""

    starts: list[Size]
    sizes: list[Size]
    steps: list[int]
    dropped: list[int]
    added: list[int]
    whole_scalar: bool  # every axis by an integer and no ellipsis: NumPy gives a scalar


def getitem(x: Tracer, key: Any) -> Any:
    """x[key]: a view for a basic index, a scalar where every axis has an integer."""
    items = normalise(x, key)
    if any(is_advanced(i) for i in items):
        return advanced_get(x, items)
    region = basic_region(x, items)
    result = view_of(x, region)
    if region.whole_scalar:
        return fresh(x.context, result.value(), scalar=True)
    return result


def setitem(x: Tracer, key: Any, value: Any) -> None:
    """x[key] = value, through the view or by a mask."""
    if x.scalar:
        raise TypeError(f"'numpy.{x.dtype.name}' object does not support item assignment")
    items = normalise(x, key)
    if any(is_advanced(i) for i in items):
        advanced_set(x, items, value)
        return
    target = view_of(x, basic_region(x, items))
    if isinstance(value, Tracer) and value.cell is target.cell and value.chain == target.chain and not value.scalar:
        return  # `x[a:b] += y` assigns the view to its own place
    assign(target, value)


def normalise(x: Tracer, key: Any) -> list[Any]:
    """The index as a list, the ellipsis written out as full slices."""
    items = list(key) if isinstance(key, tuple) else [key]
    items = [_plain(i) for i in items]
    used = sum(_axes_used(i) for i in items)
    if sum(1 for i in items if i is Ellipsis) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if used > len(x.dims):
        raise IndexError(f"too many indices for array: array is {len(x.dims)}-dimensional, but {used} were indexed")
    fill = [slice(None)] * (len(x.dims) - used)
    if any(i is Ellipsis for i in items):
        at = next(n for n, i in enumerate(items) if i is Ellipsis)
        return [*items[:at], _ELLIPSIS, *fill, *items[at + 1 :]]
    return items + fill


_ELLIPSIS = object()  # marks where an ellipsis stood: x[..., 0] of a vector is a 0-d array, x[0] a scalar


def _plain(item: Any) -> Any:
    """NumPy integers and constant traced integers as Python numbers, lists as arrays."""
    if isinstance(item, np.integer):
        return int(item)
    if isinstance(item, Tracer) and not item.dims and item.dtype.kind in "iu":
        return _index_value(item)
    if isinstance(item, list):
        return as_tracer_of_list(item)
    if isinstance(item, np.bool_):
        return bool(item)
    return item


def as_tracer_of_list(items: list[Any]) -> Any:
    return items if any_traced(items) else np.array(items, dtype=np.intp if not items else None)


def _index_value(item: Tracer) -> Any:
    """An index that constants decide is an int; one that depends on data stays traced."""
    try:
        return int(concrete(item, "an index").item())
    except TraceError:
        return item


def _axes_used(item: Any) -> int:
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, (Tracer, np.ndarray)) and item.dtype == np.bool_:
        return item.ndim
    return 1


def is_advanced(item: Any) -> bool:
    return isinstance(item, (bool, np.ndarray, Tracer, list))


# Basic ----------------------------------------------------------------------------------------------------------------


def basic_region(x: Tracer, items: Sequence[Any]) -> Region:
    region = Region([], [], [], [], [], all(isinstance(i, (int, IntNumber)) for i in items))
    position = 0  # in the result
    axis = 0
    for item in items:
        if item is None:
            region.added.append(position)
            position += 1
            continue
        if item is _ELLIPSIS:
            continue
        n = x.dims[axis]
        if isinstance(item, slice):
            start, size, step = resolve_slice(x.context, item, n)
            position += 1
        else:
            start, size, step = resolve_integer(x.context, item, n, axis), 1, 1
            region.dropped.append(axis)
        region.starts.append(start)
        region.sizes.append(size)
        region.steps.append(step)
        axis += 1
    return region


def view_of(x: Tracer, region: Region) -> Tracer:
    result = slice_view(x, region.starts, region.sizes, region.steps) if x.dims else _again(x)
    return expand_dims(squeeze(result, region.dropped), region.added)


def _again(x: Tracer) -> Tracer:
    return Tracer(x.context, x.cell, x.dims, x.dtype, x.chain, layout=x.layout, contiguous=x.contiguous)


def resolve_integer(context: TraceContext, item: Any, n: Size, axis: int) -> Size:
    """The position of an integer index; IndexError where it is out of bounds."""
    if isinstance(item, Number) and not isinstance(item, IntNumber) or not hasattr(item, "__index__"):
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are "
            "valid indices"
        )
    if context.is_unknown(n):
        return _checked_integer(context, item, n, axis)
    i: Size = item.dim if isinstance(item, IntNumber) else operator.index(item)
    if isinstance(i, int):
        negative = i < 0
    else:
        negative = context.relation("lt", i, 0, "an index may be negative")
    at = i + n if negative else i
    inside = context.relation("le", 0, at, "an index must be in range") and context.relation(
        "lt", at, n, "an index must be in range"
    )
    if not inside:
        raise IndexError(f"index {context.hint(i)} is out of bounds for axis {axis} with size {context.hint(n)}")
    return at


def _checked_integer(context: TraceContext, item: Any, n: Size, axis: int) -> Size:
    """The position of an integer index among as many elements as the data tell: checked when the program runs."""
    i: Size = item.dim if isinstance(item, IntNumber) else operator.index(item)
    at = i + n if (i < 0 if isinstance(i, int) else context.relation("lt", i, 0, "an index may be negative")) else i
    message = f"index {context.hint(i)} is out of bounds for axis {axis} with size {{1}}"
    if at is not i:
        message = f"index {context.hint(i)} is out of bounds for axis {axis}: too few elements"
        context.check_size("less_equal", 0, at, IndexError, message)
    else:
        context.check_size("less", at, n, IndexError, message)
    return at


def resolve_slice(context: TraceContext, item: slice, n: Size) -> tuple[Size, Size, int]:
    """(start, size, step) of a slice over n elements, clipped as Python does."""
    step = _bound(item.step)
    if isinstance(step, Dim):
        step = context.value(step, "a slice step")
    step = 1 if step is None else step
    if step == 0:
        raise ValueError("slice step cannot be zero")
    start, stop = _bound(item.start), _bound(item.stop)
    if isinstance(n, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        picked = range(*slice(start, stop, step).indices(n))
        return (picked.start if len(picked) else 0), len(picked), step
    if context.is_unknown(n):
        return _unknown_slice(start, stop, step, n)
    low: Size = 0 if step > 0 else -1
    high: Size = n if step > 0 else n - 1
    first = (low if step > 0 else high) if start is None else _clip(context, start, n, low, high)
    last = (high if step > 0 else low) if stop is None else _clip(context, stop, n, low, high)
    near, far = (first, last) if step > 0 else (last, first)
    if not context.relation("lt", near, far, "a slice may be empty"):
        return 0, 0, step
    width = abs(step)
    size = far - near if width == 1 else (far - near + (width - 1)) // width
    return first, size, step


def _unknown_slice(start: Any, stop: Any, step: int, n: Size) -> tuple[Size, Size, int]:
    """A slice of as many elements as the data tell: its size is an expression that holds for every n."""
    low, high = (0, n) if step > 0 else (-1, n - 1)

    def clip(bound: Any, default: Size) -> Size:
        if bound is None:
            return default
        if not isinstance(bound, int):
            raise _later("a slice bound that is no constant, of a size that only the data tell,", "Use a constant.")
        return opaque("max", bound + n, low) if bound < 0 else opaque("min", bound, high)

    if step == 1 and start is None and isinstance(stop, int):
        return 0, clip(stop, n), 1
    if step == 1 and stop is None and isinstance(start, int):
        if start < 0:
            return opaque("max", n + start, 0), opaque("min", n, -start), 1
        return opaque("min", start, n), opaque("max", n - start, 0), 1
    first = clip(start, low if step > 0 else high)
    last = clip(stop, high if step > 0 else low)
    width = abs(step)
    near, far = (first, last) if step > 0 else (last, first)
    size = far - near
    size = size if width == 1 else (size + (width - 1)) // width
    if size == n:
        return first, size, step
    size = opaque("max", size, 0)
    return (opaque("min", first, n) if step > 0 else opaque("max", first, 0)), size, step


def _bound(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, IntNumber):
        return value.dim
    if isinstance(value, Tracer):
        return int(concrete(value, "a slice bound").item())
    if not hasattr(value, "__index__") or (isinstance(value, Number)):
        raise TypeError("slice indices must be integers or None or have an __index__ method")
    return operator.index(value)


def _clip(context: TraceContext, value: Size, n: Size, low: Size, high: Size) -> Size:
    if context.relation("lt", value, 0, "a slice bound may be negative"):
        value = value + n
        return low if context.relation("le", value, low, "a slice bound is clipped") else value
    return high if context.relation("le", high, value, "a slice bound is clipped") else value


# Masks and index arrays -----------------------------------------------------------------------------------------------


def _later(what: str, cure: str) -> TraceError:
    return TraceError(f"{what} is not supported in a traced function. {cure}", location=user_location())


def advanced_get(x: Tracer, items: list[Any]) -> Any:
    masks = [n for n, i in enumerate(items) if is_advanced(i) and _is_mask(i)]
    others = [i for n, i in enumerate(items) if n not in masks]
    if len(masks) == 1 and not any(is_advanced(i) or isinstance(i, (int, IntNumber)) for i in others):
        return mask_get(x, items, masks[0])
    if masks:
        items = [part for i in items for part in (_positions(x, i) if is_advanced(i) and _is_mask(i) else (i,))]
    x, rest = _cut(x, items)
    axes = tuple([d for d, i in enumerate(rest) if is_advanced(i)])
    if len(axes) == 1:
        result = take(x, rest[axes[0]], axes[0])
    else:
        indices = [_index_array(x, rest[d], d) for d in axes]
        value = x.context.emit(TABLE["index_get"], x.value(), *[i.value() for i in indices], axes=axes)
        result = fresh(x.context, value, scalar=not value.shape)
    result.layout = _picked_layout(result, len(x.dims) - len(axes), axes)
    return result


def mask_get(x: Tracer, items: list[Any], at: int) -> Any:
    """x[mask], with slices and new axes beside the mask: as many elements as the mask has."""
    mask = as_tracer(x.context, items[at])
    if not mask.dims:
        raise _later("indexing with a boolean number", "Use np.where.")
    wide = [part for n, i in enumerate(items) for part in ([slice(None)] * len(mask.dims) if n == at else [i])]
    viewed = view_of(x, basic_region(x, wide))
    axis = sum(1 for i in items[:at] if i is not _ELLIPSIS)
    _same_mask(x.context, viewed, mask, axis)
    if len(mask.dims) == 1 and len(viewed.dims) > 1:  # taking rows is faster than a mask over one dimension
        rows = fresh(x.context, _take_value(viewed, nonzero(mask)[0], axis))
        rows.layout = _picked_layout(rows, len(viewed.dims) - 1, (axis,))
        return rows
    params = {"axis": axis, "size": size_of_mask(x.context, mask.value())}
    result = fresh(x.context, x.context.emit(TABLE["boolean_mask"], viewed.value(), mask.value(), **params))
    result.layout = _picked_layout(result, len(viewed.dims) - len(mask.dims), (axis,))
    return result


def _take_value(x: Tracer, index: Tracer, axis: int) -> Any:
    return x.context.emit(TABLE["gather"], x.value(), index.value(), axis=axis, mode="raise")


def size_of_mask(context: TraceContext, mask: Any) -> str:
    """The symbol of how many elements of a value are not 0: one for each mask."""
    name = context.mask_sizes.get(mask.id)
    if name is None:
        name = context.mask_sizes[mask.id] = context.unknown_size()
    return name


def nonzero(x: Tracer) -> tuple[Tracer, ...]:
    """Positions of the elements that are not 0, one array per dimension."""
    value = x.value()
    params = {"size": size_of_mask(x.context, value)}
    made = x.context.builder.add(TABLE["nonzero"], [value], params, user_location())
    return tuple([fresh(x.context, v) for v in made])


def _positions(x: Tracer, mask: Any) -> tuple[Tracer, ...]:
    mask = as_tracer(x.context, mask)
    if not mask.dims:
        raise _later("indexing with a boolean number", "Use np.where.")
    return nonzero(mask)


def _picked_layout(result: Tracer, kept: int, axes: tuple[int, ...]) -> Layout:
    """NumPy lays the picked dimensions out slowest, wherever they stand in the result."""
    first = axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0
    rank = len(result.dims)
    picked = range(first, first + rank - kept)
    order = [*picked, *[d for d in range(rank) if d not in picked]]
    if order == list(range(rank)):
        return None
    return tuple([rank - order.index(d) for d in range(rank)])


def _cut(x: Tracer, items: list[Any]) -> tuple[Tracer, list[Any]]:
    """The slices and new axes of a mixed index done as a view first; then one item per axis of that view: the index
    arrays (integers beside them become arrays, as NumPy has it) and full slices."""
    scalars = [i for i in items if isinstance(i, (int, IntNumber)) and not isinstance(i, bool)]
    if None in [i for i in items if i is None]:
        arrays = [n for n, i in enumerate(items) if is_advanced(i) or isinstance(i, (int, IntNumber))]
        if any(items[n] is None for n in range(arrays[0], arrays[-1])):
            raise _later("np.newaxis between index arrays", "Add the axis afterwards.")
    view_items = [slice(None) if is_advanced(i) or i in scalars_of(scalars, i) else i for i in items]
    viewed = view_of(x, basic_region(x, view_items))
    rest: list[Any] = []
    for i in items:
        if i is _ELLIPSIS:
            continue
        rest.append(slice(None) if i is None or isinstance(i, slice) else i)
    rest = [as_tracer(x.context, i) if isinstance(i, (int, IntNumber)) and not isinstance(i, bool) else i for i in rest]
    return viewed, rest


def scalars_of(scalars: list[Any], item: Any) -> list[Any]:
    """The item in a list if it is one of `scalars`, by identity."""
    return [item] if any(item is s for s in scalars) else []


def _index_array(x: Tracer, index: Any, axis: int) -> Tracer:
    index = as_tracer(x.context, index)
    if index.dtype.kind not in "iu":
        raise IndexError("arrays used as indices must be of integer (or boolean) type")
    return fresh(x.context, cast(x.context, index.value(), supported(np.dtype(np.int64))))


def take(x: Tracer, index: Any, axis: int, mode: str = "raise") -> Any:
    """x's elements at `index` (any rank) along one axis; negative indices count from the end."""
    index = _index_array(x, index, axis)
    value = x.context.emit(TABLE["gather"], x.value(), index.value(), axis=axis, mode=mode)
    return fresh(x.context, value, scalar=not value.shape)


def _is_mask(item: Any) -> bool:
    return isinstance(item, bool) or (hasattr(item, "dtype") and item.dtype == np.bool_)


def advanced_set(x: Tracer, items: list[Any], value: Any) -> None:
    masks = [n for n, i in enumerate(items) if is_advanced(i) and _is_mask(i)]
    if masks:
        others = [i for n, i in enumerate(items) if n not in masks and i is not _ELLIPSIS]
        whole = all(isinstance(i, slice) and i == slice(None) for i in others)
        if isinstance(items[masks[0]], bool):
            raise _later("writing to a boolean number as an index", "Write x[...] = np.where(mask, value, x).")
        if len(masks) > 1 or not whole:
            flat = [part for i in items for part in (_positions(x, i) if is_advanced(i) and _is_mask(i) else (i,))]
            advanced_set(x, flat, value)
            return
        before = [i for i in items[: masks[0]] if i is not _ELLIPSIS]
        mask_set(x, as_tracer(x.context, items[masks[0]]), len(before), value)
        return
    viewed, rest = _cut(x, items)
    axes = tuple([d for d, i in enumerate(rest) if is_advanced(i)])
    indices = [_index_array(x, rest[d], d) for d in axes]
    put = _assigned(x, value)
    write(viewed, x.context.emit(TABLE["index_put"], viewed.value(), put, *[i.value() for i in indices], axes=axes))


def _assigned(x: Tracer, value: Any) -> Any:
    """What is assigned, as x's dtype."""
    one = fresh(x.context, x.context.add(TABLE["full"], [x.context.constant(0, supported(x.dtype))], {"shape": ()}))
    source = value if isinstance(value, Number) else as_tracer(x.context, value)
    if isinstance(source, Tracer) and source.dims:
        return cast(x.context, source.value(), supported(x.dtype))
    assign(one, value)
    return one.value()


def _same_mask(context: TraceContext, x: Tracer, mask: Tracer, axis: int) -> None:
    for d, n in enumerate(mask.dims, axis):
        if not context.relation("eq", n, x.dims[d], "a boolean index"):
            raise IndexError(
                f"boolean index did not match indexed array along axis {d}; size of axis is "
                f"{context.hint(x.dims[d])} but size of corresponding boolean axis is {context.hint(n)}"
            )


def mask_set(x: Tracer, mask: Tracer, axis: int, value: Any) -> None:
    """x[mask] = value: a choice by element for one value, a library call for an array of as many as the mask has."""
    _same_mask(x.context, x, mask, axis)
    after = len(mask.dims) + axis
    if isinstance(value, (Tracer, np.ndarray, list, tuple)):
        value = as_tracer(x.context, value)
        if len(value.dims) > len(x.dims) - after:
            put = cast(x.context, value.value(), supported(x.dtype))
            write(x, x.context.emit(TABLE["mask_put"], x.value(), mask.value(), put, axis=axis))
            return
        value = fit(value, x.dims[after:])
    filled = fresh(x.context, x.value())
    assign(filled, value)
    wide = broadcast_to(expand_dims(mask, range(len(mask.dims), len(x.dims) - axis)), x.dims)
    write(x, x.context.emit(TABLE["where"], wide.value(), filled.value(), x.value()))
