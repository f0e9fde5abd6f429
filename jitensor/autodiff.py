"""Derivatives of recorded Nodes by the table's rules: `vjp_of` for tapes and graphs alike, and graphs made with it.

Owns the backward walk and the joint, split and forward-mode graphs. Must not know any op's rule (`ops.vjps` does), nor
whether `emit` records or evaluates.

    joint = gradient_graph(graph, (0, 1))         # f(x, w) -> f's outputs, df/dx, df/dw: one program
    pullback = split_graph(graph, (0, 1))         # forward that saves what its backward needs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jitensor.errors import InternalError, Location, NotFoundError
from jitensor.ir import dims
from jitensor.ir.dims import Dim, Resolver
from jitensor.ir.graph import CONSTANT, Graph, GraphBuilder, Node, Value
from jitensor.ops.arithmetic import add
from jitensor.ops.structure import full
from jitensor.ops.vjps import Onto
from jitensor.records import Record

Emit = Callable[..., Any]


def vjp_of(
    nodes: Sequence[Node],
    outputs: Sequence[Value],
    cotangents: Sequence[Any],
    sources: Sequence[Value],
    emit: Emit,
    lookup: Callable[[Value], Any],
    *,
    literal: Callable[[Value], Any] | None = None,
    visit: Callable[[Node], None] | None = None,
) -> list[Any]:
    """The cotangents of `sources`, None where no output depends on one through differentiable ops.

    nodes: what was recorded, in order. outputs and sources: values of them, known by `id`; sources may be results too.
    cotangents: of the outputs, of their types; None for none. emit(primitive, *values, **params) records or evaluates.
    lookup(value) is what `emit` takes for a recorded value: it has a `type` and a `dtype`. literal(value): its NumPy
    array where it is a constant to every derivative, else None; by default the CONSTANT nodes among `nodes`.
    visit(node) is called before a node's rule.
    Raises NotFoundError (a LookupError) where a cotangent reaches an op that has no rule.
    """
    reached = {v.id for v in sources if v.dtype.is_inexact}
    active = _depending(nodes, reached)
    literal = _unless(reached, literal or _constants_of(nodes))
    total: dict[int, Any] = {}
    for value, cotangent in zip(outputs, cotangents, strict=True):
        if cotangent is not None and value.id in reached:
            _accumulate(emit, total, value, cotangent)
    kept = {v.id for v in sources}
    for node in reversed(active):
        g = _taken(total, node.outputs, kept)
        if g is None:
            continue
        if visit is not None:
            visit(node)
        for v, part in zip(node.inputs, _cotangents_of(node, g, emit, lookup, literal), strict=True):
            if part is not None and v.id in reached:
                _accumulate(emit, total, v, part)
    return [total.get(v.id) for v in sources]


def _taken(total: dict[int, Any], outputs: tuple[Value, ...], kept: set[int]) -> Any:
    """What has come together for a node's results: a cotangent, of several results a tuple; None where nothing has.
    It is let go of, unless the caller asked for it."""
    found = [total.get(v.id) if v.id in kept else total.pop(v.id, None) for v in outputs]
    if len(found) == 1:
        return found[0]
    return tuple(found) if any([g is not None for g in found]) else None


def _depending(nodes: Iterable[Node], reached: set[int]) -> list[Node]:
    """The nodes that depend on what is reached, whose inexact results are reached then too."""
    active = []
    for node in nodes:
        if not reached.isdisjoint([v.id for v in node.inputs]):
            results = [v.id for v in node.outputs if v.dtype.kind in "fc"]
            if results:
                reached.update(results)
                active.append(node)
    return active


def _constants_of(nodes: Iterable[Node]) -> Callable[[Value], Any]:
    arrays = {n.output.id: n.param("value").array for n in nodes if n.primitive is CONSTANT}
    return lambda value: arrays.get(value.id)


def _unless(reached: set[int], literal: Callable[[Value], Any]) -> Callable[[Value], Any]:
    return lambda value: None if value.id in reached else literal(value)


def _cotangents_of(
    node: Node, g: Any, emit: Emit, lookup: Callable[[Value], Any], literal: Callable[[Value], Any]
) -> tuple[Any, ...]:
    primitive = node.primitive
    if primitive.vjp is None:
        raise _missing(node)
    params = dict(node.params) if node.params else {}
    if primitive.literal_constants:
        known = {i: literal(node.inputs[i]) for i in primitive.literal_constants}
        params["literals"] = {i: array for i, array in known.items() if array is not None and array.ndim == 0}
    outputs = tuple([lookup(v) for v in node.outputs])
    result: tuple[Any, ...] = primitive.vjp(emit, g, outputs, tuple([lookup(v) for v in node.inputs]), **params)
    if result is NotImplemented:
        raise _missing(node)
    return result


def _missing(node: Node) -> NotFoundError:
    return NotFoundError(
        f"gradient: {_text(node)} has no gradient; stop it with stop_gradient, or give the function one with "
        "custom_gradient.",
        location=node.location,
    )


def _text(node: Node) -> str:
    """The op's name, and the foreign function that it calls, if it does."""
    for name, param in node.params:
        if name in ("call", "function"):
            return f"{node.primitive.name} of {getattr(param, '__name__', param)}"
    return node.primitive.name


def _accumulate(emit: Emit, total: dict[int, Any], value: Value, part: Any) -> None:
    before = total.get(value.id)
    if part.__class__ is Onto:
        total[value.id] = part.alone() if before is None else part.add(before)
        return
    if callable(part):
        part = part()
    total[value.id] = part if before is None else emit(add, before, part)


# Graphs ---------------------------------------------------------------------------------------------------------------


class Gradient(Record):
    """A graph of a function and its derivatives. Its outputs are those of the function, then one for each True of
    `connected`, which has an item for each `wrt` (forward mode: for each output)."""

    graph: Graph
    connected: tuple[bool, ...]


def gradient_graph(
    graph: Graph,
    wrt: Sequence[int],
    *,
    cotangents: bool = False,
    sizes: Resolver | None = None,
) -> Gradient:
    """The function and its gradient as one graph.

    wrt: positions among (*graph.inputs, *captures). The gradient is of the sum of all inexact outputs (as
    tf.GradientTape's); with `cotangents`, the graph takes one more input after its own for each inexact output.
    sizes: what is known of the graph's sizes: the resolver of its trace, or `KnownSizes` made from what that found.
    Updates of the graph stay as they are.
    """
    copy = _Copy(graph)
    with dims.resolving(sizes or KnownSizes()):
        seeds = copy.cotangent_inputs() if cotangents else [copy.ones(v) for v in copy.outputs]
        found = copy.vjp(seeds, wrt)
    gradients = [g for g in found if g is not None]
    return Gradient(_pruned(copy.finish((*copy.outputs, *gradients))), tuple(g is not None for g in found))


def jvp_graph(graph: Graph, wrt: Sequence[int], *, sizes: Resolver | None = None) -> Gradient:
    """The function and how it moves when its inputs do: a tangent input for each `wrt` after the graph's own, a tangent
    output after the outputs for each that moves.

    The vjp is linear in its cotangents, so its own vjp by them is the jvp; the cotangents themselves drop out.
    """
    copy = _Copy(graph)
    builder = copy.builder
    with dims.resolving(sizes or KnownSizes()):
        tangents = [builder.input(copy.places[i].type) for i in wrt]
        blank = [builder.value(v.type) if v.dtype.is_inexact else None for v in copy.outputs]
        mark = len(builder.nodes)
        backward = copy.vjp(blank, wrt)
        pairs = [(g, t) for g, t in zip(backward, tangents, strict=True) if g is not None]
        moved = iter(
            vjp_of(
                builder.nodes[mark:],
                [g for g, _ in pairs],
                [t for _, t in pairs],
                [b for b in blank if b is not None],
                copy.emit,
                _itself,
                literal=_constants_of(builder.nodes),
            )
        )
    found = [None if b is None else next(moved) for b in blank]
    result = _pruned(copy.finish((*copy.outputs, *(t for t in found if t is not None))))
    unused = {b.id for b in blank if b is not None}
    if any(v.id in unused for node in result.nodes for v in node.inputs):
        raise InternalError("jvp: a gradient rule is not linear in its cotangent.")
    return Gradient(result, tuple(t is not None for t in found))


class Pullback(Record):
    """A function split into two programs.

    forward: the function; its outputs, then what `backward` needs saved (`saved` of them).
    backward: its inputs are the forward arguments at `kept` (positions among inputs and captures), the saved values,
    then a cotangent for each inexact output; its outputs the gradients of the connected `wrt`. It may speak of any size
    of the forward's, so it is called with the sizes of the forward call.
    """

    forward: Graph
    backward: Graph
    kept: tuple[int, ...]
    saved: int
    connected: tuple[bool, ...]


def split_graph(graph: Graph, wrt: Sequence[int], *, sizes: Resolver | None = None) -> Pullback:
    """Forward and backward as two graphs, for a caller who asks for the gradient later, as a tape does.

    Views, fills and constants are made again instead of saved; arguments are kept, not copied, unless the forward
    writes into them.
    """
    copy = _Copy(graph)
    with dims.resolving(sizes or KnownSizes()):
        seeds = copy.cotangent_inputs()
        mark = len(copy.builder.nodes)
        found = copy.vjp(seeds, wrt)
    gradients = [g for g in found if g is not None]
    backward, needed = _backward(copy, mark, [s for s in seeds if s is not None], gradients)
    places = {v.id: i for i, v in enumerate(copy.places)}
    written = {t.id for t, _ in copy.updates}
    saved = [v for v in needed if v.id not in places or v.id in written]
    kept = [v for v in needed if v.id in places and v.id not in written]
    builder = copy.builder
    builder.inputs = list(copy.inputs)
    forward = _pruned(copy.finish((*copy.outputs, *saved)))
    return Pullback(
        forward,
        backward([*kept, *saved]),
        tuple(places[v.id] for v in kept),
        len(saved),
        tuple(g is not None for g in found),
    )


_MADE_AGAIN = frozenset(("constant", "creation", "movement", "reshape"))


def _backward(
    copy: _Copy, mark: int, seeds: list[Value], gradients: list[Value]
) -> tuple[Callable[[list[Value]], Graph], list[Value]]:
    """What makes the backward graph once its inputs are in order, and which values of the forward part it reads."""
    producer = copy.builder.producer
    own = {v.id for node in copy.builder.nodes[mark:] for v in node.outputs} | {v.id for v in seeds}
    order: list[Node] = []
    needed: dict[int, Value] = {}
    done: set[int] = set()

    def visit(value: Value) -> None:
        stack = [(value, False)]
        while stack:
            v, ready = stack.pop()
            node = producer.get(v.id)
            if node is None or not (v.id in own or node.primitive.family in _MADE_AGAIN):
                if v.id not in own:
                    needed.setdefault(v.id, v)
                continue
            if ready:
                order.append(node)
            elif v.id not in done:
                done.update(o.id for o in node.outputs)
                stack.append((v, True))
                stack.extend((i, False) for i in reversed(node.inputs))

    for gradient in gradients:
        visit(gradient)

    def make(inputs: list[Value]) -> Graph:
        builder = GraphBuilder(f"{copy.builder.name}_backward")
        new = {v.id: builder.input(v.type) for v in [*inputs, *seeds]}
        for node in order:
            types = [v.type for v in node.outputs]
            outputs = builder.append(
                node.primitive, tuple([new[v.id] for v in node.inputs]), node.params, types, node.location
            )
            new.update(zip([v.id for v in node.outputs], outputs, strict=True))
        return builder.finish([new[g.id] for g in gradients])

    return make, list(needed.values())


class _Copy:
    """A graph rebuilt in a builder that can go on: the forward part that derivatives are added to."""

    def __init__(self, graph: Graph) -> None:
        builder = self.builder = GraphBuilder(graph.name)
        self.location: Location | None = None
        new: dict[int, Value] = {}
        for v in graph.inputs:
            new[v.id] = builder.input(v.type, scalar=v.id in graph.scalars)
        for c in graph.captures:
            new[c.value.id] = builder.capture(c.source, c.value.type)
        for node in graph.nodes:
            inputs = tuple([new[v.id] for v in node.inputs])
            outputs = builder.append(node.primitive, inputs, node.params, [v.type for v in node.outputs], node.location)
            new.update(zip([v.id for v in node.outputs], outputs, strict=True))
        self.inputs = tuple(builder.inputs)
        self.places = [*builder.inputs, *(c.value for c in builder.captures)]
        self.outputs = tuple([new[v.id] for v in graph.outputs])
        self.updates = [(new[t.id], new[v.id]) for t, v in graph.updates]
        self.mark = len(builder.nodes)

    def emit(self, primitive: Any, *values: Value, **params: Any) -> Any:
        outputs = self.builder.add(primitive, values, params, self.location)
        return outputs[0] if len(outputs) == 1 else outputs

    def ones(self, value: Value) -> Value | None:
        if not value.dtype.is_inexact:
            return None
        one = self.builder.constant(1, value.dtype)
        return self.builder.add(full, (one,), {"shape": value.shape})[0] if value.shape else one

    def cotangent_inputs(self) -> list[Value | None]:
        return [self.builder.input(v.type) if v.dtype.is_inexact else None for v in self.outputs]

    def vjp(self, cotangents: Sequence[Any], wrt: Sequence[int]) -> list[Any]:
        nodes = self.builder.nodes[: self.mark]
        sources = [self.places[i] for i in wrt]
        return vjp_of(nodes, self.outputs, cotangents, sources, self.emit, _itself, visit=self._visit)

    def _visit(self, node: Node) -> None:
        self.location = node.location

    def finish(self, outputs: Sequence[Value]) -> Graph:
        return self.builder.finish(outputs, self.updates)


def _itself(value: Value) -> Value:
    return value


class KnownSizes:
    """What a trace found out about sizes, as a resolver: `united`, symbols that are equal to another size, and
    `answers`, its answers to questions (op, a, b). What it was never asked does not hold."""

    def __init__(
        self,
        united: Mapping[str, int | Dim] | None = None,
        answers: Mapping[tuple[str, int | Dim, int | Dim], bool] | None = None,
    ) -> None:
        self.united = united or {}
        self.answers: dict[tuple[str, int | Dim], bool] = {}
        for (op, a, b), answer in (answers or {}).items():
            difference = self._settled(a) - self._settled(b)
            self.answers[op, difference] = answer
            if op == "eq":
                self.answers[op, -difference] = answer

    def _settled(self, n: int | Dim) -> int | Dim:
        while isinstance(n, Dim) and not n.symbols.isdisjoint(self.united):
            n = n.substitute(self.united)
        return n

    def relation(self, op: str, a: int | Dim, b: int | Dim) -> bool:
        difference = self._settled(a) - self._settled(b)
        if isinstance(difference, int):
            return dims.holds(op, difference, 0)
        return self.answers.get((op, difference), False)

    def value(self, a: Dim, why: str) -> int:
        settled = self._settled(a)
        if isinstance(settled, Dim):
            raise TypeError(f"{why} needs the value of size {a}, which is known only when called")
        return settled


def _pruned(graph: Graph) -> Graph:
    """Without the nodes that nothing needs."""
    needed = {v.id for v in graph.outputs} | {v.id for _, v in graph.updates}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.primitive.effects or any(v.id in needed for v in node.outputs):
            kept.append(node)
            needed.update(v.id for v in node.inputs)
    return dataclasses.replace(graph, nodes=tuple(reversed(kept)))
