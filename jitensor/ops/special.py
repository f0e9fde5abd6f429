"""Functions of scipy.special. SciPy is never imported here: its ufuncs are known by name once a user brings them.

Their NumPy meaning comes from the standard library's `math` (erf, erfc) or from NumPy's own functions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from jitensor import scalar
from jitensor.ir.graph import Primitive
from jitensor.ops import arithmetic, exp_log
from jitensor.ops.base import BY_UFUNC, Interval, elementwise


def _elementwise_of(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of one Python float, on arrays: computed in float64, rounded to the array's dtype."""
    on_objects = np.frompyfunc(function, 1, 1)

    def apply(x: Any) -> Any:
        x = np.asarray(x)
        return np.asarray(on_objects(x.astype(np.float64)), np.float64).astype(x.dtype)

    return apply


erf = elementwise(
    "erf",
    scalar=scalar.erf,
    numpy=_elementwise_of(math.erf),
    kinds="f",
    cost=50,
    samples=(Interval(-6.0, 6.0),),
    tf=("math.erf",),
    tolerance=4,  # ours within 2.5 ULP, SciPy's (Cephes) within 2.5, the C library's within 1
    doc="Error function. Mirrors scipy.special.erf.",
)
erfc = elementwise(
    "erfc",
    scalar=scalar.erfc,
    numpy=_elementwise_of(math.erfc),
    kinds="f",
    cost=60,
    samples=(Interval(-6.0, 26.0),),
    tf=("math.erfc",),
    tolerance=4,  # as erf
    doc="1 - erf(x), exact for large x. Mirrors scipy.special.erfc.",
)


xlogy = elementwise(
    "xlogy",
    scalar=lambda x, y: _x_log(x, y, scalar.log(y)),
    numpy=lambda x, y: _numpy_x_log(x, y, np.log(y)),
    arity=2,
    kinds="f",
    cost=30,
    samples=(Interval(-5.0, 5.0), Interval(1e-3, 20.0)),
    tf=("math.xlogy",),
    tolerance=4,
    doc="x * log(y), 0 where x is 0. Mirrors scipy.special.xlogy.",
)
xlog1py = elementwise(
    "xlog1py",
    scalar=lambda x, y: _x_log(x, y, scalar.log1p(y)),
    numpy=lambda x, y: _numpy_x_log(x, y, np.log1p(y)),
    arity=2,
    kinds="f",
    cost=35,
    samples=(Interval(-5.0, 5.0), Interval(-0.99, 20.0)),
    tf=("math.xlog1py",),
    tolerance=4,
    doc="x * log1p(y), 0 where x is 0. Mirrors scipy.special.xlog1py.",
)


def _x_log(x: Any, y: Any, log: Any) -> Any:
    """x * log, where log is of y; 0 where x is 0 and y is no nan."""
    return scalar.select(scalar.equal(x, 0.0) & ~scalar.is_nan(y), 0.0, x * log)


def _numpy_x_log(x: Any, y: Any, log: Any) -> Any:
    return np.where((x == 0) & ~np.isnan(y), np.zeros((), x.dtype), x * log)


SCIPY: dict[str, Primitive] = {
    "erf": erf,
    "erfc": erfc,
    "expit": exp_log.sigmoid,
    "xlogy": xlogy,
    "xlog1py": xlog1py,
    "expm1": exp_log.expm1,
    "log1p": exp_log.log1p,
    "exp2": exp_log.exp2,
    "cbrt": arithmetic.cbrt,
}
"""Name in scipy.special -> primitive."""


def by_ufunc(ufunc: Any) -> Primitive | None:
    """The primitive that a NumPy or SciPy ufunc stands for, or None."""
    known = BY_UFUNC.get(ufunc)
    if known is not None:
        return known
    module = sys.modules.get("scipy.special")  # a ufunc does not tell its module
    name = getattr(ufunc, "__name__", "")
    if module is None or name not in SCIPY or getattr(module, name, None) is not ufunc:
        return None
    BY_UFUNC[ufunc] = SCIPY[name]
    return SCIPY[name]
