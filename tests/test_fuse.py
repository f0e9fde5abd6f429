"""Fusion: what shares a kernel, what waits for what, whose memory is overwritten. What once went wrong is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jitensor as jt
from jitensor import pipeline
from jitensor.ir.graph import Graph
from jitensor.ir.interpret import interpret
from jitensor.ir.types import TensorType, bool_, float64
from jitensor.ops import TABLE
from jitensor.runtime.counters import counters
from tests.graphs import Build

Maker = Callable[[Build], Graph]
SHAPE = (5, 5)


def run(make: Maker, layout: str = "C") -> tuple[int, int]:
    """Runs a graph of small float inputs against the interpreter. Returns its launches and the bytes beyond outputs."""
    b = Build()
    graph = make(b)
    rng = np.random.default_rng(0)
    arguments: list[Any] = []
    for v in graph.inputs:
        shape = tuple(int(n) for n in v.shape)  # type: ignore[call-overload]
        value = rng.integers(-9, 9, shape).astype(v.dtype.numpy)
        arguments.append(value[()] if v.id in graph.scalars else value.copy(order="F" if layout == "F" else "C"))
    wanted, news = interpret(graph, [np.array(a) for a in arguments], {})
    before = counters()
    results = pipeline.build(graph)(arguments, {})
    spent = counters() - before
    for result, want in zip(results, wanted, strict=True):
        np.testing.assert_allclose(result, want, rtol=1e-12)
    position = {v.id: i for i, v in enumerate(graph.inputs)}
    updated = {position[t.id] for t, _ in graph.updates}
    for (target, _), new in zip(graph.updates, news, strict=True):
        np.testing.assert_allclose(arguments[position[target.id]], new, rtol=1e-12)
    assert not any(np.may_share_memory(r, arguments[i]) for r in results for i in updated)
    return spent.launches, spent.bytes_allocated - sum(r.nbytes for r in results)


def whole_row(b: Build) -> Graph:
    """x += y"""
    x, y = b.array(*SHAPE), b.array(*SHAPE)
    return b.finish([], [(x, b("add", x, y))])


def inner_part(b: Build) -> Graph:
    """x[1:-1, 1:-1] *= y"""
    x, y = b.array(*SHAPE), b.array(3, 3)
    return b.finish([], [(x, b.store(x, b("multiply", b.slice(x, (1, 1), (3, 3)), y), (1, 1)))])


def reversed_part(b: Build) -> Graph:
    """x[::-1] = y + 1"""
    x, y = b.array(*SHAPE), b.array(*SHAPE)
    return b.finish([], [(x, b.store(x, b("add", y, b.number(1.0)), (4, 0), (-1, 1)))])


@pytest.mark.parametrize("make", [whole_row, inner_part, reversed_part])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_a_write_in_place_is_one_kernel_without_memory(make: Maker, layout: str) -> None:
    assert run(make, layout) == (1, 0)


# What is written and read ---------------------------------------------------------------------------------------------


def shifted(b: Build) -> Graph:
    """x[1:] = x[:-1]"""
    x = b.array(*SHAPE)
    return b.finish([], [(x, b.store(x, b.slice(x, (0, 0), (4, 5)), (1, 0)))])


def shifted_sum(b: Build) -> Graph:
    """x[1:] += x[:-1], all at once"""
    x = b.array(*SHAPE)
    total = b("add", b.slice(x, (1, 0), (4, 5)), b.slice(x, (0, 0), (4, 5)))
    return b.finish([], [(x, b.store(x, total, (1, 0)))])


def transposed_sum(b: Build) -> Graph:
    """x += x.T"""
    x = b.array(*SHAPE)
    return b.finish([], [(x, b("add", x, b("transpose", x, perm=(1, 0))))])


def reduced_first(b: Build) -> Graph:
    """x -= x.sum(axis=0)"""
    x = b.array(*SHAPE)
    return b.finish([], [(x, b("subtract", x, b("expand_dims", b("reduce_sum", x, axes=(0,)), axes=(0,))))])


def swapped(b: Build) -> Graph:
    """x[:], y[:] = y, x"""
    x, y = b.array(*SHAPE), b.array(*SHAPE)
    return b.finish([], [(x, y), (y, x)])


def rotated(b: Build) -> Graph:
    """x[:], y[:], z[:] = y.T, z[::-1], x"""
    x, y, z = b.array(*SHAPE), b.array(*SHAPE), b.array(*SHAPE)
    return b.finish(
        [], [(x, b("transpose", y, perm=(1, 0))), (y, b.slice(z, (4, 0), (5, 5), (-1, 1))), (z, x)]
    )  # fmt: skip


def old_value_returned(b: Build) -> Graph:
    """old = x[:]; x += 1; return old, old.T, x + 2, where old is asked for by value"""
    x = b.array(*SHAPE)
    new = b("add", x, b.number(1.0))
    outputs = [x, b("transpose", x, perm=(1, 0)), b("add", new, b.number(2.0)), b("reshape", x, shape=(25,))]
    return b.finish(outputs, [(x, new)])


def old_value_read_later(b: Build) -> Graph:
    """Slices of a first state are read after a second was made."""
    x = b.array(*SHAPE)
    first = b.store(x, b("negative", b.slice(x, (0, 0), (2, 5))), (0, 0))
    seen = b.slice(first, (4, 0), (5, 5), (-1, 1))
    second = b.store(first, b("clip", x, x, x), (4, 0), (-1, 1))
    return b.finish([b("positive", seen), b("clip", x, x, x)], [(x, second)])


def written_twice(b: Build) -> Graph:
    """Two overlapping writes of values of one kernel, the later one wins."""
    x, y = b.array(*SHAPE), b.array(4, 5)
    one = b("add", y, b.number(1.0))
    two = b("multiply", one, b.number(3.0))
    return b.finish([], [(x, b.store(b.store(x, one, (0, 0)), two, (1, 0)))])


def base_from_the_same_loops(b: Build) -> Graph:
    """The base and what is written into it are computed by the same loops."""
    x = b.array(4, 5)
    base = b("exp", b("multiply", x, b.number(0.1)))
    return b.finish([b.store(base, b("add", base, b.number(1.0)), (3, 0), (-1, 1))])


def part_of_a_fresh_array(b: Build) -> Graph:
    """zeros, then two regions, then read."""
    x = b.array(3, 5)
    base = b("full", b.number(0.0), shape=SHAPE)
    first = b.store(base, b("add", x, b.number(1.0)), (0, 0))
    second = b.store(first, b("full", b.number(7.0), shape=(2, 5)), (3, 0))
    return b.finish([second, b("reduce_sum", second, axes=(0,)), b("reduce_sum", first, axes=(0,))])


def copied_by_a_reshape(b: Build) -> Graph:
    """The copy that a reshape makes of x must precede the write to x."""
    x = b.array(*SHAPE)
    flat = b("reshape", b("transpose", x, perm=(1, 0)), shape=(25,))
    return b.finish([flat], [(x, b.store(x, b("full", b.number(1.0), shape=(1, 5)), (0, 0)))])


def joined_before_the_write(b: Build) -> Graph:
    x = b.array(*SHAPE)
    joined = b("concatenate", x, b.slice(x, (4, 0), (5, 5), (-1, 1)), axis=0)
    return b.finish([joined], [(x, b("multiply", x, b.number(2.0)))])


def called_before_the_write(b: Build) -> Graph:
    x = b.array(*SHAPE)
    ordered = b("sort", x, axis=1)
    return b.finish([ordered, b("cumsum", ordered, axis=0)], [(x, b("negative", x))])


ORDERS = [
    shifted, shifted_sum, transposed_sum, reduced_first, swapped, rotated, old_value_returned, old_value_read_later,
    written_twice, base_from_the_same_loops, part_of_a_fresh_array, copied_by_a_reshape, joined_before_the_write,
    called_before_the_write,
]  # fmt: skip


@pytest.mark.parametrize("make", ORDERS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("layout", ["C", "F"])
def test_order_of_reading_and_writing(make: Maker, layout: str) -> None:
    run(make, layout)


# Who shares a kernel -------------------------------------------------------------------------------------------------


def crossed_reductions(b: Build) -> Graph:
    """Two groups that would each wait for the other if either took the node between them."""
    x, y = b.array(*SHAPE), b.array(*SHAPE)
    rows, columns = b("reduce_sum", x, axes=(1,)), b("reduce_sum", y, axes=(0,))
    first = b("add", b("exp", columns), b.slice(rows, (4,), (5,), (-1,)))
    second = b("add", b("exp", rows), b.slice(columns, (4,), (5,), (-1,)))
    return b.finish([first, second, b("multiply", first, second)])


def same_loops_crossed(b: Build) -> Graph:
    x = b.array(*SHAPE)
    y = b("exp", x)
    return b.finish([b("add", y, b("transpose", y, perm=(1, 0)))])


def several_reductions(b: Build) -> Graph:
    x = b.array(*SHAPE)
    return b.finish([b(name, x, axes=(0, 1)) for name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")])


def normalised(b: Build) -> Graph:
    """(x - x.min()) / (x.max() - x.min())"""
    x = b.array(*SHAPE)
    low, high = (b("expand_dims", b(r, x, axes=(0, 1)), axes=(0, 1)) for r in ("reduce_min", "reduce_max"))
    return b.finish([b("divide", b("subtract", x, low), b("subtract", high, low))])


def row_number_beside_columns(b: Build) -> Graph:
    """A number computed from host numbers alone, stored by a kernel whose loops run the other way."""
    x, s = b.array(*SHAPE), b.input(TensorType(float64, ()), scalar=True)
    number = b("negative", s)
    return b.finish([number, b("reduce_sum", b("add", x, number), axes=(0,))])


def truth_kept_between_phases(b: Build) -> Graph:
    """Truth values that a later phase of a row, or of a column, reads again."""
    x = b.array(*SHAPE)
    outputs = []
    for axis in (0, 1):
        total = b("reduce_sum", x, axes=(axis,))
        above = b("less", b("expand_dims", total, axes=(axis,)), b("exp", x))
        outputs += [b("reduce_any", above, axes=(axis,)), above, b("equal", total, total)]
        outputs.append(b("where", b("reduce_all", above, axes=(axis,)), total, b("negative", total)))
    assert all(o.dtype in (bool_, float64) for o in outputs)
    return b.finish(outputs)


@pytest.mark.parametrize(
    ("make", "kernels"),
    [
        (several_reductions, 1),
        (normalised, 1),
        (same_loops_crossed, 2),
        (row_number_beside_columns, 1),
        (truth_kept_between_phases, None),
        (crossed_reductions, None),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
@pytest.mark.parametrize("layout", ["C", "F"])
def test_kernels(make: Maker, kernels: int | None, layout: str) -> None:
    launches, _ = run(make, layout)
    assert kernels in (None, launches)


def test_a_check_that_fails_comes_before_the_write() -> None:
    b = Build()
    x, y = b.array(*SHAPE), b.array(*SHAPE)
    fine = b("reduce_all", b("less", b("exp", y), b.number(2.0)), axes=(0, 1))
    b.add(TABLE["check"], (fine,), {"message": "too large", "error": ValueError})
    graph = b.finish([], [(x, b("add", x, y)), (y, b.store(y, b("full", b.number(0.0), shape=(1, 5)), (0, 0)))])
    executable = pipeline.build(graph)
    first, second = np.ones(SHAPE), np.ones(SHAPE)
    with pytest.raises(ValueError, match="too large"):
        executable([first, second], {})
    assert np.all(first == 1) and np.all(second == 1)
    executable([first, np.zeros(SHAPE)], {})
    assert np.all(first == 1)
    executable([first, np.full(SHAPE, 0.5)], {})
    assert np.all(first == 1.5)


def test_rows_and_columns_of_a_reduced_array_are_loops_of_their_own() -> None:
    def rows_against_columns(b: Build) -> Graph:
        x = b.array(1, 1, 3, 2)
        total = b("expand_dims", b("reduce_sum", x, axes=(0, 1, 2, 3)), axes=(0, 1, 2, 3))
        rows = b("transpose", b("fmin", x, x), perm=(1, 2, 0, 3))
        columns = b("transpose", b("add", x, total), perm=(2, 0, 3, 1))
        return b.finish([b("maximum", rows, columns)])

    run(rows_against_columns)


@pytest.mark.parametrize("n", [3, 0, 5, 7])
def test_a_loop_without_turns_leaves_no_other_value_uncomputed(n: int) -> None:
    def pieces(x: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
        shared = np.exp(x[0])
        return shared * x[n:], shared * x[:n], x[n:, None] * (x * 2)[None], x * 2

    x = np.linspace(-1, 1, 5)
    for got, want in zip(jt.jit(pieces)(x, n), pieces(x, n), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_an_empty_operand_of_an_outer_product_leaves_the_other_computed() -> None:
    def outer(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        doubled = y * 2
        return x[:, None] * doubled[None], doubled

    np.testing.assert_array_equal(jt.jit(outer)(np.ones(0), np.arange(4.0))[1], np.arange(4.0) * 2)


@pytest.mark.parametrize("shift", [-1, 1, 2, 0])
def test_rolled_rows_with_a_shared_number(shift: int) -> None:
    def rolled(u: np.ndarray, v: np.ndarray, numbers: np.ndarray, shift: int) -> np.ndarray:
        total = u.sum(1)
        a, b = total * u[:, 0], total + 2.0
        w = v - numbers[1].astype(np.float64) * a * (b - numbers[0] * a) * total
        return np.roll(w, (shift, 0), axis=(1, 2)), total, a

    rng = np.random.default_rng(0)
    u, v, numbers = rng.normal(size=(3, 9, 5, 5)), rng.normal(size=(3, 5, 5)), np.array([2, 3])
    for got, want in zip(jt.jit(rolled)(u, v, numbers, shift), rolled(u, v, numbers, shift), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9)


def test_lattice_boltzmann_step() -> None:
    """The wrapped row of a roll has loops of its own: in those of the other rows it would run over its own result."""

    def step(f: np.ndarray) -> np.ndarray:
        weights = np.array([4 / 9] + [1 / 9] * 4 + [1 / 36] * 4)
        cx, cy = np.array([0, 1, 0, -1, 0, 1, -1, -1, 1]), np.array([0, 0, 1, 0, -1, 1, 1, -1, -1])
        rho = f.sum(1)
        ux, uy = (f * cx[:, None, None]).sum(1) / rho, (f * cy[:, None, None]).sum(1) / rho
        out = np.empty_like(f)
        for i in range(9):
            cu = 3 * (cx[i] * ux + cy[i] * uy)
            wanted = weights[i] * rho * (1 + cu + (0.5 * cu**2 - 1.5 * (ux**2 + uy**2)))
            out[:, i] = np.roll(f[:, i] - 0.6 * (f[:, i] - wanted), (int(cx[i]), int(cy[i])), axis=(1, 2))
        return out

    f = np.random.default_rng(0).random(size=(3, 9, 5, 5)) + 1
    np.testing.assert_allclose(jt.jit(step)(f), step(f), rtol=1e-9, atol=1e-9)
