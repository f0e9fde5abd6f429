"""The lattice of signatures: what of an argument enters the key of a trace.

Owns `TraceType` (the protocol, open to users), the types of tensors, literals, objects and containers, and `type_of`
(value -> type). Two questions suffice: is this type at least as general as that one, and what is the least general
type that covers both. Must not know tracing or tensors: a tensor says its own type through `__tf_tracing_type__`.

    type_of({"x": [array f32[3]], "n": 2})  ->  Dict({"x": List(TensorSpec(f32[3])), "n": Literal(2)})
"""

from __future__ import annotations

import abc
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from jitensor.ir.types import BY_NUMPY, DType, as_dtype, float32, string
from jitensor.runtime.tensor_shape import TensorShape


class TraceType(abc.ABC):
    """What a trace relies on of one argument. Mirrors tf.types.experimental.TraceType: a class whose instances are
    arguments gives one by `__tf_tracing_type__(self, context)`."""

    __slots__ = ()

    @abc.abstractmethod
    def is_subtype_of(self, other: TraceType) -> bool:
        """Does a trace made for `other` serve this type?"""

    @abc.abstractmethod
    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> TraceType | None:
        """The least general type that covers this one and the others, or None."""

    @abc.abstractmethod
    def placeholder_value(self, placeholder_context: Any) -> Any:
        """What the function's body sees while it is traced."""

    @abc.abstractmethod
    def __eq__(self, other: object) -> bool: ...

    @abc.abstractmethod
    def __hash__(self) -> int: ...

    def flatten(self) -> list[TensorSpec]:
        """Specs of the tensors inside."""
        return []

    def to_tensors(self, value: Any) -> list[Any]:
        """The tensors inside `value`, in the order of `flatten`."""
        return []

    def to_references(self, value: Any) -> list[Any]:
        """What the trace binds by reference inside `value`: Variables."""
        return []

    def from_tensors(self, tensors: Iterable[Any]) -> Any:
        """A value of this type made of tensors taken from the iterator."""
        return self.placeholder_value(None)

    def cast(self, value: Any, cast_context: Any) -> Any:
        """`value` as this type, or TypeError."""
        if type_of(value).is_subtype_of(self):
            return value
        raise TypeError(f"Can not cast {value!r} to type {self!r}")


class TensorSpec(TraceType):
    """dtype and static shape of a tensor; sizes or the rank may be unknown. Mirrors tf.TensorSpec."""

    __slots__ = ("_shape", "_dtype", "_name", "_hash", "__weakref__")

    def __init__(self, shape: Any, dtype: Any = float32, name: str | None = None) -> None:
        self._shape = shape if isinstance(shape, TensorShape) else TensorShape(shape)
        self._dtype = as_dtype(dtype)
        self._name = name
        self._hash = hash((self._shape, self._dtype))

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        return cls(tensor.shape, tensor.dtype, name)

    @classmethod
    def from_spec(cls, spec: TensorSpec, name: str | None = None) -> TensorSpec:
        return cls(spec.shape, spec.dtype, name or spec.name)

    @property
    def shape(self) -> TensorShape:
        return self._shape

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def name(self) -> str | None:
        return self._name

    def __tf_tracing_type__(self, context: Any) -> TensorSpec:
        return self

    def is_compatible_with(self, value: Any) -> bool:
        """Can a tensor or spec `value` be passed where this spec stands?"""
        if not hasattr(value, "dtype") or not hasattr(value, "shape"):
            value = np.asarray(value)
        return as_dtype(value.dtype) is self._dtype and self._shape.is_compatible_with(value.shape)

    def is_subtype_of(self, other: TraceType) -> bool:
        return (
            isinstance(other, TensorSpec)
            and self._dtype is other._dtype
            and (other._name is None or self._name == other._name)
            and self._shape.is_subtype_of(other._shape)
        )

    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> TensorSpec | None:
        if any(not isinstance(o, TensorSpec) or o._dtype is not self._dtype for o in others):
            return None
        specs = cast("Sequence[TensorSpec]", others)
        shape = self._shape.most_specific_common_supertype([o._shape for o in specs])
        return TensorSpec(shape, self._dtype, self._name if all(o._name == self._name for o in specs) else None)

    def placeholder_value(self, placeholder_context: Any) -> Any:
        return placeholder_context.placeholder(self)

    def flatten(self) -> list[TensorSpec]:
        return [self]

    def to_tensors(self, value: Any) -> list[Any]:
        return [value]

    def from_tensors(self, tensors: Iterable[Any]) -> Any:
        return next(iter(tensors))

    def cast(self, value: Any, cast_context: Any) -> Any:
        """`value` as a tensor of this spec; `cast_context.tensor(value, dtype)` converts what is no tensor."""
        if isinstance(value, TensorSpec):
            if not TensorSpec(value._shape, value._dtype).is_subtype_of(TensorSpec(self._shape, self._dtype)):
                raise TypeError(f"{value!r} is not covered by {self!r}")
            return value
        tensor = cast_context.tensor(value, self._dtype)
        if not TensorSpec(tensor.shape, tensor.dtype).is_subtype_of(TensorSpec(self._shape, self._dtype)):
            tensor = cast_context.narrow(tensor, self)
        return tensor

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, TensorSpec)
            and self._dtype is other._dtype
            and self._shape._sizes == other._shape._sizes
            and self._name == other._name
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        name = f", name={self._name!r}" if self._name else ", name=None"
        return f"TensorSpec(shape={self._shape}, dtype=tf.{self._dtype.name}{name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorSpec, (self._shape, self._dtype, self._name)


class Literal(TraceType):
    """A Python value that the body sees as it is. Equal when type and value are: 1, 1.0 and True are three keys, 0.0
    and -0.0 two, and nan equals nan (TensorFlow compares by `==` alone, so the first caller's dtype would serve the
    others)."""

    __slots__ = ("value", "_key", "_hash", "__weakref__")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = _literal_key(value)
        self._hash = hash(self._key)

    def is_subtype_of(self, other: TraceType) -> bool:
        return self == other

    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> Literal | None:
        return self if all(self == o for o in others) else None

    def placeholder_value(self, placeholder_context: Any) -> Any:
        return list(self.value) if isinstance(self.value, range) else self.value

    def cast(self, value: Any, cast_context: Any) -> Any:
        try:
            if self == Literal(value):
                return self.value
        except TypeError:
            pass
        raise TypeError(f"Can not cast {value!r} to literal {self.value!r}: the function was traced for that value")

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Literal) and self._hash == other._hash and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Literal[{self.value!r}]"


def _literal_key(value: Any) -> Any:
    if isinstance(value, float):
        return type(value), "nan" if math.isnan(value) else float(value), math.copysign(1.0, value)
    if isinstance(value, complex):
        return complex, _literal_key(value.real), _literal_key(value.imag)
    if isinstance(value, (str, bytes)):
        return (str, str(value)) if isinstance(value, str) else (bytes, bytes(value))  # np.str_ is a str
    return type(value), value


class Reference(TraceType):
    """An object, held weakly: matches while both are alive and identical or `==`; a dead one matches nothing."""

    __slots__ = ("reference", "_hash", "__weakref__")

    def __init__(self, value: Any) -> None:
        self.reference = weakref.ref(value)
        self._hash = hash(value)

    def is_subtype_of(self, other: TraceType) -> bool:
        return self == other

    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> Reference | None:
        return self if all(self == o for o in others) else None

    def placeholder_value(self, placeholder_context: Any) -> Any:
        return self.reference()

    def cast(self, value: Any, cast_context: Any) -> Any:
        held = self.reference()
        if held is not None and (value is held or value == held or _unwrapped(value) is held):
            return value
        raise TypeError(f"Can not cast {value!r} to {self!r}: the function was traced for that object")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Reference) or self._hash != other._hash:
            return False
        a, b = self.reference(), other.reference()
        return a is not None and b is not None and (a is b or bool(a == b))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Reference({self.reference()!r})"


class Sequential(TraceType):
    """A list, tuple or namedtuple of typed elements. Only the same kind and length are comparable."""

    __slots__ = ("kind", "elements", "_hash", "__weakref__")

    def __init__(self, kind: Any, elements: Sequence[TraceType]) -> None:
        self.kind = kind  # list, tuple, or NamedTupleKind
        self.elements = tuple(elements)
        self._hash = hash((kind, self.elements))

    def _comparable(self, other: object) -> bool:
        return isinstance(other, Sequential) and self.kind == other.kind and len(self.elements) == len(other.elements)

    def is_subtype_of(self, other: TraceType) -> bool:
        return self._comparable(other) and all(
            a.is_subtype_of(b) for a, b in zip(self.elements, cast("Sequential", other).elements, strict=True)
        )

    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> Sequential | None:
        if not all(self._comparable(o) for o in others):
            return None
        rows = (
            zip(*[cast("Sequential", o).elements for o in others], strict=True) if others else [()] * len(self.elements)
        )
        elements = [a.most_specific_common_supertype(list(row)) for a, row in zip(self.elements, rows, strict=True)]
        return None if any(e is None for e in elements) else Sequential(self.kind, cast("list[TraceType]", elements))

    def _build(self, values: Iterable[Any]) -> Any:
        return self.kind.build(values) if isinstance(self.kind, NamedTupleKind) else self.kind(values)

    def placeholder_value(self, placeholder_context: Any) -> Any:
        return self._build([e.placeholder_value(placeholder_context) for e in self.elements])

    def flatten(self) -> list[TensorSpec]:
        return [spec for e in self.elements for spec in e.flatten()]

    def to_tensors(self, value: Any) -> list[Any]:
        return [t for e, v in zip(self.elements, value, strict=True) for t in e.to_tensors(v)]

    def to_references(self, value: Any) -> list[Any]:
        return [r for e, v in zip(self.elements, value, strict=True) for r in e.to_references(v)]

    def from_tensors(self, tensors: Iterable[Any]) -> Any:
        tensors = iter(tensors)
        return self._build([e.from_tensors(tensors) for e in self.elements])

    def cast(self, value: Any, cast_context: Any) -> Any:
        wanted = tuple if isinstance(self.kind, NamedTupleKind) else self.kind
        if not isinstance(value, wanted) or len(value) != len(self.elements):
            raise TypeError(f"Can not cast {value!r} to {self!r}: needed a {wanted.__name__} of {len(self.elements)}")
        return self._build([e.cast(v, cast_context) for e, v in zip(self.elements, value, strict=True)])

    def __eq__(self, other: object) -> bool:
        return self is other or (self._comparable(other) and self.elements == cast("Sequential", other).elements)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"{getattr(self.kind, '__name__', self.kind)}({', '.join(map(repr, self.elements))})"


class NamedTupleKind:
    """A namedtuple class, known by its name and fields (not by identity); values come back as the class first seen."""

    __slots__ = ("cls", "_key")

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self._key = (cls.__name__, tuple(cls._fields))

    def build(self, values: Iterable[Any]) -> Any:
        return self.cls(*values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedTupleKind) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return self._key[0]


class Keyed(TraceType):
    """Named components: a mapping (order and class do not matter), an attrs object, or a custom nest.

    `same` is what must be equal besides the components' keys; `build(components dict)` makes a value and
    `take(value)` gives the components dict of one.
    """

    __slots__ = ("same", "components", "build", "take", "_hash", "__weakref__")

    def __init__(
        self,
        same: Any,
        components: Mapping[Any, TraceType],
        build: Callable[[dict[Any, Any]], Any],
        take: Callable[[Any], Mapping[Any, Any]],
    ) -> None:
        self.same = same
        self.components = dict(components)
        self.build = build
        self.take = take
        self._hash = hash(frozenset(self.components))

    def _comparable(self, other: object) -> bool:
        return (
            isinstance(other, Keyed) and self.same == other.same and self.components.keys() == other.components.keys()
        )

    def is_subtype_of(self, other: TraceType) -> bool:
        return self._comparable(other) and all(
            t.is_subtype_of(cast("Keyed", other).components[k]) for k, t in self.components.items()
        )

    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> Keyed | None:
        if not all(self._comparable(o) for o in others):
            return None
        merged: dict[Any, TraceType] = {}
        for key, own in self.components.items():
            common = own.most_specific_common_supertype([cast("Keyed", o).components[key] for o in others])
            if common is None:
                return None
            merged[key] = common
        return Keyed(self.same, merged, self.build, self.take)

    def placeholder_value(self, placeholder_context: Any) -> Any:
        return self.build({k: t.placeholder_value(placeholder_context) for k, t in self.components.items()})

    def flatten(self) -> list[TensorSpec]:
        return [spec for k in self._ordered() for spec in self.components[k].flatten()]

    def to_tensors(self, value: Any) -> list[Any]:
        parts = self.take(value)
        return [tensor for k in self._ordered() for tensor in self.components[k].to_tensors(parts[k])]

    def to_references(self, value: Any) -> list[Any]:
        parts = self.take(value)
        return [r for k in self._ordered() for r in self.components[k].to_references(parts[k])]

    def from_tensors(self, tensors: Iterable[Any]) -> Any:
        tensors = iter(tensors)
        made = {k: self.components[k].from_tensors(tensors) for k in self._ordered()}
        return self.build({k: made[k] for k in self.components})

    def _ordered(self) -> list[Any]:
        """Keys in an order that does not depend on the mapping's, so that equal types flatten alike."""
        return sorted(self.components, key=lambda k: (type(k).__name__, repr(k)))

    def cast(self, value: Any, cast_context: Any) -> Any:
        try:
            parts = self.take(value)
            fits = parts.keys() == self.components.keys()
        except (TypeError, AttributeError):
            fits = False
        if not fits:
            raise TypeError(f"Can not cast {value!r} to {self!r}")
        return self.build({k: t.cast(parts[k], cast_context) for k, t in self.components.items()})

    def __eq__(self, other: object) -> bool:
        return self is other or (self._comparable(other) and self.components == cast("Keyed", other).components)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{k!r}: {t!r}" for k, t in self.components.items()) + "}"


# Values -> types ------------------------------------------------------------------------------------------------------


class TracingContext:
    """What is shared by the types of one call. `number(obj)` gives the position of an object's first appearance, so
    that types can hold the alias pattern of a call. Mirrors tf.types.experimental.TracingContext."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def number(self, value: Any) -> int:
        position = self._seen.setdefault(id(value), len(self._seen))
        self._kept.append(value)  # an id is only unique while its object lives
        return position


def type_of(value: Any, context: TracingContext | None = None) -> TraceType:
    """The type of an argument. Raises TypeError for values that can be no key (see docs/function.md)."""
    kind = type(value)
    if kind in _PLAIN:
        return Literal(value)
    hook = getattr(kind, "__tf_tracing_type__", None)
    if hook is not None:
        found = hook(value, context if context is not None else TracingContext())
        if not isinstance(found, TraceType):
            raise TypeError(f"__tf_tracing_type__ of {value!r} gave {found!r}; it must give a TraceType")
        return found
    if isinstance(value, TensorShape):
        return Literal(value)  # by value: weakly held, an equal temporary would retrace at every call
    if isinstance(value, weakref.ref):
        raise TypeError(f"a weak reference cannot be an argument of a traced function: {value!r}; pass its object")
    if hasattr(value, "__wrapped__"):
        return type_of(_unwrapped(value), context)
    container = _container_type(value, context)
    if container is not None:
        return container
    if hasattr(kind, "__array__") and not isinstance(value, np.str_) and not isinstance(value, np.bytes_):
        array = np.asarray(value)
        return TensorSpec(TensorShape.of(array.shape), array_dtype(array))
    if hasattr(kind, "__tf_flatten__") and hasattr(kind, "__tf_unflatten__"):
        return _custom_nest_type(value, context)
    return _leaf_type(value)


_PLAIN = frozenset((int, float, bool, complex, str, bytes, type(None)))


def array_dtype(array: np.ndarray[Any, Any]) -> DType:
    """The DType of an array; text arrays are strings. Raises ValueError for object arrays."""
    known = BY_NUMPY.get(array.dtype)
    if known is not None:
        return known
    if array.dtype.kind in "SU":
        return string
    if array.dtype.kind == "O":
        if all(isinstance(v, (str, bytes)) for v in array.flat):
            return string
        raise ValueError("a NumPy array of Python objects has no tensor dtype; give it one by array.astype(...)")
    return as_dtype(array.dtype.newbyteorder("="))


def _unwrapped(value: Any) -> Any:
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value


def _container_type(value: Any, context: TracingContext | None) -> TraceType | None:
    if isinstance(value, list):
        return Sequential(list, [type_of(v, context) for v in value])
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        named = isinstance(fields, tuple) and all(isinstance(f, str) for f in fields)
        return Sequential(NamedTupleKind(type(value)) if named else tuple, [type_of(v, context) for v in value])
    if isinstance(value, Mapping):
        return Keyed(
            "mapping", {k: type_of(v, context) for k, v in value.items()}, _mapping_builder(value), _take_mapping
        )
    if hasattr(type(value), "__attrs_attrs__"):
        return _attrs_type(value, context)
    return None


def _mapping_builder(value: Mapping[Any, Any]) -> Callable[[dict[Any, Any]], Any]:
    kind: Any = type(value)
    if kind is dict or hasattr(value, "default_factory"):
        return dict

    def build(parts: dict[Any, Any]) -> Any:
        try:
            return kind(parts)
        except TypeError:
            return parts  # a mapping without a constructor from items, such as a proxy

    return build


def _take_mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"needed a mapping, got {value!r}")
    return value


def _attrs_type(value: Any, context: TracingContext | None) -> TraceType:
    kind = type(value)
    names = [a.name for a in kind.__attrs_attrs__]
    return Keyed(
        ("attrs", kind.__name__),
        {n: type_of(getattr(value, n), context) for n in names},
        lambda parts: kind(**{n.lstrip("_"): v for n, v in parts.items()}),
        lambda other: {n: getattr(other, n) for n in names},
    )


def _custom_nest_type(value: Any, context: TracingContext | None) -> TraceType:
    kind = type(value)
    metadata, components = value.__tf_flatten__()

    def take(other: Any) -> Mapping[Any, Any]:
        if not isinstance(other, kind):
            raise TypeError(f"needed a {kind.__name__}, got {other!r}")
        return dict(enumerate(other.__tf_flatten__()[1]))

    return Keyed(
        ("nest", kind, metadata),
        {i: type_of(c, context) for i, c in enumerate(components)},
        lambda parts: kind.__tf_unflatten__(metadata, tuple(parts.values())),
        take,
    )


def _leaf_type(value: Any) -> TraceType:
    try:
        return Reference(value)
    except TypeError:
        pass  # not weakly referenceable, or not hashable
    try:
        if isinstance(value, slice):
            raise TypeError  # hashable only from Python 3.12 on: no key on any
        return Literal(value)
    except TypeError:
        raise TypeError(
            f"an argument of type {type(value).__name__} cannot be a key of traces: it is not hashable; pass tensors, "
            "Python numbers, strings, hashable objects, or lists, tuples and dicts of these"
        ) from None
