"""Recording: how an op that is called on tensors is evaluated, recorded, or recorded with sizes that are not known yet.

Owns `Trace`, `operation` (the decorator of every op function under `jt.`), `bind` (apply one primitive) and
`host_call` (Python that runs in program order). Must not know any op, and nothing of signatures or caches.

An op function is written once, on tensors whose sizes are all known, and calls `bind`. What `bind` does depends on
this thread:
- no trace: the primitive's NumPy meaning, now;
- a trace: a node in the trace's graph. The call of the op function is also logged, with its arguments.
Where an argument's sizes are not all known (None dimensions), the function runs on samples in scratch traces: what
all samples that fit agree on is the static result. When the concrete function is called, the log is replayed with the
actual sizes (see `jitensor.concrete`). No Python of the user runs then.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jitensor.errors import (
    LOCATION_GAP,
    DTypeError,
    InvalidArgumentError,
    JitensorError,
    Location,
    ShapeError,
    TraceError,
    user_location,
)
from jitensor.ir.graph import CONSTANT, GraphBuilder, Node, Primitive, Value
from jitensor.ir.types import BY_NUMPY, DType, TensorType
from jitensor.quiet import without_warnings
from jitensor.runtime.signature import TensorSpec
from jitensor.runtime.tensor_shape import Sizes
from jitensor.tensor import Stateful, Tensor, TracedTensor, active, make_eager, make_traced

F = TypeVar("F", bound=Callable[..., Any])


class ValueNeeded(Exception):
    """An op function asked for elements that this trace does not know."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        super().__init__("a value is needed that is known only when called")


class Entry(NamedTuple):
    """One logged call. `operation` is an op function, a HostCall, or the access of a Variable."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    location: Location | None = None


class HostCall(NamedTuple):
    """Python that runs at every call, in program order: `run(arrays)` gives arrays; `specs` say what is known of
    them."""

    name: str
    run: Callable[[list[np.ndarray[Any, Any]]], Sequence[np.ndarray[Any, Any]]]
    specs: tuple[TensorSpec, ...]


class ReadVariable(NamedTuple):
    """A Variable's value at this place of the program."""

    variable: Any


class AssignVariable(NamedTuple):
    """A Variable's new value, from this place of the program on."""

    variable: Any


class Slot:
    """What a trace knows of a Variable: its value when called, and now."""

    __slots__ = ("variable", "first", "current", "written")

    def __init__(self, variable: Any, first: Tensor) -> None:
        self.variable = variable
        self.first = first
        self.current = first
        self.written = False


class Trace:
    """One recording. kind: "trace" (the user's function runs), "replay" (all sizes known, values asked for end the
    segment) or "sample" (unknown sizes are `size`; values asked for are made up)."""

    def __init__(self, name: str = "f", kind: str = "trace", size: int = 0) -> None:
        self.kind = kind
        self.size = size
        self.builder = GraphBuilder(name)
        self.log: list[Entry] = []
        self.inside = False  # an op function runs: what it calls is part of it
        self.replayed = False  # calls need the log: sizes unknown, or host calls
        self.parents: tuple[Trace, ...] = ()
        self.outer: list[tuple[Tensor, Tensor]] = []  # tensors of enclosing traces, and what stands for them here
        self.captured: dict[int, Tensor] = {}  # eager tensors used, by id
        self.facts: dict[int, np.ndarray[Any, Any]] = {}  # elements known of values that no node makes
        self.source: dict[int, Tensor] = {}  # sample: the tensor that an input stands for
        self.location: Location | None = None  # replay: the line of the logged call that runs now
        self.numbers: dict[tuple[Any, DType], Value] = {}
        self.slots: dict[int, Slot] = {}  # Variables read or written, by id, in the order of their first use
        self.actual: dict[int, Any] = {}  # replay: the Variable that stands for a parameter's, by id
        self.first_write: int | None = None  # how many nodes there were when a Variable was first assigned to
        self.creation: Any = None  # what Variables created here are reported to; None: the enclosing trace's

    # Values -----------------------------------------------------------------------------------------------------------

    def input(self, dtype: DType, sizes: Sizes | None) -> Tensor:
        """A placeholder."""
        known = known_sizes(sizes)
        if known is None:
            self.replayed = True
            return make_traced(self, None, dtype, sizes)
        kind = TensorType(dtype, known)
        # Strings are handed through; no kernel sees them.
        value = self.builder.value(kind) if dtype.kind == "S" else self.builder.input(kind)
        return make_traced(self, value, dtype, sizes)

    def value_of(self, tensor: Tensor) -> Value:
        """The graph value of a tensor; eager ones are captured. Raises ValueNeeded where it has none."""
        if tensor._context is self:
            if tensor._value is None:
                raise ValueNeeded(tensor)
            return tensor._value
        if tensor._context is None:
            return self.capture(tensor)
        return self.value_of(self.adopt(tensor))

    def capture(self, tensor: Tensor) -> Value:
        array = tensor._array
        if tensor._dtype.kind == "S":
            raise TraceError.of(
                "string tensor",
                f"the tensor is {tensor._text()}",
                "traced code computes with numbers only",
                "Do string work outside jt.function, or in jt.numpy_function",
            )
        if array.ndim == 0:
            return self.builder.constant(array, tensor._dtype)
        self.captured[id(tensor)] = tensor
        value = self.builder.capture(array, TensorType(tensor._dtype, array.shape))
        self.facts[value.id] = array
        return value

    # Variables --------------------------------------------------------------------------------------------------------

    def slot(self, variable: Any) -> Slot:
        found = self.slots.get(id(variable))
        if found is None:
            sizes = variable._shape.sizes
            if self.kind == "replay" and known_sizes(sizes) is None:
                sizes = self.actual.get(id(variable), variable)._held().shape
            found = self.slots[id(variable)] = Slot(variable, self.input(variable._dtype, sizes))
        return found

    def read(self, variable: Any) -> Tensor:
        """The value at this place. Always a new tensor: gradients go to the Variable, not to what was assigned."""
        current = self.slot(variable).current
        value = None if current._context is self and current._value is None else self.value_of(current)
        tensor = make_traced(self, value, current._dtype, current._sizes)
        self.log.append(Entry(ReadVariable(variable), (), {}, tensor))
        return tensor

    def assign(self, variable: Any, tensor: Tensor) -> None:
        slot = self.slot(variable)
        slot.current = self.admit(tensor)
        slot.written = True
        if self.first_write is None:
            self.first_write = len(self.builder.nodes)
        self.log.append(Entry(AssignVariable(variable), (slot.current,), {}, None))

    @property
    def fails_after_a_write(self) -> bool:
        """Is there an effect, which may raise, after the first write to a Variable? Such writes stay done."""
        return self.first_write is not None and any(
            node.primitive.effects for node in self.builder.nodes[self.first_write :]
        )

    def adopt(self, tensor: Tensor) -> Tensor:
        """The stand-in here for a tensor of an enclosing trace. Raises TraceError for one of any other trace."""
        for theirs, mine in self.outer:
            if theirs is tensor:
                return mine
        if tensor._context not in self.parents or self.kind != "trace":
            raise TraceError.of(
                "traced tensor",
                f"{tensor._text()} belongs to another trace",
                "a traced tensor lives only inside its own jt.function call",
                "Return it from that function, or pass it as an argument",
            )
        mine = self.input(tensor._dtype, tensor._sizes)
        self.outer.append((tensor, mine))
        return mine

    def elements(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        """The elements of a tensor that an op function needs to know. Raises ValueNeeded."""
        if tensor._context is None:
            return tensor._array
        with contextlib.suppress(KeyError):
            return self.fold(self.value_of(tensor))
        if self.kind == "sample":
            return np.full(known_sizes(tensor._sizes) or (), self.size).astype(tensor._dtype.numpy)
        raise ValueNeeded(tensor)

    def fold(self, value: Value) -> np.ndarray[Any, Any]:
        """The elements of a value that depends on constants alone. Raises KeyError for any other."""
        fact = self.facts.get(value.id)
        if fact is not None:
            return fact
        node = self.builder.producer.get(value.id)
        if node is None:
            fact = self._fact_of_source(value)
        elif node.primitive is CONSTANT:
            return node.params[0][1].array
        elif node.primitive.effects:
            raise KeyError(value.id)
        else:
            fact = _evaluate(node, [self.fold(v) for v in node.inputs])[node.outputs.index(value)]
        self.facts[value.id] = fact
        return fact

    def _fact_of_source(self, value: Value) -> np.ndarray[Any, Any]:
        """Sample: what the outer trace knows of the tensor that this input stands for."""
        known = known_elements(self.source[value.id])
        if known is None:
            raise KeyError(value.id)
        filled = np.array([self.size if n is None else n for n in known.flat]).reshape(known.shape)
        return filled.astype(value.dtype.numpy)

    def depends_on(self, tensor: Tensor, candidates: Iterable[Tensor]) -> list[Tensor]:
        """Those of the candidates that the tensor is computed from."""
        by_value = {c._value.id: c for c in candidates if c._context is self and c._value is not None}
        found: dict[int, Tensor] = {}
        pending = [self.value_of(tensor)]
        seen: set[int] = set()
        while pending:
            value = pending.pop()
            if value.id in seen:
                continue
            seen.add(value.id)
            if value.id in by_value and value.id not in self.facts:
                found[value.id] = by_value[value.id]
                continue
            node = self.builder.producer.get(value.id)
            pending.extend(node.inputs if node is not None else ())
        return list(found.values())

    # The usual case, short: elementwise ops on this trace's tensors and Python numbers --------------------------------

    def quick_unary(self, primitive: Primitive, function: Any, x: Any) -> Tensor | None:
        """Records the op and logs the call, or gives None where the general way must be taken."""
        if type(x) is not TracedTensor or x._context is not self or x._value is None or self.inside:
            return None
        result = RESULT_DTYPES.get((primitive, x._dtype))
        if result is None:
            return None
        value = x._value
        kind = value.type if result is x._dtype else TensorType(result, value.type.shape)
        return self._quick(primitive, function, (x,), (value,), kind)

    def quick_binary(self, primitive: Primitive, function: Any, x: Any, y: Any) -> Tensor | None:
        """As quick_unary, for two operands of which one may be a Python number."""
        if self.inside:
            return None
        if type(x) is TracedTensor:
            a, dtype = x._value if x._context is self else None, x._dtype
            if type(y) is TracedTensor:
                b = y._value if y._context is self and y._dtype is dtype else None
            else:
                b = self._number(y, dtype)
        elif type(y) is TracedTensor:
            b, dtype = y._value if y._context is self else None, y._dtype
            a = self._number(x, dtype)
        else:
            return None
        result = RESULT_DTYPES.get((primitive, dtype))
        if result is None or a is None or b is None:
            return None
        first, second = a.type.shape, b.type.shape
        if first == second or not second:
            kind = a.type if result is dtype else TensorType(result, first)
        elif not first:
            kind = b.type if result is dtype else TensorType(result, second)
        else:
            return None
        return self._quick(primitive, function, (x, y), (a, b), kind)

    def _quick(
        self, primitive: Primitive, function: Any, args: tuple[Any, ...], values: tuple[Value, ...], kind: TensorType
    ) -> Tensor:
        line = user_location()
        value = self.builder.append(primitive, values, (), (kind,), line)[0]
        result = make_traced(self, value, kind.dtype, kind.shape)  # type: ignore[arg-type]
        self.log.append(Entry(function, args, {}, result, line))
        return result

    def _number(self, number: Any, dtype: DType) -> Value | None:
        """A Python number as a constant of the dtype. None for what is no plain number, or needs the general way's
        care."""
        kind = type(number)
        if (kind is not float or dtype.kind not in "fc") and (kind is not int or dtype.kind not in "iufc"):
            return None
        value = self.numbers.get((number, dtype))
        if value is None and number != 0:  # 0.0 and -0.0 are one key
            try:
                value = self.numbers[number, dtype] = self.builder.constant(number, dtype)
            except OverflowError:
                return None
        return value

    # Calls of op functions --------------------------------------------------------------------------------------------

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an op function in this trace and logs the call."""
        if self.inside:
            return function(*args, **kwargs)
        args = tuple([self.admit(a) for a in args])
        if kwargs:
            kwargs = {k: self.admit(v) for k, v in kwargs.items()}
        self.inside = True
        try:
            result = self._run(function, args, kwargs)
        finally:
            self.inside = False
        self.log.append(Entry(function, args, kwargs, result, self.here()))
        return result

    def here(self) -> Location | None:
        """The user's line: of the call that is recorded, or that was."""
        return user_location() if self.kind == "trace" else self.location

    def _run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.replayed and has_unknown_sizes((args, kwargs)):
            return self.infer(function, args, kwargs)
        try:
            return function(*args, **kwargs)
        except ValueNeeded:
            if self.kind == "replay":
                raise
            return self.infer(function, args, kwargs)
        except (ShapeError, DTypeError) as error:
            if error.location is None and self.kind == "trace":
                raise type(error)(error.message, location=user_location()) from None
            raise

    def admit(self, argument: Any) -> Any:
        """An argument as it may be logged: lists and arrays are copied, since the caller may change them later, and
        tensors of enclosing traces become this trace's."""
        kind = type(argument)
        if issubclass(kind, Tensor):
            return argument if argument._context is self or argument._context is None else self.adopt(argument)
        if kind in _IMMUTABLE:
            return argument
        if isinstance(argument, np.ndarray):
            return argument.copy()
        if isinstance(argument, Stateful):
            return argument._read()
        if isinstance(argument, (list, tuple)) and not hasattr(argument, "_fields"):
            return (
                kind([self.admit(a) for a in argument]) if kind in (list, tuple) else [self.admit(a) for a in argument]
            )
        if kind is slice:
            return slice(self.admit(argument.start), self.admit(argument.stop), self.admit(argument.step))
        return argument

    def infer(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is known of the result before the sizes are, found by running the function on samples."""
        self.replayed = True
        rule = getattr(function, "infer", None)
        if rule is not None:
            return rule(self, *args, **kwargs)
        samples, errors = [], []
        for size, rank in _samples((args, kwargs)):
            try:
                samples.append(_sample(function, args, kwargs, size, rank))
            except (DTypeError, TraceError):
                raise
            except (ValueError, IndexError) as error:
                errors.append(error.with_traceback(None))
        if not samples:
            raise self._misfit(errors[-1])
        return self._merged(function, samples)

    def _misfit(self, error: Exception) -> Exception:
        """No sample fits: the error of the last, whose made-up size is shown as unknown, with the user's line."""
        text = str(error).replace(str(_SIZES[-1]), "?")
        kind = type(error) if isinstance(error, JitensorError) else ShapeError
        return kind(text, location=self.here())

    def _merged(self, function: Any, samples: list[tuple[Any, list[SampledResult]]]) -> Any:
        structure, first = samples[0]
        if any(len(results) != len(first) for _, results in samples):
            raise ValueError(
                f"{function.__name__}: the number of results depends on a size that is known only when called"
            )
        made = []
        for column in zip(*[results for _, results in samples], strict=True):
            tensor = make_traced(self, None, column[0].dtype, _common_sizes([r.sizes for r in column]))
            tensor._known = _common_elements([r.elements for r in column])
            made.append(tensor)
        return rebuild(structure, iter(made))

    def inline(self, source: Trace, known: dict[int, Tensor], bound: dict[int, Any]) -> None:
        """Logs another trace's calls here, in order. known: by id of that trace's tensors those that stand for them
        here; its results are added. bound: what stands for its Variables."""

        def here(tensor: Tensor) -> Tensor:
            return known.get(id(tensor), tensor) if tensor._context is None else known[id(tensor)]

        for entry in source.log:
            args = map_tensors(entry.args, here)
            operation = entry.operation
            if isinstance(operation, HostCall):
                results: Any = self.host_call(operation, args)
            elif isinstance(operation, ReadVariable):
                results = self.read(bound.get(id(operation.variable), operation.variable))
            elif isinstance(operation, AssignVariable):
                self.assign(bound.get(id(operation.variable), operation.variable), args[0])
                results = None
            else:
                results = self.call(operation, args, map_tensors(entry.kwargs, here))
            known.update(zip(map(id, tensors_in(entry.result)), tensors_in(results), strict=True))

    def host_call(self, host: HostCall, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Records Python that runs in program order at every call."""
        if self.inside:
            raise TraceError(f"{host.name}: a Python call inside an op cannot be recorded")
        self.replayed = True
        tensors = [self.admit(t) for t in tensors]
        results = [self.input(s.dtype, s.shape.sizes) for s in host.specs]
        self.log.append(Entry(host, tuple(tensors), {}, results))
        return results


# (elementwise primitive, operands' dtype) -> result dtype, for those that TensorFlow's dtype rules allow; filled as
# ops are used.
RESULT_DTYPES: dict[tuple[Primitive, DType], DType] = {}

_IMMUTABLE = frozenset(
    (int, float, bool, complex, str, bytes, type(None), DType, type(Ellipsis), np.float32, np.float64)
)


def sampled(function: Any, args: tuple[Any, ...]) -> Iterator[Any]:
    """Results of the function on samples that fit, in scratch traces."""
    for size, rank in _samples(args):
        with contextlib.suppress(ValueError, IndexError):
            yield _sample(function, args, {}, size, rank)[0]


class SampledResult(NamedTuple):
    dtype: DType
    sizes: Sizes
    elements: np.ndarray[Any, Any] | None


MOST_ELEMENTS_KNOWN = 64


def _sample(function: Any, args: Any, kwargs: Any, size: int, rank: int) -> tuple[Any, list[SampledResult]]:
    """Runs the function in a scratch trace where unknown sizes are `size` and unknown ranks `rank`."""
    trace = Trace("sample", "sample", size)
    trace.inside = True
    stand_ins: dict[int, Tensor] = {}

    def stand_in(tensor: Tensor) -> Tensor:
        if tensor._context is None:
            return tensor
        found = stand_ins.get(id(tensor))
        if found is None:
            sizes = (
                (size,) * rank if tensor._sizes is None else tuple([size if n is None else n for n in tensor._sizes])
            )
            found = stand_ins[id(tensor)] = trace.input(tensor._dtype, sizes)
            assert found._value is not None
            trace.source[found._value.id] = tensor
        return found

    with recording(trace):
        result = function(*map_tensors(args, stand_in), **map_tensors(kwargs, stand_in))
    return result, [_sampled(trace, t) for t in tensors_in(result)]


def _sampled(trace: Trace, tensor: Tensor) -> SampledResult:
    sizes = tensor._sizes
    assert sizes is not None
    elements = None
    if tensor._dtype.kind in "iu" and int(np.prod([n or 0 for n in sizes])) <= MOST_ELEMENTS_KNOWN:
        with contextlib.suppress(KeyError):
            elements = trace.fold(trace.value_of(tensor))
    return SampledResult(tensor._dtype, sizes, elements)


_SIZES = (0, 1, 2, 7, 60, 5040)


def _samples(arguments: Any) -> list[tuple[int, int]]:
    """(size, rank) pairs to try. The numbers that occur are tried too: an unknown size next to 4 may have to be 4."""
    occurring: set[int] = set()
    _collect_numbers(arguments, occurring)
    others = sorted(n for n in occurring if n not in _SIZES)
    if any(t._sizes is None for t in tensors_in(arguments)):
        return list(itertools.product([1, *others, 2, 7], range(5)))
    return [(n, 0) for n in (*_SIZES[:2], *others, *_SIZES[2:])]


_LARGEST_TRIED = 100_000


def _collect_numbers(value: Any, found: set[int]) -> None:
    """Sizes of tensors and arrays, lengths of lists, and integers."""
    if isinstance(value, Tensor):
        found.update(n for n in value._sizes or () if n is not None)
    elif isinstance(value, np.ndarray):
        found.update(value.shape)
    elif isinstance(value, (list, tuple, dict)):
        found.add(len(value))
        for item in value.values() if isinstance(value, dict) else value:
            _collect_numbers(item, found)
    elif isinstance(value, int) and 0 <= value <= _LARGEST_TRIED:
        found.add(int(value))


def _common_sizes(shapes: list[Sizes]) -> Sizes | None:
    first = shapes[0]
    if any(len(s) != len(first) for s in shapes):
        return None
    return tuple([column[0] if all(n == column[0] for n in column) else None for column in zip(*shapes, strict=True)])


def _common_elements(arrays: list[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
    first = arrays[0]
    if first is None or any(a is None or a.shape != first.shape for a in arrays):
        return None
    columns = zip(*[a.ravel().tolist() for a in arrays if a is not None], strict=True)
    common = np.empty(first.size, object)
    common[:] = [column[0] if all(n == column[0] for n in column) else None for column in columns]
    return common.reshape(first.shape)


def known_sizes(sizes: Sizes | None) -> tuple[int, ...] | None:
    """The sizes where all are known, else None."""
    known = tuple([n for n in sizes or () if n is not None])
    return known if sizes is not None and len(known) == len(sizes) else None


def known_elements(tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """The elements of a traced tensor that tracing knows (None for each unknown one), or None where it knows
    nothing."""
    if tensor._context is None:
        return tensor._array
    if tensor._value is None:
        return tensor._known
    try:
        return tensor._context.fold(tensor._value)
    except KeyError:
        return tensor._known


def _evaluate(node: Node, arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    with np.errstate(all="ignore"):
        results = node.primitive.evaluate(*arrays, **dict(node.params))
    if not isinstance(results, tuple):
        results = (results,)
    return [np.asarray(r, v.dtype.numpy) for r, v in zip(results, node.outputs, strict=True)]


class recording:
    """Makes `trace` the one that this thread records; None suspends recording."""

    def __init__(self, trace: Trace | None, stack: tuple[Trace, ...] = ()) -> None:
        self.trace = trace
        self.stack = stack

    def __enter__(self) -> Trace | None:
        self.before = active.context, active.stack
        active.context, active.stack = self.trace, self.stack
        return self.trace

    def __exit__(self, *exc: object) -> None:
        active.context, active.stack = self.before


# Structures of tensors ------------------------------------------------------------------------------------------------


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    kind = type(value)
    if issubclass(kind, Tensor):
        return function(value)
    if kind is tuple:
        return tuple([map_tensors(v, function) for v in value])
    if kind is list:
        return [map_tensors(v, function) for v in value]
    if kind is dict:
        return {k: map_tensors(v, function) for k, v in value.items()}
    if kind is slice:
        parts = (value.start, value.stop, value.step)
        return slice(*[map_tensors(v, function) for v in parts]) if any(isinstance(v, Tensor) for v in parts) else value
    return value


def tensors_in(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_tensors(value, found.append)
    return found


def rebuild(structure: Any, tensors: Any) -> Any:
    """The structure with its tensors replaced, in order."""
    return map_tensors(structure, lambda _: next(tensors))


def has_unknown_sizes(arguments: Any) -> bool:
    return any(t._context is not None and t._value is None for t in tensors_in(arguments))


# What op functions call -----------------------------------------------------------------------------------------------


def operation(function: F) -> F:
    """Makes an op function: eager, recorded and replayed under one definition."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        trace = active.context
        if trace is None:
            return eager_call(function, args, kwargs)
        return trace.call(function, args, kwargs)

    call.implementation = function  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def eager_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An op function on eager tensors; wrong shapes and dtypes are InvalidArgumentError, as in TensorFlow."""
    for argument in args:
        if argument.__class__ is not Tensor and (isinstance(argument, (Stateful, list, tuple))):
            args = tuple([_read(a) for a in args])
            break
    if kwargs:
        kwargs = {k: _read(v) for k, v in kwargs.items()}
    try:
        return function(*args, **kwargs)
    except (ShapeError, DTypeError) as error:
        raise InvalidArgumentError(error.message, location=error.location or user_location()) from None


def quick_unary(primitive: Primitive, x: Any) -> Tensor | None:
    """The op on an eager tensor, or None where the general way must be taken."""
    if x.__class__ is not Tensor:
        return None
    dtype = RESULT_DTYPES.get((primitive, x._dtype))
    return None if dtype is None else _quick_result(primitive, (x._array,), (x,), dtype)


def quick_binary(primitive: Primitive, x: Any, y: Any) -> Tensor | None:
    """As quick_unary, for two operands of one shape, or of which one is a scalar or a Python number."""
    if x.__class__ is Tensor:
        kind = x._dtype
        if y.__class__ is not Tensor:
            y = _number(y, kind)
            if y is None:
                return None
    elif y.__class__ is Tensor:
        kind = y._dtype
        x = _number(x, kind)
        if x is None:
            return None
    else:
        return None
    dtype = RESULT_DTYPES.get((primitive, kind))
    if dtype is None or x._dtype is not y._dtype:
        return None
    a, b = x._array, y._array
    if a.ndim and b.ndim and a.shape != b.shape:
        return None
    return _quick_result(primitive, (a, b), (x, y), dtype)


def _quick_result(primitive: Primitive, arrays: tuple[Any, ...], operands: tuple[Tensor, ...], dtype: DType) -> Tensor:
    found = without_warnings(primitive.evaluate, arrays)
    if found.__class__ is not np.ndarray or found.dtype is not dtype.numpy:
        found = np.asarray(found, dtype.numpy)
    made = make_eager(found, dtype)
    if active.tapes:
        for tape in active.tapes:
            tape.record_one(primitive, operands, made)
    return made


def _number(value: Any, dtype: DType) -> Tensor | None:
    """A Python number as a tensor beside one of the dtype. None for what needs the general way's care."""
    kind = value.__class__
    if (kind is not float or dtype.kind not in "fc") and (kind is not int or dtype.kind not in "fc"):
        return None
    return make_eager(np.asarray(value, dtype.numpy), dtype)


def _read(argument: Any) -> Any:
    """An argument with the values of Variables in their place."""
    if isinstance(argument, Stateful):
        return argument._read()
    if argument.__class__ is list or argument.__class__ is tuple:
        return argument.__class__([_read(a) for a in argument])
    return argument


def bind(primitive: Primitive, tensors: Sequence[Tensor], **params: Any) -> Any:
    """Applies one primitive: evaluated, or recorded in this thread's trace. Several results come as a tuple."""
    trace = active.context
    if trace is None:
        return _bind_eagerly(primitive, tensors, params)
    values = [t._value if t._context is trace and t._value is not None else trace.value_of(t) for t in tensors]
    outputs = trace.builder.add(primitive, values, params, trace.here())
    made = [make_traced(trace, v, v.type.dtype, v.type.shape) for v in outputs]
    return made[0] if len(made) == 1 else tuple(made)


def _bind_eagerly(primitive: Primitive, tensors: Sequence[Tensor], params: dict[str, Any]) -> Any:
    for tensor in tensors:
        if tensor._context is not None:
            raise TraceError.of(
                primitive.name,
                f"{tensor._text()} is traced",
                "outside its jt.function call a traced tensor has no elements",
                "Return it from the function",
            )
        if tensor._dtype.kind == "S":
            raise DTypeError(f"{primitive.name}: not defined for string tensors", location=user_location())
    if not primitive.data_shape:
        types = primitive.type_rule(*[TensorType(t._dtype, t._array.shape) for t in tensors], **params)
        dtypes = [t.dtype for t in ((types,) if isinstance(types, TensorType) else types)]
    evaluate = functools.partial(primitive.evaluate, **params) if params else primitive.evaluate
    results = without_warnings(evaluate, [t._array for t in tensors])
    if not isinstance(results, tuple):
        results = (results,)
    if primitive.data_shape:
        dtypes = [BY_NUMPY[np.asarray(r).dtype] for r in results]
    made = [make_eager(np.asarray(r, d.numpy), d) for r, d in zip(results, dtypes, strict=True)]
    if active.tapes:
        for tape in active.tapes:
            tape.record(primitive, tensors, params, made)
    return made[0] if len(made) == 1 else tuple(made)


def located(message: str) -> str:
    """A message for run time, with the user's line where a trace is recorded."""
    trace = active.context
    line = user_location() if trace is None else trace.here()
    return message if line is None else f"{message}{LOCATION_GAP}{line}"


def elements_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The elements that an op function cannot do without (an axis, a shape). In a trace that does not know them the
    op is deferred until the call."""
    trace = active.context
    if trace is None:
        return tensor._data("the value of an op's parameter")
    return trace.elements(tensor)


def array_constant(array: np.ndarray[Any, Any], dtype: DType) -> Tensor:
    """A tensor of known elements: a constant of the trace, or an eager tensor."""
    trace = active.context
    if trace is None or dtype.kind == "S":
        return make_eager(array, dtype)
    if array.ndim == 0:
        value = trace.builder.constant(array, dtype)
    else:
        value = trace.builder.capture(array, TensorType(dtype, array.shape))
        trace.facts[value.id] = array
    return make_traced(trace, value, dtype, array.shape)
