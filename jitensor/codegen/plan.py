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
