"""`GradientTape`: gradients of what was computed under it, eager or traced; and what is made of them.

Owns the tape, `gradients`, jacobians. Must not know any op's rule (`jitensor.autodiff` walks eager
records, `jitensor.backward` the log of a trace).

A tape that was opened eagerly records primitives as they run, and calls of traced functions as one step whose gradient
is another compiled function. A tape that was opened in a trace remembers which part of the log it has seen.
"""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from jitensor import nest, settings
from jitensor.api import elementwise, shaping
from jitensor.api.convert import convert_to_tensor
from jitensor.autodiff import vjp_of
from jitensor.backward import gradients as log_gradients
from jitensor.backward import ones_or
from jitensor.errors import user_location
from jitensor.ir.graph import Node, Primitive, Value
from jitensor.recording import Entry, ReadVariable, Trace, bind, quick_binary, quick_unary, tensors_in
from jitensor.tensor import Tensor, active
from jitensor.variable import Variable

logger = logging.getLogger("jitensor")


class UnconnectedGradients(enum.Enum):
    """What the gradient by something that the target does not depend on is. Mirrors tf.UnconnectedGradients."""

    NONE = "none"
    ZERO = "zero"


# One eager step: primitive, operands, parameters, results.
Record: TypeAlias = tuple[Primitive, tuple[Tensor, ...], dict[str, Any], tuple[Tensor, ...]]
_NO_PARAMS: dict[str, Any] = {}


class GradientTape:
    """Records what is computed inside `with`, for gradients. Mirrors tf.GradientTape.

    persistent: more than one gradient may be taken. watch_accessed_variables: trainable Variables that are read are
    watched.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._trace: Trace | None = None
        self._recording = False
        self._used = False
        self._forget()

    def _forget(self) -> None:
        self._watched: dict[int, Variable] = {}  # Variables watched by name, by id
        self._reads: dict[int, tuple[Variable, list[Tensor]]] = {}  # eager: tensors read from each Variable
        self._tracked: dict[int, Tensor] = {}  # eager: what depends on what is watched
        self._records: list[Record] = []
        self._ranges: list[list[int]] = []  # traced: parts of the log, each from, to (-1: still growing)
        self._marks: list[tuple[int, Tensor]] = []  # traced: (place in the log, tensor watched there)

    # Recording --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise ValueError("GradientTape: the tape is recording already")
        self._trace = active.context
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._recording:
            self._stop()

    def _start(self) -> None:
        self._recording = True
        if self._trace is not None:
            self._ranges.append([len(self._trace.log), -1])
            return
        active.tapes = (*active.tapes, self)
        settings.hold_native_calls(1)

    def _stop(self) -> None:
        self._recording = False
        if self._trace is not None:
            self._ranges[-1][1] = len(self._trace.log)
            return
        active.tapes = tuple([t for t in active.tapes if t is not self])
        settings.hold_native_calls(-1)

    def stop_recording(self) -> _Pause:
        """`with tape.stop_recording():` what is computed inside is not recorded."""
        if not self._recording:
            raise RuntimeError("Trying to stop recording a tape which is not recording.")
        return _Pause(self)

    def reset(self) -> None:
        """Forgets everything recorded and watched so far."""
        self._forget()
        self._used = False
        if self._trace is not None and self._recording:
            self._ranges.append([len(self._trace.log), -1])

    def watch(self, tensor: Any) -> None:
        """Makes gradients by a tensor, Variable, or nest of them possible. Raises ValueError for what is neither."""
        for leaf in nest.flatten(tensor):
            if isinstance(leaf, Variable):
                self._watched[id(leaf)] = leaf
            elif not isinstance(leaf, Tensor):
                raise ValueError(
                    f"GradientTape.watch: Passed in object {leaf!r} of type {type(leaf).__name__}, not a tensor"
                )
            elif leaf._dtype.kind not in "fc":
                logger.warning("The dtype of the watched tensor must be floating, got %s", leaf._dtype.name)
            elif self._trace is not None:
                self._marks.append((len(self._trace.log), leaf))
            else:
                self._tracked[id(leaf)] = leaf

    def watches(self, variable: Variable) -> bool:
        return (self._watch_accessed and variable.trainable) or id(variable) in self._watched

    def watched_variables(self) -> tuple[Variable, ...]:
        """The Variables watched so far, in the order in which they were."""
        found = dict(self._watched)
        for read in self._reads_in_log():
            if self.watches(read.variable):
                found.setdefault(id(read.variable), read.variable)
        found.update({i: v for i, (v, _) in self._reads.items()})
        return tuple(found.values())

    def _reads_in_log(self) -> Iterator[ReadVariable]:
        return (e.operation for e in self._log() if isinstance(e.operation, ReadVariable))

    # What recording calls, eagerly

    def record(
        self, primitive: Primitive, operands: Sequence[Tensor], params: dict[str, Any], results: Sequence[Tensor]
    ) -> None:
        tracked = self._tracked
        for operand in operands:
            if id(operand) in tracked:
                break
        else:
            return
        self._records.append((primitive, tuple(operands), params, tuple(results)))
        for result in results:
            if result._dtype.kind in "fc":
                tracked[id(result)] = result

    def record_one(self, primitive: Primitive, operands: tuple[Tensor, ...], result: Tensor) -> None:
        """As record, for one result and no parameters."""
        tracked = self._tracked
        for operand in operands:
            if id(operand) in tracked:
                self._records.append((primitive, operands, _NO_PARAMS, (result,)))
                if result._dtype.kind in "fc":
                    tracked[id(result)] = result
                return

    def tracks(self, tensor: Tensor) -> bool:
        return id(tensor) in self._tracked

    def variable_read(self, variable: Variable, tensor: Tensor) -> None:
        if self.watches(variable) and variable.dtype.kind in "fc":
            self._tracked[id(tensor)] = tensor
            self._reads.setdefault(id(variable), (variable, []))[1].append(tensor)

    # Gradients --------------------------------------------------------------------------------------------------------

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
    ) -> Any:
        """The gradient of the target, or of the sum of a nest of targets, by each of the sources, in their structure.

        output_gradients: weights of the targets, of their shapes. unconnected_gradients: None or zeros for a source
        that the target does not depend on. Raises RuntimeError where a tape that is not persistent was used before.
        """
        unconnected = UnconnectedGradients(unconnected_gradients)
        if self._used and not self._persistent:
            raise RuntimeError(
                "A non-persistent GradientTape can only be used to compute one set of gradients (or jacobians). Make "
                f"it with persistent=True.      {user_location()}"
            )
        if self._recording and not self._persistent:
            self._stop()
        targets = _targets(target)
        given = [None] * len(targets) if output_gradients is None else nest.flatten(output_gradients)
        if len(given) != len(targets):
            raise ValueError(f"gradient: {len(targets)} targets, but {len(given)} output_gradients")
        flat = [_source(s) for s in nest.flatten(sources)]
        self._used = True
        pairs = [(t, g) for t, g in zip(targets, given, strict=True) if t._dtype.kind in "fc"]
        found = (self._traced_gradients if self._trace is not None else self._eager_gradients)(pairs, flat)
        if not self._persistent:
            self._forget()
        if unconnected is UnconnectedGradients.ZERO:
            found = [shaping.zeros_like(s) if g is None else g for g, s in zip(found, flat, strict=True)]
        return nest.pack_sequence_as(sources, found) if nest.is_nested(sources) else found[0]

    def _eager_gradients(self, pairs: list[tuple[Tensor, Any]], sources: list[Any]) -> list[Tensor | None]:
        pairs = [(t, g) for t, g in pairs if id(t) in self._tracked]
        alternatives = [self._tensors_of(s) for s in sources]
        flat = [t for tensors in alternatives for t in tensors]
        if not pairs or not flat:
            return [None] * len(sources)
        values = _Values()
        nodes = [values.node(r) for r in self._records]
        targets = [values.of(t) for t, _ in pairs]
        cotangents = [ones_or(t, g) for t, g in pairs]
        found = iter(vjp_of(nodes, targets, cotangents, [values.of(t) for t in flat], _emit, values.tensor))
        return [_sum([next(found) for _ in tensors]) for tensors in alternatives]

    def _tensors_of(self, source: Any) -> list[Tensor]:
        """The tensors that a source stands for, as far as the tape tracks them."""
        if isinstance(source, Variable):
            return self._reads[id(source)][1] if id(source) in self._reads else []
        return [source] if id(source) in self._tracked else []

    def _log(self) -> list[Entry]:
        if self._trace is None:
            return []
        log = self._trace.log
        return [e for start, stop in self._ranges for e in log[start : len(log) if stop < 0 else stop]]

    def _traced_gradients(self, pairs: list[tuple[Tensor, Any]], sources: list[Any]) -> list[Tensor | None]:
        trace = self._trace
        assert trace is not None
        if active.context is not trace or trace.inside:
            raise ValueError(
                "gradient: the tape was opened in another traced function than the one that asks for the gradient"
            )
        entries, tracked, reads = self._tracked_log(trace)
        adopted = [trace.admit(s) if isinstance(s, Tensor) else s for s in sources]
        alternatives = [
            reads.get(id(s), []) if isinstance(s, Variable) else [s] if id(s) in tracked else [] for s in adopted
        ]
        flat = [t for tensors in alternatives for t in tensors]
        pairs = [(trace.admit(t), g) for t, g in pairs]
        pairs = [(t, g) for t, g in pairs if id(t) in tracked]
        if not pairs or not flat:
            return [None] * len(sources)
        cotangents = [ones_or(t, g) for t, g in pairs]
        found = iter(log_gradients(trace, entries, [t for t, _ in pairs], cotangents, flat))
        return [_sum([next(found) for _ in tensors]) for tensors in alternatives]

    def _tracked_log(self, trace: Trace) -> tuple[list[Entry], dict[int, Tensor], dict[int, list[Tensor]]]:
        """The calls on something watched, what depends on that, and the tensors read from each watched Variable."""
        tracked: dict[int, Tensor] = {}
        reads: dict[int, list[Tensor]] = {}
        entries = []
        marks = [(place, trace.admit(tensor)) for place, tensor in self._marks]
        for start, stop in self._ranges:
            for place in range(start, len(trace.log) if stop < 0 else stop):
                while marks and marks[0][0] <= place:
                    tensor = marks.pop(0)[1]
                    tracked[id(tensor)] = tensor
                entry = trace.log[place]
                if isinstance(entry.operation, ReadVariable):
                    if self.watches(entry.operation.variable) and entry.result._dtype.kind in "fc":
                        tracked[id(entry.result)] = entry.result
                        reads.setdefault(id(entry.operation.variable), []).append(entry.result)
                elif any(id(t) in tracked for t in tensors_in((entry.args, entry.kwargs))):
                    entries.append(entry)
                    tracked.update((id(t), t) for t in tensors_in(entry.result) if t._dtype.kind in "fc")
        tracked.update((id(t), t) for _, t in marks)
        return entries, tracked, reads

    # Jacobians --------------------------------------------------------------------------------------------------------

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The derivatives of each element of the target by each element of the sources: shapes target + source. The
        target's sizes must be known."""
        target = convert_to_tensor(target)
        sizes = _known(target, "jacobian")
        count = 1
        for n in sizes:
            count *= n
        flat = [_source(s) for s in nest.flatten(sources)]
        rows = self._each(target, flat, count, sizes, UnconnectedGradients(unconnected_gradients))
        found: list[Any] = []
        for column in zip(*rows, strict=True) if rows else [()] * len(flat):
            if not column or column[0] is None:
                found.append(None)
                continue
            stacked = shaping.stack(list(column))
            found.append(shaping.reshape(stacked, [*sizes, *stacked.shape.as_list()[1:]]))
        return nest.pack_sequence_as(sources, found) if nest.is_nested(sources) else found[0]

    def _each(
        self, target: Tensor, sources: list[Any], count: int, sizes: Sequence[int], unconnected: UnconnectedGradients
    ) -> list[list[Any]]:
        """Gradients of one element of the target after another."""
        persistent, self._persistent = self._persistent, True
        if self._used and not persistent:
            self._persistent = False
            self.gradient(target, sources)
        if self._recording and not persistent:
            self._stop()
        try:
            basis: Any = shaping.reshape(shaping.eye(count, dtype=target.dtype), [count, *sizes])
            return [self.gradient(target, sources, basis[i], unconnected) for i in range(count)]
        finally:
            self._persistent = persistent
            if not persistent:
                self._forget()

    def batch_jacobian(
        self,
        target: Any,
        source: Any,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """As jacobian, for each item of the first dimension, which target and source share, by itself: shape
        [b, target..., source...]."""
        target = convert_to_tensor(target)
        sizes = _known(target, "batch_jacobian")
        batch = source.shape.as_list()[0] if source.shape.rank else None
        if not sizes or batch != sizes[0]:
            raise ValueError(
                f"batch_jacobian: target has shape {target.shape}, source {source.shape}; their first sizes must agree"
            )
        count = 1
        for n in sizes[1:]:
            count *= n
        unconnected = UnconnectedGradients(unconnected_gradients)
        persistent, self._persistent = self._persistent, True
        if self._recording and not persistent:
            self._stop()
        rows = []
        for i in range(count):
            seed = shaping.reshape(shaping.one_hot(i, count, dtype=target.dtype), [1, *sizes[1:]])
            rows.append(self.gradient(target, source, shaping.broadcast_to(seed, sizes), unconnected))
        self._persistent = persistent
        if not persistent:
            self._forget()
        if not rows or rows[0] is None:
            return None
        return shaping.reshape(shaping.stack(rows, 1), [*sizes, *source.shape.as_list()[1:]])


class _Pause:
    def __init__(self, tape: GradientTape) -> None:
        self.tape = tape

    def __enter__(self) -> None:
        self.tape._stop()

    def __exit__(self, *exc: object) -> None:
        self.tape._start()


def _known(target: Tensor, op: str) -> list[int]:
    if not target.shape.is_fully_defined():
        raise ValueError(f"{op}: the target is {target._text()}; its sizes must be known")
    return [n for n in target.shape.as_list() if n is not None]


def _targets(target: Any) -> list[Tensor]:
    found = []
    for leaf in nest.flatten(target):
        if leaf is None:
            continue
        found.append(leaf if isinstance(leaf, Tensor) else convert_to_tensor(leaf))
    return found


def _source(source: Any) -> Any:
    if isinstance(source, (Tensor, Variable)):
        return source
    raise ValueError(f"gradient: a source is {source!r} of type {type(source).__name__}; needed tensors or Variables")


def _sum(parts: list[Tensor | None]) -> Tensor | None:
    found = [p for p in parts if p is not None]
    return functools.reduce(elementwise.add, found) if found else None


# Eager records as nodes -----------------------------------------------------------------------------------------------


class _Values:
    """Tensors as Values of a graph that nobody holds, by identity."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}
        self._tensors: list[Tensor] = []

    def of(self, tensor: Tensor) -> Value:
        found = self._values.get(id(tensor))
        if found is None:
            found = self._values[id(tensor)] = Value(len(self._tensors), tensor.type)
            self._tensors.append(tensor)
        return found

    def tensor(self, value: Value) -> Tensor:
        return self._tensors[value.id]

    def node(self, record: Record) -> Node:
        primitive, operands, params, results = record
        items = tuple(sorted(params.items())) if params else ()
        return Node(primitive, tuple(map(self.of, operands)), items, tuple(map(self.of, results)), None)


def _emit(primitive: Primitive, *tensors: Tensor, **params: Any) -> Any:
    if active.context is None and not params:
        made = (
            quick_binary(primitive, *tensors)
            if len(tensors) == 2
            else quick_unary(primitive, *tensors)
            if len(tensors) == 1
            else None
        )
        if made is not None:
            return made
    return bind(primitive, tensors, **params)


# Without a tape -------------------------------------------------------------------------------------------------------


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    gate_gradients: bool = False,
    aggregation_method: Any = None,
    stop_gradients: Any = None,
    unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
) -> list[Any]:
    """The gradients of the sum of ys by each of xs, inside a traced function. Mirrors tf.gradients.

    stop_gradients: tensors taken for constants. Raises RuntimeError eagerly: use GradientTape.
    """
    trace = active.context
    if trace is None:
        raise RuntimeError("gradients is not supported when eager execution is enabled. Use jt.GradientTape instead.")
    targets = [trace.admit(t) for t in _targets(ys)]
    given = [None] * len(targets) if grad_ys is None else nest.flatten(grad_ys)
    stopped = {id(trace.admit(t)) for t in ([] if stop_gradients is None else nest.flatten(stop_gradients))}
    log = [e for e in trace.log if not any(id(t) in stopped for t in tensors_in(e.result))]
    alternatives = []
    for x in nest.flatten(xs):
        if isinstance(_source(x), Variable):
            reads = [e for e in log if isinstance(e.operation, ReadVariable) and e.operation.variable is x]
            alternatives.append([e.result for e in reads])
        else:
            alternatives.append([trace.admit(x)])
    flat = [t for tensors in alternatives for t in tensors]
    cotangents = [ones_or(t, g) for t, g in zip(targets, given, strict=True)]
    pairs = [(t, c) for t, c in zip(targets, cotangents, strict=True) if t._dtype.kind in "fc"]
    found = iter(log_gradients(trace, log, [t for t, _ in pairs], [c for _, c in pairs], flat))
    sums = [_sum([next(found) for _ in tensors]) for tensors in alternatives]
    if UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO:
        sums = [shaping.zeros_like(x) if g is None else g for x, g in zip(nest.flatten(xs), sums, strict=True)]
    return sums
