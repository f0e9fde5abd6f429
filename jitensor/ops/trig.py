"""Trigonometric and hyperbolic functions, and angles. Costs are the lengths of the scalar programs, about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.ir.graph import Primitive
from jitensor.ops.base import DEFAULT_SAMPLES, Interval, elementwise

# Ours is within 2 ULP of the exact value, NumPy's within 4. Complex results are put together from real ones.
_NEAR = 6.0


def _circular(
    name: str, numpy: Any, cost: int, doc: str, *, samples: Interval = DEFAULT_SAMPLES, tf: Sequence[str]
) -> Primitive:
    """An op of one operand, float or complex, whose scalar function has the same name."""
    return elementwise(
        name,
        scalar=getattr(scalar, name),
        numpy=numpy,
        kinds="fc",
        cost=cost,
        samples=(samples,),
        tf=tf,
        tolerance=_NEAR,
        doc=doc,
    )


_UNIT = Interval(-1.0, 1.0)
sin = _circular("sin", np.sin, 40, "Sine; x in radians. Mirrors numpy.sin.", tf=("sin", "math.sin"))
cos = _circular("cos", np.cos, 40, "Cosine; x in radians. Mirrors numpy.cos.", tf=("cos", "math.cos"))
tan = _circular("tan", np.tan, 50, "Tangent; x in radians. Mirrors numpy.tan.", tf=("tan", "math.tan"))
arcsin = _circular(
    "asin",
    np.arcsin,
    30,
    "Angle in radians whose sine is x. Mirrors numpy.arcsin.",
    samples=_UNIT,
    tf=("asin", "math.asin"),
)
arccos = _circular(
    "acos",
    np.arccos,
    30,
    "Angle in radians whose cosine is x. Mirrors numpy.arccos.",
    samples=_UNIT,
    tf=("acos", "math.acos"),
)
arctan = _circular(
    "atan", np.arctan, 30, "Angle in radians whose tangent is x. Mirrors numpy.arctan.", tf=("atan", "math.atan")
)
sinh = _circular("sinh", np.sinh, 30, "Hyperbolic sine. Mirrors numpy.sinh.", tf=("sinh", "math.sinh"))
cosh = _circular("cosh", np.cosh, 30, "Hyperbolic cosine. Mirrors numpy.cosh.", tf=("cosh", "math.cosh"))
tanh = _circular("tanh", np.tanh, 30, "Hyperbolic tangent. Mirrors numpy.tanh.", tf=("tanh", "math.tanh", "nn.tanh"))
arcsinh = _circular(
    "asinh", np.arcsinh, 45, "Inverse hyperbolic sine. Mirrors numpy.arcsinh.", tf=("asinh", "math.asinh")
)
arccosh = _circular(
    "acosh",
    np.arccosh,
    45,
    "Inverse hyperbolic cosine. Mirrors numpy.arccosh.",
    samples=Interval(1.0, 50.0),
    tf=("acosh", "math.acosh"),
)
arctanh = _circular(
    "atanh",
    np.arctanh,
    45,
    "Inverse hyperbolic tangent. Mirrors numpy.arctanh.",
    samples=Interval(-0.99, 0.99),
    tf=("atanh", "math.atanh"),
)
arctan2 = elementwise(
    "atan2",
    scalar=scalar.atan2,
    numpy=np.arctan2,
    arity=2,
    kinds="f",
    cost=45,
    tf=("atan2", "math.atan2"),
    tolerance=_NEAR,
    doc="Angle in radians of the point (second operand, first operand), in its quadrant. Mirrors numpy.arctan2.",
)
degrees = elementwise(
    "degrees",
    scalar=scalar.rad2deg,
    numpy=np.degrees,
    kinds="f",
    tolerance=2,  # NumPy divides by pi in float32, so its float32 factor is an ULP off
    doc="Radians to degrees. Mirrors numpy.degrees and numpy.rad2deg.",
)
radians = elementwise(
    "radians",
    scalar=scalar.deg2rad,
    numpy=np.radians,
    kinds="f",
    tolerance=2,  # as degrees
    doc="Degrees to radians. Mirrors numpy.radians and numpy.deg2rad.",
)
