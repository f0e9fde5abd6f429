"""NumPy's functions made of ufuncs, recorded: where, select, clip, round, diff, gradient, isclose, average ...

Owns their argument forms. Must not know matrices.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from jitensor.ir import dims
from jitensor.ops import TABLE, composites, promote
from jitensor.tracing import arrays, reductions
from jitensor.tracing.arrays import (
    Tracer,
    as_tracer,
    context_of,
    fresh,
    kind_of,
    supported,
)
from jitensor.tracing.functions_creation import astype, full_of
from jitensor.tracing.functions_joining import _as_dtype, _into_out, concatenate, stack
from jitensor.tracing.functions_movement import moveaxis, ravel
from jitensor.tracing.indexing import getitem
from jitensor.tracing.indexing import nonzero as positions
from jitensor.tracing.library import record_call
from jitensor.tracing.reductions import normalise_axes, normalise_axis
from jitensor.tracing.registry import _start, records, unsupported
from jitensor.tracing.ufuncs import (
    as_weak,
    assign,
    call,
    cast,
    joint_layout,
    joint_shape,
    prepare,
    to_dtype,
)

_NO = np._NoValue


@records(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if x is None or y is None:
        if x is not None or y is not None:
            raise ValueError("either both or neither of x and y should be given")
        return positions(as_tracer(context_of(condition), condition))
    context = context_of(condition, x, y)
    mask = as_tracer(context, condition)
    mask_value = cast(context, mask.value(), arrays.BOOL)
    operands = [prepare(context, v) for v in (x, y)]
    kinds = [kind_of(v) for v in operands]
    dtype = promote.result_type(*[k if isinstance(k, type) else supported(k) for k in kinds])
    parts = [v if isinstance(v, Tracer) else as_tracer(context, v) for v in operands]
    shape = joint_shape([mask, *parts])
    values = [to_dtype(context, v, dtype) for v in operands]
    value = context.emit(TABLE["where"], mask_value, *values)
    return fresh(context, value, layout=joint_layout([mask, *parts], shape))


@records(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not condlist:
        raise ValueError("select with an empty condition list is not possible")
    context = context_of(*condlist, *choicelist, default)
    parts = [as_tracer(context, c) for c in choicelist]
    kinds = [*[p.dtype for p in parts], kind_of(prepare(context, default))]
    dtype = promote.result_type(*[k if isinstance(k, type) else supported(k) for k in kinds]).numpy
    result: Any = astype(as_tracer(context, default), dtype)
    for condition, choice in zip(condlist[::-1], parts[::-1], strict=True):
        result = where(condition, _as_dtype(choice, dtype), result)
    return result


@records(np.clip)
def clip(
    a: Any, a_min: Any = _NO, a_max: Any = _NO, out: Any = None, *, min: Any = _NO, max: Any = _NO, **options: Any
) -> Any:
    low, high = (None if v is _NO else v for v in (a_min if min is _NO else min, a_max if max is _NO else max))
    if low is None and high is None:
        return call(np.positive, a, out=out, **options)
    if low is None:
        return call(np.minimum, a, high, out=out, **options)
    if high is None:
        return call(np.maximum, a, low, out=out, **options)
    ufunc = np._core.umath.clip  # type: ignore[attr-defined]
    return call(ufunc, a, low, high, out=out, **options)


@records(np.round, np.around)
def round_(a: Any, decimals: Any = 0, out: Any = None) -> Any:
    x = _start(a, out)
    decimals = operator.index(decimals)
    if x.dtype.kind in "iub":
        if decimals < 0:
            step = 10**-decimals
            scaled = call(np.rint, call(np.true_divide, x, float(step)))
            return _into_out(astype(call(np.multiply, scaled, float(step)), x.dtype), out)
        made = (
            call(np.rint, x) if x.dtype.kind == "b" else (fresh(x.context, x.value(), scalar=x.scalar, layout=x.layout))
        )
        return _into_out(made, out)
    if decimals == 0:
        return call(np.rint, x, out=out)
    factor = float(10 ** abs(decimals))
    up, down = (np.multiply, np.true_divide) if decimals > 0 else (np.true_divide, np.multiply)
    return call(down, call(np.rint, call(up, x, factor)), factor, out=out)


@records(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    return call(np.trunc, x, out=out)


@records(np.real)
def real(val: Any) -> Any:
    x = _start(val)
    if x.dtype.kind != "c":
        return x
    return fresh(x.context, x.context.emit(TABLE["real"], x.value()), scalar=x.scalar, layout=x.layout)


@records(np.imag)
def imag(val: Any) -> Any:
    x = _start(val)
    return fresh(x.context, x.context.emit(TABLE["imag"], x.value()), scalar=x.scalar, layout=x.layout)


def set_part(x: Tracer, part: str, value: Any) -> None:
    """x.real = value, x.imag = value."""
    if x.dtype.kind != "c":
        if part == "imag":
            raise TypeError("cannot set imaginary part of a non-complex array")
        assign(x, value)
        return
    half = np.dtype(np.float32 if x.dtype == np.complex64 else np.float64)
    target = full_of(x.context, x.dims, 0, half)
    assign(target, value)
    parts = [real(x).value(), imag(x).value()]
    parts[part == "imag"] = target.value()
    assign(x, fresh(x.context, x.context.emit(TABLE["complex"], *parts)))


@records(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    x = _start(z)
    if x.dtype.kind != "c":
        result = call(np.arctan2, x if x.dtype.kind != "f" else full_of(x.context, x.dims, 0, x.dtype), x)
        result = call(np.arctan2, full_of(x.context, (), 0, x.dtype), x)
    else:
        result = call(np.arctan2, imag(x), real(x))
    return call(np.multiply, result, 180 / math.pi) if deg else result


@records(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    a = _start(x)
    if a.dtype.kind == "c":
        raise unsupported("np.nan_to_num of complex numbers")
    value = composites.nan_to_num(a.context.emit, a.value(), nan, posinf, neginf)
    result = fresh(a.context, value, scalar=a.scalar, layout=a.layout)
    if not copy:
        assign(a, result)
        return a
    return result


@records(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    context = context_of(a, b)
    x, y = as_tracer(context, a), as_tracer(context, b)
    if y.dtype.kind not in "fc":
        y = astype(y, np.result_type(y.dtype, np.float64))
    near = call(
        np.less_equal,
        call(np.absolute, call(np.subtract, x, y)),
        call(np.add, atol, call(np.multiply, rtol, call(np.absolute, y))),
    )
    result = call(np.logical_or, call(np.logical_and, near, call(np.isfinite, y)), call(np.equal, x, y))
    if equal_nan:
        result = call(np.logical_or, result, call(np.logical_and, call(np.isnan, x), call(np.isnan, y)))
    return result


@records(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    return as_weak(reductions.all_(isclose(a, b, rtol, atol, equal_nan)))


@records(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    context = context_of(a1, a2)
    x, y = as_tracer(context, a1), as_tracer(context, a2)
    if len(x.dims) != len(y.dims) or not all(map(dims.same, x.dims, y.dims)):
        return False
    same = call(np.equal, x, y)
    if equal_nan:
        same = call(np.logical_or, same, call(np.logical_and, call(np.isnan, x), call(np.isnan, y)))
    return as_weak(reductions.all_(same))


@records(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = _NO, append: Any = _NO) -> Any:
    x = _start(a)
    if not x.dims:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalise_axis(axis, len(x.dims))
    parts = []
    for extra in (prepend, x, append):
        if extra is _NO:
            continue
        piece = as_tracer(x.context, extra)
        if not piece.dims:
            piece = arrays.broadcast_to(piece, tuple([1 if d == axis else m for d, m in enumerate(x.dims)]))
        parts.append(piece)
    joined = concatenate(parts, axis) if len(parts) > 1 else x
    n = operator.index(n)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    for _ in range(n):
        whole: list[Any] = [slice(None)] * len(joined.dims)
        ahead, behind = list(whole), list(whole)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        relation = np.not_equal if joined.dtype == np.bool_ else np.subtract
        joined = call(relation, getitem(joined, tuple(ahead)), getitem(joined, tuple(behind)))
    return joined


@records(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    parts = [p for p in (to_begin, diff(ravel(_start(ary))), to_end) if p is not None]
    return parts[0] if len(parts) == 1 else concatenate([ravel(_start(p, ary)) for p in parts])


@records(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    x = _start(f)
    if x.dtype.kind in "iub":
        x = astype(x, float)
    axes = normalise_axes(axis, len(x.dims))
    spacings = list(varargs) or [1.0]
    if len(spacings) == 1:
        spacings = spacings * len(axes)
    by_axis = any(isinstance(s, list) or (isinstance(s, (np.ndarray, Tracer)) and s.ndim) for s in spacings)
    if by_axis or edge_order != 1:
        return record_call("numpy.gradient", (f, *varargs), {"axis": axis, "edge_order": edge_order})
    results = [_gradient(x, axis, h) for axis, h in zip(axes, spacings, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _gradient(x: Tracer, axis: int, h: Any) -> Tracer:
    def at(piece: slice) -> Any:
        return getitem(x, tuple([piece if d == axis else slice(None) for d in range(len(x.dims))]))

    if dims.less(x.dims[axis], 2):
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements "
            "are required."
        )
    centre = (at(slice(2, None)) - at(slice(None, -2))) / (2.0 * h)
    first = (at(slice(1, 2)) - at(slice(0, 1))) / h
    last = (at(slice(-1, None)) - at(slice(-2, -1))) / h
    result: Tracer = concatenate([first, centre, last], axis)
    return result


@records(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    context = context_of(a, b)
    if axis is not None:
        axisa = axisb = axisc = axis
    x = moveaxis(as_tracer(context, a), axisa, -1)
    y = moveaxis(as_tracer(context, b), axisb, -1)
    if not (dims.same(x.dims[-1], 3) and dims.same(y.dims[-1], 3)):
        raise ValueError("Both input arrays must be (arrays of) 3-dimensional vectors, but they are not.")
    p, q = ([getitem(v, (Ellipsis, i)) for i in range(3)] for v in (x, y))
    parts = [p[i] * q[j] - p[j] * q[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return moveaxis(stack(parts, -1), -1, axisc)


@records(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    values = _start(y, x)
    axis = normalise_axis(axis, len(values.dims))
    whole = [slice(None)] * len(values.dims)
    ahead, behind = list(whole), list(whole)
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    step: Any = dx
    if x is not None:
        step = diff(x, axis=-1 if len(_start(x, y).dims) == 1 else axis)
        if len(step.dims) == 1:
            step = arrays.expand_dims(step, [d for d in range(len(values.dims)) if d != axis])
    return reductions.sum_(step * (getitem(values, tuple(ahead)) + getitem(values, tuple(behind))) / 2.0, axis)


@records(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = _NO) -> Any:
    if weights is None and not returned:
        return reductions.mean(a, axis, keepdims=keepdims)
    x = _start(a, weights)
    if weights is None:
        kept = {} if keepdims is _NO else {"keepdims": keepdims}
        return record_call("numpy.average", (x, axis), {"returned": True, **kept})
    w = as_tracer(x.context, weights)
    if len(w.dims) == 1 and len(x.dims) > 1 and axis is not None:
        at = normalise_axis(axis, len(x.dims))
        w = arrays.expand_dims(w, [d for d in range(len(x.dims)) if d != at])
        w = arrays.broadcast_to(w, x.dims)
    total = reductions.sum_(w, axis, keepdims=keepdims)
    result = call(np.true_divide, reductions.sum_(call(np.multiply, x, w), axis, keepdims=keepdims), total)
    return (result, total) if returned else result


@records(np.sinc)
def sinc(x: Any) -> Any:
    a = _start(x)
    y = call(np.multiply, math.pi, where(call(np.equal, a, 0), 1.0e-20, a))
    return call(np.true_divide, call(np.sin, y), y)
