"""Graphs as text: golden, and read back to the same text."""

from __future__ import annotations

import numpy as np
import pytest

from jitensor.errors import Location
from jitensor.ir import dims
from jitensor.ir.graph import Graph, GraphBuilder, Literal, Primitive
from jitensor.ir.text import GraphTextError, param_text, parse_graph, parse_type, print_graph
from jitensor.ir.types import TensorType, bool_, complex64, float16, float32, float64, int64
from jitensor.ir.verify import verify
from jitensor.ops import TABLE

TEXT = """\
graph mse(%0: f32[n, 10], %1: f32[n, 10], scalar %2: f32[]) {
  capture %3: f32[10]
  %4 = subtract %0 %1              : f32[n, 10]             # train.py:12
  %5 = multiply %4 %3              : f32[n, 10]             # train.py:12
  %6 = constant -0.0               : f32[]
  %7 = reduce_sum %5 {axes=(0, 1)} : f32[]                  # train.py:13
  %8 = slice %0 {sizes=(((n + 1) // 2), 4), starts=(n - 1, 0), steps=(-1, 2)} : f32[((n + 1) // 2), 4]
  %9 = isnan %0                    : b1[n, 10]
  check %9 %2 {error=object('ValueError'), message='bad {0} } : x  # y'}
  %10 = boolean_mask %0 %9 {axis=0, size='m0'} : f32[m0]
  %11 = cast %10 {dtype=f16}       : f16[m0]
  %12 = constant complex(nan, -0.0) : c64[]
  update %0 = %5
  return %7, %8, %11, %12
}"""


def _graph() -> Graph:
    builder, n = GraphBuilder("mse"), dims.symbol("n")
    x, y = (builder.input(TensorType(float32, (n, 10))) for _ in range(2))
    scale = builder.input(TensorType(float32, ()), scalar=True)
    weights = builder.capture(np.ones(10, np.float32), TensorType(float32, (10,)))
    line, next_line = (Location("train.py", k, "") for k in (12, 13))
    (d,) = builder.add(TABLE["subtract"], [x, y], None, line)
    (p,) = builder.add(TABLE["multiply"], [d, weights], None, line)
    builder.constant(-0.0, float32)
    (total,) = builder.add(TABLE["reduce_sum"], [p], {"axes": (0, 1)}, next_line)
    (part,) = builder.add(TABLE["slice"], [x], {"starts": (n - 1, 0), "sizes": ((n + 1) // 2, 4), "steps": (-1, 2)})
    (mask,) = builder.add(TABLE["isnan"], [x])
    builder.add(TABLE["check"], [mask, scale], {"message": "bad {0} } : x  # y", "error": ValueError})
    (masked,) = builder.add(TABLE["boolean_mask"], [x, mask], {"axis": 0, "size": "m0"})
    (half,) = builder.add(TABLE["cast"], [masked], {"dtype": float16})
    number = builder.constant(complex(np.nan, -0.0), complex64)
    return builder.finish([total, part, half, number], [(x, p)])


def _words(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_print() -> None:
    assert _words(print_graph(verify(_graph()))) == _words(TEXT)


def test_round_trip() -> None:
    text = print_graph(_graph())
    again = verify(parse_graph(text, TABLE, {"ValueError": ValueError}))
    assert print_graph(again) == text
    before, after = _graph().nodes, again.nodes
    assert [n.params for n in before] == [n.params for n in after]
    assert [n.location for n in before] == [n.location for n in after]


def test_spacing_and_comments_do_not_matter() -> None:
    graph = parse_graph("# a test\ngraph f(%0: f64[3]) {\n\n %1 = sin %0 : f64[3]\n return %1\n}", TABLE)
    assert [n.primitive.name for n in graph.nodes] == ["sin"]


CALL = Primitive("call", "call", lambda *_, body: tuple(v.type for v in body.outputs), lambda *_, body: ())


def test_sub_graphs_are_indented_and_read_back() -> None:
    inner = GraphBuilder("body")
    (y,) = inner.add(TABLE["cos"], [inner.input(TensorType(float64, (4,)))])
    builder = GraphBuilder("f")
    (z,) = builder.add(CALL, [builder.input(TensorType(float64, (4,)))], {"body": inner.finish([y])})
    text = print_graph(verify(builder.finish([z])))
    expected = [
        "graph f(%0: f64[4]) {",
        "  %1 = call %0 : f64[4]",
        "    body: graph body(%0: f64[4]) {",
        "      %1 = cos %0 : f64[4]",
        "      return %1",
        "    }",
        "  return %1",
        "}",
    ]
    assert text.splitlines() == expected
    assert print_graph(parse_graph(text, {**TABLE, "call": CALL})) == text


@pytest.mark.parametrize(
    "param, text",
    [
        (1, "1"),
        ((), "()"),
        ((1,), "(1,)"),
        (None, "None"),
        (True, "True"),
        (float("inf"), "inf"),
        ("a'b", '"a\'b"'),
        (int64, "i64"),
        (TensorType(bool_, ()), "b1[()]"),
        (TensorType(bool_, (3, dims.symbol("k"))), "b1[3, k]"),
        (Literal(np.array([1.5, np.nan])), "literal(f64, [1.5, nan])"),
        (dims.opaque("max", dims.symbol("k") - 1, 0), "max(0, k - 1)"),
        (print, "object('print')"),
    ],
)
def test_params(param: object, text: str) -> None:
    assert param_text(param) == text
    body = f"graph f() {{\n  check {{p={text}}}\n  return\n}}"
    assert parse_graph(body, TABLE, {"print": print}).nodes[0].param("p") == param


def test_parse_type() -> None:
    assert parse_type("f32[n, (n + 1) // 2, 3]") == TensorType(
        float32, (dims.symbol("n"), (dims.symbol("n") + 1) // 2, 3)
    )


@pytest.mark.parametrize(
    "text, says",
    [
        ("nonsense", "expected `graph"),
        ("graph f(%0: f32[2]) {\n  %1 = frobnicate %0 : f32[2]\n  return %1\n}", "no such op"),
        ("graph f(%0: f32[2]) {\n  %1 = sin %7 : f32[2]\n  return %1\n}", "%7 is not defined"),
        ("graph f(%0: f32[2]) {\n  %1 = sin %0\n  return %1\n}", "expected ` : type`"),
        ("graph f(%0: float[2]) {\n  return %0\n}", "expected a type"),
        ("graph f(%0: f32[2]) {\n  return %0", "not closed"),
        ("graph f() {\n  check {error=object('E')}\n  return\n}", "has no text"),
    ],
)
def test_faults_name_the_line(text: str, says: str) -> None:
    with pytest.raises(GraphTextError) as raised:
        parse_graph(text, TABLE)
    assert says in str(raised.value)
