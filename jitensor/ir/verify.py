"""Checks that a graph is well formed. Run after tracing and after each pass; a failure is a fault of jitensor's own.

Every value is defined once and before its use; every node's types are what its primitive's rule says; every size symbol
is that of an input, or found at run time by an op whose result's shape depends on data. Must not know any op by name.
"""

from __future__ import annotations

from jitensor.errors import InternalError, JitensorError
from jitensor.ir import dims
from jitensor.ir.graph import Graph, Node, Value
from jitensor.ir.types import TensorType


def verify(graph: Graph, outer_symbols: frozenset[str] = frozenset()) -> Graph:
    """Returns the graph, or raises InternalError with the node's text. outer_symbols: those of an enclosing graph."""
    defined: dict[int, Value] = {}
    for value in (*graph.inputs, *(c.value for c in graph.captures)):
        _define(graph, defined, value, "input")
    unknown = graph.scalars - {v.id for v in graph.inputs}
    if unknown:
        raise _fault(graph, f"scalars {sorted(unknown)} are no inputs")
    for value in graph.inputs:
        if value.id in graph.scalars and value.shape != ():
            raise _fault(graph, f"scalar input {value!r} is not of rank 0")
    symbols = graph.symbols() | outer_symbols
    for node in graph.nodes:
        for value in node.inputs:
            _used(graph, defined, value, _text(node))
        symbols = _check_node(graph, node, symbols)
        for value in node.outputs:
            _define(graph, defined, value, _text(node))
    for value in graph.outputs:
        _used(graph, defined, value, "return")
    inputs = {v.id for v in graph.inputs}
    for target, new in graph.updates:
        _used(graph, defined, new, "update")
        if target.id not in inputs:
            raise _fault(graph, f"update of %{target.id}, which is no input")
        if target.dtype is not new.dtype or target.type.rank != new.type.rank:
            raise _fault(graph, f"update of {target!r} by {new!r}: the types differ")
    return graph


def _check_node(graph: Graph, node: Node, symbols: frozenset[str]) -> frozenset[str]:
    """Checks the node's types and sub-graphs. Returns the symbols known after it."""
    found = frozenset().union(*(dims.symbols_of(n) for v in node.outputs for n in v.shape))
    if node.primitive.data_shape:
        symbols = symbols | found
    elif not found <= symbols:
        raise _fault(graph, f"{_text(node)}: size {', '.join(sorted(found - symbols))} is not that of an input")
    for _, param in node.params:
        if isinstance(param, Graph):
            verify(param, symbols)
    try:
        types = node.primitive.type_rule(*[v.type for v in node.inputs], **dict(node.params))
    except JitensorError as error:
        raise _fault(graph, f"{_text(node)}: its type rule says: {error}") from error
    if isinstance(types, TensorType):
        types = (types,)
    declared = tuple(v.type for v in node.outputs)
    if len(types) != len(declared) or not all(map(_agree, types, declared)):
        raise _fault(graph, f"{_text(node)}: has types {declared}, its rule says {types}")
    return symbols


def _agree(rule: TensorType, declared: TensorType) -> bool:
    return (
        rule.dtype is declared.dtype and rule.rank == declared.rank and all(map(dims.same, rule.shape, declared.shape))
    )


def _define(graph: Graph, defined: dict[int, Value], value: Value, where: str) -> None:
    if value.id in defined:
        raise _fault(graph, f"{where}: %{value.id} is defined twice")
    defined[value.id] = value


def _used(graph: Graph, defined: dict[int, Value], value: Value, where: str) -> None:
    if defined.get(value.id) is not value:
        raise _fault(graph, f"{where}: %{value.id} is used before it is defined, or belongs to another graph")


def _text(node: Node) -> str:
    ids = ", ".join(f"%{v.id}" for v in node.outputs)
    return f"{ids} = {node.primitive.name} {' '.join(f'%{v.id}' for v in node.inputs)}"


def _fault(graph: Graph, text: str) -> InternalError:
    return InternalError(f"graph {graph.name} is malformed: {text}.")
