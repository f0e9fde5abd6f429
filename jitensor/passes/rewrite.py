"""The rewriting engine: rules are named functions of one node; the graph is rebuilt once, in order.

A rule is `rule(rewriter, node, inputs) -> outputs or None`: `inputs` are values of the new graph, and what it adds with
`rewriter.add` is offered to the rules again. Must not know any rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jitensor.ir.graph import Graph, GraphBuilder, Node, Primitive, Value
from jitensor.ir.types import TensorType

Rule = Callable[["Rewriter", Node, tuple[Value, ...]], "tuple[Value, ...] | None"]


class Rewriter:
    """`facts`: what an analysis of the old graph found, by the id of its values; `applied`: uses of each rule."""

    def __init__(self, graph: Graph, rules: Mapping[str, Rule], facts: Any) -> None:
        self.graph = graph
        self.rules = rules
        self.facts = facts
        self.builder = GraphBuilder(graph.name)
        self.new: dict[int, Value] = {}  # old value id -> new value
        self.old: dict[int, int] = {}  # new value id -> old value id, where one stands for the other
        self.applied: dict[str, int] = {}

    def run(self) -> Graph:
        for v in self.graph.inputs:
            self._stand(v, self.builder.input(v.type, scalar=v.id in self.graph.scalars))
        for c in self.graph.captures:
            self._stand(c.value, self.builder.capture(c.source, c.value.type))
        for node in self.graph.nodes:
            inputs = tuple([self.new[v.id] for v in node.inputs])
            outputs = self._rewritten(node, inputs)
            if outputs is None:
                outputs = self.builder.append(
                    node.primitive, inputs, node.params, [v.type for v in node.outputs], node.location
                )
            for old, new in zip(node.outputs, outputs, strict=True):
                self._stand(old, new)
        return _pruned(
            self.builder.finish(
                [self.new[v.id] for v in self.graph.outputs],
                [(self.new[t.id], self.new[v.id]) for t, v in self.graph.updates],
            )
        )

    def _stand(self, old: Value, new: Value) -> None:
        self.new[old.id] = new
        self.old.setdefault(new.id, old.id)

    def _rewritten(self, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        for name, rule in self.rules.items():
            outputs = rule(self, node, inputs)
            if outputs is not None:
                self.applied[name] = self.applied.get(name, 0) + 1
                return outputs
        return None

    def add(
        self, primitive: Primitive, inputs: tuple[Value, ...], type: TensorType, location: Any, **params: Any
    ) -> Value:
        """A new node of known type, itself rewritten if a rule fits."""
        node = Node(primitive, inputs, tuple(sorted(params.items())), (Value(-1, type),), location)
        outputs = self._rewritten(node, inputs)
        if outputs is None:
            outputs = self.builder.append(primitive, inputs, node.params, (type,), location)
        return outputs[0]

    def producer(self, value: Value) -> Node | None:
        return self.builder.producer.get(value.id)


def _pruned(graph: Graph) -> Graph:
    """Without the nodes that nothing needs any more."""
    needed = {v.id for v in graph.outputs} | {v.id for _, v in graph.updates}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.primitive.effects or any(v.id in needed for v in node.outputs):
            kept.append(node)
            needed.update(v.id for v in node.inputs)
    kept.reverse()
    return Graph(graph.name, graph.inputs, graph.captures, tuple(kept), graph.outputs, graph.scalars, graph.updates)
