"""What makes a Tracer look like an ndarray to Python and NumPy: operators, methods, attributes and protocols.

Owns the attachment of behaviour to `Tracer` and of `__array_ufunc__` to Python numbers. Methods that have a NumPy
function of the same name call its recording version. Must not know clones or the decorator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.tracing import functions, reductions, ufuncs
from jitensor.tracing.arrays import Tracer, as_tracer, concrete, fresh, length, reshape, transpose
from jitensor.tracing.indexing import getitem, setitem
from jitensor.tracing.numbers import Number
from jitensor.tracing.ufuncs import binary, call, to_python

_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "divmod": np.divmod,
}
_COMPARE = {
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _forward(ufunc: np.ufunc) -> Callable[[Tracer, Any], Any]:
    return lambda self, other: binary(ufunc, self, other)


def _reflected(ufunc: np.ufunc) -> Callable[[Tracer, Any], Any]:
    return lambda self, other: binary(ufunc, other, self)


def _in_place(ufunc: np.ufunc) -> Callable[[Tracer, Any], Any]:
    def operate(self: Tracer, other: Any) -> Any:
        if self.scalar:
            return NotImplemented
        call(ufunc, self, other, out=self)
        return self

    return operate


for _name, _ufunc in _BINARY.items():
    setattr(Tracer, f"__{_name}__", _forward(_ufunc))
    setattr(Tracer, f"__r{_name}__", _reflected(_ufunc))
    if _name != "divmod":
        setattr(Tracer, f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in _COMPARE.items():
    setattr(Tracer, f"__{_name}__", _forward(_ufunc))


def _power(self: Tracer, other: Any) -> Any:
    return functions.power(self, other)


def _rpower(self: Tracer, other: Any) -> Any:
    return functions.power(other, self)


def _ipower(self: Tracer, other: Any) -> Any:
    if self.scalar:
        return NotImplemented
    result = functions.power(self, other)
    reductions.resolve_out(result, self)
    ufuncs.assign(self, result)
    return self


def _unary(ufunc: np.ufunc) -> Callable[[Tracer], Any]:
    def operate(self: Tracer) -> Any:
        result = call(ufunc, self)
        return ufuncs.as_weak(result) if self.weak else result

    return operate


def _iter(self: Tracer) -> Iterator[Any]:
    if not self.dims:
        raise TypeError("iteration over a 0-d array")
    n = length(self)
    count = n if isinstance(n, int) else n.__index__()
    return iter([getitem(self, i) for i in range(count)])


def _contains(self: Tracer, item: Any) -> bool:
    return bool(reductions.any_(call(np.equal, self, item)))


def _bool(self: Tracer) -> bool:
    from_data = concrete(self, "`if`, `while`, `and`, `or` or bool()")
    return bool(from_data)


def _index(self: Tracer) -> int:
    if self.dtype.kind not in "iu" or self.dims:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    return int(concrete(self, "Python (an integer index, or range())").item())


def _float(self: Tracer) -> float:
    return float(concrete(self, "float() outside the traced code").item())


def _int(self: Tracer) -> int:
    return int(concrete(self, "int() outside the traced code").item())


def _complex(self: Tracer) -> complex:
    return complex(concrete(self, "complex() outside the traced code").item())


def _array(self: Tracer, dtype: Any = None, copy: Any = None) -> Any:
    """np.asarray of code that jitensor does not see: only constants have a value to give."""
    return np.asarray(concrete(self, "a function that is not traced (it asked for a real array)"), dtype)


def _round(self: Tracer, digits: Any = None) -> Any:
    if not self.scalar:
        raise TypeError("type numpy.ndarray doesn't define __round__ method")
    rounded = functions.round_(self, 0 if digits is None else digits)
    return to_python(rounded, int) if digits is None else ufuncs.as_weak(rounded) if self.weak else rounded


_METHODS = {
    "__pow__": _power,
    "__rpow__": _rpower,
    "__ipow__": _ipower,
    "__neg__": _unary(np.negative),
    "__pos__": _unary(np.positive),
    "__abs__": _unary(np.absolute),
    "__invert__": _unary(np.invert),
    "__getitem__": getitem,
    "__setitem__": setitem,
    "__iter__": _iter,
    "__bool__": _bool,
    "__contains__": _contains,
    "__index__": _index,
    "__float__": _float,
    "__int__": _int,
    "__complex__": _complex,
    "__array__": _array,
    "__round__": _round,
    "__trunc__": lambda self: to_python(call(np.trunc, self), int),
    "__floor__": lambda self: to_python(call(np.floor, self), int),
    "__ceil__": lambda self: to_python(call(np.ceil, self), int),
    "__matmul__": lambda self, other: functions.matmul(self, other),
    "__rmatmul__": lambda self, other: functions.matmul(other, self),
    "__copy__": lambda self: functions.copy(self),
    "__deepcopy__": lambda self, memo: functions.copy(self),
}


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **options: function(self, *args, **options)


def _astype(
    self: Tracer, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    return functions.astype(self, dtype, order=order, casting=casting, copy=copy)


def _reshape(self: Tracer, *shape: Any, order: str = "C", copy: Any = None) -> Any:
    target = shape[0] if len(shape) == 1 and not _is_integer(shape[0]) else shape
    return functions.reshape(self, target, order=order)


def _is_integer(x: Any) -> bool:
    return not isinstance(x, (tuple, list, Tracer)) or (isinstance(x, Tracer) and not x.dims)


def _transpose(self: Tracer, *axes: Any) -> Any:
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        return functions.transpose(self, axes[0] or None)
    return functions.transpose(self, axes or None)


def _item(self: Tracer, *index: Any) -> Any:
    if index:
        key = index if len(index) > 1 else index[0]
        # One number counts the elements in C order, whatever the rank.
        self = getitem(self if isinstance(key, tuple) else functions.reshape(self, -1), key)
    if isinstance(self, Tracer) and self.dims:
        self = reshape(self, ())
    return ufuncs.as_weak(self)


def _fill(self: Tracer, value: Any) -> None:
    ufuncs.assign(self, value)


def _view(self: Tracer, *args: Any, **options: Any) -> Any:
    if not args and not options:
        return getitem(self, Ellipsis)
    raise TraceError(
        "ndarray.view(dtype): reinterpreting memory is not supported. Use astype.", location=user_location()
    )


def _sort(self: Tracer, axis: int = -1, **options: Any) -> None:
    ufuncs.assign(self, functions.sort(self, axis, **options))


def _partition(self: Tracer, kth: Any, axis: int = -1, **options: Any) -> None:
    ufuncs.assign(self, functions.dispatch(np.partition, (self, kth, axis), options))


def _unsupported(name: str) -> Callable[..., Any]:
    def method(self: Tracer, *args: Any, **options: Any) -> Any:
        raise TraceError(
            f"ndarray.{name}: not supported in a traced function. Do this part outside the jitted function.",
            location=user_location(),
        )

    return method


_METHODS.update(
    astype=_astype,
    reshape=_reshape,
    transpose=_transpose,
    item=_item,
    fill=_fill,
    view=_view,
    sort=_sort,
    **{
        name: _method(getattr(reductions, function))
        for name, function in {
            "sum": "sum_",
            "prod": "prod",
            "max": "max_",
            "min": "min_",
            "mean": "mean",
            "var": "var",
            "std": "std",
            "any": "any_",
            "all": "all_",
            "argmax": "argmax",
            "argmin": "argmin",
            "cumsum": "cumsum",
            "cumprod": "cumprod",
            "trace": "trace",
        }.items()
    },
    **{
        name: _method(getattr(functions, function))
        for name, function in {
            "ravel": "ravel",
            "flatten": "flatten",
            "swapaxes": "swapaxes",
            "squeeze": "squeeze",
            "copy": "copy_c",
            "dot": "dot",
            "clip": "clip",
            "round": "round_",
            "take": "take",
            "repeat": "repeat",
            "diagonal": "diagonal",
            "argsort": "argsort",
            "searchsorted": "searchsorted",
        }.items()
    },
    nonzero=lambda self: functions.dispatch(np.nonzero, (self,), {}),
    compress=lambda self, condition, axis=None, out=None: functions.dispatch(
        np.compress, (condition, self, axis, out), {}
    ),
    choose=lambda self, choices, out=None, mode="raise": functions.dispatch(np.choose, (self, choices, out, mode), {}),
    put=lambda self, indices, values, mode="raise": functions.dispatch(np.put, (self, indices, values, mode), {}),
    partition=_partition,
    argpartition=lambda self, *args, **options: functions.dispatch(np.argpartition, (self, *args), options),
    conj=lambda self: call(np.conjugate, self),
    conjugate=lambda self: call(np.conjugate, self),
    **{
        name: _unsupported(name)
        for name in (
            *("tolist", "tobytes", "tofile", "dump", "dumps", "setflags", "resize", "byteswap", "getfield", "setfield"),
            *("newbyteorder", "to_device"),
        )
    },
)
for _name, _function in _METHODS.items():
    setattr(Tracer, _name, _function)


def _missing(self: Tracer, name: str) -> Any:
    kind = f"numpy.{self.dtype.name}" if self.scalar else "numpy.ndarray"
    raise AttributeError(f"'{self.weak.__name__ if self.weak else kind}' object has no attribute '{name}'")


setattr(Tracer, "__getattr__", _missing)  # noqa: B010


class Flags:
    """x.flags, for reading."""

    def __init__(self, x: Tracer) -> None:
        self.c_contiguous = x.contiguous
        self.f_contiguous = transpose(x, range(len(x.dims))[::-1]).contiguous or (len(x.dims) < 2 and x.contiguous)
        self.contiguous, self.fortran = self.c_contiguous, self.f_contiguous and not self.c_contiguous
        self.writeable = x.cell.writable and not x.scalar
        self.aligned = True

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name.lower())


def _set_shape(self: Tracer, shape: Any) -> None:
    raise TraceError("setting x.shape: not supported in a traced function. Use x.reshape.", location=user_location())


def _real(self: Tracer) -> Any:
    return functions.real(self)


def _imag(self: Tracer) -> Any:
    return functions.imag(self)


def _set_real(self: Tracer, value: Any) -> None:
    functions.set_part(self, "real", value)


def _set_imag(self: Tracer, value: Any) -> None:
    functions.set_part(self, "imag", value)


setattr(Tracer, "T", property(lambda self: transpose(self, range(len(self.dims))[::-1])))  # noqa: B010
setattr(Tracer, "mT", property(lambda self: functions.swapaxes(self, -1, -2)))  # noqa: B010
setattr(Tracer, "real", property(_real, _set_real))  # noqa: B010
setattr(Tracer, "imag", property(_imag, _set_imag))  # noqa: B010
setattr(Tracer, "shape", property(Tracer.shape.fget, _set_shape))  # type: ignore[attr-defined]  # noqa: B010
setattr(Tracer, "flat", property(lambda self: functions.ravel(self)))  # noqa: B010
setattr(Tracer, "flags", property(Flags))  # noqa: B010
setattr(Tracer, "base", property(lambda self: None))  # noqa: B010


# Protocols: how NumPy's own functions meet a tracer in code that is not cloned ----------------------------------------


def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy's hook: a ufunc met a tracer or a traced number."""
    out = options.get("out")
    if isinstance(out, tuple) and len(out) == 1:
        options["out"] = out[0]
    if any(isinstance(o, np.ndarray) for o in (out if isinstance(out, tuple) else (out,))):
        raise TraceError(
            f"{ufunc.__name__}: writes into an array that the trace does not own (an attribute of an object, or an "
            "array made in code that is not traced). Pass the array as an argument, or make a new one.",
            location=user_location(),
        )
    return functions.ufunc_method(ufunc, method, *inputs, **options)


def array_function(self: Any, function: Any, classes: Any, args: Any, options: Any) -> Any:
    """NumPy's hook: a NumPy function met a tracer."""
    return functions.dispatch(function, args, options)


setattr(Tracer, "__array_ufunc__", array_ufunc)  # noqa: B010
setattr(Tracer, "__array_function__", array_function)  # noqa: B010
setattr(Number, "__array_ufunc__", array_ufunc)  # noqa: B010
setattr(Number, "__array_function__", array_function)  # noqa: B010


def scalar_of(x: Any) -> Tracer:
    """np.float64(x) and the like start here: x as a 0-d or higher array."""
    tracer = as_tracer(x.context, x)
    return tracer if tracer.dims else fresh(tracer.context, tracer.value(), scalar=True)
