"""Ops that touch the world: calls of Python functions, checks, prints. They happen in the order of recording, and are
never merged, dropped or moved."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import DTypeError, InvalidArgumentError, ShapeError
from jitensor.ir import types
from jitensor.ir.graph import Primitive
from jitensor.ir.types import TensorType
from jitensor.ops.base import register


def _effect(name: str, type_rule: Callable[..., Any], evaluate: Callable[..., Any], doc: str) -> Primitive:
    return register(Primitive(name, "effect", type_rule, evaluate, effects=True, doc=doc))


def _python_call(*operands: Any, function: Callable[..., Any], outputs: tuple[TensorType, ...]) -> tuple[Any, ...]:
    results = function(*operands)
    if not isinstance(results, (tuple, list)):
        results = () if results is None and not outputs else (results,)
    name = getattr(function, "__name__", repr(function))
    if len(results) != len(outputs):
        raise InvalidArgumentError(f"python_call: {name} gave {len(results)} results; {len(outputs)} were declared.")
    arrays = tuple(np.asarray(r) for r in results)
    for i, (array, declared) in enumerate(zip(arrays, outputs, strict=True)):
        if array.dtype != declared.dtype.numpy or array.ndim != declared.rank:
            raise InvalidArgumentError(
                f"python_call: result {i} of {name} is {array.dtype.name} of {array.ndim} dimensions; "
                f"{declared} was declared."
            )
    return arrays


python_call = _effect(
    "python_call",
    lambda *operands, function, outputs: outputs,
    _python_call,
    "Results of a Python function of the operands as arrays; `outputs` are their types. Mirrors tf.numpy_function.",
)


def _check_type(
    condition: TensorType, *shown: TensorType, message: str, error: type[Exception]
) -> tuple[TensorType, ...]:
    if condition.dtype is not types.bool_:
        raise DTypeError(f"check: the condition is {condition}; needed bool")
    return ()


def _check(condition: Any, *shown: Any, message: str, error: type[Exception]) -> tuple[Any, ...]:
    if not np.all(condition):
        raise error(message.format(*[np.asarray(s)[()] for s in shown]))
    return ()


check = _effect(
    "check",
    _check_type,
    _check,
    "Raises `error(message)` unless every element of the condition holds; {0} ... in it stand for the other operands.",
)


def _print_type(*operands: TensorType, template: str, stream: str) -> tuple[TensorType, ...]:
    if stream not in ("stdout", "stderr"):
        raise ShapeError(f'print: stream is {stream!r}; needed "stdout" or "stderr".')
    return ()


def _print(*operands: Any, template: str, stream: str) -> tuple[Any, ...]:
    print(template.format(*[np.asarray(o)[()] for o in operands]), file=getattr(sys, stream))
    return ()


print_ = _effect("print", _print_type, _print, "Writes the template with the operands in it. Mirrors tf.print.")
