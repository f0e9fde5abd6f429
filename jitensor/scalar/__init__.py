"""Scalar programs, and every scalar function written as one.

Owns the public face of this room: `from jitensor import scalar; scalar.exp(value)`. Each function takes and gives
`ScalarValue`s; it must not know arrays, dtypes or loops.
"""

from .exp_log import exp, exp2, expm1, log, log1p, log2, log10, logaddexp, logaddexp2, sigmoid
from .program import (
    ScalarProgram,
    ScalarValue,
    bitcast,
    call,
    ceil,
    convert,
    equal,
    fabs,
    floor,
    fma,
    is_nan,
    not_equal,
    quotient,
    rint,
    scalar_function,
    select,
    sqrt,
    trunc,
)

__all__ = [
    "ScalarProgram", "ScalarValue", "bitcast", "call", "ceil", "convert", "equal", "exp", "exp2", "expm1", "fabs",
    "floor", "fma", "is_nan", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2", "not_equal", "quotient",
    "rint", "scalar_function", "select", "sigmoid", "sqrt", "trunc",
]  # fmt: skip
