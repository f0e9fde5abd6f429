"""jt.jit on whole little NumPy programs, unmodified."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from jit_harness import same

import jitensor as jt

RNG = np.random.default_rng(0)


def black_scholes(price, strike, t, rate, vol):
    from scipy.special import erf

    def cdf(x):
        return 0.5 * (1.0 + erf(x / np.sqrt(2.0)))

    d1 = (np.log(price / strike) + (rate + 0.5 * vol**2) * t) / (vol * np.sqrt(t))
    d2 = d1 - vol * np.sqrt(t)
    call = price * cdf(d1) - strike * np.exp(-rate * t) * cdf(d2)
    put = strike * np.exp(-rate * t) * cdf(-d2) - price * cdf(-d1)
    return call, put


def test_black_scholes() -> None:
    pytest.importorskip("scipy")
    price, strike, t = RNG.uniform(10, 50, 1000), RNG.uniform(10, 50, 1000), RNG.uniform(0.1, 2, 1000)
    jitted = same(black_scholes, price, strike, t, 0.05, 0.2)
    before = jt.counters()
    same(black_scholes, price[:77], strike[:77], t[:77], 0.01, 0.4, jitted=jitted)
    assert (jt.counters() - before).traces == 0
    assert (jt.counters() - before).kernels_compiled == 0


def heat(u, alpha, steps):
    """Explicit steps of the heat equation, in place."""
    for _ in range(steps):
        u[1:-1, 1:-1] += alpha * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1])
        u[0, :] = u[1, :]
        u[-1, :] = u[-2, :]
    return u.max() - u.min()


def test_heat() -> None:
    jitted = same(heat, RNG.random((12, 9)), 0.1, 3)
    same(heat, RNG.random((30, 40)), 0.2, 3, jitted=jitted)
    assert len(jitted.signatures()) == 1


def jacobi(u, f, h):
    new = np.empty_like(u)
    new[0] = new[-1] = 0.0
    new[:, 0] = new[:, -1] = 0.0
    new[1:-1, 1:-1] = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - h * h * f[1:-1, 1:-1])
    return new, np.sqrt(np.mean((new - u) ** 2))


def test_jacobi() -> None:
    same(jacobi, RNG.random((8, 8)), RNG.random((8, 8)), 0.1)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x, gain, bias, eps=1e-5):
    mean = x.mean(axis=-1, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * gain + bias


def attention(q, k, v):
    scores = softmax(q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]))
    return scores @ v


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_network_pieces(dtype: str) -> None:
    x = RNG.standard_normal((2, 5, 8)).astype(dtype)
    same(softmax, x)
    same(layer_norm, x, np.ones(8, dtype), np.zeros(8, dtype))
    q, k, v = (RNG.standard_normal((2, 5, 8)) for _ in range(3))
    same(attention, q, k, v)


def mlp(x, layers):
    for i, (w, b) in enumerate(layers):
        x = x @ w + b
        if i < len(layers) - 1:
            x = np.maximum(x, 0)
    return softmax(x)


def test_mlp() -> None:
    layers = [(RNG.standard_normal((4, 6)), np.zeros(6)), (RNG.standard_normal((6, 3)), np.ones(3))]
    same(mlp, RNG.standard_normal((5, 4)), layers)


def normalise(image):
    out = image.astype(np.float32) / 255
    out -= out.mean(axis=(0, 1))
    out /= out.std(axis=(0, 1)) + 1e-6
    return out


def sobel(image):
    kernel = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
    padded = np.pad(image, 1, mode="edge")
    gx = np.zeros(image.shape)
    gy = np.zeros(image.shape)
    for i in range(3):
        for j in range(3):
            window = padded[i : i + image.shape[0], j : j + image.shape[1]]
            gx += kernel[i, j] * window
            if kernel[j, i] != 0:
                gy += kernel[j, i] * window
    magnitude = np.hypot(gx, gy)
    magnitude[magnitude > 2.0] = 2.0
    return magnitude


def test_images() -> None:
    same(normalise, RNG.integers(0, 255, (8, 6, 3)).astype(np.uint8))
    jitted = same(sobel, RNG.random((9, 7)))
    same(sobel, RNG.random((20, 30)), jitted=jitted)
    assert len(jitted.signatures()) == 1


def rolling_mean(x, width):
    total = np.cumsum(np.concatenate([np.zeros(1), x]))
    return (total[width:] - total[:-width]) / width


def ema(x, alpha):
    out = np.empty(len(x))
    out[0] = x[0]
    for i in range(1, len(x)):
        out[i] = alpha * x[i] + (1 - alpha) * out[i - 1]
    return out


def test_series() -> None:
    jitted = same(rolling_mean, RNG.random(20), 3)
    same(rolling_mean, RNG.random(50), 7, jitted=jitted)
    assert len(jitted.signatures()) == 1
    same(ema, RNG.random(6), 0.3)


def mandelbrot(re, im, count):
    c = re[None, :] + 1j * im[:, None]
    z = np.zeros_like(c)
    escaped = np.zeros(c.shape, dtype=np.int32)
    for _ in range(count):
        inside = np.abs(z) <= 2
        z = np.where(inside, z * z + c, z)
        escaped += inside
    return escaped


def test_mandelbrot() -> None:
    same(mandelbrot, np.linspace(-2, 1, 13), np.linspace(-1, 1, 9), 8)


def gravity(position, velocity, mass, dt, steps):
    for _ in range(steps):
        delta = position[None, :, :] - position[:, None, :]
        distance = np.sqrt((delta**2).sum(axis=-1) + 0.01)
        force = (mass[None, :, None] * delta) / distance[..., None] ** 3
        velocity += force.sum(axis=1) * dt
        position += velocity * dt
    return 0.5 * (mass * (velocity**2).sum(axis=1)).sum()


def test_n_body() -> None:
    same(gravity, RNG.random((6, 3)), RNG.random((6, 3)), RNG.random(6), 0.01, 2)


def kmeans_step(points, centres):
    distance = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
    label = distance.argmin(axis=1)
    new = np.zeros_like(centres)
    for k in range(centres.shape[0]):
        member = label == k
        count = max(member.sum(), 1)
        new[k] = (points * member[:, None]).sum(axis=0) / count
    return new, label


def test_kmeans() -> None:
    same(kmeans_step, RNG.random((30, 2)), RNG.random((3, 2)))


def newton(x, a, steps=5):
    y = np.ones_like(x)
    for _ in range(steps):
        y -= (y**2 - a * x) / (2 * y)
    return y


def runge_kutta(state, dt, steps):
    def derivative(s):
        x, y, z = s
        return np.array([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])

    for _ in range(steps):
        k1 = derivative(state)
        k2 = derivative(state + dt / 2 * k1)
        k3 = derivative(state + dt / 2 * k2)
        k4 = derivative(state + dt * k3)
        state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


def test_iterations() -> None:
    same(newton, np.linspace(0.5, 4, 7), 2.0)
    same(runge_kutta, np.array([1.0, 1.0, 1.0]), 0.01, 3)


def haversine(lat1, lon1, lat2, lon2):
    lat1, lon1, lat2, lon2 = map(np.radians, (lat1, lon1, lat2, lon2))
    a = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 6371 * 2 * np.arcsin(np.sqrt(a))


def pairwise(x, y):
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def logsumexp(x):
    top = np.max(x, axis=1)
    return top + np.log(np.sum(np.exp(x - top[:, None]), axis=1))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_formulas() -> None:
    same(haversine, *(RNG.uniform(-60, 60, 9) for _ in range(4)))
    same(haversine, 48.1, 11.5, RNG.uniform(-60, 60, 9), RNG.uniform(-60, 60, 9))
    same(pairwise, RNG.random((5, 3)), RNG.random((7, 3)))
    same(logsumexp, RNG.standard_normal((4, 9)))
    same(gelu, RNG.standard_normal(50))


def adam(parameters, gradients, state, rate=0.1, b1=0.9, b2=0.999):
    step = state["step"] + 1
    for name, g in gradients.items():
        m, v = state["m"][name], state["v"][name]
        m *= b1
        m += (1 - b1) * g
        v[...] = b2 * v + (1 - b2) * g**2
        parameters[name] -= rate * (m / (1 - b1**step)) / (np.sqrt(v / (1 - b2**step)) + 1e-8)
    return {**state, "step": step}


def test_adam() -> None:
    shapes = {"w": (3, 2), "b": (2,)}
    p, g, m, v = ({n: RNG.random(s) for n, s in shapes.items()} for _ in range(4))
    same(adam, p, g, {"step": 0, "m": m, "v": v})


def horner(x, coefficients):
    result = np.zeros_like(x)
    for c in coefficients:
        result = result * x + c
    return result


def bincount_like(values, edges):
    return np.array([np.count_nonzero((values >= a) & (values < b)) for a, b in itertools.pairwise(edges)])


def test_loops_over_arguments() -> None:
    same(horner, RNG.random(9), [1.0, -2.0, 0.5])
    same(horner, RNG.random(9), np.array([1.0, -2.0, 0.5]))
    same(bincount_like, RNG.random(50), np.linspace(0, 1, 5))


def game_of_life(board):
    n = sum(np.roll(np.roll(board, i, 0), j, 1) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))
    return ((n == 3) | ((board == 1) & (n == 2))).astype(board.dtype)


def histogram_equalise(x):
    low, high = np.min(x), np.max(x)
    scaled = (x - low) / (high - low) * 255
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def test_boards_and_bytes() -> None:
    same(game_of_life, (RNG.random((8, 9)) > 0.5).astype(np.int64))
    same(histogram_equalise, RNG.random((5, 6)))
