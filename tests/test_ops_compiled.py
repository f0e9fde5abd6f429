"""The table through the compiler: every entry, dtype and kind of special value, strided and reversed, against the
interpreter. Entries of one signature share a graph, so that few kernels are compiled."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from table import elementwise_entries, operands, signatures, worst

from jitensor import settings
from jitensor.ir import dims, types
from jitensor.ir.graph import Graph, GraphBuilder, Primitive
from jitensor.ir.interpret import interpret
from jitensor.ir.types import DType, TensorType
from jitensor.ir.verify import verify
from jitensor.ops import TABLE
from jitensor.pipeline import Executable, build

Signature = tuple[DType, ...]
Group = tuple[Signature, tuple[Primitive, ...]]
ENTRIES_PER_GRAPH = 12


def _chunks(entries: list[Primitive]) -> list[tuple[Primitive, ...]]:
    return [tuple(entries[i : i + ENTRIES_PER_GRAPH]) for i in range(0, len(entries), ENTRIES_PER_GRAPH)]


@functools.cache
def _groups() -> list[Group]:
    found: dict[Signature, list[Primitive]] = {}
    for entry in elementwise_entries(TABLE):
        for dtypes in signatures(entry):
            found.setdefault(dtypes, []).append(entry)
    return [(s, g) for s, entries in found.items() for g in _chunks(entries)]


def _graph(dtypes: Signature, entries: tuple[Primitive, ...]) -> Graph:
    builder = GraphBuilder("entries")
    n = dims.symbol("n")
    inputs = [builder.input(TensorType(t, (n,))) for t in dtypes]
    return verify(builder.finish([builder.add(entry, inputs)[0] for entry in entries]))


def _layouts(arrays: list[np.ndarray]) -> list[list[np.ndarray]]:
    """The same values contiguous, with a stride of two, and reversed in memory."""
    wide = [np.repeat(a, 2) for a in arrays]
    backwards = [a[::-1].copy() for a in arrays]
    return [arrays, [w[::2] for w in wide], [b[::-1] for b in backwards]]


def _fault(
    entry: Primitive, dtypes: Signature, actual: np.ndarray, expected: np.ndarray, arrays: list[np.ndarray]
) -> str:
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return f"{entry.name}: {actual.dtype}{actual.shape}, expected {expected.dtype}{expected.shape}"
    tolerance = max(entry.tolerance, 1.0) if any(t is types.float16 for t in dtypes) else entry.tolerance
    distance, where = worst(actual, expected, arrays)
    return "" if distance <= tolerance else f"{entry.name}: {distance} ULP (allowed {tolerance}) {where}"


def _name(group: Group) -> str:
    return "-".join(t.short for t in group[0]) + "-" + group[1][0].name


@pytest.mark.parametrize("group", _groups(), ids=_name)
def test_elementwise(group: Group) -> None:
    _test_group(*group)


@pytest.mark.parametrize("group", [g for g in _groups() if [t.short for t in g[0]] in (["i16"], ["f32"])], ids=_name)
def test_elementwise_by_njit(group: Group) -> None:
    """A sample: the @njit writer takes seconds a kernel. JITENSOR_BACKEND=njit runs all of them through it."""
    with settings.override(backend="njit"):
        _test_group(*group)


def _test_group(dtypes: Signature, entries: tuple[Primitive, ...]) -> None:
    executable = build(_graph(dtypes, entries))
    faults = set()
    for drawn in {entry.samples: operands(entry, dtypes, special=False) for entry in entries}.values():
        faults |= _run(executable, dtypes, entries, drawn)
    if all(t.kind != "c" for t in dtypes):  # complex infinities and nans have a test beside the scalar functions
        faults |= _run(executable, dtypes, entries, operands(entries[0], dtypes, special=True))
    assert not faults, "\n".join(sorted(faults))


def _run(
    executable: Executable, dtypes: Signature, entries: tuple[Primitive, ...], drawn: list[np.ndarray]
) -> set[str]:
    faults = set()
    sizes = {"n": drawn[0].size}
    expected, _ = interpret(executable.graph, drawn, sizes)
    for arrays in _layouts(drawn):
        for entry, found, wanted in zip(entries, executable(arrays, sizes), expected, strict=True):
            faults.add(_fault(entry, dtypes, found, wanted, drawn))
    return faults - {""}
