"""Variables eagerly: creation, reads, writes, shapes and dtypes, copies, and who shares whose memory."""

import copy
import pickle

import numpy as np
import pytest

import jitensor as jt


def test_creation():
    v = jt.Variable([1, 2], dtype=jt.float32, name="w", trainable=False)
    assert (v.name, v.dtype, v.shape.as_list(), v.trainable) == ("w:0", jt.float32, [2], False)
    assert jt.Variable(3.0).name == "Variable:0" and jt.Variable(3.0).trainable
    assert jt.Variable(np.arange(3)).dtype is jt.int64 and jt.Variable(True).dtype is jt.bool
    assert jt.Variable(lambda: jt.ones([2])).numpy().tolist() == [1, 1]
    with jt.name_scope("a"), jt.name_scope("b"):
        assert jt.Variable(0.0, name="w").name == "a/b/w:0"
    assert jt.Variable(0.0, name="w").name == "w:0"


CREATION_ERRORS = {
    "nothing": (lambda: jt.Variable(), ValueError, "initial_value"),
    "a tensor of another dtype": (lambda: jt.Variable(jt.constant(1), dtype=jt.float32), ValueError, "float32"),
    "another shape": (lambda: jt.Variable([1.0], shape=[2]), ValueError, "shape"),
    "ragged": (lambda: jt.Variable([[1.0], [1.0, 2.0]]), ValueError, "rectangular"),
    "strings": (lambda: jt.Variable("a"), TypeError, "strings"),
}


@pytest.mark.parametrize("name", CREATION_ERRORS)
def test_creation_errors(name):
    make, kind, text = CREATION_ERRORS[name]
    with pytest.raises(kind, match=text):
        make()


def test_assignment():
    v = jt.Variable([1.0, 2.0])
    assert v.assign([3.0, 4.0]) is v
    assert v.assign_add([1.0, 1.0]).numpy().tolist() == [4, 5]
    assert v.assign_sub(jt.constant([1.0, 2.0])).numpy().tolist() == [3, 3]
    v.assign(v * 2)
    assert v.numpy().tolist() == [6, 6]


ASSIGNMENT_ERRORS = {
    "shape": (lambda v: v.assign([1.0]), ValueError, r"shape \(1,\)"),
    "rank": (lambda v: v.assign(1.0), ValueError, r"shape \(\)"),
    "broadcast": (lambda v: v.assign_add(1.0), jt.errors.InvalidArgumentError, r"shape \(2,\)"),
    "dtype": (lambda v: v.assign(jt.constant([1, 2])), ValueError, "float32"),
    "None": (lambda v: v.assign(None), (TypeError, ValueError), "None"),
    "slice": (lambda v: v[:1].assign([1.0, 2.0, 3.0]), ValueError, "broadcast"),
}


@pytest.mark.parametrize("name", ASSIGNMENT_ERRORS)
def test_a_failed_assignment_changes_nothing(name):
    assign, kind, text = ASSIGNMENT_ERRORS[name]
    v = jt.Variable([1.0, 2.0])
    with pytest.raises(kind, match=text):
        assign(v)
    assert v.numpy().tolist() == [1, 2]


SLICES = {
    "[1:]": (slice(1, None), [[7.0, 8.0, 9.0]]),
    "[0]": (0, 5.0),
    "[:, 1]": ((slice(None), 1), [7.0, 8.0]),
    "[..., ::2]": ((Ellipsis, slice(None, None, 2)), 0.5),
    "[-1, ::-1]": ((-1, slice(None, None, -1)), [7.0, 8.0, 9.0]),
    "[None, 0]": ((None, 0), [[7.0, 8.0, 9.0]]),
    "empty": (slice(2, None), np.zeros((0, 3), np.float32)),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", SLICES)
def test_sliced_assignment(name, traced):
    key, value = SLICES[name]
    want = np.arange(6, dtype=np.float32).reshape(2, 3)
    v = jt.Variable(want)
    want[key] = value
    write = lambda: v[key].assign(value)  # noqa: E731
    (jt.function(write) if traced else write)()
    np.testing.assert_array_equal(v.numpy(), want)
    want[key] += want[key]
    add = lambda: v[key].assign_add(v[key])  # noqa: E731
    (jt.function(add) if traced else add)()
    np.testing.assert_array_equal(v.numpy(), want)


def test_scatter():
    v = jt.Variable([1.0, 2.0, 3.0])
    v.scatter_nd_update([[0]], [9.0])
    v.scatter_nd_add([[1]], [1.0])
    v.scatter_nd_sub([[2]], [1.0])
    assert v.numpy().tolist() == [9, 3, 2]


OPERATORS = {
    "v + 1": (lambda v: v + 1, [2, 3]),
    "1 - v": (lambda v: 1 - v, [0, -1]),
    "v * v": (lambda v: v * v, [1, 4]),
    "-v": (lambda v: -v, [-1, -2]),
    "v ** 2": (lambda v: v**2, [1, 4]),
    "v / 2": (lambda v: v / 2, [0.5, 1]),
    "v < 2": (lambda v: v < 2, [True, False]),
    "v == v": (lambda v: v == v, [True, True]),
    "v != 1": (lambda v: v != 1, [False, True]),
    "tensor + v": (lambda v: jt.ones([2]) + v, [2, 3]),
    "v + array": (lambda v: v + np.ones(2, np.float32), [2, 3]),
    "array + v": (lambda v: np.ones(2, np.float32) + v, [2, 3]),
    "v @ m": (lambda v: v[None] @ jt.ones([2, 1]), [[3]]),
    "v[1]": (lambda v: v[1], 2),
    "abs": (lambda v: abs(-v), [1, 2]),
    "reduce_sum": (jt.reduce_sum, 3),
    "concat": (lambda v: jt.concat([v, v], 0), [1, 2, 1, 2]),
    "stack": (lambda v: jt.stack([v, jt.ones([2])]), [[1, 2], [1, 1]]),
    "add_n": (lambda v: jt.add_n([v, v]), [2, 4]),
    "where": (lambda v: jt.where(v > 1.0, v, 0.0), [0, 2]),
    "cast": (lambda v: jt.cast(v, jt.int32), [1, 2]),
    "shape": (jt.shape, [2]),
    "keyword": (lambda v: jt.reduce_max(input_tensor=v, axis=0), 2),
    "convert": (jt.convert_to_tensor, [1, 2]),
    "identity": (jt.identity, [1, 2]),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_ops_take_variables_and_give_tensors(name, traced):
    op, want = OPERATORS[name]
    v = jt.Variable([1.0, 2.0])
    result = jt.function(lambda: op(v))() if traced else op(v)
    assert isinstance(result, jt.Tensor) and not isinstance(result, jt.Variable)
    np.testing.assert_array_equal(result.numpy(), want)


def test_python_and_numpy_conversions():
    v = jt.Variable(2.0)
    assert (float(v), int(v), bool(v), f"{v:.1f}") == (2.0, 2, True, "2.0")
    assert [float(x) for x in jt.Variable([1.0, 2.0])] == [1, 2] and len(jt.Variable([1.0, 2.0])) == 2
    assert np.asarray(v).shape == () and [5, 6, 7][jt.Variable(1)] == 6
    with pytest.raises(TypeError, match="unhashable"):
        hash(v)
    assert v.ref() == v.ref() and len({v.ref(), v.ref()}) == 1 and v.ref().deref() is v
    assert jt.is_tensor(v) and isinstance(v, jt.Variable)


def test_repr():
    v = jt.Variable([1.0, 2.0])
    assert repr(v) == "<tf.Variable 'Variable:0' shape=(2,) dtype=float32, numpy=array([1., 2.], dtype=float32)>"
    seen = []
    jt.function(lambda: seen.append(repr(v)))()
    assert seen == ["<tf.Variable 'Variable:0' shape=(2,) dtype=float32>"]


def test_copies():
    v = jt.Variable([1.0, 2.0], name="w", trainable=False)
    for other in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        v.assign([5.0, 5.0])
        assert other.numpy().tolist() == [1, 2] and (other.name, other.trainable) == ("w:0", False)
        v.assign([1.0, 2.0])
    pair = copy.deepcopy([v, v])
    assert pair[0] is pair[1]


# Memory ---------------------------------------------------------------------------------------------------------------


def test_what_was_read_keeps_its_value():
    v = jt.Variable([1.0, 2.0, 3.0])
    tensor, part, array, view = v.read_value(), v[1:], np.asarray(v), np.asarray(v[0])
    v.assign_add([1.0, 1.0, 1.0])
    assert tensor.numpy().tolist() == [1, 2, 3] and part.numpy().tolist() == [2, 3]
    assert array.tolist() == [1, 2, 3] and float(view) == 1
    v.assign([0.0, 0.0, 0.0])
    assert tensor.numpy().tolist() == [1, 2, 3]


def test_a_variable_keeps_what_was_assigned():
    source = np.array([1.0, 2.0], np.float32)
    v = jt.Variable(source)
    source[0] = 9
    assert v.numpy().tolist() == [1, 2]
    v.assign(source)
    source[0] = 5
    assert v.numpy().tolist() == [9, 2]
    tensor = jt.constant([3.0, 4.0])
    v.assign(tensor)
    v.assign_add([1.0, 1.0])
    assert tensor.numpy().tolist() == [3, 4]
    x = jt.constant([[1.0, 2.0], [3.0, 4.0]])
    v.assign(x[0])
    v.assign_add([1.0, 1.0])
    assert x.numpy().tolist() == [[1, 2], [3, 4]]
    v.numpy()[0] = 100
    assert v.numpy().tolist() == [2, 3]


def test_an_update_that_nobody_watches_is_in_place():
    v = jt.Variable(np.zeros(1000, np.float32))
    v.assign_add(jt.ones([1000]))
    where = np.asarray(v).ctypes.data
    v.assign_sub(jt.ones([1000]))
    assert np.asarray(v).ctypes.data == where


# Module ---------------------------------------------------------------------------------------------------------------


class Inner(jt.Module):
    def __init__(self, name=None):
        super().__init__(name)
        self.w = jt.Variable(1.0, name="w")
        self.count = jt.Variable(0, trainable=False)


class OuterModel(jt.Module):
    def __init__(self):
        super().__init__()
        self.parts = [Inner(), {"b": Inner(), "a": Inner()}]
        self.same = self.parts[0]
        self.bias = jt.Variable([2.0])

    @jt.Module.with_name_scope
    def make(self):
        return jt.Variable(0.0, name="made")


def test_module_finds_its_variables_once():
    m = OuterModel()
    assert [len(m.variables), len(m.trainable_variables), len(m.submodules)] == [7, 4, 3]
    assert m.variables[0] is m.bias and m.submodules[1] is m.parts[1]["a"]
    assert m.name == "outer_model" and Inner("x").name == "x" and m.make().name == "outer_model/made:0"
    with pytest.raises(ValueError, match="identifier"):
        Inner("1 x")
    other = copy.deepcopy(m)
    other.bias.assign([5.0])
    assert m.bias.numpy().tolist() == [2.0] and len(other.variables) == 7
