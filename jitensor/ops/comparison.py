"""Comparisons, truth and logic: results are bool. Also `where`, which chooses by one.

Complex numbers are ordered by real part, then imaginary part, as in NumPy. A signed and an unsigned 64-bit integer
compare by value, exactly: the one place where a ufunc loop has operands of two dtypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.errors import DTypeError
from jitensor.ir import types
from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType
from jitensor.ops.base import Interval, elementwise, to_bool


def _comparison(name: str, numpy: Any, build: Callable[..., Any], doc: str) -> Primitive:
    def rule(a: DType, b: DType) -> DType:
        if a is not b and {a, b} != {types.int64, types.uint64}:
            raise DTypeError(f"{name}: operands are {a.name}, {b.name}; needed one dtype")
        return types.bool_

    few_values = (Interval(-3.0, 3.0), Interval(-3.0, 3.0))  # so that equal pairs come up
    tf = (name, f"math.{name}")
    return elementwise(name, scalar=build, numpy=numpy, arity=2, rule=rule, samples=few_values, tf=tf, doc=doc)


equal = _comparison("equal", np.equal, scalar.equal, "True where equal. Mirrors numpy.equal.")
not_equal = _comparison(
    "not_equal", np.not_equal, scalar.not_equal, "True where different, nan included. Mirrors numpy.not_equal."
)
less = _comparison("less", np.less, scalar.less, "True where a < b. Mirrors numpy.less.")
less_equal = _comparison("less_equal", np.less_equal, scalar.less_equal, "True where a <= b. Mirrors numpy.less_equal.")
greater = _comparison("greater", np.greater, scalar.greater, "True where a > b. Mirrors numpy.greater.")
greater_equal = _comparison(
    "greater_equal", np.greater_equal, scalar.greater_equal, "True where a >= b. Mirrors numpy.greater_equal."
)


# Logic ----------------------------------------------------------------------------------------------------------------


logical_and = elementwise(
    "logical_and",
    scalar=lambda a, b: scalar.truth(a) & scalar.truth(b),
    numpy=np.logical_and,
    arity=2,
    result=to_bool,
    tf=("logical_and", "math.logical_and"),
    doc="True where both are not 0. Mirrors numpy.logical_and.",
)
logical_or = elementwise(
    "logical_or",
    scalar=lambda a, b: scalar.truth(a) | scalar.truth(b),
    numpy=np.logical_or,
    arity=2,
    result=to_bool,
    tf=("logical_or", "math.logical_or"),
    doc="True where one is not 0. Mirrors numpy.logical_or.",
)
logical_xor = elementwise(
    "logical_xor",
    scalar=lambda a, b: scalar.truth(a) ^ scalar.truth(b),
    numpy=np.logical_xor,
    arity=2,
    result=to_bool,
    tf=("math.logical_xor",),
    doc="True where exactly one is not 0. Mirrors numpy.logical_xor.",
)
logical_not = elementwise(
    "logical_not",
    scalar=scalar.logical_not,
    numpy=np.logical_not,
    result=to_bool,
    tf=("logical_not", "math.logical_not"),
    doc="True where 0. Mirrors numpy.logical_not.",
)


# Tests of one value ---------------------------------------------------------------------------------------------------


isnan = elementwise(
    "isnan",
    scalar=scalar.isnan,
    numpy=np.isnan,
    result=to_bool,
    tf=("math.is_nan",),
    doc="True where nan. Mirrors numpy.isnan.",
)
isinf = elementwise(
    "isinf",
    scalar=scalar.isinf,
    numpy=np.isinf,
    result=to_bool,
    tf=("math.is_inf",),
    doc="True where infinite. Mirrors numpy.isinf.",
)
isfinite = elementwise(
    "isfinite",
    scalar=scalar.isfinite,
    numpy=np.isfinite,
    result=to_bool,
    tf=("math.is_finite",),
    doc="True where neither nan nor infinite. Mirrors numpy.isfinite.",
)
signbit = elementwise(
    "signbit",
    scalar=scalar.signbit,
    numpy=np.signbit,
    kinds="f",
    result=to_bool,
    doc="True where the sign bit is set, -0.0 and -nan included. Mirrors numpy.signbit.",
)


def _where_rule(condition: DType, a: DType, b: DType) -> DType:
    if condition is not types.bool_:
        raise DTypeError(f"where: the condition is {condition.name}; needed bool")
    if a is not b:
        raise DTypeError(f"where: choices are {a.name} and {b.name}; needed one dtype")
    return a


where = elementwise(
    "where",
    scalar=scalar.select,
    numpy=lambda condition, a, b: np.where(condition, a, b),
    rule=_where_rule,
    samples=(Interval(0.0, 1.0), Interval(-10.0, 10.0), Interval(-10.0, 10.0)),
    doc="The second operand where the condition holds, else the third. Mirrors numpy.where.",
)
