"""Kernel -> loop nest for a CPU: which loops, in what order, with which accumulators and scratch.

Row form: for each kept index, phases of loops over the reduced axes, in blocks of elements whose sums are added
with compensation. Column form (memory runs along the last kept loop): blocks of 256 kept elements, with one accumulator
each on the stack, inside the reduced loops. Without reductions: plain nested loops, the last of which becomes vector
code.

A phase reads the results of earlier phases (softmax: maximum; sum of exponentials; quotients). What an expensive op
computed in one phase and a later phase needs again is kept in a scratch row on the stack while the row fits there.

A full reduction of many elements runs in stages (`Stages`): chunks, whose partial results go to memory, then their
combination, for each phase.

A function with a rare slow path marks elements; the block that holds one is done again with the exact program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jitensor.codegen import layout
from jitensor.codegen.columns import COLUMNS, Column
from jitensor.codegen.kernel import EXPENSIVE, SCRATCH, STRIDED, Access, Kernel, Op, int_layout
from jitensor.codegen.nest import (
    Accumulate,
    For,
    Get,
    If,
    IntOp,
    Let,
    Load,
    LoadArgument,
    Name,
    Nest,
    Place,
    StackArray,
    Store,
    Variable,
)
from jitensor.codegen.stages import Stages
from jitensor.codegen.totals import Env, Parts, Total, stored
from jitensor.codegen.work import phases
from jitensor.ir.types import DType
from jitensor.scalar.program import (
    ScalarProgram,
    ScalarValue,
    convert,
    not_equal,
)

# Elements of a row's sum added without compensation. A vector of accumulators adds 4 x 8 float64 or 4 x 16 float32 at a
# time, so each takes 3 or 8 of them. Measured on 100 draws of 1e5 float64, the worst error of mean((x-y)**2) is 1.7
# half-ulp with blocks of 96, 3.1 with 128 to 512, and NumPy's 3.1; a sum takes a tenth longer.
BLOCKS = {"f64": 96, "f32": 512}
LANES = 256  # the length of a block that may be redone


def schedule(kernel: Kernel, *, outline: bool = False) -> Nest:
    """outline: keep scalar functions apart, for a writer that prints functions."""
    return Scheduler(kernel, outline).run()


class Scheduler:
    def __init__(self, kernel: Kernel, outline: bool) -> None:
        self.kernel = kernel
        self.outline = outline
        self.offsets, self.strides, count = int_layout(kernel)
        self.ints = [f"n{k}" for k in range(len(kernel.reduced))] + [""] * (count - len(kernel.reduced))
        for access, position in self.offsets.items():
            self.ints[position] = f"o{access}"
        for (access, loop), position in self.strides.items():
            self.ints[position] = f"s{access}_{loop}"
        self.serial = 0
        self.loop_names = [f"{'r' if r else 'i'}{k}" for k, r in enumerate(kernel.reduced)]
        self.kept = kernel.parallel
        self.reduced = frozenset(range(self.kept, len(kernel.reduced)))
        self.stack: list[StackArray] = []
        self.phase = phases(kernel)
        self.scratch: dict[int, tuple[Name, ...]] = {}

    def _name(self, stem: str) -> Name:
        self.serial += 1
        return f"{stem}_{self.serial}"

    def _extent(self, loop: int) -> Any:
        return self.kernel.inner if self.kernel.inner and loop == len(self.kernel.reduced) - 1 else f"n{loop}"

    # Analysis ---------------------------------------------------------------------------------------------------------

    def _is_full(self, op: Op) -> bool:
        """Does it vary along a reduced loop?"""
        return bool(op.loops & self.reduced)

    def _depth(self, loops: frozenset[int]) -> int:
        return max(loops, default=-1) + 1

    def _write_loops(self, access: int, op: int) -> frozenset[int]:
        walked = {k for k, s in enumerate(self.kernel.accesses[access].strides) if s != 0}
        return frozenset(walked) | self.kernel.ops[op].loops

    def _is_row_write(self, access: int, op: int) -> bool:
        return not self._write_loops(access, op) & self.reduced

    # Assembly ---------------------------------------------------------------------------------------------------------

    def run(self) -> Nest:
        env: Env = {}
        body: list[Any] = []
        for i, op in enumerate(self.kernel.ops):
            if op.kind == "scalar":
                raw = []
                for part, kind in enumerate(layout.memory_types(op.dtype)):
                    raw.append(self._name(f"t{i}"))
                    body.append(LoadArgument(raw[-1], kind, op.position, part))
                env[i] = self._from_raw(op.dtype, tuple(raw), body)
        body += self._level(0, env) if not self.kernel.column else self._column_level(0, env)
        memory = [(layout.memory_types(d)[0], w) for d, w in self.kernel.buffers]
        if self.kernel.chunked:
            memory += [("f64", True), ("i64", True)]  # partial results: one memory under two types
        return Nest(self.ints, len(self.kernel.scalars), memory, [*self.stack, *body])

    def _from_raw(self, dtype: DType, raw: Parts, body: list[Any]) -> Parts:
        if dtype.kind != "b" and dtype.short != "f16":
            return raw
        program = ScalarProgram(outline=self.outline)
        params = [program.param(t) for t in layout.memory_types(dtype)]
        return self._let(program, dict(zip([p.id for p in params], raw, strict=True)),
                         layout.from_memory(dtype, tuple(params)), body)  # fmt: skip

    def _let(self, program: ScalarProgram, params: dict[int, Name], values: tuple[ScalarValue, ...], body: list[Any],
             stems: list[str] | None = None) -> Parts:  # fmt: skip
        """stems: what the names of the values start with."""
        names = tuple(self._name(s) for s in stems) if stems else tuple(self._name("v") for _ in values)
        program.results = list(values)
        body.append(Let(program, params, [(n, v.id) for n, v in zip(names, values, strict=True)]))
        return names

    def _level(self, depth: int, env: Env) -> list[Any]:
        """Everything inside the first `depth` kept loops."""
        env = dict(env)
        if depth == self.kept and self.reduced:
            return Stages(self, env).run() if self.kernel.chunked else self._row(env)
        last = depth == self.kept
        ops = [i for i, op in enumerate(self.kernel.ops) if self._here(op, depth) and i not in env]
        writes = [w for w in self.kernel.writes if self._depth(self._write_loops(*w)) == depth]
        if self.reduced:
            writes = [w for w in writes if self._is_row_write(*w) and self.phase[w[1]] == 0]
        body: list[Any] = []
        self._straight(ops, writes, env, body, exact=True)
        if not last:
            body.append(self._kept_loop(depth, env))
        return body

    def _here(self, op: Op, depth: int) -> bool:
        if op.kind in ("scalar", "reduce") or self._is_full(op):
            return False
        return self._depth(op.loops) == depth and not self._after_reduction(op)

    def _after_reduction(self, op: Op) -> bool:
        return any(self.phase[a] > 0 for a in op.args)

    def _kept_loop(self, depth: int, env: Env) -> Any:
        """The loop over kept axis `depth`; the innermost one of a nest without reductions is the vector loop."""
        start: Any = "begin" if depth == 0 else 0
        stop: Any = "end" if depth == 0 else self._extent(depth)
        if depth + 1 < self.kept or self.reduced:
            return For(self.loop_names[depth], start, stop, 1, self._level(depth + 1, env))
        ops = [i for i, op in enumerate(self.kernel.ops) if self._here(op, depth + 1) and i not in env]
        writes = [w for w in self.kernel.writes if self._depth(self._write_loops(*w)) == depth + 1]
        return self._map(self.loop_names[depth], start, stop, ops, writes, env)

    def _map(
        self, variable: Name, start: Any, stop: Any, ops: list[int], writes: list[tuple[int, int]], env: Env
    ) -> Any:
        """A vector loop that only writes; block by block where its functions have a slow path."""
        fast: list[Any] = []
        flag = self._straight(ops, writes, dict(env), fast, exact=False)
        if flag is None:
            return For(variable, start, stop, 1, fast, vector=True)
        slow: list[Any] = []
        self._straight(ops, writes, dict(env), slow, exact=True)
        if self.kernel.in_place:
            # The inputs are gone once the block is stored, so nothing can be redone: exact code only.
            return For(variable, start, stop, 1, slow)
        return self._blocks(variable, start, stop, LANES, [], fast, flag, slow)

    def _blocks(self, variable: Name, start: Any, stop: Any, length: int, totals: Sequence[Total], fast: list[Any],
                flag: Name | None, slow: list[Any]) -> For:  # fmt: skip
        """for block: fast loop; where an element was marked or a total asks for it, the same block by the slow one."""
        block, limit, end = self._name("block"), self._name("limit"), self._name("end")
        body: list[Any] = [IntOp(limit, "add", block, length), IntOp(end, "min", limit, stop)]
        body += [s for t in totals for s in t.start_block()]
        if not slow:
            body.append(For(variable, block, end, 1, fast, vector=True))
        else:
            seen, marked = self._name("seen"), self._name("marked")
            body.append(Variable(seen, "i1", False))
            marks = [Accumulate("or", seen, flag, "i1")] if flag is not None else []
            body.append(For(variable, block, end, 1, [*fast, *marks], vector=True))
            body += [s for t in totals for s in t.ask_again(seen)]
            again = [s for t in totals for s in t.restart_block()]
            found = [s for t in totals for s in t.end_search()]
            searching = flag is None  # the second run then only accumulates, and is a vector loop too
            body.append(Get(marked, seen, "i1"))
            body.append(If(marked, [*again, For(variable, block, end, 1, slow, vector=searching), *found]))
        return For(block, start, stop, length, [*body, *[s for t in totals for s in t.end_block()]])

    # Straight code ----------------------------------------------------------------------------------------------------

    def _straight(
        self, ops: list[int], writes: list[tuple[int, int]], env: Env, body: list[Any], *, exact: bool
    ) -> Name | None:
        """Loads, one scalar program for `ops`, stores. Extends env. Returns the name of the slow mark, or None."""
        wanted = [i for i in ops if i not in env]
        if not wanted and not writes:
            return None
        program = ScalarProgram(exact=exact, outline=self.outline)
        params: dict[int, Name] = {}
        values: dict[int, tuple[ScalarValue, ...]] = {}
        for i in wanted:
            op = self.kernel.ops[i]
            if op.kind == "read":
                values[i] = self._read(i, program, params, body)
            elif op.kind == "index":
                values[i] = self._index(op, program, params)
            else:
                values[i] = self._apply(op, program, params, values, env)
        stored = []
        for _, i in writes:
            parts = values.get(i) or self._known(i, program, params, env)
            values[i] = parts
            stored.append(layout.to_memory(self.kernel.ops[i].dtype, parts))
        results = [v for i in wanted for v in values[i]] + [v for parts in stored for v in parts]
        flag = self._mark(program)
        stems = [f"t{i}" for i in wanted for _ in values[i]] + ["out"] * sum(len(parts) for parts in stored)
        if flag is not None:
            results.append(flag)
            stems.append("slow")
        names = self._let(program, params, tuple(results), body, stems)
        at = 0
        for i in wanted:
            env[i] = names[at : at + len(values[i])]
            at += len(values[i])
        for access, i in writes:
            for part, kind in enumerate(layout.memory_types(self.kernel.ops[i].dtype)):
                body.append(Store(names[at], kind, self._place(access, part)))
                at += 1
        return names[-1] if flag is not None else None

    def _mark(self, program: ScalarProgram) -> ScalarValue | None:
        flag: ScalarValue | None = None
        for condition in dict.fromkeys(program.slow):
            flag = condition if flag is None else flag | condition
        program.slow = []
        return flag

    def _known(self, i: int, program: ScalarProgram, params: dict[int, Name], env: Env) -> tuple[ScalarValue, ...]:
        parts = []
        for name, kind in zip(env[i], layout.value_types(self.kernel.ops[i].dtype), strict=True):
            value = program.param(kind)
            params[value.id] = name
            parts.append(value)
        return tuple(parts)

    def _read(
        self, i: int, program: ScalarProgram, params: dict[int, Name], body: list[Any]
    ) -> tuple[ScalarValue, ...]:
        op = self.kernel.ops[i]
        raw = []
        for part, kind in enumerate(layout.memory_types(op.dtype)):
            name = self._name(f"t{i}")
            body.append(Load(name, kind, self._place(op.position, part)))
            value = program.param(kind)
            params[value.id] = name
            raw.append(value)
        return layout.from_memory(op.dtype, tuple(raw))

    def _index(self, op: Op, program: ScalarProgram, params: dict[int, Name]) -> tuple[ScalarValue, ...]:
        value = program.param("i64")
        params[value.id] = self.loop_names[op.position]
        kinds = layout.value_types(op.dtype)
        number = convert(value, kinds[0])
        return (number,) if len(kinds) == 1 else (number, program.constant(0, kinds[1]))

    def _apply(self, op: Op, program: ScalarProgram, params: dict[int, Name],
               values: dict[int, tuple[ScalarValue, ...]], env: Env) -> tuple[ScalarValue, ...]:  # fmt: skip
        operands = []
        for a in op.args:
            if a not in values:
                values[a] = self._known(a, program, params, env)
            operands.append(layout.as_operand(self.kernel.ops[a].dtype, values[a]))
        assert op.primitive is not None
        program.contract = True
        try:
            result = op.primitive.lower(*operands, **dict(op.params))
        finally:
            program.contract = False
        return layout.from_result(op.dtype, result)

    def _place(self, access: int, part: int) -> Place:
        pattern: Access = self.kernel.accesses[access]
        dtype = self.kernel.buffers[pattern.buffer][0]
        terms = tuple(
            (self.loop_names[k], f"s{access}_{k}" if s == STRIDED else s)
            for k, s in enumerate(pattern.strides)
            if s != 0
        )
        scale = len(layout.memory_types(dtype))
        return Place(pattern.buffer, f"o{access}" if pattern.offset else None, terms, scale, part)

    # Row form ---------------------------------------------------------------------------------------------------------

    def _row(self, env: Env) -> list[Any]:
        """One row: row values, then for each phase its loops and what follows from its sums."""
        body: list[Any] = []
        for phase in range(max(self.phase, default=0) + 1):
            ready = [i for i in self._row_ops(phase) if i not in env]
            self._straight(ready, self._row_writes(phase), env, body, exact=True)
            for i, total in self._row_phase(phase, env, body, None).items():
                env[i] = total.finish(body)
        return body

    def _row_ops(self, phase: int) -> list[int]:
        """Ops of a row's own, such as its mean, that follow from the loops of so many phases."""
        ops = enumerate(self.kernel.ops)
        kinds = ("scalar", "reduce")
        return [i for i, op in ops if not self._is_full(op) and op.kind not in kinds and self.phase[i] == phase]

    def _row_writes(self, phase: int) -> list[tuple[int, int]]:
        return [
            w for w in self.kernel.writes
            if self._is_row_write(*w) and self.phase[w[1]] == phase
            and (phase > 0 or self._depth(self._write_loops(*w)) == self.kept)
        ]  # fmt: skip

    def _block_length(self, totals: Iterable[Total]) -> int:
        kinds = {kind for total in totals if total.kind == "sum" for kind in total.kinds}
        return min((BLOCKS[kind] for kind in kinds), default=max(BLOCKS.values()))

    def _is_small_row(self) -> bool:
        """One reduced loop of a few iterations: unrolled, added one after the other as NumPy does."""
        return bool(self.kernel.inner) and len(self.reduced) == 1 and not self.kernel.column

    def _sinks(self, phase: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The reductions and the full-size writes that the loops of a phase serve."""
        reductions = [i for i, op in enumerate(self.kernel.ops) if op.kind == "reduce" and self.phase[i] == phase + 1]
        writes = [w for w in self.kernel.writes if not self._is_row_write(*w) and self._write_phase(w) == phase]
        return reductions, writes

    def _write_phase(self, write: tuple[int, int]) -> int:
        return self.phase[write[1]]

    def _needed(self, roots: list[int], env: Env) -> list[int]:
        found: set[int] = set()
        stack = list(roots)
        while stack:
            i = stack.pop()
            if i in found or i in env:
                continue
            found.add(i)
            if i not in self.scratch:
                stack += self.kernel.ops[i].args
        return sorted(found)

    def _row_phase(self, phase: int, env: Env, body: list[Any], outer: tuple[Name, Name] | None) -> dict[int, Total]:
        """The loops of a phase; gives their totals. outer: part of the outermost reduced loop's range, or None."""
        reductions, writes = self._sinks(phase)
        if not reductions and not writes:
            return {}
        roots = [self.kernel.ops[i].args[0] for i in reductions] + [w[1] for w in writes]
        needed = self._needed(roots, env)
        keep = self._worth_keeping(phase, needed, env)
        totals = {i: Total(self, i) for i in reductions}
        small = self._is_small_row()
        # What a block overwrites cannot be read again.
        once = small or (self.kernel.in_place and bool(writes))
        fast: list[Any] = []
        for total in totals.values():
            body += total.declare()
            total.quick = total.kind == "arg" and not once and self.kernel.ops[total.i].dtype.kind != "c"
            total.quick = total.quick and total.operand.kind != "c"
        flag = self._row_body(needed, writes, keep, totals, dict(env), fast, exact=False)
        if flag is not None and any(t.quick for t in totals.values()):
            for total in totals.values():
                total.quick = False  # marked elements hold no value to search for
            fast = []
            flag = self._row_body(needed, writes, keep, totals, dict(env), fast, exact=False)
        slow: list[Any] = []
        if flag is not None or any(t.quick for t in totals.values()):
            for total in totals.values():
                total.redone = True
            self._row_body(needed, writes, keep, totals, dict(env), slow, exact=True)
        if once and slow:
            fast, flag, slow = slow, None, []
            for total in totals.values():
                total.redone = total.quick = False
        inner = len(self.kernel.reduced) - 1
        bounds: dict[int, tuple[Any, Any]] = {k: (0, self._extent(k)) for k in self.reduced}
        if outer is not None:
            bounds[self.kept] = outer
        start, stop = bounds[inner]
        if small or (not reductions and not slow):
            loop: Any = For(self.loop_names[inner], start, stop, 1, fast, vector=True)
        else:
            length = self._block_length(totals.values()) if flag is None else LANES
            loop = self._blocks(self.loop_names[inner], start, stop, length, list(totals.values()), fast, flag, slow)
        for k in range(inner - 1, self.kept - 1, -1):
            loop = For(self.loop_names[k], *bounds[k], 1, [loop])
        body.append(loop)
        for i in keep:
            self.scratch[i] = keep[i]
        return totals

    def _worth_keeping(self, phase: int, needed: list[int], env: Env) -> dict[int, Parts]:
        """Expensive values of this phase that a later one reads again, each with a scratch row."""
        if not self.kernel.scratch or self.kept == 0 or len(self.reduced) != 1:
            return {}
        later: set[int] = set()
        last = max(self.phase)
        for p in range(phase + 1, last + 1):
            reductions, writes = self._sinks(p)
            roots = [self.kernel.ops[i].args[0] for i in reductions] + [w[1] for w in writes]
            later |= set(self._frontier(roots, set(needed)))
        keep: dict[int, Parts] = {}
        for i in needed:
            op = self.kernel.ops[i]
            if i in later and i not in self.scratch and op.kind == "apply" and self._cost(i) >= EXPENSIVE:
                names = []
                for kind in layout.value_types(op.dtype):
                    names.append(self._name(f"t{i}_row"))
                    self.stack.append(StackArray(names[-1], stored(kind), SCRATCH))
                keep[i] = tuple(names)
        return keep

    def _frontier(self, roots: list[int], computed: set[int]) -> list[int]:
        """The ops of `computed` that `roots` read without another one of them between."""
        found, stack, seen = [], list(roots), set()
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            op = self.kernel.ops[i]
            if i in computed and self._is_full(op) and op.kind == "apply":
                found.append(i)
            elif self._is_full(op):
                stack += op.args
        return found

    def _cost(self, i: int, seen: frozenset[int] = frozenset()) -> int:
        op = self.kernel.ops[i]
        own = op.primitive.cost if op.primitive is not None else 0
        return own + sum(self._cost(a) for a in op.args if self._is_full(self.kernel.ops[a]) and a not in self.scratch)

    def _row_body(self, needed: list[int], writes: list[tuple[int, int]], keep: dict[int, Parts],
                  totals: dict[int, Total], env: Env, body: list[Any], *, exact: bool) -> Name | None:  # fmt: skip
        variable = self.loop_names[-1]
        for i in needed:
            if i in self.scratch:
                parts = []
                for array, kind in zip(self.scratch[i], layout.value_types(self.kernel.ops[i].dtype), strict=True):
                    parts.append(self._kept(array, kind, variable, f"t{i}", body))
                env[i] = tuple(parts)
        flag = self._straight([i for i in needed if i not in env], writes, env, body, exact=exact)
        for total in totals.values():
            total.in_slow = exact
        for i, arrays in keep.items():
            for array, name, kind in zip(arrays, env[i], layout.value_types(self.kernel.ops[i].dtype), strict=True):
                self._keep(array, name, kind, variable, body)
        for i, total in totals.items():
            body += total.add(env[self.kernel.ops[i].args[0]])
        return flag

    def _keep(self, array: Name, value: Name, kind: str, index: Name, body: list[Any]) -> None:
        """Stores a value into a stack array; a truth value as a byte."""
        if kind == "i1":
            program = ScalarProgram(outline=self.outline)
            truth = program.param("i1")
            (value,) = self._let(program, {truth.id: value}, (convert(truth, "u8"),), body)
        body.append(Store(value, stored(kind), Place(array, None, ((index, 1),))))

    def _kept(self, array: Name, kind: str, index: Name, stem: str, body: list[Any]) -> Name:
        """The value that `_keep` stored."""
        name = self._name(stem)
        body.append(Load(name, stored(kind), Place(array, None, ((index, 1),))))
        if kind == "i1":
            program = ScalarProgram(outline=self.outline)
            byte = program.param("u8")
            (name,) = self._let(program, {byte.id: name}, (not_equal(byte, 0),), body)
        return name

    # Column form ------------------------------------------------------------------------------------------------------

    def _column_level(self, depth: int, env: Env) -> list[Any]:
        env = dict(env)
        ops = [i for i, op in enumerate(self.kernel.ops) if self._here(op, depth) and i not in env]
        writes = [
            w for w in self.kernel.writes
            if self._depth(self._write_loops(*w)) == depth and self._is_row_write(*w) and self.phase[w[1]] == 0
        ]  # fmt: skip
        body: list[Any] = []
        self._straight(ops, writes, env, body, exact=True)
        if depth == self.kept - 1:
            return [*body, self._column_block(env)]
        start: Any = "begin" if depth == 0 else 0
        stop: Any = "end" if depth == 0 else self._extent(depth)
        body.append(For(self.loop_names[depth], start, stop, 1, self._column_level(depth + 1, env)))
        return body

    def _column_block(self, env: Env) -> For:
        """A block of kept elements: accumulators in stack arrays, all phases, results."""
        lane = self.kept - 1
        block, limit, end = self._name("block"), self._name("limit"), self._name("end")
        start: Any = "begin" if lane == 0 else 0
        stop: Any = "end" if lane == 0 else self._extent(lane)
        body: list[Any] = [IntOp(limit, "add", block, COLUMNS), IntOp(end, "min", limit, stop)]
        column = Column(self, block, end, env)
        last = max(self.phase, default=0)
        for phase in range(last + 1):
            column.row_values(phase, body)
            column.loops(phase, body)
        return For(block, start, stop, COLUMNS, body)
