"""What a call of a jitted function looks like: a hashable key, and the leaves that vary under it.

Owns `describe` (value -> key and leaves) and `rebuild` (key and leaves -> the structure around new leaves). The key
holds dtype, rank, which sizes are 0 or 1, memory class and literals; sizes and Python numbers are not in it. Must not
know traces.

    describe((x, 2.5, "relu"))  ->  (("tuple", ("array", dtype('float64'), (2, 2), 1281, None), ("float",),
                                      ("literal", str, "relu")), [x, 2.5])
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor.errors import TraceError, user_location
from jitensor.tracing.arrays import layout_of, plain_array

Key = tuple[Any, ...]
_ALIGNED, _WRITEABLE, _C = 0x100, 0x400, 0x1
_FLAGS = _ALIGNED | _WRITEABLE | _C
ORDINARY = _FLAGS
_INT, _FLOAT, _COMPLEX = ("int",), ("float",), ("complex",)
_NUMBERS: dict[type, Key] = {int: _INT, float: _FLOAT, complex: _COMPLEX}
_LITERALS = (bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented))
_BY_IDENTITY = (
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, np.ufunc, types.MethodType),
    *(np.dtype, types.MethodWrapperType, types.WrapperDescriptorType, types.MethodDescriptorType),
)


def describe_array(array: np.ndarray[Any, Any]) -> Key:
    """The key of an array argument."""
    flags = array.flags.num & _FLAGS
    shape = array.shape
    pattern = tuple([n if n < 2 else 2 for n in shape])
    layout = None if flags & _C or len(shape) < 2 else layout_of(array)
    return ("array", array.dtype, pattern, flags, layout)


def describe(value: Any, leaves: list[Any]) -> Key:
    """The key of a value; what varies from call to call is appended to `leaves`."""
    kind = type(value)
    if kind is np.ndarray:
        leaves.append(value)
        return describe_array(value)
    number = _NUMBERS.get(kind)
    if number is not None:
        leaves.append(value)
        return number
    if kind in _LITERALS:
        return ("literal", kind, value)
    if kind is tuple or kind is list:
        return (kind.__name__, *[describe(v, leaves) for v in value])
    if kind is dict:
        return ("dict", tuple(map(_dict_key, value)), *[describe(v, leaves) for v in value.values()])
    return _describe_other(value, leaves)


def _dict_key(key: Any) -> Any:
    return (type(key), key)


def _describe_other(value: Any, leaves: list[Any]) -> Key:
    kind = type(value)
    if isinstance(value, np.generic):
        leaves.append(value)
        return ("scalar", value.dtype)
    if isinstance(value, np.ndarray):
        leaves.append(plain_array(value))
        return describe_array(leaves[-1])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ("namedtuple", kind, *[describe(v, leaves) for v in value])
    if isinstance(value, dict):
        items = [describe(v, leaves) for v in value.values()]
        return ("mapping", kind, tuple(map(_dict_key, value)), *items)
    if kind is slice:
        return ("slice", *[describe(v, leaves) for v in (value.start, value.stop, value.step)])
    if isinstance(value, (enum.Enum, range, np.dtype)):
        return ("literal", kind, value)
    if isinstance(value, _BY_IDENTITY):
        leaves.append(value)
        return ("object", id(value))
    if hasattr(kind, "__array__") or hasattr(kind, "__array_interface__"):
        raise TraceError(
            f"{kind.__name__}: an argument of this type is not an ndarray; its data would be frozen in the trace. "
            "Pass np.asarray(x).",
            location=user_location(),
        )
    leaves.append(value)
    return ("object", id(value))


def rebuild(key: Key, leaf: Callable[[Key], Any]) -> Any:
    """The structure of a key, with `leaf(key)` called for each leaf in order."""
    kind = key[0]
    if kind == "literal":
        return key[2]
    if kind == "tuple":
        return tuple([rebuild(k, leaf) for k in key[1:]])
    if kind == "list":
        return [rebuild(k, leaf) for k in key[1:]]
    if kind == "dict":
        return {name: rebuild(k, leaf) for (_, name), k in zip(key[1], key[2:], strict=True)}
    if kind == "namedtuple":
        return key[1](*[rebuild(k, leaf) for k in key[2:]])
    if kind == "mapping":
        made = key[1]()
        made.update({name: rebuild(k, leaf) for (_, name), k in zip(key[2], key[3:], strict=True)})
        return made
    if kind == "slice":
        return slice(*[rebuild(k, leaf) for k in key[1:]])
    return leaf(key)


def spellings(key: Key, name: str) -> list[str]:
    """How a person writes each leaf of a value called `name`: `x`, `layers[0]['w']`."""
    kind = key[0]
    if kind in ("tuple", "list"):
        return [s for i, k in enumerate(key[1:]) for s in spellings(k, f"{name}[{i}]")]
    if kind == "slice":
        return [
            s
            for part, k in zip(("start", "stop", "step"), key[1:], strict=True)
            for s in spellings(k, f"{name}.{part}")
        ]
    if kind == "dict":
        return [s for (_, n), k in zip(key[1], key[2:], strict=True) for s in spellings(k, f"{name}[{n!r}]")]
    if kind == "mapping":
        return [s for (_, n), k in zip(key[2], key[3:], strict=True) for s in spellings(k, f"{name}[{n!r}]")]
    if kind == "namedtuple":
        return [s for n, k in zip(key[1]._fields, key[2:], strict=True) for s in spellings(k, f"{name}.{n}")]
    return [] if kind == "literal" else [name]


def is_data(value: Any) -> bool:
    """True for numbers, arrays, literals and non-empty containers of them: what a hidden argument can be."""
    kind = type(value)
    if kind in _NUMBERS or kind in _LITERALS or isinstance(value, (np.ndarray, np.generic)):
        return True
    if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return bool(value) and all(map(is_data, value))
    if kind is dict:
        return bool(value) and all(map(is_data, value.values()))
    return isinstance(value, (enum.Enum, np.dtype, range)) and not dataclasses.is_dataclass(value)


def key_text(key: Key) -> str:
    """A key as a person reads it: `f64[n, 1]`, `int`, `'relu'`."""
    kind = key[0]
    if kind == "array":
        _, dtype, pattern, flags, layout = key
        sizes = ", ".join("n" if n == 2 else str(n) for n in pattern)
        notes = [] if flags & _WRITEABLE else ["read-only"]
        if not flags & _C:
            notes.append("strided" if layout is None else f"axes in memory order {layout}")
        return f"{dtype.name}[{sizes}]" + (f" ({', '.join(notes)})" if notes else "")
    if kind in ("int", "float", "complex"):
        return kind
    if kind == "scalar":
        return f"numpy.{key[1].name}"
    if kind == "literal":
        return repr(key[2])
    if kind == "object":
        return f"object at {key[1]:#x}"
    if kind in ("tuple", "list", "slice"):
        open_, close = {"tuple": "()", "list": "[]", "slice": ("slice(", ")")}[kind]
        return open_ + ", ".join(map(key_text, key[1:])) + close
    if kind == "mapping":
        return f"{key[1].__name__}({key_text(('dict', *key[2:]))})"
    if kind == "dict":
        pairs = zip(key[1], key[2:], strict=True)
        return "{" + ", ".join(f"{name!r}: {key_text(k)}" for (_, name), k in pairs) + "}"
    return f"{key[1].__name__}({', '.join(map(key_text, key[2:]))})"
