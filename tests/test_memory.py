"""Memory of large results: blocks that dropped results leave serve the next ones, within a limit; others stay."""

import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy._core.multiarray import get_handler_name

import jitensor as jt
from jitensor import settings
from jitensor.runtime import memory

pytestmark = pytest.mark.skipif(not memory.is_used(), reason="results come from NumPy's allocator here")
LARGE = memory.LARGE // 8  # elements of the smallest large float64 result


@pytest.fixture(autouse=True)
def clean():
    gc.collect()
    jt.empty_cache()
    yield
    settings.configure(memory_limit="default")
    jt.empty_cache()


@pytest.fixture(params=["native", "python"])
def add(request):
    """A jitted sum whose calls take the native or the Python path."""
    f = jt.jit(lambda x, k: x + k)
    with settings.override(entry=request.param):
        for _ in range(4):
            f(np.zeros(3), 1.0)
        yield f


def test_a_dropped_result_serves_the_next_one(add):
    x = np.zeros(LARGE)
    add(x, 1.0)
    before = jt.memory_stats()
    for k in range(10):
        result = add(x, float(k))
        assert result[0] == result[-1] == k
        del result
    after = jt.memory_stats()
    assert (after.allocations - before.allocations, after.reuses - before.reuses) == (0, 10)
    assert after.in_use == before.in_use and after.cached == before.cached > 0


def test_results_that_live_keep_their_memory(add):
    x = np.zeros(LARGE)
    kept = [add(x, float(k)) for k in range(5)]
    views = [r[1::3] for r in kept]
    del kept
    for k in range(5):
        add(x, 100.0 + k)
    for k, view in enumerate(views):
        assert view[0] == view[-1] == k


def test_arrays_are_like_any_other(add):
    result = add(np.zeros(LARGE), 1.0)
    assert result.flags.owndata and result.flags.writeable and result.base is None
    assert result.ctypes.data % 64 == 0
    assert get_handler_name(result) == "jitensor"
    assert get_handler_name() == get_handler_name(np.zeros(10**6)) != "jitensor"
    result.resize(10, refcheck=False)
    result.resize(3 * LARGE, refcheck=False)
    assert result[0] == 1 and result[-1] == 0
    assert result.nbytes == 3 * LARGE * 8


def test_small_results_are_numpys(add):
    assert get_handler_name(add(np.zeros(LARGE - 1), 1.0)) != "jitensor"


def test_slightly_smaller_results_use_a_block_too(add):
    add(np.zeros(4 * LARGE), 1.0)
    before = jt.memory_stats()
    add(np.zeros(4 * LARGE - 900), 1.0)
    assert jt.memory_stats().reuses == before.reuses + 1
    add(np.zeros(2 * LARGE), 1.0)  # would waste half of it
    assert jt.memory_stats().reuses == before.reuses + 1


def test_the_limit_holds(add):
    settings.configure(memory_limit=3 * 8 * LARGE + 4096 * 4)
    results = [add(np.zeros(LARGE), float(k)) for k in range(6)]
    del results
    assert 2 * 8 * LARGE < jt.memory_stats().cached <= 3 * 8 * LARGE + 4096 * 4
    settings.configure(memory_limit=8 * LARGE)
    assert jt.memory_stats().cached <= 8 * LARGE
    add(np.zeros(4 * LARGE), 1.0)
    assert jt.memory_stats().cached <= 8 * LARGE


def test_many_blocks_do_not_run_over_the_places(add):
    settings.configure(memory_limit="1G")
    results = [add(np.zeros(LARGE + 1000 * k), float(k)) for k in range(100)]
    for k, result in enumerate(results):
        assert result[0] == result[-1] == k
    del results, result
    gc.collect()
    assert jt.memory_stats().in_use == 0
    again = [add(np.zeros(LARGE + 1000 * k), float(k)) for k in range(100)]
    for k, result in enumerate(again):
        assert result[0] == result[-1] == k


def test_limit_zero_leaves_everything_to_numpy(add):
    settings.configure(memory_limit=0)
    before = jt.memory_stats()
    result = add(np.zeros(LARGE), 1.0)
    assert get_handler_name(result) != "jitensor"
    assert jt.memory_stats() == before
    settings.configure(memory_limit="default")
    assert get_handler_name(add(np.zeros(LARGE), 1.0)) == "jitensor"


def test_empty_cache_gives_memory_back(add):
    add(np.zeros(LARGE), 1.0)
    assert jt.memory_stats().cached > 0
    jt.empty_cache()
    assert jt.memory_stats().cached == 0


def test_too_large_a_result_is_a_memory_error():
    outer = jt.jit(lambda x, y: x[:, None] + y)
    outer(np.zeros(10), np.zeros(10))
    x = np.zeros(1 << 22)
    with pytest.raises(MemoryError):
        outer(np.broadcast_to(x[:1], (1 << 25,)), np.broadcast_to(x[:1], (1 << 25,)))
    np.testing.assert_array_equal(outer(np.zeros(3), np.ones(2)), np.ones((3, 2)))


def test_tracemalloc_sees_results(add):
    x = np.zeros(4 * LARGE)
    add(x, 1.0)
    tracemalloc.start()
    try:
        result = add(x, 1.0)
        assert tracemalloc.get_traced_memory()[0] >= result.nbytes
        del result
        assert tracemalloc.get_traced_memory()[0] < x.nbytes
    finally:
        tracemalloc.stop()


def test_memory_stays_constant_over_many_calls():
    f = jt.jit(lambda x: np.sqrt(x) + 1.0)
    x = np.ones(2 * LARGE)
    for _ in range(5):
        f(x)
    before = jt.memory_stats()
    for _ in range(300):
        f(x)
    after = jt.memory_stats()
    assert (after.in_use, after.cached, after.allocations) == (before.in_use, before.cached, before.allocations)


def products(x, w):
    a = np.tanh(x @ w)
    b = np.tanh(a @ w)
    c = np.tanh(b @ w)
    return np.tanh(c @ w)


def products_kept(x, w):
    a = x @ w
    b = a @ w
    c = b @ w
    return c @ w + a, c


@pytest.mark.parametrize(("function", "blocks"), [(products, 2), (products_kept, 3)])
def test_temporaries_share_memory(function, blocks):
    f = jt.jit(function)
    x, w = np.random.default_rng(0).normal(size=(2, 40, 40)) / 10
    before = jt.counters()
    found = f(x, w)
    assert (jt.counters() - before).bytes_allocated == blocks * x.nbytes
    for _ in range(5):
        for ours, theirs in zip(found, function(x, w), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10)
        found = f(x, w)


FORK = """
import os, sys
import numpy as np
import jitensor as jt
f = jt.jit(lambda x, k: x + k)
x = np.zeros(100_000)
kept = f(x, 1.0)
f(x, 2.0)
child = os.fork()
for k in range(5):
    result = f(x, float(k + 10 * (child == 0)))
    assert result[0] == result[-1] == k + 10 * (child == 0)
assert kept[0] == kept[-1] == 1
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


def test_after_a_fork():
    environment = os.environ | {"PYTHONPATH": str(Path(jt.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60, env=environment)
