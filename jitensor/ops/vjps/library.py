"""Gradients of NumPy functions that run as they are (`numpy_call`): linear algebra and Fourier transforms.

A rule is `rule(emit, g, outputs, inputs, arguments)`; `arguments` are those of the call's text that are no operands, by
name. It gives the inputs' cotangents, or NotImplemented for a form of the call that it does not know.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from jitensor.ir import dims, types
from jitensor.ir.types import TensorType
from jitensor.ops import arithmetic as a
from jitensor.ops import comparison, linalg, movement, structure
from jitensor.ops.composites import creation, layout, numbers
from jitensor.ops.composites.numbers import Emit, constant, size_as
from jitensor.ops.numpy_call import numpy_call
from jitensor.ops.vjps.contraction import adjoint
from jitensor.ops.vjps.expression import Expr, on, unbroadcast, where, zeros_like

Values = tuple[Any, ...]
Rule = Callable[[Emit, Any, Values, Values, dict[str, Any]], Any]
# Names of the arguments that may come by position.
_SIGNATURES = {
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft"), ("a", "n", "axis", "norm")),
    **dict.fromkeys(("fft2", "ifft2", "fftn", "ifftn"), ("a", "s", "axes", "norm")),
    "solve": ("a", "b"),
}


def _numpy_call_vjp(emit: Emit, g: Any, outputs: Values, inputs: Values, call: str, **typing: Any) -> Any:
    name, arguments = _parsed(call)
    rule = RULES.get(name)
    return NotImplemented if rule is None or arguments is None else rule(emit, g, outputs, inputs, arguments)


def _parsed(call: str) -> tuple[str, dict[str, Any] | None]:
    """The function's name and its arguments besides operands; None where the text is more than a plain call."""
    tree = ast.parse(call, mode="eval").body
    if not isinstance(tree, ast.Call):
        return call, None
    name = ast.unparse(tree.func)
    names = _SIGNATURES.get(name.rpartition(".")[2], ("a",))
    if len(tree.args) > len(names):
        return name, None
    given = [*zip(names, tree.args, strict=False), *((k.arg or "", k.value) for k in tree.keywords)]
    try:
        return name, {k: ast.literal_eval(v) for k, v in given if not isinstance(v, ast.Name)}
    except ValueError:
        return name, None


def _call(emit: Emit, text: str, operands: Sequence[Any], *results: TensorType) -> Any:
    return emit(
        numpy_call,
        *operands,
        call=text,
        dtypes=tuple(t.dtype.name for t in results),
        ranks=tuple(t.rank for t in results),
        shape=tuple(n for t in results for n in t.shape),
    )


# Linear algebra -------------------------------------------------------------------------------------------------------


def _product(emit: Emit, *factors: Any) -> Any:
    total = factors[0]
    for factor in factors[1:]:
        total = emit(linalg.matmul, total, factor)
    return total


def _transposed(x: TensorType) -> TensorType:
    return TensorType(x.dtype, (*x.shape[:-2], x.shape[-1], x.shape[-2]))


def _solve(emit: Emit, matrix: Any, right: Any) -> Any:
    return _call(emit, "numpy.linalg.solve(x0, x1)", (matrix, right), right.type)


def _spread(emit: Emit, x: Any) -> Any:
    """Two more dimensions at the end, so that a number per matrix meets the matrices."""
    rank = x.type.rank
    return emit(movement.expand_dims, x, axes=(rank, rank + 1))


def _inv(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    y = adjoint(emit, outputs[0])
    return (lambda: emit(a.negative, _product(emit, y, g, y)),)


def _solve_rule(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    matrix, right = inputs
    last = g.type.rank
    is_vector = right.type.rank == 1

    def column(v: Any) -> Any:
        return emit(movement.expand_dims, v, axes=(last,)) if is_vector else v

    def solved() -> Any:
        return _solve(emit, adjoint(emit, matrix), column(g))

    def of_matrix() -> Any:
        outer = _product(emit, solved(), adjoint(emit, column(outputs[0])))
        return unbroadcast(emit, emit(a.negative, outer), matrix.type)

    def of_right() -> Any:
        found = emit(movement.squeeze, solved(), axes=(last,)) if is_vector else solved()
        return unbroadcast(emit, found, right.type)

    return of_matrix, of_right


def _inverse(emit: Emit, x: Any) -> Any:
    return _call(emit, "numpy.linalg.inv(x0)", (x,), _transposed(x.type))


def _det(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    scale = (Expr(emit, g) * Expr(emit, outputs[0]).conj).value
    return (lambda: emit(a.multiply, _spread(emit, scale), adjoint(emit, _inverse(emit, inputs[0]))),)


def _slogdet(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    x = inputs[0]
    if g[0] is not None and x.type.dtype.kind == "c":
        return NotImplemented
    if g[1] is None:
        return (None,)
    scale = numbers.cast(emit, g[1], x.type.dtype)
    return (lambda: emit(a.multiply, _spread(emit, scale), adjoint(emit, _inverse(emit, x))),)


def _symmetric(emit: Emit, x: Any) -> Any:
    return ((Expr(emit, x) + Expr(emit, adjoint(emit, x))) * 0.5).value


def _cholesky(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    if arguments:
        return NotImplemented

    def cotangent() -> Any:
        upper = adjoint(emit, outputs[0])
        inner = _product(emit, upper, g)
        both = Expr(emit, creation.tril(emit, inner)) + Expr(emit, creation.tril(emit, inner, -1))
        left = _solve(emit, upper, (both * 0.5).value)
        return _symmetric(emit, _solve(emit, upper, adjoint(emit, left)))

    return (cotangent,)


def _eigh(emit: Emit, g: Values, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    if arguments:
        return NotImplemented
    w, v = outputs
    rank = w.type.rank
    dtype = v.type.dtype

    def cotangent() -> Any:
        n = w.type.shape[-1]
        diagonal = Expr(emit, creation.eye(emit, n, n, 0, types.bool_))
        gw = g[0] if g[0] is not None else zeros_like(emit, w.type)
        inner = Expr(emit, numbers.cast(emit, emit(movement.expand_dims, gw, axes=(rank - 1,)), dtype))
        mixed: Expr | int = 0
        if g[1] is not None:
            row, column = (Expr(emit, emit(movement.expand_dims, w, axes=(d,))) for d in (rank - 1, rank))
            gap = where(diagonal, 1, row - column)
            turned = Expr(emit, _product(emit, adjoint(emit, v), g[1]))
            mixed = turned / Expr(emit, numbers.cast(emit, gap.value, dtype))
        inner = where(diagonal, inner, mixed)
        return _symmetric(emit, _product(emit, v, inner.value, adjoint(emit, v)))

    return (cotangent,)


def _svd(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    if arguments != {"compute_uv": False}:
        return NotImplemented
    x, s = inputs[0].type, outputs[0].type
    k = s.shape[-1]
    left, right = TensorType(x.dtype, (*x.shape[:-1], k)), TensorType(x.dtype, (*x.shape[:-2], k, x.shape[-1]))

    def cotangent() -> Any:
        u, _, vh = _call(emit, "numpy.linalg.svd(x0, full_matrices=False)", inputs, left, s, right)
        row = numbers.cast(emit, emit(movement.expand_dims, g, axes=(s.rank - 1,)), x.dtype)
        return _product(emit, emit(a.multiply, u, row), vh)

    return (cotangent,)


# Fourier transforms ---------------------------------------------------------------------------------------------------

_ADJOINT_NORM = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}


def _complex_transform(back: str) -> Rule:
    """Of fft and its like: the transform back, with the same factor."""

    def rule(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
        if arguments.get("n") is not None or arguments.get("s") is not None:
            return NotImplemented
        return (lambda: _back(emit, back, g, inputs[0].type, arguments),)

    return rule


def _back(emit: Emit, name: str, g: Any, x: TensorType, arguments: dict[str, Any]) -> Any:
    where_ = "".join(f", {k}={arguments[k]!r}" for k in ("axis", "axes") if arguments.get(k) is not None)
    text = f"numpy.fft.{name}(x0{where_}, norm={_ADJOINT_NORM[arguments.get('norm')]!r})"
    return numbers.cast(emit, _call(emit, text, (g,), g.type), x.dtype)


def _rfft(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    if arguments.get("n") is not None:
        return NotImplemented
    x = inputs[0].type
    axis = arguments.get("axis", -1) % x.rank

    def cotangent() -> Any:
        missing = x.shape[axis] - g.type.shape[axis]
        whole = layout.pad(emit, g, [(0, missing if d == axis else 0) for d in range(x.rank)])
        return _back(emit, "ifft", whole, x, arguments)

    return (cotangent,)


def _irfft(emit: Emit, g: Any, outputs: Values, inputs: Values, arguments: dict[str, Any]) -> Any:
    """Frequencies other than 0 and the highest stand for a conjugate pair, so they count twice."""
    x = inputs[0].type
    axis = arguments.get("axis", -1) % x.rank
    n = outputs[0].type.shape[axis]
    if not dims.same(x.shape[axis], n // 2 + 1) or x.dtype.kind != "c":
        return NotImplemented

    def cotangent() -> Any:
        text = f"numpy.fft.rfft(x0, axis={axis}, norm={_ADJOINT_NORM[arguments.get('norm')]!r})"
        spectrum = _call(emit, text, (g,), x)
        shape = tuple(m if d == axis else 1 for d, m in enumerate(x.shape))
        line = Expr(emit, emit(structure.iota, shape=shape, axis=axis, dtype=types.int64))
        highest = on(comparison.equal)(line * 2, Expr(emit, size_as(emit, n, types.int64)))
        alone = on(comparison.logical_or)(on(comparison.equal)(line, 0), highest)
        weight = where(alone, Expr(emit, constant(emit, 1, x.dtype)), 2)
        return emit(a.multiply, spectrum, weight.value)

    return (cotangent,)


RULES: dict[str, Rule] = {
    "numpy.linalg.inv": _inv,
    "numpy.linalg.solve": _solve_rule,
    "numpy.linalg.det": _det,
    "numpy.linalg.slogdet": _slogdet,
    "numpy.linalg.cholesky": _cholesky,
    "numpy.linalg.eigh": _eigh,
    "numpy.linalg.svd": _svd,
    **{f"numpy.fft.fft{d}": _complex_transform(f"ifft{d}") for d in ("", "2", "n")},
    **{f"numpy.fft.ifft{d}": _complex_transform(f"fft{d}") for d in ("", "2", "n")},
    "numpy.fft.rfft": _rfft,
    "numpy.fft.irfft": _irfft,
}

numpy_call.vjp = _numpy_call_vjp
