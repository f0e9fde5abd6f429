"""Python numbers of a traced function: they stay Python, exact and unbounded, and are computed anew at each call.

Owns `IntNumber` (a size expression), `FloatNumber` and `ComplexNumber` (a named step of the trace). Their operators
record steps; whatever needs a value (`if`, `range`, an index protocol, `hash`) narrows that expression to the value
of this call. Every number carries its value in this call (`hint`), so Python's own exceptions (`1/0`) come as Python
raises them. Must not know arrays.

    n = IntNumber(p0), t = FloatNumber(e_1);  n // 2 -> IntNumber(p0//2);  t * n -> `e_2 = e_1 * p0`
"""

from __future__ import annotations

import builtins
import cmath
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

from jitensor.errors import Location, user_location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.tracing.context import TraceContext

_SYMBOLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "add": ("{} + {}", operator.add),
    "sub": ("{} - {}", operator.sub),
    "mul": ("{} * {}", operator.mul),
    "truediv": ("{} / {}", operator.truediv),
    "floordiv": ("{} // {}", operator.floordiv),
    "mod": ("{} % {}", operator.mod),
    "pow": ("{} ** {}", operator.pow),
    "lshift": ("{} << {}", operator.lshift),
    "rshift": ("{} >> {}", operator.rshift),
    "and": ("{} & {}", operator.and_),
    "or": ("{} | {}", operator.or_),
    "xor": ("{} ^ {}", operator.xor),
    "neg": ("-{}", operator.neg),
    "pos": ("+{}", operator.pos),
    "invert": ("~{}", operator.invert),
    "abs": ("abs({})", builtins.abs),
}
_COMPARISONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "eq": ("==", operator.eq),
    "ne": ("!=", operator.ne),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
}


class Number:
    """A Python number whose value may differ from call to call."""

    __slots__ = ("context", "hint", "location")
    __array_ufunc__: Any = None  # set by the tracer module: NumPy's functions of numbers are recorded

    def __init__(self, context: TraceContext, hint: Any) -> None:
        self.context = context
        self.hint = hint
        self.location: Location = user_location()

    def source(self) -> str:
        raise NotImplementedError

    @property
    def kind(self) -> type:
        return type(self.hint)

    def narrow(self, why: str) -> Any:
        """The value in this call; the trace then serves only calls with the same value."""
        self.context.require(f"Python number {self.source()}", self.location)
        self.context.narrow(self.source(), self.hint, why)
        return self.hint

    # Python asks for the value.
    def __bool__(self) -> bool:
        if self.context.active and not is_unknown(self):
            self.context.require("Python number", self.location)
            answer = bool(self.hint)
            self.context.guard(f"{'' if answer else 'not '}{_wrapped(self.source())}", "`if` needs the value")
            return answer
        return bool(self.narrow("`if` needs the value"))

    def __index__(self) -> int:
        if not isinstance(self.hint, int):
            raise TypeError(f"'{type(self.hint).__name__}' object cannot be interpreted as an integer")
        return operator.index(self.narrow("Python needs the integer"))

    def __int__(self) -> int:
        return int(self.narrow("int() needs the value"))

    def __float__(self) -> float:
        return float(self.narrow("float() needs the value"))

    def __complex__(self) -> complex:
        return complex(self.narrow("complex() needs the value"))

    def __hash__(self) -> int:
        return hash(self.narrow("hash() needs the value"))

    def __repr__(self) -> str:
        return repr(self.narrow("repr() needs the value"))

    def __str__(self) -> str:
        return str(self.narrow("str() needs the value"))

    def __format__(self, spec: str) -> str:
        return format(self.narrow("format() needs the value"), spec)

    def __trunc__(self) -> Any:
        return apply(math.trunc, self)

    def __floor__(self) -> Any:
        return apply(math.floor, self)

    def __ceil__(self) -> Any:
        return apply(math.ceil, self)

    def __round__(self, digits: Any = None) -> Any:
        return apply(round, self) if digits is None else apply(round, self, digits)

    @property
    def real(self) -> Any:
        return self if not isinstance(self.hint, complex) else apply(_real, self)

    @property
    def imag(self) -> Any:
        return apply(_imag, self) if isinstance(self.hint, complex) else type(self.hint)(0)

    def conjugate(self) -> Any:
        return apply(complex.conjugate, self) if isinstance(self.hint, complex) else self

    def is_integer(self) -> bool:
        return bool(apply(_is_integer, self))

    def bit_length(self) -> int:
        return int(self).bit_length()


class IntNumber(Number):
    """A Python int: an exact integer expression over the symbols of the call."""

    __slots__ = ("dim",)

    def __init__(self, context: TraceContext, dim: Dim) -> None:
        self.dim = dim
        super().__init__(context, dim.evaluate(context.hints))

    def source(self) -> str:
        return self.dim.source()

    @property
    def numerator(self) -> Any:
        return self

    @property
    def denominator(self) -> int:
        return 1

    def narrow(self, why: str) -> Any:
        self.context.require(f"Python number {self.dim}", self.location)
        return self.context.value(self.dim, why)


class FloatNumber(Number):
    """A Python float: a step of the trace, by name."""

    __slots__ = ("name",)

    def __init__(self, context: TraceContext, name: str, hint: Any) -> None:
        self.name = name
        super().__init__(context, hint)

    def source(self) -> str:
        return self.name

    def as_integer_ratio(self) -> tuple[int, int]:
        return float(self).as_integer_ratio()


class ComplexNumber(FloatNumber):
    """A Python complex: a step of the trace, by name."""

    __slots__ = ()


def make_int(context: TraceContext, dim: int | Dim) -> Any:
    """An int where the expression is constant, else an IntNumber."""
    return IntNumber(context, dim) if isinstance(dim, Dim) else dim


def as_dim(value: Any) -> int | Dim:
    """The size expression of an int, IntNumber or object with __index__. Raises TypeError for others."""
    if isinstance(value, IntNumber):
        return value.dim
    return operator.index(value)


def hint_of(value: Any) -> Any:
    return value.hint if isinstance(value, Number) else value


def _wrapped(source: str) -> str:
    return source if source.isidentifier() else f"({source})"


def _source(context: TraceContext, value: Any) -> str:
    if isinstance(value, Number):
        return _wrapped(value.source())
    if type(value) is int:
        return f"({value})" if value < 0 else str(value)
    return context.constant_name(value)


def _context_of(values: Iterable[Any]) -> TraceContext:
    for value in values:
        if isinstance(value, Number):
            if not value.context.is_running():
                value.context.require(f"Python number {value.source()}", value.location)
            return value.context
    raise TypeError("no traced number among the operands")


def _record(context: TraceContext, source: str, hint: Any) -> Any:
    """The number that `source` computes at each call; its Python type is part of what later calls must match."""
    kind = type(hint)
    if kind is bool:
        context.guard(source if hint else f"not ({source})", "a Python condition")
        return hint
    if kind is int:
        return IntNumber(context, dims.symbol(context.number_step(source, hint, int, "q")))
    if kind is float:
        return FloatNumber(context, context.number_step(source, hint, float), hint)
    if kind is complex:
        return ComplexNumber(context, context.number_step(source, hint, complex), hint)
    if kind is tuple:
        name = context.number_step(source, hint, tuple)
        return tuple(_record(context, f"{name}[{i}]", item) for i, item in enumerate(hint))
    raise TypeError(f"a Python number became {kind.__name__}")


def apply(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` of Python numbers, done now for this call's values and again at each later call."""
    context = _context_of(args)
    if any(map(is_unknown, args)):
        return function(*map(known_or_traced, args))
    hint = function(*map(hint_of, args))
    name = context.constant_name(function)
    return _record(context, f"{name}({', '.join(_source(context, a) for a in args)})", hint)


def _real(value: complex) -> float:
    return value.real


def _imag(value: complex) -> float:
    return value.imag


def _is_integer(value: Any) -> bool:
    return float(value).is_integer()


def _traced_size(number: IntNumber) -> Any:
    raise NotImplementedError("tracing.arrays installs it")


TRACED_SIZE: Callable[[IntNumber], Any] = (
    _traced_size  # tracing.arrays puts here how a size that only the data tell becomes a traced number
)


def is_unknown(value: Any) -> bool:
    """Is it an int made of sizes that only the data tell?"""
    return isinstance(value, IntNumber) and value.context.is_unknown(value.dim)


def known_or_traced(value: Any) -> Any:
    """The value, as a traced number where only the data tell it."""
    return TRACED_SIZE(value) if is_unknown(value) else value


def is_python_number(value: Any) -> bool:
    return isinstance(value, Number) or type(value) in (int, float, complex, bool)


def operate(op: str, *operands: Any) -> Any:
    """An operator between Python numbers, as Python does it."""
    template, function = _SYMBOLS[op]
    context = _context_of(operands)
    hint = function(*map(hint_of, operands))
    if type(hint) is int and all(isinstance(v, IntNumber) or type(v) in (int, bool) for v in operands):
        dim = _integer(context, op, [as_dim(v) for v in operands])
        if dim is not None:
            return make_int(context, dim)
    if any(map(is_unknown, operands)):
        return function(*map(known_or_traced, operands))
    return _record(context, template.format(*(_source(context, v) for v in operands)), hint)


def _integer(context: TraceContext, op: str, operands: list[int | Dim]) -> int | Dim | None:
    """The operation as a size expression; None where it has no normal form and becomes a step."""
    a, *rest = operands
    b = rest[0] if rest else 0
    if op in ("add", "sub", "mul"):
        return {"add": operator.add, "sub": operator.sub, "mul": operator.mul}[op](a, b)
    if op in ("floordiv", "mod"):
        if isinstance(b, Dim):
            context.relation("eq", b, 0, "a division by zero would raise")
        return operator.floordiv(a, b) if op == "floordiv" else operator.mod(a, b)
    if op == "neg":
        return -a
    if op == "pos":
        return a
    if op == "invert":
        return -a - 1
    if op == "abs":
        return dims.opaque("abs", a) if context.lower_bound(a) is None or context.lower_bound(a) < 0 else a  # type: ignore[operator]
    if op == "pow" and isinstance(b, int) and 0 <= b <= 4:
        return dims.product((a,) * b)
    return None


def compare(op: str, a: Any, b: Any) -> Any:
    """A comparison of Python numbers: the answer for this call, which later calls must repeat."""
    if not is_python_number(a) or not is_python_number(b):
        return NotImplemented
    sign, function = _COMPARISONS[op]
    context = _context_of((a, b))
    if is_unknown(a) or is_unknown(b):
        return function(known_or_traced(a), known_or_traced(b))
    answer = function(hint_of(a), hint_of(b))
    if all(isinstance(v, IntNumber) or type(v) in (int, bool) for v in (a, b)):
        x, y = as_dim(a), as_dim(b)
        if op in ("gt", "ge"):
            context.relation("lt" if op == "gt" else "le", y, x, "a Python comparison")
        else:
            context.relation("eq" if op == "ne" else op, x, y, "a Python comparison")
        return answer
    source = f"{_source(context, a)} {sign} {_source(context, b)}"
    context.guard(source if answer else f"not {source}", "a Python comparison")
    return answer


def _binary(op: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Number, other: Any) -> Any:
        return operate(op, self, other) if is_python_number(other) else NotImplemented

    def reflected(self: Number, other: Any) -> Any:
        return operate(op, other, self) if is_python_number(other) else NotImplemented

    return forward, reflected


def _unary(op: str) -> Callable[..., Any]:
    return lambda self: operate(op, self)


def _comparison(op: str) -> Callable[..., Any]:
    return lambda self, other: compare(op, self, other)


for _op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or", "xor"):
    _forward, _reflected = _binary(_op)
    setattr(Number, f"__{_op}__", _forward)
    setattr(Number, f"__r{_op}__", _reflected)
for _op in ("neg", "pos", "invert", "abs"):
    setattr(Number, f"__{_op}__", _unary(_op))
for _op in _COMPARISONS:
    setattr(Number, f"__{_op}__", _comparison(_op))


def _divmod(self: Number, other: Any) -> Any:
    return (self // other, self % other) if is_python_number(other) else NotImplemented


def _rdivmod(self: Number, other: Any) -> Any:
    return (other // self, other % self) if is_python_number(other) else NotImplemented


setattr(Number, "__divmod__", _divmod)  # noqa: B010
setattr(Number, "__rdivmod__", _rdivmod)  # noqa: B010

MATH_FUNCTIONS = {f for m in (math, cmath) for f in vars(m).values() if callable(f) and not isinstance(f, type)}
