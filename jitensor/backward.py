"""Gradients inside a trace: a backward walk over the log of op calls, which records op calls itself.

Owns `gradients` and `CustomGradient`. Must not know tapes or concrete functions.

The walk takes stretches of the log. The gradient of a stretch is one logged call (`Stretch`): it records the stretch in
a scratch trace, where every tensor from outside is an input of its own, and emits the rules of the nodes found there
into the trace. Forward nodes that are there already are found again by hash-consing, so forward and backward are one
graph. Since it is a logged call, it is inlined and replayed with other sizes as any op is, and has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor.api import elementwise, shaping
from jitensor.autodiff import vjp_of
from jitensor.errors import DTypeError, Location, TraceError
from jitensor.ir.graph import Node, Primitive, Value
from jitensor.recording import (
    AssignVariable,
    Entry,
    HostCall,
    ReadVariable,
    Trace,
    map_tensors,
    recording,
    sampled,
    tensors_in,
)
from jitensor.tensor import Tensor, active, make_eager, make_traced


class CustomGradient:
    """Logged where `custom_gradient` gives results: new tensors for `results`, whose gradient by `operands` is that of
    `backward`, a trace of the user's function. `cotangents` are its inputs, `gradients` its results, and `captured`
    stand in it for what the function used from outside."""

    def __init__(
        self, backward: Trace, cotangents: Sequence[Tensor], gradients: Sequence[Any], captured: Sequence[Tensor]
    ) -> None:
        self.backward = backward
        self.cotangents = cotangents
        self.gradients = gradients
        self.captured = captured

    __name__ = "custom_gradient"

    def __call__(self, operands: list[Tensor], results: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        return [_alias(active.context, t) for t in results]

    def infer(
        self, trace: Trace, operands: list[Tensor], results: list[Tensor], captured: list[Tensor]
    ) -> list[Tensor]:
        return self(operands, results, captured)

    def gradient(self, trace: Trace, entry: Entry, cotangents: Sequence[Tensor | None]) -> list[Any]:
        """The cotangents of the operands."""
        _, results, captured = entry.args
        given = [shaping.zeros_like(r) if g is None else g for r, g in zip(results, cotangents, strict=True)]
        known = {id(mine): given[i] for i, mine in enumerate(self.cotangents)}
        known.update((id(mine), theirs) for mine, theirs in zip(self.captured, captured, strict=True))
        trace.inline(self.backward, known, {})
        return [known.get(id(g), g) if isinstance(g, Tensor) else None for g in self.gradients]


def _alias(trace: Trace, tensor: Tensor) -> Tensor:
    """The same value as another tensor."""
    unknown = tensor._context is trace and tensor._value is None
    return make_traced(trace, None if unknown else trace.value_of(tensor), tensor._dtype, tensor._sizes)


class ReadAgain:
    """Logged in place of a Variable's read where its value comes as a tensor; gradients end here."""

    __name__ = "read"

    def __call__(self, value: Tensor) -> Tensor:
        return _alias(active.context, value)

    def infer(self, trace: Trace, value: Tensor) -> Tensor:
        return self(value)


READ_AGAIN = ReadAgain()


class Saved:
    """Logged, without being run, in place of a call whose results come as tensors: its gradient is wanted, not
    itself."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation
        self.__name__ = operation.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.operation(*args, **kwargs)


_ENDS = (ReadVariable, AssignVariable, HostCall, ReadAgain)


def gradients(
    trace: Trace,
    log: Sequence[Entry],
    targets: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    sources: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients by `sources` of the targets' sum, weighted with the cotangents; None where none depends on one.
    Only the calls in `log` are seen."""
    entries, reached = _between(log, targets, sources)
    total: dict[int, Tensor] = {}
    for target, cotangent in zip(targets, cotangents, strict=True):
        if id(target) in reached:
            _accumulate(total, target, cotangent)
    kept = {id(s) for s in sources}
    for stretch in reversed(_stretches(entries)):
        if isinstance(stretch[0].operation, CustomGradient):
            _through_custom(trace, stretch[0], total, reached, kept)
        else:
            _through(trace, stretch, total, reached, kept)
    return [total.get(id(s)) for s in sources]


def _accumulate(total: dict[int, Tensor], tensor: Tensor, cotangent: Tensor) -> None:
    before = total.get(id(tensor))
    total[id(tensor)] = cotangent if before is None else elementwise.add(before, cotangent)


def _operands(entry: Entry) -> list[Tensor]:
    if isinstance(entry.operation, CustomGradient):
        return list(entry.args[0])
    return tensors_in((entry.args, entry.kwargs))


def _between(
    log: Sequence[Entry], targets: Sequence[Tensor], sources: Sequence[Tensor]
) -> tuple[list[Entry], set[int]]:
    """The calls on the way from sources to targets, and the tensors that depend on a source."""
    reached = {id(s) for s in sources if s._dtype.kind in "fc"}
    depending = []
    for entry in log:
        if not isinstance(entry.operation, _ENDS) and any(id(t) in reached for t in _operands(entry)):
            results = [id(t) for t in tensors_in(entry.result) if t._dtype.kind in "fc"]
            if results:
                reached.update(results)
                depending.append(entry)
    needed = {id(t) for t in targets}
    kept = []
    for entry in reversed(depending):
        if any(id(t) in needed for t in tensors_in(entry.result)):
            kept.append(entry)
            needed.update(id(t) for t in _operands(entry))
    return kept[::-1], reached


def _stretches(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Each custom gradient alone, and the calls between."""
    found: list[list[Entry]] = []
    for entry in entries:
        alone = isinstance(entry.operation, CustomGradient)
        if alone or not found or isinstance(found[-1][0].operation, CustomGradient):
            found.append([])
        found[-1].append(entry)
    return found


def _through_custom(trace: Trace, entry: Entry, total: dict[int, Tensor], reached: set[int], kept: set[int]) -> None:
    custom: CustomGradient = entry.operation
    found = [total.get(id(r)) if id(r) in kept else total.pop(id(r), None) for r in entry.result]
    if all(g is None for g in found):
        return
    for operand, part in zip(entry.args[0], custom.gradient(trace, entry, found), strict=True):
        if part is not None and id(operand) in reached:
            _accumulate(total, operand, part)


def _through(trace: Trace, entries: list[Entry], total: dict[int, Tensor], reached: set[int], kept: set[int]) -> None:
    produced: dict[int, Tensor] = {}
    outside: dict[int, Tensor] = {}
    for entry in entries:
        for t in _operands(entry):
            if id(t) not in produced and t._dtype.kind != "S":
                outside.setdefault(id(t), t)
        for t in tensors_in(entry.result):
            if id(t) not in outside:  # an op may give back its operand
                produced[id(t)] = t
    outputs = [t for i, t in produced.items() if i in total]
    if not outputs:
        return
    inside = [t for i, t in produced.items() if i in kept]
    wanted = [t for i, t in outside.items() if i in reached]
    call = Stretch(entries, list(outside), list(map(id, outputs)), [*map(id, wanted), *map(id, inside)])
    saved = [t for e in entries if isinstance(e.operation, Saved) for t in tensors_in(e.result)]
    call.saved = list(map(id, saved))
    given = [total[id(t)] for t in outputs]
    for t in outputs:
        if id(t) not in kept:
            del total[id(t)]
    found = trace.call(call, (list(outside.values()), given, saved), {})
    for t, part in zip(wanted, found, strict=False):
        if part is not None:
            _accumulate(total, t, part)
    for t, part in zip(inside, found[len(wanted) :], strict=True):
        if part is not None:
            total[id(t)] = part


class Stretch:
    """The gradient of some calls, as an op: of (the tensors that they use from outside, cotangents of `outputs`,
    results of calls that are there already) gives the cotangents of `wanted`, None for what does not depend. Tensors
    of the calls are known by id."""

    __name__ = "gradient"

    def __init__(self, entries: Sequence[Entry], outside: list[int], outputs: list[int], wanted: list[int]) -> None:
        self.entries = entries
        self.outside = outside
        self.outputs = outputs
        self.wanted = wanted
        self.saved: list[int] = []
        self.connected: list[bool] | None = None  # as traced; later runs must agree

    def __call__(self, tensors: list[Tensor], cotangents: list[Tensor], saved: list[Tensor]) -> list[Tensor | None]:
        trace = active.context
        scratch = _Scratch(trace)
        here = {key: scratch.stand_in(t) for key, t in zip(self.outside, tensors, strict=True)}
        with recording(scratch):
            for entry in self.entries:
                scratch.location = entry.location
                args, kwargs = _mapped(entry.args, here), _mapped(entry.kwargs, here)
                result = entry.operation(*args, **kwargs)
                for was, now in zip(tensors_in(entry.result), tensors_in(result), strict=True):
                    here.setdefault(id(was), now)
        for key, tensor in zip(self.saved, saved, strict=True):
            scratch.values[scratch.value_of(here[key]).id] = trace.value_of(tensor)
        values = [scratch.value_of(here[k]) for k in self.outputs]
        sources = [scratch.value_of(here[k]) for k in self.wanted]
        seeds = [trace.value_of(g) for g in cotangents]
        found = scratch.vjp(values, seeds, sources)
        if self.connected is None:
            self.connected = [g is not None for g in found]
        return [self._result(trace, g, s, c) for g, s, c in zip(found, sources, self.connected, strict=True)]

    def _result(self, trace: Trace, found: Value | None, source: Value, is_connected: bool) -> Tensor | None:
        if not is_connected:
            return None
        if found is None:
            return shaping.zeros(source.shape, source.dtype)
        return make_traced(trace, found, found.dtype, found.shape)  # type: ignore[arg-type]

    def infer(
        self, trace: Trace, tensors: list[Tensor], cotangents: list[Tensor], saved: list[Tensor]
    ) -> list[Tensor | None]:
        """A gradient has the type of what it is of; which there are, samples tell."""
        operands = dict(zip(self.outside, tensors, strict=True))
        made = {id(t): t for e in self.entries for t in tensors_in(e.result)}
        shown = [operands[k] if k in operands else made[k] for k in self.wanted]
        if self.connected is None:
            self.connected = self._connections(tensors, cotangents, len(shown))
        return [
            make_traced(trace, None, t._dtype, t._sizes) if is_connected else None
            for t, is_connected in zip(shown, self.connected, strict=True)
        ]

    def _connections(self, tensors: list[Tensor], cotangents: list[Tensor], count: int) -> list[bool]:
        attempt = Stretch(self.entries, self.outside, self.outputs, self.wanted)
        for found in sampled(attempt, (tensors, cotangents, [])):
            return [g is not None for g in found]
        return [True] * count


def _mapped(value: Any, here: dict[int, Tensor]) -> Any:
    return map_tensors(value, lambda t: here.get(id(t), t))


class _Scratch(Trace):
    """A recording of a stretch apart from its trace, whose nodes are found or made in the trace as well."""

    def __init__(self, trace: Trace) -> None:
        super().__init__("gradient", "scratch")
        self.inside = True
        self.trace = trace
        self.values: dict[int, Value] = {}  # by id of the value here: the value in the trace
        self.done = 0

    def here(self) -> Location | None:
        return self.location

    def stand_in(self, tensor: Tensor) -> Tensor:
        mine = self.input(tensor._dtype, tensor._sizes)
        assert mine._value is not None
        self.values[mine._value.id] = self.trace.value_of(tensor)
        return mine

    def value_in_trace(self, value: Value) -> Value:
        """What the value is in the trace: everything recorded so far is recorded there too, effects apart."""
        for node in self.builder.nodes[self.done :]:
            if not node.primitive.effects and not all(v.id in self.values for v in node.outputs):
                inputs = [self._known(v) for v in node.inputs]
                made = self.trace.builder.add(node.primitive, inputs, dict(node.params), node.location)
                self.values.update(zip([v.id for v in node.outputs], made, strict=True))
        self.done = len(self.builder.nodes)
        return self._known(value)

    def _known(self, value: Value) -> Value:
        found = self.values.get(value.id)
        if found is None:
            source = next(c.source for c in self.builder.captures if c.value is value)
            found = self.values[value.id] = self.trace.builder.capture(source, value.type)
        return found

    def elements(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        if tensor._context is None:
            return tensor._array
        value = self.value_in_trace(self.value_of(tensor))
        return self.trace.elements(make_traced(self.trace, value, tensor._dtype, tensor._sizes))

    def vjp(self, outputs: list[Value], cotangents: list[Value], sources: list[Value]) -> list[Value | None]:
        builder, place = self.trace.builder, [self.trace.here()]

        def emit(primitive: Primitive, *values: Value, **params: Any) -> Any:
            made = builder.add(primitive, values, params, place[0])
            return made[0] if len(made) == 1 else made

        def visit(node: Node) -> None:
            place[0] = node.location

        return vjp_of(self.builder.nodes, outputs, cotangents, sources, emit, self.value_in_trace, visit=visit)


def ones_or(target: Tensor, given: Any) -> Tensor:
    """The cotangent that a gradient starts with."""
    if given is None and active.context is None:
        return make_eager(np.ones(target._array.shape, target._dtype.numpy), target._dtype)
    if given is None:
        return shaping.ones_like(target)
    if not isinstance(given, Tensor):
        given = elementwise.convert_to_tensor(given, target._dtype)
    if given._dtype is not target._dtype:
        raise DTypeError(f"gradient: output_gradients has a {given._text()} for a target of {target._text()}")
    if not given.shape.is_compatible_with(target.shape):
        raise TraceError(f"gradient: output_gradients has a {given._text()} for a target of {target._text()}")
    return given
