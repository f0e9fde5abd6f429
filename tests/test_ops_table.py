"""The table's entries in NumPy terms: promotion, dtype and shape rules, broadcasting, empty and 0-d operands."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from table import LENGTH, Interval, draw, elementwise_entries, same_bits, signatures, specials

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import types
from jitensor.ir.graph import Primitive
from jitensor.ir.types import BY_NUMPY, NUMBERS, DType, TensorType
from jitensor.ops import BY_TF_NAME, TABLE, cast, reductions
from jitensor.ops.promote import loop_dtypes, primitives_of, result_type

UFUNCS = sorted(
    {u for u in vars(np).values() if isinstance(u, np.ufunc) and primitives_of(u) and u.signature is None},
    key=lambda u: u.__name__,
)
SHAPES = [((), ()), ((0,), (1,)), ((3, 1), (1, 4)), ((2, 0, 3), (1, 3)), ((5,), ())]


def test_every_arithmetic_ufunc_has_an_entry() -> None:
    missing = {u.__name__ for u in vars(np).values() if isinstance(u, np.ufunc) and not primitives_of(u)}
    assert missing - {"matvec", "vecmat"} == {"isnat", "vecdot"}  # dates; and products that are composites of matmul


def test_names_lead_to_entries_and_each_entry_says_what_it_mirrors() -> None:
    assert all(TABLE[name].name == name for name in TABLE)
    assert all(entry in TABLE.values() for entry in BY_TF_NAME.values())
    assert [e.name for e in elementwise_entries(TABLE) if not e.doc] == []


def _draw(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return draw(Interval(0.0, 3.0), dtype, shape, rng)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_promotion_then_evaluate_is_the_ufunc(ufunc: np.ufunc) -> None:
    rng = np.random.default_rng(1)
    pairs = [(s, t) for s in NUMBERS for t in (NUMBERS if ufunc.nin > 1 else NUMBERS[:1])]
    for first, second in pairs:
        arrays = [_draw(t, (5,), rng) for t in (first, second, second)[: ufunc.nin]]
        asked = tuple(BY_NUMPY[a.dtype] for a in arrays)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = ufunc(*arrays)
            except TypeError:
                with pytest.raises(DTypeError):
                    loop_dtypes(ufunc, asked)
                continue
            inputs, outputs = loop_dtypes(ufunc, asked)
            operands = [cast.cast.evaluate(a, t) for a, t in zip(arrays, inputs, strict=True)]
            for primitive, output, wanted in zip(
                primitives_of(ufunc), outputs, expected if ufunc.nout > 1 else (expected,), strict=True
            ):
                if output is types.float16 and primitive.family == "elementwise" and not _takes(primitive, inputs):
                    continue  # float16 has no neighbours in a float32 loop: the entry says so
                assert primitive.type_rule(*[TensorType(t, (5,)) for t in inputs]).dtype is output
                assert same_bits(np.asarray(primitive.evaluate(*operands)), wanted), (first, second)


def _takes(primitive: Primitive, dtypes: tuple[DType, ...]) -> bool:
    try:
        primitive.type_rule(*[TensorType(t, ()) for t in dtypes])
    except DTypeError:
        return False
    return True


def test_python_numbers_are_weak() -> None:
    assert loop_dtypes(np.add, (types.float32, float))[0] == (types.float32, types.float32)
    assert loop_dtypes(np.add, (types.int8, int))[1] == (types.int8,)
    assert loop_dtypes(np.add, (types.int8, float))[1] == (types.float64,)
    assert loop_dtypes(np.divide, (types.int8, int))[1] == (types.float64,)
    assert loop_dtypes(np.power, (int, types.float16))[0] == (types.float16, types.float16)
    assert loop_dtypes(np.multiply, (types.float32, complex))[1] == (types.complex64,)
    assert loop_dtypes(np.less, (types.int64, types.uint64))[0] == (types.int64, types.uint64)
    assert result_type(types.int8, int) is types.int8
    assert result_type(types.uint8, types.int8, float) is types.float64
    assert result_type(types.float16, float) is types.float16
    assert result_type(int) is types.int64


def test_no_loop_is_an_error_with_numpys_text() -> None:
    with pytest.raises(DTypeError, match="numpy boolean subtract"):
        loop_dtypes(np.subtract, (types.bool_, types.bool_))
    with pytest.raises(TypeError, match="not supported for the input types"):
        loop_dtypes(np.bitwise_and, (types.float32, types.float32))


@pytest.mark.parametrize("entry", elementwise_entries(TABLE), ids=lambda e: e.name)
def test_type_rule_tells_what_evaluate_gives(entry: Primitive) -> None:
    rng = np.random.default_rng(2)
    for dtypes in signatures(entry):
        for pair in SHAPES:
            shapes = (*pair, pair[0])[: len(dtypes)]
            arrays = [draw(s, t, n, rng) for s, t, n in zip(entry.samples, dtypes, shapes, strict=True)]
            with np.errstate(all="ignore"):
                result = np.asarray(entry.evaluate(*arrays))
            promised = entry.type_rule(*[TensorType(t, n) for t, n in zip(dtypes, shapes, strict=True)])
            assert (promised.dtype.numpy, promised.shape) == (result.dtype, result.shape), (dtypes, shapes)


def test_shapes_that_do_not_broadcast_are_refused_with_numpys_text() -> None:
    x, y = TensorType(types.float32, (2, 3)), TensorType(types.float32, (4,))
    with pytest.raises(ShapeError, match=r"could not be broadcast together with shapes \(2,3\) \(4,\)"):
        TABLE["add"].type_rule(x, y)


def test_operands_of_two_dtypes_are_refused() -> None:
    with pytest.raises(DTypeError, match="operands are float32, float64"):
        TABLE["add"].type_rule(TensorType(types.float32, ()), TensorType(types.float64, ()))


# Casts


@pytest.mark.parametrize("source", NUMBERS, ids=lambda t: t.short)
def test_cast_is_astype(source: DType) -> None:
    values = np.concatenate([specials(source), _draw(source, (LENGTH,), np.random.default_rng(3))])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for target in NUMBERS:
            found = cast.cast.evaluate(values, target)
            expected = values.astype(target.numpy)
            known = np.ones(values.shape, bool)
            if source.is_inexact and target is types.uint32:  # NumPy's own loops disagree out of range
                known = np.isfinite(values.real) & (np.abs(values.real) < 2**31)
            assert same_bits(found[known], expected[known]), target.name


# Reductions

REDUCTIONS = [p for p in TABLE.values() if p.family == "reduction"]


def _reduction_takes(entry: Primitive, dtype: DType) -> bool:
    try:
        entry.type_rule(TensorType(dtype, (2,)), axes=(0,))
    except DTypeError:
        return False
    return True


@pytest.mark.parametrize("entry", REDUCTIONS, ids=lambda e: e.name)
def test_reduction_types(entry: Primitive) -> None:
    rng = np.random.default_rng(4)
    for dtype in NUMBERS:
        if not _reduction_takes(entry, dtype):
            continue
        for axes in ((0,), (1,), (0, 1, 2)):
            x = _draw(dtype, (2, 3, 4), rng)
            result = np.asarray(entry.evaluate(x, axes=axes))
            promised = entry.type_rule(TensorType(dtype, x.shape), axes=axes)
            assert (promised.dtype.numpy, promised.shape) == (result.dtype, result.shape)


@pytest.mark.parametrize("entry", REDUCTIONS, ids=lambda e: e.name)
def test_reductions_of_nothing(entry: Primitive) -> None:
    dtype = types.float64 if _reduction_takes(entry, types.float64) else types.bool_
    for shape in ((0,), (0, 3), (3, 0), (0, 0)):
        for axis in range(len(shape)):
            x = np.zeros(shape, dtype.numpy)
            rule: Any = lambda s=shape, a=axis: entry.type_rule(TensorType(dtype, s), axes=(a,))  # noqa: E731
            try:
                expected = np.asarray(entry.evaluate(x, axes=(axis,)))
            except ValueError as error:
                with pytest.raises(ShapeError) as raised:
                    rule()
                assert str(raised.value).startswith(str(error))
            else:
                assert rule().shape == expected.shape


def test_extremes_start_below_and_above_every_value() -> None:
    for dtype in NUMBERS:
        for entry, pick in ((reductions.reduce_max, np.max), (reductions.reduce_min, np.min)):
            start = np.asarray(entry.lower.identity(dtype), dtype.numpy)
            for value in specials(dtype):
                assert same_bits(np.asarray(pick([start, value])), np.asarray(value)) or value != value
