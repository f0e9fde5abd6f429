"""Composites against the NumPy functions that they mirror, by the interpreter; dtypes included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from table import Interval, draw, ulp_distance

from jitensor.errors import ShapeError
from jitensor.ir import dims, types
from jitensor.ir.graph import GraphBuilder
from jitensor.ir.interpret import interpret
from jitensor.ir.types import BY_NUMPY, NUMBERS, TensorType
from jitensor.ir.verify import verify
from jitensor.ops import composites as c

RNG = np.random.default_rng(5)
INTERVAL = Interval(-3.0, 3.0)


def run(function: Callable[..., Any], *arrays: np.ndarray, symbolic: bool = False) -> Any:
    """function(emit, *values) on a graph whose inputs have the arrays' types; with symbols for sizes, if asked."""
    builder = GraphBuilder()
    sizes: dict[str, int] = {}
    values = []
    for i, array in enumerate(arrays):
        shape: tuple[Any, ...] = array.shape
        if symbolic:
            sizes |= {f"n{i}_{d}": n for d, n in enumerate(array.shape)}
            shape = tuple(dims.symbol(f"n{i}_{d}") for d in range(array.ndim))
        values.append(builder.input(TensorType(BY_NUMPY[array.dtype], shape)))

    def emit(primitive: Any, *inputs: Any, **params: Any) -> Any:
        outputs = builder.add(primitive, inputs, params)
        return outputs[0] if len(outputs) == 1 else outputs

    result = function(emit, *values)
    many = isinstance(result, (list, tuple))
    graph = verify(builder.finish(list(result) if many else [result]))
    outputs, _ = interpret(graph, arrays, sizes)
    for value, output in zip(graph.outputs, outputs, strict=True):
        assert output.shape == tuple(dims.evaluate(n, sizes) for n in value.shape)
    return outputs if many else outputs[0]


def agree(actual: Any, expected: Any, ulp: float = 0) -> None:
    expected = np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.size == 0 or np.max(ulp_distance(actual, expected)) <= ulp, (actual, expected)


def array(shape: tuple[int, ...], dtype: types.DType = types.float64) -> np.ndarray:
    return draw(INTERVAL, dtype, shape, RNG)


MOMENTS = [
    (c.sum_, np.sum), (c.prod, np.prod), (c.mean, np.mean), (c.var, np.var), (c.std, np.std), (c.any_, np.any),
    (c.all_, np.all), (c.max_, np.max), (c.min_, np.min), (c.count_nonzero, np.count_nonzero),
]  # fmt: skip


@pytest.mark.parametrize("composite, function", MOMENTS, ids=lambda f: f.__name__)
def test_reductions_give_numpys_dtype_and_value(composite: Any, function: Any) -> None:
    for dtype in NUMBERS:
        x = array((3, 5, 4), dtype)
        for axes in ((1,), (0, 2), (0, 1, 2)):
            # float16: NumPy rounds the deviations to float16 on the way, we do not. Complex: another product order.
            allowed = {"float16": 8, "complex64": 64, "complex128": 64}.get(dtype.name, 4)
            with np.errstate(all="ignore"):
                expected = function(x, axis=axes)
            actual = run(lambda e, v, a=axes: composite(e, v, a), x)
            assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), dtype
            if expected.dtype.kind in "fc":
                scale = np.finfo(expected.dtype).eps * allowed
                np.testing.assert_allclose(actual, expected, rtol=scale, atol=scale * 10, err_msg=dtype.name)
            else:
                agree(actual, expected)


def test_counts_may_be_symbols() -> None:
    x = array((4, 7))
    agree(run(lambda e, v: c.mean(e, v, (0, 1)), x, symbolic=True), x.mean())
    agree(run(lambda e, v: c.var(e, v, (1,), 1), x, symbolic=True), x.var(axis=1, ddof=1), 2)
    agree(run(lambda e, v: c.var(e, v, (1,), 9), x, symbolic=True), _quiet(lambda: x.var(axis=1, ddof=9)), 2)


def _quiet(function: Callable[[], Any]) -> Any:
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        return function()


def test_softmax_and_logsumexp_hold_at_infinities() -> None:
    x = np.array([[0.0, 1000.0, -1000.0], [-np.inf, -np.inf, -np.inf], [np.inf, 0.0, 1.0]])
    with np.errstate(all="ignore"):
        found = run(lambda e, v: c.logsumexp(e, v, (1,)), x)
        np.testing.assert_array_equal(found, [1000.0, -np.inf, np.inf])
        y = array((4, 6), types.float32)
        weights = np.exp(y - y.max(axis=1, keepdims=True))
        agree(run(lambda e, v: c.softmax(e, v, 1), y), weights / weights.sum(axis=1, keepdims=True), 2)


LAYOUT: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
    ("moveaxis", lambda e, v: c.moveaxis(e, v, (0,), (2,)), lambda x: np.moveaxis(x, 0, 2)),
    ("swapaxes", lambda e, v: c.swapaxes(e, v, 0, 2), lambda x: np.swapaxes(x, 0, 2)),
    ("flip", lambda e, v: c.flip(e, v, (0, 2)), lambda x: np.flip(x, (0, 2))),
    ("roll", lambda e, v: c.roll(e, v, 2, 1), lambda x: np.roll(x, 2, 1)),
    ("roll back", lambda e, v: c.roll(e, v, -8, 1), lambda x: np.roll(x, -8, 1)),
    ("tile", lambda e, v: c.tile(e, v, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
    ("tile up", lambda e, v: c.tile(e, v, (2, 1, 1, 1)), lambda x: np.tile(x, (2, 1, 1, 1))),
    ("repeat", lambda e, v: c.repeat(e, v, 3, 1), lambda x: np.repeat(x, 3, 1)),
    ("stack", lambda e, v: c.stack(e, [v, v], 1), lambda x: np.stack([x, x], 1)),
    ("split", lambda e, v: c.split(e, v, (1, 3), 1)[1], lambda x: np.split(x, (1, 3), 1)[1]),
    ("diff", lambda e, v: c.diff(e, v, 2, 1), lambda x: np.diff(x, 2, 1)),
    ("tril", lambda e, v: c.tril(e, v, 1), lambda x: np.tril(x, 1)),
    ("triu", lambda e, v: c.triu(e, v, -1), lambda x: np.triu(x, -1)),
    ("trace", lambda e, v: c.trace(e, v), lambda x: np.trace(x, axis1=1, axis2=2)),
    ("ravel", lambda e, v: c.ravel(e, v), np.ravel),
]


@pytest.mark.parametrize("symbolic", [False, True], ids=["sizes", "symbols"])
@pytest.mark.parametrize("name, composite, function", LAYOUT, ids=[row[0] for row in LAYOUT])
def test_layout(name: str, composite: Any, function: Any, symbolic: bool) -> None:
    for dtype in (types.float64, types.int8, types.complex64):
        x = array((3, 5, 4), dtype)
        agree(run(composite, x, symbolic=symbolic), function(x))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_pad(mode: str) -> None:
    x, widths = array((4, 5)), ((2, 3), (0, 4))
    agree(run(lambda e, v: c.pad(e, v, widths, mode), x), np.pad(x, widths, mode))


def test_pad_refuses_a_reflection_longer_than_the_array() -> None:
    with pytest.raises(ShapeError, match="width 5"):
        run(lambda e, v: c.pad(e, v, ((5, 0),), "reflect"), array((3,)))


def test_creation() -> None:
    agree(run(lambda e: c.eye(e, 3, 4, 1, types.float32)), np.eye(3, 4, 1, np.float32))
    agree(run(lambda e: c.tri(e, 3, 4, -1, types.int32)), np.tri(3, 4, -1, np.int32))
    agree(run(lambda e: c.full(e, (2, 3), 7, types.uint8)), np.full((2, 3), 7, np.uint8))
    for dtype in (types.int64, types.float32, types.complex128):
        numbers = np.arange(2, 30, 3, dtype.numpy)
        agree(
            run(
                lambda e, t=dtype: c.arange(e, c.constant(e, 2, t), c.constant(e, 3, t), 10),
            ),
            numbers,
        )
    for num, endpoint in ((7, True), (7, False), (1, True), (0, True)):
        start, stop = np.float64(0.3), np.float64(-2.7)
        for dtype in (types.float64, types.int32):
            found = run(lambda e, a, b, n=num, p=endpoint, t=dtype: c.linspace(e, a, b, n, p, t), start, stop)
            agree(found, np.linspace(start, stop, num, endpoint, dtype=dtype.numpy))


PRODUCTS = [((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5))]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_products(shapes: Any) -> None:
    for dtype in (types.float64, types.int16, types.bool_, types.complex64):
        x, y = array(shapes[0], dtype), array(shapes[1], dtype)
        close: Any = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # noqa: E731
        for composite, function in ((c.matmul, np.matmul), (c.dot, np.dot)):
            found = run(composite, x, y)
            assert found.dtype == function(x, y).dtype
            close(found, function(x, y))
        close(run(c.outer, x, y), np.outer(x, y))
    z = array((6, 4))
    np.testing.assert_allclose(run(c.inner, array((3, 4)), z).shape, (3, 6))
    with pytest.raises(ShapeError, match="matmul"):
        run(c.matmul, array((3, 4)), array((5, 6)))


def test_solve_reshape() -> None:
    n = dims.symbol("n")
    assert c.solve_reshape((4, 6), (-1, 8)) == (3, 8)
    assert c.solve_reshape((n, 6), (-1, 3)) == (2 * n, 3)
    assert c.solve_reshape((n, 6), (n, -1)) == (n, 6)
    with pytest.raises(ShapeError, match="cannot reshape array of size 24"):
        c.solve_reshape((4, 6), (-1, 7))
    with pytest.raises(ShapeError, match="only specify one"):
        c.solve_reshape((4, 6), (-1, -1))


def test_one_hot_and_nan_to_num() -> None:
    indices = np.array([0, 2, 5])
    on_off: Any = lambda e, v: c.one_hot(e, v, 3, c.constant(e, 1, types.float32), c.constant(e, 0, types.float32), 1)  # noqa: E731
    np.testing.assert_array_equal(run(on_off, indices), [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    x = np.array([np.nan, np.inf, -np.inf, 1.5], np.float32)
    agree(run(c.nan_to_num, x), np.nan_to_num(x))
