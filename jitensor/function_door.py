"""`jt.function`: TensorFlow's tracing and retracing rules.

Owns `function`, `Function` (one decorated function and its traces), binding and canonical call types,
`input_signature`, `reduce_retracing`, methods, and the retrace warning. Must not know ops or how a trace runs
(`jitensor.concrete`). The rules are written down in docs/function.md.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jitensor import events, function_entry, nest, settings
from jitensor.api.convert import convert_to_tensor
from jitensor.binding import Parameters, Signature, python_signature
from jitensor.calling import Layout, distinct
from jitensor.codegen.emit_entry import Unsupported
from jitensor.concrete import ConcreteFunction
from jitensor.errors import LOCATION_GAP, Location, user_location
from jitensor.explain import Explanation, KernelView, kernels_used
from jitensor.ir.text import print_graph
from jitensor.ir.types import DType
from jitensor.recording import Trace, recording, tensors_in
from jitensor.retracing import detector_of, ordinal, plain_function, reason, signature_text
from jitensor.runners import needed_entries
from jitensor.runtime import entry
from jitensor.runtime.cache import CallType, DispatchTable
from jitensor.runtime.counters import counters, tally
from jitensor.runtime.signature import Literal, Reference, TensorSpec, TraceType, TracingContext, type_of
from jitensor.tensor import Tensor, active, make_eager
from jitensor.variable import Creation, Variable, VariableSpec, creation_of, stand_in


class _Mode:
    eager = False  # config.run_functions_eagerly


def run_functions_eagerly(run_eagerly: bool) -> None:
    """True: decorated functions run as plain Python, without traces, checks or counting. Mirrors tf.config."""
    if bool(run_eagerly) != _Mode.eager:
        settings.hold_native_calls(1 if run_eagerly else -1)
    _Mode.eager = bool(run_eagerly)


def functions_run_eagerly() -> bool:
    return _Mode.eager


# The function ---------------------------------------------------------------------------------------------------------


class Options:
    """What `jt.function` was asked for. `experimental_*` names are TensorFlow's."""

    def __init__(
        self, input_signature: Any, autograph: bool, jit_compile: bool | None, reduce_retracing: bool, pure: bool
    ) -> None:
        self.input_signature = input_signature
        self.autograph = autograph
        self.jit_compile = jit_compile
        self.reduce_retracing = reduce_retracing
        self.pure = pure


MOST_REMEMBERED = 1024
CALLS_BEFORE_NATIVE = 2  # by the Python path, after the one that traced


class State:
    """The traces of one function; shared by shallow copies."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.table: DispatchTable[ConcreteFunction] = DispatchTable()
        self.quick: dict[Any, ConcreteFunction] = {}  # what served calls of eager tensors alone
        self.started = False  # the first call, which may make Variables, is over
        self.creations = 0  # traces that made Variables, and were not kept
        self.pending: Creation | None = None  # Variables whose first values depend on arguments that were not given

    def add(self, call_type: CallType, concrete: ConcreteFunction) -> None:
        self.table.add(call_type, concrete)
        self.quick.clear()  # a more specific trace may now serve what a general one served

    def remember(self, key: Any, concrete: ConcreteFunction) -> None:
        if len(self.quick) >= MOST_REMEMBERED:
            self.quick.clear()
        self.quick[key] = concrete


class Function(functools.partial[Any]):
    """A function that is traced once per type of its arguments. Made by `jt.function`. Mirrors tf.types.experimental.
    PolymorphicFunction.

    A partial is what CPython calls without a Python frame: its function is `_call` first, and a native entry in front
    of that once a trace of eager tensors has been called often enough to be worth one.
    """

    __setstate__: Callable[[Any], None]
    _slow: Callable[..., Any]
    _native: entry.NativeEntry | None

    def __new__(cls, python_function: Callable[..., Any], options: Options) -> Function:
        def slow(*args: Any, **kwargs: Any) -> Any:
            return made._call(*args, **kwargs)

        made: Function = super().__new__(cls, slow)
        made._slow = slow
        made._native = None
        return made

    def __init__(self, python_function: Callable[..., Any], options: Options) -> None:
        if not callable(python_function):
            raise TypeError(f"jt.function: {python_function!r} is not a callable object")
        self._python_function = python_function
        self._options = options
        self._name = _name_of(python_function)
        self._state = State()
        self._parameters = Parameters(python_function)
        self._detector = detector_of(python_function)
        self._methods: weakref.WeakKeyDictionary[Any, _Method] = weakref.WeakKeyDictionary()
        self._signature: Signature | None = None
        if options.input_signature is not None:
            first = self._parameters.names[:1] == ("self",)
            self._signature = Signature(self._name, self._parameters, options.input_signature, first)
        functools.update_wrapper(self, python_function, updated=())
        self.__wrapped__ = python_function

    # Calls ------------------------------------------------------------------------------------------------------------

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if _Mode.eager:
            return self._python_function(*args, **kwargs)
        quick = None
        if active.context is None and not kwargs and self._signature is None:
            quick = self._quick_key(args)
            known = None if quick is None else self._state.quick.get(quick)
            if known is not None:
                self._detector.called(self._name, False)
                known.calls += 1
                if known.calls == CALLS_BEFORE_NATIVE:
                    self._install(known, args)
                return known.run(args)
        concrete, call_type, values, traced = self._concrete(args, kwargs)
        if active.context is None:
            self._detector.called(self._name, traced)
        tensors = _tensors_of(call_type, values, active.context is not None or concrete.keeps_arguments)
        variables = _variables_of(call_type, values) if concrete.stand_ins else ()
        if self._state.pending is not None:
            self._initialise(self._state.pending, tensors, variables)
        if quick is not None and len(values) == len(args):
            self._state.remember(quick, concrete)
        if traced and events.wanted("retrace"):
            return self._run_and_tell(concrete, tensors, variables)
        return concrete.run(tensors, variables)

    def _install(self, concrete: ConcreteFunction, args: tuple[Any, ...]) -> None:
        """Puts a native entry for this trace in front of the Python path, where one can be had."""
        if not entry.is_used():
            return
        with self._state.lock:
            try:
                made = function_entry.make(concrete, args, self._detector.native)
            except Unsupported as reason:
                concrete.only_python = str(reason)
                return
            if self._native is None:
                self._native = entry.NativeEntry(self._name, self._slow)
                self.__setstate__(
                    (self._native.callable, (), {}, self.__dict__)
                )  # a partial's way to change its function
            self._native.install(made)

    def _quick_key(self, args: tuple[Any, ...]) -> Any:
        """Sizes and dtypes where all arguments are eager tensors: a key that is cheaper than the call type. Else
        None."""
        key: list[Any] = []
        for argument in args:
            if type(argument) is not Tensor:
                return None
            key.append(argument._sizes)
            key.append(argument._dtype.short)
        return tuple(key)

    def _run_and_tell(self, concrete: ConcreteFunction, tensors: list[Tensor], variables: Sequence[Variable]) -> Any:
        """Runs a new trace and reports it: its reason, its cost, what was compiled."""
        before, location = counters(), self._location()
        result = concrete.run(tensors, variables)
        compiled = (counters() - before).kernels_compiled
        known = list(self._state.table)
        if len(known) > 1:
            why = reason(concrete.call_type, [k for k in known if k is not concrete.call_type])
            cost = f"{ordinal(len(known))} trace, {concrete.trace_seconds * 1e3:.1f} ms, {compiled} kernels compiled"
            events.emit(
                "retrace",
                function=self._name,
                reason=f"{self._name} retraced ({cost}): {why}{LOCATION_GAP}{location}",
                seconds=concrete.trace_seconds,
                kernels_compiled=compiled,
            )
        return result

    def _concrete(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ConcreteFunction, CallType, Sequence[Any], bool]:
        """The trace for a call, made if need be; the call's type and values; whether the trace is new."""
        names, values = self._parameters.bind(args, kwargs)
        if self._signature is None:
            if self._options.pure:
                values = tuple([v if isinstance(v, Tensor) else convert_to_tensor(v) for v in values])
            context = TracingContext()
            call_type = CallType(names, tuple([type_of(v, context) for v in values]))
        else:
            self._signature.check_count(names)
            call_type, cast_values = self._signature.call_type(names, values)
            values = tuple(cast_values)
        concrete = self._state.table.exact(call_type)
        traced = False
        if concrete is None:
            with self._state.lock:
                concrete = self._state.table.find(call_type)
                if concrete is None:
                    concrete = self._new_trace(call_type, values)
                    traced = True
        return concrete, call_type, values, traced

    def _new_trace(self, call_type: CallType, values: Sequence[Any] = ()) -> ConcreteFunction:
        if self._options.reduce_retracing and self._signature is None:
            call_type = self._state.table.generalised(call_type)
        began = time.perf_counter()
        concrete = self._trace(call_type, values)
        concrete.trace_seconds = time.perf_counter() - began
        if not active.explaining:
            tally.traces += 1
            self._state.add(call_type, concrete)
            if events.wanted("trace"):
                text = print_graph(concrete.graph)
                events.emit("trace", function=self._name, seconds=concrete.trace_seconds, graph=text)
        return concrete

    def _trace(self, call_type: CallType, values: Sequence[Any]) -> ConcreteFunction:
        """Runs the Python function; a first call that makes Variables initialises them and runs it again."""

        def trace(creation: Creation) -> ConcreteFunction:
            return trace_function(self._python_function, self._name, self._parameters, call_type, creation)

        state, first = self._state, Creation(not self._state.started, self._name)
        concrete = trace(first)
        if first.variables:
            outer = None if active.context is None else creation_of(active.context)
            if outer is not None:
                outer.variables.extend(first.variables)
            if values:
                self._initialise(first, _tensors_of(call_type, values, True), _variables_of(call_type, values))
            else:
                self._initialise(first, first.inputs, first.stand_ins)
            concrete = trace(Creation(False, self._name))
            if not active.explaining:
                state.creations += 1
                tally.traces += 1
        state.started = True
        return concrete

    def _initialise(self, creation: Creation, tensors: Sequence[Any], variables: Sequence[Variable]) -> None:
        """Gives Variables that were made in a trace their first values: what leads to those runs alone, once. Where it
        needs arguments of which only specs are known, the next call does."""
        later = []
        for variable, tensor in creation.initialisers:
            run = initialiser(creation, tensor, tensors, variables)
            if run is None:
                later.append((variable, tensor))
                continue
            value = run()
            if active.context is None:
                variable.assign(value)
            else:
                outer = creation_of(active.context)
                assert outer is not None
                outer.initialisers.append((variable, value))
        creation.initialisers = later
        self._state.pending = creation if later else None

    def _location(self) -> Location:
        """The user's line that called; the function's own where jitensor itself did."""
        location = user_location()
        code = getattr(plain_function(self._python_function), "__code__", None)
        if code is not None and location.file.startswith("<frozen"):
            return Location(code.co_filename, code.co_firstlineno, self._name)
        return location

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """The trace for these arguments, which may be TensorSpecs; it is made if there is none, and not run. Without
        arguments: the one trace of a function with an input_signature, or without parameters."""
        if self._signature is not None and not args and not kwargs:
            return self._signature_trace()
        return self._concrete(args, kwargs)[0]

    def _signature_trace(self) -> ConcreteFunction:
        assert self._signature is not None
        signature, parameters = self._signature, self._parameters
        names = [
            *parameters.names,
            *(f"{parameters.varargs}_{i}" for i in range(signature.extras)),
            *parameters.keyword_names,
        ]
        kinds = [signature.typed.get(n) or signature.frozen.get(n) for n in names]
        if any(k is None for k in kinds):
            raise TypeError(f"{self._name}: get_concrete_function of an unbound method needs the instance")
        call_type = CallType(tuple(names), tuple([k for k in kinds if k is not None]))
        with self._state.lock:
            return self._state.table.find(call_type) or self._new_trace(call_type)

    # Looking inside ---------------------------------------------------------------------------------------------------

    def kernels(self) -> list[KernelView]:
        """The kernels that calls have run so far: name, text, source (@njit), llvm, assembly, seconds, origin."""
        return kernels_used([e for c in self._state.table.values() for e in c.executables()])

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """How the call would be served: signature, cache decision with its reason, graph, kernels. Its print is a
        report.

        Runs the Python of the function on traced tensors where the call is new; runs no program, and changes no cache
        or counter. Arguments may be TensorSpecs of known sizes.
        """
        known = list(self._state.table)
        active.explaining = True
        try:
            concrete, call_type, values, traced = self._concrete(args, kwargs)
        finally:
            active.explaining = False
        tensors = _tensors_of(call_type, values, copy=False)
        text = f"{self._name}{signature_text(call_type)}"
        served = f"served by the trace for {signature_text(concrete.call_type)}"
        decision, why = ("trace", reason(call_type, known)) if traced else ("hit", served)
        executable, arguments = concrete.served_by(tensors)
        return Explanation(text, decision, why, (), executable, arguments)

    # What it is -------------------------------------------------------------------------------------------------------

    @property
    def python_function(self) -> Callable[..., Any]:
        return self._python_function

    @property
    def input_signature(self) -> tuple[Any, ...] | None:
        return None if self._signature is None else self._signature.specs

    @property
    def function_spec(self) -> inspect.Signature:
        return self._parameters.signature

    @property
    def name(self) -> str:
        return self._name

    def experimental_get_tracing_count(self) -> int:
        """How many traces there are."""
        return len(self._state.table) + self._state.creations

    def pretty_printed_concrete_signatures(self, verbose: bool = True) -> str:
        """The types of every trace, as text."""
        texts = [c.pretty_printed_signature(verbose) for c in self._state.table.values()]
        return ("\n\n" if verbose else "\n").join(texts)

    def experimental_get_compiler_ir(self, *args: Any, **kwargs: Any) -> Callable[..., str]:
        """A function that gives the graph's text. Raises ValueError unless decorated with jit_compile=True."""
        if not self._options.jit_compile:
            raise ValueError("Compiler IR can only be returned for functions marked with jit_compile=True")
        graph = self.get_concrete_function(*args, **kwargs).graph
        return lambda stage="hlo", **_: str(graph)

    def __tf_tracing_type__(self, context: Any) -> TraceType:
        return Reference(self)

    # Methods, copies --------------------------------------------------------------------------------------------------

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """The function of one instance: its own traces, found again while the instance lives, which it does not keep
        alive. What is given out does, as a bound method does, so that `Model().f(x)` works."""
        if instance is None:
            return self
        try:
            known = self._methods.get(instance)
        except TypeError:  # not hashable, or not weakly referenceable: kept by nobody
            return self._bound_to(instance, functools.partial(_identity, instance))
        if known is None:
            with self._state.lock:
                known = self._methods.get(instance)
                if known is None:
                    known = self._methods[instance] = _Method(self._bound_to(instance, weakref.ref(instance)))
        handle = known.handle()
        if handle is None:
            handle = known.function.holding(instance)
            known.handle = weakref.ref(handle)
        return handle

    def _bound_to(self, instance: Any, reference: Callable[[], Any]) -> Function:
        return Function(_bound_method(self._python_function, reference), self._options)

    def holding(self, instance: Any) -> Function:
        """The same function with the same traces, keeping the instance alive."""
        handle: Function = functools.partial.__new__(Function, self)
        handle.__dict__.update(self.__dict__)
        handle.__dict__["__self__"] = instance
        return handle

    def __copy__(self) -> Function:
        other = Function(self._python_function, self._options)
        other._state = self._state
        return other

    def __deepcopy__(self, memo: Any) -> Function:
        self._must_be_untraced("copied")
        return Function(self._python_function, self._options)

    def __reduce__(self) -> tuple[Any, ...] | str:
        name = getattr(self, "__qualname__", "")
        if getattr(sys.modules.get(getattr(self, "__module__", "")), name, None) is self:
            return name  # found again by its name, as Python's functions are
        self._must_be_untraced("pickled")
        return _unpickled, (self._python_function, self._options)

    def _must_be_untraced(self, done: str) -> None:
        if len(self._state.table):
            raise TypeError(f"{self._name} has traces, which cannot be {done}; do it before the first call")

    def __repr__(self) -> str:
        return f"<jitensor.function {self._name} at {id(self):#x}>"


class _Method:
    """The function of one instance, and the handle given out for it while somebody holds that."""

    __slots__ = ("function", "handle")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.handle: Callable[[], Function | None] = _nothing


def _nothing() -> None:
    return None


def _unpickled(python_function: Callable[..., Any], options: Options) -> Function:
    return Function(python_function, options)


def _identity(value: Any) -> Any:
    return value


def _name_of(function: Callable[..., Any]) -> str:
    plain = plain_function(function)
    return getattr(plain, "__name__", type(plain).__name__)


def _bound_method(function: Callable[..., Any], reference: Callable[[], Any]) -> Callable[..., Any]:
    """`function` with its first argument taken from a weak reference. Its signature has no first parameter."""

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        instance = reference()
        if instance is None:
            raise ReferenceError(f"the instance that {method.__name__} was bound to has been deleted")
        bind = getattr(function, "__get__", None)
        return (
            bind(instance, type(instance))(*args, **kwargs) if bind is not None else function(instance, *args, **kwargs)
        )

    signature = python_signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    method.__bound_from__ = function  # type: ignore[attr-defined]
    return method


def _tensors_of(call_type: CallType, values: Sequence[Any], copy: bool) -> list[Any]:
    """The tensors in the arguments, in the order of the placeholders; TensorSpecs stay. copy: NumPy arrays are
    copied, since they may change later."""
    tensors: list[Any] = []
    for kind, value in zip(call_type.types, values, strict=True):
        if type(kind) is TensorSpec:
            tensors.append(value)
        elif type(kind) is not Literal and type(kind) is not Reference:
            tensors.extend(kind.to_tensors(value))
    return [t if isinstance(t, (Tensor, TensorSpec)) else _as_tensor(t, copy) for t in tensors]


def _variables_of(call_type: CallType, values: Sequence[Any]) -> list[Any]:
    """The Variables in the arguments, each once, in the order of their alias numbers."""
    return distinct([r for kind, v in zip(call_type.types, values, strict=True) for r in kind.to_references(v)])


def _as_tensor(value: Any, copy: bool) -> Tensor:
    """A NumPy array or scalar argument as an eager tensor."""
    array = np.asarray(value)
    if array.dtype.kind in "SUO" or not array.dtype.isnative:
        return convert_to_tensor(value)
    return make_eager(array.copy() if copy and array is value else array)


class _Placeholders:
    """Makes the values that the body sees, and keeps the placeholders of tensors in order."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.variables: dict[Any, Variable] = {}  # by alias number

    def variable(self, spec: VariableSpec) -> Variable:
        key = object() if spec.alias_id is None else spec.alias_id
        return self.variables.setdefault(key, stand_in(spec, "Variable"))

    def placeholder(self, spec: TensorSpec) -> Tensor:
        return self.trace.input(spec.dtype, spec.shape.sizes)


def trace_function(
    function: Callable[..., Any], name: str, parameters: Parameters, call_type: CallType, creation: Creation
) -> ConcreteFunction:
    """Runs the Python function once on placeholders of the call type. Exceptions pass through unchanged."""
    trace = Trace(name)
    trace.creation = creation
    outer = active.context
    trace.parents = (*active.stack, outer) if outer is not None else active.stack
    placeholders = _Placeholders(trace)
    values = [kind.placeholder_value(placeholders) for kind in call_type.types]
    inputs = [t for kind, v in zip(call_type.types, values, strict=True) for t in kind.to_tensors(v)]
    stand_ins = list(placeholders.variables.values())
    creation.trace, creation.inputs, creation.stand_ins = trace, inputs, stand_ins
    before = [nest.snapshot(v) for v in values]
    args, kwargs = parameters.spread(call_type.names, values)
    with recording(trace, trace.parents):
        result = function(*args, **kwargs)
        for value, snapshot in zip(values, before, strict=True):
            if not nest.is_unchanged(value, snapshot):
                raise ValueError(f"{name} should not modify its Python input arguments. Copy the list or dict first")
        outputs = _outputs(trace, name, result)
    return ConcreteFunction(name, call_type, parameters.layout(call_type.names), trace, inputs, outputs, stand_ins)


def initialiser(
    creation: Creation, tensor: Tensor, tensors: Sequence[Any], variables: Sequence[Variable]
) -> Callable[[], Tensor] | None:
    """What computes a tensor of the trace from the arguments, without the trace's effects; None where it depends on an
    argument that is no tensor but a spec."""
    source = copy.copy(creation.trace)
    source.log = needed_entries(source.log, [tensor], effects=False)
    used = {id(t) for e in source.log for t in tensors_in((e.args, e.kwargs))} | {id(tensor)}
    inputs = [t for t in creation.inputs if id(t) in used]
    given = [t for own, t in zip(creation.inputs, tensors, strict=True) if id(own) in used]
    if any(isinstance(t, TensorSpec) or (t._context is creation.trace) for t in given):
        return None
    call_type, layout = CallType((), ()), Layout((), frozenset())
    whole = ConcreteFunction("initialiser", call_type, layout, source, inputs, tensor, creation.stand_ins)
    trace = Trace("initialiser")
    placeholders = [trace.input(t._dtype, t._sizes) for t in inputs]
    with recording(trace):
        result = whole._inline(trace, placeholders, creation.stand_ins)
    alone = ConcreteFunction("initialiser", call_type, layout, trace, placeholders, result, creation.stand_ins)
    return lambda: alone.run(given, variables)


def _outputs(trace: Trace, name: str, result: Any) -> Any:
    """The result with every leaf a tensor of this trace, an eager constant, or None. Raises TypeError for other
    leaves."""
    if inspect.isgenerator(result):
        raise TypeError(f"{name} is a generator function; jt.function needs a function that returns")
    return nest.map_structure(lambda leaf: _output(trace, name, leaf), result)


def _output(trace: Trace, name: str, leaf: Any) -> Any:
    if leaf is None:
        return None
    if isinstance(leaf, Tensor):
        return leaf if leaf._context is None or leaf._context is trace else trace.adopt(leaf)
    if isinstance(leaf, DType):
        raise TypeError(
            f"{name} returned {leaf!r}; a traced function returns tensors, None, numbers, or nests of these"
        )
    try:
        return convert_to_tensor(leaf)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} returned {leaf!r} of type {type(leaf).__name__}; a traced function returns tensors, None, "
            "numbers, strings, arrays, or nests of these"
        ) from None


# The decorator --------------------------------------------------------------------------------------------------------

_ATTRIBUTES = frozenset(("experimental_disable_acd",))


def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    experimental_implements: str | None = None,
    experimental_autograph_options: Any = None,
    experimental_attributes: Mapping[str, Any] | None = None,
    experimental_relax_shapes: bool | None = None,
    experimental_compile: bool | None = None,
    experimental_follow_type_hints: bool | None = None,
) -> Any:
    """Makes a Python function trace once per type of its arguments and run as fused kernels. Mirrors tf.function.

    input_signature: TensorSpecs of the arguments: one trace, to which arguments are cast. reduce_retracing: on a
    second shape, trace with the differing sizes unknown. The other options are TensorFlow's. As a decorator, with or
    without parentheses.
    """
    for name in experimental_attributes or ():
        if name not in _ATTRIBUTES:
            raise ValueError(f"jt.function: unknown attribute {name!r} in experimental_attributes")
    options = Options(
        input_signature,
        autograph,
        jit_compile if experimental_compile is None else experimental_compile,
        reduce_retracing or bool(experimental_relax_shapes),
        experimental_implements is not None,
    )

    def decorate(inner: Callable[..., Any]) -> Function:
        if not callable(inner):
            raise TypeError(f"jt.function: {inner!r} is not a callable object")
        return Function(inner, options)

    return decorate if func is None else decorate(func)
