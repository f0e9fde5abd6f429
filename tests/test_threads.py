"""Kernels on several threads: the same bits on any number, what is shared, fork, signals, idle workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings
from jitensor.runtime import threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels run on one thread elsewhere")
RANDOM = np.random.default_rng(5)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def centre(x):
    return x - np.mean(x)


def several(x):
    return np.sum(x), np.max(x), np.argmin(x), np.any(x > 3)


def normal(*shape, dtype=np.float64):
    return RANDOM.normal(size=shape).astype(dtype)


# Functions with arguments large enough to be shared.
SHARED = {
    "map": (lambda x, y: np.exp(x) * y + x, normal(300_001), normal(300_001)),
    "map of float32": (lambda x: np.tanh(x) * x, normal(700_001, dtype=np.float32)),
    "map with a slow path": (lambda x: np.sin(x * 1e6), normal(200_003) * 1e3),
    "map over rows": (lambda x, y: np.exp(x) + y[:, None], normal(500, 703)[:, ::2], normal(500)),
    "movement": (lambda x: x.T + 0.0, normal(901, 800)),
    "rows": (lambda x: np.sum(np.exp(x), axis=1), normal(700, 333)),
    "softmax of rows": (softmax, normal(400, 777)),
    "columns": (lambda x: np.sum(np.exp(x), axis=0), normal(333, 1500)),
    "short rows": (lambda x: np.sqrt(np.sum(x * x, axis=1)) * np.exp(x[:, 0]), normal(200_000, 3)),
    "sum": (lambda x: np.sum(x), normal(1_000_001)),
    "sum of float32": (lambda x: np.sum(np.exp(x)), normal(400_001, dtype=np.float32)),
    "complex sum": (lambda x: np.sum(x * np.exp(x.real)), normal(100_001) + 1j * normal(100_001)),
    "mean of squares": (lambda x: np.mean(np.exp(x) * x), normal(200_001)),
    "variance": (lambda x: np.var(np.exp(x)), normal(160_001)),
    "centred": (lambda x: centre(np.exp(x)), normal(160_001)),
    "centred in two dimensions": (lambda x: centre(np.exp(x)), normal(333, 903)[:, ::2]),
    "several sums": (lambda x: several(np.exp(x)), normal(160_001)),
}


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.fixture(autouse=True)
def own_number():
    yield
    jt.set_num_threads(0)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("entry", ["native", "python"])
def test_the_same_bits_on_any_number_of_threads(name, entry):
    function, *arguments = SHARED[name]
    jitted = jt.jit(function)
    expected = parts(function(*arguments))
    results = []
    for count in (1, 2, 3, 7):
        jt.set_num_threads(count)
        before = threads.stats()
        for _ in range(4):  # the last by the native entry
            if entry == "python":
                with settings.override(entry="python"):
                    result = parts(jitted(*arguments))
            else:
                result = parts(jitted(*arguments))
            results.append(result)
        shared = threads.stats()["shared_launches"] - before["shared_launches"]
        assert (shared > 0) == (count > 1)
    for wanted, found in zip(expected, results[0], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5 if wanted.dtype.itemsize == 4 else 1e-8)
    for result in results[1:]:
        for first, other in zip(results[0], result, strict=True):
            assert first.dtype == other.dtype
            assert first.tobytes() == other.tobytes()


@pytest.mark.parametrize("size", [32_767, 32_768, 32_769, 49_152, 49_153, 100_000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8, np.float16, np.bool_, np.complex128])
def test_full_reductions_around_the_size_of_chunks(size, dtype):
    x = (RANDOM.normal(size=size) * 50).astype(dtype) if dtype is not np.bool_ else RANDOM.random(size) > 0.5
    functions = (lambda x: np.sum(x), lambda x: np.max(x), lambda x: np.argmax(x), lambda x: np.any(x))
    for function in functions:
        found, wanted = jt.jit(function)(x), function(x)
        tolerance = {"f": {8: 1e-12, 4: 1e-4, 2: 2e-2}, "c": {16: 1e-12}}.get(wanted.dtype.kind, {})
        np.testing.assert_allclose(found, wanted, rtol=tolerance.get(wanted.dtype.itemsize, 0), atol=0.02)


@pytest.mark.parametrize("place", [0, 16_383, 16_384, 40_000, 99_999])
def test_places_of_extremes_across_chunks(place):
    x = np.full(100_000, -np.inf)
    argmax, argmin = jt.jit(lambda x: np.argmax(x)), jt.jit(lambda x: np.argmin(x))
    assert argmax(x) == 0
    x[place] = 1.0
    assert argmax(x) == place
    assert argmin(x) == (1 if place == 0 else 0)
    x[place:] = np.nan
    assert argmax(x) == argmin(x) == place
    assert np.isnan(jt.jit(lambda x: np.max(x))(x))


def test_a_sum_keeps_its_accuracy_across_chunks():
    x = np.concatenate([np.full(100_000, 1.0), [1e17], np.full(100_000, 1.0), [-1e17]])
    # Within a block of 512 elements the ones beside 1e17 are lost, nowhere else.
    assert abs(jt.jit(lambda x: np.sum(x))(x) - 200_000.0) <= 1024


def test_a_shared_launch_counts_once():
    f = jt.jit(lambda x: np.var(np.exp(x)))
    x = normal(200_000)
    f(x)
    before = jt.counters()
    f(x)
    assert (jt.counters() - before).launches == 1


def test_one_kernel_serves_sums_of_every_size():
    f = jt.jit(lambda x: np.sum(np.cos(x) * 0.37))
    before = jt.counters()
    for size in (2, 100, 32_768, 32_769, 1_000_000):
        x = normal(size)
        for _ in range(3):
            np.testing.assert_allclose(f(x), np.sum(np.cos(x) * 0.37), rtol=1e-10, atol=1e-10)
    found = jt.counters() - before
    assert (found.traces, found.kernels_compiled + found.kernels_loaded) == (1, 1)
    assert f(np.empty(0)) == 0


def test_small_launches_stay_on_their_thread():
    f = jt.jit(lambda x: x + 1.0)
    x = normal(1000)
    before = threads.stats()
    for _ in range(10):
        f(x)
    assert threads.stats() == before


def test_writes_that_depend_on_order_stay_on_their_thread():
    def shift(x, y):
        x[1:] = np.exp(y[1:])
        x[:-1] = np.exp(y[:-1]) * 2
        return x + x[::-1]

    y = normal(200_000)
    wanted, found = np.zeros_like(y), np.zeros_like(y)
    np.testing.assert_allclose(jt.jit(shift)(found, y), shift(wanted, y), rtol=1e-12)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_in_place_on_several_threads():
    def update(x, y):
        x *= np.exp(y)
        x += 1.0

    y = normal(300_000)
    wanted = normal(300_000)
    found = wanted.copy()
    f = jt.jit(update)
    for _ in range(4):
        f(found, y)
        update(wanted, y)
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


# How many -----------------------------------------------------------------------------------------


def test_set_num_threads():
    jt.set_num_threads(3)
    assert jt.get_num_threads() == 3
    with settings.override(num_threads=1):
        assert jt.get_num_threads() == 1
    jt.set_num_threads(0)
    assert jt.get_num_threads() == len(os.sched_getaffinity(0)) or "OMP_NUM_THREADS" in os.environ
    with pytest.raises(jt.errors.SettingError, match="NUM_THREADS"):
        jt.set_num_threads(-1)


def number_in_a_process(code="", **environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "JITENSOR_NUM_THREADS")}
    program = f"{code}\nimport jitensor as jt\nprint(jt.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_the_environment_and_the_affinity_mask_decide():
    cores = len(os.sched_getaffinity(0))
    assert number_in_a_process() == cores
    assert number_in_a_process(JITENSOR_NUM_THREADS="5") == 5
    assert number_in_a_process(OMP_NUM_THREADS="1") == 1
    assert number_in_a_process(OMP_NUM_THREADS="64") == cores
    assert number_in_a_process("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})") == 1


LIMITS = """
import numpy as np
import threadpoolctl
import jitensor as jt
jt.jit(lambda x: x + 1)(np.ones(3))
count = jt.get_num_threads()
with threadpoolctl.threadpool_limits(1):
    assert jt.get_num_threads() == 1
assert jt.get_num_threads() == count
with threadpoolctl.threadpool_limits(3, user_api="jitensor"):
    assert jt.get_num_threads() == 3
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    assert jt.get_num_threads() == count
assert [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "jitensor"] == [count]
"""


def test_limits_of_threadpoolctl():
    pytest.importorskip("threadpoolctl")
    environment = os.environ | {"PYTHONPATH": str(Path(jt.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


# Workers ------------------------------------------------------------------------------------------


def worker_ids():
    """The threads of this process that Python does not know."""
    known = {t.native_id for t in threading.enumerate()}
    return [int(t) for t in os.listdir("/proc/self/task") if int(t) not in known]


def run_shared(count=2):
    jt.set_num_threads(count)
    f = jt.jit(lambda x: np.exp(x) * 2)
    x = normal(400_000)
    np.testing.assert_allclose(f(x), np.exp(x) * 2, rtol=1e-13)


def test_workers_sleep_and_take_no_signals():
    run_shared()
    named = {t: Path(f"/proc/self/task/{t}/wchan").exists() for t in worker_ids()}
    assert named
    for worker in named:
        status = Path(f"/proc/self/task/{worker}/status").read_text()
        blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
        if blocked >> (signal.SIGINT - 1) & 1:  # ours; other libraries have theirs
            break
    else:
        raise AssertionError("no worker blocks signals")

    def ticks():
        fields = Path(f"/proc/self/task/{worker}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.2)
    assert ticks() - before <= 1


def test_calls_from_many_threads_at_once():
    jt.set_num_threads(2)
    f = jt.jit(lambda x: np.sum(np.exp(x)) + np.exp(x))
    x = normal(150_000)
    wanted = f(x).tobytes()
    wrong = []
    barrier = threading.Barrier(6)

    def call():
        barrier.wait()
        for _ in range(15):
            if f(x).tobytes() != wanted:
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert not wrong


FORK = """
import os, sys
import numpy as np
import jitensor as jt
from jitensor.runtime import threads

jt.set_num_threads(2)
f = jt.jit(lambda x: np.exp(x) * 2)
x = np.random.default_rng(0).normal(size=400_000)
wanted = f(x).tobytes()
assert threads.stats()["workers"] == 1
child = os.fork()
before = threads.stats()["shared_launches"]
if child == 0:
    assert threads.stats() == {"workers": 0, "shared_launches": 0, "helped_chunks": 0}
jt.set_num_threads(2)
for _ in range(5):
    assert f(x).tobytes() == wanted
assert threads.stats()["workers"] == 1 and threads.stats()["shared_launches"] > before * (child != 0)
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


def test_a_forked_child_starts_workers_of_its_own():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


PROCESSES = """
import multiprocessing, sys
import numpy as np
import jitensor as jt

def work(seed):
    x = np.random.default_rng(seed).normal(size=300_000)
    return float(jt.jit(lambda x: np.sum(np.exp(x)))(x)), float(np.sum(np.exp(x)))

if __name__ == "__main__":
    work(0)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        for ours, theirs in pool.map(work, range(4)):
            assert abs(ours - theirs) < 1e-9 * theirs
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_multiprocessing(method, tmp_path):
    program = tmp_path / "processes.py"
    program.write_text(PROCESSES)
    environment = os.environ | {"PYTHONPATH": str(Path(jt.__file__).parents[1])}
    subprocess.run([sys.executable, str(program), method], check=True, timeout=120, env=environment)
