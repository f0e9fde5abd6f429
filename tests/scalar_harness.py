"""Compiles a scalar function alone, through each CPU writer, into a function of NumPy arrays."""

from __future__ import annotations

import ctypes
import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as binding
import mpmath
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from jitensor.codegen import scalar_llvm, scalar_numba
from jitensor.codegen.advice import advise
from jitensor.scalar.program import ScalarProgram, ScalarValue

DTYPES = {
    "f32": np.float32, "f64": np.float64, "i1": np.bool_,
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
}  # fmt: skip
_serial = itertools.count()


def build(function: Callable[..., Any], types: tuple[str, ...], *, exact: bool = False, outline: bool = False):
    """A program whose results are the function's values and, where there are slow conditions, one i1: any of them."""
    program = ScalarProgram(exact=exact, outline=outline)
    made = function(*[program.param(t) for t in types])
    results = [made] if isinstance(made, ScalarValue) else list(made)
    program.results = results
    if program.slow:
        program.results.append(functools.reduce(lambda a, b: a | b, program.slow))
    return program


class Compiled:
    """Called with arrays, gives the results as arrays; `slow` is where the last call met a slow condition."""

    def __init__(self, run: Callable[..., None], program: ScalarProgram, text: str, assembly: str) -> None:
        self.run, self.program, self.text, self.assembly = run, program, text, assembly
        self.types = [n.type for n in program.instructions if n.op == "param"]
        self.slow = np.zeros(0, bool)

    def __call__(self, *arrays: Any) -> Any:
        whole = np.broadcast_arrays(*arrays)
        inputs = [np.ascontiguousarray(a, DTYPES[t]) for a, t in zip(whole, self.types, strict=True)]
        outputs = [np.empty(inputs[0].shape, DTYPES[r.type]) for r in self.program.results]
        self.run(inputs[0].size, *[a.reshape(-1) for a in inputs + outputs])
        self.slow = outputs.pop() if self.program.slow else np.zeros(outputs[0].shape, bool)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def compile_llvm(function: Callable[..., Any], types: tuple[str, ...], *, exact: bool = False) -> Compiled:
    program = build(function, types, exact=exact)
    name = f"scalar_{next(_serial)}"
    text = _llvm_module(program, types, name)
    library = cpu_target.target_context.codegen().create_library(name)
    module = binding.parse_assembly(text)
    module.verify()
    with global_compiler_lock:
        library.add_llvm_module(module)
        library.finalize()
    address = library.get_pointer_to_function(name)
    native = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (len(types) + len(program.results)))(address)

    def run(count: int, *arrays: np.ndarray, _keep: Any = library) -> None:
        native(count, *[a.ctypes.data for a in arrays])

    run.native = native  # type: ignore[attr-defined]
    return Compiled(run, program, text, library.get_asm_str())


def _llvm_module(program: ScalarProgram, types: tuple[str, ...], name: str) -> str:
    memory = {t: "i8" if t == "i1" else scalar_llvm.LLVM_TYPE[t] for t in DTYPES}
    outs = [r.type for r in program.results]
    arguments = [f"ptr noalias %a{k}" for k in range(len(types))] + [f"ptr noalias %o{k}" for k in range(len(outs))]
    loads, names = [], {}
    for k, t in enumerate(types):
        loads += [f"  %ap{k} = getelementptr {memory[t]}, ptr %a{k}, i64 %i", f"  %x{k} = load {memory[t]}, ptr %ap{k}"]
        names[k] = f"%x{k}"
        if t == "i1":
            loads.append(f"  %b{k} = icmp ne i8 %x{k}, 0")
            names[k] = f"%b{k}"
    body, names = scalar_llvm.write_instructions(program, names, "t")
    stores = []
    for k, r in enumerate(program.results):
        value = names[r.id]
        if r.type == "i1":
            stores.append(f"  %z{k} = zext i1 {value} to i8")
            value = f"%z{k}"
        stores += [
            f"  %op{k} = getelementptr {memory[r.type]}, ptr %o{k}, i64 %i",
            f"  store {memory[r.type]} {value}, ptr %op{k}",
        ]
    note, metadata = _advice([*loads, *body, *stores])
    return "\n".join(
        [
            *sorted(scalar_llvm.declarations(program)),
            f"define void @{name}(i64 %n, {', '.join(arguments)}) {{",
            "entry:",
            "  %some = icmp sgt i64 %n, 0",
            "  br i1 %some, label %loop, label %done",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *loads,
            *body,
            *stores,
            "  %next = add i64 %i, 1",
            "  %more = icmp slt i64 %next, %n",
            f"  br i1 %more, label %loop, label %done{note}",
            "done:",
            "  ret void",
            "}",
            *metadata,
        ]
    )


def _advice(lines: list[str]) -> tuple[str, list[str]]:
    """What a kernel would say about a loop with this body: the branch's note and the metadata it names."""
    found = advise(len(lines), sum("@llvm.fma." in line for line in lines), accumulates=False)
    if found is None:
        return "", []
    name, value = found
    flag = f"{'i1' if name.endswith('enable') else 'i32'} {value}"
    return ", !llvm.loop !0", ["!0 = distinct !{!0, !1}", f'!1 = !{{!"llvm.loop.{name}", {flag}}}']


def compile_numba(function: Callable[..., Any], types: tuple[str, ...], *, exact: bool = False) -> Compiled:
    program = build(function, types, exact=exact, outline=True)
    names = {k: f"x{k}" for k in range(len(types))}
    body, names = scalar_numba.write_statements(program, names, "t", "        ")
    count = len(program.results)
    arrays = [f"a{k}" for k in range(len(types))] + [f"o{k}" for k in range(count)]
    text = "\n".join(
        [
            scalar_numba.PRELUDE,
            *scalar_numba.functions(program),
            "@njit(error_model='numpy')",
            f"def kernel(n, {', '.join(arrays)}):",
            "    for i in range(n):",
            *[f"        x{k} = a{k}[i]" for k in range(len(types))],
            *body,
            *[f"        o{k}[i] = {names[r.id]}" for k, r in enumerate(program.results)],
        ]
    )
    scope: dict[str, Any] = {}
    exec(compile(text, f"<njit {program.results[0].type}>", "exec"), scope)
    return Compiled(scope["kernel"], program, text, "")


def with_slow_path(function: Callable[..., Any], types: tuple[str, ...], compiler: Any, arrays: Any) -> Any:
    """The result as an executor would make it: fast, then the slow elements from the exact program."""
    fast = compiler(function, types)
    result = fast(*arrays)
    if fast.program.slow:
        result = np.where(fast.slow, compiler(function, types, exact=True)(*arrays), result)
    return result


def assert_same(result: Any, expected: Any, arrays: tuple[np.ndarray, ...] = ()) -> None:
    """Equal values, signs of zero and places of nan, for one array or several."""
    for r, e in zip(*((v,) if isinstance(v, np.ndarray) else v for v in (result, expected)), strict=True):
        np.testing.assert_array_equal(r, e)
        if e.dtype.kind == "f":
            wrong = np.flatnonzero(~np.isnan(e) & (np.signbit(r) != np.signbit(e)))
            assert not wrong.size, [[a[w] for a in arrays] for w in wrong[:5]]


def worst_ulp(result: np.ndarray, arrays: tuple[np.ndarray, ...], reference: Callable[..., Any]) -> tuple[float, Any]:
    """The largest error in units of the last place of the true result, and where; `reference` is mpmath's function.

    Below the normal numbers a unit is the smallest subnormal; beyond the largest number only inf is right.
    """
    info = np.finfo(result.dtype)
    worst: tuple[float, Any] = (0.0, None)
    with mpmath.workprec(150):
        for got, *point in zip(result, *arrays, strict=True):
            true = reference(*(mpmath.mpf(float(v)) for v in point))
            exponent = mpmath.frexp(true)[1] - 1 if true else -5000
            unit = mpmath.ldexp(1, max(exponent, info.minexp) - info.nmant)
            if np.isinf(got) and abs(true) >= mpmath.mpf(float(info.max)):
                continue
            error = float(abs(mpmath.mpf(float(got)) - true) / unit) if np.isfinite(got) else float("inf")
            worst = max(worst, (error, tuple(point)), key=lambda w: w[0])
    return worst


CALL = re.compile(r"^\s+callq?\b", re.MULTILINE)


def assert_vectorised(compiled: Compiled) -> None:
    """The compiled loop holds packed vector instructions and calls nothing."""
    assert re.search(r"\bv?\w+(pd|ps|dqu\w*|q|d|w|b)\s.*[yz]mm", compiled.assembly), "no packed instruction"
    assert not CALL.search(compiled.assembly), "a call in the loop"
