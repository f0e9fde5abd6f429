"""Hyperbolic functions and their inverses: error bounds against mpmath, special values against NumPy, SIMD."""

from __future__ import annotations

import re

import mpmath
import numpy as np
import pytest
from scalar_harness import DTYPES, compile_llvm, compile_numba
from test_scalar_trig import FLOATS, assert_same, worst_ulp

from jitensor.scalar import hyperbolic

LINE = (np.linspace(-2, 2, 801), np.linspace(-80, 80, 301), np.geomspace(1e-300, 1, 100), -np.geomspace(1e-10, 1, 100))
UNIT = (np.linspace(-0.999, 0.999, 1001), 1 - np.geomspace(1e-15, 0.1, 100), np.geomspace(1e-300, 1, 100)[:-1])
WIDE = (np.linspace(-3, 3, 801), np.geomspace(1e-300, 1e300, 400), -np.geomspace(1e-3, 1e10, 200))
ABOVE = (np.linspace(1, 3, 801), 1 + np.geomspace(1e-15, 1, 200), np.geomspace(1, 1e300, 300))
# name: (function, mpmath's, NumPy's, points)
UNARY = {
    "sinh": (hyperbolic.sinh, mpmath.sinh, np.sinh, LINE),
    "cosh": (hyperbolic.cosh, mpmath.cosh, np.cosh, LINE),
    "tanh": (hyperbolic.tanh, mpmath.tanh, np.tanh, LINE),
    "asinh": (hyperbolic.asinh, mpmath.asinh, np.arcsinh, WIDE),
    "acosh": (hyperbolic.acosh, mpmath.acosh, np.arccosh, ABOVE),
    "atanh": (hyperbolic.atanh, mpmath.atanh, np.arctanh, UNIT),
}
EDGES = [0.0, np.inf, np.nan, 1.0, 1.5, 0.5, 1e-310, 5e-324, 1e-45, 9.0, 25.0, 89.0, 89.4, 710.0, 710.4, 3e38, 1.7e308]


def edges(t: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.array(EDGES).astype(DTYPES[t])
    return np.concatenate([values, -values])


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_error_bound(name, t):
    function, exact, peer, parts = UNARY[name]
    with np.errstate(over="ignore"):
        x = np.concatenate(parts).astype(DTYPES[t])
    with np.errstate(all="ignore"):
        x = x[np.isfinite(peer(x))]
    assert worst_ulp(compile_llvm(function, (t,))(x), exact, x) <= 2.0


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, t):
    function, _, peer, _ = UNARY[name]
    x = edges(t)
    with np.errstate(all="ignore"):
        want = peer(x)
    assert_same(compile_llvm(function, (t,))(x), want, 2.0)


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", ["sinh", "cosh"])
def test_overflow_threshold(name, t):
    threshold = np.arccosh(np.array(np.finfo(DTYPES[t]).max, np.longdouble))
    x = (float(threshold) + np.array([-1e-4, 1e-4])).astype(DTYPES[t])
    got = compile_llvm(UNARY[name][0], (t,))(x)
    assert np.isfinite(got).tolist() == [True, False]


def test_tanh_saturates_at_one():
    for t in FLOATS:
        x = np.array([-1e30, -30.0, 30.0, np.inf], DTYPES[t])
        np.testing.assert_array_equal(compile_llvm(hyperbolic.tanh, (t,))(x), [-1, -1, 1, 1])


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_vectorises_without_calls(name, t):
    assembly = compile_llvm(UNARY[name][0], (t,)).assembly
    assert not re.search(r"^\s+(call|bl)\b", assembly, re.MULTILINE)
    assert re.search(r"[xyz]mm\d|\bv\d+\.[248]", assembly)


@pytest.mark.parametrize("t", FLOATS)
def test_numba_writer_agrees(t):
    x = np.concatenate([np.linspace(-3, 3, 61), edges(t)]).astype(DTYPES[t])
    for name in ("sinh", "tanh", "asinh", "atanh"):
        function = UNARY[name][0]
        np.testing.assert_array_equal(compile_numba(function, (t,))(x), compile_llvm(function, (t,))(x))
