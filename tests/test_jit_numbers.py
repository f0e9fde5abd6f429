"""jt.jit: Python numbers and sizes stay Python, are inputs, and narrow only where their value is needed."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt

X = np.linspace(0.5, 2.0, 6)

EXPRESSIONS = """
n + m | n - m | n * m | n / m | n // m | n % m | n ** 2 | -n | +n | abs(-n) | ~n | n << 1 | n >> 1 | n & m | n | n ^ m
n + t | t * n | t / n | t // n | t % n | t ** n | n ** t | -t | abs(t) | divmod(n, m) | divmod(t, n) | round(t)
round(t, 1)
int(t) | float(n) | complex(n, m) | complex(t) | bool(n) | n == m | n < m | t >= n | max(n, m) | min(n, t)
max(t, 1.0) | min(n, 3)
math.sqrt(n) | math.exp(t) | math.floor(t) | math.ceil(t) | math.log(t, 2) | math.gcd(n, m) | math.isnan(t)
math.pi * t | math.hypot(t, n)
math.fsum([t, n]) | sum([n, m, t]) | cmath.exp(1j * t) | n if n > m else m | [n, m][0] | str(n) | f"{t:.2f}"
repr(n) | hash(n) | {n: 1}
n * 10**30 | 2 ** 70 + n | n.bit_length() | t.is_integer() | isinstance(n, int) | isinstance(t, float)
isinstance(n, float) | type(n) is int
type(t) is float | isinstance(n, (str, int)) | list(range(n)) | [i for i in range(m)] | 'ab' * m | (1, 2, 3)[m]
n.real | t.imag | n.conjugate()
np.sqrt(n) | np.sqrt(t) | np.add(n, m) | np.multiply(n, t) | np.maximum(n, 3) | np.array(n) | np.array([n, t])
np.float32(t) | np.int64(n) | np.square(t)
x * n | x + t | x * n * t | x / n | n / x | x ** n | x[:n] | x[m] | x.reshape(m, -1) | np.zeros(n)
np.full(n, t) | np.arange(n) | np.arange(m, n)
np.linspace(t, n, 5) | np.arange(0, n, t) | np.eye(n) | np.roll(x, n) | np.repeat(x, m) | np.tile(x, m)
np.pad(x, m) | x.shape[0] * n | len(x) / t
x.sum() * n | float(x.sum()) | int(x.sum()) | float(x.sum()) * x.astype('f4') | float(x[0]) + n
int(x[1] * 10) // 3 | math.sqrt(x.sum()) | round(float(x[0]), 1)
x.sum().item() | x.item(2) | x.size / 2 | x.shape[0] // 4 | x.shape[0] % 4 | (x.shape[0] + 1) // 2
max(x[0], x[1]) | max(float(x[0]), t) | complex(x[0])
abs(float(x[0]) - t) | x.mean() * len(x) | np.sum(x) / x.shape[0] | x[: len(x) // 2] | x[len(x) // 2 :]
x[-n % 6] | x * (n > m) | x + (n == m)
"""
CASES = [e.strip() for line in EXPRESSIONS.strip().splitlines() for e in line.split(" | ")]


@pytest.mark.parametrize("expression", CASES)
def test_expression(expression: str) -> None:
    function = eval(f"lambda x, n, m, t: {expression}", {"np": np, "math": math, "cmath": cmath})
    jitted = same(function, X, 5, 2, 1.75)
    for n, m, t in ((4, 2, 0.5), (5, 2, 2.25)):
        same(function, X, n, m, t, jitted=jitted)


RAISING = """
1 / n | 1 // n | 1 % n | t / n | math.sqrt(-1.0 - t * t) | math.log(n) | [1, 2][n + 5] | 10.0 ** (t * 1e5)
n.undefined | n + 'a' | x[1.0 * t]
int(t * 1e400) | 1 << (n - 1) | len(n) | x[n + 100]
"""


@pytest.mark.parametrize("expression", [e.strip() for line in RAISING.strip().splitlines() for e in line.split(" | ")])
def test_python_s_own_errors(expression: str) -> None:
    text = (
        "len(n)" not in expression
        and "undefined" not in expression
        and "'a'" not in expression
        and "lshift" not in expression
    )
    same_error(eval(f"lambda x, n, t: {expression}", {"math": math}), X, 0, 1.5, text=text)


def test_division_by_zero_at_a_later_call() -> None:
    f = jt.jit(lambda x, n: x + 1 / n)
    f(X, 2)
    with pytest.raises(ZeroDivisionError):
        f(X, 0)
    np.testing.assert_allclose(f(X, 4), X + 0.25)
    assert len(f.signatures()) == 1


def traces(function: object, *calls: tuple[object, ...]) -> int:
    before = jt.counters()
    for call in calls:
        function(*call)  # type: ignore[operator]
    return (jt.counters() - before).traces


def test_new_numbers_make_no_trace() -> None:
    f = jt.jit(lambda x, n, t: np.exp(x * n) + t / (n + 1) * len(x))
    assert traces(f, (X, 2, 0.5), (X, 3, -1.0), (X[:3], 1000, math.inf), (X[:2], 0, 0.0)) == 1
    np.testing.assert_allclose(f(X, -2, 3.0), np.exp(X * -2) + 3.0 / -1 * 6)


def test_nan_and_signed_zero() -> None:
    f = jt.jit(lambda x, t: np.copysign(x, t) if t == t else x * 0)
    assert traces(f, (X, 0.0), (X, -0.0)) == 1
    np.testing.assert_array_equal(f(X, -0.0), -X)
    np.testing.assert_array_equal(f(X, math.nan), X * 0)


def test_big_ints() -> None:
    f = jt.jit(lambda n: (n * n, n // 7, n / 3))
    assert f(10**40) == (10**80, 10**40 // 7, 10**40 / 3)
    same_error(lambda x, n: x + n, np.arange(3), 10**40)
    same(lambda x, n: x + n, np.arange(3.0), 10**40)


def test_int_and_float_are_different_keys() -> None:
    f = jt.jit(lambda x, n: x * n)
    assert traces(f, (np.arange(3), 2), (np.arange(3), 2.0), (np.arange(3), True), (np.arange(3), False)) == 4
    assert f(np.arange(3), 2).dtype == np.int64
    assert f(np.arange(3), 2.0).dtype == np.float64


def test_a_loop_over_range_narrows_with_its_line() -> None:
    def f(x, n, t):
        for _ in range(n):
            x = x * t + n
        return x

    jitted = jt.jit(f)
    assert traces(jitted, (X, 3, 0.5), (X, 3, 0.25), (X, 4, 0.5), (X, 3, 1.0), (X[:2], 4, 0.5)) == 2
    three, four = jitted.signatures()
    assert "== 3" in str(three)
    assert "== 4" in str(four)
    assert "test_jit_numbers.py" in str(three)
    np.testing.assert_allclose(jitted(X, 3, 0.5), f(X, 3, 0.5))


def test_a_comparison_narrows_to_its_answer_alone() -> None:
    jitted = jt.jit(lambda x, n: x * n if n > 3 else x + n)
    assert traces(jitted, (X, 1), (X, 2), (X, 3), (X, 4), (X, 100), (X, -5)) == 2
    np.testing.assert_array_equal(jitted(X, 7), X * 7)
    np.testing.assert_array_equal(jitted(X, 3), X + 3)


def test_truth_of_a_number() -> None:
    jitted = jt.jit(lambda x, n, t: x if n and t else x + 1)
    assert traces(jitted, (X, 1, 0.5), (X, 7, 1.0), (X, 0, 1.0), (X, 5, 0.0)) == 3


def test_an_exponent_narrows() -> None:
    jitted = jt.jit(lambda x, n: x**n)
    assert traces(jitted, (X, 2), (X, 3), (X, 2)) == 2


def test_sizes_in_conditions() -> None:
    def f(x):
        if x.shape[0] % 2 == 0:
            return x.reshape(-1, 2).sum(axis=1)
        return x * len(x)

    jitted = jt.jit(f)
    assert traces(jitted, (np.ones(4),), (np.ones(6),), (np.ones(5),), (np.ones(7),)) == 2
    np.testing.assert_array_equal(jitted(np.ones(8)), [2, 2, 2, 2])


def test_equal_sizes_are_checked() -> None:
    jitted = jt.jit(lambda a, b: a + b)
    assert traces(jitted, (np.ones(3), np.ones(3)), (np.ones(5), np.ones(5))) == 1
    with pytest.raises(ValueError, match=r"operands could not be broadcast together with shapes \(3,\) \(4,\)"):
        jitted(np.ones(3), np.ones(4))
    assert traces(jitted, (np.ones(4), np.ones(1)), (np.ones(9), np.ones(9))) == 1


def test_sizes_that_rules_relate() -> None:
    def f(a, b):
        joined = np.concatenate([a, b])
        half = joined[: joined.shape[0] // 2]
        return half * 2, joined.reshape(2, -1), a[1:] + a[:-1], np.stack([a, a])[:, ::2]

    jitted = same(f, np.arange(3.0), np.arange(5.0))
    same(f, np.arange(4.0), np.arange(8.0), jitted=jitted)
    same(f, np.arange(40.0), np.arange(80.0), jitted=jitted)
    assert len(jitted.signatures()) <= 2


def test_numpy_scalar_arguments() -> None:
    jitted = jt.jit(lambda x, s: (x * s, s + 1, s))
    assert traces(jitted, (X, np.float32(2)), (X, np.float32(3)), (X, np.float64(2)), (X, np.int8(3))) == 3
    same(lambda x, s: (x * s, s + 1, s, x[: int(s)] if s > 2 else x), X.astype("f4"), np.float32(3))


def test_a_decision_on_data_names_the_cure() -> None:
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(jt.errors.TraceError, match=r"np\.where") as error:
        jt.jit(f)(X)
    assert error.value.location is not None
    assert error.value.location.file == __file__


def test_decisions_on_constants_are_fine() -> None:
    def f(x):
        weights = np.array([0.25, 0.5, 0.0])
        total = 0.0
        for i in range(3):
            if weights[i] != 0:
                total = total + weights[i] * x[i]
        return total, float(weights.sum()) + x if weights.any() else x

    same(f, X)


def test_python_float_of_data_is_weak() -> None:
    def f(x):
        m = float(x.max())
        return x / m, m * 2, m

    same(f, np.arange(1, 5, dtype="f4"))
