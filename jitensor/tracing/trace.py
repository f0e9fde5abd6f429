"""Tracing one call: arguments become tracers, the clone runs once, and what it returned becomes outputs of a graph.

Owns `trace`, which gives a `Trace`: the executable, the generated code that binds a later call to it (guards, sizes,
numbers), and the way its outputs become what NumPy would return. Must not know the cache or the decorator. The code bound:

    def bind(leaves):
        a0, a1 = leaves
        d0, d1 = a0.shape
        if not (1 < d0 - 1): return None                       # model.py:12
        return (a0, float64(a1)), {'d0': d0, 'd1': d1}, ()
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor import pipeline
from jitensor.errors import JitensorError, TraceError
from jitensor.ir.dims import Dim, symbols_of
from jitensor.ir.graph import Graph, Value
from jitensor.ir.interpret import concrete as concrete_param
from jitensor.ir.types import TensorType
from jitensor.ops import TABLE
from jitensor.tracing import numpy_door
from jitensor.tracing.arrays import Cell, Tracer, View, fresh
from jitensor.tracing.clone import ModuleView, Variable, World
from jitensor.tracing.context import Guard, NumberStep, TraceContext, running
from jitensor.tracing.numbers import ComplexNumber, FloatNumber, IntNumber, Number
from jitensor.tracing.signature import Key, describe, rebuild
from jitensor.tracing.ufuncs import supported

_WRITEABLE = 0x400
CALLS_BEFORE_NATIVE = 2  # the first call of a trace pays for its kernels alone
Finish = Callable[[list[Any], Sequence[Any], Any, Any], Any]


class HiddenStep:
    """Fetches a variable that the trace read and checks that it looks as it did. `names` hold its leaves."""

    __slots__ = ("key", "lines", "name", "names", "source")

    def __init__(self, name: str, source: str, key: Key, names: list[str]) -> None:
        self.name = name
        self.source = source
        self.key = key
        self.names = names
        self.lines: list[str] = []  # reads the sizes of its arrays


class Trace:
    """One trace: what it serves and how it is called."""

    def __init__(
        self,
        graph: Graph,
        context: TraceContext,
        bind: Callable[[Sequence[Any]], Any],
        source: str,
        finish: Finish,
        held: dict[int, Any],
    ) -> None:
        self.graph = graph
        self.bind = bind
        self.source = source
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
    def narrowed(self) -> list[tuple[str, Any, str, Any]]:
        """(expression, value, why, line) of every value that the trace fixed."""
        return [(*g.narrowed, g.why, g.location) for g in self.guards if g.narrowed is not None]

    def overlapping(self, arguments: Sequence[Any]) -> bool:
        """True when an array that is written shares memory with another argument."""
        return any(
            i != j and np.may_share_memory(arguments[i], arguments[j]) for i in self.written for j in self.arrays
        )


class Tracing:
    """The work of one trace; `run` does it."""

    def __init__(self, name: str, key: Key, leaves: Sequence[Any]) -> None:
        self.context = TraceContext(name)
        self.key = key
        self.leaves = leaves
        self.reads: list[str] = []  # lines that take sizes from leaves
        self.by_identity: dict[int, Tracer] = {}  # array argument -> its tracer: the same array twice is one cell
        self.arguments: dict[int, tuple[Tracer, str]] = {}  # id of an argument's tracer -> (it, name of its leaf)
        self.held: dict[int, Any] = {}
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
            arguments = self.build(self.key, self.leaves, names, self.reads)
            before = _contents(arguments)
            try:
                result = call(self.world, arguments)
            finally:
                self.world.write_back()
            _refuse_changed(before, arguments)
            finish = self.output(result)
            graph = self.graph()
        bind, source = self.binder(graph, names)
        return Trace(graph, context, bind, source, finish, self.held)

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
        return self.world.wrap(value)

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
        step = HiddenStep(variable.name, variable.source, key, names)
        self.context.steps.append(step)  # type: ignore[arg-type]
        return self.build(key, leaves, names, step.lines)

    # Outputs ----------------------------------------------------------------------------------------------------------

    def output(self, result: Any) -> Finish:
        """How a returned object is made again at each call."""
        result = numpy_door.real_of(result)
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
            return _formed((kind, [getattr(p, "form", None) for p in parts]),
                           lambda outs, arguments, sizes, extras: kind([p(outs, arguments, sizes, extras) for p in parts]))
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            parts = [self.output(r) for r in result]
            return lambda outs, arguments, sizes, extras: kind(*[p(outs, arguments, sizes, extras) for p in parts])
        if kind is dict:
            items = [(n.narrow("a dict key") if isinstance(n, Number) else n, self.output(r)) for n, r in result.items()]
            return lambda outs, arguments, sizes, extras: {n: p(outs, arguments, sizes, extras) for n, p in items}
        if isinstance(result, ModuleView):
            result = result._module
        return lambda outs, arguments, sizes, extras: result

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

    # Later calls --------------------------------------------------------------------------------------------------------

    def binder(self, graph: Graph, names: Sequence[str]) -> tuple[Callable[[Sequence[Any]], Any], str]:
        """The generated function that checks a later call against this trace and collects the program's inputs."""
        context = self.context
        lines = [f"{', '.join(names)}{',' if len(names) == 1 else ''} = leaves"] if names else []
        lines += self.reads
        scope: dict[str, Any] = dict(context.constants)
        for step in context.steps:
            lines += _step_lines(step, scope)
        feeds = [_feed_source(feed, scope) for feed in context.feeds]
        used = graph_symbols(graph) | self.symbols
        sizes = ", ".join(f"{s!r}: {s}" for s in sorted(used))
        lines.append(f"return ({_tuple(feeds)}), {{{sizes}}}, ({_tuple(self.extras)})")
        body = "".join(f"        {line}\n" for line in lines)
        source = f"def bind(leaves):\n    try:\n{body}    except CALL_ERRORS:\n        return None\n"
        scope.update(CALL_ERRORS=_CALL_ERRORS, describe=describe)
        exec(compile(source, f"<jitensor bind {graph.name}>", "exec"), scope)
        return scope["bind"], source


def _formed(form: Any, finish: Finish) -> Finish:
    """`finish` with a note of what it does, for native entries: ("array" | "scalar" | "argument", position), or a
    container type with its parts' notes. Without a note only Python can do it."""
    finish.form = form  # type: ignore[attr-defined]
    return finish


_CALL_ERRORS = (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, JitensorError)


def _tuple(items: Sequence[str]) -> str:
    return "".join(f"{i}, " for i in items)


def _step_lines(step: Any, scope: dict[str, Any]) -> list[str]:
    if isinstance(step, NumberStep):
        check = f"if type({step.name}) is not {step.kind.__name__}: return None" if step.kind else ""
        return [f"{step.name} = {step.source}", *([check] if check else [])]
    if isinstance(step, Guard):
        return [f"if not ({step.source}): return None"]
    if step.key in (("int",), ("float",), ("complex",)):
        return [f"{step.names[0]} = {step.source}", f"if type({step.names[0]}) is not {step.key[0]}: return None", *step.lines]
    expected = f"k_{len(scope)}"
    scope[expected] = step.key
    taken = f"{', '.join(step.names)}, = found" if step.names else ""
    lines = ["found = []", f"if describe({step.source}, found) != {expected}: return None", taken, *step.lines]
    return [line for line in lines if line]


def _feed_source(feed: Any, scope: dict[str, Any]) -> str:
    if feed.kind == "foreign":
        scope["native_of"] = _native
        return f"native_of({feed.where})"
    if feed.kind != "scalar":
        return str(feed.where)
    name = feed.dtype.name
    scope[f"to_{name}"] = _narrow_float(feed.dtype.numpy.type) if name in ("float32", "float16") else feed.dtype.numpy.type
    return f"to_{name}({feed.where})"


def _native(array: Any) -> Any:
    """The array in this machine's byte order; a copy."""
    return array.astype(array.dtype.newbyteorder("="))


def _narrow_float(convert: Any) -> Callable[[Any], Any]:
    """A conversion whose overflow gives infinity without a warning."""
    top = float(np.finfo(convert).max)

    def narrow(x: Any) -> Any:
        if -top <= x <= top:
            return convert(x)
        with np.errstate(over="ignore"):
            return convert(x)

    return narrow


def _copies(chain: Sequence[View]) -> bool:
    return any(view.kind not in ("transpose", "expand_dims", "squeeze", "slice", "broadcast_to", "reshape") for view in chain)


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
            "the function changes a list or dict that was passed to it (an item was assigned, added or removed); a traced "
            "function works on a copy. Return the new container instead, or write into its arrays with x[...] = value."
        )
