"""Writes a scalar program's instructions as Python statements for Numba's `@njit`.

Owns the mapping from scalar primitives to typed Python expressions, and nothing about loops, arrays or kernels. Numba
widens (`int32 + int32` is int64, `float32 * 2.0` is float64), so every expression is cast back and every constant is
typed; the results then equal the LLVM writer's bit for bit, except where the kernel's `fastmath={'contract'}` fuses.
Scalar functions stay functions of their own, compiled without fastmath. In:

    %1 = const 0.5 : f32              out:    t3 = exp_f32(x * float32(0.5))
    %2 = mul %0 %1 : f32
    %3 = invoke %2 exp_f32 : f32

`PRELUDE` goes once before everything, then `functions(program)`, then the caller's kernel with the statements in it.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping

from ..scalar.program import FLOATS, INTEGERS, SIGNED, WIDTH, Outlined, ScalarProgram

NUMBA_TYPE = {"i1": "bool_", "f32": "float32", "f64": "float64"} | {
    t: f"{'int' if t in SIGNED else 'uint'}{WIDTH[t]}" for t in INTEGERS
}

PRELUDE = '''\
import math

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic
from numpy import bool_, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64


@intrinsic
def fma(typingctx, a, b, c):
    """a*b + c, rounded once."""
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


@intrinsic
def select(typingctx, condition, a, b):
    """a where condition, else b: both are ready, nothing is skipped, so that loops stay free of branches."""
    return a(condition, a, a), lambda context, builder, signature, args: builder.select(
        builder.icmp_unsigned("!=", args[0], args[0].type(0)), args[1], args[2]
    )


@intrinsic
def bitcast(typingctx, a, to):
    """The bits of a, read as another type of the same width."""
    return to.instance_type(a, to), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(signature.return_type)
    )


@intrinsic
def quotient(typingctx, a, b):
    """Integer quotient rounded toward zero; b must not be 0."""
    return a(a, a), lambda context, builder, signature, args: (builder.sdiv if a.signed else builder.udiv)(*args)


@intrinsic
def remainder(typingctx, a, b):
    """What quotient leaves over: it has a's sign."""
    return a(a, a), lambda context, builder, signature, args: (builder.srem if a.signed else builder.urem)(*args)


def libm_function(symbol):
    """The C library's function of a tuple of one or two floats, as a Numba function."""

    @intrinsic
    def function(typingctx, operands):
        def write(context, builder, signature, args):
            values = [builder.extract_value(args[0], k) for k in range(len(operands))]
            kind = ir.FunctionType(values[0].type, [v.type for v in values])
            callee = builder.module.globals.get(symbol) or ir.Function(builder.module, kind, symbol)
            return builder.call(callee, values)

        return operands[0](operands), write

    return function
'''

# The forms of the ops, by op and kind of type (f float, i integer, b truth). Another target overrides some.
Forms = Mapping[tuple[str, str], str]
NJIT_FORMS: Forms = {
    **{(op, "f"): f"%s {sign} %s" for op, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"))},
    **{(op, "i"): f"%s {sign} %s" for op, sign in (("add", "+"), ("sub", "-"), ("mul", "*"))},
    **{(op, k): f"%s {sign} %s" for op, sign in (("and", "&"), ("or", "|"), ("xor", "^")) for k in "ib"},
    **{(op, k): f"%s {sign} %s" for op, sign in (("eq", "=="), ("ne", "!=")) for k in "fib"},
    **{(op, k): f"%s {sign} %s" for op, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")) for k in "fib"},
    **{("select", k): "select(%s, %s, %s)" for k in "fib"},
    ("neg", "f"): "-%s", ("neg", "i"): "-%s", ("not", "i"): "~%s", ("not", "b"): "not %s",
    ("shl", "i"): "%s << %s", ("shr", "i"): "%s >> %s",
    ("quo", "i"): "quotient(%s, %s)", ("rem", "i"): "remainder(%s, %s)",
    ("fma", "f"): "fma(%s, %s, %s)", ("sqrt", "f"): "math.sqrt(%s)", ("abs", "f"): "math.fabs(%s)",
    ("floor", "f"): "np.floor(%s)", ("ceil", "f"): "np.ceil(%s)",
    ("trunc", "f"): "np.trunc(%s)", ("rint", "f"): "np.rint(%s)",
}  # fmt: skip
_COMPARE = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
# Integer expressions that Numba computes in 64 bits and that must be brought back.
_WIDENED = frozenset(("add", "sub", "mul", "neg", "not", "shl", "shr", "and", "or", "xor"))
_INFIX = _COMPARE | {"add", "sub", "mul", "div", "and", "or", "xor", "shl", "shr", "neg", "not"}
_INLINE_LENGTH = 60


def write_statements(
    program: ScalarProgram, names: dict[int, str], prefix: str, indent: str, forms: Forms = NJIT_FORMS
) -> tuple[list[str], dict[int, str]]:
    """The statements, and for every id the Python expression that holds it: a name, a constant or a short expression.

    names: id -> Python name, for the `param`s (and anything else already computed, which is then skipped).
    prefix: new names are `<prefix><id>`. A short expression with a single use is written where it is used.
    """
    names = dict(names)
    lines: list[str] = []
    bare: dict[int, str] = {}  # inlined expressions without their parentheses, for use between commas
    instructions = program.instructions
    uses = _uses(program)
    for i, n in enumerate(instructions):
        if i in names or uses[i] == 0:
            continue
        if n.op == "const":
            names[i] = literal(n.attr, n.type)
            continue
        if n.op == "param":
            raise ValueError(f"parameter %{i} has no Python name")
        operands = [names[a] if n.op in _INFIX else bare.get(a, names[a]) for a in n.args]
        if n.op == "invoke":
            expression = f"{n.attr.name}({', '.join(operands)})"
        elif n.op == "call":
            comma = "," if len(operands) == 1 else ""
            expression = f"{_libm_name(n.attr, n.type)}(({', '.join(operands)}{comma}))"
        else:
            expression = _expression(n.op, n.type, instructions[n.args[0]].type, operands, forms)
        if uses[i] == 1 and len(expression) <= _INLINE_LENGTH:
            bare[i] = expression
            names[i] = f"({expression})" if _is_infix(n.op, n.type) else expression
        else:
            names[i] = f"{prefix}{i}"
            lines.append(f"{indent}{names[i]} = {expression}")
    return lines, names


def functions(program: ScalarProgram, forms: Forms = NJIT_FORMS) -> list[str]:
    """The source of every function that the statements call, those used by others first, each once."""
    sources: dict[str, str] = {}
    _collect(program, sources, forms)
    return list(sources.values())


def literal(value: float | int, type: str) -> str:
    """A constant that Numba types as `type`."""
    if type == "i1":
        return "True" if value else "False"
    if type == "i64":
        return str(value) if value >= 0 else f"({value})"
    if type in INTEGERS:
        return f"{NUMBA_TYPE[type]}({value})"
    if math.isnan(value):
        text = "np.nan"
    elif math.isinf(value):
        text = "np.inf" if value > 0 else "-np.inf"
    else:
        text = _shortest_f32(value) if type == "f32" else repr(value)
    return f"float32({text})" if type == "f32" else f"({text})" if text.startswith("-") else text


def _uses(program: ScalarProgram) -> list[int]:
    """How often each id is used; results and slow conditions count twice, so that they get names."""
    uses = [0] * len(program.instructions)
    for kept in (*program.results, *program.slow):
        uses[kept.id] += 2
    for i in range(len(uses) - 1, -1, -1):
        if uses[i] or not (program.results or program.slow):
            for a in program.instructions[i].args:
                uses[a] += 1
    return uses if program.results or program.slow else [count or 2 for count in uses]


def _is_infix(op: str, type: str) -> bool:
    """Whether the written form needs parentheses inside another expression."""
    if op in _WIDENED and type in INTEGERS and type not in ("i64", "u64"):
        return False
    return op in _INFIX


def _expression(op: str, type: str, source: str, operands: list[str], forms: Forms) -> str:
    if op == "convert":
        return f"{NUMBA_TYPE[type]}({operands[0]})"
    if op == "bitcast":
        signs_only = type in INTEGERS and source in INTEGERS
        return f"{NUMBA_TYPE[type]}({operands[0]})" if signs_only else f"bitcast({operands[0]}, {NUMBA_TYPE[type]})"
    kind_of = source if op in _COMPARE else type
    kind = "f" if kind_of in FLOATS else "b" if kind_of == "i1" else "i"
    text = forms[op, kind] % tuple(operands)
    if op in _WIDENED and type in INTEGERS and type not in ("i64", "u64"):
        return f"{NUMBA_TYPE[type]}({text})"
    return text


def _collect(program: ScalarProgram, sources: dict[str, str], forms: Forms) -> None:
    for n in program.instructions:
        if n.op == "call":
            name, symbol = _libm_name(n.attr, n.type), n.attr + ("f" if n.type == "f32" else "")
            sources.setdefault(name, f'{name} = libm_function("{symbol}")\n')
        elif n.op == "invoke" and n.attr.name not in sources:
            inner, source = _function(n.attr) if forms is NJIT_FORMS else _write_function(n.attr, forms)
            _collect(inner, sources, forms)
            sources[n.attr.name] = source


def _libm_name(name: str, type: str) -> str:
    return f"libm_{name}_{type}"


@functools.cache
def _function(outlined: Outlined) -> tuple[ScalarProgram, str]:
    return _write_function(outlined, NJIT_FORMS)


def _write_function(outlined: Outlined, forms: Forms) -> tuple[ScalarProgram, str]:
    program = outlined.program()
    parameters = ["x"] if len(outlined.types) == 1 else [f"x{k}" for k in range(len(outlined.types))]
    ids = [i for i, n in enumerate(program.instructions) if n.op == "param"]
    lines, names = write_statements(program, dict(zip(ids, parameters, strict=True)), "t", "    ", forms)
    summary = (outlined.build.__doc__ or outlined.build.__name__).strip().splitlines()[0]
    source = [
        "@njit(error_model='numpy')",
        f"def {outlined.name}({', '.join(parameters)}):",
        f'    """{summary}"""',
        *lines,
        f"    return {names[program.results[0].id]}",
    ]
    return program, "\n".join(source) + "\n"


def _shortest_f32(value: float) -> str:
    """The shortest decimal that float32() turns into exactly this value."""
    for digits in range(6, 10):
        text = repr(float(f"{value:.{digits}g}"))
        if struct.unpack("<f", struct.pack("<f", float(text)))[0] == value:
            return text
    return repr(value)
