"""`custom_gradient`: functions whose gradient the user wrote.

Must not know tapes: it tells those that record what a call was (`record`), and logs it in a trace.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jitensor import nest
from jitensor.api import shaping
from jitensor.api.convert import convert_to_tensor
from jitensor.backward import CustomGradient
from jitensor.ir.graph import Primitive
from jitensor.recording import ReadVariable, Trace, recording
from jitensor.tensor import Tensor, active, make_eager
from jitensor.variable import Variable


def custom_gradient(f: Callable[..., Any] | None = None) -> Any:
    """A function whose gradient is given: f(*args) returns its result and a function from the cotangents of the result
    to those of the arguments. Where f reads trainable Variables, that function takes them as `variables=` and gives a
    pair: the cotangents of the arguments, and a list of those of the Variables. Mirrors tf.custom_gradient."""
    if f is None:
        return custom_gradient

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        operands = [a if isinstance(a, Tensor) else convert_to_tensor(a) for a in args]
        trace = active.context
        if trace is None:
            return _custom_eagerly(f, operands, kwargs)
        if trace.inside:
            raise TypeError("custom_gradient: not inside an op")
        return _custom_traced(trace, f, operands, kwargs)

    return call


def _custom_eagerly(f: Callable[..., Any], operands: list[Tensor], kwargs: dict[str, Any]) -> Any:
    # Tapes see what f computes, since its gradient may use that; the results are other tensors.
    watcher = _Watcher()
    tapes, active.tapes = active.tapes, (*active.tapes, watcher)
    try:
        result, grad = f(*operands, **kwargs)
    finally:
        active.tapes = tapes
    variables = [v for v, _ in watcher.reads.values()]
    operands = [*operands, *[t for _, t in watcher.reads.values()]]
    result = nest.map_structure(lambda leaf: None if leaf is None else convert_to_tensor(leaf), result)
    fresh = nest.map_tensors(result, lambda t: make_eager(t._array, t._dtype))
    results = [t for t in nest.flatten(fresh) if isinstance(t, Tensor)]

    def vjp(emit: Any, g: Any, outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        given = g if isinstance(g, tuple) else (g,)
        cotangents = [shaping.zeros_like(o) if c is None else c for o, c in zip(outputs, given, strict=True)]
        return tuple(_given_gradients(grad, cotangents, variables, len(inputs)))

    primitive = Primitive("custom_gradient", "call", _no_type, _no_type, vjp=vjp)
    for tape in active.tapes:
        tape.record(primitive, operands, {}, results)
    return fresh


def _no_type(*_: Any, **__: Any) -> Any:
    raise AssertionError("an eager record is never evaluated again")


class _Watcher:
    """A tape that notes which trainable Variables are read, and the tensor of the last read."""

    def __init__(self) -> None:
        self.reads: dict[int, tuple[Variable, Tensor]] = {}

    def watches(self, variable: Variable) -> bool:
        return variable.trainable

    def tracks(self, tensor: Tensor) -> bool:
        return False

    def variable_read(self, variable: Variable, tensor: Tensor) -> None:
        if variable.trainable:
            self.reads[id(variable)] = variable, tensor

    def record(self, *_: Any) -> None:
        return

    record_one = record


def _given_gradients(
    grad: Callable[..., Any], cotangents: Sequence[Tensor], variables: list[Variable], count: int
) -> list[Any]:
    """What a user's gradient function gives for `count` operands, of which the last are the Variables."""
    if not variables:
        parts = _flat(grad(*cotangents))
    elif _takes_variables(grad):
        of_arguments, of_variables = grad(*cotangents, variables=variables)
        parts = [*_flat(of_arguments), *_flat(of_variables)]
    else:
        raise TypeError(
            "custom_gradient: the function reads trainable Variables, so its gradient function must take them as "
            "`variables=` and return (gradients of the arguments, gradients of the Variables)"
        )
    if len(parts) != count:
        raise ValueError(f"custom_gradient: the gradient function gave {len(parts)} results for {count} arguments")
    return [p if p is None or isinstance(p, Tensor) else convert_to_tensor(p) for p in parts]


def _flat(found: Any) -> list[Any]:
    return nest.flatten(found) if isinstance(found, (list, tuple)) else [found]


def _takes_variables(grad: Callable[..., Any]) -> bool:
    parameters = inspect.signature(grad).parameters
    return "variables" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _custom_traced(trace: Trace, f: Callable[..., Any], operands: list[Tensor], kwargs: dict[str, Any]) -> Any:
    operands = [trace.admit(t) for t in operands]
    begin = len(trace.log)
    result, grad = f(*operands, **kwargs)
    entries = [e for e in trace.log[begin:] if isinstance(e.operation, ReadVariable) and e.operation.variable.trainable]
    reads = {id(e.operation.variable): (e.operation.variable, e.result) for e in entries}
    variables = [v for v, _ in reads.values()]
    operands = [*operands, *[t for _, t in reads.values()]]
    result = nest.map_structure(lambda leaf: None if leaf is None else trace.admit(convert_to_tensor(leaf)), result)
    results = [t for t in nest.flatten(result) if isinstance(t, Tensor)]
    backward = Trace("custom_gradient")
    backward.parents = (*trace.parents, trace)
    cotangents = [backward.input(t._dtype, t._sizes) for t in results]
    with recording(backward, backward.parents):
        parts = _given_gradients(grad, cotangents, variables, len(operands))
        found = [None if g is None else backward.admit(g) for g in parts]
    captured = [theirs for theirs, _ in backward.outer]
    operation = CustomGradient(backward, cotangents, found, [mine for _, mine in backward.outer])
    made = trace.call(operation, (operands, results, captured), {})
    return nest.replace_tensors(result, iter(made))


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """f itself: what its gradient needs is computed again anyway where f is traced. Mirrors tf.recompute_grad."""
    return f
