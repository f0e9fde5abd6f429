"""jt.jit: what a function sees of the program around it: globals, closures, helpers, methods, builtins, modules."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import gc
import math
import pickle
import sys
import threading
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
from jit_harness import same

import jitensor as jt

X = np.linspace(0.5, 2.0, 6)
SCALE = 2.5
TABLE = np.arange(6.0)
NAME = "exp"
WEIGHTS = {"w": np.ones(6), "layers": [1.5, 2]}


def traces(call: Any) -> int:
    before = jt.counters()
    call()
    return (jt.counters() - before).traces


def test_global_numbers_are_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    f = jt.jit(lambda x: x * SCALE)
    np.testing.assert_array_equal(f(X), X * 2.5)
    monkeypatch.setitem(globals(), "SCALE", -1.0)
    assert traces(lambda: np.testing.assert_array_equal(f(X), -X)) == 0
    monkeypatch.setitem(globals(), "SCALE", 3)
    assert traces(lambda: np.testing.assert_array_equal(f(X), X * 3)) == 1


def test_global_arrays_are_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    f = jt.jit(lambda x: x + TABLE)
    np.testing.assert_array_equal(f(X), X + np.arange(6.0))
    monkeypatch.setitem(globals(), "TABLE", np.ones(6))
    assert traces(lambda: np.testing.assert_array_equal(f(X), X + 1)) == 0
    globals()["TABLE"][:] = 5
    assert traces(lambda: np.testing.assert_array_equal(f(X), X + 5)) == 0
    monkeypatch.setitem(globals(), "TABLE", np.ones(6, "f4"))
    assert traces(lambda: np.testing.assert_array_equal(f(X), X + 1)) == 1


def test_global_literals_and_containers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    f = jt.jit(lambda x: getattr(np, NAME)(x) * WEIGHTS["w"] + WEIGHTS["layers"][0])
    np.testing.assert_allclose(f(X), np.exp(X) + 1.5)
    monkeypatch.setitem(globals(), "NAME", "sqrt")
    np.testing.assert_allclose(f(X), np.sqrt(X) + 1.5)
    monkeypatch.setitem(WEIGHTS, "w", np.zeros(6))
    monkeypatch.setitem(WEIGHTS, "layers", [2.5, 2])
    assert traces(lambda: np.testing.assert_allclose(f(X), np.full(6, 2.5))) == 0


def test_missing_global_is_a_name_error() -> None:
    with pytest.raises(NameError, match="name 'nowhere' is not defined"):
        jt.jit(lambda x: x + nowhere)(X)  # type: ignore[name-defined]  # noqa: F821


def test_a_global_array_that_is_written() -> None:
    scope: dict[str, Any] = {"np": np, "state": np.zeros(3)}
    exec("@jit\ndef step(x):\n    state[1:] += x\n    return state.sum()", {**scope, "jit": jt.jit} | scope, scope)
    function = types.FunctionType(scope["step"].__wrapped__.__code__, scope)
    step = jt.jit(function)
    assert step(2.0) == 4.0
    assert step(3.0) == 10.0
    np.testing.assert_array_equal(scope["state"], [0, 5, 5])


def test_global_statement_reaches_the_real_globals() -> None:
    scope: dict[str, Any] = {}
    exec("count = 0\ndef f(x):\n    global count\n    count = count + 1\n    return x * count", scope)
    with pytest.raises(jt.errors.TraceError, match="changed what it depends on"):
        jt.jit(scope["f"])(X)
    scope = {}
    exec("def f(x):\n    global seen\n    seen = 'yes'\n    return x * len(seen)", scope)
    np.testing.assert_array_equal(jt.jit(scope["f"])(X), X * 3)
    assert scope["seen"] == "yes"


def test_closures() -> None:
    def make(k, table):
        @jt.jit
        def f(x):
            return x * k + table

        def change(value):
            nonlocal k
            k = value

        return f, change

    f, change = make(2.0, np.ones(6))
    np.testing.assert_array_equal(f(X), X * 2 + 1)
    change(5.0)
    assert traces(lambda: np.testing.assert_array_equal(f(X), X * 5 + 1)) == 0
    change(True)
    assert traces(lambda: np.testing.assert_array_equal(f(X), X + 1)) == 1


def test_nonlocal_statement_reaches_the_real_cell() -> None:
    kept = None

    @jt.jit
    def f(x):
        nonlocal kept
        kept = "seen"
        return x + 1

    with pytest.raises(jt.errors.TraceError, match="changed what it depends on"):
        f(X)
    assert kept == "seen"
    np.testing.assert_array_equal(f(X), X + 1)


def helper(x):
    out = np.zeros(x.shape)
    out[1:] = x[:-1] * SCALE
    return _second(out)


def _second(x, power=2):
    return x**power + len(x)


def test_helpers_called_by_name() -> None:
    same(lambda x: helper(x) + _second(x, 3), X)


def recursive(x, n):
    return x if n == 0 else np.sin(recursive(x, n - 1))


def test_recursion() -> None:
    same(recursive, X, 3)

    def inner(x, n):
        return x if n <= 0 else inner(x + 1, n - 1)

    same(inner, X, 2)


def test_nested_functions_comprehensions_and_lambdas() -> None:
    def f(x):
        def area(v):
            return (v * np.pi).sum()

        scale = lambda t: t * len(x)  # noqa: E731
        terms = [area(x * k) for k in range(3)]
        scaled = {k: 2 * v for k, v in zip("abc", terms, strict=True)}
        return sum(terms), max(terms), scaled, [*map(scale, terms)], [*x[:2]]

    same(f, X)


def test_functions_as_arguments_and_defaults() -> None:
    def apply(x, f=np.exp, g=_second):
        return g(f(x))

    jitted = same(apply, X)
    same(apply, X, np.sin, jitted=jitted)
    same(apply, X, np.sin, lambda v: np.zeros(len(v)) + v, jitted=jitted)
    assert len(jitted.signatures()) >= 2  # those of functions that are gone went with them


def test_function_without_source() -> None:
    scope: dict[str, Any] = {}
    exec(
        "import numpy as np\nfrom numpy import exp, zeros\n"
        "def f(x):\n    y = zeros(3)\n    y[0] = exp(x).sum()\n    return y",
        scope,
    )
    same(scope["f"], X)


def test_imports_inside_the_function() -> None:
    def f(x):
        import math

        import numpy
        import numpy.linalg as linear
        from numpy import asarray, float32

        out = numpy.zeros(2)
        out[0] = linear.norm(x)
        return out, asarray([1.0, 2.0]) * math.pi, float32(x)

    same(f, X)


def test_user_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("user_physics")
    exec(
        "import numpy as np\nG = 9.81\nTABLE = np.ones(6)\n"
        "def fall(t):\n    y = np.zeros(t.shape)\n    y[:] = G * t\n    return y",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "user_physics", module)

    def f(t):
        import user_physics as physics  # type: ignore[import-not-found]

        return physics.fall(t) + physics.TABLE * physics.G

    f_jit = same(f, X)
    module.G = 1.5  # type: ignore[attr-defined]
    assert traces(lambda: np.testing.assert_allclose(f_jit(X), f(X))) == 0


def test_builtins() -> None:
    def f(x, n):
        kinds = (
            isinstance(x, np.ndarray),
            isinstance(n, int),
            isinstance(x[0], np.float64),
            isinstance(x[0], float),
            type(n) is int,
        )
        numbers = (
            len(x),
            abs(-n),
            min(n, 3),
            max(x[0], x[1]),
            sum(x),
            round(2.567, 1),
            float(n),
            int(x[1]),
            divmod(n, 2),
            pow(n, 2),
        )
        return (
            kinds,
            numbers,
            sorted([3, 1, 2]),
            [i for i, _ in enumerate(x)],
            any([False]),
            callable(np.exp),
            hasattr(x, "shape"),
        )

    same(f, X, 5)


def test_numpy_classes_keep_their_meaning() -> None:
    def f(x):
        checks = (
            x.dtype == np.float64,
            np.issubdtype(x.dtype, np.floating),
            np.float32 == np.dtype("f4"),
            isinstance(3, float),
        )
        made = (
            np.zeros(2, dtype=float),
            np.ones(2, int),
            x.astype(complex),
            np.dtype(np.float32),
            np.finfo(np.float32).max,
        )
        return (
            checks,
            made,
            {np.float32: 1}[np.float32],
            issubclass(np.float32, np.floating),
            float("2.5"),
            int("7"),
            float,
        )

    same(f, X)


class Model:
    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.table = np.arange(6.0)

    @jt.jit
    def __call__(self, x):
        return x * self.scale + self.table

    @jt.jit
    def step(self, x, n=2):
        return (self.table + x)[:n].sum()

    @jt.jit
    def write(self, x):
        self.table += x

    @staticmethod
    @jt.jit
    def double(x):
        return x * 2

    @classmethod
    def make(cls):
        return cls(1.0)


def test_methods_bind_per_instance() -> None:
    a, b = Model(2.0), Model(3.0)
    np.testing.assert_array_equal(a(X), X * 2 + np.arange(6.0))
    np.testing.assert_array_equal(b(X), X * 3 + np.arange(6.0))
    assert traces(lambda: a(X)) == 0
    a.table[:] = 1
    np.testing.assert_array_equal(a(X), X * 2 + 1)
    assert a.step(X, n=3) == pytest.approx(3 + X[:3].sum())
    a.write(X)
    np.testing.assert_allclose(a.table, 1 + X)
    np.testing.assert_array_equal(Model.double(X), X * 2)
    assert Model.step(b, X) == pytest.approx((np.arange(6.0) + X)[:2].sum())
    assert a.step.__name__ == "step"


def test_traces_go_with_their_instance() -> None:
    class Short(Model):
        @jt.jit
        def run(self, x):
            return x * self.scale

    models = [Short(1.0), Short(2.0)]
    for model in models:
        model.run(X)
    assert len(Short.run.signatures()) == 2
    del model, models[0]
    gc.collect()
    assert len(Short.run.signatures()) == 1


class Point(NamedTuple):
    x: Any
    y: Any


def test_structures() -> None:
    def f(p, options, *rest, scale=2.0, **named):
        total = p.x * options["a"][0] + p.y + sum(rest) * scale
        return Point(total, p.x), {"t": total, **named}, [total, (None, "s")], named.get("z", 0)

    same(f, Point(X, 1.5), {"a": [X, 2]}, 1, 2.5, scale=3.0, z=X)
    same(f, Point(X, 2), {"a": (X * 2,)})


class Result:
    def __init__(self, total, parts):
        self.total = total
        self.parts = parts

    def __eq__(self, other):
        return self.total == other.total and all(map(np.array_equal, self.parts, other.parts))


@dataclasses.dataclass(frozen=True)
class Pair:
    a: Any
    b: Any = 2.0


def test_objects_made_inside_are_made_again() -> None:
    f = jt.jit(lambda x, n: (Result(x.sum(), [x * n, x]), Pair(x + n), collections.OrderedDict(a=x * 2)))
    for n in (2, 3):
        result, pair, ordered = f(X, n)
        assert result == Result(X.sum(), [X * n, X])
        assert isinstance(pair, Pair)
        np.testing.assert_array_equal(pair.a, X + n)
        assert type(ordered) is collections.OrderedDict
        np.testing.assert_array_equal(ordered["a"], X * 2)
    assert f(X, 2)[0] is not f(X, 2)[0]


def test_mappings_as_arguments() -> None:
    same(lambda d: d["b"] * 2 + d["a"], collections.OrderedDict(b=X, a=2.0))
    f = jt.jit(lambda d: d["w"] + 1)
    d = collections.defaultdict(list, w=X)
    f(d)
    d["w"] = X * 2
    np.testing.assert_array_equal(f(d), X * 2 + 1)


def test_a_returned_generator_is_refused() -> None:
    with pytest.raises(jt.errors.TraceError, match="generator"):
        jt.jit(lambda x: (v * 2 for v in x))(X)


def test_arguments_by_keyword_position_and_default() -> None:
    @jt.jit
    def f(x, y=2.0, /, z=3.0, *, w=4.0):
        return x * y + z * w

    before = jt.counters()
    results = [f(X), f(X, 2.0), f(X, 2.0, 3.0), f(X, z=3.0), f(X, w=4.0, z=3.0)]
    assert all(np.array_equal(r, results[0]) for r in results)
    assert (jt.counters() - before).traces == 1
    for bad in ((), (X, 1, 2, 3)):
        with pytest.raises(TypeError, match=r"f\(\) (missing|takes)"):
            f(*bad)
    with pytest.raises(TypeError, match="unexpected keyword argument 'q'"):
        f(X, q=1)


def test_changing_a_passed_container_is_refused() -> None:
    with pytest.raises(jt.errors.TraceError, match="list or dict"):
        jt.jit(lambda items: items.append(items[0]))([X])
    d = {"w": X.copy()}
    jt.jit(lambda d: d["w"].__iadd__(1))(d)
    np.testing.assert_array_equal(d["w"], X + 1)


def test_nested_jitted_functions_inline() -> None:
    inner = jt.jit(lambda x: np.exp(x) * 2)
    outer = jt.jit(lambda x: inner(x) + inner(x * 0))
    before = jt.counters()
    np.testing.assert_allclose(outer(X), np.exp(X) * 2 + 2)
    assert (jt.counters() - before).traces == 1
    assert inner.signatures() == []


def test_functools_and_operator() -> None:
    import operator

    same(lambda x: functools.reduce(operator.add, [x, x * 2, 1]), X)
    same(lambda x: functools.partial(np.add, 1)(x), X)


def test_math_of_the_module_and_of_names() -> None:
    from math import exp, pi, sqrt

    same(lambda x, t: (sqrt(t) * x, exp(t), pi * x, math.sin(x[0]), math.atan2(t, x[1]), math.floor(x[2])), X, 2.0)


def test_leaked_tracer_is_named() -> None:
    kept: list[Any] = []

    @jt.jit
    def f(x):
        kept.append(x * 2)
        return x

    f(X)
    with pytest.raises(jt.errors.TraceError, match="outlived its trace") as error:
        kept[0] + 1
    assert "test_jit_clone.py" in str(error.value)


def test_tracer_of_another_trace_is_refused() -> None:
    kept: list[Any] = []
    jt.jit(lambda x: kept.append(x + 1))(X)
    with pytest.raises(jt.errors.TraceError):
        jt.jit(lambda x: x + kept[0])(X)


def test_exceptions_of_the_function_pass_through() -> None:
    class Mine(Exception):
        pass

    @jt.jit
    def f(x, n):
        if n > 2:
            raise Mine("too many")
        return x * n

    np.testing.assert_array_equal(f(X, 2), X * 2)
    with pytest.raises(Mine, match="too many"):
        f(X, 3)
    assert len(f.signatures()) == 1
    np.testing.assert_array_equal(f(X, 1), X)


def test_code_that_is_not_cloned_meets_tracers_by_protocol() -> None:
    class Layer:
        def __init__(self):
            self.w = np.arange(6.0)

        def apply(self, x):
            return np.maximum(x * self.w, 0.0).sum() + np.concatenate([x, self.w])[7] + np.where(x > 1, x, 0).max()

    layer = Layer()
    same(lambda x: layer.apply(x), X)


def test_wrapping_and_copies() -> None:
    @jt.jit
    def f(x: float) -> float:
        """Doc."""
        return x

    assert (f.__name__, f.__doc__, f.__module__) == ("f", "Doc.", __name__)
    assert jt.jit(f) is f
    assert copy.copy(f) is f
    assert copy.deepcopy([f])[0] is f
    assert pickle.loads(pickle.dumps(pickled)) is pickled
    assert jt.jit()(f.__wrapped__)(2.0) == 2.0
    assert "jt.jit" in repr(f)
    with pytest.raises(TypeError, match="not a Python function"):
        jt.jit(3)  # type: ignore[call-overload]


@jt.jit
def pickled(x):
    return x + 1


def test_threads_trace_once() -> None:
    f = jt.jit(lambda x, n: np.sqrt(x) * n + x.sum())
    barrier = threading.Barrier(8)
    results: list[Any] = []

    def work(n: int) -> None:
        barrier.wait()
        results.append((n, f(X, n)))

    before = jt.counters()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (jt.counters() - before).traces == 1
    for n, result in results:
        np.testing.assert_allclose(result, np.sqrt(X) * n + X.sum())


def test_a_failed_trace_leaves_nothing() -> None:
    f = jt.jit(lambda x: np.array2string(x))
    before = jt.counters()
    with pytest.raises(jt.errors.TraceError):
        f(X)
    assert jt.counters() - before == jt.Counters()
    assert f.signatures() == []
