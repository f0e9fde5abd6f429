"""Loop nest -> LLVM IR text: scalar loops, which LLVM's own vectoriser turns into vector code.

Every buffer that is written has an alias scope, so that no run-time overlap check guards the loops. No `nsw`, no
fast-math flag but `contract` on user arithmetic, `reassoc` on the adds of a block sum, and `nnan nsz` on a maximum with
a flag beside it that sees nan.
"""

from __future__ import annotations

from typing import Any

from jitensor.codegen.advice import advise
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
from jitensor.codegen.scalar_llvm import LLVM_TYPE, declarations, literal, write_instructions
from jitensor.scalar.program import FLOATS, SIGNED, WIDTH

SCALAR_SLOT = 16  # bytes of a host number's slot: complex128 fills it
_ACCUMULATE = {"sum": "fadd reassoc", "add": "add", "or": "or", "and": "and"}


def emit_llvm(nest: Nest, symbol: str) -> str:
    """The text of a module that defines `i64 @symbol(ptr %buffers, ptr %ints, ptr %scalars, i64 %begin, i64 %end)`."""
    return _Writer(nest).run(symbol)


class _Writer:
    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.declared: set[str] = set()
        self.names: dict[str, str] = {}  # names that stand for literals or other values
        self.types: dict[str, str] = {}
        self.variables: set[str] = set()
        self.label = "entry"
        self.serial = 0
        self.loops: list[str] = []  # metadata of loops

    def run(self, symbol: str) -> str:
        for i in range(len(self.nest.buffers)):
            self.emit(f"%bp{i} = getelementptr ptr, ptr %buffers, i64 {i}")
            self.emit(f"%b{i} = load ptr, ptr %bp{i}, align 8, !invariant.load !0")
        for i, name in enumerate(self.nest.ints):
            self.emit(f"%ip{i} = getelementptr i64, ptr %ints, i64 {i}")
            self.emit(f"%{name} = load i64, ptr %ip{i}, align 8, !invariant.load !0")
        self.block(self.nest.body)
        body = [*self.allocas, *self.lines]
        return "\n".join(
            [
                *sorted(self.declared),
                f"define i64 @{symbol}(ptr %buffers, ptr %ints, ptr %scalars, i64 %begin, i64 %end) {{",
                "entry:",
                *body,
                "  ret i64 0",
                "}",
                *self.metadata(),
                "",
            ]
        )

    def metadata(self) -> list[str]:
        """One alias scope per written buffer; the list each access names says what it cannot overlap."""
        lines = [*self.loops, "!0 = !{}", '!1 = distinct !{!1, !"buffers"}']
        written = [i for i, (_, w) in enumerate(self.nest.buffers) if w]
        for i in written:
            lines.append(f'!{10 + i * 3} = distinct !{{!{10 + i * 3}, !1, !"b{i}"}}')
            lines.append(f"!{11 + i * 3} = !{{!{10 + i * 3}}}")
        for i in range(len(self.nest.buffers)):
            others = ", ".join(f"!{10 + j * 3}" for j in written if j != i)
            lines.append(f"!{12 + i * 3} = !{{{others}}}")
        return lines

    def scopes(self, base: int | str) -> str:
        if isinstance(base, str):
            return ""
        own = f", !alias.scope !{11 + base * 3}" if self.nest.buffers[base][1] else ""
        return f"{own}, !noalias !{12 + base * 3}"

    def emit(self, line: str) -> None:
        self.lines.append("  " + line)

    def fresh(self, stem: str) -> str:
        self.serial += 1
        return f"%{stem}.{self.serial}"

    def value(self, name: Any, type: str = "i64") -> str:
        if isinstance(name, str):
            return self.names.get(name, f"%{name}")
        return literal(name, type)

    def block(self, body: list[Any]) -> None:
        for statement in body:
            getattr(self, type(statement).__name__)(statement)

    # Statements -------------------------------------------------------------------------------------------------------

    def Let(self, s: Let) -> None:
        self.serial += 1
        params = {i: self.value(n) for i, n in s.params.items()}
        lines, names = write_instructions(s.program, params, f"e{self.serial}.")
        self.lines += lines
        self.declared |= declarations(s.program)
        for name, i in s.results:
            self.names[name] = names[i]

    def address(self, place: Place, type: str) -> str:
        base = f"%b{place.base}" if isinstance(place.base, int) else f"%{place.base}"
        index = self.value(place.offset) if place.offset is not None else ""
        for variable, stride in place.terms:
            term = self.value(variable)
            if stride != 1:
                product = self.fresh("m")
                self.emit(f"{product} = mul i64 {term}, {self.value(stride)}")
                term = product
            if index:
                total = self.fresh("a")
                self.emit(f"{total} = add i64 {index}, {term}")
                index = total
            else:
                index = term
        if place.scale != 1:
            scaled = self.fresh("m")
            self.emit(f"{scaled} = mul i64 {index or 0}, {place.scale}")
            index = scaled
            if place.part:
                index = self.fresh("a")
                self.emit(f"{index} = add i64 {scaled}, {place.part}")
        if not index:
            return base
        pointer = self.fresh("p")
        self.emit(f"{pointer} = getelementptr {type}, ptr {base}, i64 {index}")
        return pointer

    def Load(self, s: Load) -> None:
        t = LLVM_TYPE[s.type]
        pointer = self.address(s.place, t)
        loaded = f"%{s.name}"
        self.emit(f"{loaded} = load {t}, ptr {pointer}, align {max(WIDTH[s.type] // 8, 1)}{self.scopes(s.place.base)}")
        if isinstance(s.place.base, str) and s.type == "i1":
            raise AssertionError("truth values are stored as bytes")

    def Store(self, s: Store) -> None:
        t = LLVM_TYPE[s.type]
        pointer = self.address(s.place, t)
        self.emit(
            f"store {t} {self.value(s.value)}, ptr {pointer}, align {max(WIDTH[s.type] // 8, 1)}"
            f"{self.scopes(s.place.base)}"
        )

    def LoadArgument(self, s: LoadArgument) -> None:
        pointer = self.fresh("p")
        offset = s.slot * SCALAR_SLOT + s.part * (WIDTH[s.type] // 8)
        self.emit(f"{pointer} = getelementptr i8, ptr %scalars, i64 {offset}")
        self.emit(f"%{s.name} = load {LLVM_TYPE[s.type]}, ptr {pointer}, !invariant.load !0")

    def Variable(self, s: Variable) -> None:
        if s.name not in self.variables:
            self.variables.add(s.name)
            self.allocas.append(f"  %{s.name} = alloca {LLVM_TYPE[s.type]}")
        self.emit(f"store {LLVM_TYPE[s.type]} {self.value(s.start, s.type)}, ptr %{s.name}")

    def Get(self, s: Get) -> None:
        loaded = self.fresh(s.name)
        self.emit(f"{loaded} = load {LLVM_TYPE[s.type]}, ptr %{s.variable}")
        self.names[s.name] = loaded

    def Set(self, s: Set) -> None:
        self.emit(f"store {LLVM_TYPE[s.type]} {self.value(s.value)}, ptr %{s.variable}")

    def Accumulate(self, s: Accumulate) -> None:
        t = LLVM_TYPE[s.type]
        old, new = self.fresh("old"), self.fresh("new")
        self.emit(f"{old} = load {t}, ptr %{s.variable}")
        if s.op in ("max", "min") and s.type not in FLOATS:
            function = f"llvm.{'s' if s.type in SIGNED else 'u'}{s.op}.{t}"
            self.declared.add(f"declare {t} @{function}({t}, {t})")
            self.emit(f"{new} = call {t} @{function}({t} {old}, {t} {self.value(s.value)})")
        elif s.op in ("max", "min"):
            function = f"llvm.{s.op}num.{s.type}"
            self.declared.add(f"declare {t} @{function}({t}, {t})")
            self.emit(f"{new} = call nnan nsz {t} @{function}({t} {old}, {t} {self.value(s.value)})")
        else:
            op = "fadd" if s.op == "add" and s.type in FLOATS else _ACCUMULATE[s.op]
            self.emit(f"{new} = {op} {t} {old}, {self.value(s.value)}")
        self.emit(f"store {t} {new}, ptr %{s.variable}")

    def StackArray(self, s: StackArray) -> None:
        self.allocas.append(f"  %{s.name} = alloca [{s.length} x {LLVM_TYPE[s.type]}], align 64")

    def IntOp(self, s: IntOp) -> None:
        a, b = self.value(s.a), self.value(s.b)
        if s.op == "min":
            self.declared.add("declare i64 @llvm.smin.i64(i64, i64)")
            self.emit(f"%{s.name} = call i64 @llvm.smin.i64(i64 {a}, i64 {b})")
        else:
            self.emit(f"%{s.name} = {s.op} i64 {a}, {b}")

    def advice(self, s: For, length: int) -> str:
        """Loop metadata for LLVM's vectoriser and unroller."""
        if isinstance(s.start, int) and isinstance(s.stop, int):
            return self.loop_metadata("llvm.loop.unroll.full", "")
        if not s.vector or any(isinstance(b, For) for b in s.body):
            return ""
        fmas = sum("@llvm.fma." in line for line in self.lines[-length:])
        found = advise(length, fmas, accumulates=any(isinstance(b, Accumulate) for b in s.body))
        if found is None:
            return ""
        name, value = found
        return self.loop_metadata(f"llvm.loop.{name}", f", {'i1' if name.endswith('enable') else 'i32'} {value}")

    def loop_metadata(self, name: str, value: str) -> str:
        number = 1000 + 2 * len(self.loops)
        self.loops += [f"!{number} = distinct !{{!{number}, !{number + 1}}}", f'!{number + 1} = !{{!"{name}"{value}}}']
        return f", !llvm.loop !{number}"

    def For(self, s: For) -> None:
        self.serial += 1
        n = self.serial
        variable = f"%{s.variable}.{n}"
        before = self.label
        shadowed = self.names.get(s.variable)
        self.emit(f"br label %head{n}")
        self.lines.append(f"head{n}:")
        start, stop = self.value(s.start), self.value(s.stop)
        self.emit(f"{variable} = phi i64 [ {start}, %{before} ], [ {variable}.next, %latch{n} ]")
        self.emit(f"%more{n} = icmp slt i64 {variable}, {stop}")
        self.emit(f"br i1 %more{n}, label %body{n}, label %exit{n}")
        self.lines.append(f"body{n}:")
        self.label = f"body{n}"
        self.names[s.variable] = variable
        first = len(self.lines)
        self.block(s.body)
        self.emit(f"br label %latch{n}")
        self.lines.append(f"latch{n}:")
        self.emit(f"{variable}.next = add i64 {variable}, {s.step}")
        self.emit(f"br label %head{n}{self.advice(s, len(self.lines) - first)}")
        self.lines.append(f"exit{n}:")
        self.label = f"exit{n}"
        if shadowed is not None:
            self.names[s.variable] = shadowed

    def If(self, s: If) -> None:
        self.serial += 1
        n = self.serial
        self.emit(f"br i1 {self.value(s.condition)}, label %then{n}, label %done{n}")
        self.lines.append(f"then{n}:")
        self.label = f"then{n}"
        self.block(s.body)
        self.emit(f"br label %done{n}")
        self.lines.append(f"done{n}:")
        self.label = f"done{n}"
