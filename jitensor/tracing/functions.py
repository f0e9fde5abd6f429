"""Every recorded NumPy function, and the ways in: `ufunc_method` for ufuncs and `dispatch` for functions.

Owns what NumPy's two protocols call. Importing it files every version in `registry.RECORDED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor.ops import TABLE, promote
from jitensor.tracing import (
    arrays,
    functions_derived,  # noqa: F401
    reductions,
)
from jitensor.tracing.arrays import (
    as_tracer,
    context_of,
    supported,
)
from jitensor.tracing.functions_creation import astype, copy, copy_c, diagonal
from jitensor.tracing.functions_elementwise import clip, imag, real, round_, set_part, where
from jitensor.tracing.functions_joining import repeat
from jitensor.tracing.functions_library import library_ufunc, name_of
from jitensor.tracing.functions_movement import flatten, ravel, reshape, squeeze, swapaxes, transpose
from jitensor.tracing.functions_products import dot, matmul, power
from jitensor.tracing.functions_searching import argsort, searchsorted, sort, take
from jitensor.tracing.library import record_write
from jitensor.tracing.registry import CREATES, RECORDED, unsupported
from jitensor.tracing.ufuncs import (
    call,
    cast,
    outer,
    prepare,
    to_dtype,
)


def ufunc_method(ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """ufunc.__call__ or one of its methods on traced operands: recorded as loops where there is a primitive for it."""
    if method == "__call__":
        if ufunc is np.matmul:
            return matmul(*inputs, **options)
        if promote.primitives_of(ufunc) or name_of(ufunc) is None:
            return call(ufunc, *inputs, **options)
    if method == "reduce" and ufunc in reductions.REDUCE:
        return reductions.reduce_method(ufunc, *inputs, **options)
    if method == "accumulate" and ufunc in reductions.ACCUMULATE:
        return reductions.accumulate_method(ufunc, *inputs, **options)
    if method == "outer" and promote.primitives_of(ufunc):
        return outer(ufunc, *inputs, **options)
    if method == "at":
        return ufunc_at(ufunc, *inputs)
    if name_of(ufunc) is None:
        raise unsupported(f"{ufunc.__name__}.{method}")
    return library_ufunc(ufunc, method, inputs, options)


def ufunc_at(ufunc: np.ufunc, a: Any, indices: Any, *b: Any) -> None:
    """ufunc.at: the operation at positions, repeats included."""
    if ufunc is not np.add or isinstance(indices, tuple) or not b or _is_mask(indices):
        if name_of(ufunc) is None:
            raise unsupported(f"{ufunc.__name__}.at")
        record_write(f"{name_of(ufunc)}.at", (a, indices, *b))
        return
    x = as_tracer(context_of(a, indices, *b), a)
    index = cast(x.context, as_tracer(x.context, indices).value(), arrays.INT)
    put = to_dtype(x.context, prepare(x.context, b[0]), supported(x.dtype))
    arrays.write(x, x.context.emit(TABLE["index_add"], x.value(), put, index, axes=(0,)))


def _is_mask(indices: Any) -> bool:
    return not isinstance(indices, arrays.Tracer) or indices.dtype == np.bool_


def dispatch(function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """A NumPy function on traced operands. Raises TraceError for one without a recording version."""
    version = RECORDED.get(function)
    if version is None:
        name = f"{getattr(function, '__module__', 'numpy')}.{getattr(function, '__name__', function)}"
        raise unsupported(name, "Compute it outside the jitted function, or write it with supported functions.")
    return version(*args, **options)


__all__ = [
    "CREATES",
    "RECORDED",
    "argsort",
    "astype",
    "clip",
    "copy",
    "copy_c",
    "diagonal",
    "dispatch",
    "dot",
    "flatten",
    "imag",
    "matmul",
    "power",
    "ravel",
    "real",
    "repeat",
    "reshape",
    "round_",
    "searchsorted",
    "set_part",
    "sort",
    "squeeze",
    "swapaxes",
    "take",
    "transpose",
    "ufunc_at",
    "ufunc_method",
    "unsupported",
    "where",
]
