"""Contractions: products of matrices, which go to BLAS."""

from __future__ import annotations

import numpy as np

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import dims
from jitensor.ir.graph import Primitive
from jitensor.ir.types import TensorType
from jitensor.ops.base import broadcast_shapes, register


def _matmul_type(x: TensorType, y: TensorType) -> TensorType:
    if x.dtype is not y.dtype:
        raise DTypeError(f"matmul: operands are {x.dtype.name} and {y.dtype.name}; needed one dtype")
    if x.rank < 2 or y.rank < 2:
        raise ShapeError(f"matmul: x is {x} and y is {y}; both need at least 2 dimensions.")
    if not dims.same(x.shape[-1], y.shape[-2]):
        raise ShapeError(f"matmul: x is {x} and y is {y}; x.shape[-1] must equal y.shape[-2].")
    batch = broadcast_shapes("matmul", (x.shape[:-2], y.shape[:-2]))
    return TensorType(x.dtype, (*batch, x.shape[-2], y.shape[-1]))


matmul = register(
    Primitive(
        "matmul",
        "contraction",
        _matmul_type,
        np.matmul,
        tolerance=64,  # BLAS and NumPy's loops add in other orders; tests scale by the sum of magnitudes
        doc="Matrix products x[..., m, k] @ y[..., k, n] over broadcast leading dimensions. Mirrors numpy.matmul.",
    ),
    ufunc=np.matmul,
    tf=("matmul", "linalg.matmul"),
)
