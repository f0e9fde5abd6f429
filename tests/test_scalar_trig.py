"""sin, cos, tan and the inverse circular functions: error bounds against mpmath, special values against NumPy, SIMD."""

from __future__ import annotations

import re

import mpmath
import numpy as np
import pytest
from scalar_harness import DTYPES, compile_llvm, compile_numba

from jitensor.scalar import trig

QUARTERS = np.arange(-63661, 63662, 401) * (np.pi / 2)
CIRCLE = (np.linspace(-10, 10, 401), np.linspace(-1e5, 1e5, 401), QUARTERS, np.nextafter(QUARTERS, 0))
UNIT = (np.linspace(-1, 1, 801), np.linspace(0.49, 0.54, 200), 1 - np.geomspace(1e-16, 1, 100))
LINE = (np.linspace(-3, 3, 801), np.geomspace(1e-300, 1e300, 300), -np.geomspace(1e-10, 1e10, 100))
# name: (function, mpmath's, NumPy's, bound in ULP, points)
UNARY = {
    "sin": (trig.sin, mpmath.sin, np.sin, 1.0, CIRCLE),
    "cos": (trig.cos, mpmath.cos, np.cos, 1.0, CIRCLE),
    "tan": (trig.tan, mpmath.tan, np.tan, 2.0, CIRCLE),
    "asin": (trig.asin, mpmath.asin, np.arcsin, 2.0, UNIT),
    "acos": (trig.acos, mpmath.acos, np.arccos, 2.0, UNIT),
    "atan": (trig.atan, mpmath.atan, np.arctan, 2.0, LINE),
}
FLOATS = ("f64", "f32")
EDGES = [0.0, np.inf, np.nan, 1.0, 2.0, 0.5, 1e-310, 5e-324, 1e-45, 1e300, 1.5, np.pi / 2, 3e5, 1e22]


def edges(t: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.array(EDGES).astype(DTYPES[t])
    return np.concatenate([values, -values])


def worst_ulp(got: np.ndarray, exact, *arrays: np.ndarray) -> float:
    """The largest error against mpmath, in units in the last place of the exact result."""
    info = np.finfo(got.dtype)
    worst = 0.0
    with mpmath.workprec(140):
        for g, *x in zip(got.tolist(), *[a.tolist() for a in arrays], strict=True):
            value = exact(*[mpmath.mpf(v) for v in x])
            unit = mpmath.ldexp(1, max(int(mpmath.frexp(value)[1]) - 1, info.minexp) - info.nmant) if value else 1
            worst = max(worst, float(abs(mpmath.mpf(g) - value) / unit))
    return worst


def assert_same(got: np.ndarray, want: np.ndarray, bound: float) -> None:
    """Within `bound` units of NumPy's value plus one for NumPy; nan, infinities and the sign of zero as NumPy."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    known = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(want[known]))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[known & ~finite], want[known & ~finite])
    assert np.all(np.abs(got[finite] - want[finite]) <= (bound + 1) * np.spacing(np.abs(want[finite])))


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_error_bound(name, t):
    function, exact, _, bound, parts = UNARY[name]
    with np.errstate(over="ignore"):
        x = np.concatenate(parts).astype(DTYPES[t])
    x = x[np.isfinite(x)]
    compiled = compile_llvm(function, (t,))
    assert worst_ulp(compiled(x), exact, x) <= bound
    assert not compiled.slow.any()


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, t):
    function, _, peer, bound, _ = UNARY[name]
    x = edges(t)
    with np.errstate(all="ignore"):
        want = peer(x)
    compiled = compile_llvm(function, (t,))
    got = compiled(x)
    slow = compiled.slow
    if slow.any():
        got[slow] = compile_llvm(function, (t,), exact=True)(x[slow])
    assert_same(got, want, bound)


@pytest.mark.parametrize("t", FLOATS)
def test_only_huge_arguments_are_slow(t):
    compiled = compile_llvm(trig.sin, (t,))
    compiled(np.array([0.0, 1e5, -1e5, np.nan, 2e6, -1e30, np.inf]))
    assert compiled.slow.tolist() == [False, False, False, False, True, True, True]


@pytest.mark.parametrize("t", FLOATS)
def test_atan2(t):
    y, x = (a.ravel() for a in np.meshgrid(edges(t), edges(t)))
    compiled = compile_llvm(trig.atan2, (t, t))
    assert_same(compiled(y, x), np.arctan2(y, x), 2.0)
    rng = np.random.default_rng(5)
    y, x = rng.uniform(-2, 2, (2, 1500)).astype(DTYPES[t])
    assert worst_ulp(compiled(y, x), mpmath.atan2, y, x) <= 2.0


@pytest.mark.parametrize("t", FLOATS)
def test_degrees_radians_and_sinc(t):
    x = np.linspace(-7, 7, 113).astype(DTYPES[t])
    for function, peer in ((trig.rad2deg, np.rad2deg), (trig.deg2rad, np.deg2rad)):
        assert_same(compile_llvm(function, (t,))(x), peer(x), 0.0)
    np.testing.assert_allclose(
        compile_llvm(trig.sinc, (t,))(x), np.sinc(x.astype(float)), rtol=0, atol=8 * np.finfo(DTYPES[t]).eps
    )


def test_sincos_is_sin_and_cos():
    x = np.linspace(-300, 300, 999)
    sine, cosine = compile_llvm(trig.sincos, ("f64",))(x)
    np.testing.assert_array_equal(sine, compile_llvm(trig.sin, ("f64",))(x))
    np.testing.assert_array_equal(cosine, compile_llvm(trig.cos, ("f64",))(x))


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", [*UNARY, "atan2"])
def test_vectorises_without_calls(name, t):
    count = 2 if name == "atan2" else 1
    assembly = compile_llvm(getattr(trig, name), (t,) * count).assembly
    assert not re.search(r"^\s+(call|bl)\b", assembly, re.MULTILINE)
    assert re.search(r"[xyz]mm\d|\bv\d+\.[248]", assembly)


@pytest.mark.parametrize("t", FLOATS)
def test_numba_writer_agrees(t):
    x = np.concatenate([np.linspace(-3, 3, 61), edges(t)]).astype(DTYPES[t])
    for name in ("sin", "acos", "atan"):
        function = UNARY[name][0]
        np.testing.assert_array_equal(compile_numba(function, (t,))(x), compile_llvm(function, (t,))(x))
