"""Ops under TensorFlow's names: the same results eagerly, traced with known sizes, and traced with unknown sizes."""

import math

import numpy as np
import pytest

import jitensor as jt

X = np.array([[0.5, -1.25, 2.0], [3.5, 0.0, -0.75]], np.float32)
Y = np.array([[1.5, 2.0, -0.5], [0.25, 4.0, 3.0]], np.float32)
P = np.abs(X) + 0.1  # positive
U = X / 4  # within (-1, 1)
N = np.array([[3, -4, 5], [0, 7, -2]], np.int32)
B = np.array([[True, False, True], [False, False, True]])


def softmax(a, axis=-1):
    powers = np.exp(a - a.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def erf(a):
    return np.vectorize(math.erf)(a)


CASES = {
    # name: (jt expression, NumPy expression, arguments)
    "add": (jt.add, np.add, [X, Y]),
    "subtract": (jt.subtract, np.subtract, [X, Y]),
    "multiply": (jt.multiply, np.multiply, [X, Y]),
    "divide": (jt.divide, np.divide, [X, Y]),
    "truediv of ints": (jt.truediv, np.true_divide, [N, np.abs(N) + 1]),
    "floordiv": (lambda a, b: a // b, np.floor_divide, [N, np.abs(N) + 1]),
    "mod": (jt.math.floormod, np.mod, [X, Y]),
    "pow": (jt.pow, np.power, [P, Y]),
    "pow of ints": (lambda a: a**3, lambda a: a**3, [N]),
    "maximum": (jt.maximum, np.maximum, [X, Y]),
    "minimum": (jt.minimum, np.minimum, [X, Y]),
    "atan2": (jt.atan2, np.arctan2, [X, Y]),
    "squared_difference": (jt.math.squared_difference, lambda a, b: (a - b) ** 2, [X, Y]),
    "divide_no_nan": (lambda a: jt.math.divide_no_nan(a, a), lambda a: np.where(a == 0, 0, 1), [X]),
    "clip": (lambda a: jt.clip_by_value(a, -1, 1), lambda a: np.clip(a, -1, 1), [X]),
    "rsqrt": (jt.math.rsqrt, lambda a: 1 / np.sqrt(a), [P]),
    "round": (lambda a: jt.round(a * 2), lambda a: np.rint(a * 2), [X]),
    "round of ints": (jt.round, lambda a: a, [N]),
    "add_n": (lambda a, b: jt.add_n([a, b, a]), lambda a, b: a + b + a, [X, Y]),
    "complex": (lambda a, b: jt.abs(jt.complex(a, b)), lambda a, b: np.abs(a + 1j * b), [X, Y]),
    "logical": (lambda a: jt.logical_or(jt.logical_not(a), a), lambda a: ~a | a, [B]),
    "logical_xor": (jt.math.logical_xor, np.logical_xor, [B, ~B]),
    "bitwise": (lambda a: jt.bitwise.bitwise_and(a, 6), lambda a: a & 6, [N]),
    "cast": (lambda a: jt.cast(a, jt.int32), lambda a: a.astype(np.int32), [X]),
    "where": (jt.where, np.where, [B, X, Y]),
    "is_nan": (lambda a: jt.math.is_nan(a / 0.0 * 0.0), lambda a: np.ones_like(a, bool), [P]),
    **{
        name: (getattr(jt.math, name), numpy, [argument])
        for name, numpy, argument in [
            ("sin", np.sin, X), ("cos", np.cos, X), ("tan", np.tan, U), ("asin", np.arcsin, U), ("acos", np.arccos, U),
            ("atan", np.arctan, X), ("sinh", np.sinh, X), ("cosh", np.cosh, X), ("tanh", np.tanh, X),
            ("asinh", np.arcsinh, X), ("acosh", np.arccosh, P + 1), ("atanh", np.arctanh, U), ("exp", np.exp, X),
            ("expm1", np.expm1, X), ("log", np.log, P), ("log1p", np.log1p, P), ("sqrt", np.sqrt, P),
            ("square", np.square, X), ("abs", np.abs, X), ("negative", np.negative, X), ("sign", np.sign, X),
            ("floor", np.floor, X), ("ceil", np.ceil, X), ("erf", erf, X), ("reciprocal", lambda a: 1 / a, P),
            ("sigmoid", lambda a: 1 / (1 + np.exp(-a)), X), ("softplus", lambda a: np.log1p(np.exp(a)), X),
        ]
    },
    "reduce_sum": (lambda a: jt.reduce_sum(a, 1), lambda a: a.sum(1), [X]),
    "reduce_sum of all": (jt.reduce_sum, np.sum, [X]),
    "reduce_sum of no axis": (lambda a: jt.reduce_sum(a, []), lambda a: a, [X]),
    "reduce_sum keepdims": (lambda a: jt.reduce_sum(a, -1, keepdims=True), lambda a: a.sum(-1, keepdims=True), [X]),
    "reduce_prod": (lambda a: jt.reduce_prod(a, [0, 1]), np.prod, [Y]),
    "reduce_max": (lambda a: jt.reduce_max(a, 0), lambda a: a.max(0), [X]),
    "reduce_min": (lambda a: jt.reduce_min(a, 0), lambda a: a.min(0), [N]),
    "reduce_mean": (lambda a: jt.reduce_mean(a, 0), lambda a: a.mean(0), [X]),
    "reduce_mean of ints": (lambda a: jt.reduce_mean(a), lambda a: a.sum() // a.size, [N]),
    "reduce_any": (lambda a: jt.reduce_any(a, 0), lambda a: a.any(0), [B]),
    "reduce_all": (lambda a: jt.reduce_all(a, 1), lambda a: a.all(1), [B]),
    "reduce_variance": (lambda a: jt.math.reduce_variance(a, 1), lambda a: a.var(1), [X]),
    "reduce_std": (jt.math.reduce_std, np.std, [X]),
    "reduce_logsumexp": (lambda a: jt.reduce_logsumexp(a, 1), lambda a: np.log(np.exp(a).sum(1)), [X]),
    "norm": (jt.norm, np.linalg.norm, [X]),
    "norm of order 1": (lambda a: jt.norm(a, 1, axis=1), lambda a: np.abs(a).sum(1), [X]),
    "count_nonzero": (jt.math.count_nonzero, np.count_nonzero, [X]),
    "argmax": (lambda a: jt.argmax(a, 1), lambda a: a.argmax(1), [X]),
    "argmin": (jt.argmin, lambda a: a.argmin(0), [X]),
    "cumsum": (lambda a: jt.cumsum(a, 1), lambda a: a.cumsum(1), [X]),
    "cumsum exclusive reverse": (
        lambda a: jt.cumsum(a, 1, exclusive=True, reverse=True),
        lambda a: a[:, ::-1].cumsum(1)[:, ::-1] - a,
        [N],
    ),
    "cumprod": (jt.math.cumprod, lambda a: a.cumprod(0), [Y]),
    "matmul": (lambda a, b: jt.matmul(a, b, transpose_b=True), lambda a, b: a @ b.T, [X, Y]),
    "matmul operator": (lambda a, b: jt.transpose(a) @ b, lambda a, b: a.T @ b, [X, Y]),
    "tensordot": (lambda a, b: jt.tensordot(a, b, [[0], [0]]), lambda a, b: np.tensordot(a, b, ([0], [0])), [X, Y]),
    "tensordot number": (lambda a, b: jt.tensordot(a, b, 2), lambda a, b: np.tensordot(a, b, 2), [X, Y]),
    "reshape": (lambda a: jt.reshape(a, [-1, 2]), lambda a: a.reshape(-1, 2), [X]),
    "transpose": (lambda a: jt.transpose(a, [1, 0]), np.transpose, [X]),
    "matrix_transpose": (jt.linalg.matrix_transpose, np.transpose, [X]),
    "concat": (lambda a, b: jt.concat([a, b], -1), lambda a, b: np.concatenate([a, b], -1), [X, Y]),
    "stack": (lambda a, b: jt.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), [X, Y]),
    "stack of numbers": (lambda a: jt.stack([a[0, 0], 2.0]), lambda a: np.array([a[0, 0], 2.0]), [X]),
    "split sizes": (lambda a: jt.split(a, [1, -1], axis=1)[1], lambda a: a[:, 1:], [X]),
    "tile": (lambda a: jt.tile(a, [2, 3]), lambda a: np.tile(a, (2, 3)), [X]),
    "repeat": (lambda a: jt.repeat(a, [2, 1, 0], axis=1), lambda a: a.repeat([2, 1, 0], 1), [X]),
    "reverse": (lambda a: jt.reverse(a, [0, 1]), lambda a: a[::-1, ::-1], [X]),
    "roll": (lambda a: jt.roll(a, [1, -1], [0, 1]), lambda a: np.roll(a, (1, -1), (0, 1)), [X]),
    "pad": (
        lambda a: jt.pad(a, [[1, 2], [0, 1]], constant_values=7),
        lambda a: np.pad(a, [(1, 2), (0, 1)], constant_values=7),
        [X],
    ),
    "pad reflect": (
        lambda a: jt.pad(a, [[0, 0], [2, 1]], "REFLECT"),
        lambda a: np.pad(a, [(0, 0), (2, 1)], "reflect"),
        [X],
    ),
    "pad symmetric": (
        lambda a: jt.pad(a, [[1, 1], [2, 1]], "SYMMETRIC"),
        lambda a: np.pad(a, [(1, 1), (2, 1)], "symmetric"),
        [X],
    ),
    "broadcast_to": (lambda a: jt.broadcast_to(a, [4, 2, 3]), lambda a: np.broadcast_to(a, (4, 2, 3)), [X]),
    "expand_dims and squeeze": (lambda a: jt.squeeze(jt.expand_dims(a, 1)), lambda a: a, [X]),
    "slice": (lambda a: jt.slice(a, [0, 1], [-1, 2]), lambda a: a[:, 1:3], [X]),
    "gather": (lambda a: jt.gather(a, [[2, 0], [1, 1]], axis=1), lambda a: a[:, [[2, 0], [1, 1]]], [X]),
    "gather batch": (
        lambda a: jt.gather(a, jt.argmax(a, 1)[:, None], batch_dims=1),
        lambda a: a.max(1, keepdims=True),
        [X],
    ),
    "gather_nd": (lambda a: jt.gather_nd(a, [[0, 1], [1, 2]]), lambda a: a[[0, 1], [1, 2]], [X]),
    "scatter update": (
        lambda a: jt.tensor_scatter_nd_update(a, [[0, 1], [1, 2]], [8.0, 9.0]),
        lambda a: np.array([[a[0, 0], 8, a[0, 2]], [a[1, 0], a[1, 1], 9]]),
        [X],
    ),
    "scatter add": (
        lambda a: jt.tensor_scatter_nd_add(a, [[1], [1]], jt.stack([a[0], a[0]])),
        lambda a: np.array([a[0], a[1] + 2 * a[0]]),
        [X],
    ),
    "scatter_nd": (
        lambda a: jt.scatter_nd([[2], [0]], a, [4, 3]),
        lambda a: np.array([a[1], 0 * a[0], a[0], 0 * a[0]]),
        [X],
    ),
    "boolean_mask": (jt.boolean_mask, lambda a, b: a[b], [X, B]),
    "where positions": (jt.where, np.argwhere, [B]),
    "unique": (lambda a: jt.unique(jt.reshape(a, [-1]))[0], lambda a: np.array([3, -4, 5, 0, 7, -2]), [N]),
    "sort": (lambda a: jt.sort(a, direction="DESCENDING"), lambda a: -np.sort(-a), [X]),
    "argsort": (lambda a: jt.argsort(a, axis=0), lambda a: a.argsort(0), [X]),
    "argsort down": (lambda a: jt.argsort(a, direction="DESCENDING"), lambda a: (-a).argsort(-1, kind="stable"), [X]),
    "top_k": (lambda a: jt.math.top_k(a, 2).values, lambda a: -np.sort(-a)[:, :2], [X]),
    "searchsorted": (
        lambda a: jt.searchsorted(jt.constant([0.0, 1.0, 2.0]), jt.reshape(a, [-1])),
        lambda a: np.searchsorted([0.0, 1.0, 2.0], a.ravel()),
        [X],
    ),
    "one_hot": (
        lambda a: jt.one_hot(a, 8, on_value=2.0, axis=0),
        lambda a: 2.0 * (np.arange(8)[:, None, None] == a),
        [N],
    ),
    "linspace": (lambda a: jt.linspace(a[0, 0], 2.0, 5), lambda a: np.linspace(a[0, 0], 2.0, 5), [X]),
    "range": (lambda a: jt.range(a[0, 0], 12, 2), lambda a: np.arange(a[0, 0], 12, 2), [N]),
    "range of floats": (lambda a: jt.range(0.0, 1.0, 0.25), lambda a: np.arange(0.0, 1.0, 0.25), [X]),
    "eye": (lambda a: jt.eye(2, 3) * a, lambda a: np.eye(2, 3) * a, [X]),
    "like": (lambda a: jt.zeros_like(a) + jt.ones_like(a, jt.float32), np.ones_like, [X]),
    "relu": (jt.nn.relu, lambda a: np.maximum(a, 0), [X]),
    "leaky_relu": (jt.nn.leaky_relu, lambda a: np.where(a > 0, a, 0.2 * a), [X]),
    "elu": (jt.nn.elu, lambda a: np.where(a > 0, a, np.expm1(a)), [X]),
    "silu": (jt.nn.silu, lambda a: a / (1 + np.exp(-a)), [X]),
    "gelu": (jt.nn.gelu, lambda a: a * 0.5 * (1 + erf(a / np.sqrt(2))), [X]),
    "gelu tanh": (
        lambda a: jt.nn.gelu(a, approximate=True),
        lambda a: 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))),
        [X],
    ),
    "softmax": (jt.nn.softmax, softmax, [X]),
    "softmax axis": (lambda a: jt.nn.softmax(a, axis=0), lambda a: softmax(a, 0), [X]),
    "log_softmax": (jt.nn.log_softmax, lambda a: np.log(softmax(a)), [X]),
    "l2_normalize": (lambda a: jt.nn.l2_normalize(a, 1), lambda a: a / np.linalg.norm(a, axis=1, keepdims=True), [X]),
    "moments": (lambda a: jt.stack(jt.nn.moments(a, [0])), lambda a: np.stack([a.mean(0), a.var(0)]), [X]),
    "cross entropy": (
        lambda a: jt.nn.sparse_softmax_cross_entropy_with_logits(jt.constant([2, 0]), a),
        lambda a: -np.log(softmax(a))[[0, 1], [2, 0]],
        [X],
    ),
    "cross entropy of rows": (
        lambda a, b: jt.nn.softmax_cross_entropy_with_logits(b, a),
        lambda a, b: -(b * np.log(softmax(a))).sum(1),
        [X, Y],
    ),
    "binary cross entropy": (
        lambda a: jt.nn.sigmoid_cross_entropy_with_logits(jt.ones_like(a), a),
        lambda a: np.log1p(np.exp(-a)),
        [X],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_eager_and_traced_agree_with_numpy(name):
    function, numpy, arguments = CASES[name]
    wanted = np.asarray(numpy(*arguments))
    tensors = [jt.constant(a) for a in arguments]
    eager = function(*tensors)
    results = {
        "eager": eager,
        "traced": jt.function(lambda *args: function(*args))(*tensors),
        "unknown sizes": jt.function(
            lambda *args: function(*args), input_signature=[jt.TensorSpec([None, None], t.dtype) for t in tensors]
        )(*tensors),
    }
    for how, result in results.items():
        assert isinstance(result, jt.Tensor) and result.dtype is eager.dtype, how
        assert result.shape == wanted.shape, how
        np.testing.assert_allclose(np.asarray(result), wanted, rtol=2e-6, atol=1e-6, err_msg=how)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jt.reshape(x, [4]),
        lambda x: jt.reshape(x, [-1, -1]),
        lambda x: jt.concat([x, x[0]], 0),
        lambda x: jt.stack([x, x[:1]]),
        lambda x: jt.split(x, 2, axis=1),
        lambda x: jt.squeeze(x, 0),
        lambda x: jt.transpose(x, [0, 0]),
        lambda x: jt.reduce_sum(x, 2),
        lambda x: jt.reduce_sum(x, [0, 0]),
        lambda x: jt.expand_dims(x, 4),
        lambda x: jt.matmul(x, x),
        lambda x: jt.tile(x, [2]),
        lambda x: jt.pad(x, [[1, 1]]),
        lambda x: jt.broadcast_to(x, [2, 4]),
        lambda x: jt.unstack(x, num=3),
        lambda x: jt.boolean_mask(x, [True, False, True]),
        lambda x: jt.slice(x, [0, 2], [2, 2]),
        lambda x: jt.math.top_k(x, 4),
        lambda x: jt.fill([-1], 1.0),
        lambda x: jt.add_n([x, x[0]]),
    ],
)
def test_misfits_are_value_errors_eagerly_and_traced(function):
    x = jt.constant(X)
    with pytest.raises(ValueError):
        function(x)
    f = jt.function(function)
    with pytest.raises(ValueError):
        f(x)
    assert f.experimental_get_tracing_count() == 0


def test_positions_out_of_range_are_found_when_called():
    f = jt.function(lambda x, i: jt.gather(x, i))
    assert np.asarray(f(jt.constant([1, 2, 3]), jt.constant([2, 0]))).tolist() == [3, 1]
    for wrong in (lambda: f(jt.constant([1, 2, 3]), jt.constant([3, 0])), lambda: jt.gather([1, 2], [-1])):
        with pytest.raises(jt.errors.InvalidArgumentError):
            wrong()
    g = jt.function(lambda x, i: x[i])
    assert int(g(jt.constant([1, 2, 3]), jt.constant(-1))) == 3
    with pytest.raises(jt.errors.InvalidArgumentError, match=r"test_tensor_ops\.py"):
        g(jt.constant([1, 2, 3]), jt.constant(3))


def test_empty_reductions_give_the_identity():
    empty = jt.zeros([0, 2])
    assert np.asarray(jt.reduce_sum(empty, 0)).tolist() == [0, 0]
    assert np.asarray(jt.reduce_max(empty, 0)).tolist() == [-np.inf, -np.inf]
    assert np.isnan(np.asarray(jt.reduce_mean(empty)))


NUMPY = {
    "sum": (lambda a: np.sum(a, axis=1, keepdims=True), X),
    "mean": (lambda a: np.mean(a), X),
    "std": (lambda a: np.std(a, axis=0), X),
    "max": (lambda a: np.max(a, axis=(0, 1)) - np.min(a), X),
    "argmax": (lambda a: np.argmax(a), X),
    "clip": (lambda a: np.clip(a, -1.0, None), X),
    "where": (lambda a: np.where(a > 0, a, 0.0), X),
    "reshape": (lambda a: np.reshape(a, (3, 2)), X),
    "transpose": (lambda a: np.transpose(a) @ np.ones((2, 2), np.float32), X),
    "moveaxis": (lambda a: np.moveaxis(a[None], 0, -1), X),
    "concatenate": (lambda a: np.concatenate([a, a + 1], axis=1), X),
    "stack": (lambda a: np.stack((a, a)), X),
    "tile": (lambda a: np.tile(a, (2, 1)), X),
    "flip": (lambda a: np.flip(a, 1), X),
    "roll": (lambda a: np.roll(a, 1, axis=0), X),
    "pad": (lambda a: np.pad(a, ((1, 0), (0, 1))), X),
    "dot": (lambda a: np.dot(a, np.ones((3, 2), np.float32)), X),
    "full_like": (lambda a: np.full_like(a, 3.0), X),
    "black-scholes kind": (lambda a: np.log(np.abs(a) + 1.0) / np.sqrt(np.exp(-a) + 2.0), X),
    "ndarray operand": (lambda a: np.arange(3, dtype=np.float32) + a, X),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_functions_record_on_traced_tensors(name):
    function, array = NUMPY[name]
    result = jt.function(function)(jt.constant(array))
    wanted = function(array)
    assert isinstance(result, jt.Tensor) and result.shape == np.shape(wanted)
    np.testing.assert_allclose(np.asarray(result), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", [lambda x: np.linalg.inv(x), lambda x: np.sum(x, where=True), np.fft.fft])
def test_numpy_functions_that_are_not_recorded_say_so(function):
    with pytest.raises((NotImplementedError, TypeError), match="jt"):
        jt.function(function)(jt.constant(X))


@pytest.mark.parametrize(
    "function", [lambda x, y: x // y, lambda x, y: x % y, lambda x, y: x ** (y - 1)], ids=["//", "%", "**"]
)
def test_integers_that_have_no_result(function):
    x, good, bad = jt.constant([7, -7]), jt.constant([2, 3]), jt.constant([2, 0])
    traced = jt.function(function)
    assert np.asarray(traced(x, good)).tolist() == np.asarray(function(x, good)).tolist()
    for call in (lambda: function(x, bad), lambda: traced(x, bad)):
        with pytest.raises(jt.errors.InvalidArgumentError):
            call()
    assert np.isinf(np.asarray(jt.constant([1.0]) / 0.0)) and np.isnan(np.asarray(jt.constant([1.0]) % 0.0))
    for wrong in (lambda: x // 0, lambda: x**-1):
        with pytest.raises(jt.errors.InvalidArgumentError):
            wrong()


def test_a_bool_mask_as_index():
    x = jt.constant(X)
    np.testing.assert_array_equal(np.asarray(x[x > 0.0]), X[X > 0])
    np.testing.assert_array_equal(np.asarray(jt.function(lambda t: t[t > 0.0] * 2.0)(x)), X[X > 0] * 2)
