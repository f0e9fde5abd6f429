"""From Python and NumPy values to tensors, and TensorFlow's dtype rules.

Owns `constant`, `convert_to_tensor`, `cast`, and the weak conversion of an operand to the dtype of the tensor beside
it. Must not know arithmetic. Python ints become int32 (int64 where they do not fit), floats float32; NumPy values
keep their dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jitensor.errors import DTypeError, InvalidArgumentError, describe
from jitensor.ir.types import DType, as_dtype, bool_, complex128, float32, int32, int64, string
from jitensor.ops import TABLE
from jitensor.recording import array_constant, bind, known_sizes, operation, tensors_in
from jitensor.runtime.signature import TensorSpec, array_dtype
from jitensor.runtime.tensor_shape import TensorShape
from jitensor.tensor import Tensor, active, make_eager, make_traced

# Values to arrays -----------------------------------------------------------------------------------------------------


def to_array(value: Any, dtype: DType | None = None) -> tuple[np.ndarray[Any, Any], DType]:
    """A fresh array of a Python or NumPy value, and its dtype. Raises TypeError for values that the dtype cannot hold
    and ValueError for ragged lists."""
    if isinstance(value, (np.ndarray, np.generic)) or (
        hasattr(value, "__array__") and not isinstance(value, (list, tuple))
    ):
        return _from_numpy(np.asarray(value), dtype)
    leaves = list(_leaves(value))
    if any(isinstance(v, (str, bytes)) for v in leaves):
        return _strings(value, leaves, dtype)
    for leaf in leaves:
        if not isinstance(leaf, (int, float, complex, np.ndarray, np.generic)) and not hasattr(leaf, "__array__"):
            raise _unconvertible(value, dtype)
    if dtype is None:
        dtype = _natural_dtype(leaves)
    elif dtype is string or not all(fits(v, dtype) for v in leaves):
        raise TypeError(
            f"Cannot convert {_short(value)} to a tensor of dtype {dtype.name}; use jt.cast to convert numbers"
        )
    try:
        return np.array(value, dtype.numpy), dtype
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"Can't convert a non-rectangular Python sequence to a tensor: {_short(value)}") from None


def _from_numpy(array: np.ndarray[Any, Any], dtype: DType | None) -> tuple[np.ndarray[Any, Any], DType]:
    found = array_dtype(array)
    if found is string:
        return _strings(array.tolist(), list(array.ravel()), dtype)
    wanted = found if dtype is None else dtype
    if wanted is string:
        raise TypeError(f"Cannot convert an array of {found.name} to a string tensor")
    with np.errstate(all="ignore"):
        return np.array(array, wanted.numpy), wanted


def _strings(value: Any, leaves: list[Any], dtype: DType | None) -> tuple[np.ndarray[Any, Any], DType]:
    if dtype not in (None, string) or not all(isinstance(v, (str, bytes)) for v in leaves):
        raise TypeError(f"Cannot convert {_short(value)} to a tensor of dtype {dtype.name if dtype else 'string'}")
    shape = np.array(value, dtype=object).shape if isinstance(value, (list, tuple)) else ()
    array = np.empty(len(leaves), object)
    array[:] = [v.encode() if isinstance(v, str) else bytes(v) for v in leaves]
    return array.reshape(shape), string


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple, range)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _natural_dtype(leaves: list[Any]) -> DType:
    """The dtype of Python numbers; NumPy values among them bring theirs."""
    arrays = [
        array_dtype(np.asarray(v))
        for v in leaves
        if not isinstance(v, (int, float, complex)) or isinstance(v, np.generic)
    ]
    if arrays:
        return as_dtype(np.result_type(*[d.numpy for d in arrays]))
    if not leaves:
        return float32
    if any(isinstance(v, complex) for v in leaves):
        return complex128
    if any(isinstance(v, float) for v in leaves):
        return float32
    if all(isinstance(v, bool) for v in leaves):
        return bool_
    if all(-(2**31) <= v < 2**31 for v in leaves):
        return int32
    return int64


def fits(value: Any, dtype: DType) -> bool:
    """Does a Python number or NumPy value become `dtype` without losing its kind?"""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.can_cast(value.dtype, dtype.numpy, "same_kind") and (dtype.kind == "b") == (value.dtype.kind == "b")
    if isinstance(value, bool):
        return dtype.kind == "b"
    if isinstance(value, int):
        return dtype.kind in "iufc"
    if isinstance(value, float):
        return dtype.kind in "fc"
    return dtype.kind == "c"


def _unconvertible(value: Any, dtype: DType | None) -> Exception:
    wanted = f" of dtype {dtype.name}" if dtype else ""
    message = (
        f"Attempt to convert a value ({_short(value)}) with an unsupported type ({type(value)}) to a tensor{wanted}"
    )
    return TypeError(message) if isinstance(value, (dict, set, type(None))) else ValueError(message)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


# Values to tensors, inside op functions -------------------------------------------------------------------------------


def to_tensor(value: Any, dtype: DType | None = None) -> Tensor:
    """A tensor of any value that has one; a tensor must already have the dtype. For op functions, in their bodies."""
    if isinstance(value, Tensor):
        if dtype is not None and value._dtype is not dtype:
            raise DTypeError.of(
                "convert_to_tensor",
                f"the tensor is {value._text()}",
                f"{dtype.name} was needed",
                f"Use jt.cast(x, jt.{dtype.name})",
            )
        return value
    convert = getattr(type(value), "__tf_tensor__", None)
    if convert is not None:
        return to_tensor(convert(value, dtype), dtype)
    if isinstance(value, (list, tuple)) and tensors_in(list(value)):
        return _packed(value, dtype)
    if isinstance(value, TensorShape):
        value = np.array(value.as_list(), np.int32)
    array, dtype = to_array(value, dtype)
    return array_constant(array, dtype)


def _packed(values: Sequence[Any], dtype: DType | None) -> Tensor:
    """A list with tensors in it, stacked along a new first axis."""
    if dtype is None:
        dtype = tensors_in(list(values))[0]._dtype
    rows = [expand(weak(v, dtype) if not isinstance(v, Tensor) else to_tensor(v, dtype), (0,)) for v in values]
    return bind(TABLE["concatenate"], rows, axis=0) if len(rows) > 1 else rows[0]


def expand(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    return bind(TABLE["expand_dims"], [tensor], axes=axes)


def weak(value: Any, dtype: DType, op: str = "convert") -> Tensor:
    """An operand that is no tensor as one of its neighbour's dtype: Python ints become any number, floats any float."""
    kind = type(value)
    if kind is float or kind is int:
        if dtype.kind in ("fc" if kind is float else "iufc"):
            return array_constant(np.asarray(value, dtype.numpy), dtype)
        raise _misfit(op, value, dtype)
    if isinstance(value, (list, tuple)) and tensors_in(list(value)):
        return _packed(value, dtype)
    if hasattr(kind, "__tf_tensor__"):
        return to_tensor(value, dtype)
    if isinstance(value, (np.ndarray, np.generic)) and array_dtype(np.asarray(value)) is not string:
        if not fits(np.asarray(value), dtype):
            raise _misfit(op, value, dtype)
        return array_constant(np.array(value, dtype.numpy), dtype)
    try:
        array, dtype = to_array(value, dtype)
    except TypeError:
        raise _misfit(op, value, dtype) from None
    return array_constant(array, dtype)


def _misfit(op: str, value: Any, dtype: DType) -> DTypeError:
    came = (
        f"an array of {value.dtype}"
        if isinstance(value, np.ndarray)
        else f"{_short(value)} of type {type(value).__name__}"
    )
    return DTypeError.of(
        op,
        f"{came} beside a tensor of {dtype.name}",
        f"a value of kind {dtype.name} was needed",
        "Convert one of them with jt.cast",
    )


def pair(op: str, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both operands as tensors of one dtype. Raises DTypeError where two tensors differ: there is no promotion."""
    if isinstance(x, Tensor):
        if isinstance(y, Tensor):
            if x._dtype is y._dtype:
                return x, y
            raise DTypeError.of(
                op,
                f"x is {x._text()} and y is {y._text()}",
                "both must have one dtype",
                "Convert one of them with jt.cast",
            )
        return x, weak(y, x._dtype, op)
    if isinstance(y, Tensor):
        return weak(x, y._dtype, op), y
    if not isinstance(x, (np.ndarray, np.generic)) and isinstance(y, (np.ndarray, np.generic)):
        y = to_tensor(y)
        return weak(x, y._dtype, op), y
    x = to_tensor(x)
    if not isinstance(y, (np.ndarray, np.generic)) and fits_all(y, x._dtype):
        return x, weak(y, x._dtype, op)
    return pair(op, x, to_tensor(y))


def fits_all(value: Any, dtype: DType) -> bool:
    return all(fits(v, dtype) for v in _leaves(value) if not isinstance(v, Tensor))


def cast_to(x: Tensor, dtype: DType) -> Tensor:
    return x if x._dtype is dtype else bind(TABLE["cast"], [x], dtype=dtype)


# Public ---------------------------------------------------------------------------------------------------------------


@operation
def _as_traced(tensor: Tensor) -> Tensor:
    """An eager tensor as a constant of the trace."""
    return array_constant(tensor._array, tensor._dtype)


def _in_trace(tensor: Tensor) -> Tensor:
    trace = active.context
    return tensor if trace is None or tensor._dtype is string or trace.inside else _as_traced(tensor)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor of a Python or NumPy value. value: numbers, strings, nested lists of them, or an array; shape: what one
    element is repeated to, or what the elements are reshaped to. Mirrors tf.constant."""
    dtype = None if dtype is None else as_dtype(dtype)
    if isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and tensors_in(list(value))):
        result = convert_to_tensor(value, dtype)
        return result if shape is None else _reshaped_constant(np.asarray(result), result._dtype, shape)
    array, dtype = to_array(value, dtype)
    return _in_trace(make_eager(array, dtype)) if shape is None else _reshaped_constant(array, dtype, shape)


def _reshaped_constant(array: np.ndarray[Any, Any], dtype: DType, shape: Any) -> Tensor:
    sizes = known_sizes(TensorShape(shape).sizes)
    if sizes is None or array.size not in (1, int(np.prod(sizes))):
        raise TypeError(f"constant: {array.size} elements cannot fill shape {TensorShape(shape)}")
    filled = np.full(sizes, array.reshape(())[()]) if array.size == 1 else array.reshape(sizes)
    return _in_trace(make_eager(filled, dtype))


def convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None) -> Tensor:
    """`value` as a tensor; a tensor is given back as it is. Raises ValueError where a tensor has another dtype than
    asked for. dtype_hint: tried first, dropped where it does not fit. Mirrors tf.convert_to_tensor."""
    dtype = None if dtype is None else as_dtype(dtype)
    if isinstance(value, Tensor):
        if dtype is not None and value._dtype is not dtype:
            message = describe(
                "convert_to_tensor",
                f"the tensor is {value._text()}",
                f"{dtype.name} was asked for",
                f"Use jt.cast(x, jt.{dtype.name})",
            )
            raise ValueError(message)
        return value
    if hasattr(type(value), "__tf_tensor__") or (isinstance(value, (list, tuple)) and tensors_in(list(value))):
        return _converted(value, dtype)
    if dtype is None and dtype_hint is not None and fits_all(value, as_dtype(dtype_hint)):
        dtype = as_dtype(dtype_hint)
    if isinstance(value, TensorShape):
        value = np.array(value.as_list(), np.int32)
    return _in_trace(make_eager(*to_array(value, dtype)))


@operation
def _converted(value: Any, dtype: DType | None) -> Tensor:
    return to_tensor(value, dtype)


@operation
def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """x as `dtype`; floats are truncated toward zero to become integers, and what is not 0 is True. Mirrors tf.cast."""
    return cast_to(to_tensor(x), as_dtype(dtype))


@operation
def identity(input: Any, name: str | None = None) -> Tensor:
    """The tensor itself."""
    return to_tensor(input)


class CastContext:
    """How an argument becomes a tensor of a spec: in calls with an input_signature and of concrete functions."""

    def tensor(self, value: Any, dtype: DType) -> Tensor:
        """Raises TypeError for a tensor of another dtype and for what is no number."""
        if hasattr(type(value), "__tf_tensor__"):
            value = convert_to_tensor(value)
        if isinstance(value, Tensor):
            if value._dtype is not dtype:
                raise TypeError(
                    f"the tensor is {value._text()}; needed {dtype.name}. Convert it with jt.cast(x, jt.{dtype.name})"
                )
            return value
        if value is None or isinstance(value, (str, bytes)) and dtype is not string:
            raise TypeError(f"cannot convert {value!r} to a tensor of {dtype.name}")
        if isinstance(value, (list, tuple)) and tensors_in(list(value)):
            return convert_to_tensor(value, dtype)
        array, found = to_array(value)
        if found is not dtype and not self._converts(array, found, dtype):
            raise TypeError(f"cannot convert {_short(value)} ({found.name}) to a tensor of {dtype.name}")
        return make_eager(array if found is dtype else array.astype(dtype.numpy), dtype)

    def _converts(self, array: np.ndarray[Any, Any], found: DType, dtype: DType) -> bool:
        """A bool becomes any number; a number keeps its kind; int64 stands for a Python int."""
        if string in (found, dtype):
            return False
        return found.kind == "b" or np.can_cast(found.numpy, dtype.numpy, "same_kind")

    def narrow(self, tensor: Tensor, spec: TensorSpec) -> Tensor:
        """A traced tensor whose sizes are not all known, taken to have the spec's; any other misfit is a TypeError."""
        if (
            tensor._context is not None
            and not tensor.shape.is_fully_defined()
            and tensor.shape.is_compatible_with(spec.shape)
        ):
            return ensure_shape(tensor, spec.shape)
        raise TypeError(f"the tensor is {tensor._text()}; needed {spec!r}")


@operation
def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """x, checked to have the static shape (sizes may be None). Raises ValueError. Mirrors tf.ensure_shape."""
    x = to_tensor(x)
    wanted = TensorShape(shape)
    if not wanted.is_compatible_with(TensorShape.of(x._sizes)):
        raise InvalidArgumentError.of("ensure_shape", f"x is {x._text()}", f"{wanted} was needed")
    return x


def _infer_ensured(trace: Any, x: Tensor, shape: Any, name: str | None = None) -> Tensor:

    merged = TensorShape.of(x._sizes).merge_with(shape)
    return make_traced(trace, None, x._dtype, merged.sizes)


ensure_shape.implementation.infer = _infer_ensured  # type: ignore[attr-defined]
