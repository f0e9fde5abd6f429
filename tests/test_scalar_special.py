"""erf, erfc, ndtr, cbrt and hypot: error bounds against mpmath, special values against NumPy and SciPy, SIMD."""

from __future__ import annotations

import re

import mpmath
import numpy as np
import pytest
import scipy.special
from scalar_harness import DTYPES, compile_llvm, compile_numba
from test_scalar_trig import FLOATS, assert_same, worst_ulp

from jitensor.scalar import special

TINY = np.geomspace(1e-300, 1, 150)
ERROR = (np.linspace(-6, 6, 1201), np.linspace(0.74, 3, 400), TINY, -TINY)
# name: (function, mpmath's, NumPy's or SciPy's, bounds, points)
UNARY = {
    "erf": (special.erf, mpmath.erf, scipy.special.erf, {"f64": 2.5, "f32": 2.0}, ERROR),
    "erfc": (
        special.erfc, mpmath.erfc, scipy.special.erfc, {"f64": 2.5, "f32": 2.0},
        (*ERROR, np.linspace(6, 27.3, 500), np.linspace(9, 10.1, 100)),
    ),
    "cbrt": (
        special.cbrt, lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), np.cbrt, {"f64": 1.0, "f32": 1.0},
        (np.linspace(-8, 8, 800), np.geomspace(5e-324, 1e308, 600)),
    ),
}  # fmt: skip
EDGES = [0.0, np.inf, np.nan, 1.0, 1.25, 0.75, 3.84, 5.87, 5.93, 10.0, 30.0, 1e-310, 5e-324, 1e-45, 3e38, 1e308]


def edges(t: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.array(EDGES).astype(DTYPES[t])
    return np.concatenate([values, -values])


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_error_bound(name, t):
    function, exact, _, bounds, parts = UNARY[name]
    with np.errstate(over="ignore"):
        x = np.concatenate(parts).astype(DTYPES[t])
    x = x[np.isfinite(x)]
    assert worst_ulp(compile_llvm(function, (t,))(x), exact, x) <= bounds[t]


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, t):
    function, _, peer, bounds, _ = UNARY[name]
    x = edges(t)
    with np.errstate(all="ignore"):
        want = peer(x.astype(np.float64)).astype(x.dtype)
    # SciPy's own erfc is some hundred units off in the far tail; its accuracy is the other test's subject.
    assert_same(compile_llvm(function, (t,))(x), want, 500.0 if name == "erfc" and t == "f64" else bounds[t])


def test_erfc_underflows_through_the_subnormals():
    x = np.array([26.5, 26.6, 27.0, 27.2, 27.3])
    got = compile_llvm(special.erfc, ("f64",))(x)
    assert np.all(np.diff(got) < 0) and got[-1] == 0.0 and 0 < got[-2] < np.finfo(float).tiny


@pytest.mark.parametrize("t", FLOATS)
def test_hypot(t):
    x, y = (a.ravel() for a in np.meshgrid(edges(t), edges(t)))
    compiled = compile_llvm(special.hypot, (t, t))
    with np.errstate(all="ignore"):
        assert_same(compiled(x, y), np.hypot(x, y), 2.0)
    rng = np.random.default_rng(5)
    scale = 10.0 ** rng.uniform(-37, 37, 1500)
    x, y = (rng.uniform(-1, 1, (2, 1500)) * scale).astype(DTYPES[t])
    assert worst_ulp(compiled(x, y), mpmath.hypot, x, y) <= 2.0


@pytest.mark.parametrize("t", FLOATS)
def test_ndtr(t):
    x = np.linspace(-8, 8, 161).astype(DTYPES[t])
    want = scipy.special.ndtr(x.astype(np.float64))
    np.testing.assert_allclose(compile_llvm(special.ndtr, (t,))(x), want, rtol=80 * np.finfo(DTYPES[t]).eps)


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", [*UNARY, "hypot"])
def test_vectorises_without_calls(name, t):
    assembly = compile_llvm(getattr(special, name), (t,) * (2 if name == "hypot" else 1)).assembly
    assert not re.search(r"^\s+(call|bl)\b", assembly, re.MULTILINE)
    assert re.search(r"[xyz]mm\d|\bv\d+\.[248]", assembly)


@pytest.mark.parametrize("t", FLOATS)
def test_numba_writer_agrees(t):
    x = np.concatenate([np.linspace(-3, 3, 61), edges(t)]).astype(DTYPES[t])
    for name in UNARY:
        function = UNARY[name][0]
        np.testing.assert_array_equal(compile_numba(function, (t,))(x), compile_llvm(function, (t,))(x))
