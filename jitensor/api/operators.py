"""Python's operators and NumPy's protocols on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.api import elementwise as e
from jitensor.api.indexing import boolean_mask
from jitensor.api.linear import matmul
from jitensor.api.numpy_protocol import array_function, array_ufunc
from jitensor.api.slicing import get_item
from jitensor.ir.types import bool_
from jitensor.tensor import Stateful, Tensor, TracedTensor


def _forward(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def operator(self: Any, other: Any) -> Any:
        return function(self, other) if _is_operand(other) else NotImplemented

    return operator


def _reflected(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def operator(self: Any, other: Any) -> Any:
        return function(other, self) if _is_operand(other) else NotImplemented

    return operator


_OPERANDS = (Tensor, int, float, complex, list, tuple, np.ndarray, np.generic)


def _is_operand(value: Any) -> bool:
    return isinstance(value, _OPERANDS) or hasattr(value, "__array__") or hasattr(type(value), "__tf_tensor__")


def _by_dtype(logical: Callable[..., Any], bitwise: Callable[..., Any]) -> Callable[..., Any]:
    def function(x: Any, y: Any) -> Any:
        tensor = x if isinstance(x, (Tensor, Stateful)) else y
        return logical(x, y) if tensor._dtype is bool_ else bitwise(x, y)

    return function


_BINARY: dict[str, Callable[..., Any]] = {
    "add": e.add,
    "sub": e.subtract,
    "mul": e.multiply,
    "truediv": e.divide,
    "floordiv": e.floordiv,
    "mod": e.floormod,
    "pow": e.power,
    "matmul": matmul,
    "and": _by_dtype(e.logical_and, e.bitwise_and),
    "or": _by_dtype(e.logical_or, e.bitwise_or),
    "xor": _by_dtype(e.logical_xor, e.bitwise_xor),
}
_COMPARISONS = {"lt": e.less, "le": e.less_equal, "gt": e.greater, "ge": e.greater_equal}


def _invert(self: Any) -> Any:
    return e.logical_not(self) if self._dtype is bool_ else e.invert(self)


def _get_item(self: Tensor, key: Any) -> Any:
    """Basic indexing, or the elements under a bool mask."""
    if isinstance(key, (Tensor, np.ndarray)) and key.dtype == bool_ and key.shape != ():
        return boolean_mask(self, key)
    return get_item(self, key)


def put_arithmetic_on(kind: Any) -> None:
    """Puts the operators on a class whose instances ops accept."""
    for name, function in _BINARY.items():
        setattr(kind, f"__{name}__", _forward(function))
        setattr(kind, f"__r{name}__", _reflected(function))
    for name, function in _COMPARISONS.items():
        setattr(kind, f"__{name}__", _forward(function))
    kind.__neg__ = lambda self: e.negative(self)
    kind.__abs__ = lambda self: e.absolute(self)
    kind.__invert__ = _invert


def install() -> None:
    """Puts the operators on the classes of tensors."""
    put_arithmetic_on(Tensor)
    own: dict[str, Any] = {
        "__eq__": e.same_value,
        "__ne__": e.other_value,
        "__pos__": lambda self: self,
        "__getitem__": _get_item,
    }
    for name, function in own.items():
        setattr(Tensor, name, function)
    TracedTensor.__array_ufunc__ = array_ufunc  # type: ignore[attr-defined]
    TracedTensor.__array_function__ = array_function  # type: ignore[attr-defined]
