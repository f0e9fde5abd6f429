"""NumPy's functions on traced arrays, one recording version for each, filed under the NumPy function that it stands for.

Owns `RECORDED` (NumPy function -> recording version), `CREATES` (those that make arrays and so always record), and
`dispatch` for the `__array_function__` protocol. The arithmetic is `ops.composites`. Must not know clones.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.errors import ShapeError, TraceError, user_location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.types import Shape
from jitensor.ops import TABLE, composites, promote
from jitensor.tracing import arrays, reductions
from jitensor.tracing.arrays import (
    Tracer,
    any_traced,
    as_tracer,
    constant_array,
    context_of,
    fresh,
    hint_shape,
    kind_of,
    supported,
)
from jitensor.tracing.context import TraceContext, here
from jitensor.tracing.indexing import getitem
from jitensor.tracing.indexing import take as take_along
from jitensor.tracing.numbers import IntNumber, Number, as_dim, make_int
from jitensor.tracing.reductions import normalise_axes, normalise_axis
from jitensor.tracing.ufuncs import (
    as_weak,
    assign,
    binary,
    call,
    cast,
    is_weak,
    joint_layout,
    joint_shape,
    outer,
    prepare,
    to_dtype,
)

RECORDED: dict[Any, Callable[..., Any]] = {}
CREATES: set[Any] = set()
_NO = np._NoValue  # type: ignore[attr-defined]
Size = int | Dim


def records(*functions: Any, creates: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Files the recording version of NumPy functions."""

    def file(version: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            RECORDED[function] = version
            if creates:
                CREATES.add(function)
        return version

    return file


def unsupported(name: str, cure: str = "") -> TraceError:
    return TraceError(
        f"{name}: not supported in a traced function. {cure or 'Do this part outside the jitted function.'}",
        location=user_location(),
    )


def _real_dtype(dtype: Any) -> np.dtype[Any]:
    return supported(dtype).numpy


# Shapes and sizes -------------------------------------------------------------------------------------------------------


def sizes_of(shape: Any) -> Shape:
    """A shape argument (number or sequence) as sizes; ValueError for negative ones."""
    items = shape if isinstance(shape, (tuple, list)) else (shape,)
    if isinstance(shape, (np.ndarray, Tracer)) and shape.ndim:
        items = list(shape)
    result = []
    for item in items:
        n = as_dim(item)
        if dims.less(n, 0):
            raise ValueError("negative dimensions are not allowed")
        result.append(n)
    return tuple(result)


def _start(x: Any, *others: Any) -> Tracer:
    return as_tracer(context_of(x, *others), x)


def _order(order: Any) -> str:
    if order not in ("C", "K", "A", "F", None):
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got '{order}')")
    return order or "K"


@records(np.shape)
def shape(a: Any) -> Any:
    return _start(a).shape


@records(np.ndim)
def ndim(a: Any) -> int:
    return len(_start(a).dims)


@records(np.size)
def size(a: Any, axis: Any = None) -> Any:
    x = _start(a)
    return x.size if axis is None else x.shape[normalise_axis(axis, len(x.dims))]


# Movement ---------------------------------------------------------------------------------------------------------------


@records(np.reshape)
def reshape(a: Any, /, shape: Any, order: Any = "C", *, copy: Any = None) -> Any:
    x = _start(a)
    if order == "F" or (order == "A" and x.layout is not None and not x.contiguous):
        flipped = transpose(reshape(transpose(x), tuple(shape)[::-1] if isinstance(shape, (tuple, list)) else shape))
        return flipped
    if order not in ("C", "A", None):
        raise ValueError("order 'K' is not permitted for reshape")
    items = shape if isinstance(shape, (tuple, list)) else (shape,)
    target = [as_dim(n) for n in items]
    for i, n in enumerate(target):
        if isinstance(n, Dim) and x.context.relation("lt", n, 0, "reshape"):
            target[i] = x.context.value(n, "reshape")
    if any(isinstance(n, int) and n < -1 for n in target):
        raise ValueError("negative dimensions not allowed")
    try:
        solved = composites.solve_reshape(x.dims, target)
        if not dims.same(dims.product(x.dims), dims.product(solved)):
            raise ShapeError("sizes differ")
    except ShapeError as error:
        if "unknown" in str(error):
            raise
        asked = [str(x.context.hint(n)) for n in target]
        text = "(" + ",".join(asked) + ("," if len(asked) == 1 else "") + ")"
        raise ShapeError(
            f"cannot reshape array of size {x.context.hint(dims.product(x.dims))} into shape {text}",
            location=user_location(),
        ) from None
    result = arrays.reshape(x, solved)
    return fresh(x.context, result.value()) if copy else result


@records(np.ravel)
def ravel(a: Any, order: Any = "C") -> Any:
    x = _start(a)
    if order == "F" or (order in ("K", "A") and x.layout == tuple(range(1, len(x.dims) + 1))):
        x = transpose(x)
    return arrays.reshape(x, (dims.product(x.dims),))


def flatten(x: Tracer, order: Any = "C") -> Any:
    flat = ravel(x, order)
    return fresh(x.context, flat.value())


@records(np.transpose, np.permute_dims)
def transpose(a: Any, axes: Any = None) -> Any:
    x = _start(a)
    rank = len(x.dims)
    if axes is None:
        return arrays.transpose(x, range(rank)[::-1])
    perm = [normalise_axis(d, rank) for d in axes]
    if sorted(perm) != list(range(rank)):
        raise ValueError("axes don't match array" if len(perm) != rank else "repeated axis in transpose")
    return arrays.transpose(x, perm)


@records(np.matrix_transpose)
def matrix_transpose(x: Any) -> Any:
    return swapaxes(x, -1, -2)


@records(np.swapaxes)
def swapaxes(a: Any, axis1: Any, axis2: Any) -> Any:
    x = _start(a)
    perm = list(range(len(x.dims)))
    i, j = normalise_axis(axis1, len(perm), "axis1"), normalise_axis(axis2, len(perm), "axis2")
    perm[i], perm[j] = perm[j], perm[i]
    return arrays.transpose(x, perm)


@records(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    x = _start(a)
    rank = len(x.dims)
    sources = [normalise_axis(d, rank) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    targets = [
        normalise_axis(d, rank) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))
    ]
    if len(sources) != len(targets):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    perm = [d for d in range(rank) if d not in sources]
    for target, d in sorted(zip(targets, sources, strict=True)):
        perm.insert(target, d)
    return arrays.transpose(x, perm)


@records(np.rollaxis)
def rollaxis(a: Any, axis: Any, start: int = 0) -> Any:
    x = _start(a)
    rank = len(x.dims)
    axis = normalise_axis(axis, rank)
    start = start + rank if start < 0 else start
    perm = [d for d in range(rank) if d != axis]
    perm.insert(start - 1 if axis < start else start, axis)
    return arrays.transpose(x, perm)


@records(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    x = _start(a)
    if axis is None:
        axes = tuple([d for d, n in enumerate(x.dims) if dims.same(n, 1)])
    else:
        axes = normalise_axes(axis, len(x.dims))
        if not all(dims.same(x.dims[d], 1) for d in axes):
            raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return arrays.squeeze(x, axes)


@records(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    x = _start(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    return arrays.expand_dims(x, normalise_axes(axis, len(x.dims) + count))


@records(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    x = _start(array, *(shape if isinstance(shape, (tuple, list)) else (shape,)))
    target = sizes_of(shape)
    pairs = list(zip(x.dims[::-1], target[::-1], strict=False))
    if len(x.dims) > len(target) or not all(
        (isinstance(n, int) and n == 1) or dims.same(n, m) or dims.same(n, 1) for n, m in pairs
    ):
        raise ValueError(
            f"operands could not be broadcast together with remapped shapes [original->remapped]: {hint_shape(x)}  "
            f"and requested shape {arrays.shape_text(x.context, target)}"
        )
    return arrays.broadcast_to(x, target)


@records(np.broadcast_arrays)
def broadcast_arrays(*items: Any, subok: bool = False) -> Any:
    context = context_of(*items)
    parts = [as_tracer(context, i) for i in items]
    shape = joint_shape(parts)
    return tuple([arrays.broadcast_to(p, shape) for p in parts])


@records(np.atleast_1d)
def atleast_1d(*items: Any) -> Any:
    return _each(items, lambda x: arrays.expand_dims(x, (0,)) if not x.dims else x)


@records(np.atleast_2d)
def atleast_2d(*items: Any) -> Any:
    return _each(items, lambda x: arrays.expand_dims(x, range(2 - len(x.dims))) if len(x.dims) < 2 else x)


@records(np.atleast_3d)
def atleast_3d(*items: Any) -> Any:
    def raise_rank(x: Tracer) -> Tracer:
        axes = {0: (0, 1, 2), 1: (0, 2), 2: (2,)}.get(len(x.dims), ())
        return arrays.expand_dims(x, axes)

    return _each(items, raise_rank)


def _each(items: Sequence[Any], change: Callable[[Tracer], Tracer]) -> Any:
    context = context_of(*items)
    results = []
    for item in items:
        x = as_tracer(context, item)
        x = (
            Tracer(context, x.cell, x.dims, x.dtype, x.chain, layout=x.layout, contiguous=x.contiguous)
            if x.scalar
            else x
        )
        results.append(change(x))
    return results[0] if len(results) == 1 else tuple(results)


@records(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    x = _start(m)
    axes = normalise_axes(axis, len(x.dims))
    return getitem(x, tuple([slice(None, None, -1) if d in axes else slice(None) for d in range(len(x.dims))]))


@records(np.fliplr)
def fliplr(m: Any) -> Any:
    if len(_start(m).dims) < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(m, 1)


@records(np.flipud)
def flipud(m: Any) -> Any:
    return flip(m, 0)


@records(np.rot90)
def rot90(m: Any, k: Any = 1, axes: Any = (0, 1)) -> Any:
    x = _start(m)
    i, j = (normalise_axis(d, len(x.dims)) for d in axes)
    k = operator.index(k) % 4
    if k == 0:
        return getitem(x, Ellipsis)
    if k == 2:
        return flip(flip(x, i), j)
    return swapaxes(flip(x, j), i, j) if k == 1 else flip(swapaxes(x, i, j), j)


@records(np.diagonal)
def diagonal(a: Any, offset: Any = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = _start(a)
    rank = len(x.dims)
    i, j = normalise_axis(axis1, rank), normalise_axis(axis2, rank)
    moved = moveaxis(x, (i, j), (rank - 2, rank - 1))
    rows, columns = moved.dims[-2:]
    offset = operator.index(offset)
    wide = columns - max(offset, 0)
    high = rows - max(-offset, 0)
    count = wide if dims.less_equal(wide, high) else high
    line = cast(
        x.context,
        composites.arange(x.context.emit, x.context.constant(0, arrays.INT), x.context.constant(1, arrays.INT), count),
        arrays.INT,
    )
    parts = []
    for shift in (max(-offset, 0), max(offset, 0)):
        parts.append(x.context.emit(TABLE["add"], line, x.context.constant(shift, arrays.INT)))
    value = x.context.emit(TABLE["index_get"], moved.value(), *parts, axes=(rank - 2, rank - 1))
    return fresh(x.context, value)


@records(np.diag)
def diag(v: Any, k: Any = 0) -> Any:
    x = _start(v)
    if len(x.dims) == 2:
        return diagonal(x, k)
    if len(x.dims) != 1:
        raise ValueError("Input must be 1- or 2-d.")
    k = operator.index(k)
    n = x.dims[0] + abs(k)
    result = full_of(x.context, (n, n), 0, x.dtype)
    keep = composites.eye(x.context.emit, n, n, k, supported(np.dtype(bool)))
    spread = pad(x, (max(k, 0), max(-k, 0)))
    value = x.context.emit(TABLE["where"], keep, spread.value(), result.value())
    return fresh(x.context, value)


# Joining and cutting ----------------------------------------------------------------------------------------------------


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
    if tuple(result.context.hint(n) for n in target.dims) != tuple(result.context.hint(n) for n in result.dims):
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
    result = fresh(context, composites.concatenate(context.emit, values, axis), layout=layout)
    return _into_out(result, out)


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
    for i, j in zip(points[:-1], points[1:], strict=True):
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


@records(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> Any:
    return tuple(moveaxis(_start(x), axis, 0))


@records(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = _start(a, shift)
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
    counts = [as_dim(n) for n in (reps if isinstance(reps, (tuple, list)) else (reps,))]
    if len(counts) < len(x.dims):
        counts = [1] * (len(x.dims) - len(counts)) + counts
    return fresh(x.context, composites.tile(x.context.emit, x.value(), counts))


@records(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    x = _start(a, repeats)
    if axis is None:
        x, axis = ravel(x), 0
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


_PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@records(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    x = _start(array)
    if mode not in _PAD_MODES:
        raise unsupported(f"np.pad(mode={mode!r})", f"Use one of {', '.join(_PAD_MODES)}.")
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
            f"operands could not be broadcast together with remapped shapes [original->remapped]: ({len(items)},2)  and "
            f"requested shape ({rank},2)"
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


# Making -----------------------------------------------------------------------------------------------------------------


def full_of(context: TraceContext, shape: Shape, fill: Any, dtype: Any, layout: arrays.Layout = None) -> Tracer:
    target = supported(dtype)
    value = to_dtype(context, prepare(context, fill), target)
    if value.shape:
        raise unsupported("full of an array", "Use np.broadcast_to(x, shape).copy().")
    return fresh(context, context.emit(TABLE["full"], value, shape=shape) if shape else value, layout=layout)


def _order_layout(shape: Shape, order: Any) -> arrays.Layout:
    return tuple(range(1, len(shape) + 1)) if order == "F" and len(shape) > 1 else None


@records(np.zeros, np.empty, creates=True)
def zeros(shape: Any, dtype: Any = float, order: Any = "C", *, device: Any = None, like: Any = None) -> Any:
    sizes = sizes_of(shape)
    return full_of(here("np.zeros"), sizes, 0, np.dtype(dtype), _order_layout(sizes, order))


@records(np.ones, creates=True)
def ones(shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None, like: Any = None) -> Any:
    sizes = sizes_of(shape)
    return full_of(here("np.ones"), sizes, 1, np.dtype(dtype), _order_layout(sizes, order))


@records(np.full, creates=True)
def full(
    shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", *, device: Any = None, like: Any = None
) -> Any:
    context = here("np.full")
    sizes = sizes_of(shape)
    fill = as_tracer(context, fill_value) if not is_weak(fill_value) else fill_value
    if dtype is None:
        dtype = as_tracer(context, fill_value).dtype
    if isinstance(fill, Tracer) and fill.dims:
        result = full_of(context, sizes, 0, dtype, _order_layout(sizes, order))
        assign(result, fill)
        return result
    return full_of(context, sizes, fill, dtype, _order_layout(sizes, order))


def _like(fill: Any) -> Callable[..., Any]:
    def make(
        a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
    ) -> Any:
        x = _start(a)
        sizes = x.dims if shape is None else sizes_of(shape)
        layout = x.layout if shape is None and order in ("K", "A") else _order_layout(sizes, order)
        if layout is not None and 0 in layout:
            layout = joint_layout([x], sizes)
        return full_of(x.context, sizes, fill, x.dtype if dtype is None else dtype, layout)

    return make


zeros_like = records(np.zeros_like, np.empty_like, creates=True)(_like(0))
ones_like = records(np.ones_like, creates=True)(_like(1))


@records(np.full_like, creates=True)
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, **options: Any
) -> Any:
    result = zeros_like(a, dtype, order, subok, shape)
    assign(result, fill_value)
    return result


@records(np.array, creates=True)
def array(
    object: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", subok: bool = False, ndmin: int = 0,
    ndmax: int = 0, like: Any = None,
) -> Any:  # fmt: skip
    x = asarray(object, dtype, order)
    if copy and isinstance(object, (Tracer, np.ndarray)) and x.cell is _cell_of(object):
        x = fresh(x.context, x.value(), layout=x.layout if order in ("K", "A") else None)
    if ndmin > len(x.dims):
        x = arrays.expand_dims(x, range(ndmin - len(x.dims)))
    return x


def _cell_of(x: Any) -> Any:
    return as_tracer(here("np.array"), x).cell


@records(np.ascontiguousarray, creates=True)
def ascontiguousarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:
    x = asarray(a, dtype)
    if not x.dims:
        return arrays.expand_dims(x, (0,))
    return x if x.contiguous else fresh(x.context, x.value())


@records(np.asarray, np.asanyarray, creates=True)
def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: Any = None, like: Any = None
) -> Any:
    context = here("np.asarray")
    if isinstance(a, (list, tuple)) and dtype is not None and not any_traced(a):
        return constant_array(context, np.array(a, dtype=np.dtype(dtype)))
    x = as_tracer(context, a)
    if dtype is not None and x.dtype != np.dtype(dtype):
        if is_weak(a):
            return full_of(context, (), a, np.dtype(dtype))
        x = fresh(context, cast(context, x.value(), supported(np.dtype(dtype))), layout=x.layout)
    if copy:
        return fresh(context, x.value(), layout=x.layout)
    if x.scalar:  # a scalar becomes a 0-d array of its own
        return fresh(context, x.value())
    return x


@records(np.copy, creates=True)
def copy(a: Any, order: Any = "K", subok: bool = False) -> Any:
    x = _start(a)
    layout = joint_layout([x], x.dims, _order(order))
    return fresh(x.context, x.value(), layout=layout)


def copy_c(x: Tracer, order: Any = "C") -> Any:
    """ndarray.copy, which gives row-major memory unless asked."""
    if x.scalar:
        return x
    return copy(x, order)


def astype(x: Any, dtype: Any, order: Any = "K", casting: str = "unsafe", copy: bool = True, **options: Any) -> Any:
    x = _start(x)
    target = supported(np.dtype(dtype))
    if not np.can_cast(x.dtype, target.numpy, casting):
        raise TypeError(
            f"Cannot cast array data from {x.dtype!r} to {target.numpy!r} according to the rule {casting!r}"
        )
    if x.dtype == target.numpy and not copy:
        return x
    layout = joint_layout([x], x.dims, _order(order))
    return fresh(x.context, cast(x.context, x.value(), target), scalar=x.scalar, layout=layout)


if hasattr(np, "astype"):
    RECORDED[np.astype] = lambda x, dtype, /, *, copy=True, device=None: astype(x, dtype, copy=copy)


@records(np.arange, creates=True)
def arange(*args: Any, dtype: Any = None, device: Any = None, like: Any = None, **named: Any) -> Any:
    context = here("np.arange")
    start, stop, step = _arange_bounds(args, named)
    dtype = named.pop("dtype", dtype)
    if len(args) == 4:
        dtype = args[3]
    hints = [v.hint if isinstance(v, Number) else v for v in (start, stop, step)]
    if not any_traced((start, stop, step)):
        return _known_arange(context, start, stop, step, dtype)
    if any(isinstance(v, Tracer) for v in (start, stop, step)):
        known = [arrays.concrete(v, "np.arange").item() if isinstance(v, Tracer) else v for v in (start, stop, step)]
        return arange(*known, dtype=dtype)
    target = supported(np.dtype(dtype)) if dtype is not None else supported(np.result_type(*map(type, hints)))
    if all(isinstance(v, (int, IntNumber)) for v in (start, stop, step)):
        count = _int_count(context, as_dim(start), as_dim(stop), as_dim(step))
    else:
        length = arrays_apply(math.ceil, (stop - start) / step)
        count = as_dim(length)
    if dims.less_equal(count, 0):
        return full_of(context, (0,), 0, target.numpy)
    first = to_dtype(context, start, target)
    stride = to_dtype(context, step, target)
    value = composites.arange(context.emit, first, stride, count)
    return fresh(context, value)


def arrays_apply(function: Callable[..., Any], value: Any) -> Any:
    from_number = value.__ceil__() if isinstance(value, Number) else function(value)
    return from_number


def _arange_bounds(args: Sequence[Any], named: dict[str, Any]) -> tuple[Any, Any, Any]:
    given = list(args[:3])
    if len(given) == 1 and "stop" not in named:
        start, stop = named.pop("start", 0), given[0]
        if "start" in named:
            start, stop = given[0], named.pop("stop")
    else:
        start = given[0] if given else named.pop("start", 0)
        stop = given[1] if len(given) > 1 else named.pop("stop", None)
        if stop is None:
            start, stop = 0, start
    step = given[2] if len(given) > 2 else named.pop("step", 1)
    return tuple([v.item() if isinstance(v, np.generic) else v for v in (start, stop, 1 if step is None else step)])  # type: ignore[return-value]


def _known_arange(context: TraceContext, start: Any, stop: Any, step: Any, dtype: Any) -> Tracer:
    known = np.arange(start, stop, step, dtype=dtype)
    if known.dtype.kind not in "iu" or known.size == 0:
        return constant_array(context, known)
    target = supported(known.dtype)
    value = composites.arange(
        context.emit, context.constant(known[0], target), context.constant(step, target), known.size
    )
    return fresh(context, value)


def _int_count(context: TraceContext, start: Size, stop: Size, step: Size) -> Size:
    """How many steps lead from start to stop."""
    if isinstance(step, Dim):
        step = context.value(step, "np.arange: the step")
    if step == 0:
        raise ZeroDivisionError("division by zero")
    near, far = (start, stop) if step > 0 else (stop, start)
    if dims.less_equal(far, near):
        return 0
    return (far - near + abs(step) - 1) // abs(step) if abs(step) != 1 else far - near


@records(np.linspace, creates=True)
def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0,
    *, device: Any = None,
) -> Any:  # fmt: skip
    context = here("np.linspace")
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    if not any_traced((start, stop)):
        made = constant_array(context, np.linspace(start, stop, num, endpoint, dtype=dtype, axis=axis))
        step = np.linspace(start, stop, num, endpoint, retstep=True)[1] if retstep else None
        return (made, step) if retstep else made
    first, last = as_tracer(context, start), as_tracer(context, stop)
    work = np.result_type(first.dtype, last.dtype, np.float64 if num is not None else 0)
    target = supported(work if dtype is None else np.dtype(dtype))
    shape = joint_shape([first, last])
    low, high = (_as_dtype(arrays.broadcast_to(v, shape), work).value() for v in (first, last))
    result = fresh(context, composites.linspace(context.emit, low, high, num, bool(endpoint), target))
    if axis != 0:
        result = moveaxis(result, 0, axis)
    if not retstep:
        return result
    return result, call(np.true_divide, call(np.subtract, last, first), float(num - 1 if endpoint else num))


@records(np.logspace, creates=True)
def logspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    return _as_asked(call(np.power, base, linspace(start, stop, num, endpoint, axis=axis)), dtype)


def _as_asked(x: Tracer, dtype: Any) -> Tracer:
    return x if dtype is None else astype(x, dtype, copy=False)


@records(np.eye, creates=True)
def eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = float, order: Any = "C", **options: Any) -> Any:
    context = here("np.eye")
    (rows,), (columns,) = sizes_of(N), sizes_of(N if M is None else M)
    return fresh(context, composites.eye(context.emit, rows, columns, as_dim(k), supported(np.dtype(dtype))))


@records(np.identity, creates=True)
def identity(n: Any, dtype: Any = None, **options: Any) -> Any:
    return eye(n, dtype=float if dtype is None else dtype)


@records(np.tri, creates=True)
def tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = float, **options: Any) -> Any:
    context = here("np.tri")
    (rows,), (columns,) = sizes_of(N), sizes_of(N if M is None else M)
    return fresh(context, composites.tri(context.emit, rows, columns, as_dim(k), supported(np.dtype(dtype))))


@records(np.tril)
def tril(m: Any, k: Any = 0) -> Any:
    x = _start(m)
    return fresh(x.context, composites.tril(x.context.emit, x.value(), as_dim(k)))


@records(np.triu)
def triu(m: Any, k: Any = 0) -> Any:
    x = _start(m)
    k = as_dim(k)
    return fresh(x.context, composites.triu(x.context.emit, x.value(), k))


@records(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    context = context_of(*xi)
    vectors = [ravel(as_tracer(context, x)) for x in xi]
    rank = len(vectors)
    order = [1, 0, *range(2, rank)] if indexing == "xy" and rank > 1 else list(range(rank))
    lines = [arrays.expand_dims(v, [d for d in range(rank) if d != order[i]]) for i, v in enumerate(vectors)]
    if not sparse:
        shape = joint_shape(lines)
        lines = [arrays.broadcast_to(v, shape) for v in lines]
    return tuple([fresh(context, v.value()) if copy else v for v in lines])


# Choices and elementwise functions --------------------------------------------------------------------------------------


@records(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if x is None or y is None:
        raise unsupported("np.where(condition)", "It gives a size that only data tell. Use np.where(condition, x, y).")
    context = context_of(condition, x, y)
    mask = as_tracer(context, condition)
    mask_value = cast(context, mask.value(), arrays.BOOL)
    operands = [prepare(context, v) for v in (x, y)]
    kinds = [kind_of(v) for v in operands]
    dtype = promote.result_type(*[k if isinstance(k, type) else supported(k) for k in kinds])
    parts = [v if isinstance(v, Tracer) else as_tracer(context, v) for v in operands]
    shape = joint_shape([mask, *parts])
    values = [to_dtype(context, v, dtype) for v in operands]
    value = context.emit(TABLE["where"], mask_value, *values)
    return fresh(context, value, layout=joint_layout([mask, *parts], shape))


@records(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not condlist:
        raise ValueError("select with an empty condition list is not possible")
    context = context_of(*condlist, *choicelist, default)
    parts = [as_tracer(context, c) for c in choicelist]
    kinds = [*[p.dtype for p in parts], kind_of(prepare(context, default))]
    dtype = promote.result_type(*[k if isinstance(k, type) else supported(k) for k in kinds]).numpy
    result: Any = astype(as_tracer(context, default), dtype)
    for condition, choice in zip(condlist[::-1], parts[::-1], strict=True):
        result = where(condition, _as_dtype(choice, dtype), result)
    return result


@records(np.clip)
def clip(
    a: Any, a_min: Any = _NO, a_max: Any = _NO, out: Any = None, *, min: Any = _NO, max: Any = _NO, **options: Any
) -> Any:
    low, high = (None if v is _NO else v for v in (a_min if min is _NO else min, a_max if max is _NO else max))
    if low is None and high is None:
        return call(np.positive, a, out=out, **options)
    if low is None:
        return call(np.minimum, a, high, out=out, **options)
    if high is None:
        return call(np.maximum, a, low, out=out, **options)
    ufunc = np._core.umath.clip  # type: ignore[attr-defined]
    return call(ufunc, a, low, high, out=out, **options)


@records(np.round, np.around)
def round_(a: Any, decimals: Any = 0, out: Any = None) -> Any:
    x = _start(a, out)
    decimals = operator.index(decimals)
    if x.dtype.kind in "iub":
        if decimals < 0:
            step = 10**-decimals
            scaled = call(np.rint, call(np.true_divide, x, float(step)))
            return _into_out(astype(call(np.multiply, scaled, float(step)), x.dtype), out)
        made = (
            call(np.rint, x) if x.dtype.kind == "b" else (fresh(x.context, x.value(), scalar=x.scalar, layout=x.layout))
        )
        return _into_out(made, out)
    if decimals == 0:
        return call(np.rint, x, out=out)
    factor = float(10 ** abs(decimals))
    up, down = (np.multiply, np.true_divide) if decimals > 0 else (np.true_divide, np.multiply)
    return call(down, call(np.rint, call(up, x, factor)), factor, out=out)


@records(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    return call(np.trunc, x, out=out)


@records(np.real)
def real(val: Any) -> Any:
    x = _start(val)
    if x.dtype.kind != "c":
        return x
    return fresh(x.context, x.context.emit(TABLE["real"], x.value()), scalar=x.scalar, layout=x.layout)


@records(np.imag)
def imag(val: Any) -> Any:
    x = _start(val)
    return fresh(x.context, x.context.emit(TABLE["imag"], x.value()), scalar=x.scalar, layout=x.layout)


def set_part(x: Tracer, part: str, value: Any) -> None:
    """x.real = value, x.imag = value."""
    if x.dtype.kind != "c":
        if part == "imag":
            raise TypeError("cannot set imaginary part of a non-complex array")
        assign(x, value)
        return
    half = np.dtype(np.float32 if x.dtype == np.complex64 else np.float64)
    target = full_of(x.context, x.dims, 0, half)
    assign(target, value)
    parts = [real(x).value(), imag(x).value()]
    parts[part == "imag"] = target.value()
    assign(x, fresh(x.context, x.context.emit(TABLE["complex"], *parts)))


@records(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    x = _start(z)
    if x.dtype.kind != "c":
        result = call(np.arctan2, x if x.dtype.kind != "f" else full_of(x.context, x.dims, 0, x.dtype), x)
        result = call(np.arctan2, full_of(x.context, (), 0, x.dtype), x)
    else:
        result = call(np.arctan2, imag(x), real(x))
    return call(np.multiply, result, 180 / math.pi) if deg else result


@records(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    a = _start(x)
    if a.dtype.kind == "c":
        raise unsupported("np.nan_to_num of complex numbers")
    value = composites.nan_to_num(a.context.emit, a.value(), nan, posinf, neginf)
    result = fresh(a.context, value, scalar=a.scalar, layout=a.layout)
    if not copy:
        assign(a, result)
        return a
    return result


@records(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    context = context_of(a, b)
    x, y = as_tracer(context, a), as_tracer(context, b)
    if y.dtype.kind not in "fc":
        y = astype(y, np.result_type(y.dtype, np.float64))
    near = call(
        np.less_equal,
        call(np.absolute, call(np.subtract, x, y)),
        call(np.add, atol, call(np.multiply, rtol, call(np.absolute, y))),
    )
    result = call(np.logical_or, call(np.logical_and, near, call(np.isfinite, y)), call(np.equal, x, y))
    if equal_nan:
        result = call(np.logical_or, result, call(np.logical_and, call(np.isnan, x), call(np.isnan, y)))
    return result


@records(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    return as_weak(reductions.all_(isclose(a, b, rtol, atol, equal_nan)))


@records(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    context = context_of(a1, a2)
    x, y = as_tracer(context, a1), as_tracer(context, a2)
    if len(x.dims) != len(y.dims) or not all(map(dims.same, x.dims, y.dims)):
        return False
    same = call(np.equal, x, y)
    if equal_nan:
        same = call(np.logical_or, same, call(np.logical_and, call(np.isnan, x), call(np.isnan, y)))
    return as_weak(reductions.all_(same))


@records(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = _NO, append: Any = _NO) -> Any:
    x = _start(a)
    if not x.dims:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalise_axis(axis, len(x.dims))
    parts = []
    for extra in (prepend, x, append):
        if extra is _NO:
            continue
        piece = as_tracer(x.context, extra)
        if not piece.dims:
            piece = arrays.broadcast_to(piece, tuple([1 if d == axis else m for d, m in enumerate(x.dims)]))
        parts.append(piece)
    joined = concatenate(parts, axis) if len(parts) > 1 else x
    n = operator.index(n)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    for _ in range(n):
        whole: list[Any] = [slice(None)] * len(joined.dims)
        ahead, behind = list(whole), list(whole)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        relation = np.not_equal if joined.dtype == np.bool_ else np.subtract
        joined = call(relation, getitem(joined, tuple(ahead)), getitem(joined, tuple(behind)))
    return joined


@records(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    parts = [p for p in (to_begin, diff(ravel(_start(ary))), to_end) if p is not None]
    return parts[0] if len(parts) == 1 else concatenate([ravel(_start(p, ary)) for p in parts])


@records(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    x = _start(f)
    if x.dtype.kind in "iub":
        x = astype(x, float)
    axes = normalise_axes(axis, len(x.dims))
    spacings = list(varargs) or [1.0]
    if len(spacings) == 1:
        spacings = spacings * len(axes)
    if any(isinstance(s, (np.ndarray, Tracer, list)) and np.ndim(s) for s in spacings) or edge_order != 1:
        raise unsupported("np.gradient with coordinate arrays or edge_order=2", "Use scalar spacings.")
    results = [_gradient(x, axis, h) for axis, h in zip(axes, spacings, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _gradient(x: Tracer, axis: int, h: Any) -> Tracer:
    def at(piece: slice) -> Any:
        return getitem(x, tuple([piece if d == axis else slice(None) for d in range(len(x.dims))]))

    if dims.less(x.dims[axis], 2):
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements "
            "are required."
        )
    centre = (at(slice(2, None)) - at(slice(None, -2))) / (2.0 * h)
    first = (at(slice(1, 2)) - at(slice(0, 1))) / h
    last = (at(slice(-1, None)) - at(slice(-2, -1))) / h
    result: Tracer = concatenate([first, centre, last], axis)
    return result


@records(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    context = context_of(a, b)
    if axis is not None:
        axisa = axisb = axisc = axis
    x = moveaxis(as_tracer(context, a), axisa, -1)
    y = moveaxis(as_tracer(context, b), axisb, -1)
    if not (dims.same(x.dims[-1], 3) and dims.same(y.dims[-1], 3)):
        raise ValueError("Both input arrays must be (arrays of) 3-dimensional vectors, but they are not.")
    p, q = ([getitem(v, (Ellipsis, i)) for i in range(3)] for v in (x, y))
    parts = [p[i] * q[j] - p[j] * q[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return moveaxis(stack(parts, -1), -1, axisc)


@records(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    values = _start(y, x)
    axis = normalise_axis(axis, len(values.dims))
    whole = [slice(None)] * len(values.dims)
    ahead, behind = list(whole), list(whole)
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    step: Any = dx
    if x is not None:
        step = diff(x, axis=-1 if len(_start(x, y).dims) == 1 else axis)
        if len(step.dims) == 1:
            step = arrays.expand_dims(step, [d for d in range(len(values.dims)) if d != axis])
    return reductions.sum_(step * (getitem(values, tuple(ahead)) + getitem(values, tuple(behind))) / 2.0, axis)


@records(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = _NO) -> Any:
    if weights is None and not returned:
        return reductions.mean(a, axis, keepdims=keepdims)
    x = _start(a, weights)
    if weights is None:
        raise unsupported("np.average(returned=True) without weights")
    w = as_tracer(x.context, weights)
    if len(w.dims) == 1 and len(x.dims) > 1 and axis is not None:
        at = normalise_axis(axis, len(x.dims))
        w = arrays.expand_dims(w, [d for d in range(len(x.dims)) if d != at])
        w = arrays.broadcast_to(w, x.dims)
    total = reductions.sum_(w, axis, keepdims=keepdims)
    result = call(np.true_divide, reductions.sum_(call(np.multiply, x, w), axis, keepdims=keepdims), total)
    return (result, total) if returned else result


@records(np.sinc)
def sinc(x: Any) -> Any:
    a = _start(x)
    y = call(np.multiply, math.pi, where(call(np.equal, a, 0), 1.0e-20, a))
    return call(np.true_divide, call(np.sin, y), y)


@records(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    raise unsupported("np.interp")


# Products ---------------------------------------------------------------------------------------------------------------


def _product(name: str, composite: Callable[..., Any]) -> Callable[..., Any]:
    def multiply(a: Any, b: Any, out: Any = None, **options: Any) -> Any:
        if not isinstance(b, (Tracer, Number, np.ndarray, np.generic, bool, int, float, complex, list, tuple)):
            return NotImplemented
        context = context_of(a, b, out)
        x, y = as_tracer(context, a), as_tracer(context, b)
        kinds = [kind_of(v) or as_tracer(context, v).dtype for v in (a, b)]
        if all(isinstance(k, type) for k in kinds):
            kinds = [x.dtype, y.dtype]
        dtype = promote.result_type(*[k if isinstance(k, type) else supported(k) for k in kinds])
        _check_product(name, x, y)
        value = composite(context.emit, to_dtype(context, x, dtype), to_dtype(context, y, dtype))
        result = fresh(context, value, scalar=not value.shape and out is None)
        return result if out is None else _into_out(result, out[0] if isinstance(out, tuple) else out)

    multiply.__name__ = name
    return multiply


def _check_product(name: str, x: Tracer, y: Tracer) -> None:
    """Raises NumPy's error where the summed sizes differ."""
    if name == "outer" or not x.dims or not y.dims:
        return
    second = -1 if name == "inner" or len(y.dims) == 1 else -2
    n, m = x.dims[-1], y.dims[second]
    if dims.same(n, m):
        return
    hint = x.context.hint
    if name == "matmul":
        raise ShapeError(
            "matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (n?,k),(k,m?)->(n?,m?) "
            f"(size {hint(m)} is different from {hint(n)})",
            location=user_location(),
        )
    position = len(y.dims) + second
    raise ShapeError(
        f"shapes {hint_shape(x)} and {hint_shape(y)} not aligned: {hint(n)} (dim {len(x.dims) - 1}) != {hint(m)} "
        f"(dim {position})",
        location=user_location(),
    )


matmul = records(np.matmul)(_product("matmul", composites.matmul))
dot = records(np.dot)(_product("dot", composites.dot))
inner = records(np.inner)(_product("inner", composites.inner))
outer_product = records(np.outer)(_product("outer", composites.outer))


@records(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    context = context_of(a, b)
    return dot(call(np.conjugate, ravel(as_tracer(context, a))), ravel(as_tracer(context, b)))


@records(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    context = context_of(a, b)
    x, y = as_tracer(context, a), as_tracer(context, b)
    if isinstance(axes, (tuple, list)):
        left, right = axes
    else:
        axes = operator.index(axes)
        left, right = range(len(x.dims) - axes, len(x.dims)), range(axes)
    left, right = (v if isinstance(v, (tuple, list, range)) else (v,) for v in (left, right))
    dtype = promote.result_type(supported(x.dtype), supported(y.dtype))
    value = composites.tensordot(
        context.emit,
        to_dtype(context, x, dtype),
        to_dtype(context, y, dtype),
        tuple([normalise_axis(d, len(x.dims)) for d in left]),
        tuple([normalise_axis(d, len(y.dims)) for d in right]),
    )
    return fresh(context, value)


@records(np.einsum)
def einsum(subscripts: Any, *operands: Any, out: Any = None, optimize: Any = False, **options: Any) -> Any:
    if not isinstance(subscripts, str) or "." in subscripts or options:
        raise unsupported("np.einsum with ellipsis or lists", 'Write the subscripts out: "ij,jk->ik".')
    context = context_of(*operands)
    parts = [as_tracer(context, v) for v in operands]
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    names = inputs.split(",")
    if "->" not in subscripts:
        letters = inputs.replace(",", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if len(names) != len(parts) or any(len(n) != len(p.dims) for n, p in zip(names, parts, strict=True)):
        raise ValueError("einstein sum subscripts string does not fit the operands")
    if any(len(set(n)) != len(n) for n in names):
        raise unsupported("np.einsum with a repeated letter in one operand", "Use np.diagonal or np.trace.")
    result = _einsum_product(parts, names, output)
    result = fresh(context, result.value(), scalar=not result.dims, layout=result.layout)
    return result if out is None else _into_out(result, out)


def _einsum_product(parts: list[Tracer], names: list[str], output: str) -> Tracer:
    if len(parts) == 2 and _is_matrix_product(names, output):
        summed = [c for c in names[0] if c in names[1]]
        axes = ([names[0].index(c) for c in summed], [names[1].index(c) for c in summed])
        free = [c for n in names for c in n if c not in summed]
        result: Tracer = transpose(tensordot(*parts, axes=axes), [free.index(c) for c in output])
        return result
    letters = output + "".join(dict.fromkeys(c for n in names for c in n if c not in output))
    aligned = []
    for part, name in zip(parts, names, strict=True):
        ordered = transpose(part, [name.index(c) for c in letters if c in name])
        aligned.append(arrays.expand_dims(ordered, [i for i, c in enumerate(letters) if c not in name]))
    product: Any = aligned[0]
    for part in aligned[1:]:
        product = call(np.multiply, product, part)
    axes_summed = tuple(range(len(output), len(letters)))
    summed_up: Tracer = reductions.sum_(product, axes_summed, dtype=product.dtype) if axes_summed else product
    return summed_up


def _is_matrix_product(names: list[str], output: str) -> bool:
    """Letters in both operands are summed, the others kept: one tensordot."""
    both = set(names[0]) & set(names[1])
    return bool(both) and not both & set(output) and set(output) == (set(names[0]) | set(names[1])) - both


@records(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    a = _start(x)
    if a.dtype.kind in "iub":
        a = astype(a, float)
    if ord is not None and not (isinstance(axis, int) or len(a.dims) == 1) and ord not in ("fro", "f"):
        raise unsupported(f"np.linalg.norm(ord={ord!r}) of a matrix", "Give an axis.")
    size = call(np.absolute, a)
    if ord is None or ord in (2, "fro", "f"):
        return call(np.sqrt, reductions.sum_(call(np.square, size), axis, keepdims=keepdims))
    if ord == np.inf:
        return reductions.max_(size, axis, keepdims=keepdims)
    if ord == -np.inf:
        return reductions.min_(size, axis, keepdims=keepdims)
    if ord == 0:
        return reductions.sum_(astype(call(np.not_equal, a, 0), size.dtype), axis, keepdims=keepdims)
    if ord == 1:
        return reductions.sum_(size, axis, keepdims=keepdims)
    return power(reductions.sum_(power(size, ord), axis, keepdims=keepdims), 1.0 / ord)


@records(np.kron)
def kron(a: Any, b: Any) -> Any:
    raise unsupported("np.kron", "Use np.outer and reshape.")


def power(a: Any, b: Any) -> Any:
    """The operator `**`: NumPy's arrays take square, sqrt and reciprocal for the exponents 2, 0.5 and -1."""
    if isinstance(b, IntNumber):
        b = b.narrow("an int exponent of `**`")
    if isinstance(a, Tracer) and a.dtype.kind in "fc" and type(b) in (int, float) and a.weak is None:
        short = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}.get(b)
        if short is not None:
            return call(short, a)
    if isinstance(a, Tracer) and a.dtype.kind in "iu" and type(b) is int and b == 2 and a.weak is None:
        return call(np.square, a)
    return binary(np.power, a, b)


# Sorting and finding ----------------------------------------------------------------------------------------------------


def _along(x: Tracer, axis: Any) -> tuple[Tracer, int]:
    if axis is None:
        return ravel(x), 0
    return x, normalise_axis(axis, len(x.dims))


@records(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x, at = _along(_start(a), axis)
    return fresh(x.context, x.context.emit(TABLE["sort"], x.value(), axis=at))


@records(np.argsort)
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x, at = _along(_start(a), axis)
    return fresh(
        x.context, x.context.emit(TABLE["argsort"], x.value(), axis=at, stable=kind == "stable" or bool(stable))
    )


@records(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    context = context_of(a, v)
    if sorter is not None:
        raise unsupported("np.searchsorted(sorter=)")
    x, y = as_tracer(context, a), as_tracer(context, v)
    dtype = promote.result_type(supported(x.dtype), supported(y.dtype))
    value = context.emit(TABLE["searchsorted"], to_dtype(context, x, dtype), to_dtype(context, y, dtype), side=side)
    return fresh(context, value, scalar=not y.dims)


@records(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    x, at = _along(_start(a, indices), axis)
    result = take_along(x, indices, at, mode)
    return result if out is None else _into_out(result, out)


@records(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    x, at = _along(_start(arr, indices), axis)
    index = as_tracer(x.context, indices)
    rank = len(x.dims)
    places: list[Any] = []
    for d in range(rank):
        if d == at:
            places.append(index)
            continue
        line = arange(make_int(x.context, x.dims[d]))
        places.append(arrays.expand_dims(line, [i for i in range(rank) if i != d]))
    return getitem(x, tuple(places))


# Reductions, by their NumPy names ---------------------------------------------------------------------------------------

RECORDED.update(
    {
        np.sum: reductions.sum_, np.prod: reductions.prod, np.max: reductions.max_, np.min: reductions.min_,
        np.amax: reductions.max_, np.amin: reductions.min_, np.mean: reductions.mean, np.var: reductions.var,
        np.std: reductions.std, np.any: reductions.any_, np.all: reductions.all_, np.ptp: reductions.ptp,
        np.argmax: reductions.argmax, np.argmin: reductions.argmin, np.count_nonzero: reductions.count_nonzero,
        np.cumsum: reductions.cumsum, np.cumprod: reductions.cumprod, np.trace: reductions.trace,
        np.nansum: reductions.nansum, np.nanprod: reductions.nanprod, np.nanmax: reductions.nanmax,
        np.nanmin: reductions.nanmin, np.nanmean: reductions.nanmean,
    }
)
RECORDED[np.iscomplexobj] = lambda x: _start(x).dtype.kind == "c"
RECORDED[np.isrealobj] = lambda x: _start(x).dtype.kind != "c"
RECORDED[np.isscalar] = lambda x: isinstance(x, Number) or (isinstance(x, Tracer) and x.scalar)


@records(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    target = as_tracer(context_of(dst, src, where), dst)
    source = src if is_weak(src) else as_tracer(target.context, src)
    if isinstance(source, Tracer) and not np.can_cast(source.dtype, target.dtype, casting):
        raise TypeError(
            f"Cannot cast array data from {source.dtype!r} to {target.dtype!r} according to the rule {casting!r}"
        )
    if where is not True:
        new = fresh(target.context, target.value())
        assign(new, source)
        source = fresh(
            target.context,
            target.context.emit(TABLE["where"], as_tracer(target.context, where).value(), new.value(), target.value()),
        )
    assign(target, source)


@records(np.result_type)
def result_type(*items: Any) -> Any:
    return np.result_type(*[_dtype_or_example(i) for i in items])


def _dtype_or_example(item: Any) -> Any:
    if isinstance(item, Tracer):
        return item.weak(0) if item.weak else item.dtype
    return item.kind(0) if isinstance(item, Number) else item


@records(np.can_cast)
def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, Tracer) else from_, to, casting)


# Ways in ----------------------------------------------------------------------------------------------------------------


def ufunc_method(ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """ufunc.__call__, .reduce, .accumulate or .outer on traced operands."""
    if method == "__call__":
        if ufunc is np.matmul:
            return matmul(*inputs, **options)
        return call(ufunc, *inputs, **options)
    if method == "reduce":
        return reductions.reduce_method(ufunc, *inputs, **options)
    if method == "accumulate":
        return reductions.accumulate_method(ufunc, *inputs, **options)
    if method == "outer":
        return outer(ufunc, *inputs, **options)
    if method == "at":
        return ufunc_at(ufunc, *inputs)
    raise unsupported(f"{ufunc.__name__}.{method}")


def ufunc_at(ufunc: np.ufunc, a: Any, indices: Any, b: Any = None) -> None:
    """np.add.at: additions at an index array, repeats included."""
    if ufunc is not np.add or isinstance(indices, tuple):
        raise unsupported(f"{ufunc.__name__}.at", "Only np.add.at(x, index_array, values) is.")
    x = as_tracer(context_of(a, indices, b), a)
    index = cast(x.context, as_tracer(x.context, indices).value(), arrays.INT)
    put = to_dtype(x.context, prepare(x.context, b), supported(x.dtype))
    arrays.write(x, x.context.emit(TABLE["index_add"], x.value(), put, index, axes=(0,)))


def dispatch(function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """A NumPy function on traced operands. Raises TraceError for one without a recording version."""
    version = RECORDED.get(function)
    if version is None:
        name = f"{getattr(function, '__module__', 'numpy')}.{getattr(function, '__name__', function)}"
        raise unsupported(name, "Compute it outside the jitted function, or write it with supported functions.")
    return version(*args, **options)
