"""The steady rows of the table as data: a function, its inputs, its tolerance and what it must reach.

Must not know peers' code or timing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jitensor.cli.demo import contracts, ocean

Arrays = tuple[Any, ...]
Make = Callable[[np.random.Generator, int], Arrays]


@dataclass(frozen=True)
class Case:
    """One row. `faster_than` gives, by peer, how many times our time its time must be; `make` receives `size`."""

    name: str
    function: str
    size: int
    make: Make
    tolerance: float  # the largest |difference| from NumPy, as a part of the largest |value|, that a peer may show
    faster_than: Mapping[str, float]
    numexpr: str | None = None
    is_sum: bool = False  # then its error over many draws is compared with NumPy's

    def arguments(self, size: int | None = None) -> Arrays:
        """Return the inputs, the same in every process."""
        return self.make(np.random.default_rng(7), size or self.size)


def options(dtype: Any) -> Make:
    """Return the maker of option contracts in `dtype`; rate and volatility stay Python numbers."""
    return lambda random, n: (*(values.astype(dtype) for values in contracts(n)), 0.03, 0.25)


def normal(*shape: Callable[[int], int], dtype: Any = np.float64) -> Make:
    """Return the maker of one normal array whose lengths follow from the size."""
    return lambda random, n: (random.normal(size=tuple(length(n) for length in shape)).astype(dtype),)


def points(random: np.random.Generator, n: int) -> Arrays:
    """Return two sets of n points in space."""
    return random.normal(size=(n, 3)), random.normal(size=(n, 3))


def two_lists(random: np.random.Generator, n: int) -> Arrays:
    """Return two lists of n numbers."""
    return random.uniform(size=n), random.uniform(size=n)


def rows_with_weights(random: np.random.Generator, n: int) -> Arrays:
    """Return n x n activations with a scale and a shift for each column, float32."""
    return tuple(random.normal(size=shape).astype(np.float32) for shape in ((n, n), (n,), (n,)))


def n(size: int) -> int:
    """Return the size itself: a length of `normal`."""
    return size


GELU = {"numpy": 4.0, "jax": 1.2, "torch": 1.2}
LOOPS = {"numpy": 4.0, "jax": 1.0, "torch": 1.0, "numba": 1.0}
SEAWATER = {"numpy": 15.0, "jax": 2.5, "torch": 1.0}
SUMS = {"numpy": 2.0, "jax": 1.5}
GELU_TEXT = "0.5*x*(1 + tanh(0.7978845608028654*(x + 0.044715*x*x*x)))"
BLACK_SCHOLES_F64 = {"numpy": 4.0, "jax": 3.0, "torch": 1.3}

CASES = (
    Case("Black-Scholes f64 1e5", "black_scholes", 10**5, options(np.float64), 1e-12, BLACK_SCHOLES_F64),
    Case("Black-Scholes f64 1e6", "black_scholes", 10**6, options(np.float64), 1e-12, BLACK_SCHOLES_F64),
    Case(
        "Black-Scholes f32 1e5",
        "black_scholes",
        10**5,
        options(np.float32),
        1e-5,
        {"numpy": 10.0, "jax": 1.5, "torch": 1.3},
    ),
    Case(
        "Black-Scholes f32 1e7",
        "black_scholes",
        10**7,
        options(np.float32),
        1e-5,
        {"numpy": 10.0, "jax": 3.0, "torch": 1.3},
    ),
    Case("gelu f64 1e6", "gelu", 10**6, normal(n), 1e-13, GELU, numexpr=GELU_TEXT),
    Case("gelu f32 1e6", "gelu", 10**6, normal(n, dtype=np.float32), 1e-5, GELU),
    Case("5-point stencil f64 1024x1024", "stencil", 1024, normal(n, n), 1e-13, LOOPS),
    Case("pairwise distances f64 1024x1024", "pairwise", 1024, points, 1e-13, LOOPS),
    Case("logsumexp rows f64 1024x1024", "logsumexp", 1024, normal(n, n), 1e-13, LOOPS),
    Case("seawater f64 1e5", "seawater", 10**5, lambda random, n: ocean(n), 1e-8, SEAWATER),
    Case("seawater f64 1e6", "seawater", 10**6, lambda random, n: ocean(n), 1e-8, SEAWATER),
    Case("sum f64 1e5", "total", 10**5, normal(n), 1e-11, SUMS, is_sum=True),
    Case(
        "mean((x-y)**2) f64 1e5",
        "mean_squared_error",
        10**5,
        two_lists,
        1e-12,
        SUMS,
        numexpr="sum((x - y)**2)",
        is_sum=True,
    ),
    Case("softmax f32 1024x1024", "softmax", 1024, normal(n, n, dtype=np.float32), 1e-5, {"jax": 1.4}),
    Case("layer norm f32 1024x1024", "layer_norm", 1024, rows_with_weights, 1e-5, {"jax": 2.0}),
)
WRITERS_RATIO = 1.2  # the njit writer's time over the LLVM writer's, at most

# Compile times, cold, from trace to callable: operations → milliseconds at most, and JAX's share at most.
COMPILE_MS = {5: 25.0, 50: 30.0, 250: 80.0, 500: 120.0}
COMPILE_SHARE_OF_JAX = {50: 0.3, 250: 0.3, 500: 0.3}
