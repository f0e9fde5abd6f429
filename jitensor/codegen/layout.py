"""How elements lie in memory and in scalar programs: the one place that knows bool, half and complex representations.

A value of dtype d is a tuple of scalar-program values (two for complex). In memory bool is a byte, float16 its 16 bits,
complex two floats side by side.
"""

from __future__ import annotations

from typing import Any

from jitensor.ir.types import DType
from jitensor.scalar import complex as complex_numbers
from jitensor.scalar import half
from jitensor.scalar.program import ScalarProgram, ScalarValue, convert, not_equal

_MEMORY = {"b1": ("u8",), "f16": ("u16",), "c64": ("f32", "f32"), "c128": ("f64", "f64")}
_PROGRAM = {"b1": ("i1",), "f16": ("f32",), "c64": ("f32", "f32"), "c128": ("f64", "f64")}


def memory_types(dtype: DType) -> tuple[str, ...]:
    return _MEMORY.get(dtype.short, (dtype.short,))


def value_types(dtype: DType) -> tuple[str, ...]:
    return _PROGRAM.get(dtype.short, (dtype.short,))


def from_memory(dtype: DType, parts: tuple[ScalarValue, ...]) -> tuple[ScalarValue, ...]:
    if dtype.kind == "b":
        return (not_equal(parts[0], 0),)
    if dtype.short == "f16":
        return (half.f16_to_f32(parts[0]),)
    return parts


def to_memory(dtype: DType, parts: tuple[ScalarValue, ...]) -> tuple[ScalarValue, ...]:
    if dtype.kind == "b":
        return (convert(parts[0], "u8"),)
    if dtype.short == "f16":
        return (half.f32_to_f16(parts[0]),)
    return parts


def as_operand(dtype: DType, parts: tuple[ScalarValue, ...]) -> Any:
    """What an op's scalar builder gets."""
    return complex_numbers.ComplexValue(*parts) if dtype.kind == "c" else parts[0]


def from_result(dtype: DType, result: Any) -> tuple[ScalarValue, ...]:
    """The parts of what an op's scalar builder gave; a half result is rounded to the 16 bits that it stands for."""
    if dtype.kind == "c":
        return (result.re, result.im)
    if dtype.short == "f16":
        return (half.f16_to_f32(half.f32_to_f16(result)),)
    return (result,)


def constant(program: ScalarProgram, dtype: DType, value: Any) -> tuple[ScalarValue, ...]:
    types = value_types(dtype)
    if dtype.kind == "c":
        number = complex(value)
        return (program.constant(number.real, types[0]), program.constant(number.imag, types[1]))
    return (program.constant(value, types[0]),)
