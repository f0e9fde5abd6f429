"""Scalar programs, and every scalar function written as one.

Owns the public face of this room: `from jitensor import scalar; scalar.exp(value)`. A function takes and gives
`ScalarValue`s; where a complex form exists it takes `ComplexValue`s too, and where NumPy's integers differ (`//`, `%`,
`**`, shifts) it chooses by type. It must not know arrays, dtypes or loops.
"""

from . import complex as _complex
from . import complex_inverse as _complex_inverse
from . import exp_log as _exp_log
from . import hyperbolic as _hyperbolic
from . import integer as _integer
from . import minmax as _minmax
from . import power as _power
from . import program as _program
from . import rounding as _rounding
from . import trig as _trig
from .complex import ComplexValue
from .dispatch import by_type
from .exp_log import logaddexp, logaddexp2, sigmoid
from .half import bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f64_to_bf16, f64_to_f16
from .integer import bit_count, cast, gcd, invert, lcm, left_shift, right_shift
from .minmax import (
    clip,
    copysign,
    frexp,
    heaviside,
    ldexp,
    logical_and,
    logical_or,
    logical_xor,
    modf,
    nextafter,
    signbit,
    spacing,
)
from .power import float_power
from .program import ScalarProgram, ScalarValue, bitcast, call, convert, fabs, fma, is_nan, scalar_function
from .rounding import round_divided, round_scaled
from .special import cbrt, erf, erfc, hypot, ndtr
from .trig import atan2, deg2rad, rad2deg, sinc

exp = by_type("exp", real=_exp_log.exp, complex=_complex.exp)
exp2 = by_type("exp2", real=_exp_log.exp2, complex=_complex.exp2)
expm1 = by_type("expm1", real=_exp_log.expm1, complex=_complex.expm1)
log = by_type("log", real=_exp_log.log, complex=_complex.log)
log2 = by_type("log2", real=_exp_log.log2, complex=_complex.log2)
log10 = by_type("log10", real=_exp_log.log10, complex=_complex.log10)
log1p = by_type("log1p", real=_exp_log.log1p, complex=_complex.log1p)
sqrt = by_type("sqrt", real=_program.sqrt, complex=_complex.sqrt_complex)
sin = by_type("sin", real=_trig.sin, complex=_complex.sin)
cos = by_type("cos", real=_trig.cos, complex=_complex.cos)
tan = by_type("tan", real=_trig.tan, complex=_complex.tan)
sinh = by_type("sinh", real=_hyperbolic.sinh, complex=_complex.sinh)
cosh = by_type("cosh", real=_hyperbolic.cosh, complex=_complex.cosh)
tanh = by_type("tanh", real=_hyperbolic.tanh, complex=_complex.tanh)
asin = by_type("asin", real=_trig.asin, complex=_complex_inverse.asin)
acos = by_type("acos", real=_trig.acos, complex=_complex_inverse.acos)
atan = by_type("atan", real=_trig.atan, complex=_complex_inverse.atan)
asinh = by_type("asinh", real=_hyperbolic.asinh, complex=_complex_inverse.asinh)
acosh = by_type("acosh", real=_hyperbolic.acosh, complex=_complex_inverse.acosh)
atanh = by_type("atanh", real=_hyperbolic.atanh, complex=_complex_inverse.atanh)

power = by_type("power", real=_power.power, integer=_integer.power, complex=_complex.power)
square = by_type("square", real=_power.square, complex=_complex.square)
reciprocal = by_type("reciprocal", real=_power.reciprocal, integer=_integer.reciprocal, complex=_complex.reciprocal)
floor_divide = by_type("floor_divide", real=_rounding.floor_divide, integer=_integer.floor_divide)
remainder = by_type("remainder", real=_rounding.remainder, integer=_integer.remainder)
fmod = by_type("fmod", real=_rounding.fmod, integer=_integer.fmod)
divmod = by_type("divmod", real=_rounding.divmod, integer=_integer.divmod)

maximum = by_type("maximum", real=_minmax.maximum, complex=_complex.maximum)
minimum = by_type("minimum", real=_minmax.minimum, complex=_complex.minimum)
fmax = by_type("fmax", real=_minmax.fmax, complex=_complex.fmax)
fmin = by_type("fmin", real=_minmax.fmin, complex=_complex.fmin)
absolute = by_type("absolute", real=_minmax.absolute, complex=_complex.absolute)
sign = by_type("sign", real=_minmax.sign, complex=_complex.sign)
negative = by_type("negative", real=_minmax.negative, complex=_complex.negative)
conjugate = by_type("conjugate", real=_minmax.positive, complex=_complex.conjugate)
angle = by_type("angle", real=_minmax.angle, complex=_complex.angle)
isnan = by_type("isnan", real=_minmax.isnan, complex=_complex.isnan)
isinf = by_type("isinf", real=_minmax.isinf, complex=_complex.is_infinite)
isfinite = by_type("isfinite", real=_minmax.isfinite, complex=_complex.is_finite)
truth = by_type("truth", real=_minmax.truth, complex=_complex.truth)
logical_not = by_type("logical_not", real=_minmax.logical_not, complex=_complex.logical_not)

floor = by_type("floor", real=_program.floor, integer=_minmax.positive)
ceil = by_type("ceil", real=_program.ceil, integer=_minmax.positive)
trunc = by_type("trunc", real=_program.trunc, integer=_minmax.positive)
rint = by_type("rint", real=_program.rint, integer=_minmax.positive, complex=_complex.rint)

equal = by_type("equal", real=_program.equal, integer=_integer.equal_to, complex=_complex.equal_to)
not_equal = by_type("not_equal", real=_program.not_equal, integer=_integer.not_equal_to, complex=_complex.not_equal_to)
less = by_type("less", real=_minmax.less, integer=_integer.less, complex=_complex.less)
less_equal = by_type("less_equal", real=_minmax.less_equal, integer=_integer.less_equal, complex=_complex.less_equal)
greater = by_type("greater", real=_minmax.greater, integer=_integer.greater, complex=_complex.greater)
greater_equal = by_type(
    "greater_equal", real=_minmax.greater_equal, integer=_integer.greater_equal, complex=_complex.greater_equal
)


def select(condition, a, b):  # type: ignore[no-untyped-def]
    """`a` where condition (i1), else `b`; both are always evaluated. One of a and b must be a value."""
    anchor = a if isinstance(a, ComplexValue) else b if isinstance(b, ComplexValue) else None
    if anchor is None:
        return _program.select(condition, a, b)
    return _complex.choose(condition, anchor.lift(a), anchor.lift(b))


__all__ = [
    "ComplexValue", "ScalarProgram", "ScalarValue", "absolute", "acos", "acosh", "angle", "asin", "asinh", "atan",
    "atan2", "atanh", "bf16_to_f32", "bit_count", "bitcast", "call", "cast", "cbrt", "ceil", "clip", "conjugate",
    "convert", "copysign", "cos", "cosh", "deg2rad", "divmod", "equal", "erf", "erfc", "exp", "exp2", "expm1",
    "f16_to_f32", "f32_to_bf16", "f32_to_f16", "f64_to_bf16", "f64_to_f16", "fabs", "float_power", "floor",
    "floor_divide", "fma", "fmax", "fmin", "fmod", "frexp", "gcd", "greater", "greater_equal", "heaviside", "hypot",
    "invert", "is_nan", "isfinite", "isinf", "isnan", "lcm", "ldexp", "left_shift", "less", "less_equal", "log",
    "log10", "log1p", "log2", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor",
    "maximum", "minimum", "modf", "ndtr", "negative", "nextafter", "not_equal", "power", "rad2deg", "reciprocal",
    "remainder", "right_shift", "rint", "round_divided", "round_scaled", "scalar_function", "select", "sigmoid",
    "sign", "signbit", "sin", "sinc", "sinh", "spacing", "sqrt", "square", "tan", "tanh", "truth", "trunc",
]  # fmt: skip
