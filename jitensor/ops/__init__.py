"""The op table. Importing this package fills it; `TABLE`, `BY_UFUNC` and `BY_TF_NAME` are its indexes."""

from jitensor.ops import (
    arithmetic,
    bits,
    cast,
    comparison,
    differentiation,
    effects,
    exp_log,
    indexing,
    linalg,
    movement,
    numpy_call,
    ordering,
    promote,
    reductions,
    rounding,
    special,
    structure,
    trig,
)
from jitensor.ops.base import BY_TF_NAME, BY_UFUNC, TABLE
from jitensor.ops.special import by_ufunc

__all__ = [
    "BY_TF_NAME", "BY_UFUNC", "TABLE", "arithmetic", "bits", "by_ufunc", "cast", "comparison", "differentiation",
    "effects", "exp_log", "indexing", "linalg", "movement", "numpy_call", "ordering", "promote", "reductions",
    "rounding", "special", "structure", "trig",
]  # fmt: skip
