"""What a clone sees instead of NumPy, SciPy, math and some builtins: objects that record when an operand is traced.

Owns the stand-ins and `substitute`, which maps a real object to its stand-in. Names keep their meaning: `np.float32`
stays a class that compares equal to the real one, `isinstance` answers for what a tracer stands for. Must not know
clones.
"""

from __future__ import annotations

import builtins
import cmath
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.ir.types import TensorType
from jitensor.ops import TABLE, composites
from jitensor.tracing import functions, numbers, ufuncs
from jitensor.tracing.arrays import Tracer, any_traced, as_tracer, constant_array, context_of, fresh, length, supported
from jitensor.tracing.context import current
from jitensor.tracing.library import record_call
from jitensor.tracing.numbers import IntNumber, Number
from jitensor.tracing.objects import ObjectView, real_object
from jitensor.tracing.reductions import normalise_axes, normalise_axis


def needs_recording(args: Any, options: dict[str, Any]) -> bool:
    """True when an operand is traced, or is an array, which a later call may find changed."""
    if any_traced(args) or (options and any_traced(options.values())):
        return True
    return any(isinstance(a, np.ndarray) for a in (*args, *options.values()))


def real_of(value: Any) -> Any:
    """The real object behind a stand-in."""
    if isinstance(value, StandIn):
        return value.original_
    if issubclass(type(value), ObjectView):
        return real_object(value)
    if isinstance(value, type) and isinstance(value, ClassDoor):
        return value.stands_for
    return value


def _plain(args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return tuple([real_of(a) for a in args]), {name: real_of(v) for name, v in options.items()}


def _local(result: Any) -> Any:
    """An array that NumPy made from constants, as a traced array that can be written to."""
    if type(result) is np.ndarray and current() is not None and result.dtype != object:
        return constant_array(current(), result)  # type: ignore[arg-type]
    return result


class StandIn:
    """Base of the stand-ins; unknown attributes are the real object's."""

    def __init__(self, real: Any) -> None:
        self.original_ = real

    def __getattr__(self, name: str) -> Any:
        return substitute(getattr(self.original_, name))

    def __eq__(self, other: object) -> bool:
        return self.original_ is real_of(other)

    def __hash__(self) -> int:
        return hash(self.original_)

    def __repr__(self) -> str:
        return repr(self.original_)


class FunctionDoor(StandIn):
    """A NumPy function: recorded on traced operands, NumPy's own otherwise."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        args, options = _plain(args, options)
        version = functions.RECORDED.get(self.original_)
        if self.original_ in functions.CREATES and current() is not None:
            return version(*args, **options)  # type: ignore[misc]
        if version is not None and needs_recording(args, options):
            return version(*args, **options)
        if any_traced(args) or any_traced(options.values()):
            return functions.dispatch(self.original_, args, options)
        return _local(self.original_(*args, **options))


class UfuncDoor(StandIn):
    """A ufunc and its methods."""

    def _run(self, method: str, args: Any, options: dict[str, Any]) -> Any:
        args, options = _plain(args, options)
        if needs_recording(args, options):
            return functions.ufunc_method(self.original_, method, *args, **options)
        return _local(getattr(self.original_, method)(*args, **options))

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._run("__call__", args, options)

    def reduce(self, *args: Any, **options: Any) -> Any:
        return self._run("reduce", args, options)

    def accumulate(self, *args: Any, **options: Any) -> Any:
        return self._run("accumulate", args, options)

    def outer(self, *args: Any, **options: Any) -> Any:
        return self._run("outer", args, options)

    def at(self, *args: Any, **options: Any) -> Any:
        return self._run("at", args, options)


class ModuleDoor(StandIn):
    """numpy, scipy.special, math ... inside a clone."""


class RandomDoor(StandIn):
    """numpy.random: a draw would be frozen in the trace."""

    def __getattr__(self, name: str) -> Any:
        raise TraceError(
            f"{getattr(self.original_, '__name__', type(self.original_).__name__)}.{name}: random numbers drawn in a "
            "traced function would be the same at every call. Draw them outside and pass the array.",
            location=user_location(),
        )


# Classes: scalar types of NumPy, and float, int, complex --------------------------------------------------------------


class ClassDoor(type):
    """Metaclass of a class that stands for another: calling it may record; otherwise it is the real one."""

    stands_for: type
    convert: Callable[..., Any]

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if args and isinstance(args[0], (Tracer, Number)):
            return cls.convert(*args, **options)
        return cls.stands_for(*args, **options)

    def __eq__(cls, other: object) -> bool:
        return other is cls or cls.stands_for == real_of(other)

    def __hash__(cls) -> int:
        return hash(cls.stands_for)

    def __instancecheck__(cls, value: Any) -> bool:
        return is_instance(value, cls.stands_for)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(real_of(other), cls.stands_for)

    def __repr__(cls) -> str:
        return repr(cls.stands_for)


def _class_door(real: type, convert: Callable[..., Any], dtype: Any) -> Any:
    metaclass: Any = ClassDoor
    if type(real) is not type:
        metaclass = type("ClassDoor", (ClassDoor, type(real)), {})
    namespace = {"__module__": real.__module__, "__qualname__": real.__qualname__}
    door = metaclass(real.__name__, (real,), namespace)
    type.__setattr__(door, "stands_for", real)
    type.__setattr__(door, "convert", staticmethod(convert))
    type.__setattr__(door, "dtype", dtype)
    return door


def _scalar_type(real: type) -> Any:
    """np.float64(x): a scalar of that dtype for a 0-d x, an array for an array."""

    def convert(x: Any) -> Any:
        tracer = as_tracer(x.context, x)
        value = ufuncs.cast(x.context, tracer.value(), supported(real))
        if isinstance(x, IntNumber) and np.dtype(real).kind in "iu":
            value = ufuncs.to_dtype(x.context, x, supported(real))
        return fresh(x.context, value, scalar=not value.shape, layout=tracer.layout)

    return _class_door(real, convert, np.dtype(real))


def _float(x: Any = 0.0) -> Any:
    x = numbers.known_or_traced(x)
    if isinstance(x, Tracer):
        return ufuncs.to_python(x, float)
    return numbers.apply(float, x) if x.kind is not float else x


def _int(x: Any = 0, base: Any = None) -> Any:
    if isinstance(x, Tracer):
        return ufuncs.to_python(x, int)
    return numbers.apply(int, x) if x.kind is not int else x


def _complex(x: Any = 0.0, imag: Any = None) -> Any:
    x, imag = numbers.known_or_traced(x), numbers.known_or_traced(imag)
    if isinstance(x, Tracer) or isinstance(imag, Tracer):
        z = x if imag is None else x + imag * 1j
        return ufuncs.to_python(as_tracer(z.context, z), complex)
    return numbers.apply(complex, x) if imag is None else numbers.apply(complex, x, imag)


float_door = _class_door(float, _float, np.dtype(float))
int_door = _class_door(int, _int, np.dtype(int))
complex_door = _class_door(complex, _complex, np.dtype(complex))
_CLASSES: dict[Any, Any] = {float: float_door, int: int_door, complex: complex_door}


def _class_of(real: Any) -> Any:
    if real not in _CLASSES:
        _CLASSES[real] = _scalar_type(real)
    return _CLASSES[real]


# Builtins -------------------------------------------------------------------------------------------------------------


def stands_for(value: Any) -> Any:
    """An object of the type that a tracer or traced number stands for."""
    if isinstance(value, Number):
        return value.hint
    if isinstance(value, Tracer):
        if value.weak is not None:
            return value.weak(0)
        return value.dtype.type(0) if value.scalar else np.empty((0,) * len(value.dims), value.dtype)
    return real_of(value)


def is_instance(value: Any, classes: Any) -> bool:
    """isinstance, for what the value stands for."""
    return builtins.isinstance(stands_for(value), _real_classes(classes))


def _real_classes(classes: Any) -> Any:
    if builtins.isinstance(classes, tuple):
        return tuple([_real_classes(c) for c in classes])
    return builtins.type if classes is type_of else real_of(classes)


def type_of(value: Any, *rest: Any) -> Any:
    """type(x) of what x stands for."""
    if rest:
        return builtins.type(value, *rest)
    if isinstance(value, StandIn):
        return builtins.type(value.original_)
    value = real_object(value)
    kind = builtins.type(stands_for(value)) if isinstance(value, (Tracer, Number)) else builtins.type(value)
    return substitute(kind)


def len_of(value: Any) -> Any:
    return length(value) if isinstance(value, Tracer) else builtins.len(value)


def _extreme(name: str, ufunc: np.ufunc) -> Callable[..., Any]:
    real = getattr(builtins, name)

    def pick(*args: Any, **options: Any) -> Any:
        items = args
        if len(args) == 1 and isinstance(args[0], (Tracer, list, tuple)):
            items = tuple(args[0])  # type: ignore[arg-type]
        if options or not items or not any_traced(items):
            return real(*args, **options)
        if not any(isinstance(i, Tracer) for i in items):
            if all(isinstance(i, IntNumber) or type(i) is int for i in items):
                return _int_extreme(name, items)
            return numbers.apply(real, *items)
        best = items[0]
        for item in items[1:]:
            weak = ufuncs.is_weak(best) and ufuncs.is_weak(item)
            best = functions.where(ufuncs.call(ufunc, item, best), item, best)
            best = ufuncs.as_weak(best) if weak else fresh(best.context, best.value(), scalar=not best.dims)
        return best

    pick.__name__ = name
    return pick


def _int_extreme(name: str, items: Any) -> Any:
    from_numbers = [i for i in items if isinstance(i, IntNumber)]
    context = from_numbers[0].context
    best = numbers.as_dim(items[0])
    for item in items[1:]:
        best = numbers.dims.opaque(name, best, numbers.as_dim(item))
    return numbers.make_int(context, best)


BUILTINS: dict[str, Any] = {
    "len": len_of,
    "isinstance": is_instance,
    "type": type_of,
    "float": float_door,
    "int": int_door,
    "complex": complex_door,
    "max": _extreme("max", np.greater),
    "min": _extreme("min", np.less),
}
_BY_IDENTITY = {id(getattr(builtins, name)): stand_in for name, stand_in in BUILTINS.items()}


# math -----------------------------------------------------------------------------------------------------------------

_UFUNC_OF_MATH = {
    **{
        name: getattr(np, name)
        for name in ("exp", "expm1", "log1p", "log2", "log10", "sqrt", "cbrt", "sin", "cos", "tan")
    },
    **{name: getattr(np, name) for name in ("sinh", "cosh", "tanh", "degrees", "radians", "copysign", "fmod", "hypot")},
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "fabs": np.fabs,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "pow": np.power,
    "exp2": np.exp2,
    "log": np.log,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}


class MathDoor(StandIn):
    """A function of math or cmath: of Python numbers it stays Python; of a traced number it is recorded, weak."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        if any(isinstance(a, Tracer) for a in args):
            return self._record(*args, **options)
        if any_traced(args):
            flat = [tuple(a) if isinstance(a, list) else a for a in args]
            if any(isinstance(a, tuple) for a in flat) or options:
                return self.original_(*args, **options)  # sums of lists: the numbers are narrowed
            return numbers.apply(self.original_, *args)
        return self.original_(*args, **options)

    def _record(self, *args: Any) -> Any:
        name = self.original_.__name__
        if name in ("floor", "ceil", "trunc"):
            return ufuncs.to_python(ufuncs.call(getattr(np, name), args[0]), int)
        ufunc = _UFUNC_OF_MATH.get(name)
        if ufunc is None:
            raise TraceError(f"math.{name}: not supported on a traced array", location=user_location())
        operands = [ufuncs.to_python(a, float) if isinstance(a, Tracer) else a for a in args]
        if name == "log" and len(operands) == 2:
            return self._record(operands[0]) / MathDoor(math.log)(operands[1])
        context = next(a.context for a in operands if isinstance(a, Tracer))
        return ufuncs.as_weak(ufuncs.call(ufunc, *[as_tracer(context, a) for a in operands]))


# scipy.special functions that are no ufuncs ---------------------------------------------------------------------------


def _logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    if b is not None or return_sign:
        raise TraceError(
            "logsumexp: b= and return_sign= are not supported in a traced function", location=user_location()
        )
    x = _inexact(a)
    axes = normalise_axes(axis, len(x.dims))
    value = composites.logsumexp(x.context.emit, x.value(), axes, keepdims)
    return fresh(x.context, value, scalar=not value.shape)


def _softmax(x: Any, axis: Any = None) -> Any:
    a = _inexact(x)
    if axis is None and len(a.dims) != 1:
        flat = functions.reshape(a, (-1,))
        return functions.reshape(fresh(a.context, composites.softmax(a.context.emit, flat.value(), 0)), a.shape)
    at = normalise_axis(-1 if axis is None else axis, len(a.dims))
    return fresh(a.context, composites.softmax(a.context.emit, a.value(), at))


def _log_softmax(x: Any, axis: Any = None) -> Any:
    a = _inexact(x)
    at = normalise_axis(-1 if axis is None else axis, len(a.dims))
    return fresh(a.context, composites.log_softmax(a.context.emit, a.value(), at))


def _inexact(x: Any) -> Tracer:
    a = as_tracer(x.context, x)
    result: Tracer = a if a.dtype.kind in "fc" else functions.astype(a, float)
    return result


_SCIPY: dict[str, Callable[..., Any]] = {"logsumexp": _logsumexp, "softmax": _softmax, "log_softmax": _log_softmax}


_SCIPY_LIBRARIES = frozenset(f"scipy.{m}" for m in ("linalg", "fft", "special", "signal", "ndimage", "integrate"))


class ScipyDoor(StandIn):
    """A SciPy function: recorded where there is a version, else an error on traced operands."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        args, options = _plain(args, options)
        if not needs_recording(args, options):
            return _local(self.original_(*args, **options))
        special = self.original_.__module__.startswith("scipy.special")
        version: Callable[..., Any] | None = _SCIPY.get(self.original_.__name__) if special else None
        if version is None:
            module = ".".join(self.original_.__module__.split(".")[:2])
            name = f"{module}.{self.original_.__name__}"
            if module not in _SCIPY_LIBRARIES or getattr(sys.modules[module], self.original_.__name__, None) is None:
                raise functions.unsupported(name)
            return record_call(name, args, options)
        return version(*args, **options)


class VectorizeDoor(StandIn):
    """An np.vectorize object: Python calls it when the program runs; a first result of one element tells the dtypes."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        args, options = _plain(args, options)
        if not needs_recording(args, options):
            return _local(self.original_(*args, **options))
        if options or self.original_.signature is not None or self.original_.excluded:
            raise functions.unsupported("np.vectorize with signature=, excluded= or named arguments")
        context = context_of(*args)
        parts = [as_tracer(context, a) for a in args]
        first = self.original_(*[np.ones((1,) * len(p.dims), p.dtype) for p in parts])
        several = isinstance(first, tuple)
        shape = ufuncs.joint_shape(parts)
        outputs = tuple([TensorType(supported(r.dtype), shape) for r in (first if several else (first,))])
        made = context.builder.add(
            TABLE["python_call"],
            [p.value() for p in parts],
            {"function": self.original_, "outputs": outputs},
            user_location(),
        )
        results = tuple([fresh(context, v) for v in made])
        return results if several else results[0]


# The map from real to stand-in ----------------------------------------------------------------------------------------

_stand_ins: dict[int, tuple[Any, Any]] = {}


def substitute(value: Any) -> Any:
    """The stand-in for a NumPy, SciPy or math object or a builtin that the door answers for; else the value itself."""
    known = _stand_ins.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    made = _make(value)
    if made is not value:
        _stand_ins[id(value)] = (value, made)
    return made


def _make(value: Any) -> Any:
    if id(value) in _BY_IDENTITY:
        return _BY_IDENTITY[id(value)]
    if isinstance(value, types.ModuleType):
        root = value.__name__.partition(".")[0]
        if value.__name__ == "numpy.random":
            return RandomDoor(value)
        return ModuleDoor(value) if root in ("numpy", "scipy", "math", "cmath") else value
    if isinstance(value, np.ufunc):
        return UfuncDoor(value)
    if isinstance(value, type):
        return _class_of(value) if value in _SCALAR_TYPES else value
    if isinstance(value, np.vectorize):
        return VectorizeDoor(value)
    if isinstance(value, (np.random.Generator, np.random.RandomState)):
        return RandomDoor(value)
    module = getattr(value, "__module__", None) or ""
    if callable(value) and value in _MATH:
        return MathDoor(value)
    if _is_function(value) and module.startswith("numpy.random"):
        return RandomDoor(value)
    if _is_function(value) and (module.partition(".")[0] == "numpy" or _in_recorded(value)):
        return FunctionDoor(value)
    if _is_function(value) and module.partition(".")[0] == "scipy":
        return ScipyDoor(value)
    return value


_SCALAR_TYPES = frozenset(np.dtype(c).type for c in "?bhilqBHILQefdFD")
_MATH = frozenset(f for m in (math, cmath) for f in vars(m).values() if isinstance(f, types.BuiltinFunctionType))
_FUNCTION_TYPES = (types.FunctionType, types.BuiltinFunctionType, type(np.sum))


def _is_function(value: Any) -> bool:
    return isinstance(value, _FUNCTION_TYPES)


def _in_recorded(value: Any) -> bool:
    try:
        return value in functions.RECORDED
    except TypeError:
        return False
