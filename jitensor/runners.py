"""How a trace runs: `Static` as one program, `WithVariables` as one that reads or writes Variables, `Replayed` its log.

A log with unknown sizes or host calls is replayed with the sizes of the call into graphs, in segments that end where a
value or a host call's result is needed, or before an effect that must find earlier writes done. Segments are kept by
the sizes and values that they were made for. Must not know what the trace is of.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jitensor import pipeline
from jitensor.calling import distinct
from jitensor.errors import DTypeError, InvalidArgumentError, ShapeError
from jitensor.execution import Execution
from jitensor.ir.graph import Graph, Value
from jitensor.ir.types import DType, string
from jitensor.recording import (
    AssignVariable,
    Entry,
    HostCall,
    ReadVariable,
    Trace,
    ValueNeeded,
    known_sizes,
    map_tensors,
    recording,
    tensors_in,
)
from jitensor.tensor import Tensor, make_eager
from jitensor.variable import Variable

MOST_PLANS = 256


class Static:
    """Arguments go to the pipeline's executable; results that are an argument or a constant are handed on."""

    def __init__(self, name: str, trace: Trace, placeholders: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        self.name = name
        computed: dict[int, int] = {}  # value id -> position in the executable's results
        values: list[Value] = []
        inputs = {t._value.id: i for i, t in enumerate(placeholders) if t._value is not None}
        self.sources: list[Any] = []  # each: (arguments, results) -> tensor
        for tensor in results:
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
        self.order = None if order == list(range(len(placeholders))) else order
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


class WithVariables:
    """As Static, where the trace reads or writes Variables."""

    def __init__(self, name: str, trace: Trace, placeholders: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        self.outputs = results
        self.traced = [t for t in self.outputs if t._context is not None]
        self.execution = Execution(trace, placeholders, self.traced)
        self.name = name

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


Runner: TypeAlias = "Static | WithVariables | Replayed"

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


class Replayed:
    """Runs a log segment by segment."""

    def __init__(self, name: str, trace: Trace, placeholders: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        self.name = name
        self.log: list[Entry] = needed_entries(trace.log, results)
        self.inputs = [id(t) for t in placeholders]
        self.outputs = results
        self.dtypes = {id(t): t._dtype for t in placeholders}
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
