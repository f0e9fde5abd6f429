"""Integers as NumPy has them: wrapping, division by zero gives 0, no operation is undefined.

Owns division, shifts, powers, gcd, bit counts, comparison across signs, and conversion between number types. Quotients
are computed in floats where that is exact, since x86 has no vector integer division.
"""

from __future__ import annotations

from .program import (
    FLOATS,
    INTEGERS,
    SIGNED,
    UNSIGNED,
    WIDTH,
    ScalarValue,
    bitcast,
    convert,
    equal,
    fabs,
    not_equal,
    quotient,
    scalar_function,
    select,
)

_EXACT = 2**53  # f64 holds every integer up to here, and truncates their quotients rightly


def _least(t: str) -> int:
    return -(1 << (WIDTH[t] - 1))


def _magnitude_exceeds(x: ScalarValue) -> ScalarValue:
    return x >= _EXACT if x.type in UNSIGNED else (x >= _EXACT) | (x <= -_EXACT)


def _too_wide(a: ScalarValue, b: ScalarValue) -> ScalarValue | None:
    if WIDTH[a.type] < 64:
        return None
    return _magnitude_exceeds(a) | _magnitude_exceeds(b)


def truncated(a: ScalarValue, b: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(q, d): a / d toward zero, where d is b, or 1 where the quotient by b is not defined (b = 0, MIN / -1)."""
    t = a.type
    undefined = equal(b, 0)
    if t in SIGNED:
        undefined = undefined | (equal(b, -1) & equal(a, _least(t)))
    d = select(undefined, 1, b)
    if WIDTH[t] == 64 and a.program.exact:
        return quotient(a, d), d
    # 16 bits are exact in f32, 32 bits in f64; 64 bits within 2^53, the rest is slow.
    wide = "f32" if WIDTH[t] <= 16 else "f64"
    ratio = convert(a, wide) / convert(d, wide)
    if WIDTH[t] == 64:  # the slow ones too must convert to something
        ratio = select(fabs(ratio) < 2.0**62, ratio, 0.0)
    if WIDTH[t] < 32:
        return convert(convert(ratio, "i32"), t), d
    return convert(ratio, t) if t != "u32" else convert(convert(ratio, "i64"), t), d


@scalar_function(slow=_too_wide)
def floor_divide(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a // b rounded down; 0 for b = 0, and MIN for MIN // -1."""
    q, d = truncated(a, b)
    if a.type in SIGNED:
        left = a - q * d
        q = select(not_equal(left, 0) & ((left ^ d) < 0), q - 1, q)
    return select(equal(b, 0), 0, q)


@scalar_function(slow=_too_wide)
def remainder(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a % b with b's sign; 0 for b = 0."""
    q, d = truncated(a, b)
    left = a - q * d
    if a.type in SIGNED:
        left = select(not_equal(left, 0) & ((left ^ d) < 0), left + d, left)
    return select(equal(b, 0), 0, left)


@scalar_function(slow=_too_wide)
def fmod(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """What division toward zero leaves: with a's sign; 0 for b = 0."""
    q, d = truncated(a, b)
    return select(equal(b, 0), 0, a - q * d)


def divmod(a: ScalarValue, b: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """(floor_divide, remainder)."""
    return floor_divide(a, b), remainder(a, b)


@scalar_function
def reciprocal(x: ScalarValue) -> ScalarValue:
    """1 / x toward zero; for 0 what NumPy gives on x86-64, where it is a division of floats cast back."""
    unit = equal(x, 1) if x.type in UNSIGNED else equal(x, 1) | equal(x, -1)
    far = x.program.constant(_least(x.type) if x.type in ("i32", "i64") else 0, x.type)
    return select(unit, x, select(equal(x, 0), far, 0))


# Powers, shifts, bits -------------------------------------------------------------------------------------------------


_FAST_EXPONENT_BITS = 6


def _large_exponent(_: ScalarValue, e: ScalarValue) -> ScalarValue:
    return e >= 1 << _FAST_EXPONENT_BITS


@scalar_function(slow=_large_exponent)
def power(a: ScalarValue, e: ScalarValue) -> ScalarValue:
    """a**e, wrapping, by repeated squaring. A negative e is the caller's to report: the result then means nothing."""
    steps = WIDTH[e.type] if e.program.exact else _FAST_EXPONENT_BITS
    result = a.program.constant(1, a.type)
    for bit in range(steps):
        result = select(not_equal(e & (1 << bit), 0), result * a, result)
        if bit + 1 < steps:
            a = a * a
    return result


@scalar_function
def left_shift(a: ScalarValue, count: ScalarValue) -> ScalarValue:
    """a << count; 0 where count is negative or not below the width."""
    inside, safe = _count(a, count)
    return select(inside, a << safe, 0)


@scalar_function
def right_shift(a: ScalarValue, count: ScalarValue) -> ScalarValue:
    """a >> count; 0 or -1, by a's sign, where count is negative or not below the width."""
    inside, safe = _count(a, count)
    if a.type in UNSIGNED:
        return select(inside, a >> safe, 0)
    return a >> select(inside, safe, WIDTH[a.type] - 1)


def _count(a: ScalarValue, count: ScalarValue) -> tuple[ScalarValue, ScalarValue]:
    """Whether the count is below the width, and a count that is."""
    unsigned = bitcast(count, "u" + count.type[1:])
    return unsigned < WIDTH[a.type], count & (WIDTH[a.type] - 1)


@scalar_function
def invert(a: ScalarValue) -> ScalarValue:
    """Every bit flipped; logical not for i1."""
    return ~a


@scalar_function
def bit_count(a: ScalarValue) -> ScalarValue:
    """The number of ones in |a|, as u8 (numpy.bitwise_count). Sums of neighbouring fields: Hacker's Delight 5-1."""
    if a.type in SIGNED:
        a = select(a < 0, -a, a)
    width = WIDTH[a.type]
    unsigned = "u" + a.type[1:]
    ones = (1 << width) - 1
    x = bitcast(a, unsigned)
    x = x - ((x >> 1) & (ones // 3))
    x = (x & (ones // 5)) + ((x >> 2) & (ones // 5))
    x = (x + (x >> 4)) & (ones // 17)
    shift = 8
    while shift < width:
        x = x + (x >> shift)
        shift *= 2
    return convert(x & 0x7F, "u8")


@scalar_function
def gcd(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """The greatest common divisor of |a| and |b|; gcd(0, 0) = 0. Stein's binary algorithm, a fixed number of steps."""
    t = a.type
    unsigned = "u" + t[1:]
    x, y = (bitcast(select(v < 0, -v, v) if t in SIGNED else v, unsigned) for v in (a, b))
    # Common factors of two come out first, by halves of the width; the low bit of x | y is where they go back in.
    both = x | y
    common = both & (0 - both)
    step = WIDTH[t] // 2
    while step:
        clear = equal((x | y) & ((1 << step) - 1), 0)
        x, y = select(clear, x >> step, x), select(clear, y >> step, y)
        step //= 2
    swap = equal(x & 1, 0)
    x, y = select(swap, y, x), select(swap, x, y)
    for _ in range(2 * WIDTH[t]):
        odd = not_equal(y & 1, 0)
        less = y < x
        difference = select(less, x - y, y - x)
        x = select(odd & less, y, x)
        y = select(odd, difference, y) >> 1
    return bitcast(x * common, t)


@scalar_function
def lcm(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """The least common multiple, |a| / gcd * |b|, wrapping; 0 if either is 0."""
    divisor = gcd(a, b)
    x, y = (select(v < 0, -v, v) if v.type in SIGNED else v for v in (a, b))
    safe = select(equal(divisor, 0), 1, divisor)
    return floor_divide(x, safe) * y


# Comparison across signs ----------------------------------------------------------------------------------------------


def _mixed(a: ScalarValue, b: ScalarValue) -> bool:
    return a.type != b.type


def _as_unsigned(x: ScalarValue) -> ScalarValue:
    return convert(x, "u64")


@scalar_function
def less(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a < b, by value also for a signed and an unsigned operand."""
    if not _mixed(a, b):
        return a < b
    if a.type in SIGNED:
        return (a < 0) | (_as_unsigned(a) < _as_unsigned(b))
    return ~(b < 0) & (_as_unsigned(a) < _as_unsigned(b))


@scalar_function
def equal_to(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a == b, by value also for a signed and an unsigned operand."""
    if not _mixed(a, b):
        return equal(a, b)
    signed = a if a.type in SIGNED else b
    return ~(signed < 0) & equal(_as_unsigned(a), _as_unsigned(b))


@scalar_function
def not_equal_to(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a != b, by value also for a signed and an unsigned operand."""
    return not_equal(a, b) if not _mixed(a, b) else ~equal_to(a, b)


@scalar_function
def less_equal(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a <= b, by value also for a signed and an unsigned operand."""
    return a <= b if not _mixed(a, b) else ~less(b, a)


@scalar_function
def greater(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a > b, by value also for a signed and an unsigned operand."""
    return a > b if not _mixed(a, b) else less(b, a)


@scalar_function
def greater_equal(a: ScalarValue, b: ScalarValue) -> ScalarValue:
    """a >= b, by value also for a signed and an unsigned operand."""
    return a >= b if not _mixed(a, b) else ~less(a, b)


# Conversion -----------------------------------------------------------------------------------------------------------


@scalar_function
def cast(x: ScalarValue, type: str) -> ScalarValue:
    """x as another type, as `ndarray.astype`: to i1 by truth, integers wrap, floats truncate.

    Out of range and nan, a float gives what x86-64's instruction gives: the least i32 or i64; for the narrower
    types and u32 the low bits of the i32 (u32: i64) result, which are 0 for what is far away; for u64 the bits of the
    i64 result below 2^63, and 0 or those of x - 2^63 above. NumPy's own results there differ with array length, so
    only this much is promised.
    """
    source = x.type
    if type == source:
        return x
    if type == "i1":
        return not_equal(x, 0)
    if source in FLOATS and type in INTEGERS:
        return _float_to_integer(x, type)
    return convert(x, type)


def _float_to_integer(x: ScalarValue, type: str) -> ScalarValue:
    if type == "u64":
        above = x >= 2.0**63
        low = bitcast(_truncate(select(above, x - 2.0**63, x), "i64"), "u64")
        return low ^ select(above, x.program.constant(1 << 63, "u64"), 0)
    wide = "i64" if type in ("i64", "u32") else "i32"
    return convert(_truncate(x, wide), type)


def _truncate(x: ScalarValue, type: str) -> ScalarValue:
    """x toward zero as i32 or i64; the least one where that is out of range, or x nan."""
    inside = fabs(x) < 2.0 ** (WIDTH[type] - 1)
    return select(inside, convert(select(inside, x, 0.0), type), _least(type))
