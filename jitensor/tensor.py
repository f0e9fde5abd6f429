"""Tensors: immutable arrays under TensorFlow's face, eager (holding an ndarray) or traced (standing for a value of a
graph).

Owns `Tensor`. Must not know any op: the operators are put on the class by `jitensor.api.operators`, and what needs a
trace's graph asks the tensor's context.

    >>> jt.constant([1, 2])
    <tf.Tensor: shape=(2,), dtype=int32, numpy=array([1, 2], dtype=int32)>
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from jitensor.errors import OperatorNotAllowedInGraphError, TraceError, user_location
from jitensor.ir.graph import Value
from jitensor.ir.types import BY_NUMPY, DType, TensorType, string
from jitensor.runtime.signature import TensorSpec
from jitensor.runtime.tensor_shape import Sizes, TensorShape

CPU = "/job:localhost/replica:0/task:0/device:CPU:0"


class _Active(threading.local):
    """The trace that this thread is recording, or None: ops run eagerly."""

    context: Any = None
    stack: tuple[Any, ...] = ()  # the traces around it, outermost first
    suspended: Any = None  # the trace that an init_scope has left for a while
    explaining: bool = False  # traces made now are for looking at: not kept, not counted
    tapes: tuple[Any, ...] = ()  # the gradient tapes that record eager ops, outermost first
    scopes: tuple[str, ...] = ()  # the name scopes


active = _Active()


class Stateful:
    """What ops read at every call, a Variable: `_read()` gives its value now, as a tensor of this thread's context."""

    __slots__ = ()
    _dtype: DType

    def _read(self) -> Tensor:
        raise NotImplementedError


class Tensor:
    """An immutable array of one dtype. Made by `jt.constant` and by ops, never by calling the class.

    Eager: `_array` holds the elements. Traced: `_context` is the trace; `_value` its graph value, or None where a
    size is known only when called; `_sizes` holds ints and Nones, or is None where the rank is unknown; `_known`
    holds, for small integer tensors, the elements that tracing knows (None for the others).
    """

    __slots__ = ("_array", "_context", "_value", "_dtype", "_sizes", "_known", "_writes", "__weakref__")
    __array_priority__ = 100

    _array: np.ndarray[Any, Any]
    _context: Any
    _value: Value | None
    _dtype: DType
    _sizes: Sizes | None
    _known: np.ndarray[Any, Any] | None
    _writes: Any  # of a slice of a Variable alone: what has its `assign` and the like

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("Tensor cannot be called; make tensors with jt.constant or jt.convert_to_tensor")

    # What is known without data ---------------------------------------------------------------------------------------

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def type(self) -> TensorType:
        """dtype and sizes, where all are known: what gradient rules ask of a value."""
        return TensorType(self._dtype, self._sizes)  # type: ignore[arg-type]

    @property
    def shape(self) -> TensorShape:
        return TensorShape.of(self._sizes)

    def get_shape(self) -> TensorShape:
        return self.shape

    @property
    def ndim(self) -> int:
        if self._sizes is None:
            raise ValueError("the rank of this traced tensor is unknown")
        return len(self._sizes)

    @property
    def device(self) -> str:
        return CPU if self._context is None else ""

    backing_device = device

    @property
    def name(self) -> str:
        if self._context is None:
            raise AttributeError("Tensor.name is undefined when eager execution is enabled.")
        return f"value_{self._value.id}:0" if self._value is not None else "value:0"

    @property
    def graph(self) -> Any:
        if self._context is None:
            raise AttributeError("Tensor.graph is undefined when eager execution is enabled.")
        return self._context

    def __getattr__(self, name: str) -> Any:
        if name in ("assign", "assign_add", "assign_sub"):
            return getattr(self._writes, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def ref(self) -> TensorReference:
        """A hashable stand-in, equal where the tensors are the same object."""
        return TensorReference(self)

    def __tf_tracing_type__(self, context: Any) -> TensorSpec:
        return TensorSpec(TensorShape.of(self._sizes), self._dtype)

    def set_shape(self, shape: Any) -> None:
        """Adds what the caller knows of the static shape. Raises ValueError where it contradicts."""
        merged = self.shape.merge_with(shape)
        if self._context is not None and merged._sizes != self._sizes:
            self._sizes = merged._sizes

    # Data -------------------------------------------------------------------------------------------------------------

    def numpy(self) -> Any:
        """A fresh ndarray of the elements; of a scalar a NumPy scalar (bytes for strings)."""
        array = self._data("numpy")
        return array.copy() if array.ndim else array[()]

    def _numpy(self) -> Any:
        return self._data("numpy")

    def _data(self, what: str) -> np.ndarray[Any, Any]:
        if self._context is not None:
            raise AttributeError(
                f"a traced tensor ({self._text()}) has no elements yet, so `{what}` is not defined inside jt.function; "
                f"compute with jt ops, or use jt.numpy_function.      {user_location()}"
            )
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self._context is not None:
            raise NotImplementedError(
                f"a traced tensor ({self._text()}) has no elements yet and cannot become a NumPy array. Use jt ops or "
                f"NumPy ufuncs on it, or jt.numpy_function.      {user_location()}"
            )
        if dtype is not None and np.dtype(dtype) != self._array.dtype:
            if copy is False:
                raise ValueError(f"a tensor of {self._dtype.name} cannot become {np.dtype(dtype)} without a copy")
            return self._array.astype(dtype)
        if copy:
            return self._array.copy()
        view = self._array.view()
        view.flags.writeable = False  # tensors are immutable
        return view

    def __dlpack__(self, **options: Any) -> Any:
        return self._data("__dlpack__").__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __bool__(self) -> bool:
        if self._context is not None:
            self._not_in_graph("a Python bool", "`if`, `while`, `and`, `or`, `not` and `assert`", "jt.cond or jt.where")
        if self._array.size != 1:
            raise ValueError(
                "The truth value of a tensor with more than one element is ambiguous. Use jt.reduce_any or reduce_all"
            )
        return bool(self._array.reshape(())[()])

    def __int__(self) -> int:
        return int(self._scalar("int()", "jt.cast(x, jt.int32)"))

    def __float__(self) -> float:
        return float(self._scalar("float()", "jt.cast(x, jt.float32)"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex()", "jt.cast(x, jt.complex128)"))

    def __index__(self) -> int:
        array = self._scalar("an index", "jt.gather")
        if self._dtype.kind not in "iu":
            raise TypeError(f"only integer scalar tensors can be converted to a scalar index, not {self._dtype.name}")
        return int(array)

    def _scalar(self, use: str, cure: str) -> np.ndarray[Any, Any]:
        if self._context is not None:
            self._not_in_graph("a Python number", use, cure)
        if self._array.size != 1:
            raise TypeError(f"only tensors of one element can be converted to Python numbers, not {self.shape}")
        return self._array.reshape(())

    def _not_in_graph(self, wanted: str, by: str, cure: str) -> NoReturn:
        raise OperatorNotAllowedInGraphError.of(
            f"using a traced tensor as {wanted}",
            f"the tensor is {self._text()}",
            f"{by} need its value, which is known only when called",
            f"Use {cure}",
        )

    def __len__(self) -> int:
        if self._sizes is None or (self._sizes and self._sizes[0] is None):
            raise TraceError.of(
                "len", f"the tensor is {self._text()}", "its first size is known only when called", "Use jt.shape(x)[0]"
            )
        if not self._sizes:
            raise TypeError("Scalar tensor has no `len()`")
        size = self._sizes[0]
        assert size is not None
        return size

    def __iter__(self) -> Iterator[Tensor]:
        if self._context is not None:
            raise OperatorNotAllowedInGraphError.of(
                "iterating over a traced tensor",
                f"the tensor is {self._text()}",
                "`for` needs its rows, which are known only when called",
                "Use jt.unstack(x)",
            )
        if not self._array.ndim:
            raise TypeError("Cannot iterate over a scalar tensor.")
        return iter([make_eager(self._array[i, ...], self._dtype) for i in range(self._array.shape[0])])

    def __hash__(self) -> int:
        raise TypeError("Tensor is unhashable. Instead, use tensor.ref() as the key.")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("'Tensor' object does not support item assignment; use jt.tensor_scatter_nd_update")

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        if self._context is not None:
            raise TypeError("a traced tensor cannot be copied out of its trace")
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return make_eager, (self._data("pickling"), self._dtype)

    def __format__(self, spec: str) -> str:
        return (
            format(self._array[()] if self._array.ndim == 0 else self._array, spec)
            if self._context is None
            else format(str(self), spec)
        )

    # Text -------------------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        sizes = "[...]" if self._sizes is None else f"[{', '.join('?' if n is None else str(n) for n in self._sizes)}]"
        return self._dtype.short + sizes

    def __repr__(self) -> str:
        if self._context is not None:
            return f"<tf.Tensor '{self.name}' shape={self.shape} dtype={self._dtype.name}>"
        return f"<tf.Tensor: shape={self.shape}, dtype={self._dtype.name}, numpy={self._array[()]!r}>"

    def __str__(self) -> str:
        if self._context is not None:
            return f'Tensor("{self.name}", shape={self.shape}, dtype={self._dtype.name})'
        return f"tf.Tensor({self._array[()]}, shape={self.shape}, dtype={self._dtype.name})"


class TensorReference:
    """What `tensor.ref()` gives: hashable, compared by the tensor's identity."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def deref(self) -> Any:
        return self._tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorReference) and other._tensor is self._tensor

    def __hash__(self) -> int:
        return id(self._tensor)

    def __repr__(self) -> str:
        return f"<Reference wrapping {self._tensor!r}>"


def make_eager(array: np.ndarray[Any, Any], dtype: DType | None = None) -> Tensor:
    """An eager tensor that owns `array`, which nobody may write to afterwards."""
    tensor = object.__new__(Tensor)
    tensor._array = array
    tensor._context = None
    tensor._value = None
    tensor._dtype = BY_NUMPY.get(array.dtype, string) if dtype is None else dtype
    tensor._sizes = array.shape
    tensor._known = None
    return tensor


class TracedTensor(Tensor):
    """A tensor that stands for a value of a graph. A class of its own, because NumPy's ufuncs record on it, while on
    an eager tensor they give ndarrays."""

    __slots__ = ()


def make_traced(context: Any, value: Value | None, dtype: DType, sizes: Sizes | None) -> TracedTensor:
    """A tensor of the trace `context`; `value` is None where a size is unknown."""
    tensor = object.__new__(TracedTensor)
    tensor._context = context
    tensor._value = value
    tensor._dtype = dtype
    tensor._sizes = sizes
    tensor._known = None
    return tensor


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
