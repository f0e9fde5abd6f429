"""The gradient that a user wrote: the cotangents of a `custom_gradient` node come from its backward graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jitensor.errors import InternalError
from jitensor.ir.graph import Graph
from jitensor.ops import differentiation
from jitensor.ops.composites.numbers import Emit
from jitensor.ops.vjps.expression import zeros_like

Values = tuple[Any, ...]


def inline(emit: Emit, graph: Graph, values: Sequence[Any]) -> list[Any]:
    """The graph's outputs, its nodes emitted one by one on `values`, one for each input. Captures have to be inputs."""
    if graph.captures or graph.updates:
        raise InternalError(f"inline: graph {graph.name} captures or updates arrays.")
    known = {v.id: value for v, value in zip(graph.inputs, values, strict=True)}
    for node in graph.nodes:
        results = emit(node.primitive, *[known[v.id] for v in node.inputs], **dict(node.params))
        several = results if isinstance(results, tuple) else (results,)
        known.update(zip([v.id for v in node.outputs], several, strict=True))
    return [known[v.id] for v in graph.outputs]


def _custom_gradient(
    emit: Emit, g: Any, outputs: Values, inputs: Values, results: int, connected: tuple[bool, ...], backward: Graph
) -> Values:
    given = g if isinstance(g, tuple) else (g,)
    cotangents = [zeros_like(emit, v.type) if part is None else part for v, part in zip(outputs, given, strict=True)]
    saved = inputs[results + len(connected) :]
    found = iter(inline(emit, backward, [*cotangents, *saved]))
    operands = [next(found) if is_connected else None for is_connected in connected]
    return (*[None] * results, *operands, *[None] * len(saved))


differentiation.custom_gradient.vjp = _custom_gradient
