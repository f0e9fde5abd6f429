"""NumPy's functions that make arrays, recorded: zeros, full, array, asarray, arange, linspace, eye, diag ...

Owns creation inside a trace: a local array is a traced cell that can be written to.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.types import Shape
from jitensor.ops import TABLE, composites
from jitensor.tracing import arrays
from jitensor.tracing.arrays import (
    Tracer,
    any_traced,
    as_tracer,
    constant_array,
    context_of,
    fresh,
    kind_of,
    supported,
)
from jitensor.tracing.context import TraceContext, here
from jitensor.tracing.functions_joining import _as_dtype, pad
from jitensor.tracing.functions_movement import moveaxis, ravel
from jitensor.tracing.numbers import IntNumber, Number, as_dim
from jitensor.tracing.reductions import normalise_axis
from jitensor.tracing.registry import RECORDED, _order, _start, records, sizes_of, unsupported
from jitensor.tracing.ufuncs import (
    assign,
    call,
    cast,
    is_weak,
    joint_layout,
    joint_shape,
    prepare,
    to_dtype,
)

Size = int | Dim


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
    if not np.can_cast(x.dtype, target.numpy, casting):  # type: ignore[arg-type]
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
        length = _ceiling((stop - start) / step)
        count = as_dim(length)
    if not context.is_unknown(count) and dims.less_equal(count, 0):
        return full_of(context, (0,), 0, target.numpy)
    first = to_dtype(context, start, target)
    stride = to_dtype(context, step, target)
    value = composites.arange(context.emit, first, stride, count)
    return fresh(context, value)


def _ceiling(value: Any) -> Any:
    return value.__ceil__() if isinstance(value, Number) else math.ceil(value)


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
    if context.is_unknown(far) or context.is_unknown(near):
        span = far - near
        if context.lower_bound(span) is None:
            span = dims.opaque("max", span, 0)
        return (span + abs(step) - 1) // abs(step) if abs(step) != 1 else span
    if dims.less_equal(far, near):
        return 0
    return (far - near + abs(step) - 1) // abs(step) if abs(step) != 1 else far - near


@records(np.linspace, creates=True)
def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0, *, device: Any = None,
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
    ends = [kind_of(v) if isinstance(kind_of(v), type) else t.dtype for v, t in ((start, first), (stop, last))]
    work = np.result_type(*[k(0) if isinstance(k, type) else k for k in ends], float(num))
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


def _as_matrix(x: Any) -> Any:
    """A vector as the rows of a square matrix, as NumPy's tril and triu take it."""
    return arrays.broadcast_to(x, x.dims * 2) if len(x.dims) == 1 else x


@records(np.tril)
def tril(m: Any, k: Any = 0) -> Any:
    x = _as_matrix(_start(m))
    return fresh(x.context, composites.tril(x.context.emit, x.value(), as_dim(k)))


@records(np.triu)
def triu(m: Any, k: Any = 0) -> Any:
    x = _as_matrix(_start(m))
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
