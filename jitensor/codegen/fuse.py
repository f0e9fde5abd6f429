"""Fusion: Graph -> Plan, an ordered list of steps (fused groups and calls) over buffers.

One walk over the nodes. A value is an *expression* while it lives only inside a group's loops, and a *view* once it is
in memory. Each node joins the groups of its operands where the rules below allow it; otherwise operands go to memory
first.

  F1 an elementwise node joins its operands' groups when their loops can be matched dimension by dimension;
  F2 no join may put a group both before and after another (followed along what each group waits for);
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
from jitensor.codegen.plan import Call, Order, Plan, Step, order_steps
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
        self.order = Order()
        self.producer: dict[int, Node] = {}
        self.bit: dict[int, int] = {}  # value id -> its node's bit
        self.uses: dict[int, list[int]] = {}  # value id -> positions of readers: nodes, then outputs, then updates
        self.buffers: list[Buffer] = []
        self._relate()

    def _relate(self) -> None:
        """Who makes a value and who reads it. An output and an update read too, at positions after the last node."""
        for position, node in enumerate(self.graph.nodes):
            for v in node.inputs:
                self.uses.setdefault(v.id, []).append(position)
            for v in node.outputs:
                self.producer[v.id] = node
                self.bit[v.id] = 1 << position
        self.next_bit = len(self.graph.nodes)
        self.outputs = {v.id for v in self.graph.outputs}
        for v in (*self.graph.outputs, *[new for _, new in self.graph.updates]):
            self.uses.setdefault(v.id, []).append(self.next_bit)
            self.next_bit += 1
        self.chains = self._update_chains()

    def run(self) -> Plan:
        for value in self.graph.inputs:
            if value.id in self.graph.scalars:
                self.expressions[value.id] = Expression(None, value, ())
        for position, node in enumerate(self.graph.nodes):
            self.position = position
            getattr(self, "_" + _PLACED.get(node.primitive.family, "call"))(node)
        count = len(self.graph.nodes)
        kept: dict[int, View] = {}
        for k, v in enumerate(self.graph.outputs):
            if v.id not in kept:
                kept[v.id] = self._output(v, 1 << count + k)
        outputs = [kept[v.id] for v in self.graph.outputs]
        self.position = self.next_bit
        self._store_updates()
        self._merge_alike()
        live = [g for g in self.groups if g.parent is None and g.writes]
        steps = [Step(g.mask, self.order.needs[g], group=g) for g in live] + self.steps
        return Plan(self.graph, order_steps(steps), self.buffers, outputs)

    # Bits -------------------------------------------------------------------------------------------------------------

    def _fresh_bit(self) -> int:
        bit = 1 << self.next_bit
        self.next_bit += 1
        return bit

    def _is_before(self, operands: Sequence[Value], group: Group) -> bool:
        """F2: can all operands that come from elsewhere be in memory before the group runs?"""
        if group.closed:
            return False
        for v in operands:
            expression = self.expressions.get(v.id)
            if expression is not None:
                theirs = expression.group.find() if expression.group is not None else group
                if theirs is not group and self.order.waits(self.bit[expression.source.id], group):
                    return False
            elif self.order.waits(self.view_needs.get(v.id, 0), group):
                return False
        return True

    # Memory -----------------------------------------------------------------------------------------------------------

    def _buffer(self, dtype: Any, shape: Shape) -> Buffer:
        buffer = Buffer("temp", len(self.buffers), dtype, shape)
        self.buffers.append(buffer)
        return buffer

    def _view(self, value: Value) -> View:
        """The value in memory; puts it there if it is not."""
        chain = []
        while value.id not in self.views:
            chain.append(value)
            node = self.producer.get(value.id)
            if node is None or node.primitive.family not in ("movement", "reshape") or self._is_stored_as_seen(value):
                break
            value = node.inputs[0]
        for value in reversed(chain):
            node = self.producer.get(value.id)
            if self._is_stored_as_seen(value):
                view, needs = self._materialise(self.expressions[value.id], value)
            elif node is not None and node.primitive.family in ("movement", "reshape"):
                base, needs = self.views[node.inputs[0].id], self.view_needs[node.inputs[0].id]
                if node.primitive.family == "movement":
                    view = moved(base, node.primitive.lower, value.shape, dict(node.params))
                else:
                    view, needs = self._reshaped(node, base, needs)
            else:
                view, needs = self._materialise(self.expressions[value.id], value)
            self.views[value.id], self.view_needs[value.id] = view, needs
        return view if chain else self.views[value.id]

    def _is_stored_as_seen(self, value: Value) -> bool:
        """A permutation that alone reads what is computed: the permuted array is the one to store, row by row."""
        node = self.producer.get(value.id)
        expression = self.expressions.get(value.id)
        return (
            node is not None
            and node.primitive.family == "movement"
            and expression is not None
            and expression.group is not None
            and all(a is not None or n == 1 for a, n in zip(expression.axes, value.shape, strict=True))
            and node.inputs[0].id not in self.views
            and len(self.uses.get(node.inputs[0].id, ())) == 1
        )

    def _reshaped(self, node: Node, base: View, needs: int) -> tuple[View, int]:
        shape = node.output.shape
        view = reshaped(base, shape)
        if view is None:
            result = node.output
            copied, needs = self._copy(Read(base, ()), base.shape, result.dtype, needs, bit=self.bit[result.id])
            view = reshaped(copied, shape)
            assert view is not None
        return view, needs

    def _materialise(self, expression: Expression, value: Value) -> tuple[View, int]:
        """Makes the group of the expression store it. Dimensions that it does not vary along are stored once."""
        shape = tuple(1 if a is None else n for a, n in zip(expression.axes, value.shape, strict=True))
        buffer = self._buffer(value.dtype, shape)
        view = whole(buffer)
        group = expression.group
        if group is None:
            bit = self._fresh_bit()
            group = self._new_group([], bit)
        else:
            group = group.find()
            bit = self.bit[expression.source.id]
        group.writes.append(Write(expression.source.id, view, expression.axes))
        strides = tuple(0 if a is None else s for a, s in zip(expression.axes, view.strides, strict=True))
        return View(buffer, 0, value.shape, strides), bit

    def _new_group(self, axes: list[Axis], mask: int) -> Group:
        group = Group(axes, mask)
        self.groups.append(group)
        self.order.enter(group)
        return group

    def _copy(
        self, read: Read, shape: Shape, dtype: Any, needs: int, into: View | None = None, bit: int = 0
    ) -> tuple[View, int]:
        """A group that only copies memory; `bit` is its own if given."""
        axes: Axes = tuple(None if n == 1 else Axis(n) for n in shape)
        target = whole(self._buffer(dtype, shape)) if into is None else into
        group = self._new_group([a for a in axes if a is not None], bit or self._fresh_bit())
        group.writes.append(Write(Read(read.view, axes), target, axes))
        self.order.wait(group, needs)
        return target, group.mask

    def _output(self, value: Value, bit: int) -> View:
        view = self._view(value)
        if view.buffer.kind == "input" or any(s == 0 and n != 1 for n, s in zip(view.shape, view.strides, strict=True)):
            view, _ = self._copy(Read(view, ()), value.shape, value.dtype, self.view_needs[value.id], bit=bit)
        view.buffer.kind = "output"
        return view

    # Elementwise ------------------------------------------------------------------------------------------------------

    def _elementwise(self, node: Node) -> None:
        value = node.output
        bit = self.bit[value.id]
        group, dims = self._gather(node)
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
        if missing and not self._extend(group, node, dims, missing):
            # F6: not in this group. Everything goes through memory, into a group of its own.
            reads = [r if isinstance(r, Read) or self._is_host(r) else Read(self._view(v), ()) for r, v in
                     zip(reads, node.inputs, strict=True)]  # fmt: skip
            group = self._new_group([], 0)
            dims = [None] * len(value.shape)
            self._extend(group, node, dims, self._missing(node, dims, reads))
        for read, v in zip(reads, node.inputs, strict=True):
            if isinstance(read, Read):
                read.axes = tuple(_aligned(dims, len(v.shape)))
                self.order.wait(group, self.view_needs[v.id])
        axes = tuple(dims)
        group.members[value.id] = Member(node, reads, axes)
        self.order.give(bit, group)
        for out in node.outputs:
            self.expressions[out.id] = Expression(group, out, axes)

    def _is_host(self, value_id: int) -> bool:
        return value_id in self.expressions and self.expressions[value_id].group is None

    def _gather(self, node: Node) -> tuple[Group | None, list[Axis | None]]:
        """One group that holds as many of the expression operands as can be, and the loops of the node's dimensions."""
        shape = node.output.shape
        operands = [self.expressions[v.id] for v in node.inputs if v.id in self.expressions]
        operands = [e for e in operands if e.group is not None]
        # Later groups first: an operand left out must be computed before.
        operands.sort(key=lambda e: -(self._last(e.group)))
        for chosen in operands:
            group = chosen.group.find()  # type: ignore[union-attr]
            if group.closed:
                continue
            dims: list[Axis | None] = [None] * len(shape)
            if not _unify(dims, chosen.axes, shape):
                continue
            if self._take_rest(group, dims, operands, chosen, node):
                return group.find(), [a.find() if a else None for a in dims]
        return None, [None] * len(shape)

    def _last(self, group: Group | None) -> int:
        return group.find().mask.bit_length() if group else 0

    def _take_rest(
        self, group: Group, dims: list[Axis | None], operands: list[Expression], chosen: Expression, node: Node
    ) -> bool:
        """Tries to bring the other operands in. False if one of them can be had neither here nor through memory."""
        for other in operands:
            if other is chosen:
                continue
            theirs = other.group.find()  # type: ignore[union-attr]
            group = group.find()
            if theirs is group:
                if not _unify(dims, other.axes, node.output.shape):
                    return False  # the same loops crossed otherwise (x + x.T): only through memory, in a later group
                continue
            self._merge(group, theirs, dims, other.axes, node.output.shape)
        # What was not merged goes through memory, so it must not need this group's result.
        return self._is_before(node.inputs, group.find())

    def _merge(self, a: Group, b: Group, dims: list[Axis | None], axes: Axes, shape: Shape) -> bool:
        """F1, F4: unites two groups at a node of `shape` whose dimensions are `dims` in a and `axes` in b. No change on
        failure."""
        if a.closed or b.closed:
            return False
        if self.order.is_after(a, b) or self.order.is_after(b, a):
            return False
        pairs: dict[Axis, Axis] = {}  # b's axis -> a's
        shift = len(dims) - len(axes)
        placed = list(dims)
        for d, axis in enumerate(axes, shift):
            if axis is None:
                continue
            axis = axis.find()
            if axis.extent != shape[d]:
                return False  # broadcast in a way that shows only when called
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
        shown = {axis.find() for axis in placed if axis is not None}
        if not self._match_rest(a, b, pairs, left_a, left_b, shown):
            return False
        left_a = [x for x in ours if x not in pairs.values()]
        left_b = [x for x in theirs if x not in pairs]
        order = _ordered(ours, theirs, pairs, placed)
        if not _keeps_sequence(a, order, pairs) or not _keeps_sequence(b, order, pairs):
            return False
        if (left_a or left_b) and not self._affordable(order, pairs, a, b):
            return False
        for axis, mine in pairs.items():
            if axis is not mine:
                axis.parent = mine
        a.reduced = [x.find() for x in a.reduced]
        b.reduced = [x.find() for x in b.reduced]
        a.absorb(b)
        self.order.unite(a, b)
        a.axes = order
        for d, axis in enumerate(placed):
            dims[d] = axis.find() if axis else None
        return True

    def _match_rest(
        self,
        a: Group,
        b: Group,
        pairs: dict[Axis, Axis],
        left_a: list[Axis],
        left_b: list[Axis],
        shown: set[Axis],
    ) -> bool:
        """Pairs the reduced loops that the node does not show; False where reductions do not fit each other, or where
        it shows two loops as dimensions of their own."""
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
            if mine.extent != theirs.extent or (mine in shown and theirs in shown):
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

    def _extend(self, group: Group, node: Node, dims: list[Axis | None], missing: list[int]) -> bool:
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
        old = set(group.live_axes())
        shown = {a.find() for a in trial if a is not None}
        if not old <= shown and not group.reduced:
            # The node would run again for every turn of a loop that is not its own, or never.
            return False
        if group.members and any(a.extent == 0 for a in shown - old):
            return False  # a loop without turns would leave the members uncomputed
        order = _ordered(group.live_axes(), [], {}, trial)
        if not _keeps_sequence(group, order, {}):
            return False
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
            if self._can_reduce(group, expression, over, node):
                axes, source = expression.axes, expression.source.id
                group.reduced = [a for a in group.live_axes() if a in over]
                if _counts_position(node):
                    group.sequence = over
            else:
                group = None
        if group is None:
            view = self._view(operand)
            axes = tuple(None if n == 1 else Axis(n) for n in operand.shape)
            if not any(axes[d] for d in reduced):  # a loop of one iteration, so that there is one to reduce over
                axes = tuple(Axis(1) if d == reduced[0] else a for d, a in enumerate(axes))
            group = self._new_group([a for a in axes if a is not None], 0)
            group.reduced = [a for d, a in enumerate(axes) if d in reduced and a is not None]
            source = Read(view, axes)
            self.order.wait(group, self.view_needs[operand.id])
            if _counts_position(node):
                group.sequence = list(group.reduced)
        kept = tuple(a.find() if a else None for d, a in enumerate(axes) if d not in reduced)
        group.members[value.id] = Member(node, [source], kept)
        self.order.give(bit, group)
        self.expressions[value.id] = Expression(group, value, kept)

    def _can_reduce(self, group: Group, expression: Expression, over: list[Axis], node: Node) -> bool:
        """F3."""
        operand, reduced = node.inputs[0], node.param("axes")
        if not over or group.closed:
            return False
        if _counts_position(node) and over != [a for a in group.live_axes() if a in over]:
            return False
        for d, axis in enumerate(expression.axes):
            if axis is None and operand.shape[d] != 1 and d in reduced:
                return False  # a broadcast dimension has no loop to reduce over
            if axis is not None and axis.find().extent != operand.shape[d]:
                return False  # broadcast in a way that shows only when called
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
        if any(a is not None and a.find().extent != n for a, n in zip(moved_axes, value.shape, strict=True)):
            self._view(value)  # broadcast in a way that shows only when called
            return
        self._rename(value, expression, moved_axes)

    def _rename(self, value: Value, expression: Expression, axes: Axes) -> None:
        """`value` is the expression, seen through other axes."""
        self.expressions[value.id] = Expression(expression.group, expression.source, axes)
        if expression.group is not None:
            self.order.give(self.bit[value.id], expression.group.find())

    def _reshape(self, node: Node) -> None:
        operand, value = node.inputs[0], node.output
        expression = self.expressions.get(operand.id)
        if expression is not None and expression.group is None:
            self._rename(value, expression, (None,) * len(value.shape))
            return
        if expression is not None and [n for n in operand.shape if n != 1] == [n for n in value.shape if n != 1]:
            axes = iter([a for a, n in zip(expression.axes, operand.shape, strict=True) if n != 1])
            self._rename(value, expression, tuple(None if n == 1 else next(axes) for n in value.shape))
            return
        self._view(value)

    # Creation, joining, updating --------------------------------------------------------------------------------------

    def _creation(self, node: Node) -> None:
        value = node.output
        if node.inputs:  # full: the operand, seen along every dimension
            operand = self.expressions.get(node.inputs[0].id)
            none: Axes = (None,) * len(value.shape)
            if operand is not None:
                self._rename(value, operand, none)
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
        self._append(Step(bit, needs))

    def _append(self, step: Step) -> None:
        self.steps.append(step)
        self.order.enter(step)
        self.order.wait(step, step.needs)

    def _store(self, value: Value, region: View) -> int:
        """Stores a value into part of a buffer that nothing else reads yet. Returns the bit of the storing step."""
        expression = self.expressions.get(value.id)
        group = expression.group.find() if expression is not None and expression.group is not None else None
        if expression is not None and group is not None and self._computes_once(group, expression, value):
            group.writes.append(Write(expression.source.id, region, expression.axes))
            return self.bit[expression.source.id]
        if expression is not None and expression.group is None:
            axes: Axes = tuple(None if n == 1 else Axis(n) for n in value.shape)
            fill = self._new_group([a for a in axes if a is not None], self._fresh_bit())
            fill.writes.append(Write(expression.source.id, region, axes))
            return fill.mask
        return self._copy(Read(self._view(value), ()), value.shape, value.dtype, self.view_needs[value.id], region)[1]

    def _computes_once(self, group: Group, expression: Expression, value: Value) -> bool:
        """Does the group's nest, or the part of it outside its reduced loops, compute each element once?"""
        for axis, n in zip(expression.axes, value.shape, strict=True):
            if n != 1 and (axis is None or axis.find().extent != n):
                return False
        loops = {a.find() for a in expression.axes if a is not None}
        return loops == set(group.live_axes()) - set(_rows(group, expression.source))

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
        view, after = self._own_memory(base, value)
        params = dict(node.params)
        offset = view.offset
        strides = []
        for start, step, stride in zip(params["starts"], params["steps"], view.strides, strict=True):
            offset = offset + start * stride
            strides.append(stride * step)
        region = View(view.buffer, offset, params["sizes"], tuple(strides))
        if view.buffer.kind == "input":
            after |= self._effects_before  # a check that fails leaves the caller's array as it is
        self._finish(value, view, self._overwrite(new, region, after) | after)

    def _own_memory(self, base: Value, value: Value) -> tuple[View, int]:
        """Memory that holds `base` and may be overwritten to hold `value`: base's own where it dies here, else a copy.
        With it the bits of what must be done before."""
        view = self.views.get(base.id)
        if view is not None and self._last_use(base.id) <= self.position:
            buffer = view.buffer
            chained = self.chains.get(value.id)
            temporary = buffer.kind == "temp" and view.is_whole and self._owns(base)
            own = buffer.kind == "input" and chained is not None and chained in (base.id, self.chains.get(base.id))
            if temporary or own:
                return view, self.view_needs[base.id] | self._readers(base.id)
        target = whole(self._buffer(value.dtype, value.shape))
        if view is None and base.id in self.expressions:
            return target, self._store(base, target)
        source = self._view(base)
        return self._copy(Read(source, ()), base.shape, base.dtype, self.view_needs[base.id], target)

    def _owns(self, base: Value) -> bool:
        """Was this buffer made for `base` itself, so that no other value's view of it outlives it?"""
        node = self.producer.get(base.id)
        return node is not None and node.primitive.family not in _VIEWS

    def _views_of(self, value_id: int) -> list[int]:
        """The value and all views of it."""
        found = [value_id]
        for one in found:
            for position in self.uses.get(one, ()):
                if position < len(self.graph.nodes) and self.graph.nodes[position].primitive.family in _VIEWS:
                    found.append(self.graph.nodes[position].output.id)
        return found

    def _last_use(self, value_id: int) -> int:
        """Position of the last that reads the value, directly or through views of it."""
        return max((self.uses[v][-1] for v in self._views_of(value_id) if v in self.uses), default=-1)

    def _readers(self, value_id: int) -> int:
        """Bits of what reads the value up to here, directly or through views of it."""
        found = 0
        for v in self._views_of(value_id):
            for position in self.uses.get(v, ()):
                if position < self.position:
                    found |= 1 << position
        return found

    def _overwrite(self, value: Value, region: View, after: int) -> int:
        """Stores `value` over old contents once the steps `after` have run. Returns the bit of the storing step."""
        expression = self.expressions.get(value.id)
        if expression is not None and expression.group is not None:
            group = expression.group.find()
            others = after & ~group.mask
            if self._covers(group, expression, value) and not self.order.waits(others, group):
                if not _touches_elsewhere(group, region, expression.axes):
                    group.writes.append(Write(expression.source.id, region, expression.axes))
                    self.order.wait(group, others)
                    group.closed = True
                    return self.bit[expression.source.id]
        if expression is not None and expression.group is None:
            axes: Axes = tuple(None if n == 1 else Axis(n) for n in value.shape)
            fill = self._new_group([a for a in axes if a is not None], self._fresh_bit())
            fill.writes.append(Write(expression.source.id, region, axes))
            self.order.wait(fill, after)
            fill.closed = True
            return fill.mask
        source = self._view(value)
        needs = self.view_needs[value.id]
        if source.buffer is region.buffer:  # memory that overlaps what is written: through a copy
            source, needs = self._copy(Read(source, ()), value.shape, value.dtype, needs)
        _, bit = self._copy(Read(source, ()), value.shape, value.dtype, needs, region)
        self.order.wait(self.groups[-1], after)
        self.groups[-1].closed = True
        return bit

    def _covers(self, group: Group, expression: Expression, value: Value) -> bool:
        """Does each iteration of the group compute one element of the value, and each element come from one?"""
        return not group.closed and not group.reduced and self._computes_once(group, expression, value)

    def _store_updates(self) -> None:
        """The callers' arrays get their new values, unless a chain of updates has already written them there."""
        targets = {self.views[t.id].buffer for t, _ in self.graph.updates}
        first = len(self.graph.nodes) + len(self.graph.outputs)
        pending = []
        for k, (target, new) in enumerate(self.graph.updates):
            view = self.views.get(new.id)
            if view is not None and view == self.views[target.id]:
                continue
            if view is not None and view.buffer in targets:  # another array that may be overwritten first
                needs = self.view_needs[new.id]
                view, bit = self._copy(Read(view, ()), new.shape, new.dtype, needs, bit=1 << first + k)
                new = Value(-1 - k, new.type)
                self.views[new.id], self.view_needs[new.id] = view, bit
            pending.append((target, new))
        for target, new in pending:
            own = self.views[target.id]
            after = self._effects_before
            for v in (target.id, *[v for v, t in self.chains.items() if t == target.id]):
                if v in self.views and self.views[v].buffer is own.buffer:
                    after |= self._readers(v) | self.view_needs[v]
            self._overwrite(new, own, after)

    # Calls ------------------------------------------------------------------------------------------------------------

    def _call(self, node: Node) -> None:
        """A library call, a matrix product or an effect: operands in memory, results in fresh memory."""
        views = [self._view(v) for v in node.inputs]
        needs = 0
        for v in node.inputs:
            needs |= self.view_needs[v.id]
        bit = 1 << self.position
        if node.primitive.effects:
            needs |= self._effects_before
            self._effects_before = bit
        results = []
        for v in node.outputs:
            buffer = self._buffer(v.dtype, v.shape)
            results.append(buffer)
            self.views[v.id], self.view_needs[v.id] = whole(buffer), bit
        self._append(Step(bit, needs, call=Call(node, views, results)))

    _effects_before = 0

    def _constant(self, node: Node) -> None:
        self.expressions[node.output.id] = Expression(None, node.output, ())

    # Afterwards -------------------------------------------------------------------------------------------------------

    def _merge_alike(self) -> None:
        """F7."""
        live = [g for g in self.groups if g.parent is None and g.writes and g.members and not g.closed]
        for i, a in enumerate(live):
            for b in live[i + 1 :]:
                if a.parent is None and b.parent is None and self._alike(a, b):
                    for theirs, mine in zip(b.live_axes(), a.live_axes(), strict=True):
                        theirs.parent = mine
                    a.absorb(b)
                    self.order.unite(a, b)

    def _alike(self, a: Group, b: Group) -> bool:
        ours, theirs = a.live_axes(), b.live_axes()
        if not ours or [x.extent for x in ours] != [x.extent for x in theirs] or bool(a.reduced) != bool(b.reduced):
            return False
        if [x in {y.find() for y in a.reduced} for x in ours] != [x in {y.find() for y in b.reduced} for x in theirs]:
            return False
        if not _buffers_read(a) & _buffers_read(b):
            return False
        return not self.order.is_after(a, b) and not self.order.is_after(b, a)


def _counts_position(node: Node) -> bool:
    """Does it find a position among several dimensions, so that their loops must stay in order?"""
    return str(node.primitive.lower.accumulate).startswith("arg") and len(node.param("axes")) > 1


def _keeps_sequence(group: Group, order: list[Axis], pairs: dict[Axis, Axis]) -> bool:
    places = [order.index(pairs.get(a.find(), a.find())) for a in group.sequence]
    return places == sorted(places)


_VIEWS = ("movement", "reshape", "creation")  # results may lie in the operand's memory
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


def _unify(dims: list[Axis | None], axes: Axes, shape: Shape) -> bool:
    """Lays a value's loops over the node's dimensions (aligned at the right). False where two loops meet, or where a
    loop is not as long as the dimension (broadcast in a way that shows only when called)."""
    trial = list(dims)
    for d, axis in enumerate(axes, len(dims) - len(axes)):
        if axis is None:
            continue
        if axis.find().extent != shape[d]:
            return False
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


def _touches_elsewhere(group: Group, region: View, axes: Axes) -> bool:
    """Does the group use the overwritten buffer otherwise than by reading the element that an iteration writes?"""
    written = {a.find(): s for a, s in zip(axes, region.strides, strict=True) if a is not None}
    for member in group.members.values():
        for read in member.operands:
            if isinstance(read, Read) and read.view.buffer is region.buffer:
                walked = {a.find(): s for a, s in zip(read.axes, read.view.strides, strict=True) if a is not None}
                if read.view.offset != region.offset or walked != written:
                    return True
    return any(
        w.view.buffer is region.buffer or (isinstance(w.source, Read) and w.source.view.buffer is region.buffer)
        for w in group.writes
    )


def _buffers_read(group: Group) -> set[int]:
    return {id(r.view.buffer) for m in group.members.values() for r in m.operands if isinstance(r, Read)}
