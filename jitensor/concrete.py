"""Concrete functions: one trace, called, inlined into another, or differentiated by a tape around the call.

Owns `ConcreteFunction`. Must not know `jt.function`'s caches, or how a trace runs (`jitensor.runners`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jitensor import nest
from jitensor.api.elementwise import add
from jitensor.backward import READ_AGAIN, Saved, gradients
from jitensor.calling import Layout, distinct
from jitensor.ir.graph import Graph, Primitive
from jitensor.recording import (
    AssignVariable,
    Entry,
    HostCall,
    ReadVariable,
    Trace,
    active,
    map_tensors,
    recording,
    tensors_in,
)
from jitensor.runners import Replayed, Runner, Static, WithVariables
from jitensor.runtime.cache import CallType
from jitensor.runtime.signature import TensorSpec
from jitensor.tensor import Tensor, make_eager
from jitensor.variable import Variable


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
        self._runner: Runner | None = None
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

    def _new_runner(self) -> Runner:
        trace = self.trace
        logged = trace.replayed or trace.fails_after_a_write
        kind = Replayed if logged else WithVariables if trace.slots else Static
        return kind(self.name, trace, self._inputs, self._outputs)

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

    def static_runner(self) -> Static | None:
        """What runs calls, once one has run, if that is a single program of known sizes."""
        return self._runner if type(self._runner) is Static else None

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


class _Unused:
    """Stands where a parameter's stand-in has no use."""


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a call on a tape is never evaluated again")


_NOBODY: dict[int, Variable] = {}
