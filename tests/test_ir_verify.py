"""Malformed graphs are refused by name; each is made by a change to a good one."""

from __future__ import annotations

import pytest

from jitensor.errors import InternalError
from jitensor.ir.graph import Graph
from jitensor.ir.text import parse_graph
from jitensor.ir.verify import verify
from jitensor.ops import TABLE

GOOD = """graph f(%0: f32[n, 3], scalar %1: f32[]) {
  %2 = add %0 %1 : f32[n, 3]
  %3 = reduce_max %2 {axes=(1,)} : f32[n]
  update %0 = %2
  return %3
}"""


def parse(text: str) -> Graph:
    return parse_graph(text, TABLE)


def test_good_graph_passes() -> None:
    graph = parse(GOOD)
    assert verify(graph) is graph


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("%2 = add %0 %1 : f32[n, 3]", "%2 = add %0 %1 : f64[n, 3]", "its rule says"),
        ("axes=(1,)} : f32[n]", "axes=(1,)} : f32[3]", "its rule says"),
        ("axes=(1,)} : f32[n]", "axes=(1,)} : f32[m]", "size m is not that of an input"),
        ("%3 = reduce_max", "%0 = reduce_max", "defined twice"),
        ("scalar %1: f32[]", "scalar %1: f32[2]", "not of rank 0"),
        ("scalar %1: f32[]", "scalar %1: f64[]", "type rule says: add"),
        ("update %0 = %2", "update %0 = %3", "the types differ"),
        ("update %0 = %2", "update %2 = %2", "which is no input"),
    ],
)
def test_faults(old: str, new: str, says: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    if "%0 = reduce_max" in text:
        text = text.replace("return %3", "return %0")
    with pytest.raises(InternalError, match="graph f is malformed") as raised:
        verify(parse(text))
    assert says in str(raised.value)


def test_values_of_another_graph_are_refused() -> None:
    first, second = parse(GOOD), parse(GOOD)
    mixed = Graph("f", first.inputs, (), second.nodes, first.outputs)
    with pytest.raises(InternalError, match="belongs to another graph"):
        verify(mixed)


def test_symbols_found_at_run_time_are_known_after() -> None:
    text = """graph f(%0: f32[n], %1: b1[n]) {
  %2 = boolean_mask %0 %1 {axis=0, size='m'} : f32[m]
  %3 = sin %2 : f32[m]
  return %3
}"""
    verify(parse(text))
