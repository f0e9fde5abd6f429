"""Running totals, sorting, searching and the like along one axis. NumPy runs them (family "library")."""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import dims, types
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Primitive
from jitensor.ir.types import TensorType
from jitensor.ops.base import register


def _library(name: str, type_rule: Any, evaluate: Any, doc: str, **fields: Any) -> Primitive:
    return register(Primitive(name, "library", type_rule, evaluate, doc=doc, **fields))


def _running(name: str, kinds: str) -> Any:
    def type_rule(x: TensorType, axis: int) -> TensorType:
        if x.dtype.kind not in kinds:
            raise DTypeError(f"{name}: not defined for {x.dtype.name}")
        return x

    return type_rule


cumsum = _library(
    "cumsum",
    _running("cumsum", "iufc"),
    lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype),
    "Running sums along `axis`, in the operand's dtype. Mirrors numpy.cumsum.",
)
cumprod = _library(
    "cumprod",
    _running("cumprod", "iufc"),
    lambda x, axis: np.cumprod(x, axis=axis, dtype=x.dtype),
    "Running products along `axis`, in the operand's dtype. Mirrors numpy.cumprod.",
)
cummax = _library(
    "cummax",
    _running("cummax", "biufc"),
    lambda x, axis: np.maximum.accumulate(x, axis=axis),
    "Running maxima along `axis`. Mirrors numpy.maximum.accumulate.",
)
cummin = _library(
    "cummin",
    _running("cummin", "biufc"),
    lambda x, axis: np.minimum.accumulate(x, axis=axis),
    "Running minima along `axis`. Mirrors numpy.minimum.accumulate.",
)
sort = _library(
    "sort",
    _running("sort", "biufc"),
    lambda x, axis: np.sort(x, axis=axis),
    "Elements in rising order along `axis`, nan last. Mirrors numpy.sort.",
)
argsort = _library(
    "argsort",
    lambda x, axis, stable: TensorType(types.int64, x.shape),
    lambda x, axis, stable: np.argsort(x, axis=axis, kind="stable" if stable else None),
    "Positions that sort along `axis`, int64. Mirrors numpy.argsort.",
)


def _top_k_type(x: TensorType, k: int) -> tuple[TensorType, TensorType]:
    if not x.rank or dims.less(x.shape[-1], k):
        raise ShapeError(f"top_k: x is {x} and k is {k}; k must be at most x.shape[-1].")
    shape = (*x.shape[:-1], k)
    return TensorType(x.dtype, shape), TensorType(types.int32, shape)


def _top_k(x: Any, k: int) -> Any:
    """The reversed row is sorted stably and read backwards: of equal elements the lower position comes first."""
    positions = x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., :k]
    return np.take_along_axis(x, positions, -1), positions.astype(np.int32)


top_k = _library(
    "top_k", _top_k_type, _top_k, "The k largest along the last axis and their positions. Mirrors tf.math.top_k."
)


def _searchsorted_type(x: TensorType, values: TensorType, side: str) -> TensorType:
    if x.rank != 1 or x.dtype is not values.dtype:
        raise ShapeError(f"searchsorted: x is {x} and values are {values}; needed 1-d x of the values' dtype.")
    return TensorType(types.int64, values.shape)


searchsorted = _library(
    "searchsorted",
    _searchsorted_type,
    lambda x, values, side: np.searchsorted(x, values, side=side),
    'Positions in sorted x that keep it sorted, int64; side is "left" or "right". Mirrors numpy.searchsorted.',
)


def _unique_type(x: TensorType, size: str) -> tuple[TensorType, ...]:
    found = (dims.symbol(size),)
    total: int | Dim = dims.product(x.shape)
    positions = TensorType(types.int64, found)
    return TensorType(x.dtype, found), positions, TensorType(types.int64, (total,)), positions


def _unique(x: Any, size: str) -> Any:
    values, index, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    return values, index, inverse.reshape(-1), counts


unique = _library(
    "unique",
    _unique_type,
    _unique,
    "Sorted unique elements of x, where each is first, which one each element is, and how often. Mirrors numpy.unique.",
    data_shape=True,
)


def _repeat_type(x: TensorType, repeats: TensorType, axis: int, size: str) -> TensorType:
    if not repeats.dtype.is_integer or repeats.rank != 1 or not dims.same(repeats.shape[0], x.shape[axis]):
        raise ShapeError(f"repeat: x is {x} and repeats are {repeats}; needed one integer for each of x.shape[{axis}].")
    return TensorType(x.dtype, (*x.shape[:axis], dims.symbol(size), *x.shape[axis + 1 :]))


repeat_each = _library(
    "repeat_each",
    _repeat_type,
    lambda x, repeats, axis, size: np.repeat(x, repeats, axis=axis),
    "Slice i along `axis` repeated repeats[i] times. Mirrors numpy.repeat with an array.",
    data_shape=True,
)
