"""Products of vectors, matrices and tensors, brought to the one primitive `matmul`."""

from __future__ import annotations

from typing import Any

from jitensor.errors import ShapeError
from jitensor.ir import dims
from jitensor.ops import arithmetic as a
from jitensor.ops import linalg, movement, reductions
from jitensor.ops.composites.layout import ravel, reshape, transpose
from jitensor.ops.composites.numbers import Axes, Emit, cast
from jitensor.ops.composites.reductions import count, widened


def matmul(emit: Emit, x: Any, y: Any) -> Any:
    """Mirrors numpy.matmul: a vector on the left is a row, on the right a column, whose dimension is dropped after."""
    if x.type.rank == 0 or y.type.rank == 0:
        raise ShapeError(
            "matmul: Input operand does not have enough dimensions (has 0, gufunc core with signature "
            "(n?,k),(k,m?)->(n?,m?) requires 1)"
        )
    if x.type.rank == 1 and y.type.rank == 1:
        return _inner_product(emit, x, y)
    left = emit(movement.expand_dims, x, axes=(0,)) if x.type.rank == 1 else x
    right = emit(movement.expand_dims, y, axes=(1,)) if y.type.rank == 1 else y
    result = emit(linalg.matmul, left, right)
    if x.type.rank == 1:
        return emit(movement.squeeze, result, axes=(result.type.rank - 2,))
    return emit(movement.squeeze, result, axes=(result.type.rank - 1,)) if y.type.rank == 1 else result


def _inner_product(emit: Emit, x: Any, y: Any) -> Any:
    """Of two vectors: a sum that fuses with what makes them."""
    if not dims.same(x.type.shape[0], y.type.shape[0]):
        raise ShapeError(f"matmul: x is {x.type} and y is {y.type}; x.shape[-1] must equal y.shape[0].")
    dtype = x.type.dtype
    product = emit(a.multiply, cast(emit, x, widened(dtype)), cast(emit, y, widened(dtype)))
    if dtype.kind == "b":
        return emit(reductions.reduce_any, product, axes=(0,))
    return cast(emit, emit(reductions.reduce_sum, product, axes=(0,)), dtype)


def dot(emit: Emit, x: Any, y: Any) -> Any:
    """The last dimension of x against the last but one of y. Mirrors numpy.dot."""
    if x.type.rank == 0 or y.type.rank == 0:
        return emit(a.multiply, x, y)
    if y.type.rank <= 2:
        return matmul(emit, x, y)
    return tensordot(emit, x, y, (x.type.rank - 1,), (y.type.rank - 2,))


def inner(emit: Emit, x: Any, y: Any) -> Any:
    """The last dimensions against each other. Mirrors numpy.inner."""
    if x.type.rank == 0 or y.type.rank == 0:
        return emit(a.multiply, x, y)
    return tensordot(emit, x, y, (x.type.rank - 1,), (y.type.rank - 1,))


def outer(emit: Emit, x: Any, y: Any) -> Any:
    """Every product of an element of x and one of y. Mirrors numpy.outer."""
    x, y = ravel(emit, x), ravel(emit, y)
    return emit(a.multiply, emit(movement.expand_dims, x, axes=(1,)), emit(movement.expand_dims, y, axes=(0,)))


def tensordot(emit: Emit, x: Any, y: Any, x_axes: Axes, y_axes: Axes) -> Any:
    """Sums of products over pairs of dimensions. Mirrors numpy.tensordot."""
    for i, j in zip(x_axes, y_axes, strict=True):
        if not dims.same(x.type.shape[i], y.type.shape[j]):
            raise ShapeError(
                f"tensordot: shape-mismatch for sum: {x.type} and {y.type} over axes {x_axes} and {y_axes}."
            )
    x_free = tuple(d for d in range(x.type.rank) if d not in x_axes)
    y_free = tuple(d for d in range(y.type.rank) if d not in y_axes)
    shape = (*(x.type.shape[d] for d in x_free), *(y.type.shape[d] for d in y_free))
    if not x_free and not y_free and len(x_axes) == 1:
        return _inner_product(emit, x, y)
    inner_size = count(x, x_axes)
    left = reshape(emit, transpose(emit, x, (*x_free, *x_axes)), (count(x, x_free), inner_size))
    right = reshape(emit, transpose(emit, y, (*y_axes, *y_free)), (inner_size, count(y, y_free)))
    return reshape(emit, emit(linalg.matmul, left, right), shape)
