"""Graphs at the edges: deep, wide, of rank 0 to 6, empty, with rows beyond the scratch row, overlapping arguments."""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from jitensor import pipeline
from jitensor.codegen.kernel import SCRATCH
from jitensor.ir import dims
from jitensor.ir.dims import symbol
from jitensor.ir.graph import Graph
from jitensor.ir.interpret import interpret
from jitensor.ir.types import TensorType, bool_, float32, float64, int64
from jitensor.runtime.counters import counters
from tests.graphs import Build, HintResolver, K, M, N, layer_norm, log_sum_exp, softmax, variance

Array = np.ndarray[Any, Any]


def check(
    graph: Graph, arguments: list[Any], sizes: Mapping[str, int] | None = None, tolerance: float = 1e-12, **united: Any
) -> list[Array]:
    """Runs a graph twice, on copies, and compares outputs and written arguments with the interpreter."""
    sizes = sizes or {}
    executable = pipeline.build(graph, united)
    wanted, news = interpret(graph, [np.array(a) for a in arguments], sizes)
    for _ in range(2):
        given = [a.copy(order="K") if isinstance(a, np.ndarray) else a for a in arguments]
        results = executable(given, sizes)
        for result, want in zip(results, wanted, strict=True):
            assert result.dtype == want.dtype and result.shape == want.shape
            np.testing.assert_allclose(result, want, rtol=tolerance, atol=tolerance)
        position = {v.id: i for i, v in enumerate(graph.inputs)}
        for (target, _), new in zip(graph.updates, news, strict=True):
            np.testing.assert_allclose(given[position[target.id]], new, rtol=tolerance, atol=tolerance)
    return results


# Deep and wide --------------------------------------------------------------------------------------------------------


def test_a_chain_of_2000_operations_is_one_kernel() -> None:
    b = Build()
    x, y = b.array(N), b.array(N)
    value = x
    for i in range(2000):
        value = b("add" if i % 2 else "multiply", value, y)
    before = counters()
    check(b.finish([value]), [np.arange(5.0), np.full(5, 0.5)], {"n": 5})
    assert (counters() - before).launches == 2


def test_2000_views_of_a_view() -> None:
    b = Build()
    x = b.array(N, M)
    computed, stored = b("negative", x), x
    for _ in range(2000):
        computed = b("transpose", computed, perm=(1, 0))
        stored = b.slice(b("transpose", stored, perm=(1, 0)), (0, 0), (stored.shape[1], stored.shape[0]), (1, 1))
    check(
        b.finish([computed, stored, b.slice(computed, (1, 0), (N - 1, M))]),
        [np.arange(12.0).reshape(3, 4)],
        {"n": 3, "m": 4},
    )


def test_a_chain_of_300_updates_in_place() -> None:
    b = Build()
    x = b.array(N)
    value = x
    for i in range(300):
        at = i % 3
        value = b.store(value, b("add", b.slice(value, (at,), (N - 2,)), b.number(1.0)), (at,))
    check(b.finish([], [(x, value)]), [np.arange(9.0)], {"n": 9})


def test_forty_inputs_and_as_many_outputs() -> None:
    b = Build()
    inputs = [b.array(N, M) for _ in range(40)]
    sums = [b("add", x, y) for x, y in itertools.pairwise(inputs)]
    rng = np.random.default_rng(0)
    check(
        b.finish([*sums, *[b("reduce_max", s, axes=(1,)) for s in sums]]),
        list(rng.random((40, 3, 5))),
        {"n": 3, "m": 5},
    )


def test_sixty_operands_joined() -> None:
    b = Build()
    inputs = [b.array(N) for _ in range(60)]
    check(b.finish([b("concatenate", *inputs, axis=0)]), list(np.arange(180.0).reshape(60, 3)), {"n": 3})


# Ranks and sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", range(7))
def test_every_rank_in_every_memory_order(rank: int) -> None:
    sizes = {f"d{i}": 2 + i % 3 for i in range(rank)}
    shape = tuple(symbol(n) for n in sizes)
    b = Build()
    x, y = b.array(*shape), b.array(*shape)
    total = b("add", x, y)
    outputs = [total, b("transpose", total, perm=tuple(reversed(range(rank))))]
    if rank > 1:
        outputs.append(b("reduce_sum", b("multiply", total, total), axes=(0, rank - 1)))
        outputs.append(b.slice(total, [n - 1 for n in shape], shape, (-1,) * rank))
    rng = np.random.default_rng(0)
    array = rng.random(tuple(sizes.values()))
    large = rng.random(tuple(3 * n for n in sizes.values()))
    strided = large[tuple(slice(None, None, -3) for _ in sizes)]
    check(b.finish(outputs), [array.copy(order="F"), strided], sizes)
    check(b.finish(outputs), [array, np.broadcast_to(np.float64(2), array.shape)], sizes)


def test_huge_strides() -> None:
    memory = np.zeros(1 << 24, np.int8)
    x = np.lib.stride_tricks.as_strided(memory.view(np.float32), (3, 4), (1 << 22, 1 << 20))
    x[...] = np.arange(12).reshape(3, 4)
    b = Build()
    value = b.array(N, M, dtype=float32)
    graph = b.finish([b("exp", value), b("reduce_sum", value, axes=(0,)), b("reduce_sum", value, axes=(1,))])
    check(graph, [x], {"n": 3, "m": 4}, 1e-6)


def reduced(name: str, axes: tuple[int, ...], dtype: Any = float64) -> Graph:
    b = Build()
    x = b.array(N, M, K, dtype=dtype)
    return b.finish([b(name, x, axes=axes), b("exp", b(name, b("negative", x), axes=axes))])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("empty", [(), ("n",), ("m",), ("k",), ("n", "k")])
def test_empty_arrays(axes: tuple[int, ...], empty: tuple[str, ...]) -> None:
    sizes = {"n": 3, "m": 4, "k": 300} | dict.fromkeys(empty, 0)
    shape = tuple(sizes.values())
    check(reduced("reduce_sum", axes), [np.random.default_rng(0).random(shape) / 100], sizes)
    check(reduced("reduce_prod", axes), [np.random.default_rng(0).random(shape)], sizes)
    check(variance(3, axes), [np.random.default_rng(0).random(shape)], sizes, 1e-11)


ROWS = {
    "softmax": (lambda: softmax(1), 2e-6),
    "softmax of columns": (lambda: softmax(0), 2e-6),
    "layer_norm": (layer_norm, 2e-5),
    "logsumexp": (lambda: log_sum_exp(1), 1e-12),
    "variance": (lambda: variance(2, (1,)), 1e-11),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    "shape", [(3, SCRATCH), (3, SCRATCH + 1), (2, 3 * SCRATCH + 5), (SCRATCH + 7, 3), (1, 1), (5, 0)]
)
def test_long_rows_and_short_ones(name: str, shape: tuple[int, int]) -> None:
    make, tolerance = ROWS[name]
    if name.startswith(("softmax", "logsumexp")) and 0 in shape:
        return  # the front end refuses a maximum of nothing
    graph = make()
    rng = np.random.default_rng(0)
    sizes = {"n": shape[0], "m": shape[1]}
    arguments = [
        rng.standard_normal(tuple(dims.evaluate(n, sizes) for n in v.shape)).astype(v.dtype.numpy) for v in graph.inputs
    ]
    check(graph, arguments, sizes, tolerance)


# Sizes that are 1, or equal, as it turns out --------------------------------------------------------------------------


def broadcast_graph(hints: dict[str, int], make: Callable[[Build], list[Any]]) -> tuple[Graph, HintResolver]:
    resolver = HintResolver(hints)
    b = Build()
    with dims.resolving(resolver):
        return b.finish(make(b)), resolver


def test_a_derived_size_that_is_1_broadcasts() -> None:
    def make(b: Build) -> list[Any]:
        x, y = b.array(N, K), b.array(M)
        short = b.slice(x, (0, 1), (N, K - 2))  # [n, 1] at these sizes
        computed = b("exp", short)
        line = b("iota", shape=(K - 2,), axis=0, dtype=float64)
        return [
            b("add", short, y),
            b("multiply", computed, y),
            b("reduce_sum", b("add", computed, y), axes=(1,)),
            b("add", b("reduce_sum", computed, axes=(1,)), b("reduce_sum", b("multiply", short, y), axes=(1,))),
            b("add", b("add", line, b.number(1.0)), y),
            b("broadcast_to", computed, shape=(N, M)),
            b("broadcast_to", short, shape=(N, M)),
            b("add", b("broadcast_to", b("negative", short), shape=(N, M)), y),
        ]

    sizes = {"n": 4, "m": 5, "k": 3}
    graph, resolver = broadcast_graph(sizes, make)
    rng = np.random.default_rng(0)
    check(graph, [rng.random((4, 3)), rng.random(5)], sizes, **resolver.united)
    assert resolver.guards


def test_sizes_found_equal() -> None:
    def make(b: Build) -> list[Any]:
        x, y = b.array(N, K), b.array(M, K)
        total = b("add", b("sqrt", x), y)
        return [total, b("reduce_sum", total, axes=(0,)), b("concatenate", x, y, axis=1)]

    sizes = {"n": 4, "m": 4, "k": 3}
    graph, resolver = broadcast_graph(sizes, make)
    rng = np.random.default_rng(0)
    for united in (resolver.united, {}):  # without the knowledge it is only slower
        check(graph, [rng.random((4, 3)), rng.random((4, 3))], sizes, **united)


# Arguments and results ------------------------------------------------------------------------------------------------


def test_results_are_fresh_and_feed_the_next_call() -> None:
    b = Build()
    x = b.array(N)
    executable = pipeline.build(b.finish([b("multiply", x, b.number(2.0)), b.slice(x, (0,), (N - 1,)), x]))
    value = np.arange(4.0)
    for _ in range(3):
        results = executable([value], {"n": 4})
        assert not any(np.may_share_memory(r, value) for r in results)
        assert all(r.flags.writeable for r in results)
        np.testing.assert_array_equal(results[0], value * 2)
        value = results[0]


def test_foreign_byte_order_and_unaligned_memory() -> None:
    b = Build()
    x, y = b.array(N), b.array(N)
    graph = b.finish([b("add", x, y)], [(x, b("multiply", x, y))])
    packed = np.zeros(5, [("pad", "i1"), ("value", "f8")])["value"]
    packed[:] = np.arange(5)
    swapped = np.arange(5.0).astype(">f8")
    executable = pipeline.build(graph)
    (total,) = executable([packed, swapped], {"n": 5})
    np.testing.assert_array_equal(total, np.arange(5.0) * 2)
    np.testing.assert_array_equal(packed, np.arange(5.0) ** 2)
    executable([swapped, np.full(5, 2.0)], {"n": 5})
    np.testing.assert_array_equal(swapped, np.arange(5.0) * 2)


def test_an_argument_that_overlaps_a_written_one_is_read_as_it_was() -> None:
    b = Build()
    x, y = b.array(N), b.array(N)
    executable = pipeline.build(b.finish([], [(x, b("add", x, y))]))
    memory = np.arange(9.0)
    executable([memory[1:], memory[:-1]], {"n": 8})
    np.testing.assert_array_equal(memory, [0, 1, 3, 5, 7, 9, 11, 13, 15])


def test_numbers_of_every_dtype_are_passed_by_value() -> None:
    from jitensor.ir.types import NUMBERS

    for dtype in NUMBERS:
        b = Build()
        x, s = b.array(N, dtype=dtype), b.input(TensorType(dtype, ()), scalar=True)
        graph = b.finish([b("add", x, s), b("full", s, shape=(N,)), s, b("where", b.number(True, bool_), s, x)])
        number = dtype.numpy.type(1 + 2j) if dtype.kind == "c" else dtype.numpy.type(1)
        check(graph, [np.arange(3).astype(dtype.numpy), number], {"n": 3})


# Positions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_count_in_the_order_of_the_dimensions(name: str) -> None:
    b = Build()
    x = b.array(N, M)
    turned = b("transpose", b("negative", x), perm=(1, 0))
    outputs = [b(name, v, axes=a) for v in (x, turned, b("transpose", x, perm=(1, 0))) for a in ((0,), (1,), (0, 1))]
    rng = np.random.default_rng(0)
    results = check(b.finish([*outputs, turned]), [rng.integers(0, 3, (7, 300)).astype(float)], {"n": 7, "m": 300})
    assert results[0].dtype == np.int64
    check(b.finish(outputs), [np.asfortranarray(rng.integers(0, 3, (7, 300)).astype(float))], {"n": 7, "m": 300})


def test_reductions_over_dimensions_of_size_1() -> None:
    b = Build()
    x = b.array(N, 1, dtype=int64)
    outputs = [b(name, x, axes=axes) for name in ("reduce_sum", "reduce_max", "argmax") for axes in ((1,), (0, 1))]
    outputs += [b("reduce_prod", b("negative", b.slice(x, (0, 0), (1, 1))), axes=(0, 1))]
    check(b.finish(outputs), [np.array([[3], [9], [-2]])], {"n": 3})


def test_threads_share_an_executable() -> None:
    executable = pipeline.build(variance(2, (1,)))
    rng = np.random.default_rng(0)
    arrays = [rng.random((n, m)) for n in range(2, 12) for m in (3, 40, 600)]

    def use(array: Array) -> bool:
        return all(
            np.allclose(executable([array], {"n": array.shape[0], "m": array.shape[1]})[0], array.var(axis=1))
            for _ in range(20)
        )

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(use, arrays))


@pytest.mark.parametrize("extent", range(2, 10))
def test_a_narrow_row_seen_by_every_row(extent: int) -> None:
    """LLVM ends the process over the unrolled form of this kernel (Cannot select: SUBV_BROADCAST_LOAD)."""
    b = Build()
    x, y, s, t = b.array(N, M, dtype=bool_), b.array(M, dtype=bool_), b.array(dtype=bool_), b.array(dtype=bool_)
    both = b("fmax", b("broadcast_to", y, shape=(N, M)), b.slice(x, (0, 0), (N, 1)))
    limit = b("fmax", s, t)
    inner = b("clip", b("clip", both, limit, limit), y, b("reduce_any", x, axes=(0,)))
    rng = np.random.default_rng(0)
    rows = rng.random((40, extent)) < 0.5
    check(b.finish([b("bitwise_and", inner, both)]), [rows, rows[0], rows[0, :1].reshape(()), rows[1, 1:2].reshape(())],
          {"n": 40, "m": extent})  # fmt: skip
