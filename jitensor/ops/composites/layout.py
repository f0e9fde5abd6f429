"""Reordering, repeating, joining and padding. Axes are sorted where several, and not negative."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from jitensor.errors import ShapeError
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ops import movement, structure
from jitensor.ops.composites.numbers import Axes, Emit, Size, constant


def transpose(emit: Emit, x: Any, perm: Axes) -> Any:
    """Mirrors numpy.transpose."""
    return x if perm == tuple(range(len(perm))) else emit(movement.transpose, x, perm=perm)


def moveaxis(emit: Emit, x: Any, source: Axes, destination: Axes) -> Any:
    """Mirrors numpy.moveaxis."""
    order = [d for d in range(x.type.rank) if d not in source]
    for d, s in sorted(zip(destination, source, strict=True)):
        order.insert(d, s)
    return transpose(emit, x, tuple(order))


def swapaxes(emit: Emit, x: Any, first: int, second: int) -> Any:
    """Mirrors numpy.swapaxes."""
    perm = list(range(x.type.rank))
    perm[first], perm[second] = second, first
    return transpose(emit, x, tuple(perm))


def reshape(emit: Emit, x: Any, shape: Sequence[Size]) -> Any:
    """Mirrors numpy.reshape; no -1 here."""
    return x if x.type.shape == tuple(shape) else emit(movement.reshape, x, shape=tuple(shape))


def solve_reshape(shape: Sequence[Size], target: Sequence[Size]) -> tuple[Size, ...]:
    """`target` with its one -1, if there is one, replaced by what is left of the size of `shape`."""
    total = dims.product(tuple(shape))
    unknown = [i for i, n in enumerate(target) if isinstance(n, int) and n == -1]
    if not unknown:
        return tuple(target)
    if len(unknown) > 1:
        raise ShapeError("can only specify one unknown dimension")
    rest = dims.product(tuple(n for i, n in enumerate(target) if i != unknown[0]))
    if dims.same(rest, 0) or not dims.same(total % rest, 0):
        raise ShapeError(f"cannot reshape array of size {total} into shape ({','.join(map(str, target))})")
    return tuple(total // rest if i == unknown[0] else n for i, n in enumerate(target))


def ravel(emit: Emit, x: Any) -> Any:
    """One dimension, in row-major order. Mirrors numpy.ravel."""
    return reshape(emit, x, (dims.product(x.type.shape),))


def broadcast_to(emit: Emit, x: Any, shape: Sequence[Size]) -> Any:
    """Mirrors numpy.broadcast_to."""
    return x if x.type.shape == tuple(shape) else emit(movement.broadcast_to, x, shape=tuple(shape))


def slice_axis(emit: Emit, x: Any, axis: int, start: Size, size: Size, step: int = 1) -> Any:
    """Elements start, start + step ... along one axis, in range."""
    shape = x.type.shape
    if step == 1 and start == 0 and size == shape[axis]:
        return x
    starts = tuple(start if d == axis else 0 for d in range(len(shape)))
    sizes = tuple(size if d == axis else n for d, n in enumerate(shape))
    steps = tuple(step if d == axis else 1 for d in range(len(shape)))
    return emit(movement.slice_, x, starts=starts, sizes=sizes, steps=steps)


def flip(emit: Emit, x: Any, axes: Axes) -> Any:
    """Mirrors numpy.flip."""
    for axis in axes:
        x = slice_axis(emit, x, axis, x.type.shape[axis] - 1, x.type.shape[axis], -1)
    return x


def roll(emit: Emit, x: Any, shift: int | Dim, axis: int) -> Any:
    """Elements moved on by `shift` along one axis, the last ones coming in first. Mirrors numpy.roll."""
    n = x.type.shape[axis]
    if dims.same(n, 0):
        return x
    if isinstance(shift, int) and not isinstance(n, int) and dims.less(abs(shift), n):
        moved: Size = shift if shift >= 0 else n + shift
    else:
        moved = shift % n
    if isinstance(moved, int) and moved == 0:
        return x
    tail = slice_axis(emit, x, axis, n - moved, moved)
    return concatenate(emit, [tail, slice_axis(emit, x, axis, 0, n - moved)], axis)


def tile(emit: Emit, x: Any, reps: Sequence[Size]) -> Any:
    """Mirrors numpy.tile."""
    rank = max(len(reps), x.type.rank)
    shape = (*(1,) * (rank - x.type.rank), *x.type.shape)
    counts = (*(1,) * (rank - len(reps)), *reps)
    x = reshape(emit, x, shape)
    pairs = list(zip(counts, shape, strict=True))
    new_axes = tuple(2 * d for d in range(rank))
    if all(isinstance(r, int) and r == 1 for r in counts):
        return x
    spread = emit(movement.expand_dims, x, axes=new_axes)
    spread = broadcast_to(emit, spread, [n for pair in pairs for n in pair])
    return reshape(emit, spread, [r * n for r, n in pairs])


def repeat(emit: Emit, x: Any, repeats: Size, axis: int) -> Any:
    """Each slice along `axis` repeated in place. Mirrors numpy.repeat with a number."""
    shape = x.type.shape
    spread = emit(movement.expand_dims, x, axes=(axis + 1,))
    spread = broadcast_to(emit, spread, (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
    return reshape(emit, spread, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))


# Joining --------------------------------------------------------------------------------------------------------------


def concatenate(emit: Emit, parts: Sequence[Any], axis: int) -> Any:
    """Mirrors numpy.concatenate; the parts have one dtype."""
    return parts[0] if len(parts) == 1 else emit(structure.concatenate, *parts, axis=axis)


def stack(emit: Emit, parts: Sequence[Any], axis: int) -> Any:
    """A new dimension `axis` over parts of one shape. Mirrors numpy.stack."""
    first = parts[0].type
    for part in parts[1:]:
        if part.type.rank != first.rank or not all(map(dims.same, part.type.shape, first.shape)):
            raise ShapeError("all input arrays must have the same shape")
    return concatenate(emit, [emit(movement.expand_dims, p, axes=(axis,)) for p in parts], axis)


def split(emit: Emit, x: Any, points: Sequence[Size], axis: int) -> list[Any]:
    """The pieces before, between and after the points (in range and rising)."""
    edges = [0, *points, x.type.shape[axis]]
    return [slice_axis(emit, x, axis, e, f - e) for e, f in itertools.pairwise(edges)]


def pad(emit: Emit, x: Any, widths: Sequence[tuple[Size, Size]], mode: str = "constant", value: Any = None) -> Any:
    """Mirrors numpy.pad. widths: (before, after) per dimension. value: 0-d, of x's dtype. mode: constant, edge,
    reflect, symmetric or wrap. Raises ShapeError for a reflection wider than the array, which NumPy repeats."""
    if mode == "constant":
        return _pad_constant(emit, x, widths, value)
    for axis, (before, after) in enumerate(widths):
        n = x.type.shape[axis]
        if not dims.same(before + after, 0) and dims.same(n, 0):
            raise ShapeError(f"can't extend empty axis {axis} using modes other than 'constant' or 'empty'")
        parts = [_padding(emit, x, axis, before, mode, True), x, _padding(emit, x, axis, after, mode, False)]
        kept = [p for p in parts if not (isinstance(p.type.shape[axis], int) and p.type.shape[axis] == 0 and n != 0)]
        x = concatenate(emit, kept, axis) if kept else x
    return x


def _pad_constant(emit: Emit, x: Any, widths: Sequence[tuple[Size, Size]], value: Any) -> Any:
    shape = tuple(n + before + after for n, (before, after) in zip(x.type.shape, widths, strict=True))
    if value is None:
        value = constant(emit, 0, x.type.dtype)
    base = emit(structure.full, value, shape=shape)
    starts = tuple(before for before, _ in widths)
    return emit(structure.update_slice, base, x, starts=starts, sizes=x.type.shape, steps=(1,) * len(shape))


def _padding(emit: Emit, x: Any, axis: int, width: Size, mode: str, before: bool) -> Any:
    """What comes before or after x along one axis."""
    n = x.type.shape[axis]
    if mode == "edge":
        end = slice_axis(emit, x, axis, 0 if before else n - 1, 1)
        return broadcast_to(emit, end, [width if d == axis else m for d, m in enumerate(x.type.shape)])
    longest = {"wrap": n, "symmetric": n, "reflect": n - 1}[mode]
    if dims.less(longest, width):
        raise ShapeError(f"pad: width {width} of mode {mode!r} exceeds what {x.type} holds along axis {axis}.")
    if mode == "wrap":
        return slice_axis(emit, x, axis, n - width if before else 0, width)
    skip = 1 if mode == "reflect" else 0
    return slice_axis(emit, x, axis, width - 1 + skip if before else n - 1 - skip, width, -1)
