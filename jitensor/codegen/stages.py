"""Full reductions of many elements: chunks, whose partial results go to memory, then their combination, for each phase.

The chunks are fixed in elements, so that any number of threads gives the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jitensor.codegen import layout
from jitensor.codegen.nest import (
    For,
    If,
    IntOp,
    Load,
    Name,
    Place,
    Store,
)
from jitensor.codegen.totals import Env, Total
from jitensor.codegen.work import partial_slots
from jitensor.scalar.program import ScalarProgram, convert, equal, not_equal, select

if TYPE_CHECKING:
    from jitensor.codegen.schedule import Scheduler


class Stages:
    """A chunked kernel. The call's range is `stage << 32` plus a range of chunks, or 0 to -1 for everything at once.
    Stage 2p runs the loops of phase p over chunks, each of which leaves its totals in its own words of the partial
    results; stage 2p + 1 combines them in order, leaves the sums in the fixed words, and writes what follows from them.

    Words of the partial results: rows of a chunk, number of chunks, then four for each reduction, then as many per
    chunk.
    """

    def __init__(self, scheduler: Scheduler, env: Env) -> None:
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
        totals = {i: Total(s, i) for i in s._sinks(phase)[0]}
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
