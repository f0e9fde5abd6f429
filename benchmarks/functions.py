"""The functions that are timed, in plain NumPy. Every peer runs this text with its own meaning of `np`.

Must not know peers or timing. `rebound` gives a function of this module to a peer.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from jitensor.cli.hot_functions import Array
from jitensor.cli.hot_functions import black_scholes as black_scholes
from jitensor.cli.hot_functions import seawater as seawater


def gelu(x: Array) -> Array:
    """Return the Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x))))


def stencil(u: Array) -> Array:
    """Return one explicit step of the heat equation on the inside of `u` `[h, w]`: `[h-2, w-2]`."""
    centre = u[1:-1, 1:-1]
    return centre + 0.1 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4.0 * centre)


def pairwise(x: Array, y: Array) -> Array:
    """Return the Euclidean distances of all rows of `x` `[n, 3]` and `y` `[m, 3]`: `[n, m]`."""
    apart = x[:, None, :] - y[None, :, :]
    return np.sqrt(np.sum(apart * apart, axis=2))


def logsumexp(x: Array) -> Array:
    """Return log(sum(exp(row))) for each row of `x` `[n, m]`: `[n]`."""
    highest = np.max(x, axis=1, keepdims=True)
    return np.log(np.sum(np.exp(x - highest), axis=1)) + highest[:, 0]


def total(x: Array) -> Array:
    """Return the sum of all elements."""
    return np.sum(x)


def mean_squared_error(x: Array, y: Array) -> Array:
    """Return the mean of the squared differences."""
    apart = x - y
    return np.mean(apart * apart)


def softmax(x: Array) -> Array:
    """Return each row of `x` as probabilities."""
    weights = np.exp(x - np.max(x, axis=1, keepdims=True))
    return weights / np.sum(weights, axis=1, keepdims=True)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Return each row of `x` `[n, m]` with mean 0 and variance 1, then scaled and shifted by `[m]`."""
    centred = x - np.mean(x, axis=1, keepdims=True)
    variance = np.mean(centred * centred, axis=1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * scale + shift


def rebound(name: str, **globals_: Any) -> Callable[..., Any]:
    """Return the function `name` from a fresh copy of the modules, where each global given has that value instead.

    So `rebound("gelu", np=jax.numpy)` is the same text over JAX.
    """
    function = getattr(sys.modules[__name__], name)
    copy = fresh_copy(sys.modules[function.__module__])
    vars(copy).update(globals_)
    return getattr(copy, name)


def fresh_copy(module: ModuleType) -> ModuleType:
    """Return the module executed once more, under no name in `sys.modules`."""
    spec = module.__spec__
    assert spec is not None and spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
