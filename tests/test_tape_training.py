"""Training steps as one traced function: forward, backward and update in one program, in place."""

import itertools

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings


def digits():
    """Images of 8 x 8 in [0, 1] and labels: scikit-learn's where it is installed, else blobs around random centres."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 10, 1797)
        images = rng.random((10, 64))[labels] + 0.1 * rng.standard_normal((1797, 64))
        return images.astype(np.float32), labels.astype(np.int32)
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))  # by writer otherwise
    return (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.int32)


def test_linear_regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3)).astype(np.float32)
    truth = np.array([[1.0], [-2.0], [0.5]], np.float32)
    y = x @ truth + 3.0
    w, b = jt.Variable(np.zeros((3, 1), np.float32)), jt.Variable([0.0])

    @jt.function
    def step(x, y):
        with jt.GradientTape() as tape:
            loss = jt.reduce_mean((x @ w + b - y) ** 2)
        dw, db = tape.gradient(loss, [w, b])
        w.assign_sub(0.1 * dw)
        b.assign_sub(0.1 * db)
        return loss

    x, y = jt.constant(x), jt.constant(y)
    losses = [float(step(x, y)) for _ in range(150)]
    assert losses[-1] < 1e-6 < losses[0] and step.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(w.numpy(), truth, atol=1e-3)
    np.testing.assert_allclose(b.numpy(), [3.0], atol=1e-3)


class Classifier(jt.Module):
    def __init__(self, sizes, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        shapes = list(itertools.pairwise(sizes))
        self.weights = [jt.Variable((rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32)) for s in shapes]
        self.biases = [jt.Variable(np.zeros(n, np.float32)) for n in sizes[1:]]

    def __call__(self, x):
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jt.nn.relu(x @ w + b)
        return x @ self.weights[-1] + self.biases[-1]


def make_step(model, rate=0.5):
    @jt.function
    def step(x, labels):
        with jt.GradientTape() as tape:
            losses = jt.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x))
            loss = jt.reduce_mean(losses)
        parameters = model.trainable_variables
        for p, g in zip(parameters, tape.gradient(loss, parameters), strict=True):
            p.assign_sub(rate * g)
        return loss

    return step


def test_a_classifier_of_digits():
    images, labels = digits()
    model = Classifier([64, 32, 10])
    step = make_step(model)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(8):
        order = rng.permutation(1500)
        for i in range(0, 1472, 32):
            batch = order[i : i + 32]
            losses.append(float(step(images[batch], labels[batch])))
    assert step.experimental_get_tracing_count() == 1
    assert np.mean(losses[-40:]) < 0.2 * np.mean(losses[:10])
    found = jt.argmax(jt.function(model.__call__)(jt.constant(images[1500:])), 1).numpy()
    assert np.mean(found == labels[1500:]) > 0.9


@pytest.mark.skipif(settings.active().disable_jit, reason="JITENSOR_DISABLE_JIT is on: nothing is compiled")
def test_a_step_is_one_program_that_does_not_grow():
    images, labels = digits()
    model = Classifier([64, 32, 10])
    step = make_step(model)
    x, y = jt.constant(images[:32]), jt.constant(labels[:32])
    for _ in range(3):
        step(x, y)
    where = [np.asarray(p).ctypes.data for p in model.trainable_variables]
    counts = []
    for _ in range(3):
        before = jt.counters()
        step(x, y)
        counts.append(jt.counters() - before)
    assert counts[0] == counts[1] == counts[2]
    assert (counts[0].traces, counts[0].kernels_compiled) == (0, 0)
    assert counts[0].library_calls == 5  # x w1, h w2, and the gradients of w1, w2 and h
    assert counts[0].launches <= 10
    largest = max(p.shape.num_elements() for p in model.trainable_variables) * 4
    assert counts[0].bytes_allocated < 4 * largest + 4 * 32 * (32 + 32 + 10) * 4
    assert where == [np.asarray(p).ctypes.data for p in model.trainable_variables]
    before = jt.counters()
    step(x[:16], y[:16])
    counted = jt.counters() - before
    assert (counted.traces, counted.kernels_compiled) == (1, 0)  # another batch size is a trace, and compiles nothing


def test_one_trace_for_all_batch_sizes():
    images, labels = digits()
    exact, general = Classifier([64, 32, 10]), Classifier([64, 32, 10])
    signature = [jt.TensorSpec([None, 64]), jt.TensorSpec([None], jt.int32)]
    step = make_step(exact)
    for_all = jt.function(make_step(general).python_function, input_signature=signature)
    for n in (32, 16, 1, 32):
        want, found = step(images[:n], labels[:n]), for_all(images[:n], labels[:n])
        np.testing.assert_allclose(float(found), float(want), rtol=1e-5)
    assert (step.experimental_get_tracing_count(), for_all.experimental_get_tracing_count()) == (3, 1)
    for a, b in zip(exact.variables, general.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


def test_the_step_does_what_numpy_does():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 8).astype(np.int32)
    model = Classifier([5, 4, 3])
    w1, w2 = (w.numpy() for w in model.weights)
    step = make_step(model)
    loss = step(x, labels)
    hidden = np.maximum(x @ w1, 0)
    logits = hidden @ w2
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    d = (p - np.eye(3)[labels]) / 8
    np.testing.assert_allclose(float(loss), -np.log(p[np.arange(8), labels]).mean(), rtol=1e-5)
    np.testing.assert_allclose(model.weights[1].numpy(), w2 - 0.5 * hidden.T @ d, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        model.weights[0].numpy(), w1 - 0.5 * x.T @ ((d @ w2.T) * (hidden > 0)), rtol=1e-4, atol=1e-6
    )


def test_a_step_through_a_traced_model_and_an_eager_tape():
    images, labels = digits()
    x, y = jt.constant(images[:64]), jt.constant(labels[:64])
    traced, eager = Classifier([64, 16, 10]), Classifier([64, 16, 10])
    forward = jt.function(lambda x: traced(x))
    results = []
    for model, run in ((traced, forward), (eager, eager)):
        with jt.GradientTape() as tape:
            loss = jt.reduce_mean(jt.nn.sparse_softmax_cross_entropy_with_logits(y, run(x)))
        results.append(tape.gradient(loss, model.trainable_variables))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)
    assert forward.experimental_get_tracing_count() == 1


@pytest.mark.skipif(settings.active().disable_jit, reason="JITENSOR_DISABLE_JIT is on: nothing is compiled")
def test_the_gradient_of_a_traced_model_computes_no_product_again():
    images, labels = digits()
    model = Classifier([64, 16, 10])
    forward = jt.function(lambda x, y: jt.nn.sparse_softmax_cross_entropy_with_logits(y, model(x)))
    x, y = jt.constant(images[:64]), jt.constant(labels[:64])

    def gradient():
        with jt.GradientTape() as tape:
            loss = forward(x, y)
        return tape.gradient(loss, model.trainable_variables)

    gradient()
    before = jt.counters()
    gradient()
    counted = jt.counters() - before
    assert (counted.library_calls, counted.kernels_compiled) == (2 + 3, 0)


def test_momentum_and_accumulation_over_batches():
    model = Classifier([4, 2])
    slots = [jt.Variable(jt.zeros_like(p), trainable=False) for p in model.trainable_variables]

    @jt.function
    def accumulate(x, y):
        with jt.GradientTape() as tape:
            loss = jt.reduce_mean((model(x) - y) ** 2)
        for s, g in zip(slots, tape.gradient(loss, model.trainable_variables), strict=True):
            s.assign_add(g)
        return loss

    @jt.function
    def apply():
        for p, s in zip(model.trainable_variables, slots, strict=True):
            p.assign_sub(0.05 * s)
            s.assign(0.9 * s)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 4)).astype(np.float32)
    y = x @ rng.standard_normal((4, 2)).astype(np.float32)
    losses = []
    for _ in range(60):
        losses.append(np.mean([float(accumulate(x[i : i + 10], y[i : i + 10])) for i in range(0, 40, 10)]))
        apply()
    assert losses[-1] < 0.01 * losses[0]
    assert accumulate.experimental_get_tracing_count() == apply.experimental_get_tracing_count() == 1
