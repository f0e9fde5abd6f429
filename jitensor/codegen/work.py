"""How much work a launch is, and how it may be cut into chunks: the plan that the driver (`emit_pool`) reads.

Chunks are fixed by the kernel and its sizes, never by the number of threads, and their borders lie where the kernel's
own blocks end: results are the same bits on any number of threads. A full reduction of more than `2 * CHUNK` elements
runs in stages (`Kernel.chunked`, see `schedule`): partial results of chunks of CHUNK elements, added in order. Must not
know threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jitensor.codegen.kernel import Kernel, iterations_are_independent

WHOLE = 1 << 62  # the grain of a launch that cannot be cut
PARALLEL_PICOSECONDS = 50_000_000  # launches below this much work run on the caller's thread
CHUNK_PICOSECONDS = 20_000_000  # what a chunk should cost
MOST_CHUNKS = 64  # about; large launches have larger chunks

# Measured on a Zen 4 core at about 3.5 GHz: picoseconds of an instruction per 8-byte element, of a byte moved.
OPERATION, BYTE = 20, 5


def launch_plan(kernel: Kernel) -> tuple[int, ...]:
    """loops, picoseconds of an innermost iteration, grain of the outermost loop, stages, slots of a partial result,
    fixed slots, buffers."""
    loops = len(kernel.reduced)
    if kernel.chunked:
        slots = partial_slots(kernel)
        stages = 2 * (max(phases(kernel)) + 1)
        return loops, iteration_cost(kernel), 1, stages, slots, 2 + slots, len(kernel.buffers)
    return loops, iteration_cost(kernel), _grain(kernel), 0, 0, 0, len(kernel.buffers)


def iteration_cost(kernel: Kernel) -> int:
    """About, in picoseconds."""
    work = 0
    for op in kernel.ops:
        if op.primitive is not None:
            size = max([op.dtype.size, *(kernel.ops[a].dtype.size for a in op.args)])
            work += op.primitive.cost * OPERATION * min(size, 16) // 8
    touched = sum(kernel.buffers[a.buffer][0].size for a in kernel.accesses if any(s != 0 for s in a.strides))
    return work + touched * BYTE + 1


def is_divisible(kernel: Kernel) -> bool:
    """Does a launch of it go through the driver?"""
    return kernel.chunked or _grain(kernel) < WHOLE


def picoseconds(kernel: Kernel, ints: Sequence[int]) -> int:
    """What a launch with these integer arguments costs, about."""
    return iteration_cost(kernel) * math.prod(ints[: len(kernel.reduced)])


def phases(kernel: Kernel) -> list[int]:
    """For an op that varies along a reduced loop the first phase that can compute it; else how many must be over."""
    found: list[int] = []
    for op in kernel.ops:
        latest = max((found[a] for a in op.args), default=0)
        found.append(latest + 1 if op.kind == "reduce" else latest)
    return found


def scratch_words(kernel: Kernel) -> int:
    """Words of partial results that a chunked kernel needs for one chunk."""
    return 2 + 2 * partial_slots(kernel)


def partial_slots(kernel: Kernel) -> int:
    """Eight-byte words of a chunk's partial results: four for each reduction."""
    return 4 * sum(op.kind == "reduce" for op in kernel.ops)


def _grain(kernel: Kernel) -> int:
    """What chunk borders are multiples of; WHOLE where the launch cannot be cut."""
    if not kernel.parallel or not iterations_are_independent(kernel):
        return WHOLE
    if kernel.column:
        return 256 if kernel.parallel == 1 else 1
    if any(kernel.reduced) and not kernel.inner:
        return 1
    return 512 if kernel.parallel == 1 or (kernel.inner and len(kernel.reduced) == 2) else 1
