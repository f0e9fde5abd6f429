"""Elementwise functions that are a few primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, exp_log, movement, structure
from jitensor.ops.cast import imag, real
from jitensor.ops.composites.layout import slice_axis
from jitensor.ops.composites.numbers import Emit, Size, constant
from jitensor.ops.trig import arctan2


def angle(emit: Emit, x: Any) -> Any:
    """atan2(imag, real). Mirrors numpy.angle."""
    return emit(arctan2, emit(imag, x), emit(real, x))


def diff(emit: Emit, x: Any, n: int, axis: int) -> Any:
    """Differences of neighbours, n times. Mirrors numpy.diff."""
    relation = comparison.not_equal if x.type.dtype.kind == "b" else a.subtract
    for _ in range(n):
        size = x.type.shape[axis] - 1
        if isinstance(size, int) and size < 0:
            return slice_axis(emit, x, axis, 0, 0)
        x = emit(relation, slice_axis(emit, x, axis, 1, size), slice_axis(emit, x, axis, 0, size))
    return x


def nan_to_num(emit: Emit, x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """nan and infinities replaced; infinities by the dtype's extremes unless given. Mirrors numpy.nan_to_num (real)."""
    dtype = x.type.dtype
    if dtype.kind != "f":
        return x
    limits = np.finfo(dtype.numpy)
    top = constant(emit, limits.max if posinf is None else posinf, dtype)
    bottom = constant(emit, limits.min if neginf is None else neginf, dtype)
    for number, replacement in ((np.inf, top), (-np.inf, bottom)):
        found = emit(comparison.equal, x, constant(emit, number, dtype))
        x = emit(comparison.where, found, replacement, x)
    return emit(comparison.where, emit(comparison.isnan, x), constant(emit, nan, dtype), x)


def one_hot(emit: Emit, indices: Any, depth: Size, on: Any, off: Any, axis: int) -> Any:
    """`on` where the new dimension `axis` has the position that the index says, else `off`. Mirrors tf.one_hot."""
    spread = emit(movement.expand_dims, indices, axes=(axis,))
    shape = tuple(depth if d == axis else 1 for d in range(spread.type.rank))
    line = emit(structure.iota, shape=shape, axis=axis, dtype=indices.type.dtype)
    return emit(comparison.where, emit(comparison.equal, spread, line), on, off)


def relu(emit: Emit, x: Any) -> Any:
    """max(x, 0). Mirrors tf.nn.relu: in this order, so that at a tie x has no gradient."""
    return emit(a.maximum, constant(emit, 0, x.type.dtype), x)


def rsqrt(emit: Emit, x: Any) -> Any:
    """1 / sqrt(x). Mirrors tf.math.rsqrt."""
    return emit(a.divide, constant(emit, 1, x.type.dtype), emit(a.sqrt, x))


def softplus(emit: Emit, x: Any) -> Any:
    """log(1 + exp(x)) without overflow. Mirrors tf.math.softplus."""
    return emit(exp_log.logaddexp, x, constant(emit, 0, x.type.dtype))


def squared_difference(emit: Emit, x: Any, y: Any) -> Any:
    """(x - y)**2; of complex numbers times the conjugate. Mirrors tf.math.squared_difference."""
    difference = emit(a.subtract, x, y)
    if x.type.dtype.kind != "c":
        return emit(a.square, difference)
    return emit(a.multiply, difference, emit(a.conjugate, difference))
