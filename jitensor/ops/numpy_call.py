"""Calls of NumPy and SciPy functions as they are: the call's text is a parameter, the operands fill its places.

    numpy_call %0 %1 {call="numpy.linalg.solve(x0, x1)", dtypes=("float64",), ranks=(1,), shape=(d0,)}

Who records such a call says what it gives (`dtypes`, `ranks`, and `shape`, the sizes of all results one after another);
a result that is otherwise raises when it runs. Must not know how the types were found.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jitensor.errors import TraceError
from jitensor.ir import dims
from jitensor.ir.graph import Primitive
from jitensor.ir.types import BY_NUMPY, TensorType
from jitensor.ops.base import register


def after(function: Callable[..., Any], array: Any, *rest: Any, **options: Any) -> Any:
    """A copy of the array after a function that writes into it."""
    copied = np.array(array)
    function(copied, *rest, **options)
    return copied


# What the text of a call may name, besides Python's builtins.
_NAMES: dict[str, Any] = {"numpy": np, "nan": np.nan, "inf": np.inf, "dtype": np.dtype, "after": after}


@functools.lru_cache(4096)
def call_of(text: str, operands: int) -> Callable[..., Any]:
    """The function x0, x1, ... -> result that the text of a call stands for."""
    arguments = ", ".join(f"x{i}" for i in range(operands))
    if "scipy." in text:
        _import_modules(text)
    made: Callable[..., Any] = eval(f"lambda {arguments}: {text}", _NAMES)
    return made


def _import_modules(text: str) -> None:
    _NAMES["scipy"] = importlib.import_module("scipy")
    path = text[text.index("scipy.") :].partition("(")[0].split(".")
    for depth in range(2, len(path)):
        importlib.import_module(".".join(path[:depth]))


def leaves(result: Any) -> Iterator[Any]:
    """The arrays and numbers of a nested result, in order."""
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from leaves(part)
    elif result is not None and not isinstance(result, str):
        yield result


def _types(dtypes: tuple[str, ...], ranks: tuple[int, ...], shape: tuple[Any, ...]) -> tuple[TensorType, ...]:
    types, at = [], 0
    for dtype, rank in zip(dtypes, ranks, strict=True):
        sizes = tuple([dims.symbol(n) if isinstance(n, str) else n for n in shape[at : at + rank]])
        types.append(TensorType(BY_NUMPY[np.dtype(dtype)], sizes))
        at += rank
    return tuple(types)


@functools.lru_cache(4096)
def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(name)


def _run(operands: tuple[Any, ...], call: str, dtypes: tuple[str, ...], ranks: tuple[int, ...], shape: Any) -> Any:
    result = call_of(call, len(operands))(*operands)
    if (
        result.__class__ is np.ndarray
        and len(dtypes) == 1
        and result.shape == shape
        and result.dtype == _dtype(dtypes[0])
    ):
        return result
    results = []
    at = 0
    for part, dtype, rank in zip(leaves(result), dtypes, ranks, strict=True):
        array = np.asarray(part)
        _check(call, array, dtype, shape[at : at + rank])
        at += rank
        results.append(array)
    return tuple(results)


def _check(call: str, array: Any, dtype: str, expected: tuple[Any, ...]) -> None:
    """Is the result what the trace was made for? Names stand for sizes that the data decide."""
    fits = array.dtype == _dtype(dtype) and array.ndim == len(expected)
    if not fits or any(m.__class__ is not str and n != m for n, m in zip(array.shape, expected, strict=True)):
        raise TraceError(
            f"{call}: gave {array.dtype.name}{list(array.shape)}; the trace was made for {dtype}{list(expected)}. "
            "What this function returns depends on data in a way that a trace cannot hold; call it outside."
        )


def _evaluate(*operands: Any, call: str, dtypes: tuple[str, ...], ranks: tuple[int, ...], shape: Any) -> Any:
    return _run(operands, call, dtypes, ranks, shape)


def _call_type(*operands: TensorType, call: str, dtypes: Any, ranks: Any, shape: Any) -> tuple[TensorType, ...]:
    return _types(dtypes, ranks, shape)


numpy_call = register(
    Primitive(
        "numpy_call",
        "library",
        _call_type,
        _evaluate,
        doc="A call of a NumPy or SciPy function, whose results' sizes follow from the operands' sizes.",
    )
)


def _sized_type(*operands: TensorType, call: str, dtypes: Any, ranks: Any, sizes: Any) -> tuple[TensorType, ...]:
    return _types(dtypes, ranks, sizes)


numpy_call_sized = register(
    Primitive(
        "numpy_call_sized",
        "library",
        _sized_type,
        lambda *operands, call, dtypes, ranks, sizes: _run(operands, call, dtypes, ranks, sizes),
        data_shape=True,
        doc="A call of a NumPy or SciPy function with sizes that the data decide; `sizes` holds their names.",
    )
)
