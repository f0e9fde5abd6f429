"""One trace in progress: the graph builder, what is known of this call's sizes and numbers, and the guards that follow.

Owns `TraceContext`, the thread's current trace, and the ordered list of steps (`NumberStep`, `Guard`) from which the
door generates the code that a later call runs before the program. Must not know NumPy's functions or the decorator. A
step list reads like the Python it becomes:

    d0 == d1                      guard, from `broadcast`       model.py:12
    e0 = p0 / 2                   number
    0 <= p1 < d0                  guard, from `x[i]`            model.py:14
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jitensor.errors import Location, ShapeError, TraceError, user_location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.graph import GraphBuilder, Primitive, Value
from jitensor.ir.types import BY_NUMPY, DType, TensorType
from jitensor.ops import TABLE


class NumberStep(NamedTuple):
    """`name = source`: a Python number computed at each call. `kind`: the type that the result must have, or None."""

    name: str
    source: str
    kind: type | None


class Guard(NamedTuple):
    """A condition that must hold for the trace to serve a call. `narrowed`: (expression, value) where a value was
    needed."""

    source: str
    why: str
    location: Location
    narrowed: tuple[str, Any] | None = None


class Feed(NamedTuple):
    """Where a graph input comes from: kind "leaf" or "hidden" (position), or "scalar" (source of a number, dtype)."""

    kind: str
    where: Any
    dtype: DType | None = None


_SIGNS = {"eq": "==", "lt": "<", "le": "<="}


class TraceContext:
    """The state of one trace. Is the `Resolver` of its sizes."""

    def __init__(self, name: str) -> None:
        self.builder = GraphBuilder(name)
        self.hints: dict[str, Any] = {}  # symbol -> its value in this call
        self.floors: dict[str, int] = {}  # symbol -> proven lower bound
        self.mask_sizes: dict[int, str] = {}  # id of a mask's value -> symbol of how many elements it has
        self.unknown: set[str] = set()  # symbols of sizes that are found when the program runs
        self.united: dict[str, int | Dim] = {}  # symbol -> what a guard found it equal to
        self.steps: list[NumberStep | Guard] = []
        self.constants: dict[str, Any] = {}  # names that generated code reads
        self.feeds: list[Feed] = []
        self.active = True
        self.cells: list[Any] = []  # of array inputs, in the order of their feeds
        self.scalar_hints: dict[int, tuple[str, Any]] = {}  # input id -> its number: source, value in this call
        self.constants_of: dict[int, np.ndarray[Any, Any]] = {}  # input id -> array made of constants in the trace
        self.spelled: dict[str, str] = {}  # names in generated code -> how the user writes them
        self.adopted: dict[int, Any] = {}  # id of a foreign array -> its tracer
        self._answers: dict[tuple[str, Any, Any], bool] = {}
        self._scalars: dict[tuple[str, DType], Value] = {}
        self._counter = 0

    # Names and steps ------------------------------------------------------------------------------------------------

    def fresh(self, prefix: str) -> str:
        self._counter += 1
        return f"{prefix}{self._counter - 1}"

    def constant_name(self, value: Any) -> str:
        """A name under which generated code finds `value`."""
        name = self.fresh("c_")
        self.constants[name] = value
        return name

    def size_symbol(self, value: int, floor: int = 0, prefix: str = "d") -> Dim:
        name = self.fresh(prefix)
        self.hints[name] = value
        if prefix == "d":
            self.floors[name] = floor
        return dims.symbol(name)

    def unknown_size(self) -> str:
        """A symbol for a size that only the data tell. Its hint serves samples, never an answer."""
        name = self.fresh("m")
        self.hints[name] = 1009
        self.floors[name] = 0
        self.unknown.add(name)
        return name

    def is_unknown(self, a: int | Dim) -> bool:
        """Does the size depend on data?"""
        return bool(self.unknown) and isinstance(a, Dim) and not self.unknown.isdisjoint(a.symbols)

    def number_step(self, source: str, hint: Any, kind: type | None, prefix: str = "e_") -> str:
        name = self.fresh(prefix)
        self.steps.append(NumberStep(name, source, kind))
        if prefix == "q":
            self.hints[name] = hint
        return name

    def guard(self, source: str, why: str, narrowed: tuple[str, Any] | None = None) -> None:
        self.steps.append(Guard(source, why, user_location(), narrowed))

    # Resolver ---------------------------------------------------------------------------------------------------------

    def canonical(self, a: int | Dim) -> int | Dim:
        """`a` with sizes that guards found equal replaced by one of them."""
        if not self.united or isinstance(a, int):
            return a
        while isinstance(a, Dim) and any(s in self.united for s in a.symbols):
            a = a.substitute(self.united)
        return a

    def hint(self, a: int | Dim) -> int:
        if self.unknown:
            a = self.canonical(a)
        return a.evaluate(self.hints) if isinstance(a, Dim) else a

    def lower_bound(self, a: int | Dim) -> int | None:
        """A proven lower bound, or None."""
        if isinstance(a, int):
            return a
        total = 0
        for monomial, coefficient in a.terms:
            if not monomial:
                total += coefficient
                continue
            if coefficient < 0:
                return None
            for atom in monomial:
                floor = self.floors.get(atom.args[0]) if atom.op == "symbol" else _atom_floor(self, atom)
                if floor is None or floor < 0:
                    return None
                coefficient *= floor
            total += coefficient
        return total

    def relation(self, op: str, a: int | Dim, b: int | Dim, why: str = "") -> bool:
        a, b = self.canonical(a), self.canonical(b)
        difference = b - a  # a <= b where it is >= 0
        if isinstance(difference, int):
            return dims.holds(op, 0, difference)
        proven = self._proven(op, difference)
        if proven is not None:
            return proven
        key = (op, a, b)
        known = self._answers.get(key)
        if known is not None:
            return known
        if self.is_unknown(difference):
            answer = self._answers[key] = self._assume(op, a, b, why)
            return answer
        answer = self._answers[key] = dims.holds(op, self.hint(a), self.hint(b))
        source = f"{_text(a)} {_SIGNS[op]} {_text(b)}"
        self.guard(source if answer else f"not {source}", why or "sizes were compared")
        if op == "eq" and answer:
            self._unite(a, b)
        return answer

    def _proven(self, op: str, difference: Dim) -> bool | None:
        low = self.lower_bound(difference)
        high = self.lower_bound(-difference)  # difference <= -high
        if low is not None:
            if op == "le" and low >= 0 or op == "lt" and low > 0:
                return True
            if op == "eq" and low > 0:
                return False
        if high is not None:
            if op == "le" and high > 0 or op == "lt" and high >= 0:
                return False
            if op == "eq" and high > 0:
                return False
        return None

    def _assume(self, op: str, a: int | Dim, b: int | Dim, why: str) -> bool:
        """The answer for sizes that only the data tell: two sizes that must fit are equal, which is checked when the
        program runs; no such size is taken to be 0 or 1."""
        if op != "eq":
            raise TraceError(
                f"{why or 'a comparison of sizes'} needs a size that only the data tell: "
                f"{_text(a)} {_SIGNS[op]} {_text(b)}. Keep"
                " the size of the array: np.where(mask, x, fill), or a reduction with where=mask.",
                location=user_location(),
            )
        if isinstance(a, int) and a <= 1 or isinstance(b, int) and b <= 1:
            return False
        difference = b - a
        assert isinstance(difference, Dim)
        for monomial, coefficient in difference.terms:
            rest = (difference - Dim(((monomial, coefficient),))) * -coefficient
            name = monomial[0].args[0] if len(monomial) == 1 and monomial[0].op == "symbol" else None
            if name in self.unknown and abs(coefficient) == 1 and name not in dims.symbols_of(rest):
                self.united[name] = rest  # the node that finds the size checks it
                return True
        raise TraceError(
            f"{why or 'an operation'} needs to know whether {_text(a)} equals {_text(b)}, which only the data tell.",
            location=user_location(),
        )

    def check_size(self, op: str, a: int | Dim, b: int | Dim, error: type[Exception], message: str) -> None:
        """Records a check that `op` (a comparison's name) holds for the sizes when the program runs."""
        left, right = self.size_number(a), self.size_number(b)
        holds = self.emit(TABLE[op], left, right)
        self.emit(TABLE["check"], holds, left, right, message=message, error=error)

    def size_number(self, a: int | Dim) -> Value:
        """A size as an int64 number of the program."""
        if isinstance(a, int):
            return self.constant(a, BY_NUMPY[np.dtype("int64")])
        value: Value = self.emit(TABLE["size_value"], size=a, dtype=BY_NUMPY[np.dtype("int64")])
        return value

    def _unite(self, a: int | Dim, b: int | Dim) -> None:
        """Remembers that a == b where one of them is a bare symbol; the later symbol gives way."""
        pairs = [(x, y) for x, y in ((a, b), (b, a)) if _bare(x) is not None and _bare(x) not in dims.symbols_of(y)]
        if not pairs:
            return
        if len(pairs) == 2 and _order(pairs[1]) > _order(pairs[0]):
            pairs.reverse()
        name = _bare(pairs[0][0])
        assert name is not None
        self.united[name] = pairs[0][1]

    def value(self, a: Dim, why: str) -> int:
        """The value of `a` in this call; the trace serves only calls where it is the same."""
        a_now = self.canonical(a)
        if isinstance(a_now, int):
            return a_now
        if self.is_unknown(a_now):
            raise TraceError(
                f"{why} needs the value of a size that only the data tell ({a_now}). Keep the size of the array: "
                "np.where(mask, x, fill), or a reduction with where=mask.",
                location=user_location(),
            )
        value = self.hint(a_now)
        self.narrow(a_now.source(), value, why)
        return value

    def narrow(self, source: str, value: Any, why: str) -> None:
        key = ("narrow", source, None)
        if key in self._answers:
            return
        self._answers[key] = True
        if value != value or isinstance(value, complex):
            self.guard(f"repr({source}) == {repr(value)!r}", why, (source, value))
        elif type(value) is int:
            self.guard(f"{source} == {value!r}", why, (source, value))
        else:
            self.guard(f"{source} == {self.constant_name(value)}", why, (source, value))

    # Graph ------------------------------------------------------------------------------------------------------------

    def add(self, primitive: Primitive, inputs: list[Value], params: dict[str, Any] | None = None) -> Value:
        return self.builder.add(primitive, inputs, params, user_location())[0]

    def emit(self, primitive: Primitive, *values: Value, **params: Any) -> Any:
        """Records a node; its Value, or a tuple of them where it has several or none. What `ops.composites` call."""
        made = self.builder.add(primitive, values, params, user_location())
        return made[0] if len(made) == 1 else made

    def constant(self, value: Any, dtype: DType) -> Value:
        return self.builder.constant(value, dtype)

    def scalar_input(self, source: str, hint: Any, dtype: DType) -> Value:
        """The graph input that carries the number `source`, converted to `dtype` at each call."""
        known = self._scalars.get((source, dtype))
        if known is None:
            known = self._scalars[source, dtype] = self.builder.input(TensorType(dtype, ()), scalar=True)
            self.feeds.append(Feed("scalar", source, dtype))
            self.scalar_hints[known.id] = (source, hint)
        return known

    def held_input(self, array: np.ndarray[Any, Any]) -> Value:
        """The graph input for an array that the trace itself keeps: a constant, or an object's attribute."""
        value = self.builder.input(TensorType(BY_NUMPY[array.dtype], array.shape))
        self.feeds.append(Feed("held", self.constant_name(array), value.dtype))
        return value

    def array_input(self, kind: str, where: Any, array: np.ndarray[Any, Any]) -> Value:
        """The graph input for an array argument: sizes 0 and 1 are fixed, the others are symbols."""
        shape = tuple([n if n < 2 else self.size_symbol(n, 2) for n in array.shape])
        value = self.builder.input(TensorType(BY_NUMPY[array.dtype.newbyteorder("=")], shape))
        foreign = not array.dtype.isnative
        self.feeds.append(Feed("foreign" if foreign else kind, where, value.dtype))
        return value

    def is_running(self) -> bool:
        """Is this the trace that this thread is running?"""
        return self.active and _current.context is self

    def require(self, what: str, made: Location | None) -> None:
        """Raises TraceError unless this trace is the one that is running in this thread."""
        if self.is_running():
            return
        where = f", made at {made}" if made else ""
        state = "belongs to another trace" if self.active else "outlived its trace"
        raise TraceError(
            f"{what}{where} {state}. Return it from the traced function instead of keeping it in a global, an "
            "attribute or a container.",
            location=user_location(),
        )


def _atom_floor(context: TraceContext, atom: Any) -> int | None:
    if atom.op == "max":
        bounds = [b for a in atom.args if (b := context.lower_bound(a)) is not None]
        return max(bounds, default=None)
    if atom.op == "floordiv" and isinstance(atom.args[1], int) and atom.args[1] > 0:
        below = context.lower_bound(atom.args[0])
        return None if below is None else below // atom.args[1]
    if atom.op == "mod" and isinstance(atom.args[1], int) and atom.args[1] > 0:
        return 0
    return None


def _text(a: int | Dim) -> str:
    return a.source() if isinstance(a, Dim) else str(a)


def _bare(a: int | Dim) -> str | None:
    if isinstance(a, Dim) and len(a.terms) == 1:
        (monomial, coefficient), *_ = a.terms
        if coefficient == 1 and len(monomial) == 1 and monomial[0].op == "symbol":
            name: str = monomial[0].args[0]
            return name
    return None


def _order(pair: tuple[int | Dim, int | Dim]) -> int:
    name = _bare(pair[0]) or "d0"
    return int(name.lstrip("abcdefghijklmnopqrstuvwxyz_"))


class _Current(threading.local):
    context: TraceContext | None = None


_current = _Current()


def current() -> TraceContext | None:
    """The trace that this thread is running, or None."""
    return _current.context


class running:
    """`with running(context):` makes it this thread's trace, and the judge of its sizes."""

    def __init__(self, context: TraceContext) -> None:
        self.context = context
        self.resolving = dims.resolving(context)

    def __enter__(self) -> TraceContext:
        self.before, _current.context = _current.context, self.context
        self.resolving.__enter__()
        return self.context

    def __exit__(self, *exc: object) -> None:
        self.resolving.__exit__(*exc)
        _current.context = self.before
        self.context.active = False


def here(function: str) -> TraceContext:
    """The running trace; TraceError where there is none."""
    context = _current.context
    if context is None:
        raise TraceError(f"{function}: no trace is running")
    return context


def shape_text(context: TraceContext, shape: tuple[int | Dim, ...]) -> str:
    """The shape as NumPy prints it, with the sizes of this call."""
    sizes = [str(context.hint(n)) for n in shape]
    return "(" + ",".join(sizes) + ("," if len(sizes) == 1 else "") + ")"


def shape_error(text: str) -> ShapeError:
    return ShapeError(text, location=user_location())


Wrap = Callable[[Any], Any]
