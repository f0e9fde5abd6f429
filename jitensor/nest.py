"""Nested structures: lists, tuples, namedtuples and dicts of values. Mirrors tf.nest: dicts are walked in the order
of sorted keys.

flatten({"b": [1, 2], "a": 3})  ->  [3, 1, 2]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jitensor.tensor import Tensor

NOT_NESTED = (str, bytes, bytearray)


def is_nested(value: Any) -> bool:
    """True for lists, tuples, mappings, attrs objects and custom nests."""
    if isinstance(value, (list, tuple, Mapping)):
        return True
    kind = type(value)
    return hasattr(kind, "__attrs_attrs__") or hasattr(kind, "__tf_flatten__")


def _parts(value: Any) -> list[Any]:
    """The components, in the order of flatten."""
    if isinstance(value, Mapping):
        return [value[k] for k in _sorted_keys(value)]
    if isinstance(value, (list, tuple)):
        return list(value)
    if hasattr(type(value), "__attrs_attrs__"):
        return [getattr(value, a.name) for a in type(value).__attrs_attrs__]
    return list(value.__tf_flatten__()[1])


def _sorted_keys(value: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        raise TypeError(f"nest: the keys of {value!r} cannot be sorted; use keys of one type") from None


def _with_parts(value: Any, parts: Sequence[Any]) -> Any:
    """A structure like `value` with other components."""
    kind: Any = type(value)
    if isinstance(value, Mapping):
        by_key = dict(zip(_sorted_keys(value), parts, strict=True))
        if hasattr(value, "default_factory"):
            return kind(value.default_factory, {k: by_key[k] for k in value})
        return kind((k, by_key[k]) for k in value) if kind is not dict else {k: by_key[k] for k in value}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*parts)
    if isinstance(value, (list, tuple)):
        return kind(parts)
    if hasattr(kind, "__attrs_attrs__"):
        return kind(**{a.name.lstrip("_"): p for a, p in zip(kind.__attrs_attrs__, parts, strict=True)})
    return kind.__tf_unflatten__(value.__tf_flatten__()[0], tuple(parts))


def flatten(structure: Any, expand_composites: bool = False) -> list[Any]:
    """The leaves, in order."""
    if not is_nested(structure):
        return [structure]
    return [leaf for part in _parts(structure) for leaf in flatten(part)]


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any], expand_composites: bool = False) -> Any:
    """A structure like `structure` with the leaves of `flat_sequence`. Raises ValueError where the numbers differ."""
    leaves = list(flat_sequence)
    if not is_nested(structure) and len(leaves) != 1:
        raise ValueError(f"nest: the structure is one leaf, but flat_sequence has {len(leaves)} elements")
    wanted = len(flatten(structure))
    if wanted != len(leaves):
        raise ValueError(f"nest: the structure has {wanted} leaves, but flat_sequence has {len(leaves)}")
    return _packed(structure, iter(leaves))


def _packed(structure: Any, leaves: Iterator[Any]) -> Any:
    if not is_nested(structure):
        return next(leaves)
    return _with_parts(structure, [_packed(part, leaves) for part in _parts(structure)])


def map_structure(func: Callable[..., Any], *structures: Any, **kwargs: Any) -> Any:
    """`func` of the leaves of structures that are alike, in the structure of the first."""
    if not callable(func):
        raise TypeError(f"nest.map_structure: func must be callable, got {func!r}")
    if not structures:
        raise ValueError("nest.map_structure: needed at least one structure")
    check_types = kwargs.pop("check_types", True)
    kwargs.pop("expand_composites", None)
    if kwargs:
        raise ValueError(f"nest.map_structure: unknown argument {next(iter(kwargs))}")
    for other in structures[1:]:
        assert_same_structure(structures[0], other, check_types)
    return _packed(structures[0], iter([func(*leaves) for leaves in zip(*map(flatten, structures), strict=True)]))


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True, expand_composites: bool = False) -> None:
    """Raises ValueError where the structures differ, TypeError where only their container types do."""
    one, two = is_nested(nest1), is_nested(nest2)
    if one != two:
        raise ValueError(f"nest: the structures differ: {nest1!r} against {nest2!r}")
    if not one:
        return
    if check_types and not _same_container(nest1, nest2):
        raise TypeError(f"nest: the containers differ: {type(nest1).__name__} against {type(nest2).__name__}")
    if isinstance(nest1, Mapping) and isinstance(nest2, Mapping) and nest1.keys() != nest2.keys():
        raise ValueError(f"nest: the keys differ: {list(nest1)} against {list(nest2)}")
    first, second = _parts(nest1), _parts(nest2)
    if len(first) != len(second):
        raise ValueError(f"nest: the lengths differ: {len(first)} against {len(second)}")
    for a, b in zip(first, second, strict=True):
        assert_same_structure(a, b, check_types)


def _same_container(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return True
    if hasattr(a, "_fields") or hasattr(b, "_fields"):
        return type(a).__name__ == type(b).__name__ and getattr(a, "_fields", None) == getattr(b, "_fields", None)
    return type(a) is type(b) or isinstance(a, type(b)) or isinstance(b, type(a))


# Of tensors alone: other leaves stay ----------------------------------------------------------------------------------


def map_tensors(structure: Any, function: Callable[[Tensor], Any]) -> Any:
    """The structure with `function` of each tensor in it; other leaves stay."""
    if isinstance(structure, Tensor):
        return function(structure)
    if not is_nested(structure):
        return structure
    return _with_parts(structure, [map_tensors(part, function) for part in _parts(structure)])


def replace_tensors(structure: Any, tensors: Iterator[Any]) -> Any:
    return map_tensors(structure, lambda _: next(tensors))


def text(structure: Any) -> str:
    """The structure as text, leaves by their repr."""
    return repr(structure)


# Noticing that a structure was changed --------------------------------------------------------------------------------


def snapshot(structure: Any) -> Any:
    """What `is_unchanged` compares with: the containers' contents, leaves by identity."""
    if isinstance(structure, Mapping):
        return {k: snapshot(v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [snapshot(v) for v in structure]
    return structure


def is_unchanged(structure: Any, before: Any) -> bool:
    if isinstance(structure, Mapping):
        return structure.keys() == before.keys() and all(is_unchanged(v, before[k]) for k, v in structure.items())
    if isinstance(structure, (list, tuple)):
        return len(structure) == len(before) and all(is_unchanged(a, b) for a, b in zip(structure, before, strict=True))
    return structure is before
