"""Reductions under TensorFlow's names: axis None reduces all, keepdims keeps them as size 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.api.convert import cast_to, to_tensor, weak
from jitensor.api.shaping import normal_axes, normal_axis, sizes_of
from jitensor.errors import DTypeError, ShapeError
from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType, as_dtype, bool_, float32, int64
from jitensor.ops import TABLE
from jitensor.recording import bind, operation
from jitensor.tensor import Tensor


def reduced(primitive: Primitive, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if not axes:
        return x
    result = bind(primitive, (x,), axes=axes)
    return bind(TABLE["expand_dims"], (result,), axes=axes) if keepdims else result


def _reduction(name: str, kinds: str = "iufc") -> Callable[..., Tensor]:
    primitive = TABLE[name]

    def implementation(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
        x = to_tensor(input_tensor)
        if x._dtype.kind not in kinds:
            raise DTypeError(f"{primitive.name}: not defined for {x._dtype.name}; use jt.cast")
        return reduced(primitive, x, normal_axes(primitive.name, axis, x.ndim), keepdims)

    implementation.__name__ = implementation.__qualname__ = name
    implementation.__doc__ = primitive.doc
    return operation(implementation)


reduce_sum = _reduction("reduce_sum")
reduce_prod = _reduction("reduce_prod")
reduce_any = _reduction("reduce_any", kinds="b")
reduce_all = _reduction("reduce_all", kinds="b")


def _extreme(name: str, empty: Callable[[DType], Any]) -> Callable[..., Tensor]:
    """Of no elements TensorFlow gives the identity, where NumPy raises."""
    primitive = TABLE[name]

    def implementation(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
        x = to_tensor(input_tensor)
        if x._dtype.kind not in "iuf":
            raise DTypeError(f"{primitive.name}: not defined for {x._dtype.name}; use jt.cast")
        axes = normal_axes(primitive.name, axis, x.ndim)
        if any(sizes_of(x)[a] == 0 for a in axes):
            sizes = tuple(1 if d in axes else n for d, n in enumerate(sizes_of(x)))
            x = bind(TABLE["full"], (weak(empty(x._dtype), x._dtype),), shape=sizes)
        return reduced(primitive, x, axes, keepdims)

    implementation.__name__ = implementation.__qualname__ = name
    implementation.__doc__ = primitive.doc
    return operation(implementation)


reduce_max = _extreme("reduce_max", lambda dtype: -np.inf if dtype.is_floating else int(dtype.min))
reduce_min = _extreme("reduce_min", lambda dtype: np.inf if dtype.is_floating else int(dtype.max))


def count_of(x: Tensor, axes: tuple[int, ...]) -> int:
    return int(np.prod([sizes_of(x)[a] for a in axes], dtype=np.int64))


def mean_over(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """Integers stay integers, divided by floor, as in TensorFlow. float16 is summed in float32."""
    if not axes:
        return x
    wide = cast_to(x, float32) if x._dtype is as_dtype("float16") else x
    total = reduced(TABLE["reduce_sum"], wide, axes, keepdims)
    count = weak(max(count_of(x, axes), 1) if x._dtype.kind in "iu" else count_of(x, axes), wide._dtype)
    name = "floor_divide" if x._dtype.kind in "iu" else "divide"
    return cast_to(bind(TABLE[name], (total, count)), x._dtype)


def _numbers(op: str, value: Any) -> Tensor:
    x = to_tensor(value)
    if x._dtype is bool_:
        raise DTypeError(f"{op}: not defined for bool; use jt.cast")
    return x


@operation
def reduce_mean(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """Mean over the axes; of integers an integer. Mirrors tf.reduce_mean."""
    x = _numbers("reduce_mean", input_tensor)
    return mean_over(x, normal_axes("reduce_mean", axis, x.ndim), keepdims)


def variance_over(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if x._dtype.kind in "iu":
        raise DTypeError(f"reduce_variance: not defined for {x._dtype.name}; use jt.cast")
    centred = bind(TABLE["subtract"], (x, mean_over(x, axes, True)))
    if x._dtype.is_complex:
        return mean_over(bind(TABLE["square"], (bind(TABLE["absolute"], (centred,)),)), axes, keepdims)
    return mean_over(bind(TABLE["square"], (centred,)), axes, keepdims)


@operation
def reduce_variance(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """Mean of the squared distances from the mean. Mirrors tf.math.reduce_variance."""
    x = _numbers("reduce_variance", input_tensor)
    return variance_over(x, normal_axes("reduce_variance", axis, x.ndim), keepdims)


@operation
def reduce_std(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """Square root of the variance. Mirrors tf.math.reduce_std."""
    x = _numbers("reduce_std", input_tensor)
    return bind(TABLE["sqrt"], (variance_over(x, normal_axes("reduce_std", axis, x.ndim), keepdims),))


@operation
def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """Square root of the sum of squares. Mirrors tf.math.reduce_euclidean_norm."""
    x = _numbers("reduce_euclidean_norm", input_tensor)
    total = reduced(TABLE["reduce_sum"], bind(TABLE["square"], (x,)), normal_axes("norm", axis, x.ndim), keepdims)
    return bind(TABLE["sqrt"], (total,))


@operation
def reduce_logsumexp(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """log(sum(exp(x))), shifted by the largest so that nothing overflows. Mirrors tf.reduce_logsumexp."""
    x = _numbers("reduce_logsumexp", input_tensor)
    return logsumexp_over(x, normal_axes("reduce_logsumexp", axis, x.ndim), keepdims)


def logsumexp_over(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if any(sizes_of(x)[a] == 0 for a in axes):
        return reduced(TABLE["reduce_sum"], bind(TABLE["log"], (x,)), axes, keepdims)
    top = bind(TABLE["stop_gradient"], (reduced(TABLE["reduce_max"], x, axes, True),))
    finite = bind(TABLE["isfinite"], (top,))
    shift = bind(TABLE["where"], (finite, top, weak(0.0, x._dtype)))
    total = reduced(TABLE["reduce_sum"], bind(TABLE["exp"], (bind(TABLE["subtract"], (x, shift)),)), axes, True)
    result = bind(TABLE["add"], (bind(TABLE["log"], (total,)), shift))
    return result if keepdims or not axes else bind(TABLE["squeeze"], (result,), axes=axes)


@operation
def count_nonzero(
    input: Any, axis: Any = None, keepdims: bool = False, dtype: Any = int64, name: str | None = None
) -> Tensor:
    """How many elements are not 0. Mirrors tf.math.count_nonzero."""
    x = cast_to(cast_to(to_tensor(input), bool_), as_dtype(dtype))
    return reduced(TABLE["reduce_sum"], x, normal_axes("count_nonzero", axis, x.ndim), keepdims)


def _position(name: str) -> Callable[..., Tensor]:
    primitive = TABLE[name]

    def implementation(input: Any, axis: Any = None, output_type: Any = int64, name: str | None = None) -> Tensor:
        x = to_tensor(input)
        along = normal_axis(primitive.name, 0 if axis is None else axis, x.ndim)
        return cast_to(bind(primitive, (x,), axes=(along,)), as_dtype(output_type))

    implementation.__name__ = implementation.__qualname__ = name
    implementation.__doc__ = primitive.doc + " axis: one; None is 0."
    return operation(implementation)


argmax = _position("argmax")
argmin = _position("argmin")


def _running(name: str) -> Callable[..., Tensor]:
    primitive, neutral = TABLE[name], 0 if name == "cumsum" else 1

    def implementation(
        x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
    ) -> Tensor:
        x = _numbers(primitive.name, x)
        along = normal_axis(primitive.name, axis, x.ndim)
        if reverse:
            x = _turned(x, along)
        result = bind(primitive, (x,), axis=along)
        if exclusive:
            result = _shifted(result, along, neutral)
        return _turned(result, along) if reverse else result

    implementation.__name__ = implementation.__qualname__ = name
    implementation.__doc__ = primitive.doc
    return operation(implementation)


def _turned(x: Tensor, axis: int) -> Tensor:
    n = sizes_of(x)[axis]
    rank = x.ndim
    return bind(
        TABLE["slice"],
        (x,),
        starts=tuple([max(n - 1, 0) if d == axis else 0 for d in range(rank)]),
        sizes=sizes_of(x),
        steps=tuple([-1 if d == axis else 1 for d in range(rank)]),
    )


def _shifted(x: Tensor, axis: int, first: int) -> Tensor:
    """One step later, with `first` at the start."""
    sizes = sizes_of(x)
    if not sizes[axis]:
        return x
    short = tuple([n - 1 if d == axis else n for d, n in enumerate(sizes)])
    body = bind(TABLE["slice"], (x,), starts=(0,) * x.ndim, sizes=short, steps=(1,) * x.ndim)
    head = bind(
        TABLE["full"], (weak(first, x._dtype),), shape=tuple([1 if d == axis else n for d, n in enumerate(sizes)])
    )
    return bind(TABLE["concatenate"], (head, body), axis=axis)


cumsum = _running("cumsum")
cumprod = _running("cumprod")


@operation
def norm(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """Vector norm: "euclidean", 1, 2, inf, or another positive number. Mirrors tf.norm for vectors."""
    x = _numbers("norm", tensor)
    axes = normal_axes("norm", axis, x.ndim)
    size = bind(TABLE["absolute"], (x,))
    if ord in ("euclidean", 2) or (ord == "fro" and len(axes) == 2):
        return bind(TABLE["sqrt"], (reduced(TABLE["reduce_sum"], bind(TABLE["square"], (size,)), axes, keepdims),))
    if ord == 1:
        return reduced(TABLE["reduce_sum"], size, axes, keepdims)
    if ord == np.inf:
        return reduced(TABLE["reduce_max"], size, axes, keepdims)
    if not isinstance(ord, (int, float)) or ord <= 0:
        raise ShapeError(f"norm: ord {ord!r} is none of 'euclidean', 1, 2, inf or a positive number")
    powers = bind(TABLE["power"], (size, weak(float(ord), size._dtype)))
    return bind(TABLE["power"], (reduced(TABLE["reduce_sum"], powers, axes, keepdims), weak(1.0 / ord, size._dtype)))
