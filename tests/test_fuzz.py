"""Random graphs: what is compiled gives what the graph means at all sizes and layouts, and touches nothing else."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from jitensor import pipeline
from jitensor.ir.dims import evaluate
from jitensor.ir.interpret import concrete
from jitensor.runtime import executor
from jitensor.runtime import memory as store
from jitensor.runtime.counters import counters
from tests.graphs import RandomGraph, expected, random_graph

Array = np.ndarray[Any, Any]
ROUGH = {2: 2e-2, 4: 1e-4, 8: 1e-10}  # relative, by bytes of the real type
FOCUS = (
    "",
    "",
    "",
    "reduction",
    "normalise",
    "update",
    "slice",
    "reshape",
    "concatenate",
    "iota",
    "broadcast_to",
    "smooth",
)


class PoisonedMemory:
    """numpy.empty for the executor: memory full of rubbish, with guards on both sides that `check` looks at."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Array, int]] = []

    def empty(self, shape: Any, dtype: Any = float) -> Array:
        dtype = np.dtype(dtype)
        margin = 64 * dtype.itemsize
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        block = np.full(size + 2 * margin, 0xC3, np.uint8)
        self.blocks.append((block, margin))
        return block[margin : margin + size].view(dtype).reshape(shape)

    def check(self) -> None:
        for block, margin in self.blocks:
            assert np.all(block[:margin] == 0xC3), "written before an allocated array"
            assert np.all(block[len(block) - margin :] == 0xC3), "written after an allocated array"


def same(actual: Array, wanted: Array, rough: bool, what: str) -> None:
    assert actual.dtype == wanted.dtype and actual.shape == wanted.shape, f"{what}: {actual.dtype} {actual.shape}"
    if rough and wanted.dtype.kind in "fc":
        tolerance = ROUGH[wanted.real.dtype.itemsize]
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance / 8, err_msg=what)
    else:
        np.testing.assert_array_equal(actual, wanted, err_msg=what)


def call_and_compare(executable: pipeline.Executable, g: RandomGraph, sizes: Mapping[str, int], seed: int) -> None:
    graph = g.graph
    arguments, memories = g.arguments(sizes, seed)
    try:
        wanted, news = expected(graph, arguments, sizes)
    except ValueError:  # a maximum of nothing, at these sizes
        return
    exact = seed == 0 or g.is_exact_for(arguments, sizes)
    after = [None if m is None else m.copy() for m in memories]
    position = {v.id: i for i, v in enumerate(graph.inputs)}
    poison = PoisonedMemory()
    executor.memory = types.SimpleNamespace(empty=poison.empty)  # type: ignore[assignment]
    try:
        results = executable(arguments, sizes)
    finally:
        executor.memory = store
    for k, (result, want) in enumerate(zip(results, wanted, strict=True)):
        compare(result, want, exact, graph.outputs[k].id in g.rough, f"output {k} ({graph.outputs[k]}) of g{g.seed}")
    for (target, value), want in zip(graph.updates, news, strict=True):
        compare(
            np.asarray(arguments[position[target.id]]),
            want,
            exact,
            value.id in g.rough,
            f"update {target} of g{g.seed}",
        )
    for i, (argument, memory, before) in enumerate(zip(arguments, memories, after, strict=True)):
        if memory is None or before is None or memory.base is argument.base is None:
            continue
        updated = [k for k, (t, _) in enumerate(graph.updates) if position[t.id] == i]
        check_memory(argument, memory, before, bool(updated), f"input {i} of g{g.seed}")
    for result in results:
        assert not any(np.may_share_memory(result, a) for a in arguments if isinstance(a, np.ndarray))
    poison.check()


def compare(actual: Array, wanted: Array, exact: bool, rough: bool, what: str) -> None:
    if exact:
        same(actual, wanted, rough, what)
    else:  # an order of evaluation shows, so nothing can be said of values
        assert actual.dtype == wanted.dtype and actual.shape == wanted.shape, what


def check_memory(argument: Array, memory: Array, before: Array, updated: bool, what: str) -> None:
    """Nothing but the elements of a written argument has changed."""
    if updated:
        touched = np.zeros(memory.nbytes, np.uint8)
        base = memory.__array_interface__["data"][0]
        offset = argument.__array_interface__["data"][0] - base
        window = (
            np.ndarray(argument.shape, argument.dtype, touched, offset, argument.strides) if argument.size else None
        )
        if window is not None:
            window.view(f"V{argument.itemsize}")[...] = np.frombuffer(
                b"\1" * argument.itemsize, f"V{argument.itemsize}"
            )[0]
        outside = touched == 0
        same_bytes = memory.view(np.uint8)[outside] == before.view(np.uint8)[outside]
    else:
        same_bytes = (
            memory.view(np.uint8) == before.view(np.uint8) if memory.ndim else memory.tobytes() == before.tobytes()
        )
    assert np.all(same_bytes), f"{what}: memory that is not written to has changed"


def check_random(seed: int) -> None:
    rng = np.random.default_rng((seed, 1))
    symbolic = bool(rng.random() < 0.5)
    nodes = int(rng.choice([3, 6, 10, 16, 25, 40]))
    g = random_graph(seed, nodes, symbolic=symbolic, focus=str(rng.choice(FOCUS)))
    executable = pipeline.build(g.graph, g.resolver.united)
    call_and_compare(executable, g, g.sizes, 0)
    before = counters()
    call_and_compare(executable, g, g.sizes, 0)
    assert (counters() - before).kernels_compiled == 0
    if symbolic:
        for attempt in range(1, 8):
            sizes = {n: int(rng.integers(0 if rng.random() < 0.2 else 2, 14)) for n in g.sizes}
            if g.resolver.allow(sizes) and usable(g, sizes):
                call_and_compare(executable, g, sizes, attempt)


def usable(g: RandomGraph, sizes: Mapping[str, int]) -> bool:
    """Sizes that the front end would take to this trace: none of an input's is 0 or 1, no derived one is negative."""
    if any(n < 2 for n in sizes.values()):
        return False
    for node in g.graph.nodes:
        given = {k: concrete(p, sizes) for k, p in node.params}
        if any(evaluate(n, sizes) < 0 for v in node.outputs for n in v.shape):
            return False
        if "starts" in given and not in_range([evaluate(n, sizes) for n in node.inputs[0].shape], **given):
            return False
    return True


def in_range(shape: Sequence[int], starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> bool:
    parts = zip(shape, starts, sizes, steps, strict=True)
    return all(not m or (0 <= at < n and 0 <= at + (m - 1) * step < n) for n, at, m, step in parts)


SEEDS: Sequence[int] = range(80)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graph(seed: int) -> None:
    check_random(seed)
