"""Gradient rules of the op table. Importing this package attaches a rule to every entry that has a sensible one.

A rule is `vjp(emit, g, outputs, inputs, **params)`: the cotangents of the inputs, one item each: a value of the input's
type, a function without arguments that makes one (called only where the cotangent is wanted), an `Onto`, which adds to
what has come together so far, or None for no gradient.
`g` is the cotangent of the output, or, of an op with several results, a tuple with None for those that nothing used.
`emit(primitive, *values, **params)` records or evaluates, as in `composites`; rules are made of primitives, so they
differentiate again. An entry with `literal_constants` gets `literals` besides: {position: the constant's NumPy array}.

Complex numbers follow TensorFlow: the gradient of a real L by z is dL/dRe(z) + i dL/dIm(z), so the cotangent of a
holomorphic f is g times the conjugate of f'. Integers and bool carry no gradient. An entry left without a rule
(`vjp` is None, or gives NotImplemented) raises by name when its gradient is asked for; one that is flat wherever it is
smooth (floor, rint) gives None.
"""

from jitensor.ops.vjps import (
    arithmetic,
    contraction,
    custom,
    indexing,
    layout,
    library,
    ordering,
    reductions,
    transcendental,
)
from jitensor.ops.vjps.expression import Onto, unbroadcast, zeros_like

__all__ = [
    "Onto", "arithmetic", "contraction", "custom", "indexing", "layout", "library", "ordering", "reductions",
    "transcendental", "unbroadcast", "zeros_like",
]  # fmt: skip
