"""NumPy's products, recorded: matmul, dot, inner, outer, tensordot, einsum, norm, and the operator `**`.

Owns their shapes and errors; the arithmetic is `ops.composites`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import ShapeError, user_location
from jitensor.ir import dims
from jitensor.ops import composites, promote
from jitensor.tracing import arrays, reductions
from jitensor.tracing.arrays import (
    Tracer,
    as_tracer,
    context_of,
    fresh,
    hint_shape,
    supported,
)
from jitensor.tracing.functions_creation import astype, diagonal
from jitensor.tracing.functions_joining import _into_out
from jitensor.tracing.functions_movement import ravel, transpose
from jitensor.tracing.library import record_call
from jitensor.tracing.numbers import IntNumber, Number
from jitensor.tracing.reductions import normalise_axis
from jitensor.tracing.registry import _start, records
from jitensor.tracing.ufuncs import (
    binary,
    call,
    to_dtype,
)


def _product(name: str, composite: Callable[..., Any]) -> Callable[..., Any]:
    def multiply(a: Any, b: Any, out: Any = None, **options: Any) -> Any:
        if not isinstance(b, (Tracer, Number, np.ndarray, np.generic, bool, int, float, complex, list, tuple)):
            return NotImplemented
        context = context_of(a, b, out)
        x, y = as_tracer(context, a), as_tracer(context, b)
        dtype = promote.result_type(supported(x.dtype), supported(y.dtype))
        _check_product(name, x, y)
        value = composite(context.emit, to_dtype(context, x, dtype), to_dtype(context, y, dtype))
        result = fresh(context, value, scalar=not value.shape and out is None)
        return result if out is None else _into_out(result, out[0] if isinstance(out, tuple) else out)

    multiply.__name__ = name
    return multiply


def _check_product(name: str, x: Tracer, y: Tracer) -> None:
    """Raises NumPy's error where the summed sizes differ."""
    if name == "outer" or not x.dims or not y.dims:
        return
    second = -1 if name == "inner" or len(y.dims) == 1 else -2
    n, m = x.dims[-1], y.dims[second]
    if dims.same(n, m):
        return
    hint = x.context.hint
    if name == "matmul":
        raise ShapeError(
            "matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature "
            f"(n?,k),(k,m?)->(n?,m?) (size {hint(m)} is different from {hint(n)})",
            location=user_location(),
        )
    position = len(y.dims) + second
    raise ShapeError(
        f"shapes {hint_shape(x)} and {hint_shape(y)} not aligned: {hint(n)} (dim {len(x.dims) - 1}) != {hint(m)} "
        f"(dim {position})",
        location=user_location(),
    )


matmul = records(np.matmul)(_product("matmul", composites.matmul))
dot = records(np.dot)(_product("dot", composites.dot))
inner = records(np.inner)(_product("inner", composites.inner))
outer_product = records(np.outer)(_product("outer", composites.outer))


@records(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    context = context_of(a, b)
    return dot(call(np.conjugate, ravel(as_tracer(context, a))), ravel(as_tracer(context, b)))


@records(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    context = context_of(a, b)
    x, y = as_tracer(context, a), as_tracer(context, b)
    if isinstance(axes, (tuple, list)):
        left, right = axes
    else:
        axes = operator.index(axes)
        left, right = range(len(x.dims) - axes, len(x.dims)), range(axes)
    left, right = (v if isinstance(v, (tuple, list, range)) else (v,) for v in (left, right))
    dtype = promote.result_type(supported(x.dtype), supported(y.dtype))
    value = composites.tensordot(
        context.emit,
        to_dtype(context, x, dtype),
        to_dtype(context, y, dtype),
        tuple([normalise_axis(d, len(x.dims)) for d in left]),
        tuple([normalise_axis(d, len(y.dims)) for d in right]),
    )
    return fresh(context, value)


@records(np.einsum)
def einsum(*args: Any, out: Any = None, optimize: Any = False, **options: Any) -> Any:
    """Sums of products over letters: diagonals first, then products of pairs, which go to BLAS where they can."""
    subscripts, operands = _einsum_arguments(args)
    context = context_of(*operands)
    parts = [as_tracer(context, v) for v in operands]
    names, output = _einsum_letters(subscripts, [len(p.dims) for p in parts])
    if options.get("dtype") is not None:
        parts = [astype(p, options["dtype"]) for p in parts]
    taken = [_diagonals(p, n) for p, n in zip(parts, names, strict=True)]
    parts, names = [p for p, _ in taken], [n for _, n in taken]
    several = len(parts) > 1
    while len(parts) > 2 and optimize is not False:
        kept = _kept(names, output)
        parts, names = [_einsum_product(parts[:2], names[:2], kept), *parts[2:]], [kept, *names[2:]]
    result = _einsum_product(parts, names, output)
    layout = None if several and optimize is False else result.layout
    result = fresh(context, result.value(), scalar=not result.dims, layout=layout)
    return result if out is None else _into_out(result, out)


def _kept(names: list[str], output: str) -> str:
    """The letters of the first two operands that the others or the result need."""
    later = set(output).union(*names[2:])
    return "".join(c for c in dict.fromkeys(names[0] + names[1]) if c in later)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _einsum_arguments(args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """(subscripts, operands) of either way to call einsum: with a string, or with lists of axis numbers."""
    if isinstance(args[0], str):
        return args[0].replace(" ", ""), list(args[1:])

    def text(axes: Any) -> str:
        return "".join("..." if i is Ellipsis else _LETTERS[operator.index(i)] for i in axes)

    count = len(args) // 2
    subscripts = ",".join(map(text, args[1 : 2 * count : 2]))
    if len(args) % 2:
        subscripts += "->" + text(args[-1])
    return subscripts, list(args[0 : 2 * count : 2])


def _einsum_letters(subscripts: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, every ellipsis written out."""
    inputs, arrow, output = subscripts.partition("->")
    names = inputs.split(",")
    if len(names) != len(ranks):
        fewer = "more" if len(names) < len(ranks) else "fewer"
        raise ValueError(f"{fewer} operands provided to einstein sum function than specified in the subscripts string")
    extra = [rank - len(name.replace("...", "")) for name, rank in zip(names, ranks, strict=True)]
    for i, (name, more) in enumerate(zip(names, extra, strict=True)):
        if more < 0:
            raise ValueError(f"einstein sum subscripts string contains too many subscripts for operand {i}")
        if more and "..." not in name:
            raise ValueError(
                "operand has more dimensions than subscripts given in einstein sum, but no '...' ellipsis provided to "
                "broadcast the extra dimensions."
            )
    spare = [c for c in reversed(_LETTERS) if c not in subscripts]
    around = "".join(spare[: max(extra)])
    names = [n.replace("...", around[len(around) - more :]) for n, more in zip(names, extra, strict=True)]
    letters = "".join(names)
    if not arrow:
        output = around + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in around))
    output = output.replace("...", around)
    missing = next((c for c in output if c not in letters), None)
    if missing is not None:
        raise ValueError(
            f"einstein sum subscripts string included output subscript '{missing}' which never appeared in an input"
        )
    return names, output


def _diagonals(x: Tracer, name: str) -> tuple[Tracer, str]:
    """The array with one axis for each letter, and its letters: axes of equal letters become their diagonal."""
    for letter in dict.fromkeys(name):
        while name.count(letter) > 1:
            first = name.index(letter)
            second = name.index(letter, first + 1)
            if not dims.same(x.dims[first], x.dims[second]):
                raise ValueError(
                    f"dimensions in single operand for collapsing index '{letter}' don't match "
                    f"({x.context.hint(x.dims[first])} != {x.context.hint(x.dims[second])})"
                )
            x = diagonal(x, 0, first, second)  # the new axis comes last
            name = name[:first] + name[first + 1 : second] + name[second + 1 :] + letter
    return x, name


def _einsum_product(parts: list[Tracer], names: list[str], output: str) -> Tracer:
    if len(parts) == 2 and _is_matrix_product(names, output):
        summed = [c for c in names[0] if c in names[1]]
        axes = ([names[0].index(c) for c in summed], [names[1].index(c) for c in summed])
        free = [c for n in names for c in n if c not in summed]
        result: Tracer = transpose(tensordot(*parts, axes=axes), [free.index(c) for c in output])
        return result
    letters = output + "".join(dict.fromkeys(c for n in names for c in n if c not in output))
    aligned = []
    for part, name in zip(parts, names, strict=True):
        ordered = transpose(part, [name.index(c) for c in letters if c in name])
        aligned.append(arrays.expand_dims(ordered, [i for i, c in enumerate(letters) if c not in name]))
    product: Any = aligned[0]
    for part in aligned[1:]:
        product = call(np.multiply, product, part)
    axes_summed = tuple(range(len(output), len(letters)))
    summed_up: Tracer = reductions.sum_(product, axes_summed, dtype=product.dtype) if axes_summed else product
    return summed_up


def _is_matrix_product(names: list[str], output: str) -> bool:
    """Letters in both operands are summed, the others kept: one tensordot."""
    both = set(names[0]) & set(names[1])
    return bool(both) and not both & set(output) and set(output) == (set(names[0]) | set(names[1])) - both


@records(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    a = _start(x)
    if a.dtype.kind in "iub":
        a = astype(a, float)
    if ord is not None and not (isinstance(axis, int) or len(a.dims) == 1) and ord not in ("fro", "f"):
        return record_call("numpy.linalg.norm", (a, ord, axis, keepdims))
    size = call(np.absolute, a)
    if ord is None or ord in (2, "fro", "f"):
        return call(np.sqrt, reductions.sum_(call(np.square, size), axis, keepdims=keepdims))
    if ord == np.inf:
        return reductions.max_(size, axis, keepdims=keepdims)
    if ord == -np.inf:
        return reductions.min_(size, axis, keepdims=keepdims)
    if ord == 0:
        return reductions.sum_(astype(call(np.not_equal, a, 0), size.dtype), axis, keepdims=keepdims)
    if ord == 1:
        return reductions.sum_(size, axis, keepdims=keepdims)
    return power(reductions.sum_(power(size, ord), axis, keepdims=keepdims), 1.0 / ord)


def power(a: Any, b: Any) -> Any:
    """The operator `**`: NumPy's arrays take square, sqrt and reciprocal for the exponents 2, 0.5 and -1."""
    if isinstance(b, IntNumber):
        b = b.narrow("an int exponent of `**`")
    if isinstance(a, Tracer) and a.dtype.kind in "fc" and type(b) in (int, float) and a.weak is None:
        short = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}.get(b)
        if short is not None:
            return call(short, a)
    if isinstance(a, Tracer) and a.dtype.kind in "biu" and type(b) is int and b == 2 and a.weak is None:
        return call(np.square, a)
    return binary(np.power, a, b)
