"""Exponentials, logarithms, and the logistic function. Costs are the lengths of the scalar programs, about."""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.ops.base import Interval, elementwise

# Ours and NumPy's are each within 1 ULP, NumPy's float32 exp and log within 4 (its SIMD loops trade accuracy for
# speed). Complex results are put together from real ones with a rounding or two more.
_NEAR = 4.0
_POSITIVE = (Interval(1e-3, 50.0),)

exp = elementwise(
    "exp",
    scalar=scalar.exp,
    numpy=np.exp,
    kinds="fc",
    cost=20,
    tf=("exp", "math.exp"),
    tolerance=_NEAR,
    doc="e to the power of the value. Mirrors numpy.exp.",
)
exp2 = elementwise(
    "exp2",
    scalar=scalar.exp2,
    numpy=np.exp2,
    kinds="fc",
    cost=20,
    tolerance=_NEAR,
    doc="2 to the power of the value. Mirrors numpy.exp2.",
)
expm1 = elementwise(
    "expm1",
    scalar=scalar.expm1,
    numpy=np.expm1,
    kinds="fc",
    cost=25,
    tf=("math.expm1",),
    tolerance=_NEAR,
    doc="exp(x) - 1, exact near 0. Mirrors numpy.expm1.",
)
log = elementwise(
    "log",
    scalar=scalar.log,
    numpy=np.log,
    kinds="fc",
    cost=25,
    samples=_POSITIVE,
    tf=("math.log",),
    tolerance=_NEAR,
    doc="Natural logarithm; nan below 0. Mirrors numpy.log.",
)
log2 = elementwise(
    "log2",
    scalar=scalar.log2,
    numpy=np.log2,
    kinds="fc",
    cost=30,
    samples=_POSITIVE,
    tolerance=_NEAR,
    doc="Logarithm to base 2. Mirrors numpy.log2.",
)
log10 = elementwise(
    "log10",
    scalar=scalar.log10,
    numpy=np.log10,
    kinds="fc",
    cost=30,
    samples=_POSITIVE,
    tolerance=_NEAR,
    doc="Logarithm to base 10. Mirrors numpy.log10.",
)
log1p = elementwise(
    "log1p",
    scalar=scalar.log1p,
    numpy=np.log1p,
    kinds="fc",
    cost=30,
    samples=(Interval(-0.99, 50.0),),
    tf=("math.log1p",),
    tolerance=_NEAR,
    doc="log(1 + x), exact near 0. Mirrors numpy.log1p.",
)
logaddexp = elementwise(
    "logaddexp",
    scalar=scalar.logaddexp,
    numpy=np.logaddexp,
    arity=2,
    kinds="f",
    cost=60,
    # The result is a larger operand plus a log1p: where they cancel, the ULP of the result is far below that of either.
    tolerance=64,
    doc="log(exp(a) + exp(b)) without overflow. Mirrors numpy.logaddexp.",
)
logaddexp2 = elementwise(
    "logaddexp2",
    scalar=scalar.logaddexp2,
    numpy=np.logaddexp2,
    arity=2,
    kinds="f",
    cost=60,
    tolerance=64,  # as logaddexp
    doc="log2(2**a + 2**b) without overflow. Mirrors numpy.logaddexp2.",
)


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) with an exponential that never overflows."""
    x = np.asarray(x)
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    small = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


sigmoid = elementwise(
    "sigmoid",
    scalar=scalar.sigmoid,
    numpy=_sigmoid,
    kinds="f",
    cost=25,
    tf=("sigmoid", "math.sigmoid", "nn.sigmoid"),
    tolerance=_NEAR,
    doc="1 / (1 + exp(-x)). Mirrors scipy.special.expit.",
)
