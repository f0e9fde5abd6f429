"""Loop nests: the imperative form between a kernel and its source, printed by every CPU writer.

Statements are data; names are strings, assigned once except for `Variable`s. Index arithmetic is a sum of terms
`loop * stride`, where a stride is 1 or the name of an integer argument. Must not know graphs or dtypes beyond the scalar
types of `scalar.program`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jitensor.scalar.program import ScalarProgram

Name = str
Term = tuple[Name, "Name | int"]  # loop variable, stride
Bound = "Name | int"


@dataclasses.dataclass(slots=True)
class Place:
    """One element: of an argument buffer (`base` its number) or of a stack array (`base` its name)."""

    base: int | Name
    offset: Name | None
    terms: tuple[Term, ...]
    scale: int = 1  # elements per index step (2 for complex numbers)
    part: int = 0  # which of them


@dataclasses.dataclass(slots=True)
class Let:
    """Straight-line code: `program` with its parameters bound to names; names for its results."""

    program: ScalarProgram
    params: dict[int, Name]
    results: list[tuple[Name, int]]  # name, id


@dataclasses.dataclass(slots=True)
class Load:
    name: Name
    type: str
    place: Place


@dataclasses.dataclass(slots=True)
class Store:
    value: Name
    type: str
    place: Place


@dataclasses.dataclass(slots=True)
class LoadArgument:
    """`name` is host number `slot`."""

    name: Name
    type: str
    slot: int
    part: int = 0


@dataclasses.dataclass(slots=True)
class Variable:
    """A mutable scalar, declared in the function's outermost block and set to `start` (a literal or a name) here."""

    name: Name
    type: str
    start: Any


@dataclasses.dataclass(slots=True)
class Get:
    name: Name
    variable: Name
    type: str


@dataclasses.dataclass(slots=True)
class Set:
    variable: Name
    value: Name
    type: str


@dataclasses.dataclass(slots=True)
class Accumulate:
    """variable = variable op value with the relaxation that lets the loop become vectors: `sum` reassociates; `max` and
    `min` ignore nan and the sign of zero (a separate flag sees nan); `or` is exact."""

    op: str
    variable: Name
    value: Name
    type: str


@dataclasses.dataclass(slots=True)
class StackArray:
    name: Name
    type: str
    length: int


@dataclasses.dataclass(slots=True)
class IntOp:
    """name = a op b on 64-bit integers; op: add sub mul min."""

    name: Name
    op: str
    a: Any
    b: Any


@dataclasses.dataclass(slots=True)
class For:
    """`vector`: the iterations are independent (or only accumulate) and should become vector code."""

    variable: Name
    start: Any
    stop: Any
    step: int
    body: list[Any]
    vector: bool = False


@dataclasses.dataclass(slots=True)
class If:
    condition: Name
    body: list[Any]


@dataclasses.dataclass(slots=True)
class Nest:
    """A whole kernel: body, and the integer arguments' names by position."""

    ints: list[Name]
    scalars: int
    buffers: list[tuple[str, bool]]  # memory type of each, written
    body: list[Any]
