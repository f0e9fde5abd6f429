"""jitensor.scalar.integer against NumPy, value for value, through both CPU writers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scalar_harness import DTYPES, assert_vectorised, compile_llvm, compile_numba, with_slow_path

from jitensor.scalar import integer, minmax
from jitensor.scalar.program import INTEGERS, SIGNED

INTS = list(INTEGERS)
LONG = {"gcd": ("i8", "u16", "i32", "u64"), "lcm": ("i16", "i64")}  # hundreds of instructions: not every type
BINARY = {
    "floor_divide": (integer.floor_divide, np.floor_divide),
    "remainder": (integer.remainder, np.remainder),
    "fmod": (integer.fmod, np.fmod),
    "left_shift": (integer.left_shift, np.left_shift),
    "right_shift": (integer.right_shift, np.right_shift),
    "gcd": (integer.gcd, np.gcd),
    "lcm": (integer.lcm, np.lcm),
    "maximum": (minmax.maximum, np.maximum),
    "minimum": (minmax.minimum, np.minimum),
    "fmax": (minmax.fmax, np.fmax),
    "fmin": (minmax.fmin, np.fmin),
    "logical_xor": (minmax.logical_xor, np.logical_xor),
}
UNARY = {
    "absolute": (minmax.absolute, np.absolute),
    "sign": (minmax.sign, np.sign),
    "invert": (integer.invert, np.invert),
    "bit_count": (integer.bit_count, np.bitwise_count),
    "reciprocal": (integer.reciprocal, np.reciprocal),
    "negative": (lambda x: -x, np.negative),
}
# The @njit writer costs a compilation of 0.2 s each, so one type per function: between them they cover every type.
NJIT_TYPE = dict(zip([*BINARY, *UNARY], INTS * 3, strict=False))


def edges(t: str, seed: int = 0) -> np.ndarray:
    info = np.iinfo(DTYPES[t])
    rng = np.random.default_rng(seed)
    chosen = [0, 1, 2, 3, 7, 12, info.max, info.max - 1, info.min, info.min + 1]
    chosen += [-1, -2, -7, -12] if t in SIGNED else [info.max // 2, info.max // 2 + 1]
    drawn = rng.integers(info.min, info.max, 12, dtype=DTYPES[t], endpoint=True)
    return np.concatenate([np.array(chosen, DTYPES[t]), drawn, drawn >> (info.bits // 2)])


def pairs(t: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(edges(t), edges(t, 1))
    return a.ravel(), b.ravel()


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_numpys(name):
    function, oracle = BINARY[name]
    for t in LONG.get(name, INTS):
        a, b = pairs(t)
        with np.errstate(all="ignore"):
            expected = oracle(a, b)
        np.testing.assert_array_equal(with_slow_path(function, (t, t), compile_llvm, (a, b)), expected, err_msg=t)


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_are_numpys(name):
    function, oracle = UNARY[name]
    for t in INTS:
        a = edges(t)
        with np.errstate(all="ignore"):
            expected = oracle(a)
        np.testing.assert_array_equal(compile_llvm(function, (t,))(a), expected, err_msg=t)


@pytest.mark.parametrize("name", [*BINARY, *UNARY])
def test_the_njit_writer_agrees(name):
    t = "u8" if name in LONG else NJIT_TYPE[name]
    function, oracle = (BINARY | UNARY)[name]
    arrays = pairs(t) if name in BINARY else (edges(t),)
    with np.errstate(all="ignore"):
        expected = oracle(*arrays)
    np.testing.assert_array_equal(with_slow_path(function, (t,) * len(arrays), compile_numba, arrays), expected)


@pytest.mark.parametrize("t", INTS)
def test_power_wraps_for_every_exponent(t):
    a, e = pairs(t)
    a, e = a[e >= 0], e[e >= 0]
    np.testing.assert_array_equal(with_slow_path(integer.power, (t, t), compile_llvm, (a, e)), np.power(a, e))


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal", "equal_to", "not_equal_to"])
@pytest.mark.parametrize("types", [("i64", "u64"), ("u64", "i64"), ("i32", "i32"), ("u8", "u8")])
def test_comparison_across_signs_is_by_value(name, types):
    a, b = (m.ravel() for m in np.meshgrid(edges(types[0]), edges(types[1])))
    oracle = getattr(np, name.removesuffix("_to"))
    np.testing.assert_array_equal(compile_llvm(getattr(integer, name), types)(a, b), oracle(a, b))


@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("target", INTS)
def test_floats_in_range_truncate_and_others_are_defined(source, target):
    info = np.iinfo(DTYPES[target])
    x = np.array([0.0, -0.0, 0.9, 1.5, 100.99, info.max / 4, float(info.max // 2)], DTYPES[source])
    if target in SIGNED:
        x = np.concatenate([x, -x, np.array([info.min], DTYPES[source])])
    function = compile_llvm(lambda v: integer.cast(v, target), (source,))
    np.testing.assert_array_equal(function(x), x.astype(DTYPES[target]))
    if target in ("i32", "i64", "u64"):
        far = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30] * 8, DTYPES[source])
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(function(far), far.astype(DTYPES[target]))


def test_conversions_between_all_number_types():
    for source in (*INTS, "i1"):
        x = np.array([False, True]) if source == "i1" else edges(source)
        targets = [t for t in (*INTS, "f32", "f64", "i1") if t != source]
        results = compile_llvm(lambda v, targets=targets: [integer.cast(v, t) for t in targets], (source,))(x)
        for target, result in zip(targets, results, strict=True):
            np.testing.assert_array_equal(result, x.astype(DTYPES[target]), err_msg=f"{source} to {target}")


def test_division_vectorises():
    for t in ("i32", "u8", "i64"):
        compiled = compile_llvm(integer.floor_divide, (t, t))
        assert_vectorised(compiled)
        assert not re.search(r"^\s+i?div[lqwb]", compiled.assembly, re.MULTILINE)
