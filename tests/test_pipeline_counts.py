"""How many kernels, library calls and bytes a graph costs, exactly; that sizes and constants cost no compilation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jitensor import pipeline, settings
from jitensor.ir.dims import evaluate
from jitensor.ir.graph import Graph
from jitensor.ir.interpret import interpret
from jitensor.runtime.counters import Counters, counters
from tests.graphs import ONE_KERNEL, Build, dense

pytestmark = pytest.mark.skipif(settings.active().disable_jit, reason="JITENSOR_DISABLE_JIT is on: nothing is compiled")
SIZES = {"n": 33, "m": 70, "k": 19}
OTHER_SIZES = {"n": 40, "m": 41, "k": 100}


def draw(graph: Graph, sizes: Mapping[str, int]) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = [tuple(evaluate(n, sizes) for n in v.shape) for v in graph.inputs]
    return [rng.uniform(0.5, 1.5, s).astype(v.dtype.numpy) for s, v in zip(shapes, graph.inputs, strict=True)]


def call(executable: pipeline.Executable, sizes: Mapping[str, int]) -> tuple[Counters, int]:
    """Calls it, compares with the interpreter. Returns the counts of the call and the bytes of its outputs."""
    graph = executable.graph
    arguments = draw(graph, sizes)
    before = counters()
    results = executable(arguments, sizes)
    spent = counters() - before
    wanted, _ = interpret(graph, arguments, sizes)
    for result, want in zip(results, wanted, strict=True):
        tolerance = 2e-5 if want.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(result, want, rtol=tolerance, atol=tolerance)
    return spent, sum(r.nbytes for r in results)


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_one_kernel_and_only_outputs_allocated(name: str) -> None:
    executable = pipeline.build(ONE_KERNEL[name]())
    spent, nbytes = call(executable, SIZES)
    assert (spent.launches, spent.library_calls, spent.bytes_allocated) == (1, 0, nbytes)
    again, _ = call(executable, OTHER_SIZES)
    assert (again.launches, again.kernels_compiled, again.kernels_loaded) == (1, 0, 0)


def test_a_dense_layer_is_one_product_and_one_kernel_in_its_memory() -> None:
    executable = pipeline.build(dense())
    spent, nbytes = call(executable, SIZES)
    assert (spent.launches, spent.library_calls, spent.bytes_allocated) == (1, 1, nbytes)
    again, nbytes = call(executable, OTHER_SIZES)
    assert (again.kernels_compiled, again.bytes_allocated) == (0, nbytes)


def scaled(rows: int, factor: float) -> Graph:
    b = Build("scaled")
    x = b.array(rows, 50)
    return b.finish([b("add", b("multiply", x, b.number(factor)), b.mean(x, (0,), keep=True))])


def test_graphs_of_other_sizes_and_constants_reuse_kernels() -> None:
    call(pipeline.build(scaled(60, 2.5)), {})
    for rows, factor in ((61, 2.5), (60, -1.0), (9, 3.0)):
        spent, _ = call(pipeline.build(scaled(rows, factor)), {})
        assert (spent.kernels_compiled, spent.kernels_loaded) == (0, 0)
