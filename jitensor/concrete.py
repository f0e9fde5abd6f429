"""Concrete functions: one trace, and how it runs.

Owns `ConcreteFunction` and its two ways to run: a graph whose sizes are all known goes to the pipeline as it is; a
log with unknown sizes or host calls is replayed with the sizes of the call into graphs, in segments that end where a
value or a host call's result is needed. Plans are kept by the sizes and values that they were made for. Must not know
`jt.function`'s caches.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jitensor import nest, pipeline
from jitensor.api.convert import CastContext
from jitensor.api.elementwise import add
from jitensor.backward import READ_AGAIN, Saved, gradients
from jitensor.errors import DTypeError, InvalidArgumentError, ShapeError
from jitensor.execution import Execution
from jitensor.ir.graph import Graph, Primitive, Value
from jitensor.ir.types import DType, string
from jitensor.recording import (
    AssignVariable,
    Entry,
    HostCall,
    ReadVariable,
    Trace,
    ValueNeeded,
    active,
    known_sizes,
    map_tensors,
    recording,
    tensors_in,
)
from jitensor.runtime.cache import CallType
from jitensor.runtime.signature import Keyed, Literal, Reference, Sequential, TensorSpec, TraceType
from jitensor.tensor import Tensor, make_eager
from jitensor.variable import Variable, VariableSpec

MOST_PLANS = 256


class ConcreteFunction:
    """One trace of a function. Call it with the arguments it was traced for; it never traces again.

    Made by `get_concrete_function`. Mirrors tf.types.experimental.ConcreteFunction, except that shapes are checked.
    """

    def __init__(
        self,
        name: str,
        call_type: CallType,
        layout: Layout,
        trace: Trace,
        inputs: Sequence[Tensor],
        outputs: Any,
        stand_ins: Sequence[Variable] = (),
    ) -> None:
        self.name = name
        self.stand_ins = list(stand_ins)  # of the Variables among the arguments, in the order of their alias numbers
        self.__name__ = name
        self.call_type = call_type
        self.layout = layout
        self.trace = trace
        self._inputs = list(inputs)  # placeholders, one per tensor in the arguments
        self._structured = outputs  # the function's result: a nest of this trace's tensors, eager ones, None and others
        self._outputs = [t for t in nest.flatten(outputs) if isinstance(t, Tensor)]
        self._returns_one = isinstance(outputs, Tensor)
        self._runner: _Runner | None = None
        self._calls: dict[tuple[bool, ...], Primitive] = {}
        self._backwards: dict[Any, ConcreteFunction] = {}
        self._aliased: dict[Any, ConcreteFunction] = {}  # where a Variable argument is one that the trace captured
        self.trace_seconds = 0.0  # what recording took
        self.calls = 0  # that came through the Python path's shortest way
        self.only_python = ""  # why no native entry serves this trace
        # May an argument's elements live on after the call: as a result, or with a Python function that it was given
        # to?
        given = {id(t) for t in inputs}
        kept = [*self._outputs, *[s.current for s in trace.slots.values()]]
        self.keeps_arguments = trace.replayed or trace.fails_after_a_write or any(id(t) in given for t in kept)

    # Running ----------------------------------------------------------------------------------------------------------

    def run(self, tensors: Sequence[Tensor], variables: Sequence[Variable] = ()) -> Any:
        """The function on tensors that fit its types, in the order of the placeholders, and on the Variables among its
        arguments: eagerly, or inlined into the trace that this thread records."""
        trace = active.context
        if trace is not None:
            return self._inline(trace, tensors, variables)
        if self.trace.outer:
            raise TypeError(f"{self.name} uses tensors of the trace that it was defined in, and that trace has ended")
        if variables and self._aliases(variables):
            return self._with_aliases(variables).run(tensors, variables)
        actual = dict(zip(map(id, self.stand_ins), variables, strict=True)) if variables else _NOBODY
        results = self._run_on_tape(tensors, actual) if active.tapes else self._execute(tensors, actual)
        if self._returns_one:
            return results[0]
        return nest.replace_tensors(self._structured, iter(results))

    def _execute(self, tensors: Sequence[Tensor], actual: Mapping[int, Variable]) -> list[Tensor]:
        runner = self._runner
        if runner is None:
            runner = self._runner = self._new_runner()
        return runner(tensors, actual)

    # Under a tape -----------------------------------------------------------------------------------------------------

    def _run_on_tape(self, tensors: Sequence[Tensor], actual: Mapping[int, Variable]) -> list[Tensor]:
        """A call that eager tapes may have to differentiate: one step for them, whose gradient is another function."""
        slots = list(self.trace.slots.values())
        variables = [actual.get(id(s.variable), s.variable) for s in slots]
        watched = [any(tape.watches(v) for tape in active.tapes) for v in variables]
        tracked = [any(tape.tracks(t) for tape in active.tapes) for t in tensors]
        captured = [any(tape.tracks(t) for tape in active.tapes) for t in self._captured]
        if not any(watched) and not any(tracked) and not any(captured):
            return self._execute(tensors, actual)
        # Another tensor for each Variable, and what it was before the call.
        values = [v._read() if w else make_eager(v._held(), v.dtype) for v, w in zip(variables, watched, strict=True)]
        results = self._with_saved()._execute(tensors, actual)
        count = len(self._outputs)
        outputs, saved = results[:count], results[count:]
        given = {id(t) for t in tensors}
        outputs = [make_eager(t._array, t._dtype) if id(t) in given else t for t in outputs]
        wanted = (*tracked, *watched, *captured)
        made = [t for t, o in zip(outputs, self._outputs, strict=True) if o._context is not None]
        for tape in active.tapes:
            tape.record(self._call_primitive(wanted), (*tensors, *values, *self._captured, *saved), {}, made)
        return outputs

    @functools.cached_property
    def _host_results(self) -> list[Tensor]:
        """What Python functions gave, which a gradient must not ask for again."""
        return [t for e in self.trace.log if isinstance(e.operation, HostCall) for t in e.result]

    @functools.cached_property
    def _captured(self) -> list[Tensor]:
        """The eager tensors that calls use, which may have a gradient too."""
        used = [t for e in self.trace.log for t in tensors_in((e.args, e.kwargs))]
        return distinct([t for t in used if t._context is None and t._dtype.kind in "fc"])

    @functools.cached_property
    def _products(self) -> list[Tensor]:
        """Results of matrix products, which cost more to compute again than to keep."""
        if self.trace.replayed:
            return []
        producer = self.trace.builder.producer
        found = []
        for entry in self.trace.log:
            made = [] if isinstance(entry.operation, HostCall) else tensors_in(entry.result)
            values = [t._value for t in made if t._context is self.trace and t._value is not None]
            nodes = [producer.get(v.id) for v in values]
            if len(made) == 1 and any(n is not None and n.primitive.family == "contraction" for n in nodes):
                found.extend(made)
        return distinct(found)

    @functools.cached_property
    def _saved(self) -> list[Tensor]:
        return [*self._host_results, *self._products]

    @functools.cached_property
    def _saving(self) -> ConcreteFunction:
        outputs = [*self._outputs, *self._saved]
        return ConcreteFunction(
            self.name, self.call_type, self.layout, self.trace, self._inputs, outputs, self.stand_ins
        )

    def _with_saved(self) -> ConcreteFunction:
        return self._saving if self._saved else self

    def _call_primitive(self, wanted: tuple[bool, ...]) -> Primitive:
        """A call as a step of a tape. wanted: which of the arguments and Variables need gradients."""
        found = self._calls.get(wanted)
        if found is None:

            def vjp(emit: Any, g: Any, outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
                parts = g if len(outputs) > 1 else (g,)
                backward = self._backward(wanted, tuple([p is not None for p in parts]))
                own = len(wanted) - len(self._captured)
                given = [*inputs[:own], *inputs[len(wanted) :], *[p for p in parts if p is not None]]
                gradients = iter(backward.run(given))
                per_input = [next(gradients) if w else None for w in wanted]
                return (*per_input, *[None] * (len(inputs) - len(wanted)))

            found = self._calls[wanted] = Primitive(self.name, "call", _never, _never, vjp=vjp)
        return found

    def _backward(self, wanted: tuple[bool, ...], given: tuple[bool, ...]) -> ConcreteFunction:
        """The gradient as a function of the arguments, the Variables' values, what was saved, and the cotangents of the
        outputs that `given` names. It computes again what it needs of the forward pass, and writes nothing."""
        found = self._backwards.get((wanted, given))
        if found is None:
            found = self._backwards[wanted, given] = self._trace_backward(wanted, given)
        return found

    def _trace_backward(self, wanted: tuple[bool, ...], given: tuple[bool, ...]) -> ConcreteFunction:
        trace = Trace(f"{self.name}_gradient")
        slots = list(self.trace.slots.values())

        def alike(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [trace.input(t._dtype, t._sizes) for t in tensors]

        arguments, values = alike(self._inputs), alike([s.first for s in slots])
        saved = alike(self._saved)
        traced = [t for t in self._outputs if t._context is not None]
        targets = [t for t, is_given in zip(traced, given, strict=True) if is_given]
        cotangents = alike(targets)
        known = dict(zip(map(id, [*self._inputs, *self._saved]), [*arguments, *saved], strict=True))
        with recording(trace):
            reads = self._log_again(trace, known, values)
            sources = [
                *[[a] for a in arguments],
                *[reads[id(s.variable)] for s in slots],
                *[[c] for c in self._captured],
            ]
            flat = [t for tensors, w in zip(sources, wanted, strict=True) if w for t in tensors]
            parts = iter(gradients(trace, trace.log, [known[id(t)] for t in targets], cotangents, flat))
            sums = []
            for tensors, is_wanted in zip(sources, wanted, strict=True):
                if is_wanted:
                    found = [p for p in [next(parts) for _ in tensors] if p is not None]
                    sums.append(functools.reduce(add, found) if found else None)
        inputs = [*arguments, *values, *saved, *cotangents]
        return ConcreteFunction(trace.builder.name, CallType((), ()), Layout((), frozenset()), trace, inputs, sums)

    def _log_again(self, trace: Trace, known: dict[int, Tensor], values: Sequence[Tensor]) -> dict[int, list[Tensor]]:
        """Logs this function's calls without its effects; gives the tensors read from each Variable."""
        current = dict(zip(self.trace.slots, values, strict=True))
        reads: dict[int, list[Tensor]] = {i: [] for i in self.trace.slots}
        products = {id(t) for t in self._products}

        def here(tensor: Tensor) -> Tensor:
            return tensor if tensor._context is None else known[id(tensor)]

        for entry in self.trace.log:
            operation = entry.operation
            if isinstance(operation, ReadVariable):
                read = known[id(entry.result)] = trace.call(READ_AGAIN, (current[id(operation.variable)],), {})
                reads[id(operation.variable)].append(read)
            elif isinstance(operation, AssignVariable):
                current[id(operation.variable)] = here(entry.args[0])
            elif not isinstance(operation, HostCall) and tensors_in(entry.result):
                args, kwargs = map_tensors(entry.args, here), map_tensors(entry.kwargs, here)
                if id(entry.result) in products:
                    trace.log.append(Entry(Saved(operation), args, kwargs, known[id(entry.result)], entry.location))
                    continue
                results = trace.call(operation, args, kwargs)
                known.update(zip(map(id, tensors_in(entry.result)), tensors_in(results), strict=True))
        return reads

    def executables(self) -> list[Any]:
        """What calls have run so far."""
        return [] if self._runner is None else self._runner.executables()

    def served_by(self, tensors: Sequence[Any]) -> tuple[Any, list[Any] | None]:
        """The executable that a call with tensors of these sizes would run (of a log with several segments the
        first), and its arguments; None instead of those where a TensorSpec stands for a tensor. Runs nothing and
        keeps nothing."""
        return (self._runner or self._new_runner()).served_by(tensors)

    def _new_runner(self) -> _Runner:
        if self.trace.replayed or self.trace.fails_after_a_write:
            return _Replayed(self)
        return _WithVariables(self) if self.trace.slots else _Static(self)

    def _aliases(self, variables: Sequence[Variable]) -> dict[int, Variable]:
        """By the id of the stand-in, the arguments that the trace also captured."""
        slots = self.trace.slots
        pairs = zip(self.stand_ins, variables, strict=True)
        return {id(s): v for s, v in pairs if id(v) in slots and id(s) in slots}

    def _with_aliases(self, variables: Sequence[Variable]) -> ConcreteFunction:
        """This function for calls where Variables among the arguments are ones that it captured: what is written to one
        is read from the other."""
        same = self._aliases(variables)
        pattern = tuple((i, id(v)) for i, v in same.items())
        found = self._aliased.get(pattern)
        if found is None:
            trace = Trace(self.name)
            inputs = [trace.input(t._dtype, t._sizes) for t in self._inputs]
            arguments = [same.get(id(s), s) for s in self.stand_ins]
            with recording(trace):
                outputs = self._inline(trace, inputs, arguments)
            stand_ins: list[Any] = [_Unused() if id(s) in same else s for s in self.stand_ins]
            found = ConcreteFunction(self.name, self.call_type, self.layout, trace, inputs, outputs, stand_ins)
            self._aliased[pattern] = found
        return found

    @property
    def returns_one(self) -> bool:
        return self._returns_one

    @property
    def returns_tuple(self) -> bool:
        """Is the result a plain tuple of tensors?"""
        return type(self._structured) is tuple and all(isinstance(t, Tensor) for t in self._structured)

    def static_runner(self) -> _Static | None:
        """What runs calls, once one has run, if that is a single program of known sizes."""
        return self._runner if type(self._runner) is _Static else None

    def _inline(self, trace: Trace, tensors: Sequence[Tensor], variables: Sequence[Variable] = ()) -> Any:
        """Records this function's ops in another trace, in order."""
        known: dict[int, Tensor] = dict(zip(map(id, self._inputs), tensors, strict=True))
        known.update((id(mine), theirs) for theirs, mine in self.trace.outer)
        trace.inline(self.trace, known, dict(zip(map(id, self.stand_ins), variables, strict=True)))
        return nest.map_tensors(self._structured, lambda t: known.get(id(t), t))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*self.layout.cast_call(self.call_type, args, kwargs))

    # What it is -------------------------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The recorded graph. Where sizes are unknown it holds the part that is static."""
        values = [t._value for t in self._outputs if t._context is self.trace and t._value is not None]
        return self.trace.builder.finish(values)

    @property
    def structured_input_signature(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.layout.structured(self.call_type)

    @property
    def structured_outputs(self) -> Any:
        return nest.map_tensors(self._structured, lambda t: TensorSpec(t.shape, t.dtype))

    @property
    def output_shapes(self) -> Any:
        return nest.map_tensors(self._structured, lambda t: t.shape)

    @property
    def output_dtypes(self) -> Any:
        return nest.map_tensors(self._structured, lambda t: t.dtype)

    @property
    def inputs(self) -> list[Any]:
        return [*self._inputs, *self.captured_inputs]

    @property
    def outputs(self) -> list[Tensor]:
        return list(self._outputs)

    @property
    def captured_inputs(self) -> list[Any]:
        return [*self.trace.captured.values(), *self.variables]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The Variables that the trace captured."""
        own = {id(s) for s in self.stand_ins}
        return tuple(s.variable for i, s in self.trace.slots.items() if i not in own)

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        return tuple(v for v in self.variables if v.trainable)

    @property
    def function_type(self) -> CallType:
        return self.call_type

    def pretty_printed_signature(self, verbose: bool = True) -> str:
        """The types of arguments, result and captures, as text."""
        names = list(zip(self.call_type.names, self.call_type.types, strict=True))
        if not verbose:
            inputs = ", ".join(f"{n}: {t!r}" for n, t in names)
            return f"({inputs}) -> {nest.text(self.structured_outputs)}"
        lines = [f"  {n} ({self.layout.kind(n)}): {t!r}" for n, t in names] or ["  None"]
        captures = [
            f"  {i}: TensorSpec(shape={t.shape}, dtype={t.dtype!r}, name=None)"
            if isinstance(t, Tensor)
            else f"  {i}: TensorSpec(shape=(), dtype=tf.resource, name=None)"
            for i, t in enumerate(self.captured_inputs)
        ]
        return "\n".join(
            [
                "Input Parameters:",
                *lines,
                "Output Type:",
                f"  {nest.text(self.structured_outputs)}",
                "Captures:",
                *(captures or ["  None"]),
            ]
        )

    def __repr__(self) -> str:
        return f"<ConcreteFunction {self.pretty_printed_signature(verbose=False)} at {id(self):#x}>"

    __str__ = pretty_printed_signature

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("a traced function cannot be copied: copy or pickle the function before its first call")

    def __reduce__(self) -> Any:
        raise TypeError("a traced function cannot be pickled: pickle the function before its first call")


class Layout:
    """How a function's parameters are spelt: binds the arguments of a concrete function's call to its canonical
    names."""

    def __init__(self, positional: tuple[str, ...], keyword_only: frozenset[str]) -> None:
        self.positional = positional  # canonical names that may come by position
        self.keyword_only = keyword_only

    def kind(self, name: str) -> str:
        return "KEYWORD_ONLY" if name in self.keyword_only else "POSITIONAL_OR_KEYWORD"

    def structured(self, call_type: CallType) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """(positional, keyword) specs and Python values."""
        args, kwargs = [], {}
        for name, kind in zip(call_type.names, call_type.types, strict=True):
            shown = specs_of(kind, name)
            if name in self.keyword_only:
                kwargs[name] = shown
            else:
                args.append(shown)
        return tuple(args), kwargs

    def cast_call(
        self, call_type: CallType, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Tensor], list[Any]]:
        """The tensors of a call, in the order of the placeholders, and its Variables: given as the function's
        arguments, or flat, tensors only. Raises TypeError where neither fits the types."""
        try:
            return self._cast_structured(call_type, args, kwargs)
        except TypeError:
            specs = [spec for kind in call_type.types for spec in kind.flatten()]
            if kwargs or len(args) != len(specs) or not all(isinstance(a, Tensor) for a in args):
                raise
            return [spec.cast(a, CAST) for spec, a in zip(specs, args, strict=True)], []

    def _cast_structured(
        self, call_type: CallType, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Tensor], list[Any]]:
        names = call_type.names
        by_position = [n for n in names if n not in self.keyword_only]
        given = self._bound(call_type, names, by_position, args, kwargs)
        tensors: list[Tensor] = []
        variables: list[Any] = []
        for name, kind in zip(names, call_type.types, strict=True):
            if name in given:
                try:
                    value = kind.cast(given[name], CAST)
                except (ValueError, TypeError) as error:
                    raise TypeError(f"argument {name}: {error}") from None
                tensors.extend(kind.to_tensors(value))
                variables.extend(kind.to_references(value))
            elif kind.flatten() or isinstance(kind, VariableSpec):
                raise TypeError(f"missing argument {name}: {kind!r}")
        return tensors, distinct(variables)

    def _bound(
        self,
        call_type: CallType,
        names: Sequence[str],
        by_position: list[str],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> dict[str, Any]:
        if len(args) > len(by_position):
            wanted = [n for n, t in zip(call_type.names, call_type.types, strict=True) if t.flatten()]
            raise TypeError(f"too many arguments: {len(args)} for {len(by_position)} parameters ({', '.join(wanted)})")
        given = dict(zip(by_position, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise TypeError(f"unknown argument {name}; the parameters are {', '.join(names)}")
            if name in given:
                raise TypeError(f"argument {name} is given twice")
            given[name] = value
        return given


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a call on a tape is never evaluated again")


def distinct(variables: Sequence[Any]) -> list[Any]:
    """Each of them once, in the order of first appearance: that of their alias numbers."""
    return list({id(v): v for v in variables}.values())


CAST = CastContext()


def specs_of(kind: TraceType, name: str | None) -> Any:
    """A type as a spec or a nest of specs and Python values, as `structured_input_signature` shows it."""
    if isinstance(kind, TensorSpec):
        return TensorSpec(kind.shape, kind.dtype, kind.name or name)
    if isinstance(kind, Sequential):
        return kind._build([specs_of(e, f"{name}_{i}") for i, e in enumerate(kind.elements)])
    if isinstance(kind, Keyed):
        return kind.build({k: specs_of(t, f"{name}_{k}") for k, t in kind.components.items()})
    if isinstance(kind, Literal):
        return kind.value
    return kind.reference() if isinstance(kind, Reference) else kind


# Running a graph whose sizes are all known ----------------------------------------------------------------------------


class _Static:
    """Arguments go to the pipeline's executable; results that are an argument or a constant are handed on."""

    def __init__(self, function: ConcreteFunction) -> None:
        trace = function.trace
        self.name = function.name
        computed: dict[int, int] = {}  # value id -> position in the executable's results
        values: list[Value] = []
        inputs = {t._value.id: i for i, t in enumerate(function._inputs) if t._value is not None}
        self.sources: list[Any] = []  # each: (arguments, results) -> tensor
        for tensor in function._outputs:
            value = tensor._value
            if tensor._context is None:
                self.sources.append(_constant_source(tensor))
            elif value is not None and value.id in inputs:
                self.sources.append(_argument_source(inputs[value.id]))
            else:
                assert value is not None
                if value.id not in computed:
                    computed[value.id] = len(values)
                    values.append(value)
                self.sources.append(_result_source(computed[value.id], tensor._dtype))
        graph = trace.builder.finish(values)
        # Placeholders may have been made in another order than the arguments', and strings are no inputs of the graph.
        order = [inputs[v.id] for v in graph.inputs]
        self.order = None if order == list(range(len(function._inputs))) else order
        self.executable = pipeline.build(graph) if _does_something(graph) else None
        self.only_results = (
            [s.dtype for s in self.sources if isinstance(s, _Result)]
            if all(isinstance(s, _Result) and s.position == i for i, s in enumerate(self.sources))
            else None
        )

    def executables(self) -> list[Any]:
        return [] if self.executable is None else [self.executable]

    def served_by(self, tensors: Sequence[Any]) -> tuple[Any, list[Any] | None]:
        if self.executable is None:
            return _nothing_to_run(self.name), []
        order = range(len(tensors)) if self.order is None else self.order
        return self.executable, _arrays([tensors[i] for i in order])

    def __call__(self, tensors: Sequence[Tensor], actual: Mapping[int, Variable]) -> list[Tensor]:
        if self.executable is None:
            arrays = []
        elif self.order is None:
            arrays = self.executable([t._array for t in tensors], _NO_SIZES)
        else:
            arrays = self.executable([tensors[i]._array for i in self.order], _NO_SIZES)
        if self.only_results is not None:
            return list(map(make_eager, arrays, self.only_results))
        return [source(tensors, arrays) for source in self.sources]


def _arrays(tensors: list[Any]) -> list[Any] | None:
    return [t._array for t in tensors] if all(isinstance(t, Tensor) for t in tensors) else None


def _nothing_to_run(name: str) -> Any:
    return pipeline.build(Trace(name).builder.finish([]))


def _does_something(graph: Graph) -> bool:
    return bool(graph.outputs) or any(n.primitive.effects for n in graph.nodes)


_NO_SIZES: dict[str, int] = {}
_NOBODY: dict[int, Variable] = {}


class _Unused:
    """Stands where a parameter's stand-in has no use."""


class _WithVariables:
    """As _Static, where the trace reads or writes Variables."""

    def __init__(self, function: ConcreteFunction) -> None:
        self.outputs = function._outputs
        self.traced = [t for t in self.outputs if t._context is not None]
        self.execution = Execution(function.trace, function._inputs, self.traced)
        self.name = function.name

    def executables(self) -> list[Any]:
        return [] if self.execution.executable is None else [self.execution.executable]

    def served_by(self, tensors: Sequence[Any]) -> tuple[Any, list[Any] | None]:
        if self.execution.executable is None:
            return _nothing_to_run(self.name), []
        return self.execution.executable, None

    def __call__(self, tensors: Sequence[Tensor], actual: Mapping[int, Variable]) -> list[Tensor]:
        execution = self.execution
        variables = [actual.get(id(v), v) for v in execution.variables] if actual else execution.variables
        arrays = execution([t._array for t in tensors], variables)
        if len(self.traced) == len(self.outputs):
            return [make_eager(a, t._dtype) for a, t in zip(arrays, self.outputs, strict=True)]
        made = iter(arrays)
        return [t if t._context is None else make_eager(next(made), t._dtype) for t in self.outputs]


class _Result(NamedTuple):
    position: int
    dtype: DType

    def __call__(self, tensors: Sequence[Tensor], arrays: list[Any]) -> Tensor:
        return make_eager(arrays[self.position], self.dtype)


_result_source = _Result


def _constant_source(tensor: Tensor) -> Callable[[Sequence[Tensor], list[Any]], Tensor]:
    return lambda tensors, arrays: tensor


def _argument_source(position: int) -> Callable[[Sequence[Tensor], list[Any]], Tensor]:
    return lambda tensors, arrays: tensors[position]


_Runner: TypeAlias = "_Static | _WithVariables | _Replayed"

# Running a log --------------------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """A stretch of the log, compiled for known sizes. `inputs` and `outputs` are keys of tensors in the log; it ends at
    entry `stop`, because of a host call or because the values of `wanted` must be known."""

    executable: Any
    inputs: tuple[int, ...]
    variables: tuple[Variable, ...] | None  # those that an Execution reads or writes; None where it is a program
    outputs: tuple[int, ...]
    stop: int
    wanted: tuple[int, ...]
    following: OrderedDict[Any, Segment]


def needed_entries(log: list[Entry], outputs: Sequence[Tensor], effects: bool = True) -> list[Entry]:
    """The log without calls that nothing depends on, and that have no effects (an unused op cannot fail); effects:
    calls that have some stay."""
    wanted = {id(t) for t in outputs}
    kept = []
    for entry in reversed(log):
        operation = entry.operation
        acts = isinstance(operation, (HostCall, AssignVariable)) or getattr(operation, "effects", False)
        if (acts and effects) or any(id(t) in wanted for t in tensors_in(entry.result)):
            kept.append(entry)
            wanted.update(id(t) for t in tensors_in((entry.args, entry.kwargs)))
    return kept[::-1]


class _Replayed:
    """Runs a log segment by segment."""

    def __init__(self, function: ConcreteFunction) -> None:
        self.name = function.name
        self.log: list[Entry] = needed_entries(function.trace.log, function._outputs)
        self.inputs = [id(t) for t in function._inputs]
        self.outputs = function._outputs
        self.dtypes = {id(t): t._dtype for t in function._inputs}
        for entry in self.log:
            self.dtypes.update((id(t), t._dtype) for t in tensors_in(entry.result))
        self.first: OrderedDict[Any, Segment] = OrderedDict()
        variables = [e.operation.variable for e in self.log if isinstance(e.operation, (ReadVariable, AssignVariable))]
        self.sized = [v for v in distinct(variables) if not v.shape.is_fully_defined()]

    def __call__(self, tensors: Sequence[Tensor], actual: Mapping[int, Variable]) -> list[Tensor]:
        arrays: dict[int, Any] = {k: t._array for k, t in zip(self.inputs, tensors, strict=True)}
        key: Any = tuple([t._sizes for t in tensors])
        segments, position = self.first, 0
        wanted: tuple[int, ...] = ()
        while True:
            if self.sized:
                key = (key, *[actual.get(id(v), v)._held().shape for v in self.sized])
            segment = self._following(segments, key, position, arrays, wanted, actual)
            given = [arrays[k] for k in segment.inputs]
            results: Sequence[Any] = ()
            if segment.variables is not None:
                results = segment.executable(given, [actual.get(id(v), v) for v in segment.variables])
            elif segment.executable:
                results = segment.executable(given, _NO_SIZES)
            arrays.update(zip(segment.outputs, results, strict=True))
            if segment.stop == len(self.log) and not segment.wanted:
                return [self._result(t, arrays) for t in self.outputs]
            segments, position, wanted = segment.following, segment.stop, segment.wanted
            if wanted:
                key = tuple([(arrays[k].shape, arrays[k].tobytes()) for k in wanted])
            elif not isinstance(self.log[position].operation, HostCall):
                key = ()  # it ended before an effect
            else:
                key, position = self._run_host(position, arrays), position + 1

    def executables(self) -> list[Any]:
        pending, found = list(self.first.values()), []
        while pending:
            segment = pending.pop()
            executable = segment.executable if segment.variables is None else segment.executable.executable
            found.extend([executable] if executable else [])
            pending.extend(segment.following.values())
        return found

    def served_by(self, tensors: Sequence[Any]) -> tuple[Any, list[Any] | None]:
        sizes = tuple([known_sizes(t.shape.sizes) for t in tensors])
        if None in sizes:
            raise ValueError(f"{self.name}: explain needs known sizes; pass tensors, or TensorSpecs without None")
        segment = self.first.get(sizes)
        if segment is None:
            dtypes = [self.dtypes[k].numpy for k in self.inputs]
            samples = [np.broadcast_to(np.zeros((), d), s or ()) for d, s in zip(dtypes, sizes, strict=True)]
            segment = self._segment(0, dict(zip(self.inputs, samples, strict=True)), {}, {})
        if segment.executable is None:
            return _nothing_to_run(self.name), []
        if segment.variables is not None:
            return segment.executable.executable or _nothing_to_run(self.name), None
        by_key = dict(zip(self.inputs, tensors, strict=True))
        return segment.executable, _arrays([by_key[k] for k in segment.inputs])

    def _result(self, tensor: Tensor, arrays: dict[int, Any]) -> Tensor:
        return tensor if tensor._context is None else make_eager(arrays[id(tensor)], tensor._dtype)

    def _run_host(self, position: int, arrays: dict[int, Any]) -> Any:
        entry = self.log[position]
        given = [t._array if t._context is None else arrays[id(t)] for t in entry.args]
        results = entry.operation.run(given)
        for tensor, result in zip(entry.result, results, strict=True):
            arrays[id(tensor)] = result
        return tuple([r.shape for r in results])

    def _following(
        self,
        segments: OrderedDict[Any, Segment],
        key: Any,
        position: int,
        arrays: dict[int, Any],
        wanted: tuple[int, ...],
        actual: Mapping[int, Variable],
    ) -> Segment:
        segment = segments.get(key)
        if segment is None:
            segment = self._segment(position, arrays, {k: arrays[k] for k in wanted}, actual)
            segments[key] = segment
            if len(segments) > MOST_PLANS:
                segments.popitem(last=False)
        return segment

    def _segment(
        self,
        position: int,
        arrays: dict[int, Any],
        known: dict[int, Any],
        actual: Mapping[int, Variable],
        end: int = -1,
    ) -> Segment:
        trace = Trace(self.name, "replay")
        trace.actual = dict(actual)
        here: dict[int, Tensor] = {}
        needed = self._needed_from(position)
        inputs = tuple([k for k in arrays if k in needed and self.dtypes[k] is not string])
        for key in inputs:
            here[key] = trace.input(self.dtypes[key], arrays[key].shape)
            if key in known:
                value = here[key]._value
                assert value is not None
                trace.facts[value.id] = known[key]
        with recording(trace):
            stop, wanted = self._replay(trace, position, here, len(self.log) if end < 0 else end)
        if trace.fails_after_a_write:
            return self._segment(position, arrays, known, actual, stop)  # the writes before it must be done by then
        outputs = tuple([k for k in here if k not in inputs and k in self._needed_from(stop)])
        if trace.slots:
            execution = Execution(trace, [here[k] for k in inputs], [here[k] for k in outputs])
            return Segment(execution, inputs, tuple(execution.variables), outputs, stop, wanted, OrderedDict())
        values = [trace.value_of(here[k]) for k in outputs]
        graph = trace.builder.finish(values)
        executable = pipeline.build(graph) if _does_something(graph) else None
        return Segment(executable, inputs if executable else (), None, outputs, stop, wanted, OrderedDict())

    def _replay(self, trace: Trace, position: int, here: dict[int, Tensor], end: int) -> tuple[int, tuple[int, ...]]:
        """Runs op functions from `position` on; gives where it ended and the keys whose values are wanted there."""

        def now(tensor: Tensor) -> Tensor:
            return tensor if tensor._context is None else here[id(tensor)]

        for i in range(position, end):
            entry = self.log[i]
            if isinstance(entry.operation, HostCall):
                return i, ()
            if isinstance(entry.operation, ReadVariable):
                here[id(entry.result)] = trace.read(entry.operation.variable)
                continue
            if isinstance(entry.operation, AssignVariable):
                trace.assign(entry.operation.variable, now(entry.args[0]))
                continue
            args, kwargs = map_tensors(entry.args, now), map_tensors(entry.kwargs, now)
            trace.location = entry.location
            try:
                result = trace.call(entry.operation, args, kwargs)
            except ValueNeeded as need:
                return i, self._wanted(trace, need.tensor, entry, here)
            except (ShapeError, DTypeError, IndexError) as error:
                if trace.first_write is not None and i > position:
                    return i, ()  # the writes before it must be done when it fails
                raise InvalidArgumentError(f"{self.name}: {error}", location=entry.location) from None
            here.update(zip(map(id, tensors_in(entry.result)), tensors_in(result), strict=True))
            if trace.fails_after_a_write:
                return i, ()
        return end, ()

    def _wanted(self, trace: Trace, tensor: Tensor, entry: Entry, here: dict[int, Tensor]) -> tuple[int, ...]:
        keys = {id(here[id(t)]): id(t) for t in tensors_in((entry.args, entry.kwargs)) if t._context is not None}
        operands = [here[k] for k in keys.values()]
        return tuple([keys[id(t)] for t in trace.depends_on(tensor, operands)])

    def _needed_from(self, position: int) -> set[int]:
        used = [t for entry in self.log[position:] for t in tensors_in((entry.args, entry.kwargs))]
        return {id(t) for t in (*used, *self.outputs) if t._context is not None}


def check_results(results: Sequence[Any], specs: Sequence[TensorSpec], name: str) -> list[np.ndarray[Any, Any]]:
    """Results of a host call as arrays of the declared dtypes. Raises InvalidArgumentError where they do not fit."""
    arrays = []
    for result, spec in zip(results, specs, strict=True):
        array = np.asarray(result)
        if spec.dtype is not string and array.dtype != spec.dtype.numpy:
            raise InvalidArgumentError(f"{name}: the function gave {array.dtype}; Tout says {spec.dtype.name}")
        arrays.append(array)
    return arrays
