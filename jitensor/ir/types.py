"""Element types and tensor types: what is known of a value before there is data.

Owns `DType` (one object per type, compared by identity inside jitensor) and `TensorType`. Must not know ops.
Text: `f32[n, 10]`, `b1[]`, `c128[d0, d1 - 2]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.ir.dims import Dim


class DType:
    """An element type. `jt.float32 == "float32"`, `jt.float32.as_numpy_dtype is np.float32`. Mirrors tf.DType."""

    __slots__ = ("name", "short", "kind", "size", "numpy")

    def __init__(self, name: str, short: str, kind: str, size: int, numpy: np.dtype[Any]) -> None:
        self.name = name
        self.short = short  # as printed in graphs and kernels
        self.kind = kind  # b bool, i signed, u unsigned, f float, c complex, S string
        self.size = size  # bytes
        self.numpy = numpy

    @property
    def as_numpy_dtype(self) -> type:
        return self.numpy.type

    @property
    def as_datatype_enum(self) -> int:
        return _ENUM[self.name]

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_unsigned(self) -> bool:
        return self.kind == "u"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def is_inexact(self) -> bool:
        return self.kind in "fc"

    @property
    def real_dtype(self) -> DType:
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    @property
    def base_dtype(self) -> DType:
        return self

    @property
    def min(self) -> Any:
        return _limits(self).min

    @property
    def max(self) -> Any:
        return _limits(self).max

    def is_compatible_with(self, other: Any) -> bool:
        return as_dtype(other) is self

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, DType) or other is None:
            return False
        try:
            return as_dtype(other) is self
        except TypeError:
            return False

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<dtype: '{self.name}'>"

    def __str__(self) -> str:
        return self.__repr__()

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


def _limits(dtype: DType) -> Any:
    if dtype.kind == "b":
        return type("limits", (), {"min": False, "max": True})
    return np.finfo(dtype.numpy) if dtype.kind in "fc" else np.iinfo(dtype.numpy)


def _make(name: str, short: str) -> DType:
    numpy = np.dtype(name)
    return DType(name, short, numpy.kind, numpy.itemsize, numpy)


bool_ = _make("bool", "b1")
int8, int16, int32, int64 = (_make(f"int{n}", f"i{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (_make(f"uint{n}", f"u{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (_make(f"float{n}", f"f{n}") for n in (16, 32, 64))
complex64, complex128 = _make("complex64", "c64"), _make("complex128", "c128")
string = DType("string", "str", "S", 8, np.dtype(object))  # eager only

NUMBERS: tuple[DType, ...] = (
    *(bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64),
    *(float16, float32, float64, complex64, complex128),
)
BY_SHORT = {t.short: t for t in NUMBERS}
BY_NAME = {t.name: t for t in (*NUMBERS, string)}
# numpy dtype -> DType. Built-in dtypes hash by value, so a fresh np.dtype("f8") finds its entry too.
BY_NUMPY = {t.numpy: t for t in NUMBERS} | {np.dtype("longlong"): int64, np.dtype("ulonglong"): uint64}
# TensorFlow's DataType enumeration, for as_datatype_enum.
_ENUM = {
    **{"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "complex64": 8},
    **{"int64": 9, "bool": 10, "uint16": 17, "complex128": 18, "float16": 19, "uint32": 22, "uint64": 23},
}


def as_dtype(value: Any) -> DType:
    """The DType of a DType, a name, a NumPy dtype or scalar type, or Python's bool, int, float, complex (as NumPy takes
    them). Raises TypeError for anything else, dtypes without native byte order included."""
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in BY_NAME:
        return BY_NAME[value]
    try:
        return BY_NUMPY[np.dtype(value)]
    except (KeyError, TypeError):
        names = ", ".join(t.name for t in NUMBERS)
        raise TypeError(f"dtype {value!r} is not supported; jitensor has {names}") from None


Shape = tuple["int | Dim", ...]


class TensorType:
    """dtype and shape. A size is an int, or a Dim: an integer expression over sizes known only when called."""

    __slots__ = ("dtype", "shape")

    def __init__(self, dtype: DType, shape: Shape) -> None:
        self.dtype = dtype
        self.shape = shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorType) and self.dtype is other.dtype and self.shape == other.shape

    def __hash__(self) -> int:
        return hash((self.dtype.name, self.shape))

    def __repr__(self) -> str:
        return f"{self.dtype.short}[{', '.join(map(str, self.shape))}]"
