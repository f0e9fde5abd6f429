"""NumPy's sorting, searching and taking functions, recorded, and the reductions filed under their NumPy names.

Owns their argument forms; NumPy itself runs the library ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.ops import TABLE, promote
from jitensor.tracing import arrays, reductions
from jitensor.tracing.arrays import (
    Tracer,
    as_tracer,
    context_of,
    fresh,
    supported,
)
from jitensor.tracing.functions_creation import arange, astype
from jitensor.tracing.functions_joining import _into_out, stack
from jitensor.tracing.functions_movement import ravel, transpose
from jitensor.tracing.indexing import getitem
from jitensor.tracing.indexing import nonzero as positions
from jitensor.tracing.indexing import take as take_along
from jitensor.tracing.library import record_call
from jitensor.tracing.numbers import Number, make_int
from jitensor.tracing.reductions import normalise_axis
from jitensor.tracing.registry import RECORDED, _start, records, unsupported
from jitensor.tracing.ufuncs import (
    assign,
    is_weak,
    to_dtype,
)


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
        return record_call("numpy.searchsorted", (a, v, side, sorter))
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


RECORDED.update(
    {
        np.sum: reductions.sum_,
        np.prod: reductions.prod,
        np.max: reductions.max_,
        np.min: reductions.min_,
        np.amax: reductions.max_,
        np.amin: reductions.min_,
        np.mean: reductions.mean,
        np.var: reductions.var,
        np.std: reductions.std,
        np.any: reductions.any_,
        np.all: reductions.all_,
        np.ptp: reductions.ptp,
        np.argmax: reductions.argmax,
        np.argmin: reductions.argmin,
        np.count_nonzero: reductions.count_nonzero,
        np.cumsum: reductions.cumsum,
        np.cumprod: reductions.cumprod,
        np.trace: reductions.trace,
        np.nansum: reductions.nansum,
        np.nanprod: reductions.nanprod,
        np.nanmax: reductions.nanmax,
        np.nanmin: reductions.nanmin,
        np.nanmean: reductions.nanmean,
    }
)
RECORDED[np.iscomplexobj] = lambda x: _start(x).dtype.kind == "c"
RECORDED[np.isrealobj] = lambda x: _start(x).dtype.kind != "c"
RECORDED[np.isscalar] = lambda x: isinstance(x, Number) or (isinstance(x, Tracer) and x.scalar)


@records(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    target = as_tracer(context_of(dst, src, where), dst)
    source = src if is_weak(src) else as_tracer(target.context, src)
    if isinstance(source, Tracer) and not np.can_cast(source.dtype, target.dtype, casting):  # type: ignore[arg-type]
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
    return np.can_cast(from_.dtype if isinstance(from_, Tracer) else from_, to, casting)  # type: ignore[arg-type]


@records(np.nonzero)
def nonzero(a: Any) -> Any:
    x = _start(a)
    if not x.dims:
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() instead.")
    return positions(x)


@records(np.flatnonzero)
def flatnonzero(a: Any) -> Any:
    return positions(ravel(_start(a)))[0]


@records(np.argwhere)
def argwhere(a: Any) -> Any:
    x = _start(a)
    found = positions(x) if x.dims else positions(arrays.expand_dims(x, (0,)))[:0]
    if not found:
        raise unsupported("np.argwhere of a number")
    return transpose(stack(found), (1, 0))


@records(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    x = ravel(_start(arr, condition))
    return getitem(x, astype(ravel(as_tracer(x.context, condition)), bool))


@records(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    x, at = _along(_start(a, condition), axis)
    kept = astype(as_tracer(x.context, condition), bool)
    if len(kept.dims) != 1:
        raise ValueError("condition must be a 1-d array")
    result = take_along(x, positions(kept)[0], at)
    return result if out is None else _into_out(result, out)
