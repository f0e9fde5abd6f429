"""Variables: mutable state that ops read at every call, under TensorFlow's face.

Owns `Variable`, its type in the key (`VariableSpec`), what a Variable made while tracing reports to (`Creation`), and
`lend`, by which a program writes a Variable's array in place. Must not know how traces run.

A tensor that was read from a Variable shares its array. A write goes in place where nobody else holds the array, and
otherwise to a new one, so such a tensor keeps its elements.

    >>> v = jt.Variable([1.0, 2.0]); v.assign_add([1.0, 1.0])
    <tf.Variable 'Variable:0' shape=(2,) dtype=float32, numpy=array([2., 3.], dtype=float32)>
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jitensor.api import elementwise, indexing
from jitensor.api.convert import convert_to_tensor
from jitensor.api.effects import suspended
from jitensor.api.operators import put_arithmetic_on
from jitensor.api.slicing import get_item, sliced_update
from jitensor.errors import FailedPreconditionError, InvalidArgumentError, ShapeError, describe, user_location
from jitensor.ir.types import DType, as_dtype, float32, string
from jitensor.quiet import without_warnings
from jitensor.recording import known_elements
from jitensor.runtime.signature import TraceType
from jitensor.runtime.tensor_shape import TensorShape
from jitensor.tensor import CPU, Stateful, Tensor, TensorReference, active, make_eager

Array = np.ndarray[Any, Any]

# In the key -----------------------------------------------------------------------------------------------------------


class VariableSpec(TraceType):
    """A Variable in the key: declared shape, dtype, trainable, and the position of its first appearance in the call, so
    that f(a, a) and f(a, b) are two traces. Mirrors tf.VariableSpec."""

    __slots__ = ("shape", "dtype", "trainable", "alias_id", "__weakref__")

    def __init__(self, shape: Any, dtype: Any = float32, trainable: bool = True, alias_id: int | None = None) -> None:
        self.shape = shape if isinstance(shape, TensorShape) else TensorShape(shape)
        self.dtype: DType = as_dtype(dtype)
        self.trainable = trainable
        self.alias_id = alias_id

    def _alike(self, other: object) -> bool:
        return (
            isinstance(other, VariableSpec)
            and self.dtype is other.dtype
            and self.trainable == other.trainable
            and self.alias_id == other.alias_id
        )

    def is_subtype_of(self, other: TraceType) -> bool:
        return isinstance(other, VariableSpec) and self._alike(other) and self.shape.is_subtype_of(other.shape)

    def most_specific_common_supertype(self, others: Sequence[TraceType]) -> VariableSpec | None:
        specs = [o for o in others if isinstance(o, VariableSpec)]
        if len(specs) < len(others) or not all(self._alike(o) for o in specs):
            return None
        shape = self.shape.most_specific_common_supertype([o.shape for o in specs])
        return VariableSpec(shape, self.dtype, self.trainable, self.alias_id)

    def placeholder_value(self, placeholder_context: Any) -> Any:
        return placeholder_context.variable(self)

    def to_references(self, value: Any) -> list[Any]:
        return [value]

    def cast(self, value: Any, cast_context: Any) -> Any:
        fits = (
            isinstance(value, Variable)
            and value.dtype is self.dtype
            and value.trainable == self.trainable
            and value.shape.is_subtype_of(self.shape)
        )
        if not fits:
            raise TypeError(f"needed a Variable of {self!r}, got {value!r}")
        return value

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, VariableSpec) and self._alike(other) and self.shape.sizes == other.shape.sizes
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.trainable, self.alias_id))

    def __repr__(self) -> str:
        return (
            f"VariableSpec(shape={self.shape}, dtype=tf.{self.dtype.name}, trainable={self.trainable}, "
            f"alias_id={self.alias_id})"
        )


# Made while tracing ---------------------------------------------------------------------------------------------------


class Creation:
    """What the Variables made in one trace are reported to. `initialisers`: those whose first value is traced."""

    def __init__(self, allowed: bool, name: str) -> None:
        self.allowed = allowed
        self.name = name
        self.trace: Any = None
        self.inputs: Sequence[Tensor] = ()
        self.stand_ins: Sequence[Variable] = ()
        self.variables: list[Variable] = []
        self.initialisers: list[tuple[Variable, Tensor]] = []

    def check(self) -> None:
        if not self.allowed:
            raise ValueError(
                f"{self.name} made a Variable in a call after its first, or in each trace of its first call. A traced "
                "function may make Variables once only: keep it, and make it if there is none yet "
                f"(`if self.w is None: self.w = jt.Variable(...)`).      {user_location()}"
            )


def creation_of(trace: Any) -> Creation | None:
    """What Variables made now are reported to."""
    for one in (trace, *reversed(trace.parents)):
        if one.creation is not None:
            found: Creation = one.creation
            return found
    return None


# Holding the array ----------------------------------------------------------------------------------------------------


class _Held:
    __slots__ = ("_array",)
    _array: Array


def _references(holder: Any) -> int:
    return sys.getrefcount(holder._array)


_probe = _Held()
_probe._array = np.zeros(1)
_ALONE = _references(_probe)  # what the count is where only the holder has the array


class Variable(Stateful):
    """A tensor that can be assigned to. Mirrors tf.Variable.

    initial_value: a tensor, array, number, nested list, or a function without parameters that gives one. dtype: of the
    Variable; a tensor must have it already. shape: what may be assigned, by default the initial value's; sizes may be
    None.
    """

    __slots__ = (
        "_array",
        "_dtype",
        "_shape",
        "_trainable",
        "_name",
        "_lock",
        "_aggregation",
        "__dict__",
        "__weakref__",
    )
    _array: Array | None
    __array_priority__ = 110
    SaveSliceInfo = None

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        import_scope: str | None = None,
        constraint: Callable[[Any], Any] | None = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
        experimental_enable_variable_lifting: bool = True,
    ) -> None:
        if initial_value is None:
            raise ValueError("Variable: initial_value was not given; it is a tensor, an array, a number, or a function")
        trace = active.context if active.context is not None else active.suspended
        creation = None if trace is None else creation_of(trace)
        if creation is not None:
            creation.check()
        value = _initial_tensor(initial_value, None if dtype is None else as_dtype(dtype))
        declared = value.shape if shape is None else TensorShape(shape)
        if not declared.is_compatible_with(value.shape):
            raise ValueError(
                f"Variable: the initial value has shape {value.shape}, which shape={declared} does not cover"
            )
        if value.dtype is string:
            raise TypeError("Variable: strings cannot be Variables; keep them as tensors or Python values")
        self._set(declared, value.dtype, trainable is None or bool(trainable), name or "Variable")
        if constraint is not None:
            self.constraint = constraint
        known = known_elements(value)
        if known is not None and known.dtype == value.dtype.numpy:
            self._array = _owned(known)
        elif creation is not None:
            creation.initialisers.append((self, value))
        if creation is not None:
            creation.variables.append(self)

    def _set(self, shape: TensorShape, dtype: DType, trainable: bool, name: str) -> None:
        self._array = None
        self._dtype = dtype
        self._shape = shape
        self._trainable = trainable
        self._name = "/".join((*active.scopes, name))
        self._lock = threading.RLock()

    # What it is -------------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def shape(self) -> TensorShape:
        return self._shape

    def get_shape(self) -> TensorShape:
        return self._shape

    @property
    def ndim(self) -> int:
        rank = self._shape.rank
        if rank is None:
            raise ValueError("the rank of this Variable is unknown")
        return rank

    @property
    def trainable(self) -> bool:
        return self._trainable

    @property
    def name(self) -> str:
        return self._name + ":0"

    @property
    def device(self) -> str:
        return CPU

    @property
    def handle(self) -> Variable:
        return self

    constraint: Callable[[Any], Any] | None = None
    synchronization = aggregation = None

    def ref(self) -> TensorReference:
        """A hashable stand-in, equal where the Variables are the same object."""
        return TensorReference(self)

    experimental_ref = ref

    def is_initialized(self, name: str | None = None) -> Any:
        return convert_to_tensor(self._array is not None)

    def set_shape(self, shape: Any) -> None:
        self._shape = self._shape.merge_with(shape)

    def __tf_tracing_type__(self, context: Any) -> VariableSpec:
        return VariableSpec(self._shape, self._dtype, self._trainable, context.number(self))

    # Reads ------------------------------------------------------------------------------------------------------------

    def _held(self) -> Array:
        """The array, which may change at the next write."""
        with self._lock:
            array = self._array
        if array is None:
            raise FailedPreconditionError.of(
                f"Variable {self.name}", "it is read", "it has no value yet", "Assign one, or run what makes it first"
            )
        return array

    def _read(self) -> Tensor:
        trace = active.context
        if trace is not None:
            return trace.read(self)
        tensor = make_eager(self._held(), self._dtype)
        for tape in active.tapes:
            tape.variable_read(self, tensor)
        return tensor

    def value(self) -> Tensor:
        """The elements now, as a tensor."""
        return self._read()

    def read_value(self) -> Tensor:
        return self._read()

    @property
    def initial_value(self) -> Tensor:
        return self._read()

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        return indexing.gather_nd(self, indices)

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        return indexing.gather(self, indices)

    def numpy(self) -> Any:
        """A fresh ndarray of the elements; of a scalar a NumPy scalar."""
        if active.context is not None:
            raise NotImplementedError(
                f"numpy() of {self.name} is not defined inside jt.function: its elements are known only when called; "
                f"compute with jt ops, or use jt.numpy_function.      {user_location()}"
            )
        array = self._held()
        return array.copy() if array.ndim else array[()]

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Tensor:
        return self._read()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self._read().__array__(dtype, copy)

    def __getitem__(self, key: Any) -> Any:
        tensor = get_item(self, key)
        tensor._writes = SliceWrites(self, key)
        return tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __bool__(self) -> bool:
        return bool(self._read())

    def __int__(self) -> int:
        return int(self._read())

    def __float__(self) -> float:
        return float(self._read())

    def __complex__(self) -> complex:
        return complex(self._read())

    def __index__(self) -> int:
        return self._read().__index__()

    def __eq__(self, other: object) -> Any:
        return elementwise.same_value(self._read(), other._read() if isinstance(other, Variable) else other)

    def __ne__(self, other: object) -> Any:
        return elementwise.other_value(self._read(), other._read() if isinstance(other, Variable) else other)

    def __hash__(self) -> int:
        raise TypeError("Variable is unhashable. Instead, use variable.ref() as the key.")

    def __pos__(self) -> Tensor:
        return self._read()

    def __format__(self, spec: str) -> str:
        return format(self._read(), spec) if spec else str(self)

    # Writes -----------------------------------------------------------------------------------------------------------

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Makes `value` the Variable's value; gives the Variable. Raises ValueError for another shape or dtype."""
        return self._assign("assign", convert_to_tensor(value, self._dtype))

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Adds `delta`, which has the Variable's shape and dtype."""
        return self._change("assign_add", elementwise.add, np.add, delta)

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Subtracts `delta`, which has the Variable's shape and dtype."""
        return self._change("assign_sub", elementwise.subtract, np.subtract, delta)

    def _assign(self, op: str, tensor: Tensor) -> Variable:
        self._check(op, tensor, self._shape)
        trace = active.context
        if trace is not None:
            trace.assign(self, tensor)
        else:
            self._store(tensor._data(op))
        return self

    def _change(self, op: str, function: Callable[..., Tensor], ufunc: Any, delta: Any) -> Variable:
        plain = delta.__class__ is Tensor and delta._dtype is self._dtype
        by = delta if plain else convert_to_tensor(delta, self._dtype)
        if active.context is not None:
            self._check(op, by, self._shape)
            return self._assign(op, function(self, by))
        change = by._data(op)
        with self._lock:
            if self._held().shape != change.shape:
                self._check(op, by, TensorShape.of(self._held().shape))
            if self._dtype.kind in "iufc" and self._is_alone():
                without_warnings(ufunc, (self._array, change, self._array))  # the last is where the result goes
            else:
                with _recording_no_tape():
                    self._store(function(self._read(), by)._data(op))
        return self

    def _check(self, op: str, tensor: Tensor, needed: TensorShape) -> None:
        if needed.is_compatible_with(tensor.shape):
            return
        message = describe(
            op,
            f"the value has shape {tensor.shape}",
            f"{self.name} has shape {needed}",
            "Reshape or broadcast the value",
        )
        kind = ShapeError if op == "assign" or active.context is not None else InvalidArgumentError
        raise kind(message, location=user_location())

    def _store(self, array: Array) -> None:
        """Takes an array that nobody may write to afterwards."""
        array = _owned(array)
        with self._lock:
            self._array = array

    def _is_alone(self) -> bool:
        """May the array be written in place? Callers hold the lock."""
        array = self._array
        if array is None or array.base is not None or not array.flags.writeable or not array.flags.c_contiguous:
            return False
        del array
        return _references(self) <= _ALONE

    def _take(self) -> Array:
        """The array, for a caller who writes it in place: a copy takes its place where others hold it. Callers hold the
        lock."""
        if not self._is_alone():
            self._array = np.array(self._held(), order="C")
        assert self._array is not None
        return self._array

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Replaces the slices at `indices`."""
        return self._assign("scatter_nd_update", indexing.tensor_scatter_nd_update(self, indices, updates))

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Adds to the slices at `indices`."""
        return self._assign("scatter_nd_add", indexing.tensor_scatter_nd_add(self, indices, updates))

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Subtracts from the slices at `indices`."""
        return self._assign("scatter_nd_sub", indexing.tensor_scatter_nd_sub(self, indices, updates))

    # Copies, text -----------------------------------------------------------------------------------------------------

    def __copy__(self) -> Variable:
        return self

    def __deepcopy__(self, memo: Any) -> Variable:
        other = object.__new__(type(self))
        memo[id(self)] = other
        with _no_scopes():
            other._set(self._shape, self._dtype, self._trainable, self._name)
        other._array = None if self._array is None else self._held().copy()
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._held(), self._shape, self._dtype, self._trainable, self._name)

    def __repr__(self) -> str:
        head = f"<tf.Variable '{self.name}' shape={self._shape} dtype={self._dtype.name}"
        if active.context is not None:
            return f"{head}>"
        return f"{head}, numpy={'<uninitialised>' if self._array is None else repr(self._array[()])}>"


put_arithmetic_on(Variable)


def _in_place(self: Variable, other: Any) -> Any:
    raise RuntimeError(
        "`variable += value` and its kin are not supported: use `variable.assign_add(value)` to change the Variable or "
        f"`out = variable + value` for a new tensor.      {user_location()}"
    )


for _name in ("iadd", "isub", "imul", "itruediv", "ipow"):
    setattr(Variable, f"__{_name}__", _in_place)


def _unpickled(array: Array, shape: TensorShape, dtype: DType, trainable: bool, name: str) -> Variable:
    with _no_scopes():
        return Variable(array, trainable, name=name, dtype=dtype, shape=shape)


@contextlib.contextmanager
def _no_scopes() -> Iterator[None]:
    before, active.scopes = active.scopes, ()
    try:
        yield
    finally:
        active.scopes = before


@contextlib.contextmanager
def _recording_no_tape() -> Iterator[None]:
    before, active.tapes = active.tapes, ()
    try:
        yield
    finally:
        active.tapes = before


def _owned(array: Array) -> Array:
    """The array itself where its memory is its own and in order, else a copy."""
    if array.base is None and array.flags.c_contiguous and array.flags.writeable and array.dtype.isnative:
        return array
    return np.array(array, order="C")


def _initial_tensor(value: Any, dtype: DType | None) -> Tensor:
    if callable(value) and not isinstance(value, Variable):
        with suspended():
            return convert_to_tensor(value(), dtype)
    if isinstance(value, (Tensor, Stateful, list, tuple)):
        return convert_to_tensor(value, dtype)
    with suspended():
        return convert_to_tensor(value, dtype)


def stand_in(spec: VariableSpec, name: str) -> Variable:
    """What the body sees for a Variable argument: bound to the argument at each call."""
    variable = object.__new__(Variable)
    with _no_scopes():
        variable._set(spec.shape, spec.dtype, spec.trainable, name)
    return variable


# Slices that can be assigned to ---------------------------------------------------------------------------------------


class SliceWrites:
    """`v[1:].assign(x)`: what a slice of a Variable has beside the tensor of its elements."""

    __slots__ = ("_variable", "_key")

    def __init__(self, variable: Variable, key: Any) -> None:
        self._variable = variable
        self._key = key

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Writes `value`, which broadcasts, to this part of the Variable; gives the Variable."""
        return self._write("assign", convert_to_tensor(value, self._variable.dtype))

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        return self._write("assign_add", elementwise.add(get_item(self._variable, self._key), delta))

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        return self._write("assign_sub", elementwise.subtract(get_item(self._variable, self._key), delta))

    def _write(self, op: str, value: Tensor) -> Variable:
        variable = self._variable
        return variable._assign(op, sliced_update(variable, self._key, value))
