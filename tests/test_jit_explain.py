"""jt.jit: explain, kernels and signatures say what happens and change nothing."""

from __future__ import annotations

import numpy as np
import pytest

import jitensor as jt

X = np.ones((3, 4))


def make():
    @jt.jit
    def f(x, n, scale=2.0, mode="a"):
        for _ in range(n):
            x = np.exp(x) * scale
        return x.mean(axis=-1)

    return f


def test_explain_changes_nothing() -> None:
    f = make()
    before = jt.counters()
    explanation = f.explain(X, 2)
    assert jt.counters() == before
    assert f.signatures() == []
    assert f.kernels() == []
    assert explanation.decision == "trace"
    assert explanation.reason == "the first call"
    assert all(kernel.origin is None for kernel in explanation.kernels)
    f(X, 2)
    before = jt.counters()
    assert f.explain(X, 2).decision == "hit"
    assert f.explain(np.ones((9, 8)), 2, scale=5.0).decision == "hit"
    assert jt.counters() == before


def test_the_report_has_every_stage() -> None:
    f = make()
    f(X, 2)
    report = str(f.explain(X, 2))
    for part in (
        "f(x: float64[n, n], n: int",
        "known trace",
        "n == 2",
        "test_jit_explain.py",
        "graph f(",
        "kernel",
        "@njit",
    ):
        assert part in report


REASONS = [
    ((X.astype("f4"), 2), "x was float64[n, n], now float32[n, n]"),
    ((X[:1], 2), "x was float64[n, n], now float64[1, n]"),
    ((X[0], 2), "x was float64[n, n], now float64[n]"),
    ((X, 3), "n was 2, and is not now"),
    ((X, 2.0, 2), "n was int, now float"),
    ((X, 2, 2.0, "b"), "mode was 'a', now 'b'"),
    ((np.asfortranarray(X), 2), "axes in memory order"),
]


@pytest.mark.parametrize(("args", "reason"), REASONS)
def test_the_reason_names_the_argument(args: tuple[object, ...], reason: str) -> None:
    f = make()
    f(X, 2)
    if isinstance(args[1], float):
        with pytest.raises(TypeError):
            f.explain(*args)
        return
    assert reason in f.explain(*args).reason


def test_reasons_of_guards_and_variables() -> None:
    k = 2.0

    @jt.jit
    def f(x, y, n):
        if n > 3:
            x = x * k
        return x + y

    def change(value):
        nonlocal k
        k = value

    f(np.ones(3), np.ones(3), 5)
    assert "3 < n does not hold now" in f.explain(np.ones(3), np.ones(3), 2).reason
    with pytest.raises(ValueError, match="broadcast"):
        f.explain(np.ones(3), np.ones(4), 5)
    change("text")
    with pytest.raises(TypeError):
        f.explain(np.ones(3), np.ones(3), 5)
    change(3)
    assert "variable k was float, and is not now" in f.explain(np.ones(3), np.ones(3), 5).reason


def test_kernels_have_every_text() -> None:
    f = make()
    f(X, 1)
    kernel = f.kernels()[0]
    assert kernel.name.startswith("k_")
    assert "kernel" in kernel.text
    assert "@njit" in kernel.source
    assert "define" in kernel.llvm
    assert kernel.assembly
    assert kernel.origin in ("compiled", "loaded", "reused")
    assert kernel.seconds >= 0


def test_explain_of_a_method_and_with_global_writes() -> None:
    class Model:
        @jt.jit
        def run(self, x):
            global written
            written = True
            return x * 2

    model = Model()
    assert "run(self: " in str(model.run.explain(X))
    assert "written" not in globals()
    assert model.run.kernels() == []


def test_signatures_list_what_was_narrowed() -> None:
    f = make()
    f(X, 1)
    f(X, 3)
    first, second = f.signatures()
    assert first.key == second.key
    assert "n == 1" in first.narrowed[0]
    assert "n == 3" in second.narrowed[0]


def test_disable_jit_interprets() -> None:
    f = make()
    before = jt.counters()
    with jt.settings.override(disable_jit=True):
        result = f(X, 2)
    np.testing.assert_allclose(result, f.__wrapped__(X, 2))
    assert (jt.counters() - before).launches == 0
    assert (jt.counters() - before).traces == 1
