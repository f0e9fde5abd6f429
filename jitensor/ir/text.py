"""Graphs as text, and text as graphs. What is printed can be read back: `parse_graph(print_graph(g), table)` equals g.

    graph mse(%0: f32[n, 10], %1: f32[n, 10], scalar %5: f32[]) {
      %2 = subtract %0 %1           : f32[n, 10]  # train.py:12
      %3 = multiply %2 %2           : f32[n, 10]  # train.py:12
      %4 = reduce_sum %3 {axes=(0, 1)} : f32[]    # train.py:12
      return %4
    }

`capture %7: f32[3]` lines come first, `update %0 = %6` lines before `return`; a sub-graph follows its node, indented,
as `name: graph ...`. Parameters are Python expressions: sizes are names and arithmetic on them, `f32` is a dtype,
`f32[n, 10]` a type (`f32[()]` of rank 0), `object("f")` something that has no text: the parser finds it in `objects`.
Must not know any op: the parser is given the table.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jitensor.errors import Location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Capture, Graph, Literal, Node, Primitive, Value
from jitensor.ir.types import BY_NUMPY, BY_SHORT, DType, TensorType

# Printing ----------------------------------------------------------------------------------------------------

_WIDEST_ALIGNED = 72


def print_graph(graph: Graph, indent: str = "") -> str:
    """The graph's text; `indent` starts each line but the first."""
    inputs = ", ".join(("scalar " if v.id in graph.scalars else "") + repr(v) for v in graph.inputs)
    lines = [f"graph {graph.name}({inputs}) {{"]
    inner = indent + "  "
    lines += [f"{inner}capture {c.value!r}" for c in graph.captures]
    heads = [_node_head(n) for n in graph.nodes]
    tails = [", ".join(repr(v.type) for v in n.outputs) for n in graph.nodes]
    width = max((len(h) for h in heads if len(h) <= _WIDEST_ALIGNED), default=0)
    tail_width = max((len(t) for t in tails if len(t) <= _WIDEST_ALIGNED), default=0)
    for node, head, tail in zip(graph.nodes, heads, tails, strict=True):
        where = f"  # {node.location}" if node.location is not None and node.location.file else ""
        typed = f"{head:<{width}} : {tail:<{tail_width}}" if node.outputs else head
        lines.append(f"{inner}{typed}{where}".rstrip())
        lines += [f"{inner}  {k}: {print_graph(p, inner + '  ')}" for k, p in node.params if isinstance(p, Graph)]
    lines += [f"{inner}update %{target.id} = %{new.id}" for target, new in graph.updates]
    results = ", ".join(f"%{v.id}" for v in graph.outputs)
    lines += [f"{inner}return {results}".rstrip(), indent + "}"]
    return "\n".join(lines)


def _node_head(node: Node) -> str:
    outputs = ", ".join(f"%{v.id}" for v in node.outputs)
    words = [node.primitive.name, *(f"%{v.id}" for v in node.inputs)]
    if node.primitive.family == "constant":
        words.append(_literal_text(node.param("value").array))
    else:
        params = ", ".join(f"{k}={param_text(p)}" for k, p in node.params if not isinstance(p, Graph))
        if params:
            words.append("{" + params + "}")
    return f"{outputs} = {' '.join(words)}" if outputs else " ".join(words)


def param_text(param: Any) -> str:
    """A parameter as the Python expression that the parser reads."""
    if isinstance(param, (int, float, str, Dim, type(None))):
        return param.source() if isinstance(param, Dim) else repr(param)
    if isinstance(param, tuple):
        return "(" + ", ".join(map(param_text, param)) + ("," if len(param) == 1 else "") + ")"
    if isinstance(param, DType):
        return param.short
    if isinstance(param, TensorType):
        return f"{param.dtype.short}[{', '.join(map(param_text, param.shape)) or '()'}]"
    if isinstance(param, Literal):
        return f"literal({BY_NUMPY[param.array.dtype].short}, {_literal_text(param.array)})"
    return f"object({getattr(param, '__name__', type(param).__name__)!r})"


def _literal_text(array: np.ndarray[Any, Any]) -> str:
    return _numbers_text(array.tolist())


def _numbers_text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_numbers_text, value)) + "]"
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"  # 1-0j and nan parts would not survive Python's notation
    return repr(value)


# Parsing -------------------------------------------------------------------------------------------------------------


class GraphTextError(ValueError):
    """The text is no graph. Internal: graphs' texts are written by `print_graph` or by people who test passes."""


_HEADER = re.compile(r"^(?:(\w+): )?graph (\S+?)\((.*)\) \{$")
_DECLARED = re.compile(r"^(scalar )?%(\d+): (\w+\[.*\])$")
_NODE = re.compile(r"^(?:((?:%\d+, )*%\d+) = )?(\w+)((?: %\d+)*)(?: (.*?))?\s*$")
_UPDATE = re.compile(r"^update %(\d+) = %(\d+)$")


def parse_graph(text: str, table: Mapping[str, Primitive], objects: Mapping[str, Any] | None = None) -> Graph:
    """The graph that `text` says. table: the ops by name. objects: what `object("name")` stands for; captures too, as
    "%7". Raises GraphTextError, with the line."""
    lines = iter([line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")])
    parser = _Parser(table, objects or {})
    return parser.graph(next(lines, "").strip(), lines)[1]


class _Parser:
    def __init__(self, table: Mapping[str, Primitive], objects: Mapping[str, Any]) -> None:
        self.table, self.objects = table, objects

    def graph(self, header: str, lines: Iterator[str]) -> tuple[str, Graph]:
        """Reads on to the closing brace. Returns the parameter's name ("" at the top) and the graph."""
        match = _HEADER.match(header)
        if match is None:
            raise GraphTextError(f"expected `graph name(...) {{`: {header}")
        values: dict[int, Value] = {}
        scalars: set[int] = set()
        inputs = tuple(self.declared(part, values, scalars) for part in _split(match[3]))
        captures: list[Capture] = []
        nodes: list[Node] = []
        updates: list[tuple[Value, Value]] = []
        for line in map(str.strip, lines):
            if line.startswith("return"):
                outputs = tuple(_known(values, int(w.strip(" %")), line) for w in _split(line[6:]))
            elif line == "}":
                named = Graph(
                    match[2], inputs, tuple(captures), tuple(nodes), outputs, frozenset(scalars), tuple(updates)
                )
                return match[1] or "", named
            elif line.startswith("capture "):
                value = self.declared(line[8:], values, scalars)
                captures.append(Capture(value, self.objects.get(f"%{value.id}")))
            elif (update := _UPDATE.match(line)) is not None:
                updates.append((_known(values, int(update[1]), line), _known(values, int(update[2]), line)))
            elif _HEADER.match(line):
                name, inner = self.graph(line, lines)
                nodes[-1].params = tuple(sorted([*nodes[-1].params, (name, inner)], key=lambda item: item[0]))
            else:
                nodes.append(self.node(line, values))
        raise GraphTextError(f"graph {match[2]} is not closed")

    def declared(self, text: str, values: dict[int, Value], scalars: set[int]) -> Value:
        match = _DECLARED.match(text.strip())
        if match is None:
            raise GraphTextError(f"expected `%id: type`: {text}")
        value = values[int(match[2])] = Value(int(match[2]), parse_type(match[3]))
        if match[1]:
            scalars.add(value.id)
        return value

    def node(self, line: str, values: dict[int, Value]) -> Node:
        body, location = _cut_location(line)
        body, types = _cut_types(body) if body.startswith("%") else (body, [])
        match = _NODE.match(body)
        if match is None or match[2] not in self.table:
            raise GraphTextError(f"no such op, or no node: {line}")
        primitive = self.table[match[2]]
        ids = [int(w.strip(" %")) for w in match[1].split(",")] if match[1] else []
        if len(ids) != len(types):
            raise GraphTextError(f"{len(ids)} results but {len(types)} types: {line}")
        inputs = tuple(_known(values, int(w[1:]), line) for w in match[3].split())
        if primitive.family == "constant":
            array = np.asarray(_expression(match[4], self.objects), types[0].dtype.numpy)
            params: dict[str, Any] = {"value": Literal(array)}
        else:
            params = self.params(match[4] or "{}", line)
        outputs = tuple(Value(i, t) for i, t in zip(ids, types, strict=True))
        values.update((v.id, v) for v in outputs)
        return Node(primitive, inputs, tuple(sorted(params.items())), outputs, location)

    def params(self, text: str, line: str) -> dict[str, Any]:
        if not (text.startswith("{") and text.endswith("}")):
            raise GraphTextError(f"expected parameters in braces: {line}")
        call = ast.parse(f"f({text[1:-1]})", mode="eval").body
        assert isinstance(call, ast.Call)
        return {k.arg: _value(k.value, self.objects) for k in call.keywords if k.arg is not None}


def _known(values: Mapping[int, Value], id: int, line: str) -> Value:
    if id not in values:
        raise GraphTextError(f"%{id} is not defined before: {line}")
    return values[id]


def _cut_location(line: str) -> tuple[str, Location | None]:
    body, mark, where = line.rpartition("  # ")
    match = re.fullmatch(r"(.+):(\d+)", where) if mark else None
    return (body, Location(match[1], int(match[2]), "")) if match else (line, None)


def _cut_types(body: str) -> tuple[str, list[TensorType]]:
    head, mark, types = body.rpartition(" : ")
    if not mark:
        raise GraphTextError(f"expected ` : type`: {body}")
    return head, [parse_type(t) for t in _split(types)]


def _split(text: str) -> list[str]:
    """The parts between commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "[(") - (c in "])")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def parse_type(text: str) -> TensorType:
    """`f32[n, 10]` as a TensorType."""
    short, _, rest = text.strip().partition("[")
    if short not in BY_SHORT or not rest.endswith("]"):
        raise GraphTextError(f"expected a type such as f32[n, 10]: {text}")
    return TensorType(BY_SHORT[short], tuple(_expression(part, {}) for part in _split(rest[:-1])))


# Expressions ---------------------------------------------------------------------------------------------------------

_OPERATORS: dict[type, tuple[Callable[[Any, Any], Any] | None, str]] = {
    ast.Add: (operator.add, ""),
    ast.Sub: (operator.sub, ""),
    ast.Mult: (operator.mul, ""),
    ast.FloorDiv: (operator.floordiv, ""),
    ast.Mod: (operator.mod, ""),
    ast.Pow: (None, "pow"),
    ast.LShift: (None, "lshift"),
    ast.RShift: (None, "rshift"),
    ast.BitAnd: (None, "and"),
    ast.BitOr: (None, "or"),
    ast.BitXor: (None, "xor"),
}
_NUMBERS = {"nan": np.nan, "inf": np.inf}


def _expression(text: str, objects: Mapping[str, Any]) -> Any:
    try:
        return _value(ast.parse(text, mode="eval").body, objects)
    except SyntaxError:
        raise GraphTextError(f"not an expression: {text}") from None


def _value(node: ast.expr, objects: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _NUMBERS.get(name) or BY_SHORT.get(name) or dims.symbol(name)
        case ast.Tuple(elts=elements):
            return tuple([_value(e, objects) for e in elements])
        case ast.List(elts=elements):
            return [_value(e, objects) for e in elements]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, objects)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            function, name = _OPERATORS[type(op)]
            a, b = _value(left, objects), _value(right, objects)
            return dims.opaque(name, a, b) if function is None else function(a, b)
        case ast.Subscript(value=ast.Name(id=short), slice=index) if short in BY_SHORT:
            shape = _value(index, objects)
            return TensorType(BY_SHORT[short], shape if isinstance(shape, tuple) else (shape,))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _call(name, [_value(a, objects) for a in args], objects)
    raise GraphTextError(f"not a parameter: {ast.unparse(node)}")


def _call(name: str, args: list[Any], objects: Mapping[str, Any]) -> Any:
    if name == "object":
        if args[0] not in objects:
            raise GraphTextError(f"object({args[0]!r}) has no text; pass it in `objects`")
        return objects[args[0]]
    if name == "literal":
        return Literal(np.asarray(args[1], args[0].numpy))
    if name == "complex":
        return complex(*args)
    if name in dims.OPERATIONS:
        return dims.opaque(name, *args)
    raise GraphTextError(f"not a function of sizes: {name}")
