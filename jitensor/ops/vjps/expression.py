"""What gradient rules are written with: values as formulas, sums back to an operand's shape, zeros.

Must not know any rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jitensor.errors import TraceError
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType, TensorType
from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, movement, reductions, structure
from jitensor.ops.composites.numbers import Emit, constant

Number = int | float | complex


class Expr:
    """A value and what records it, so that a rule reads as a formula: `g * (1 - y * y)`. Python numbers become
    constants of the other operand's dtype."""

    __slots__ = ("emit", "value")

    def __init__(self, emit: Emit, value: Any) -> None:
        self.emit = emit
        self.value = value

    @property
    def type(self) -> TensorType:
        type: TensorType = self.value.type
        return type

    @property
    def dtype(self) -> DType:
        dtype: DType = self.value.dtype
        return dtype

    @property
    def is_complex(self) -> bool:
        return self.dtype.kind == "c"

    def _value_of(self, other: Expr | Number) -> Any:
        return other.value if isinstance(other, Expr) else constant(self.emit, other, self.dtype)

    def _with(self, primitive: Primitive, other: Expr | Number) -> Expr:
        emit = self.emit
        right = other.value if other.__class__ is Expr else self._value_of(other)
        return Expr(emit, emit(primitive, self.value, right))

    def _after(self, primitive: Primitive, other: Expr | Number) -> Expr:
        return Expr(self.emit, self.emit(primitive, self._value_of(other), self.value))

    def __add__(self, other: Expr | Number) -> Expr:
        return self._with(a.add, other)

    def __radd__(self, other: Number) -> Expr:
        return self._after(a.add, other)

    def __sub__(self, other: Expr | Number) -> Expr:
        return self._with(a.subtract, other)

    def __rsub__(self, other: Number) -> Expr:
        return self._after(a.subtract, other)

    def __mul__(self, other: Expr | Number) -> Expr:
        return self._with(a.multiply, other)

    def __rmul__(self, other: Number) -> Expr:
        return self._after(a.multiply, other)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return self._with(a.divide, other)

    def __rtruediv__(self, other: Number) -> Expr:
        return self._after(a.divide, other)

    def __neg__(self) -> Expr:
        return Expr(self.emit, self.emit(a.negative, self.value))

    @property
    def conj(self) -> Expr:
        """The complex conjugate; a real value itself."""
        if self.value.dtype.kind != "c":
            return self
        return Expr(self.emit, self.emit(a.conjugate, self.value))

    def zeros(self) -> Expr:
        return Expr(self.emit, zeros_like(self.emit, self.type))


def on(primitive: Primitive) -> Callable[..., Expr]:
    """The primitive as a function of Exprs; Python numbers take the first operand's dtype."""

    def apply(first: Expr, *others: Expr | Number, **params: Any) -> Expr:
        values = [first._value_of(o) for o in others]
        return Expr(first.emit, first.emit(primitive, first.value, *values, **params))

    return apply


def where(condition: Expr, chosen: Expr | Number, other: Expr | Number) -> Expr:
    """`chosen` where the condition holds, else `other`; at least one is an Expr and gives the dtype."""
    model = chosen if isinstance(chosen, Expr) else other
    assert isinstance(model, Expr)
    values = (model._value_of(chosen), model._value_of(other))
    return Expr(model.emit, model.emit(comparison.where, condition.value, *values))


Partial = Callable[..., Expr]


def rule(primitive: Primitive, *partials: Partial | None) -> None:
    """Attaches an elementwise rule: `partials[i](g, y, *operands)` is the cotangent of operand i before it is summed
    back to that operand's shape; None where there is none."""

    def vjp(emit: Emit, g: Any, outputs: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        formula = [Expr(emit, g), Expr(emit, outputs[0]), *[Expr(emit, v) for v in inputs]]
        return tuple(
            [
                None if partial is None else functools.partial(_cotangent, formula, partial, v)
                for partial, v in zip(partials, inputs, strict=True)
            ]
        )

    primitive.vjp = vjp


def _cotangent(formula: list[Expr], partial: Partial, operand: Any) -> Any:
    result = partial(*formula)
    return unbroadcast(result.emit, result.value, operand.type)


class Onto:
    """A cotangent that touches a part of its operand. `alone()` is the whole cotangent; `add(total)` adds the part to
    one, so that many parts of one operand are written in place instead of each being padded with zeros."""

    __slots__ = ("alone", "add")

    def __init__(self, alone: Callable[[], Any], add: Callable[[Any], Any]) -> None:
        self.alone = alone
        self.add = add


def flat(*primitives: Primitive) -> None:
    """Attaches the rule of what has no gradient, because it is constant wherever it is smooth."""

    def vjp(emit: Emit, g: Any, outputs: tuple[Any, ...], inputs: tuple[Any, ...], **params: Any) -> tuple[None, ...]:
        return (None,) * len(inputs)

    for primitive in primitives:
        primitive.vjp = vjp


# Shapes ---------------------------------------------------------------------------------------------------------------


def zeros_like(emit: Emit, type: TensorType) -> Any:
    return emit(structure.full, constant(emit, 0, type.dtype), shape=type.shape)


def unbroadcast(emit: Emit, g: Any, type: TensorType) -> Any:
    """The sum of g over the dimensions along which an operand of this type was repeated."""
    shape, target = g.type.shape, type.shape
    if shape == target:
        return g
    new = len(shape) - len(target)
    ones = [d for d, n in enumerate(target) if _is_repeated(n, shape[d + new])]
    if not new and not ones:
        return g
    total = emit(reductions.reduce_sum, g, axes=(*range(new), *(d + new for d in ones)))
    return emit(movement.expand_dims, total, axes=tuple(ones)) if ones else total


def _is_repeated(size: int | Dim, result: int | Dim) -> bool:
    """Was a dimension of this size repeated to give that of the result?"""
    if isinstance(size, int):
        return size == 1 and result != 1
    if dims.same(size, result):
        return False
    if dims.same(size, 1):
        return True
    raise TraceError(f"gradient: a size {size} met {result}; whether it was broadcast is not known.")
