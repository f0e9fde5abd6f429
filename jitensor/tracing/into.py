"""Results that go into memory the caller gives: `f(x, out=y)` and `jt.jit(donate=("x",))`.

Both are Python functions around the user's, traced like any other: `out[...] = f(x); return out`. So fusion, overlap,
casting and native entries are those of a write into an argument. Must not know traces.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_OUT = """\
def {name}({header}):
    return deposit({call}, out)
"""
_DONATE = """\
def {name}({header}):
    return reuse({call}, [{donated}])
"""


def with_out(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any] | None:
    """The function with one parameter more, `out`; None where it takes an `out` itself."""
    parameters = signature.parameters.values()
    if "out" in signature.parameters or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return _define(_OUT, function, signature, {"deposit": _deposit}, takes_out=True)


def donating(function: Callable[..., Any], signature: inspect.Signature, names: Sequence[str]) -> Callable[..., Any]:
    """The function, its result in the memory of one of the parameters `names` where one fits. Raises TypeError."""
    for name in names:
        if name not in signature.parameters:
            raise TypeError(f"jit: donate names {name!r}; {function.__name__} has no such parameter")
    made = _define(_DONATE, function, signature, {"reuse": _reuse}, takes_out=False, donated=names)
    made.__wrapped__ = function  # type: ignore[attr-defined]
    return made


def _define(text: str, function: Any, signature: inspect.Signature, names: dict[str, Any], *, takes_out: bool,
            donated: Sequence[str] = ()) -> Callable[..., Any]:  # fmt: skip
    """Compiles `text` with the parameters of `function`, which it calls."""
    header: list[str] = []
    passed: list[str] = []
    parameters = list(signature.parameters.values())
    namespace = {"function": function, **names}
    for i, p in enumerate(parameters):
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        if p.kind is p.KEYWORD_ONLY and "*" not in "".join(header):
            header.append("*")
        default = ""
        if p.default is not p.empty:
            namespace[f"default_{i}"] = p.default
            default = f"=default_{i}"
        header.append(f"{star}{p.name}{default}")
        following = parameters[i + 1].kind if i + 1 < len(parameters) else None
        if p.kind is p.POSITIONAL_ONLY and following is not p.POSITIONAL_ONLY:
            header.append("/")
        passed.append(f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else f"{star}{p.name}")
    if takes_out:
        header.append("out=None")
    name = function.__name__ if function.__name__.isidentifier() else "function_"
    source = text.format(
        name=name, header=", ".join(header), call=f"function({', '.join(passed)})", donated=", ".join(donated)
    )
    exec(compile(source, f"<jitensor {name}>", "exec"), namespace)
    made = namespace[name]
    made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
    return made


def _deposit(result: Any, out: Any) -> Any:
    """Writes a result, or each part of a tuple of them, into `out`; gives `out`."""
    if type(result) is tuple:
        if type(out) is not tuple or len(out) != len(result):
            raise TypeError(f"out: a tuple of {len(result)} arrays is needed, one for each result")
        return tuple([r if o is None else _deposit(r, o) for r, o in zip(result, out)])  # noqa: B905
    if type(out) is tuple and len(out) == 1:
        return _deposit(result, out[0])
    if not _is_array(out):
        raise TypeError("out: the result goes into an array; it must be an ndarray")
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        raise TypeError(f"out: a result of {result.dtype} cannot be cast to {out.dtype} by the rule 'same_kind'")
    out[...] = result
    return out


def _is_array(value: Any) -> bool:
    """Is it an array, or stands for one in a trace?"""
    return hasattr(value, "dtype") and hasattr(value, "__setitem__")


def _reuse(result: Any, donated: list[Any]) -> Any:
    """Puts each array result into a donated array of its shape and dtype, where there is one left."""
    if type(result) is tuple:
        return tuple([_reuse(r, donated) for r in result])
    if not _is_array(result):
        return result
    for i in range(len(donated)):
        candidate = donated[i]
        if not _is_array(candidate) or candidate is result:
            continue
        if candidate.shape == result.shape and candidate.dtype == result.dtype:
            donated.pop(i)
            candidate[...] = result
            return candidate
    return result
