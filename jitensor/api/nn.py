"""Activations and normalisations: composites that fuse into one kernel."""

from __future__ import annotations

import math
from typing import Any

from jitensor.api.convert import cast_to, pair, to_tensor, weak
from jitensor.api.reductions import logsumexp_over, mean_over, reduced, variance_over
from jitensor.api.shaping import normal_axes, normal_axis
from jitensor.errors import DTypeError
from jitensor.ops import TABLE
from jitensor.recording import bind, operation
from jitensor.tensor import Tensor


def _floats(op: str, value: Any) -> Tensor:
    x = to_tensor(value)
    if not x._dtype.is_floating:
        raise DTypeError(f"{op}: not defined for {x._dtype.name}; use jt.cast")
    return x


def _mul(x: Tensor, y: Any) -> Tensor:
    return bind(TABLE["multiply"], (x, y if isinstance(y, Tensor) else weak(y, x._dtype)))


def _add(x: Tensor, y: Any) -> Tensor:
    return bind(TABLE["add"], (x, y if isinstance(y, Tensor) else weak(y, x._dtype)))


def _positive(x: Tensor) -> Tensor:
    return bind(TABLE["greater"], (x, weak(0, x._dtype)))


def _expm1_below(x: Tensor) -> Tensor:
    """exp(x) - 1 for x below 0. Above it would overflow, unseen in the value, but not in the gradient."""
    return bind(TABLE["expm1"], (bind(TABLE["minimum"], (x, weak(0, x._dtype))),))


@operation
def relu(features: Any, name: str | None = None) -> Tensor:
    """max(x, 0). Mirrors tf.nn.relu."""
    x = to_tensor(features)
    return bind(TABLE["maximum"], (weak(0, x._dtype), x))  # in this order: at a tie x has no gradient


@operation
def relu6(features: Any, name: str | None = None) -> Tensor:
    """min(max(x, 0), 6). Mirrors tf.nn.relu6."""
    x = to_tensor(features)
    return bind(TABLE["maximum"], (weak(0, x._dtype), bind(TABLE["minimum"], (weak(6, x._dtype), x))))  # as relu


@operation
def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """x where positive, else alpha * x. Mirrors tf.nn.leaky_relu."""
    x = _floats("leaky_relu", features)
    return bind(TABLE["where"], (_positive(x), x, _mul(x, alpha)))


@operation
def elu(features: Any, name: str | None = None) -> Tensor:
    """x where positive, else exp(x) - 1. Mirrors tf.nn.elu."""
    x = _floats("elu", features)
    return bind(TABLE["where"], (_positive(x), x, _expm1_below(x)))


@operation
def selu(features: Any, name: str | None = None) -> Tensor:
    """Scaled elu with the constants of Klambauer et al. 2017. Mirrors tf.nn.selu."""
    x = _floats("selu", features)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    above = bind(TABLE["greater_equal"], (x, weak(0, x._dtype)))
    return bind(TABLE["where"], (above, _mul(x, scale), _mul(_expm1_below(x), scale * alpha)))


@operation
def softplus(features: Any, name: str | None = None) -> Tensor:
    """log(1 + exp(x)), without overflow. Mirrors tf.math.softplus."""
    x = _floats("softplus", features)
    return bind(TABLE["logaddexp"], (x, weak(0, x._dtype)))


@operation
def softsign(features: Any, name: str | None = None) -> Tensor:
    """x / (1 + |x|). Mirrors tf.nn.softsign."""
    x = _floats("softsign", features)
    return bind(TABLE["divide"], (x, _add(bind(TABLE["absolute"], (x,)), 1)))


@operation
def silu(features: Any, beta: Any = 1.0, name: str | None = None) -> Tensor:
    """x * sigmoid(beta * x). Mirrors tf.nn.silu."""
    x = _floats("silu", features)
    inner = x if isinstance(beta, float) and beta == 1.0 else _mul(x, pair("silu", x, beta)[1])
    return bind(TABLE["multiply"], (x, bind(TABLE["sigmoid"], (inner,))))


@operation
def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Tensor:
    """x times the normal distribution function of x; approximate: by tanh. Mirrors tf.nn.gelu."""
    x = _floats("gelu", features)
    if approximate:
        cube = bind(TABLE["multiply"], (x, bind(TABLE["square"], (x,))))
        inner = _mul(_add(x, _mul(cube, 0.044715)), math.sqrt(2.0 / math.pi))
        return _mul(_mul(x, 0.5), _add(bind(TABLE["tanh"], (inner,)), 1.0))
    return _mul(_mul(x, 0.5), _add(bind(TABLE["erf"], (_mul(x, math.sqrt(0.5)),)), 1.0))


@operation
def softmax(logits: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """exp(x) over its sum along `axis` (the last). Mirrors tf.nn.softmax."""
    x = _floats("softmax", logits)
    axes = (normal_axis("softmax", -1 if axis is None else axis, x.ndim),)
    if not x._sizes or 0 in x._sizes:
        return x
    top = bind(TABLE["stop_gradient"], (reduced(TABLE["reduce_max"], x, axes, True),))
    shifted = bind(TABLE["subtract"], (x, top))
    powers = bind(TABLE["exp"], (shifted,))
    return bind(TABLE["divide"], (powers, reduced(TABLE["reduce_sum"], powers, axes, True)))


@operation
def log_softmax(logits: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """log(softmax(x)), without overflow. Mirrors tf.nn.log_softmax."""
    x = _floats("log_softmax", logits)
    axes = (normal_axis("log_softmax", -1 if axis is None else axis, x.ndim),)
    return bind(TABLE["subtract"], (x, logsumexp_over(x, axes, True)))


@operation
def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(sigmoid(x)), without overflow. Mirrors tf.math.log_sigmoid."""
    x = _floats("log_sigmoid", x)
    return bind(TABLE["negative"], (softplus(bind(TABLE["negative"], (x,))),))


@operation
def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None) -> Tensor:
    """x over its Euclidean length along `axis`. Mirrors tf.math.l2_normalize."""
    x = _floats("l2_normalize", x)
    total = reduced(TABLE["reduce_sum"], bind(TABLE["square"], (x,)), normal_axes("l2_normalize", axis, x.ndim), True)
    length = bind(TABLE["sqrt"], (bind(TABLE["maximum"], (total, weak(epsilon, x._dtype))),))
    return bind(TABLE["divide"], (x, length))


@operation
def moments(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance over the axes. Mirrors tf.nn.moments."""
    x = _floats("moments", x)
    over = normal_axes("moments", axes, x.ndim)
    return mean_over(x, over, keepdims), variance_over(x, over, keepdims)


@operation
def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """value plus bias along the last dimension. Mirrors tf.nn.bias_add."""
    return bind(TABLE["add"], pair("bias_add", value, bias))


@operation
def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Half the sum of squares. Mirrors tf.nn.l2_loss."""
    x = _floats("l2_loss", t)
    return _mul(reduced(TABLE["reduce_sum"], bind(TABLE["square"], (x,)), tuple(range(x.ndim)), False), 0.5)


@operation
def sigmoid_cross_entropy_with_logits(labels: Any, logits: Any, name: str | None = None) -> Tensor:
    """max(x, 0) - x * z + log(1 + exp(-|x|)). Mirrors tf.nn.sigmoid_cross_entropy_with_logits."""
    x, z = pair("sigmoid_cross_entropy_with_logits", logits, labels)
    return bind(TABLE["subtract"], (softplus(x), bind(TABLE["multiply"], (x, z))))


@operation
def softmax_cross_entropy_with_logits(labels: Any, logits: Any, axis: Any = -1, name: str | None = None) -> Tensor:
    """-sum(labels * log_softmax(logits)) along `axis`. Mirrors tf.nn.softmax_cross_entropy_with_logits."""
    x, z = pair("softmax_cross_entropy_with_logits", logits, labels)
    axes = (normal_axis("softmax_cross_entropy_with_logits", axis, x.ndim),)
    logs = bind(TABLE["subtract"], (x, logsumexp_over(x, axes, True)))
    return bind(TABLE["negative"], (reduced(TABLE["reduce_sum"], bind(TABLE["multiply"], (z, logs)), axes, False),))


@operation
def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any, name: str | None = None) -> Tensor:
    """-log_softmax(logits) at the labels, along the last axis. Mirrors
    tf.nn.sparse_softmax_cross_entropy_with_logits."""
    x, index = _floats("sparse_softmax_cross_entropy_with_logits", logits), to_tensor(labels)
    last = x.ndim - 1
    line = bind(TABLE["iota"], (), shape=(1,) * last + (int(x.shape[last]),), axis=last, dtype=index._dtype)
    hot = bind(TABLE["equal"], (bind(TABLE["expand_dims"], (index,), axes=(last,)), line))
    logs = bind(TABLE["subtract"], (logsumexp_over(x, (last,), True), x))
    return reduced(TABLE["reduce_sum"], bind(TABLE["multiply"], (cast_to(hot, x._dtype), logs)), (last,), False)
