"""Graphs: straight lists of single-assignment nodes, and the builder that makes them.

Owns `Primitive` (the record that an op-table entry makes), `Value`, `Node`, `Graph`, `Capture` and `GraphBuilder` with
its hash-consing. Must not know any op by name. Nothing is edited in place: passes rebuild.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jitensor.errors import Location
from jitensor.ir.dims import Dim, symbols_of
from jitensor.ir.types import BY_NUMPY, DType, TensorType

Params = tuple[tuple[str, Any], ...]  # sorted by name; values hashable
TypeRule = Callable[..., "TensorType | tuple[TensorType, ...]"]


@dataclasses.dataclass(eq=False, repr=False)
class Primitive:
    """One entry of the op table: what an op means, said once. Compared by identity.

    type_rule(*input_types, **params) gives the output type(s) and raises ShapeError or DTypeError.
    evaluate(*arrays, **params) is the meaning in NumPy: eager rule, constant folding, test oracle.
    `lower` holds what the family's emitter needs (an elementwise op's scalar program builder, a reduction's Reduction,
    a movement op's index map); ops of family "library" have none and run `evaluate` at run time.
    """

    name: str
    family: str  # elementwise reduction movement creation join update contraction library effect call constant
    type_rule: TypeRule
    evaluate: Callable[..., Any]
    lower: Any = None
    cost: int = 1  # scalar instructions a result costs, about; fusion weighs recomputation with it
    effects: bool = False
    data_shape: bool = False  # the result's shape depends on data
    literal_constants: tuple[int, ...] = ()  # operands whose constant value rules may read: it stays in the key
    vjp: Callable[..., Any] | None = None
    samples: Any = None
    tolerance: float = 0.0  # ULP that tests allow beyond NumPy, with the reason beside the entry
    doc: str = ""

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


class Value:
    """One result; printed %id. Compared by identity."""

    __slots__ = ("id", "type")

    def __init__(self, id: int, type: TensorType) -> None:
        self.id = id
        self.type = type

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        return self.type.shape

    def __repr__(self) -> str:
        return f"%{self.id}: {self.type}"


class Node:
    """`outputs = primitive(inputs, params)`; `location` is the user's line and takes no part in comparison."""

    __slots__ = ("primitive", "inputs", "params", "outputs", "location")

    def __init__(
        self,
        primitive: Primitive,
        inputs: tuple[Value, ...],
        params: Params,
        outputs: tuple[Value, ...],
        location: Location | None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.outputs = outputs
        self.location = location

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def param(self, name: str) -> Any:
        for key, value in self.params:
            if key == name:
                return value
        raise KeyError(f"{self.primitive.name} has no parameter {name}")


class Capture:
    """An array or state object read from outside, held by identity; `value` stands for it in the graph."""

    __slots__ = ("value", "source")

    def __init__(self, value: Value, source: Any) -> None:
        self.value = value
        self.source = source


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """`scalars`: ids of inputs that are host numbers, passed by value; the other inputs are arrays.
    `updates`: (input, new value) pairs: the caller's array holds the new value after the call."""

    name: str
    inputs: tuple[Value, ...]
    captures: tuple[Capture, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    scalars: frozenset[int] = frozenset()
    updates: tuple[tuple[Value, Value], ...] = ()

    def symbols(self) -> frozenset[str]:
        """Names of the size symbols in the types of inputs and captures."""
        values = (*self.inputs, *(c.value for c in self.captures))
        return frozenset().union(*(symbols_of(n) for v in values for n in v.shape))


class GraphBuilder:
    """Collects nodes. The same pure primitive on the same inputs and params gives the earlier Value, so common
    subexpressions never exist. Nodes with effects are never merged, dropped or reordered."""

    def __init__(self, name: str = "f") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.scalars: set[int] = set()
        self.captures: list[Capture] = []
        self.nodes: list[Node] = []
        self.producer: dict[int, Node] = {}  # value id -> its node
        self._captured: dict[int, Value] = {}
        self._known: dict[tuple[Any, ...], tuple[Value, ...]] = {}
        self._next = 0

    def value(self, type: TensorType) -> Value:
        self._next += 1
        return Value(self._next - 1, type)

    def input(self, type: TensorType, *, scalar: bool = False) -> Value:
        value = self.value(type)
        self.inputs.append(value)
        if scalar:
            self.scalars.add(value.id)
        return value

    def capture(self, source: Any, type: TensorType) -> Value:
        """The value that stands for `source` (kept alive by the graph), one per object."""
        known = self._captured.get(id(source))
        if known is None:
            known = self._captured[id(source)] = self.value(type)
            self.captures.append(Capture(known, source))
        return known

    def add(
        self,
        primitive: Primitive,
        inputs: Sequence[Value],
        params: dict[str, Any] | None = None,
        location: Location | None = None,
    ) -> tuple[Value, ...]:
        items: Params = tuple(sorted(params.items())) if params else ()
        key = (primitive, tuple([v.id for v in inputs]), items)
        known = self._known.get(key)
        if known is not None and not primitive.effects:
            return known
        types = primitive.type_rule(*[v.type for v in inputs], **(params or {}))
        if isinstance(types, TensorType):
            types = (types,)
        return self.append(primitive, tuple(inputs), items, types, location, key)

    def append(
        self,
        primitive: Primitive,
        inputs: tuple[Value, ...],
        params: Params,
        types: Iterable[TensorType],
        location: Location | None = None,
        key: tuple[Any, ...] | None = None,
    ) -> tuple[Value, ...]:
        """Adds a node whose output types are already known (a rebuild of a checked node)."""
        if key is None:
            key = (primitive, tuple([v.id for v in inputs]), params)
            known = self._known.get(key)
            if known is not None and not primitive.effects:
                return known
        outputs = tuple([self.value(t) for t in types])
        node = Node(primitive, inputs, params, outputs, location)
        self.nodes.append(node)
        for value in outputs:
            self.producer[value.id] = node
        self._known[key] = outputs
        return outputs

    def constant(self, value: Any, dtype: DType, location: Location | None = None) -> Value:
        """A 0-d constant. Keyed by dtype and bytes: 0.0 and -0.0 differ, nan equals nan."""
        literal = Literal(np.asarray(value, dtype.numpy))
        return self.append(CONSTANT, (), (("value", literal),), (TensorType(dtype, ()),), location)[0]

    def finish(self, outputs: Sequence[Value], updates: Sequence[tuple[Value, Value]] = ()) -> Graph:
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.captures),
            tuple(self.nodes),
            tuple(outputs),
            frozenset(self.scalars),
            tuple(updates),
        )


class Literal:
    """A hashable constant array, compared by dtype, shape and bytes."""

    __slots__ = ("array", "_key")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self._key = (array.dtype.char, array.shape, array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.array.item()) if self.array.ndim == 0 else np.array2string(self.array, separator=", ")


CONSTANT = Primitive(
    "constant",
    "constant",
    type_rule=lambda value: TensorType(BY_NUMPY[value.array.dtype], value.array.shape),
    evaluate=lambda value: value.array,
)
