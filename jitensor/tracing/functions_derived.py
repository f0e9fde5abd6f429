"""NumPy functions that are a few recorded ones together: kron, block, polyval, cov, nanvar, the array API's names.

Owns their argument forms. Each follows NumPy's own definition, so that values, dtypes and errors are NumPy's.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.ops import TABLE
from jitensor.tracing import arrays, reductions
from jitensor.tracing.arrays import Tracer, as_tracer, context_of, fresh
from jitensor.tracing.functions_creation import astype, diag, diagonal
from jitensor.tracing.functions_elementwise import array_equal, cross
from jitensor.tracing.functions_joining import _into_out, concatenate, roll, vstack
from jitensor.tracing.functions_movement import matrix_transpose, ravel, reshape
from jitensor.tracing.functions_products import dot, matmul, norm, outer_product, tensordot
from jitensor.tracing.indexing import getitem, setitem
from jitensor.tracing.library import record_call
from jitensor.tracing.numbers import Number, make_int
from jitensor.tracing.reductions import normalise_axes, normalise_axis
from jitensor.tracing.registry import RECORDED, _start, records, unsupported
from jitensor.tracing.ufuncs import call, joint_shape

_NO = np._NoValue
_MOST_SLICES = 64  # that apply_along_axis unrolls


@records(np.kron)
def kron(a: Any, b: Any) -> Any:
    context = context_of(a, b)
    x, y = as_tracer(context, a), as_tracer(context, b)
    rank = max(len(x.dims), len(y.dims))
    x = arrays.expand_dims(x, range(rank - len(x.dims)))
    y = arrays.expand_dims(y, range(rank - len(y.dims)))
    product = call(
        np.multiply,
        arrays.expand_dims(x, range(1, 2 * rank, 2)),
        arrays.expand_dims(y, range(0, 2 * rank, 2)),
    )
    return reshape(product, tuple([make_int(context, n * m) for n, m in zip(x.dims, y.dims, strict=True)]))


@records(np.block)
def block(arrays: Any) -> Any:
    context = context_of(*_leaves(arrays))
    depth = _depth(arrays)
    parts = {id(a): as_tracer(context, a) for a in _leaves(arrays)}
    rank = max(depth, *[len(p.dims) for p in parts.values()])

    def join(item: Any, level: int) -> Any:
        if isinstance(item, list):
            if not item:
                raise ValueError("List at arrays cannot be empty")
            return concatenate([join(i, level + 1) for i in item], axis=rank - depth + level)
        part = parts[id(item)]
        return with_rank(part, rank)

    return RECORDED[np.copy](join(arrays, 0)) if not isinstance(arrays, list) else join(arrays, 0)


def with_rank(part: Tracer, rank: int) -> Tracer:
    """The array with leading dimensions up to `rank`."""
    return arrays.expand_dims(part, range(rank - len(part.dims)))


def _leaves(nested: Any) -> list[Any]:
    return [leaf for item in nested for leaf in _leaves(item)] if isinstance(nested, list) else [nested]


def _depth(nested: Any) -> int:
    if not isinstance(nested, list):
        return 0
    depths = {_depth(item) for item in nested}
    if len(depths) > 1:
        raise ValueError("List depths are mismatched.")
    return 1 + depths.pop() if depths else 1


@records(np.diagflat)
def diagflat(v: Any, k: Any = 0) -> Any:
    return diag(ravel(_start(v)), k)


@records(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    context = context_of(p, x)
    if isinstance(p, np.poly1d) or isinstance(x, np.poly1d):
        return record_call("numpy.polyval", (p, x))
    values = as_tracer(context, x)
    y: Any = RECORDED[np.zeros_like](values)
    coefficients = as_tracer(context, p)
    for coefficient in [getitem(coefficients, i) for i in range(len(coefficients))]:
        y = y * values + coefficient
    return y


@records(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    values = _start(x, *_leaves(condlist))
    context = values.context
    nested = isinstance(condlist, (list, tuple)) and condlist and not isinstance(condlist[0], (bool, np.bool_))
    single = isinstance(condlist, (Tracer, np.ndarray)) and condlist.ndim == len(values.dims)
    conditions = [astype(as_tracer(context, c), bool) for c in (condlist if nested and not single else [condlist])]
    if len(funclist) == len(conditions) + 1:
        conditions.append(call(np.logical_not, functools.reduce(lambda a, b: call(np.logical_or, a, b), conditions)))
    elif len(funclist) != len(conditions):
        n = len(conditions)
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected")
    y = RECORDED[np.zeros_like](values)
    for condition, function in zip(conditions, funclist, strict=True):
        if not callable(function):
            setitem(y, condition, function)
        else:
            setitem(y, condition, function(getitem(values, condition), *args, **kw))
    return y


@records(np.apply_along_axis)
def apply_along_axis(func1d: Any, axis: Any, arr: Any, *args: Any, **kwargs: Any) -> Any:
    x = _start(arr)
    axis = normalise_axis(axis, len(x.dims))
    real = getattr(func1d, "original_", func1d)
    if real in _ALONG_AXIS:
        return RECORDED[real](x, *args, axis=axis, **kwargs)
    moved = RECORDED[np.moveaxis](x, axis, -1)
    sizes = [x.context.value(n, "np.apply_along_axis") if not isinstance(n, int) else n for n in moved.dims[:-1]]
    if int(np.prod(sizes)) > _MOST_SLICES:
        raise TraceError(
            f"np.apply_along_axis: {int(np.prod(sizes))} slices would be traced one by one. Write the function for "
            "whole arrays with axis=.",
            location=user_location(),
        )
    results = [as_tracer(x.context, func1d(getitem(moved, i), *args, **kwargs)) for i in np.ndindex(*sizes)]
    joined = reshape(RECORDED[np.stack](results), (*sizes, *results[0].shape))
    ranks = range(len(sizes), len(sizes) + len(results[0].dims))
    return RECORDED[np.moveaxis](joined, list(ranks), list(range(axis, axis + len(ranks))))


_ALONG_AXIS = {
    *(np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.amax, np.amin, np.any, np.all, np.ptp, np.median),
    *(np.argmax, np.argmin, np.cumsum, np.cumprod, np.sort, np.argsort, np.count_nonzero, np.nansum, np.nanmean),
    *(np.nanmax, np.nanmin, np.nanmedian, np.trapezoid, np.diff),
}


# Questions about elements ---------------------------------------------------------------------------------------------


@records(np.iscomplex)
def iscomplex(x: Any) -> Any:
    a = _start(x)
    return call(np.not_equal, RECORDED[np.imag](a), 0) if a.dtype.kind == "c" else RECORDED[np.zeros_like](a, bool)


@records(np.isreal)
def isreal(x: Any) -> Any:
    a = _start(x)
    return call(np.equal, RECORDED[np.imag](a), 0)


def _infinite(sign: int, name: str) -> Any:
    def version(x: Any, out: Any = None) -> Any:
        a = _start(x, out)
        if a.dtype.kind == "c":
            raise TypeError(f"This operation is not supported for {a.dtype} values because it would be ambiguous.")
        negative = call(np.signbit, a) if a.dtype.kind != "b" else call(np.not_equal, a, a)
        return call(
            np.logical_and, call(np.isinf, a), negative if sign < 0 else call(np.logical_not, negative), out=out
        )

    version.__name__ = name
    return version


records(np.isneginf)(_infinite(-1, "isneginf"))
records(np.isposinf)(_infinite(1, "isposinf"))


@records(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Any:
    context = context_of(a1, a2)
    x, y = as_tracer(context, a1), as_tracer(context, a2)
    try:
        shape = joint_shape([x, y])
    except ValueError:
        return False
    return array_equal(arrays.broadcast_to(x, shape), arrays.broadcast_to(y, shape))


@records(np.real_if_close)
def real_if_close(a: Any, tol: Any = 100) -> Any:
    x = _start(a)
    if x.dtype.kind == "c":
        raise unsupported("np.real_if_close of complex data", "Its dtype depends on data. Use x.real.")
    return x


@records(np.asarray_chkfinite)
def asarray_chkfinite(a: Any, dtype: Any = None, order: Any = None) -> Any:
    x = RECORDED[np.asarray](a, dtype, order)
    if x.dtype.kind in "fc":
        finite = reductions.all_(call(np.isfinite, x))
        message = "array must not contain infs or NaNs"
        x.context.emit(TABLE["check"], finite.value(), message=message, error=ValueError)
    return x


@records(np.asfortranarray)
def asfortranarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:
    x = _start(a)
    x = x if dtype is None else astype(x, dtype)
    return fresh(x.context, x.value(), layout=tuple(range(1, len(x.dims) + 1)) if len(x.dims) > 1 else None)


@records(np.require)
def require(a: Any, dtype: Any = None, requirements: Any = None, *, like: Any = None) -> Any:
    asked = {str(r)[0].upper() for r in requirements or ()}
    if "F" in asked:
        return asfortranarray(a, dtype)
    return RECORDED[np.ascontiguousarray](a, dtype) if "C" in asked else RECORDED[np.asanyarray](a, dtype)


def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return astype(_start(x), dtype, copy=copy)


records(np.astype)(_astype)


# Running totals, moments ----------------------------------------------------------------------------------------------


def _cumulative(running: Any, first: int, name: str) -> Any:
    def version(
        x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
    ) -> Any:
        a = _start(x, out)
        if axis is None:
            if len(a.dims) > 1:
                raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
            axis = 0
        at = normalise_axis(axis, max(len(a.dims), 1))
        result = running(a, at, dtype)
        if include_initial:
            shape = tuple([1 if d == at else n for d, n in enumerate(result.shape)])
            result = concatenate([RECORDED[np.full](shape, first, result.dtype), result], at)
        return _into_out(result, out)

    version.__name__ = name
    return version


if hasattr(np, "cumulative_sum"):
    records(np.cumulative_sum)(_cumulative(reductions.cumsum, 0, "cumulative_sum"))
    records(np.cumulative_prod)(_cumulative(reductions.cumprod, 1, "cumulative_prod"))


def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = _NO, *,
    where: Any = _NO, mean: Any = _NO, correction: Any = _NO,
) -> Any:  # fmt: skip
    x = _start(a, out)
    given = {"where": where, "mean": mean, "correction": correction}
    if (
        x.dtype.kind not in "fc"
        or x.dtype.itemsize < 4
        or dtype is not None
        or any(v is not _NO for v in given.values())
    ):
        options = {n: v for n, v in given.items() if v is not _NO} | ({} if keepdims is _NO else {"keepdims": keepdims})
        return record_call("numpy.nanvar", (x, axis), {"dtype": dtype, "out": out, "ddof": ddof, **options})
    kept = call(np.logical_not, call(np.isnan, x))
    real = x.dtype.type(0).real.dtype
    count = reductions.sum_(kept, axis, np.intp, None, True)
    filled = where_of(kept, x, 0)
    centre = call(
        np.true_divide, reductions.sum_(filled, axis, None, None, True), count, dtype=x.dtype, casting="unsafe"
    )
    away = where_of(kept, call(np.subtract, x, centre), 0)
    squares = _squared_size(away)
    total = reductions.sum_(squares, axis, None, None, keepdims)
    free = call(np.subtract, reductions.sum_(kept, axis, np.intp, None, keepdims), ddof)
    result = call(np.true_divide, total, free, dtype=real, casting="unsafe")
    result = where_of(call(np.greater, free, 0), result, np.nan)
    return result if out is None else _into_out(result, out)


def _squared_size(x: Tracer) -> Any:
    """|x| squared, real."""
    if x.dtype.kind != "c":
        return call(np.square, x)
    return RECORDED[np.real](call(np.multiply, x, call(np.conjugate, x)))


def where_of(mask: Tracer, x: Tracer, fill: Any) -> Any:
    """x where the mask holds, else the number `fill`; of x's dtype."""
    other = x.context.constant(fill, arrays.supported(x.dtype))
    value = x.context.emit(TABLE["where"], mask.value(), x.value(), other)
    return fresh(x.context, value, scalar=x.scalar, layout=x.layout)


def nanstd(a: Any, *args: Any, out: Any = None, **options: Any) -> Any:
    return call(np.sqrt, nanvar(a, *args, **options), out=out)


@records(np.cov)
def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Any:  # fmt: skip
    x = _start(m, y)
    weighted = fweights is not None or aweights is not None or dtype is not None
    if weighted or isinstance(ddof, (float, Number)) or len(x.dims) > 2:
        weights = {"fweights": fweights, "aweights": aweights, "dtype": dtype}
        return record_call("numpy.cov", (m, y, rowvar, bias, ddof), {n: v for n, v in weights.items() if v is not None})
    if ddof is not None and ddof != int(ddof):
        raise ValueError("ddof must be integer")
    parts = [x] if y is None else [x, as_tracer(x.context, y)]
    work = np.result_type(*[p.dtype for p in parts], np.float64)
    rows = [_as_rows(p, rowvar) for p in parts]
    data = astype(concatenate(rows, 0) if len(rows) > 1 else rows[0], work)
    ddof = (0 if bias else 1) if ddof is None else int(ddof)
    n = make_int(x.context, data.dims[1])
    centred = call(np.subtract, data, reductions.mean(data, 1, keepdims=True))
    free = n - ddof
    scale = 1.0 / max(free, 0) if not isinstance(free, int) or free > 0 else np.inf
    product = dot(centred, call(np.conjugate, matrix_transpose(centred)))
    result = call(np.multiply, product, scale)
    whole = [d for d, size in enumerate(result.dims) if isinstance(size, int) and size == 1]
    return getitem(result, (0, 0)).reshape(()) if len(whole) == 2 else result


def _as_rows(x: Tracer, rowvar: bool) -> Tracer:
    x = with_rank(x, 2)
    return x if rowvar or (isinstance(x.dims[0], int) and x.dims[0] == 1) else matrix_transpose(x)


# numpy.fft and numpy.linalg -------------------------------------------------------------------------------------------


def _shifted(sign: int) -> Any:
    def version(x: Any, axes: Any = None) -> Any:
        a = _start(x)
        chosen = normalise_axes(axes, len(a.dims)) if not isinstance(axes, list) else tuple(axes)
        halves = [make_int(a.context, a.dims[d]) // 2 for d in chosen]
        return roll(a, tuple([sign * h for h in halves]), chosen)

    return version


records(np.fft.fftshift)(_shifted(1))
records(np.fft.ifftshift)(_shifted(-1))


def _linalg() -> dict[Any, Any]:
    """numpy.linalg's names for functions that numpy has too."""

    def at_least(rank: int, name: str, x: Any) -> Tracer:
        a = _start(x)
        if len(a.dims) < rank:
            raise np.linalg.LinAlgError(
                f"{len(a.dims)}-dimensional array given. Array must be at least two-dimensional"
            )
        return a

    def outer(x1: Any, x2: Any, /) -> Any:
        context = context_of(x1, x2)
        a, b = as_tracer(context, x1), as_tracer(context, x2)
        if len(a.dims) != 1 or len(b.dims) != 1:
            raise ValueError(
                f"Input arrays must be one-dimensional, but they are x1.ndim={len(a.dims)} and x2.ndim={len(b.dims)}."
            )
        return outer_product(a, b)

    def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
        a = _start(x)
        if axis is None:
            result = norm(ravel(a), ord)
            return reshape(result, (1,) * len(a.dims)) if keepdims else result
        if isinstance(axis, tuple):
            return record_call("numpy.linalg.vector_norm", (a,), {"axis": axis, "keepdims": keepdims, "ord": ord})
        return norm(a, ord, axis, keepdims)

    def multi_dot(arrays: Any, *, out: Any = None) -> Any:
        items = list(arrays)
        if len(items) == 2:
            return dot(*items, out=out)
        return record_call("numpy.linalg.multi_dot", (items,), {} if out is None else {"out": out})

    return {
        "cross": lambda x1, x2, /, *, axis=-1: cross(x1, x2, axis=axis),
        "diagonal": lambda x, /, *, offset=0: diagonal(at_least(2, "diagonal", x), offset, -2, -1),
        "trace": lambda x, /, *, offset=0, dtype=None: reductions.trace(at_least(2, "trace", x), offset, -2, -1, dtype),
        "matmul": lambda x1, x2, /: matmul(x1, x2),
        "matrix_transpose": lambda x, /: matrix_transpose(x),
        "tensordot": lambda x1, x2, /, *, axes=2: tensordot(x1, x2, axes),
        "vecdot": lambda x1, x2, /, *, axis=-1: vecdot(x1, x2, axis),
        "outer": outer,
        "vector_norm": vector_norm,
        "multi_dot": multi_dot,
    }


def vecdot(x1: Any, x2: Any, axis: int = -1) -> Any:
    """Products summed along one axis, the first operand conjugated."""
    context = context_of(x1, x2)
    a, b = as_tracer(context, x1), as_tracer(context, x2)
    for x in (a, b):
        if not x.dims:
            raise ValueError("vecdot: an operand has no dimensions; needed at least one.")
    product = call(np.multiply, call(np.conjugate, a) if a.dtype.kind == "c" else a, b)
    return reductions.sum_(product, axis, dtype=product.dtype)


for _name, _version in _linalg().items():
    _function = getattr(np.linalg, _name, None)
    if _function is not None:
        RECORDED.setdefault(_function, _version)
RECORDED[np.nanvar] = nanvar
RECORDED[np.nanstd] = nanstd
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    if hasattr(np, "row_stack"):
        RECORDED.setdefault(np.row_stack, vstack)
