"""Fusion: Graph -> Plan, an ordered list of steps (fused groups and calls) over buffers.

One walk over the nodes. A value is an *expression* while it lives only inside a group's loops, and a *view* once it is in
memory. Each node joins the groups of its operands where the rules below allow it; otherwise operands go to memory first.

  F1 an elementwise node joins its operands' groups when their loops can be matched dimension by dimension;
  F2 no join may put a group both before and after another (checked on ancestor bits);
  F3 a reduction joins the group of its operand when that group reduces over the same loops or over none yet;
  F4 a reduced value flows back into its group when the node's other dimensions match the reduced loops (softmax, var);
  F5 views are index arithmetic on what is in memory, and a permutation of loops on what is not;
  F6 a value that misses an outer loop is recomputed there only if that is cheap;
  F7 groups with equal loops that read the same memory and do not depend on each other become one.

Must not know: how loops are written, what a dtype looks like in memory, doors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jitensor.codegen.group import Axes, Axis, Expression, Group, Member, Read, Write
from jitensor.codegen.plan import Call, Plan, Step, order_steps
from jitensor.codegen.views import Buffer, View, broadcast_stride, moved, reshaped, whole
from jitensor.ir.graph import Graph, Node, Value
from jitensor.ir.types import Shape

CHEAP = 8  # scalar instructions that may be recomputed instead of stored (F6)
HOISTED = 40  # scalar instructions that may run once per outer iteration, unvectorised (F6)


def fuse(graph: Graph, input_views: dict[int, View]) -> Plan:
    """input_views: for the id of every array input and capture, the view on its buffer."""
    return _Fuser(graph, input_views).run()


class _Fuser:
    def __init__(self, graph: Graph, input_views: dict[int, View]) -> None:
        self.graph = graph
        self.views: dict[int, View] = dict(input_views)
        self.view_needs: dict[int, int] = dict.fromkeys(input_views, 0)  # bits of the steps that fill the view
        self.expressions: dict[int, Expression] = {}
        self.groups: list[Group] = []
        self.steps: list[Step] = []
        self.producer: dict[int, Node] = {}
        self.bit: dict[int, int] = {}  # value id -> its node's bit
        self.ancestors: dict[int, int] = {}  # bit -> bits
        self.descendants: dict[int, int] = {}
        self.uses: dict[int, list[int]] = {}  # value id -> positions of nodes that read it
        self.next_bit = 0
        self.buffers: list[Buffer] = []
        self.needs: dict[Group, int] = {}
        self._relate()

    def _relate(self) -> None:
        masks: list[int] = []
        for position, node in enumerate(self.graph.nodes):
            bit = 1 << position
            above = 0
            for v in node.inputs:
                producer = self.bit.get(v.id, 0)
                above |= producer | self.ancestors.get(producer, 0)
                self.uses.setdefault(v.id, []).append(position)
            self.ancestors[bit] = above
            masks.append(bit)
            for v in node.outputs:
                self.producer[v.id] = node
                self.bit[v.id] = bit
        below = dict.fromkeys(masks, 0)
        for position in range(len(masks) - 1, -1, -1):
            bit = masks[position]
            for v in self.graph.nodes[position].inputs:
                producer = self.bit.get(v.id, 0)
                if producer:
                    below[producer] |= bit | below[bit]
        self.descendants = below
        self.next_bit = len(masks)
        self.outputs = {v.id for v in self.graph.outputs}

    def run(self) -> Plan:
        for value in self.graph.inputs:
            if value.id in self.graph.scalars:
                self.expressions[value.id] = Expression(None, value, ())
        updates = self._update_chains()
        for position, node in enumerate(self.graph.nodes):
            self.position = position
            getattr(self, "_" + _PLACED.get(node.primitive.family, "call"))(node)
        outputs = [self._output(v) for v in self.graph.outputs]
        self.position = len(self.graph.nodes)
        for target, new in self.graph.updates:
            self._store_update(target, new, updates)
        self._merge_alike()
        live = [g for g in self.groups if g.parent is None and g.writes]
        steps = [Step(g.mask, self.needs.get(g, 0) | g.waits_for, group=g) for g in live] + self.steps
        return Plan(self.graph, order_steps(steps), self.buffers, outputs)

    # Bits -------------------------------------------------------------------------------------------------------------

    def _all(self, relation: dict[int, int], mask: int) -> int:
        found = 0
        while mask:
            low = mask & -mask
            found |= relation.get(low, 0)
            mask ^= low
        return found

    def _fresh_bit(self) -> int:
        bit = 1 << self.next_bit
        self.next_bit += 1
        return bit

    def _can_join(self, group: Group, node_bit: int) -> bool:
        """F2: nothing outside the group lies on a path from it to the node."""
        if group.waits_for:
            return False  # it writes over an old value: its place in time is fixed
        between = self._below(group) & self.ancestors[node_bit]
        return not between & ~group.mask

    def _below(self, group: Group) -> int:
        return self._all(self.descendants, group.mask)

    # Memory -----------------------------------------------------------------------------------------------------------

    def _buffer(self, dtype: Any, shape: Shape) -> Buffer:
        buffer = Buffer("temp", len(self.buffers), dtype, shape)
        self.buffers.append(buffer)
        return buffer

    def _view(self, value: Value) -> View:
        """The value in memory; puts it there if it is not."""
        view = self.views.get(value.id)
        if view is not None:
            return view
        node = self.producer.get(value.id)
        if node is not None and node.primitive.family in ("movement", "reshape"):
            inner = node.inputs[0]
            base = self._view(inner)
            if node.primitive.family == "movement":
                view = moved(base, node.primitive.lower, value.shape, dict(node.params))
            else:
                view = self._reshaped(inner, base, value.shape)
            needs = self.view_needs[inner.id]
        else:
            view, needs = self._materialise(self.expressions[value.id], value)
        self.views[value.id] = view
        self.view_needs[value.id] = needs
        return view

    def _reshaped(self, inner: Value, base: View, shape: Shape) -> View:
        view = reshaped(base, shape)
        if view is None:
            copied, bit = self._copy(Read(base, ()), base.shape, inner.dtype, self.view_needs[inner.id])
            self.views[inner.id], self.view_needs[inner.id] = copied, bit
            view = reshaped(copied, shape)
            assert view is not None
        return view

    def _materialise(self, expression: Expression, value: Value) -> tuple[View, int]:
        """Makes the group of the expression store it. Dimensions that it does not vary along are stored once."""
        shape = tuple(1 if a is None else n for a, n in zip(expression.axes, value.shape, strict=True))
        buffer = self._buffer(value.dtype, shape)
        view = whole(buffer)
        group = expression.group
        if group is None:
            group = self._new_group([], self._fresh_bit())
            bit = group.mask
        else:
            group = group.find()
            bit = self.bit[expression.source.id]
        group.writes.append(Write(expression.source.id, view, expression.axes))
        strides = tuple(0 if a is None else s for a, s in zip(expression.axes, view.strides, strict=True))
        return View(buffer, 0, value.shape, strides), bit

    def _new_group(self, axes: list[Axis], mask: int) -> Group:
        group = Group(axes, mask)
        self.groups.append(group)
        self.needs[group] = 0
        return group

    def _copy(self, read: Read, shape: Shape, dtype: Any, needs: int, into: View | None = None) -> tuple[View, int]:
        """A group that only copies memory."""
        axes: Axes = tuple(None if n == 1 else Axis(n) for n in shape)
        target = whole(self._buffer(dtype, shape)) if into is None else into
        group = self._new_group([a for a in axes if a is not None], self._fresh_bit())
        group.writes.append(Write(Read(read.view, axes), target, axes))
        self.needs[group] |= needs
        return target, group.mask

    def _output(self, value: Value) -> View:
        view = self._view(value)
        if view.buffer.kind == "input" or any(s == 0 and n != 1 for n, s in zip(view.shape, view.strides, strict=True)):
            view, bit = self._copy(Read(view, ()), value.shape, value.dtype, self.view_needs[value.id])
            self.views[value.id], self.view_needs[value.id] = view, bit
        view.buffer.kind = "output"
        return view

    # Elementwise ------------------------------------------------------------------------------------------------------

    def _elementwise(self, node: Node) -> None:
        value = node.output
        bit = self.bit[value.id]
        group, dims = self._gather(node, bit)
        reads: list[int | Read] = []
        for v in node.inputs:
            expression = self.expressions.get(v.id)
            if expression is not None and (expression.group is None or expression.group.find() is group):
                reads.append(expression.source.id)
            else:
                reads.append(Read(self._view(v), ()))
        if group is None:
            group = self._new_group([], 0)
        missing = self._missing(node, dims, reads)
        if missing and not self._extend(group, node, dims, missing, bit):
            # F6: not in this group. Everything goes through memory, into a group of its own.
            reads = [r if isinstance(r, Read) or self._is_host(r) else Read(self._view(v), ()) for r, v in
                     zip(reads, node.inputs, strict=True)]  # fmt: skip
            group = self._new_group([], 0)
            dims = [None] * len(value.shape)
            self._extend(group, node, dims, self._missing(node, dims, reads), bit)
        for read, v in zip(reads, node.inputs, strict=True):
            if isinstance(read, Read):
                read.axes = tuple(_aligned(dims, len(v.shape)))
                self.needs[group] = self.needs.get(group, 0) | self.view_needs[v.id]
        axes = tuple(dims)
        group.members[value.id] = Member(node, reads, axes)
        group.mask |= bit
        for out in node.outputs:
            self.expressions[out.id] = Expression(group, out, axes)

    def _is_host(self, value_id: int) -> bool:
        return value_id in self.expressions and self.expressions[value_id].group is None

    def _gather(self, node: Node, bit: int) -> tuple[Group | None, list[Axis | None]]:
        """One group that holds as many of the expression operands as can be, and the loops of the node's dimensions."""
        rank = len(node.output.shape)
        operands = [self.expressions[v.id] for v in node.inputs if v.id in self.expressions]
        operands = [e for e in operands if e.group is not None]
        # Later groups first: an operand left out must be computed before.
        operands.sort(key=lambda e: -(self._last(e.group)))
        for chosen in operands:
            group = chosen.group.find()  # type: ignore[union-attr]
            if not self._can_join(group, bit):
                continue
            dims: list[Axis | None] = [None] * rank
            if not _unify(dims, chosen.axes):
                continue
            if self._take_rest(group, dims, operands, chosen, node, bit):
                return group.find(), [a.find() if a else None for a in dims]
        return None, [None] * rank

    def _last(self, group: Group | None) -> int:
        return group.find().mask.bit_length() if group else 0

    def _take_rest(
        self,
        group: Group,
        dims: list[Axis | None],
        operands: list[Expression],
        chosen: Expression,
        node: Node,
        bit: int,
    ) -> bool:
        """Tries to bring the other operands in. False if one of them can be had neither here nor through memory."""
        for other in operands:
            if other is chosen:
                continue
            theirs = other.group.find()  # type: ignore[union-attr]
            group = group.find()
            if theirs is group:
                if not _unify(dims, other.axes):
                    return False  # the same loops crossed otherwise (x + x.T): only through memory, in a later group
                continue
            self._merge(group, theirs, dims, other.axes, bit)
        # What was not merged goes through memory, so it must not need this group's result.
        return self._can_join(group.find(), bit)

    def _merge(self, a: Group, b: Group, dims: list[Axis | None], axes: Axes, bit: int) -> bool:
        """F1, F4: unites two groups at a node whose dimensions are `dims` in a and `axes` in b. No change on failure."""
        if a.waits_for or b.waits_for or not self._can_join(b, bit):
            return False
        both = a.mask | b.mask
        crossing = (self._below(a) & self._all(self.ancestors, b.mask)) | (
            self._below(b) & self._all(self.ancestors, a.mask)
        )
        if crossing & ~both:
            return False
        pairs: dict[Axis, Axis] = {}  # b's axis -> a's
        shift = len(dims) - len(axes)
        placed = list(dims)
        for d, axis in enumerate(axes, shift):
            if axis is None:
                continue
            axis = axis.find()
            mine = placed[d]
            if mine is None:
                placed[d] = axis
            elif pairs.setdefault(axis, mine.find()) is not mine.find():
                return False
        if len(set(pairs.values())) != len(pairs):
            return False
        ours, theirs = a.live_axes(), b.live_axes()
        left_a = [x for x in ours if x not in pairs.values()]
        left_b = [x for x in theirs if x not in pairs]
        if not self._match_rest(a, b, pairs, left_a, left_b):
            return False
        left_a = [x for x in ours if x not in pairs.values()]
        left_b = [x for x in theirs if x not in pairs]
        order = _ordered(ours, theirs, pairs, placed)
        if (left_a or left_b) and not self._affordable(order, pairs, a, b):
            return False
        for axis, mine in pairs.items():
            if axis is not mine:
                axis.parent = mine
        a.reduced = [x.find() for x in a.reduced]
        b.reduced = [x.find() for x in b.reduced]
        a.absorb(b)
        self.needs[a] = self.needs.get(a, 0) | self.needs.get(b, 0)
        a.axes = order
        for d, axis in enumerate(placed):
            dims[d] = axis.find() if axis else None
        return True

    def _match_rest(
        self, a: Group, b: Group, pairs: dict[Axis, Axis], left_a: list[Axis], left_b: list[Axis]
    ) -> bool:
        """Pairs the reduced loops that the node does not show; False where reductions do not fit each other."""
        red_a, red_b = {x.find() for x in a.reduced}, {x.find() for x in b.reduced}
        if not red_a and not red_b:
            return True
        for theirs, mine in pairs.items():
            if red_a and red_b and (theirs in red_b) != (mine in red_a):
                return False
        if red_a and red_b:
            if len(left_a) != len(left_b) or not set(left_a) <= red_a or not set(left_b) <= red_b:
                return False
        elif len(left_a) != len(left_b):
            # One side reduces: the other must be a full-size partner or live on part of its loops.
            return not left_b if red_a else not left_a
        for mine, theirs in zip(left_a, left_b, strict=True):
            if mine.extent != theirs.extent:
                return False
            pairs[theirs] = mine
        return True

    def _affordable(self, order: list[Axis], pairs: dict[Axis, Axis], *groups: Group) -> bool:
        """F6: what it costs that members live on part of the loops."""
        place = {axis: i for i, axis in enumerate(order)}
        repeated = hoisted = 0
        for group in groups:
            reduced = {pairs.get(x.find(), x.find()) for x in group.reduced}
            for member in group.members.values():
                own = {place[pairs.get(x.find(), x.find())] for x in member.axes if x is not None}
                if member.node.primitive.family == "reduction":
                    own = {place[pairs.get(x.find(), x.find())] for x in group.live_axes()}
                missing = [i for i in range(len(order)) if i not in own and order[i] not in reduced]
                if not missing:
                    continue
                if own and min(missing) < max(own):
                    if any(w.source == member.node.output.id for w in group.writes):
                        return False
                    repeated += member.node.primitive.cost
                else:
                    hoisted += member.node.primitive.cost
        return repeated <= CHEAP and hoisted <= HOISTED

    def _missing(self, node: Node, dims: list[Axis | None], reads: list[int | Read]) -> list[int]:
        """Dimensions of the node that vary (some read walks along them) but have no loop yet."""
        rank = len(dims)
        found = set()
        for read in reads:
            if isinstance(read, Read):
                shift = rank - len(read.view.shape)
                for d, (n, stride) in enumerate(zip(read.view.shape, read.view.strides, strict=True), shift):
                    if dims[d] is None and broadcast_stride(n, stride, node.output.shape[d]) != 0:
                        found.add(d)
        return sorted(found)

    def _extend(self, group: Group, node: Node, dims: list[Axis | None], missing: list[int], bit: int) -> bool:
        """Gives the missing dimensions loops: free loops of the group with the same extent (F4), else new ones."""
        shape = node.output.shape
        taken = {a.find() for a in dims if a is not None}
        free = [a for a in group.live_axes() if a not in taken]
        chosen: dict[int, Axis] = {}
        for d in missing:
            fit = next((a for a in free if a.extent == shape[d] and a not in chosen.values()), None)
            if fit is None:
                if group.reduced:
                    return False
                fit = Axis(shape[d])
            chosen[d] = fit
        trial = [chosen.get(d, a) for d, a in enumerate(dims)]
        order = _ordered(group.live_axes(), [], {}, trial)
        if group.members and len(order) != len(group.axes) and not self._affordable(order, {}, group):
            return False
        dims[:] = trial
        group.axes = order
        return True

    # Reductions -------------------------------------------------------------------------------------------------------

    def _reduction(self, node: Node) -> None:
        value, operand = node.output, node.inputs[0]
        bit = self.bit[value.id]
        reduced = node.param("axes")
        expression = self.expressions.get(operand.id)
        source: int | Read
        group = None
        if expression is not None and expression.group is not None:
            group = expression.group.find()
            over = [a.find() for d, a in enumerate(expression.axes) if d in reduced and a is not None]
            if self._can_reduce(group, expression, over, operand, reduced, bit):
                axes, source = expression.axes, expression.source.id
                group.reduced = [a for a in group.live_axes() if a in over]
            else:
                group = None
        if group is None:
            view = self._view(operand)
            axes = tuple(None if n == 1 else Axis(n) for n in operand.shape)
            group = self._new_group([a for a in axes if a is not None], 0)
            group.reduced = [a for d, a in enumerate(axes) if d in reduced and a is not None]
            source = Read(view, axes)
            self.needs[group] |= self.view_needs[operand.id]
        kept = tuple(a.find() if a else None for d, a in enumerate(axes) if d not in reduced)
        group.members[value.id] = Member(node, [source], kept)
        group.mask |= bit
        self.expressions[value.id] = Expression(group, value, kept)

    def _can_reduce(
        self, group: Group, expression: Expression, over: list[Axis], operand: Value, reduced: Sequence[int], bit: int
    ) -> bool:
        """F3."""
        if not over or not self._can_join(group, bit):
            return False
        if any(expression.axes[d] is None and operand.shape[d] != 1 for d in reduced):
            return False  # a broadcast dimension has no loop to reduce over
        if {a.find() for a in expression.axes if a is not None} != set(group.live_axes()):
            return False
        return not group.reduced or {a.find() for a in group.reduced} == set(over)

    # Views ------------------------------------------------------------------------------------------------------------

    def _movement(self, node: Node) -> None:
        operand, value = node.inputs[0], node.output
        expression = self.expressions.get(operand.id)
        if expression is None or (operand.id in self.views and expression.group is not None and _is_slice(node)):
            self._view(value)
            return
        lower, params = node.primitive.lower, dict(node.params)
        axes = expression.axes or (None,) * len(operand.shape)
        if lower.start_step is not None:
            trivial = all(
                (start == 0 and step == 1 and n == m) or a is None
                for (start, step), a, n, m in zip(
                    lower.start_step(operand.shape, **params), axes, operand.shape, value.shape, strict=True
                )
            )
            if not trivial:
                self._view(value)  # F5: other indices of what is computed elsewhere come from memory
                return
        source = lower.source(operand.shape, **params)
        moved_axes = tuple(None if d is None else axes[d] for d in source)
        self.expressions[value.id] = Expression(expression.group, expression.source, moved_axes)
        if expression.group is not None:
            expression.group.find().mask |= self.bit[value.id]

    def _reshape(self, node: Node) -> None:
        expression = self.expressions.get(node.inputs[0].id)
        if expression is not None and expression.group is None:
            shape = (None,) * len(node.output.shape)
            self.expressions[node.output.id] = Expression(None, expression.source, shape)
            return
        self._view(node.output)

    # Creation, joining, updating --------------------------------------------------------------------------------------

    def _creation(self, node: Node) -> None:
        value = node.output
        if node.inputs:  # full: the operand, seen along every dimension
            operand = self.expressions.get(node.inputs[0].id)
            none: Axes = (None,) * len(value.shape)
            if operand is not None:
                self.expressions[value.id] = Expression(operand.group, operand.source, none)
                if operand.group is not None:
                    operand.group.find().mask |= self.bit[value.id]
            else:
                base = self._view(node.inputs[0])
                self.views[value.id] = View(base.buffer, base.offset, value.shape, (0,) * len(value.shape))
                self.view_needs[value.id] = self.view_needs[node.inputs[0].id]
            return
        axis = node.param("axis")
        line = Axis(value.shape[axis])
        axes = tuple(line if d == axis else None for d in range(len(value.shape)))
        group = self._new_group([line], self.bit[value.id])
        group.members[value.id] = Member(node, [], axes)
        self.expressions[value.id] = Expression(group, value, axes)

    def _join(self, node: Node) -> None:
        value, axis = node.output, node.param("axis")
        buffer = self._buffer(value.dtype, value.shape)
        target = whole(buffer)
        offset: Any = 0
        needs = 0
        for part in node.inputs:
            strides = target.strides
            region = View(buffer, offset * strides[axis], part.shape, strides)
            needs |= self._store(part, region)
            offset = offset + part.shape[axis]
        self._finish(value, target, needs)

    def _finish(self, value: Value, view: View, needs: int) -> None:
        """`value` is in memory once the steps `needs` have run: a step without work marks the moment."""
        bit = self.bit[value.id]
        self.views[value.id], self.view_needs[value.id] = view, bit
        self.steps.append(Step(bit, needs))

    def _store(self, value: Value, region: View) -> int:
        """Stores a value into part of a buffer that nothing else reads yet. Returns the bit of the storing step."""
        expression = self.expressions.get(value.id)
        group = expression.group.find() if expression is not None and expression.group is not None else None
        if (
            expression is not None
            and group is not None
            and all(a is not None or n == 1 for a, n in zip(expression.axes, value.shape, strict=True))
            and {a.find() for a in expression.axes if a is not None} == set(group.live_axes()) - set(_rows(group, expression.source))
        ):
            group.writes.append(Write(expression.source.id, region, expression.axes))
            return self.bit[expression.source.id]
        if expression is not None and expression.group is None:
            axes: Axes = tuple(None if n == 1 else Axis(n) for n in value.shape)
            fill = self._new_group([a for a in axes if a is not None], self._fresh_bit())
            fill.writes.append(Write(expression.source.id, region, axes))
            return fill.mask
        return self._copy(Read(self._view(value), ()), value.shape, value.dtype, self.view_needs[value.id], region)[1]

    def _update_chains(self) -> dict[int, int]:
        """For values that may take over an argument's memory: value id -> the argument's id."""
        chains = {}
        for target, new in self.graph.updates:
            value: Value | None = new
            links = []
            while value is not None and value.id != target.id:
                links.append(value.id)
                node = self.producer.get(value.id)
                value = node.inputs[0] if node is not None and node.primitive.family == "update" else None
            if value is not None:
                chains.update(dict.fromkeys(links, target.id))
        return chains

    def _update(self, node: Node) -> None:
        base, new = node.inputs
        value = node.output
        chains = self._update_chains()
        view, needs = self._own_memory(base, value, chains)
        params = dict(node.params)
        steps, starts, sizes = params["steps"], params["starts"], params["sizes"]
        offset = view.offset
        strides = []
        for start, step, stride in zip(starts, steps, view.strides, strict=True):
            offset = offset + start * stride
            strides.append(stride * step)
        region = View(view.buffer, offset, sizes, tuple(strides))
        bit = self._overwrite(new, region, needs | self._readers(base.id))
        self._finish(value, view, bit | needs)

    def _own_memory(self, base: Value, value: Value, chains: dict[int, int]) -> tuple[View, int]:
        """Memory that holds `base` and may be overwritten to hold `value`: base's own where it dies here, else a copy."""
        later = self._last_use(base.id) > self.position
        view = self.views.get(base.id)
        if view is not None and not later:
            buffer = view.buffer
            if buffer.kind == "temp" and view.is_whole and base.id not in self.outputs and self._owner(base):
                return view, self.view_needs[base.id]
            if buffer.kind == "input" and chains.get(value.id) in (base.id, chains.get(base.id, -1)):
                return view, self.view_needs[base.id]
        expression = self.expressions.get(base.id)
        target = whole(self._buffer(value.dtype, value.shape))
        if view is None and expression is not None:
            return target, self._store(base, target)
        source = self._view(base)
        return self._copy(Read(source, ()), base.shape, base.dtype, self.view_needs[base.id], target)

    def _owner(self, base: Value) -> bool:
        """Was this buffer made for `base` itself, so that no other value's view of it outlives it?"""
        node = self.producer.get(base.id)
        return node is not None and node.primitive.family not in ("movement", "reshape")

    def _last_use(self, value_id: int) -> int:
        """Position of the last node that reads the value, directly or through views of it."""
        last = len(self.graph.nodes) + 1 if value_id in self.outputs else -1
        for position in self.uses.get(value_id, ()):
            last = max(last, position)
            node = self.graph.nodes[position]
            if node.primitive.family in ("movement", "reshape"):
                last = max(last, self._last_use(node.output.id))
        return last

    def _readers(self, value_id: int) -> int:
        """Bits of the nodes before this one that read the value, directly or through views of it."""
        found = 0
        for position in self.uses.get(value_id, ()):
            if position < self.position:
                found |= 1 << position
                node = self.graph.nodes[position]
                if node.primitive.family in ("movement", "reshape"):
                    found |= self._readers(node.output.id)
        return found

    def _overwrite(self, value: Value, region: View, after: int) -> int:
        """Stores `value` over old contents once the steps `after` have run. Returns the bit of the storing step."""
        expression = self.expressions.get(value.id)
        if expression is not None and expression.group is not None:
            group = expression.group.find()
            full = all(a is not None or n == 1 for a, n in zip(expression.axes, value.shape, strict=True))
            covers = {a.find() for a in expression.axes if a is not None} == set(group.live_axes())
            others = after & ~group.mask
            before = self._all(self.ancestors, others) | others
            reads_elsewhere = self._reads_elsewhere(group, region, expression.axes)
            if full and covers and not group.reduced and not group.waits_for and not before & group.mask:
                if not reads_elsewhere:
                    group.writes.append(Write(expression.source.id, region, expression.axes))
                    group.waits_for |= others
                    return self.bit[expression.source.id]
        if expression is not None and expression.group is None:
            axes: Axes = tuple(None if n == 1 else Axis(n) for n in value.shape)
            fill = self._new_group([a for a in axes if a is not None], self._fresh_bit())
            fill.writes.append(Write(expression.source.id, region, axes))
            fill.waits_for |= after
            return fill.mask
        source = self._view(value)
        needs = self.view_needs[value.id]
        if source.buffer is region.buffer:  # memory that overlaps what is written: through a copy
            source, needs = self._copy(Read(source, ()), value.shape, value.dtype, needs)
        _, bit = self._copy(Read(source, ()), value.shape, value.dtype, needs, region)
        self.groups[-1].waits_for |= after
        return bit

    def _reads_elsewhere(self, group: Group, region: View, axes: Axes) -> bool:
        """Does the group read the overwritten buffer at other elements than the one that an iteration writes?"""
        written = {a.find(): s for a, s in zip(axes, region.strides, strict=True) if a is not None}
        for member in group.members.values():
            for read in member.operands:
                if isinstance(read, Read) and read.view.buffer is region.buffer:
                    walked = {a.find(): s for a, s in zip(read.axes, read.view.strides, strict=True) if a is not None}
                    if read.view.offset != region.offset or walked != written:
                        return True
        return any(isinstance(w.source, Read) and w.source.view.buffer is region.buffer for w in group.writes)

    def _store_update(self, target: Value, new: Value, chains: dict[int, int]) -> None:
        """The caller's array gets the new value, unless a chain of updates has already written it there."""
        view = self.views.get(new.id)
        own = self.views[target.id]
        if view is not None and view == own:
            return
        readers = self._readers(target.id)
        self._overwrite(new, own, readers | self.view_needs.get(new.id, 0))

    # Calls ------------------------------------------------------------------------------------------------------------

    def _call(self, node: Node) -> None:
        """A library call, a matrix product or an effect: operands in memory, results in fresh memory."""
        views = [self._view(v) for v in node.inputs]
        needs = 0
        for v in node.inputs:
            needs |= self.view_needs[v.id]
        bit = self.bit[node.outputs[0].id] if node.outputs else self._fresh_bit()
        if node.primitive.effects:
            needs |= self._effects_before
            self._effects_before = bit
        results = []
        for v in node.outputs:
            buffer = self._buffer(v.dtype, v.shape)
            results.append(buffer)
            self.views[v.id], self.view_needs[v.id] = whole(buffer), bit
        self.steps.append(Step(bit, needs, call=Call(node, views, results)))

    _effects_before = 0

    def _constant(self, node: Node) -> None:
        self.expressions[node.output.id] = Expression(None, node.output, ())

    # Afterwards -------------------------------------------------------------------------------------------------------

    def _merge_alike(self) -> None:
        """F7."""
        live = [g for g in self.groups if g.parent is None and g.writes and g.members and not g.waits_for]
        for i, a in enumerate(live):
            for b in live[i + 1 :]:
                if a.parent is None and b.parent is None and self._alike(a, b):
                    for theirs, mine in zip(b.live_axes(), a.live_axes(), strict=True):
                        theirs.parent = mine
                    a.absorb(b)
                    self.needs[a] |= self.needs[b]

    def _alike(self, a: Group, b: Group) -> bool:
        ours, theirs = a.live_axes(), b.live_axes()
        if not ours or [x.extent for x in ours] != [x.extent for x in theirs] or bool(a.reduced) != bool(b.reduced):
            return False
        if [x in {y.find() for y in a.reduced} for x in ours] != [x in {y.find() for y in b.reduced} for x in theirs]:
            return False
        if not _buffers_read(a) & _buffers_read(b):
            return False
        after_a = self._below(a) | a.mask
        after_b = self._below(b) | b.mask
        return not (after_a & (self.needs[b] | self._all(self.ancestors, b.mask))) and not (
            after_b & (self.needs[a] | self._all(self.ancestors, a.mask))
        )


_PLACED = {
    "elementwise": "elementwise",
    "reduction": "reduction",
    "movement": "movement",
    "reshape": "reshape",
    "creation": "creation",
    "join": "join",
    "update": "update",
    "constant": "constant",
}


def _is_slice(node: Node) -> bool:
    return node.primitive.lower.start_step is not None


def _rows(group: Group, value: Value) -> list[Axis]:
    """The reduced loops, where the value is a row value."""
    member = group.members.get(value.id)
    reduced = [a.find() for a in group.reduced]
    if member is None or any(a is not None and a.find() in reduced for a in member.axes):
        return []
    return reduced


def _aligned(dims: list[Axis | None], rank: int) -> list[Axis | None]:
    return dims[len(dims) - rank :] if rank else []


def _unify(dims: list[Axis | None], axes: Axes) -> bool:
    """Lays a value's loops over the node's dimensions (aligned at the right); False where two loops meet."""
    trial = list(dims)
    for d, axis in enumerate(axes, len(dims) - len(axes)):
        if axis is None:
            continue
        if trial[d] is None:
            trial[d] = axis.find()
        elif trial[d].find() is not axis.find():  # type: ignore[union-attr]
            return False
    placed = [a for a in trial if a is not None]
    if len({id(a) for a in placed}) != len(placed):
        return False
    dims[:] = trial
    return True


def _ordered(ours: list[Axis], theirs: list[Axis], pairs: dict[Axis, Axis], placed: list[Axis | None]) -> list[Axis]:
    """All loops of two groups, outer first: as the node's dimensions lie where it shows them, else as they were."""
    every = list(ours)
    every += [a for a in theirs if a not in pairs]
    every += [a for a in placed if a is not None and a not in every and a not in pairs]
    shown = [pairs.get(a, a) for a in placed if a is not None]
    rank = {a: i for i, a in enumerate(shown)}
    if len(shown) == len(every):
        return shown
    # Loops that the node does not show keep their place relative to their neighbours: stable insertion.
    hidden = [a for a in every if a not in rank]
    order = list(shown)
    for axis in hidden:
        position = every.index(axis)
        after = [order.index(a) for a in every[:position] if a in order]
        order.insert(max(after, default=-1) + 1, axis)
    return order


def _buffers_read(group: Group) -> set[int]:
    return {id(r.view.buffer) for m in group.members.values() for r in m.operands if isinstance(r, Read)}
