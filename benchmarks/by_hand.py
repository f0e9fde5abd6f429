"""The same functions as a person writes them for Numba: explicit loops under `@njit(error_model="numpy")`.

Must not know timing. Named like the functions of `benchmarks/functions.py` that they match.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from benchmarks.functions import rebound
from jitensor.cli import hot_functions as hot

compiled = njit(error_model="numpy")
Array = Any


@compiled
def black_scholes(spot: Array, strike: Array, years: Array, rate: float, volatility: float) -> tuple[Array, Array]:
    call, put = np.empty_like(spot), np.empty_like(spot)
    for i in range(spot.size):
        spread = volatility * math.sqrt(years[i])
        d1 = (math.log(spot[i] / strike[i]) + (rate + 0.5 * volatility * volatility) * years[i]) / spread
        n1 = 0.5 * (1.0 + math.erf(d1 * 0.7071067811865476))
        n2 = 0.5 * (1.0 + math.erf((d1 - spread) * 0.7071067811865476))
        discounted = strike[i] * math.exp(-rate * years[i])
        call[i] = spot[i] * n1 - discounted * n2
        put[i] = discounted * (1.0 - n2) - spot[i] * (1.0 - n1)
    return call, put


@compiled
def gelu(x: Array) -> Array:
    out = np.empty_like(x)
    for i in range(x.size):
        v = x[i]
        out[i] = 0.5 * v * (1.0 + math.tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)))
    return out


@compiled
def stencil(u: Array) -> Array:
    height, width = u.shape
    out = np.empty((height - 2, width - 2), u.dtype)
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            around = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
            out[i - 1, j - 1] = u[i, j] + 0.1 * (around - 4.0 * u[i, j])
    return out


@compiled
def pairwise(x: Array, y: Array) -> Array:
    out = np.empty((x.shape[0], y.shape[0]), x.dtype)
    for i in range(x.shape[0]):
        for j in range(y.shape[0]):
            square = 0.0
            for k in range(x.shape[1]):
                apart = x[i, k] - y[j, k]
                square += apart * apart
            out[i, j] = math.sqrt(square)
    return out


@compiled
def logsumexp(x: Array) -> Array:
    out = np.empty(x.shape[0], x.dtype)
    for i in range(x.shape[0]):
        highest = -np.inf
        for j in range(x.shape[1]):
            highest = max(highest, x[i, j])
        weights = 0.0
        for j in range(x.shape[1]):
            weights += math.exp(x[i, j] - highest)
        out[i] = math.log(weights) + highest
    return out


@compiled
def total(x: Array) -> float:
    result = 0.0
    for i in range(x.size):
        result += x[i]
    return result


@compiled
def mean_squared_error(x: Array, y: Array) -> float:
    result = 0.0
    for i in range(x.size):
        result += (x[i] - y[i]) ** 2
    return result / x.size


@compiled
def softmax(x: Array) -> Array:
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        highest = x[i, 0]
        for j in range(x.shape[1]):
            highest = max(highest, x[i, j])
        weights = x.dtype.type(0.0)
        for j in range(x.shape[1]):
            out[i, j] = math.exp(x[i, j] - highest)
            weights += out[i, j]
        for j in range(x.shape[1]):
            out[i, j] /= weights
    return out


@compiled
def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        mean = 0.0
        for j in range(x.shape[1]):
            mean += x[i, j]
        mean /= x.shape[1]
        variance = 0.0
        for j in range(x.shape[1]):
            variance += (x[i, j] - mean) ** 2
        over = 1.0 / math.sqrt(variance / x.shape[1] + 1e-5)
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * over * scale[j] + shift[j]
    return out


seawater_of_one = compiled(rebound("seawater", horner=compiled(hot.horner)))


@compiled
def seawater(salinity: Array, temperature: Array, pressure: Array) -> Array:
    out = np.empty_like(salinity)
    for i in range(salinity.size):
        out[i] = seawater_of_one(salinity[i], temperature[i], pressure[i])
    return out
