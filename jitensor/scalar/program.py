"""The scalar program: straight-line, branch-free, single-assignment code on machine scalars.

Owns the primitives that a writer must know (`OPS`) and the builder that records them. It must not know arrays, loops or
Python's numbers. Everything richer (exp, erf, pow ...) is a `@scalar_function`: an ordinary Python function that takes
values, uses operators and the primitives below, and returns a value. Text form, one instruction a line:

    %2 = mul %0 %1 : f64 contract
    %3 = const 0.5 : f64
    %4 = select %5 %2 %3 : f64

Value types are `i1` (truth), `i8 i16 i32 i64`, `u8 u16 u32 u64`, `f32 f64`. Half precision and complex numbers never
appear: see `half.py` and `complex.py`, which lower them to these.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from typing import Any

FLOATS = ("f32", "f64")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTEGERS = SIGNED + UNSIGNED
WIDTH = {t: int(t[1:]) for t in FLOATS + INTEGERS} | {"i1": 1}

# op -> (number of operands, what it means). The result type is given by `emit`'s callers through the functions below.
OPS: dict[str, tuple[int, str]] = {
    "const": (0, "a literal; attr is the Python value"),
    "param": (0, "an input; attr is its position"),
    "add": (2, "float: IEEE; integer: wraps"),
    "sub": (2, "float: IEEE; integer: wraps"),
    "mul": (2, "float: IEEE; integer: wraps"),
    "div": (2, "float only, IEEE"),
    "quo": (2, "integer quotient rounded toward zero; divisor 0 and MIN/-1 must have been selected away"),
    "rem": (2, "integer remainder with the dividend's sign; same duty as quo"),
    "fma": (3, "float: a*b+c rounded once"),
    "neg": (1, "float: flips the sign bit; integer: wraps"),
    "abs": (1, "float only: clears the sign bit"),
    "sqrt": (1, "float only, correctly rounded"),
    "floor": (1, "float only"),
    "ceil": (1, "float only"),
    "trunc": (1, "float only"),
    "rint": (1, "float only: ties to even"),
    "eq": (2, "i1; false for nan"),
    "ne": (2, "i1; true for nan"),
    "lt": (2, "i1; signed or unsigned by the operands' type; false for nan"),
    "le": (2, "i1"),
    "gt": (2, "i1"),
    "ge": (2, "i1"),
    "select": (3, "first operand i1; both others are always evaluated"),
    "and": (2, "integers and i1, bitwise"),
    "or": (2, "integers and i1, bitwise"),
    "xor": (2, "integers and i1, bitwise"),
    "not": (1, "integers and i1, bitwise"),
    "shl": (2, "integer; the count must be below the width"),
    "shr": (2, "integer; arithmetic for signed, logical for unsigned; the count must be below the width"),
    "convert": (
        1,
        "between number types: int->float rounds to nearest, f32<->f64, int->int wraps or extends by the source's "
        "sign, i1->number gives 0 or 1, float->int truncates and must have been clamped into range",
    ),
    "bitcast": (1, "same width, other type"),
    "call": (1, "attr names a libm function (f64 or f32 by type); one or two operands; only in an exact program"),
    "invoke": (0, "attr is an Outlined: a scalar function kept apart, for writers that print functions"),
}
COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
CONTRACTED = frozenset(("add", "sub", "mul"))  # the ops that carry `contract`


class Instruction:
    """One primitive: `op`, result `type`, operand ids `args`, and `attr` (constant, position, name) or None.

    `contract` lets a writer fuse this add/sub/mul with a neighbour into an fma; scalar functions leave it off so that
    their error bounds hold, user arithmetic turns it on.
    """

    __slots__ = ("op", "type", "args", "attr", "contract")

    def __init__(self, op: str, type: str, args: tuple[int, ...], attr: Any, contract: bool) -> None:
        self.op, self.type, self.args, self.attr, self.contract = op, type, args, attr, contract


class ScalarValue:
    """The result of one instruction. Operators record; Python numbers on either side take this value's type."""

    __slots__ = ("program", "id", "type")

    def __init__(self, program: ScalarProgram, id: int, type: str) -> None:
        self.program, self.id, self.type = program, id, type

    def _pair(self, other: ScalarValue | float | int) -> ScalarValue:
        if isinstance(other, ScalarValue):
            if other.type != self.type:
                raise TypeError(f"scalar program mixes {self.type} and {other.type}")
            return other
        return self.program.constant(other, self.type)

    def _binary(self, op: str, other: Any) -> ScalarValue:
        other = self._pair(other)
        return self.program.emit(op, self.type, (self, other))

    def _reflected(self, op: str, other: Any) -> ScalarValue:
        return self.program.emit(op, self.type, (self._pair(other), self))

    def _compare(self, op: str, other: Any) -> ScalarValue:
        return self.program.emit(op, "i1", (self, self._pair(other)))

    def __add__(self, o: Any) -> ScalarValue:
        return self._binary("add", o)

    def __radd__(self, o: Any) -> ScalarValue:
        return self._reflected("add", o)

    def __sub__(self, o: Any) -> ScalarValue:
        return self._binary("sub", o)

    def __rsub__(self, o: Any) -> ScalarValue:
        return self._reflected("sub", o)

    def __mul__(self, o: Any) -> ScalarValue:
        return self._binary("mul", o)

    def __rmul__(self, o: Any) -> ScalarValue:
        return self._reflected("mul", o)

    def __truediv__(self, o: Any) -> ScalarValue:
        return self._binary("div", o)

    def __rtruediv__(self, o: Any) -> ScalarValue:
        return self._reflected("div", o)

    def __neg__(self) -> ScalarValue:
        return self.program.emit("neg", self.type, (self,))

    def __and__(self, o: Any) -> ScalarValue:
        return self._binary("and", o)

    def __or__(self, o: Any) -> ScalarValue:
        return self._binary("or", o)

    def __xor__(self, o: Any) -> ScalarValue:
        return self._binary("xor", o)

    def __invert__(self) -> ScalarValue:
        return self.program.emit("not", self.type, (self,))

    def __lshift__(self, o: Any) -> ScalarValue:
        return self._binary("shl", o)

    def __rshift__(self, o: Any) -> ScalarValue:
        return self._binary("shr", o)

    def __lt__(self, o: Any) -> ScalarValue:
        return self._compare("lt", o)

    def __le__(self, o: Any) -> ScalarValue:
        return self._compare("le", o)

    def __gt__(self, o: Any) -> ScalarValue:
        return self._compare("gt", o)

    def __ge__(self, o: Any) -> ScalarValue:
        return self._compare("ge", o)

    # == and != stay identity (values are dictionary keys); `equal` and `not_equal` record.

    def __bool__(self) -> bool:
        raise TypeError("a scalar program has no branches: use select")

    def __repr__(self) -> str:
        return f"%{self.id}: {self.type}"


class ScalarProgram:
    """A growing list of instructions.

    `exact` asks scalar functions for their slow, always right form, in which `call` is allowed. Otherwise a function
    that is wrong for rare inputs records the condition with `slow_if`, and whoever runs the program redoes those
    elements with the exact program. `outline` keeps scalar functions as `invoke`s instead of expanding them.
    `contract` is what new add/sub/mul instructions carry. `results` belongs to whoever builds the program.
    """

    def __init__(self, *, exact: bool = False, outline: bool = False) -> None:
        self.exact, self.outline = exact, outline
        self.contract = False
        self.instructions: list[Instruction] = []
        self.slow: list[ScalarValue] = []
        self.results: list[ScalarValue] = []
        self._known: dict[tuple[Any, ...], ScalarValue] = {}
        self._parameters = 0

    def param(self, type: str) -> ScalarValue:
        self._parameters += 1
        return self._append("param", type, (), self._parameters - 1)

    def constant(self, value: float | int | bool, type: str) -> ScalarValue:
        if type in FLOATS:
            value = float(value)
            if type == "f32":
                value = _round_to_f32(value)
            key: tuple[Any, ...] = ("const", type, struct.pack("<d", value))
        else:
            value = _wrapped(value, type)
            key = ("const", type, value)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._append("const", type, (), value)
        return known

    def emit(self, op: str, type: str, args: tuple[ScalarValue, ...], attr: Any = None) -> ScalarValue:
        ids = tuple([a.id for a in args])
        key = (op, type, ids, attr, self.contract and op in CONTRACTED)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._append(op, type, ids, attr)
        return known

    def _append(self, op: str, type: str, args: tuple[int, ...], attr: Any) -> ScalarValue:
        value = ScalarValue(self, len(self.instructions), type)
        self.instructions.append(Instruction(op, type, args, attr, self.contract and op in CONTRACTED))
        return value

    def slow_if(self, condition: ScalarValue | None) -> None:
        """The fast form is wrong where `condition` (i1) holds, None for nowhere. A no-op in an exact program."""
        if not self.exact and condition is not None:
            self.slow.append(condition)

    def text(self) -> str:
        lines = []
        for i, n in enumerate(self.instructions):
            attr = () if n.attr is None else (n.attr.name if n.op == "invoke" else repr(n.attr),)
            words = (n.op, *(f"%{a}" for a in n.args), *attr)
            lines.append(f"%{i} = {' '.join(words)} : {n.type}{' contract' if n.contract else ''}")
        return "\n".join(lines)


def _wrapped(value: float | int, type: str) -> int:
    """The integer as the type holds it, so that masks may be written as unsigned hexadecimal for every type."""
    if value != int(value):
        raise TypeError(f"scalar program: {value!r} is no {type} constant")
    width = WIDTH[type]
    bits = int(value) & ((1 << width) - 1)
    return bits - (1 << width) if type in SIGNED and bits >> (width - 1) else bits


def _round_to_f32(value: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


class Outlined:
    """What an `invoke` names: a scalar function specialised to operand types and literals, ready to be built apart."""

    __slots__ = ("build", "types", "literals", "exact", "name", "result", "hides_slow")

    def __init__(self, build: Callable[..., ScalarValue], types: tuple[str, ...], literals: tuple[str, ...]) -> None:
        self.build, self.types, self.literals, self.exact = build, types, literals, False
        self.name = "_".join((build.__name__, *literals, *types))
        fast = self.program()
        self.result: str = fast.results[0].type
        self.hides_slow = bool(fast.slow)

    def program(self) -> ScalarProgram:
        """The function's own program, in which the scalar functions that it uses stay `invoke`s."""
        program = ScalarProgram(exact=self.exact, outline=True)
        operands = [program.param(t) for t in self.types]
        program.results = [self.build(*operands, *self.literals)]
        return program

    def as_exact(self) -> Outlined:
        """The form for an exact program: this very object where both forms are the same."""
        other = Outlined(self.build, self.types, self.literals)
        other.exact = True
        other.name += "_exact"
        return self if other.program().text() == self.program().text() else other


@functools.cache
def _outlined(
    build: Callable[..., ScalarValue], types: tuple[str, ...], literals: tuple[str, ...], exact: bool
) -> Outlined:
    outlined = Outlined(build, types, literals)
    return outlined.as_exact() if exact else outlined


def scalar_function(
    build: Callable[..., ScalarValue] | None = None, *, slow: Callable[..., ScalarValue | None] | None = None
) -> Callable[..., Any]:
    """Marks a builder of several instructions, which gives one value. It runs with `contract` off.

    Operands come first and are values, or Python numbers which take the first value's type; strings may follow (types
    and other choices made at build time). `slow(*operands)` gives the condition (i1) under which the fast form is
    wrong, or None: it is recorded where the function is applied, and in an exact program `build` itself (which asks
    `x.program.exact`) records the right form. Under `outline` the application is one `invoke`, unless `build` applies
    functions whose `slow` conditions the `invoke` would hide.
    """
    if build is None:
        return functools.partial(scalar_function, slow=slow)

    @functools.wraps(build)
    def apply(*args: Any) -> ScalarValue:
        first = next(a for a in args if isinstance(a, ScalarValue))
        program = first.program
        operands = tuple([a if isinstance(a, ScalarValue) else first._pair(a) for a in args if type(a) is not str])
        literals = tuple([a for a in args if type(a) is str])
        before, program.contract = program.contract, False
        try:
            if slow is not None and not program.exact:
                program.slow_if(slow(*operands, *literals))
            if program.outline:
                outlined = _outlined(build, tuple([a.type for a in operands]), literals, program.exact)
                if not outlined.hides_slow:
                    return program.emit("invoke", outlined.result, operands, outlined)
            return build(*operands, *literals)
        finally:
            program.contract = before

    return apply


# Primitives as functions ----------------------------------------------------------------------------------------------


def fma(a: ScalarValue, b: ScalarValue | float, c: ScalarValue | float) -> ScalarValue:
    return a.program.emit("fma", a.type, (a, a._pair(b), a._pair(c)))


def sqrt(a: ScalarValue) -> ScalarValue:
    return a.program.emit("sqrt", a.type, (a,))


def floor(a: ScalarValue) -> ScalarValue:
    return a.program.emit("floor", a.type, (a,))


def ceil(a: ScalarValue) -> ScalarValue:
    return a.program.emit("ceil", a.type, (a,))


def trunc(a: ScalarValue) -> ScalarValue:
    return a.program.emit("trunc", a.type, (a,))


def rint(a: ScalarValue) -> ScalarValue:
    return a.program.emit("rint", a.type, (a,))


def fabs(a: ScalarValue) -> ScalarValue:
    return a.program.emit("abs", a.type, (a,))


def equal(a: ScalarValue, b: ScalarValue | float) -> ScalarValue:
    return a._compare("eq", b)


def not_equal(a: ScalarValue, b: ScalarValue | float) -> ScalarValue:
    return a._compare("ne", b)


def is_nan(a: ScalarValue) -> ScalarValue:
    return a._compare("ne", a)


def select(condition: ScalarValue, a: ScalarValue | float, b: ScalarValue | float) -> ScalarValue:
    """`a` where `condition`, else `b`; one of a and b must be a value."""
    if not isinstance(a, ScalarValue):
        if not isinstance(b, ScalarValue):
            raise TypeError("select needs a typed value on one side")
        a = b._pair(a)
    return a.program.emit("select", a.type, (condition, a, a._pair(b)))


def convert(a: ScalarValue, type: str) -> ScalarValue:
    return a if a.type == type else a.program.emit("convert", type, (a,))


def bitcast(a: ScalarValue, type: str) -> ScalarValue:
    if WIDTH[a.type] != WIDTH[type]:
        raise TypeError(f"bitcast from {a.type} to {type} changes the width")
    return a if a.type == type else a.program.emit("bitcast", type, (a,))


def quotient(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    return a._binary("quo", b)


def remainder(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    return a._binary("rem", b)


def call(name: str, *args: ScalarValue) -> ScalarValue:
    """A libm call; only an exact program may hold one (a call in a fast loop would keep it from vectorising)."""
    if not args[0].program.exact:
        raise TypeError(f"call {name} outside an exact program")
    return args[0].program.emit("call", args[0].type, args, name)
