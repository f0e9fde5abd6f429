"""One name for a function of floats, of integers and of complex numbers.

Owns the choice by operand type, made while the program is built; it must not know what any function computes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .complex import ComplexValue
from .program import FLOATS, ScalarValue


def by_type(
    name: str,
    *,
    real: Callable[..., Any] | None = None,
    integer: Callable[..., Any] | None = None,
    complex: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """A function that takes `complex` if any operand is a ComplexValue, `integer` if the first is an integer or i1
    (`real` where there is none), else `real`. Real operands beside a complex one are lifted.

    Raises TypeError for a kind of operand that has no form.
    """

    def apply(*operands: Any) -> Any:
        anchor = next((v for v in operands if isinstance(v, ComplexValue)), None)
        if anchor is not None:
            if complex is None:
                raise TypeError(f"scalar.{name} has no complex form")
            return complex(*[anchor.lift(v) for v in operands])
        first = next(v for v in operands if isinstance(v, ScalarValue))
        form = real if first.type in FLOATS or integer is None else integer
        if form is None:
            raise TypeError(f"scalar.{name} has no form for {first.type}")
        return form(*operands)

    documented = real or integer or complex
    assert documented is not None
    functools.update_wrapper(apply, documented, updated=())
    apply.__name__ = apply.__qualname__ = name
    return apply
