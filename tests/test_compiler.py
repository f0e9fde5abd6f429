"""Kernels from text: compiled once, counted exactly, reused, loaded by another process, refused with a reason."""

import ctypes
import inspect
import os
import re
import subprocess
import sys
import threading
import traceback

import numpy as np
import pytest

import jitensor
from jitensor import events, settings
from jitensor.errors import CompileError
from jitensor.runtime import blas, compiler, disk, fingerprint, loader, njit
from jitensor.runtime.counters import Counters, counters, tally

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)

LLVM_MAP = """
declare double @{callee}(double, double)
define i64 @{symbol}(ptr %buffers, ptr %ints, ptr %scalars, i64 %begin, i64 %end) {{
entry:
  %x = load ptr, ptr %buffers
  %slot = getelementptr ptr, ptr %buffers, i64 1
  %out = load ptr, ptr %slot
  %c = load double, ptr %scalars
  %any = icmp slt i64 %begin, %end
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %xi = getelementptr double, ptr %x, i64 %i
  %v = load double, ptr %xi
  %w = fmul double %v, %c
  %r = {operation}
  %oi = getelementptr double, ptr %out, i64 %i
  store double %r, ptr %oi
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret i64 0
}}
"""


def llvm_map(symbol: str, operation: str = "fadd double %w, 1.0", callee: str = "fmod") -> str:
    """LLVM IR of out[i] = operation(x[i] * scalars[0])."""
    return LLVM_MAP.format(symbol=symbol, operation=operation, callee=callee)


PRELUDE = '''
from llvmlite import ir
from numba import boolean, float32, float64, njit
from numba.core import types
from numba.core.typing import signature
from numba.extending import intrinsic


@intrinsic
def at(typingctx, pointer, offset, dtype):
    """The typed pointer `offset` bytes after `pointer`."""

    def codegen(context, builder, sig, args):
        address = builder.gep(builder.bitcast(args[0], ir.IntType(8).as_pointer()), [args[1]])
        return builder.bitcast(address, context.get_value_type(sig.return_type))

    return signature(types.CPointer(dtype.dtype), pointer, types.int64, dtype), codegen
'''

NJIT_MAP = """
@njit(error_model="numpy", fastmath={{"contract"}})
def {symbol}(buffers, ints, scalars, begin, end):
    x = at(buffers[0], 0, float64)
    out = at(buffers[1], 0, float64)
    c = at(scalars, 0, float64)[0]
    for i in range(begin, end):
        out[i] = x[i] * c + 1.0
    return 0
"""

# x: f32[n0, n1 + 1] with a row stride; out[i0, i1] = x[i0, i1 + 1] - x[i0, i1]
NJIT_ROWS = """
@njit(error_model="numpy", fastmath={"contract"})
def k_rows(buffers, ints, scalars, begin, end):
    n1 = ints[0]
    x_s0 = ints[1]
    out_s0 = ints[2]
    for i0 in range(begin, end):
        x = at(buffers[0], i0 * x_s0, float32)
        out = at(buffers[1], i0 * out_s0, float32)
        for i1 in range(n1):
            out[i1] = x[i1 + 1] - x[i1]
    return 0
"""


@pytest.fixture(autouse=True)
def fresh_process(tmp_path, monkeypatch):
    """Start as a process that knows no kernel, with a disk cache of its own."""
    monkeypatch.setattr(compiler, "_kernels", {})
    with settings.override(cache_dir=tmp_path / "cache"):
        yield


def call(kernel: compiler.CompiledKernel, arrays: list, ints=(0,), scalars=(0.0,), begin=0, end=None) -> int:
    buffers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    ints, scalars = np.array(ints, np.int64), np.array(scalars, np.float64)
    end = len(arrays[0]) if end is None else end
    return KERNEL(kernel.address)(ctypes.addressof(buffers), ints.ctypes.data, scalars.ctypes.data, begin, end)


def run_map(kernel: compiler.CompiledKernel, n: int = 100) -> None:
    x, out = np.linspace(-3.0, 5.0, n), np.zeros(n)
    assert call(kernel, [x, out], scalars=[2.0], begin=1, end=n - 1) == 0
    assert np.array_equal(out[1:-1], x[1:-1] * 2.0 + 1.0)  # times 2 is exact: contraction changes nothing
    assert out[0] == out[-1] == 0.0


def load_either(backend: str, symbol: str) -> compiler.CompiledKernel:
    if backend == "llvm":
        return compiler.load_kernel(llvm_map(symbol, "fadd double %w, 1.0"), symbol)
    return njit.load_source(NJIT_MAP.format(symbol=symbol), symbol, prelude=PRELUDE)


backends = pytest.mark.parametrize("backend", ["llvm", "njit"])


@backends
def test_compiled_then_reused_then_loaded(backend):
    start = counters()
    kernel = load_either(backend, "k_life")
    run_map(kernel)
    assert (kernel.origin, kernel.symbol, counters() - start) == ("compiled", "k_life", Counters(kernels_compiled=1))
    assert kernel.seconds > 0

    start = counters()
    assert load_either(backend, "k_life") is kernel
    assert counters() - start == Counters(kernels_reused=1)

    compiler.forget_kernels()
    start = counters()
    again = load_either(backend, "k_life")
    run_map(again)
    assert (again.origin, counters() - start) == ("loaded", Counters(kernels_loaded=1))
    run_map(kernel)


@backends
def test_inspection_of_a_loaded_kernel_leaves_the_counters_alone(backend):
    load_either(backend, "k_look")
    compiler.forget_kernels()
    kernel = load_either(backend, "k_look")
    start = counters()
    assert kernel.origin == "loaded"
    assert "ret" in kernel.assembly()
    assert "define" in kernel.llvm()
    assert "k_look" in kernel.source()
    assert counters() - start == Counters()


@backends
def test_loops_are_vectorised(backend):
    assembly = load_either(backend, "k_vector").assembly()
    assert re.search(r"[zy]mm\d|\bv\d+\.2d|\bz\d+\.d", assembly)


def test_rows_of_a_strided_array_are_vectorised_by_njit():
    kernel = njit.load_source(NJIT_ROWS, "k_rows", prelude=PRELUDE)
    x = np.arange(7 * 40, dtype=np.float32).reshape(7, 40)[::2, :33] ** 2
    x = np.lib.stride_tricks.as_strided(x, x.shape, x.strides)
    out = np.zeros((4, 50), np.float32)[:, :32]
    call(kernel, [x, out], ints=[32, x.strides[0], out.strides[0]], end=4)
    assert np.array_equal(out, x[:, 1:] - x[:, :-1])
    assert re.search(r"vsubps.*[zy]mm\d|fsub\s+v\d", kernel.assembly())


def test_one_text_under_two_settings_or_symbols_is_two_kernels():
    text = llvm_map("k_a")
    with settings.override(backend="llvm"):
        first = compiler.load_kernel(text, "k_a")
    with settings.override(backend="njit"):
        second = compiler.load_kernel(text, "k_a")
    assert first.key != second.key
    run_map(first)
    run_map(second)


def test_one_symbol_with_two_texts_is_two_kernels():
    plus = compiler.load_kernel(llvm_map("k_same", "fadd double %w, 1.0"), "k_same")
    minus = compiler.load_kernel(llvm_map("k_same", "fsub double %w, 1.0"), "k_same")
    run_map(plus)
    x, out = np.ones(3), np.zeros(3)
    call(minus, [x, out], scalars=[4.0])
    assert out.tolist() == [3.0, 3.0, 3.0]


def test_libm_resolves_when_compiled_and_when_loaded():
    text = llvm_map("k_fmod", "call double @fmod(double %w, double 3.0)")
    for origin in ("compiled", "loaded"):
        kernel = compiler.load_kernel(text, "k_fmod")
        x, out = np.linspace(-9, 9, 50), np.zeros(50)
        call(kernel, [x, out], scalars=[1.5])
        assert (kernel.origin, np.array_equal(out, np.fmod(x * 1.5, 3.0))) == (origin, True)
        compiler.forget_kernels()


@pytest.mark.parametrize("name", ["sin", "cos", "fmod", "pow", "sinf", "fmodf", "memcpy", "memset"])
def test_the_process_offers(name):
    assert loader.has_symbol(name)


def test_source_is_made_only_when_nobody_has_the_kernel():
    made = []

    def make_source() -> str:
        made.append(1)
        return llvm_map("k_lazy")

    for expected in (1, 1):
        kernel = compiler.load_kernel("canonical text", "k_lazy", make_source=make_source)
        assert len(made) == expected
    compiler.forget_kernels()
    kernel = compiler.load_kernel("canonical text", "k_lazy", make_source=make_source)
    assert (kernel.origin, len(made), kernel.text) == ("loaded", 1, "canonical text")
    assert kernel.source() == llvm_map("k_lazy")
    run_map(kernel)


BROKEN = [
    ("define", "k", "LLVM does not accept its text"),
    (llvm_map("k_other"), "k", "LLVM does not accept its text"),
    (llvm_map("k", "call double @no_such_thing(double %w, double 3.0)", "no_such_thing"), "k", "calls `no_such_thing`"),
    (llvm_map("k", "fadd float %w, 1.0"), "k", "LLVM does not accept its text"),
]


@pytest.mark.parametrize(("text", "symbol", "reason"), BROKEN)
def test_a_text_that_cannot_be_compiled_is_a_compile_error_and_changes_nothing(text, symbol, reason):
    start = counters()
    for _ in range(2):
        with pytest.raises(CompileError, match=f"kernel {symbol}: .*{reason}"):
            compiler.load_kernel(text, symbol)
    assert counters() - start == Counters()
    assert compiler.kernel_count() == 0
    assert disk.configured().entries() == []
    run_map(compiler.load_kernel(llvm_map("k"), "k"))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("x[i] * c", "no_such_name"),
        ("x[i] * c", '"text"'),
        ("at(buffers[1], 0, float64)", "at(buffers[1], 0, boolean)"),
    ],
    ids=["name", "type", "lowering"],
)
def test_source_that_numba_refuses_is_a_compile_error(good, bad):
    source = NJIT_MAP.format(symbol="k_bad").replace(good, bad).replace("+ 1.0", "> 0.0" if "boolean" in bad else "")
    with pytest.raises(CompileError, match="kernel k_bad: Numba does not accept its source"):
        njit.load_source(source, "k_bad", prelude=PRELUDE)


def test_generated_source_shows_in_inspect_and_tracebacks():
    source = "def k_python(x):\n    return 1 / x\n"
    function = njit.define(source, "k_python")
    assert inspect.getsource(function) == source
    with pytest.raises(ZeroDivisionError) as caught:
        function(0)
    assert "return 1 / x" in "".join(traceback.format_tb(caught.value.__traceback__))


def in_threads(number: int, work) -> list:
    """Run `work(i)` in `number` threads that start together, under the settings of this one; return the results."""
    results: list = [None] * number
    barrier = threading.Barrier(number)
    current = settings.active()

    def body(i: int) -> None:
        with settings.override(cache_dir=current.cache_dir, cache=current.cache):
            barrier.wait()
            results[i] = work(i)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_that_ask_for_one_text_compile_it_once():
    start = counters()
    kernels = in_threads(8, lambda _: compiler.load_kernel(llvm_map("k_one"), "k_one"))
    assert len({id(kernel) for kernel in kernels}) == 1
    assert counters() - start == Counters(kernels_compiled=1, kernels_reused=7)


def test_threads_that_ask_for_different_texts_get_their_own():
    start = counters()
    kernels = in_threads(6, lambda i: compiler.load_kernel(llvm_map(f"k_{i}"), f"k_{i}"))
    assert [kernel.symbol for kernel in kernels] == [f"k_{i}" for i in range(6)]
    for kernel in kernels:
        run_map(kernel)
    assert counters() - start == Counters(kernels_compiled=6)


def test_a_known_kernel_is_found_while_another_thread_compiles():
    known = compiler.load_kernel(llvm_map("k_known"), "k_known")
    compiling, found = threading.Event(), threading.Event()

    def make_source() -> str:
        compiling.set()
        assert found.wait(20)
        return llvm_map("k_slow")

    thread = threading.Thread(target=lambda: compiler.load_kernel("slow", "k_slow", make_source=make_source))
    thread.start()
    assert compiling.wait(20)
    assert compiler.load_kernel(llvm_map("k_known"), "k_known") is known
    found.set()
    thread.join()


def test_cache_off_writes_and_reads_nothing():
    with settings.override(cache=False):
        for _ in range(2):
            assert compiler.load_kernel(llvm_map("k_off"), "k_off").origin == "compiled"
            compiler.forget_kernels()
    assert disk.configured().entries() == []


DAMAGE = {
    "truncated": lambda content: content[:-7],
    "flipped": lambda content: content[:-20] + bytes([content[-20] ^ 1]) + content[-19:],
    "emptied": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_compiled_again(damage):
    compiler.load_kernel(llvm_map("k_hurt"), "k_hurt")
    (entry,) = disk.configured().entries()
    with open(entry.path, "rb") as file:
        content = file.read()
    with open(entry.path, "wb") as file:
        file.write(damage(content))
    compiler.forget_kernels()
    kernel = compiler.load_kernel(llvm_map("k_hurt"), "k_hurt")
    run_map(kernel)
    assert kernel.origin == "compiled"
    compiler.forget_kernels()
    assert compiler.load_kernel(llvm_map("k_hurt"), "k_hurt").origin == "loaded"


def test_object_code_that_does_not_link_is_a_miss():
    kernel = compiler.load_kernel(llvm_map("k_link"), "k_link")
    disk.configured().store(kernel.key, fingerprint.fingerprint(), b"k_link\nnot an object file")
    compiler.forget_kernels()
    again = compiler.load_kernel(llvm_map("k_link"), "k_link")
    assert again.origin == "compiled"
    run_map(again)


@pytest.mark.parametrize("part", ["cpu_features", "numba_version", "writers_hash"])
def test_another_cpu_version_or_writer_is_another_key(monkeypatch, part):
    key = fingerprint.kernel_key("text", "llvm k")
    monkeypatch.setattr(fingerprint, part, lambda: "another")
    fingerprint._fixed_part.cache_clear()
    changed = fingerprint.kernel_key("text", "llvm k")
    monkeypatch.undo()
    fingerprint._fixed_part.cache_clear()
    assert changed != key
    assert fingerprint.kernel_key("text", "llvm k") == key


def test_numba_version_is_known_without_importing_it():
    code = "from jitensor.runtime import fingerprint as f; import sys; print(f.numba_version(), 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import numba

    assert done.stdout.split() == [numba.__version__, "False"]


WARM = """
import sys
from jitensor.runtime import compiler
from jitensor.runtime.counters import counters
kernel = compiler.load_kernel(sys.stdin.read(), "k_warm")
print(kernel.origin, *counters()[1:4], "numba" in sys.modules)
"""


def test_a_second_process_loads_with_llvmlite_alone():
    environment = {**os.environ, "JITENSOR_CACHE_DIR": str(settings.active().cache_dir)}
    command = [sys.executable, "-c", WARM]
    said = [
        subprocess.run(command, input=llvm_map("k_warm"), env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout.split() for done in said] == [
        ["compiled", "1", "0", "0", "True"],
        ["loaded", "0", "1", "0", "False"],
    ]
    assert [done.stderr for done in said] == ["", ""]


def test_processes_that_compile_the_same_kernel_at_once_agree():
    environment = {**os.environ, "JITENSOR_CACHE_DIR": str(settings.active().cache_dir)}
    command = [sys.executable, "-c", WARM]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
    said = [process.communicate(llvm_map("k_warm")) for process in processes]
    assert all(out.startswith(("compiled 1 0", "loaded 0 1")) and not err for out, err in said)
    assert compiler.load_kernel(llvm_map("k_warm"), "k_warm").origin == "loaded"


def test_the_first_kernel_never_loads_numba_s_typing():
    code = WARM + "from numba.core.registry import cpu_target\nprint(len(cpu_target.typing_context._functions))"
    environment = {**os.environ, "JITENSOR_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=llvm_map("k_warm"),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # The registries hold thousands of functions once they are loaded.
    assert int(done.stdout.split()[-1]) < 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_compiles_on_its_own():
    compiler.load_kernel(llvm_map("k_parent"), "k_parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            start = counters()
            run_map(compiler.load_kernel(llvm_map("k_child"), "k_child"))
            run_map(compiler.load_kernel(llvm_map("k_parent"), "k_parent"))
            status = 0 if counters() - start == Counters(kernels_compiled=1, kernels_reused=1) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("backend", "stage", "kind"), [("llvm", "llvm", "ll"), ("njit", "source", "py")])
def test_texts_are_dumped_and_printed_when_asked_for(backend, stage, kind, tmp_path, capsys):
    with settings.override(dump=tmp_path / "dump", debug=stage):
        kernel = load_either(backend, "k_shown")
    assert kernel.source() in (tmp_path / "dump" / f"k_shown.{kind}").read_text()
    assert (tmp_path / "dump" / "k_shown.s").read_text() == kernel.assembly()
    printed = capsys.readouterr().err
    assert printed.startswith(f"[{stage}] symbol=k_shown text=")
    assert kernel.source() in printed


def test_compiling_is_an_event():
    with events.collect() as gathered:
        compiler.load_kernel(llvm_map("k_event"), "k_event")
    (event,) = [event for event in gathered if event.name == "compile"]
    assert (event.name, event.fields["symbol"], event.fields["origin"]) == ("compile", "k_event", "compiled")


def test_counters_are_an_immutable_snapshot_that_subtracts():
    before = jitensor.counters()
    tally.launches += 2
    tally.bytes_allocated += 800
    assert jitensor.counters() - before == Counters(launches=2, bytes_allocated=800)
    assert all(type(value) is int for value in before)
    with pytest.raises(AttributeError):
        before.launches = 3
    assert before._fields == (
        "traces",
        "kernels_compiled",
        "kernels_loaded",
        "kernels_reused",
        "launches",
        "library_calls",
        "bytes_allocated",
    )


def test_counts_of_all_threads_are_exact_also_after_they_end():
    before = counters()

    def work(_: int) -> None:
        for _ in range(20_000):
            tally.launches += 1

    for _ in range(2):
        in_threads(6, work)
        assert (counters() - before).launches % 120_000 == 0
    assert counters() - before == Counters(launches=240_000)


def test_matmul_counts_a_library_call():
    before = counters()
    a, b, out = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4), np.empty((2, 4))
    assert blas.matmul(a, b, out) is out
    assert np.array_equal(out, a @ b)
    assert counters() - before == Counters(library_calls=1)


def test_cblas_computes_when_it_is_found():
    address = blas.cblas_address("dgemm")
    if address is None:
        pytest.skip("NumPy brings no OpenBLAS here")
    i32, i64, f64, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    gemm = ctypes.CFUNCTYPE(None, i32, i32, i32, i64, i64, i64, f64, pointer, i64, pointer, i64, f64, pointer, i64)(
        address
    )
    a, b, out = np.random.rand(2, 3), np.random.rand(3, 4), np.empty((2, 4))
    plain = blas.NO_TRANSPOSE
    gemm(blas.ROW_MAJOR, plain, plain, 2, 4, 3, 1.0, a.ctypes.data, 3, b.ctypes.data, 4, 0.0, out.ctypes.data, 4)
    assert np.allclose(out, a @ b)
    assert blas.cblas_address("no_such_routine") is None
