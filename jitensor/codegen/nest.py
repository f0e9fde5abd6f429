"""Loop nests: the imperative form between a kernel and its source, printed by every CPU writer.

Statements are data; names are strings, assigned once except for `Variable`s. Index arithmetic is a sum of terms
`loop * stride`, where a stride is 1 or the name of an integer argument. Must not know graphs or dtypes beyond the
scalar types of `scalar.program`.
"""

from __future__ import annotations

from typing import Any

from jitensor.records import Record
from jitensor.scalar.program import ScalarProgram

Name = str
Term = tuple[Name, "Name | int"]  # loop variable, stride
Bound = "Name | int"


class Place(Record):
    """One element: of an argument buffer (`base` its number) or of a stack array (`base` its name)."""

    base: int | Name
    offset: Name | None
    terms: tuple[Term, ...]
    scale: int = 1  # elements per index step (2 for complex numbers)
    part: int = 0  # which of them


class Let(Record):
    """Straight-line code: `program` with its parameters bound to names; names for its results."""

    program: ScalarProgram
    params: dict[int, Name]
    results: list[tuple[Name, int]]  # name, id


class Load(Record):
    name: Name
    type: str
    place: Place


class Store(Record):
    value: Name
    type: str
    place: Place


class LoadArgument(Record):
    """`name` is host number `slot`."""

    name: Name
    type: str
    slot: int
    part: int = 0


class Variable(Record):
    """A mutable scalar, declared in the function's outermost block and set to `start` (a literal or a name) here."""

    name: Name
    type: str
    start: Any


class Get(Record):
    name: Name
    variable: Name
    type: str


class Set(Record):
    variable: Name
    value: Name
    type: str


class Accumulate(Record):
    """variable = variable op value with the relaxation that lets the loop become vectors: `sum` reassociates; `max` and
    `min` ignore nan and the sign of zero (a separate flag sees nan); `or` is exact."""

    op: str
    variable: Name
    value: Name
    type: str


class StackArray(Record):
    name: Name
    type: str
    length: int


class IntOp(Record):
    """name = a op b on 64-bit integers; op: add sub mul min."""

    name: Name
    op: str
    a: Any
    b: Any


class For(Record):
    """`vector`: the iterations are independent (or only accumulate) and should become vector code."""

    variable: Name
    start: Any
    stop: Any
    step: int
    body: list[Any]
    vector: bool = False


class If(Record):
    condition: Name
    body: list[Any]


class Nest(Record):
    """A whole kernel: body, and the integer arguments' names by position."""

    ints: list[Name]
    scalars: int
    buffers: list[tuple[str, bool]]  # memory type of each, written
    body: list[Any]
