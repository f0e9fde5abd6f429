"""Reductions: sums, products, extremes, truth, and where an extreme lies. Mean, variance and norms are composites.

The door has cast the operand to the accumulator's dtype; float16 is summed in float32 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.errors import ShapeError
from jitensor.ir import dims, types
from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType, TensorType
from jitensor.ops.arithmetic import maximum, minimum
from jitensor.ops.base import DEFAULT_SAMPLES, Reduction, reduced_shape, reduction, register

_INEXACT = ("f32", "f64", "c64", "c128")  # the machine types that have nan
_NO_IDENTITY = "zero-size array to reduction operation {} which has no identity"


def _lowest(dtype: DType) -> Any:
    """A value that no other is below: what a maximum starts from."""
    if dtype.kind == "c":
        return complex(-np.inf, -np.inf)
    return -np.inf if dtype.kind == "f" else dtype.min


def _highest(dtype: DType) -> Any:
    if dtype.kind == "c":
        return complex(np.inf, np.inf)
    return np.inf if dtype.kind == "f" else dtype.max


def _accumulated(function: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """In the operand's dtype; float16 in float32, rounded once."""
    return function(x, axis=axis, dtype=np.float32 if x.dtype == np.float16 else x.dtype).astype(x.dtype)


reduce_sum = reduction(
    "reduce_sum",
    lower=Reduction(lambda dtype: 0, lambda a, b: a + b, accumulate="sum"),
    numpy=lambda x, axis: _accumulated(np.sum, x, axis),
    kinds="iufc",
    tf=("reduce_sum", "math.reduce_sum"),
    samples=(DEFAULT_SAMPLES,),
    # Both are pairwise or blocked sums: the error is a few roundings of the sum of magnitudes, which tests scale by.
    tolerance=8,
    doc="Sum over the axes. Mirrors numpy.sum.",
)
reduce_prod = reduction(
    "reduce_prod",
    lower=Reduction(lambda dtype: 1, lambda a, b: a * b),
    numpy=lambda x, axis: _accumulated(np.prod, x, axis),
    kinds="iufc",
    tf=("reduce_prod", "math.reduce_prod"),
    samples=(DEFAULT_SAMPLES,),
    tolerance=64,  # half an ULP for each factor, in another order
    doc="Product over the axes. Mirrors numpy.prod.",
)
reduce_max = reduction(
    "reduce_max",
    lower=Reduction(_lowest, maximum.lower, "max", empty=_NO_IDENTITY.format("maximum")),
    numpy=lambda x, axis: np.max(x, axis=axis),
    tf=("reduce_max", "math.reduce_max"),
    samples=(DEFAULT_SAMPLES,),
    doc="Largest element over the axes; nan if one is. Mirrors numpy.max.",
)
reduce_min = reduction(
    "reduce_min",
    lower=Reduction(_highest, minimum.lower, "min", empty=_NO_IDENTITY.format("minimum")),
    numpy=lambda x, axis: np.min(x, axis=axis),
    tf=("reduce_min", "math.reduce_min"),
    samples=(DEFAULT_SAMPLES,),
    doc="Smallest element over the axes; nan if one is. Mirrors numpy.min.",
)
reduce_any = reduction(
    "reduce_any",
    lower=Reduction(lambda dtype: False, lambda a, b: a | b, "or"),
    numpy=lambda x, axis: np.any(x, axis=axis),
    kinds="b",
    tf=("reduce_any", "math.reduce_any"),
    samples=(DEFAULT_SAMPLES,),
    doc="True where one element along the axes is. Mirrors numpy.any.",
)
reduce_all = reduction(
    "reduce_all",
    lower=Reduction(lambda dtype: True, lambda a, b: a & b, "and"),
    numpy=lambda x, axis: np.all(x, axis=axis),
    kinds="b",
    tf=("reduce_all", "math.reduce_all"),
    samples=(DEFAULT_SAMPLES,),
    doc="True where every element along the axes is. Mirrors numpy.all.",
)


# Where the extreme is -------------------------------------------------------------------------------------------------


def _beats(order: Any) -> Any:
    """`beats(new, old)`: the new value comes before the old one; the first nan beats everything after it."""

    def beats(new: Any, old: Any) -> Any:
        if new.type == "i1":
            return order(scalar.convert(new, "u8"), scalar.convert(old, "u8"))
        better = order(new, old)
        return (better | scalar.isnan(new)) & ~scalar.isnan(old) if new.type in _INEXACT else better

    return beats


def _arg(name: str, lower: Reduction, numpy: Any, doc: str) -> Primitive:
    """int64 position of the extreme along one axis, or, where `axes` are all, in the flattened array."""

    def type_rule(x: TensorType, axes: tuple[int, ...]) -> TensorType:
        if len(axes) not in (1, x.rank):
            raise ShapeError(f"{name}: axes {axes} of an array of {x.rank} dimensions; needed one axis or all")
        if any(dims.same(x.shape[a], 0) for a in axes):
            raise ShapeError(lower.empty)
        return TensorType(types.int64, reduced_shape(x.shape, axes))

    def evaluate(x: Any, axes: tuple[int, ...]) -> Any:
        x = np.asarray(x)
        return numpy(x, axis=axes[0] if len(axes) == 1 else None)

    return register(
        Primitive(name, "reduction", type_rule, evaluate, lower=lower, cost=4, samples=(DEFAULT_SAMPLES,), doc=doc)
    )


argmax = _arg(
    "argmax",
    Reduction(_lowest, _beats(scalar.greater), "argmax", "attempt to get argmax of an empty sequence"),
    np.argmax,
    "Position of the first largest element; of the first nan if there is one. Mirrors numpy.argmax.",
)
argmin = _arg(
    "argmin",
    Reduction(_highest, _beats(scalar.less), "argmin", "attempt to get argmin of an empty sequence"),
    np.argmin,
    "Position of the first smallest element; of the first nan if there is one. Mirrors numpy.argmin.",
)
