"""Takes out of a graph what its program is generic in, sizes and constants: graphs with equal skeletons share one.

A size above 1 becomes a symbol `z0, z1, ...` (one per distinct size, so the skeleton still says which are equal), a 0-d
constant becomes a host number, a captured or constant array an array input. A constant that a rule may read (the
exponent of a power) stays. `outline` makes the key and the values; the skeleton itself is built only for a key that is
not known.

    multiply %0 %1 : f32[64, 10], constant 2.5        key: (multiply, (0, 1)) ... over f32[z0, z1], f32[]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jitensor.ir.dims import Dim, evaluate, symbol
from jitensor.ir.graph import CONSTANT, Graph, GraphBuilder, Node, Value
from jitensor.ir.types import TensorType
from jitensor.ops.structure import size_value

# Families whose results have no size that is not one of an operand's or a parameter.
_SIZES_FROM_OPERANDS = frozenset(("elementwise", "reduction", "movement", "reshape", "creation", "update"))
SIZE_PARAMS = frozenset(("shape", "sizes", "starts"))  # parameters that hold sizes; all others are part of the code


class Outline:
    """key: hashable, equal for graphs that can share a program. sizes: what each z symbol stands for. constants: the
    values of the host numbers that follow the graph's own; those that are sizes are None, and `size_numbers` has their
    place, expression and NumPy type. arrays: sources of the array inputs that follow its own."""

    __slots__ = (
        "_literal",
        "_live",
        "_size_names",
        "_united",
        "arrays",
        "constants",
        "graph",
        "key",
        "size_numbers",
        "sizes",
    )

    def __init__(self, graph: Graph, united: Mapping[str, int | Dim]) -> None:
        self.graph = graph
        self._united = united
        self.sizes: list[int | Dim] = []
        self.constants: list[Any] = []
        self.size_numbers: list[tuple[int, int | Dim, Any]] = []
        self.arrays: list[Any] = [c.source for c in graph.captures]
        self._size_names: dict[int | str, Dim] = {}
        self._live = _live_nodes(graph)
        self._literal = _literal_constants(self._live)
        self.key = self._make_key()

    def _size(self, n: int | Dim) -> int | Dim:
        if n.__class__ is int:
            if n <= 1:  # 0, 1 and negative starts stay
                return n
            known = self._size_names.get(n)
            return known if known is not None else self._new_size(n, n)
        while self._united and isinstance(n, Dim) and not n.symbols.isdisjoint(self._united):
            n = n.substitute(self._united)
        if not isinstance(n, Dim):
            return self._size(n)
        return n.substitute({name: self._symbol(name) for name in n.symbols})

    def _symbol(self, name: str) -> Dim:
        known = self._size_names.get(name)
        return known if known is not None else self._new_size(name, symbol(name))

    def _new_size(self, key: int | str, source: int | Dim) -> Dim:
        made = self._size_names[key] = symbol(f"z{len(self.sizes)}")
        self.sizes.append(source)
        return made

    def numbers(self, sizes: Mapping[str, int]) -> list[Any]:
        """The constants, with those that are sizes of this call filled in."""
        if not self.size_numbers:
            return self.constants
        numbers = list(self.constants)
        for place, size, numpy_type in self.size_numbers:
            numbers[place] = numpy_type(evaluate(size, sizes))
        return numbers

    def shape(self, shape: tuple[int | Dim, ...]) -> tuple[int | Dim, ...]:
        return tuple([self._size(n) for n in shape])

    def params(self, node: Node) -> tuple[tuple[str, Any], ...]:
        if not node.params:
            return ()
        return tuple([(k, self.shape(v) if k in SIZE_PARAMS else v) for k, v in node.params])

    def is_array_constant(self, node: Node) -> bool:
        return node.primitive is CONSTANT and bool(node.output.shape)

    def is_number(self, node: Node) -> bool:
        """Is it a number that the host passes: a constant that no rule reads, or a size?"""
        if node.primitive is size_value:
            return True
        return node.primitive is CONSTANT and node.output.id not in self._literal

    def _make_key(self) -> Any:
        ids: dict[int, int] = {}
        parts: list[Any] = []
        for v in (*self.graph.inputs, *(c.value for c in self.graph.captures)):
            ids[v.id] = len(ids)
            parts.append((v.type.dtype.name, self.shape(v.type.shape), v.id in self.graph.scalars))
        for node in self._live:
            if node.primitive is size_value:
                self.size_numbers.append((len(self.constants), node.param("size"), node.output.dtype.as_numpy_dtype))
                self.constants.append(None)
                parts.append(node.output.dtype.name)
                ids[node.output.id] = len(ids)
                continue
            if node.primitive is CONSTANT:
                value = node.output
                if self.is_array_constant(node):
                    self.arrays.append(node.param("value").array)
                    parts.append((value.type.dtype.name, self.shape(value.type.shape)))
                elif self.is_number(node):
                    self.constants.append(node.param("value").array[()])
                    parts.append(value.type.dtype.name)
                else:
                    parts.append(node.params)
                ids[value.id] = len(ids)
                continue
            parts.append((node.primitive, tuple([ids[v.id] for v in node.inputs]), self.params(node)))
            for v in node.outputs:
                ids[v.id] = len(ids)
            if node.primitive.family not in _SIZES_FROM_OPERANDS:
                parts.append(tuple([self.shape(v.type.shape) for v in node.outputs]))
        parts.append(tuple([ids[v.id] for v in self.graph.outputs]))
        parts.append(tuple([(ids[t.id], ids[v.id]) for t, v in self.graph.updates]))
        return tuple(parts)

    def skeleton(self) -> Graph:
        """The graph over z symbols. Inputs: the graph's own, then captures, constant arrays, constant numbers."""
        builder = GraphBuilder(self.graph.name)
        new: dict[int, Value] = {}
        for v in self.graph.inputs:
            new[v.id] = builder.input(self._type(v), scalar=v.id in self.graph.scalars)
        for c in self.graph.captures:
            new[c.value.id] = builder.input(self._type(c.value))
        for node in self._live:
            if self.is_array_constant(node):
                new[node.output.id] = builder.input(self._type(node.output))
        for node in self._live:
            if self.is_number(node) and not self.is_array_constant(node):
                new[node.output.id] = builder.input(self._type(node.output), scalar=True)
        for node in self._live:
            if node.outputs and node.outputs[0].id in new:
                continue
            types = [self._type(v) for v in node.outputs]
            outputs = builder.append(
                node.primitive, tuple([new[v.id] for v in node.inputs]), self.params(node), types, node.location
            )
            new.update(zip([v.id for v in node.outputs], outputs, strict=True))
        return builder.finish(
            [new[v.id] for v in self.graph.outputs], [(new[t.id], new[v.id]) for t, v in self.graph.updates]
        )

    def _type(self, value: Value) -> TensorType:
        return TensorType(value.dtype, self.shape(value.shape))


def _live_nodes(graph: Graph) -> list[Node]:
    """The nodes that outputs, updates and effects need, in order."""
    needed = {v.id for v in graph.outputs} | {v.id for _, v in graph.updates}
    live = []
    for node in reversed(graph.nodes):
        if node.primitive.effects or any([v.id in needed for v in node.outputs]):
            live.append(node)
            needed.update([v.id for v in node.inputs])
    live.reverse()
    return live


def _literal_constants(nodes: list[Node]) -> set[int]:
    """Constants whose value some rule may read."""
    found = set()
    for node in nodes:
        for position in node.primitive.literal_constants:
            found.add(node.inputs[position].id)
    return found
