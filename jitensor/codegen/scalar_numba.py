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
import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

from ..scalar.program import FLOATS, INTEGERS, SIGNED, UNSIGNED, WIDTH, Instruction, Outlined, ScalarProgram

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


class Dialect(NamedTuple):
    """How a target's Python spells the primitives. Another target (CUDA) replaces some forms.

    forms: (op, kind of type) -> template with `{0}`, `{1}` ... for the operands and `{type}` for the result type's
    name; kinds are f (float), i (integer), b (truth). `strict mul`, where present, is a product that may not become
    part of an fma, for a caller that is compiled with `contract`. decorator: the line above each scalar function.
    """

    forms: Mapping[tuple[str, str], str]
    decorator: str


_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^", "shl": "<<", "shr": ">>",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
NJIT = Dialect(
    {
        **{(op, kind): f"{{0}} {sign} {{1}}" for op, sign in _SIGNS.items() for kind in "fib"},
        **{("select", kind): "select({0}, {1}, {2})" for kind in "fib"},
        **{("convert", kind): "{type}({0})" for kind in "fi"},
        **{("bitcast", kind): "bitcast({0}, {type})" for kind in "fi"},
        ("neg", "f"): "-{0}", ("neg", "i"): "-{0}", ("not", "i"): "~{0}", ("not", "b"): "not {0}",
        ("quo", "i"): "quotient({0}, {1})", ("rem", "i"): "remainder({0}, {1})",
        ("fma", "f"): "fma({0}, {1}, {2})", ("sqrt", "f"): "math.sqrt({0})", ("abs", "f"): "math.fabs({0})",
        ("floor", "f"): "np.floor({0})", ("ceil", "f"): "np.ceil({0})",
        ("trunc", "f"): "np.trunc({0})", ("rint", "f"): "np.rint({0})",
    },
    # Said although it is the default: a function otherwise takes its caller's flags.
    '@njit(error_model="numpy", fastmath=False)',
)  # fmt: skip
_COMPARE = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
# Integer expressions that Numba computes in 64 bits and that must be brought back.
_WIDENED = frozenset(("add", "sub", "mul", "neg", "not", "shl", "shr", "and", "or", "xor"))
_INLINE_LENGTH = 60


def write_statements(
    program: ScalarProgram, names: dict[int, str], prefix: str, indent: str, dialect: Dialect = NJIT
) -> tuple[list[str], dict[int, str]]:
    """The statements, and for every id the Python expression that holds it: a name, a constant or a short expression.

    names: id -> Python name, for the `param`s (and anything else already computed, which is then skipped).
    prefix: new names are `<prefix><id>`. A short expression with a single use is written where it is used.
    """
    names = dict(names)
    lines: list[str] = []
    bare: dict[int, str] = {}  # what is in parentheses in `names`, without them: for use between commas
    instructions = program.instructions
    uses = _uses(program)
    for i, n in enumerate(instructions):
        if i in names or uses[i] == 0:
            continue
        if n.op == "const":
            bare[i] = literal(n.attr, n.type)
            names[i] = f"({bare[i]})" if bare[i].startswith("-") else bare[i]
            continue
        if n.op == "param":
            raise ValueError(f"parameter %{i} has no Python name")
        form, enclosed = _form(n, instructions, dialect)
        operands = [bare.get(a, names[a]) if enclosed else names[a] for a in n.args]
        expression = form.format(*operands, type=NUMBA_TYPE[n.type])
        if uses[i] == 1 and len(expression) <= _INLINE_LENGTH:
            bare[i] = expression
            names[i] = expression if _is_enclosed(form) else f"({expression})"
        else:
            names[i] = f"{prefix}{i}"
            lines.append(f"{indent}{names[i]} = {expression}")
    return lines, names


def functions(program: ScalarProgram, dialect: Dialect = NJIT) -> list[str]:
    """The source of every function that the statements call, those used by others first, each once."""
    sources: dict[str, str] = {}
    _collect(program, sources, dialect)
    return list(sources.values())


def literal(value: float | int, type: str) -> str:
    """A constant that Numba types as `type`."""
    if type == "i1":
        return "True" if value else "False"
    if type in INTEGERS:
        text = f"0x{value:X}" if type in UNSIGNED and value > 0xFFFF else str(value)
        return text if type == "i64" else f"{NUMBA_TYPE[type]}({text})"
    if math.isnan(value):
        text = "np.nan"
    elif math.isinf(value):
        text = "np.inf" if value > 0 else "-np.inf"
    else:
        text = _shortest_f32(value) if type == "f32" else repr(value)
    return f"float32({text})" if type == "f32" else text


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


def _form(n: Instruction, instructions: list[Instruction], dialect: Dialect) -> tuple[str, bool]:
    """The template of an instruction, and whether its operands stand between commas or parentheses of their own."""
    commas = ", ".join(f"{{{k}}}" for k in range(len(n.args)))
    if n.op == "invoke":
        return f"{n.attr.name}({commas})", True
    if n.op == "call":
        return f"{_libm_name(n.attr, n.type)}(({commas}{',' if len(n.args) == 1 else ''}))", True
    source = instructions[n.args[0]].type
    if n.op == "bitcast" and n.type in INTEGERS and source in INTEGERS:
        return dialect.forms["convert", "i"], True
    kind_of = source if n.op in _COMPARE else n.type
    kind = "f" if kind_of in FLOATS else "b" if kind_of == "i1" else "i"
    form = dialect.forms[n.op, kind]
    if n.op == "mul" and not n.contract:
        form = dialect.forms.get(("strict mul", kind), form)
    if n.op in _WIDENED and n.type in INTEGERS and WIDTH[n.type] < 64:
        return f"{{type}}({form})", False
    return form, _is_enclosed(form)


@functools.cache
def _is_enclosed(form: str) -> bool:
    """Whether the form is a call, so that it needs no parentheses around it and its operands none of theirs."""
    return re.fullmatch(r"[\w.{}]+\(.*\)", form) is not None


def _collect(program: ScalarProgram, sources: dict[str, str], dialect: Dialect) -> None:
    for n in program.instructions:
        if n.op == "call":
            name, symbol = _libm_name(n.attr, n.type), n.attr + ("f" if n.type == "f32" else "")
            sources.setdefault(name, f'{name} = libm_function("{symbol}")\n')
        elif n.op == "invoke" and n.attr.name not in sources:
            inner, source = _function(n.attr) if dialect is NJIT else _write_function(n.attr, dialect)
            _collect(inner, sources, dialect)
            sources[n.attr.name] = source


def _libm_name(name: str, type: str) -> str:
    return f"libm_{name}_{type}"


@functools.cache
def _function(outlined: Outlined) -> tuple[ScalarProgram, str]:
    return _write_function(outlined, NJIT)


def _write_function(outlined: Outlined, dialect: Dialect) -> tuple[ScalarProgram, str]:
    program = outlined.program()
    parameters = ["x"] if len(outlined.types) == 1 else [f"x{k}" for k in range(len(outlined.types))]
    ids = [i for i, n in enumerate(program.instructions) if n.op == "param"]
    lines, names = write_statements(program, dict(zip(ids, parameters, strict=True)), "t", "    ", dialect)
    summary = (outlined.build.__doc__ or outlined.build.__name__).strip().splitlines()[0]
    source = [
        dialect.decorator,
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
