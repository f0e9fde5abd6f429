"""Results in memory that the caller gives: `out=` and donated arguments."""

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings

RANDOM = np.random.default_rng(3)


def blend(a, b, t=0.25):
    return np.exp(a) * t + b


def pair(a, b):
    return a + b, np.sum(a * b)


@pytest.mark.parametrize("entry", ["native", "python"])
def test_out_receives_the_result_and_nothing_is_allocated(entry):
    f = jt.jit(blend)
    a, b, z = RANDOM.normal(size=(3, 100_000))
    with settings.override(entry=entry):
        f(a, b, out=z)
    wanted = blend(a, b)
    before = jt.counters()
    for _ in range(8):
        z[:] = 0
        assert f(a, b, out=z) is z
        np.testing.assert_allclose(z, wanted, rtol=1e-13, atol=1e-14)
    found = jt.counters() - before
    assert (found.launches, found.bytes_allocated, found.traces) == (8, 0, 0)


def test_out_with_other_arguments_by_name_and_at_their_defaults():
    f = jt.jit(blend)
    a, b = RANDOM.normal(size=(2, 9))
    for k in range(6):
        z = np.empty(9)
        f(a, b=b, t=0.5, out=z)
        np.testing.assert_allclose(z, blend(a, b, 0.5), rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(f(a, b, out=None), blend(a, b), rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(f(a, b, 0.5 + k), blend(a, b, 0.5 + k), rtol=1e-13, atol=1e-14)


def test_a_tuple_of_results_takes_a_tuple():
    f = jt.jit(pair)
    a, b, z = RANDOM.normal(size=(3, 50))
    total = np.empty(())
    found = f(a, b, out=(z, total))
    assert found[0] is z and found[1] is total
    np.testing.assert_array_equal(z, a + b)
    np.testing.assert_allclose(total, np.sum(a * b))
    first, second = f(a, b, out=(None, total))
    np.testing.assert_array_equal(first, a + b)
    assert second is total
    with pytest.raises(TypeError, match="tuple of 2"):
        f(a, b, out=z)


@pytest.mark.parametrize(
    "place",
    [
        lambda m: (m[0], m[1], m[0]),  # exactly an input
        lambda m: (m[0][1:], m[1][1:], m[0][:-1]),  # overlapping one
        lambda m: (m[0][:-1], m[1][1:], m[0][1:]),
        lambda m: (m[0], m[1], m[0][::-1]),
        lambda m: (m[0][::2], m[1][::2], m[0][: (m.shape[1] + 1) // 2]),
        lambda m: (m[0], m[0], m[0]),
        lambda m: (m[0], m[1], m[2]),
    ],
)
@pytest.mark.parametrize("size", [7, 40_001])
def test_overlap_gives_numpys_answer(place, size):
    f = jt.jit(lambda a, b: np.cumsum(a) + np.sin(b * 1e5) - np.sum(a))
    g = jt.jit(blend)
    memory = RANDOM.normal(size=(3, size))
    for jitted in (f, g):
        for _ in range(4):
            ours, theirs = memory.copy(), memory.copy()
            a, b, out = place(theirs)
            wanted = jitted.__wrapped__(a, b)
            out[...] = wanted
            a, b, out = place(ours)
            assert jitted(a, b, out=out) is out
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_out_is_cast_and_broadcast_as_a_ufunc_does():
    f = jt.jit(lambda a: a * 2)
    z = np.empty((3, 4), np.float32)
    f(np.arange(4.0), out=z)
    np.testing.assert_array_equal(z, np.broadcast_to(np.arange(4.0) * 2, (3, 4)))
    z = np.empty((4, 2))[:, 0]
    f(np.arange(4), out=z)
    np.testing.assert_array_equal(z, np.arange(4) * 2)
    with pytest.raises(TypeError, match="same_kind"):
        f(np.arange(4.0), out=np.empty(4, int))
    with pytest.raises(ValueError, match=r"broadcast"):
        f(np.arange(4.0), out=np.empty(3))
    with pytest.raises(TypeError, match="ndarray"):
        f(np.arange(4.0), out=[1, 2, 3, 4])
    frozen = np.empty(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        f(np.arange(4.0), out=frozen)


def test_a_parameter_called_out_is_the_functions_own():
    f = jt.jit(lambda a, out: a + out)
    a = np.arange(3.0)
    np.testing.assert_array_equal(f(a, out=a), a + a)
    np.testing.assert_array_equal(a, np.arange(3.0))
    with pytest.raises(TypeError):
        jt.jit(lambda a: a)(a, other=a)


def test_out_inside_another_function():
    inner = jt.jit(lambda a: a + 1)

    @jt.jit
    def outer(a):
        z = np.zeros_like(a)
        inner(a, out=z)
        return z * 2

    np.testing.assert_array_equal(outer(np.arange(3.0)), [2, 4, 6])


# Donation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("donate", ["a", ("a",), ["a", "b"]])
def test_a_donated_argument_holds_the_result(donate):
    f = jt.jit(donate=donate)(blend)
    for _ in range(8):
        a, b = RANDOM.normal(size=(2, 100_000))
        wanted = blend(a, b)
        before = jt.counters()
        found = f(a, b)
        assert found is a
        assert (jt.counters() - before).bytes_allocated == 0
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)


def test_an_argument_that_does_not_fit_is_not_touched():
    f = jt.jit(lambda a: np.sum(a), donate="a")
    a = np.arange(5.0)
    assert f(a) == 10
    np.testing.assert_array_equal(a, np.arange(5.0))
    g = jt.jit(lambda a: a > 2, donate="a")
    np.testing.assert_array_equal(g(a), a > 2)
    np.testing.assert_array_equal(a, np.arange(5.0))


def test_several_results_take_several_arguments():
    f = jt.jit(lambda a, b: (a + b, a - b), donate=("a", "b"))
    a, b = np.arange(5.0), np.ones(5)
    total, difference = f(a, b)
    assert total is a and difference is b
    np.testing.assert_array_equal(total, np.arange(5.0) + 1)
    np.testing.assert_array_equal(difference, np.arange(5.0) - 1)


def test_a_time_loop_in_one_memory():
    step = jt.jit(lambda u: u + 0.1 * (np.roll(u, 1) - 2 * u + np.roll(u, -1)), donate="u")
    u = RANDOM.normal(size=300)
    wanted, memory = u.copy(), u
    for _ in range(10):
        wanted = step.__wrapped__.__wrapped__(wanted)
        u = step(u)
    assert u is memory
    np.testing.assert_allclose(u, wanted, rtol=1e-12)


def test_donate_names_a_parameter():
    with pytest.raises(TypeError, match="no such parameter"):
        jt.jit(blend, donate="z")
