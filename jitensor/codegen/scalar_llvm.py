"""Writes a scalar program's instructions as LLVM IR text.

Owns the mapping from scalar primitives to LLVM instructions, and nothing about loops, loads, stores or functions: the
caller binds parameters to LLVM names and puts the lines where it likes. Truth is `i1`; signedness is in the choice of
instruction; no `nsw`, `nuw` or fast-math flag but `contract` is ever written. In:

    %1 = const 0.5 : f64              out:    %t2 = fmul contract double %a, 0x3FE0000000000000
    %2 = mul %0 %1 : f64 contract
"""

from __future__ import annotations

import functools
import struct

from ..scalar.program import COMPARISONS, FLOATS, INTEGERS, SIGNED, WIDTH, ScalarProgram

LLVM_TYPE = {"i1": "i1", "f32": "float", "f64": "double"} | {t: f"i{WIDTH[t]}" for t in INTEGERS}
_SUFFIX = {"f32": "f32", "f64": "f64"}
_INTRINSIC = {
    "fma": "fma", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint", "abs": "fabs",
}  # fmt: skip
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INTEGER_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl"}
_FCMP = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


def write_instructions(
    program: ScalarProgram, names: dict[int, str], prefix: str, indent: str = "  "
) -> tuple[list[str], dict[int, str]]:
    """The lines for every instruction, and the LLVM name or literal of every id.

    names: id -> LLVM name, for the `param`s (and anything else already computed, which is then skipped).
    prefix: new values are called `%<prefix><id>`.
    """
    names = dict(names)
    lines: list[str] = []
    instructions = program.instructions
    for i, n in enumerate(instructions):
        if i in names:
            continue
        op, args = n.op, n.args
        if op == "const":
            names[i] = literal(n.attr, n.type)
            continue
        if op == "param":
            raise ValueError(f"parameter %{i} has no LLVM name")
        template = _template(op, n.type, instructions[args[0]].type, n.contract, n.attr, len(args))
        names[i] = name = f"%{prefix}{i}"
        if len(args) == 2:
            line = template % (name, names[args[0]], names[args[1]])
        else:
            line = template % (name, *[names[a] for a in args])
        lines.append(indent + line)
    return lines, names


def declarations(program: ScalarProgram) -> set[str]:
    """The `declare` lines that the written instructions need."""
    found = set()
    for n in program.instructions:
        if n.op in _INTRINSIC:
            found.add(_declaration(f"llvm.{_INTRINSIC[n.op]}.{_SUFFIX[n.type]}", n.type, len(n.args)))
        elif n.op == "call":
            found.add(_declaration(libm_symbol(n.attr, n.type), n.type, len(n.args)))
    return found


def libm_symbol(name: str, type: str) -> str:
    return name + "f" if type == "f32" else name


@functools.cache
def _declaration(symbol: str, type: str, count: int) -> str:
    return f"declare {LLVM_TYPE[type]} @{symbol}({', '.join([LLVM_TYPE[type]] * count)})"


def literal(value: float | int, type: str) -> str:
    """A constant as LLVM writes it: floats in exact hexadecimal (f32 too as its f64), integers in decimal."""
    if type in FLOATS:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    return str(int(value)) if type != "i1" else ("true" if value else "false")


@functools.cache
def _template(op: str, type: str, source: str, contract: bool, attr: object, count: int) -> str:
    """`%s = ...` with a `%s` for each operand; `source` is the type of the first."""
    t, s = LLVM_TYPE[type], LLVM_TYPE[source]
    if op in COMPARISONS:
        return f"%s = {_comparison(op, source)} {s} %s, %s"
    if op == "select":
        return f"%s = select i1 %s, {t} %s, {t} %s"
    if op == "convert":
        return _conversion(type, source)
    if op == "bitcast":
        return f"%s = bitcast {s} %s to {t}"  # i64 to i64, between the signs, is legal and free
    if op in _INTRINSIC:
        return f"%s = call {t} @llvm.{_INTRINSIC[op]}.{_SUFFIX[type]}({', '.join([f'{t} %s'] * count)})"
    if op == "call":
        return f"%s = call {t} @{libm_symbol(str(attr), type)}({', '.join([f'{t} %s'] * count)})"
    if op == "invoke":
        raise ValueError("an outlined scalar program has no LLVM form: build it with outline=False")
    if type in FLOATS:
        if op == "neg":
            return f"%s = fneg {t} %s"
        return f"%s = {_FLOAT_OPS[op]} {'contract ' if contract else ''}{t} %s, %s"
    return _integer(op, type, t)


def _comparison(op: str, source: str) -> str:
    if source in FLOATS:
        return f"fcmp {_FCMP[op]}"
    if op in ("eq", "ne"):
        return f"icmp {op}"
    return f"icmp {'s' if source in SIGNED else 'u'}{op}"


def _integer(op: str, type: str, t: str) -> str:
    if op == "neg":
        return f"%s = sub {t} 0, %s"
    if op == "not":
        return f"%s = xor {t} %s, {'true' if type == 'i1' else '-1'}"
    signed = type in SIGNED
    if op == "shr":
        return f"%s = {'ashr' if signed else 'lshr'} {t} %s, %s"
    if op in ("quo", "rem"):
        return f"%s = {'s' if signed else 'u'}{'div' if op == 'quo' else 'rem'} {t} %s, %s"
    return f"%s = {_INTEGER_OPS[op]} {t} %s, %s"


def _conversion(type: str, source: str) -> str:
    t, s = LLVM_TYPE[type], LLVM_TYPE[source]
    if source in FLOATS:
        if type in FLOATS:
            word = "fptrunc" if type == "f32" else "fpext"
        else:
            word = "fptosi" if type in SIGNED else "fptoui"
    elif type in FLOATS:
        word = "sitofp" if source in SIGNED else "uitofp"
    elif WIDTH[type] == WIDTH[source]:
        word = "bitcast"
    elif WIDTH[type] < WIDTH[source]:
        word = "trunc"
    else:
        word = "sext" if source in SIGNED else "zext"
    return f"%s = {word} {s} %s to {t}"
