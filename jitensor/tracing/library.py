"""NumPy functions that NumPy itself runs at each call: one line of a table each, types found by asking NumPy.

Owns `record_call`. The call is written as text over operands (`numpy.linalg.solve(x0, x1)`), run on tiny samples of the
operands' dtypes, ranks and memory orders for several choices of sizes, and the sizes of its results are fitted as
expressions of the operands' sizes. Where NumPy refuses samples of free sizes, sizes that are equal in this call are
equal by guard; where it still refuses, they are narrowed to this call's. Functions whose results' sizes depend on data
get symbols that are bound when they have run. Must not know which functions are in the table.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jitensor.errors import user_location
from jitensor.ir import dims
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Value
from jitensor.ops import TABLE
from jitensor.ops.numpy_call import call_of, leaves
from jitensor.tracing.arrays import (
    Layout,
    Tracer,
    as_tracer,
    constant_array,
    context_of,
    fresh,
    layout_of,
    strong_number,
    supported,
    write,
)
from jitensor.tracing.context import TraceContext
from jitensor.tracing.numbers import IntNumber, Number
from jitensor.tracing.registry import unsupported

Size = int | Dim
_SAMPLED = 300_000  # elements that samples near the sizes of this call may have
_BASES = ((4, 7, 11, 16, 22, 29), (31, 24, 18, 13, 9, 6), (9, 6, 14, 10, 19, 12), (6, 13, 8, 21, 10, 27))


class Operand(NamedTuple):
    """An operand of a call; `number`: its value in this call, where it is a Python number."""

    value: Value
    layout: Layout
    number: Any = None


class CallText:
    """The text of a call, and its operands x0, x1, ..."""

    def __init__(self, context: TraceContext, name: str, int_operands: bool) -> None:
        self.context = context
        self.name = name
        self.int_operands = int_operands
        self.operands: list[Operand] = []

    def write(self, args: Sequence[Any], options: dict[str, Any]) -> str:
        parts = [self.of(a) for a in args] + [f"{name}={self.of(v)}" for name, v in options.items()]
        return ", ".join(parts)

    def of(self, x: Any) -> str:
        if isinstance(x, Tracer):
            suffix = ".item()" if x.weak is not None else "[()]" if x.scalar else ""
            return self.operand(x, None) + suffix
        if isinstance(x, IntNumber) and not self.int_operands:
            return repr(x.narrow(f"{self.name} needs the value"))
        if isinstance(x, Number):
            return self.operand(strong_number(self.context, x), x.hint) + ".item()"
        if isinstance(x, np.ndarray):
            return self.operand(as_tracer(self.context, x), None)
        if isinstance(x, (list, tuple)):
            inner = ", ".join(map(self.of, x))
            return f"[{inner}]" if isinstance(x, list) else f"({inner}{',' if len(x) == 1 else ''})"
        return self.literal(x)

    def operand(self, x: Tracer, number: Any) -> str:
        value = x.value()
        for i, known in enumerate(self.operands):
            if known.value is value and known.layout == x.layout:
                return f"x{i}"
        self.operands.append(Operand(value, x.layout, number))
        return f"x{len(self.operands) - 1}"

    def literal(self, x: Any) -> str:
        if x is None or x is Ellipsis or type(x) in (bool, int, float, complex, str, bytes, range):
            return repr(x)
        if isinstance(x, np.generic):
            return f"dtype({x.dtype.name!r}).type({x.item()!r})"
        if isinstance(x, np.dtype):
            return f"dtype({x.str!r})"
        if isinstance(x, slice):
            return f"slice({self.of(x.start)}, {self.of(x.stop)}, {self.of(x.step)})"
        if isinstance(x, type) and (x in (bool, int, float, complex) or issubclass(x, np.generic)):
            return f"dtype({np.dtype(x).str!r})"
        name = getattr(x, "__name__", "")
        if callable(x) and getattr(np, name, None) is x:
            return f"numpy.{name}"
        raise unsupported(f"{self.name} with an argument of type {type(x).__name__}")


def record_call(
    name: str,
    args: Sequence[Any],
    options: dict[str, Any] | None = None,
    *,
    data: bool = False,
    int_operands: bool = False,
    exact: bool = False,
    all_sizes: bool = False,
) -> Any:
    """`name(*args, **options)`, run by NumPy at each call.

    data: sizes of the results depend on the operands' data; all_sizes: each of them does. exact: the results' rank
    depends on sizes, which then belong to the trace. int_operands: Python ints are operands too; otherwise their values
    belong to the trace."""
    options = dict(options or {})
    out = options.pop("out", None)
    context = context_of(*_flat((*args, *options.values(), out)))
    call = CallText(context, name, int_operands)
    text = f"{name}({call.write(args, options)})"
    if not call.operands:
        result = _tree(call_of(text, 0)(), iter(lambda: None, 0), constant=context)
    else:
        result = Sampling(context, text, call.operands, data, all_sizes).record(exact)
    if out is None:
        return result
    target = as_tracer(context, out[0] if isinstance(out, tuple) else out)
    _assign_result(result, target)
    return out[0] if isinstance(out, tuple) else out


def record_write(name: str, args: Sequence[Any], options: dict[str, Any] | None = None) -> None:
    """`name(array, ...)`, a function that writes into its first argument, run by NumPy on a copy at each call."""
    context = context_of(*_flat((*args, *(options or {}).values())))
    call = CallText(context, name, True)
    target = as_tracer(context, args[0])
    text = f"after({name}, {call.write((target, *args[1:]), options or {})})"
    if target.scalar:
        raise TypeError(f"{name}: argument 1 must be numpy.ndarray, not {target.dtype.name}")
    value = context.emit(
        TABLE["numpy_call"],
        *[o.value for o in call.operands],
        call=text,
        dtypes=(target.dtype.name,),
        ranks=(len(target.dims),),
        shape=target.dims,
    )
    write(target, value)


def _flat(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if isinstance(item, (list, tuple)):
            found += _flat(item)
        else:
            found.append(item)
    return found


def _assign_result(result: Any, target: Tracer) -> None:
    if len(target.dims) != len(result.dims) or not all(map(dims.same, target.dims, result.dims)):
        raise ValueError("Output array is the wrong shape")
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise TypeError(
            f"Cannot cast array data from {result.dtype!r} to {target.dtype!r} according to the rule 'same_kind'"
        )
    value = result.value()
    if value.dtype is not supported(target.dtype):
        value = target.context.add(TABLE["cast"], [value], {"dtype": supported(target.dtype)})
    write(target, value)


class _NoFit(Exception):
    """No expression of the operands' sizes gives a result's."""


class Sampling:
    """Finds the types of a call's results by running it on samples, and records it."""

    def __init__(
        self, context: TraceContext, text: str, operands: Sequence[Operand], data: bool, all_sizes: bool
    ) -> None:
        self.context = context
        self.text = text
        self.operands = operands
        self.data = data
        self.all_sizes = all_sizes
        self.call: Callable[..., Any] = call_of(text, len(operands))
        found = dict.fromkeys(context.canonical(n) for o in operands for n in o.value.shape)
        self.variables = [n for n in found if isinstance(n, Dim)]
        self.hints = [context.hint(n) for n in self.variables]

    def record(self, exact: bool = False) -> Any:
        if exact:
            return self.recorded(*self.narrowed())
        try:
            return self.recorded(*self.run())
        except _NoFit:  # an expression of the sizes is not known: they belong to the trace
            return self.recorded(*self.narrowed())

    def recorded(self, rows: list[list[int]], results: list[list[Any]]) -> Any:
        self.variables = [self.context.canonical(n) for n in self.variables]  # type: ignore[misc]
        first = list(leaves(results[-1][-1]))
        every = [[list(leaves(r)) for r in kinds] for kinds in results]
        if any(len(r) != len(first) for kinds in every for r in kinds):
            raise unsupported(self.text, "The number of its results depends on sizes or data.")
        shapes = [self.sizes_of(rows, every, k) for k in range(len(first))]
        types = [np.asarray(r).dtype.name for r in first]
        for dtype in types:
            supported(dtype)
        params = {
            "call": self.text,
            "dtypes": tuple(types),
            "ranks": tuple([np.ndim(r) for r in first]),
            ("sizes" if self.data else "shape"): tuple(itertools.chain(*shapes)),
        }
        values = self.context.builder.add(
            TABLE["numpy_call_sized" if self.data else "numpy_call"],
            [o.value for o in self.operands],
            params,
            user_location(),
        )
        return _tree(results[-1][-1], iter(values), context=self.context)

    # Samples ----------------------------------------------------------------------------------------------------------

    def run(self) -> tuple[list[list[int]], list[list[Any]]]:
        """Rows of sizes for the variables, and for each row the results for each kind of contents."""
        merged = self.merged()
        near = sum(math.prod(self.context.hint(n) for n in o.value.shape) for o in self.operands) < _SAMPLED
        tries: list[tuple[Callable[[int, int], int], list[int]]] = []
        apart = list(range(len(self.variables)))
        for groups in (apart, merged) if merged != apart else (apart,):
            tries.append((lambda row, k: _base(row, k), groups))
            if self.is_small(least := _largest_int(self.text) + 1):
                tries.append((lambda row, k: _base(row, k) + least, groups))
            if near:
                tries.append((lambda row, k: self.hints[k] + (row * (k + 2)) % 7, groups))
        for size, groups in tries if self.variables else ():
            rows = [[size(row, groups[k]) for k in range(len(groups))] for row in range(4)]
            results = self.attempt(rows)
            if results is not None:
                for k, group in enumerate(groups):
                    if k != group:
                        dims.same(self.variables[group], self.variables[k])
                return rows, results
        return self.narrowed()

    def narrowed(self) -> tuple[list[list[int]], list[list[Any]]]:
        """The results for the sizes of this call, which then belong to the trace."""
        self.variables = [n for n in map(self.context.canonical, self.variables) if isinstance(n, Dim)]
        self.hints = [self.context.hint(n) for n in self.variables]
        rows = [list(self.hints)]
        results = [[self.sample(rows[0], contents) for contents in self.kinds()]]  # raises what NumPy raises
        self.variables = [self.context.value(n, f"{self.text} needs the size") for n in self.variables]  # type: ignore[misc]
        return rows, results

    def is_small(self, least: int) -> bool:
        """Would samples whose free sizes are about `least` have few elements?"""
        counts = (
            math.prod(_base(0, 0) + least if isinstance(n, Dim) else n for n in o.value.shape) for o in self.operands
        )
        return least > _base(0, 0) and sum(counts) < _SAMPLED

    def merged(self) -> list[int]:
        """For each variable the first with the same size in this call."""
        free = [bool(n.symbols & self.context.unknown) for n in self.variables]
        return [
            k if free[k] else next(j for j, h in enumerate(self.hints) if h == self.hints[k] and not free[j])
            for k in range(len(self.variables))
        ]

    def attempt(self, rows: list[list[int]]) -> list[list[Any]] | None:
        try:
            return [[self.sample(row, contents) for contents in self.kinds()] for row in rows]
        except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError, RuntimeError, np.linalg.LinAlgError):
            return None  # NumPy's own error is raised by the attempt with the sizes of this call

    def kinds(self) -> Sequence[str]:
        return ("same", "apart") if self.data else ("plain",)

    def sample(self, row: Sequence[int], contents: str) -> Any:
        sizes = dict(zip(self.variables, row, strict=True))
        arrays = []
        for operand in self.operands:
            actual = [self.context.canonical(n) for n in operand.value.shape]
            shape = tuple([sizes[n] if isinstance(n, Dim) else n for n in actual])
            arrays.append(_sample(operand, shape, contents))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return self.call(*arrays)

    # Sizes ------------------------------------------------------------------------------------------------------------

    def sizes_of(self, rows: list[list[int]], every: list[list[list[Any]]], k: int) -> list[Any]:
        """The sizes of result `k`: expressions, or names of symbols that the data decide."""
        ranks = {np.ndim(r[k]) for kinds in every for r in kinds}
        if len(ranks) != 1:
            raise unsupported(self.text, "The rank of its result depends on sizes or data.")
        found: list[Any] = []
        for axis in range(ranks.pop()):
            by_kind = [tuple([np.shape(kinds[c][k])[axis] for kinds in every]) for c in range(len(every[0]))]
            fits = [self.fit(rows, observed) for observed in by_kind]
            if self.all_sizes:
                found.append(self.context.unknown_size())
            elif fits[0] is not None and all(f == fits[0] for f in fits) and not (self.data and fits[0] == 0):
                found.append(fits[0])
            elif self.data:
                found.append(self.symbol(tuple(by_kind)))
            else:
                raise _NoFit
        return found

    def symbol(self, observed: Any) -> str:
        """The symbol of a size that the data decide; results that always had equal sizes share one."""
        symbols: dict[Any, str] = self.__dict__.setdefault("symbols", {})
        if observed not in symbols:
            symbols[observed] = self.context.unknown_size()
        return symbols[observed]

    def fit(self, rows: list[list[int]], observed: tuple[int, ...]) -> Size | None:
        if len(set(observed)) == 1:
            return observed[0]
        columns = list(zip(*rows, strict=True))
        for expression, values in _expressions(self.variables, columns):
            fitted = _linear(values, observed)
            if fitted is not None:
                scale, shift = fitted
                return expression * scale + shift
        return None


def _expressions(variables: Sequence[Any], columns: Sequence[tuple[int, ...]]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Expressions of the sizes that shapes are made of, the plain ones first, with their values in each row."""
    distinct = list({c: v for v, c in reversed(list(zip(variables, columns, strict=True)))}.items())[::-1]
    for column, v in distinct:
        yield v, column
    for column, v in distinct:
        for shift, by in ((0, 2), (1, 2), (7, 8)):
            yield dims.opaque("floordiv", v + shift, by), tuple([(n + shift) // by for n in column])
    for count in range(2, len(distinct) + 1):
        for chosen in itertools.combinations(distinct, count):
            values = list(zip(*[c for c, _ in chosen], strict=True))
            names = [v for _, v in chosen]
            yield sum(names[1:], names[0]), tuple(map(sum, values))
            yield dims.opaque("min", *names), tuple(map(min, values))
            yield dims.opaque("max", *names), tuple(map(max, values))
            yield dims.product(tuple(names)), tuple(map(math.prod, values))
            if count == 2:
                yield names[0] - names[1], tuple([a - b for a, b in values])
                spread = dims.opaque("max", *names) - dims.opaque("min", *names)
                yield spread, tuple([abs(a - b) for a, b in values])


def _linear(values: tuple[int, ...], observed: tuple[int, ...]) -> tuple[int, int] | None:
    """(scale, shift) with observed = scale * values + shift, where they are integers."""
    at = next((i for i in range(1, len(values)) if values[i] != values[0]), None)
    if at is None:
        return None
    scale, rest = divmod(observed[at] - observed[0], values[at] - values[0])
    shift = observed[0] - scale * values[0]
    if rest or not scale or any(scale * v + shift != o for v, o in zip(values, observed, strict=True)):
        return None
    return scale, shift


def _largest_int(text: str) -> int:
    """The largest int that a call's text holds: a position, a number of bins, which sizes may have to exceed."""
    return max(map(int, re.findall(r"(?<![\w.])\d+(?![\w.])", text)), default=0)


def _base(row: int, k: int) -> int:
    return _BASES[row][k] if k < len(_BASES[0]) else _BASES[row][k % 6] + 30 * (k // 6)


def _sample(operand: Operand, shape: tuple[int, ...], contents: str) -> Any:
    """An array of the operand's dtype and memory order whose contents suit most functions: rising lines, unit matrices
    (regular, positive definite), zeros of integers (valid positions)."""
    dtype = operand.value.dtype.numpy
    if operand.number is not None:
        return np.asarray(operand.number, dtype)
    layout = operand.layout or tuple(range(len(shape), 0, -1))
    order = sorted(range(len(shape)), key=lambda d: -layout[d])
    array = np.zeros([shape[d] for d in order], dtype).transpose(np.argsort(list(order)))
    if contents == "same" or not array.size:
        return array
    if contents == "apart":
        array[...] = (np.arange(array.size) % (2 if dtype.kind == "b" else 120)).reshape(shape).astype(dtype)
    elif dtype.kind in "fc" and array.ndim >= 2:
        array[...] = np.eye(*shape[-2:], dtype=dtype)
    elif dtype.kind in "fc" and array.ndim:
        array[...] = np.arange(array.size, dtype=dtype) / array.size
    elif dtype.kind in "fc":
        array[...] = 0.5  # a percentile, a fraction, a number to take the logarithm of
    return array


def _tree(result: Any, values: Iterator[Any], context: Any = None, constant: Any = None) -> Any:
    """The result as the traced function sees it, nested as NumPy nests it."""
    if isinstance(result, (tuple, list)):
        parts = [_tree(r, values, context, constant) for r in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if result is None or isinstance(result, str):
        return result
    if constant is not None:
        return constant_array(constant, result) if isinstance(result, np.ndarray) else result
    value = next(values)
    if isinstance(result, np.ndarray):
        return fresh(context, value, layout=layout_of(result))
    if isinstance(result, np.generic):
        return fresh(context, value, scalar=True)
    return fresh(context, value, scalar=True, weak=type(result))


def library_version(name: str, **how: Any) -> Callable[..., Any]:
    """The recording version of a function that NumPy runs."""

    def version(*args: Any, **options: Any) -> Any:
        return record_call(name, args, options, **how)

    version.__name__ = name.rpartition(".")[2]
    return version


def writing_version(name: str) -> Callable[..., Any]:
    """The recording version of a function that writes into its first argument and that NumPy runs."""

    def version(*args: Any, **options: Any) -> None:
        record_write(name, args, options)

    version.__name__ = name.rpartition(".")[2]
    return version
