"""Ops that touch the world, in program order at every call: checks, prints, Python functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jitensor.api.convert import convert_to_tensor, pair, to_tensor, weak
from jitensor.api.reductions import reduced
from jitensor.errors import InvalidArgumentError, user_location
from jitensor.ir.graph import Primitive
from jitensor.ir.types import as_dtype, bool_, string
from jitensor.ops import TABLE
from jitensor.recording import HostCall, bind, located, operation
from jitensor.runtime.signature import TensorSpec
from jitensor.tensor import Stateful, Tensor, active, make_eager

# Checks ---------------------------------------------------------------------------------------------------------------


def _check(op: str, holds: Tensor, shown: Sequence[Tensor], message: Any, summary: str) -> None:
    """Records a check, or makes it now."""
    text = located(f"{op}: {summary}" + (f" {message}" if message else ""))
    bind(
        TABLE["check"],
        (holds, *shown),
        message=text.replace("{", "{{").replace("}", "}}").replace(": ", ": x is {0}; ", bool(shown)),
        error=InvalidArgumentError,
    )


def _pairwise(name: str, primitive: Primitive, summary: str) -> Callable[..., None]:
    @operation
    def check_pair(x: Any, y: Any, message: Any = None) -> None:
        a, b = pair(name, x, y)
        _check(name, bind(primitive, (a, b)), [a], message, summary)

    check_pair.implementation.effects = True  # type: ignore[attr-defined]

    def implementation(
        x: Any, y: Any, message: str | None = None, summarize: Any = None, name: str | None = None
    ) -> None:
        check_pair(x, y, message)

    implementation.__name__ = implementation.__qualname__ = name
    implementation.__doc__ = f"Raises InvalidArgumentError when it runs unless {summary}. Mirrors tf.debugging.{name}."
    return implementation


assert_equal = _pairwise("assert_equal", TABLE["equal"], "x == y must hold element-wise")
assert_none_equal = _pairwise("assert_none_equal", TABLE["not_equal"], "x != y must hold element-wise")
assert_less = _pairwise("assert_less", TABLE["less"], "x < y must hold element-wise")
assert_less_equal = _pairwise("assert_less_equal", TABLE["less_equal"], "x <= y must hold element-wise")
assert_greater = _pairwise("assert_greater", TABLE["greater"], "x > y must hold element-wise")
assert_greater_equal = _pairwise("assert_greater_equal", TABLE["greater_equal"], "x >= y must hold element-wise")


def _against_zero(name: str, primitive: Primitive, summary: str) -> Callable[..., None]:
    @operation
    def check_zero(x: Any, message: Any = None) -> None:
        a = to_tensor(x)
        _check(name, bind(primitive, (a, weak(0, a._dtype))), [a], message, summary)

    check_zero.implementation.effects = True  # type: ignore[attr-defined]

    def implementation(x: Any, message: str | None = None, summarize: Any = None, name: str | None = None) -> None:
        check_zero(x, message)

    implementation.__name__ = implementation.__qualname__ = name
    implementation.__doc__ = f"Raises InvalidArgumentError when it runs unless {summary}. Mirrors tf.debugging.{name}."
    return implementation


assert_positive = _against_zero("assert_positive", TABLE["greater"], "x > 0 must hold element-wise")
assert_negative = _against_zero("assert_negative", TABLE["less"], "x < 0 must hold element-wise")
assert_non_negative = _against_zero("assert_non_negative", TABLE["greater_equal"], "x >= 0 must hold element-wise")
assert_non_positive = _against_zero("assert_non_positive", TABLE["less_equal"], "x <= 0 must hold element-wise")


@operation
def _assert(condition: Any, shown: list[Any]) -> None:
    holds = condition if isinstance(condition, Tensor) else weak(bool(condition), bool_)
    if holds.ndim:
        holds = reduced(TABLE["reduce_all"], holds, tuple(range(holds.ndim)), False)
    _check(
        "Assert",
        holds,
        [to_tensor(s) for s in shown if not isinstance(s, (str, bytes))],
        None,
        "the condition must hold",
    )


_assert.implementation.effects = True  # type: ignore[attr-defined]


def assert_(condition: Any, data: Any = (), summarize: Any = None, name: str | None = None) -> None:
    """Raises InvalidArgumentError with the data when it runs, unless the condition holds. Mirrors
    tf.debugging.Assert."""
    _assert(condition, list(data))


@operation
def check_numerics(tensor: Any, message: str = "", name: str | None = None) -> Tensor:
    """The tensor; raises InvalidArgumentError when it runs if an element is nan or infinite. Mirrors
    tf.debugging.check_numerics."""
    x = to_tensor(tensor)
    _check("check_numerics", bind(TABLE["isfinite"], (x,)), [x], message, "no element may be nan or infinite")
    return x


def assert_shapes(
    shapes: Any, data: Any = None, summarize: Any = None, message: str | None = None, name: str | None = None
) -> None:
    """Raises ValueError unless the static shapes agree: sizes are ints, None, or letters that stand for one size
    each."""
    known: dict[Any, int] = {}
    for tensor, wanted in shapes.items() if isinstance(shapes, dict) else shapes:
        tensor = tensor.deref() if hasattr(tensor, "deref") else convert_to_tensor(tensor)
        sizes = tensor.shape.as_list()
        wanted = (wanted,) if isinstance(wanted, (int, str)) else tuple(wanted)
        if len(sizes) != len(wanted):
            raise ValueError(f"assert_shapes: a tensor has shape {tensor.shape}; needed {wanted}. {message or ''}")
        for size, want in zip(sizes, wanted, strict=True):
            if want is None or size is None:
                continue
            if known.setdefault(want, want if isinstance(want, int) else size) != size:
                raise ValueError(f"assert_shapes: a tensor has shape {tensor.shape}; needed {wanted}. {message or ''}")


def assert_rank(x: Any, rank: int, message: str | None = None, name: str | None = None) -> None:
    """Raises ValueError unless x has the rank, as far as tracing knows it. Mirrors tf.debugging.assert_rank."""
    found = convert_to_tensor(x).shape.rank
    if found is not None and found != int(rank):
        raise ValueError(f"assert_rank: x has rank {found}; needed {rank}. {message or ''}")


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> None:
    """Raises TypeError unless the tensor has the dtype. Mirrors tf.debugging.assert_type."""
    found = convert_to_tensor(tensor).dtype
    if found is not as_dtype(tf_type):
        raise TypeError(f"assert_type: the tensor is {found.name}; needed {as_dtype(tf_type).name}. {message or ''}")


# Prints ---------------------------------------------------------------------------------------------------------------


def print_(
    *inputs: Any,
    output_stream: Any = None,
    summarize: int = 3,
    sep: str = " ",
    end: str = "\n",
    name: str | None = None,
) -> None:
    """Writes the values when it runs, to stderr unless `output_stream` is another file. Mirrors tf.print."""

    shown = [v._read() if isinstance(v, Stateful) else v for v in inputs]
    positions = [i for i, v in enumerate(shown) if isinstance(v, Tensor) and v._dtype is not string]

    def run(arrays: list[np.ndarray[Any, Any]]) -> list[Any]:
        for i, array in zip(positions, arrays, strict=True):
            shown[i] = array[()]
        stream = output_stream if output_stream is not None else sys.stderr
        print(*[_text(v) for v in shown], sep=sep, end=end, file=stream)
        return []

    run_host("print", run, [shown[i] for i in positions], [])


def _text(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value._data("print")[()]
    return value.decode() if isinstance(value, bytes) else value


def run_host(
    name: str, run: Callable[[list[Any]], Any], tensors: Sequence[Tensor], specs: Sequence[TensorSpec]
) -> list[Tensor]:
    """Python in program order: now, or recorded."""
    trace = active.context
    if trace is None:
        results = run([t._data(name) for t in tensors])
        return [make_eager(np.asarray(r), s.dtype) for r, s in zip(results, specs, strict=True)]
    return trace.host_call(HostCall(name, run, tuple(specs)), tensors)


# Python functions -----------------------------------------------------------------------------------------------------


def numpy_function(
    func: Callable[..., Any], inp: Any, Tout: Any = None, stateful: bool = True, name: str | None = None
) -> Any:
    """Results of a Python function of NumPy arrays, which runs at every call, in program order. Tout: the dtype of
    its result, or a list of them. Their shapes are unknown while tracing. Mirrors tf.numpy_function."""
    return _python("numpy_function", func, inp, Tout, lambda array: array[()] if array.ndim == 0 else array)


def py_function(func: Callable[..., Any], inp: Any, Tout: Any = None, name: str | None = None) -> Any:
    """As numpy_function, but the function sees eager tensors. Mirrors tf.py_function."""
    return _python("py_function", func, inp, Tout, make_eager)


def _python(op: str, func: Callable[..., Any], inp: Any, wanted: Any, seen: Callable[[Any], Any]) -> Any:
    if not callable(func):
        raise TypeError(f"{op}: func must be callable, got {func!r}")
    many = isinstance(wanted, (list, tuple))
    dtypes = [as_dtype(t) for t in (wanted if many else () if wanted is None else (wanted,))]
    tensors = [convert_to_tensor(v) for v in (inp if isinstance(inp, (list, tuple)) else (inp,))]
    location = user_location()

    def run(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        with suspended():
            results = func(*[seen(a) for a in arrays])
        given = () if not dtypes else results if many or len(dtypes) > 1 else (results,)
        if len(given) != len(dtypes):
            raise InvalidArgumentError(
                f"{op}: the function gave {len(given)} results; Tout has {len(dtypes)}", location=location
            )
        return [_result(op, r, d, location) for r, d in zip(given, dtypes, strict=True)]

    made = run_host(op, run, tensors, [TensorSpec(None, d) for d in dtypes])
    return made if many else made[0] if made else None


def _result(op: str, value: Any, dtype: Any, location: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        array = np.array(value)
        if array.dtype != dtype.numpy:
            raise InvalidArgumentError(
                f"{op}: the function gave {array.dtype}; Tout says {dtype.name}", location=location
            )
        return array
    return convert_to_tensor(value, dtype)._data(op)


class suspended:
    """`with suspended():` ops run eagerly, whatever this thread records."""

    def __enter__(self) -> None:
        self.before = active.context, active.stack, active.suspended
        active.suspended = active.context if active.context is not None else active.suspended
        active.context, active.stack = None, ()

    def __exit__(self, *exc: object) -> None:
        active.context, active.stack, active.suspended = self.before
