"""`jt.function`: TensorFlow's tracing and retracing rules.

Owns `function`, `Function` (one decorated function and its traces), binding and canonical call types,
`input_signature`, `reduce_retracing`, methods, and the retrace warning. Must not know ops or how a trace runs
(`jitensor.concrete`). The rules are written down in docs/function.md.
"""

from __future__ import annotations

import collections
import functools
import inspect
import logging
import sys
import threading
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jitensor import nest
from jitensor.api.convert import CastContext, convert_to_tensor
from jitensor.concrete import ConcreteFunction, Layout
from jitensor.ir.types import DType
from jitensor.recording import Trace, recording
from jitensor.runtime.cache import CallType, DispatchTable
from jitensor.runtime.counters import tally
from jitensor.runtime.signature import Literal, Reference, TensorSpec, TraceType, TracingContext, type_of
from jitensor.runtime.tensor_shape import TensorShape
from jitensor.tensor import Tensor, active, make_eager

logger = logging.getLogger("jitensor")


class _Mode:
    eager = False  # config.run_functions_eagerly


def run_functions_eagerly(run_eagerly: bool) -> None:
    """True: decorated functions run as plain Python, without traces, checks or counting. Mirrors tf.config."""
    _Mode.eager = bool(run_eagerly)


def functions_run_eagerly() -> bool:
    return _Mode.eager


CAST = CastContext()

# Binding --------------------------------------------------------------------------------------------------------------


class Parameters:
    """The Python signature of a function, and how calls are spelt canonically."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = _signature(function)
        parameters = list(self.signature.parameters.values())
        kinds = inspect.Parameter
        self.positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        self.keyword_only = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY]
        self.varargs = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self.varkw = next((p.name for p in parameters if p.kind is kinds.VAR_KEYWORD), None)
        self.names = tuple(p.name for p in self.positional)
        self.keyword_names = tuple(p.name for p in self.keyword_only)
        self.defaults = {p.name: p.default for p in parameters if p.default is not kinds.empty}

    @functools.cached_property
    def simple(self) -> bool:
        """Only plain parameters: a call of as many positionals needs no binding."""
        return not (self.keyword_only or self.varargs or self.varkw)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Canonical names and values of a call, defaults filled in. Raises TypeError as Python would."""
        if self.simple and not kwargs and len(args) == len(self.names):
            return self.names, args
        bound = self.signature.bind(*args, **kwargs)
        given = bound.arguments
        names, values = [], []
        for name in self.names:
            names.append(name)
            values.append(given[name] if name in given else self.defaults[name])
        for i, value in enumerate(given.get(self.varargs, ()) if self.varargs else ()):
            names.append(f"{self.varargs}_{i}")
            values.append(value)
        for name in self.keyword_names:
            names.append(name)
            values.append(given[name] if name in given else self.defaults[name])
        if self.varkw:
            for name, value in sorted(given.get(self.varkw, {}).items()):
                names.append(name)
                values.append(value)
        return tuple(names), tuple(values)

    def spread(self, names: Sequence[str], values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The Python call that gives these canonical arguments."""
        keyword = frozenset(self.keyword_names)
        count = len(self.names) + sum(1 for n in names if self._is_extra(n))
        args = list(values[:count])
        kwargs = dict(zip(names[count:], values[count:], strict=True))
        assert keyword <= kwargs.keys()
        return args, kwargs

    def _is_extra(self, name: str) -> bool:
        return bool(self.varargs) and name.startswith(f"{self.varargs}_") and name not in self.keyword_names

    def layout(self, names: Sequence[str]) -> Layout:
        keywords = frozenset(n for n in names if n not in self.names and not self._is_extra(n))
        return Layout(tuple(n for n in names if n not in keywords), keywords)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if isinstance(function, Function):
        return function.function_spec
    if isinstance(function, functools.partial):
        return inspect.signature(function)
    try:
        return inspect.signature(function, follow_wrapped=False)
    except ValueError:
        unknown = inspect.Parameter
        return inspect.Signature([unknown("args", unknown.VAR_POSITIONAL), unknown("kwargs", unknown.VAR_KEYWORD)])


# input_signature ------------------------------------------------------------------------------------------------------


class Signature:
    """A checked `input_signature`: the type of every parameter, and the defaults that it freezes."""

    def __init__(self, function_name: str, parameters: Parameters, specs: Any, skip_self: bool) -> None:
        if not isinstance(specs, (list, tuple)):
            raise TypeError(f"input_signature must be a list or tuple of TensorSpecs, got {specs!r}")
        for leaf in nest.flatten(list(specs)):
            if not isinstance(leaf, TensorSpec):
                raise TypeError(f"input_signature must hold TensorSpecs only, got {leaf!r}")
        self.specs = tuple(specs)
        self.parameters = parameters
        positional = [p.name for p in parameters.positional]
        if skip_self and positional:
            positional = positional[1:]
        for name in parameters.keyword_names:
            if name not in parameters.defaults:
                raise TypeError(
                    f"{function_name}: with an input_signature the keyword-only parameter {name} needs a default"
                )
        extra = len(self.specs) - len(positional)
        if extra > 0 and not parameters.varargs:
            raise TypeError(
                f"{function_name}: input_signature has {len(self.specs)} specs for {len(positional)} parameters"
            )
        for name in positional[len(self.specs) :]:
            if name not in parameters.defaults:
                raise TypeError(
                    f"{function_name}: parameter {name} has neither a spec in input_signature nor a default"
                )
        extras = [f"{parameters.varargs}_{i}" for i in range(extra)] if extra > 0 else []
        self.extras = max(extra, 0)
        self.typed: dict[str, TraceType] = {
            name: type_of(spec) for name, spec in zip([*positional, *extras], self.specs, strict=False)
        }
        self.frozen: dict[str, TraceType] = {
            name: type_of(parameters.defaults[name])
            for name in (*positional[len(self.specs) :], *parameters.keyword_names)
        }

    def call_type(self, names: Sequence[str], values: Sequence[Any]) -> tuple[CallType, list[Any]]:
        """The one call type, and the arguments cast to it. Raises TypeError for arguments that do not fit."""
        types, cast_values = [], []
        for name, value in zip(names, values, strict=True):
            wanted = self.typed.get(name) or self.frozen.get(name)
            if wanted is None:  # self
                types.append(type_of(value))
                cast_values.append(value)
                continue
            try:
                cast_values.append(wanted.cast(value, CAST))
            except (TypeError, ValueError) as error:
                raise TypeError(f"Binding inputs to tf.function failed: argument {name}: {error}") from None
            types.append(wanted)
        return CallType(tuple(names), tuple(types)), cast_values

    def check_count(self, names: Sequence[str]) -> None:
        extras = sum(1 for n in names if self.parameters._is_extra(n))
        if extras != self.extras:
            raise TypeError(
                f"Binding inputs to tf.function failed: needed {len(self.specs)} arguments, as input_signature says"
            )
        if self.parameters.varkw and any(
            n not in self.typed and n not in self.frozen and n not in self.parameters.names for n in names
        ):
            raise TypeError(
                "Binding inputs to tf.function failed: unknown keyword arguments cannot be used with input_signature"
            )


# The retrace warning --------------------------------------------------------------------------------------------------


RETRACE_WARNING = (
    "%d out of the last %d calls to %s triggered tf.function retracing. Tracing is expensive and the excessive "
    "number of tracings could be due to (1) creating @jt.function repeatedly in a loop, (2) passing tensors with "
    "different shapes, (3) passing Python objects instead of tensors. For (1), define the function outside of the "
    "loop. For (2), use reduce_retracing=True or an input_signature with None sizes. For (3), pass tensors."
)


class RetraceDetector:
    """Warns when a function is traced too often: five traced calls within about the last ten calls."""

    def __init__(self) -> None:
        self.groups: collections.deque[int] = collections.deque()  # each: a traced call and the untraced ones after it
        self.calls = 0
        self.warnings = 0

    def called(self, name: str, traced: bool) -> None:
        self.calls += 1
        if not traced:
            if self.groups:
                self.groups[-1] += 1
            return
        self.groups.append(1)
        while self.groups and self.calls - self.groups[0] > 10:
            self.calls -= self.groups.popleft()
        if len(self.groups) >= 5 and self.warnings < 2:
            self.warnings += 1
            logger.warning(
                RETRACE_WARNING,
                len(self.groups),
                self.calls,
                name,
            )


_detectors: weakref.WeakKeyDictionary[Any, dict[str, RetraceDetector]] = weakref.WeakKeyDictionary()


def _detector(function: Callable[..., Any]) -> RetraceDetector:
    code = getattr(_plain_function(function), "__code__", None)
    if code is None:
        return RetraceDetector()
    # Code objects compare by value, the file's name apart: functions wrapped again and again in a loop share a
    # detector.
    of_code = _detectors.setdefault(code, {})
    return of_code.setdefault(code.co_filename, RetraceDetector())


def _plain_function(function: Any) -> Any:
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__bound_from__"):
            function = function.__bound_from__
        else:
            return function


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


class State:
    """The traces of one function; shared by shallow copies."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.table: DispatchTable[ConcreteFunction] = DispatchTable()


class Function:
    """A function that is traced once per type of its arguments. Made by `jt.function`. Mirrors tf.types.experimental.
    PolymorphicFunction."""

    def __init__(self, python_function: Callable[..., Any], options: Options) -> None:
        if not callable(python_function):
            raise TypeError(f"jt.function: {python_function!r} is not a callable object")
        self._python_function = python_function
        self._options = options
        self._name = _name_of(python_function)
        self._state = State()
        self._parameters = Parameters(python_function)
        self._detector = _detector(python_function)
        self._methods: weakref.WeakKeyDictionary[Any, _Method] = weakref.WeakKeyDictionary()
        self._signature: Signature | None = None
        if options.input_signature is not None:
            first = self._parameters.names[:1] == ("self",)
            self._signature = Signature(self._name, self._parameters, options.input_signature, first)
        functools.update_wrapper(self, python_function, updated=())
        self.__wrapped__ = python_function

    # Calls ------------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _Mode.eager:
            return self._python_function(*args, **kwargs)
        concrete, call_type, values, traced = self._concrete(args, kwargs)
        if active.context is None:
            self._detector.called(self._name, traced)
        tensors: list[Tensor] = []
        for kind, value in zip(call_type.types, values, strict=True):
            if type(kind) is TensorSpec:
                tensors.append(value if isinstance(value, Tensor) else _as_tensor(value))
            elif type(kind) is not Literal and type(kind) is not Reference:
                tensors.extend([t if isinstance(t, Tensor) else _as_tensor(t) for t in kind.to_tensors(value)])
        return concrete.run(tensors)

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
                    concrete = self._new_trace(call_type)
                    traced = True
        return concrete, call_type, values, traced

    def _new_trace(self, call_type: CallType) -> ConcreteFunction:
        if self._options.reduce_retracing and self._signature is None:
            call_type = self._state.table.generalised(call_type)
        concrete = trace_function(self._python_function, self._name, self._parameters, call_type)
        self._state.table.add(call_type, concrete)
        return concrete

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
        return len(self._state.table)

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
        handle = object.__new__(Function)
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
    plain = _plain_function(function)
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

    signature = _signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    method.__bound_from__ = function  # type: ignore[attr-defined]
    return method


def _as_tensor(value: Any) -> Tensor:
    """A NumPy array or scalar argument as an eager tensor; its array may change later, so it is copied."""
    array = np.asarray(value)
    return (
        make_eager(array.copy() if isinstance(value, np.ndarray) else array)
        if array.dtype.kind not in "SUO"
        else convert_to_tensor(value)
    )


# Tracing --------------------------------------------------------------------------------------------------------------


class _Placeholders:
    """Makes the values that the body sees, and keeps the placeholders of tensors in order."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def placeholder(self, spec: TensorSpec) -> Tensor:
        return self.trace.input(spec.dtype, spec.shape.sizes)


def trace_function(
    function: Callable[..., Any], name: str, parameters: Parameters, call_type: CallType
) -> ConcreteFunction:
    """Runs the Python function once on placeholders of the call type. Exceptions pass through unchanged."""
    tally.traces += 1
    trace = Trace(name)
    outer = active.context
    trace.parents = (*active.stack, outer) if outer is not None else active.stack
    placeholders = _Placeholders(trace)
    values = [kind.placeholder_value(placeholders) for kind in call_type.types]
    inputs = [t for kind, v in zip(call_type.types, values, strict=True) for t in kind.to_tensors(v)]
    before = [nest.snapshot(v) for v in values]
    args, kwargs = parameters.spread(call_type.names, values)
    with recording(trace, trace.parents):
        result = function(*args, **kwargs)
        for value, snapshot in zip(values, before, strict=True):
            if not nest.is_unchanged(value, snapshot):
                raise ValueError(f"{name} should not modify its Python input arguments. Copy the list or dict first")
        outputs = _outputs(trace, name, result)
    return ConcreteFunction(name, call_type, parameters.layout(call_type.names), trace, inputs, outputs)


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
    if isinstance(leaf, (DType, TensorShape)):
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
