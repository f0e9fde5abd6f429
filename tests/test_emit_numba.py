"""The @njit writer against the LLVM writer, bit for bit; its source as golden texts; kernels taken away as files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table import Interval, accepts, draw, same_bits, ulp_distance

from jitensor import settings
from jitensor.codegen.emit_numba import DECORATOR, PRELUDE, emit_numba
from jitensor.codegen.kernel import Kernel, specialise
from jitensor.codegen.take_away import take_away
from jitensor.ir import dims, types
from jitensor.ir.graph import Graph, GraphBuilder
from jitensor.ir.types import BY_NUMPY, NUMBERS, DType, TensorType
from jitensor.ir.verify import verify
from jitensor.ops import TABLE
from jitensor.pipeline import Executable, build
from jitensor.runtime import njit

RNG = np.random.default_rng(5)
Arrays = list[np.ndarray]


class Emit:
    """A graph in the making: emit("add", x, y), emit.number(2.0, dtype)."""

    def __init__(self, arrays: Arrays) -> None:
        self.builder = GraphBuilder("case")
        self.sizes: dict[str, int] = {}
        self.inputs = []
        for array in arrays:
            names = [f"n{n}" for n in array.shape]  # equal sizes share a symbol
            self.sizes |= dict(zip(names, array.shape, strict=True))
            shape = tuple(n if n in (1, 3) else dims.symbol(f"n{n}") for n in array.shape)
            self.inputs.append(self.builder.input(TensorType(BY_NUMPY[array.dtype], shape)))

    def __call__(self, name: str, *values: Any, **params: Any) -> Any:
        return self.builder.add(TABLE[name], values, params)[0]

    def number(self, value: Any, like: Any) -> Any:
        return self.builder.constant(value, like.type.dtype)

    def reduce(self, name: str, x: Any, axis: int) -> Any:
        """keepdims=True"""
        return self("expand_dims", self(name, x, axes=(axis,)), axes=(axis,))

    def finish(self, results: Any) -> Graph:
        outputs = list(results) if isinstance(results, (tuple, list)) else [results]
        return verify(self.builder.finish(outputs))


def floats(*shape: int, dtype: DType = types.float64) -> np.ndarray:
    return draw(Interval(-3.0, 3.0), dtype, shape, RNG)


def softmax(e: Emit, x: Any, axis: int) -> Any:
    exponentials = e("exp", e("subtract", x, e.reduce("reduce_max", x, axis)))
    return e("divide", exponentials, e.reduce("reduce_sum", exponentials, axis))


def variance(e: Emit, x: Any, axis: int) -> Any:
    count = e.number(7.0, x)
    d = e("subtract", x, e("divide", e.reduce("reduce_sum", x, axis), count))
    return e("divide", e("reduce_sum", e("multiply", d, d), axes=(axis,)), count)


def mean_of_squares(e: Emit, x: Any, y: Any) -> Any:
    d = e("subtract", x, y)
    return e("divide", e("reduce_sum", e("multiply", d, d), axes=(0,)), e.number(9.0, x))


def stencil(e: Emit, x: Any) -> Any:
    rows, columns = x.type.shape

    def shifted(i: int, j: int) -> Any:
        return e("slice", x, starts=(i, j), sizes=(rows - 2, columns - 2), steps=(1, 1))

    around = e("add", e("add", shifted(0, 1), shifted(2, 1)), e("add", shifted(1, 0), shifted(1, 2)))
    return e("subtract", e("multiply", shifted(1, 1), e.number(0.25, x)), around)


def every_other(e: Emit, x: Any) -> Any:
    return e("negative", e("slice", x, starts=(1, 6), sizes=(3, 3), steps=(2, -2)))


def counted(e: Emit, x: Any) -> Any:
    line = e("iota", shape=x.type.shape, axis=1, dtype=types.int64)
    return e("where", e("less", e("cast", line, dtype=x.type.dtype), x), x, e.number(-1.0, x))


def chain(e: Emit, x: Any) -> Any:
    result = x
    for i in range(40):
        result = e("add", e("multiply", result, x), e.number(i / 8, x))
    return result


def reductions(*names: str, axes: tuple[int, ...]) -> Callable[..., Any]:
    return lambda e, x: [e(name, x, axes=axes) for name in names]


HUGE = np.concatenate([floats(300), [1e6, 1e9, -1e22, np.inf, np.nan], floats(300)])
EXTREMES = ("reduce_max", "reduce_min", "argmax", "argmin")
# name -> (function of emit and values, arrays)
CASES: dict[str, tuple[Callable[..., Any], Arrays]] = {
    "mean_of_squares": (mean_of_squares, [floats(1031), floats(1031)]),
    "mean_of_squares_f32": (
        mean_of_squares,
        [floats(1031, dtype=types.float32), floats(1031, dtype=types.float32)],
    ),
    "softmax_rows": (lambda e, x: softmax(e, x, 1), [floats(5, 600, dtype=types.float32)]),
    "softmax_columns": (lambda e, x: softmax(e, x, 0), [floats(9, 300)]),
    "softmax_long_rows": (lambda e, x: softmax(e, x, 1), [floats(2, 9000)]),
    "variance_rows": (lambda e, x: variance(e, x, 1), [floats(4, 700)]),
    "variance_columns": (lambda e, x: variance(e, x, 0), [floats(7, 270)]),
    "stencil": (stencil, [floats(9, 40)]),
    "lengths": (
        lambda e, x: e("sqrt", e("reduce_sum", e("multiply", x, x), axes=(1,))),
        [floats(60, 3)],
    ),
    "every_other": (every_other, [floats(7, 8)]),
    "every_other_bool": (
        lambda e, x: e("logical_not", e("slice", x, starts=(1, 6), sizes=(3, 3), steps=(2, -2))),
        [floats(7, 8) > 0],
    ),
    "broadcast": (lambda e, x, y, z: e("add", e("multiply", x, y), z), [floats(6, 50), floats(50), floats(6, 1)]),
    "transposed": (lambda e, x: e("add", x, e("transpose", x, perm=(1, 0))), [floats(30, 30)]),
    "counted": (counted, [floats(5, 40)]),
    "chain": (chain, [floats(200) / 3]),
    "chain_f32": (chain, [floats(200, dtype=types.float32) / np.float32(3)]),
    "sin_of_huge": (lambda e, x: e("sin", x), [HUGE]),
    "sum_of_sin_of_huge": (lambda e, x: e("reduce_sum", e("sin", x), axes=(0,)), [HUGE[np.isfinite(HUGE)]]),
    "tan_of_products": (lambda e, x, y: e("tan", e("multiply", x, y)), [HUGE, HUGE[::-1].copy()]),
    "power": (lambda e, x, y: e("power", x, y), [np.abs(floats(200)), floats(200)]),
    "complex_division": (
        lambda e, x, y: e("divide", x, e("exp", y)),
        [floats(99, dtype=types.complex64), floats(99, dtype=types.complex64)],
    ),
    "extremes": (reductions(*EXTREMES, axes=(0,)), [floats(1300)]),
    "extremes_rows": (reductions(*EXTREMES, axes=(1,)), [floats(5, 700, dtype=types.float32)]),
    "extremes_columns": (reductions(*EXTREMES, axes=(0,)), [floats(12, 300)]),
    "extremes_of_nan": (reductions(*EXTREMES, axes=(0,)), [np.where(np.arange(900) % 400 == 7, np.nan, floats(900))]),
    "extremes_of_bytes": (reductions("reduce_max", "argmin", axes=(1,)), [floats(5, 70, dtype=types.uint8)]),
    "products": (reductions("reduce_prod", axes=(1,)), [floats(5, 30)]),
    "sum_of_int8": (reductions("reduce_sum", "reduce_prod", axes=(0,)), [floats(500, dtype=types.int8)]),
    "sum_of_complex": (reductions("reduce_sum", axes=(1,)), [floats(3, 700, dtype=types.complex128)]),
    "sum_of_half": (reductions("reduce_sum", "reduce_max", axes=(0,)), [floats(40, dtype=types.float16)]),
    "any_all": (reductions("reduce_any", "reduce_all", axes=(1,)), [floats(4, 600) > -2.9]),
    "any_all_columns": (reductions("reduce_any", "reduce_all", axes=(0,)), [floats(8, 300) > -1.0]),
    "outer_reductions": (reductions("reduce_sum", "reduce_max", axes=(0, 2)), [floats(3, 4, 50)]),
    "no_elements": (lambda e, x: [e("exp", x), e("reduce_sum", x, axes=(0,))], [floats(0)]),
}  # fmt: skip
# Where the writers may differ, in units of the last place of the largest result: user arithmetic that contracts, and
# float sums, which add in another order.
ROUNDING = dict.fromkeys(("chain", "chain_f32", "stencil", "lengths"), 2) | {
    name: 8 for name in CASES if name.startswith(("mean", "softmax", "variance", "sum", "outer"))
}


def made(function: Callable[..., Any], arrays: Arrays) -> tuple[Executable, dict[str, int]]:
    emit = Emit(arrays)
    return build(emit.finish(function(emit, *emit.inputs))), emit.sizes


def assert_writers_agree(executable: Executable, arrays: Arrays, sizes: dict[str, int], ulp: float = 0) -> None:
    outcome = {}
    for backend in ("llvm", "njit"):
        with settings.override(backend=backend):
            mine = [a.copy() for a in arrays]
            outcome[backend] = [*executable(mine, sizes), *mine]  # arguments too: some are written
    for njit_result, llvm_result in zip(outcome["njit"], outcome["llvm"], strict=True):
        if ulp and llvm_result.size and llvm_result.dtype.kind in "fc":
            unit = np.spacing(np.max(np.abs(llvm_result)))
            np.testing.assert_allclose(njit_result, llvm_result, rtol=0, atol=ulp * unit)
        else:
            assert same_bits(njit_result, llvm_result)


@pytest.mark.parametrize("name", CASES)
def test_writers_agree(name: str) -> None:
    executable, sizes = made(*CASES[name])
    assert_writers_agree(executable, CASES[name][1], sizes, ROUNDING.get(name, 0))


OPS = ("subtract", "multiply", "maximum", "less", "logical_and", "bitwise_xor", "floor_divide", "left_shift", "divide")


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda t: t.short)
def test_writers_agree_on_every_dtype(dtype: DType) -> None:
    names = [n for n in OPS if accepts(TABLE[n], (dtype, dtype))]
    arrays = [floats(70, dtype=dtype), floats(70, dtype=dtype)]
    executable, sizes = made(lambda e, x, y: [e(n, x, y) for n in names], arrays)
    assert_writers_agree(executable, arrays, sizes)


def test_writers_agree_on_strided_and_reversed_memory() -> None:
    executable, sizes = made(lambda e, x, y: e("subtract", e("exp", x), y), [floats(6, 9), floats(6, 9)])
    for view in (np.s_[::-1, ::-1], np.s_[:, ::-1], np.s_[::-1]):
        assert_writers_agree(executable, [floats(6, 9)[view], floats(9, 6).T], sizes)
    assert_writers_agree(executable, [floats(12, 18)[::2, ::2], floats(6, 18)[:, ::2]], sizes)


def test_writers_agree_in_place() -> None:
    x = floats(300)
    emit = Emit([x, x])
    target, source = emit.inputs
    new = emit("add", emit("sin", emit("multiply", target, target)), source)
    executable = build(verify(emit.builder.finish([emit("negative", new)], [(target, new)])))
    assert_writers_agree(executable, [np.where(x > 2, 1e8, x), floats(300)], emit.sizes)


def test_writers_agree_on_host_numbers() -> None:
    builder = GraphBuilder("numbers")
    x = builder.input(TensorType(types.complex64, (dims.symbol("n"),)))
    factor = builder.input(TensorType(types.complex64, ()), scalar=True)
    chosen = builder.input(TensorType(types.bool_, ()), scalar=True)
    half = builder.input(TensorType(types.float16, ()), scalar=True)
    product = builder.add(TABLE["multiply"], (x, factor))[0]
    widened = builder.add(TABLE["cast"], (half,), {"dtype": types.complex64})[0]
    shifted = builder.add(TABLE["add"], (product, widened))[0]
    executable = build(verify(builder.finish(builder.add(TABLE["where"], (chosen, shifted, x)))))
    numbers = [np.complex64(1 - 2j), np.bool_(True), np.float16(0.5)]
    values = floats(20, dtype=types.complex64)
    found = []
    for backend in ("llvm", "njit"):
        with settings.override(backend=backend):
            found += executable([values, *numbers], {"n": 20})
    assert same_bits(*found)
    np.testing.assert_allclose(found[0], values * numbers[0] + 0.5, rtol=1e-6)


# Source ---------------------------------------------------------------------------------------------------------------


def kernels_of(name: str) -> list[Kernel]:
    executable, _ = made(*CASES[name])
    return [launch.kernel for launch in executable.describe().launches]


@pytest.mark.parametrize(
    "name",
    ["mean_of_squares", "softmax_rows", "variance_columns", "stencil", "sin_of_huge", "any_all", "sum_of_complex"],
)
def test_source(name: str, golden: Callable[[str, str], None]) -> None:
    """Without the scalar functions, whose coefficients are not the writer's."""
    sources = [emit_numba(kernel, f"k_{name}") for kernel in kernels_of(name)]
    golden(f"njit_{name}.txt", "\n\n".join(source[source.index(DECORATOR) :] for source in sources))


def test_scalar_functions_come_before_their_users() -> None:
    source = emit_numba(kernels_of("sin_of_huge")[0], "k_sin")
    order = [source.index(text) for text in ("def sin_f64(", "def sin_f64_exact(", "def k_sin(")]
    assert order == sorted(order)
    assert njit.define(source, "k_sin", PRELUDE).py_func.__doc__.startswith("kernel (i0: n0) {")


def test_strict_products_are_not_contracted() -> None:
    """Complex products are strict in a kernel that contracts. A Numba function takes its caller's flags if not told."""
    x, y = floats(70, dtype=types.complex64), floats(70, dtype=types.complex64)
    executable, _ = made(lambda e, x, y: e("add", e("multiply", x, y), e("exp", x)), [x, y])
    source = emit_numba(executable.describe().launches[0].kernel, "k_strict")
    text = njit.load_source(source, "k_strict", prelude=PRELUDE).llvm()
    assert "strict_mul(t0, t1)" in source
    assert re.search(r"fadd contract <", text) and not re.search(r"fmul contract", text)


@pytest.mark.parametrize("name", ["chain", "mean_of_squares", "extremes", "softmax_rows", "stencil"])
def test_loops_become_vector_code(name: str) -> None:
    for kernel in kernels_of(name):
        compiled = njit.load_source(emit_numba(kernel, "k_vector"), "k_vector", prelude=PRELUDE)
        assert re.search(r"\bv?\w+(pd|ps)\s.*[xyz]mm|\bv\d+\.(2d|4s)\b", compiled.assembly())


def test_advice_reaches_the_loop() -> None:
    """Every copy of the loop's body stores once; without advice there is one copy, and one for the rest."""
    executable, _ = made(lambda e, x: e("erf", e("subtract", e("exp", x), x)), [floats(50)])
    source = emit_numba(executable.describe().launches[0].kernel, "k_erf")
    assert 'advise_loop_above("interleave.count", 4)' in source
    text = njit.load_source(source, "k_erf", prelude=PRELUDE).llvm()
    assert len(re.findall(r"store <\d+ x ", text)) >= 4


# Taken away -----------------------------------------------------------------------------------------------------------

RUNNER = """
import sys
sys.modules["jitensor"] = None  # importing it is an error
sys.path.insert(0, sys.argv[1])
import numpy as np
import kernel
x = np.random.default_rng(0).random((5, 60)).astype(np.float32)
result = np.empty_like(x)
kernel.run(x, result)
expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
np.testing.assert_allclose(result, expected, rtol=1e-5)
for wrong, error in (({"n0": 6}, ValueError), ({"s1_0": -60}, ValueError), ({"n1": 9000, "n0": 0}, ValueError)):
    try:
        kernel.run(x, result, **wrong)
    except error:
        continue
    raise SystemExit(f"accepted {wrong}")
try:
    kernel.run(x.T, result)
except TypeError as error:
    print("refused:", error)
"""


def test_a_kernel_runs_without_jitensor(tmp_path: Path) -> None:
    kernel = kernels_of("softmax_rows")[0]
    (tmp_path / "kernel.py").write_text(take_away(kernel, "k_softmax", [5, 60, 60, 60]), encoding="utf-8")
    outcome = subprocess.run([sys.executable, "-I", "-c", RUNNER, str(tmp_path)], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == "refused: b0: an array of float32; needed a contiguous one of float32\n"


def test_a_kernel_with_host_numbers_runs_from_its_file() -> None:
    kernel = kernels_of("chain_f32")[0]
    names: dict[str, Any] = {"__name__": "taken"}
    exec(compile(take_away(kernel, "k_chain"), "taken", "exec"), names)
    x, result = CASES["chain_f32"][1][0], np.empty(200, np.float32)
    names["run"](x, result, *[i / 8 for i in range(len(kernel.scalars))], n0=200)
    executable, sizes = made(*CASES["chain_f32"])
    assert np.max(ulp_distance(result, executable([x], sizes)[0])) <= 2


def test_a_kernel_with_a_small_loop_runs_from_its_file() -> None:
    kernel, _, _ = specialise(kernels_of("lengths")[0], [60, 3, 3])
    assert kernel.inner == 3
    names: dict[str, Any] = {"__name__": "taken"}
    exec(compile(take_away(kernel, "k_lengths"), "taken", "exec"), names)
    x, result = CASES["lengths"][1][0], np.empty(60)
    names["run"](x, result, n0=60)
    np.testing.assert_allclose(result, np.sqrt((x * x).sum(1)), rtol=1e-14)
