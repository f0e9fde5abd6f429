"""Gradients of jt.nn's activations and losses where a plain formula goes wrong; the values are TensorFlow's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jitensor as jt

POINTS = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0])
SLOPES: list[tuple[Callable[..., Any], list[float]]] = [
    (jt.nn.relu, [0, 0, 0, 1, 1]),
    (jt.nn.relu6, [0, 0, 0, 1, 0]),
    (jt.nn.leaky_relu, [0.2, 0.2, 0.2, 1, 1]),
    (jt.nn.elu, [0, np.exp(-1), 1, 1, 1]),
    (jt.nn.selu, [0, 1.7580993408473768 * np.exp(-1), 1.0507009873554805, 1.0507009873554805, 1.0507009873554805]),
    (jt.nn.softplus, [0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1]),
    (jt.nn.sigmoid, [0, 0.19661193324148185, 0.25, 0.19661193324148185, 0]),
    (jt.nn.silu, [0, 0.07232948812851325, 0.5, 0.9276705118714868, 1]),
    (jt.math.abs, [-1, -1, 0, 1, 1]),
    (jt.math.sign, [0, 0, 0, 0, 0]),
]


@pytest.mark.parametrize("function, expected", SLOPES, ids=lambda v: getattr(v, "__name__", ""))
def test_slopes(function: Callable[..., Any], expected: list[float]) -> None:
    for traced in (function, jt.function(function)):
        x = jt.constant(POINTS)
        with jt.GradientTape() as tape:
            tape.watch(x)
            y = traced(x)
        np.testing.assert_allclose(tape.gradient(y, x).numpy(), expected, rtol=1e-14, atol=1e-300)


def test_cross_entropy_of_far_logits() -> None:
    logits = jt.constant([[1000.0, 0.0, -1000.0], [0.0, 0.0, -np.inf]])
    labels = jt.constant([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    with jt.GradientTape() as tape:
        tape.watch(logits)
        loss = jt.nn.sparse_softmax_cross_entropy_with_logits(jt.constant([1, 0]), logits[:, :2])
        total = jt.reduce_sum(loss) + jt.reduce_sum(jt.nn.softmax(logits) * labels)
    expected = np.array([[1.0, -1.0, 0.0], [-0.25, 0.25, 0.0]])
    np.testing.assert_allclose(tape.gradient(total, logits).numpy(), expected, atol=1e-6)
