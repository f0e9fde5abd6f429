"""Rounding, and division of floats with a remainder: fmod, remainder, floor_divide, divmod, round to decimals.

The remainder of a huge quotient cannot be had in one step: such elements are `slow` and redone by an exact program with
C's fmod, which is exact for every operand.
"""

from __future__ import annotations

import math

from .minmax import copysign
from .program import ScalarValue, call, equal, fabs, floor, fma, not_equal, rint, scalar_function, select, trunc

_EXACT_QUOTIENT = {"f32": 2.0**22, "f64": 2.0**51}  # trunc(a / b) is right to one unit below it


def _is_huge(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    return (fabs(a / b) >= _EXACT_QUOTIENT[a.type]) & not_equal(b, 0.0) & (fabs(a) < math.inf)


@scalar_function(slow=_is_huge)
def fmod(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a - trunc(a/b)*b, exactly, with a's sign: C's fmod. nan for b = 0 and for infinite a."""
    if a.program.exact:
        return call("fmod", a, b)
    left = fma(-trunc(a / b), b, a)
    # The quotient may have rounded up to the next integer; the remainder then has the wrong sign, and is still exact.
    wrong = (left < 0.0) ^ (a < 0.0)
    left = select(wrong & not_equal(left, 0.0), left + copysign(b, a), left)
    left = copysign(left, a)
    return select(equal(fabs(b), math.inf) & (fabs(a) < math.inf), a, left)


@scalar_function
def remainder(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """Python's and NumPy's a % b: with b's sign, exact fmod plus at most one b. nan for b = 0."""
    return divmod_parts(a, b)[1]


@scalar_function
def floor_divide(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """NumPy's a // b: floor of the quotient of a less its remainder; a/b for b = 0."""
    return divmod_parts(a, b)[0]


def divmod(a: ScalarValue, b: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(floor_divide, remainder)."""
    return floor_divide(a, b), remainder(a, b)


def divmod_parts(a: ScalarValue, b: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """Quotient and remainder as npy_divmod (numpy/core/src/npymath) defines them."""
    mod = fmod(a, b)
    quotient = (a - mod) / b
    uneven = not_equal(mod, 0.0)  # true for nan, which then stays
    adjust = uneven & ((b < 0.0) ^ (mod < 0.0))
    quotient = select(adjust, quotient - 1.0, quotient)
    mod = select(uneven, select(adjust, mod + b, mod), copysign(a.program.constant(0.0, a.type), b))
    whole = floor(quotient)
    whole = select(quotient - whole > 0.5, whole + 1.0, whole)
    whole = select(equal(quotient, 0.0), copysign(a.program.constant(0.0, a.type), a / b), whole)
    return select(equal(b, 0.0), a / b, whole), mod


@scalar_function
def round_scaled(x: ScalarValue, scale: ScalarValue) -> ScalarValue:
    """rint(x * scale) / scale: numpy.round to `decimals` >= 1, with scale = 10**decimals."""
    return rint(x * scale) / scale


@scalar_function
def round_divided(x: ScalarValue, scale: ScalarValue) -> ScalarValue:
    """rint(x / scale) * scale: numpy.round to `decimals` < 0, with scale = 10**-decimals."""
    return rint(x / scale) * scale
