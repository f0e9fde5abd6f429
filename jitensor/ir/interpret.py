"""What a graph means, in NumPy: each node's `evaluate`, in order. The reference for every compiled result, the first
step of any hunt (`JITENSOR_DISABLE_JIT=1`), and the only executor that must not be clever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jitensor.ir.dims import Dim, evaluate, symbol
from jitensor.ir.graph import Graph


def interpret(
    graph: Graph, arguments: Sequence[Any], sizes: Mapping[str, int], captures: Sequence[Any] | None = None
) -> tuple[list[Any], list[Any]]:
    """Runs the graph on one array or number per input (in order). sizes: the value of each size symbol.

    Returns the outputs and the new values of `graph.updates`, all as arrays of the dtypes that the graph declares.
    """
    values: dict[int, Any] = {}
    sizes = dict(sizes)
    for value, argument in zip(graph.inputs, arguments, strict=True):
        values[value.id] = np.asarray(argument, value.dtype.numpy)
    sources = [c.source for c in graph.captures] if captures is None else captures
    for capture, source in zip(graph.captures, sources, strict=True):
        values[capture.value.id] = np.asarray(source)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            params = {name: concrete(p, sizes) for name, p in node.params}
            results = node.primitive.evaluate(*[values[v.id] for v in node.inputs], **params)
            if not isinstance(results, tuple):
                results = (results,)
            for value, result in zip(node.outputs, results, strict=True):
                array = values[value.id] = np.asarray(result, value.dtype.numpy)
                if node.primitive.data_shape:
                    bind_sizes(value.shape, array.shape, sizes)
    return [values[v.id] for v in graph.outputs], [values[new.id] for _, new in graph.updates]


def bind_sizes(shape: Sequence[int | Dim], actual: Sequence[int], sizes: dict[str, int]) -> None:
    """Gives the symbols that stand alone in `shape`, and have no value yet, theirs."""
    for n, found in zip(shape, actual, strict=True):
        if isinstance(n, Dim):
            for name in n.symbols - sizes.keys():
                if n == symbol(name):
                    sizes[name] = found


def concrete(param: Any, sizes: Mapping[str, int]) -> Any:
    """A parameter with every size in it evaluated."""
    if isinstance(param, Dim):
        return evaluate(param, sizes)
    if isinstance(param, tuple):
        return tuple([concrete(p, sizes) for p in param])
    return param
