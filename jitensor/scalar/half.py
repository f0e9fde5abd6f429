"""float16 and bfloat16, which are u16 in memory and f32 in every computation: the conversions, bit for bit.

Branch-free integer arithmetic after Fabian Giesen's half_to_float and float_to_half (round to nearest even); a nan
stays a nan with the payload's high bits, and is quiet.
"""

from __future__ import annotations

from .program import ScalarValue, bitcast, convert, fabs, not_equal, scalar_function, select


@scalar_function
def f16_to_f32(half: ScalarValue) -> ScalarValue:
    """The f32 equal to a float16 given as u16: exact."""
    bits = convert(half, "u32")
    magnitude = (bits & 0x7FFF) << 13
    rebias = (127 - 15) << 23
    normal = magnitude + rebias
    special = (magnitude + 2 * rebias) | select(magnitude > 0x7C00 << 13, half.program.constant(1 << 22, "u32"), 0)
    least_normal = half.program.constant(2.0**-14, "f32")
    subnormal = bitcast(bitcast(normal + (1 << 23), "f32") - least_normal, "u32")
    magnitude = select(magnitude < 1 << 23, subnormal, select(magnitude < 0x7C00 << 13, normal, special))
    return bitcast(magnitude | ((bits & 0x8000) << 16), "f32")


@scalar_function
def f32_to_f16(x: ScalarValue) -> ScalarValue:
    """The nearest float16 (ties to even) as u16; infinity from 65520 on; subnormals too."""
    bits = bitcast(x, "u32")
    magnitude = bits & 0x7FFFFFFF
    normal = (magnitude + ((15 - 127) << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13
    subnormal = bitcast(bitcast(magnitude, "f32") + 0.5, "u32") - (126 << 23)
    payload = ((magnitude >> 13) & 0x3FF) | 0x7E00
    special = select(magnitude > 0x7F800000, payload, 0x7C00)
    result = select(magnitude >= 0x47800000, special, select(magnitude < 0x38800000, subnormal, normal))
    return convert(result | ((bits >> 16) & 0x8000), "u16")


@scalar_function
def f64_to_f16(x: ScalarValue) -> ScalarValue:
    """The float16 nearest to an f64, rounded once: the step through f32 rounds to odd."""
    return f32_to_f16(_round_to_odd(x))


@scalar_function
def bf16_to_f32(brain: ScalarValue) -> ScalarValue:
    """The f32 equal to a bfloat16 given as u16: exact."""
    return bitcast(convert(brain, "u32") << 16, "f32")


@scalar_function
def f32_to_bf16(x: ScalarValue) -> ScalarValue:
    """The nearest bfloat16 (ties to even) as u16."""
    bits = bitcast(x, "u32")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return convert(select((bits & 0x7FFFFFFF) > 0x7F800000, (bits >> 16) | 0x40, rounded), "u16")


@scalar_function
def f64_to_bf16(x: ScalarValue) -> ScalarValue:
    """The bfloat16 nearest to an f64, rounded once."""
    return f32_to_bf16(_round_to_odd(x))


def _round_to_odd(x: ScalarValue) -> ScalarValue:
    """x in f32, cut toward zero with the last bit set where anything was cut: a later rounding is then right."""
    near = convert(x, "f32")
    back = convert(near, "f64")
    bits = bitcast(near, "u32")
    bits = select(fabs(back) > fabs(x), bits - 1, bits)
    return bitcast(bits | convert(not_equal(back, x), "u32"), "f32")
