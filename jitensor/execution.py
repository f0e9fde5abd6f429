"""Running a trace that reads or writes Variables: which writes go in place, and what the others are.

Owns `Execution`. Must not know logs, or how a trace came to be.

A written Variable is updated in place, as an update of the graph, unless
- its new value is an argument or another Variable's old value: that array is shared;
- its old value goes on living, as a result or in another Variable;
- nothing reads its old value, or the shape changes;
- the graph has effects, which may raise: until all have passed, no Variable may change.
Then the new value is a result of the program, which the Variable takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jitensor import pipeline
from jitensor.ir.graph import Graph, Node, Value
from jitensor.recording import Slot, Trace
from jitensor.tensor import Tensor

Array = np.ndarray[Any, Any]
_NO_SIZES: dict[str, int] = {}


class Source(NamedTuple):
    """Where an array comes from. kind: "argument", "old" (a Variable before the call), "new" (one written in place), or
    "result" of the program."""

    kind: str
    position: int


class Execution:
    """`inputs`: the trace's placeholders; `outputs`: tensors of the trace whose values are known."""

    def __init__(self, trace: Trace, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.slots: list[Slot] = list(trace.slots.values())
        self.variables = [slot.variable for slot in self.slots]
        self.places: dict[int, Source] = {}
        for i, tensor in enumerate(inputs):
            if tensor._value is not None:
                self.places[tensor._value.id] = Source("argument", i)
        for k, slot in enumerate(self.slots):
            self.places[_value(slot.first).id] = Source("old", k)
        values = [trace.value_of(t) for t in outputs]
        finals = {k: trace.value_of(s.current) for k, s in enumerate(self.slots) if s.written}
        finals = {k: v for k, v in finals.items() if v is not self.slots[k].first._value}
        self.results: list[Value] = []
        graph = _pruned(trace.builder.finish([*values, *finals.values()]))
        self.in_place = self._in_place(graph, values, finals)
        self.sources = [self._source(v) for v in values]
        self.stores = [(k, self._source(v)) for k, v in finals.items() if k not in self.in_place]
        self.graph = self._with_inputs(trace, [(_value(self.slots[k].first), finals[k]) for k in self.in_place])
        self.order = [self.places[v.id] for v in self.graph.inputs]
        does_something = self.graph.outputs or self.graph.updates or any(n.primitive.effects for n in self.graph.nodes)
        self.executable = pipeline.build(self.graph) if does_something else None
        self.writes = bool(self.in_place or self.stores)
        self._olds = sorted(
            {s.position for s in (*self.order, *self.sources, *[s for _, s in self.stores]) if s.kind == "old"}
        )

    def _in_place(self, graph: Graph, values: list[Value], finals: dict[int, Value]) -> list[int]:
        if any(n.primitive.effects for n in graph.nodes):
            return []
        escaping = {v.id for v in (*values, *finals.values())}
        read = {v.id for node in graph.nodes for v in node.inputs}
        found: list[int] = []
        for k, new in finals.items():
            old = _value(self.slots[k].first)
            if new.id not in self.places and old.id not in escaping and old.id in read and old.type == new.type:
                if not any(self.places[new.id] == Source("new", m) for m in found if new.id in self.places):
                    self.places[new.id] = Source("new", k)
                    found.append(k)
        return found

    def _source(self, value: Value) -> Source:
        found = self.places.get(value.id)
        if found is None:
            found = self.places[value.id] = Source("result", len(self.results))
            self.results.append(value)
        return found

    def _with_inputs(self, trace: Trace, updates: list[tuple[Value, Value]]) -> Graph:
        """The graph, whose inputs are the arguments and the Variables that it reads."""
        graph = _pruned(trace.builder.finish(self.results, updates))
        used = {v.id for node in graph.nodes for v in node.inputs} | {old.id for old, _ in updates}
        arguments = [v for v in graph.inputs if v.id in used and v.id in self.places]
        return dataclasses.replace(graph, inputs=tuple(arguments))

    def __call__(self, arrays: Sequence[Array], variables: Sequence[Any]) -> list[Array]:
        """The outputs. variables: those that the slots stand for in this call."""
        if not self.writes:
            return self._run(arrays, variables)
        if len(variables) == 1:
            with variables[0]._lock:
                return self._run(arrays, variables)
        with contextlib.ExitStack() as stack:
            for variable in sorted(variables, key=id):  # one order for all callers: none waits in a circle
                stack.enter_context(variable._lock)
            return self._run(arrays, variables)

    def _run(self, arrays: Sequence[Array], variables: Sequence[Any]) -> list[Array]:
        new: dict[int, Array] = {k: variables[k]._take() for k in self.in_place}
        old = {k: new[k] if k in new else variables[k]._held() for k in self._olds}
        results: Sequence[Array] = ()
        if self.executable is not None:
            given = [arrays[i] if kind == "argument" else old[i] for kind, i in self.order]
            # Nobody else holds an array that is written, so no argument is a part of one.
            results = self.executable(given, _NO_SIZES, apart=True)
        found = {"argument": arrays, "old": old, "new": new, "result": results}
        for k, (kind, i) in self.stores:
            variables[k]._store(found[kind][i])  # type: ignore[index]
        return [found[kind][i] for kind, i in self.sources]  # type: ignore[index]


def _pruned(graph: Graph) -> Graph:
    """Without the nodes that nothing needs."""
    needed = {v.id for v in graph.outputs} | {v.id for _, v in graph.updates}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.primitive.effects or any(v.id in needed for v in node.outputs):
            kept.append(node)
            needed.update(v.id for v in node.inputs)
    return dataclasses.replace(graph, nodes=tuple(reversed(kept)))


def _value(tensor: Tensor) -> Value:
    assert tensor._value is not None
    return tensor._value
