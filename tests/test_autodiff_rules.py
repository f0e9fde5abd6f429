"""Every gradient rule of the table against differences, to second order, broadcast and complex operands included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from autodiff_harness import check, evaluate, gradient
from table import draw, elementwise_entries, signatures

from jitensor.ir import types
from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType
from jitensor.ops import TABLE
from jitensor.ops.cast import cast

F64, C128 = types.float64, types.complex128
BINARY_SHAPES = [((3,), (3,)), ((2, 1), (3,)), ((), (2,)), ((1, 2), (2, 1))]


def _gives_inexact(entry: Primitive, dtypes: tuple[DType, ...]) -> bool:
    return entry.type_rule(*[types.TensorType(t, ()) for t in dtypes]).dtype.is_inexact


CASES: list[tuple[Primitive, tuple[DType, ...]]] = [
    (entry, dtypes)
    for entry in elementwise_entries(TABLE)
    for dtypes in signatures(entry)
    if (F64 in dtypes or C128 in dtypes) and _gives_inexact(entry, dtypes) and entry.name != "stop_gradient"
]


def _operands(entry: Primitive, dtypes: tuple[DType, ...], shapes: Any, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    pairs = zip(entry.samples, dtypes, shapes, strict=True)
    return [draw(s, t, shape, rng) for s, t, shape in pairs]


@pytest.mark.parametrize("entry, dtypes", CASES, ids=lambda v: v.name if isinstance(v, Primitive) else v[-1].short)
def test_elementwise(entry: Primitive, dtypes: tuple[DType, ...]) -> None:
    shapes = ((4,),) * len(dtypes)
    check(lambda emit, *v: emit(entry, *v), _operands(entry, dtypes, shapes))


@pytest.mark.parametrize("entry", [c[0] for c in CASES if c[1] == (F64, F64)], ids=lambda e: e.name)
def test_broadcast_operands_get_sums(entry: Primitive) -> None:
    for shapes in BINARY_SHAPES:
        check(lambda emit, *v: emit(entry, *v), _operands(entry, (F64, F64), shapes), order=1)


@pytest.mark.parametrize("entry", [c[0] for c in CASES if c[1][1:] == (F64, F64)], ids=lambda e: e.name)
def test_three_broadcast_operands_get_sums(entry: Primitive) -> None:
    dtypes = next(c[1] for c in CASES if c[0] is entry and c[1][1:] == (F64, F64))
    for shapes in (((3,), (), (2, 1)), ((), (3,), (1, 1)), ((2, 1), (1, 3), (3,))):
        check(lambda emit, *v: emit(entry, *v), _operands(entry, dtypes, shapes), order=1)


def test_every_inexact_entry_has_a_rule() -> None:
    without = {p.name for p in TABLE.values() if p.vjp is None}
    assert {entry.name for entry, _ in CASES}.isdisjoint(without)
    structural = {p.name for p in TABLE.values() if p.family not in ("elementwise", "constant")} & without
    nothing_to_differentiate = {"nonzero", "argsort", "searchsorted", "reduce_any", "reduce_all", "argmax", "argmin"}
    foreign = {"python_call", "numpy_call_sized"}
    assert structural == nothing_to_differentiate | foreign | {"check", "print", "iota", "size_value"}


def test_casts() -> None:
    x = np.array([0.3, -1.2])
    check(lambda emit, v: emit(cast, v, dtype=C128), [x])
    check(lambda emit, v: emit(cast, v, dtype=F64), [x + 2j])
    (found,) = evaluate(gradient(lambda emit, v: emit(cast, v, dtype=F64), [0]), [x.astype(np.float16)])
    assert found.dtype == np.float16
    blocked = gradient(lambda emit, v: emit(cast, emit(cast, v, dtype=types.int32), dtype=F64), [0])
    assert evaluate(blocked, [x]) == [None]


def _of(name: str, *arrays: Any, which: int = 0, **params: Any) -> Any:
    (found,) = evaluate(
        gradient(lambda emit, *v: emit(TABLE[name], *v, **params), [which]), [np.asarray(a) for a in arrays]
    )
    return found


KNOWN: list[tuple[str, tuple[Any, ...], int, Any]] = [
    ("power", ([0.0, 0.0, 0.0, -2.0], [0.0, 1.0, 2.0, 3.0]), 0, [0.0, 1.0, 0.0, 12.0]),
    ("power", ([0.0, 0.0, 2.0, -2.0], [0.0, 2.0, 1.0, 2.0]), 1, [0.0, 0.0, 2 * np.log(2), 0.0]),
    ("absolute", ([0.0, -0.0, -3.0],), 0, [0.0, 0.0, -1.0]),
    ("absolute", ([0j, 3 + 4j],), 0, [0j, 0.6 + 0.8j]),
    ("sqrt", ([0.0],), 0, [np.inf]),
    ("maximum", ([1.0, np.nan, 2.0], [1.0, 0.0, 3.0]), 0, [1.0, 0.0, 0.0]),
    ("maximum", ([1.0, np.nan, 2.0], [1.0, 0.0, 3.0]), 1, [0.0, 1.0, 1.0]),
    ("minimum", ([1.0, 2.0], [1.0, 3.0]), 0, [1.0, 1.0]),
    ("fmax", ([1.0, np.nan, 2.0], [np.nan, 0.0, 2.0]), 0, [1.0, 0.0, 1.0]),
    ("clip", ([-1.0, 0.0, 1.0, 2.0, 3.0], 0.0, 2.0), 0, [0.0, 1.0, 1.0, 1.0, 0.0]),
    ("clip", ([-1.0, 0.0, 3.0], 0.0, 2.0), 2, 1.0),
    ("xlogy", ([0.0, 0.0], [0.0, 2.0]), 0, [0.0, 0.0]),
    ("xlogy", ([0.0, 3.0], [0.0, 2.0]), 1, [0.0, 1.5]),
    ("hypot", ([0.0, 3.0], [0.0, 4.0]), 0, [0.0, 0.6]),
    ("expm1", ([-40.0],), 0, [np.exp(-40.0)]),
    ("sign", ([2.0, 0.0],), 0, [0.0, 0.0]),
    ("logaddexp", ([1e3, -1e3], [0.0, 0.0]), 0, [1.0, 0.0]),
    ("real", ([1 + 2j],), 0, [1 + 0j]),
    ("imag", ([1 + 2j],), 0, [1j]),
]


@pytest.mark.parametrize("name, operands, which, expected", KNOWN, ids=lambda v: v if isinstance(v, str) else "")
def test_corners(name: str, operands: tuple[Any, ...], which: int, expected: Any) -> None:
    np.testing.assert_array_equal(_of(name, *operands, which=which), expected)


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "rint", "modf_integral", "spacing", "stop_gradient"])
def test_steps_are_unconnected(name: str) -> None:
    assert _of(name, [1.5]) is None


def test_an_op_without_a_rule_raises_by_name() -> None:
    params: dict[str, Any] = {"function": np.sin, "outputs": (types.TensorType(F64, (1,)),)}
    asked = gradient(lambda emit, v: emit(TABLE["python_call"], v, **params), [0])
    with pytest.raises(LookupError, match=r"python_call of sin has no gradient.*custom_gradient"):
        evaluate(asked, [np.array([1.0])])


# Reductions and running reductions


RNG = np.random.default_rng(7)
MATRIX = RNG.uniform(0.5, 2.0, (3, 4)) * RNG.choice([-1, 1], (3, 4))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("name", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min"])
def test_reductions(name: str, axes: tuple[int, ...]) -> None:
    check(lambda emit, v: emit(TABLE[name], v, axes=axes), [MATRIX])
    if name in ("reduce_sum", "reduce_prod"):
        check(lambda emit, v: emit(TABLE[name], v, axes=axes), [MATRIX[:2] + 1j * MATRIX[1:]], order=1)


def test_ties_share_the_gradient() -> None:
    np.testing.assert_array_equal(_of("reduce_max", [2.0, 1.0, 2.0], axes=(0,)), [0.5, 0.0, 0.5])


@pytest.mark.parametrize("zeros", [1, 2, 3])
@pytest.mark.parametrize("name", ["reduce_prod", "cumprod"])
def test_products_with_zeros(name: str, zeros: int) -> None:
    x = np.array([2.0, 3.0, -1.5, 0.5, 4.0])
    x[[1, 3, 4][:zeros]] = 0
    params: dict[str, Any] = {"axis": 0} if name == "cumprod" else {"axes": (0,)}
    # The second derivative of a running product by two of its zeros is taken as 0.
    order = 1 if name == "cumprod" and zeros > 1 else 2
    check(lambda emit, v: emit(TABLE[name], v, **params), [x], order=order)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin", "sort"])
def test_along_an_axis(name: str, axis: int) -> None:
    check(lambda emit, v: emit(TABLE[name], v, axis=axis), [MATRIX])


# Structure

X = RNG.uniform(-2, 2, (3, 4))
CUBE = RNG.uniform(-2, 2, (2, 3, 4))
REGION: dict[str, Any] = {"starts": (2, 1), "sizes": (2, 2), "steps": (-1, 2)}
MASK = np.array([[True, False, True, False], [False, False, True, True], [True, True, False, True]])
POSITIONS = np.array([[2, 0], [2, -1]])

STRUCTURE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("transpose", (CUBE,), {"perm": (2, 0, 1)}),
    ("expand_dims", (X,), {"axes": (0, 2)}),
    ("squeeze", (X[:, :1],), {"axes": (1,)}),
    ("broadcast_to", (X[:, :1],), {"shape": (2, 3, 4)}),
    ("broadcast_to", (X,), {"shape": (3, 4)}),
    ("reshape", (X,), {"shape": (2, 6)}),
    ("slice", (X,), REGION),
    ("update_slice", (X, X[1:, 2:]), REGION),
    ("concatenate", (X, X[:, :2] + 1, X[:, 1:]), {"axis": 1}),
    ("full", (np.array(2.5),), {"shape": (2, 3)}),
    ("full", (np.array(2.5),), {"shape": ()}),
    ("matmul", (X, X.T[:, :2] + 1), {}),
    ("matmul", (CUBE, CUBE[:, :1].transpose(0, 2, 1) - 1), {}),
    ("matmul", (CUBE, X.T + 1), {}),
    ("matmul", (X[None, None], CUBE.transpose(0, 2, 1)), {}),
    ("gather", (X, POSITIONS), {"axis": 0, "mode": "raise"}),
    ("gather", (X, POSITIONS + 9), {"axis": 1, "mode": "wrap"}),
    ("gather", (X, POSITIONS * 5), {"axis": 1, "mode": "clip"}),
    ("index_get", (X, np.array([2, 0, 2])), {"axes": (1,)}),
    ("index_get", (CUBE, np.array([1, 0]), np.array([[2], [2]])), {"axes": (0, 2)}),
    ("index_put", (X, X[:, :3] + 1, np.array([2, 0, 2])), {"axes": (1,)}),
    ("index_put", (X, np.array(2.0), np.array([2, 0, 2])), {"axes": (1,)}),
    ("index_put", (CUBE, CUBE[1, :, :2].T, np.array([1, 1]), np.array([2, 2])), {"axes": (0, 2)}),
    ("index_add", (X, X[:, :3] + 1, np.array([2, 0, 2])), {"axes": (1,)}),
    ("index_add", (X, X[0, :3], np.array([2, 0, 2])), {"axes": (1,)}),
    ("gather_nd", (CUBE, POSITIONS % 2), {}),
    ("gather_nd", (CUBE, np.zeros((2, 0), int)), {}),
    ("scatter_nd_update", (X, np.array([[2], [0]]), X[:2] + 1), {}),
    ("boolean_mask", (X, MASK), {"axis": 0, "size": "k"}),
    ("boolean_mask", (CUBE, MASK[:, 0]), {"axis": 1, "size": "k"}),
    ("mask_put", (X, MASK, np.arange(7.0)), {"axis": 0}),
    ("mask_put", (X, MASK, np.array(2.0)), {"axis": 0}),
    ("mask_put", (CUBE, MASK[:, 0], CUBE[:, :2] + 1), {"axis": 1}),
    ("mask_put", (CUBE, MASK[:, 0], CUBE[0, 0]), {"axis": 1}),
    ("repeat_each", (X, np.array([2, 0, 3])), {"axis": 0, "size": "k"}),
]


@pytest.mark.parametrize("name, arrays, params", STRUCTURE, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(STRUCTURE)])
def test_structure(name: str, arrays: tuple[Any, ...], params: dict[str, Any]) -> None:
    check(lambda emit, *v: emit(TABLE[name], *v, **params), arrays, order=1)
    # What is linear has no second derivative of its own: square the result.
    check(lambda emit, *v: emit(TABLE["square"], emit(TABLE[name], *v, **params)), arrays)


def test_ops_of_several_results() -> None:
    check(lambda emit, v: emit(TABLE["top_k"], v, k=2)[0], [X])
    check(lambda emit, v: emit(TABLE["unique"], v, size="k")[0], [X])


def test_matmul_of_complex_numbers() -> None:
    check(lambda emit, a, b: emit(TABLE["matmul"], a, b), [X[:2] + 1j * X[1:], (X.T + 2j)[:, :2]])
