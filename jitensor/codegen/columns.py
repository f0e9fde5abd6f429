"""The column form of a kernel: blocks of kept elements, one accumulator each on the stack, inside the reduced loops.

For memory that runs along the last kept loop: a sum over the first axis of a row-major array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jitensor.codegen import layout
from jitensor.codegen.nest import (
    For,
    IntOp,
    Name,
    StackArray,
)
from jitensor.codegen.totals import Env, Parts, Total, stored, two_sum, with_correction
from jitensor.scalar.program import ScalarProgram, ScalarValue, select

if TYPE_CHECKING:
    from jitensor.codegen.schedule import Scheduler

BLOCK = 512  # rows added without compensation
COLUMNS = 1024  # accumulators of a column block: long enough runs of memory, few enough for the first-level cache


class Column:
    """A block of a column-form kernel. Row values live in stack arrays indexed by the place in the block."""

    def __init__(self, scheduler: Scheduler, block: Name, end: Name, env: Env) -> None:
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
            self.s.stack.append(StackArray(names[-1], stored(kind), COLUMNS))
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
        totals = [ColumnTotal(self, i) for i in reductions]
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

    def _run(self, loop: int, inner: list[Any], totals: list[ColumnTotal]) -> list[Any]:
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

    def _body(self, needed: list[int], writes: list[tuple[int, int]], totals: list[ColumnTotal], body: list[Any], *,
              exact: bool) -> Name | None:  # fmt: skip
        env = dict(self.env)
        roots = [t.source for t in totals] + [w[1] for w in writes]
        self._bring([*needed, *roots], env, body)
        flag = self.s._straight([i for i in needed if i not in env], writes, env, body, exact=exact)
        for total in totals:
            body += total.add(env[total.source])
        return flag


class ColumnTotal:
    """One reduction of a column block: an accumulator per kept element."""

    def __init__(self, column: Column, i: int) -> None:
        self.column = column
        self.i = i
        self.row = Total(column.s, i)
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
