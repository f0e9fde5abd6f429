"""Eager tensors: TensorFlow's dtype rules, printing, NumPy interop, indexing."""

import copy
import operator
import pickle

import numpy as np
import pytest

import jitensor as jt


def value(tensor):
    return np.asarray(tensor).tolist()


INFERENCE = [
    (1, "int32"),
    (2**40, "int64"),
    (1.5, "float32"),
    (True, "bool"),
    (1j, "complex128"),
    ([1, 2.0], "float32"),
    ([[1], [2]], "int32"),
    ([], "float32"),
    ("a", "string"),
    ([b"a", "b"], "string"),
    (np.array([1]), "int64"),
    (np.array([1.0]), "float64"),
    (np.float32(1), "float32"),
    ([np.float64(1), np.float64(2)], "float64"),
    (np.array([True]), "bool"),
    (range(3), "int32"),
]


@pytest.mark.parametrize("given, dtype", INFERENCE, ids=repr)
def test_constant_infers_the_dtype(given, dtype):
    assert jt.constant(given).dtype == dtype


@pytest.mark.parametrize(
    "given, dtype, error",
    [
        (1.5, "int32", TypeError),
        ([1, 2.5], "int32", TypeError),
        ("a", "float32", TypeError),
        (1, "string", TypeError),
        (1j, "float32", TypeError),
        (2**31, "int32", OverflowError),
        ([[1], [1, 2]], None, ValueError),
        (None, None, TypeError),
        ({"a": 1}, None, TypeError),
        (object(), None, ValueError),
    ],
    ids=repr,
)
def test_constant_refuses(given, dtype, error):
    with pytest.raises(error):
        jt.constant(given, dtype)


def test_constant_shape_and_conversion():
    assert value(jt.constant(3, shape=[2, 2])) == [[3, 3], [3, 3]]
    assert value(jt.constant([1, 2, 3, 4], shape=[2, 2])) == [[1, 2], [3, 4]]
    with pytest.raises(TypeError):
        jt.constant([1, 2, 3], shape=[2, 2])
    source = np.array([1.0, 2.0])
    tensor = jt.constant(source)
    source[0] = 9
    assert value(tensor) == [1.0, 2.0]
    assert jt.convert_to_tensor(tensor) is tensor
    with pytest.raises(ValueError):
        jt.convert_to_tensor(tensor, jt.int32)
    assert value(jt.convert_to_tensor([tensor[0], 5.0])) == [1.0, 5.0]


FLOATS = [1.5, -2.0, 4.0]
INTS = [3, -4, 5]
BINARY = [
    (operator.add, np.add),
    (operator.sub, np.subtract),
    (operator.mul, np.multiply),
    (operator.floordiv, np.floor_divide),
    (operator.mod, np.remainder),
    (operator.lt, np.less),
    (operator.ge, np.greater_equal),
    (operator.eq, np.equal),
    (operator.ne, np.not_equal),
]


@pytest.mark.parametrize("apply, numpy", BINARY, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "elements, dtype", [(FLOATS, "float32"), (FLOATS, "float64"), (INTS, "int32"), (INTS, "int64")]
)
def test_operators_with_numbers_arrays_and_tensors(apply, numpy, elements, dtype):
    tensor, array = jt.constant(elements, dtype), np.array(elements, dtype)
    for other in (2, tensor, array, [1, 2, 3]):
        plain = np.asarray(other, dtype)
        np.testing.assert_array_equal(np.asarray(apply(tensor, other)), numpy(array, plain))
        np.testing.assert_array_equal(np.asarray(apply(other, tensor)), numpy(plain, array))
        assert isinstance(apply(tensor, other), jt.Tensor)
        assert apply(tensor, other).dtype == ("bool" if numpy(array, plain).dtype == bool else dtype)


@pytest.mark.parametrize(
    "dtype, wanted", [("int8", "float32"), ("uint16", "float32"), ("int32", "float64"), ("float32", "float32")]
)
def test_true_division(dtype, wanted):
    quotient = jt.constant([3], dtype) / jt.constant([2], dtype)
    assert quotient.dtype == wanted and value(quotient) == [1.5]


MIXED = [
    lambda: jt.constant(1) + jt.constant(1.0),
    lambda: jt.constant(1) + 1.5,
    lambda: 1.5 + jt.constant(1),
    lambda: jt.constant(1, jt.int32) < jt.constant(1, jt.int64),
    lambda: jt.constant(1) + np.array([1.5]),
    lambda: jt.constant(True) + jt.constant(True),
    lambda: jt.constant(True) - jt.constant(True),
    lambda: jt.constant(1) + True,
    lambda: jt.sqrt(jt.constant(4)),
    lambda: jt.reduce_sum(jt.constant([True])),
    lambda: jt.matmul(jt.ones([2, 2]), jt.ones([2, 2], jt.float64)),
    lambda: jt.where(jt.constant([1]), 1, 2),
    lambda: jt.concat([jt.constant([1]), jt.constant([1.0])], 0),
]


@pytest.mark.parametrize("compute", MIXED)
def test_mixed_dtypes_are_errors_eagerly_and_traced(compute):
    with pytest.raises(jt.errors.InvalidArgumentError) as caught:
        compute()
    assert isinstance(caught.value, TypeError) and "test_tensor.py" in str(caught.value)
    with pytest.raises(TypeError):
        jt.function(compute)()


def test_python_numbers_are_weak():
    assert (jt.constant(1.0, jt.float64) + 1).dtype == "float64"
    assert (1 - jt.constant(1, jt.int64)).dtype == "int64"
    assert (jt.constant([1.0]) + np.array([1.0])).dtype == "float32"
    assert (jt.constant([1.0]) * np.array([2])).dtype == "float32"
    assert (np.array([1.0], np.float32) + jt.constant([1.0])).dtype == "float32"


def test_logic_on_bool_tensors():
    yes, no = jt.constant(True), jt.constant(False)
    results = [yes & no, yes | no, yes ^ no, ~yes, yes * no, yes & True]
    assert [bool(r) for r in results] == [False, True, True, False, False, True]
    assert value(jt.constant([6]) & 3) == [2] and value(~jt.constant([0])) == [-1]


def test_equality_that_cannot_hold_is_plain():
    x = jt.constant([1, 2])
    assert (x == None) is False and (x != None) is True  # noqa: E711
    assert (x == jt.constant([1, 2, 3])) is False
    assert (x == "text") is False
    assert value(x == jt.constant([1, 3])) == [True, False]


def test_hash_ref_and_membership():
    x = jt.constant([1, 2])
    with pytest.raises(TypeError):
        hash(x)
    assert x.ref() == x.ref() and {x.ref(): 1}[x.ref()] == 1 and x.ref().deref() is x
    assert x.ref() != jt.constant([1, 2]).ref()


def test_python_conversions():
    assert int(jt.constant(3)) == 3 and float(jt.constant(2.5)) == 2.5 and complex(jt.constant(1j)) == 1j
    assert [10, 20][jt.constant(1)] == 20 and list(range(jt.constant(2))) == [0, 1]
    assert bool(jt.constant([3])) is True
    for wrong in (lambda: int(jt.constant([1, 2])), lambda: [1][jt.constant(0.0)], lambda: len(jt.constant(1))):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError):
        bool(jt.constant([1, 2]))
    with pytest.raises(TypeError):
        list(jt.constant(1))
    assert [value(row) for row in jt.constant([[1], [2]])] == [[1], [2]]


def test_text():
    x = jt.constant([1, 2])
    assert str(x) == "tf.Tensor([1 2], shape=(2,), dtype=int32)"
    assert repr(x) == "<tf.Tensor: shape=(2,), dtype=int32, numpy=array([1, 2], dtype=int32)>"
    assert f"{jt.constant(1.5):.3f}" == "1.500"


def test_numpy_interop():
    x = jt.constant([1.0, 4.0])
    assert isinstance(np.sqrt(x), np.ndarray) and np.sqrt(x).tolist() == [1.0, 2.0]
    assert isinstance(np.sum(x), np.float32)
    assert np.asarray(x, np.float64).dtype == np.float64
    fresh = x.numpy()
    fresh[0] = 9
    assert value(x) == [1.0, 4.0]
    with pytest.raises(ValueError):
        np.asarray(x)[0] = 9
    assert np.array(x, copy=True).flags.writeable
    assert np.from_dlpack(x.numpy()).tolist() == [1.0, 4.0]
    assert isinstance(jt.constant(1).numpy(), np.int32) and jt.constant("a").numpy() == b"a"


def test_immutable_and_copies():
    x = jt.constant([1, 2])
    with pytest.raises(TypeError):
        x[0] = 5
    with pytest.raises(AttributeError):
        x.assign(1)
    assert copy.copy(x) is x and copy.deepcopy(x) is x
    assert value(pickle.loads(pickle.dumps(x))) == [1, 2]
    with pytest.raises(TypeError):
        jt.Tensor([1])


ARRAY = np.arange(24).reshape(2, 3, 4)
KEYS = [
    0,
    -1,
    np.int64(1),
    (0, 1, 2),
    (slice(None), 1),
    (slice(None), slice(None, None, -1)),
    (slice(None), slice(2, 0, -1), slice(1, None, 2)),
    (..., 0),
    (0, ..., slice(1, 3)),
    (None, 0, None),
    (slice(None), None, slice(5, 2)),
    ...,
    slice(-100, 100),
    (),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_basic_indexing_is_numpys(key):
    np.testing.assert_array_equal(np.asarray(jt.constant(ARRAY)[key]), ARRAY[key])
    np.testing.assert_array_equal(np.asarray(jt.function(lambda x: x[key])(jt.constant(ARRAY))), ARRAY[key])


def test_indexing_with_tensors():
    x, i = jt.constant(ARRAY), jt.constant(1)
    np.testing.assert_array_equal(np.asarray(x[i]), ARRAY[1])
    np.testing.assert_array_equal(np.asarray(x[:, i]), ARRAY[:, 1])
    np.testing.assert_array_equal(np.asarray(x[0, i, 2]), ARRAY[0, 1, 2])
    np.testing.assert_array_equal(np.asarray(x[:, :i]), ARRAY[:, :1])
    np.testing.assert_array_equal(np.asarray(x[jt.constant(-1)]), ARRAY[-1])


@pytest.mark.parametrize("key", [[0, 1], "a", 1.0, True, np.array([0, 1])], ids=repr)
def test_fancy_indexing_is_refused(key):
    with pytest.raises(TypeError, match=r"jt\.gather"):
        jt.constant([1, 2, 3])[key]


@pytest.mark.parametrize("key", [5, -4, (0, 0), (..., ...)], ids=repr)
def test_indices_out_of_range(key):
    with pytest.raises(jt.errors.InvalidArgumentError):
        jt.constant([1, 2, 3])[key]


def test_names():
    assert {"constant", "function", "Tensor", "reduce_sum", "math", "nn", "float32", "newaxis"} <= set(dir(jt))
    assert jt.newaxis is None and jt.math.sin is jt.sin and jt.nn.tanh is jt.tanh
    assert jt.types.experimental.TraceType and jt.debugging.assert_equal and jt.dtypes.float32 is jt.float32
    for later in ("cond", "while_loop"):
        with pytest.raises(AttributeError, match="later"):
            getattr(jt, later)
    with pytest.raises(AttributeError):
        jt.no_such_name


def test_nest():
    nest = jt.nest
    structure = {"b": [1, (2, 3)], "a": 4}
    assert nest.flatten(structure) == [4, 1, 2, 3]
    assert nest.pack_sequence_as(structure, [40, 10, 20, 30]) == {"b": [10, (20, 30)], "a": 40}
    assert nest.map_structure(lambda a, b: a + b, structure, structure) == {"b": [2, (4, 6)], "a": 8}
    with pytest.raises(ValueError):
        nest.map_structure(lambda a, b: a, [1], [1, 2])
    with pytest.raises(TypeError):
        nest.assert_same_structure([1], (1,))
    with pytest.raises(ValueError):
        nest.pack_sequence_as([1, 2], [1])
    assert nest.flatten(None) == [None] and nest.flatten([]) == []
