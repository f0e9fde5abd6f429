"""Splits a graph at the nodes whose results decide sizes, into parts that can each be compiled.

    [compiled: mask = greater x 0]  [node: found = boolean_mask x mask]  [compiled: multiply found found ...]

Must not know how a part runs.
"""

from __future__ import annotations

from jitensor.ir.graph import Graph, Node, Value


class Stage:
    """A compiled part (`graph`) or a node that NumPy runs (`node`). Inputs: arguments, or results of earlier stages."""

    __slots__ = ("graph", "inputs", "node", "outputs")

    def __init__(self, inputs: tuple[Value, ...], outputs: tuple[Value, ...], graph: Graph | None, node: Node | None):
        self.inputs = inputs
        self.outputs = outputs
        self.graph = graph
        self.node = node


def split(graph: Graph) -> list[Stage]:
    """The stages of the graph, in order; the last one, if it is compiled, makes the graph's updates."""
    parts: list[list[Node]] = [[]]
    for node in graph.nodes:
        if node.primitive.data_shape:
            parts += [[node], []]
        else:
            parts[-1].append(node)
    # A node without operands (a constant, a size as a number) is made again where it is needed.
    roots = {v.id: node for node in graph.nodes if not node.inputs and not node.primitive.effects for v in node.outputs}
    later = _read_later(graph, parts, roots)
    stages = []
    for k, nodes in enumerate(parts):
        last = k == len(parts) - 1
        if len(nodes) == 1 and nodes[0].primitive.data_shape:
            stages.append(Stage(nodes[0].inputs, nodes[0].outputs, None, nodes[0]))
        elif nodes or last:
            stages.append(_compiled(graph, nodes, later[k], roots, last))
    return _with_roots_of_nodes(stages, roots, graph)


def _read_later(graph: Graph, parts: list[list[Node]], roots: dict[int, Node]) -> list[set[int]]:
    """For each part the ids that something after it reads."""
    needed = {v.id for v in graph.outputs}
    later: list[set[int]] = []
    for nodes in reversed(parts):
        later.append(set(needed))
        needed |= {v.id for node in nodes for v in node.inputs}
        needed |= {v.id for _, v in graph.updates}  # the last part makes them
    later.reverse()
    return later


def _compiled(graph: Graph, nodes: list[Node], later: set[int], roots: dict[int, Node], last: bool) -> Stage:
    updates = graph.updates if last else ()
    wanted = [v for node in nodes for v in node.outputs if v.id in later and v.id not in roots]
    if last:
        wanted += [v for v in graph.outputs if v.id in roots and v.id not in {w.id for w in wanted}]
    made = {v.id for node in nodes for v in node.outputs}
    reads = {v.id: v for node in nodes for v in node.inputs if v.id not in made}
    reads.update({v.id: v for pair in updates for v in pair if v.id not in made})
    reads.update({v.id: v for v in wanted if v.id not in made})
    again = [roots[i] for i in reads if i in roots]
    again = list({id(n): n for n in again}.values())
    inputs = tuple(v for i, v in sorted(reads.items()) if i not in roots)
    scalars = frozenset(v.id for v in inputs) & graph.scalars
    part = Graph(graph.name, inputs, (), (*again, *nodes), tuple(wanted), scalars, tuple(updates))
    return Stage(inputs, tuple(wanted), part, None)


def _with_roots_of_nodes(stages: list[Stage], roots: dict[int, Node], graph: Graph) -> list[Stage]:
    """Operands without operands of a node that NumPy runs come from a part of their own before it."""
    found: list[Stage] = []
    for stage in stages:
        needed = [v for v in stage.inputs if stage.node is not None and v.id in roots]
        if needed:
            nodes = tuple({id(roots[v.id]): roots[v.id] for v in needed}.values())
            part = Graph(graph.name, (), (), nodes, tuple(needed))
            found.append(Stage((), tuple(needed), part, None))
        found.append(stage)
    return found
