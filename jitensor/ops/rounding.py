"""Rounding to whole numbers, and the split of a float into whole and fraction. Integers round to themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.ops.base import elementwise


def _whole(ufunc: np.ufunc) -> Callable[..., Any]:
    """The ufunc, which makes floats of integers in NumPy 2.0 alone; here they stay."""
    if ufunc(np.int8(1)).dtype == np.int8:
        return ufunc
    return lambda a: np.array(a) if np.asarray(a).dtype.kind in "biu" else ufunc(a)


floor = elementwise(
    "floor",
    scalar=scalar.floor,
    numpy=_whole(np.floor),
    ufunc=np.floor,
    kinds="biuf",
    tf=("floor", "math.floor"),
    doc="The largest whole number not above the value. Mirrors numpy.floor.",
)
ceil = elementwise(
    "ceil",
    scalar=scalar.ceil,
    numpy=_whole(np.ceil),
    ufunc=np.ceil,
    kinds="biuf",
    tf=("math.ceil",),
    doc="The smallest whole number not below the value. Mirrors numpy.ceil.",
)
trunc = elementwise(
    "trunc",
    scalar=scalar.trunc,
    numpy=_whole(np.trunc),
    ufunc=np.trunc,
    kinds="biuf",
    doc="The whole number next to the value toward 0. Mirrors numpy.trunc.",
)
rint = elementwise(
    "rint",
    scalar=scalar.rint,
    numpy=np.rint,
    kinds="fc",
    tf=("round", "math.round", "math.rint"),
    doc="The nearest whole number, ties to even. Mirrors numpy.rint.",
)
modf_fraction = elementwise(
    "modf_fraction",
    scalar=lambda a: scalar.modf(a)[0],
    numpy=lambda a: np.modf(a)[0],
    kinds="f",
    cost=5,
    doc="The fraction, with the value's sign: the first result of numpy.modf.",
)
modf_integral = elementwise(
    "modf_integral",
    scalar=scalar.trunc,
    numpy=lambda a: np.modf(a)[1],
    kinds="f",
    doc="The whole part, with the value's sign: the second result of numpy.modf.",
)
