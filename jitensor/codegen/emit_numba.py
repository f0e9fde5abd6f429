"""Loop nest -> readable `@njit` source: what `f.kernels()` shows and what `JITENSOR_BACKEND=njit` runs.

Owns names, indentation and the few intrinsics that Python cannot say (`PRELUDE`). Must not know NumPy arrays, sizes or
how source is compiled (runtime.njit). The kernel `b1[] = sum(b0 * b0)` becomes:

    @njit(error_model="numpy", fastmath={"contract"})
    def k_3f9a(buffers, ints, scalars, begin, end):
        b0 = at(buffers[0], 0, float64)
        b1 = at(buffers[1], 0, float64)
        n0 = ints[0]
        total = 0.0
        lost = 0.0
        for block in range(0, n0, 512):
            stop = min(block + 512, n0)
            part = 0.0
            for r0 in range(block, stop):
                t0 = b0[r0]
                t1 = t0 * t0
                part = add_any_order(part, t1)
            ...

`contract` is the kernel's; scalar functions are functions of their own, compiled without it, and a product of strict
code that stands in the kernel itself is a `strict_mul`. So the results equal the LLVM writer's bit for bit, except
where `contract` or the order of a float sum allows otherwise.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jitensor.codegen import scalar_numba
from jitensor.codegen.advice import advise
from jitensor.codegen.kernel import Kernel
from jitensor.codegen.nest import (
    Accumulate,
    For,
    Get,
    If,
    IntOp,
    Let,
    Load,
    LoadArgument,
    Nest,
    Place,
    Set,
    StackArray,
    Store,
    Variable,
)
from jitensor.codegen.scalar_numba import NJIT, NUMBA_TYPE, Dialect, functions, literal, write_statements
from jitensor.codegen.schedule import schedule
from jitensor.scalar.program import FLOATS, INTEGERS, WIDTH, Outlined, ScalarProgram

SCALAR_SLOT = 16  # bytes of a host number's slot: complex128 fills it
DECORATOR = '@njit(error_model="numpy", fastmath={"contract"})'

_IMPORTS = "from numba import njit\n"
PRELUDE = (
    scalar_numba.PRELUDE.replace(
        _IMPORTS, f"{_IMPORTS}from numba.core import cgutils, types\nfrom numba.core.typing import signature\n"
    )
    + '''

@intrinsic
def at(typingctx, pointer, offset, dtype):
    """The typed pointer `offset` bytes after `pointer`."""

    def codegen(context, builder, sig, args):
        address = builder.gep(builder.bitcast(args[0], ir.IntType(8).as_pointer()), [args[1]])
        return builder.bitcast(address, context.get_value_type(sig.return_type))

    return signature(types.CPointer(dtype.dtype), pointer, types.int64, dtype), codegen


@intrinsic(prefer_literal=True)
def stack_array(typingctx, length, dtype):
    """A pointer to `length` elements on the stack, not yet set."""

    def codegen(context, builder, sig, args):
        kind = ir.ArrayType(context.get_data_type(dtype.dtype), length.literal_value)
        with builder.goto_entry_block():
            array = builder.alloca(kind)
        array.align = 64
        return builder.bitcast(array, context.get_value_type(sig.return_type))

    return signature(types.CPointer(dtype.dtype), length, dtype), codegen


@njit(error_model="numpy", fastmath={"reassoc"})
def add_any_order(a, b):
    """a + b, as one addition of a sum whose order does not matter: a loop of it becomes vector code."""
    return a + b


@njit(error_model="numpy", fastmath=False)
def strict_mul(a, b):
    """a * b, rounded: never part of an fma."""
    return a * b


def extreme(function):
    """The larger or smaller of two floats, whatever nan and signs of zeros give: a loop of it becomes vector code."""

    @intrinsic
    def codegen_of(typingctx, a, b):
        def codegen(context, builder, sig, args):
            kind = args[0].type
            name = f"llvm.{function}.f{a.bitwidth}"
            callee = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind]), name)
            return builder.call(callee, args, fastmath=("nnan", "nsz"))

        return a(a, a), codegen

    return codegen_of


larger = extreme("maxnum")
smaller = extreme("minnum")


@intrinsic(prefer_literal=True)
def advise_loop_above(typingctx, advice, value):
    """Tell LLVM how to make vector code of the loop that ends just above. It changes no result."""

    def codegen(context, builder, sig, args):
        name, module = advice.literal_value, builder.module
        ends = [block.terminator for block in builder.function.blocks if block.is_terminated]
        exits = [end for end in ends if isinstance(end, ir.ConditionalBranch) and builder.block in end.operands]
        if exits:
            # A loop's head is several blocks, named after one place in Python. LLVM will jump back from the first.
            head = exits[0].parent.name.split(".")[0]
            branch = next(end for end in ends if end.parent.name == head)
            flag = ir.IntType(1 if name.endswith("enable") else 32)(value.literal_value)
            loop = module.add_metadata([ir.MetaDataString(module, f"loop {id(branch)}")])
            loop.operands = (loop, module.add_metadata([ir.MetaDataString(module, f"llvm.loop.{name}"), flag]))
            branch.set_metadata("llvm.loop", loop)
        return context.get_dummy_value()

    return signature(types.void, advice, value), codegen
'''
)

# What a nest calls a value, and what Python may not: names that are taken, or that say too little.
_STEM = {"end": "stop", "v": "u"}
_RESERVED = ("buffers", "ints", "scalars", "begin", "end", "at", "min", "range", "larger", "smaller", "select", "np")
_ACCUMULATE = {"sum": "add_any_order({}, {})", "max": "larger({}, {})", "min": "smaller({}, {})"}
_INTEGER = {"add": "+", "sub": "-", "mul": "*"}
_CONTRACTING = Dialect({**NJIT.forms, ("strict mul", "f"): "strict_mul({0}, {1})"}, NJIT.decorator)
_ANONYMOUS = re.compile(r"\b_e(\d+)\b")  # a value of a scalar program that has no name yet


def emit_numba(kernel: Kernel, symbol: str) -> str:
    """The source that defines `symbol(buffers, ints, scalars, begin, end)`, to be run after PRELUDE."""
    return _Writer(schedule(kernel, outline=True)).run(symbol, kernel.text)


class _Writer:
    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.lines: list[str] = []
        self.depth = 1
        self.names: dict[str, str] = {}  # of the nest -> Python
        self.taken: dict[str, str] = {}  # Python names in use here -> type
        self.version: dict[str, int] = {}  # of each variable: how often it was set
        self.seen: dict[str, tuple[str, int]] = {}  # name of the nest -> the variable and version that it stands for
        self.scalar_functions: dict[str, None] = {}

    def run(self, symbol: str, text: str) -> str:
        fixed = [*(f"b{i}" for i in range(len(self.nest.buffers))), *self.nest.ints]
        self.taken |= dict.fromkeys([*_RESERVED, *fixed, *_loops(self.nest.body)], "i64")
        self.block(self.nest.body)
        body, self.lines = self.lines, []
        used = set(re.findall(r"\w+", "\n".join(body)))
        for i, (kind, _) in enumerate(self.nest.buffers):
            if f"b{i}" in used:
                self.put(f"b{i} = at(buffers[{i}], 0, {NUMBA_TYPE[kind]})")
        for i, name in enumerate(self.nest.ints):
            if name in used:
                self.put(f"{name} = ints[{i}]")
        head = [DECORATOR, f"def {symbol}(buffers, ints, scalars, begin, end):", *_docstring(text)]
        kernel = "\n".join([*head, *self.lines, *body, "    return 0", ""])
        return "\n\n".join([*self.scalar_functions, kernel])

    # Names and lines --------------------------------------------------------------------------------------------------

    def put(self, line: str, *, outdent: int = 0) -> None:
        self.lines.append("    " * (self.depth - outdent) + line)

    def value(self, name: Any) -> str:
        if not isinstance(name, str):
            return str(name)
        if name in self.seen:
            variable, version = self.seen[name]
            if self.version[variable] != version:
                raise AssertionError(f"{name} was read from {variable}, which has been set since")
        return self.names.get(name, name)

    def stand_for(self, name: str, python: str) -> None:
        """Lets a name of the nest be a Python expression; if that is a variable, until the variable is set."""
        self.names[name] = python
        if python in self.version:
            self.seen[name] = python, self.version[python]

    def bind(self, name: str, kind: str) -> str:
        """A Python name for a name of the nest: what stands before its serial number, if that is free here."""
        stem = name.rsplit("_", 1)[0]
        self.names[name] = python = self.free(_STEM.get(stem, stem), kind)
        return python

    def free(self, stem: str, kind: str) -> str:
        python, count = stem, 1
        while python in self.taken:
            count += 1
            python = f"{stem}_{count}"
        self.taken[python] = kind
        return python

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Indents. Names bound inside are free again after it: the values cannot be used there."""
        names, taken = self.names, self.taken
        self.names, self.taken = dict(names), dict(taken)
        self.depth += 1
        yield
        self.depth -= 1
        self.names, self.taken = names, taken

    def block(self, body: list[Any]) -> None:
        for statement in body:
            getattr(self, type(statement).__name__)(statement)

    # Statements -------------------------------------------------------------------------------------------------------

    def Let(self, s: Let) -> None:
        params = {i: self.value(n) for i, n in s.params.items()}
        lines, written = write_statements(s.program, params, "_e", "", _CONTRACTING)
        self.scalar_functions |= dict.fromkeys(functions(s.program))
        python: dict[str, str] = {}
        for name, i in s.results:
            if _ANONYMOUS.fullmatch(written[i]):
                known = python.get(written[i])
                python[written[i]] = self.names[name] = known or self.bind(name, s.program.instructions[i].type)
            else:
                self.stand_for(name, written[i])

        def named(match: re.Match[str]) -> str:
            text = match.group()
            if text not in python:
                python[text] = self.free("u", s.program.instructions[int(match.group(1))].type)
            return python[text]

        for line in lines:
            self.put(_ANONYMOUS.sub(named, line))

    def place(self, place: Place) -> str:
        base = f"b{place.base}" if isinstance(place.base, int) else self.value(place.base)
        terms = [place.offset] if place.offset is not None else []
        for variable, stride in place.terms:
            index = self.value(variable)
            terms.append(index if stride == 1 else f"{_factor(index)} * {self.value(stride)}")
        index = " + ".join(terms) or "0"
        if place.scale != 1:
            index = f"{_factor(index)} * {place.scale}" if terms else "0"
            index = f"{index} + {place.part}" if place.part and terms else str(place.part) if place.part else index
        return f"{base}[{index}]"

    def Load(self, s: Load) -> None:
        place = self.place(s.place)
        self.put(f"{self.bind(s.name, s.type)} = {place}{' != 0' if s.type == 'i1' else ''}")

    def Store(self, s: Store) -> None:
        self.put(f"{self.place(s.place)} = {self.value(s.value)}")

    def LoadArgument(self, s: LoadArgument) -> None:
        offset = s.slot * SCALAR_SLOT + s.part * (WIDTH[s.type] // 8)
        self.put(f"{self.bind(s.name, s.type)} = at(scalars, {offset}, {NUMBA_TYPE[s.type]})[0]")

    def Variable(self, s: Variable) -> None:
        if isinstance(s.start, str):
            start = self.value(s.start)
        else:
            start = literal(float(s.start) if s.type in FLOATS else s.start, s.type)
        name = self.names.get(s.name) or self.bind(s.name, s.type)
        self.assign(name, start)

    def Get(self, s: Get) -> None:
        self.stand_for(s.name, self.names[s.variable])

    def Set(self, s: Set) -> None:
        self.assign(self.names[s.variable], self.value(s.value))

    def assign(self, variable: str, value: str) -> None:
        self.version[variable] = self.version.get(variable, 0) + 1
        self.put(f"{variable} = {value}")

    def Accumulate(self, s: Accumulate) -> None:
        variable, value = self.names[s.variable], self.value(s.value)
        if s.op in ("max", "min") and s.type in INTEGERS:
            text = f"{s.op}({variable}, {value})"
        elif s.op in _ACCUMULATE:
            text = _ACCUMULATE[s.op].format(variable, value)
        else:
            text = f"{variable} {dict(_INTEGER, **{'or': '|', 'and': '&'})[s.op]} {value}"
            if s.type in INTEGERS and s.type not in ("i64", "u64"):
                text = f"{NUMBA_TYPE[s.type]}({text})"
        self.assign(variable, text)

    def StackArray(self, s: StackArray) -> None:
        self.put(f"{self.bind(s.name, s.type)} = stack_array({s.length}, {NUMBA_TYPE[s.type]})")

    def IntOp(self, s: IntOp) -> None:
        a, b = self.value(s.a), self.value(s.b)
        if s.op == "min":
            self.put(f"{self.bind(s.name, 'i64')} = min({a}, {b})")
        else:
            self.names[s.name] = f"{_factor(a)} {_INTEGER[s.op]} {_factor(b)}"

    def For(self, s: For) -> None:
        with self.scope():
            variable = s.variable if s.variable in self.taken else self.bind(s.variable, "i64")
            step = "" if s.step == 1 else f", {s.step}"
            self.put(f"for {variable} in range({self.value(s.start)}, {self.value(s.stop)}{step}):", outdent=1)
            self.block_under_header(s.body)
        if s.vector and not any(isinstance(b, For) for b in s.body):
            self.advise(s.body)

    def advise(self, body: list[Any]) -> None:
        lets = [_size(statement.program) for statement in body if isinstance(statement, Let)]
        length, fmas = sum(n for n, _ in lets) + 2 * (len(body) - len(lets)), sum(f for _, f in lets)
        found = advise(length, fmas, accumulates=any(isinstance(b, Accumulate) for b in body))
        if found is not None:
            self.put(f'advise_loop_above("{found[0]}", {found[1]})')

    def If(self, s: If) -> None:
        self.put(f"if {self.value(s.condition)}:")
        with self.scope():
            self.block_under_header(s.body)

    def block_under_header(self, body: list[Any]) -> None:
        """The block; without its header if it has no lines, since names alone need none."""
        empty = len(self.lines)
        self.block(body)
        if len(self.lines) == empty:
            self.lines.pop()


def _size(program: ScalarProgram) -> tuple[int, int]:
    """How many instructions, and how many fma among them, when the functions are expanded."""
    length = fmas = 0
    for n in program.instructions:
        if n.op == "invoke":
            inner = _function_size(n.attr)
            length, fmas = length + inner[0], fmas + inner[1]
        elif n.op not in ("const", "param"):
            length, fmas = length + 1, fmas + (n.op == "fma")
    return length, fmas


@functools.cache
def _function_size(outlined: Outlined) -> tuple[int, int]:
    return _size(outlined.program())


def _factor(text: str) -> str:
    return f"({text})" if " " in text else text


def _docstring(text: str) -> list[str]:
    return [f'    """{text.splitlines()[0]}', *[f"    {line}" for line in text.splitlines()[1:]], '    """']


def _loops(body: list[Any]) -> Iterator[str]:
    """The names of loop variables that stand for a kernel's loops: they keep their names."""
    for statement in body:
        if isinstance(statement, For):
            if re.fullmatch(r"[ir]\d+", statement.variable):
                yield statement.variable
            yield from _loops(statement.body)
