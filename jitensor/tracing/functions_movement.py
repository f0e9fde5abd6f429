"""NumPy's functions that only change how elements are indexed, recorded: reshape, transpose, flip, broadcast_to ...

Owns views by function. Must not know arithmetic.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.errors import ShapeError, TraceError, user_location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ops import composites
from jitensor.tracing import arrays
from jitensor.tracing.arrays import (
    Tracer,
    as_tracer,
    context_of,
    fresh,
    hint_shape,
)
from jitensor.tracing.indexing import getitem
from jitensor.tracing.numbers import as_dim
from jitensor.tracing.reductions import normalise_axes, normalise_axis
from jitensor.tracing.registry import _start, records, sizes_of
from jitensor.tracing.ufuncs import (
    joint_shape,
)


@records(np.reshape)
def reshape(a: Any, /, shape: Any, order: Any = "C", *, copy: Any = None) -> Any:
    x = _start(a)
    if order == "F" or (order == "A" and x.layout is not None and not x.contiguous):
        return transpose(reshape(transpose(x), tuple(shape)[::-1] if isinstance(shape, (tuple, list)) else shape))
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
        if any(map(x.context.is_unknown, (*x.dims, *target))):
            raise TraceError(
                "reshape: whether the shape fits depends on a size that only the data tell. Reshape before the mask, "
                "or with -1 where that size stands alone.",
                location=user_location(),
            ) from None
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
