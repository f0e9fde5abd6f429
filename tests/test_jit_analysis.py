"""jt.jit: small analyses as people write them, with sizes that data tell and library calls between the loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jit_harness import same

import jitensor as jt

X = np.sin(np.arange(24.0)).reshape(4, 6)
V = np.cos(np.arange(6.0))


def kmeans_step(x, v):
    centres = x[:2, :3] + v[:3]
    points = x.reshape(-1, 3)
    labels = ((points[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    new = np.zeros_like(centres)
    for k in range(2):
        mine = labels == k
        new[k] = np.where(mine.any(), points[mine].sum(0) / np.maximum(mine.sum(), 1), centres[k])
    return new, labels, np.bincount(labels, minlength=3)


def without_outliers(x, v):
    kept = x[np.abs(x - x.mean()) < 2 * x.std()]
    z = (kept - kept.mean()) / kept.std()
    return z, np.percentile(z, [25, 50, 75]), np.histogram(z, bins=4), np.sort(z)[::-1][:3]


def sparse_product(x, v):
    rows, columns = np.nonzero(x > 0.2)
    y = np.zeros(x.shape[0])
    np.add.at(y, rows, x[rows, columns] * v[columns])
    return y, rows, columns


def runs_of_equal_sign(x, v):
    signs = np.sign(x.ravel())
    starts = np.concatenate([[0], np.flatnonzero(np.diff(signs) != 0) + 1])
    lengths = np.diff(np.append(starts, signs.size))
    return starts, lengths, lengths.max(), np.repeat(np.arange(lengths.size), lengths)


def whitened(x, v):
    values, vectors = np.linalg.eigh(np.cov(x))
    return vectors @ np.diag(1 / np.sqrt(np.abs(values) + 1e-3)) @ vectors.T @ (x - x.mean(1, keepdims=True))


def most_common(x, v):
    values, inverse, counts = np.unique(np.round(x * 2), return_inverse=True, return_counts=True)
    return values[np.argmax(counts)], counts / counts.sum(), inverse.shape, values[inverse]


def spectrum(x, v):
    power = np.abs(np.fft.rfft(v * np.hanning(len(v)))) ** 2
    return np.fft.rfftfreq(v.size, 0.5)[power.argmax()], power / power.sum()


def under_one_mask(x, v):
    a, b, c = x[0][v > 0], x[1][v > 0], v[v > 0]
    return a @ b, (a * b + c).sum(), np.stack([a, b, c]).mean(0)


def mask_after_mask(x, v):
    p = x[x > 0]
    q = p[p < 0.8]
    r = q[::2]
    return len(p) - len(q), r.size, q.mean() - p.mean(), np.interp(r, np.sort(p), np.sort(p) * 2)


def residuals(x, v):
    a = np.column_stack([np.ones(len(v)), v, v**2])
    return np.round(a @ np.linalg.lstsq(a, x[0] + x[1], rcond=None)[0] - x[0] - x[1], 9) + 0.0


PROGRAMS: list[Callable[..., Any]] = [
    *(kmeans_step, without_outliers, sparse_product, runs_of_equal_sign, whitened, most_common, spectrum),
    *(under_one_mask, mask_after_mask, residuals),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_program(program: Callable[..., Any]) -> None:
    f = same(program, X, V)
    before = jt.counters()
    same(program, X[:, ::-1].copy(), V + 0.125, jitted=f)
    assert (jt.counters() - before).traces == 0
    assert len(f.signatures()) == 1
