"""jt.function reaches fused kernels: launches, bytes and compilations per function, counted exactly."""

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings

pytestmark = pytest.mark.skipif(settings.active().disable_jit, reason="JITENSOR_DISABLE_JIT is on: nothing is compiled")


def layer_norm(x, scale, shift):
    mean, variance = jt.nn.moments(x, [-1], keepdims=True)
    return (x - mean) / jt.sqrt(variance + 1e-5) * scale + shift


FUSED = {
    "softmax": (lambda x, y: jt.nn.softmax(x), 64 * 32 * 4),
    "mean squared error": (lambda x, y: jt.reduce_mean((x - y) ** 2), 4),
    "variance of rows": (lambda x, y: jt.math.reduce_variance(x, 1), 64 * 4),
    "variance of columns": (lambda x, y: jt.math.reduce_variance(x, 0), 32 * 4),
    "gelu": (lambda x, y: jt.nn.gelu(x, approximate=True), 64 * 32 * 4),
    "logsumexp": (lambda x, y: jt.reduce_logsumexp(x, 1), 64 * 4),
    "layer norm": (lambda x, y: layer_norm(x, y[0], y[1]), 64 * 32 * 4),
    "two outputs": (lambda x, y: (x * y, x + y), 2 * 64 * 32 * 4),
}


@pytest.mark.parametrize("name", FUSED)
def test_one_kernel_that_allocates_only_its_outputs(name):
    body, size = FUSED[name]
    f = jt.function(body)
    arguments = jt.ones([64, 32]), jt.zeros([64, 32])
    f(*arguments)
    before = jt.counters()
    f(*arguments)
    counted = jt.counters() - before
    assert (counted.launches, counted.library_calls, counted.bytes_allocated) == (1, 0, size)


def test_a_dense_layer_is_one_library_call_and_one_epilogue():
    f = jt.function(lambda x, w, b: jt.nn.relu(x @ w + b))
    arguments = jt.ones([8, 4]), jt.ones([4, 2]), jt.zeros([2])
    f(*arguments)
    before = jt.counters()
    f(*arguments)
    counted = jt.counters() - before
    assert (counted.launches, counted.library_calls, counted.bytes_allocated) == (1, 1, 8 * 2 * 4)


def test_a_new_size_or_number_is_a_trace_and_compiles_nothing():
    f = jt.function(lambda x, k: jt.sin(x * k) + 1.0)
    f(jt.ones([100]), 2.0)
    before = jt.counters()
    f(jt.ones([101]), 2.0), f(jt.ones([100]), 2.5), jt.function(lambda x: jt.sin(x * 7.0) + 4.0)(jt.ones([9]))
    counted = jt.counters() - before
    assert (counted.traces, counted.kernels_compiled, counted.kernels_loaded) == (3, 0, 0)


def test_a_new_size_of_a_trace_with_unknown_sizes_compiles_nothing():
    f = jt.function(lambda x: jt.cos(x) * 3.0, input_signature=[jt.TensorSpec([None])])
    f(jt.ones([100]))
    before = jt.counters()
    np.testing.assert_allclose(np.asarray(f(jt.ones([50]))), np.cos(np.float32(1)) * 3, rtol=1e-6)
    counted = jt.counters() - before
    assert (counted.traces, counted.kernels_compiled, counted.launches) == (0, 0, 1)


def test_explain_and_kernels():
    f = jt.function(lambda x, n: jt.tanh(x) * n + 1.0)
    x = jt.ones([4, 3])
    before = jt.counters()
    told = f.explain(x, 2.0)
    assert told.decision == "trace" and told.signature == "<lambda>(x: f32[4, 3], n: 2.0)" and len(told.kernels) == 1
    assert jt.counters() == before and f.experimental_get_tracing_count() == 0 and f.kernels() == []
    f(x, 2.0)
    before = jt.counters()
    told = f.explain(x, 2.0)
    assert told.decision == "hit" and told.kernels[0].origin in ("compiled", "loaded")
    told = f.explain(jt.TensorSpec([8, 3]), 2.0)
    assert told.decision == "trace" and "x was f32[4, 3], now f32[8, 3]" in told.reason
    assert "multiply" in str(told) and "def " in told.kernels[0].source
    assert jt.counters() == before and f.experimental_get_tracing_count() == 1 and len(f.kernels()) == 1


def test_explain_with_unknown_sizes():
    f = jt.function(lambda x: jt.sinh(x) * 2.0, input_signature=[jt.TensorSpec([None])])
    assert f.explain(jt.ones([5])).kernels[0].origin is None
    f(jt.ones([5]))
    assert f.explain(jt.ones([5])).kernels[0].origin in ("compiled", "loaded") and len(f.kernels()) == 1
    with pytest.raises(ValueError, match="known sizes"):
        f.explain(jt.TensorSpec([None]))
