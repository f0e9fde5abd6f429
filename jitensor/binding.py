"""From a Python call to a canonical call type: parameters, defaults, and `input_signature`.

Owns `Parameters` and `Signature`. Must not know traces. `f(1, 2)`, `f(1, b=2)` and `f(b=2, a=1)` are one call; extras
of `*args` become `args_0, args_1 ...`, and `**kwargs` keyword-only parameters in the order of their names.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jitensor import nest
from jitensor.api.convert import CastContext
from jitensor.calling import Layout
from jitensor.runtime.cache import CallType
from jitensor.runtime.signature import TensorSpec, TraceType, type_of

CAST = CastContext()


class Parameters:
    """The Python signature of a function, and how calls are spelt canonically."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = python_signature(function)
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
        count = len(self.names) + sum(1 for n in names if self.is_extra(n))
        args = list(values[:count])
        kwargs = dict(zip(names[count:], values[count:], strict=True))
        assert keyword <= kwargs.keys()
        return args, kwargs

    def is_extra(self, name: str) -> bool:
        return bool(self.varargs) and name.startswith(f"{self.varargs}_") and name not in self.keyword_names

    def layout(self, names: Sequence[str]) -> Layout:
        keywords = frozenset(n for n in names if n not in self.names and not self.is_extra(n))
        return Layout(tuple(n for n in names if n not in keywords), keywords)


def python_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of the callable itself; decorators are not looked through."""
    traced = getattr(type(function), "function_spec", None)  # a jt.function inside a jt.function
    if traced is not None:
        return function.function_spec  # type: ignore[attr-defined]
    if isinstance(function, functools.partial) and not hasattr(function, "python_function"):
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
        extras = sum(1 for n in names if self.parameters.is_extra(n))
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
