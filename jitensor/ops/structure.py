"""Ops that make, join and overwrite arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType, TensorType
from jitensor.ops.base import register
from jitensor.ops.movement import numpy_slices

full = register(
    Primitive(
        "full",
        "creation",
        type_rule=lambda value, shape: TensorType(value.dtype, shape),
        evaluate=lambda value, shape: np.full(shape, value),
    )
)
"""Every element is `value` (0-d). Mirrors numpy.full."""

iota = register(
    Primitive(
        "iota",
        "creation",
        type_rule=lambda shape, axis, dtype: TensorType(dtype, shape),
        evaluate=lambda shape, axis, dtype: _iota(shape, axis, dtype),
    )
)
"""Each element is its index along `axis`, as `dtype` (an integer or float). The root of arange, linspace, eye, tri."""


def _iota(shape: tuple[int, ...], axis: int, dtype: DType) -> Any:
    line = np.arange(shape[axis]).astype(dtype.numpy)
    return np.broadcast_to(line.reshape([-1 if d == axis else 1 for d in range(len(shape))]), shape).copy()


size_value = register(
    Primitive(
        "size_value",
        "creation",
        type_rule=lambda size, dtype: TensorType(dtype, ()),
        evaluate=lambda size, dtype: np.asarray(size, dtype.numpy),
        doc="A size as a 0-d number of `dtype`: a host number in the program, loaded before the loop. No NumPy name.",
    )
)


def _concatenate_type(*parts: TensorType, axis: int) -> TensorType:
    first = parts[0]
    total: int | Dim = 0
    for i, part in enumerate(parts):
        if part.dtype is not first.dtype:
            raise DTypeError(f"concatenate: operands are {first.dtype.name} and {part.dtype.name}; needed one dtype")
        if part.rank != first.rank:
            raise ShapeError(
                "all the input array dimensions except for the concatenation axis must match exactly, but operand 0 "
                f"has {first.rank} dimension(s) and operand {i} has {part.rank}"
            )
        for d, (n, m) in enumerate(zip(first.shape, part.shape, strict=True)):
            if d != axis and not dims.same(n, m):
                raise ShapeError(
                    "all the input array dimensions except for the concatenation axis must match exactly, but along "
                    f"dimension {d}, the array at index 0 has size {n} and the array at index {i} has size {m}"
                )
        total = total + part.shape[axis]
    return TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


concatenate = register(
    Primitive(
        "concatenate",
        "join",
        type_rule=_concatenate_type,
        evaluate=lambda *parts, axis: np.concatenate(parts, axis),
    )
)
"""The operands one after another along `axis` (not negative). Mirrors numpy.concatenate."""


def _update_type(
    base: TensorType, value: TensorType, starts: tuple[Any, ...], sizes: tuple[Any, ...], steps: tuple[int, ...]
) -> TensorType:
    if value.dtype is not base.dtype or value.rank != base.rank or not all(map(dims.same, value.shape, sizes)):
        raise ShapeError(f"update_slice: the value is {value}, the region {base.dtype.short}{list(sizes)}")
    return base


def _update(base: Any, value: Any, starts: Any, sizes: Any, steps: Any) -> Any:
    result = np.array(base)
    result[numpy_slices(starts, sizes, steps)] = value
    return result


update_slice = register(Primitive("update_slice", "update", type_rule=_update_type, evaluate=_update))
"""`base` with the region that `slice` of the same params would read replaced by `value` (same dtype, shape `sizes`)."""
