"""jt.jit and objects: methods are cloned, attributes are read anew at each call, assigned ones reach the object."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import jitensor as jt

X = np.arange(6.0)


class Base:
    shift = 0.5

    def __init__(self, s: float) -> None:
        self.s = s
        self.w = np.ones(6)
        self.kind = "plain"

    def helper(self, x: Any) -> Any:
        y = np.zeros(6)
        y[1:] = x[1:] * self.w[1:]
        return y

    def f(self, x: Any) -> Any:
        return self.helper(x).sum() * self.s + self.shift

    @property
    def scaled(self) -> Any:
        z = np.zeros(3)
        z[:] = self.s
        return z

    @staticmethod
    def twice(x: Any) -> Any:
        return np.add(x, x)

    @classmethod
    def name(cls) -> str:
        return cls.__name__


class Layer(Base):
    def f(self, x: Any) -> Any:
        return super().f(x) + (1 if self.kind == "plain" else 2)

    def __call__(self, x: Any) -> Any:
        return self.f(x) + self.scaled.sum() + len(self.name())

    def __len__(self) -> int:
        return 3

    def __matmul__(self, x: Any) -> Any:
        return self.twice(self.w) @ x


def use(m: Any, x: Any) -> Any:
    return m(x) + m.f(x) + len(m) + (m @ x), isinstance(m, Base), type(m) is Layer, hasattr(m, "nothing"), m == m


def test_attributes_are_seen_at_each_call() -> None:
    m, f = Layer(2.0), jt.jit(use)
    changes: list[tuple[str, Any, int]] = [
        *(("s", 2.0, 1), ("s", 7.0, 0), ("w", np.arange(6.0), 0), ("w", X[::-1].copy(), 0), ("s", 3, 1)),
        *(("kind", "other", 1), ("shift", 1.5, 0), ("shift", 2.5, 0)),
    ]
    for name, value, traces in changes:
        setattr(m, name, value)
        before = jt.counters()
        assert f(m, X) == use(m, X)
        assert (jt.counters() - before).traces == traces, name
    m.w[2] = 100.0
    assert f(m, X) == use(m, X)


class Optimizer:
    def __init__(self) -> None:
        self.t = 0
        self.v = np.zeros(6)
        self.rate = 0.1
        self.seen = np.zeros(6)

    def step(self, x: Any, g: Any) -> Any:
        self.t += 1
        self.v = 0.9 * self.v + g
        self.last = self.v.sum()
        self.seen += g
        x -= self.rate * self.v / (1 - 0.9**self.t)
        return self


def test_assigned_attributes_reach_the_object() -> None:
    ours, theirs, x, y = Optimizer(), Optimizer(), np.ones(6), np.ones(6)
    step = jt.jit(Optimizer.step)
    for _ in range(5):
        assert step(ours, x, X) is ours
        theirs.step(y, X)
        np.testing.assert_allclose(x, y)
        assert (ours.t, type(ours.last)) == (theirs.t, type(theirs.last))
        np.testing.assert_allclose(ours.v, theirs.v)
        np.testing.assert_allclose(ours.seen, theirs.seen)
    assert len(step.signatures()) == 1


class Network:
    def __init__(self) -> None:
        self.layers = [Base(1.0), Layer(2.0)]
        self.options = {"a": 1.5, "b": np.ones(6)}

    def run(self, x: Any) -> Any:
        for layer in self.layers:
            x = x + layer.f(x)
        return x * self.options["a"] + self.options["b"]

    def grow(self, x: Any) -> Any:
        self.layers.append(Base(3.0))
        return x


def test_objects_in_containers() -> None:
    net = Network()
    f = jt.jit(lambda x: net.run(x))
    for change in (lambda: None, lambda: setattr(net.layers[0], "w", X * 2), lambda: net.layers.append(Base(4.0))):
        change()
        np.testing.assert_allclose(f(X), net.run(X))
    net.options["a"] = 9.0
    np.testing.assert_allclose(f(X), net.run(X))
    with pytest.raises(jt.errors.TraceError, match="changes"):
        jt.jit(Network.grow)(net, X)


@dataclasses.dataclass(frozen=True)
class Frozen:
    k: float
    a: Any

    def norm(self) -> Any:
        return np.sqrt((self.a**2).sum()) * self.k

    def change(self) -> None:
        self.k = 2.0  # type: ignore[misc]


class Slots:
    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        self.a = a

    def __getitem__(self, i: int) -> Any:
        return self.a[i] * 2


def test_dataclasses_and_slots() -> None:
    d, f = Frozen(2.0, X), jt.jit(lambda d: (d.norm(), d, dataclasses.replace(d, k=3.0).k))
    assert f(d) == (d.norm(), d, 3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        jt.jit(lambda d: d.change())(d)
    s, g = Slots(X), jt.jit(lambda s: s[1] + s[2])
    assert g(s) == 6.0
    s.a = X + 1
    assert g(s) == 10.0


def test_a_missing_attribute_raises_as_python_does() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        jt.jit(lambda m: m.nothing)(Layer(1.0))


class Counter:
    def __init__(self) -> None:
        self.counts = {"calls": 0}
        self.seen = [1.0]

    def count(self, x: Any) -> Any:
        self.counts["calls"] += 1
        return x

    def note(self, x: Any) -> Any:
        self.seen.append(x.sum())
        return x

    def renew(self, x: Any) -> Any:
        self.counts = {"calls": self.counts["calls"] + 1}
        return x + 1


def test_changed_containers_are_refused_and_new_ones_are_kept() -> None:
    c = Counter()
    for method in (Counter.count, Counter.note):
        with pytest.raises(jt.errors.TraceError, match="changes"):
            jt.jit(method)(c, X)
    renew = jt.jit(Counter.renew)
    for calls in (1, 2, 3):
        renew(c, X)
        assert c.counts == {"calls": calls}
    assert len(renew.signatures()) == 1
