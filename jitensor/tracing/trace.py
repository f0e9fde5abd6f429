"""Tracing one call: arguments become tracers, the clone runs once, and what it returned becomes outputs of a graph.

Owns `Tracing`, which gives a `Trace`: the executable, the code that binds a later call to it, and the way its outputs
become what NumPy would return. Must not know the cache or the decorator.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jitensor import pipeline
from jitensor.errors import TraceError
from jitensor.ir.dims import Dim, symbols_of
from jitensor.ir.graph import Graph, Value
from jitensor.ir.interpret import concrete as concrete_param
from jitensor.ir.types import TensorType
from jitensor.ops import TABLE
from jitensor.tracing import numbers, numpy_door
from jitensor.tracing.arrays import Cell, Tracer, View, any_traced, fresh
from jitensor.tracing.binder import Binder, HiddenStep, spell
from jitensor.tracing.clone import ModuleView, Variable, World
from jitensor.tracing.context import Guard, TraceContext, running
from jitensor.tracing.numbers import ComplexNumber, FloatNumber, IntNumber, Number
from jitensor.tracing.signature import Key, describe, rebuild, spellings
from jitensor.tracing.ufuncs import supported

_WRITEABLE = 0x400
CALLS_BEFORE_NATIVE = 2  # the first call of a trace pays for its kernels alone
Finish = Callable[[list[Any], Sequence[Any], Any, Any], Any]


class Trace:
    """One trace: what it serves and how it is called."""

    def __init__(
        self,
        graph: Graph,
        context: TraceContext,
        binder: Binder,
        finish: Finish,
        held: dict[int, Any],
    ) -> None:
        self.graph = graph
        self.binder = binder
        self.bind = binder.bind
        self.spelled = context.spelled
        self.finish = finish
        self.calls = 0  # that came through the Python path
        self.next_native = CALLS_BEFORE_NATIVE
        self.only_python = ""  # why no native entry serves this trace
        self.feeds = context.feeds
        self.all_steps: list[Any] = list(context.steps)
        self.constants = context.constants
        self.united = dict(context.united)
        self.held = held  # leaf position -> weak reference (or object) of an argument known by identity
        self.guards = [s for s in context.steps if isinstance(s, Guard)]
        self.steps = [s for s in context.steps if isinstance(s, HiddenStep)]
        position = {v.id: i for i, v in enumerate(graph.inputs)}
        self.written = tuple([position[v.id] for v, _ in graph.updates])
        self.arrays = tuple([i for i, v in enumerate(graph.inputs) if v.id not in graph.scalars])
        self.foreign = tuple([(i, f.where) for i, f in enumerate(context.feeds) if f.kind == "foreign"])
        self.executable = pipeline.build(graph)

    @property
    def source(self) -> str:
        """The generated function that binds a call to this trace."""
        return self.binder.source

    @property
    def narrowed(self) -> list[tuple[str, Any, str, Any]]:
        """(expression, value, why, line) of every value that the trace fixed."""
        fixed = [(*g.narrowed, g.why, g.location) for g in self.guards if g.narrowed is not None]
        return [(spell(e, self.spelled), v, why, line) for e, v, why, line in fixed]

    def overlapping(self, arguments: Sequence[Any]) -> bool:
        """True when an array that is written shares memory with another argument."""
        return any(
            i != j and np.may_share_memory(arguments[i], arguments[j]) for i in self.written for j in self.arrays
        )


class Tracing:
    """The work of one trace; `run` does it."""

    def __init__(self, name: str, key: Key, leaves: Sequence[Any], spelling: Sequence[str]) -> None:
        self.context = TraceContext(name)
        self.effects = True  # do assignments to globals and nonlocals reach the real ones?
        self.spelling = spelling  # how a person writes each leaf: `x`, `parameters['w']`
        self.key = key
        self.leaves = leaves
        self.reads: list[str] = []  # lines that take sizes from leaves
        self.by_identity: dict[int, Tracer] = {}  # array argument -> its tracer: the same array twice is one cell
        self.arguments: dict[int, tuple[Tracer, str]] = {}  # id of an argument's tracer -> (it, name of its leaf)
        self.held: dict[int, Any] = {}
        self.containers: list[tuple[str, Any, Any]] = []  # variables that hold lists or dicts: name, copy, its contents
        self.values: list[Value] = []  # graph outputs
        self.layouts: list[Any] = []
        self.extras: list[str] = []  # sources of Python numbers that are returned
        self.known: dict[int, tuple[Any, Finish]] = {}
        self.symbols: set[str] = set()  # read by views of arguments that are returned
        self.world = World(self.context, numpy_door.substitute, self.hidden, numpy_door.BUILTINS)

    def run(self, call: Callable[[World, Any], Any]) -> Trace:
        """`call(world, arguments)` runs the clone on the traced arguments."""
        context = self.context
        with running(context), np.errstate():
            names = [f"a{i}" for i in range(len(self.leaves))]
            context.spelled.update(zip(names, self.spelling, strict=True))
            arguments = self.build(self.key, self.leaves, names, self.reads)
            before = _contents(arguments)
            try:
                result = call(self.world, arguments)
            finally:
                if self.effects:
                    self.world.write_back()
            _refuse_changed(before, arguments)
            self.world.refuse_changed_containers()
            self.refuse_changed_variables()
            finish = self.with_assigned(self.output(result))
            graph = self.graph()
        symbols = (graph_symbols(graph) | self.symbols) - context.unknown
        binder = Binder(context, names, self.reads, symbols, self.extras)
        return Trace(graph, context, binder, finish, self.held)

    # Inputs -----------------------------------------------------------------------------------------------------------

    def build(self, key: Key, leaves: Sequence[Any], names: Sequence[str], reads: list[str]) -> Any:
        """The structure of `key` with a tracer, traced number or object for each leaf."""
        items = iter(zip(leaves, names, strict=True))

        def leaf(leaf_key: Key) -> Any:
            value, name = next(items)
            return self.leaf(leaf_key, value, name, reads)

        return rebuild(key, leaf)

    def leaf(self, key: Key, value: Any, name: str, reads: list[str]) -> Any:
        context, kind = self.context, key[0]
        if kind == "array":
            return self.array(key, value, name, reads)
        if kind == "int":
            symbol = context.size_symbol(value, prefix="p")
            reads.append(f"{symbol} = {name}")
            context.spelled[symbol.source()] = context.spelled.get(name, name)
            return IntNumber(context, symbol)
        if kind == "float":
            return FloatNumber(context, name, value)
        if kind == "complex":
            return ComplexNumber(context, name, value)
        if kind == "scalar":
            return fresh(context, context.scalar_input(name, value, supported(value.dtype)), scalar=True)
        position = int(name[1:]) if name.startswith("a") else None
        if position is not None:
            self.held[position] = _reference(value)
        return self.world.seen(value, name, self.context.spelled.get(name, name))

    def array(self, key: Key, value: Any, name: str, reads: list[str]) -> Tracer:
        known = self.by_identity.get(id(value))
        if known is not None:
            if not name.startswith("a"):
                self.context.guard(f"{name} is {self.arguments[id(known)][1]}", "one array under two names")
            return known
        _, dtype, _, flags, layout = key
        dtype = supported(dtype.newbyteorder("=")).numpy
        before = set(self.context.hints)
        graph_value = self.context.array_input("leaf", name, value)
        sizes = [symbol.source() if isinstance(symbol, Dim) else "_" for symbol in graph_value.shape]
        owner = self.context.spelled.get(name, name)
        self.context.spelled.update({s: f"{owner}.shape[{i}]" for i, s in enumerate(sizes) if s != "_"})
        if set(self.context.hints) != before:
            reads.append(f"{', '.join(sizes)}{',' if len(sizes) == 1 else ''} = {name}.shape")
        cell = Cell(graph_value, len(self.context.feeds) - 1, bool(flags & _WRITEABLE))
        self.context.cells.append(cell)
        tracer = Tracer(
            self.context, cell, graph_value.shape, dtype, layout=layout, contiguous=bool(flags & 1) or value.ndim == 0
        )
        self.by_identity[id(value)] = tracer
        self.arguments[id(tracer)] = (tracer, name)
        return tracer

    def hidden(self, variable: Variable) -> Any:
        """A global or closure variable that the trace reads, as an input of its own."""
        leaves: list[Any] = []
        key = describe(variable.value, leaves)
        names = [self.context.fresh("h") for _ in leaves]
        self.context.spelled.update(zip(names, spellings(key, variable.name), strict=True))
        step = HiddenStep(variable.name, variable.source, key, names)
        self.context.steps.append(step)  # type: ignore[arg-type]
        built = self.build(key, leaves, names, step.lines)
        if isinstance(built, (list, tuple, dict)):
            self.containers.append((variable.name, built, _contents(built)))
        return built

    def refuse_changed_variables(self) -> None:
        """The function sees copies of the lists and dicts that variables hold."""
        for name, built, before in self.containers:
            if _contents(built) != before:
                raise TraceError(
                    f"the function changes `{name}` (an item was assigned, added or removed); a traced function works "
                    "on a copy. Bind a new container to the name, or write into its arrays with x[...] = value."
                )

    # Outputs ----------------------------------------------------------------------------------------------------------

    def output(self, result: Any) -> Finish:
        """How a returned object is made again at each call."""
        result = numpy_door.real_of(result)
        result = numbers.known_or_traced(result)
        if isinstance(result, Tracer):
            return self.array_output(result)
        if isinstance(result, Number):
            result.context.require("returned number", result.location)
            position = len(self.extras)
            self.extras.append(result.source())
            return lambda outs, arguments, sizes, extras: extras[position]
        kind = type(result)
        if kind in (tuple, list):
            parts = [self.output(r) for r in result]
            return _formed(
                (kind, [getattr(p, "form", None) for p in parts]),
                lambda outs, arguments, sizes, extras: kind([p(outs, arguments, sizes, extras) for p in parts]),
            )
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            parts = [self.output(r) for r in result]
            return lambda outs, arguments, sizes, extras: kind(*[p(outs, arguments, sizes, extras) for p in parts])
        if kind is dict:
            items = [
                (n.narrow("a dict key") if isinstance(n, Number) else n, self.output(r)) for n, r in result.items()
            ]
            return lambda outs, arguments, sizes, extras: {n: p(outs, arguments, sizes, extras) for n, p in items}
        if isinstance(result, ModuleView):
            result = result._module
        if isinstance(result, dict):
            return self.object_output(result, dict(result), _filled_mapping)
        attributes = getattr(result, "__dict__", None)
        if type(attributes) is dict and not callable(result) and any_traced(attributes.values()):
            return self.object_output(result, attributes, _filled_object)
        if isinstance(result, Iterator):
            raise TraceError(
                f"the function returns a {kind.__name__}, which would run after the trace. Return a list or an array.",
            )
        return _formed(("constant", result), lambda outs, arguments, sizes, extras: result)

    def object_output(self, result: Any, contents: dict[Any, Any], fill: Callable[[Any, Any], Any]) -> Finish:
        """An object made in the function that holds traced values: made again at each call, without its constructor."""
        parts = [(name, self.output(value)) for name, value in contents.items()]
        empty = copy.copy(result)
        return lambda outs, arguments, sizes, extras: fill(
            empty, {name: p(outs, arguments, sizes, extras) for name, p in parts}
        )

    def with_assigned(self, finish: Finish) -> Finish:
        """`finish`, then the attributes that the function set on objects."""
        if not self.world.assigned:
            return finish
        parts = [(_reference(real), name, self.output(value)) for real, name, value in self.world.assigned.values()]

        def finish_and_assign(outs: list[Any], arguments: Sequence[Any], sizes: Any, extras: Any) -> Any:
            values = [part(outs, arguments, sizes, extras) for _, _, part in parts]
            result = finish(outs, arguments, sizes, extras)
            for (held, name, _), value in zip(parts, values, strict=True):
                setattr(held(), name, value)
            return result

        return finish_and_assign

    def array_output(self, x: Tracer) -> Finish:
        x.context.require(f"returned array {x.describe()}", x.location)
        known = self.known.get(id(x))
        if known is None:  # the same object twice is the same object again
            known = self.known[id(x)] = (x, self.new_output(x))
        return known[1]

    def new_output(self, x: Tracer) -> Finish:
        feed = x.cell.feed
        if feed is not None and x.weak is None and not x.scalar:
            chain = x.chain
            if id(x) in self.arguments:
                return _formed(("argument", feed), lambda outs, arguments, sizes, extras: arguments[feed])
            if not _copies(chain):
                for view in chain:
                    self.symbols |= _symbols_in(tuple(view.params.values()))
                return lambda outs, arguments, sizes, extras: _viewed(arguments[feed], chain, sizes)
        position = len(self.values)
        value, back = self.in_memory_order(x)
        self.values.append(value)
        if any(v is value for v in self.values[:-1]):  # another array with the same contents
            if x.scalar and x.weak is None:
                return lambda outs, arguments, sizes, extras: outs[position][()]
            if x.weak is not None:
                return lambda outs, arguments, sizes, extras: outs[position].item()
            return lambda outs, arguments, sizes, extras: _moved(outs[position].copy(), back)
        if x.weak is not None:
            return lambda outs, arguments, sizes, extras: outs[position].item()
        if x.scalar:
            return _formed(("scalar", position), lambda outs, arguments, sizes, extras: outs[position][()])
        if back is not None:
            return lambda outs, arguments, sizes, extras: np.ascontiguousarray(outs[position]).transpose(back)
        producer = self.context.builder.producer.get(value.id)
        loops = ("elementwise", "reduction", "creation", "join", "update", "contraction")
        if len(x.dims) > 1 and (producer is None or producer.primitive.family not in loops):
            # What passes a buffer through may hand it on in another memory order.
            return lambda outs, arguments, sizes, extras: np.ascontiguousarray(outs[position])
        return _formed(("array", position), lambda outs, arguments, sizes, extras: outs[position])

    def in_memory_order(self, x: Tracer) -> tuple[Value, tuple[int, ...] | None]:
        """x's value with axes slowest first, and the permutation that puts them back; (value, None) for row-major."""
        value = x.value()
        layout = x.layout
        if layout is None or len(x.dims) < 2 or any(not s and n != 1 for s, n in zip(layout, x.dims, strict=True)):
            return value, None
        perm = tuple(sorted(range(len(layout)), key=lambda d: -layout[d]))
        if perm == tuple(range(len(perm))):
            return value, None
        back = tuple([perm.index(d) for d in range(len(perm))])
        return self.context.add(TABLE["transpose"], [value], {"perm": perm}), back

    def graph(self) -> Graph:
        """The graph, with sizes that guards found equal under one name, and the updates of written arguments."""
        context = self.context
        updates = []
        for cell in context.cells:
            if cell.written and cell.value is not cell.original:
                updates.append((cell.original, cell.value))
        graph = context.builder.finish(self.values, updates)
        if context.united:
            _canonicalise(context, graph)
        return graph


def _formed(form: Any, finish: Finish) -> Finish:
    """`finish` with a note of what it does, for native entries: ("array" | "scalar" | "argument", position), or a
    container type with its parts' notes. Without a note only Python can do it."""
    finish.form = form  # type: ignore[attr-defined]
    return finish


def _moved(array: Any, back: tuple[int, ...] | None) -> Any:
    return array if back is None else array.transpose(back)


def _filled_mapping(empty: Any, contents: dict[Any, Any]) -> Any:
    made = copy.copy(empty)
    made.update(contents)
    return made


def _filled_object(empty: Any, contents: dict[Any, Any]) -> Any:
    made = object.__new__(type(empty))
    made.__dict__.update(contents)
    return made


def _copies(chain: Sequence[View]) -> bool:
    return any(
        view.kind not in ("transpose", "expand_dims", "squeeze", "slice", "broadcast_to", "reshape") for view in chain
    )


def _viewed(array: Any, chain: Sequence[View], sizes: Any) -> Any:
    """A real view of the caller's array."""
    array = array[...]
    for view in chain:
        params = {name: concrete_param(p, sizes) for name, p in view.params.items()}
        array = TABLE[view.kind].evaluate(array, **params)
    return array


def _symbols_in(param: Any) -> frozenset[str]:
    if isinstance(param, Dim):
        return symbols_of(param)
    if isinstance(param, tuple):
        return frozenset().union(*(_symbols_in(p) for p in param))
    return frozenset()


def graph_symbols(graph: Graph) -> set[str]:
    """Every size symbol that the graph reads, in types and parameters."""
    found = set(graph.symbols())
    for node in graph.nodes:
        found |= _symbols_in(tuple([p for _, p in node.params]))
        for value in node.outputs:
            found |= _symbols_in(value.shape)
    return found


def _canonicalise(context: TraceContext, graph: Graph) -> None:
    """Renames sizes that guards found equal, in place: the graph is the trace's own until it is built."""
    for value in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs)):
        value.type = TensorType(value.dtype, tuple([context.canonical(n) for n in value.shape]))
    for node in graph.nodes:
        node.params = tuple([(name, _canonical_param(context, p)) for name, p in node.params])


def _canonical_param(context: TraceContext, param: Any) -> Any:
    if isinstance(param, Dim):
        return context.canonical(param)
    if type(param) is tuple:
        return tuple([_canonical_param(context, p) for p in param])
    return param


def _reference(value: Any) -> Any:
    """A weak reference where the object allows one, else a strong one behind the same call."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _contents(structure: Any) -> Any:
    """The identities inside the lists and dicts of an argument, to see whether the function changes them."""
    if isinstance(structure, (list, tuple)):
        return [_contents(s) for s in structure]
    if isinstance(structure, dict):
        return {name: _contents(s) for name, s in structure.items()}
    return id(structure)


def _refuse_changed(before: Any, arguments: Any) -> None:
    if _contents(arguments) != before:
        raise TraceError(
            "the function changes a list or dict that was passed to it (an item was assigned, added or removed); a "
            "traced function works on a copy. Return the new container instead, or write into its arrays with "
            "x[...] = value."
        )
