"""NumPy's reductions on traced arrays: axes, keepdims, dtype, out, initial, where. Mirrors numpy.sum and its like.

Owns the translation of NumPy's reduction arguments; the arithmetic is `ops.composites`. Must not know indexing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.ir.graph import Value
from jitensor.ir.types import DType
from jitensor.ops import TABLE, composites
from jitensor.tracing.arrays import (
    Layout,
    Tracer,
    as_tracer,
    broadcast_to,
    context_of,
    expand_dims,
    fresh,
    strides_of,
    supported,
)
from jitensor.tracing.numbers import Number
from jitensor.tracing.ufuncs import assign, call, cast, joint_shape

_NO = np._NoValue
Axes = tuple[int, ...]


def normalise_axis(axis: Any, rank: int, name: str | None = None) -> int:
    """The axis counted from 0. Raises numpy.exceptions.AxisError, with the argument's name where NumPy gives it."""
    axis = operator.index(axis)
    if not -rank <= axis < rank:
        raise np.exceptions.AxisError(axis, rank, name)
    return axis % rank if rank else 0


def normalise_axes(axis: Any, rank: int) -> Axes:
    """Sorted axes of axis=None, an int, or a tuple."""
    if axis is None:
        return tuple(range(rank))
    items = axis if isinstance(axis, (tuple, list)) else (axis,)
    if isinstance(axis, list):
        raise TypeError("'list' object cannot be interpreted as an integer")
    if rank == 0 and not isinstance(axis, tuple) and operator.index(axis) in (0, -1):
        return ()  # NumPy's reductions take a 0-d array for a line of one element
    axes = [normalise_axis(a, rank) for a in items]
    if len(set(axes)) != len(axes):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(axes))


def reduced_layout(x: Tracer, axes: Axes, keepdims: bool) -> Layout:
    """The memory order that NumPy gives the result: that of the kept axes."""
    if x.layout is None:
        return None
    strides = strides_of(x)
    kept = [0 if d in axes else s for d, s in enumerate(strides) if keepdims or d not in axes]
    rest = [s for s in kept if s]
    return None if rest == sorted(rest, reverse=True) else tuple(kept)


def _finish(x: Tracer, value: Value, axes: Axes, keepdims: Any, out: Any) -> Any:
    keep = bool(keepdims) if keepdims is not _NO else False
    scalar = not value.shape and not (keep and axes)
    result = fresh(x.context, value, scalar=scalar and out is None)
    if keep and axes:
        result = fresh(x.context, expand_dims(result, axes).value())
    result.layout = reduced_layout(x, axes, keep)
    if out is None:
        return result
    if isinstance(out, tuple):
        out = out[0]
    target = as_tracer(x.context, out)
    resolve_out(result, target)
    assign(target, result)
    return out


def resolve_out(result: Tracer, out: Tracer) -> None:
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        np.add(np.zeros((), result.dtype), 0, out=np.zeros((), out.dtype))  # raises NumPy's error
    joint_shape([result], [out])


def _start(a: Any, *others: Any) -> Tracer:
    return as_tracer(context_of(a, *others), a)


def _masked(x: Tracer, where: Any, fill: Any) -> Tracer:
    """x with `fill`, of x's dtype, where the mask is False."""
    if where is True or where is _NO or where is None:
        return x
    mask = as_tracer(x.context, where)
    shape = joint_shape([x, mask])
    x = broadcast_to(x, shape)
    neutral = x.context.constant(fill, supported(x.dtype))
    return fresh(x.context, x.context.emit(TABLE["where"], mask.value(), x.value(), neutral))


def _with_initial(ufunc: np.ufunc, x: Tracer, value: Value, initial: Any) -> Value:
    if initial is _NO or initial is None:
        return value
    combined = call(ufunc, fresh(x.context, value), initial)
    return cast(x.context, combined.value(), value.dtype)


def _total(name: str, ufunc: np.ufunc, neutral: int, composite: Callable[..., Value]) -> Callable[..., Any]:
    def reduce(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO, initial: Any = _NO,
        where: Any = _NO,
    ) -> Any:  # fmt: skip
        x = _start(a, out, where)
        target: DType | None = supported(dtype) if dtype is not None else None
        axes = normalise_axes(axis, len(x.dims))
        x = _masked(x, where, neutral)
        if target is None and out is not None:
            target = supported((out[0] if isinstance(out, tuple) else out).dtype)
        value = composite(x.context.emit, x.value(), axes, target)
        return _finish(x, _with_initial(ufunc, x, value, initial), axes, keepdims, out)

    reduce.__name__ = name
    return reduce


sum_ = _total("sum", np.add, 0, composites.sum_)
prod = _total("prod", np.multiply, 1, composites.prod)


def _check_not_empty(x: Tracer, axes: Axes, message: str) -> None:
    """A check at run time of sizes that only the data tell."""
    for axis in axes:
        if x.context.is_unknown(x.dims[axis]):
            x.context.check_size("greater", x.dims[axis], 0, ValueError, message)


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "fc":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "fc":
        return np.inf
    return True if dtype.kind == "b" else np.iinfo(dtype).max


def _extreme(
    name: str, ufunc: np.ufunc, fill: Callable[..., Any], composite: Callable[..., Value]
) -> Callable[..., Any]:
    def reduce(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NO, initial: Any = _NO, where: Any = _NO
    ) -> Any:
        x = _start(a, out, where)
        axes = normalise_axes(axis, len(x.dims))
        if initial is _NO or initial is None:
            _check_not_empty(x, axes, f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
        if where is not True and where is not _NO and (initial is _NO or initial is None):
            raise ValueError(
                f"reduction operation '{ufunc.__name__}' does not have an identity, so to use a where mask "
                "one has to specify 'initial'"
            )
        if (
            initial is not _NO
            and initial is not None
            and any(isinstance(x.dims[d], int) and x.dims[d] == 0 for d in axes)
        ):
            kept = tuple([n for d, n in enumerate(x.dims) if d not in axes])
            zero = x.context.constant(fill(x.dtype), supported(x.dtype))
            value = x.context.emit(TABLE["full"], zero, shape=kept)
        else:
            value = composite(x.context.emit, _masked(x, where, fill(x.dtype)).value(), axes)
        return _finish(x, _with_initial(ufunc, x, value, initial), axes, keepdims, out)

    reduce.__name__ = name
    return reduce


max_ = _extreme("max", np.maximum, _lowest, composites.max_)
min_ = _extreme("min", np.minimum, _highest, composites.min_)


def _logical(name: str, neutral: bool, composite: Callable[..., Value]) -> Callable[..., Any]:
    def reduce(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NO, *, where: Any = _NO) -> Any:
        x = _start(a, out, where)
        axes = normalise_axes(axis, len(x.dims))
        truth = fresh(x.context, cast(x.context, x.value(), supported(np.dtype(bool))), layout=x.layout)
        value = composite(x.context.emit, _masked(truth, where, neutral).value(), axes)
        return _finish(x, value, axes, keepdims, out)

    reduce.__name__ = name
    return reduce


any_ = _logical("any", False, composites.any_)
all_ = _logical("all", True, composites.all_)


def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO, *, where: Any = _NO) -> Any:
    x = _start(a, out, where)
    axes = normalise_axes(axis, len(x.dims))
    if where is not _NO and where is not True:
        mask = broadcast_to(as_tracer(x.context, where), joint_shape([x, as_tracer(x.context, where)]))
        total = sum_(x if x.dtype.kind in "fc" else _as_float(x), axis, dtype, None, keepdims, where=mask)
        count = sum_(mask, axis, None, None, keepdims)
        return call(np.true_divide, total, call(np.multiply, count, 1.0), dtype=total.dtype, casting="unsafe", out=out)
    value = composites.mean(x.context.emit, x.value(), axes, supported(dtype) if dtype is not None else None)
    return _finish(x, value, axes, keepdims, out)


def _as_float(x: Tracer) -> Tracer:
    return fresh(x.context, cast(x.context, x.value(), supported(np.dtype(float))))


def _spread(name: str, composite: Callable[..., Value]) -> Callable[..., Any]:
    def reduce(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = _NO, *,
        where: Any = _NO, mean: Any = _NO, correction: Any = _NO,
    ) -> Any:  # fmt: skip
        ddof = ddof if correction is _NO else correction
        if (where is not _NO and where is not True) or mean is not _NO:
            given = None if mean is _NO else mean
            return _spread_of_some(name, a, axis, dtype, out, ddof, keepdims, where, given)
        x = _start(a, out)
        axes = normalise_axes(axis, len(x.dims))
        if isinstance(ddof, Number):
            ddof = ddof.narrow(f"{name}(ddof=)")
        value = composite(x.context.emit, x.value(), axes, ddof, supported(dtype) if dtype is not None else None)
        return _finish(x, value, axes, keepdims, out)

    reduce.__name__ = name
    return reduce


def _spread_of_some(
    name: str, a: Any, axis: Any, dtype: Any, out: Any, ddof: Any, keepdims: Any, where: Any, centre: Any
) -> Any:
    """var and std of the elements under a mask, or around a mean that is given."""
    x = _start(a, out, where, centre)
    x = x if x.dtype.kind in "fc" else _as_float(x)
    mask = as_tracer(x.context, True if where is _NO else where)
    mask = broadcast_to(mask, joint_shape([x, mask]))
    if centre is None:
        centre = mean(x, axis, dtype, None, True, where=mask)
    away = call(np.subtract, x, centre)
    if away.dtype.kind == "c":
        product = call(np.multiply, away, call(np.conjugate, away))
        away = fresh(x.context, x.context.emit(TABLE["real"], product.value()))
    else:
        away = call(np.square, away)
    total = sum_(away, axis, dtype, None, keepdims, where=mask)
    free = call(np.maximum, call(np.subtract, sum_(mask, axis, None, None, keepdims), ddof), 0)
    result = call(np.true_divide, total, free, dtype=total.dtype, casting="unsafe")
    result = call(np.sqrt, result) if name == "std" else result
    if out is None:
        return result
    target = as_tracer(x.context, out)
    resolve_out(result, target)
    assign(target, result)
    return out


var = _spread("var", composites.var)
std = _spread("std", composites.std)


def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    x = _start(a)
    axes = normalise_axes(axis, len(x.dims))
    return _finish(x, composites.count_nonzero(x.context.emit, x.value(), axes), axes, keepdims, None)


def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NO) -> Any:
    x = _start(a, out)
    axes = normalise_axes(axis, len(x.dims))
    return _finish(x, composites.ptp(x.context.emit, x.value(), axes), axes, keepdims, out)


def _arg(name: str) -> Callable[..., Any]:
    def reduce(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = _NO) -> Any:
        x = _start(a, out)
        at = None if axis is None else normalise_axis(axis, len(x.dims))
        axes = tuple(range(len(x.dims))) if at is None else (at,)
        _check_not_empty(x, axes, f"attempt to get {name} of an empty sequence")
        value = composites.arg_extreme(x.context.emit, TABLE[name], x.value(), at)
        result = _finish(x, value, axes, keepdims, out)
        if isinstance(result, Tracer) and out is None:
            result.layout = None
        return result

    reduce.__name__ = name
    return reduce


argmax, argmin = _arg("argmax"), _arg("argmin")


def _running(name: str, widen: bool = True) -> Callable[..., Any]:
    def accumulate(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        x = _start(a, out)
        target = supported(dtype) if dtype is not None else supported(x.dtype)
        if dtype is None and widen:
            target = composites.sum_dtype(target)
        value = x.value()
        if axis is None:
            value, axis = composites.ravel(x.context.emit, value), 0
        elif not x.dims:
            raise np.exceptions.AxisError(axis, 0)
        else:
            axis = normalise_axis(axis, len(x.dims))
        value = x.context.emit(TABLE[name], cast(x.context, value, target), axis=axis)
        return _finish(x, value, (), False, out)

    accumulate.__name__ = name
    return accumulate


cumsum, cumprod = _running("cumsum"), _running("cumprod")
cummax, cummin = _running("cummax", widen=False), _running("cummin", widen=False)


def trace(a: Any, offset: Any = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    x = _start(a, out)
    rank = len(x.dims)
    first, second = normalise_axis(axis1, rank), normalise_axis(axis2, rank)
    rest = tuple([d for d in range(rank) if d not in (first, second)])
    value = composites.transpose(x.context.emit, x.value(), (*rest, first, second))
    if dtype is not None:
        value = cast(x.context, value, supported(dtype))
    return _finish(x, composites.trace(x.context.emit, value, operator.index(offset)), (), False, out)


_NAN_NEUTRAL: dict[str, Any] = {"sum": 0, "prod": 1, "max": -np.inf, "min": np.inf}


def _ignoring_nan(name: str, reduce: Callable[..., Any]) -> Callable[..., Any]:
    """nansum, nanprod, nanmax, nanmin: nan replaced by what changes nothing; nan where there was nothing else."""

    def nan_reduce(a: Any, axis: Any = None, *args: Any, **options: Any) -> Any:
        x = _start(a)
        if x.dtype.kind not in "fc":
            return reduce(x, axis, *args, **options)
        nan = call(np.isnan, x)
        filled = _masked(x, call(np.logical_not, nan), _NAN_NEUTRAL[name])
        result = reduce(filled, axis, *args, **options)
        if name in ("max", "min"):
            empty = all_(nan, axis, keepdims=options.get("keepdims", _NO))
            value = x.context.emit(
                TABLE["where"], empty.value(), x.context.constant(np.nan, supported(x.dtype)), result.value()
            )
            result = fresh(x.context, value, scalar=result.scalar)
        return result

    nan_reduce.__name__ = f"nan{name}"
    return nan_reduce


nansum, nanprod = _ignoring_nan("sum", sum_), _ignoring_nan("prod", prod)
nanmax, nanmin = _ignoring_nan("max", max_), _ignoring_nan("min", min_)


def nanmean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO) -> Any:
    x = _start(a, out)
    if x.dtype.kind not in "fc":
        return mean(x, axis, dtype, out, keepdims)
    kept = call(np.logical_not, call(np.isnan, x))
    total = nansum(x, axis, dtype, keepdims=keepdims)
    count = sum_(kept, axis, keepdims=keepdims)
    return call(np.true_divide, total, count, dtype=total.dtype, casting="unsafe", out=out)


REDUCE: dict[Any, Callable[..., Any]] = {
    np.add: sum_,
    np.multiply: prod,
    np.maximum: max_,
    np.minimum: min_,
    np.logical_and: all_,
    np.logical_or: any_,
}
ACCUMULATE: dict[Any, Callable[..., Any]] = {
    np.add: cumsum,
    np.multiply: cumprod,
    np.maximum: cummax,
    np.minimum: cummin,
}


def reduce_method(ufunc: np.ufunc, a: Any, axis: Any = 0, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    """ufunc.reduce; the axis defaults to 0, as NumPy's does."""
    function = REDUCE.get(ufunc)
    if function is None:
        raise TraceError(f"{ufunc.__name__}.reduce: not supported in a traced function", location=user_location())
    if ufunc in (np.add, np.multiply):
        options["dtype"] = dtype
    return function(a, axis, out=out, **options)


def accumulate_method(ufunc: np.ufunc, a: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
    function = ACCUMULATE.get(ufunc)
    if function is None:
        raise TraceError(f"{ufunc.__name__}.accumulate: not supported in a traced function", location=user_location())
    return function(a, axis, dtype, out)
