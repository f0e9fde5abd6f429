"""Native entries of jt.function: what they serve, what they leave to Python, what they count and release."""

import gc
import logging
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings
from jitensor.runtime import entry

pytestmark = pytest.mark.skipif(bool(entry.why_not()), reason=f"no native entries here: {entry.why_not()}")


@pytest.fixture(autouse=True)
def native_calls():
    before = settings.active().entry
    settings.configure(entry="native")
    yield
    settings.configure(entry=before)


def native(function, *args):
    """The traced function after enough calls to have an entry for tensors like these."""
    traced = jt.function(function)
    for _ in range(4):
        traced(*args)
    assert traced._native is not None, [c.only_python for c in traced._state.table.values()]
    return traced


def python_calls(traced):
    return sum(c.calls for c in traced._state.table.values())


def test_results_are_tensors_like_those_of_the_python_path():
    x = jt.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    f = native(lambda a: (a * 2, jt.reduce_sum(a), jt.transpose(a) + 1, a > 2), x)
    before = python_calls(f)
    results = f(x)
    with settings.override(entry="python"):
        wanted = f(x)
    assert python_calls(f) == before + 1
    for a, b in zip(results, wanted, strict=True):
        assert type(a) is type(b) and a.shape == b.shape and a.dtype is b.dtype and a.device == b.device
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert repr(a) == repr(b)
    assert (results[0] + 1).numpy()[0, 0] == 3.0


def test_other_types_trace_as_ever():
    x = jt.constant([1.0, 2.0])
    f = native(lambda a, b: a + b, x, x)
    assert f.experimental_get_tracing_count() == 1
    assert f(jt.constant([1, 2]), jt.constant([3, 4])).numpy().tolist() == [4, 6]
    assert f(jt.ones([3]), jt.ones([3])).numpy().tolist() == [2, 2, 2]
    assert f(x, 1.0).numpy().tolist() == [2, 3]
    assert f(np.float32([5, 6]), x).numpy().tolist() == [6, 8]
    assert f.experimental_get_tracing_count() == 4
    with pytest.raises(TypeError):
        f(x)
    with pytest.raises(ValueError):
        f(x, jt.ones([3]))
    assert f(x, x).numpy().tolist() == [2, 4]


def test_calls_inside_a_trace_are_recorded():
    x = jt.constant([1.0, 2.0])
    inner = native(lambda a: a * 3, x)
    outer = jt.function(lambda a: inner(a) + inner(x))
    for _ in range(4):
        assert outer(x).numpy().tolist() == [6, 12]


def test_eager_mode_runs_python():
    seen = []

    def f(a):
        seen.append(1)
        return a + 1

    x = jt.constant([1.0])
    g = native(f, x)
    count = len(seen)
    jt.config.run_functions_eagerly(True)
    try:
        g(x)
        assert len(seen) == count + 1
    finally:
        jt.config.run_functions_eagerly(False)
    g(x)
    assert len(seen) == count + 1


def test_untraced_native_calls_dilute_the_warning(caplog):
    def diluted(a):
        return a

    f = jt.function(lambda a: diluted(a) + 1)
    with caplog.at_level(logging.WARNING):
        for n in range(8):
            x = jt.ones([n + 1])
            for _ in range(12):
                f(x)
    assert not [r for r in caplog.records if "retracing" in r.getMessage()]


def test_counters():
    x = jt.constant([1.0, 2.0])
    f = native(lambda a: a + 1, x)
    before = jt.counters()
    for _ in range(10):
        f(x)
    spent = jt.counters() - before
    assert (spent.launches, spent.bytes_allocated, spent.traces) == (10, 80, 0)


def test_nothing_leaks():
    x = jt.constant([1.0, 2.0, 3.0])
    f = native(lambda a: (a + 1, a * 2), x)
    references = sys.getrefcount(x), sys.getrefcount(x.dtype), sys.getrefcount(type(x))
    tracemalloc.start()
    try:
        f(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100_000):
            f(x)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    after = sys.getrefcount(x), sys.getrefcount(x.dtype), sys.getrefcount(type(x))
    assert all(abs(a - b) <= 4 for a, b in zip(after, references, strict=True))


def test_methods_and_collection():
    class Model:
        def __init__(self, k):
            self.k = k

        @jt.function
        def scaled(self, a):
            return a * self.k

    x = jt.constant([1.0, 2.0])
    first, second = Model(2.0), Model(3.0)
    for _ in range(5):
        assert first.scaled(x).numpy().tolist() == [2, 4]
        assert second.scaled(x).numpy().tolist() == [3, 6]
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert second.scaled(x).numpy().tolist() == [3, 6]
