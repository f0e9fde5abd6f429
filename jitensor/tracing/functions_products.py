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
    kind_of,
    supported,
)
from jitensor.tracing.functions_creation import astype
from jitensor.tracing.functions_joining import _into_out
from jitensor.tracing.functions_movement import ravel, transpose
from jitensor.tracing.numbers import IntNumber, Number
from jitensor.tracing.reductions import normalise_axis
from jitensor.tracing.registry import _start, records, unsupported
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
        kinds = [kind_of(v) or as_tracer(context, v).dtype for v in (a, b)]
        if all(isinstance(k, type) for k in kinds):
            kinds = [x.dtype, y.dtype]
        dtype = promote.result_type(*[k if isinstance(k, type) else supported(k) for k in kinds])
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
def einsum(subscripts: Any, *operands: Any, out: Any = None, optimize: Any = False, **options: Any) -> Any:
    if not isinstance(subscripts, str) or "." in subscripts or options:
        raise unsupported("np.einsum with ellipsis or lists", 'Write the subscripts out: "ij,jk->ik".')
    context = context_of(*operands)
    parts = [as_tracer(context, v) for v in operands]
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    names = inputs.split(",")
    if "->" not in subscripts:
        letters = inputs.replace(",", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if len(names) != len(parts) or any(len(n) != len(p.dims) for n, p in zip(names, parts, strict=True)):
        raise ValueError("einstein sum subscripts string does not fit the operands")
    if any(len(set(n)) != len(n) for n in names):
        raise unsupported("np.einsum with a repeated letter in one operand", "Use np.diagonal or np.trace.")
    result = _einsum_product(parts, names, output)
    result = fresh(context, result.value(), scalar=not result.dims, layout=result.layout)
    return result if out is None else _into_out(result, out)


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
        raise unsupported(f"np.linalg.norm(ord={ord!r}) of a matrix", "Give an axis.")
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
