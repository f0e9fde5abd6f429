"""Casts, reductions, views, joins, updates, products and library calls: compiled, against the interpreter.

Small graphs as functions of `emit`, with sizes that are symbols. A run compiles through the writer that the settings
choose (JITENSOR_BACKEND=njit for the other one), and a sample through the @njit writer besides, which takes seconds
a kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from table import Interval, draw, specials, ulp_distance

from jitensor import settings
from jitensor.errors import DTypeError
from jitensor.ir import dims, types
from jitensor.ir.graph import GraphBuilder
from jitensor.ir.interpret import interpret
from jitensor.ir.types import BY_NUMPY, NUMBERS, DType, TensorType
from jitensor.ir.verify import verify
from jitensor.ops import TABLE
from jitensor.ops import composites as c
from jitensor.pipeline import build

RNG = np.random.default_rng(7)


def with_sample(rows: Sequence[Any], sample: Callable[[Any], bool]) -> list[Any]:
    """(row, backend) pairs: every row on the configured back end, those of the sample on @njit too."""
    names = [row.short if isinstance(row, DType) else str(row) for row in rows]
    plain = [pytest.param(row, None, id=name) for row, name in zip(rows, names, strict=True)]
    again = [pytest.param(row, "njit", id=f"{name}-njit") for row, name in zip(rows, names, strict=True) if sample(row)]
    return plain + again


def a_few(dtype: DType) -> bool:
    return dtype.short in ("b1", "i16", "f16", "f64", "c64")


def draws(dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    return draw(Interval(-3.0, 3.0), dtype, shape, RNG)


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """The same values contiguous, column-major, strided and reversed in memory."""
    reverse = (slice(None, None, -1),) * x.ndim
    wide = np.repeat(x, 2, axis=-1) if x.ndim else x
    return [x, np.asfortranarray(x), wide[..., ::2] if x.ndim else x, x[reverse].copy()[reverse]]


def run_both(
    function: Callable[..., Any], *arrays: np.ndarray, relative: float = 0.0, backend: str | None = None
) -> None:
    """Builds function(emit, *values) once; compares with the interpreter on every layout, exactly or to `relative`."""
    builder = GraphBuilder()
    sizes: dict[str, int] = {}
    inputs = []
    for i, array in enumerate(arrays):
        names = [f"n{i}_{d}" for d in range(array.ndim)]
        sizes |= dict(zip(names, array.shape, strict=True))
        inputs.append(builder.input(TensorType(BY_NUMPY[array.dtype], tuple(map(dims.symbol, names)))))

    def emit(primitive: Any, *values: Any, **params: Any) -> Any:
        made = builder.add(TABLE[primitive] if isinstance(primitive, str) else primitive, values, params)
        return made[0] if len(made) == 1 else made

    class Hints:
        def relation(self, op: str, a: Any, b: Any) -> bool:
            return dims.holds(op, dims.evaluate(a, sizes), dims.evaluate(b, sizes))

        def value(self, a: Any, why: str) -> int:
            return dims.evaluate(a, sizes)

    with dims.resolving(Hints()):
        result = function(emit, *inputs)
        graph = verify(builder.finish(list(result) if isinstance(result, (tuple, list)) else [result]))
        executable = build(graph)
    variants = list(zip(*map(layouts, arrays), strict=True))
    for variant in variants[:: 3 if backend else 1]:
        expected, _ = interpret(graph, variant, sizes)
        with settings.override(backend=backend) if backend else contextlib.nullcontext():
            actual = executable(list(variant), sizes)
        for found, wanted in zip(actual, expected, strict=True):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            if relative:
                np.testing.assert_allclose(found, wanted, rtol=relative, atol=relative)
            elif wanted.size:
                assert np.max(ulp_distance(found, wanted)) == 0, (found, wanted)


@pytest.mark.parametrize("source, backend", with_sample(NUMBERS, a_few))
def test_casts(source: DType, backend: str | None) -> None:
    """Every target at once. Of floats that an integer cannot hold NumPy's own loops make different things."""
    values = np.concatenate([specials(source), draws(source, (31,))])
    if source.is_inexact:
        values = values[np.isfinite(values)]
        values = values[np.abs(values.real.astype(np.float64)) < 2**31]
    run_both(lambda e, x: [c.cast(e, x, t) for t in NUMBERS if t is not source], values, backend=backend)


REDUCTIONS = [p for p in TABLE.values() if p.family == "reduction"]


def _takes(name: str, dtype: DType) -> bool:
    try:
        TABLE[name].type_rule(TensorType(dtype, (2,)), axes=(0,))
    except DTypeError:
        return False
    return True


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype, backend", with_sample(NUMBERS, lambda t: t.short in ("b1", "f32")))
def test_reductions(dtype: DType, axes: tuple[int, ...], backend: str | None) -> None:
    entries = [
        p for p in REDUCTIONS if _takes(p.name, dtype) and (not p.lower.accumulate.startswith("arg") or len(axes) != 2)
    ]
    x = draws(dtype, (3, 5, 19))
    relative = 64 * float(np.finfo(dtype.numpy).eps) if dtype.is_inexact else 0.0
    run_both(lambda e, v: [e(p, v, axes=axes) for p in entries], x, relative=relative, backend=backend)


@pytest.mark.parametrize(
    "dtype, backend", with_sample([t for t in NUMBERS if t.is_inexact], lambda t: t is types.float64)
)
def test_extremes_of_special_values(dtype: DType, backend: str | None) -> None:
    """nan wins, infinities count, the first of equals is the one."""
    entries = [p for p in REDUCTIONS if p.lower.empty]
    rows = np.stack([RNG.permutation(np.resize(specials(dtype), 40)) for _ in range(12)])
    clean = np.where(np.isnan(rows), rows.dtype.type(1), rows)
    for x in (rows, clean):
        run_both(lambda e, v: [e(p, v, axes=a) for p in entries for a in ((0,), (1,), (0, 1))], x, backend=backend)


@pytest.mark.parametrize("dtype, backend", with_sample([types.float32, types.float64], a_few))
def test_long_sums_are_accurate(dtype: DType, backend: str | None) -> None:
    x = RNG.lognormal(sigma=3.0, size=100_003).astype(dtype.numpy)
    run_both(lambda e, v: c.sum_(e, v, (0,)), x, relative=4 * float(np.finfo(dtype.numpy).eps), backend=backend)


VIEWS: list[tuple[str, Callable[..., Any]]] = [
    ("transpose", lambda e, v: c.transpose(e, v, (2, 0, 1))),
    ("flip", lambda e, v: c.flip(e, v, (0, 2))),
    ("roll", lambda e, v: c.roll(e, v, 3, 1)),
    ("tile", lambda e, v: c.tile(e, v, (2, 1, 3))),
    ("repeat", lambda e, v: c.repeat(e, v, 3, 1)),
    ("stack", lambda e, v: c.stack(e, [v, v], 1)),
    ("split", lambda e, v: c.split(e, v, (1, 3), 1)),
    ("pad", lambda e, v: c.pad(e, v, ((1, 2), (0, 3), (2, 0)))),
    ("edge", lambda e, v: c.pad(e, v, ((1, 2), (0, 3), (2, 0)), "edge")),
    ("reflect", lambda e, v: c.pad(e, v, ((1, 2), (0, 3), (2, 0)), "reflect")),
    ("diff", lambda e, v: c.diff(e, v, 2, 1)),
    ("tril", lambda e, v: c.tril(e, v, 1)),
    ("ravel", lambda e, v: c.ravel(e, v)),
    ("sum of transpose", lambda e, v: e("add", v, c.transpose(e, c.transpose(e, v, (2, 0, 1)), (1, 2, 0)))),
    (
        "iota",
        lambda e, v: e("add", v, c.cast(e, e("iota", shape=v.type.shape, axis=1, dtype=types.int64), v.type.dtype)),
    ),
    ("concatenate", lambda e, v: c.concatenate(e, [v, e("negative", v), v], 2)),
    (
        "update",
        lambda e, v: e(
            "update_slice",
            v,
            e("negative", c.slice_axis(e, v, 1, 1, 2)),
            starts=(0, 1, 0),
            sizes=(v.type.shape[0], 2, v.type.shape[2]),
            steps=(1, 1, 1),
        ),
    ),
    ("cumsum", lambda e, v: e("cumsum", v, axis=1)),
    ("sort", lambda e, v: e("sort", v, axis=2)),
    ("softmax", lambda e, v: c.softmax(e, v, 2)),
    ("var", lambda e, v: [c.var(e, v, a) for a in ((0,), (1,), (2,), (0, 1, 2))]),
    ("trace", lambda e, v: c.trace(e, v)),
]


@pytest.mark.parametrize(
    "name, backend", with_sample([row[0] for row in VIEWS], lambda name: name in ("roll", "pad", "update", "cumsum"))
)
def test_views_and_joins(name: str, backend: str | None) -> None:
    run_both(dict(VIEWS)[name], draws(types.float64, (3, 5, 4)), relative=1e-13, backend=backend)


@pytest.mark.parametrize("name", ["transpose", "flip", "roll", "pad", "concatenate", "update", "stack"])
def test_views_of_every_width(name: str) -> None:
    for dtype in (types.bool_, types.int8, types.float16, types.float32, types.complex128):
        function = dict(VIEWS)[name]
        if not (dtype is types.bool_ and name in ("concatenate", "update")):  # bool has no negative
            run_both(function, draws(dtype, (3, 5, 4)))


def test_products() -> None:
    for dtype in (types.float64, types.float32, types.complex64, types.int32):
        for shapes in (((7, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((2, 7, 4), (2, 4, 5))):
            run_both(c.matmul, *[draws(dtype, s) for s in shapes], relative=1e-5)


def test_empty_arrays() -> None:
    empty = np.zeros((0, 3))
    run_both(lambda e, v: [e("sin", v), c.sum_(e, v, (0,)), c.sum_(e, v, (0, 1)), c.mean(e, v, (1,))], empty)


def test_sizes_found_at_run_time() -> None:
    x = np.array([1.0, -2.0, 3.0, -4.0, 5.0])

    def positive_part(e: Any, v: Any) -> Any:
        mask = e("greater", v, c.constant(e, 0, types.float64))
        found = e("boolean_mask", v, mask, axis=0, size="m")
        return [e("multiply", found, found), c.sum_(e, found, (0,)), c.mean(e, found, (0,))]

    run_both(positive_part, x, relative=1e-15)


def test_gather_and_scatter() -> None:
    x, i = draws(types.float64, (5, 4)), np.array([[0, -1], [2, 2]])
    run_both(lambda e, v, k: e("gather", v, k, axis=0, mode="raise"), x, i)
    run_both(lambda e, v, k: e("index_get", v, k, k, axes=(0, 1)), x, i)
    run_both(lambda e, v, k: e("gather_nd", v, k), x, np.array([[0, 1], [2, 2]]))
    run_both(lambda e, v, k, w: e("scatter_nd_update", v, k, w), x, np.array([[0, 1], [2, 2]]), np.array([7.0, 8.0]))
