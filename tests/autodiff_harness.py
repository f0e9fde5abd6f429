"""Gradients against differences: an eager `emit` that evaluates with NumPy and records a tape of Nodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.autodiff import vjp_of
from jitensor.ir.graph import Node
from jitensor.ir.types import BY_NUMPY, TensorType

Array = np.ndarray
_ids = itertools.count()


class Eager:
    """A NumPy array in the place of a recorded value."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)
        self.type = TensorType(BY_NUMPY[self.array.dtype], self.array.shape)
        self.id = next(_ids)

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    @property
    def shape(self) -> Any:
        return self.type.shape


class Tape:
    """`tape(primitive, *values, **params)` evaluates and records."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def __call__(self, primitive: Any, *values: Eager, **params: Any) -> Any:
        with np.errstate(all="ignore"):
            results = primitive.evaluate(*[v.array for v in values], **params)
        results = results if isinstance(results, tuple) else (results,)
        outputs = tuple(Eager(r) for r in results)
        if not primitive.data_shape:
            promised = primitive.type_rule(*[v.type for v in values], **params)
            for out, type in zip(outputs, promised if isinstance(promised, tuple) else (promised,), strict=True):
                assert out.type == type, (primitive, out.type, type)
        self.nodes.append(Node(primitive, values, tuple(sorted(params.items())), outputs, None))
        return outputs[0] if len(outputs) == 1 else outputs


Function = Callable[..., Any]  # function(emit, *values) -> value


def gradient(function: Function, which: Sequence[int], cotangent: Array | None = None) -> Function:
    """The function whose results are the gradients of `function` by the operands `which`, None where unconnected."""

    def result(emit: Tape, *values: Eager) -> list[Any]:
        start = len(emit.nodes)
        output = function(emit, *values)
        seed = Eager(np.ones_like(output.array) if cotangent is None else cotangent)
        nodes = emit.nodes[start:]
        return vjp_of(nodes, [output], [seed], [values[i] for i in which], emit, lambda v: v)

    return result


def evaluate(function: Function, arrays: Sequence[Array]) -> Any:
    output = function(Tape(), *[Eager(a) for a in arrays])
    return [None if o is None else o.array for o in output] if isinstance(output, list) else output.array


def differences(function: Function, arrays: Sequence[Array], which: int, cotangent: Array) -> Array:
    """dL/dRe + i dL/dIm of L = Re(sum(conj(cotangent) * function)) by central differences."""
    array = arrays[which]
    found = np.zeros(array.shape, array.dtype)
    units = (1, 1j) if array.dtype.kind == "c" else (1,)
    for place in np.ndindex(array.shape):
        step = 1e-5 * max(abs(array[place]), 1e-2)
        for unit in units:
            sides = []
            for sign in (1, -1):
                moved = array.copy()
                moved[place] += sign * step * unit
                output = evaluate(function, [moved if i == which else a for i, a in enumerate(arrays)])
                sides.append(output)
            slope = np.real(np.sum(np.conj(cotangent) * (sides[0] - sides[1]))) / (2 * step)
            found[place] += slope * unit
    return found


def draw_like(array: Array, seed: int = 3) -> Array:
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0.5, 1.5, array.shape) * rng.choice([-1, 1], array.shape)
    if array.dtype.kind == "c":
        drawn = drawn + 1j * rng.uniform(-1, 1, array.shape)
    return drawn.astype(array.dtype)


def check(function: Function, arrays: Sequence[Array], which: Sequence[int] | None = None, order: int = 2) -> None:
    """The gradient by every operand of `which` (default: all inexact ones) agrees with differences, up to `order`."""
    arrays = [np.asarray(a) for a in arrays]
    if which is None:
        which = [i for i, a in enumerate(arrays) if a.dtype.kind in "fc"]
    cotangent = draw_like(evaluate(function, arrays))
    for i in which:
        expected = differences(function, arrays, i, cotangent)
        (found,) = evaluate(gradient(function, [i], cotangent), arrays)
        if found is None:
            assert not np.any(expected), f"operand {i} is unconnected, but moves the result: {expected}"
            continue
        assert (found.dtype, found.shape) == (arrays[i].dtype, arrays[i].shape)
        scale = 1e-6 * max(1.0, float(np.max(np.abs(expected), initial=0)))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=scale, err_msg=f"operand {i}, order left {order}")
        if order > 1:
            check(_only(gradient(function, [i], cotangent)), arrays, which, order - 1)


def _only(function: Function) -> Function:
    return lambda emit, *values: function(emit, *values)[0]
