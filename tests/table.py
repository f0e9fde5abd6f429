"""Draws operands for the entries of the op table, and measures results. Holds no op's name."""

from __future__ import annotations

import itertools

import numpy as np

from jitensor.errors import JitensorError
from jitensor.ir.graph import Primitive
from jitensor.ir.types import NUMBERS, DType, TensorType, bool_, int32, int64, uint64
from jitensor.ops.base import Interval

LENGTH = 61  # prime, so that no vector width divides it


def elementwise_entries(table: dict[str, Primitive]) -> list[Primitive]:
    return [p for p in table.values() if p.family == "elementwise"]


def signatures(entry: Primitive) -> list[tuple[DType, ...]]:
    """The operand dtypes that an elementwise entry without parameters takes."""
    count = len(entry.samples)
    candidates = [(t,) * count for t in NUMBERS]
    candidates += [(bool_, t, t) for t in NUMBERS if t is not bool_] if count == 3 else []
    if count == 2:
        candidates += [(t, n) for t in NUMBERS if t.kind == "f" for n in (int32, int64)]
        candidates += [(int64, uint64), (uint64, int64)]
    return [c for c in candidates if accepts(entry, c)]


def accepts(entry: Primitive, dtypes: tuple[DType, ...]) -> bool:
    try:
        entry.type_rule(*[TensorType(t, ()) for t in dtypes])
    except (JitensorError, TypeError):  # TypeError: it needs parameters, so it has tests of its own
        return False
    return True


def specials(dtype: DType) -> np.ndarray:
    """The values at which functions go wrong."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        values = {limits.min, limits.min + 1, 0, 1, 2, 7, limits.max - 1, limits.max}
        return np.array(sorted(values | ({-1, -2, -7} if dtype.kind == "i" else set())), dtype.numpy)
    limits = np.finfo(dtype.real_dtype.numpy)
    tiny = [limits.smallest_subnormal, limits.smallest_normal, limits.eps]
    some = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, np.inf, limits.max, *tiny]
    values = np.array([*some, *(-s for s in some), np.nan], dtype.real_dtype.numpy)
    if dtype.kind != "c":
        return values
    few = values[[0, 2, 4, 7, 12, 13, 14, 19, len(values) - 1]]
    pairs = np.array(list(itertools.product(few, few)), values.dtype)
    return _complex(pairs[:, 0], pairs[:, 1], dtype)


def _complex(real: np.ndarray, imag: np.ndarray, dtype: DType) -> np.ndarray:
    result = np.empty(real.shape, dtype.numpy)
    result.real, result.imag = real, imag
    return result


def draw(interval: Interval, dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Ordinary values: even over the entry's interval, as far as the dtype holds it."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        low, high = max(int(interval.low), limits.min), min(int(interval.high), limits.max)
        return rng.integers(low, max(high, low), shape, endpoint=True).astype(dtype.numpy)
    if dtype.kind == "c":
        return _complex(rng.uniform(-3, 3, shape), rng.uniform(-3, 3, shape), dtype)
    return rng.uniform(interval.low, interval.high, shape).astype(dtype.numpy)


def operands(entry: Primitive, dtypes: tuple[DType, ...], *, special: bool, seed: int = 0) -> list[np.ndarray]:
    """One-dimensional operands of one length: drawn, or every combination of special values."""
    rng = np.random.default_rng(seed)
    if not special:
        return [draw(s, t, (LENGTH,), rng) for s, t in zip(entry.samples, dtypes, strict=True)]
    columns = [specials(t) for t in dtypes]
    if len(columns) > 2 or any(t.kind == "c" for t in dtypes):
        columns = [c[:: max(1, len(c) // 9)] for c in columns] if len(columns) > 1 else columns
    grids = np.meshgrid(*columns, indexing="ij")
    return [g.reshape(-1) for g in grids]


def ulp_distance(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How many floats apart; 0 for two nans, inf for a nan against a number. -0.0 and 0.0 are 0 apart. Complex numbers:
    the distance in ULP of the larger part, since rounding errors of one part reach the other."""
    if expected.dtype.kind == "c":
        return _complex_distance(np.asarray(actual), np.asarray(expected))
    if expected.dtype.kind != "f":
        return np.where(actual == expected, 0.0, np.inf)
    bits = {2: np.int16, 4: np.int32, 8: np.int64}[expected.dtype.itemsize]
    lines = []
    for array in (actual, expected):
        integers = np.ascontiguousarray(array).view(bits).astype(object if bits is np.int64 else np.int64)
        lowest = -(1 << (8 * expected.dtype.itemsize - 1))
        lines.append(np.where(integers < 0, lowest - integers, integers))
    distance = np.abs(lines[0] - lines[1]).astype(np.float64)
    nan = np.isnan(actual), np.isnan(expected)
    return np.where(nan[0] & nan[1], 0.0, np.where(nan[0] | nan[1], np.inf, distance))


def _complex_distance(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(expected.real), np.abs(expected.imag))
        apart = np.maximum(np.abs(actual.real - expected.real), np.abs(actual.imag - expected.imag)) / np.spacing(size)
    by_part = np.maximum(ulp_distance(actual.real, expected.real), ulp_distance(actual.imag, expected.imag))
    both_nan = np.isnan(actual) & np.isnan(expected)  # NumPy's own loops differ in which part is nan
    return np.where(both_nan, 0.0, np.where(np.isfinite(apart), apart, by_part))


def same_bits(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Equal as NumPy would print them: dtype, shape, values, signs of zero; any nan is as good as another."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False
    if actual.dtype.kind == "c":
        return same_bits(actual.real, expected.real) and same_bits(actual.imag, expected.imag)
    equal = (actual == expected) | ((actual != actual) & (expected != expected))
    if actual.dtype.kind == "f":
        equal &= (np.signbit(actual) == np.signbit(expected)) | (actual != actual)
    return bool(np.all(equal))


def worst(actual: np.ndarray, expected: np.ndarray, arguments: list[np.ndarray]) -> tuple[float, str]:
    """The largest distance and where it is, as text."""
    distance = ulp_distance(actual, expected)
    if distance.size == 0:
        return 0.0, ""
    i = int(np.argmax(distance))
    at = ", ".join(repr(a.reshape(-1)[i]) for a in arguments)
    return float(distance.reshape(-1)[i]), f"at ({at}): {actual.reshape(-1)[i]!r}, expected {expected.reshape(-1)[i]!r}"
