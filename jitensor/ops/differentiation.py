"""Entries that only differentiation sees: compiled code has no trace of them.

`stop_gradient` is the value itself, whose gradient is none. `custom_gradient` is the results of a stretch of ordinary
nodes, whose gradient is another graph's business: its inputs are (*results, *operands, *saved), and `backward` is a
graph from (*cotangents of the results, *saved) to the cotangents of the operands that `connected` names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jitensor.ir.graph import Graph, Primitive
from jitensor.ir.types import TensorType
from jitensor.ops.base import elementwise, register

stop_gradient = elementwise(
    "stop_gradient",
    scalar=lambda a: a,
    numpy=lambda x: np.array(x),
    tf=("stop_gradient",),
    doc="The value, constant to differentiation. Mirrors tf.stop_gradient.",
)


def _custom_type(
    *inputs: TensorType, results: int, connected: tuple[bool, ...], backward: Graph
) -> tuple[TensorType, ...]:
    return inputs[:results]


def _custom(*inputs: Any, results: int, connected: tuple[bool, ...], backward: Graph) -> tuple[Any, ...]:
    return inputs[:results]


custom_gradient = register(
    Primitive(
        "custom_gradient",
        "call",
        _custom_type,
        _custom,
        doc="The first `results` inputs, with the gradient that `backward` gives. Mirrors tf.custom_gradient.",
    )
)
