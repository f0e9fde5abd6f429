"""Which trace serves a call: the dispatch table of one function.

Owns `CallType` (the canonical type of a call) and `DispatchTable`. Must not know what a trace is: it keeps any value.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from jitensor.runtime.signature import TraceType

T = TypeVar("T")


class CallType:
    """The types of a call's arguments, with their canonical names: `x`, then `args_0 ...`, keyword-only ones, `**`
    sorted."""

    __slots__ = ("names", "types", "_hash")

    def __init__(self, names: tuple[str, ...], types: tuple[TraceType, ...]) -> None:
        self.names = names
        self.types = types
        self._hash = hash((names, types))

    def is_subtype_of(self, other: CallType) -> bool:
        """Does a trace made for `other` serve this call?"""
        return self.names == other.names and all(
            mine.is_subtype_of(theirs) for mine, theirs in zip(self.types, other.types, strict=True)
        )

    def common(self, other: CallType) -> CallType | None:
        """The least general call type that covers both, or None."""
        if self.names != other.names:
            return None
        merged = []
        for mine, theirs in zip(self.types, other.types, strict=True):
            both = mine if mine == theirs else mine.most_specific_common_supertype([theirs])
            if both is None:
                return None
            merged.append(both)
        return CallType(self.names, tuple(merged))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, CallType)
            and self._hash == other._hash
            and self.names == other.names
            and self.types == other.types
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return "(" + ", ".join(f"{n}: {t!r}" for n, t in zip(self.names, self.types, strict=True)) + ")"


MEMO_LENGTH = 1024


class DispatchTable(Generic[T]):
    """Traces by call type. An equal type wins; else the most specific type that covers the request, and among those
    that are not comparable the earliest. Answers are remembered, the last 1024 of them."""

    def __init__(self) -> None:
        self._entries: dict[CallType, T] = {}
        self._memo: OrderedDict[CallType, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[CallType]:
        return iter(tuple(self._entries))

    def values(self) -> list[T]:
        return list(self._entries.values())

    def exact(self, request: CallType) -> T | None:
        """The trace of an equal type, or None. Needs no lock."""
        return self._entries.get(request)

    def find(self, request: CallType) -> T | None:
        """The trace that serves the request, or None. Callers hold the function's lock."""
        exact = self._entries.get(request)
        if exact is not None:
            return exact
        remembered = self._memo.get(request)
        if remembered is not None:
            self._memo.move_to_end(request)
            return remembered
        best: CallType | None = None
        for candidate in tuple(self._entries):
            if request.is_subtype_of(candidate) and (best is None or candidate.is_subtype_of(best)):
                best = candidate
        if best is None:
            return None
        found = self._memo[request] = self._entries[best]
        if len(self._memo) > MEMO_LENGTH:
            self._memo.popitem(last=False)
        return found

    def add(self, key: CallType, value: T) -> None:
        self._entries[key] = value
        self._memo.clear()  # a more specific trace may now serve what a general one served

    def generalised(self, request: CallType) -> CallType:
        """The request relaxed over every stored type that has a common type with it, in the order of insertion."""
        relaxed = request
        for known in self:
            both = relaxed.common(known)
            if both is not None:
                relaxed = both
        return relaxed
