"""Elementwise ops under TensorFlow's names, made from the table's entries, with TensorFlow's dtype rules.

Owns what differs from the table: division of integers, logical ops on bool alone, three-operand forms. Must not know
reductions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jitensor.api.convert import cast_to, convert_to_tensor, fits_all, pair, to_tensor, weak
from jitensor.errors import DTypeError, InvalidArgumentError
from jitensor.ir.graph import Primitive
from jitensor.ir.types import bool_, float32, float64
from jitensor.ops import BY_TF_NAME, TABLE
from jitensor.recording import RESULT_DTYPES, bind, located, operation, quick_binary, quick_unary
from jitensor.tensor import Stateful, Tensor, active


def _reject_bool(name: str, tensor: Tensor) -> None:
    if tensor._dtype is bool_:
        raise DTypeError.of(
            name, "the operands are bool", "numbers were needed", "Use jt.logical_and or jt.logical_or, or jt.cast"
        )


def unary(primitive: Primitive, name: str, takes_bool: bool = False) -> Callable[..., Tensor]:
    """The op function of a primitive of one operand."""

    def implementation(x: Any, name: str | None = None) -> Tensor:
        tensor = x if isinstance(x, Tensor) else to_tensor(x)
        if not takes_bool:
            _reject_bool(primitive.name, tensor)
        result = bind(primitive, (tensor,))
        RESULT_DTYPES[primitive, tensor._dtype] = result._dtype
        return result

    general = _described(implementation, primitive, name)

    @functools.wraps(implementation)
    def call(x: Any, name: str | None = None) -> Tensor:
        trace = active.context
        if trace is None:
            if isinstance(x, Stateful):
                x = x._read()
            made = quick_unary(primitive, x)
        else:
            made = trace.quick_unary(primitive, implementation, x)
        return general(x) if made is None else made

    call.implementation = implementation  # type: ignore[attr-defined]
    return call


def binary(primitive: Primitive, name: str, takes_bool: bool = False) -> Callable[..., Tensor]:
    """The op function of a primitive of two operands of one dtype."""

    def implementation(x: Any, y: Any, name: str | None = None) -> Tensor:
        a, b = pair(primitive.name, x, y)
        if not takes_bool and a._dtype is bool_:
            _reject_bool(primitive.name, a)
        result = bind(primitive, (a, b))
        RESULT_DTYPES[primitive, a._dtype] = result._dtype
        return result

    return _with_quick_binary(primitive, implementation, name)


def _with_quick_binary(primitive: Primitive, implementation: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    doc = implementation.__doc__
    general = _described(implementation, primitive, name)
    implementation.__doc__ = doc or primitive.doc

    @functools.wraps(implementation)
    def call(x: Any, y: Any, name: str | None = None) -> Tensor:
        trace = active.context
        if trace is None:
            if isinstance(x, Stateful):
                x = x._read()
            if isinstance(y, Stateful):
                y = y._read()
            made = quick_binary(primitive, x, y)
        else:
            made = trace.quick_binary(primitive, implementation, x, y)
        return general(x, y) if made is None else made

    call.implementation = implementation  # type: ignore[attr-defined]
    return call


def _described(implementation: Callable[..., Tensor], primitive: Primitive, name: str) -> Callable[..., Tensor]:
    implementation.__name__ = implementation.__qualname__ = name.rpartition(".")[2]
    implementation.__doc__ = primitive.doc
    return operation(implementation)


_TAKES_BOOL = frozenset(
    (
        "equal",
        "not_equal",
        "multiply",
        "logical_not",
        "logical_and",
        "logical_or",
        "logical_xor",
        "invert",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    )
)
_OWN = frozenset(
    (
        "cast",
        "where",
        "clip",
        "divide",
        "rint",
        "complex",
        "logical_and",
        "logical_or",
        "logical_xor",
        "logical_not",
        "floor_divide",
        "remainder",
        "power",
    )
)

# TensorFlow name -> op function, for the entries that need no hand-written signature.
FROM_TABLE: dict[str, Callable[..., Any]] = {}
_made: dict[str, Callable[..., Any]] = {}
for _name, _primitive in BY_TF_NAME.items():
    if _primitive.family == "elementwise" and _primitive.name not in _OWN and len(_primitive.samples or ()) in (1, 2):
        if _primitive.name not in _made:
            _maker = unary if len(_primitive.samples) == 1 else binary
            _made[_primitive.name] = _maker(_primitive, _name, _primitive.name in _TAKES_BOOL)
        FROM_TABLE[_name] = _made[_primitive.name]

add = FROM_TABLE["add"]
subtract = FROM_TABLE["subtract"]
multiply = FROM_TABLE["multiply"]
negative = FROM_TABLE["negative"]
absolute = FROM_TABLE["abs"]
equal = FROM_TABLE["equal"]
not_equal = FROM_TABLE["not_equal"]
less = FROM_TABLE["less"]
less_equal = FROM_TABLE["less_equal"]
greater = FROM_TABLE["greater"]
greater_equal = FROM_TABLE["greater_equal"]
maximum = FROM_TABLE["maximum"]
minimum = FROM_TABLE["minimum"]
bitwise_and = FROM_TABLE["bitwise.bitwise_and"]
bitwise_or = FROM_TABLE["bitwise.bitwise_or"]
bitwise_xor = FROM_TABLE["bitwise.bitwise_xor"]
invert = FROM_TABLE["bitwise.invert"]
exp = FROM_TABLE["exp"]
log = FROM_TABLE["math.log"]
log1p = FROM_TABLE["math.log1p"]
sqrt = FROM_TABLE["sqrt"]
square = FROM_TABLE["square"]
tanh = FROM_TABLE["tanh"]


def _divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Quotient. Integers are divided as float64, those of 8 and 16 bits as float32. Mirrors tf.math.truediv."""
    a, b = pair("divide", x, y)
    _reject_bool("divide", a)
    if a._dtype.kind in "iu":
        dtype = float32 if a._dtype.size <= 2 else float64
        a, b = cast_to(a, dtype), cast_to(b, dtype)
    else:
        RESULT_DTYPES[TABLE["divide"], a._dtype] = a._dtype
    return bind(TABLE["divide"], (a, b))


divide = _with_quick_binary(TABLE["divide"], _divide, "divide")


def _checked(primitive: Primitive, name: str, holds: str, limit: int, needed: str) -> Callable[..., Tensor]:
    """An op that is not defined for every integer operand y: it is checked when it runs, or at once where y is a
    number."""

    def implementation(x: Any, y: Any, name: str | None = None) -> Tensor:
        a, b = pair(primitive.name, x, y)
        _reject_bool(primitive.name, a)
        if a._dtype.kind not in "iu":
            RESULT_DTYPES[primitive, a._dtype] = a._dtype
        elif type(y) is not int:
            fits = bind(TABLE[holds], (b, weak(limit, b._dtype)))
            bind(TABLE["check"], (fits,), message=located(f"{primitive.name}: {needed}"), error=InvalidArgumentError)
        elif y == 0 if holds == "not_equal" else y < limit:
            raise InvalidArgumentError.of(primitive.name, f"y is {y}", needed)
        return bind(primitive, (a, b))

    return _with_quick_binary(primitive, implementation, name)


floordiv = _checked(TABLE["floor_divide"], "floordiv", "not_equal", 0, "integers cannot be divided by 0")
floormod = _checked(TABLE["remainder"], "floormod", "not_equal", 0, "integers cannot be divided by 0")
power = _checked(TABLE["power"], "pow", "greater_equal", 0, "integers have no negative integer powers")
FROM_TABLE.update({"floordiv": floordiv, "math.floordiv": floordiv, "math.floormod": floormod, "math.mod": floormod})
FROM_TABLE.update({"floormod": floormod, "mod": floormod, "pow": power, "math.pow": power})


def _logical(primitive: Primitive) -> Callable[..., Tensor]:
    def implementation(x: Any, y: Any, name: str | None = None) -> Tensor:
        return bind(primitive, (_truth(primitive.name, x), _truth(primitive.name, y)))

    return _described(implementation, primitive, primitive.name)


def _truth(op: str, value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else weak(value, bool_, op)
    if tensor._dtype is not bool_:
        raise DTypeError.of(
            op, f"an operand is {tensor._text()}", "bool was needed", "Compare it with 0, or use jt.cast(x, jt.bool)"
        )
    return tensor


logical_and = _logical(TABLE["logical_and"])
logical_or = _logical(TABLE["logical_or"])
logical_xor = _logical(TABLE["logical_xor"])


@operation
def logical_not(x: Any, name: str | None = None) -> Tensor:
    """True where x is False. Mirrors tf.math.logical_not."""
    return bind(TABLE["logical_not"], (_truth("logical_not", x),))


@operation
def round_(x: Any, name: str | None = None) -> Tensor:
    """The nearest integer value, halves to even; integers as they are. Mirrors tf.math.round."""
    tensor = to_tensor(x)
    return tensor if tensor._dtype.kind in "iu" else bind(TABLE["rint"], (tensor,))


@operation
def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Tensor:
    """t held between the bounds, which broadcast. Mirrors tf.clip_by_value."""
    t = to_tensor(t)
    low = pair("clip_by_value", t, clip_value_min)[1]
    high = pair("clip_by_value", t, clip_value_max)[1]
    return bind(TABLE["clip"], (t, low, high))


@operation
def complex_(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """Complex numbers of real and imaginary parts. Mirrors tf.complex."""
    return bind(TABLE["complex"], pair("complex", real, imag))


@operation
def rsqrt(x: Any, name: str | None = None) -> Tensor:
    """1 / sqrt(x). Mirrors tf.math.rsqrt."""
    x = to_tensor(x)
    return bind(TABLE["divide"], (weak(1.0, x._dtype, "rsqrt"), bind(TABLE["sqrt"], (x,))))


@operation
def squared_difference(x: Any, y: Any, name: str | None = None) -> Tensor:
    """(x - y) * (x - y). Mirrors tf.math.squared_difference."""
    return bind(TABLE["square"], (bind(TABLE["subtract"], pair("squared_difference", x, y)),))


@operation
def divide_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, and 0 where y is 0. Mirrors tf.math.divide_no_nan."""
    a, b = pair("divide_no_nan", x, y)
    zero, one = weak(0, a._dtype), weak(1, a._dtype)
    is_zero = bind(TABLE["equal"], (b, zero))
    safe = bind(TABLE["where"], (is_zero, one, b))
    return bind(TABLE["where"], (is_zero, zero, bind(TABLE["divide"], (a, safe))))


@operation
def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """Sum of a list of tensors of one shape and dtype. Mirrors tf.add_n."""
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise DTypeError("add_n: needed a non-empty list of tensors", location=None)
    total = to_tensor(inputs[0])
    for other in inputs[1:]:
        a, b = pair("add_n", total, other)
        if a._sizes != b._sizes:
            raise ValueError(f"add_n: shapes {a.shape} and {b.shape} differ; all must be the same")
        total = bind(TABLE["add"], (a, b))
    return total


def same_value(x: Tensor, y: Any) -> Any:
    """`x == y`: elementwise; False for what is no tensor and for shapes that cannot be the same."""
    return _compare(x, y, equal, False)


def other_value(x: Tensor, y: Any) -> Any:
    return _compare(x, y, not_equal, True)


def _compare(x: Tensor, y: Any, function: Callable[..., Any], otherwise: bool) -> Any:
    if y is None:
        return otherwise
    if not isinstance(y, Tensor):
        try:
            comparable = x._dtype.kind == "S" or fits_all(y, x._dtype)
        except TypeError:
            return otherwise
        if (
            not comparable
            and not isinstance(y, (bool, int, float, complex, list, tuple))
            and not hasattr(y, "__array__")
        ):
            return otherwise
    elif _never_broadcast(x, y):
        return otherwise
    if x._dtype.kind == "S":
        return _compare_strings(x, y, otherwise)
    return function(x, y)


def _never_broadcast(x: Tensor, y: Tensor) -> bool:
    if x._sizes is None or y._sizes is None:
        return False
    return any(
        None not in (n, m) and n != m and 1 not in (n, m) for n, m in zip(x._sizes[::-1], y._sizes[::-1], strict=False)
    )


def _compare_strings(x: Tensor, y: Any, otherwise: bool) -> Tensor:
    other = convert_to_tensor(y)
    same = x._data("==") == other._data("==")
    return convert_to_tensor(same != otherwise)
