"""NumPy's ufuncs on traced operands: promotion (NEP 50), casts, broadcasting, `out=` and `where=`.

Owns the recording of every elementwise op. NumPy itself resolves the loop (`ufunc.resolve_dtypes`), so promotion and
its errors are NumPy's. Must not know indexing, reductions or the decorator.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor.errors import ShapeError, TraceError, user_location
from jitensor.ir import types
from jitensor.ir.graph import Value
from jitensor.ir.types import BY_NUMPY, DType, Shape
from jitensor.ops import BY_UFUNC, TABLE, promote
from jitensor.ops.base import broadcast_shapes
from jitensor.tracing.arrays import (
    READ_ONLY,
    Layout,
    Tracer,
    adopt,
    as_tracer,
    broadcast_to,
    context_of,
    expand_dims,
    fresh,
    hint_shape,
    kind_of,
    number_input,
    squeeze,
    strides_of,
    strong_number,
    supported,
    write,
)
from jitensor.tracing.context import TraceContext, here
from jitensor.tracing.numbers import IntNumber, Number

COMPARISONS = {
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
}
Kind = Any  # np.dtype, or int, float, complex for a weak Python number


@functools.lru_cache(4096)
def resolve(ufunc: np.ufunc, kinds: tuple[Kind, ...], dtype: Any, casting: str, out: Any) -> tuple[np.dtype[Any], ...]:
    """The dtypes of the loop that NumPy runs, operands then results. Raises NumPy's own TypeError where it has none."""
    options: dict[str, Any] = {"casting": casting}
    options |= {} if dtype is None else {"signature": (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout}
    outs = (out,) * ufunc.nout
    result: tuple[np.dtype[Any], ...] = ufunc.resolve_dtypes((*kinds, *outs), **options)
    return result


def call(
    ufunc: np.ufunc,
    *inputs: Any,
    out: Any = None,
    where: Any = True,
    dtype: Any = None,
    casting: str = "same_kind",
    order: str = "K",
    subok: bool = True,
    signature: Any = None,
) -> Any:
    """ufunc(*inputs) recorded. Extra positional operands are `out`, as in NumPy."""
    if len(inputs) > ufunc.nin:
        inputs, out = inputs[: ufunc.nin], inputs[ufunc.nin :]
    if signature is not None:
        raise TraceError(f"{ufunc.__name__}: signature= is not supported; use dtype=", location=user_location())
    context = context_of(*inputs, *(out if isinstance(out, tuple) else (out,)), where)
    operands = [prepare(context, x) for x in inputs]
    if all(not isinstance(x, Tracer) or x.weak is not None for x in operands):
        operands = [as_tracer(context, x) for x in operands]
    outs = _outs(context, ufunc, out)
    kinds = tuple([kind_of(x) for x in operands])
    loop = resolve(ufunc, kinds, dtype, casting, None)
    if outs is not None:
        resolve(ufunc, kinds, dtype, casting, outs[0].dtype)  # may NumPy write there?
    shape = joint_shape(operands, outs)
    results = record(context, ufunc, operands, loop)
    arrays = [x for x in operands if isinstance(x, Tracer)]
    layout = joint_layout(arrays, shape, order)
    scalar = outs is None and not shape and where is True
    made = [fresh(context, v, scalar=scalar, layout=layout) for v in results]
    if outs is not None or where is not True:
        made = _into(context, made, outs, where, shape)
    return made[0] if len(made) == 1 else tuple(made)


def prepare(context: TraceContext, x: Any) -> Any:
    """An operand: a tracer, or a Python number (which stays weak)."""
    if isinstance(x, Tracer):
        if not x.context.is_running():
            x.context.require(f"traced array {x.describe()}", x.location)
        return x
    if isinstance(x, Number) or type(x) in (int, float, complex):
        return x
    return as_tracer(context, x)


def _outs(context: TraceContext, ufunc: np.ufunc, out: Any) -> list[Tracer] | None:
    outs = out if isinstance(out, tuple) else (out,)
    if all(o is None for o in outs):
        return None
    if len(outs) != ufunc.nout or any(o is None for o in outs):
        raise TraceError(f"{ufunc.__name__}: out= needs {ufunc.nout} arrays", location=user_location())
    for o in outs:
        if not isinstance(o, (Tracer, np.ndarray)) or (isinstance(o, Tracer) and o.scalar):
            raise TypeError("return arrays must be of ArrayType")
    return [o if isinstance(o, Tracer) else adopt(context, o) for o in outs]


def joint_shape(operands: Sequence[Any], outs: Sequence[Tracer] | None = None) -> Shape:
    """The broadcast shape of tracers (and Python numbers). Raises ShapeError with NumPy's text."""
    arrays = [x for x in operands if isinstance(x, Tracer)]
    try:
        shape = broadcast_shapes("ufunc", [a.dims for a in arrays]) if arrays else ()
        if outs is not None:
            broadcast_shapes("ufunc", [outs[0].dims, shape])
    except ShapeError:
        texts = " ".join(hint_shape(a) if isinstance(a, Tracer) else "()" for a in (*operands, *(outs or ())))
        raise ShapeError(
            f"operands could not be broadcast together with shapes {texts} ", location=user_location()
        ) from None
    if outs is not None:
        _same_sizes(outs[0], shape)
    return shape


def _same_sizes(out: Tracer, shape: Shape) -> None:
    sizes = [out.context.hint(n) for n in shape]
    have = [out.context.hint(n) for n in out.dims]
    if len(sizes) > len(have) or any(n not in (1, m) for n, m in zip(sizes[::-1], have[::-1], strict=False)):
        text = "(" + ",".join(map(str, sizes)) + ("," if len(sizes) == 1 else "") + ")"
        raise ShapeError(
            f"non-broadcastable output operand with shape {hint_shape(out)} doesn't match the broadcast shape {text}",
            location=user_location(),
        )


def record(context: TraceContext, ufunc: np.ufunc, operands: Sequence[Any], loop: tuple[Any, ...]) -> list[Value]:
    """The nodes of one ufunc call on prepared operands, in the loop's dtypes; one Value per result."""
    types_in = [supported(t) for t in loop[: ufunc.nin]]
    if ufunc in COMPARISONS:
        folded = _out_of_range(context, ufunc, operands, types_in)
        if folded is not None:
            return [folded]
        if types_in[0] is not types_in[1]:
            return [_compare_signs(context, ufunc, operands)]
    values = [to_dtype(context, x, t) for x, t in zip(operands, types_in, strict=True)]
    entries = promote.primitives_of(ufunc)
    if not entries:
        raise TraceError(
            f"{ufunc.__name__}: this ufunc is not supported in a traced function. Compute it outside, or write it with "
            "supported functions.",
            location=user_location(),
        )
    if ufunc is np.power:
        _check_exponent(operands[1], types_in[1])
    results = [context.emit(entry, *values) for entry in entries]
    return [cast(context, r, supported(t)) for r, t in zip(results, loop[ufunc.nin :], strict=True)]


def to_dtype(context: TraceContext, x: Any, dtype: DType) -> Value:
    """The operand's Value, as `dtype`; a Python int that does not fit raises NumPy's OverflowError."""
    if isinstance(x, Tracer):
        return cast(context, x.value(), dtype)
    if isinstance(x, Number):
        return number_input(x, dtype)
    with np.errstate(over="ignore"):
        return context.constant(dtype.numpy.type(x), dtype)


def cast(context: TraceContext, value: Value, dtype: DType) -> Value:
    return value if value.dtype is dtype else context.add(TABLE["cast"], [value], {"dtype": dtype})


def _out_of_range(context: TraceContext, ufunc: Any, operands: Sequence[Any], loop: list[DType]) -> Value | None:
    """A comparison with a Python int that the loop's dtype cannot hold has one answer for every element."""
    for i, x in enumerate(operands):
        dtype = loop[i]
        if dtype.kind not in "iu" or isinstance(x, Tracer):
            continue
        hint = x.hint if isinstance(x, Number) else x
        if dtype.min <= hint <= dtype.max:
            continue
        if isinstance(x, IntNumber):
            context.relation("le", dtype.min, x.dim, "a Python integer is out of bounds")
            context.relation("le", x.dim, dtype.max, "a Python integer is out of bounds")
        pair = (hint, 0) if i == 0 else (0, hint)
        answer = context.constant(COMPARISONS[ufunc](*pair), types.bool_)
        array = operands[1 - i]
        return context.add(TABLE["full"], [answer], {"shape": array.dims}) if array.dims else answer
    return None


def _compare_signs(context: TraceContext, ufunc: Any, operands: Sequence[Any]) -> Value:
    """int64 against uint64: a negative number is below every unsigned one; the others compare as uint64."""
    signed_first = operands[0].dtype.kind == "i"
    values = [x.value() for x in operands]
    signed = values[0] if signed_first else values[1]
    signed = cast(context, signed, types.int64)
    negative = context.add(TABLE["less"], [signed, context.constant(0, types.int64)])
    same_sign = context.add(BY_UFUNC[ufunc], [cast(context, v, types.uint64) for v in values])
    pair = (-1, 0) if signed_first else (0, -1)
    answer = context.constant(COMPARISONS[ufunc](*pair), types.bool_)
    return context.add(TABLE["where"], [negative, answer, same_sign])


def _check_exponent(exponent: Any, dtype: DType) -> None:
    """NumPy refuses integers to negative integer powers."""
    if dtype.kind != "i":
        return
    message = "Integers to negative integer powers are not allowed."
    if isinstance(exponent, IntNumber):
        negative = exponent.context.relation("lt", exponent.dim, 0, "an integer exponent")
    elif isinstance(exponent, Tracer):
        if BY_NUMPY[exponent.dtype].kind in "ub":
            return
        context = exponent.context
        zero = context.constant(0, dtype)
        fits = context.emit(TABLE["greater_equal"], cast(context, exponent.value(), dtype), zero)
        context.emit(TABLE["check"], fits, message=message, error=ValueError)
        return
    else:
        negative = exponent < 0
    if negative:
        raise ValueError(message)


def joint_layout(arrays: Sequence[Tracer], shape: Shape, order: str = "K") -> Layout:
    """The memory order of an elementwise result, by the rule of NumPy's iterator (order K)."""
    rank = len(shape)
    if rank < 2 or order == "C" or (order in "KA" and all(a.layout is None for a in arrays)):
        return None
    if order == "F":
        return tuple(range(1, rank + 1))
    strides = [(0,) * (rank - len(a.dims)) + strides_of(a) for a in arrays]
    perm: list[int] = []  # axes, fastest first
    for axis in range(rank - 1, -1, -1):
        position = len(perm)
        for i in range(len(perm) - 1, -1, -1):
            swap = _faster(strides, axis, perm[i])
            if swap is None:
                continue
            if not swap:
                break
            position = i
        perm.insert(position, axis)
    layout = [0] * rank
    for i, axis in enumerate(perm):
        layout[axis] = i + 1
    return None if layout == list(range(rank, 0, -1)) else tuple(layout)


def _faster(strides: Sequence[tuple[int, ...]], axis: int, other: int) -> bool | None:
    """Should `axis` come before `other`? None where no operand tells."""
    answer: bool | None = None
    for s in strides:
        if s[axis] and s[other]:
            if s[other] <= s[axis]:
                answer = False
            elif answer is None:
                answer = True
    return answer


# out= and where= ------------------------------------------------------------------------------------------------------


def _into(
    context: TraceContext, made: list[Tracer], outs: list[Tracer] | None, where: Any, shape: Shape
) -> list[Tracer]:
    mask = None if where is True else as_tracer(context, where)
    if mask is not None and mask.dtype != np.bool_:
        resolve(np.logical_not, (mask.dtype,), None, "safe", None)
        raise TypeError(f"Cannot cast array data from {mask.dtype!r} to dtype('bool') according to the rule 'safe'")
    results = []
    for i, result in enumerate(made):
        if outs is None:
            full_shape = joint_shape([result, mask]) if mask is not None else shape
            zero = context.constant(0, supported(result.dtype))
            target = fresh(context, context.add(TABLE["full"], [zero], {"shape": full_shape}), layout=result.layout)
        else:
            target = outs[i]
        if mask is not None:
            value = cast(context, result.value(), supported(target.dtype))
            result = fresh(context, context.add(TABLE["where"], [mask.value(), value, target.value()]))
        assign(target, result)
        results.append(target if outs is not None or target.dims else fresh(context, target.value(), scalar=True))
    return results


def assign(target: Tracer, source: Any) -> None:
    """target[...] = source: broadcast and cast as NumPy's assignment does."""
    context = target.context
    if not target.cell.writable:
        raise ValueError(READ_ONLY)
    dtype = supported(target.dtype)
    if isinstance(source, Tracer) and source.weak is None:
        source = fit(source, target.dims)
        value = cast(context, source.value(), dtype)
    elif isinstance(source, Tracer):
        value = cast(context, source.value(), dtype)
    else:
        if isinstance(source, Number) or type(source) in (int, float, complex, bool):
            value = number_value(context, source, dtype)
        else:
            assign(target, as_tracer(context, source))
            return
    if value.shape != target.dims:
        value = context.add(TABLE["broadcast_to"], [value], {"shape": target.dims})
    write(target, value)


def number_value(context: TraceContext, x: Any, dtype: DType) -> Value:
    """A Python number assigned into an array of `dtype`: it must fit, a float is truncated, complex refused."""
    kind = x.kind if isinstance(x, Number) else type(x)
    if kind is complex and dtype.kind != "c":
        raise TypeError("float() argument must be a string or a real number, not 'complex'")
    if kind is float and dtype.kind in "iub":
        strong = strong_number(context, x).value() if isinstance(x, Number) else context.constant(x, types.float64)
        if dtype.kind in "iu":
            int(x.hint if isinstance(x, Number) else x)  # nan and infinity raise as NumPy's assignment does
        return cast(context, strong, dtype)
    if kind is bool or (kind is int and dtype.kind == "b"):
        return context.constant(bool(x), dtype)
    return to_dtype(context, x, dtype)


def fit(source: Tracer, shape: Shape) -> Tracer:
    """source broadcast to `shape` for an assignment; extra leading dimensions of size 1 are dropped."""
    context = source.context
    extra = len(source.dims) - len(shape)
    if extra > 0 and all(context.relation("eq", n, 1, "an assignment") for n in source.dims[:extra]):
        source = squeeze(source, range(extra))
    if source.dims == shape:
        return source
    pairs = list(zip(source.dims[::-1], shape[::-1], strict=False))
    fits = len(source.dims) <= len(shape) and all(
        n == m
        or (isinstance(n, int) and n == 1)
        or context.relation("eq", n, m, "an assignment")
        or context.relation("eq", n, 1, "an assignment")
        for n, m in pairs
    )
    if not fits:
        into = "(" + ",".join(str(context.hint(n)) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ShapeError(
            f"could not broadcast input array from shape {hint_shape(source)} into shape {into}",
            location=user_location(),
        )
    return broadcast_to(source, shape)


# Methods of ufuncs ----------------------------------------------------------------------------------------------------


def outer(ufunc: np.ufunc, a: Any, b: Any, **options: Any) -> Any:
    """ufunc.outer: every element of a with every element of b."""
    context = context_of(a, b)
    a, b = as_tracer(context, a), as_tracer(context, b)
    rank = len(a.dims)
    return call(ufunc, expand_dims(a, range(rank, rank + len(b.dims))), b, **options)


def binary(ufunc: np.ufunc, a: Any, b: Any) -> Any:
    """An operator of a tracer. A weak traced number with a Python number gives a weak traced number, as in Python."""
    weak = _weak_result(ufunc, a, b)
    if weak is not None:
        return weak
    if not isinstance(b, (Tracer, Number, np.ndarray, np.generic, bool, int, float, complex, list, tuple)):
        return NotImplemented
    return call(ufunc, a, b)


_PYTHON_DTYPE = {int: types.int64, float: types.float64, complex: types.complex128, bool: types.bool_}


def is_weak(x: Any) -> bool:
    return (
        (isinstance(x, Tracer) and x.weak is not None)
        or isinstance(x, Number)
        or type(x) in (int, float, complex, bool)
    )


def _weak_result(ufunc: np.ufunc, a: Any, b: Any) -> Any:
    if not (is_weak(a) and is_weak(b)):
        return None
    context = context_of(a, b)
    result = call(ufunc, as_tracer(context, a), as_tracer(context, b))
    return as_weak(result)


def as_weak(x: Any) -> Any:
    """A 0-d tracer as the Python number that .item() would give."""
    if isinstance(x, tuple):
        return tuple([as_weak(i) for i in x])
    kind = {"b": bool, "i": int, "u": int, "f": float, "c": complex}[x.dtype.kind]
    value = cast(x.context, x.value(), _PYTHON_DTYPE[kind])
    return fresh(x.context, value, scalar=True, weak=kind)


def to_python(x: Tracer, kind: type) -> Any:
    """float(x), int(x), complex(x) of a one-element array: a traced Python number."""
    context = here(kind.__name__)
    if x.dims:
        if any(not context.relation("eq", n, 1, f"{kind.__name__}()") for n in x.dims):
            raise TypeError("only 0-dimensional arrays can be converted to Python scalars")
        x = squeeze(x, range(len(x.dims)))
    if kind is not complex and x.dtype.kind == "c":
        raise TypeError(f"{kind.__name__}() argument must be a string or a real number, not 'complex'")
    return fresh(context, cast(context, x.value(), _PYTHON_DTYPE[kind]), scalar=True, weak=kind)
