"""Reductions of a row: a block accumulator, and the running total that blocks are added to.

Owns `Total`, which gives the statements before, in and after a row's loops, and the compensated addition of floats.
Must not know which loops there are: the scheduler places the statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jitensor.codegen import layout
from jitensor.codegen.nest import (
    Accumulate,
    Get,
    Name,
    Set,
    Variable,
)
from jitensor.scalar.program import ScalarProgram, ScalarValue, equal, is_nan, select

if TYPE_CHECKING:
    from jitensor.codegen.schedule import Scheduler

NOWHERE = 2**63 - 1  # behind every place

Parts = tuple[Name, ...]
Env = dict[int, Parts]


class Total:
    """One reduction of a row: a block accumulator, and the running total that blocks are added to."""

    def __init__(self, scheduler: Scheduler, i: int) -> None:
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


def stored(kind: str) -> str:
    return "u8" if kind == "i1" else kind
