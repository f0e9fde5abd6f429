"""Views: ops that change only how elements are indexed. `reshape` has its own family: it is no affine index map."""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.errors import ShapeError
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Primitive
from jitensor.ir.types import Shape, TensorType
from jitensor.ops.base import Movement, movement, register

transpose = movement(
    "transpose",
    shape=lambda s, perm: tuple(s[p] for p in perm),
    lower=Movement(source=lambda s, perm: perm),
    numpy=lambda x, perm: np.transpose(x, perm),
)
"""Dimension i of the result is dimension perm[i] of x. Mirrors numpy.transpose."""

expand_dims = movement(
    "expand_dims",
    shape=lambda s, axes: tuple(1 if d is None else s[d] for d in _expanded(s, axes)),
    lower=Movement(source=lambda s, axes: _expanded(s, axes)),
    numpy=lambda x, axes: np.expand_dims(x, axes),
)
"""Dimensions of size 1 inserted at `axes` (positions in the result, sorted). Mirrors numpy.expand_dims."""

squeeze = movement(
    "squeeze",
    shape=lambda s, axes: tuple(s[d] for d in _kept(s, axes)),
    lower=Movement(source=lambda s, axes: _kept(s, axes)),
    numpy=lambda x, axes: np.squeeze(x, axes),
)
"""The dimensions `axes`, all of size 1, dropped. Mirrors numpy.squeeze."""

broadcast_to = movement(
    "broadcast_to",
    shape=lambda s, shape: shape,
    lower=Movement(source=lambda s, shape: _broadcast_source(s, shape)),
    numpy=lambda x, shape: np.broadcast_to(x, shape),
)
"""x repeated along dimensions of size 1 and new leading ones. Mirrors numpy.broadcast_to."""

slice_ = movement(
    "slice",
    shape=lambda s, starts, sizes, steps: sizes,
    lower=Movement(
        source=lambda s, starts, sizes, steps: tuple(range(len(s))),
        start_step=lambda s, starts, sizes, steps: tuple(zip(starts, steps, strict=True)),
    ),
    numpy=lambda x, starts, sizes, steps: x[numpy_slices(starts, sizes, steps)],
)
"""Element i of a dimension is element start + i*step of x, for 0 <= i < size; everything in range (the door clipped
it). Steps are nonzero ints. Mirrors basic slicing in NumPy."""


def numpy_slices(starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> tuple[slice, ...]:
    """The slices that pick these elements. A negative step that ends at element 0 needs a stop of None."""
    result = []
    for start, size, step in zip(starts, sizes, steps, strict=True):
        stop = start + size * step
        result.append(slice(start, stop if stop >= 0 else None, step) if size else slice(0, 0))
    return tuple(result)


def _expanded(shape: Shape, axes: tuple[int, ...]) -> tuple[int | None, ...]:
    dimensions = iter(range(len(shape)))
    return tuple(None if i in axes else next(dimensions) for i in range(len(shape) + len(axes)))


def _kept(shape: Shape, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d for d in range(len(shape)) if d not in axes)


def _broadcast_source(shape: Shape, target: Shape) -> tuple[int | None, ...]:
    new = len(target) - len(shape)
    return tuple(
        None if i < new or (shape[i - new] != n and dims.same(shape[i - new], 1)) else i - new
        for i, n in enumerate(target)
    )


def _reshape_type(x: TensorType, shape: tuple[int | Dim, ...]) -> TensorType:
    if not dims.same(dims.product(x.shape), dims.product(shape)):
        raise ShapeError(f"cannot reshape array of shape {_text(x.shape)} into shape {_text(shape)}")
    return TensorType(x.dtype, shape)


def _text(shape: Shape) -> str:
    return "(" + ",".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _reshape(x: Any, shape: tuple[int, ...]) -> Any:
    return np.reshape(x, shape)


reshape: Primitive = register(Primitive("reshape", "reshape", _reshape_type, _reshape))
"""The same elements in row-major order under another shape (no -1: the door has solved it). Mirrors numpy.reshape."""
