"""How calls of a concrete function are spelt: by its parameters' canonical names, or tensors alone in order.

Owns `Layout`. Must not know traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jitensor.api.convert import CastContext
from jitensor.runtime.cache import CallType
from jitensor.runtime.signature import Keyed, Literal, Reference, Sequential, TensorSpec, TraceType
from jitensor.tensor import Tensor
from jitensor.variable import VariableSpec


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
