"""Shapes under TensorFlow's names: reshape, transpose, joining, splitting, repeating, and shapes as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor.api.convert import convert_to_tensor, pair, to_array, to_tensor, weak
from jitensor.errors import DTypeError, ShapeError
from jitensor.ir.types import DType, as_dtype, int32
from jitensor.ops import TABLE
from jitensor.recording import array_constant, bind, elements_of, known_elements, known_sizes, operation
from jitensor.runtime.tensor_shape import TensorShape
from jitensor.tensor import Tensor, make_traced

# Parameters of op functions -------------------------------------------------------------------------------------------


def integers(value: Any) -> tuple[int, ...]:
    """A shape, axes or counts given as ints, a sequence (tensors in it too), a TensorShape, an array or a tensor."""
    if isinstance(value, Tensor):
        return tuple(int(n) for n in elements_of(value).ravel())
    if isinstance(value, (int, np.integer)):
        return (int(value),)
    if isinstance(value, TensorShape):
        value = value.as_list()
    if isinstance(value, np.ndarray):
        return tuple(int(n) for n in value.ravel())
    return tuple([_integer(n) for n in value])


def _integer(value: Any) -> int:
    if isinstance(value, Tensor):
        return int(elements_of(value))
    if value is None or isinstance(value, float):
        raise DTypeError(
            f"a size must be an integer, got {value!r}; use jt.shape(x) for sizes that are known only when called"
        )
    return int(value)


def normal_axis(op: str, axis: Any, rank: int) -> int:
    """An axis as a non-negative int. Raises ShapeError out of range."""
    number = _integer(axis)
    if not -rank <= number < rank:
        raise ShapeError(f"{op}: axis {number} is out of range for a tensor of {rank} dimensions")
    return number % rank


def normal_axes(op: str, axis: Any, rank: int) -> tuple[int, ...]:
    """Axes as a sorted tuple; None means all."""
    if axis is None:
        return tuple(range(rank))
    axes = sorted(normal_axis(op, a, rank) for a in integers(axis))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: an axis occurs twice in {tuple(axes)}")
    return tuple(axes)


def sizes_of(x: Tensor) -> tuple[int, ...]:
    return x._sizes  # type: ignore[return-value]


# Shapes as values -----------------------------------------------------------------------------------------------------


@operation
def shape(input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    """The shape as an int32 vector; a constant where it is known while tracing. Mirrors tf.shape."""
    dtype = as_dtype(out_type)
    return array_constant(np.array(sizes_of(to_tensor(input)), dtype.numpy), dtype)


def _infer_shape(trace: Any, input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    sizes = input._sizes
    result = make_traced(trace, None, as_dtype(out_type), (None if sizes is None else len(sizes),))
    if sizes is not None:
        known = np.empty(len(sizes), object)
        known[:] = sizes
        result._known = known
    return result


shape.implementation.infer = _infer_shape  # type: ignore[attr-defined]


@operation
def size(input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    """The number of elements. Mirrors tf.size."""
    dtype = as_dtype(out_type)
    return array_constant(np.asarray(int(np.prod(sizes_of(to_tensor(input)), dtype=np.int64)), dtype.numpy), dtype)


@operation
def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of dimensions. Mirrors tf.rank."""
    return array_constant(np.asarray(len(sizes_of(to_tensor(input))), np.int32), int32)


def shape_n(input: Sequence[Any], out_type: Any = int32, name: str | None = None) -> list[Tensor]:
    return [shape(x, out_type) for x in input]


# Movement -------------------------------------------------------------------------------------------------------------


@operation
def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same elements in row-major order under another shape, in which one size may be -1. Mirrors tf.reshape."""
    x = to_tensor(tensor)
    return reshaped(x, integers(shape))


def reshaped(x: Tensor, target: tuple[int, ...]) -> Tensor:
    total = int(np.prod(sizes_of(x), dtype=np.int64))
    if -1 in target:
        if target.count(-1) > 1:
            raise ShapeError(f"reshape: only one size may be -1, got {target}")
        rest = int(np.prod([n for n in target if n != -1], dtype=np.int64))
        if rest == 0 or total % rest:
            if not (rest == 0 and total == 0):
                raise ShapeError(f"reshape: x is {x._text()} of {total} elements, which do not fit shape {target}")
        target = tuple([(total // rest if rest else 0) if n == -1 else n for n in target])
    if any(n < 0 for n in target) or int(np.prod(target, dtype=np.int64)) != total:
        raise ShapeError(f"reshape: x is {x._text()} of {total} elements, which do not fit shape {target}")
    return x if target == x._sizes else bind(TABLE["reshape"], (x,), shape=target)


def _infer_reshape(trace: Any, tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The target where it is known; -1 where all other sizes are."""
    dtype = tensor._dtype if isinstance(tensor, Tensor) else convert_to_tensor(tensor)._dtype
    target = partial_integers(shape)
    if target is None:
        return make_traced(trace, None, dtype, None)
    given = known_sizes(tensor._sizes) if isinstance(tensor, Tensor) else None
    if given is not None:
        total = int(np.prod(given, dtype=np.int64))
        open_sizes = target.count(-1) + target.count(None)
        rest = int(np.prod([n for n in target if n not in (-1, None)], dtype=np.int64))
        if total % rest if open_sizes and rest else not open_sizes and rest != total:
            message = f"reshape: x is {tensor._text()} of {total} elements, which do not fit shape {target}"
            raise ShapeError(message, location=trace.here())
        if open_sizes == 1 and rest:
            target = tuple([total // rest if n in (-1, None) else n for n in target])
    return make_traced(trace, None, dtype, tuple([None if n == -1 else n for n in target]))


reshape.implementation.infer = _infer_reshape  # type: ignore[attr-defined]


def partial_integers(value: Any) -> tuple[int | None, ...] | None:
    """Like `integers`, with None for what tracing does not know; None where not even the length is known."""
    if isinstance(value, Tensor):
        known = known_elements(value)
        if known is not None:
            return tuple([None if n is None else int(n) for n in known.ravel()])
        sizes = known_sizes(value._sizes)
        return None if sizes is None or len(sizes) > 1 else (None,) * int(np.prod(sizes, dtype=np.int64))
    if isinstance(value, (list, tuple)):
        parts = [partial_integers(n) if isinstance(n, Tensor) else (int(n),) for n in value]
        return tuple([n for p in parts for n in (p or (None,))])
    return integers(value)


@operation
def transpose(a: Any, perm: Any = None, conjugate: bool = False, name: str | None = None) -> Tensor:
    """Dimension i of the result is dimension perm[i] of a; without perm they are reversed. Mirrors tf.transpose."""
    x = to_tensor(a)
    order = (
        tuple(range(x.ndim))[::-1]
        if perm is None
        else tuple(normal_axis("transpose", p, x.ndim) for p in integers(perm))
    )
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"transpose: perm {order} is no permutation of the {x.ndim} dimensions")
    if order != tuple(range(x.ndim)):
        x = bind(TABLE["transpose"], (x,), perm=order)
    return bind(TABLE["conjugate"], (x,)) if conjugate and x._dtype.is_complex else x


@operation
def expand_dims(input: Any, axis: Any, name: str | None = None) -> Tensor:
    """A dimension of size 1 inserted at `axis`. Mirrors tf.expand_dims."""
    x = to_tensor(input)
    return bind(TABLE["expand_dims"], (x,), axes=(normal_axis("expand_dims", axis, x.ndim + 1),))


@operation
def squeeze(input: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """The dimensions of size 1 dropped: all, or those of `axis`. Mirrors tf.squeeze."""
    x = to_tensor(input)
    if axis is None or axis == []:
        axes = tuple(d for d, n in enumerate(sizes_of(x)) if n == 1)
    else:
        axes = normal_axes("squeeze", axis, x.ndim)
        for d in axes:
            if sizes_of(x)[d] != 1:
                raise ShapeError(f"squeeze: x is {x._text()}; dimension {d} has size {sizes_of(x)[d]}, needed 1")
    return bind(TABLE["squeeze"], (x,), axes=axes) if axes else x


@operation
def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """x repeated along dimensions of size 1 and new leading ones. Mirrors tf.broadcast_to."""
    return broadcasted(to_tensor(input), integers(shape))


def broadcasted(x: Tensor, target: tuple[int, ...]) -> Tensor:
    sizes = sizes_of(x)
    lead = len(target) - len(sizes)
    if lead < 0 or any(n not in (1, m) for n, m in zip(sizes, target[lead:], strict=True)):
        raise ShapeError(f"broadcast_to: x is {x._text()}, which cannot have shape {target}")
    return x if sizes == target else bind(TABLE["broadcast_to"], (x,), shape=target)


# Joining and splitting ------------------------------------------------------------------------------------------------


def _alike(op: str, values: Any) -> list[Tensor]:
    """The values as tensors of one dtype: the first tensor's."""
    if isinstance(values, Tensor):
        return unstacked(values, 0)
    first = next((v for v in values if isinstance(v, Tensor)), None)
    if first is None:
        made = [to_tensor(v) for v in values]
        return [pair(op, made[0], v)[1] for v in made] if made else []
    return [pair(op, first, v)[1] if isinstance(v, Tensor) else weak(v, first._dtype, op) for v in values]


@operation
def concat(values: Any, axis: Any, name: str | None = None) -> Tensor:
    """The values one after another along `axis`. Mirrors tf.concat."""
    if isinstance(values, Tensor):
        return values
    parts = _alike("concat", values)
    if not parts:
        raise ShapeError("concat: needed at least one tensor")
    if any(p.ndim != parts[0].ndim for p in parts):
        raise ShapeError(
            f"concat: the tensors are {', '.join(p._text() for p in parts)}; all need the same number of dimensions"
        )
    along = normal_axis("concat", axis, parts[0].ndim)
    return bind(TABLE["concatenate"], parts, axis=along) if len(parts) > 1 else parts[0]


@operation
def stack(values: Any, axis: Any = 0, name: str | None = "stack") -> Tensor:
    """The values along a new dimension. Mirrors tf.stack."""
    parts = _alike("stack", values)
    if not parts:
        raise ShapeError("stack: needed at least one tensor")
    if any(p._sizes != parts[0]._sizes for p in parts):
        raise ShapeError(f"stack: the tensors are {', '.join(p._text() for p in parts)}; all need the same shape")
    along = normal_axis("stack", axis, parts[0].ndim + 1)
    parts = [bind(TABLE["expand_dims"], (p,), axes=(along,)) for p in parts]
    return bind(TABLE["concatenate"], parts, axis=along) if len(parts) > 1 else parts[0]


def part(x: Tensor, axis: int, start: int, length: int, step: int = 1) -> Tensor:
    """`length` slices along one axis."""
    sizes = sizes_of(x)
    starts = tuple([start if d == axis else 0 for d in range(len(sizes))])
    lengths = tuple([length if d == axis else n for d, n in enumerate(sizes)])
    steps = tuple([step if d == axis else 1 for d in range(len(sizes))])
    return bind(TABLE["slice"], (x,), starts=starts, sizes=lengths, steps=steps)


def unstacked(x: Tensor, axis: int) -> list[Tensor]:
    rows = [part(x, axis, i, 1) for i in range(sizes_of(x)[axis])]
    return [bind(TABLE["squeeze"], (r,), axes=(axis,)) for r in rows]


@operation
def unstack(value: Any, num: int | None = None, axis: Any = 0, name: str | None = "unstack") -> list[Tensor]:
    """The slices along `axis`, as a list. Mirrors tf.unstack."""
    x = to_tensor(value)
    along = normal_axis("unstack", axis, x.ndim)
    if num is not None and sizes_of(x)[along] != num:
        raise ShapeError(
            f"unstack: x is {x._text()}; num is {num}, but dimension {along} has size {sizes_of(x)[along]}"
        )
    return unstacked(x, along)


@operation
def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """Parts along `axis`: a number of equal ones, or of the sizes given, one of which may be -1. Mirrors tf.split."""
    x = to_tensor(value)
    along = normal_axis("split", axis, x.ndim)
    total = sizes_of(x)[along]
    if isinstance(num_or_size_splits, (int, np.integer)):
        count = int(num_or_size_splits)
        if count <= 0 or total % count:
            raise ShapeError(
                f"split: x is {x._text()}; dimension {along} of size {total} does not split into {count} equal parts"
            )
        lengths: tuple[int, ...] = (total // count,) * count
    else:
        lengths = integers(num_or_size_splits)
        if -1 in lengths:
            lengths = tuple([total - sum(n for n in lengths if n != -1) if n == -1 else n for n in lengths])
        if sum(lengths) != total or any(n < 0 for n in lengths):
            raise ShapeError(f"split: x is {x._text()}; sizes {lengths} do not add up to {total}")
    starts = np.cumsum([0, *lengths])
    return [part(x, along, int(s), n) for s, n in zip(starts, lengths, strict=False)]


# Repeating and turning ------------------------------------------------------------------------------------------------


@operation
def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """x repeated multiples[d] times along each dimension. Mirrors tf.tile."""
    x = to_tensor(input)
    counts = integers(multiples)
    if len(counts) != x.ndim:
        raise ShapeError(f"tile: x is {x._text()}; multiples {counts} must have {x.ndim} elements")
    sizes = sizes_of(x)
    x = bind(TABLE["expand_dims"], (x,), axes=tuple(range(0, 2 * len(sizes), 2))) if sizes else x
    x = broadcasted(x, tuple([n for pair in zip(counts, sizes, strict=True) for n in pair]))
    return reshaped(x, tuple([c * n for c, n in zip(counts, sizes, strict=True)]))


@operation
def repeat(input: Any, repeats: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Each slice repeated in place: `repeats` times, or repeats[i] times. Without axis, of the flattened x. Mirrors
    tf.repeat."""
    x = to_tensor(input)
    if axis is None:
        x, axis = reshaped(x, (int(np.prod(sizes_of(x), dtype=np.int64)),)), 0
    along = normal_axis("repeat", axis, x.ndim)
    counts = integers(repeats)
    total = sizes_of(x)[along]
    if len(counts) not in (1, total):
        raise ShapeError(f"repeat: x is {x._text()}; repeats must have 1 or {total} elements, got {len(counts)}")
    positions = np.repeat(np.arange(total), counts)
    return bind(TABLE["gather"], (x, array_constant(positions, as_dtype("int64"))), axis=along, mode="clip")


@operation
def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """x with the order along the axes turned. Mirrors tf.reverse."""
    x = to_tensor(tensor)
    for d in normal_axes("reverse", axis, x.ndim):
        n = sizes_of(x)[d]
        x = part(x, d, max(n - 1, 0), n, -1)
    return x


@operation
def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Tensor:
    """x shifted along the axes, elements coming in again at the other end. Mirrors tf.roll."""
    x = to_tensor(input)
    for by, along in zip(integers(shift), integers(axis), strict=True):
        d = normal_axis("roll", along, x.ndim)
        n = sizes_of(x)[d]
        cut = (n - by) % n if n else 0
        if cut:
            x = bind(TABLE["concatenate"], (part(x, d, cut, n - cut), part(x, d, 0, cut)), axis=d)
    return x


@operation
def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: str | None = None
) -> Tensor:
    """x with paddings[d] = (before, after) elements added. mode: CONSTANT, REFLECT or SYMMETRIC. Mirrors tf.pad."""
    x = to_tensor(tensor)
    flat = (
        integers(paddings)
        if isinstance(paddings, (Tensor, np.ndarray))
        else tuple(_integer(n) for p in paddings for n in p)
    )
    if len(flat) != 2 * x.ndim or any(n < 0 for n in flat):
        raise ShapeError(f"pad: x is {x._text()}; paddings must be {x.ndim} pairs of sizes, got {flat}")
    widths = list(zip(flat[::2], flat[1::2], strict=True))
    if mode.upper() == "CONSTANT":
        return _pad_constant(x, widths, constant_values)
    if mode.upper() not in ("REFLECT", "SYMMETRIC"):
        raise ShapeError(f"pad: mode {mode!r} is none of CONSTANT, REFLECT, SYMMETRIC")
    for d, (before, after) in enumerate(widths):
        if before or after:
            x = _pad_mirror(x, d, before, after, mode.upper() == "REFLECT")
    return x


def _pad_constant(x: Tensor, widths: list[tuple[int, int]], value: Any) -> Tensor:
    total = tuple([b + n + a for n, (b, a) in zip(sizes_of(x), widths, strict=True)])
    filled = bind(TABLE["full"], (weak(value, x._dtype, "pad"),), shape=total)
    starts = tuple([b for b, _ in widths])
    return bind(TABLE["update_slice"], (filled, x), starts=starts, sizes=sizes_of(x), steps=(1,) * x.ndim)


def _pad_mirror(x: Tensor, d: int, before: int, after: int, skip_edge: bool) -> Tensor:
    n, skip = sizes_of(x)[d], int(skip_edge)
    if max(before, after) > n - skip:
        raise ShapeError(f"pad: x is {x._text()}; dimension {d} is too short for paddings {(before, after)}")
    parts = [x]
    if before:
        parts.insert(0, part(x, d, before - 1 + skip, before, -1))
    if after:
        parts.append(part(x, d, n - 1 - skip, after, -1))
    return bind(TABLE["concatenate"], parts, axis=d)


# Creation -------------------------------------------------------------------------------------------------------------


@operation
def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """Every element is `value`. Mirrors tf.fill."""
    return filled(integers(dims), to_tensor(value))


def filled(sizes: tuple[int, ...], value: Tensor) -> Tensor:
    if any(n < 0 for n in sizes):
        raise ShapeError(f"a shape cannot hold a negative size, got {sizes}")
    return bind(TABLE["full"], (value,), shape=sizes)


@operation
def zeros(shape: Any, dtype: Any = "float32", name: str | None = None) -> Tensor:
    """Mirrors tf.zeros."""
    return _filled_with(shape, 0, as_dtype(dtype))


@operation
def ones(shape: Any, dtype: Any = "float32", name: str | None = None) -> Tensor:
    """Mirrors tf.ones."""
    return _filled_with(shape, 1, as_dtype(dtype))


def _filled_with(shape: Any, value: int, dtype: DType) -> Tensor:
    return filled(integers(shape), array_constant(np.asarray(value, dtype.numpy), dtype))


@operation
def zeros_like(input: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Mirrors tf.zeros_like."""
    x = to_tensor(input)
    return _filled_with(sizes_of(x), 0, x._dtype if dtype is None else as_dtype(dtype))


@operation
def ones_like(input: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """Mirrors tf.ones_like."""
    x = to_tensor(input)
    return _filled_with(sizes_of(x), 1, x._dtype if dtype is None else as_dtype(dtype))


@operation
def range_(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:
    """start, start + delta ... below limit; `range(limit)` starts at 0. Mirrors tf.range."""
    if limit is None:
        start, limit = 0, start
    kind = as_dtype(dtype) if dtype is not None else _range_dtype(start, limit, delta)
    first, last, step = (_number(v, kind) for v in (start, limit, delta))
    if step == 0:
        raise ShapeError("range: delta must not be 0")
    count = max(0, -int(-(last - first) // step)) if kind.kind in "iu" else max(0, int(np.ceil((last - first) / step)))
    steps = bind(TABLE["iota"], (), shape=(count,), axis=0, dtype=kind)
    if step != 1:
        steps = bind(TABLE["multiply"], (steps, weak(step, kind)))
    return steps if first == 0 else bind(TABLE["add"], (steps, weak(first, kind)))


def _range_dtype(*values: Any) -> DType:
    tensors = [v._dtype for v in values if isinstance(v, Tensor)]
    others = [to_array_dtype(v) for v in values if not isinstance(v, Tensor)]
    order = ["int32", "int64", "float32", "float64"]
    names = [d.name for d in (*tensors, *others)]
    for n in names:
        if n not in order:
            raise DTypeError(f"range: dtype {n} is none of {', '.join(order)}")
    return as_dtype(order[max(order.index(n) for n in names)])


def to_array_dtype(value: Any) -> DType:
    return to_array(value)[1]


def _number(value: Any, dtype: DType) -> Any:
    number = elements_of(value)[()] if isinstance(value, Tensor) else np.asarray(value)[()]
    return int(number) if dtype.kind in "iu" else float(number)


@operation
def linspace(start: Any, stop: Any, num: Any, name: str | None = None, axis: int = 0) -> Tensor:
    """`num` values from start to stop, both included. Mirrors tf.linspace of scalars."""
    first = to_tensor(start)
    if first._dtype.kind in "iu":
        first = bind(TABLE["cast"], (first,), dtype=as_dtype("float64"))
    first, last = pair("linspace", first, stop if not isinstance(stop, int) else float(stop))
    (count,) = integers(num)
    if count < 1:
        raise ShapeError(f"linspace: num must be positive, got {count}")
    steps = bind(TABLE["iota"], (), shape=(count,), axis=0, dtype=first._dtype)
    stride = bind(TABLE["divide"], (bind(TABLE["subtract"], (last, first)), weak(max(count - 1, 1), first._dtype)))
    line = bind(TABLE["add"], (bind(TABLE["multiply"], (steps, stride)), first))
    at_end = bind(TABLE["equal"], (steps, weak(count - 1, first._dtype)))
    return bind(TABLE["where"], (at_end, last, line)) if count > 1 else line


@operation
def eye(
    num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = "float32", name: str | None = None
) -> Tensor:
    """Ones on the diagonal. Mirrors tf.eye."""
    (rows,) = integers(num_rows)
    columns = rows if num_columns is None else integers(num_columns)[0]
    kind = as_dtype(dtype)
    i, j = (bind(TABLE["iota"], (), shape=(rows, columns), axis=a, dtype=as_dtype("int64")) for a in (0, 1))
    result = bind(TABLE["cast"], (bind(TABLE["equal"], (i, j)),), dtype=kind)
    return result if batch_shape is None else broadcasted(result, (*integers(batch_shape), rows, columns))


@operation
def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """A dimension of size `depth` with on_value at the index and off_value elsewhere. Mirrors tf.one_hot."""
    index = to_tensor(indices)
    (count,) = integers(depth)
    kind = as_dtype(dtype) if dtype is not None else _hot_dtype(on_value, off_value)
    along = normal_axis("one_hot", -1 if axis is None else axis, index.ndim + 1)
    column = bind(TABLE["expand_dims"], (index,), axes=(along,))
    shape = tuple(count if d == along else 1 for d in range(index.ndim + 1))
    line = bind(TABLE["iota"], (), shape=shape, axis=along, dtype=index._dtype)
    hot = bind(TABLE["equal"], (column, line))
    return bind(
        TABLE["where"],
        (hot, weak(1 if on_value is None else on_value, kind), weak(0 if off_value is None else off_value, kind)),
    )


def _hot_dtype(on_value: Any, off_value: Any) -> DType:
    given = on_value if on_value is not None else off_value
    return as_dtype("float32") if given is None else to_tensor(given)._dtype


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The static shape of a broadcast of both. Mirrors tf.broadcast_static_shape."""
    x, y = TensorShape(shape_x).as_list(), TensorShape(shape_y).as_list()
    ones_: list[int | None] = [1] * abs(len(x) - len(y))
    x, y = (ones_ + x, y) if len(x) < len(y) else (x, ones_ + y)
    result: list[int | None] = []
    for n, m in zip(x, y, strict=True):
        if n is not None and m is not None and n != m and 1 not in (n, m):
            raise ShapeError(
                f"broadcast_static_shape: {TensorShape(shape_x)} and {TensorShape(shape_y)} do not broadcast"
            )
        result.append(m if n == 1 else n if m == 1 or n == m else n if m is None else m)
    return TensorShape(result)
