"""Ramps, grids and triangles, made of `iota`."""

from __future__ import annotations

from typing import Any

from jitensor.ir import types
from jitensor.ir.dims import Dim
from jitensor.ir.types import DType
from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, structure
from jitensor.ops.composites.numbers import Emit, Size, cast, constant, size_as
from jitensor.ops.composites.reductions import sum_
from jitensor.ops.rounding import floor


def arange(emit: Emit, start: Any, step: Any, size: Size) -> Any:
    """start, start + step ... : 0-d values of the result's dtype. Mirrors how numpy.arange fills."""
    dtype = start.type.dtype
    line = cast(emit, emit(structure.iota, shape=(size,), axis=0, dtype=dtype.real_dtype), dtype)
    return emit(a.add, start, emit(a.multiply, line, step))


def linspace(emit: Emit, start: Any, stop: Any, num: int, endpoint: bool, dtype: DType) -> Any:
    """`num` values from start to stop, float or complex values of one dtype and shape; the new dimension comes first.
    Mirrors numpy.linspace."""
    work = start.type.dtype
    divisions = num - 1 if endpoint else num
    shape = (num, *(1,) * start.type.rank)
    line = emit(structure.iota, shape=shape, axis=0, dtype=work.real_dtype)
    real_line = cast(emit, line, work)
    delta = emit(a.subtract, stop, start)
    if divisions > 0:
        step = emit(a.divide, delta, constant(emit, divisions, work))
        result = emit(a.add, emit(a.multiply, real_line, step), start)
    else:
        result = emit(a.add, emit(a.multiply, real_line, delta), start)
    if endpoint and num > 1:
        last = emit(comparison.equal, line, constant(emit, num - 1, work.real_dtype))
        result = emit(comparison.where, last, stop, result)
    if dtype.is_integer:
        result = emit(floor, result)
    return cast(emit, result, dtype)


def eye(emit: Emit, rows: Size, columns: Size, k: int | Dim, dtype: DType) -> Any:
    """1 on the k-th diagonal. Mirrors numpy.eye."""
    return cast(emit, _diagonal(emit, (rows, columns), k, comparison.equal), dtype)


def tri(emit: Emit, rows: Size, columns: Size, k: int | Dim, dtype: DType) -> Any:
    """1 on the k-th diagonal and below. Mirrors numpy.tri."""
    return cast(emit, _diagonal(emit, (rows, columns), k, comparison.greater_equal), dtype)


def _diagonal(emit: Emit, shape: tuple[Size, Size], k: Size, relation: Any) -> Any:
    """relation(row + k, column) over a matrix, bool."""
    row = emit(structure.iota, shape=shape, axis=0, dtype=types.int64)
    column = emit(structure.iota, shape=shape, axis=1, dtype=types.int64)
    if not (isinstance(k, int) and k == 0):
        row = emit(a.add, row, size_as(emit, k, types.int64))
    return emit(relation, row, column)


def tril(emit: Emit, x: Any, k: int | Dim = 0) -> Any:
    """The lower triangle of the last two dimensions, else 0. Mirrors numpy.tril."""
    keep = _diagonal(emit, x.type.shape[-2:], k, comparison.greater_equal)
    return emit(comparison.where, keep, x, constant(emit, 0, x.type.dtype))


def triu(emit: Emit, x: Any, k: int | Dim = 0) -> Any:
    """The upper triangle of the last two dimensions, else 0. Mirrors numpy.triu."""
    keep = _diagonal(emit, x.type.shape[-2:], k, comparison.less_equal)
    return emit(comparison.where, keep, x, constant(emit, 0, x.type.dtype))


def trace(emit: Emit, x: Any, k: int | Dim = 0) -> Any:
    """Sum along a diagonal of the last two dimensions. Mirrors numpy.trace over the last two axes."""
    keep = _diagonal(emit, x.type.shape[-2:], k, comparison.equal)
    picked = emit(comparison.where, keep, x, constant(emit, 0, x.type.dtype))
    return sum_(emit, picked, (x.type.rank - 2, x.type.rank - 1))
