"""Buffers and the strided windows on them. All sizes are symbolic: `int | Dim`, strides and offsets count elements."""

from __future__ import annotations

import dataclasses
from typing import Any

from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.types import DType, Shape

Size = int | Dim


class Buffer:
    """Memory that kernels read and write. `kind`: input, output, temp. Compared by identity."""

    __slots__ = ("kind", "index", "dtype", "shape", "storage")

    def __init__(self, kind: str, index: int, dtype: DType, shape: Shape) -> None:
        self.kind = kind
        self.index = index  # input position, or the number of the allocation
        self.dtype = dtype
        self.shape = shape
        self.storage: Buffer = self  # another buffer whose memory this one takes over

    def __repr__(self) -> str:
        return f"{self.kind}{self.index}"


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Element (i0, i1, ...) is buffer[offset + i0*strides[0] + i1*strides[1] + ...]."""

    buffer: Buffer
    offset: Size
    shape: Shape
    strides: tuple[Size, ...]

    @property
    def is_whole(self) -> bool:
        """Does it cover its buffer in row-major order?"""
        return self.offset == 0 and self.shape == self.buffer.shape and is_row_major(self.shape, self.strides)


def row_major_strides(shape: Shape) -> tuple[Size, ...]:
    strides: list[Size] = []
    step: Size = 1
    for n in reversed(shape):
        strides.append(step)
        step = step * n
    return tuple(reversed(strides))


def is_row_major(shape: Shape, strides: tuple[Size, ...]) -> bool:
    step: Size = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n == 1:
            continue
        if stride != step:
            return False
        step = step * n
    return True


def whole(buffer: Buffer) -> View:
    return View(buffer, 0, buffer.shape, row_major_strides(buffer.shape))


def moved(view: View, movement: Any, shape: Shape, params: dict[str, Any]) -> View:
    """The view after a movement op (its `Movement`), of result shape `shape`."""
    offset, strides = view.offset, list(view.strides)
    if movement.start_step is not None:
        for d, (start, step) in enumerate(movement.start_step(view.shape, **params)):
            offset = offset + start * strides[d]
            strides[d] = strides[d] * step
    walked: list[Size] = []
    for n, d in zip(shape, movement.source(view.shape, **params), strict=True):
        if d is None:
            walked.append(0)
        elif movement.start_step is None:
            walked.append(broadcast_stride(view.shape[d], strides[d], n))
        else:
            walked.append(strides[d])
    return View(view.buffer, offset, shape, tuple(walked))


def reshaped(view: View, shape: Shape) -> View | None:
    """The same elements under another shape without copying, or None where strides do not allow it."""
    if is_row_major(view.shape, view.strides):
        return View(view.buffer, view.offset, shape, row_major_strides(shape))
    kept = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    if [n for n in shape if n != 1] != [n for n, _ in kept]:
        return None
    strides = iter(s for _, s in kept)
    return View(view.buffer, view.offset, shape, tuple(0 if n == 1 else next(strides) for n in shape))


def broadcast_stride(size: Size, stride: Size, extent: Size) -> Size:
    """The stride with which a dimension of `size` is walked by a loop of `extent`: 0 where it is broadcast."""
    if size == 1:
        return 0
    if size == extent or not isinstance(size, Dim) or not isinstance(stride, (int, Dim)):
        return stride
    # Whether this size is 1 is known only when called.
    return stride * dims.opaque("min", 1, size - 1)
