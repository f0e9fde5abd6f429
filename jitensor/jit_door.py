"""`jt.jit`: NumPy functions, unmodified, as compiled programs.

Owns the decorator, the binding of arguments, the cache of traces by key and the call path. Must not know how tracing
records. A call goes: bind -> `describe` (key, leaves) -> the traces of the key, each asked through its generated
`bind` -> program; where none fits, one thread traces and the others wait.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from jitensor import events, jit_entry
from jitensor.errors import TraceError
from jitensor.explain import Explanation, KernelView, kernels_used
from jitensor.runtime import entry
from jitensor.runtime.counters import tally
from jitensor.tracing import operators  # noqa: F401  (attaches the behaviour of tracers)
from jitensor.tracing.binder import HiddenStep, spell
from jitensor.tracing.clone import World
from jitensor.tracing.context import Guard, current
from jitensor.tracing.into import donating, with_out
from jitensor.tracing.numbers import Number
from jitensor.tracing.signature import Key, describe, key_text, spellings
from jitensor.tracing.trace import Trace, Tracing

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Signature(NamedTuple):
    """One trace of a function, for people: what it serves, and the values it fixed, with the lines that needed them."""

    key: str
    narrowed: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.key, *("    " + n for n in self.narrowed)])


class JitFunction(functools.partial[Any]):
    """A NumPy function whose calls run compiled programs. Made by `jt.jit`.

    A partial is what CPython calls without a Python frame: its function is the Python path first, and a native entry in
    front of that once a signature has been called often enough to be worth one.
    """

    __name__: str
    __qualname__: str
    __setstate__: Callable[[Any], None]
    _slow: Callable[..., Any]

    def __new__(cls, function: Callable[..., Any]) -> JitFunction:
        def slow(*args: Any, **kwargs: Any) -> Any:
            return made._call(*args, **kwargs)

        made: JitFunction = super().__new__(cls, slow)
        made._slow = slow
        return made

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters.values())
        self._parameters = parameters
        self._simple = all(p.kind in _POSITIONAL for p in parameters)
        self._count = len(parameters)
        self._defaults = [p.default for p in parameters]
        self._index = {p.name: i for i, p in enumerate(parameters) if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
        self._front = self  # whose native entries serve this function's calls too
        self._start()

    def _start(self) -> None:
        self._traces: dict[Key, list[Trace]] = {}
        self._lock = threading.Lock()
        self._locks: dict[Key, threading.RLock] = {}
        self._native: entry.NativeEntry | None = None
        self._writer: JitFunction | None = None  # serves calls with `out=`

    # Calls ------------------------------------------------------------------------------------------------------------

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if "out" in kwargs and "out" not in self._index:
            writer = self._with_out()
            if writer is not None:
                if kwargs["out"] is not None:
                    return writer._call(*args, **kwargs)
                kwargs = {name: value for name, value in kwargs.items() if name != "out"}
        context = current()
        if context is not None:
            return self._inline(context, args, kwargs)
        values = args if not kwargs and len(args) == self._count and self._simple else self._bind(args, kwargs)
        leaves: list[Any] = []
        key: Key = tuple([describe(v, leaves) for v in values])
        if len(leaves) > 1:
            key = _with_aliases(key, leaves)
        traces = self._traces.get(key)
        if traces is not None:
            for trace in traces:
                bound = trace.bind(leaves)
                if bound is not None and (not trace.held or _alive(trace, leaves)):
                    return self._run(trace, bound, values, key, leaves, len(args), kwargs)
        trace, bound = self._trace(key, leaves, values)
        return self._run(trace, bound, values, key, leaves, len(args), kwargs)

    def _run(self, trace: Trace, bound: Any, values: Sequence[Any], key: Key, leaves: Sequence[Any], given: int,
             keywords: dict[str, Any]) -> Any:  # fmt: skip
        arguments, sizes, extras = bound
        trace.calls += 1
        if trace.calls == trace.next_native:
            form = jit_entry.CallForm(given, {name: self._index[name] for name in keywords} if self._simple else {})
            self._install(trace, key, values, arguments, sizes, form)
        if trace.written and len(trace.arrays) > 1 and trace.overlapping(arguments):
            # Arguments that overlap, one of them written: the undecorated function has NumPy's meaning for them.
            if events.wanted("run"):
                events.emit("run.overlap", function=self.__name__)
            return self._undecorated(values)
        outs = trace.executable(arguments, sizes)
        if trace.foreign:
            arguments = _give_back(trace, arguments, leaves)
        return trace.finish(outs, arguments, sizes, extras)

    def _install(self, trace: Trace, key: Key, values: Sequence[Any], arguments: Any, sizes: Any,
                 form: jit_entry.CallForm) -> None:  # fmt: skip
        """Puts a native entry for this trace in front of the Python path, where one can be had."""
        if not entry.is_used() or not self._simple:
            return
        front = self._front
        with front._lock:
            try:
                made = jit_entry.make(trace, key, values, arguments, sizes, form)
            except jit_entry.Unsupported as reason:
                trace.only_python = str(reason)
                return
            # Sizes that this one does not serve come here again: a few more entries, each after more calls.
            trace.next_native = trace.calls * 4 if trace.calls < 1000 else 0
            if front._native is None:
                front._native = entry.NativeEntry(self.__name__, front._slow)
                # A partial's way to change its function.
                front.__setstate__((front._native.callable, (), {}, front.__dict__))
            front._native.install(made)

    def _with_out(self) -> JitFunction | None:
        """The function that serves calls with `out=`, made at the first; None where `out` is the user's own."""
        with self._lock:
            if self._writer is None:
                function = with_out(self.__wrapped__, self._signature)
                if function is not None:
                    self._writer = JitFunction(function)
                    self._writer._front = self
            return self._writer

    def _undecorated(self, values: Sequence[Any]) -> Any:
        args, kwargs = self._call_form(values)
        return self.__wrapped__(*args, **kwargs)

    def _inline(self, context: Any, args: Any, kwargs: Any) -> Any:
        """Called while another function is traced: its nodes join that trace."""
        world: World = context.world
        return world.function(self._plain())(*args, **kwargs)

    def _plain(self) -> types.FunctionType:
        function = self.__wrapped__
        if not isinstance(function, types.FunctionType):
            raise TraceError(f"jit: {function!r} is not a Python function")
        return function

    # Binding ----------------------------------------------------------------------------------------------------------

    def _bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
        """One value per parameter, defaults filled in. Raises Python's own TypeError for a call that does not fit."""
        if self._simple and len(args) <= self._count:
            values = [*args, *self._defaults[len(args) :]]
            given = len(args)
            for name, value in kwargs.items():
                at = self._index.get(name, -1)
                if at < given:
                    return self._bind_slowly(args, kwargs)
                values[at] = value
            if not any(v is inspect.Parameter.empty for v in values):
                return values
        return self._bind_slowly(args, kwargs)

    def _bind_slowly(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            self.__wrapped__(*args, **kwargs)  # raises the TypeError in Python's words
            raise
        bound.apply_defaults()
        return list(bound.arguments.values())

    def _call_form(self, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The values as positional and keyword arguments."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, value in zip(self._parameters, values, strict=True):
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return args, kwargs

    # Traces -----------------------------------------------------------------------------------------------------------

    def _trace(self, key: Key, leaves: list[Any], values: Sequence[Any]) -> tuple[Trace, Any]:
        with self._lock:
            lock = self._locks.setdefault(key, threading.RLock())
        with lock:
            for trace in self._traces.get(key, ()):  # another thread may have traced meanwhile
                bound = trace.bind(leaves)
                if bound is not None and _alive(trace, leaves):
                    return trace, bound
            reason = self._miss(key, leaves) if events.wanted("retrace") and self._traces else ""
            trace = self._make(key, leaves)
            bound = trace.bind(leaves)
            if reason:
                events.emit("retrace", function=self.__name__, reason=reason)
            if bound is None:
                raise TraceError(
                    f"{self.__name__}: the function changed what it depends on (a global or closure variable) while it "
                    "was traced; return the new value instead."
                )
            with self._lock:
                self._traces[key] = [trace, *self._traces.get(key, ())]
            self._forget_with_objects(key, trace)
            tally.traces += 1
        return trace, bound

    def _make(self, key: Key, leaves: Sequence[Any], *, effects: bool = True) -> Trace:
        start = time.perf_counter()
        names = [s for p, k in zip(self._parameters, _without_aliases(key), strict=True) for s in spellings(k, p.name)]
        tracing = Tracing(self.__name__, ("tuple", *_without_aliases(key)), leaves, names)
        tracing.effects = effects
        tracing.context.world = tracing.world  # type: ignore[attr-defined]
        try:
            trace = tracing.run(self._run_clone)
        except Exception as error:
            # The user's exception leaves with the values of this call, not with what stood for them.
            error.args = tuple([a.hint if isinstance(a, Number) else a for a in error.args])
            raise
        if events.wanted("trace"):
            events.emit("trace", function=self.__name__, key=self._key_text(key), seconds=time.perf_counter() - start)
        return trace

    def _run_clone(self, world: World, arguments: Any) -> Any:
        args, kwargs = self._call_form(arguments)
        return world.function(self._plain())(*args, **kwargs)

    def _forget_with_objects(self, key: Key, trace: Trace) -> None:
        """A trace that depends on an object goes when the object does."""
        for reference in trace.held.values():
            if isinstance(reference, weakref.ref) and reference() is not None:
                weakref.finalize(reference(), _forget, weakref.ref(self), key)

    def _miss(self, key: Key, leaves: Sequence[Any]) -> str:
        """Why no trace so far serves a call of this key."""
        known = list(self._traces.items())
        if not known:
            return "the first call"
        for trace in self._traces.get(key, ()):
            return _failed(trace, leaves)
        nearest = min((k for k, _ in known), key=lambda k: _distance(k, key))
        if _without_aliases(nearest) == _without_aliases(key):
            return "which arguments are the same array has changed"
        pairs = zip(self._parameters, _without_aliases(nearest), _without_aliases(key), strict=True)
        return ", ".join(f"{p.name} was {key_text(was)}, now {key_text(now)}" for p, was, now in pairs if was != now)

    # Looking inside ---------------------------------------------------------------------------------------------------

    def signatures(self) -> list[Signature]:
        """The traces made so far: the key of each, and the values that it fixed with the lines that needed them."""
        return [self._describe(key, t) for key, traces in self._traces.items() for t in reversed(traces)]

    def kernels(self) -> list[KernelView]:
        """The kernels that calls have run so far: name, text, source (@njit), llvm, assembly, seconds, origin."""
        return kernels_used([t.executable for traces in self._traces.values() for t in reversed(traces)])

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """How the call would be served: signature, cache decision with its reason, graph, kernels. Its print is a
        report.

        Runs the Python of the function on tracers where the call is new; runs no program, and changes no cache or
        counter.
        """
        values = self._bind(args, kwargs)
        leaves: list[Any] = []
        key: Key = _with_aliases(tuple([describe(v, leaves) for v in values]), leaves)
        for trace in self._traces.get(key, ()):
            bound = trace.bind(leaves)
            if bound is not None and _alive(trace, leaves):
                return self._explained(key, trace, bound, "hit", "its guards hold for these arguments")
        reason = self._miss(key, leaves)
        trace = self._make(key, leaves, effects=False)
        return self._explained(key, trace, trace.bind(leaves), "trace", reason)

    def _explained(self, key: Key, trace: Trace, bound: Any, decision: str, reason: str) -> Explanation:
        text, narrowed = self._describe(key, trace)
        return Explanation(text, decision, reason, narrowed, trace.executable, None if bound is None else bound[0])

    def _describe(self, key: Key, trace: Trace) -> Signature:
        fixed = [f"{e} == {v!r}: {why}  # {line}" for e, v, why, line in trace.narrowed]
        return Signature(self._key_text(key), tuple(fixed))

    def _key_text(self, key: Key) -> str:
        parts = [f"{p.name}: {key_text(k)}" for p, k in zip(self._parameters, _without_aliases(key), strict=True)]
        return f"{self.__name__}({', '.join(parts)})"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else BoundJitFunction(self, instance)

    def __repr__(self) -> str:
        return f"<jt.jit {self.__qualname__}>"

    def __reduce__(self) -> Any:
        return _unpickle, (self.__module__, self.__qualname__)

    def __copy__(self) -> JitFunction:
        return self

    def __deepcopy__(self, memo: Any) -> JitFunction:
        return self


class BoundJitFunction(functools.partial):
    """A method under jt.jit, with its instance."""

    def __new__(cls, function: JitFunction, instance: Any) -> BoundJitFunction:
        return super().__new__(cls, function, instance)

    def __init__(self, function: JitFunction, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        functools.update_wrapper(self, function.__wrapped__)
        self.__wrapped__ = types.MethodType(function.__wrapped__, instance)

    def signatures(self) -> list[Signature]:
        return self.__func__.signatures()

    def kernels(self) -> list[KernelView]:
        return self.__func__.kernels()

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        return self.__func__.explain(self.__self__, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BoundJitFunction) and self.__func__ is other.__func__ and self.__self__ is other.__self__
        )

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


def _with_aliases(key: Key, leaves: list[Any]) -> Key:
    """The key with the pattern of array objects passed twice, where there is one."""
    identities = [id(v) for v in leaves if type(v) is np.ndarray]
    if len(set(identities)) == len(identities):
        return key
    first = {identity: i for i, identity in reversed(list(enumerate(identities)))}
    return (*key, ("aliases", *[first[i] for i in identities]))


def _failed(trace: Trace, leaves: Sequence[Any]) -> str:
    """The first thing that a trace relied on and this call does not have."""
    if not _alive(trace, leaves):
        return "an object argument is another one"
    step = trace.binder.first_miss(leaves)
    if isinstance(step, Guard):
        line = f"  # {step.location}" if step.location.file else ""
        if step.narrowed is not None:
            source, value = step.narrowed
            return f"{spell(source, trace.spelled)} was {value!r}, and is not now: {step.why}{line}"
        return f"{spell(step.source, trace.spelled)} does not hold now: {step.why}{line}"
    if isinstance(step, HiddenStep):
        return f"variable {step.name} was {key_text(step.key)}, and is not now"
    return "a Python number cannot be computed as before"


def _distance(known: Key, key: Key) -> int:
    return sum(a != b for a, b in zip(known, key, strict=False)) + abs(len(known) - len(key))


def _give_back(trace: Trace, arguments: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """The arguments with the caller's arrays of foreign byte order in place of their copies, writes carried over."""
    result = list(arguments)
    for position, name in trace.foreign:
        original = leaves[int(name[1:])]
        if position in trace.written:
            original[...] = arguments[position]
        result[position] = original
    return result


def _without_aliases(key: Key) -> Key:
    return key[:-1] if key and key[-1][0] == "aliases" else key


def _alive(trace: Trace, leaves: Sequence[Any]) -> bool:
    return all(reference() is leaves[i] for i, reference in trace.held.items())


def _forget(function: Any, key: Key) -> None:
    jitted = function()
    if jitted is not None:
        jitted._traces.pop(key, None)
        native = jitted._front._native
        if native is not None:
            native.clear()


def _unpickle(module: str, qualname: str) -> Any:
    import importlib

    target: Any = importlib.import_module(module)
    for name in qualname.split("."):
        target = getattr(target, name)
    return target


@overload
def jit(function: Callable[..., Any]) -> JitFunction: ...
@overload
def jit(function: None = None, *, donate: str | Sequence[str] = ()) -> Callable[[Callable[..., Any]], JitFunction]: ...
def jit(function: Callable[..., Any] | None = None, *, donate: str | Sequence[str] = ()) -> Any:
    """The function compiled: same arguments, same results as NumPy gives, fused native loops. `@jt.jit` or `@jt.jit()`.

    `f(a, b, out=z)` writes the result into the array z, as a ufunc does; a tuple of results takes a tuple of arrays. A
    function with a parameter `out` of its own gets it as any other.

    donate: names of parameters whose arrays the caller gives away. A result of the same shape and dtype is written
    there, and is that very array.
    function: a Python function of NumPy arrays and Python values. Raises TypeError for anything else, and at the call
    TraceError, ShapeError or DTypeError, with the line, for what cannot be traced.
    """
    names = (donate,) if isinstance(donate, str) else tuple(donate)
    return functools.partial(_compiled, names) if function is None else _compiled(names, function)


def _compiled(names: tuple[str, ...], function: Any) -> Any:
    """The function decorated; `names` are its donated parameters."""
    if isinstance(function, JitFunction):
        return _compiled(names, function.__wrapped__) if names else function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_compiled(names, function.__func__))
    if isinstance(function, types.MethodType):
        return BoundJitFunction(_compiled(names, function.__func__), function.__self__)
    if type(function) is functools.partial:
        # What is bound is passed at each call like any other argument.
        return functools.partial(_compiled(names, function.func), *function.args, **function.keywords)
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"jit: {function!r} is not a Python function; decorate a function made by def or lambda")
    return JitFunction(donating(function, inspect.signature(function), names) if names else function)
