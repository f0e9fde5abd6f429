"""What fusion decides: steps over buffers, in an order that respects data and overwriting."""

from __future__ import annotations

import dataclasses
import heapq

from jitensor.codegen.group import Group
from jitensor.codegen.views import Buffer, View
from jitensor.ir.graph import Graph, Node


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """A node that runs outside kernels: operands and results in memory."""

    node: Node
    operands: list[View]
    results: list[Buffer]


@dataclasses.dataclass(slots=True, eq=False)
class Step:
    """`mask`: the bits that are done once it has run; `needs`: those that must be done before. Neither group nor call:
    only a moment in time that others wait for."""

    mask: int
    needs: int
    group: Group | None = None
    call: Call | None = None


@dataclasses.dataclass(slots=True, eq=False)
class Plan:
    graph: Graph
    steps: list[Step]
    buffers: list[Buffer]
    outputs: list[View]


class Order:
    """What must run before what, while fusion decides. A bit stands for a node, a copy or a fill; it belongs to the
    group or step that it runs in."""

    def __init__(self) -> None:
        self.owner: dict[int, Group | Step] = {}
        self.needs: dict[Group | Step, int] = {}  # bits that it waits for itself
        self._above: dict[Group | Step, int] = {}  # all that must have run, through others too

    def enter(self, step: Group | Step) -> None:
        self.needs[step] = self._above[step] = 0
        if step.mask:
            self.owner[step.mask] = step

    def give(self, bit: int, group: Group) -> None:
        """The group computes the node `bit`."""
        group.mask |= bit
        self.owner[bit] = group

    def wait(self, step: Group | Step, bits: int) -> None:
        """`step` runs after `bits`."""
        self.needs[step] |= bits
        self._extend(step, self._closure(bits & ~self._above[step]))

    def unite(self, a: Group, b: Group) -> None:
        """`a` has taken over `b`."""
        self.needs[a] |= self.needs.pop(b)
        above = self._above[a] | self._above.pop(b)
        self._above[a] = 0
        self._extend(a, above | a.mask)
        self._above[a] = above

    def waits(self, bits: int, target: Group) -> bool:
        """Does one of the steps that `bits` stand for run in `target`, or after it?"""
        return bool(bits and (bits & target.mask or self._closure(bits) & target.mask))

    def is_after(self, a: Group, b: Group) -> bool:
        return bool(self._above[a] & b.mask)

    def _closure(self, bits: int) -> int:
        """The bits, those that run with them, and all that must have run before."""
        found = 0
        while bits:
            low = bits & -bits
            found |= low
            owner = self.owner.get(low)
            if owner is not None:
                if isinstance(owner, Group):
                    owner = owner.find()
                found |= owner.mask | self._above[owner]
            bits &= ~found
        return found

    def _extend(self, step: Group | Step, above: int) -> None:
        """`step` and all that runs after it run after `above`."""
        if not above & ~self._above[step]:
            return
        self._above[step] |= above
        mask = step.mask
        for other, known in self._above.items():
            if known & mask:
                self._above[other] = known | above


def order_steps(steps: list[Step]) -> list[Step]:
    """A topological order, earliest program position first."""
    owner: dict[int, int] = {}
    for i, step in enumerate(steps):
        for bit in _bits(step.mask):
            owner.setdefault(bit, i)
    before: list[set[int]] = []
    for i, step in enumerate(steps):
        before.append({owner[b] for b in _bits(step.needs) if b in owner} - {i})
    after: list[list[int]] = [[] for _ in steps]
    waiting = [len(b) for b in before]
    for i, needed in enumerate(before):
        for j in needed:
            after[j].append(i)
    ready = [(step.mask.bit_length(), i) for i, step in enumerate(steps) if not waiting[i]]
    heapq.heapify(ready)
    result = []
    while ready:
        _, i = heapq.heappop(ready)
        result.append(steps[i])
        for j in after[i]:
            waiting[j] -= 1
            if not waiting[j]:
                heapq.heappush(ready, (steps[j].mask.bit_length(), j))
    if len(result) != len(steps):
        raise AssertionError("fusion made steps that wait for each other")
    return [s for s in result if s.group is not None or s.call is not None]


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low)
        mask ^= low
    return found
