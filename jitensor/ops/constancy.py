"""`stop_gradient`: the value itself, whose gradient is none. Compiled code has no trace of it."""

from __future__ import annotations

import numpy as np

from jitensor.ops.base import elementwise

stop_gradient = elementwise(
    "stop_gradient",
    scalar=lambda a: a,
    numpy=lambda x: np.array(x),
    tf=("stop_gradient",),
    doc="The value, constant to differentiation. Mirrors tf.stop_gradient.",
)
