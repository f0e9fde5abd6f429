"""`without_warnings`: a NumPy call whose floating-point warnings are dropped, at a fifth of the cost of np.errstate.

NumPy keeps what it does about floating-point errors in a context variable; its own name is private, so where it is not
found, np.errstate serves.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_state: Any = None
_ignoring: Any = None
with contextlib.suppress(ImportError, AttributeError, TypeError):
    _state = importlib.import_module("numpy._core._ufunc_config")._extobj_contextvar
    _ignoring = importlib.import_module("numpy._core.umath")._make_extobj(all="ignore")


def _through_state(function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    token = _state.set(_ignoring)
    try:
        return function(*arrays)
    finally:
        _state.reset(token)


def _through_errstate(function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    with np.errstate(all="ignore"):
        return function(*arrays)


def _works(call: Callable[..., Any]) -> bool:
    """Does the call drop warnings, and leave what follows as it was?"""
    with np.errstate(all="raise"):
        try:
            call(np.divide, (np.ones(1), np.zeros(1)))
        except (FloatingPointError, AttributeError, TypeError):
            return False
        return np.geterr()["divide"] == "raise"


without_warnings = _through_state if _works(_through_state) else _through_errstate
