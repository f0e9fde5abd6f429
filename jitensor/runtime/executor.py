"""Runs programs: allocates, launches kernels through their address, calls libraries, returns arrays.

Owns the Python hot path and the cache of bound sizes. Must not know graphs' ops or how kernels came to be.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.codegen.kernel import Kernel, has_chunks, specialise
from jitensor.codegen.program import CallStep, Launch, Program, param_value
from jitensor.codegen.work import PARALLEL_PICOSECONDS, is_divisible, launch_plan, picoseconds, scratch_words
from jitensor.runtime import blas, limits, memory, threads
from jitensor.runtime.compiler import CompiledKernel
from jitensor.runtime.counters import tally

SCALAR_SLOT = 16
BOUND_LIMIT = 256  # sizes remembered per program
MANY = 1 << 15  # elements from which on a kernel made for its small inner loop is worth compiling
_FUNCTION = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
_PACK = {
    **{"b1": "?", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "u8": "B", "u16": "H", "u32": "I", "u64": "Q"},
    **{"f16": "e", "f32": "f", "f64": "d", "c64": "ff", "c128": "dd"},
}

Array = np.ndarray[Any, Any]


class BoundLaunch:
    """A kernel with its integer arguments for certain sizes."""

    __slots__ = ("function", "buffers", "pack", "ints", "ints_at", "extent", "scalars", "kernel", "variant", "plan",
                 "scratch")  # fmt: skip

    def __init__(self, launch: Launch, variant: Variant, compiled: CompiledKernel, ints: list[int]) -> None:
        self.function = _FUNCTION(compiled.address)
        self.kernel = compiled
        self.variant = variant
        self.buffers = launch.buffers
        self.plan = _plan(variant[0], ints)
        # Behind the buffers is the place of partial results, under two types. The driver has its own.
        chunked = variant[0].chunked
        self.pack = struct.Struct(f"{len(launch.buffers)}q" + "16x" * (chunked and self.plan is not None)).pack
        self.scratch: Any = None
        if chunked and self.plan is None:
            self.pack = struct.Struct(f"{len(launch.buffers) + 2}q").pack
            self.scratch = struct.Struct(f"2q{8 * (scratch_words(variant[0]) - 2)}x").pack, max(ints[0], 1)
        self.ints = (ctypes.c_int64 * max(len(ints), 1))(*ints)
        self.ints_at = ctypes.addressof(self.ints)
        self.extent = -1 if chunked else ints[0] if launch.kernel.parallel else 1
        self.scalars = launch.scalars


def _plan(kernel: Kernel, ints: Sequence[int]) -> Any:
    """The words that the driver reads, or None for a launch that it has nothing to do for."""
    if kernel.chunked:
        wanted = has_chunks(kernel, ints)
    else:
        wanted = is_divisible(kernel) and picoseconds(kernel, ints) >= PARALLEL_PICOSECONDS
    if not wanted:
        return None
    words = launch_plan(kernel)
    return (ctypes.c_int64 * len(words))(*words)


def _share(step: BoundLaunch, pointers: bytes, scalars: bytes | None) -> None:
    """A launch in chunks, on several threads where it is worth them."""
    place = ctypes.addressof(step.plan)
    count = threads.get_num_threads()
    limits.register()
    if threads.driver()(threads.POOL, step.kernel.address, place, pointers, step.ints_at, scalars, count):
        raise MemoryError("no memory for the partial results of a reduction")


# A kernel made for some integer arguments: it, the positions of those it takes, the (position, value) pairs it needs.
Variant = tuple[Kernel, tuple[int, ...], tuple[tuple[int, int], ...]]


# An output: its buffer, and None or the (shape, strides, offset in bytes) of a part of it.
Output = tuple[int, "tuple[tuple[int, ...], tuple[int, ...], int] | None"]


class _Bound:
    """A program for certain sizes. `fresh`: bytes that it allocates itself."""

    __slots__ = ("values", "allocations", "steps", "fresh", "outputs", "whole")

    def __init__(
        self, values: list[int], allocations: list[tuple[int, tuple[int, ...], Any]], steps: list[Any],
        outputs: list[Output],
    ) -> None:  # fmt: skip
        self.values = values
        self.allocations = allocations
        self.steps = steps
        self.fresh = sum(math.prod(shape) * dtype.itemsize for _, shape, dtype in allocations)
        self.outputs = outputs
        self.whole = [i for i, window in outputs if window is None]


class ProgramRunner:
    """A program whose kernels are compiled (by `compile_kernel`, each at once), ready to run."""

    def __init__(self, program: Program, compile_kernel: Callable[[Kernel], CompiledKernel]) -> None:
        self.program = program
        self.compile_kernel = compile_kernel
        self._compiled: dict[tuple[int, str], CompiledKernel] = {}
        self._bound: dict[tuple[int, ...], _Bound] = {}
        self._pack = [struct.Struct(_PACK[v.dtype.short]).pack for v in program.numbers]
        self._complex = [v.dtype.kind == "c" for v in program.numbers]
        self._blank = [None] * (len(program.buffers) - len(program.inputs))
        # Buffers that lie in another's memory: (buffer, the other).
        self._shared = [(i, program._number[b.storage]) for i, b in enumerate(program.buffers) if b.storage is not b]
        fixed = [n.param("value").array for n in program.fixed_numbers]
        self._fixed = [a.tobytes().ljust(SCALAR_SLOT, b"\0") for a in fixed]

    def bind(self, sizes: tuple[int, ...]) -> _Bound:
        bound = self._bound.get(sizes)
        if bound is None:
            if len(self._bound) >= BOUND_LIMIT:
                self._bound.pop(next(iter(self._bound)), None)
            bound = self._bound[sizes] = self._make_bound(sizes)
        return bound

    def _make_bound(self, sizes: tuple[int, ...]) -> _Bound:
        program = self.program
        values = program.evaluate(sizes)
        allocations = []
        for i in program.allocated:
            shape = tuple([values[p] for p in program.shape_at[i]])
            allocations.append((i, shape, program.buffers[i].dtype.numpy))
        steps: list[Any] = []
        for k, step in enumerate(program.steps):
            if isinstance(step, Launch):
                ints = [values[p] for p in program.ints_at[k]]
                variant = self._variant(k, step.kernel, ints)
                ints = [ints[p] for p in variant[1]]
                steps.append(BoundLaunch(step, variant, self._kernel(k, variant[0]), ints))
            else:
                steps.append((step, k))
        return _Bound(values, allocations, steps, [self._output(k, values) for k in range(len(program.plan.outputs))])

    def _variant(self, k: int, kernel: Kernel, ints: list[int]) -> Variant:
        """The form of a kernel for these integer arguments. Few elements do not pay for a form of their own: they take
        what is compiled."""
        variant = specialise(kernel, ints)
        if not variant[2] or math.prod(ints[: len(kernel.reduced)]) >= MANY:
            return variant
        if (k, variant[0].text) in self._compiled and (k, kernel.text) not in self._compiled:
            return variant
        return kernel, tuple(range(len(ints))), ()

    def _output(self, k: int, values: list[int]) -> Output:
        view = self.program.plan.outputs[k]
        offset, shape, strides = self.program.output_views_at[k]
        number = self.program._number[view.buffer]
        if view.is_whole:
            return number, None
        size = view.buffer.dtype.size
        actual, steps = tuple([values[p] for p in shape]), tuple([values[p] * size for p in strides])
        return number, (actual, steps, values[offset] * size)

    def _kernel(self, k: int, kernel: Kernel) -> CompiledKernel:
        compiled = self._compiled.get((k, kernel.text))
        if compiled is None:
            compiled = self._compiled[k, kernel.text] = self.compile_kernel(kernel)
        return compiled

    @property
    def kernels(self) -> list[CompiledKernel]:
        """The kernels compiled so far, in order of steps."""
        return [compiled for _, compiled in sorted(self._compiled.items(), key=lambda item: item[0][0])]

    def used(self) -> list[tuple[int, Kernel, CompiledKernel]]:
        """(step, kernel, its code) of every launch bound so far, in order of steps; there may be variants by size."""
        launches = {}
        for bound in list(self._bound.values()):
            for k, step in enumerate(bound.steps):
                if step.__class__ is BoundLaunch:
                    launches[k, step.kernel.text] = (k, step.variant[0], step.kernel)
        return [launches[key] for key in sorted(launches)]

    def run(self, arrays: Sequence[Array], numbers: Sequence[Any], sizes: tuple[int, ...]) -> list[Array]:
        """arrays: one per array input, aligned, in the layout that the program was made for. numbers: one per host
        number. Returns the outputs."""
        bound = self._bound.get(sizes) or self.bind(sizes)
        buffers: list[Any] = [*arrays, *self._blank]
        for i, shape, dtype in bound.allocations:
            buffers[i] = memory.empty(shape, dtype)
        if bound.fresh:
            tally.bytes_allocated += bound.fresh
        for i, other in self._shared:
            buffers[i] = buffers[other]
        slots = self._slots(numbers) if numbers or self._fixed else ()
        for step in bound.steps:
            if step.__class__ is BoundLaunch:
                places = [address(buffers[b]) for b in step.buffers]
                if step.scratch is not None:
                    pack, rows = step.scratch
                    scratch = ctypes.create_string_buffer(pack(rows, 1))
                    places += [ctypes.addressof(scratch)] * 2
                pointers = step.pack(*places)
                scalars = b"".join([slots[s] for s in step.scalars]) if step.scalars else None
                if step.plan is None:
                    step.function(pointers, step.ints_at, scalars, 0, step.extent)
                else:
                    _share(step, pointers, scalars)
                tally.launches += 1
            else:
                call, k = step
                self._call(call, k, buffers, bound.values)
        if len(bound.whole) == len(bound.outputs):
            return [buffers[i] for i in bound.whole]
        return [buffers[i] if window is None else _window(buffers[i], *window) for i, window in bound.outputs]

    def _slots(self, numbers: Sequence[Any]) -> list[bytes]:
        """The host numbers as the kernels read them."""
        slots = []
        for pack, is_complex, number in zip(self._pack, self._complex, numbers, strict=True):
            packed = pack(number.real, number.imag) if is_complex else pack(number)
            slots.append(packed.ljust(SCALAR_SLOT, b"\0"))
        return slots + self._fixed

    def _call(self, step: CallStep, k: int, buffers: list[Any], values: list[int]) -> None:
        program = self.program
        node = step.call.node
        operands = []
        for number, (offset, shape, strides) in zip(step.operands, program.operand_views_at[k], strict=True):
            operands.append(_view(buffers[number], values, offset, shape, strides))
        if node.primitive.family == "contraction":
            blas.matmul(operands[0], operands[1], buffers[step.results[0]])
            return
        params = {name: param_value(p, values) for name, p in program.params_at[k].items()}
        results = node.primitive.evaluate(*operands, **params)
        if not isinstance(results, tuple):
            results = (results,)
        for target, result, value in zip(step.results, results, node.outputs, strict=True):
            made = np.ascontiguousarray(result, value.dtype.numpy).reshape(np.shape(result))
            if any(np.may_share_memory(made, o) for o in operands) or not made.flags.writeable:
                made = made.copy()
            buffers[target] = made
            tally.bytes_allocated += made.nbytes
        tally.library_calls += 1


def _view(buffer: Array, values: list[int], offset: int, shape: list[int], strides: list[int]) -> Array:
    size = buffer.itemsize
    return _window(
        buffer, tuple([values[p] for p in shape]), tuple([values[p] * size for p in strides]), values[offset] * size
    )


def _window(buffer: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Array:
    """Part of an array's memory, `offset` bytes from its first element, as an array."""
    if offset == 0 and buffer.shape == shape and buffer.strides == strides:
        return buffer
    if 0 in shape:
        return np.empty(shape, buffer.dtype)
    return np.asarray(_Window(buffer, shape, strides, offset))


class _Window:
    """Memory of an array seen through other sizes and strides (bytes), for np.asarray; keeps the array alive."""

    def __init__(self, base: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
        self.base = base
        interface = dict(base.__array_interface__)
        address, readonly = interface["data"]
        interface.update(shape=shape, strides=strides, data=(address + offset, readonly))
        self.__array_interface__ = interface


_DATA_AT = object.__basicsize__  # NumPy's C interface: the pointer to the first element follows the object's head
_read_pointer = ctypes.c_ssize_t.from_address


def _address(array: Array) -> int:
    """Where the first element lies. As `array.ctypes.data`, at a fifth of its time."""
    return _read_pointer(id(array) + _DATA_AT).value


def _slow_address(array: Array) -> int:
    return int(array.ctypes.data)


_probe = np.zeros(3)
address = _address if _address(_probe) == _slow_address(_probe) else _slow_address


def layout_of(array: Array) -> Any:
    """How an aligned array lies in memory, as `codegen.program.Layout`."""
    if array.flags.c_contiguous:
        return "C"
    strides = [abs(s) if n != 1 else 0 for n, s in zip(array.shape, array.strides, strict=True)]
    order = tuple(sorted(range(array.ndim), key=lambda d: (-strides[d], d)))
    if array.transpose(order).flags.c_contiguous:
        return order
    return ("S", array.strides[-1] == array.itemsize)
