"""Kernel -> loop nest for a CPU: which loops, in what order, with which accumulators and scratch.

Row form: for each kept index, phases of loops over the reduced axes, in blocks of 512 elements whose sums are added
with compensation. Column form (memory runs along the last kept loop): blocks of 256 kept elements, with one accumulator
each on the stack, inside the reduced loops. Without reductions: plain nested loops, the last of which becomes vector
code.

A phase reads the results of earlier phases (softmax: maximum; sum of exponentials; quotients). What an expensive op
computed in one phase and a later phase needs again is kept in a scratch row on the stack while the row fits there.

A full reduction of many elements runs in stages (`_Stages`): chunks, whose partial results go to memory, then their
combination, for each phase.

A function with a rare slow path marks elements; the block that holds one is done again with the exact program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jitensor.codegen import layout
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
    Set,
    StackArray,
    Store,
    Variable,
)
from jitensor.codegen.work import partial_slots, phases
from jitensor.ir.types import DType
from jitensor.scalar.program import (
    ScalarProgram,
    ScalarValue,
    convert,
    equal,
    is_nan,
    not_equal,
    select,
)

BLOCK = 512  # elements of a sum added without compensation
LANES = 256  # the length of a block that may be redone
COLUMNS = 1024  # accumulators of a column block: long enough runs of memory, few enough for the first-level cache

NOWHERE = 2**63 - 1  # behind every place

Parts = tuple[Name, ...]
Env = dict[int, Parts]


def schedule(kernel: Kernel, *, outline: bool = False) -> Nest:
    """outline: keep scalar functions apart, for a writer that prints functions."""
    return _Scheduler(kernel, outline).run()


class _Scheduler:
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
            return _Stages(self, env).run() if self.kernel.chunked else self._row(env)
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

    def _blocks(self, variable: Name, start: Any, stop: Any, length: int, totals: Sequence[_Total], fast: list[Any],
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

    def _row_phase(self, phase: int, env: Env, body: list[Any], outer: tuple[Name, Name] | None) -> dict[int, _Total]:
        """The loops of a phase; gives their totals. outer: part of the outermost reduced loop's range, or None."""
        reductions, writes = self._sinks(phase)
        if not reductions and not writes:
            return {}
        roots = [self.kernel.ops[i].args[0] for i in reductions] + [w[1] for w in writes]
        needed = self._needed(roots, env)
        keep = self._worth_keeping(phase, needed, env)
        totals = {i: _Total(self, i) for i in reductions}
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
            length = BLOCK if flag is None else LANES
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
                    self.stack.append(StackArray(names[-1], _stored(kind), SCRATCH))
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
                  totals: dict[int, _Total], env: Env, body: list[Any], *, exact: bool) -> Name | None:  # fmt: skip
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
        body.append(Store(value, _stored(kind), Place(array, None, ((index, 1),))))

    def _kept(self, array: Name, kind: str, index: Name, stem: str, body: list[Any]) -> Name:
        """The value that `_keep` stored."""
        name = self._name(stem)
        body.append(Load(name, _stored(kind), Place(array, None, ((index, 1),))))
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
        column = _Column(self, block, end, env)
        last = max(self.phase, default=0)
        for phase in range(last + 1):
            column.row_values(phase, body)
            column.loops(phase, body)
        return For(block, start, stop, COLUMNS, body)


class _Total:
    """One reduction of a row: a block accumulator, and the running total that blocks are added to."""

    def __init__(self, scheduler: _Scheduler, i: int) -> None:
        self.s = scheduler
        self.i = i
        self.op = scheduler.kernel.ops[i]
        assert self.op.primitive is not None
        self.rule = self.op.primitive.lower
        self.operand = scheduler.kernel.ops[self.op.args[0]].dtype
        self.kinds = layout.value_types(self.operand)
        self.kind = self._accumulation()
        n = len(self.kinds)
        self.total = [scheduler._name("total") for _ in range(n)]
        self.block = [scheduler._name("part") for _ in range(n)]
        self.lost = [scheduler._name("lost") for _ in range(n)]
        self.nan = scheduler._name("nan")
        self.where, self.block_where = scheduler._name("where"), scheduler._name("where")
        self.small = scheduler._is_small_row()
        if self.small:
            self.block, self.block_where = self.total, self.where
        self.quick = False  # an extreme's place: the vector loop finds only the block's extreme
        self.redone = False  # a block may be run twice
        self.in_slow = False
        self.best = scheduler._name("best")
        self.saved = [scheduler._name("saved") for _ in range(n)]
        self.saved_nan = scheduler._name("saved")

    def _accumulation(self) -> str:
        accumulate = str(self.rule.accumulate)
        if accumulate == "sum":
            return "sum" if self.kinds[0] in ("f32", "f64") and not self.s._is_small_row() else "add"
        if accumulate in ("max", "min"):
            if self.operand.kind == "c" or self.operand.short == "f16":
                return "plain"
            return {"max": "or", "min": "and"}[accumulate] if self.operand.kind == "b" else accumulate
        return "arg" if accumulate.startswith("arg") else accumulate

    @property
    def _is_direct(self) -> bool:
        """Added to the total at once, without a block of its own."""
        return self.small or self.kind in ("max", "min", "or", "and", "add")

    @property
    def _is_float(self) -> bool:
        return self.kinds[0] in ("f32", "f64")

    def _identity(self) -> list[Any]:
        start = self.rule.identity(self.operand)
        if self.operand.kind == "c":
            return [complex(start).real, complex(start).imag]
        return [start]

    def declare(self) -> list[Any]:
        found: list[Any] = []
        for name, kind, start in zip(self.total, self.kinds, self._identity(), strict=True):
            found.append(Variable(name, kind, start))
        if self.kind == "sum":
            found += [Variable(name, kind, 0.0) for name, kind in zip(self.lost, self.kinds, strict=True)]
        if self.kind in ("max", "min") and self._is_float:
            found.append(Variable(self.nan, "i1", False))
        if self.kind == "arg":
            found.append(Variable(self.where, "i64", 0))
        return found

    def start_block(self) -> list[Any]:
        if self.kind == "sum":
            return [Variable(name, kind, 0.0) for name, kind in zip(self.block, self.kinds, strict=True)]
        if self._is_direct:
            if not self.redone:
                return []
            pairs = zip(self.saved, self.total, self.kinds, strict=True)
            kept = [s for saved, total, kind in pairs for s in self._copy(saved, total, kind)]
            return kept + (self._copy(self.saved_nan, self.nan, "i1") if self._has_nan_flag else [])
        if self.quick:
            found: list[Any] = [Variable(self.best, self.kinds[0], self._identity()[0])]
            return [*found, Variable(self.nan, "i1", False)] if self._is_float else found
        return self._block_from_total()

    @property
    def _has_nan_flag(self) -> bool:
        return self.kind in ("max", "min") and self._is_float

    def _block_from_total(self) -> list[Any]:
        """A block that may be done again starts from what the blocks before it gave."""
        found: list[Any] = []
        for block, total, kind in zip(self.block, self.total, self.kinds, strict=True):
            found += self._copy(block, total, kind)
        if self.kind == "arg":
            found += self._copy(self.block_where, self.where, "i64")
        return found

    def restart_block(self) -> list[Any]:
        """Before the second run of a block: as it was before the first."""
        if self.kind == "sum":
            return [Variable(name, kind, 0.0) for name, kind in zip(self.block, self.kinds, strict=True)]
        if self.quick:
            return [Variable(self.block_where, "i64", NOWHERE)]
        if not self._is_direct:
            return self._block_from_total()
        pairs = zip(self.total, self.saved, self.kinds, strict=True)
        found = [s for total, saved, kind in pairs for s in self._copy(total, saved, kind)]
        return found + (self._copy(self.nan, self.saved_nan, "i1") if self._has_nan_flag else [])

    def ask_again(self, seen: Name) -> list[Any]:
        """After the vector loop: where the block's extreme beats the one so far, its place is searched for."""
        if not self.quick:
            return []
        program, get, found, params = self._reader()
        (name,) = self.s._let(program, params, (self._beaten(get),), found)
        return [*found, Accumulate("or", seen, name, "i1")]

    def _reader(self) -> tuple[ScalarProgram, Any, list[Any], dict[int, Name]]:
        """A new scalar program whose inputs are variables: `get(variable, type)` reads one."""
        found: list[Any] = []
        program = ScalarProgram(outline=self.s.outline)
        params: dict[int, Name] = {}

        def get(variable: Name, kind: str) -> ScalarValue:
            name = self.s._name("old")
            found.append(Get(name, variable, kind))
            value = program.param(kind)
            params[value.id] = name
            return value

        return program, get, found, params

    def _beaten(self, get: Any) -> ScalarValue:
        """Does the block's extreme, or its nan, come before the total?"""
        best, total = get(self.best, self.kinds[0]), get(self.total[0], self.kinds[0])
        wanted: ScalarValue = self.rule.combine(best, total)
        return wanted | (get(self.nan, "i1") & ~is_nan(total)) if self._is_float else wanted

    def _search(self, value: Name) -> list[Any]:
        """The first place of the block's extreme (or nan), as the smallest of the places that hold it."""
        program, get, found, params = self._reader()
        x = program.param(self.kinds[0])
        params[x.id] = value
        best = get(self.best, self.kinds[0])
        if self.operand.kind == "b":
            here = ~(x ^ best)
        else:
            here = equal(x, best)
            if self._is_float:
                here = select_truth(get(self.nan, "i1"), is_nan(x), here)
        place = select(here, self._linear_index(program, params), NOWHERE)
        (name,) = self.s._let(program, params, (place,), found)
        return [*found, Accumulate("min", self.block_where, name, "i64")]

    def end_search(self) -> list[Any]:
        """After the search: the total and its place, if this total asked for it."""
        if not self.quick:
            return []
        program, get, found, params = self._reader()
        wanted = self._beaten(get)
        best, total = get(self.best, self.kinds[0]), get(self.total[0], self.kinds[0])
        if self._is_float:
            best = select(get(self.nan, "i1"), float("nan"), best)
        new = select_truth(wanted, best, total) if self.operand.kind == "b" else select(wanted, best, total)
        place = select(wanted, get(self.block_where, "i64"), get(self.where, "i64"))
        names = self.s._let(program, params, (new, place), found)
        return [*found, Set(self.total[0], names[0], self.kinds[0]), Set(self.where, names[1], "i64")]

    def _copy(self, target: Name, source: Name, kind: str) -> list[Any]:
        name = self.s._name("copy")
        return [Get(name, source, kind), Variable(target, kind, name)]

    def add(self, value: Parts) -> list[Any]:
        if self.kind == "sum":
            return [
                Accumulate("sum", block, part, kind)
                for block, part, kind in zip(self.block, value, self.kinds, strict=True)
            ]
        if self.kind in ("max", "min"):
            return self._add_extreme(self.kind, self.total[0], value[0])
        if self.quick and self.in_slow:
            return self._search(value[0])
        if self.quick:
            op = str(self.rule.accumulate).removeprefix("arg")
            if self.operand.kind == "b":
                return [Accumulate({"max": "or", "min": "and"}[op], self.best, value[0], "i1")]
            return self._add_extreme(op, self.best, value[0])
        if self.kind in ("add", "or", "and"):
            return [Accumulate(self.kind, t, v, k) for t, v, k in zip(self.total, value, self.kinds, strict=True)]
        return self._combine(value)

    def _add_extreme(self, op: str, variable: Name, value: Name) -> list[Any]:
        """variable = the larger (smaller) of both; a float's nan is only noted, so that the loop becomes vectors."""
        found: list[Any] = []
        if self._is_float:
            program = ScalarProgram(outline=self.s.outline)
            x = program.param(self.kinds[0])
            (flag,) = self.s._let(program, {x.id: value}, (is_nan(x),), found)
            found.append(Accumulate("or", self.nan, flag, "i1"))
        return [*found, Accumulate(op, variable, value, self.kinds[0])]

    def _with_nan(self, value: Name, body: list[Any]) -> Name:
        """A maximum or minimum as it is, or nan where one was seen."""
        program = ScalarProgram(outline=self.s.outline)
        name = self.s._name("old")
        body.append(Get(name, self.nan, "i1"))
        flag, x = program.param("i1"), program.param(self.kinds[0])
        params = {flag.id: name, x.id: value}
        return self.s._let(program, params, (select(flag, float("nan"), x),), body)[0]

    def _combine(self, value: Parts, at: Name | None = None) -> list[Any]:
        """Any other reduction, one element after the other. at: where the element of an argmax is, if not here."""
        found: list[Any] = []
        program = ScalarProgram(outline=self.s.outline)
        params: dict[int, Name] = {}
        old, new = [], []
        for block, part, kind in zip(self.block, value, self.kinds, strict=True):
            name = self.s._name("old")
            found.append(Get(name, block, kind))
            a, b = program.param(kind), program.param(kind)
            params[a.id], params[b.id] = name, part
            old.append(a)
            new.append(b)
        a, b = layout.as_operand(self.operand, tuple(old)), layout.as_operand(self.operand, tuple(new))
        if self.kind == "arg":
            return found + self._combine_arg(program, params, a, b, old, new, at)
        results = layout.from_result(self.operand, self.rule.combine(a, b)) if self.operand.short != "f16" else (
            self.rule.combine(a, b),)  # fmt: skip
        names = self.s._let(program, params, results, found)
        return found + [Set(block, n, k) for block, n, k in zip(self.block, names, self.kinds, strict=True)]

    def _combine_arg(self, program: ScalarProgram, params: dict[int, Name], a: Any, b: Any,
                     old: list[ScalarValue], new: list[ScalarValue], given: Name | None) -> list[Any]:  # fmt: skip
        found: list[Any] = []
        place = self.s._name("old")
        found.append(Get(place, self.block_where, "i64"))
        at = program.param("i64")
        params[at.id] = place
        if given is None:
            index = self._linear_index(program, params)
        else:
            index = program.param("i64")
            params[index.id] = given
        # The first element wins over the identity, even where it compares equal to it.
        better = self.rule.combine(b, a)
        results = [select(better, n, o) for n, o in zip(new, old, strict=True)]
        names = self.s._let(program, params, (*results, select(better, index, at)), found)
        found += [Set(block, n, k) for block, n, k in zip(self.block, names, self.kinds, strict=False)]
        return [*found, Set(self.block_where, names[-1], "i64")]

    def _linear_index(self, program: ScalarProgram, params: dict[int, Name]) -> ScalarValue:
        index: ScalarValue | None = None
        for k in sorted(self.s.reduced):
            loop = program.param("i64")
            params[loop.id] = self.s.loop_names[k]
            if index is None:
                index = loop
            else:
                extent = program.param("i64")
                params[extent.id] = f"n{k}"
                index = index * extent + loop
        assert index is not None
        return index

    def end_block(self) -> list[Any]:
        if self._is_direct or self.quick:
            return []
        if self.kind != "sum":
            found: list[Any] = []
            for block, total, kind in zip(self.block, self.total, self.kinds, strict=True):
                name = self.s._name("copy")
                found += [Get(name, block, kind), Set(total, name, kind)]
            if self.kind == "arg":
                name = self.s._name("copy")
                found += [Get(name, self.block_where, "i64"), Set(self.where, name, "i64")]
            return found
        found = []
        for block, total, lost, kind in zip(self.block, self.total, self.lost, self.kinds, strict=True):
            name = self.s._name("old")
            found.append(Get(name, block, kind))
            self._add_exactly(total, lost, kind, name, None, found)
        return found

    def _add_exactly(
        self, total: Name, lost: Name, kind: str, value: Name, error: Name | None, body: list[Any]
    ) -> None:
        """total += value; what rounding loses of it, and `error`, go to `lost`."""
        names = [self.s._name("old") for _ in range(2)]
        body += [Get(n, v, kind) for n, v in zip(names, (total, lost), strict=True)]
        program = ScalarProgram(outline=self.s.outline)
        part, running, known = (program.param(kind) for _ in range(3))
        params = dict(zip((part.id, running.id, known.id), (value, *names), strict=True))
        new, rest = two_sum(running, part)
        rest = known + rest
        if error is not None:
            further = program.param(kind)
            params[further.id] = error
            rest = rest + further
        results = self.s._let(program, params, (new, rest), body, ["new_total", "new_lost"])
        body += [Set(total, results[0], kind), Set(lost, results[1], kind)]

    def partial_kinds(self) -> tuple[str, ...]:
        if self.kind == "sum":
            return (*self.kinds, *self.kinds)
        return (*self.kinds, "i64") if self.kind == "arg" else self.kinds

    def partial(self, body: list[Any]) -> list[tuple[Name, str]]:
        """What a chunk leaves for `merge`, with the types."""
        variables = [*self.total, *(self.lost if self.kind == "sum" else ()), *((self.where,) * (self.kind == "arg"))]
        names = [self.s._name("sum") for _ in variables]
        kinds = self.partial_kinds()
        body += [Get(n, v, k) for n, v, k in zip(names, variables, kinds, strict=True)]
        if self._has_nan_flag:
            names[0] = self._with_nan(names[0], body)
        return list(zip(names, kinds, strict=True))

    def merge(self, parts: Parts, body: list[Any]) -> None:
        """Adds what a chunk left."""
        n = len(self.kinds)
        if self.kind == "sum":
            for k, kind in enumerate(self.kinds):
                self._add_exactly(self.total[k], self.lost[k], kind, parts[k], parts[n + k], body)
            return
        self.block, self.block_where = self.total, self.where
        body += self._combine(parts[:n], at=parts[n]) if self.kind == "arg" else self.add(parts)

    def finish(self, body: list[Any]) -> Parts:
        """The reduction's value after all blocks, as the op's dtype."""
        if self.kind == "arg":
            name = self.s._name("at")
            body.append(Get(name, self.where, "i64"))
            return (name,)
        names = [self.s._name("sum") for _ in self.total]
        body += [Get(n, t, k) for n, t, k in zip(names, self.total, self.kinds, strict=True)]
        program = ScalarProgram(outline=self.s.outline)
        params: dict[int, Name] = {}
        parts = []
        for name, kind in zip(names, self.kinds, strict=True):
            value = program.param(kind)
            params[value.id] = name
            parts.append(value)
        if self.kind == "sum":
            for k, (lost, kind) in enumerate(zip(self.lost, self.kinds, strict=True)):
                name = self.s._name("old")
                body.append(Get(name, lost, kind))
                error = program.param(kind)
                params[error.id] = name
                parts[k] = with_correction(parts[k], error)
        elif self._has_nan_flag:
            params[parts[0].id] = self._with_nan(names[0], body)
        result = layout.from_result(self.op.dtype, layout.as_operand(self.op.dtype, tuple(parts)))
        return self.s._let(program, params, result, body, [f"t{self.i}"] * len(result))


class _Stages:
    """A chunked kernel. The call's range is `stage << 32` plus a range of chunks, or 0 to -1 for everything at once.
    Stage 2p runs the loops of phase p over chunks, each of which leaves its totals in its own words of the partial
    results; stage 2p + 1 combines them in order, leaves the sums in the fixed words, and writes what follows from them.

    Words of the partial results: rows of a chunk, number of chunks, then four for each reduction, then as many per
    chunk.
    """

    def __init__(self, scheduler: _Scheduler, env: Env) -> None:
        self.s = scheduler
        self.env = env
        self.reductions = [i for i, op in enumerate(scheduler.kernel.ops) if op.kind == "reduce"]
        self.memory = {"f": len(scheduler.kernel.buffers), "i": len(scheduler.kernel.buffers) + 1}
        self.stride = partial_slots(scheduler.kernel)

    def run(self) -> list[Any]:
        body: list[Any] = []
        self.rows, self.chunks = (self._load("i64", self._slot(k, body), body) for k in (0, 1))
        stages = 2 * (max(self.s.phase) + 1)
        program = ScalarProgram(outline=self.s.outline)
        begin, end, chunks = (program.param("i64") for _ in range(3))
        whole, own = equal(end, -1), begin >> 32
        results = (
            select(whole, 0, begin - (own << 32)), select(whole, chunks, end - (own << 32)),
            *[whole | equal(own, k) for k in range(stages)],
        )  # fmt: skip
        params = {begin.id: "begin", end.id: "end", chunks.id: self.chunks}
        self.first, self.last, *chosen = self.s._let(program, params, results, body)
        for k in range(stages):
            inside: list[Any] = []
            (self._combination if k % 2 else self._chunks)(k // 2, inside)
            if inside:
                body.append(If(chosen[k], inside))
        return body

    def _before(self, phase: int, body: list[Any]) -> Env:
        """What the phases before this one gave, and what follows from it."""
        env = dict(self.env)
        for p in range(phase + 1):
            for i in self.reductions:
                if self.s.phase[i] == p:
                    kinds = layout.value_types(self.s.kernel.ops[i].dtype)
                    env[i] = tuple(self._load(k, self._fixed(i, part, body), body) for part, k in enumerate(kinds))
            self.s._straight([i for i in self.s._row_ops(p) if i not in env], [], env, body, exact=True)
        return env

    def _chunks(self, phase: int, body: list[Any]) -> None:
        s = self.s
        env = self._before(phase, body)
        chunk, start, limit, stop = (s._name(n) for n in ("chunk", "start", "limit", "stop"))
        inside: list[Any] = [IntOp(start, "mul", chunk, self.rows), IntOp(limit, "add", start, self.rows)]
        inside.append(IntOp(stop, "min", limit, s._extent(0)))
        for i, total in s._row_phase(phase, env, inside, (start, stop)).items():
            for part, (name, kind) in enumerate(total.partial(inside)):
                self._store(name, kind, self._partial(chunk, i, part, inside), inside)
        body.append(For(chunk, self.first, self.last, 1, inside))

    def _combination(self, phase: int, body: list[Any]) -> None:
        s = self.s
        totals = {i: _Total(s, i) for i in s._sinks(phase)[0]}
        for total in totals.values():
            body += total.declare()
        chunk = s._name("chunk")
        inside: list[Any] = []
        for i, total in totals.items():
            parts = [
                self._load(kind, self._partial(chunk, i, part, inside), inside)
                for part, kind in enumerate(total.partial_kinds())
            ]
            total.merge(tuple(parts), inside)
        if totals:
            body.append(For(chunk, 0, self.chunks, 1, inside))
        for i, total in totals.items():
            kinds = layout.value_types(s.kernel.ops[i].dtype)
            for part, (name, kind) in enumerate(zip(total.finish(body), kinds, strict=True)):
                self._store(name, kind, self._fixed(i, part, body), body)
        writes = s._row_writes(phase + 1) + (s._row_writes(0) if phase == 0 else [])
        if writes:
            s._straight([], writes, self._before(phase + 1, body), body, exact=True)

    # Words of the partial results -------------------------------------------------------------------------------------

    def _slot(self, number: int, body: list[Any]) -> Name:
        name = self.s._name("slot")
        body.append(IntOp(name, "add", number, 0))
        return name

    def _fixed(self, i: int, part: int, body: list[Any]) -> Name:
        return self._slot(2 + 4 * self.reductions.index(i) + part, body)

    def _partial(self, chunk: Name, i: int, part: int, body: list[Any]) -> Name:
        first, slot = self.s._name("first"), self.s._name("slot")
        number = 2 + self.stride + 4 * self.reductions.index(i) + part
        body += [IntOp(first, "mul", chunk, self.stride), IntOp(slot, "add", first, number)]
        return slot

    def _load(self, kind: str, slot: Name, body: list[Any]) -> Name:
        wide = "f64" if kind in ("f32", "f64") else "i64"
        name = self.s._name("word")
        body.append(Load(name, wide, Place(self.memory[wide[0]], None, ((slot, 1),))))
        if kind == wide:
            return name
        program = ScalarProgram(outline=self.s.outline)
        word = program.param(wide)
        value = not_equal(word, 0) if kind == "i1" else convert(word, kind)
        return self.s._let(program, {word.id: name}, (value,), body)[0]

    def _store(self, value: Name, kind: str, slot: Name, body: list[Any]) -> None:
        wide = "f64" if kind in ("f32", "f64") else "i64"
        if kind != wide:
            program = ScalarProgram(outline=self.s.outline)
            narrow = program.param(kind)
            (value,) = self.s._let(program, {narrow.id: value}, (convert(narrow, wide),), body)
        body.append(Store(value, wide, Place(self.memory[wide[0]], None, ((slot, 1),))))


def two_sum(a: ScalarValue, b: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """a + b and what rounding lost of it (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def with_correction(total: ScalarValue, lost: ScalarValue) -> ScalarValue:
    """total + lost; total alone where an infinity made the correction meaningless."""
    corrected = total + lost
    return select(is_nan(lost - lost), total, corrected)


def select_truth(condition: ScalarValue, a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """`a` where `condition`, else `b`, of truth values."""
    return (condition & a) | (~condition & b)


def _stored(kind: str) -> str:
    return "u8" if kind == "i1" else kind


class _Column:
    """A block of a column-form kernel. Row values live in stack arrays indexed by the place in the block."""

    def __init__(self, scheduler: _Scheduler, block: Name, end: Name, env: Env) -> None:
        self.s = scheduler
        self.block, self.end = block, end
        self.env = env
        self.lane = scheduler.loop_names[scheduler.kept - 1]
        self.arrays: dict[int, Parts] = {}  # row op -> its stack arrays

    def _array(self, i: int) -> Parts:
        if i not in self.arrays:
            dtype = self.s.kernel.ops[i].dtype
            self.arrays[i] = self._new(layout.value_types(dtype), f"t{i}_lane")
        return self.arrays[i]

    def _new(self, kinds: tuple[str, ...], stem: str) -> Parts:
        names = []
        for kind in kinds:
            names.append(self.s._name(stem))
            self.s.stack.append(StackArray(names[-1], _stored(kind), COLUMNS))
        return tuple(names)

    def _load(self, arrays: Parts, kinds: tuple[str, ...], body: list[Any], stem: str) -> Parts:
        index = self._index(body)
        return tuple([self.s._kept(a, k, index, stem, body) for a, k in zip(arrays, kinds, strict=True)])

    def _store(self, arrays: Parts, values: Parts, kinds: tuple[str, ...], body: list[Any]) -> None:
        index = self._index(body)
        for array, value, kind in zip(arrays, values, kinds, strict=True):
            self.s._keep(array, value, kind, index, body)

    def _index(self, body: list[Any]) -> Name:
        """The place in the block of the element at hand."""
        index = self.s._name("at")
        body.append(IntOp(index, "sub", self.lane, self.block))
        return index

    def _bring(self, needed: list[int], env: Env, body: list[Any]) -> None:
        """Loads the row values that `needed` reads from their arrays."""
        for i in sorted({a for n in needed for a in self.s.kernel.ops[n].args} | set(needed)):
            if i in self.arrays and i not in env:
                env[i] = self._load(self.arrays[i], layout.value_types(self.s.kernel.ops[i].dtype), body, f"t{i}")

    def _loop(self, body: list[Any], *, vector: bool = True) -> For:
        return For(self.lane, self.block, self.end, 1, body, vector=vector)

    def row_values(self, phase: int, body: list[Any]) -> None:
        kernel = self.s.kernel
        ready = [
            i for i, op in enumerate(kernel.ops)
            if not self.s._is_full(op) and op.kind not in ("scalar", "reduce")
            and self.s.phase[i] == phase and i not in self.env
        ]  # fmt: skip
        writes = [
            w for w in kernel.writes
            if self.s._is_row_write(*w) and self.s.phase[w[1]] == phase
            and (phase > 0 or self.s._depth(self.s._write_loops(*w)) == self.s.kept)
        ]  # fmt: skip
        if not ready and not writes:
            return
        env = dict(self.env)
        inner: list[Any] = []
        self._bring([*ready, *(w[1] for w in writes)], env, inner)
        self.s._straight(ready, writes, env, inner, exact=True)
        later = [i for i in ready if self._read_later(i, phase)]
        for i in later:
            self._store(self._array(i), env[i], layout.value_types(kernel.ops[i].dtype), inner)
        body.append(self._loop(inner))

    def _read_later(self, i: int, phase: int) -> bool:
        ops = self.s.kernel.ops
        return any(
            i in op.args and (self.s._is_full(op) or op.kind == "reduce" or self.s.phase[k] > phase)
            for k, op in enumerate(ops)
        ) or any(w[1] == i for w in self.s.kernel.writes)

    def loops(self, phase: int, body: list[Any]) -> None:
        reductions, writes = self.s._sinks(phase)
        if not reductions and not writes:
            return
        kernel = self.s.kernel
        roots = [kernel.ops[i].args[0] for i in reductions] + [w[1] for w in writes]
        needed = [i for i in self.s._needed(roots, {**self.env, **self.arrays}) if i not in self.arrays]
        totals = [_ColumnTotal(self, i) for i in reductions]
        start = [s for t in totals for s in t.start()]
        body.append(self._loop(start))
        fast: list[Any] = []
        flag = self._body(needed, writes, totals, fast, exact=False)
        if flag is None:
            inner: list[Any] = [self._loop(fast)]
        else:
            # Accumulators cannot be taken back, so exact code only.
            slow: list[Any] = []
            self._body(needed, writes, totals, slow, exact=True)
            inner = [self._loop(slow, vector=False)]
        last = len(kernel.reduced) - 1
        inner = self._run(last, inner, totals)
        for k in range(last - 1, self.s.kept - 1, -1):
            inner = [For(self.s.loop_names[k], 0, self.s._extent(k), 1, inner)]
        body += inner
        finish = [s for t in totals for s in t.finish()]
        body.append(self._loop(finish))

    def _run(self, loop: int, inner: list[Any], totals: list[_ColumnTotal]) -> list[Any]:
        """The innermost reduced loop, in blocks whose float sums are added to the totals with compensation."""
        name, extent = self.s.loop_names[loop], self.s._extent(loop)
        begin = [s for t in totals for s in t.start_block()]
        fold = [s for t in totals for s in t.end_block()]
        if not fold:
            return [For(name, 0, extent, 1, inner)]
        if isinstance(extent, int):
            return [self._loop(begin), For(name, 0, extent, 1, inner), self._loop(fold)]
        block, limit, end = self.s._name("rows"), self.s._name("limit"), self.s._name("end")
        body: list[Any] = [IntOp(limit, "add", block, BLOCK), IntOp(end, "min", limit, extent)]
        body += [self._loop(begin), For(name, block, end, 1, inner), self._loop(fold)]
        return [For(block, 0, extent, BLOCK, body)]

    def _body(self, needed: list[int], writes: list[tuple[int, int]], totals: list[_ColumnTotal], body: list[Any], *,
              exact: bool) -> Name | None:  # fmt: skip
        env = dict(self.env)
        roots = [t.source for t in totals] + [w[1] for w in writes]
        self._bring([*needed, *roots], env, body)
        flag = self.s._straight([i for i in needed if i not in env], writes, env, body, exact=exact)
        for total in totals:
            body += total.add(env[total.source])
        return flag


class _ColumnTotal:
    """One reduction of a column block: an accumulator per kept element."""

    def __init__(self, column: _Column, i: int) -> None:
        self.column = column
        self.i = i
        self.row = _Total(column.s, i)
        self.source = self.row.op.args[0]
        self.kinds = self.row.kinds
        self.arrays = column._new(self.kinds, "totals")
        self.lost = column._new(self.kinds, "losses") if self.row.kind == "sum" else ()
        self.part = column._new(self.kinds, "parts") if self.row.kind == "sum" else ()
        self.where = column._new(("i64",), "places") if self.row.kind == "arg" else ()

    def _constants(self, values: list[Any], kinds: tuple[str, ...], body: list[Any]) -> Parts:
        program = ScalarProgram()
        return self.column.s._let(
            program, {}, tuple(program.constant(v, k) for v, k in zip(values, kinds, strict=True)), body
        )

    def start(self) -> list[Any]:
        body: list[Any] = []
        self.column._store(self.arrays, self._constants(self.row._identity(), self.kinds, body), self.kinds, body)
        if self.lost:
            zeros = self._constants([0.0] * len(self.kinds), self.kinds, body)
            self.column._store(self.lost, zeros, self.kinds, body)
        if self.where:
            self.column._store(self.where, self._constants([0], ("i64",), body), ("i64",), body)
        return body

    def start_block(self) -> list[Any]:
        """Float sums are added plainly within a block of rows."""
        body: list[Any] = []
        if self.part:
            self.column._store(self.part, self._constants([0.0] * len(self.kinds), self.kinds, body), self.kinds, body)
        return body

    def end_block(self) -> list[Any]:
        """total += part, keeping what rounding lost beside it."""
        body: list[Any] = []
        if not self.part:
            return body
        program, params, bind = self._program()
        old = bind(self.column._load(self.arrays, self.kinds, body, "total"), self.kinds)
        new = bind(self.column._load(self.part, self.kinds, body, "part"), self.kinds)
        lost = bind(self.column._load(self.lost, self.kinds, body, "lost"), self.kinds)
        pairs = [two_sum(o, n) for o, n in zip(old, new, strict=True)]
        results = (*[t for t, _ in pairs], *[e + r for e, (_, r) in zip(lost, pairs, strict=True)])
        stems = ["new_total"] * len(pairs) + ["new_lost"] * len(pairs)
        names = self.column.s._let(program, params, results, body, stems)
        self.column._store(self.arrays, names[: len(self.kinds)], self.kinds, body)
        self.column._store(self.lost, names[len(self.kinds) :], self.kinds, body)
        return body

    def _program(self) -> tuple[ScalarProgram, dict[int, Name], Any]:
        """A new scalar program, its inputs, and `bind(names, types)`, which makes names inputs."""
        program = ScalarProgram(outline=self.column.s.outline)
        params: dict[int, Name] = {}

        def bind(names: Parts, kinds: tuple[str, ...]) -> tuple[ScalarValue, ...]:
            values = []
            for name, kind in zip(names, kinds, strict=True):
                parameter = program.param(kind)
                params[parameter.id] = name
                values.append(parameter)
            return tuple(values)

        return program, params, bind

    def add(self, value: Parts) -> list[Any]:
        body: list[Any] = []
        s = self.column.s
        into = self.part or self.arrays
        program, params, bind = self._program()
        old = bind(self.column._load(into, self.kinds, body, "part" if self.part else "total"), self.kinds)
        new = bind(value, self.kinds)
        if self.part:
            names = s._let(program, params, tuple(o + n for o, n in zip(old, new, strict=True)), body)
            self.column._store(into, names, self.kinds, body)
            return body
        a, b = layout.as_operand(self.row.operand, old), layout.as_operand(self.row.operand, new)
        if self.where:
            (at,) = bind(self.column._load(self.where, ("i64",), body, "place"), ("i64",))
            better = self.row.rule.combine(b, a)
            index = self.row._linear_index(program, params)
            results = (*[select(better, n, o) for n, o in zip(new, old, strict=True)], select(better, index, at))
            names = s._let(program, params, results, body)
            self.column._store(self.arrays, names[:-1], self.kinds, body)
            self.column._store(self.where, names[-1:], ("i64",), body)
            return body
        result = self.row.rule.combine(a, b)
        parts = (result.re, result.im) if self.row.operand.kind == "c" else (result,)
        self.column._store(self.arrays, s._let(program, params, parts, body), self.kinds, body)
        return body

    def finish(self) -> list[Any]:
        body: list[Any] = []
        s = self.column.s
        if self.where:
            self.column.arrays[self.i] = self.where
            return body
        names = self.column._load(self.arrays, self.kinds, body, "total")
        program = ScalarProgram(outline=s.outline)
        params: dict[int, Name] = {}
        parts = []
        lost = self.column._load(self.lost, self.kinds, body, "lost") if self.lost else ()
        for k, (name, kind) in enumerate(zip(names, self.kinds, strict=True)):
            value = program.param(kind)
            params[value.id] = name
            if lost:
                error = program.param(kind)
                params[error.id] = lost[k]
                value = with_correction(value, error)
            parts.append(value)
        dtype = self.row.op.dtype
        result = layout.from_result(dtype, layout.as_operand(dtype, tuple(parts)))
        target = self.column._array(self.i)
        self.column._store(target, s._let(program, params, result, body), layout.value_types(dtype), body)
        return body
