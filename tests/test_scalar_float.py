"""Choosing, rounding, float division with remainder, and half precision, against NumPy bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scalar_harness import DTYPES, assert_same, compile_llvm, compile_numba, with_slow_path

from jitensor.scalar import half, minmax, program, rounding

FLOATS = ("f64", "f32")
BINARY = {
    "maximum": minmax.maximum,
    "minimum": minmax.minimum,
    "fmax": minmax.fmax,
    "fmin": minmax.fmin,
    "copysign": minmax.copysign,
    "nextafter": minmax.nextafter,
    "heaviside": minmax.heaviside,
    "logical_and": minmax.logical_and,
    "logical_or": minmax.logical_or,
    "fmod": rounding.fmod,
    "remainder": rounding.remainder,
    "floor_divide": rounding.floor_divide,
}
UNARY = {
    "isnan": minmax.isnan,
    "isinf": minmax.isinf,
    "isfinite": minmax.isfinite,
    "signbit": minmax.signbit,
    "sign": minmax.sign,
    "absolute": minmax.absolute,
    "spacing": minmax.spacing,
    "logical_not": minmax.logical_not,
    "frexp": minmax.frexp,
    "modf": minmax.modf,
    "floor": program.floor,
    "ceil": program.ceil,
    "trunc": program.trunc,
    "rint": program.rint,
    "sqrt": program.sqrt,
}


def edges(t: str) -> np.ndarray:
    info = np.finfo(DTYPES[t])
    rng = np.random.default_rng(3)
    positive = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.3, 0.1, 1e-3, 1e10, 3.3e15, 1e30, math.inf, math.nan]
    positive += [float(v) for v in (info.max, info.tiny, info.smallest_subnormal, info.eps, info.tiny / 3)]
    positive += [float(np.nextafter(DTYPES[t](1), DTYPES[t](k))) for k in (0, 2)]
    values = np.array(positive + list(rng.standard_normal(6) * 100), DTYPES[t])
    return np.concatenate([values, -values])


def pairs(t: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(edges(t), edges(t))
    return a.ravel(), b.ravel()


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_numpys(name, t):
    arrays = pairs(t)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*arrays)
    assert_same(with_slow_path(BINARY[name], (t, t), compile_llvm, arrays), expected, arrays)


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_are_numpys(name, t):
    x = edges(t)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    assert_same(compile_llvm(UNARY[name], (t,))(x), expected, (x,))


@pytest.mark.parametrize("name", [*BINARY, *UNARY])
def test_the_njit_writer_agrees(name):
    t = "f32" if len(name) % 2 else "f64"
    function = (BINARY | UNARY)[name]
    arrays = pairs(t) if name in BINARY else (edges(t),)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*arrays)
    assert_same(with_slow_path(function, (t,) * len(arrays), compile_numba, arrays), expected, arrays)


@pytest.mark.parametrize("t", FLOATS)
def test_fmod_fast_form_is_exact_up_to_its_limit(t):
    rng = np.random.default_rng(5)
    a = (rng.standard_normal(50_000) * 10.0 ** rng.uniform(-6, 14, 50_000)).astype(DTYPES[t])
    b = np.concatenate([rng.standard_normal(25_000), rng.integers(1, 1000, 25_000)]).astype(DTYPES[t])
    fast = compile_llvm(rounding.fmod, (t, t))
    result = fast(a, b)
    kept = ~fast.slow
    assert kept.mean() > 0.5
    np.testing.assert_array_equal(result[kept], np.fmod(a, b)[kept])


def test_ldexp_rounds_once():
    for t in FLOATS:
        x = np.repeat(edges(t), 60)
        e = np.tile(np.concatenate([np.arange(-2300, 2300, 100), np.arange(-1078, -1064)]), edges(t).size).astype("i4")
        with np.errstate(all="ignore"):
            assert_same(compile_llvm(minmax.ldexp, (t, "i32"))(x, e), np.ldexp(x, e), (x, e))


def test_clip_is_numpys():
    for t in FLOATS:
        x, low = pairs(t)
        high = np.resize(edges(t)[::-1], x.shape)
        assert_same(compile_llvm(minmax.clip, (t, t, t))(x, low, high), np.clip(x, low, high), (x, low, high))


@pytest.mark.parametrize("decimals", [1, 3, -2])
def test_round_is_numpys(decimals):
    x = edges("f64")
    scaled = rounding.round_scaled if decimals > 0 else rounding.round_divided
    function = compile_llvm(lambda v: scaled(v, 10.0 ** abs(decimals)), ("f64",))
    with np.errstate(all="ignore"):
        assert_same(function(x), np.round(x, decimals), (x,))


# Half precision -------------------------------------------------------------------------------------------------------


def test_every_float16_widens_exactly():
    bits = np.arange(65536, dtype=np.uint16)
    for compiler in (compile_llvm, compile_numba):
        result = compiler(half.f16_to_f32, ("u16",))(bits)
        np.testing.assert_array_equal(result, bits.view(np.float16).astype(np.float32))
        assert (np.signbit(result) == (bits >= 0x8000)).all()


@pytest.mark.parametrize("t", FLOATS)
def test_floats_narrow_to_the_nearest_float16(t):
    every = np.arange(65536, dtype=np.uint16).view(np.float16).astype(DTYPES[t])
    every = every[np.isfinite(every)]
    halves = (every[:-1] + every[1:]) / 2
    with np.errstate(all="ignore"):
        x = np.concatenate([every, halves, np.nextafter(halves, np.inf), np.nextafter(halves, -np.inf), edges(t)])
        x = x.astype(DTYPES[t])
        expected = x.astype(np.float16)
    narrow = half.f32_to_f16 if t == "f32" else half.f64_to_f16
    for compiler in (compile_llvm, compile_numba):
        assert_same(compiler(narrow, (t,))(x).view(np.float16), expected, (x,))


def test_bfloat16_both_ways():
    bits = np.arange(65536, dtype=np.uint16)
    wide = compile_llvm(half.bf16_to_f32, ("u16",))(bits)
    np.testing.assert_array_equal(wide.view(np.uint32), bits.astype(np.uint32) << 16)
    finite = wide[np.isfinite(wide)]
    narrow = compile_llvm(half.f32_to_bf16, ("f32",))
    np.testing.assert_array_equal(narrow(finite), bits[np.isfinite(wide)])
    assert np.isnan(compile_llvm(half.bf16_to_f32, ("u16",))(narrow(np.array([np.nan], np.float32)))).all()
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF], np.uint32).view(np.float32)
    assert [hex(v) for v in narrow(ties)] == ["0x3f80", "0x3f82", "0x3f81", "0x7f80"]
    doubles = ties.astype(np.float64) * (1 + 2.0**-40)
    assert [hex(v) for v in compile_llvm(half.f64_to_bf16, ("f64",))(doubles)][:3] == ["0x3f81", "0x3f82", "0x3f81"]
