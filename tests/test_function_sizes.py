"""jt.function with sizes that are known only when called: what tracing knows of them, and what calls compute."""

import numpy as np
import pytest

import jitensor as jt

S = jt.TensorSpec


def shape_of(tensor):
    return "unknown" if tensor.shape.rank is None else tensor.shape.as_list()


# body of x: f32[?, 3]; static shape of the result while tracing; the result in NumPy
KNOWN_RANK = [
    (lambda x: x * 2.0 + 1.0, [None, 3], lambda a: a * 2 + 1),
    (lambda x: x[0], [3], lambda a: a[0]),
    (lambda x: x[:2], [None, 3], lambda a: a[:2]),
    (lambda x: x[1:, ::-1], [None, 3], lambda a: a[1:, ::-1]),
    (lambda x: x[..., 0], [None], lambda a: a[..., 0]),
    (lambda x: x[:, None], [None, 1, 3], lambda a: a[:, None]),
    (lambda x: x[jt.shape(x)[0] - 1], [3], lambda a: a[-1]),
    (lambda x: x[: jt.shape(x)[0] // 2], [None, 3], lambda a: a[: len(a) // 2]),
    (lambda x: jt.transpose(x), [3, None], lambda a: a.T),
    (lambda x: jt.reshape(x, [-1]), [None], np.ravel),
    (lambda x: jt.reshape(x, [3, -1]), [3, None], lambda a: a.reshape(3, -1)),
    (lambda x: jt.reshape(x, [jt.shape(x)[0], 3, 1]), [None, 3, 1], lambda a: a[:, :, None]),
    (lambda x: jt.reshape(x, jt.shape(x)[::-1]), [3, None], lambda a: a.reshape(3, -1)),
    (lambda x: jt.reduce_sum(x, 0), [3], lambda a: a.sum(0)),
    (lambda x: jt.reduce_sum(x, 1, keepdims=True), [None, 1], lambda a: a.sum(1, keepdims=True)),
    (lambda x: jt.reduce_mean(x), [], np.mean),
    (lambda x: jt.reduce_max(x, 1) - jt.reduce_min(x, 1), [None], lambda a: np.ptp(a, 1)),
    (lambda x: jt.argmax(x, 1), [None], lambda a: a.argmax(1)),
    (lambda x: jt.cumsum(x), [None, 3], lambda a: a.cumsum(0)),
    (lambda x: jt.nn.softmax(x), [None, 3], lambda a: np.exp(a) / np.exp(a).sum(1, keepdims=True)),
    (lambda x: jt.matmul(x, x, transpose_b=True), [None, None], lambda a: a @ a.T),
    (lambda x: jt.matmul(x, jt.ones([3, 4])), [None, 4], lambda a: a @ np.ones((3, 4))),
    (lambda x: jt.concat([x, jt.zeros([2, 3])], 0), [None, 3], lambda a: np.concatenate([a, np.zeros((2, 3))])),
    (lambda x: jt.stack([x, x], 1), [None, 2, 3], lambda a: np.stack([a, a], 1)),
    (lambda x: jt.split(x, 3, axis=1)[2], [None, 1], lambda a: a[:, 2:]),
    (lambda x: jt.unstack(x, axis=1)[1], [None], lambda a: a[:, 1]),
    (lambda x: jt.tile(x, [2, 1]), [None, 3], lambda a: np.tile(a, (2, 1))),
    (lambda x: jt.repeat(x, 2, axis=0), [None, 3], lambda a: a.repeat(2, 0)),
    (lambda x: jt.pad(x, [[1, 0], [0, 1]]), [None, 4], lambda a: np.pad(a, [(1, 0), (0, 1)])),
    (lambda x: jt.reverse(x, [0]), [None, 3], lambda a: a[::-1]),
    (lambda x: jt.roll(x, 1, 0), [None, 3], lambda a: np.roll(a, 1, 0)),
    (lambda x: jt.zeros_like(x), [None, 3], np.zeros_like),
    (lambda x: jt.zeros([jt.shape(x)[0], 2]), [None, 2], lambda a: np.zeros((len(a), 2))),
    (lambda x: jt.fill([2, jt.shape(x)[0]], 3.0), [2, None], lambda a: np.full((2, len(a)), 3.0)),
    (lambda x: jt.range(jt.shape(x)[0]), [None], lambda a: np.arange(len(a))),
    (lambda x: jt.eye(jt.shape(x)[0]), [None, None], lambda a: np.eye(len(a))),
    (lambda x: jt.one_hot(jt.range(jt.shape(x)[0]), 5), [None, 5], lambda a: np.eye(len(a), 5)),
    (lambda x: jt.broadcast_to(x[:1], [4, 3]), [4, 3], lambda a: np.broadcast_to(a[:1], (4, 3))),
    (lambda x: jt.gather(x, [1, 0]), [2, 3], lambda a: a[[1, 0]]),
    (lambda x: jt.where(x > 1.0, x, 0.0), [None, 3], lambda a: np.where(a > 1, a, 0)),
    (lambda x: jt.boolean_mask(x, x[:, 0] > 1.0) * 2.0, [None, 3], lambda a: a[a[:, 0] > 1] * 2),
    (lambda x: jt.reduce_sum(jt.where(x > 1.0)), [], lambda a: np.argwhere(a > 1).sum()),
    (lambda x: jt.unique(jt.reshape(x, [-1])).y, [None], lambda a: np.unique(a)),
    (lambda x: jt.shape(x), [2], np.shape),
    (lambda x: jt.size(x) * jt.rank(x), [], lambda a: a.size * 2),
    (lambda x: x + jt.ones([1, 3]), [None, 3], lambda a: a + 1),
    (lambda x: x + jt.ones([4, 1, 3]), [4, None, 3], lambda a: a + np.ones((4, 1, 3))),
    (lambda x: jt.squeeze(x[:, :1], 1), [None], lambda a: a[:, 0]),
    (lambda x: jt.expand_dims(x, -1), [None, 3, 1], lambda a: a[..., None]),
    (lambda x: jt.cast(x, jt.int32) % 2, [None, 3], lambda a: a.astype(int) % 2),
]


@pytest.mark.parametrize("body, static, numpy", KNOWN_RANK)
def test_static_shape_and_result(body, static, numpy):
    seen = []

    @jt.function(input_signature=[S([None, 3])])
    def f(x):
        result = body(x)
        seen.append(shape_of(result))
        return result

    for n in (3, 2, 5, 3):
        array = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3) / 4
        result = np.asarray(f(array))
        wanted = np.asarray(numpy(array))
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)
    assert seen == [static]


def test_unknown_rank():
    seen = []

    @jt.function(input_signature=[S(None)])
    def f(x):
        y = x * 2.0 + 1.0
        flat = jt.reshape(y, [-1])
        seen.append(
            [shape_of(v) for v in (x, y, flat, jt.reduce_sum(y), jt.shape(x), jt.rank(x), jt.reshape(x, [2, 3]))]
        )
        return jt.reduce_sum(y), jt.rank(x), jt.shape(flat), y

    for sizes in ((), (4,), (2, 3), (1, 2, 3)):
        total, rank, flat, y = f(jt.ones(sizes))
        count = int(np.prod(sizes))
        assert float(total) == 3.0 * count and int(rank) == len(sizes)
        assert np.asarray(flat).tolist() == [count] and y.shape == sizes
    assert seen == [["unknown", "unknown", [None], [], [None], [], [2, 3]]]


def test_sizes_that_are_values_of_arguments():
    traces = []

    @jt.function
    def f(n, x):
        traces.append([shape_of(v) for v in (jt.range(n), x[:n], jt.ones([n, 2]))])
        return jt.range(n) * 2, jt.reduce_sum(jt.ones([n, 2])), x[n:]

    x = jt.range(6)
    for n in (2, 4, 0, 2):
        steps, total, rest = f(jt.constant(n), x)
        assert np.asarray(steps).tolist() == list(range(0, 2 * n, 2)) and float(total) == 2 * n
        assert np.asarray(rest).tolist() == list(range(n, 6))
    assert traces == [[[None], [None], [None, 2]]]


def test_results_of_python_functions_have_unknown_shapes():
    @jt.function
    def f(x):
        y = jt.numpy_function(lambda a: np.concatenate([a, a]), [x], jt.float32)
        assert y.shape.rank is None
        y = jt.ensure_shape(y, [None])
        assert shape_of(y) == [None]
        z = jt.py_function(lambda t: t + 1.0, [y], jt.float32)
        z.set_shape([None])
        return jt.reduce_sum(z) + jt.reduce_sum(x), z * 2.0

    for n in (1, 3):
        total, doubled = f(jt.ones([n]))
        assert float(total) == 4.0 * n + n and doubled.shape == [2 * n]


@pytest.mark.parametrize(
    "body, shapes",
    [
        (lambda a, b: a + b, ((2,), (3,))),
        (lambda a, b: jt.concat([a[None], b[None]], 0), ((2,), (3,))),
        (lambda a, b: jt.reshape(a, [2, 3]), ((5,), (1,))),
        (lambda a, b: jt.tensordot(a, b, 1), ((2,), (3,))),
        (lambda a, b: a[4], ((3,), (1,))),
        (lambda a, b: jt.boolean_mask(a, b > 0.0), ((3,), (2,))),
    ],
)
def test_misfits_found_when_called(body, shapes):
    f = jt.function(body, input_signature=[S([None]), S([None])])
    f.get_concrete_function()
    with pytest.raises(jt.errors.InvalidArgumentError):
        f(*[jt.ones(shape) for shape in shapes])
    assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "body",
    [
        lambda x: x + jt.ones([2, 4]),
        lambda x: jt.matmul(x, jt.ones([4, 2])),
        lambda x: jt.concat([x, jt.ones([2, 4])], 0),
        lambda x: jt.reshape(jt.reduce_sum(x, 0), [2, 2]),
        lambda x: jt.reduce_sum(x, 5),
        lambda x: jt.transpose(x, [0]),
        lambda x: x[0, 0, 0],
        lambda x: jt.squeeze(x, 1),
    ],
)
def test_misfits_found_while_tracing(body):
    f = jt.function(body, input_signature=[S([None, 3])])
    with pytest.raises(ValueError, match=r"test_function_sizes\.py"):
        f(jt.ones([2, 3]))
    assert f.experimental_get_tracing_count() == 0


def test_an_inner_function_with_a_signature_takes_what_may_fit():
    traces = []

    @jt.function(input_signature=[S([None, 2])])
    def inner(x):
        traces.append(shape_of(x))
        return jt.reduce_sum(x, 0)

    @jt.function(input_signature=[S(None)])
    def outer(x):
        return inner(x) + inner(jt.reshape(x, [-1, 2]))

    assert np.asarray(outer(jt.ones([3, 2]))).tolist() == [6.0, 6.0]
    with pytest.raises(jt.errors.InvalidArgumentError):
        outer(jt.ones([3, 4]))
    assert traces == [[None, 2]]


def test_no_python_of_the_user_runs_for_a_new_size():
    runs = []

    @jt.function(input_signature=[S([None])])
    def f(x):
        runs.append(1)
        items = [x, x]
        result = jt.stack(items)
        items.append(x)  # the op had its own copy
        return result

    assert f(jt.ones([2])).shape == [2, 2] and f(jt.ones([3])).shape == [2, 3] and runs == [1]


def test_relaxed_methods_and_structures():
    traces = []

    @jt.function(reduce_retracing=True)
    def f(d):
        traces.append(shape_of(d["x"][0]))
        return d["x"][0] * d["k"]

    for n in (1, 2, 5):
        assert f({"x": [jt.ones([n])], "k": 2.0}).shape == [n]
    assert traces == [[1], [None]]
