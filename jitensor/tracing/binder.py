"""The code that a later call runs before the program: it checks the guards and collects sizes, numbers and arrays.

Owns `Binder`, which writes that code from the steps of a trace, and can tell which step a call failed. Must not know
tracers. For one argument x and a number n the code reads:

    def bind(leaves):
        try:
            a0, a1, = leaves
            d0, d1 = a0.shape
            p2 = a1
            if not (1 < d0 - 1): return None
            return (a0, to_float64(p2), ), {'d0': d0, 'd1': d1}, ()
        except CALL_ERRORS:
            return None
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jitensor.errors import JitensorError
from jitensor.tracing.context import Feed, Guard, NumberStep, TraceContext
from jitensor.tracing.signature import Key, describe

# A number that cannot be computed, or a variable that is gone: the call is traced anew and raises what Python raises.
CALL_ERRORS = (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, JitensorError)


class HiddenStep:
    """Fetches a variable that the trace read and checks that it looks as it did. `names` hold its leaves."""

    __slots__ = ("key", "lines", "name", "names", "source")

    def __init__(self, name: str, source: str, key: Key, names: list[str]) -> None:
        self.name = name
        self.source = source
        self.key = key
        self.names = names
        self.lines: list[str] = []  # reads the sizes of its arrays


class Binder:
    """`bind(leaves)` gives (program arguments, sizes, returned numbers), or None where the call does not fit the
    trace."""

    def __init__(
        self,
        context: TraceContext,
        names: Sequence[str],
        reads: Sequence[str],
        symbols: Collection[str],
        extras: Sequence[str],
    ) -> None:
        self.name = context.builder.name
        self.steps = context.steps
        self.scope: dict[str, Any] = dict(context.constants, CALL_ERRORS=CALL_ERRORS, describe=describe)
        self.head = [f"{_tuple(names)}= leaves", *reads] if names else []
        feeds = [self._feed(feed) for feed in context.feeds]
        sizes = ", ".join(f"{s!r}: {s}" for s in sorted(symbols))
        result = f"return ({_tuple(feeds)}), {{{sizes}}}, ({_tuple(extras)})"
        self.source = self._function("bind", [*self._checks(lambda i: "None"), result], "None")
        self.bind = self._compile("bind", self.source)

    def first_miss(self, leaves: Sequence[Any]) -> Any:
        """The step that these leaves fail, or None where they fit."""
        last = len(self.steps)
        source = self._function("miss", ["at = 0", *self._checks(str, marks=True), f"return {last}"], "at")
        at = self._compile("miss", source)(leaves)
        return None if at == last else self.steps[at]

    def _checks(self, failed: Callable[[int], str], marks: bool = False) -> list[str]:
        lines = []
        for i, step in enumerate(self.steps):
            if marks:
                lines.append(f"at = {i}")
            lines += self._step(step, f"return {failed(i)}")
        return lines

    def _step(self, step: Any, fail: str) -> list[str]:
        if isinstance(step, NumberStep):
            check = [f"if type({step.name}) is not {step.kind.__name__}: {fail}"] if step.kind else []
            return [f"{step.name} = {step.source}", *check]
        if isinstance(step, Guard):
            return [f"if not ({step.source}): {fail}"]
        if step.key in (("int",), ("float",), ("complex",)):
            name = step.names[0]
            return [f"{name} = {step.source}", f"if type({name}) is not {step.key[0]}: {fail}", *step.lines]
        expected = f"key_of_{'_'.join(step.names) or len(self.scope)}"
        self.scope[expected] = step.key
        taken = [f"{_tuple(step.names)}= found"] if step.names else []
        return ["found = []", f"if describe({step.source}, found) != {expected}: {fail}", *taken, *step.lines]

    def _feed(self, feed: Feed) -> str:
        if feed.kind == "foreign":
            self.scope["native_of"] = _native
            return f"native_of({feed.where})"
        if feed.kind != "scalar" or feed.dtype is None:
            return str(feed.where)
        name, convert = feed.dtype.name, feed.dtype.numpy.type
        self.scope[f"to_{name}"] = _narrow_float(convert) if name in ("float32", "float16") else convert
        return f"to_{name}({feed.where})"

    def _function(self, name: str, lines: Sequence[str], on_error: str) -> str:
        body = "".join(f"        {line}\n" for line in (*self.head, *lines))
        return f"def {name}(leaves):\n    try:\n{body}    except CALL_ERRORS:\n        return {on_error}\n"

    def _compile(self, name: str, source: str) -> Callable[[Sequence[Any]], Any]:
        exec(compile(source, f"<jitensor {name} {self.name}>", "exec"), self.scope)
        made: Callable[[Sequence[Any]], Any] = self.scope[name]
        return made


def spell(source: str, spelled: Mapping[str, str]) -> str:
    """Generated source in the user's words: `d0 - 1` as `x.shape[0] - 1`."""
    return re.sub(r"[A-Za-z_]\w*", lambda match: spelled.get(match.group(), match.group()), source)


def _tuple(items: Sequence[str]) -> str:
    return "".join(f"{i}, " for i in items)


def _native(array: Any) -> Any:
    """The array in this machine's byte order; a copy."""
    return array.astype(array.dtype.newbyteorder("="))


def _narrow_float(convert: Any) -> Callable[[Any], Any]:
    """A conversion whose overflow gives infinity without a warning."""
    top = float(np.finfo(convert).max)

    def narrow(x: Any) -> Any:
        if -top <= x <= top:
            return convert(x)
        with np.errstate(over="ignore"):
            return convert(x)

    return narrow
