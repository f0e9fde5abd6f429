"""Runs programs: allocates, launches kernels through their address, calls libraries, returns arrays.

Owns the Python hot path and the cache of bound sizes. Must not know graphs' ops or how kernels came to be.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.codegen.kernel import Kernel, specialise
from jitensor.codegen.program import CallStep, Launch, Program, param_value
from jitensor.runtime import blas
from jitensor.runtime.compiler import CompiledKernel
from jitensor.runtime.counters import tally

SCALAR_SLOT = 16
BOUND_LIMIT = 256  # sizes remembered per program
_FUNCTION = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
_PACK = {
    **{"b1": "?", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "u8": "B", "u16": "H", "u32": "I", "u64": "Q"},
    **{"f16": "e", "f32": "f", "f64": "d", "c64": "ff", "c128": "dd"},
}

Array = np.ndarray[Any, Any]


class _BoundLaunch:
    """A kernel with its integer arguments for certain sizes."""

    __slots__ = ("function", "buffers", "pointers", "ints", "extent", "scalars", "kernel", "variant")

    def __init__(self, launch: Launch, variant: Variant, compiled: CompiledKernel, ints: list[int]) -> None:
        self.function = _FUNCTION(compiled.address)
        self.kernel = compiled
        self.variant = variant
        self.buffers = launch.buffers
        self.pointers = ctypes.c_void_p * len(launch.buffers)
        self.ints = (ctypes.c_int64 * max(len(ints), 1))(*ints)
        self.extent = ints[0] if launch.kernel.parallel else 1
        self.scalars = launch.scalars


# A kernel made for some integer arguments: it, the positions of those it takes, the (position, value) pairs it needs.
Variant = tuple[Kernel, tuple[int, ...], tuple[tuple[int, int], ...]]


class _Bound:
    """A program for certain sizes."""

    __slots__ = ("values", "allocations", "steps")

    def __init__(self, values: list[int], allocations: list[tuple[int, tuple[int, ...], Any]], steps: list[Any]) -> None:
        self.values = values
        self.allocations = allocations
        self.steps = steps


class ProgramRunner:
    """A program whose kernels are compiled (by `compile_kernel`, each at once), ready to run."""

    def __init__(self, program: Program, compile_kernel: Callable[[Kernel], CompiledKernel]) -> None:
        self.program = program
        self.compile_kernel = compile_kernel
        self._compiled: dict[tuple[int, str], CompiledKernel] = {}
        self._bound: dict[tuple[int, ...], _Bound] = {}
        formats = [_PACK[v.dtype.short] for v in program.numbers]
        self._formats = formats
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
                variant = specialise(step.kernel, ints)
                ints = [ints[p] for p in variant[1]]
                steps.append(_BoundLaunch(step, variant, self._kernel(k, variant[0]), ints))
            else:
                steps.append((step, k))
        return _Bound(values, allocations, steps)

    def _kernel(self, k: int, kernel: Kernel) -> CompiledKernel:
        compiled = self._compiled.get((k, kernel.text))
        if compiled is None:
            compiled = self._compiled[k, kernel.text] = self.compile_kernel(kernel)
        return compiled

    @property
    def kernels(self) -> list[CompiledKernel]:
        """The kernels compiled so far, in order of steps."""
        return [compiled for _, compiled in sorted(self._compiled.items(), key=lambda item: item[0][0])]

    def run(self, arrays: Sequence[Array], numbers: Sequence[Any], sizes: tuple[int, ...]) -> list[Array]:
        """arrays: one per array input, aligned, in the layout that the program was made for. numbers: one per host
        number. Returns the outputs."""
        bound = self.bind(sizes)
        buffers: list[Any] = [*arrays, *[None] * (len(self.program.buffers) - len(arrays))]
        allocated = 0
        for i, shape, dtype in bound.allocations:
            buffers[i] = made = np.empty(shape, dtype)
            allocated += made.nbytes
        if allocated:
            tally.bytes_allocated += allocated
        for i, buffer in enumerate(self.program.buffers):
            if buffers[i] is None and buffer.storage is not buffer:
                buffers[i] = buffers[self._index(buffer.storage)]
        slots = [self._pack(f, n) for f, n in zip(self._formats, numbers, strict=True)] + self._fixed
        for step in bound.steps:
            if step.__class__ is _BoundLaunch:
                self._launch(step, buffers, slots)
            else:
                self._call(*step, buffers, bound.values)
        return self._outputs(buffers, bound.values)

    def _index(self, buffer: Any) -> int:
        return self.program._number[buffer]

    def _pack(self, form: str, number: Any) -> bytes:
        if len(form) == 2:
            return struct.pack(form, number.real, number.imag).ljust(SCALAR_SLOT, b"\0")
        return struct.pack(form, number).ljust(SCALAR_SLOT, b"\0")

    def _launch(self, step: _BoundLaunch, buffers: list[Any], slots: list[bytes]) -> None:
        pointers = step.pointers(*[buffers[b].ctypes.data for b in step.buffers])
        scalars = b"".join([slots[s] for s in step.scalars]) or None
        step.function(ctypes.addressof(pointers), ctypes.addressof(step.ints), scalars, 0, step.extent)
        tally.launches += 1

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

    def _outputs(self, buffers: list[Any], values: list[int]) -> list[Array]:
        made: dict[Any, Array] = {}
        outputs = []
        for view, (offset, shape, strides) in zip(self.program.plan.outputs, self.program.output_views_at, strict=True):
            known = made.get(view)
            if known is None:
                buffer = buffers[self._index(view.buffer)]
                known = made[view] = buffer if view.is_whole else _view(buffer, values, offset, shape, strides)
            outputs.append(known)
        return outputs


def _view(buffer: Array, values: list[int], offset: int, shape: list[int], strides: list[int]) -> Array:
    size = buffer.itemsize
    actual = tuple([values[p] for p in shape])
    steps = tuple([values[p] * size for p in strides])
    if values[offset] == 0 and buffer.shape == actual and buffer.strides == steps:
        return buffer
    if 0 in actual:
        return np.empty(actual, buffer.dtype)
    return np.asarray(_Window(buffer, actual, steps, values[offset] * size))


class _Window:
    """Memory of an array seen through other sizes and strides (bytes), for np.asarray; keeps the array alive."""

    def __init__(self, base: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
        self.base = base
        interface = dict(base.__array_interface__)
        address, readonly = interface["data"]
        interface.update(shape=shape, strides=strides, data=(address + offset, readonly))
        self.__array_interface__ = interface


def layout_of(array: Array) -> Any:
    """How an aligned array lies in memory, as `codegen.program.Layout`."""
    if array.flags.c_contiguous:
        return "C"
    strides = [abs(s) if n != 1 else 0 for n, s in zip(array.shape, array.strides, strict=True)]
    order = tuple(sorted(range(array.ndim), key=lambda d: (-strides[d], d)))
    if array.transpose(order).flags.c_contiguous:
        return order
    return ("S", array.strides[-1] == array.itemsize)
