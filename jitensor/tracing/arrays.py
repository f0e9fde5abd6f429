"""The traced array: a cell that holds the current Value, and a chain of views onto it.

Owns `Cell`, `Tracer`, reading and writing through views, and the memory order that NumPy would give. Must not know
NumPy's functions: operators, methods and protocols are attached by `tracing.operators`. Text of `x[1:-1].T` of an
argument x:

    Tracer(cell %0: f64[d0, d1], slice(starts=(1, 0), sizes=(d0 - 2, d1), steps=(1, 1)), transpose(perm=(1, 0)))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jitensor.errors import DTypeError, TraceError, user_location
from jitensor.ir import dims, types
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Primitive, Value
from jitensor.ir.interpret import concrete as concrete_param
from jitensor.ir.types import BY_NUMPY, DType, Shape, as_dtype
from jitensor.ops import TABLE
from jitensor.tracing import numbers
from jitensor.tracing.context import TraceContext, here, shape_text
from jitensor.tracing.numbers import IntNumber, Number, make_int

READ_ONLY = "assignment destination is read-only"


class Cell:
    """What an array's memory holds: the Value now. `feed`: the position of the argument that it is, or None."""

    __slots__ = ("feed", "original", "value", "writable", "written")

    def __init__(self, value: Value, feed: int | None = None, writable: bool = True) -> None:
        self.value = value
        self.original = value
        self.feed = feed
        self.writable = writable
        self.written = False


class View(NamedTuple):
    """One step of a chain: a movement primitive (or reshape) and its parameters, and the operand's shape."""

    kind: str
    params: dict[str, Any]
    source_shape: Shape


Layout = tuple[int, ...] | None  # per axis, larger = slower in memory, 0 = repeated; None = row-major


class Tracer:
    """Stands for an ndarray or NumPy scalar. `weak`: the Python type, where it stands for a Python number."""

    __slots__ = ("cell", "chain", "context", "contiguous", "dims", "dtype", "layout", "location", "scalar", "weak")
    __array_priority__ = 1000.0

    def __init__(
        self,
        context: TraceContext,
        cell: Cell,
        shape: Shape,
        dtype: np.dtype[Any],
        chain: tuple[View, ...] = (),
        *,
        scalar: bool = False,
        weak: type | None = None,
        layout: Layout = None,
        contiguous: bool = True,
    ) -> None:
        self.context = context
        self.cell = cell
        self.dims = shape
        self.dtype = dtype
        self.chain = chain
        self.scalar = scalar
        self.weak = weak
        self.layout = layout
        self.contiguous = contiguous
        self.location = user_location()

    def value(self) -> Value:
        """What the array holds now."""
        if not self.context.is_running():
            self.context.require(f"traced array {self.describe()}", self.location)
        value = self.cell.value
        for view in self.chain:
            value = self.context.add(TABLE[view.kind], [value], view.params)
        return value

    def describe(self) -> str:
        return f"{BY_NUMPY[self.dtype].short}[{', '.join(map(str, self.dims))}]"

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple([make_int(self.context, n) for n in self.dims])

    @property
    def ndim(self) -> int:
        return len(self.dims)

    @property
    def size(self) -> Any:
        return make_int(self.context, dims.product(self.dims))

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> Any:
        return make_int(self.context, dims.product(self.dims) * self.dtype.itemsize)

    def __len__(self) -> int:
        return length(self) if isinstance(length(self), int) else length(self).__index__()

    def __hash__(self) -> int:
        if self.scalar:
            return hash(concrete(self, "hash()").item())
        raise TypeError("unhashable type: 'numpy.ndarray'")

    def __repr__(self) -> str:
        kind = "number" if self.weak else "scalar" if self.scalar else "array"
        return f"<traced {kind} {self.describe()} of {self.location}>"


def length(x: Tracer) -> Any:
    """len(x), symbolic where the size is."""
    if not x.dims:
        raise TypeError("len() of unsized object")
    return make_int(x.context, x.dims[0])


# Making ---------------------------------------------------------------------------------------------------------------


def fresh(
    context: TraceContext, value: Value, *, scalar: bool = False, weak: type | None = None, layout: Layout = None
) -> Tracer:
    """A new array (or scalar) that holds `value`."""
    return Tracer(
        context,
        Cell(value),
        value.shape,
        value.dtype.numpy,
        scalar=scalar,
        weak=weak,
        layout=layout,
        contiguous=layout is None,
    )


def supported(dtype: Any) -> DType:
    """The DType for what a caller gave as dtype. Raises DTypeError for those that jitensor has not."""
    try:
        return as_dtype(dtype)
    except TypeError:
        raise DTypeError(
            f"dtype {np.dtype(dtype)} is not supported; needed bool, an integer, float16/32/64 or complex64/128. "
            "Convert with .astype before the call.",
            location=user_location(),
        ) from None


def constant_array(context: TraceContext, array: Any) -> Tracer:
    """A fresh traced array with known contents; writing to it leaves `array` alone."""
    array = np.asarray(array)
    dtype = supported(array.dtype)
    if array.ndim == 0:
        return fresh(context, context.constant(array, dtype))
    value = context.held_input(np.array(array))
    context.constants_of[value.id] = array
    return fresh(context, value)


def adopt(context: TraceContext, array: np.ndarray[Any, Any]) -> Tracer:
    """The tracer of an array object that reached the trace from outside (an attribute, an uncloned function). It is
    read anew at each call; which object it is, is frozen."""
    known = context.adopted.get(id(array))
    if known is None:
        if type(array) is not np.ndarray:
            array = plain_array(array)
        supported(array.dtype)
        cell = Cell(context.held_input(array), len(context.feeds) - 1, bool(array.flags.writeable))
        context.cells.append(cell)
        known = Tracer(
            context, cell, array.shape, array.dtype, layout=layout_of(array), contiguous=array.flags.c_contiguous
        )
        context.adopted[id(array)] = known
    result: Tracer = known
    return result


def plain_array(array: Any) -> np.ndarray[Any, Any]:
    """The ndarray of a subclass that adds no meaning; TraceError for one that does (matrix, masked arrays, records)."""
    if isinstance(array, np.memmap):
        return array.view(np.ndarray)
    raise TraceError(
        f"{type(array).__name__}: subclasses of ndarray have rules of their own; needed a plain ndarray. "
        "Pass np.asarray(x).",
        location=user_location(),
    )


def as_tracer(context: TraceContext, x: Any, dtype: Any = None) -> Tracer:
    """`x` as np.asarray would see it: tracers as they are, numbers strong, sequences stacked."""
    if isinstance(x, Tracer):
        return x if x.weak is None else fresh(context, x.value(), scalar=True)
    if isinstance(x, Number):
        return strong_number(context, x)
    if isinstance(x, np.ndarray):
        return adopt(context, x)
    if isinstance(x, (bool, int, float, complex, np.generic)):
        array = np.asarray(x)
        return fresh(context, context.constant(array, supported(array.dtype)), scalar=True)
    if isinstance(x, (list, tuple, range)):
        return from_sequence(context, list(x))
    if hasattr(x, "__array__"):
        return adopt(context, np.asarray(x))
    raise TraceError(f"{type(x).__name__} cannot become an array in a traced function", location=user_location())


def strong_number(context: TraceContext, x: Number) -> Tracer:
    """NumPy's scalar of a Python number: int64, float64 or complex128."""
    array = np.asarray(x.hint)
    if array.dtype == object:
        raise OverflowError("Python int too large to convert to C long")
    return fresh(context, number_input(x, supported(array.dtype)), scalar=True)


def number_input(x: Number, dtype: DType) -> Value:
    """The scalar input that carries a Python number as `dtype`. Raises OverflowError where an int does not fit, in this
    call and in later ones."""
    context = x.context
    context.require("Python number", x.location)
    if isinstance(x, IntNumber) and context.is_unknown(x.dim):
        number = context.size_number(context.canonical(x.dim))
        return number if number.dtype is dtype else context.add(TABLE["cast"], [number], {"dtype": dtype})
    if isinstance(x, IntNumber) and dtype.kind in "iu":
        dtype.numpy.type(x.hint)  # raises NumPy's OverflowError
        context.relation("le", dtype.min, x.dim, f"a Python integer must fit {dtype.name}")
        context.relation("le", x.dim, dtype.max, f"a Python integer must fit {dtype.name}")
    return context.scalar_input(x.source(), x.hint, dtype)


def traced_size(x: IntNumber) -> Tracer:
    """An int made of sizes that only the data tell, as a traced Python number."""
    return fresh(x.context, x.context.size_number(x.context.canonical(x.dim)), scalar=True, weak=int)


numbers.TRACED_SIZE = traced_size


def from_sequence(context: TraceContext, items: list[Any], dtype: Any = None) -> Tracer:
    """np.array of a nested list: constants stay one constant, anything traced is stacked."""
    if not any_traced(items):
        array = np.array(items)
        if array.dtype == object:
            raise DTypeError(
                "object arrays are not supported: the list mixes kinds or lengths", location=user_location()
            )
        return constant_array(context, array)
    parts = [as_tracer(context, i) for i in items]
    return STACK(context, parts, weak=[kind_of(i) for i in items])


def kind_of(x: Any) -> Any:
    """The dtype of an operand, or for a weak Python number its type."""
    if isinstance(x, Tracer):
        return x.weak or x.dtype
    if isinstance(x, Number):
        return x.kind
    if type(x) in (int, float, complex):
        return type(x)
    return None


def any_traced(items: Any) -> bool:
    """True when a tracer or traced number is among the items, in nested lists, tuples and dicts too."""
    for item in items:
        if isinstance(item, (Tracer, Number)):
            return True
        if isinstance(item, (list, tuple)) and any_traced(item):
            return True
        if isinstance(item, dict) and any_traced(item.values()):
            return True
    return False


def _no_stack(context: TraceContext, parts: list[Tracer], weak: list[Any]) -> Tracer:
    raise NotImplementedError("tracing.functions installs stack")


STACK = _no_stack  # tracing.functions puts np.stack's recording here: it needs promotion, which comes after this room


# Views ----------------------------------------------------------------------------------------------------------------


def strides_of(x: Tracer) -> tuple[int, ...]:
    """Relative strides: larger is slower, 0 where the axis repeats or has one element."""
    layout = x.layout if x.layout is not None else tuple(range(len(x.dims), 0, -1))
    return tuple([0 if isinstance(n, int) and n == 1 else s for s, n in zip(layout, x.dims, strict=True)])


def layout_of(array: np.ndarray[Any, Any]) -> Layout:
    """The order of an array's axes in memory; None for row-major."""
    if array.ndim < 2 or array.flags.c_contiguous:
        return None
    sizes = [abs(s) if n > 1 else 0 for s, n in zip(array.strides, array.shape, strict=True)]
    order = sorted(set(sizes) - {0})
    layout = tuple([order.index(s) + 1 if s else 0 for s in sizes])
    kept = [s for s in layout if s]
    return None if 0 not in layout and kept == sorted(kept, reverse=True) else layout


def view(x: Tracer, kind: str, params: dict[str, Any], shape: Shape, layout: Layout, contiguous: bool) -> Tracer:
    chain = (*x.chain, View(kind, params, x.dims))
    return Tracer(x.context, x.cell, shape, x.dtype, chain, layout=layout, contiguous=contiguous)


def transpose(x: Tracer, perm: Sequence[int]) -> Tracer:
    perm = tuple(perm)
    if perm == tuple(range(len(perm))):
        return Tracer(x.context, x.cell, x.dims, x.dtype, x.chain, layout=x.layout, contiguous=x.contiguous)
    strides = strides_of(x)
    shape = tuple([x.dims[p] for p in perm])
    moved = tuple([strides[p] for p in perm])
    kept = [s for s in moved if s]
    row_major = 0 not in moved and kept == sorted(kept, reverse=True)
    return view(x, "transpose", {"perm": perm}, shape, None if row_major else moved, row_major and x.contiguous)


def expand_dims(x: Tracer, axes: Sequence[int]) -> Tracer:
    if not axes:
        return x
    axes = tuple(sorted(axes))
    sizes, layout = iter(x.dims), iter(x.layout or ())
    rank = len(x.dims) + len(axes)
    shape = tuple([1 if i in axes else next(sizes) for i in range(rank)])
    spread = None if x.layout is None else tuple([0 if i in axes else next(layout) for i in range(rank)])
    return view(x, "expand_dims", {"axes": axes}, shape, spread, x.contiguous)


def squeeze(x: Tracer, axes: Sequence[int]) -> Tracer:
    if not axes:
        return x
    axes = tuple(sorted(axes))
    kept = [i for i in range(len(x.dims)) if i not in axes]
    layout = None if x.layout is None else tuple([x.layout[i] for i in kept])
    return view(x, "squeeze", {"axes": axes}, tuple([x.dims[i] for i in kept]), layout, x.contiguous)


def slice_view(x: Tracer, starts: Sequence[Any], sizes: Sequence[Any], steps: Sequence[int]) -> Tracer:
    whole = all(s == 0 for s in starts) and all(s == 1 for s in steps) and tuple(sizes) == x.dims
    if whole:
        return Tracer(x.context, x.cell, x.dims, x.dtype, x.chain, layout=x.layout, contiguous=x.contiguous)
    inner = range(1, len(x.dims))
    block = steps[0] == 1 and all(steps[i] == 1 and starts[i] == 0 and sizes[i] == x.dims[i] for i in inner)
    params = {"starts": tuple(starts), "sizes": tuple(sizes), "steps": tuple(steps)}
    return view(x, "slice", params, tuple(sizes), x.layout, x.contiguous and block)


def broadcast_to(x: Tracer, shape: Shape) -> Tracer:
    """x with every size of `shape`, which must be one that it broadcasts to."""
    if shape == x.dims:
        return x
    strides = (0,) * (len(shape) - len(x.dims)) + strides_of(x)
    return view(x, "broadcast_to", {"shape": shape}, shape, strides, False)


def reshape(x: Tracer, shape: Shape) -> Tracer:
    """A view where the array is contiguous, as NumPy makes one; a copy otherwise."""
    if shape == x.dims and (x.contiguous or x.layout is None):
        return Tracer(x.context, x.cell, x.dims, x.dtype, x.chain, layout=x.layout, contiguous=x.contiguous)
    if x.contiguous and not x.scalar:
        return view(x, "reshape", {"shape": shape}, shape, None, True)
    return fresh(x.context, x.context.add(TABLE["reshape"], [x.value()], {"shape": shape}))


def write(x: Tracer, value: Value) -> None:
    """Puts `value` (x's shape and dtype) where x lies, through its views. Raises as NumPy for what cannot be
    written."""
    x.context.require(f"traced array {x.describe()}", x.location)
    if x.scalar:
        raise TypeError(f"'numpy.{x.dtype.name}' object does not support item assignment")
    if not x.cell.writable or any(v.kind == "broadcast_to" for v in x.chain):
        raise ValueError(READ_ONLY)
    x.cell.value = _put(x.context, x.cell.value, x.chain, value)
    x.cell.written = True


def _put(context: TraceContext, base: Value, chain: tuple[View, ...], value: Value) -> Value:
    if not chain:
        return value
    first, rest = chain[0], chain[1:]
    if rest:
        value = _put(context, context.add(TABLE[first.kind], [base], first.params), rest, value)
    if first.kind == "slice":
        return context.add(TABLE["update_slice"], [base, value], first.params)
    if first.kind == "transpose":
        perm = first.params["perm"]
        return context.add(TABLE["transpose"], [value], {"perm": tuple([perm.index(i) for i in range(len(perm))])})
    if first.kind == "expand_dims":
        return context.add(TABLE["squeeze"], [value], first.params)
    if first.kind == "squeeze":
        return context.add(TABLE["expand_dims"], [value], first.params)
    assert first.kind == "reshape"
    return context.add(TABLE["reshape"], [value], {"shape": first.source_shape})


# Values that Python needs ---------------------------------------------------------------------------------------------


def concrete(x: Tracer, what: str) -> np.ndarray[Any, Any]:
    """The array itself, where constants and Python numbers alone decide it (numbers are narrowed); TraceError
    otherwise."""
    memo: dict[int, Any] = {}
    for value in _needed(x):
        memo[value.id] = _leaf_or_node(x, value, memo, what)
    result: np.ndarray[Any, Any] = np.asarray(memo[x.value().id])
    return result


def _needed(x: Tracer) -> list[Value]:
    """The values that x depends on, operands first."""
    producer = x.context.builder.producer
    order: dict[int, Value] = {}
    stack = [(x.value(), False)]
    while stack:
        value, ready = stack.pop()
        if value.id in order:
            continue
        node = producer.get(value.id)
        if ready or node is None:
            order[value.id] = value
            continue
        stack.append((value, True))
        stack.extend((i, False) for i in node.inputs)
    return list(order.values())


def _leaf_or_node(x: Tracer, value: Value, memo: dict[int, Any], what: str) -> Any:
    context = x.context
    node = context.builder.producer.get(value.id)
    if node is None:
        if value.id in context.scalar_hints:
            source, hint = context.scalar_hints[value.id]
            context.narrow(source, hint, f"{what} needs the value")
            return np.asarray(hint, value.dtype.numpy)
        if value.id in context.constants_of:
            return context.constants_of[value.id]
        raise TraceError(
            f"{what} needs a value, but it depends on the data of an array: {x.describe()} made at {x.location}. "
            "Use np.where or np.select for a choice by element; pass a Python number where the number decides; or "
            "leave this part outside the jitted function.",
            location=user_location(),
        )
    for param in node.params:
        _narrow_sizes(context, param[1], what)
    params = {name: concrete_param(p, context.hints) for name, p in node.params}
    with np.errstate(all="ignore"):
        results = node.primitive.evaluate(*[memo[i.id] for i in node.inputs], **params)
    if not isinstance(results, tuple):
        results = (results,)
    position = [o.id for o in node.outputs].index(value.id)
    return np.asarray(results[position], value.dtype.numpy)


def _narrow_sizes(context: TraceContext, param: Any, what: str) -> None:
    if isinstance(param, Dim):
        context.value(param, f"{what} needs the value")
    elif isinstance(param, tuple):
        for p in param:
            _narrow_sizes(context, p, what)


def context_of(*values: Any) -> TraceContext:
    """The trace of the first tracer or number among the values, else the running one."""
    for value in values:
        if isinstance(value, (Tracer, Number)):
            return value.context
    return here("NumPy")


def hint_shape(x: Tracer) -> str:
    return shape_text(x.context, x.dims)


def primitive(name: str) -> Primitive:
    return TABLE[name]


BOOL, INT, FLOAT = types.bool_, types.int64, types.float64
