"""Programs: the steps that run a graph, generic in sizes and constants.

A `Program` is made once per skeleton and layout of the inputs. `bind(sizes)` evaluates every symbolic integer for
actual sizes and gives a `BoundProgram`: shapes to allocate and integer arguments, ready to launch. Must not know how
steps are executed (runtime.executor) or compiled (runtime.compiler).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jitensor.codegen.fuse import fuse
from jitensor.codegen.group import Read
from jitensor.codegen.kernel import Binding, Kernel, lower_group
from jitensor.codegen.plan import Call, Plan, Step
from jitensor.codegen.views import Buffer, Size, View, row_major_strides, whole
from jitensor.ir.dims import Dim, symbol
from jitensor.ir.graph import CONSTANT, Graph

# How an array argument lies in memory: "C", or the order of its dimensions if it is contiguous in that order, or "S"
# (strides are arguments) with whether the last dimension is contiguous.
Layout = Any


class Launch:
    """A kernel step. `buffers` are numbers of the program's buffers, `scalars` positions among its host numbers."""

    __slots__ = ("kernel", "binding", "buffers", "scalars")

    def __init__(self, kernel: Kernel, binding: Binding, buffers: list[int], scalars: list[int]) -> None:
        self.kernel = kernel
        self.binding = binding
        self.buffers = buffers
        self.scalars = scalars


class CallStep:
    """A node run by a library: operands as (buffer number, view), results as buffer numbers."""

    __slots__ = ("call", "operands", "results")

    def __init__(self, call: Call, operands: list[int], results: list[int]) -> None:
        self.call = call
        self.operands = operands
        self.results = results


class Program:
    """inputs: buffers 0..n-1 are the array inputs, in order. numbers: ids of host numbers, in order."""

    def __init__(self, skeleton: Graph, layouts: Sequence[Layout], sizes: int) -> None:
        self.graph = skeleton
        self.size_names = [f"z{i}" for i in range(sizes)]
        arrays = [v for v in skeleton.inputs if v.id not in skeleton.scalars]
        self.numbers = [v for v in skeleton.inputs if v.id in skeleton.scalars]
        self.fixed_numbers = [n for n in skeleton.nodes if n.primitive is CONSTANT]
        self.inputs = [Buffer("input", i, v.dtype, v.shape) for i, v in enumerate(arrays)]
        views = {}
        for v, buffer, layout in zip(arrays, self.inputs, layouts, strict=True):
            views[v.id] = self._input_view(buffer, layout)
        self.plan: Plan = fuse(skeleton, views)
        _reuse_dead_buffers(self.plan)
        _share_memory(self.plan)
        self.buffers = [*self.inputs, *self.plan.buffers]
        self._number = {b: i for i, b in enumerate(self.buffers)}
        self.steps = [self._step(s) for s in self.plan.steps]
        self.allocated = self._allocations()
        self._evaluate = self._compile_sizes()

    def _input_view(self, buffer: Buffer, layout: Layout) -> View:
        if layout == "C":
            return whole(buffer)
        rank = len(buffer.shape)
        if isinstance(layout, tuple) and layout[0] != "S":
            inner = row_major_strides(tuple(buffer.shape[d] for d in layout))
            strides: list[Size] = [0] * rank
            for d, stride in zip(layout, inner, strict=True):
                strides[d] = stride
            return View(buffer, 0, buffer.shape, tuple(strides))
        named: list[Size] = []
        for d in range(rank):
            if layout[1] and d == rank - 1:
                named.append(1)
            else:
                named.append(symbol(f"t{buffer.index}_{d}"))
                self.size_names.append(f"t{buffer.index}_{d}")
        return View(buffer, 0, buffer.shape, tuple(named))

    def _step(self, step: Step) -> Launch | CallStep:
        if step.call is not None:
            operands = [self._number[v.buffer.storage] for v in step.call.operands]
            return CallStep(step.call, operands, [self._number[b] for b in step.call.results])
        assert step.group is not None
        kernel, binding = lower_group(step.group)
        positions = {v.id: i for i, v in enumerate(self.numbers)}
        positions |= {n.output.id: len(self.numbers) + i for i, n in enumerate(self.fixed_numbers)}
        return Launch(
            kernel, binding, [self._number[b] for b in binding.buffers], [positions[s] for s in binding.scalars]
        )

    def _allocations(self) -> list[int]:
        """Buffers that this program allocates: not inputs, not results of calls, not those living in another."""
        called = {b for s in self.steps if isinstance(s, CallStep) for b in s.results if not self._in_place_call(s)}
        return [i for i, b in enumerate(self.buffers) if b.kind != "input" and b.storage is b and i not in called
                and self._is_used(b)]  # fmt: skip

    def _in_place_call(self, step: CallStep) -> bool:
        return step.call.node.primitive.family == "contraction"

    def _is_used(self, buffer: Buffer) -> bool:
        number = self._number[buffer]
        for step in self.steps:
            if isinstance(step, Launch) and number in step.buffers:
                return True
            if isinstance(step, CallStep) and any(self.buffers[r].storage is buffer for r in step.results):
                return True
        return False

    # Sizes ------------------------------------------------------------------------------------------------------------

    def _compile_sizes(self) -> Callable[[Sequence[int]], list[int]]:
        """Every symbolic integer of the program as one Python function of the sizes: shapes, then launch arguments."""
        self._slots: list[Any] = []
        parts: list[str] = []

        def put(value: int | Dim) -> int:
            parts.append(value.source() if isinstance(value, Dim) else str(value))
            return len(parts) - 1

        self.shape_at = {i: [put(n) for n in self.buffers[i].shape] for i in range(len(self.buffers))}
        self.ints_at = [[put(n) for n in s.binding.ints] if isinstance(s, Launch) else [] for s in self.steps]
        self.operand_views_at = [
            [(put(v.offset), [put(n) for n in v.shape], [put(n) for n in v.strides]) for v in s.call.operands]
            if isinstance(s, CallStep) else [] for s in self.steps
        ]  # fmt: skip
        self.params_at = [
            {k: _put_param(v, put) for k, v in s.call.node.params} if isinstance(s, CallStep) else {}
            for s in self.steps
        ]
        self.output_views_at = [
            (put(v.offset), [put(n) for n in v.shape], [put(n) for n in v.strides]) for v in self.plan.outputs
        ]
        arguments = ", ".join(self.size_names)
        unpack = f"    {arguments}{',' if len(self.size_names) == 1 else ''} = sizes\n" if self.size_names else ""
        # Equal expressions are computed once.
        unique = list(dict.fromkeys(parts))
        position = {text: i for i, text in enumerate(unique)}
        lines = "".join(f"    e{i} = {text}\n" for i, text in enumerate(unique))
        result = ", ".join(f"e{position[text]}" for text in parts)
        source = f"def evaluate(sizes):\n{unpack}{lines}    return [{result}]\n"
        names: dict[str, Any] = {}
        exec(compile(source, "<jitensor sizes>", "exec"), names)
        return names["evaluate"]

    def evaluate(self, sizes: Sequence[int]) -> list[int]:
        return self._evaluate(sizes)

    @property
    def launches(self) -> list[Launch]:
        return [s for s in self.steps if isinstance(s, Launch)]


def _put_param(value: Any, put: Callable[[int | Dim], int]) -> Any:
    """A parameter with its sizes replaced by positions: ("size", position), or ("literal", value)."""
    if isinstance(value, Dim):
        return ("size", put(value))
    if isinstance(value, tuple) and any(isinstance(v, Dim) for v in value):
        return ("tuple", tuple(_put_param(v, put) for v in value))
    return ("literal", value)


def param_value(param: Any, values: Sequence[int]) -> Any:
    kind, value = param
    if kind == "size":
        return values[value]
    if kind == "tuple":
        return tuple(param_value(v, values) for v in value)
    return value


def _reuse_dead_buffers(plan: Plan) -> None:
    """Lets a kernel's result take over the memory of a temporary that it reads element by element and that dies there
    (the epilogue of a matrix product)."""
    last_read: dict[Buffer, int] = {}
    for i, step in enumerate(plan.steps):
        for view in _views_read(step):
            last_read[view.buffer] = i
    kept = {v.buffer for v in plan.outputs}
    for step in plan.steps:  # results of other calls are arrays that the library made
        if step.call is not None and step.call.node.primitive.family != "contraction":
            kept.update(step.call.results)
    for i, step in enumerate(plan.steps):
        if step.group is None or step.group.closed:
            continue
        for write in step.group.writes:
            target = write.view.buffer
            if not write.view.is_whole or target.storage is not target or target.kind == "input":
                continue
            if sum(w.view.buffer is target for s in plan.steps if s.group for w in s.group.writes) > 1:
                continue
            reads = [o for m in step.group.members.values() for o in m.operands if isinstance(o, Read)]
            for read in reads:
                source = read.view.buffer
                walked = [a.find() if a else None for a in read.axes]
                same = [r for r in reads if r.view.buffer is source]
                if (
                    source.kind == "temp"
                    and source.storage is source
                    and source not in kept
                    and last_read[source] == i
                    and source.dtype is target.dtype
                    and source.shape == target.shape
                    and all(r.view.is_whole and [a.find() if a else None for a in r.axes] == walked for r in same)
                    and walked == [a.find() if a else None for a in write.axes]
                    and {a for a in walked if a} == set(step.group.live_axes())  # each once
                    and not step.group.reduced
                    and not any(b.storage is source for b in plan.buffers if b is not source)
                ):
                    source.storage = target
                    break


def _share_memory(plan: Plan) -> None:
    """Buffers of one dtype and shape that are never needed at the same time become one."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    foreign: set[Buffer] = set()  # arrays that a library makes
    for i, step in enumerate(plan.steps):
        if step.call is not None:
            written = step.call.results
            if step.call.node.primitive.family != "contraction":
                foreign.update(b.storage for b in written)
        else:
            assert step.group is not None
            written = [w.view.buffer for w in step.group.writes]
        for buffer in [*written, *(v.buffer for v in _views_read(step))]:
            first.setdefault(buffer.storage, i)
            last[buffer.storage] = i
    last.update({v.buffer.storage: len(plan.steps) for v in plan.outputs})
    hosts: list[Buffer] = []
    for buffer in [b for b in first if b.kind != "input" and b not in foreign]:
        host = next((h for h in hosts if last[h] < first[buffer] and h.dtype is buffer.dtype
                     and h.shape == buffer.shape), None)  # fmt: skip
        if host is None:
            hosts.append(buffer)
            continue
        last[host] = last[buffer]
        for other in plan.buffers:
            if other.storage is buffer:
                other.storage = host


def _views_read(step: Step) -> list[View]:
    if step.call is not None:
        return step.call.operands
    assert step.group is not None
    found = [o.view for m in step.group.members.values() for o in m.operands if isinstance(o, Read)]
    return found + [w.source.view for w in step.group.writes if isinstance(w.source, Read)]
