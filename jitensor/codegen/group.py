"""Groups: the nodes that will share one kernel, over one set of loop axes. Fusion merges and grows them."""

from __future__ import annotations

from jitensor.codegen.views import Size, View
from jitensor.ir.graph import Node, Value


class Axis:
    """One loop of a group. Two axes found to be the same loop are united."""

    __slots__ = ("extent", "parent")

    def __init__(self, extent: Size) -> None:
        self.extent = extent
        self.parent: Axis | None = None

    def find(self) -> Axis:
        axis = self
        while axis.parent is not None:
            axis = axis.parent
        return axis


Axes = tuple["Axis | None", ...]  # for each dimension of a value its loop; None: the value does not vary along it


class Read:
    """An operand that comes from memory: `view`, walked by `axes` (one entry per dimension of the view)."""

    __slots__ = ("view", "axes")

    def __init__(self, view: View, axes: Axes) -> None:
        self.view = view
        self.axes = axes


class Member:
    """A node computed inside a group: operands (ids of members and host numbers, or reads) and its result's axes."""

    __slots__ = ("node", "operands", "axes")

    def __init__(self, node: Node, operands: list[int | Read], axes: Axes) -> None:
        self.node = node
        self.operands = operands
        self.axes = axes


class Write:
    """`value` (a member, host number, or a Read that is only copied) stored to `view`, walked by `axes`."""

    __slots__ = ("source", "view", "axes")

    def __init__(self, source: int | Read, view: View, axes: Axes) -> None:
        self.source = source
        self.view = view
        self.axes = axes


class Group:
    """`axes`: every loop, outer first. `reduced`: those that reductions run over. `mask`: its nodes as bits."""

    __slots__ = ("axes", "reduced", "members", "writes", "mask", "parent", "closed", "sequence")

    def __init__(self, axes: list[Axis], mask: int = 0) -> None:
        self.axes = axes
        self.reduced: list[Axis] = []
        self.members: dict[int, Member] = {}  # value id -> member, in program order within one group
        self.writes: list[Write] = []
        self.mask = mask
        self.parent: Group | None = None
        self.sequence: list[Axis] = []  # loops that must stay in this order: a position is counted along them
        self.closed = False  # writes over an old value: its place in time and its loops are fixed

    def find(self) -> Group:
        group = self
        while group.parent is not None:
            group = group.parent
        return group

    def live_axes(self) -> list[Axis]:
        return [a.find() for a in self.axes]

    def absorb(self, other: Group) -> None:
        """Takes over another group's contents; the axes have been united by the caller."""
        other.parent = self
        if len(other.members) > len(self.members):
            self.members, other.members = other.members, self.members
        self.members.update(other.members)
        self.writes += other.writes
        self.mask |= other.mask
        if other.reduced and not self.reduced:
            self.reduced = other.reduced
        self.sequence = self.sequence or other.sequence


class Expression:
    """Where a value is while it is not in memory: member (or host number) `source` of `group`, seen through `axes`."""

    __slots__ = ("group", "source", "axes")

    def __init__(self, group: Group | None, source: Value, axes: Axes) -> None:
        self.group = group
        self.source = source
        self.axes = axes
