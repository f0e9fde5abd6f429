"""Many threads, one compiler: one trace and one compilation for a new signature, no waiting for known ones."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings
from jitensor.runtime import compiler, njit

CALLERS = 8


@pytest.fixture(autouse=True)
def switch_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(function, count=CALLERS):
    """What `function(i)` gives in each of `count` threads that start together."""
    barrier = threading.Barrier(count)
    results = [None] * count

    def run(i):
        barrier.wait()
        try:
            results[i] = function(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def distinct(k, seed):
    """A jitted function whose kernel no other test compiles."""
    powers = [float(p) for p in np.random.default_rng(seed).integers(2, 10**6, size=3 + k)]

    def f(x):
        for p in powers:
            x = np.sqrt(x * x + p) if p % 2 else np.arctan(x - p)
        return x

    return jt.jit(f)


@pytest.mark.parametrize("size", [4, 200_000])
@pytest.mark.parametrize("seed", range(4))
def test_a_new_signature_is_traced_and_compiled_once(size, seed):
    f = distinct(seed, 100 + seed + size)
    x = np.linspace(0.1, 1, size)
    before = jt.counters()
    results = at_once(lambda i: f(x))
    found = jt.counters() - before
    assert (found.traces, found.kernels_compiled + found.kernels_loaded) == (1, 1)
    for result in results:
        np.testing.assert_allclose(result, f.__wrapped__(x), rtol=1e-9)
        assert result.tobytes() == results[0].tobytes()


def test_new_signatures_of_one_function_at_once():
    f = distinct(1, 300)
    dtypes = [np.float64, np.float32] * (CALLERS // 2)
    before = jt.counters()
    results = at_once(lambda i: f(np.linspace(0, 1, 50 + i % 2, dtype=dtypes[i])))
    found = jt.counters() - before
    assert found.traces == 2
    assert found.kernels_compiled + found.kernels_loaded == 2
    assert [r.dtype for r in results] == dtypes


def test_one_kernel_text_from_two_functions_is_compiled_once():
    functions = [distinct(2, 400) for _ in range(CALLERS)]
    x = np.linspace(0, 1, 77)
    before = jt.counters()
    at_once(lambda i: functions[i](x))
    found = jt.counters() - before
    assert found.traces == CALLERS
    assert found.kernels_compiled + found.kernels_loaded == 1


def test_jt_function_traces_once():
    @jt.function
    def f(x):
        return jt.sqrt(x * x + 31.0) * jt.tanh(x)

    x = jt.constant(np.linspace(0, 1, 33))
    before = jt.counters()
    results = at_once(lambda i: f(x).numpy())
    assert (jt.counters() - before).traces == 1
    for result in results:
        assert result.tobytes() == results[0].tobytes()


def test_known_signatures_do_not_wait_for_a_compilation(monkeypatch):
    known = jt.jit(lambda x: x * 3.25 + 1.0)
    x = np.ones(10)
    for _ in range(5):
        known(x)
    compiling, may_go_on = threading.Event(), threading.Event()
    module, name = (compiler, "compile_llvm") if settings.active().backend == "llvm" else (njit, "compile_source")
    compile_ = getattr(module, name)

    def slowly(*args):
        compiling.set()
        assert may_go_on.wait(60)
        return compile_(*args)

    monkeypatch.setattr(module, name, slowly)
    new = distinct(3, 500)
    caller = threading.Thread(target=new, args=(np.ones(10),))
    caller.start()
    try:
        assert compiling.wait(60)
        for _ in range(20):  # would hang if it waited: the compilation goes on only after this
            np.testing.assert_array_equal(known(x), x * 3.25 + 1.0)
        assert caller.is_alive()
    finally:
        may_go_on.set()
        caller.join()


def test_calls_while_native_entries_are_installed():
    """Sizes and dtypes in turn from many threads: entries come and go meanwhile."""
    f = jt.jit(lambda x, y: x * y - 2.0)
    arrays = [np.arange(1.0, n + 1).astype(d) for n in (2, 3, 50) for d in (np.float64, np.float32)]

    def run(i):
        for k in range(200):
            a = arrays[(i + k) % len(arrays)]
            assert f(a, a).tobytes() == (a * a - a.dtype.type(2)).tobytes()

    at_once(run)


def test_large_results_dropped_by_many_threads():
    f = jt.jit(lambda x, k: x + k)
    x = np.zeros(100_000)

    def run(i):
        for k in range(50):
            result = f(x, float(i * 1000 + k))
            assert result[0] == result[-1] == i * 1000 + k

    at_once(run)


def test_thread_pool_executor_and_asyncio():
    f = jt.jit(lambda x: np.sum(x * x))
    x = np.arange(1000.0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda k: float(f(x)), range(50))) == {float(np.sum(x * x))}

    async def many():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*[loop.run_in_executor(None, f, x) for _ in range(20)])

    assert {float(r) for r in asyncio.run(many())} == {float(np.sum(x * x))}


def test_joblib():
    joblib = pytest.importorskip("joblib")
    x = np.arange(1000.0)
    f = jt.jit(lambda x, k: x * k)
    for prefer in ("threads", "processes"):
        found = joblib.Parallel(2, prefer=prefer)(joblib.delayed(_scaled)(x, k) for k in range(4))
        for k, result in enumerate(found):
            np.testing.assert_array_equal(result, f(x, k))


def _scaled(x, k):
    return jt.jit(lambda x, k: x * k)(x, k)


CACHE = """
import sys
import numpy as np
import jitensor as jt
sys.stdin.readline()
total = 0.0
for k in range(4):
    f = jt.jit(lambda x, k=k: np.exp(x) * k + np.sqrt(x + k) if k % 2 else np.tanh(x) - np.log(x + 1.5) * x)
    total += float(f(np.linspace(0, 1, 100)).sum())
c = jt.counters()
print(repr(total), c.kernels_compiled + c.kernels_loaded + c.kernels_reused)
"""


def test_processes_share_a_disk_cache(tmp_path):
    environment = os.environ | {"JITENSOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(jt.__file__).parents[1])}
    command = [sys.executable, "-c", CACHE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
    answers = [p.communicate("go\n", timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0] * 3, [a[1] for a in answers]
    assert len({a[0] for a in answers}) == 1
    later = subprocess.run(command, env=environment, input="go\n", capture_output=True, text=True, check=True)
    assert later.stdout == answers[0][0]
