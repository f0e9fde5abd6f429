"""Gradients of graphs: composites to second order, joint, split and forward-mode graphs, and how they compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from autodiff_harness import Eager, Tape, check, draw_like, evaluate, gradient

from jitensor.autodiff import Gradient, KnownSizes, gradient_graph, jvp_graph, split_graph, vjp_of
from jitensor.errors import NotFoundError
from jitensor.ir import dims, types
from jitensor.ir.graph import Graph, GraphBuilder
from jitensor.ir.interpret import interpret
from jitensor.ir.types import BY_NUMPY, TensorType, float32, float64
from jitensor.ir.verify import verify
from jitensor.ops import TABLE
from jitensor.ops import composites as c
from jitensor.pipeline import build

RNG = np.random.default_rng(11)
X, Y = RNG.uniform(-2, 2, (3, 4)), RNG.uniform(0.2, 2, (3, 4))
W = RNG.uniform(-1, 1, (4, 2))
N, M = dims.symbol("n"), dims.symbol("m")


def op(name: str) -> Callable[..., Any]:
    return lambda emit, *values, **params: emit(TABLE[name], *values, **params)


add, multiply, subtract, square, exp, tanh, matmul = (
    op(n) for n in ("add", "multiply", "subtract", "square", "exp", "tanh", "matmul")
)


def trace(function: Callable[..., Any], *operand_types: TensorType) -> Graph:
    builder = GraphBuilder("f")
    values = [builder.input(t) for t in operand_types]

    def emit(primitive: Any, *inputs: Any, **params: Any) -> Any:
        outputs = builder.add(primitive, inputs, params)
        return outputs[0] if len(outputs) == 1 else outputs

    result = function(emit, *values)
    return verify(builder.finish(result if isinstance(result, list) else [result]))


def mean_square(emit: Any, x: Any, w: Any, y: Any) -> Any:
    return c.mean(emit, square(emit, subtract(emit, matmul(emit, x, w), y)), (0, 1))


def cross_entropy(emit: Any, x: Any, labels: Any) -> Any:
    picked = c.sum_(emit, multiply(emit, labels, c.log_softmax(emit, x, 1)), (1,))
    return op("negative")(emit, c.mean(emit, picked, (0,)))


def perceptron(emit: Any, x: Any, w: Any, v: Any) -> Any:
    return matmul(emit, tanh(emit, matmul(emit, x, w)), v)


COMPOSITES: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("softmax", lambda e, x: c.softmax(e, x, 1), (X,)),
    ("log_softmax", lambda e, x: c.log_softmax(e, x, 0), (X,)),
    ("logsumexp", lambda e, x: c.logsumexp(e, x, (0, 1)), (X,)),
    ("var", lambda e, x: c.var(e, x, (1,), 1), (X,)),
    ("var of complex", lambda e, x: c.var(e, x, (1,)), (X + 1j * Y,)),
    ("std", lambda e, x: c.std(e, x, (0,)), (X,)),
    ("mean", lambda e, x: c.mean(e, x, (0, 1)), (X,)),
    ("ptp", lambda e, x: c.ptp(e, x, (1,)), (X,)),
    ("tensordot", lambda e, x, y: c.tensordot(e, x, y, (1,), (1,)), (X, Y)),
    ("outer", lambda e, x, y: c.outer(e, x, y), (X[0], Y[0, :2])),
    ("inner product", lambda e, x, y: c.matmul(e, x, y), (X[0], Y[0])),
    ("roll", lambda e, x: square(e, c.roll(e, x, 1, 1)), (X,)),
    ("pad", lambda e, x: square(e, c.pad(e, x, [(1, 2), (0, 1)])), (X,)),
    ("pad by reflection", lambda e, x: square(e, c.pad(e, x, [(1, 1), (2, 0)], "reflect")), (X,)),
    ("diff", lambda e, x: square(e, c.diff(e, x, 2, 1)), (X,)),
    ("stack", lambda e, x, y: square(e, c.stack(e, [x, y, x], 1)), (X, Y)),
    ("tile", lambda e, x: square(e, c.tile(e, x, (2, 1, 2))), (X,)),
    ("triangle", lambda e, x: square(e, c.tril(e, x)), (X[:, :3],)),
    ("relu", lambda e, x: square(e, c.relu(e, x)), (X,)),
    ("softplus", lambda e, x: c.softplus(e, x), (X,)),
    ("nan_to_num", lambda e, x: square(e, c.nan_to_num(e, x)), (X,)),
    ("squared difference", lambda e, x, y: c.squared_difference(e, x, y), (X + 1j, Y + 2j * X)),
    ("angle", lambda e, x: c.angle(e, x), (X + 1j * Y,)),
    ("linspace", lambda e, x, y: square(e, c.linspace(e, x, y, 5, True, float64)), (X[0], Y[0])),
    ("used twice", lambda e, x: multiply(e, tanh(e, x), add(e, exp(e, x), x)), (X,)),
    ("mean square", mean_square, (X, W, Y[:, :2])),
    ("cross entropy", cross_entropy, (X, Y)),
    ("perceptron", perceptron, (X, W, W.T[:, :3] + 1)),
]


@pytest.mark.parametrize("name, function, arrays", COMPOSITES, ids=[n for n, _, _ in COMPOSITES])
def test_composites(name: str, function: Any, arrays: tuple[Any, ...]) -> None:
    check(function, arrays)


def _symbolic(arrays: tuple[Any, ...]) -> tuple[list[TensorType], dict[str, int]]:
    """Types in which equal sizes above 1 share a symbol."""
    sizes = {f"s{n}": n for a in arrays for n in a.shape if n > 1}
    shape_of = lambda a: tuple(dims.symbol(f"s{n}") if n > 1 else n for n in a.shape)  # noqa: E731
    return [TensorType(BY_NUMPY[a.dtype], shape_of(a)) for a in arrays], sizes


def _close(actual: Any, expected: Any) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)


SYMBOLIC = [t for t in COMPOSITES if t[0] not in ("triangle", "tile")]


@pytest.mark.parametrize("name, function, arrays", SYMBOLIC, ids=[n for n, _, _ in SYMBOLIC])
def test_joint_graphs_with_symbols_for_sizes_agree_with_eager_gradients(
    name: str, function: Any, arrays: tuple[Any, ...]
) -> None:
    operand_types, sizes = _symbolic(arrays)
    graph = trace(function, *operand_types)
    wrt = range(len(arrays))
    joint = gradient_graph(graph, wrt)
    verify(joint.graph)
    assert all(joint.connected)
    expected = [evaluate(function, arrays), *evaluate(gradient(function, wrt), arrays)]
    found, _ = interpret(joint.graph, arrays, sizes)
    _close(found, expected)
    again = gradient_graph(Graph("g", joint.graph.inputs, (), joint.graph.nodes, joint.graph.outputs[1:]), wrt)
    verify(again.graph)


COMPILED = ["softmax", "std", "mean square", "cross entropy", "perceptron", "pad", "roll", "ptp"]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_gradients_agree(name: str) -> None:
    function, arrays = next((f, a) for n, f, a in COMPOSITES if n == name)
    operand_types, sizes = _symbolic(arrays)
    joint = gradient_graph(trace(function, *operand_types), range(len(arrays)))
    expected, _ = interpret(joint.graph, arrays, sizes)
    _close(build(joint.graph)(list(arrays), sizes), expected)


def _steps(gradient: Gradient) -> list[str]:
    steps = build(gradient.graph).describe().steps
    return ["kernel" if hasattr(s, "kernel") else s.call.node.primitive.name for s in steps]


def test_backward_fuses_with_forward() -> None:
    x, w, y = TensorType(float32, (N, 784)), TensorType(float32, (784, M)), TensorType(float32, (N, M))
    assert _steps(gradient_graph(trace(mean_square, x, w, y), (1,))) == ["matmul", "kernel", "matmul"]
    logits = TensorType(float32, (N, M))
    assert _steps(gradient_graph(trace(cross_entropy, logits, logits), (0,))) == ["kernel", "kernel"]

    def polynomial(emit: Any, v: Any) -> Any:
        third = emit(TABLE["power"], v, c.constant(emit, 3, float64))
        return c.sum_(emit, add(emit, third, exp(emit, op("negative")(emit, square(emit, v)))), (0,))

    line = TensorType(float64, (N,))
    first = gradient_graph(trace(polynomial, line), (0,))
    assert _steps(first) == ["kernel"]
    slope = Graph("slope", first.graph.inputs, (), first.graph.nodes, first.graph.outputs[1:])
    assert _steps(gradient_graph(slope, (0,))) == ["kernel"]


def test_a_literal_exponent_stays_a_product() -> None:
    cube = trace(lambda e, v: e(TABLE["power"], v, c.constant(e, 3, float64)), TensorType(float64, (N,)))
    first = gradient_graph(cube, (0,)).graph
    exponents = [
        next(m.param("value").array for m in first.nodes if m.outputs[0] is n.inputs[1])
        for n in first.nodes
        if n.primitive is TABLE["power"]
    ]
    assert sorted(float(e) for e in exponents) == [2.0, 3.0]
    assert TABLE["log"] not in {n.primitive for n in first.nodes}
    found, _ = interpret(first, [np.array([2.0, -1.0, 0.0])], {"n": 3})
    np.testing.assert_array_equal(found[1], [12.0, 3.0, 0.0])


def test_a_caller_may_tell_what_is_literal() -> None:
    tape = Tape()
    x, n = Eager(np.array([2.0, -1.0, 0.0])), Eager(np.array(2.0))
    y = tape(TABLE["power"], x, n)
    for literal, most in ((lambda v: v.array if v is n else None, 2), (lambda v: None, 9)):
        emit = Tape()
        (found,) = vjp_of(tape.nodes, [y], [Eager(np.ones(3))], [x], emit, lambda v: v, literal=literal)
        np.testing.assert_array_equal(found.array, [4.0, -2.0, 0.0])
        assert len([node for node in emit.nodes if node.inputs]) <= most


def test_sources_that_do_not_matter_are_unconnected() -> None:
    integers = TensorType(types.int64, (N,))
    graph = trace(
        lambda e, a, b, i: multiply(e, op("stop_gradient")(e, a), op("cast")(e, i, dtype=float64)),
        TensorType(float64, (N,)), TensorType(float64, (N,)), integers,
    )  # fmt: skip
    joint = gradient_graph(graph, (0, 1, 2))
    assert joint.connected == (False, False, False)
    assert len(joint.graph.outputs) == 1


def test_only_what_is_asked_for_is_computed() -> None:
    graph = trace(lambda e, a, b: matmul(e, a, b), TensorType(float64, (N, M)), TensorType(float64, (M, N)))
    products = [n for n in gradient_graph(graph, (1,)).graph.nodes if n.primitive is TABLE["matmul"]]
    assert len(products) == 2  # the product itself, and one of the two that its operands' gradients are
    assert len(split_graph(graph, (1,)).backward.nodes) == 2


def test_sizes_found_equal_by_guards() -> None:
    a, b = dims.symbol("a"), dims.symbol("b")
    united: dict[str, Any] = {"b": a}

    class Equal:
        def relation(self, op: str, x: Any, y: Any) -> bool:
            return op in ("eq", "le") and not (isinstance(x, int) or isinstance(y, int))

        def value(self, n: Any, why: str) -> int:
            raise AssertionError(why)

    with dims.resolving(Equal()):
        graph = trace(
            lambda e, x, y: square(e, multiply(e, x, y)), TensorType(float64, (a,)), TensorType(float64, (b,))
        )
    joint = gradient_graph(graph, (0, 1), sizes=KnownSizes(united))
    found, _ = interpret(joint.graph, [X[0], Y[0]], {"a": 4, "b": 4})
    _close(found[1:], [2 * X[0] * Y[0] ** 2, 2 * X[0] ** 2 * Y[0]])
    _close(build(joint.graph, united)([X[0], Y[0]], {"a": 4, "b": 4}), found)


def test_a_dimension_of_size_one_is_summed() -> None:
    graph = trace(lambda e, x, y: multiply(e, x, y), TensorType(float64, (N, M)), TensorType(float64, (1, M)))
    (found,) = interpret(gradient_graph(graph, (1,)).graph, [X, Y[:1]], {"n": 3, "m": 4})[0][1:]
    _close([found], [X.sum(0, keepdims=True)])


def test_sizes_found_at_run_time() -> None:
    def picked(emit: Any, x: Any, mask: Any) -> Any:
        return c.sum_(emit, square(emit, emit(TABLE["boolean_mask"], x, mask, axis=0, size="k")), (0,))

    graph = trace(picked, TensorType(float64, (N, M)), TensorType(types.bool_, (N, M)))
    joint = gradient_graph(graph, (0,))
    verify(joint.graph)
    arguments = [X, X > 0]
    found, _ = interpret(joint.graph, arguments, {"n": 3, "m": 4})
    _close(found[1:], [np.where(X > 0, 2 * X, 0)])


def test_updates_stay_and_differentiate() -> None:
    builder = GraphBuilder("f")
    a, b = builder.input(TensorType(float64, (N,))), builder.input(TensorType(float64, (N,)))
    (new,) = builder.add(TABLE["multiply"], (a, b))
    (total,) = builder.add(TABLE["reduce_sum"], (new,), {"axes": (0,)})
    graph = builder.finish([total], [(a, new)])
    joint = gradient_graph(graph, (0, 1))
    arguments = [X[0].copy(), Y[0]]
    found = build(joint.graph)(arguments, {"n": 4})
    _close(found, [np.sum(X[0] * Y[0]), Y[0], X[0]])
    np.testing.assert_array_equal(arguments[0], X[0] * Y[0])
    pullback = split_graph(graph, (0, 1))
    assert (pullback.kept, pullback.saved) == ((1,), 1)  # the overwritten argument is saved, the other kept
    arguments = [X[0].copy(), Y[0]]
    (value, saved) = build(pullback.forward)(arguments, {"n": 4})
    _close([saved, value], [X[0], np.sum(X[0] * Y[0])])
    _close(build(pullback.backward)([Y[0], saved, np.array(2.0)], {"n": 4}), [2 * Y[0], 2 * X[0]])


@pytest.mark.parametrize("name, function, arrays", SYMBOLIC, ids=[n for n, _, _ in SYMBOLIC])
def test_split_graphs_agree_with_the_joint_one(name: str, function: Any, arrays: tuple[Any, ...]) -> None:
    operand_types, sizes = _symbolic(arrays)
    wrt = range(len(arrays))
    pullback = split_graph(trace(function, *operand_types), wrt)
    verify(pullback.forward)
    verify(pullback.backward, frozenset(sizes))
    outputs, _ = interpret(pullback.forward, arrays, sizes)
    saved = outputs[len(outputs) - pullback.saved :]
    seed = draw_like(outputs[0])
    found, _ = interpret(pullback.backward, [*(arrays[i] for i in pullback.kept), *saved, seed], sizes)
    expected = evaluate(gradient(function, wrt, seed), arrays)
    _close(found, expected)


@pytest.mark.parametrize("name, function, arrays", SYMBOLIC, ids=[n for n, _, _ in SYMBOLIC])
def test_forward_mode_is_the_transpose_of_reverse_mode(name: str, function: Any, arrays: tuple[Any, ...]) -> None:
    operand_types, sizes = _symbolic(arrays)
    wrt = range(len(arrays))
    forward = jvp_graph(trace(function, *operand_types), wrt)
    verify(forward.graph)
    tangents = [draw_like(a, 5) for a in arrays]
    (output, moved), _ = interpret(forward.graph, [*arrays, *tangents], sizes)
    seed = draw_like(output)
    gradients = evaluate(gradient(function, wrt, seed), arrays)
    along = sum(np.real(np.sum(np.conj(g) * t)) for g, t in zip(gradients, tangents, strict=True))
    np.testing.assert_allclose(np.real(np.sum(np.conj(seed) * moved)), along, rtol=1e-9)


def test_forward_mode_compiles_to_one_kernel() -> None:
    forward = jvp_graph(trace(lambda e, x: exp(e, tanh(e, x)), TensorType(float64, (N,))), (0,))
    assert _steps(forward) == ["kernel"]
    x = X[0]
    _close(build(forward.graph)([x, np.ones(4)], {"n": 4})[1:], [np.exp(np.tanh(x)) * (1 - np.tanh(x) ** 2)])


def test_errors_name_the_op() -> None:
    params: dict[str, Any] = {"function": np.sin, "outputs": (TensorType(float64, (N,)),)}
    graph = trace(lambda e, x: e(TABLE["python_call"], x, **params), TensorType(float64, (N,)))
    with pytest.raises(NotFoundError, match="python_call of sin has no gradient"):
        gradient_graph(graph, (0,))


def test_a_custom_gradient_compiles_away_and_differentiates_again() -> None:
    """log(1 + exp(x)) by a formula that overflows, with a gradient that does not; made of the node's own exp(x)."""
    backward = GraphBuilder("backward")
    g, e = (backward.input(TensorType(float64, (N,))) for _ in range(2))
    one = backward.constant(1, float64)
    (total,) = backward.add(TABLE["add"], (one, e))
    (inverse,) = backward.add(TABLE["divide"], (one, total))
    (slope,) = backward.add(TABLE["subtract"], (one, inverse))
    rule = backward.finish(backward.add(TABLE["multiply"], (g, slope)))

    def softplus(emit: Any, x: Any) -> Any:
        grown = exp(emit, x)
        result = op("log")(emit, add(emit, grown, c.constant(emit, 1, float64)))
        custom = {"results": 1, "connected": (True,), "backward": rule}
        return emit(TABLE["custom_gradient"], result, x, grown, **custom)

    line = TensorType(float64, (N,))
    joint = gradient_graph(trace(softplus, line), (0,))
    verify(joint.graph)
    x = np.array([-1.0, 0.5, 2.0])
    logistic = 1 / (1 + np.exp(-x))
    found = build(joint.graph)([x], {"n": 3})
    _close(found, [np.log1p(np.exp(x)), logistic])
    assert build(joint.graph)([np.array([800.0])], {"n": 1})[1] == 1.0
    assert _steps(joint) == ["kernel"]
    slope_graph = Graph("slope", joint.graph.inputs, (), joint.graph.nodes, joint.graph.outputs[1:])
    (_, curvature), _ = interpret(gradient_graph(slope_graph, (0,)).graph, [x], {"n": 3})
    _close([curvature], [logistic * (1 - logistic)])


@pytest.mark.parametrize("name", ["tanh", "exp", "divide", "power", "sigmoid", "atan2", "logaddexp"])
def test_third_order(name: str) -> None:
    arrays = [Y[0, :2], Y[1, :2] + 1][: len(TABLE[name].samples)]
    check(op(name), arrays, order=3)
