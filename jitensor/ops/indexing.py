"""Reads and writes at positions that are data: gathers, scatters, masks. NumPy runs them (family "library").

An index out of range raises NumPy's IndexError when the op runs; negative ones count from the end. An op whose result's
shape depends on data takes `size`, the name of a fresh size symbol, which stands for the length found at run time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import dims, types
from jitensor.ir.graph import Primitive
from jitensor.ir.types import Shape, TensorType
from jitensor.ops.base import broadcast_shapes, register


def _library(name: str, type_rule: Any, evaluate: Any, doc: str, *, data_shape: bool = False) -> Primitive:
    return register(Primitive(name, "library", type_rule, evaluate, data_shape=data_shape, doc=doc))


def _need_integers(name: str, index: TensorType) -> None:
    if not index.dtype.is_integer:
        raise DTypeError(f"{name}: the index is {index}; needed an integer dtype")


def _need_same(name: str, x: TensorType, value: TensorType) -> None:
    if x.dtype is not value.dtype:
        raise DTypeError(f"{name}: the array is {x.dtype.name} and the values are {value.dtype.name}; needed one dtype")


def _gather_type(x: TensorType, indices: TensorType, axis: int, mode: str) -> TensorType:
    _need_integers("gather", indices)
    return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


gather = _library(
    "gather",
    _gather_type,
    lambda x, indices, axis, mode: np.take(x, indices, axis=axis, mode=mode),
    'Slices of x at `indices` along `axis` (not negative); mode is "raise", "wrap" or "clip". Mirrors numpy.take.',
)


# Several index arrays at once ---------------------------------------------------------------------------------------


def _index(indices: tuple[Any, ...], axes: tuple[int, ...], rank: int) -> tuple[Any, ...]:
    at = dict(zip(axes, indices, strict=True))
    return tuple(at.get(d, slice(None)) for d in range(rank))


def _indexed_shape(name: str, x: TensorType, indices: tuple[TensorType, ...], axes: tuple[int, ...]) -> Shape:
    """The indices' broadcast shape takes the place of `axes` where those are neighbours, else it comes first."""
    for index in indices:
        _need_integers(name, index)
    picked = broadcast_shapes(name, [i.shape for i in indices])
    kept = [(d, n) for d, n in enumerate(x.shape) if d not in axes]
    first = axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0
    before = [n for d, n in kept if d < first]
    after = [n for d, n in kept if d >= first]
    return (*before, *picked, *after)


index_get = _library(
    "index_get",
    lambda x, *indices, axes: TensorType(x.dtype, _indexed_shape("index_get", x, indices, axes)),
    lambda x, *indices, axes: x[_index(indices, axes, x.ndim)],
    "x at integer arrays along `axes` (sorted; whole slices elsewhere). Mirrors NumPy's advanced indexing.",
)


def _index_put_type(x: TensorType, value: TensorType, *indices: TensorType, axes: tuple[int, ...]) -> TensorType:
    _need_same("index_put", x, value)
    target = _indexed_shape("index_put", x, indices, axes)
    _need_broadcast("index_put", value.shape, target)
    return x


def _need_broadcast(name: str, shape: Shape, target: Shape) -> None:
    if len(shape) > len(target) or not all(
        n == 1 or dims.same(n, m) for n, m in zip(shape[::-1], target[::-1], strict=False)
    ):
        raise ShapeError(
            f"shape mismatch: value array of shape {_text(shape)} could not be broadcast to indexing result of shape "
            f"{_text(target)}"
        )


def _text(shape: Shape) -> str:
    return "(" + ",".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _index_put(x: Any, value: Any, *indices: Any, axes: tuple[int, ...]) -> Any:
    result = np.array(x)
    result[_index(indices, axes, x.ndim)] = value
    return result


def _index_add(x: Any, value: Any, *indices: Any, axes: tuple[int, ...]) -> Any:
    result = np.array(x)
    np.add.at(result, _index(indices, axes, x.ndim), value)
    return result


index_put = _library(
    "index_put",
    _index_put_type,
    _index_put,
    "x with the elements that index_get would read replaced by `value`, the last of equal positions winning.",
)
index_add = _library(
    "index_add",
    _index_put_type,
    _index_add,
    "x with `value` added at positions, repeats included. Mirrors numpy.add.at.",
)


def _depth(name: str, x: TensorType, indices: TensorType) -> int:
    _need_integers(name, indices)
    depth = dims.known(indices.shape[-1], f"{name}: the index depth") if indices.rank else -1
    if not 0 <= depth <= x.rank:
        raise ShapeError(f"{name}: indices are {indices} and x is {x}; indices.shape[-1] must be at most x's rank.")
    return depth


def _gather_nd_type(x: TensorType, indices: TensorType) -> TensorType:
    return TensorType(x.dtype, (*indices.shape[:-1], *x.shape[_depth("gather_nd", x, indices) :]))


def _scatter_nd_type(x: TensorType, indices: TensorType, value: TensorType) -> TensorType:
    _need_same("scatter_nd_update", x, value)
    target = (*indices.shape[:-1], *x.shape[_depth("scatter_nd_update", x, indices) :])
    if value.rank != len(target) or not all(map(dims.same, value.shape, target)):
        raise ShapeError(f"scatter_nd_update: updates are {value}; needed shape {_text(target)}.")
    return x


def _scatter_nd(x: Any, indices: Any, value: Any) -> Any:
    result = np.array(x)
    result[tuple(np.moveaxis(indices, -1, 0))] = value
    return result


def _gather_nd(x: Any, indices: Any) -> Any:
    if indices.shape[-1] == 0:  # an empty position is all of x
        return np.broadcast_to(x, (*indices.shape[:-1], *x.shape))
    return x[tuple(np.moveaxis(indices, -1, 0))]


gather_nd = _library(
    "gather_nd",
    _gather_nd_type,
    lambda x, indices: _gather_nd(x, indices),
    "Slices of x at the positions in the last dimension of `indices`. Mirrors tf.gather_nd.",
)
scatter_nd_update = _library(
    "scatter_nd_update",
    _scatter_nd_type,
    _scatter_nd,
    "x with the slices at `indices` replaced. Mirrors tf.tensor_scatter_nd_update.",
)


# Masks: the result's length is data ---------------------------------------------------------------------------------


def _masked(name: str, x: TensorType, mask: TensorType, axis: int) -> tuple[Shape, Shape]:
    """x's dimensions before and after those that the mask covers."""
    if mask.dtype is not types.bool_:
        raise DTypeError(f"{name}: the mask is {mask}; needed bool")
    covered = x.shape[axis : axis + mask.rank]
    if len(covered) != mask.rank or not mask.rank:
        raise ShapeError(f"{name}: x is {x} and the mask is {mask}; the mask has too many dimensions or none.")
    for d, (n, m) in enumerate(zip(covered, mask.shape, strict=True), axis):
        if not dims.same(n, m):
            raise ShapeError(
                f"boolean index did not match indexed array along axis {d}; size of axis is {n} but size of "
                f"corresponding boolean axis is {m}"
            )
    return x.shape[:axis], x.shape[axis + mask.rank :]


def _mask_get_type(x: TensorType, mask: TensorType, axis: int, size: str) -> TensorType:
    before, after = _masked("boolean_mask", x, mask, axis)
    return TensorType(x.dtype, (*before, dims.symbol(size), *after))


def _mask_put_type(x: TensorType, mask: TensorType, value: TensorType, axis: int) -> TensorType:
    _masked("mask_put", x, mask, axis)
    _need_same("mask_put", x, value)
    return x


def _mask_put(x: Any, mask: Any, value: Any, axis: int) -> Any:
    result = np.array(x, order="C")
    if mask.ndim == x.ndim and value.ndim <= 1:
        places = np.flatnonzero(mask)
        if value.size in (1, places.size):
            result.reshape(-1)[places] = value
            return result
    result[(*(slice(None),) * axis, mask)] = value
    return result


def _mask_get(x: Any, mask: Any, axis: int) -> Any:
    """x[mask]. Positions first: finding and taking them has no branches, which a mask read element by element has."""
    if mask.ndim == x.ndim:
        return x.reshape(-1).take(np.flatnonzero(mask))
    return x[(*(slice(None),) * axis, mask)]


mask_get = _library(
    "boolean_mask",
    _mask_get_type,
    lambda x, mask, axis, size: _mask_get(x, mask, axis),
    "The slices of x, from dimension `axis` on, where the mask holds. Mirrors x[mask] and tf.boolean_mask.",
    data_shape=True,
)
mask_put = _library(
    "mask_put",
    _mask_put_type,
    _mask_put,
    "x with the elements under the mask replaced by `value`. Mirrors x[mask] = value.",
)
nonzero = _library(
    "nonzero",
    lambda x, size: tuple(TensorType(types.int64, (dims.symbol(size),)) for _ in x.shape),
    lambda x, size: np.nonzero(x),
    "Positions of the elements that are not 0, one int64 array per dimension. Mirrors numpy.nonzero.",
    data_shape=True,
)
