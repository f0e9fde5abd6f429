"""Static shapes as TensorFlow shows them: a tuple in which a size, or all of them, may be unknown.

Owns `TensorShape`. Must not know tensors. Text: `(2, 3)`, `(None, 3)`, `<unknown>`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

Sizes = tuple["int | None", ...]


def _size(value: Any) -> int | None:
    if value is None or isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        size = operator.index(value)
    if size is not None and size < 0:
        raise ValueError(f"TensorShape: a size cannot be negative, got {size}")
    return size


class TensorShape:
    """A static shape. `sizes`: a sequence of ints and Nones, another TensorShape, an int, or None for unknown rank.

    Mirrors tf.TensorShape: `shape[0]` is an int or None, a slice is a TensorShape, `==` takes tuples and lists.
    """

    __slots__ = ("_sizes", "__weakref__")

    _sizes: Sizes | None

    def __init__(self, sizes: Any) -> None:
        if sizes is None:
            self._sizes = None
        elif isinstance(sizes, TensorShape):
            self._sizes = sizes._sizes
        elif isinstance(sizes, (tuple, list)) or hasattr(sizes, "__iter__"):
            self._sizes = tuple([_size(n) for n in sizes])
        else:
            self._sizes = (_size(sizes),)

    @classmethod
    def of(cls, sizes: Sizes | None) -> TensorShape:
        """The shape of sizes that need no checking."""
        shape = object.__new__(cls)
        shape._sizes = sizes
        return shape

    @property
    def sizes(self) -> Sizes | None:
        """The sizes as a tuple, or None where the rank is unknown."""
        return self._sizes

    @property
    def rank(self) -> int | None:
        return None if self._sizes is None else len(self._sizes)

    @property
    def ndims(self) -> int | None:
        return self.rank

    @property
    def dims(self) -> list[int | None] | None:
        return None if self._sizes is None else list(self._sizes)

    def as_list(self) -> list[int | None]:
        if self._sizes is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._sizes)

    def num_elements(self) -> int | None:
        if not self.is_fully_defined():
            return None
        total = 1
        for n in self._known():
            total *= n or 0
        return total

    def is_fully_defined(self) -> bool:
        return self._sizes is not None and None not in self._sizes

    def assert_is_fully_defined(self) -> None:
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def is_compatible_with(self, other: Any) -> bool:
        """Can one array have both shapes?"""
        other = TensorShape(other)
        if self._sizes is None or other._sizes is None:
            return True
        return len(self._sizes) == len(other._sizes) and all(
            a is None or b is None or a == b for a, b in zip(self._sizes, other._sizes, strict=True)
        )

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {TensorShape(other)} are incompatible")

    def is_subtype_of(self, other: TensorShape) -> bool:
        """Is every array of this shape one of `other`?"""
        if other._sizes is None:
            return True
        if self._sizes is None or len(self._sizes) != len(other._sizes):
            return False
        return all(b is None or a == b for a, b in zip(self._sizes, other._sizes, strict=True))

    def most_specific_common_supertype(self, others: list[TensorShape]) -> TensorShape:
        """The least general shape that covers this one and the others."""
        sizes = self._sizes
        for other in others:
            if sizes is None or other._sizes is None or len(sizes) != len(other._sizes):
                return TensorShape.of(None)
            sizes = tuple([a if a == b else None for a, b in zip(sizes, other._sizes, strict=True)])
        return TensorShape.of(sizes)

    def merge_with(self, other: Any) -> TensorShape:
        """What is known when an array has both shapes. Raises ValueError where none can."""
        other = TensorShape(other)
        self.assert_is_compatible_with(other)
        if self._sizes is None:
            return other
        if other._sizes is None:
            return self
        return TensorShape.of(tuple([b if a is None else a for a, b in zip(self._sizes, other._sizes, strict=True)]))

    def concatenate(self, other: Any) -> TensorShape:
        other = TensorShape(other)
        if self._sizes is None or other._sizes is None:
            return TensorShape.of(None)
        return TensorShape.of(self._sizes + other._sizes)

    def with_rank(self, rank: int) -> TensorShape:
        return self.merge_with(TensorShape.of((None,) * rank))

    def _known(self) -> Sizes:
        if self._sizes is None:
            raise ValueError("Cannot take the length or the elements of a shape with unknown rank.")
        return self._sizes

    def __len__(self) -> int:
        return len(self._known())

    def __iter__(self) -> Iterator[int | None]:
        return iter(self._known())

    def __bool__(self) -> bool:
        return self._sizes is not None

    def __getitem__(self, key: Any) -> Any:
        if self._sizes is None:
            return TensorShape.of(None) if isinstance(key, slice) else None
        if isinstance(key, slice):
            return TensorShape.of(self._sizes[key])
        return self._sizes[key]

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return TensorShape(other).concatenate(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TensorShape):
            return self._sizes == other._sizes
        if isinstance(other, (tuple, list)):
            return self._sizes is not None and self._sizes == tuple(other)
        if other is None:
            return self._sizes is None
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._sizes)

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorShape, (self._sizes,)

    def __str__(self) -> str:
        if self._sizes is None:
            return "<unknown>"
        return "(" + ", ".join(map(str, self._sizes)) + ("," if len(self._sizes) == 1 else "") + ")"

    def __repr__(self) -> str:
        return "TensorShape(None)" if self._sizes is None else f"TensorShape({list(self._sizes)})"
