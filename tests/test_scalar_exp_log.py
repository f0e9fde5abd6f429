"""Exponentials, logarithms and powers: accuracy against mpmath, special values against NumPy, both CPU writers."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scalar_harness import DTYPES, assert_same, assert_vectorised, compile_llvm, compile_numba, worst_ulp

from jitensor.scalar import exp_log, power

FLOATS = ("f64", "f32")
POINTS = 1500
RANGE = {"f64": (-746.0, 710.0), "f32": (-104.0, 89.0)}


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def exponents(t: str) -> np.ndarray:
    """Small and large arguments of exp, so that subnormal and overflowing results occur."""
    low, high = RANGE[t]
    parts = [rng().uniform(-1, 1, POINTS), rng().uniform(low, high, POINTS), rng().uniform(low, low + 40, POINTS // 3)]
    tiny = rng().standard_normal(POINTS // 3) * 10.0 ** rng().uniform(-30, -1, POINTS // 3)
    return np.concatenate([*parts, tiny]).astype(DTYPES[t])


def binary_exponents(t: str) -> np.ndarray:
    low, high = (-1076, 1024) if t == "f64" else (-151, 128)
    return np.concatenate([rng().uniform(-1, 1, POINTS), rng().uniform(low, high, POINTS)]).astype(DTYPES[t])


def positive(t: str) -> np.ndarray:
    """Every magnitude, subnormals included, and many close to 1."""
    top, bits = (0x7FF0 << 48, np.uint64) if t == "f64" else (0x7F80 << 16, np.uint32)
    drawn = rng().integers(1, top, POINTS).astype(bits).view(DTYPES[t])
    subnormal = rng().integers(1, 1 << (52 if t == "f64" else 23), 50).astype(bits).view(DTYPES[t])
    near = 1 + rng().standard_normal(POINTS) * 10.0 ** rng().uniform(-9, -1, POINTS)
    return np.concatenate([drawn, subnormal, rng().uniform(0.5, 2, POINTS).astype(DTYPES[t]), near.astype(DTYPES[t])])


def above_minus_one(t: str) -> np.ndarray:
    parts = [positive(t), rng().uniform(-1, 1, POINTS), rng().uniform(-0.5, 3, POINTS), exponents(t) / 1000]
    return np.concatenate([p.astype(DTYPES[t]) for p in parts if (p > -1).any()])


# name: (function, mpmath's, arguments, bound in ULP)
UNARY = {
    "exp": (exp_log.exp, mpmath.exp, exponents, 1.0),
    "exp2": (exp_log.exp2, lambda x: mpmath.mpf(2) ** x, binary_exponents, 1.0),
    "expm1": (exp_log.expm1, mpmath.expm1, exponents, 1.0),
    "sigmoid": (exp_log.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), exponents, 2.0),
    "log": (exp_log.log, mpmath.log, positive, 1.0),
    "log2": (exp_log.log2, lambda x: mpmath.log(x, 2), positive, 1.0),
    "log10": (exp_log.log10, mpmath.log10, positive, 1.0),
    "log1p": (exp_log.log1p, mpmath.log1p, above_minus_one, 1.0),
}
SPECIAL = [0.0, 1.0, 2.0, 0.5, 10.0, 800.0, 1e30, 5e-324, 1e-310, 1e-40, math.inf, math.nan, 1023.0, 127.0, 149.0]


def special(t: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array(SPECIAL + [-v for v in SPECIAL], DTYPES[t])


def numpy_sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_error_is_within_the_bound(name, t):
    function, reference, arguments, bound = UNARY[name]
    x = arguments(t)
    error, where = worst_ulp(compile_llvm(function, (t,))(x), (x,), reference)
    assert error <= bound, where


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values_are_numpys(name, t):
    x = special(t)
    result = compile_llvm(UNARY[name][0], (t,))(x)
    with np.errstate(all="ignore"):
        expected = (numpy_sigmoid if name == "sigmoid" else getattr(np, name))(x)
    settled = ~np.isfinite(expected) | (expected == 0) | (np.abs(expected) == 1)
    if name == "sigmoid":
        settled &= expected != 0  # the plain formula underflows early
    assert_same(result[settled], expected[settled])
    np.testing.assert_allclose(result, expected, rtol=1e-14 if t == "f64" else 3e-7, atol=1e-300)


@pytest.mark.parametrize("name", UNARY)
def test_the_njit_writer_agrees_bit_for_bit(name):
    t = "f32" if name in ("exp", "log1p", "log2") else "f64"
    x = np.concatenate([UNARY[name][2](t), special(t)])
    assert_same(compile_numba(UNARY[name][0], (t,))(x), compile_llvm(UNARY[name][0], (t,))(x), (x,))


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_the_loop_is_vectorised(name, t):
    assert_vectorised(compile_llvm(UNARY[name][0], (t,)))


def test_exact_cases():
    k = np.arange(-1074, 1024, dtype=np.float64)
    np.testing.assert_array_equal(compile_llvm(exp_log.exp2, ("f64",))(k), np.ldexp(1.0, k.astype(int)))
    np.testing.assert_array_equal(compile_llvm(exp_log.log2, ("f64",))(np.ldexp(1.0, k.astype(int))), k)


# Powers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", FLOATS)
def test_power_error(t):
    limit = 700.0 if t == "f64" else 87.0
    x = np.concatenate([10 ** rng().uniform(-30, 30, POINTS), rng().uniform(0.1, 3, POINTS)]).astype(DTYPES[t])
    y = rng().uniform(-limit, limit, x.size) / np.maximum(np.abs(np.log(x)), 1e-3)
    y[::2] = rng().uniform(-8, 8, y[::2].size)
    y = y.astype(DTYPES[t])
    kept = np.abs(y * np.log(x)) < limit
    x, y = x[kept], y[kept]
    error, where = worst_ulp(compile_llvm(power, (t, t))(x, y), (x, y), lambda a, b: a**b)
    assert error <= 1.0, where


@pytest.mark.parametrize("t", FLOATS)
def test_power_error_where_a_small_logarithm_is_multiplied_most(t):
    low, high = (-708, 709) if t == "f64" else (-87, 88)
    x = rng().uniform(0.69, 1.45, POINTS).astype(DTYPES[t])
    x = x[np.abs(x - 1) > 1e-3]
    y = (rng().uniform(low, high, x.size) / np.log(x.astype(np.float64))).astype(DTYPES[t])
    error, where = worst_ulp(compile_llvm(power, (t, t))(x, y), (x, y), lambda a, b: a**b)
    assert error < 2.0, where


@pytest.mark.parametrize("t", FLOATS)
def test_power_special_cases_are_cs(t):
    values = [0.0, 1.0, 2.0, 0.5, 3.0, math.inf, math.nan, 5e-324, 1e-40, 1e300, 2.0**53, 2.0**53 + 2, 1023.0, 1074.0]
    values += [0.9999999, 1.0000001, 4503599627370497.0, 4503599627370497.5, 16777217.0, 8388609.5, 7.0]
    with np.errstate(all="ignore"):
        signed = np.array(values + [-v for v in values], DTYPES[t])
        x, y = (m.ravel() for m in np.meshgrid(signed, signed))
        expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(DTYPES[t])
    result = compile_llvm(power, (t, t))(x, y)
    settled = ~np.isfinite(expected) | (expected == 0) | (np.abs(expected) == 1)
    assert_same(result[settled], expected[settled], (x[settled], y[settled]))
    np.testing.assert_allclose(result, expected, rtol=1e-15 if t == "f64" else 2e-7, atol=5e-324)
    assert_same(compile_numba(power, (t, t))(x, y), result, (x, y))


@pytest.mark.parametrize("t", FLOATS)
def test_power_is_vectorised(t):
    assert_vectorised(compile_llvm(power, (t, t)))


@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logaddexp_is_numpys(name):
    values = np.array([0.0, -0.5, 3.0, 700.0, -700.0, 1e300, math.inf, -math.inf, math.nan, 1e-10])
    a, b = (m.ravel() for m in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    result = compile_llvm(getattr(exp_log, name), ("f64", "f64"))(a, b)
    np.testing.assert_allclose(result, expected, rtol=1e-15, atol=1e-16)
