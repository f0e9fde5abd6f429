"""jt.jit: reading and writing by index; views; effects on arguments."""

from __future__ import annotations

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt

X = np.arange(24.0).reshape(4, 6)
V = np.arange(7.0)

READS = [
    *("x[0]", "x[-1]", "x[1, 2]", "x[-1, -2]", "x[1:]", "x[:-1]", "x[1:-1, 2:4]", "x[::2]", "x[::-1]", "x[::-2, ::3]"),
    *("x[3:1]", "x[10:]", "x[-100:2]", "x[..., 0]", "x[0, ...]", "x[None]", "x[:, None, 1]", "x[..., np.newaxis]"),
    *("x[2:3]", "x[-2:]", "x[1:3][0]", "x.T[1:]", "x[:, 1][2]", "x[5:0:-2]", "x[-1:-4:-1]", "x[()]", "x[...]"),
    *("x[np.int64(2)]", "x[[0, 2]]", "x[np.array([3, -1, 1])]", "x[:, [1, 1, 0]]", "x[[0, 1], [2, 3]]", "x[1, [0, 2]]"),
    *("x[1:, [0, 2]]", "x[[[0, 1], [2, 3]]]", "x.take([0, 5])", "np.take(x, [1, 2], axis=1)", "x[[0, 2], ::2]"),
]


@pytest.mark.parametrize("expression", READS)
def test_read(expression: str) -> None:
    same(eval(f"lambda x: {expression}", {"np": np}), X)
    same(eval(f"lambda x: {expression} * 2", {"np": np}), X)


def test_read_at_traced_indices() -> None:
    same(lambda x, i: (x[i], x[i, 0], x[:, i], x[x.argmax(axis=0)[0]]), X[:3, :3], np.array([2, 0, 1]))


def test_read_at_symbolic_integers() -> None:
    f = jt.jit(lambda x, i: (x[i], x[i:], x[: i + 1], x[-i]))
    before = jt.counters()
    for i in (1, 2):
        for got, expected in zip(f(X, i), (X[i], X[i:], X[: i + 1], X[-i]), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert (jt.counters() - before).traces == 1


@pytest.mark.parametrize("expression", ["x[4]", "x[-5]", "x[0, 6]", "x[0, 0, 0]", "x[1.5]", "x['a']", "x[..., ...]"])
def test_read_errors(expression: str) -> None:
    same_error(eval(f"lambda x: {expression}"), X)


def test_index_out_of_range_at_a_later_call() -> None:
    f = jt.jit(lambda x, i: x[i])
    assert f(V, 2) == 2.0
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 7"):
        f(V, 7)
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        f(V[:3], 3)
    assert f(V, -1) == 6.0


WRITES = [
    *("x[0] = 1", "x[1:-1] += y[1:-1]", "x[:, 0] = y[:, 1]", "x[::2] *= 2", "x[::-1] = y", "x[...] = 0", "x[1, 2] = 7"),
    *("x += y", "x -= 1", "x *= 2", "x /= 3", "x **= 2", "x[:] = y.sum(axis=0)", "x[1:3, 2:4] = [[1, 2], [3, 4]]"),
    *(
        "x.T[0] = 9",
        "x.T[1:3] += 1",
        "x[1:][0] = 5",
        "x.reshape(-1)[3] = 4",
        "x.ravel()[::5] = -1",
        "x[:, None][0] = 2",
    ),
    *(
        "x[x > 5] = 0",
        "x[x > 5] *= 2",
        "x[x.sum(axis=1) > 20] = 1",
        "x[[0, 2]] = 3",
        "x[[0, 2]] += y[:2]",
        "x[:, [1]] = 0",
    ),
    *("x.fill(3)", "x.sort(axis=0)", "np.add(x, y, out=x)", "np.copyto(x, y)", "np.copyto(x, y, where=y > 3)"),
    *(
        "x[0], x[1] = x[1].copy(), x[0].copy()",
        "x[1:] = x[:-1]",
        "x[:-1] = x[1:]",
        "x[x > 5] = y[x > 5] if False else 1",
    ),
    *(
        "x[0:0] = 1",
        "x[..., -1] -= 3",
        "np.negative(x[1:], out=x[1:])",
        "x[-1] = y[0] = 5",
    ),
    *("x[[0, 0]] = [[1] * 6, [2] * 6]", "np.add.at(x, [0, 0, 1], 1.0)", "x[np.array([1, 3]), np.array([0, 5])] = -1"),
]


@pytest.mark.parametrize("statement", WRITES)
def test_write(statement: str) -> None:
    scope = {"np": np}
    exec(f"def f(x, y):\n    {statement}\n    return x, x.sum()", scope)
    same(scope["f"], X.copy(), X[::-1] * 0.5 + 1)


def test_write_through_an_ellipsis_and_newaxis_view() -> None:
    def f(x):
        v = x[None, ..., 1:3]
        v[0, 0] = 5
        w = v.swapaxes(1, 2)
        w[:, 0] += 1
        return v, w

    same(f, X.copy())


def test_views_see_later_writes() -> None:
    def f(x):
        row = x[1]
        before = row.sum()
        x[1] = 10
        return before, row.sum(), row.copy()

    same(f, X.copy())


def test_copies_do_not_see_later_writes() -> None:
    def f(x):
        kept, listed, scalar = x.copy(), x[[0, 1]], x[0, 0]
        x += 1
        flat = x.T.reshape(-1)
        flat += 100
        return kept, listed, scalar, x

    same(f, X.copy())


def test_local_arrays() -> None:
    def f(x):
        out = np.zeros(x.shape[0])
        for i in range(x.shape[0]):
            out[i] = x[i].sum()
        total = np.empty((2, 3), dtype=np.int32)
        total[:] = 7.9
        table = np.array([1.0, 2.0, 3.0])
        table[1] = x[0, 1]
        ones = np.ones_like(x)
        ones[x > 3] = 0
        return out, total, table, ones

    same(f, X)


def test_assignment_casts() -> None:
    def f(i, u):
        i[0] = 2.9
        i[1:] = np.array([1.2, -1.7, 3.5])
        u[0] = True
        return i, u

    same(f, np.arange(4), np.arange(3, dtype="uint8"))
    same_error(lambda u: u.__setitem__(0, 300), np.arange(3, dtype="uint8"))
    same_error(lambda u: u.__setitem__(0, 1j), np.arange(3.0))


@pytest.mark.parametrize("statement", ["x[0] = y", "x[:2] = y[:3]", "x[5] = 1", "x[0, 0] = x"])
def test_write_errors(statement: str) -> None:
    scope: dict[str, object] = {}
    exec(f"def f(x, y):\n    {statement}", scope)
    same_error(scope["f"], X.copy(), X[:, :3].copy(), text=not statement.startswith("x[0, 0]"))  # type: ignore[arg-type]


def test_in_place_casting_error() -> None:
    same_error(lambda i: i.__iadd__(1.5), np.arange(3))


def test_read_only_argument() -> None:
    x = np.arange(3.0)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="assignment destination is read-only"):
        jt.jit(lambda x: x.__setitem__(0, 1.0))(x)
    assert jt.jit(lambda x: x + 1)(x)[0] == 1.0


def test_broadcast_views_are_read_only() -> None:
    same_error(lambda x: np.broadcast_to(x, (3, 7)).__setitem__(0, 1.0), V)


def test_scalars_are_immutable() -> None:
    def f(x):
        s = x.sum()
        kept = s
        s += 1
        return kept, s

    same(f, X)
    scope: dict[str, object] = {}
    exec("def f(x):\n    s = x.sum()\n    s[0] = 1", scope)
    same_error(scope["f"], X)  # type: ignore[arg-type]


def test_returned_argument_is_the_very_object() -> None:
    x = np.arange(3.0)
    assert jt.jit(lambda x: x)(x) is x
    assert jt.jit(lambda x: [np.asarray(x), {"x": x}])(x)[1]["x"] is x
    kept = jt.jit(lambda x: (x.__iadd__(1), x)[1])
    assert kept(x) is x
    np.testing.assert_array_equal(x, [1, 2, 3])


def test_returned_view_of_an_argument_is_a_view() -> None:
    x = np.arange(24.0).reshape(4, 6)
    row, column, flat = jt.jit(lambda x: (x[1], x.T[2], x.reshape(-1)[3:]))(x)
    assert all(np.shares_memory(v, x) for v in (row, column, flat))
    x[:] = 0
    assert row.sum() == column.sum() == flat.sum() == 0


def test_results_are_fresh() -> None:
    x = np.arange(3.0)
    f = jt.jit(lambda x: (x + 0, x.copy(), np.array(x)))
    results = [*f(x), *f(x)]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(results) for b in [x, *results[i + 1 :]])


def test_one_array_returned_twice_is_one_object() -> None:
    a, b = jt.jit(lambda x: (lambda y: (y, y))(x + 1))(V)
    assert a is b


def test_same_array_passed_twice_shares_memory() -> None:
    def f(x, y):
        x[0] = 5
        return x is y, y[0], y.sum()

    x, z = np.arange(4.0), np.arange(4.0)
    jitted = jt.jit(f)
    assert jitted(x, x) == f(z, z)
    np.testing.assert_array_equal(x, z)
    assert jitted(np.arange(4.0), np.arange(4.0)) == (False, 0.0, 6.0)
    assert len(jitted.signatures()) == 2


def test_overlapping_arguments_that_are_written() -> None:
    def f(x, y):
        x += 1
        y += x
        return x.sum() + y.sum()

    f_jit = jt.jit(f)
    f_jit(np.arange(4.0), np.arange(4.0))
    a, b = np.arange(5.0), np.arange(5.0)
    assert f_jit(a[1:], a[:-1]) == f(b[1:], b[:-1])
    np.testing.assert_array_equal(a, b)


def test_a_size_that_data_tell_names_the_cure_where_python_needs_it() -> None:
    with pytest.raises(jt.errors.TraceError, match=r"np\.where"):
        jt.jit(lambda x: list(x[x > 3]))(X)


def test_masked_choice_with_an_array_of_the_mask_s_length() -> None:
    same(lambda x, v: x.__setitem__(x > 21, v), X.copy(), np.array([5.0, 6.0]))


def test_new_sizes_make_no_trace() -> None:
    def f(x):
        x[1:-1] = (x[:-2] + x[2:]) / 2
        return x[::2].sum() + x[::-1][0]

    jitted = jt.jit(f)
    before = jt.counters()
    for n in (4, 5, 9, 1000):
        ours, theirs = np.arange(float(n)), np.arange(float(n))
        np.testing.assert_allclose(jitted(ours), f(theirs))
        np.testing.assert_array_equal(ours, theirs)
    assert (jt.counters() - before).traces == 1


def test_iteration_over_rows_narrows_the_size() -> None:
    def f(x):
        return [r.sum() for r in x], [i * r for i, r in enumerate(x)], dict(zip("ab", x, strict=False))

    jitted = same(f, X)
    (signature,) = jitted.signatures()
    assert "== 4" in signature.narrowed[0]
    assert "test_jit_indexing.py" in signature.narrowed[0]
