"""Sums, moments and norms over axes, in NumPy's dtypes."""

from __future__ import annotations

from typing import Any

from jitensor.ir import dims, types
from jitensor.ir.types import DType
from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, exp_log, movement, reductions
from jitensor.ops.cast import imag, real
from jitensor.ops.composites.numbers import Axes, Emit, Size, cast, constant, size_as
from jitensor.ops.differentiation import stop_gradient


def keep_dims(emit: Emit, reduced: Any, axes: Axes) -> Any:
    """The reduced dimensions put back with size 1."""
    return emit(movement.expand_dims, reduced, axes=axes) if axes else reduced


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum or product: small integers and bool widen to 64 bits, as numpy.sum does."""
    if dtype.kind in "bi":
        return types.int64
    return types.uint64 if dtype.kind == "u" else dtype


def widened(dtype: DType) -> DType:
    """float16 is summed as float32 and rounded once."""
    return types.float32 if dtype is types.float16 else dtype


def _accumulate(emit: Emit, primitive: Any, x: Any, axes: Axes, dtype: DType | None) -> Any:
    target = dtype or sum_dtype(x.type.dtype)
    if target.kind == "b":  # numpy.sum(..., dtype=bool) is "any"
        return (any_ if primitive is reductions.reduce_sum else all_)(emit, x, axes)
    x = cast(emit, cast(emit, x, target), widened(target))
    return cast(emit, emit(primitive, x, axes=axes) if axes else x, target)


def sum_(emit: Emit, x: Any, axes: Axes, dtype: DType | None = None) -> Any:
    """Mirrors numpy.sum."""
    return _accumulate(emit, reductions.reduce_sum, x, axes, dtype)


def prod(emit: Emit, x: Any, axes: Axes, dtype: DType | None = None) -> Any:
    """Mirrors numpy.prod."""
    return _accumulate(emit, reductions.reduce_prod, x, axes, dtype)


def any_(emit: Emit, x: Any, axes: Axes) -> Any:
    """Mirrors numpy.any."""
    x = cast(emit, x, types.bool_)
    return emit(reductions.reduce_any, x, axes=axes) if axes else x


def all_(emit: Emit, x: Any, axes: Axes) -> Any:
    """Mirrors numpy.all."""
    x = cast(emit, x, types.bool_)
    return emit(reductions.reduce_all, x, axes=axes) if axes else x


def max_(emit: Emit, x: Any, axes: Axes) -> Any:
    """Mirrors numpy.max."""
    return emit(reductions.reduce_max, x, axes=axes) if axes else x


def min_(emit: Emit, x: Any, axes: Axes) -> Any:
    """Mirrors numpy.min."""
    return emit(reductions.reduce_min, x, axes=axes) if axes else x


def ptp(emit: Emit, x: Any, axes: Axes) -> Any:
    """Largest minus smallest. Mirrors numpy.ptp."""
    return emit(a.subtract, max_(emit, x, axes), min_(emit, x, axes))


def count_nonzero(emit: Emit, x: Any, axes: Axes) -> Any:
    """Mirrors numpy.count_nonzero."""
    return sum_(emit, cast(emit, x, types.bool_), axes)


def count(x: Any, axes: Axes) -> Size:
    """Number of elements that a reduction over `axes` reads for each result."""
    return dims.product(tuple(x.type.shape[d] for d in axes))


def _float_dtype(dtype: DType) -> DType:
    return dtype if dtype.is_inexact else types.float64


def mean(emit: Emit, x: Any, axes: Axes, dtype: DType | None = None) -> Any:
    """Integers and bool give float64; float16 is summed in float32. Mirrors numpy.mean."""
    target = dtype or _float_dtype(x.type.dtype)
    wide = widened(target)
    total = sum_(emit, cast(emit, x, wide), axes, wide)
    return cast(emit, _divided(emit, total, count(x, axes)), target)


def _divided(emit: Emit, total: Any, count: Size) -> Any:
    """total / count, in total's dtype, complex too."""
    return emit(a.divide, total, size_as(emit, count, total.type.dtype))


def var(emit: Emit, x: Any, axes: Axes, ddof: int | float = 0, dtype: DType | None = None) -> Any:
    """Mean square distance from the mean, in two passes; of complex numbers |x - mean|**2. Mirrors numpy.var."""
    target = dtype or _float_dtype(x.type.dtype)
    wide = widened(target)
    x = cast(emit, x, wide)
    centre = keep_dims(emit, _divided(emit, sum_(emit, x, axes, wide), count(x, axes)), axes)
    square = _squared_magnitude(emit, emit(a.subtract, x, centre))
    total = sum_(emit, square, axes)
    return cast(emit, emit(a.divide, total, _degrees(emit, count(x, axes), ddof, total.type.dtype)), target.real_dtype)


def _degrees(emit: Emit, count: Size, ddof: int | float, dtype: DType) -> Any:
    """max(count - ddof, 0) as a number."""
    if isinstance(count, int):
        return constant(emit, max(count - ddof, 0), dtype)
    if isinstance(ddof, int):
        return size_as(emit, dims.opaque("max", count - ddof, 0) if ddof > 0 else count - ddof, dtype)
    left = emit(a.subtract, size_as(emit, count, dtype), constant(emit, ddof, dtype))
    return emit(a.maximum, left, constant(emit, 0, dtype))


def _squared_magnitude(emit: Emit, x: Any) -> Any:
    if x.type.dtype.kind != "c":
        return emit(a.square, x)
    return emit(a.add, emit(a.square, emit(real, x)), emit(a.square, emit(imag, x)))


def std(emit: Emit, x: Any, axes: Axes, ddof: int | float = 0, dtype: DType | None = None) -> Any:
    """Square root of the variance. Mirrors numpy.std."""
    return emit(a.sqrt, var(emit, x, axes, ddof, dtype))


def arg_extreme(emit: Emit, primitive: Any, x: Any, axis: int | None) -> Any:
    """argmax or argmin along one axis, or of the flattened array. Mirrors numpy.argmax."""
    if x.type.rank == 0:
        return constant(emit, 0, types.int64)
    return emit(primitive, x, axes=tuple(range(x.type.rank)) if axis is None else (axis,))


def _greatest(emit: Emit, x: Any, axes: Axes) -> Any:
    """The maximum, kept, for a result that does not depend on it: it only keeps exponentials small."""
    return emit(stop_gradient, keep_dims(emit, max_(emit, x, axes), axes))


def logsumexp(emit: Emit, x: Any, axes: Axes, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) without overflow; infinities as their limits. Mirrors scipy.special.logsumexp."""
    if not axes:
        return x
    top = _greatest(emit, x, axes)
    # Where everything is -inf, or something is +inf, x - top would be nan: there the shift is 0.
    zero = constant(emit, 0, x.type.dtype)
    shift = emit(comparison.where, emit(comparison.isfinite, top), top, zero)
    total = sum_(emit, emit(exp_log.exp, emit(a.subtract, x, shift)), axes)
    result = emit(a.add, keep_dims(emit, emit(exp_log.log, total), axes), shift)
    return result if keepdims else emit(movement.squeeze, result, axes=axes)


def softmax(emit: Emit, x: Any, axis: int) -> Any:
    """exp(x - max) over its sum along `axis`. Mirrors scipy.special.softmax and tf.nn.softmax."""
    dtype = x.type.dtype
    x = cast(emit, x, widened(dtype))
    axes = (axis,)
    top = _greatest(emit, x, axes)
    grown = emit(exp_log.exp, emit(a.subtract, x, top))
    return cast(emit, emit(a.divide, grown, keep_dims(emit, sum_(emit, grown, axes), axes)), dtype)


def log_softmax(emit: Emit, x: Any, axis: int) -> Any:
    """x - max - log(sum(exp(x - max))). Mirrors scipy.special.log_softmax and tf.nn.log_softmax."""
    axes = (axis,)
    shifted = emit(a.subtract, x, _greatest(emit, x, axes))
    total = sum_(emit, emit(exp_log.exp, shifted), axes)
    return emit(a.subtract, shifted, keep_dims(emit, emit(exp_log.log, total), axes))
