"""Kernel -> one plain file, for use where jitensor is not: it needs NumPy and Numba alone.

Owns the wrapper that takes NumPy arrays and checks them. Must not know graphs or programs: sizes, strides and offsets
are arguments of the file's `run`, under the names that the kernel's text gives them. In use:

    from kernel import run
    run(b0=x, b1=result, n0=37, n1=530, s0_0=530, s1_0=530)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jitensor.codegen.emit_numba import DECORATOR, PRELUDE, SCALAR_SLOT, emit_numba
from jitensor.codegen.kernel import SCRATCH, STRIDED, Kernel, print_kernel
from jitensor.codegen.schedule import schedule

_HEAD = '''"""The kernel `{symbol}`, written by jitensor. Needs NumPy and Numba alone; `run` takes NumPy arrays."""

import ctypes
import functools
'''

_WRAPPER = '''

# Calling it from NumPy -----------------------------------------------------------------------------------------------


@functools.cache
def compiled(kernel):
    """The kernel's machine code as a ctypes function."""
    pointer = types.CPointer(types.uint8)
    kinds = (types.CPointer(pointer), types.CPointer(types.int64), pointer, types.int64, types.int64)
    code = cfunc(types.int64(*kinds), {options})(kernel.py_func)
    addresses = [ctypes.c_void_p] * 3
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *addresses, ctypes.c_int64, ctypes.c_int64)(code.address)
    function.code = code  # keeps it alive
    return function


def check(name, array, dtype, written, *accesses):
    """Refuse memory that the kernel would misread or leave. An access, in elements: (offset, (extent, stride), ...)."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise TypeError(f"{name}: an array of {array.dtype}; needed a contiguous one of {dtype}")
    if written and not array.flags.writeable:
        raise TypeError(f"{name}: the array is read-only, and the kernel writes it")
    for offset, *walks in accesses:
        ends = [(extent - 1) * stride for extent, stride in walks]
        first, last = offset + sum(min(e, 0) for e in ends), offset + sum(max(e, 0) for e in ends)
        if all(extent > 0 for extent, _ in walks) and not 0 <= first <= last < array.size:
            raise ValueError(f"{name}: {array.size} elements; the kernel would touch {first} to {last}")


def launch(kernel, arrays, ints, numbers, extent):
    """Run the kernel. numbers: NumPy scalars, each of which fills one slot."""
    pointers = (ctypes.c_void_p * max(len(arrays), 1))(*[a.ctypes.data for a in arrays])
    sizes = (ctypes.c_int64 * max(len(ints), 1))(*ints)
    slots = b"".join(n.tobytes().ljust({slot}, b"\\0") for n in numbers)
    compiled(kernel)(pointers, sizes, slots, 0, extent)
'''


def take_away(kernel: Kernel, symbol: str, ints: Sequence[int] = ()) -> str:
    """The file. Its `run` takes buffers (contiguous arrays: what the kernel walks), host numbers and integers.

    ints: one launch's integer arguments, which become `run`'s defaults.
    """
    if kernel.chunked:  # its launches need a driver; the same kernel in one piece does not
        kernel = dataclasses.replace(kernel, chunked=False)
        kernel = dataclasses.replace(kernel, text=print_kernel(kernel))
    source = emit_numba(kernel, symbol)
    options = DECORATOR.removeprefix("@njit(").removesuffix(")")
    prelude = PRELUDE.replace("from numba import njit", "from numba import cfunc, njit")
    wrapper = _WRAPPER.replace("{options}", options).replace("{slot}", str(SCALAR_SLOT))
    head = _HEAD.format(symbol=symbol) + prelude
    return "\n".join(
        [head, "", source + wrapper, "", _run(kernel, symbol, ints, rows=f"stack_array({SCRATCH}" in source)]
    )


def _run(kernel: Kernel, symbol: str, ints: Sequence[int], *, rows: bool) -> str:
    """The source of `run`. rows: the kernel keeps a row on the stack, so the row's length has a limit."""
    names = schedule(kernel, outline=True).ints
    fixed = f"n{len(kernel.reduced) - 1}" if kernel.inner else ""
    free = [name for name in names if name != fixed]
    values = dict(zip(names, ints, strict=True)) if ints else {}
    defaults = [f"{name}={values[name]}" if ints else name for name in free]
    passed = [str(kernel.inner) if name == fixed else name for name in names]
    buffers = [f"b{i}" for i in range(len(kernel.buffers))]
    scalars = [f"s{i}" for i in range(len(kernel.scalars))]
    written = [name for name, (_, w) in zip(buffers, kernel.buffers, strict=True) if w]
    numbers = [f'np.dtype("{d.numpy.name}").type({s})' for s, d in zip(scalars, kernel.scalars, strict=True)]
    parameters = [*buffers, *scalars, *(["*", *defaults] if defaults else [])]
    lines = [
        f"def run({', '.join(parameters)}):",
        f'    """Run `{symbol}`, which writes {", ".join(written)}. n: extents of loops; s: strides; o: offsets."""',
        *[f"    {line}" for line in _checks(kernel)],
    ]
    if rows:
        row = _extent(kernel, len(kernel.reduced) - 1)
        lines.append(f"    if {row} > {SCRATCH}:")
        lines.append(f'        raise ValueError(f"rows of {{{row}}} elements; at most {SCRATCH}")')
    extent = "n0" if kernel.parallel else "1"
    lists = ", ".join(f"[{', '.join(part)}]" for part in (buffers, passed, numbers))
    return "\n".join([*lines, f"    launch({symbol}, {lists}, {extent})", ""])


def _checks(kernel: Kernel) -> list[str]:
    """A line for each buffer."""
    lines = []
    for i, (dtype, written) in enumerate(kernel.buffers):
        accesses = [_access(kernel, k) for k, access in enumerate(kernel.accesses) if access.buffer == i]
        parts = [f'"b{i}"', f"b{i}", f'np.dtype("{dtype.numpy.name}")', str(written), *dict.fromkeys(accesses)]
        lines.append(f"check({', '.join(parts)})")
    return lines


def _access(kernel: Kernel, k: int) -> str:
    """Access `k` as `check` takes it."""
    access = kernel.accesses[k]
    offset = f"o{k}" if access.offset else "0"
    strides = [(d, f"s{k}_{d}" if s == STRIDED else s) for d, s in enumerate(access.strides) if s != 0]
    return f"({', '.join([offset, *[f'({_extent(kernel, d)}, {s})' for d, s in strides]])}{'' if strides else ','})"


def _extent(kernel: Kernel, loop: int) -> str:
    """The extent of a loop: an argument, or a number where it is part of the code."""
    return str(kernel.inner) if kernel.inner and loop == len(kernel.reduced) - 1 else f"n{loop}"
