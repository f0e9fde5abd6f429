"""Conversion between dtypes, and between complex numbers and their parts.

A float that an integer cannot hold gives what NumPy gives on x86-64: the conversion instruction's MIN, cut to the
width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.errors import DTypeError
from jitensor.ir import types
from jitensor.ir.types import DType
from jitensor.ops.base import elementwise, to_real

_FLOAT_OF = {"float16": "f32", "complex64": "f32", "complex128": "f64"}


def _machine_type(dtype: DType) -> str:
    """The scalar program's type for a dtype's real numbers."""
    return "i1" if dtype.kind == "b" else _FLOAT_OF.get(dtype.name, dtype.short)


def _cast(x: Any, dtype: DType) -> Any:
    if dtype.kind == "b":
        return scalar.truth(x)
    if not isinstance(x, scalar.ScalarValue):
        if dtype.kind != "c":
            return _cast(x.re, dtype)
        return _complex(*[scalar.convert(part, _machine_type(dtype)) for part in (x.re, x.im)])
    target = _machine_type(dtype)
    if dtype is types.float16 and x.type == "f64":
        return _round_to_odd(x)
    if dtype.kind == "c":
        return _complex(scalar.convert(x, target), x.program.constant(0.0, target))
    return scalar.cast(x, target)


def _complex(real: Any, imag: Any) -> Any:
    return scalar.ComplexValue(real, imag)


def _round_to_odd(x: Any) -> Any:
    """float64 to float32 so that rounding on to float16 gives what one rounding would: inexact results are made odd."""
    near = scalar.convert(x, "f32")
    back = scalar.convert(near, "f64")
    bits = scalar.bitcast(near, "u32")
    inexact = scalar.not_equal(back, x) & ~scalar.is_nan(x) & scalar.equal(bits & 1, 0)
    toward_zero = scalar.fabs(back) > scalar.fabs(x)
    odd = scalar.select(toward_zero, bits - 1, bits + 1)
    return scalar.bitcast(scalar.select(inexact, odd, bits), "f32")


def _numpy_cast(x: Any, dtype: DType) -> Any:
    x = np.asarray(x)
    if x.dtype.kind == "c" and dtype.kind not in "cb":
        x = x.real
    if x.dtype.kind == "f" and dtype is types.uint32:
        x = x.astype(np.int64)  # NumPy's vector and scalar loops differ out of range; this is the scalar one
    return x.astype(dtype.numpy)


cast = elementwise(
    "cast",
    scalar=_cast,
    numpy=_numpy_cast,
    rule=lambda x, dtype: dtype,
    tf=("cast",),
    doc="The value as `dtype`; a complex number loses its imaginary part. Mirrors numpy.ndarray.astype.",
)
real = elementwise(
    "real",
    scalar=lambda a: a if isinstance(a, scalar.ScalarValue) else a.re,
    numpy=lambda a: np.real(a),
    result=to_real,
    tf=("math.real",),
    doc="Real part. Mirrors numpy.real.",
)
imag = elementwise(
    "imag",
    scalar=lambda a: a.program.constant(0, a.type) if isinstance(a, scalar.ScalarValue) else a.im,
    numpy=lambda a: np.imag(a),
    result=to_real,
    tf=("math.imag",),
    doc="Imaginary part; of a real number 0. Mirrors numpy.imag.",
)


def _complex_of(a: DType, b: DType) -> DType:
    if a is not b or a not in (types.float32, types.float64):
        raise DTypeError(f"complex: parts are {a.name} and {b.name}; needed two float32 or two float64")
    return types.complex64 if a is types.float32 else types.complex128


def _numpy_complex(a: Any, b: Any) -> Any:
    a, b = np.broadcast_arrays(a, b)
    result = np.empty(a.shape, np.complex64 if a.dtype == np.float32 else np.complex128)
    result.real, result.imag = a, b
    return result


make_complex = elementwise(
    "complex",
    scalar=_complex,
    numpy=_numpy_complex,
    rule=_complex_of,
    arity=2,
    tf=("complex", "dtypes.complex"),
    doc="The complex number of a real and an imaginary part. Mirrors tf.complex.",
)
