"""Gradient of matrix products: two matrix products, summed over batches that were repeated."""

from __future__ import annotations

from typing import Any

from jitensor.ops import linalg
from jitensor.ops.composites import layout
from jitensor.ops.composites.numbers import Emit
from jitensor.ops.vjps.expression import Expr, unbroadcast

Values = tuple[Any, ...]


def adjoint(emit: Emit, x: Any) -> Any:
    """The conjugate transpose of the last two dimensions."""
    rank = x.type.rank
    return Expr(emit, layout.swapaxes(emit, x, rank - 2, rank - 1)).conj.value


def _matmul_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values) -> Values:
    x, y = inputs
    return (
        lambda: unbroadcast(emit, emit(linalg.matmul, g, adjoint(emit, y)), x.type),
        lambda: unbroadcast(emit, emit(linalg.matmul, adjoint(emit, x), g), y.type),
    )


linalg.matmul.vjp = _matmul_vjp
