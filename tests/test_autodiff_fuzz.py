"""Gradients of random graphs: every rule meets every other, over fixed and symbolic sizes, interpreted and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import RandomGraph, random_graph

from jitensor.autodiff import Gradient, KnownSizes, gradient_graph
from jitensor.ir import dims
from jitensor.ir.interpret import interpret
from jitensor.ir.verify import verify
from jitensor.pipeline import build

NODES = 14
SEEDS = range(24)
COMPILED = range(1000, 1006)
TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "complex64": 1e-4}


def differentiate(random: RandomGraph) -> Gradient | None:
    """The joint graph by all inputs that have a gradient, verified; None where there is no such input."""
    wrt = [i for i, v in enumerate(random.graph.inputs) if v.dtype.kind in "fc"]
    if not wrt:
        return None
    answers = {(op, a, b): answer for op, a, b, answer in random.resolver.guards}
    joint = gradient_graph(random.graph, wrt, sizes=KnownSizes(random.resolver.united, answers))
    with dims.resolving(random.resolver):
        verify(joint.graph, frozenset(random.sizes))
    return joint


def arguments(random: RandomGraph) -> list[Any]:
    return [a if np.isscalar(a) else np.array(a) for a in random.arguments(random.sizes, 0)[0]]


def outputs(random: RandomGraph, joint: Gradient) -> list[Any]:
    return [np.array(o) for o in interpret(joint.graph, arguments(random), random.sizes)[0]]


@pytest.mark.parametrize("symbolic", [False, True], ids=["fixed", "symbolic"])
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_have_the_types_of_their_sources(seed: int, symbolic: bool) -> None:
    random = random_graph(seed, NODES, symbolic=symbolic)
    joint = differentiate(random)
    if joint is None:
        return
    found = outputs(random, joint)[len(random.graph.outputs) :]
    sources = [v for v in random.graph.inputs if v.dtype.kind in "fc"]
    connected = [v for v, is_connected in zip(sources, joint.connected, strict=True) if is_connected]
    for source, gradient in zip(connected, found, strict=True):
        shape = tuple(dims.evaluate(n, random.sizes) for n in source.shape)
        assert (gradient.dtype, gradient.shape) == (source.dtype.numpy, shape)


@pytest.mark.parametrize("seed", COMPILED)
def test_compiled_gradients_are_the_interpreted_ones(seed: int) -> None:
    random = random_graph(seed, NODES, symbolic=True)
    joint = differentiate(random)
    if joint is None:
        return
    executable = build(joint.graph, random.resolver.united)
    for actual, expected in zip(executable(arguments(random), random.sizes), outputs(random, joint), strict=True):
        scale = np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
        tolerance = TOLERANCE.get(expected.dtype.name, 1e-9)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(1.0, float(scale)))
