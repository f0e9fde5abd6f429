"""Simplification: named rules over a skeleton. Each keeps results, nan, infinities and signed zeros included.

integer_power   power x {2 .. 6}                    -> products
sink_slice      slice (op a b)                      -> op (slice a) (slice b), where nobody else needs the rest
sink_reshape    reshape (op a b), shapes equal      -> op (reshape a) (reshape b)
whole_update    update_slice of everything          -> the new value
same_cast       cast to the dtype it has            -> the operand
differentiated  stop_gradient x, custom_gradient x  -> x, derivatives being taken by now
"""

from __future__ import annotations

from jitensor.ir.graph import CONSTANT, Graph, Node, Value
from jitensor.ir.types import TensorType
from jitensor.ops import TABLE
from jitensor.passes.rewrite import Rewriter, Rule

LARGEST_PRODUCT = 6  # x**6 by products is within 2.5 ULP; x**7 is not
RECOMPUTED = 12  # scalar instructions that slices of one value may compute again instead of storing it

_MULTIPLY, _POWER, _SLICE, _CAST = TABLE["multiply"], TABLE["power"], TABLE["slice"], TABLE["cast"]
_SQUEEZE = TABLE["squeeze"]
_STOP, _CUSTOM = TABLE["stop_gradient"], TABLE["custom_gradient"]


def simplify(graph: Graph) -> Graph:
    """The graph after all rules; the same graph where none can apply."""
    if not any(node.primitive in _CANDIDATES or node.primitive.family in _FAMILIES for node in graph.nodes):
        return graph
    return Rewriter(graph, RULES, _Needs(graph)).run()


class _Needs:
    """Which elementwise results are needed only through slices or one reshape, so that the op can move behind them."""

    def __init__(self, graph: Graph) -> None:
        users: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for v in node.inputs:
                users.setdefault(v.id, []).append(node)
        kept = {v.id for v in graph.outputs} | {v.id for _, v in graph.updates}
        self.sinkable: set[int] = set()
        copies: dict[int, int] = {}  # how many slices of a value there will be
        for node in reversed(graph.nodes):
            if node.primitive.family != "elementwise" or len(node.outputs) != 1 or node.output.id in kept:
                continue
            readers = users.get(node.output.id, [])
            count = 0
            for reader in readers:
                if reader.primitive is _SLICE or reader.primitive.family == "reshape":
                    count += 1
                elif reader.outputs and reader.outputs[0].id in self.sinkable:
                    count += copies[reader.outputs[0].id]
                else:
                    count = 0
                    break
            if count and (count == 1 or (count - 1) * node.primitive.cost <= RECOMPUTED):
                self.sinkable.add(node.output.id)
                copies[node.output.id] = count


def _integer_power(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.primitive is not _POWER:
        return None
    base, exponent = inputs
    constant = r.producer(exponent)
    if constant is None or constant.primitive is not CONSTANT or base.dtype.kind not in "fiu":
        return None
    n = constant.param("value").array.item()
    if n not in range(2, LARGEST_PRODUCT + 1):
        return None
    return (_product(r, node, base, int(n)),)


def _product(r: Rewriter, node: Node, base: Value, n: int) -> Value:
    if n == 1:
        return base
    half = _product(r, node, base, n // 2)
    square = r.add(_MULTIPLY, (half, half), node.output.type, node.location)
    return square if n % 2 == 0 else r.add(_MULTIPLY, (square, base), node.output.type, node.location)


def _sinks(r: Rewriter, value: Value) -> Node | None:
    producer = r.producer(value)
    old = r.old.get(value.id)
    if producer is None or producer.primitive.family != "elementwise" or old not in r.facts.sinkable:
        return None
    return producer


def _sink_slice(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.primitive is not _SLICE:
        return None
    producer = _sinks(r, inputs[0])
    if producer is None:
        return None
    full = inputs[0].shape
    starts, sizes, steps = node.param("starts"), node.param("sizes"), node.param("steps")
    operands = []
    for v in producer.inputs:
        shift = len(full) - len(v.shape)
        if any(n != 1 and n != full[d] for d, n in enumerate(v.shape, shift)):
            return None  # whether this dimension is broadcast is known only when called
        if all(n == 1 for n in v.shape):
            operands.append(v)
            continue
        parts = [(0, 1, 1) if n == 1 else (starts[d], sizes[d], steps[d]) for d, n in enumerate(v.shape, shift)]
        own = TensorType(v.dtype, tuple(p[1] for p in parts))
        operands.append(
            r.add(_SLICE, (v,), own, node.location, starts=tuple(p[0] for p in parts), sizes=own.shape,
                  steps=tuple(p[2] for p in parts))
        )  # fmt: skip
    type = TensorType(node.output.dtype, sizes)
    return (r.add(producer.primitive, tuple(operands), type, producer.location, **dict(producer.params)),)


def _sink_reshape(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.primitive.family != "reshape":
        return None
    producer = _sinks(r, inputs[0])
    if producer is None:
        return None
    full, shape = inputs[0].shape, node.output.shape
    if not full or any(v.shape not in ((), full) for v in producer.inputs):
        return None
    operands = tuple(
        r.add(node.primitive, (v,), TensorType(v.dtype, shape), node.location, shape=shape) if v.shape else v
        for v in producer.inputs
    )
    type = TensorType(node.output.dtype, shape)
    return (r.add(producer.primitive, operands, type, producer.location, **dict(producer.params)),)


def _whole_update(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.primitive.family != "update":
        return None
    base, value = inputs
    whole = (
        all(s == 0 for s in node.param("starts"))
        and all(s == 1 for s in node.param("steps"))
        and node.param("sizes") == base.shape
        and value.type == base.type
    )
    return (value,) if whole else None


def _same_cast(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.primitive is _CAST and node.param("dtype") is inputs[0].dtype:
        return inputs
    return None


def _differentiated(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    return inputs[: len(node.outputs)] if node.primitive in (_STOP, _CUSTOM) else None


def _single_elements(r: Rewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if node.primitive.family != "reduction" or str(node.primitive.lower.accumulate).startswith("arg"):
        return None
    (x,) = inputs
    axes = node.param("axes")
    single = tuple(a for a in axes if x.shape[a] == 1)
    if not single or x.dtype is not node.output.dtype:
        return None
    kept = tuple(n for d, n in enumerate(x.shape) if d not in single)
    squeezed = r.add(_SQUEEZE, (x,), TensorType(x.dtype, kept), node.location, axes=single)
    rest = tuple(a - sum(s < a for s in single) for a in axes if a not in single)
    if not rest:
        return (squeezed,)
    return (r.add(node.primitive, (squeezed,), node.output.type, node.location, axes=rest),)


RULES: dict[str, Rule] = {
    "single_elements": _single_elements,
    "integer_power": _integer_power,
    "sink_slice": _sink_slice,
    "sink_reshape": _sink_reshape,
    "whole_update": _whole_update,
    "same_cast": _same_cast,
    "differentiated": _differentiated,
}
_FAMILIES = frozenset(("update", "reduction"))
_CANDIDATES = frozenset((_POWER, _SLICE, _CAST, _STOP, _CUSTOM, TABLE["reshape"]))
