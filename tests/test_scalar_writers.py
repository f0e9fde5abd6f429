"""The scalar program itself and its two CPU writers: every primitive on every type, literals, text, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scalar_harness import DTYPES, assert_same, build, compile_llvm, compile_numba

from jitensor import scalar
from jitensor.codegen import scalar_llvm, scalar_numba
from jitensor.scalar import program as p
from jitensor.scalar.program import FLOATS, INTEGERS, SIGNED, WIDTH, ScalarProgram, call, scalar_function


def integer_primitives(a, b):
    t = a.type
    b = p.select(p.equal(b, 0) | (p.equal(b, -1) if t in SIGNED else p.equal(b, 0)), 3, b)
    count = a & (WIDTH[t] - 1)
    wrapped = [a + b, a - b, a * b, -a, ~a, a & b, a | b, a ^ b, b << count, b >> count]
    wrapped += [p.quotient(a, b), p.remainder(a, b), p.select(a < b, a, 7), p.bitcast(a, "u" + t[1:])]
    compared = [a < b, a <= b, a > b, a >= b, p.equal(a, b), p.not_equal(a, b)]
    return wrapped + compared + [p.convert(a, other) for other in (*FLOATS, *INTEGERS) if other != t]


def float_primitives(a, b):
    bits = "i" + a.type[1:]
    made = [a + b, a - b, a * b, a / b, -a, p.fma(a, b, 1.5), p.fabs(a), p.floor(a), p.ceil(a), p.trunc(a), p.rint(a)]
    made += [p.sqrt(p.fabs(a)), a < b, a <= b, a > b, a >= b, p.equal(a, b), p.not_equal(a, b), p.is_nan(a)]
    made += [p.bitcast(a, bits), p.bitcast(p.bitcast(a, bits), a.type), p.select(p.is_nan(a), b, a)]
    made += [p.convert(a, "f64" if a.type == "f32" else "f32"), p.convert(p.select(p.fabs(a) < 100.0, a, 0.0), "i16")]
    return [*made, p.select(a < b, math.inf, a), a + math.nan, a * -math.inf, a + 0.1, a * 1e-40, scalar.copysign(a, b)]


def truth_primitives(a, b):
    made = [a & b, a | b, a ^ b, ~a, p.select(a, b, ~b), p.convert(a, "f64"), p.convert(a, "u8"), p.convert(b, "i64")]
    return [*made, p.select(a, p.convert(b, "f32"), 2.0), a & True, b ^ True]


def sample(t: str) -> np.ndarray:
    if t == "i1":
        return np.array([False, True])
    if t in FLOATS:
        values = [0.0, 1.0, -1.5, 2.5, 7.25, math.inf, math.nan, 1e-40, 1e30, 0.1]
        return np.array(values + [-v for v in values], DTYPES[t])
    info = np.iinfo(DTYPES[t])
    return np.array([0, 1, 2, 7, 100, info.max, info.min, info.max - 1, info.min + 1, info.max // 3], DTYPES[t])


def operands(t: str) -> list[np.ndarray]:
    return [m.ravel() for m in np.meshgrid(sample(t), sample(t))]


@pytest.mark.parametrize("t", [*FLOATS, *INTEGERS, "i1"])
def test_both_writers_agree_on_every_primitive(t):
    function = float_primitives if t in FLOATS else truth_primitives if t == "i1" else integer_primitives
    first, second = compile_llvm(function, (t, t)), compile_numba(function, (t, t))
    assert_same(second(*operands(t)), first(*operands(t)))


@pytest.mark.parametrize("t", INTEGERS)
def test_integers_wrap_as_numpys(t):
    a, b = operands(t)
    results = compile_llvm(lambda x, y: [x + y, x - y, x * y, -x, ~x], (t, t))(a, b)
    with np.errstate(all="ignore"):
        for result, expected in zip(results, (a + b, a - b, a * b, -a, ~a), strict=True):
            np.testing.assert_array_equal(result, expected)


def test_llvm_text_of_a_small_program():
    program = ScalarProgram()
    program.contract = True
    x = program.param("f64")
    n = program.param("u8")
    p.select(n > 3, x * 0.5 + 1.0, p.sqrt(x))
    lines, names = scalar_llvm.write_instructions(program, {0: "%x", 1: "%n"}, "t", indent="")
    assert lines == [
        "%t3 = icmp ugt i8 %n, 3",
        "%t5 = fmul contract double %x, 0x3FE0000000000000",
        "%t7 = fadd contract double %t5, 0x3FF0000000000000",
        "%t8 = call double @llvm.sqrt.f64(double %x)",
        "%t9 = select i1 %t3, double %t7, double %t8",
    ]
    assert names[9] == "%t9"
    assert scalar_llvm.declarations(program) == {"declare double @llvm.sqrt.f64(double)"}


def test_numba_text_of_a_small_program():
    program = ScalarProgram(outline=True)
    x = program.param("f32")
    program.results = [scalar.exp(x * 0.5) + 1.0]
    lines, names = scalar_numba.write_statements(program, {0: "x"}, "t", "")
    assert lines == ["t5 = exp_f32(x * float32(0.5)) + float32(1.0)"]
    assert names[5] == "t5"
    (source,) = scalar_numba.functions(program)
    assert source.startswith('@njit(error_model="numpy", fastmath=False)\ndef exp_f32(x):\n')
    assert "contract" not in source


def test_functions_come_once_and_callees_first():
    program = ScalarProgram(outline=True)
    x = program.param("f64")
    program.results = [scalar.logaddexp(x, scalar.exp(x)) + scalar.log1p(x)]
    sources = scalar_numba.functions(program)
    defined = [s.split("def ")[1].split("(")[0] for s in sources]
    assert defined == ["exp_f64", "log1p_f64", "logaddexp_f64_f64"]


def test_constants_are_typed_and_exact():
    cases = {
        ("f32", 0.1): "float32(0.1)",
        ("f32", math.inf): "float32(np.inf)",
        ("f64", -math.inf): "-np.inf",
        ("f64", 0.1): "0.1",
        ("u64", 2**63): "uint64(0x8000000000000000)",
        ("i64", -5): "-5",
        ("i1", True): "True",
    }
    for (t, value), text in cases.items():
        program = ScalarProgram()
        held = program.instructions[program.constant(value, t).id].attr
        assert scalar_numba.literal(held, t) == text
    assert scalar_llvm.literal(0.1, "f64") == "0x3FB999999999999A"
    assert scalar_llvm.literal(-0.0, "f32") == "0x8000000000000000"


def test_constants_keep_their_sign_and_wrap():
    program = ScalarProgram()
    assert program.constant(0.0, "f64") is not program.constant(-0.0, "f64")
    assert program.constant(math.nan, "f32") is program.constant(math.nan, "f32")
    assert program.constant(0xFF, "i8") is program.constant(-1, "i8")
    with pytest.raises(TypeError, match=r"0\.5 is no i32 constant"):
        program.constant(0.5, "i32")


def test_equal_instructions_are_recorded_once():
    program = ScalarProgram()
    x = program.param("f64")
    assert (x + 1.0) is (x + 1.0)
    assert (x + 1.0) is not (x + 2.0)


@scalar_function(slow=lambda x: scalar.fabs(x) > 100.0)
def guarded(x):
    """x + 1, or sin(x) where exact."""
    return call("sin", x) if x.program.exact else x + 1.0


@scalar_function
def outer(x):
    """Uses a function with a slow condition."""
    return guarded(x) * 2.0


@pytest.mark.parametrize("outline", [False, True])
def test_slow_conditions_are_recorded_through_calls(outline):
    fast = build(outer, ("f64",), outline=outline)
    assert len(fast.slow) == 1
    exact = build(outer, ("f64",), outline=outline, exact=True)
    assert not exact.slow


@pytest.mark.parametrize("t", FLOATS)
def test_exact_programs_call_libm_alike(t):
    x = sample(t)[:6]
    x[np.isinf(x)] = 2.0
    results = [compiler(outer, (t,), exact=True)(x) for compiler in (compile_llvm, compile_numba)]
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], 2 * np.sin(x), rtol=1e-6)
    assert compile_llvm(outer, (t,))(np.array([1.0, 200.0], DTYPES[t])).tolist() == [4.0, 402.0]


def test_refusals():
    program = ScalarProgram()
    x, n = program.param("f64"), program.param("i32")
    with pytest.raises(TypeError, match="mixes f64 and i32"):
        x + n
    with pytest.raises(TypeError, match="no branches"):
        bool(x < 1.0)
    with pytest.raises(TypeError, match="call sin outside an exact program"):
        call("sin", x)
    with pytest.raises(TypeError, match="changes the width"):
        p.bitcast(x, "i32")
    with pytest.raises(ValueError, match="no LLVM name"):
        scalar_llvm.write_instructions(program, {0: "%x"}, "t")
    outlined = build(scalar.exp, ("f64",), outline=True)
    with pytest.raises(ValueError, match="outline=False"):
        scalar_llvm.write_instructions(outlined, {0: "%x"}, "t")


def test_text_form():
    program = ScalarProgram()
    x = program.param("f64")
    program.contract = True
    p.fma(x * 0.5, x, 1.0)
    assert program.text().splitlines() == [
        "%0 = param 0 : f64",
        "%1 = const 0.5 : f64",
        "%2 = mul %0 %1 : f64 contract",
        "%3 = const 1.0 : f64",
        "%4 = fma %2 %0 %3 : f64",
    ]
