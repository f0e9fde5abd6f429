"""Complex functions: special values against NumPy, accuracy against mpmath, order, and the generic names."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scalar_harness import compile_llvm, compile_numba

from jitensor import scalar
from jitensor.scalar import ComplexValue
from jitensor.scalar.program import ScalarProgram

VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, math.inf, -math.inf, math.nan, 1e300, -1e300, 30.0, 800.0, -800.0, 1e-5]
# name: largest |error| / |result| in units of 2^-52, over ordinary arguments
FUNCTIONS = {
    "exp": 3, "expm1": 3, "log": 2, "log2": 3, "log10": 3, "log1p": 3, "sqrt": 2, "sinh": 3, "cosh": 3, "tanh": 4,
    "sin": 3, "cos": 3, "tan": 4, "reciprocal": 2, "square": 2,
}  # fmt: skip
REFERENCE = {
    "log2": lambda z: mpmath.log(z) / mpmath.log(2),
    "log10": lambda z: mpmath.log(z) / mpmath.log(10),
    "log1p": lambda z: mpmath.log(1 + z),
    "reciprocal": lambda z: 1 / z,
    "square": lambda z: z * z,
}
# Where NumPy loses digits (log1p), or fuses by array length (square), or leaves the sign of a zero or inf open.
NOT_NUMPYS = {"log1p", "square"}


def complex_array(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """re + 1j * im would turn infinities into nan and lose signs of zero."""
    z = np.empty(re.shape, complex if re.dtype == np.float64 else np.complex64)
    z.real, z.imag = re, im
    return z


def grid() -> np.ndarray:
    return complex_array(*(m.ravel() for m in np.meshgrid(VALUES, VALUES)))


def on_parts(function, operands: int = 1):
    """The function of complex values as one of their parts."""

    def apply(*parts):
        result = function(*[ComplexValue(*parts[2 * k : 2 * k + 2]) for k in range(operands)])
        return [result.re, result.im] if isinstance(result, ComplexValue) else result

    return apply


def run(function, *arrays, compiler=compile_llvm):
    part = "f64" if arrays[0].dtype == np.complex128 else "f32"
    compiled = compiler(on_parts(function, len(arrays)), (part,) * (2 * len(arrays)))
    result = compiled(*[p for a in arrays for p in (a.real, a.imag)])
    return (complex_array(*result) if isinstance(result, tuple) else result), ~compiled.slow


def assert_parts_close(result: np.ndarray, expected: np.ndarray, rtol: float = 1e-13) -> None:
    for r, e in ((result.real, expected.real), (result.imag, expected.imag)):
        np.testing.assert_allclose(np.abs(r), np.abs(e), rtol=rtol, atol=1e-300)
        settled = np.isfinite(e) & (e != 0)
        np.testing.assert_array_equal(np.signbit(r[settled]), np.signbit(e[settled]))


def drawn() -> np.ndarray:
    rng = np.random.default_rng(2)
    plain = rng.standard_normal(300) + 1j * rng.standard_normal(300)
    scaled = plain * 10.0 ** rng.uniform(-7, 2, 300)
    return np.concatenate([plain, scaled, np.exp(1j * rng.uniform(-3, 3, 200))])


@pytest.mark.parametrize(
    "name", [n for n in FUNCTIONS if n not in NOT_NUMPYS] + ["sign", "conjugate", "negative", "rint"]
)
def test_special_values_are_numpys(name):
    z = grid()
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(z)
    result, kept = run(getattr(scalar, name), z)
    assert_parts_close(result[kept], expected[kept])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_within_the_bound(name):
    z = drawn()
    result, _ = run(getattr(scalar, name), z)
    reference = REFERENCE.get(name) or getattr(mpmath, name)
    with mpmath.workprec(120):
        for point, got in zip(z, result, strict=True):
            true = reference(mpmath.mpc(point))
            assert abs(mpmath.mpc(got) - true) <= abs(true) * FUNCTIONS[name] * 2.0**-52, point


@pytest.mark.parametrize("name", ["asin", "acos", "atan", "asinh", "acosh", "atanh"])
def test_inverse_functions_are_numpys(name):
    """Relative to the whole number: Kahan's formulas lose digits of a small part beside a large one."""
    oracle = getattr(np, "arc" + name[1:])
    z = np.concatenate(
        [drawn(), 3 * drawn(), [0, -0.5, 2, -2, 2 + 0j, 0.9j, -3j, 0.5, complex(2, -0.0), complex(-3, -0.0)]]
    )
    result, _ = run(getattr(scalar, name), z)
    expected = oracle(z)
    assert (np.abs(result - expected) <= np.abs(expected) * 4e-15 + 1e-300).all(), z[
        np.argmax(np.abs(result - expected))
    ]
    assert np.isnan(run(getattr(scalar, name), np.array([complex(math.nan, 1.0)]))[0]).all()


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sin", "reciprocal"])
def test_complex64_is_within_float32(name):
    z = drawn().astype(np.complex64)
    result, _ = run(getattr(scalar, name), z)
    expected = getattr(np, name)(z.astype(complex))
    ordinary = (np.abs(expected) < 1e37) & (np.abs(expected) > 1e-36)
    assert ordinary.mean() > 0.9
    assert (np.abs(result - expected) <= np.abs(expected) * FUNCTIONS[name] * 2.0**-23)[ordinary].all()


@pytest.mark.parametrize("name", ["absolute", "angle", "isnan", "isinf", "isfinite", "logical_not"])
def test_real_results_are_numpys(name):
    z = grid()
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run(getattr(scalar, name), z)[0], getattr(np, name)(z), rtol=1e-15)


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"])
def test_order_is_numpys(name):
    a, b = (m.ravel() for m in np.meshgrid(grid()[::3], grid()[::4]))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(getattr(scalar, name), a, b)[0], getattr(np, name)(a, b))


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_extremes_are_numpys(name):
    a, b = (m.ravel() for m in np.meshgrid(grid()[::3], grid()[::4]))
    result, _ = run(getattr(scalar, name), a, b)
    np.testing.assert_array_equal(result, getattr(np, name)(a, b))


@pytest.mark.parametrize(
    "name, operator", [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("truediv", np.divide)]
)
def test_arithmetic_is_numpys(name, operator):
    finite = np.array([0.0, 1.0, -2.5, 1e-5, 3.0, 1e150, -1e-150])
    z = complex_array(*(m.ravel() for m in np.meshgrid(finite, finite)))
    a, b = (m.ravel() for m in np.meshgrid(z, z))
    with np.errstate(all="ignore"):
        expected = operator(a, b)
    for compiler in (compile_llvm, compile_numba):
        result, _ = run(lambda x, y: getattr(x, f"__{name}__")(y), a, b, compiler=compiler)
        if name == "mul":  # NumPy's SIMD loops fuse
            assert np.nanmax(np.abs(result - expected) / np.maximum(np.abs(a) * np.abs(b), 1e-300)) < 3e-16
        else:
            np.testing.assert_allclose(result.view(float), expected.view(float), rtol=1e-15)


def test_power_is_numpys():
    bases = np.array([0, 1, -1, 2 + 1j, -0.3 + 0.7j, 1e-3j, 5.0])
    exponents = np.array([0, 1, 2, 3, -2, 17, 99, -5, 0.5, 1j, 2 - 1j, 150, -0.25 + 3j])
    a, b = (m.ravel() for m in np.meshgrid(bases, exponents))
    with np.errstate(all="ignore"):
        expected = np.power(a, b)
    result, _ = run(scalar.power, a, b)
    np.testing.assert_allclose(result, expected, rtol=2e-13, atol=1e-16)


def test_real_operands_and_numbers_join():
    program = ScalarProgram()
    z = ComplexValue(program.param("f64"), program.param("f64"))
    x = program.param("f64")
    for made in (z + x, z * 2.0, 1j - z, 1 / z, scalar.power(z, 2), scalar.power(x, z), scalar.select(x > 0.0, z, 0.0)):
        assert isinstance(made, ComplexValue)
    with pytest.raises(TypeError, match="no complex form"):
        scalar.floor(z)
    with pytest.raises(TypeError, match="use select"):
        bool(z)
