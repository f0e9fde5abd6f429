"""jt.jit: sizes that only the data tell: masks, nonzero, repeat by an array, and what is computed from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt

X = np.sin(np.arange(24.0)).reshape(4, 6)
V = np.cos(np.arange(6.0))


def statistics(x: Any, V: Any) -> Any:
    p = x[x > 0]
    return p.mean(), p.sum() / len(p), p.size, p.max(), (p - p.mean()) / p.std(), p.shape, float(len(p)), p.argmax()


def slices(x: Any, V: Any) -> Any:
    p = x[x > 0]
    return p[0], p[-1], p[1:], p[:-1], p[::-1], p[::2], p[1:] - p[:-1], np.diff(p), p[3:9], p[-20:], p[:50], p[1:-1]


def numbers(x: Any, V: Any) -> Any:
    n = len(x[x > 0])
    return n, n + 1, n // 2, n / 2, -n, n * n, np.zeros(n), np.arange(n), np.sqrt(n), n * V, n % 3, max(n, 2)


def written(x: Any, V: Any) -> Any:
    m = V > 0
    x[:, m] = 1
    x[1, m] = V[m]
    x[x > 0.5] = x[x > 0.5] ** 2
    x[m[:4], 2] += 1
    return x


def in_place(x: Any, V: Any) -> Any:
    x[x > 0] *= 2
    y = x[0]
    m = y > 0
    y[m] += V[m] * 2
    return y[m]


def mixed(x: Any, V: Any) -> Any:
    m = V > 0
    rows = m[:4]
    return (
        x[:, m],
        x[1, m],
        x[rows, 0],
        x[rows],
        x[rows][:, m],
        x[rows, None],
        x[..., m].sum(0),
        V[m] + x[0, m],
        x[[0, 2]][:, m],
    )


@pytest.mark.parametrize("function", [statistics, slices, numbers, written, in_place, mixed], ids=lambda f: f.__name__)
def test_program(function: Any) -> None:
    f = same(function, X, V)
    before = jt.counters()
    same(function, X * -1, V + 0.1, jitted=f)
    same(function, np.cos(X), V[::-1].copy(), jitted=f)
    assert (jt.counters() - before).traces == 0


EXPRESSIONS = """
np.nonzero(x>0) | np.where(x>0) | np.flatnonzero(x>0) | np.argwhere(x>0) | np.compress(V>0,x,axis=1)
np.extract(x>0,x) | x[np.where(x>0)] | (x>0).nonzero() | x.compress(V[:4]>0,axis=0) | np.repeat(V,(V>0).astype(int))
np.repeat(x,(V>0)+1,axis=1) | np.concatenate([x[x>0],x[x<0]]) | np.where(x[x>0]>0.5,1,2)
np.count_nonzero(x>0)+x[x>0].size | np.histogram(x[x>0],4) | np.median(x[x>0]) | np.percentile(x[x>0],50)
V[V>0]@V[V>0] | np.outer(V[V>0],V) | x[:,V>0].T@x[:,V>0] | x[x>5].sum() | np.interp(x[x>0],np.sort(V),V)
np.stack([V[V>0],V[V>0]]) | V[V>0].reshape(-1,1)*V | np.tile(V[V>0],2) | x[np.ix_([0,1],[2,3])] | np.unique(x[x>0])
np.sort(x[x>0])[::-1] | x[x>0].cumsum() | np.linalg.lstsq(x[:,V>0],x[:,0])[0] | x[~np.isnan(x)].mean()
"""


@pytest.mark.parametrize(
    "expression", [e.strip() for line in EXPRESSIONS.strip().splitlines() for e in line.split(" | ")]
)
def test_expression(expression: str) -> None:
    same(eval(f"lambda x, V: {expression}", {"np": np}), X, V)


ERRORS = """
x[x > 9].max() | x[x > 9][0] | x[x > 9].argmin() | x[x > 0] + V | x[x > 9][-1] | x[V > 0] | np.argmax(x[x > 9])
V[V > 0] @ V
"""


@pytest.mark.parametrize("expression", [e.strip() for line in ERRORS.strip().splitlines() for e in line.split(" | ")])
def test_errors_at_run_time(expression: str) -> None:
    function = eval(f"lambda x, V: {expression}", {"np": np})
    with pytest.raises((ValueError, IndexError)) as expected:
        function(X, V)
    with pytest.raises(expected.type):
        jt.jit(function)(X, V)


def test_what_python_needs_raises() -> None:
    for function in (
        lambda x: 1 if len(x[x > 0]) > 3 else 2,
        lambda x: list(range(x[x > 0].size)),
        lambda x: x.reshape(x[x > 0].size, -1),
    ):
        with pytest.raises(jt.errors.TraceError):
            jt.jit(function)(X)


def test_mask_of_another_size() -> None:
    same_error(lambda x: x[np.ones(3, bool)], X)


def test_explanations_of_programs_in_stages() -> None:
    f = jt.jit(lambda x: np.exp(x[x > 0]).sum())
    f(X)
    assert "boolean_mask" in str(f.explain(X))
    assert len(f.signatures()) == 1
    assert f.kernels()
