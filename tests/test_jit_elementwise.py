"""jt.jit: ufuncs, operators and promotion, against the undecorated function."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt

X = np.linspace(-2.0, 2.0, 12).reshape(3, 4)
Y = np.linspace(0.5, 3.0, 12).reshape(3, 4)
INTS = np.arange(-3, 9)
DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64", "complex64", "complex128"]

UNARY = [
    *(
        [
            "negative",
            "positive",
            "absolute",
            "fabs",
            "rint",
            "sign",
            "conjugate",
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "sqrt",
            "square",
            "cbrt",
        ]
    ),
    *(
        [
            "reciprocal",
            "sin",
            "cos",
            "tan",
            "arcsin",
            "arccos",
            "arctan",
            "sinh",
            "cosh",
            "tanh",
            "arcsinh",
            "arccosh",
            "arctanh",
            "degrees",
            "radians",
            "deg2rad",
        ]
    ),
    *(
        [
            "rad2deg",
            "isfinite",
            "isinf",
            "isnan",
            "signbit",
            "spacing",
            "floor",
            "ceil",
            "trunc",
            "logical_not",
            "modf",
            "frexp",
        ]
    ),
]
BINARY = [
    *(
        [
            "add",
            "subtract",
            "multiply",
            "divide",
            "true_divide",
            "logaddexp",
            "logaddexp2",
            "floor_divide",
            "power",
            "float_power",
            "remainder",
            "mod",
        ]
    ),
    *(
        [
            "fmod",
            "divmod",
            "heaviside",
            "arctan2",
            "hypot",
            "maximum",
            "minimum",
            "fmax",
            "fmin",
            "copysign",
            "nextafter",
            "greater",
            "greater_equal",
        ]
    ),
    *(["less", "less_equal", "equal", "not_equal", "logical_and", "logical_or", "logical_xor"]),
]
INTEGER = ["bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift", "gcd", "lcm"]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    ufunc = getattr(np, name)
    same(lambda x: ufunc(x), X)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    ufunc = getattr(np, name)
    same(lambda x, y: ufunc(x, y), X, Y)


@pytest.mark.parametrize("name", INTEGER)
def test_integer(name: str) -> None:
    ufunc = getattr(np, name)
    same(lambda x, y: ufunc(x, y), np.arange(12), np.arange(12) % 5)


def test_invert_and_bitwise_count() -> None:
    same(lambda x: (~x, np.invert(x), np.bitwise_count(x)), INTS)


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARISONS = [operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge]


@pytest.mark.parametrize("op", [*OPERATORS, *COMPARISONS])
def test_operators_both_ways(op: object) -> None:
    same(lambda x, y: (op(x, y), op(x, 2.5), op(2.5, x), op(x, 3), op(3, x)), Y, X + 3.0)  # type: ignore[operator]


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift])
def test_integer_operators(op: object) -> None:
    same(lambda x, y: (op(x, y), op(x, 2), op(2, y)), np.arange(6), np.arange(6) % 3)  # type: ignore[operator]


def test_unary_operators() -> None:
    same(lambda x: (-x, +x, abs(x), divmod(x, 0.3), round(x[0, 0], 1), round(x[0, 0])), X)


@pytest.mark.parametrize("a", DTYPES + FLOATS)
@pytest.mark.parametrize("b", ["bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "complex64"])
def test_promotion_of_arrays(a: str, b: str) -> None:
    x, y = np.ones(3, a), np.ones(3, b)
    same(lambda x, y: (x + y, x * y, np.maximum(x, y), x == y), x, y)


@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
def test_weak_python_numbers(dtype: str) -> None:
    x = np.array([0, 1, 1, 3], dtype)
    same(lambda x, n, t: (x + n, x * t, x + 1, x * 2.0, x + True, x / 2, n * t + x), x, 3, 1.5)


@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_numpy_scalars_are_strong(dtype: str) -> None:
    scalar = np.dtype(dtype).type(3)
    same(
        lambda x, s: (x + s, x * np.float64(2), x * np.float32(2), s + 1, s * 2.0, s + s), np.ones(3, "float32"), scalar
    )


@pytest.mark.parametrize(("dtype", "n"), [("uint8", 300), ("int8", -129), ("uint8", -1), ("int64", 2**63)])
def test_python_int_that_does_not_fit(dtype: str, n: int) -> None:
    same_error(lambda x, n: x + n, np.arange(3, dtype=dtype), n)


def test_literal_that_does_not_fit() -> None:
    same_error(lambda x: x + 300, np.arange(3, dtype="uint8"))


def test_int_that_fits_first_and_not_later() -> None:
    f = jt.jit(lambda x, n: x + n)
    x = np.arange(3, dtype="uint8")
    np.testing.assert_array_equal(f(x, 200), x + 200)
    with pytest.raises(OverflowError, match="Python integer 300 out of bounds for uint8"):
        f(x, 300)
    np.testing.assert_array_equal(f(x, 100), x + 100)
    assert len(f.signatures()) == 1


@pytest.mark.parametrize("n", [300, -1, 255, 0])
def test_comparison_with_an_int_out_of_range(n: int) -> None:
    same(lambda x, n: (x < n, x <= n, x == n, x != n, x > n, x >= n, n < x), np.arange(3, dtype="uint8"), n)


def test_comparison_of_signed_and_unsigned() -> None:
    a, b = np.array([-1, 5, 2**62]), np.array([2**64 - 1, 5, 2**63], "uint64")
    same(lambda a, b: (a < b, a <= b, a == b, a != b, a > b, b < a, b >= a), a, b)


def test_scalar_results_and_0d_arrays() -> None:
    same(
        lambda x, s: ((x * x).sum(), x[0, 0], np.sqrt(x[0, 0]), s + 1, np.array(5.0), x.reshape(-1)[:1].reshape(())),
        X,
        np.array(2.0),
    )


def test_dtype_argument_and_casting() -> None:
    same(lambda x: (np.add(x, 1, dtype=np.float64), np.multiply(x, x, dtype="f8")), X.astype("float32"))
    same_error(lambda x: np.add(x, 1.5, dtype=np.int64), INTS)


def test_out_and_where() -> None:
    def f(x, y):
        out = np.zeros_like(x)
        result = np.add(x, y, out=out, where=x > 0)
        np.multiply(x, 2, out=x)
        return result is out, out, np.sqrt(np.abs(x), out=out)

    same(f, X, Y)


def test_out_errors() -> None:
    same_error(lambda x, y: np.add(x, 1.5, out=y), X, np.zeros((3, 4), int))
    same_error(lambda x, y: np.add(x, 1.5, out=y), X, np.zeros((2, 4)))


def test_out_broadcasts_into_a_larger_array() -> None:
    same(lambda x, y: np.add(x, 1, out=y), X[0], np.zeros((3, 4)))


def test_two_results_into_out() -> None:
    def f(x, a, b):
        np.divmod(x, 0.7, out=(a, b))
        return np.modf(x)

    same(f, X, np.zeros_like(X), np.zeros_like(X))


def test_broadcasting() -> None:
    same(lambda a, b, c: a + b * c, np.ones((3, 1, 4)), np.arange(5.0)[:, None], np.float32(2))
    same_error(lambda a, b: a + b, np.ones((3, 4)), np.ones((3, 5)))


def test_broadcasting_by_size_retraces_only_where_sizes_are_one() -> None:
    f = jt.jit(lambda a, b: a + b)
    before = jt.counters()
    for n in (3, 4, 100, 2):
        assert f(np.ones((n, 2)), np.ones(2)).shape == (n, 2)
    assert (jt.counters() - before).traces == 1
    f(np.ones((1, 2)), np.ones(2))
    assert (jt.counters() - before).traces == 2


def test_power_short_cuts() -> None:
    same(lambda x: (x**2, x**3, x**0.5, x**-1, x**0, 2**x, x**2.5), np.abs(X) + 0.5)
    same(lambda i: (i**2, i**3, 2**i), np.arange(5))
    same_error(lambda i: i**-1, np.arange(5))
    same_error(lambda i, n: i**n, np.arange(5), -2)


def test_integer_powers_with_negative_array_exponents() -> None:
    same(lambda i, j: i**j, np.arange(5), np.arange(5))
    f = jt.jit(lambda i, j: i**j)
    with pytest.raises(ValueError, match="Integers to negative integer powers are not allowed"):
        f(np.arange(5), np.arange(5) - 2)


def test_complex() -> None:
    z = X + 1j * Y
    same(lambda z: (z * z, z / (z + 1), abs(z), z.real, z.imag, z.conj(), np.exp(z), np.angle(z), z * 2, z + 1j), z)


def test_boolean_arrays() -> None:
    a, b = X > 0, Y > 1
    same(lambda a, b: (a & b, a | b, ~a, a ^ b, a + b, a * b, a == b, np.logical_and(a, b), a.sum()), a, b)
    same_error(lambda a, b: a - b, a, b)


def test_special_functions_of_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    same(lambda x: (special.erf(x), special.erfc(x), special.expit(x)), X)
    same(lambda x: (special.logsumexp(x, axis=1), special.softmax(x, axis=1), special.log_softmax(x, axis=-1)), X)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order(order: str) -> None:
    x = np.asarray(X, order=order)
    same(lambda x, y: (x + 1, x.T * 2, x + y, np.where(x > 0, x, y), x.astype("f4"), x.copy(), np.zeros_like(x)), x, Y)
    same(lambda x: (x.sum(0), np.sqrt(x).T, x[::-1], x[:, 1:] + 1), x)


def test_memory_order_of_three_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0)
    same(lambda x: (x + 1, x.sum(1), x * x[..., :1], np.maximum(x, 0.5), np.ones_like(x)), x)


@pytest.mark.parametrize(
    "make", [lambda x: x[::2], lambda x: x[:, ::-1], lambda x: x.astype(">f8"), lambda x: x[1:, 1:]]
)
def test_strided_and_foreign_arguments(make: object) -> None:
    x = make(np.arange(24.0).reshape(4, 6))  # type: ignore[operator]
    same(lambda x: (np.sqrt(x) + 1, x.sum(axis=1)), x)


def test_misaligned_argument() -> None:
    raw = np.zeros(8 * 5 + 1, np.uint8)
    x = raw[1:].view(np.float64)
    x[:] = np.arange(5.0)
    assert not x.flags.aligned
    np.testing.assert_array_equal(jt.jit(lambda x: x + 1)(x), np.arange(5.0) + 1)
    jt.jit(lambda x: x.__setitem__(slice(1, 3), 7.0))(x)
    np.testing.assert_array_equal(x, [0, 7, 7, 3, 4])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (1,), (1, 1)])
def test_empty_and_unit_sizes(shape: tuple[int, ...]) -> None:
    same(lambda x: (np.exp(x) + 1, x.sum(), x.sum(axis=0), x.T), np.ones(shape))


def test_ufunc_methods() -> None:
    same(lambda x, y: (np.add.reduce(x), np.maximum.reduce(x, axis=1), np.multiply.outer(x[0], y[0])), X, Y)
    same(lambda x: (np.add.accumulate(x), np.maximum.accumulate(x, axis=1)), X)


def test_synonyms_and_constants() -> None:
    same(lambda x: (np.abs(x), np.true_divide(x, 2), x * np.pi, x + np.inf, x == np.nan, x[np.newaxis]), X)
