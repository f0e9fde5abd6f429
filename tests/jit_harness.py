"""Comparison of a jitted function with the undecorated one: values, dtypes, types, memory order, writes, errors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jitensor as jt

COUNTS_ARE_INTS = type(np.count_nonzero([1])) is int  # before NumPy 2.3; jitensor gives the scalar that newer ones give
TOLERANCE = {"float16": 2e-3, "float32": 2e-6, "complex64": 4e-6}


def same(function: Callable[..., Any], *args: Any, exact: bool = False, jitted: Any = None, **kwargs: Any) -> Any:
    """Calls both on copies of the arguments, twice, and compares results and arguments. Returns the jitted function."""
    jitted = jt.jit(function) if jitted is None else jitted
    for _ in range(2):
        theirs, ours = copies(args), copies(args)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = function(*theirs, **copies(kwargs))
            got = jitted(*ours, **copies(kwargs))
        assert_same(got, expected, exact=exact)
        assert_same(ours, theirs, where="argument", exact=exact)
    return jitted


def same_error(function: Callable[..., Any], *args: Any, text: bool = True) -> Any:
    """Both raise the same class (or ours a subclass), and our text starts with NumPy's. The cache stays empty."""
    jitted = jt.jit(function)
    with np.errstate(all="ignore"), pytest.raises(Exception) as expected:
        function(*copies(args))
    with pytest.raises(expected.type) as got:
        jitted(*copies(args))
    if text:
        assert str(got.value).startswith(str(expected.value).rstrip()), f"{got.value!r}\nNumPy: {expected.value!r}"
    assert jitted.signatures() == []
    return got.value


def copies(value: Any) -> Any:
    """A copy that keeps memory order and which objects are the same."""
    return copy.deepcopy(value)


def assert_same(got: Any, expected: Any, where: str = "result", exact: bool = False) -> None:
    if COUNTS_ARE_INTS and type(expected) is int and type(got) is np.intp:
        expected = np.intp(expected)
    assert type(got) is type(expected), f"{where}: {type(got)} instead of {type(expected)}"
    if isinstance(expected, (tuple, list)):
        assert len(got) == len(expected), where
        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
            assert_same(g, e, f"{where}[{i}]", exact)
    elif isinstance(expected, dict):
        assert list(got) == list(expected), where
        for name in expected:
            assert_same(got[name], expected[name], f"{where}[{name!r}]", exact)
    elif isinstance(expected, np.ndarray):
        _assert_same_array(got, expected, where, exact)
    elif isinstance(expected, np.generic):
        assert got.dtype == expected.dtype, where
        _assert_close(got, expected, where, exact)
    elif isinstance(expected, (float, complex)):
        _assert_close(np.asarray(got), np.asarray(expected), where, exact)
    elif type(expected).__eq__ is not object.__eq__:
        assert got == expected, where


def _assert_same_array(got: Any, expected: Any, where: str, exact: bool) -> None:
    assert got.dtype == expected.dtype, f"{where}: {got.dtype} instead of {expected.dtype}"
    assert got.shape == expected.shape, f"{where}: {got.shape} instead of {expected.shape}"
    assert memory_order(got) == memory_order(expected), f"{where}: {got.strides} instead of {expected.strides}"
    _assert_close(got, expected, where, exact)


def memory_order(array: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The axes with more than one element, slowest first."""
    axes = [d for d, n in enumerate(array.shape) if n > 1 and array.strides[d] != 0]
    return tuple(sorted(axes, key=lambda d: -abs(array.strides[d])))


def _assert_close(got: Any, expected: Any, where: str, exact: bool) -> None:
    if exact or expected.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, expected, err_msg=where)
        return
    tolerance = TOLERANCE.get(expected.dtype.name, 1e-12)
    scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=0) if expected.size else 0
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale, err_msg=where)
