"""How an op-table entry is written, and the table itself.

One call below makes one entry: a `Primitive`, filed by its name, its NumPy ufunc and its TensorFlow names. Must not
know tracing, code generation or doors. By the time a primitive sees its operands the door has promoted and cast them:
the operands of an elementwise op have one dtype (that of the ufunc loop that NumPy would run) and shapes that
broadcast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import dims, types
from jitensor.ir.dims import Dim
from jitensor.ir.graph import CONSTANT, Primitive
from jitensor.ir.types import DType, Shape, TensorType

TABLE: dict[str, Primitive] = {CONSTANT.name: CONSTANT}
BY_UFUNC: dict[Any, Primitive] = {}  # NumPy or SciPy ufunc -> primitive
BY_TF_NAME: dict[str, Primitive] = {}  # "sin", "math.sin" -> primitive


def register(primitive: Primitive, *, ufunc: Any = None, tf: Sequence[str] = ()) -> Primitive:
    """Files an entry. Raises ValueError for a name that is taken."""
    if primitive.name in TABLE:
        raise ValueError(f"op {primitive.name} is already in the table")
    TABLE[primitive.name] = primitive
    if ufunc is not None:
        BY_UFUNC[ufunc] = primitive
    for name in tf:
        BY_TF_NAME[name] = primitive
    return primitive


# Elementwise ----------------------------------------------------------------------------------------------------------


def broadcast_shapes(op: str, shapes: Sequence[Shape]) -> Shape:
    """NumPy's broadcast of the shapes; ShapeError names the op and the shapes that do not fit."""
    first = shapes[0]
    if all(s == first for s in shapes[1:]):
        return first
    rank = max(len(s) for s in shapes)
    result: list[int | Dim] = [1] * rank
    for shape in shapes:
        for i, n in enumerate(shape, rank - len(shape)):
            if isinstance(n, int) and n == 1:
                continue
            if result[i] == 1 or result[i] == n:
                result[i] = n
            elif not _broadcast_pair(result, i, n):
                texts = " ".join("(" + ",".join(map(str, s)) + ("," if len(s) == 1 else "") + ")" for s in shapes)
                raise ShapeError(f"{op}: operands could not be broadcast together with shapes {texts}")
    return tuple(result)


def _broadcast_pair(result: list[int | Dim], i: int, n: int | Dim) -> bool:
    """Settles two sizes that the normal form does not relate."""
    if dims.same(result[i], n):
        if isinstance(n, int):
            result[i] = n
        return True
    if dims.same(n, 1):
        return True
    if dims.same(result[i], 1):
        result[i] = n
        return True
    return False


def same_dtype(dtype: DType) -> DType:
    return dtype


def to_bool(dtype: DType) -> DType:
    return types.bool_


def to_real(dtype: DType) -> DType:
    return dtype.real_dtype


@dataclasses.dataclass(frozen=True)
class Interval:
    """Where tests draw an operand, evenly; both ends included. Special values are drawn besides, for every op."""

    low: float
    high: float


DEFAULT_SAMPLES = Interval(-10.0, 10.0)


def elementwise(
    name: str,
    *,
    scalar: Callable[..., Any],
    numpy: Callable[..., Any],
    arity: int = 1,
    kinds: str = "biufc",
    result: Callable[[DType], DType] = same_dtype,
    rule: Callable[..., DType] | None = None,
    ufunc: Any = None,
    tf: Sequence[str] = (),
    cost: int = 1,
    samples: Sequence[Interval] = (),
    **fields: Any,
) -> Primitive:
    """An elementwise op.

    scalar: builds the loop body on scalar-program values (`ScalarValue`, or `ComplexValue` for complex dtypes; float16
        comes as f32 and is rounded after; bool is i1); the node's parameters come as keywords.
    numpy: the meaning on arrays of the loop's dtype, with the same keywords.
    kinds: the dtype kinds that it takes. result: dtype of the result from the operands' one dtype.
    rule: rule(*operand_dtypes, **params) instead of kinds and result, for an op whose operands may differ.
    ufunc: the ufunc that it answers for (default: `numpy` where that is one).
    samples: one Interval per operand, so it also tells their number.
    """

    def one_dtype(*dtypes: DType, **params: Any) -> DType:
        if len(dtypes) != arity:
            raise DTypeError(f"{name}: takes {arity} operands; {len(dtypes)} came")
        if any(t is not dtypes[0] for t in dtypes):
            raise DTypeError(f"{name}: operands are {', '.join(t.name for t in dtypes)}; needed one dtype")
        if dtypes[0].kind not in kinds:
            raise DTypeError(f"{name}: not defined for {dtypes[0].name}")
        return result(dtypes[0])

    dtype_rule = rule or one_dtype

    def type_rule(*operands: TensorType, **params: Any) -> TensorType:
        dtype = dtype_rule(*[t.dtype for t in operands], **params)
        return TensorType(dtype, broadcast_shapes(name, [t.shape for t in operands]))

    samples = tuple(samples) or (DEFAULT_SAMPLES,) * arity
    entry = Primitive(name, "elementwise", type_rule, numpy, lower=scalar, cost=cost, samples=samples, **fields)
    if ufunc is None and isinstance(numpy, np.ufunc):
        ufunc = numpy
    return register(entry, ufunc=ufunc, tf=tf)


# Reductions -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reduction:
    """What a loop needs: `identity(dtype)` to start from, `combine(a, b)` on scalar-program values, and how a float is
    accumulated: "sum" (short blocks with a compensated block sum), "max" or "min" (nan noted beside), "or", "and",
    "argmax" or "argmin" (value and index; `combine` says whether the new value replaces the old), or "plain"."""

    identity: Callable[[DType], Any]
    combine: Callable[..., Any]
    accumulate: str = "plain"
    empty: str = ""  # NumPy's error where the reduced axes hold nothing and there is no identity


def reduced_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def reduction(
    name: str,
    *,
    lower: Reduction,
    numpy: Callable[..., Any],
    kinds: str = "biufc",
    result: Callable[[DType], DType] = same_dtype,
    tf: Sequence[str] = (),
    **fields: Any,
) -> Primitive:
    """A reduction over `axes` (sorted, not negative, not empty); the reduced dimensions are dropped.

    numpy(array, axis=axes) is the meaning. The door has cast the operand to the accumulator's dtype.
    """

    def type_rule(x: TensorType, axes: tuple[int, ...]) -> TensorType:
        if x.dtype.kind not in kinds:
            raise DTypeError(f"{name}: not defined for {x.dtype.name}")
        if lower.empty and any(dims.same(x.shape[a], 0) for a in axes):
            raise ShapeError(lower.empty)
        return TensorType(result(x.dtype), reduced_shape(x.shape, axes))

    def evaluate(x: Any, axes: tuple[int, ...]) -> Any:
        return numpy(x, axis=axes)

    return register(Primitive(name, "reduction", type_rule, evaluate, lower=lower, **fields), tf=tf)


# Movement -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Movement:
    """An index map. `source(shape, **params)` gives for each result dimension the operand dimension that it walks
    along, or None (a new or broadcast dimension: every index reads the same element). `start_step(shape, **params)`,
    where present, gives a (start, step) pair for each operand dimension."""

    source: Callable[..., tuple[int | None, ...]]
    start_step: Callable[..., tuple[tuple[int | Dim, int], ...]] | None = None


def movement(
    name: str,
    *,
    shape: Callable[..., Shape],
    lower: Movement,
    numpy: Callable[..., Any],
    **fields: Any,
) -> Primitive:
    """A view: no arithmetic, only another way to index. shape(operand_shape, **params) is the result's shape."""

    def type_rule(x: TensorType, **params: Any) -> TensorType:
        return TensorType(x.dtype, shape(x.shape, **params))

    return register(Primitive(name, "movement", type_rule, numpy, lower=lower, **fields))
