"""Products of matrices under TensorFlow's names."""

from __future__ import annotations

from typing import Any

from jitensor.api.convert import pair, to_tensor
from jitensor.errors import ShapeError
from jitensor.ops import TABLE
from jitensor.recording import bind, operation
from jitensor.tensor import Tensor


def swapped(x: Tensor, conjugate: bool = False) -> Tensor:
    """The last two dimensions exchanged."""
    rank = x.ndim
    if rank < 2:
        raise ShapeError(f"transpose: x is {x._text()}; needed at least 2 dimensions")
    perm = (*range(rank - 2), rank - 1, rank - 2)
    result = bind(TABLE["transpose"], (x,), perm=perm)
    return bind(TABLE["conjugate"], (result,)) if conjugate and x._dtype.is_complex else result


@operation
def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    name: str | None = None,
) -> Tensor:
    """Matrix products. a: [..., m, k], b: [..., k, n]; leading dimensions broadcast. Mirrors tf.linalg.matmul."""
    x, y = pair("matmul", a, b)
    if transpose_a or adjoint_a:
        x = swapped(x, adjoint_a)
    if transpose_b or adjoint_b:
        y = swapped(y, adjoint_b)
    return bind(TABLE["matmul"], (x, y))


@operation
def matrix_transpose(a: Any, name: str | None = None, conjugate: bool = False) -> Tensor:
    """The last two dimensions exchanged. Mirrors tf.linalg.matrix_transpose."""
    return swapped(to_tensor(a), conjugate)


@operation
def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """Sum of products over the axes: a number n (the last n of a, the first n of b) or a pair of lists. Mirrors
    tf.tensordot."""
    x, y = pair("tensordot", a, b)
    over_x, over_y = _contracted(axes, x.ndim, y.ndim)
    keep_x = [d for d in range(x.ndim) if d not in over_x]
    keep_y = [d for d in range(y.ndim) if d not in over_y]
    rows, columns = _sizes(x, keep_x), _sizes(y, keep_y)
    inner = _sizes(x, over_x)
    if inner != _sizes(y, over_y):
        raise ShapeError(f"tensordot: x is {x._text()} and y is {y._text()}; the contracted sizes differ")
    left = bind(TABLE["transpose"], (x,), perm=(*keep_x, *over_x))
    right = bind(TABLE["transpose"], (y,), perm=(*over_y, *keep_y))
    k = _product(inner)
    left = bind(TABLE["reshape"], (left,), shape=(_product(rows), k))
    right = bind(TABLE["reshape"], (right,), shape=(k, _product(columns)))
    return bind(TABLE["reshape"], (bind(TABLE["matmul"], (left, right)),), shape=(*rows, *columns))


def _contracted(axes: Any, rank_x: int, rank_y: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(axes, int):
        return tuple(range(rank_x - axes, rank_x)), tuple(range(axes))
    first, second = axes
    first = (first,) if isinstance(first, int) else tuple(first)
    second = (second,) if isinstance(second, int) else tuple(second)
    return tuple(d % rank_x for d in first), tuple(d % rank_y for d in second)


def _sizes(x: Tensor, axes: Any) -> tuple[int, ...]:
    return tuple(x.shape[d] for d in axes)


def _product(sizes: tuple[int, ...]) -> int:
    total = 1
    for n in sizes:
        total *= n
    return total
