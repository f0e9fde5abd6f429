"""Kernels: one fused loop nest as data, generic in sizes, strides and constants.

Owns the canonical form (loops in order, accesses by pattern, scalar body, reductions, writes), its text, and
`lower_group`, which makes it from a group. The text decides the machine code; sizes, strides, offsets and hoisted
numbers are arguments, listed beside the kernel in a `Binding`. Example, a mean of squares over a contiguous array:

    kernel (r0: n0) {
      t0 = read b0[r0] : f64
      t1 = multiply t0 t0 : f64
      t2 = reduce_sum(r0) t1 : f64
      t3 = scalar s0 : f64
      t4 = divide t2 t3 : f64
      write b1[] = t4
    }
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jitensor.codegen.group import Axes, Axis, Group, Read
from jitensor.codegen.views import Buffer, Size, View, broadcast_stride
from jitensor.ir.graph import Params, Primitive
from jitensor.ir.types import DType

STRIDED = -1  # a stride that is an argument
SMALL = 8  # an innermost loop of at most this many iterations is unrolled, so that the loop around it becomes vectors
SMALL_STRIDE = 64  # and strides up to this become part of the code with it
EXPENSIVE = 12  # scalar instructions above which a row's value is kept for a later phase rather than computed again
SCRATCH = 8192  # elements of a scratch row on the stack: 64 KiB of float64
CHUNK = 16384  # elements of a partial result, where a full reduction is cut into chunks


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Which element of buffer `buffer` an iteration touches: a stride for each loop (a number, or STRIDED), an offset
    or none."""

    buffer: int
    strides: tuple[int, ...]
    offset: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """kind: read (access), scalar (slot), index (loop), apply (an elementwise primitive), reduce. `loops`: what it
    varies along."""

    kind: str
    dtype: DType
    args: tuple[int, ...] = ()
    primitive: Primitive | None = None
    params: Params = ()
    position: int = 0  # of the access, the scalar slot or the loop
    loops: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """`reduced`: for each loop, outer first, whether reductions run over it (those come last). `column`: the innermost
    loop that is not reduced runs inside the reduced ones, over blocks of accumulators."""

    reduced: tuple[bool, ...]
    column: bool
    buffers: tuple[tuple[DType, bool], ...]  # dtype, written
    accesses: tuple[Access, ...]
    scalars: tuple[DType, ...]
    ops: tuple[Op, ...]
    writes: tuple[tuple[int, int], ...]  # access, op
    in_place: bool  # some buffer is both read and written
    scratch: bool  # rows have at most SCRATCH elements, so a row may be kept on the stack
    inner: int  # extent of the innermost loop where that is part of the code (2 to SMALL), else 0
    text: str
    chunked: bool = False  # a full reduction in stages: partial results of chunks of the outermost loop, then their sum

    @property
    def parallel(self) -> int:
        """How many loops are not reduced."""
        return self.reduced.count(False)


@dataclasses.dataclass(slots=True, eq=False)
class Binding:
    """The arguments of one launch: buffers, host numbers by value id, extents and the other integers (symbolic)."""

    buffers: list[Buffer]
    scalars: list[int]
    ints: list[Size]
    extents: list[Size]


def int_layout(kernel: Kernel) -> tuple[dict[int, int], dict[tuple[int, int], int], int]:
    """Where the integer arguments lie: extents first, then for each access its offset and its free strides.

    Returns access -> position of its offset, (access, loop) -> position of its stride, and the count.
    """
    position = len(kernel.reduced)
    offsets, strides = {}, {}
    for i, access in enumerate(kernel.accesses):
        if access.offset:
            offsets[i] = position
            position += 1
        for loop, stride in enumerate(access.strides):
            if stride == STRIDED:
                strides[i, loop] = position
                position += 1
    return offsets, strides, position


def lower_group(group: Group) -> tuple[Kernel, Binding]:
    return _Lowering(group).run()


class _Lowering:
    def __init__(self, group: Group) -> None:
        self.group = group
        self.ops: list[Op] = []
        self.known: dict[Any, int] = {}
        self.patterns: list[tuple[Buffer, Size, dict[Axis, Size]]] = []  # of each access
        self.scalars: dict[int, DType] = {}  # host numbers by value id, in order of their slots
        self.written: list[tuple[int, int]] = []
        self.fixed: set[Axis] = set()  # loops whose index is used: never collapsed

    def run(self) -> tuple[Kernel, Binding]:
        needed = self._needed()
        self.reduced = self._reduced_axes(needed)
        self.loops = self._loops(needed)
        self.place = {axis: i for i, axis in enumerate(self.loops)}
        for value_id in needed:
            self._member(value_id)
        for write in self.group.writes:
            source = self._operand(write.source, write.view.buffer.dtype)
            self.written.append((self._access(write.view, write.axes), source))
        column = self._is_column()
        self._collapse(column)
        return self._kernel(column)

    def _needed(self) -> list[int]:
        members = self.group.members
        found: set[int] = set()
        stack = [w.source for w in self.group.writes if isinstance(w.source, int)]
        while stack:
            value_id = stack.pop()
            if value_id in found or value_id not in members:
                continue
            found.add(value_id)
            stack += [o for o in members[value_id].operands if isinstance(o, int)]
        return sorted(found)

    def _reduced_axes(self, needed: list[int]) -> list[Axis]:
        if not any(self.group.members[v].node.primitive.family == "reduction" for v in needed):
            return []
        return [a.find() for a in self.group.reduced]

    def _loops(self, needed: list[int]) -> list[Axis]:
        used: set[Axis] = set(self.reduced)
        for value_id in needed:
            member = self.group.members[value_id]
            used |= _found(member.axes)
            for operand in member.operands:
                if isinstance(operand, Read):
                    used |= _found(operand.axes)
        for write in self.group.writes:
            used |= _found(write.axes)
        order = [a for a in self.group.live_axes() if a in used]
        order += [a for w in self.group.writes for a in w.axes if a is not None and a.find() not in order]
        order = list(dict.fromkeys(a.find() for a in order))
        kept = [a for a in order if a not in self.reduced]
        return self._in_memory_order(kept) + [a for a in order if a in self.reduced]

    def _in_memory_order(self, kept: list[Axis]) -> list[Axis]:
        """The loops that are not reduced, those that a result runs along in memory innermost."""
        for write in self.group.writes:
            strides = {a.find(): s for a, s in zip(write.axes, write.view.strides, strict=True) if a is not None}
            if not kept or set(strides) != set(kept) or strides[kept[-1]] == 1:
                continue
            inner: list[Axis] = []
            step: Size = 1
            while len(inner) < len(kept):
                following = next((a for a in kept if a not in inner and strides[a] == step), None)
                if following is None:
                    break
                inner.insert(0, following)
                step = step * following.extent
            return [a for a in kept if a not in inner] + inner
        return kept

    # Ops --------------------------------------------------------------------------------------------------------------

    def _append(self, op: Op, key: Any) -> int:
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = len(self.ops)
            self.ops.append(op)
        return known

    def _operand(self, operand: int | Read, dtype: DType) -> int:
        if isinstance(operand, Read):
            access = self._access(operand.view, operand.axes)
            loops = frozenset(self.place[a] for a, s in self.patterns[access][2].items() if s != 0)
            return self._append(Op("read", operand.view.buffer.dtype, position=access, loops=loops), ("read", access))
        known = self.known.get(operand)
        if known is not None:
            return known
        self.scalars[operand] = dtype
        return self._append(Op("scalar", dtype, position=len(self.scalars) - 1), operand)

    def _member(self, value_id: int) -> None:
        member = self.group.members[value_id]
        node = member.node
        dtype = next(v.dtype for v in node.outputs if v.id == value_id)
        args = tuple([self._operand(o, v.dtype) for o, v in zip(member.operands, node.inputs, strict=True)])
        if node.primitive.family == "creation":
            axis = next(a for a in member.axes if a is not None).find()
            self.fixed.add(axis)
            loop = self.place[axis]
            op = Op("index", dtype, position=loop, loops=frozenset((loop,)))
        elif node.primitive.family == "reduction":
            loops = frozenset(self.place[a] for a in self.loops if a not in self.reduced)
            op = Op("reduce", dtype, args, node.primitive, loops=loops)
        else:
            loops = frozenset().union(*(self.ops[a].loops for a in args))
            params = tuple((k, v) for k, v in node.params if k not in ("shape", "sizes"))
            op = Op("apply", dtype, args, node.primitive, params, loops=loops)
        self._append(op, value_id)

    def _access(self, view: View, axes: Axes) -> int:
        strides: dict[Axis, Size] = dict.fromkeys(self.loops, 0)
        for axis, n, stride in zip(axes, view.shape, view.strides, strict=True):
            if axis is not None:
                axis = axis.find()
                strides[axis] = broadcast_stride(n, stride, axis.extent)
        pattern = (view.buffer, view.offset, strides)
        for i, known in enumerate(self.patterns):
            if known[0] is pattern[0] and known[1] == pattern[1] and known[2] == pattern[2]:
                return i
        self.patterns.append(pattern)
        return len(self.patterns) - 1

    # Shape of the nest ------------------------------------------------------------------------------------------------

    def _is_column(self) -> bool:
        """Does memory run along the kept loops rather than the reduced ones?"""
        kept = [a for a in self.loops if a not in self.reduced]
        if not self.reduced or not kept:
            return False
        along_kept = along_reduced = 0
        for _, _, strides in self.patterns:
            if any(strides[a] != 0 for a in self.reduced):
                along_kept += strides[kept[-1]] == 1
                along_reduced += strides[self.reduced[-1]] == 1
        return along_kept > along_reduced

    def _collapse(self, column: bool) -> None:
        """Joins neighbouring loops that every access walks as one. The joined loop keeps the inner one's place."""
        i = 0
        while i + 1 < len(self.loops):
            outer, inner = self.loops[i], self.loops[i + 1]
            if (outer in self.reduced) == (inner in self.reduced) and self._walks_as_one(outer, inner):
                joined = Axis(outer.extent * inner.extent)
                for _, _, strides in self.patterns:
                    strides[joined] = strides.pop(inner)
                    del strides[outer]
                if inner in self.reduced:
                    self.reduced = [joined if a is inner else a for a in self.reduced if a is not outer]
                self.loops[i : i + 2] = [joined]
                self.ops = [dataclasses.replace(op, **_renumbered(op, i)) for op in self.ops]
                self.place = {axis: k for k, axis in enumerate(self.loops)}
                i = max(i - 1, 0)
            else:
                i += 1

    def _walks_as_one(self, outer: Axis, inner: Axis) -> bool:
        if outer in self.fixed or inner in self.fixed:
            return False
        for _, _, strides in self.patterns:
            if strides[outer] != strides[inner] * inner.extent:
                return False
        a, b = self.place[outer], self.place[inner]
        return all((a in op.loops) == (b in op.loops) for op in self.ops)

    def _kernel(self, column: bool) -> tuple[Kernel, Binding]:
        written = {self.patterns[a][0].storage for a, _ in self.written}
        buffers: list[Buffer] = []
        accesses = []
        ints: list[Size] = [a.extent for a in self.loops]
        for buffer, offset, strides in self.patterns:
            if buffer.storage not in buffers:
                buffers.append(buffer.storage)
            kinds = []
            if offset != 0:
                ints.append(offset)
            for axis in self.loops:
                stride = strides[axis]
                kinds.append(stride if isinstance(stride, int) and stride in (0, 1) else STRIDED)
                if kinds[-1] == STRIDED:
                    ints.append(stride)
            accesses.append(Access(buffers.index(buffer.storage), tuple(kinds), offset != 0))
        read = {self.patterns[op.position][0].storage for op in self.ops if op.kind == "read"}
        kernel = Kernel(
            reduced=tuple(a in self.reduced for a in self.loops),
            column=column,
            buffers=tuple((b.dtype, b.storage in written) for b in buffers),
            accesses=tuple(accesses),
            scalars=tuple(self.scalars.values()),
            ops=tuple(self.ops),
            writes=tuple(self.written),
            in_place=bool(read & written),
            scratch=True,
            inner=0,
            text="",
        )
        kernel = dataclasses.replace(kernel, text=print_kernel(kernel))
        return kernel, Binding(buffers, list(self.scalars), ints, [a.extent for a in self.loops])


def with_long_rows(kernel: Kernel) -> Kernel:
    """The same kernel for rows that do not fit a scratch row: it computes again what it would have kept."""
    longer = dataclasses.replace(kernel, scratch=False)
    return dataclasses.replace(longer, text=print_kernel(longer))


def in_chunks(kernel: Kernel) -> Kernel:
    """The same full reduction as stages that work on chunks."""
    chunked = dataclasses.replace(kernel, chunked=True)
    return dataclasses.replace(chunked, text=print_kernel(chunked))


def has_chunks(kernel: Kernel, ints: Sequence[int]) -> bool:
    """Does this launch of a chunked kernel run in several chunks, on however many threads, rather than in one?"""
    return math.prod(ints[: len(kernel.reduced)]) > 2 * CHUNK


def may_be_chunked(kernel: Kernel) -> bool:
    return bool(kernel.reduced) and not kernel.parallel and iterations_are_independent(kernel)


def iterations_are_independent(kernel: Kernel) -> bool:
    """Do different iterations of the outermost loop write different elements, and read none that another writes?
    Results of a full reduction do not count: they are written once, after it."""
    reduced = kernel.reduced[0]
    written = {access for access, _ in kernel.writes}
    buffers = {kernel.accesses[a].buffer for a in written}
    if len(buffers) < len(written):
        return False  # two writes into one buffer: their order may matter
    read = {op.position for op in kernel.ops if op.kind == "read"}
    if any(kernel.accesses[a].buffer in buffers and a not in written for a in read):
        return False
    walks = [(kernel.accesses[a].strides, kernel.ops[i].loops) for a, i in kernel.writes]
    return all(strides[0] != 0 or (reduced and not any(strides) and not loops) for strides, loops in walks)


def keeps_rows(kernel: Kernel) -> bool:
    """May the row form keep expensive values of a row for a later phase? Then rows have at most SCRATCH elements."""
    if not kernel.scratch or kernel.column or not kernel.parallel or kernel.reduced.count(True) != 1:
        return False
    last = len(kernel.reduced) - 1
    uses = [0] * len(kernel.ops)
    costs = [0] * len(kernel.ops)
    for i, op in enumerate(kernel.ops):
        for a in op.args:
            uses[a] += 1
        if last in op.loops and op.primitive is not None:
            costs[i] = op.primitive.cost + sum(costs[a] for a in op.args)
    for _, i in kernel.writes:
        uses[i] += 1
    return any(
        op.kind == "apply" and last in op.loops and uses[i] > 1 and costs[i] >= EXPENSIVE
        for i, op in enumerate(kernel.ops)
    )


def specialise(kernel: Kernel, ints: Sequence[int]) -> tuple[Kernel, tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The kernel that serves a launch with these integer arguments best.

    Returns it, the positions of the arguments that it still takes, and the (position, value) pairs that it holds for.
    The kernel itself, with no such pair, serves any sizes but long rows.
    """
    last = len(kernel.reduced) - 1
    if may_be_chunked(kernel):
        return in_chunks(kernel), tuple(range(len(ints))), ()
    if keeps_rows(kernel) and ints[last] > SCRATCH:
        return with_long_rows(kernel), tuple(range(len(ints))), ()
    # In column form the last loop runs over rows, a batch as a rule: its extent stays an argument.
    if last < 1 or not kernel.parallel or kernel.column or not 2 <= ints[last] <= SMALL:
        return kernel, tuple(range(len(ints))), ()
    if any(op.kind == "index" for op in kernel.ops):
        return kernel, tuple(range(len(ints))), ()
    if any(_repeats_bytes(kernel, a) for a in kernel.accesses):
        return kernel, tuple(range(len(ints))), ()
    _, strides, count = int_layout(kernel)
    fixed = {last: ints[last]}
    accesses = []
    for i, access in enumerate(kernel.accesses):
        pattern = list(access.strides)
        for loop, stride in enumerate(pattern):
            position = strides.get((i, loop), -1)
            if stride == STRIDED and loop >= last - 1 and 2 <= ints[position] <= SMALL_STRIDE:
                pattern[loop] = fixed[position] = ints[position]
        accesses.append(dataclasses.replace(access, strides=tuple(pattern)))
    small = dataclasses.replace(kernel, accesses=tuple(accesses), inner=ints[last])
    small = dataclasses.replace(small, text=print_kernel(small))
    # Extents stay arguments, the fixed one too: their positions are the loops' numbers.
    kept = tuple(p for p in range(count) if p not in fixed or p == last)
    return small, kept, tuple(fixed.items())


def _repeats_bytes(kernel: Kernel, access: Access) -> bool:
    """Is it a row of narrow elements that every iteration of the outer loops reads again?

    Unrolled, such a row becomes a broadcast of 8 bytes that LLVM cannot select on AVX-512 (SUBV_BROADCAST_LOAD),
    which ends the process.
    """
    *outer, inner = access.strides
    return kernel.buffers[access.buffer][0].size < 4 and inner != 0 and outer[-1] == 0


def _found(axes: Axes) -> set[Axis]:
    return {a.find() for a in axes if a is not None}


def _renumbered(op: Op, at: int) -> dict[str, Any]:
    """The op's loops after loops `at` and `at + 1` have become one."""
    fields: dict[str, Any] = {"loops": frozenset(x if x <= at else x - 1 for x in op.loops)}
    if op.kind == "index" and op.position > at:
        fields["position"] = op.position - 1
    return fields


def print_kernel(kernel: Kernel) -> str:
    """The canonical text: no user names, no sizes, no constants."""
    names = [f"{'r' if r else 'i'}{k}" for k, r in enumerate(kernel.reduced)]
    loops = ", ".join(f"{name}: n{k}" for k, name in enumerate(names))
    if kernel.inner:
        loops = loops.rsplit(": ", 1)[0] + f": {kernel.inner}"
    flags = "".join((" column" if kernel.column else "", " in_place" if kernel.in_place else "",
                     "" if kernel.scratch else " long_rows", " chunked" if kernel.chunked else ""))  # fmt: skip
    lines = [f"kernel{flags} ({loops}) {{"]
    lines += [f"  b{i}: {dtype.short}{' written' if w else ''}" for i, (dtype, w) in enumerate(kernel.buffers)]
    for i, op in enumerate(kernel.ops):
        lines.append(f"  t{i} = {_op_text(kernel, op, names)} : {op.dtype.short}")
    for access, op_id in kernel.writes:
        lines.append(f"  write {_access_text(kernel.accesses[access], names)} = t{op_id}")
    return "\n".join([*lines, "}"])


def _op_text(kernel: Kernel, op: Op, names: list[str]) -> str:
    args = "".join(f" t{a}" for a in op.args)
    if op.kind == "read":
        return f"read {_access_text(kernel.accesses[op.position], names)}"
    if op.kind == "scalar":
        return f"scalar s{op.position}"
    if op.kind == "index":
        return f"index {names[op.position]}"
    assert op.primitive is not None
    if op.kind == "reduce":
        over = ", ".join(n for n, r in zip(names, kernel.reduced, strict=True) if r)
        return f"{op.primitive.name}({over}){args}"
    shown = [f"{k}={v.short if isinstance(v, DType) else v}" for k, v in op.params]
    params = f" {{{', '.join(shown)}}}" if shown else ""
    return f"{op.primitive.name}{args}{params}"


def _access_text(access: Access, names: list[str]) -> str:
    parts = ["o"] if access.offset else []
    for name, stride in zip(names, access.strides, strict=True):
        if stride:
            parts.append(name if stride == 1 else f"{name}*" if stride == STRIDED else f"{name}*{stride}")
    return f"b{access.buffer}[{', '.join(parts)}]"
