"""Sizes: the normal form, evaluation, and questions to the resolver."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitensor.ir import dims
from jitensor.ir.dims import Dim, symbol

n, m = symbol("n"), symbol("m")


@pytest.mark.parametrize(
    "a, b",
    [
        (n + 1 - 1, n),
        (n - n, 0),
        (2 * (n + m) - m, 2 * n + m),
        ((n + 1) * (n - 1), n * n - 1),
        ((4 * n + 8) // 4, n + 2),
        ((n * m) // m, n),
        ((6 * n) % 3, 0),
        (dims.opaque("max", n, 0), dims.opaque("max", 0, n)),
        (dims.opaque("min", n, n), n),
        (dims.product((n, 3, m)), 3 * m * n),
    ],
)
def test_equal_normal_forms(a: object, b: object) -> None:
    assert a == b
    assert hash(a) == hash(b)


def test_forms_that_differ() -> None:
    assert n // 2 != n
    assert (n + 1) // 2 != n // 2
    assert n + 1 != n + 2
    assert n != m


def test_text() -> None:
    assert str(2 * n - 3) == "2*n - 3"
    assert str(-n) == "-n"
    assert str((n + 1) // 2 + 1) == "((n + 1) // 2) + 1"
    assert str(dims.opaque("max", 0, n - 1)) == "max(0, n - 1)"


@given(st.lists(st.tuples(st.sampled_from("+-*/%"), st.sampled_from(["n", "m", "3", "-2"])), max_size=6))
def test_evaluation_is_pythons_arithmetic(steps: list[tuple[str, str]]) -> None:
    values = {"n": 11, "m": 4}
    size: int | Dim = n
    plain = values["n"]
    for op, operand in steps:
        right = symbol(operand) if operand in values else int(operand)
        number = values.get(operand) or int(operand)
        if op == "+":
            size, plain = size + right, plain + number
        elif op == "-":
            size, plain = size - right, plain - number
        elif op == "*":
            size, plain = size * right, plain * number
        elif op == "/":
            size, plain = size // right, plain // number
        else:
            size, plain = size % right, plain % number
    assert dims.evaluate(size, values) == plain
    assert dims.evaluate(dims.substitute(size, {"n": m + 7}), {"m": 4}) == plain


class Hints:
    """A resolver that answers from values, and remembers what it was asked."""

    def __init__(self, **values: int) -> None:
        self.values, self.asked = values, []

    def relation(self, op: str, a: int | Dim, b: int | Dim) -> bool:
        self.asked.append((op, a, b))
        return dims.holds(op, dims.evaluate(a, self.values), dims.evaluate(b, self.values))

    def value(self, a: Dim, why: str) -> int:
        self.asked.append(("value", a, why))
        return dims.evaluate(a, self.values)


def test_what_the_form_decides_is_not_asked() -> None:
    with dims.resolving(hints := Hints(n=3)):
        assert dims.same(n + 1, 1 + n)
        assert not dims.same(n, n + 1)
        assert dims.less(n, n + 1)
        assert dims.less_equal(n, n)
        assert dims.known(7, "a test") == 7
    assert hints.asked == []


def test_what_it_cannot_decide_is_asked_of_the_resolver() -> None:
    with dims.resolving(hints := Hints(n=3, m=3)):
        assert dims.same(n, m)
        assert dims.less(2, n)
        assert dims.known(n, "range") == 3
    assert hints.asked == [("eq", n, m), ("lt", 2, n), ("value", n, "range")]


def test_without_a_resolver_only_the_provable_holds() -> None:
    assert not dims.same(n, m)
    with pytest.raises(TypeError, match="range needs the value of size n"):
        dims.known(n, "range")


def test_symbols_of_nested_expressions() -> None:
    assert dims.symbols_of((n + m) // 2) == {"n", "m"}
    assert dims.symbols_of(4) == frozenset()
