"""errors.py: classes, the message format, the user's line."""

import pickle

import pytest

from jitensor import errors

BUILT_IN = {
    errors.ShapeError: ValueError,
    errors.DTypeError: TypeError,
    errors.TraceError: TypeError,
    errors.CompileError: RuntimeError,
    errors.DeviceError: RuntimeError,
    errors.ExportError: ValueError,
    errors.SettingError: ValueError,
    errors.OperatorNotAllowedInGraphError: TypeError,
    errors.OutOfRangeError: IndexError,
    errors.UnimplementedError: NotImplementedError,
    errors.FailedPreconditionError: RuntimeError,
    errors.NotFoundError: LookupError,
    errors.ResourceExhaustedError: MemoryError,
}


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_each_error_is_also_the_matching_built_in(cls):
    with pytest.raises(BUILT_IN[cls]):
        raise cls("x")
    assert issubclass(cls, errors.JitensorError)


def test_every_class_is_constructed_with_a_message_alone():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.JitensorError)]
    assert len(classes) > 20
    for cls in classes:
        assert str(cls("what happened")) == "what happened"


def test_invalid_argument_is_type_error_and_value_error():
    assert issubclass(errors.InvalidArgumentError, TypeError)
    assert issubclass(errors.InvalidArgumentError, ValueError)


def test_message_names_op_what_came_what_was_needed_and_the_line():
    error = errors.ShapeError.of(
        "matmul",
        "x is f32[64, 3] and y is f32[4, 10]",
        "x.shape[-1] must equal y.shape[-2]",
        location=errors.Location("/home/me/model.py", 21, "f"),
    )
    assert str(error) == (
        "matmul: x is f32[64, 3] and y is f32[4, 10]; x.shape[-1] must equal y.shape[-2].      model.py:21"
    )


def test_the_cure_follows_as_a_sentence():
    assert errors.describe("add", "x is i32[3]", "", "Cast one of them") == "add: x is i32[3]. Cast one of them."


def test_location_is_the_line_that_raised():
    error = errors.DTypeError.of("add", "x is str", "an array is needed")
    assert error.location is not None
    assert error.location.file == __file__
    assert error.location.function == "test_location_is_the_line_that_raised"
    assert f"test_errors.py:{error.location.line}" in str(error)


def test_location_skips_jitensor_numpy_and_generated_code():
    names = {"user_location": errors.user_location}
    for file in (errors.__file__, "<jitensor kernel k>", "<__array_function__ internals>"):
        exec(compile("def where(): return user_location()", file, "exec"), names)
        assert names["where"]().file == __file__
    exec(compile("def where(): return user_location()", "/home/me/model.py", "exec"), names)
    assert names["where"]() == errors.Location("/home/me/model.py", 1, "where")


def test_errors_survive_pickling():
    error = errors.ShapeError("no", location=errors.Location("a.py", 3, "f"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.location) == (type(error), str(error), error.location)
