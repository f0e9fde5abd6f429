"""GradientTape: against differences, in and around traced functions, to higher order; its rules of use."""

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings
from jitensor.ir.graph import Primitive
from jitensor.recording import bind

compiled = pytest.mark.skipif(settings.active().disable_jit, reason="JITENSOR_DISABLE_JIT is on: nothing is compiled")
X = np.array([0.3, -1.2, 2.0], np.float64)


def differences(f, x, step=1e-6):
    """The gradient of a scalar function of an array."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += sign * step
            found[i] += sign * float(f(jt.constant(moved))) / (2 * step)
    return found


C = jt.constant([2.0, 3.0, 4.0], jt.float64)

FUNCTIONS = {
    "polynomial": lambda x: jt.reduce_sum(x**3 - 2.0 * x * x),
    "trigonometric": lambda x: jt.reduce_sum(jt.sin(x) * jt.cos(x) + jt.exp(-x)),
    "division": lambda x: jt.reduce_sum(C / (1.0 + x * x)),
    "mean and broadcast": lambda x: jt.reduce_mean(x[:, None] * C[None, :] * x[None, :]),
    "maximum": lambda x: jt.reduce_max(x * C) + jt.reduce_sum(jt.maximum(x, 0.5)),
    "softmax": lambda x: jt.reduce_sum(jt.nn.softmax(x) * C),
    "logsumexp": lambda x: jt.reduce_logsumexp(x * C),
    "matmul": lambda x: jt.reduce_sum(jt.tanh(jt.reshape(x, [1, -1]) @ (C[:, None] * C[None, :]) * 0.1)),
    "slices": lambda x: x[0] * x[2] + jt.reduce_sum(x[1:] * x[:-1]),
    "gather": lambda x: jt.reduce_sum(jt.gather(x, [0, 2, 2]) ** 2),
    "concat": lambda x: jt.reduce_sum(jt.concat([x, x * C], 0) ** 2),
    "stack": lambda x: jt.reduce_sum(jt.stack([x, jt.sin(x)]) ** 2),
    "where": lambda x: jt.reduce_sum(jt.where(x > 0.0, x * x, -3.0 * x)),
    "std": lambda x: jt.math.reduce_std(x),
    "cumsum": lambda x: jt.reduce_sum(jt.cumsum(x) ** 2),
    "norm": lambda x: jt.norm(x),
    "one tensor twice": lambda x: jt.reduce_sum(x * x + x),
    "captured": lambda x: jt.reduce_sum(x * C * C),
    "cast": lambda x: jt.reduce_sum(jt.cast(jt.cast(x, jt.float64) * 2.0, jt.float64)),
    "gelu": lambda x: jt.reduce_sum(jt.nn.gelu(x)),
}


def eager(f, x):
    with jt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x)


WAYS = {
    "eager": lambda f: lambda x: eager(f, x),
    "tape around a function": lambda f: lambda x, g=jt.function(f): eager(g, x),
    "tape in a function": lambda f: jt.function(lambda x: eager(f, x)),
    "tape in, function in": lambda f: jt.function(lambda x, g=jt.function(f): eager(g, x)),
    "unknown sizes around": lambda f: lambda x, g=jt.function(f, [jt.TensorSpec([None], jt.float64)]): eager(g, x),
    "unknown sizes in": lambda f: jt.function(lambda x: eager(f, x), [jt.TensorSpec([None], jt.float64)]),
    "gradients": lambda f: jt.function(lambda x: jt.gradients(f(x), x)[0]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_differences(name, way):
    f = FUNCTIONS[name]
    gradient = WAYS[way](f)
    np.testing.assert_allclose(gradient(jt.constant(X)).numpy(), differences(f, X), rtol=1e-6, atol=1e-7)


SMOOTH = ["polynomial", "trigonometric", "division", "softmax", "matmul", "slices", "concat", "norm", "gelu"]


@pytest.mark.parametrize("way", [w for w in WAYS if "unknown" not in w])
@pytest.mark.parametrize("name", SMOOTH)
def test_second_order(name, way):
    f = FUNCTIONS[name]
    gradient = WAYS[way](f)

    def weighted(x):
        return jt.reduce_sum(gradient(x) * C)

    want = differences(weighted, X)
    for outer in ("eager", "tape in a function"):
        np.testing.assert_allclose(WAYS[outer](weighted)(jt.constant(X)).numpy(), want, rtol=1e-5, atol=1e-6)


def test_third_order_through_a_function_traces_once():
    f = jt.function(lambda x: jt.reduce_sum(jt.sin(x) * x))
    g = WAYS["eager"](f)
    h = WAYS["eager"](lambda x: jt.reduce_sum(g(x)))
    third = WAYS["eager"](lambda x: jt.reduce_sum(h(x)))
    np.testing.assert_allclose(third(jt.constant(X)).numpy(), -3 * np.sin(X) - X * np.cos(X), rtol=1e-12)
    assert f.experimental_get_tracing_count() == 1
    before = jt.counters()
    third(jt.constant(X + 1))
    assert (jt.counters() - before).traces == 0 and (jt.counters() - before).kernels_compiled == 0


@compiled
def test_the_gradient_of_a_function_is_fused():
    f = jt.function(lambda x: jt.reduce_sum(jt.sin(x) * jt.exp(-x) + x**3))
    x = jt.constant(np.linspace(0, 1, 1000))
    WAYS["eager"](f)(x)
    with jt.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    before = jt.counters()
    tape.gradient(y, x)
    counted = jt.counters() - before
    assert (counted.launches, counted.bytes_allocated) == (1, 8000)


# Variables ------------------------------------------------------------------------------------------------------------


def test_variables_are_watched_where_they_are_read():
    v, frozen = jt.Variable([1.0, 2.0]), jt.Variable(3.0, trainable=False)
    with jt.GradientTape(persistent=True) as tape:
        y = jt.reduce_sum(v * v * frozen)
    assert tape.gradient(y, v).numpy().tolist() == [6, 12] and tape.gradient(y, frozen) is None
    assert [id(w) for w in tape.watched_variables()] == [id(v)]
    with jt.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(frozen)
        y = jt.reduce_sum(v * v * frozen)
    assert tape.gradient(y, v) is None and float(tape.gradient(y, frozen)) == 5
    f = jt.function(lambda x: jt.reduce_sum(v * v * frozen) * x)
    with jt.GradientTape(persistent=True) as tape:
        y = f(jt.constant(2.0))
    assert tape.gradient(y, v).numpy().tolist() == [12, 24] and tape.gradient(y, frozen) is None


@pytest.mark.parametrize("traced", [False, True])
def test_gradients_use_the_value_that_was_read(traced):
    v, x = jt.Variable(2.0), jt.constant(1.0)

    def f(x):
        y = v * x
        v.assign(v * 50.0)
        return y + v * v * x

    with jt.GradientTape() as tape:
        tape.watch(x)
        y = (jt.function(f) if traced else f)(x)
    v.assign(7.0)
    dx, dv = tape.gradient(y, [x, v])
    assert (float(dx), float(dv)) == (2 + 100 * 100, 1 + 2 * 100)  # an assignment is no path to the Variable's past


def test_a_variable_passed_as_an_argument():
    f = jt.function(lambda v, x: jt.reduce_sum(v * v * x))
    a = jt.Variable([1.0, 2.0])
    with jt.GradientTape() as tape:
        y = f(a, jt.constant(3.0)) + jt.reduce_sum(a[0])
    assert tape.gradient(y, a).numpy().tolist() == [7, 12]

    @jt.function
    def step(v):
        with jt.GradientTape() as tape:
            y = jt.reduce_sum(v * v)
        v.assign_sub(0.25 * tape.gradient(y, v))
        return y

    assert [float(step(a)), float(step(a))] == [5, 1.25] and a.numpy().tolist() == [0.25, 0.5]


# Rules of use ---------------------------------------------------------------------------------------------------------


def test_a_tape_is_used_once_unless_it_is_persistent():
    x = jt.constant(2.0)
    with jt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert float(tape.gradient(y, x)) == 4
    with pytest.raises(RuntimeError, match="persistent"):
        tape.gradient(y, x)
    with jt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * x
        assert float(tape.gradient(y, x)) == 4
    assert float(tape.gradient(z, x)) == 12 and float(tape.gradient(z, y)) == 2


def test_structures_of_targets_and_sources():
    a, b, n = jt.constant(2.0), jt.constant([1.0, 2.0]), jt.constant(3)
    with jt.GradientTape(persistent=True) as tape:
        tape.watch([a, b])
        y = {"p": a * b, "q": a * a}
        far = jt.cast(n, jt.float32) * 2.0
    found = tape.gradient(y, {"a": a, "b": [b]})
    assert float(found["a"]) == 7 and found["b"][0].numpy().tolist() == [2, 2]
    assert tape.gradient(y["q"], [b, n]) == [None, None] and tape.gradient(far, a) is None
    zero = tape.gradient(y["q"], b, unconnected_gradients=jt.UnconnectedGradients.ZERO)
    assert zero.numpy().tolist() == [0, 0]
    assert float(tape.gradient(y["p"], a, output_gradients=jt.constant([1.0, 10.0]))) == 21
    assert float(tape.gradient([y["p"], y["q"]], a, output_gradients=[jt.constant([1.0, 10.0]), 2.0])) == 29
    with pytest.raises(ValueError, match="output_gradients"):
        tape.gradient([y["p"], y["q"]], a, output_gradients=[a])
    with pytest.raises(ValueError, match="source"):
        tape.gradient(y, 3.0)
    with pytest.raises(ValueError, match="not a tensor"):
        tape.watch("x")


@pytest.mark.parametrize("traced", [False, True])
def test_what_is_recorded(traced):
    x = jt.constant([1.0, 2.0])

    def f(x):
        early = x * 5.0
        with jt.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x * x + early
            with tape.stop_recording():
                unseen = y * 2.0
            z = y * jt.stop_gradient(x)
        late = z * 2.0
        first = tape.gradient([z], x), tape.gradient(unseen, x), tape.gradient(late, x), tape.gradient(early, x)
        with tape:
            pass
        tape.reset()
        return *first, tape.gradient(z, x)

    found = (jt.function(f) if traced else f)(x)
    assert found[0].numpy().tolist() == [2, 8] and list(found[1:]) == [None] * 4


def test_jacobians():
    x = jt.constant([1.0, 2.0, 3.0])
    with jt.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = jt.reshape(x * x[::-1], [3, 1])
    want = np.diag(x.numpy()[::-1]) + np.diag(x.numpy())[:, ::-1]
    assert tape.jacobian(y, x).numpy().tolist() == want.reshape(3, 1, 3).tolist()
    assert tape.jacobian(x * 2.0, x) is None
    rows = jt.constant([[1.0, 2.0], [3.0, 4.0]])
    for way in (lambda f: f, jt.function):

        @way
        def batch(rows):
            with jt.GradientTape() as tape:
                tape.watch(rows)
                y = rows * rows
            return tape.batch_jacobian(y, rows)

        assert batch(rows).numpy().tolist() == [[[2, 0], [0, 4]], [[6, 0], [0, 8]]]
    with pytest.raises(RuntimeError, match="persistent"), jt.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        tape.jacobian(y, x)
        tape.jacobian(y, x)


# The user's own gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_custom_gradient(way):
    @jt.custom_gradient
    def softplus(x):
        e = jt.exp(x)
        return jt.math.log(1.0 + e), lambda up: up * (1.0 - 1.0 / (1.0 + e))

    def f(x):
        return jt.reduce_sum(softplus(x) * C + jt.math.log(1.0 + jt.exp(x)))

    gradient = WAYS[way](f)
    s = 1 / (1 + np.exp(-X))
    np.testing.assert_allclose(gradient(jt.constant(X)).numpy(), s * (C.numpy() + 1), rtol=1e-12)
    if "unknown" not in way:
        second = eager(lambda x: jt.reduce_sum(gradient(x)), jt.constant(X))
        np.testing.assert_allclose(second.numpy(), s * (1 - s) * (C.numpy() + 1), rtol=1e-9)


@pytest.mark.parametrize("traced", [False, True])
def test_custom_gradient_of_several(traced):
    scale = jt.Variable(10.0)

    @jt.custom_gradient
    def f(x, y):
        def grad(du, dv):
            return du * 100.0 + dv, scale * dv

        return (x * y, y + 1.0), grad

    def run(x, y):
        with jt.GradientTape(persistent=True) as tape:
            tape.watch([x, y])
            u, v = f(x, y)
            direct = x * y
        return u, *tape.gradient(u, [x, y]), *tape.gradient([u, v], [x, y]), tape.gradient(direct, x)

    found = (jt.function(run) if traced else run)(jt.constant(2.0), jt.constant(3.0))
    assert [float(t) for t in found] == [6, 100, 0, 101, 10, 3]
    with pytest.raises(ValueError, match="1 results for 2"):
        wrong = jt.custom_gradient(lambda x, y: (x, lambda up: up))
        eager(lambda x: wrong(x, x), jt.constant(1.0))


@pytest.mark.parametrize("way", ["eager", "tape around a function", "tape in a function"])
def test_custom_gradient_of_variables(way):
    v, frozen = jt.Variable(3.0), jt.Variable(2.0, trainable=False)

    def body(x):
        def grad(up, variables=None):
            assert len(variables) == 1 and variables[0] is v
            return up * 10.0, [up * 100.0]

        return x * v * frozen, grad

    f = jt.custom_gradient(body)

    def both(f):
        def run(x):
            with jt.GradientTape() as tape:
                tape.watch(x)
                y = f(x) * 2.0 + v
            return tape.gradient(y, [x, v])

        return run

    g = both(jt.function(f)) if "around" in way else both(f)
    found = (jt.function(g) if way == "tape in a function" else g)(jt.constant(1.0))
    assert [float(t) for t in found] == [20, 201]
    with pytest.raises(TypeError, match="variables="):
        both(jt.custom_gradient(lambda x: (x * v, lambda up: up)))(jt.constant(1.0))


def test_python_functions_are_not_asked_again():
    calls = []

    @jt.function
    def f(x):
        y = jt.numpy_function(lambda a: (calls.append(1), a * 2)[1], [x], jt.float32)
        return jt.reduce_sum(jt.ensure_shape(y, [2]) * x)

    x = jt.constant([1.0, 2.0])
    assert eager(f, x).numpy().tolist() == [2, 4] and len(calls) == 1


def test_errors():
    with pytest.raises(RuntimeError, match="GradientTape"):
        jt.gradients(jt.constant(1.0), jt.constant(1.0))
    x = jt.constant([3.0, 1.0])
    with pytest.raises(LookupError, match="gradient"):
        eager(lambda x: bind(Primitive("mystery", "library", lambda x: x, np.sin), (x,)), x)
    with jt.GradientTape() as tape, pytest.raises(ValueError, match="already"):
        tape.__enter__()
