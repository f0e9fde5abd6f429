"""NumPy functions on traced tensors: they record, where TensorFlow raises. dtype rules stay TensorFlow's.

Owns `FUNCTIONS`, from NumPy function to what records it, and the two protocol methods. Eager tensors need none of it:
NumPy takes them as arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.api import elementwise as e
from jitensor.api import indexing, reductions, shaping
from jitensor.api.linear import matmul, tensordot
from jitensor.api.slicing import get_item
from jitensor.errors import TraceError
from jitensor.ops import by_ufunc
from jitensor.tensor import Tensor


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, axis: Any = None, dtype: None = None, out: None = None, keepdims: bool = False) -> Any:
        _only_plain(function.__name__, dtype, out)
        return function(a, list(axis) if isinstance(axis, tuple) else axis, keepdims)

    return call


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
        _only_plain(function.__name__, None, out)
        return function(a, list(axis) if isinstance(axis, tuple) else axis, keepdims)

    return call


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(
        a: Any, axis: Any = None, dtype: None = None, out: None = None, ddof: int = 0, keepdims: bool = False
    ) -> Any:
        _only_plain(function.__name__, dtype, out if ddof == 0 else ddof)
        return function(a, list(axis) if isinstance(axis, tuple) else axis, keepdims)

    return call


def _only_plain(name: str, *options: Any) -> None:
    if any(o is not None for o in options):
        raise TraceError.of(f"np.{name}", "dtype, out or ddof was given", "traced tensors take none", "Use the jt op")


def _position(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, axis: Any = None, out: None = None) -> Any:
        _only_plain(function.__name__, None, out)
        return function(shaping.reshape(a, [-1]), 0) if axis is None else function(a, axis)

    return call


def _clip(a: Any, a_min: Any = None, a_max: Any = None, out: None = None) -> Any:
    _only_plain("clip", None, out)
    bounded = a if a_min is None else e.maximum(a, a_min)
    return bounded if a_max is None else e.minimum(bounded, a_max)


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        raise TraceError.of(
            "np.where", "only a condition was given", "its result is a tuple of unknown sizes", "Use jt.where"
        )
    return indexing.where(condition, x, y)


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    if order != "C":
        raise TraceError.of("np.reshape", f"order is {order!r}", "only row-major order is recorded", "Transpose first")
    return shaping.reshape(a, [shape] if isinstance(shape, int) else shape)


def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    perm = list(range(a.ndim))
    perm[axis1], perm[axis2] = perm[axis2], perm[axis1]
    return shaping.transpose(a, perm)


def _moveaxis(a: Any, source: int, destination: int) -> Any:
    perm = [d for d in range(a.ndim) if d != source % a.ndim]
    perm.insert(destination % a.ndim, source % a.ndim)
    return shaping.transpose(a, perm)


def _pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    return shaping.pad(array, widths, mode.upper(), constant_values)


def _flip(m: Any, axis: Any = None) -> Any:
    return shaping.reverse(m, range(m.ndim) if axis is None else [axis] if isinstance(axis, int) else axis)


def _full_like(a: Any, fill_value: Any, dtype: Any = None) -> Any:
    return e.multiply(shaping.ones_like(a, dtype), fill_value)


def _dot(a: Any, b: Any) -> Any:
    if not np.ndim(a) or not np.ndim(b):
        return e.multiply(a, b)
    return tensordot(a, b, [[np.ndim(a) - 1], [max(np.ndim(b) - 2, 0)]])


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _reduction(reductions.reduce_sum),
    np.prod: _reduction(reductions.reduce_prod),
    np.mean: _reduction(reductions.reduce_mean),
    np.max: _extreme(reductions.reduce_max),
    np.min: _extreme(reductions.reduce_min),
    np.any: _extreme(reductions.reduce_any),
    np.all: _extreme(reductions.reduce_all),
    np.var: _spread(reductions.reduce_variance),
    np.std: _spread(reductions.reduce_std),
    np.argmax: _position(reductions.argmax),
    np.argmin: _position(reductions.argmin),
    np.count_nonzero: reductions.count_nonzero,
    np.cumsum: lambda a, axis=None: (
        reductions.cumsum(shaping.reshape(a, [-1])) if axis is None else reductions.cumsum(a, axis)
    ),
    np.clip: _clip,
    np.where: _where,
    np.round: lambda a: e.round_(a),
    np.reshape: _reshape,
    np.ravel: lambda a: shaping.reshape(a, [-1]),
    np.transpose: lambda a, axes=None: shaping.transpose(a, axes),
    np.swapaxes: _swapaxes,
    np.moveaxis: _moveaxis,
    np.expand_dims: lambda a, axis: shaping.expand_dims(a, axis),
    np.squeeze: lambda a, axis=None: shaping.squeeze(a, axis),
    np.broadcast_to: lambda array, shape: shaping.broadcast_to(array, shape),
    np.concatenate: lambda arrays, axis=0: shaping.concat(list(arrays), axis),
    np.stack: lambda arrays, axis=0: shaping.stack(list(arrays), axis),
    np.split: lambda ary, indices_or_sections, axis=0: shaping.split(ary, indices_or_sections, axis),
    np.tile: lambda A, reps: shaping.tile(A, reps),
    np.repeat: lambda a, repeats, axis=None: shaping.repeat(a, repeats, axis),
    np.flip: _flip,
    np.roll: lambda a, shift, axis: shaping.roll(a, shift, axis),
    np.pad: _pad,
    np.zeros_like: lambda a, dtype=None: shaping.zeros_like(a, dtype),
    np.ones_like: lambda a, dtype=None: shaping.ones_like(a, dtype),
    np.full_like: _full_like,
    np.take: lambda a, indices, axis=None: indexing.gather(
        shaping.reshape(a, [-1]) if axis is None else a, indices, axis=axis or 0
    ),
    np.sort: lambda a, axis=-1: indexing.sort(a, axis),
    np.argsort: lambda a, axis=-1: indexing.argsort(a, axis),
    np.dot: _dot,
    np.tensordot: lambda a, b, axes=2: tensordot(a, b, axes),
    np.shape: lambda a: tuple(a.shape),
    np.ndim: lambda a: a.ndim,
    np.diff: lambda a: get_item(a, (..., slice(1, None))) - get_item(a, (..., slice(None, -1))),
}

BY_PRIMITIVE: dict[str, Callable[..., Any]] = {
    **e._made,
    "divide": e.divide,
    "floor_divide": e.floordiv,
    "remainder": e.floormod,
    "power": e.power,
    "logical_and": e.logical_and,
    "logical_or": e.logical_or,
    "logical_xor": e.logical_xor,
    "logical_not": e.logical_not,
    "rint": e.round_,
    "matmul": matmul,
}


def array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    primitive = by_ufunc(ufunc)
    if method != "__call__" or kwargs or primitive is None or primitive.name not in BY_PRIMITIVE:
        raise TraceError.of(
            f"np.{ufunc.__name__}",
            f"method {method} with options {sorted(kwargs)} on a traced tensor",
            "only plain calls of ufuncs that jitensor knows are recorded",
            "Use the jt op",
        )
    return BY_PRIMITIVE[primitive.name](*inputs)


def array_function(self: Tensor, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    recorded = FUNCTIONS.get(function)
    name = f"np.{getattr(function, '__name__', function)}"
    if recorded is None:
        raise NotImplementedError(f"{name} of a traced tensor is not recorded; use the jt op, or jt.numpy_function")
    try:
        return recorded(*args, **{k: v for k, v in kwargs.items() if v is not np._NoValue})
    except TypeError as error:
        if "unexpected keyword" not in str(error) and "positional argument" not in str(error):
            raise
        raise TraceError.of(name, str(error), "a traced tensor takes its plain form", "Use the jt op") from None
