"""NumPy's functions that join, cut, repeat and pad arrays, recorded: concatenate, stack, split, roll, tile, pad ...

Owns their argument forms; the arithmetic is `ops.composites`.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor.errors import ShapeError
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ops import TABLE, composites, promote
from jitensor.tracing import arrays
from jitensor.tracing.arrays import (
    Tracer,
    as_tracer,
    context_of,
    fresh,
    hint_shape,
    supported,
)
from jitensor.tracing.context import TraceContext, shape_error
from jitensor.tracing.functions_movement import atleast_1d, atleast_2d, atleast_3d, moveaxis, ravel, reshape, transpose
from jitensor.tracing.indexing import getitem
from jitensor.tracing.indexing import take as take_along
from jitensor.tracing.library import record_call
from jitensor.tracing.numbers import IntNumber, as_dim, make_int
from jitensor.tracing.reductions import normalise_axis
from jitensor.tracing.registry import _real_dtype, _start, records
from jitensor.tracing.ufuncs import (
    assign,
    cast,
    joint_layout,
    prepare,
    to_dtype,
)

Size = int | Dim


def common_dtype(parts: Sequence[Tracer], kinds: Sequence[Any] | None = None) -> np.dtype[Any]:
    asked = [k if isinstance(k, type) else supported(k) for k in (kinds or [p.weak or p.dtype for p in parts])]
    return promote.result_type(*asked).numpy


def _as_dtype(x: Tracer, dtype: np.dtype[Any]) -> Tracer:
    if x.dtype == dtype:
        return x
    return fresh(x.context, cast(x.context, x.value(), supported(dtype)), layout=x.layout)


def _into_out(result: Tracer, out: Any) -> Any:
    if out is None:
        return result
    target = as_tracer(result.context, out)
    if len(target.dims) != len(result.dims) or not all(map(dims.same, target.dims, result.dims)):
        raise ValueError("Output array is the wrong shape")
    assign(target, result)
    return out


@records(np.concatenate, np.concat)
def concatenate(
    arrays_: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    items = list(arrays_)
    if not items:
        raise ValueError("need at least one array to concatenate")
    context = context_of(*items, out)
    parts = [as_tracer(context, i) for i in items]
    if any(not p.dims for p in parts) and axis is not None:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    if axis is None:
        parts, axis = [ravel(p) for p in parts], 0
    target = _real_dtype(dtype) if dtype is not None else common_dtype(parts)
    axis = normalise_axis(axis, len(parts[0].dims))
    values = [_as_dtype(p, target).value() for p in parts]
    layout = joint_layout(parts, parts[0].dims) if all(len(p.dims) == len(parts[0].dims) for p in parts) else None
    try:
        joined = composites.concatenate(context.emit, values, axis)
    except ShapeError:
        shapes = " ".join(hint_shape(p) for p in parts)
        raise shape_error(
            f"all the input array dimensions except for the concatenation axis must match exactly, but arrays of "
            f"shapes {shapes} were to be joined along axis {axis}"
        ) from None
    return _into_out(fresh(context, joined, layout=layout), out)


@records(np.stack)
def stack(items: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    items = list(items)
    if not items:
        raise ValueError("need at least one array to stack")
    context = context_of(*items, out)
    parts = [as_tracer(context, i) for i in items]
    target = _real_dtype(dtype) if dtype is not None else common_dtype(parts)
    return _into_out(_stacked(context, parts, axis, target), out)


def _stacked(context: TraceContext, parts: Sequence[Tracer], axis: Any, dtype: np.dtype[Any]) -> Tracer:
    first = parts[0]
    for p in parts[1:]:
        if len(p.dims) != len(first.dims) or not all(map(dims.same, p.dims, first.dims)):
            raise ValueError("all input arrays must have the same shape")
    axis = normalise_axis(axis, len(first.dims) + 1)
    values = [_as_dtype(p, dtype).value() for p in parts]
    return fresh(context, composites.stack(context.emit, values, axis))


def _stack_sequence(context: TraceContext, parts: list[Tracer], weak: list[Any]) -> Tracer:
    """np.array([a, b, ...]): Python numbers among NumPy scalars take part as int64 and float64, as NumPy has it."""
    return _stacked(context, parts, 0, common_dtype(parts, [p.dtype for p in parts]))


arrays.STACK = _stack_sequence


@records(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate([atleast_2d(i) for i in tup], 0, dtype=dtype)


@records(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = [atleast_1d(i) for i in tup]
    return concatenate(parts, 0 if parts and len(parts[0].dims) == 1 else 1, dtype=dtype)


@records(np.dstack)
def dstack(tup: Any) -> Any:
    return concatenate([atleast_3d(i) for i in tup], 2)


@records(np.column_stack)
def column_stack(tup: Any) -> Any:
    parts = []
    for item in tup:
        x = as_tracer(context_of(item), item)
        parts.append(transpose(atleast_2d(x)) if len(x.dims) < 2 else x)
    return concatenate(parts, 1)


@records(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    if axis is None:
        return concatenate((ravel(_start(arr, values)), ravel(_start(values, arr))), 0)
    return concatenate((arr, values), axis)


@records(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> Any:
    x = _start(ary)
    axis = normalise_axis(axis, len(x.dims))
    n = x.dims[axis]
    if isinstance(indices_or_sections, (tuple, list, np.ndarray)):
        points: list[Any] = [None, *indices_or_sections, None]
    else:
        count = operator.index(indices_or_sections)
        if count <= 0:
            raise ValueError("number sections must be larger than 0.")
        total = x.context.value(n, "array_split: sections of unequal size") if isinstance(n, Dim) else n
        base, extra = divmod(total, count)
        points = [0]
        for i in range(count):
            points.append(points[-1] + base + (i < extra))
    whole = [slice(None)] * len(x.dims)
    pieces = []
    for i, j in itertools.pairwise(points):
        pieces.append(getitem(x, (*whole[:axis], slice(i, j), *whole[axis + 1 :])))
    return pieces


@records(np.split)
def split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> Any:
    x = _start(ary)
    if isinstance(indices_or_sections, (tuple, list, np.ndarray)):
        return array_split(x, indices_or_sections, axis)
    count = operator.index(indices_or_sections)
    axis = normalise_axis(axis, len(x.dims))
    n = x.dims[axis]
    if not dims.same(n % count, 0):
        raise ValueError("array split does not result in an equal division")
    part = n // count
    return array_split(x, [make_int(x.context, part * i) for i in range(1, count)], axis)


@records(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> Any:
    return split(ary, indices_or_sections, 0)


@records(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> Any:
    return split(ary, indices_or_sections, 1 if len(_start(ary).dims) > 1 else 0)


@records(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> Any:
    return split(ary, indices_or_sections, 2)


def unstack(x: Any, /, *, axis: int = 0) -> Any:
    return tuple(moveaxis(_start(x), axis, 0))


if hasattr(np, "unstack"):  # NumPy 2.1
    records(np.unstack)(unstack)


@records(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = _start(a, shift)
    if any(map(x.context.is_unknown, x.dims)):
        return record_call("numpy.roll", (x, shift, axis))
    if axis is None:
        return reshape(_rolled(ravel(x), [shift], [0]), x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,)
    pairs = list(np.broadcast(np.arange(len(axes)), np.arange(len(shifts))))
    return _rolled(x, [shifts[j] for _, j in pairs], [normalise_axis(axes[i], len(x.dims)) for i, _ in pairs])


def _rolled(x: Tracer, shifts: Sequence[Any], axes: Sequence[int]) -> Tracer:
    value = x.value()
    for shift, axis in zip(shifts, axes, strict=True):
        value = composites.roll(x.context.emit, value, as_dim(shift), axis)
    return fresh(x.context, value)


@records(np.tile)
def tile(A: Any, reps: Any) -> Any:
    x = _start(A, *(reps if isinstance(reps, (tuple, list)) else (reps,)))
    counts: list[int | Dim] = [as_dim(n) for n in (reps if isinstance(reps, (tuple, list)) else (reps,))]
    if len(counts) < len(x.dims):
        counts = [*[1] * (len(x.dims) - len(counts)), *counts]
    return fresh(x.context, composites.tile(x.context.emit, x.value(), counts))


@records(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    x = _start(a, repeats)
    if axis is None:
        x, axis = ravel(x), 0
    if isinstance(repeats, Tracer) and repeats.dims:
        return _repeat_each(x, repeats, normalise_axis(axis, len(x.dims)))
    if not isinstance(repeats, (int, IntNumber, np.integer)):
        known = np.asarray(repeats)
        if known.size != 1:
            positions = np.repeat(np.arange(known.size), known)
            if not dims.same(x.dims[normalise_axis(axis, len(x.dims))], known.size):
                raise ValueError("operands could not be broadcast together")
            return take_along(x, positions, normalise_axis(axis, len(x.dims)))
        repeats = int(known.reshape(()))
    count = as_dim(repeats)
    if dims.less(count, 0):
        raise ValueError("repeats may not contain negative values.")
    return fresh(x.context, composites.repeat(x.context.emit, x.value(), count, normalise_axis(axis, len(x.dims))))


def _repeat_each(x: Tracer, repeats: Tracer, axis: int) -> Tracer:
    """Repeats of each slice that only the data tell."""
    if repeats.dtype.kind not in "iub":
        raise TypeError(f"Cannot cast array data from {repeats.dtype!r} to dtype('int64') according to the rule 'safe'")
    if len(repeats.dims) > 1:
        raise ValueError("object too deep for desired array")
    count = arrays.broadcast_to(repeats, (x.dims[axis],)) if repeats.dims == (1,) else repeats
    if not dims.same(count.dims[0], x.dims[axis]):
        raise ValueError(f"operands could not be broadcast together with shape {hint_shape(x)} {hint_shape(count)}")
    value = cast(x.context, count.value(), arrays.INT)
    size = x.context.unknown_size()
    return fresh(x.context, x.context.emit(TABLE["repeat_each"], x.value(), value, axis=axis, size=size))


_PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@records(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    x = _start(array)
    if mode not in _PAD_MODES:
        return record_call("numpy.pad", (x, pad_width, mode), options)
    widths = _pad_widths(x, pad_width)
    values = options.pop("constant_values", 0)
    options.pop("reflect_type", None)
    if options:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {set(options)}")
    if mode == "constant" and isinstance(values, (tuple, list)):
        return _pad_each(x, widths, values)
    fill = to_dtype(x.context, prepare(x.context, values), supported(x.dtype)) if mode == "constant" else None
    return fresh(x.context, composites.pad(x.context.emit, x.value(), widths, mode, fill))


def _pad_widths(x: Tracer, pad_width: Any) -> list[tuple[Size, Size]]:
    rank = len(x.dims)
    items = pad_width
    if isinstance(items, dict):
        given = {normalise_axis(d, rank): w for d, w in items.items()}
        items = [given.get(d, (0, 0)) for d in range(rank)]
    if not isinstance(items, (tuple, list, np.ndarray)):
        items = [(items, items)] * rank
    items = list(items)
    if items and not isinstance(items[0], (tuple, list, np.ndarray)):
        items = [tuple(items) if len(items) == 2 else (items[0], items[0])] * rank
    items = [tuple(i) if len(i) == 2 else (i[0], i[0]) for i in items]
    if len(items) == 1:
        items = items * rank
    if len(items) != rank:
        raise ValueError(
            f"operands could not be broadcast together with remapped shapes [original->remapped]: ({len(items)},2) "
            f" and requested shape ({rank},2)"
        )
    widths = [(as_dim(a), as_dim(b)) for a, b in items]
    if any(dims.less(w, 0) for pair in widths for w in pair):
        raise ValueError("index can't contain negative values")
    return widths


def _pad_each(x: Tracer, widths: list[tuple[Size, Size]], values: Any) -> Tracer:
    """constant_values per axis and side: one axis after another."""
    rank = len(x.dims)
    items = (
        [values] * rank
        if not isinstance(values[0], (tuple, list))
        else list(values) * (rank if len(values) == 1 else 1)
    )
    dtype = supported(x.dtype)
    for axis, (pair, ends) in enumerate(zip(widths, items, strict=True)):
        ends = tuple(ends) * (2 if len(ends) == 1 else 1)
        for side, end in enumerate(ends):
            only: list[tuple[Size, Size]] = [(0, 0)] * rank
            only[axis] = (pair[0], 0) if side == 0 else (0, pair[1])
            fill = to_dtype(x.context, prepare(x.context, end), dtype)
            x = fresh(x.context, composites.pad(x.context.emit, x.value(), only, "constant", fill))
    return x
