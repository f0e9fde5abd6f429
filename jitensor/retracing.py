"""Telling about retraces: why a call was traced again, and the warning when it happens too often.

Owns `reason` and `RetraceDetector`. Must not know how a trace is made.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import logging
import types
import weakref
from collections.abc import Callable
from typing import Any

from jitensor.runtime.cache import CallType
from jitensor.runtime.signature import Keyed, Literal, Reference, Sequential, TensorSpec, TraceType
from jitensor.variable import VariableSpec

logger = logging.getLogger("jitensor")

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
        self.native = ctypes.c_int64(0)  # untraced calls that native entries have served since the last other call

    def called(self, name: str, traced: bool) -> None:
        served, self.native.value = self.native.value, 0
        self.calls += served
        if served and self.groups:
            self.groups[-1] += served
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


def detector_of(function: Callable[..., Any]) -> RetraceDetector:
    """The detector of the code that a callable runs."""
    code = getattr(plain_function(function), "__code__", None)
    if code is None:
        return RetraceDetector()
    # Code objects compare by value, the file's name apart: functions wrapped again and again in a loop share a
    # detector.
    of_code = _detectors.setdefault(code, {})
    return of_code.setdefault(code.co_filename, RetraceDetector())


def plain_function(function: Any) -> Any:
    """The Python function at the bottom of partials and methods."""
    while True:
        if isinstance(function, functools.partial) and not hasattr(function, "python_function"):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__bound_from__"):
            function = function.__bound_from__
        else:
            return function


# Reasons
# -----------------------------------------------------------------------------------------------------------------


def reason(request: CallType, known: list[CallType]) -> str:
    """Why none of the known traces serves the request: what differs from the nearest, and what would share one."""
    if not known:
        return "first trace"
    nearest = min(known, key=lambda other: _distance(request, other))
    if nearest.names != request.names:
        return f"the arguments were {', '.join(nearest.names) or 'none'}, now {', '.join(request.names) or 'none'}"
    changed = [
        (name, before, now)
        for name, before, now in zip(request.names, nearest.types, request.types, strict=True)
        if not now.is_subtype_of(before)
    ]
    parts = [f"{name} was {type_text(before)}, now {type_text(now)}" for name, before, now in changed]
    advice = [line for name, before, now in changed for line in _advice(name, before, now)]
    return "\n".join(["; ".join(parts), *dict.fromkeys(advice)])


def _distance(request: CallType, other: CallType) -> tuple[bool, int, int]:
    """How far apart: other names; how many arguments differ beyond shape; how many differ at all."""
    if request.names != other.names:
        return True, 0, 0
    pairs = list(zip(request.types, other.types, strict=True))
    return (
        False,
        sum(1 for a, b in pairs if a.most_specific_common_supertype([b]) is None),
        sum(1 for a, b in pairs if not a.is_subtype_of(b)),
    )


def _advice(name: str, before: TraceType, now: TraceType) -> list[str]:
    common = now.most_specific_common_supertype([before])
    if common is not None and common.flatten():
        specs = ", ".join(f"TensorSpec({s.shape.dims}, {s.dtype.name})" for s in common.flatten())
        return [
            "To share one trace over shapes: @jt.function(reduce_retracing=True)",
            f"or input_signature=[{specs}, ...].",
        ]
    if isinstance(before, Literal) and isinstance(now, Literal) and isinstance(now.value, (int, float)):
        return [f"To share one trace over numbers, pass {name} as a tensor: jt.constant({now.value!r})."]
    if isinstance(before, Reference) and isinstance(now, Reference):
        return [f"To share one trace, pass the same object as {name}, or give its class __eq__ and __hash__."]
    return []


def type_text(kind: TraceType) -> str:
    """A type as short text: `f32[64, 10]`, `3`, `[f32[2], 'a']`."""
    if isinstance(kind, VariableSpec):
        frozen = "" if kind.trainable else ", not trainable"
        return f"Variable {kind.alias_id}: {type_text(TensorSpec(kind.shape, kind.dtype))}{frozen}"
    if isinstance(kind, TensorSpec):
        sizes = "..." if kind.shape.rank is None else ", ".join("?" if n is None else str(n) for n in kind.shape)
        return f"{kind.dtype.short}[{sizes}]"
    if isinstance(kind, Literal):
        return repr(kind.value)
    if isinstance(kind, Sequential):
        inner = ", ".join(map(type_text, kind.elements))
        return f"[{inner}]" if kind.kind is list else f"({inner})"
    if isinstance(kind, Keyed):
        return "{" + ", ".join(f"{k!r}: {type_text(t)}" for k, t in kind.components.items()) + "}"
    return repr(kind)


def signature_text(call_type: CallType) -> str:
    """`(x: f32[64, 10], n: 3)`"""
    parts = [f"{n}: {type_text(t)}" for n, t in zip(call_type.names, call_type.types, strict=True)]
    return f"({', '.join(parts)})"


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th ..."""
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
