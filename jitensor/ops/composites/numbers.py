"""Constants and sizes as values, and the types that every composite names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.ir.dims import Dim
from jitensor.ir.graph import CONSTANT, Literal
from jitensor.ir.types import DType
from jitensor.ops import structure
from jitensor.ops.cast import cast as cast_op

Emit = Callable[..., Any]  # emit(primitive, *values, **params) -> value or values
Axes = tuple[int, ...]
Size = int | Dim


def cast(emit: Emit, x: Any, dtype: DType) -> Any:
    """x as `dtype`; x itself where it is that already."""
    return x if x.type.dtype is dtype else emit(cast_op, x, dtype=dtype)


def constant(emit: Emit, value: Any, dtype: DType) -> Any:
    """A 0-d constant."""
    return emit(CONSTANT, value=Literal(np.asarray(value, dtype.numpy)))


def size_as(emit: Emit, size: Size, dtype: DType) -> Any:
    """A size as a 0-d number."""
    if isinstance(size, int):
        return constant(emit, size, dtype)
    return emit(structure.size_value, size=size, dtype=dtype)


def full(emit: Emit, shape: Sequence[Size], value: Any, dtype: DType) -> Any:
    """An array of one Python number. Mirrors numpy.full."""
    return emit(structure.full, constant(emit, value, dtype), shape=tuple(shape))
