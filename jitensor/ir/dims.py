"""Sizes: integer expressions over symbols, in a normal form that proves most equalities by comparison.

A size in a shape is an `int` or a `Dim`; arithmetic that comes out constant gives an `int` back. A Dim is a polynomial
with integer coefficients over atoms; an atom is a symbol (`d0`) or an operation that the polynomial cannot hold
(`floordiv(d0 + 1, 2)`, `max(0, d1)`). Two Dims are equal when their normal forms are.

What the normal form cannot decide is asked of the active `Resolver`: while tracing from real arguments it looks at the
actual values (hints), answers, and records a guard, so that the trace is used again only where the answer is the same.
Without a resolver the answer is the provable one.

    >>> n = symbol("n"); (n + 1) * 2 - n
    n + 2
"""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol


class Atom:
    """A symbol (op is "symbol", args the name) or an opaque operation on sizes. Interned: compared by identity."""

    __slots__ = ("op", "args", "text", "_evaluate")
    _known: ClassVar[dict[tuple[str, tuple[Any, ...]], Atom]] = {}

    op: str
    args: tuple[Any, ...]
    text: str

    def __new__(cls, op: str, args: tuple[Any, ...]) -> Atom:
        known = cls._known.get((op, args))
        if known is None:
            known = object.__new__(cls)
            known.op, known.args = op, args
            known.text = args[0] if op == "symbol" else f"{op}({', '.join(map(str, args))})"
            known = cls._known.setdefault((op, args), known)
        return known

    def __lt__(self, other: Atom) -> bool:
        return self.text < other.text

    def __reduce__(self) -> tuple[Any, ...]:
        return Atom, (self.op, self.args)

    def __repr__(self) -> str:
        return self.text


def _power(a: int, b: int) -> int:
    if b < 0:
        raise ValueError("a size cannot have a negative exponent")
    return a**b


OPERATIONS: dict[str, Callable[..., int]] = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
    "pow": _power,
    "abs": abs,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}

Monomial = tuple[Atom, ...]  # sorted; () is the constant term


class Dim:
    """A size that is not constant. Immutable and hashable; `==` compares normal forms."""

    __slots__ = ("terms", "_hash")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms  # sorted by monomial, coefficients not 0
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms)

    def __add__(self, other: int | Dim) -> int | Dim:
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    __radd__ = __add__

    def __neg__(self) -> int | Dim:
        return self * -1

    def __sub__(self, other: int | Dim) -> int | Dim:
        return self + (-other)

    def __rsub__(self, other: int | Dim) -> int | Dim:
        return -self + other

    def __mul__(self, other: int | Dim) -> int | Dim:
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                m = tuple(sorted(m1 + m2)) if m1 and m2 else m1 or m2
                total[m] = total.get(m, 0) + c1 * c2
        return _normal(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: int | Dim) -> int | Dim:
        exact = _divide_exactly(self, other)
        return exact if exact is not None else opaque("floordiv", self, other)

    def __rfloordiv__(self, other: int) -> int | Dim:
        return opaque("floordiv", other, self)

    def __mod__(self, other: int | Dim) -> int | Dim:
        return 0 if _divide_exactly(self, other) is not None else opaque("mod", self, other)

    def __rmod__(self, other: int) -> int | Dim:
        return opaque("mod", other, self)

    @property
    def atoms(self) -> frozenset[Atom]:
        return frozenset(a for m, _ in self.terms for a in m)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of the symbols that the expression reads, inside opaque operations too."""
        found: set[str] = set()
        for atom in self.atoms:
            if atom.op == "symbol":
                found.add(atom.args[0])
            else:
                found.update(*(symbols_of(a) for a in atom.args))
        return frozenset(found)

    def evaluate(self, values: Mapping[str, int]) -> int:
        total = 0
        for monomial, coefficient in self.terms:
            for atom in monomial:
                coefficient *= _evaluate_atom(atom, values)
            total += coefficient
        return total

    def substitute(self, values: Mapping[str, int | Dim]) -> int | Dim:
        total: int | Dim = 0
        for monomial, coefficient in self.terms:
            term: int | Dim = coefficient
            for atom in monomial:
                if atom.op == "symbol":
                    term = term * values.get(atom.args[0], Dim((((atom,), 1),)))
                else:
                    term = term * opaque(atom.op, *(substitute(a, values) for a in atom.args))
            total = total + term
        return total

    def source(self, name: Callable[[str], str] = str) -> str:
        """The expression as Python source; `name` gives the text of a symbol."""
        parts = []
        for monomial, coefficient in self.terms:
            factors = [_atom_source(a, name) for a in monomial]
            if coefficient not in (1, -1) or not factors:
                factors.insert(0, str(abs(coefficient)))
            parts.append(("-" if coefficient < 0 else "+", "*".join(factors)))
        # A positive term first reads best: `n - 2`, not `-2 + n`.
        parts.sort(key=lambda p: (p[0] == "-", p[1][0].isdigit()))
        text = "".join(f" {sign} {body}" for sign, body in parts).lstrip(" +")
        return text.replace("- ", "-", 1) if text.startswith("- ") else text

    def __repr__(self) -> str:
        return self.source()


_PYTHON = {"floordiv": "//", "mod": "%", "pow": "**", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|", "xor": "^"}


def _atom_source(atom: Atom, name: Callable[[str], str]) -> str:
    if atom.op == "symbol":
        return name(atom.args[0])
    args = [a.source(name) if isinstance(a, Dim) else str(a) for a in atom.args]
    if atom.op in _PYTHON:
        return "(" + f" {_PYTHON[atom.op]} ".join(f"({a})" if " " in a else a for a in args) + ")"
    return f"{atom.op}({', '.join(args)})"


def _terms(value: int | Dim) -> tuple[tuple[Monomial, int], ...]:
    return value.terms if isinstance(value, Dim) else (((), int(value)),)


def _normal(total: dict[Monomial, int]) -> int | Dim:
    terms = tuple(sorted(((m, c) for m, c in total.items() if c), key=lambda t: [a.text for a in t[0]]))
    if not terms:
        return 0
    if len(terms) == 1 and terms[0][0] == ():
        return terms[0][1]
    return Dim(terms)


def _divide_exactly(value: Dim, divisor: int | Dim) -> int | Dim | None:
    """value // divisor where that is exact for every value of the symbols, else None."""
    if isinstance(divisor, Dim):
        if len(divisor.terms) != 1:
            return 1 if value == divisor else None
        monomial, factor = divisor.terms[0]
    else:
        monomial, factor = (), divisor
    if factor == 0:
        return None
    result = []
    for m, c in value.terms:
        left = list(m)
        for atom in monomial:
            if atom not in left:
                return None
            left.remove(atom)
        if c % factor:
            return None
        result.append((tuple(left), c // factor))
    return _normal(dict(result))


def _evaluate_atom(atom: Atom, values: Mapping[str, int]) -> int:
    if atom.op == "symbol":
        return values[atom.args[0]]
    return OPERATIONS[atom.op](*(a.evaluate(values) if isinstance(a, Dim) else a for a in atom.args))


@functools.cache
def symbol(name: str) -> Dim:
    """The size called `name`."""
    return Dim((((Atom("symbol", (name,)),), 1),))


def opaque(op: str, *args: int | Dim) -> int | Dim:
    """`op` (a key of OPERATIONS) of sizes, folded where all are constant."""
    if not any(isinstance(a, Dim) for a in args):
        return OPERATIONS[op](*args)
    if op in ("max", "min"):
        args = tuple(sorted(set(args), key=str))
        if len(args) == 1:
            return args[0]
    return Dim((((Atom(op, args),), 1),))


def evaluate(value: int | Dim, values: Mapping[str, int]) -> int:
    return value.evaluate(values) if isinstance(value, Dim) else value


def substitute(value: int | Dim, values: Mapping[str, int | Dim]) -> int | Dim:
    return value.substitute(values) if isinstance(value, Dim) else value


def symbols_of(value: int | Dim) -> frozenset[str]:
    return value.symbols if isinstance(value, Dim) else frozenset()


def product(shape: tuple[int | Dim, ...]) -> int | Dim:
    total: int | Dim = 1
    for n in shape:
        total = total * n
    return total


# Questions whose answer the normal form may not hold ------------------------------------------------------------------


class Resolver(Protocol):
    """Answers a relation between sizes from what is known of this call, and remembers having been asked."""

    def relation(self, op: str, a: int | Dim, b: int | Dim) -> bool: ...

    def value(self, a: Dim, why: str) -> int: ...


class _Active(threading.local):
    resolver: Resolver | None = None


_active = _Active()


class resolving:
    """`with resolving(resolver):` sizes are compared by `resolver` in this thread."""

    def __init__(self, resolver: Resolver | None) -> None:
        self.resolver = resolver

    def __enter__(self) -> None:
        self.before, _active.resolver = _active.resolver, self.resolver

    def __exit__(self, *exc: object) -> None:
        _active.resolver = self.before


def same(a: int | Dim, b: int | Dim) -> bool:
    """Are the sizes equal? Where that depends on the call, the resolver answers and records the answer as a guard."""
    if a is b or a == b:
        return True
    return _ask("eq", a, b)


def less(a: int | Dim, b: int | Dim) -> bool:
    return _ask("lt", a, b)


def less_equal(a: int | Dim, b: int | Dim) -> bool:
    return a == b or _ask("le", a, b)


_RELATIONS: dict[str, Callable[[int, int], bool]] = {"eq": operator.eq, "lt": operator.lt, "le": operator.le}


def holds(op: str, a: int, b: int) -> bool:
    """`op` is one of eq, lt, le."""
    return _RELATIONS[op](a, b)


def _ask(op: str, a: int | Dim, b: int | Dim) -> bool:
    difference = a - b
    if isinstance(difference, int):
        return _RELATIONS[op](difference, 0)
    if _active.resolver is None:
        return False
    return _active.resolver.relation(op, a, b)


def known(a: int | Dim, why: str) -> int:
    """The value of a size that a rule cannot do without. Narrows the signature of the trace, with `why` on record."""
    if isinstance(a, int):
        return a
    if _active.resolver is None:
        raise TypeError(f"{why} needs the value of size {a}, which is known only when called")
    return _active.resolver.value(a, why)
