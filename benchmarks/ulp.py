"""`python -m benchmarks.ulp`: the error of every scalar function in units in the last place, into docs/accuracy.md.

float64 results are compared with mpmath, float32 results with float64 ones (which err by 2^-29 of a float32 unit).
NumPy's or SciPy's function of the same dtype is measured on the same points. `--speed` prints ns per element instead.
Each function is compiled alone by the LLVM writer, in the loop of tests/scalar_harness.py; elements beyond its fast
range are redone by its exact form, as a kernel does. The exit status is 1 if a bound does not hold.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mpmath
import numba
import numpy as np
import scipy
import scipy.special

from jitensor.scalar import exp_log, hyperbolic, special, trig
from jitensor.scalar.power import power
from tests.scalar_harness import DTYPES, compile_llvm

PAGE = Path(__file__).resolve().parent.parent / "docs" / "accuracy.md"
PRECISION = 160
FRACTION_BITS = {"f32": 23, "f64": 52}
LOWEST_EXPONENT = {"f32": -126, "f64": -1022}
HIGHEST_EXPONENT = {"f32": 127, "f64": 1023}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A function, what it must equal, and where it is measured: all exponents, `ranges`, and close to `points`."""

    name: str
    function: Callable[..., Any]
    exact: Callable[..., Any]
    peer: Callable[..., Any]
    bound: dict[str, float]
    ranges: tuple[tuple[float, float], ...] = ((-1.0, 1.0), (-10.0, 10.0))
    points: tuple[float, ...] = (0.0, 1.0, -1.0)
    second: tuple[tuple[float, float], ...] = ()
    domain: Callable[..., Array] = field(default=lambda *x: np.ones(x[0].shape, bool))


def _all(bound: float) -> dict[str, float]:
    return {"f32": bound, "f64": bound}


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _cbrt(x: Any) -> Any:
    return mpmath.sign(x) * mpmath.cbrt(abs(x))


def _logaddexp(a: Any, b: Any) -> Any:
    return max(a, b) + mpmath.log1p(mpmath.exp(-abs(a - b)))


def _erfc(x: Any) -> Any:
    return mpmath.erfc(max(-200, min(200, x)))  # mpmath overflows on huge arguments


_QUARTERS = tuple(k * np.pi / 2 for k in (1, 2, 3, 4, 7, 100, 1001, 31830, -5, -63661))
_CIRCLE = ((-1.0, 1.0), (-10.0, 10.0), (-1e5, 1e5))
_UNIT = ((-1.0, 1.0), (0.45, 0.55), (0.9, 1.0))
_PLANE = ((-1.0, 1.0), (0.5, 2.0), (-1e3, 1e3))
_EXPONENTS = ((-1.0, 1.0), (-40.0, 40.0), (-740.0, 710.0), (-100.0, 89.0))


def _not_cancelling(a: Array, b: Array) -> Array:
    larger = np.maximum(a, b)
    return ((larger > 0.5) | (larger < -1)) & (np.abs(a) < 1e4) & (np.abs(b) < 1e4)


def _moderate_power(x: Array, y: Array) -> Array:
    with np.errstate(all="ignore"):
        return (x > 0) & (np.abs(np.log2(x.astype(np.float64)) * y) < (160 if x.dtype == np.float32 else 1100))


CASES = (
    Case("exp", exp_log.exp, mpmath.exp, np.exp, _all(1), _EXPONENTS),
    Case("exp2", exp_log.exp2, lambda x: mpmath.power(2, x), np.exp2, _all(1), (*_EXPONENTS, (-1074.0, 1024.0))),
    Case("expm1", exp_log.expm1, mpmath.expm1, np.expm1, _all(1), _EXPONENTS),
    Case("log", exp_log.log, mpmath.log, np.log, _all(1), ((0.5, 2.0), (0.0, 10.0))),
    Case("log2", exp_log.log2, lambda x: mpmath.log(x, 2), np.log2, _all(1), ((0.5, 2.0), (0.0, 10.0))),
    Case("log10", exp_log.log10, mpmath.log10, np.log10, _all(1), ((0.5, 2.0), (0.0, 10.0))),
    Case("log1p", exp_log.log1p, mpmath.log1p, np.log1p, _all(1), ((-1.0, 1.0), (-0.5, 0.5), (0.0, 10.0))),
    Case("sin", trig.sin, mpmath.sin, np.sin, _all(1), _CIRCLE, (0.0, *_QUARTERS)),
    Case("cos", trig.cos, mpmath.cos, np.cos, _all(1), _CIRCLE, (0.0, *_QUARTERS)),
    Case("tan", trig.tan, mpmath.tan, np.tan, _all(2), _CIRCLE, (0.0, *_QUARTERS)),
    Case("asin", trig.asin, mpmath.asin, np.arcsin, _all(2), _UNIT, (0.0, 0.5, 1.0, -1.0)),
    Case("acos", trig.acos, mpmath.acos, np.arccos, _all(2), _UNIT, (0.0, 0.5, -0.5, 1.0, -1.0)),
    Case("atan", trig.atan, mpmath.atan, np.arctan, _all(2)),
    Case("atan2", trig.atan2, mpmath.atan2, np.arctan2, _all(2), _PLANE, second=_PLANE),
    Case("sinh", hyperbolic.sinh, mpmath.sinh, np.sinh, _all(2), ((-1.0, 1.0), (-20.0, 20.0), (-710.5, 710.5))),
    Case("cosh", hyperbolic.cosh, mpmath.cosh, np.cosh, _all(2), ((-1.0, 1.0), (-20.0, 20.0), (-710.5, 710.5))),
    Case("tanh", hyperbolic.tanh, mpmath.tanh, np.tanh, _all(2), ((-1.0, 1.0), (-10.0, 10.0), (-22.0, 22.0))),
    Case("asinh", hyperbolic.asinh, mpmath.asinh, np.arcsinh, _all(2)),
    Case("acosh", hyperbolic.acosh, mpmath.acosh, np.arccosh, _all(2), ((1.0, 2.0), (1.0, 10.0)), (1.0,)),
    Case("atanh", hyperbolic.atanh, mpmath.atanh, np.arctanh, _all(2), (*_UNIT, (-0.3, 0.3)), (0.0, 1.0, -1.0)),
    Case("erf", special.erf, mpmath.erf, scipy.special.erf, {"f32": 2, "f64": 2.5}, ((-1.3, 1.3), (-6.0, 6.0))),
    Case(
        "erfc", special.erfc, _erfc, scipy.special.erfc, {"f32": 2, "f64": 2.5},
        ((-1.0, 1.0), (0.7, 3.0), (-6.0, 27.3), (9.0, 10.2)),
    ),
    Case(
        "pow", power, mpmath.power, np.power, {"f32": 2, "f64": 2.5},
        ((0.0, 2.0), (0.9, 1.1), (0.7, 1.5), (0.0, 1e3)), (1.0,),
        ((-3.0, 3.0), (-2500.0, 2500.0), (-250.0, 250.0), (-50.0, 50.0)), _moderate_power,
    ),
    Case("cbrt", special.cbrt, _cbrt, np.cbrt, _all(2), ((1.0, 8.0), (-1.0, 1.0))),
    Case("hypot", special.hypot, mpmath.hypot, np.hypot, _all(2), _PLANE, second=_PLANE),
    Case("sigmoid", exp_log.sigmoid, _sigmoid, scipy.special.expit, _all(2), _EXPONENTS),
    Case(
        "logaddexp", exp_log.logaddexp, _logaddexp, np.logaddexp, _all(2),
        ((-3.0, 3.0), (0.0, 50.0), (-700.0, 700.0)), (1.0,), ((-3.0, 3.0), (0.0, 50.0), (-700.0, 700.0)),
        _not_cancelling,
    ),
)  # fmt: skip


# Points ---------------------------------------------------------------------------------------------------------------


def points(case: Case, t: str, count: int) -> list[Array]:
    """One or two arrays of about `count` finite values of type t inside the case's domain."""
    rng = np.random.default_rng(7)
    arrays = [_samples(rng, case.ranges, case.points, t, count)]
    if case.second:
        other = _samples(rng, case.second, case.points, t, count)
        arrays = [a[: min(len(arrays[0]), len(other))] for a in (arrays[0], rng.permutation(other))]
    keep = case.domain(*arrays)
    return [a[keep] for a in arrays]


def _samples(
    rng: np.random.Generator, ranges: Sequence[tuple[float, float]], near: Sequence[float], t: str, count: int
) -> Array:
    """A third over all exponents, half over the ranges, a sixth within some units of the points."""
    dtype = DTYPES[t]
    lowest = LOWEST_EXPONENT[t] - FRACTION_BITS[t]
    exponents = rng.uniform(lowest, HIGHEST_EXPONENT[t] + 1, count // 3)
    parts = [(np.exp2(exponents) * rng.choice([-1.0, 1.0], len(exponents))).astype(dtype)]
    parts += [rng.uniform(a, b, count // (2 * len(ranges))).astype(dtype) for a, b in ranges]
    for p in near:
        n = count // (6 * len(near))
        steps = np.exp2(rng.uniform(0, FRACTION_BITS[t] + 2, n)) * rng.choice([-1.0, 1.0], n)
        close = dtype(p) + steps * float(np.spacing(dtype(p if p else 1.0)))
        parts.append(close.astype(dtype))
    found = np.concatenate(parts)
    return found[np.isfinite(found)]


# Measuring ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Error:
    """Errors in units in the last place."""

    largest: float
    mean: float
    where: tuple[float, ...]


class Redone:
    """A compiled function whose slow elements are computed again by its exact form."""

    def __init__(self, case: Case, t: str) -> None:
        types = (t,) * (2 if case.second else 1)
        self.fast = compile_llvm(case.function, types)
        self.exact = compile_llvm(case.function, types, exact=True)

    def __call__(self, *arrays: Array) -> Array:
        result = self.fast(*arrays)
        if self.fast.slow.any():
            chosen = self.fast.slow.copy()
            result[chosen] = self.exact(*[a[chosen] for a in arrays])
        return result


def measure(case: Case, t: str, count: int) -> tuple[Error, Error]:
    """jitensor's and the peer's errors on the same points."""
    arrays = points(case, t, count)
    with np.errstate(all="ignore"):
        peer = case.peer(*arrays)
    assert peer.dtype == DTYPES[t]
    errors = _errors_f32 if t == "f32" else _errors_f64
    ours, theirs = errors(case, [Redone(case, t)(*arrays), peer], arrays)
    return _summary(ours, arrays), _summary(theirs, arrays)


def _summary(errors: Array, arrays: list[Array]) -> Error:
    worst = int(np.argmax(errors))
    return Error(float(errors[worst]), float(np.mean(errors)), tuple(float(a[worst]) for a in arrays))


def _errors_f32(case: Case, results: list[Array], arrays: list[Array]) -> Iterator[Array]:
    with np.errstate(all="ignore"):
        reference = case.peer(*[a.astype(np.float64) for a in arrays])
        nearest = reference.astype(np.float32)
        exponent = np.maximum(np.frexp(reference)[1] - 1, LOWEST_EXPONENT["f32"])
        unit = np.ldexp(1.0, exponent - FRACTION_BITS["f32"])
        for r in results:
            same = (r == nearest) & ~np.isfinite(nearest) | (np.isnan(r) & np.isnan(nearest))
            error = np.abs(r.astype(np.float64) - reference) / unit
            yield np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def _errors_f64(case: Case, results: list[Array], arrays: list[Array]) -> Iterator[Array]:
    with mpmath.workprec(PRECISION):
        references = [_exact(case, *x) for x in zip(*[a.tolist() for a in arrays], strict=True)]
        for r in results:
            yield np.array([_error(g, e) for g, e in zip(r.tolist(), references, strict=True)])


def _exact(case: Case, *x: float) -> Any:
    """mpmath's value, or None where there is no real one."""
    try:
        value = case.exact(*[mpmath.mpf(v) for v in x])
    except (ValueError, ZeroDivisionError):
        return None
    if isinstance(value, mpmath.mpc):
        return None
    return value


def _error(got: float, exact: Any) -> float:
    if exact is None:
        return 0.0  # nan or a pole: the tests compare those with NumPy
    if exact == 0:
        return 0.0 if got == 0 else float("inf")
    exponent = int(mpmath.frexp(exact)[1]) - 1
    if exponent > HIGHEST_EXPONENT["f64"] or abs(exact) >= 2**1024 - 2**970:
        return 0.0 if got == (1 if exact > 0 else -1) * float("inf") else float("inf")
    if got != got or abs(got) == float("inf"):
        return float("inf")
    unit = mpmath.ldexp(1, max(exponent, LOWEST_EXPONENT["f64"]) - FRACTION_BITS["f64"])
    return float(abs(mpmath.mpf(got) - exact) / unit)


# The two tables -------------------------------------------------------------------------------------------------------

HEADER = """# Accuracy of the scalar functions

Written by `python -m benchmarks.ulp`; do not edit. Errors in units in the last place (ULP) of the exact result; 0.5 is
a correctly rounded function. A third of the points lie over all exponents, subnormals included, half in the usual
ranges, the rest close to special values such as 0, 1 and multiples of pi/2. The peer is NumPy's function (erf, erfc and
sigmoid: SciPy's) of the same dtype on the same points. Subnormal results count in units of the smallest subnormal.

`sin`, `cos` and `tan` use their own reduction up to 1e6 (float32: 131072); larger arguments are redone by libm.
`logaddexp` is measured where its larger argument lies outside [-1, 0.5]: inside, the result may be close to 0, where
the two terms cancel and the rounding of their difference shows, here as in NumPy. `pow` is measured for positive bases.
"""


def table(count_f64: int, count_f32: int) -> tuple[str, list[str]]:
    """The page and one line for each bound that does not hold."""
    lines = [
        HEADER,
        f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, "
        f"Numba {numba.__version__}, mpmath {mpmath.__version__}; about {count_f64:,} points per function in float64, "
        f"{count_f32:,} in float32.",
        "",
        "| function | dtype | bound | max | mean | worst at | peer max | peer mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    broken = []
    for case in CASES:
        for t, dtype, count in (("f64", "float64", count_f64), ("f32", "float32", count_f32)):
            ours, peer = measure(case, t, count)
            where = ", ".join(f"{v:.9g}" for v in ours.where)
            lines.append(
                f"| {case.name} | {dtype} | {case.bound[t]:g} | {ours.largest:.3f} | {ours.mean:.3f} | {where} "
                f"| {peer.largest:.3g} | {peer.mean:.3f} |"
            )
            print(lines[-1], flush=True)
            if not ours.largest <= case.bound[t]:
                broken.append(f"{case.name} {dtype}: {ours.largest:.3f} ULP at {where}, bound {case.bound[t]:g}")
    return "\n".join(lines) + "\n", broken


def speeds(size: int = 65536, rounds: int = 25) -> None:
    """Prints ns per element, one thread, the best of interleaved rounds; arguments in each function's middle range."""
    print("| function | float64 | peer | float32 | peer |\n|---|---|---|---|---|")
    for case in CASES:
        cells = []
        for t in ("f64", "f32"):
            cells += [f"{v:.2f}" for v in _speed(case, t, size, rounds)]
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


def _speed(case: Case, t: str, size: int, rounds: int) -> tuple[float, float]:
    rng = np.random.default_rng(3)
    low, high = (1.0, 2.0) if case.name == "acosh" else (0.01, 0.99)
    arrays = [rng.uniform(low, high, size).astype(DTYPES[t]) for _ in range(2 if case.second else 1)]
    compiled = compile_llvm(case.function, (t,) * len(arrays))
    out, flags = np.empty(size, DTYPES[t]), np.empty(size, bool)
    ours, peer = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        compiled.run(size, *arrays, out, flags)
        middle = time.perf_counter()
        case.peer(*arrays, out=out)
        ours.append(middle - start)
        peer.append(time.perf_counter() - middle)
    return min(ours) / size * 1e9, min(peer) / size * 1e9


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ulp", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, and the page is not written")
    parser.add_argument("--speed", action="store_true", help="print ns per element instead")
    options = parser.parse_args(argv)
    if options.speed:
        speeds()
        return 0
    text, broken = table(2_000, 200_000) if options.quick else table(24_000, 6_000_000)
    if not options.quick:
        PAGE.write_text(text)
    print("\n".join(broken), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
