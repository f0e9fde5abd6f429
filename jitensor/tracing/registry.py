"""Which recording version stands for which NumPy function: `RECORDED`, `CREATES`, `records`.

Owns the registry, and how every version starts. Must not know any version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.types import Shape
from jitensor.tracing.arrays import (
    Tracer,
    as_tracer,
    context_of,
    supported,
)
from jitensor.tracing.numbers import as_dim
from jitensor.tracing.reductions import normalise_axis

RECORDED: dict[Any, Callable[..., Any]] = {}
CREATES: set[Any] = set()
_NO = np._NoValue
Size = int | Dim


def records(*functions: Any, creates: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Files the recording version of NumPy functions."""

    def file(version: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            RECORDED[function] = version
            if creates:
                CREATES.add(function)
        return version

    return file


def unsupported(name: str, cure: str = "") -> TraceError:
    return TraceError(
        f"{name}: not supported in a traced function. {cure or 'Do this part outside the jitted function.'}",
        location=user_location(),
    )


def _real_dtype(dtype: Any) -> np.dtype[Any]:
    return supported(dtype).numpy


def sizes_of(shape: Any) -> Shape:
    """A shape argument (number or sequence) as sizes; ValueError for negative ones."""
    items = shape if isinstance(shape, (tuple, list)) else (shape,)
    if isinstance(shape, (np.ndarray, Tracer)) and shape.ndim:
        items = list(shape)  # type: ignore[arg-type]
    result = []
    for item in items:
        n = as_dim(item)
        if dims.less(n, 0):
            raise ValueError("negative dimensions are not allowed")
        result.append(n)
    return tuple(result)


def _start(x: Any, *others: Any) -> Tracer:
    return as_tracer(context_of(x, *others), x)


def _order(order: Any) -> str:
    if order not in ("C", "K", "A", "F", None):
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got '{order}')")
    return order or "K"


@records(np.shape)
def shape(a: Any) -> Any:
    return _start(a).shape


@records(np.ndim)
def ndim(a: Any) -> int:
    return len(_start(a).dims)


@records(np.size)
def size(a: Any, axis: Any = None) -> Any:
    x = _start(a)
    return x.size if axis is None else x.shape[normalise_axis(axis, len(x.dims))]
