"""Exceptions, their one message format, and the user's line.

Owns every exception class that jitensor raises and `Location`, the user's file and line. Must not know anything else of
jitensor. A message names the op, what came, what was needed and the cure:

    ShapeError: matmul: x is f32[64, 3] and y is f32[4, 10]; x.shape[-1] must equal y.shape[-2].      model.py:21
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import NamedTuple, Self

LOCATION_GAP = "      "


class Location(NamedTuple):
    """A line of the user's code. `str()` gives `model.py:21`."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}" if self.file else "unknown location"


UNKNOWN_LOCATION = Location("", 0, "")


class JitensorError(Exception):
    """Base of every exception of jitensor.

    Raise with a finished message, or through `of`, which puts the parts into the common format. `location` is the
    user's line where it is known, else None.
    """

    def __init__(self, message: str = "", *, location: Location | None = None) -> None:
        self.message = message
        self.location = location
        super().__init__(message if location is None else f"{message}{LOCATION_GAP}{location}")

    @classmethod
    def of(cls, op: str, came: str, needed: str, cure: str = "", *, location: Location | None = None) -> Self:
        """Return the error `op: came; needed. cure` with the user's line, which is looked up unless given.

        came: what was passed, in the notation of types (`x is f32[3]`). needed: the rule that it broke. cure: what to
        write instead; empty when `needed` already says it.
        """
        return cls(describe(op, came, needed, cure), location=user_location() if location is None else location)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.location))


def _rebuild(cls: type[JitensorError], message: str, location: Location | None) -> JitensorError:
    return cls(message, location=location)


def describe(op: str, came: str, needed: str, cure: str = "") -> str:
    """Return the one message format: `op: came; needed. cure`."""
    message = f"{op}: {came}; {needed}" if needed else f"{op}: {came}"
    message = _sentence(message)
    return f"{message} {_sentence(cure)}" if cure else message


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "`")) else text + "."


class SettingError(JitensorError, ValueError):
    """A JITENSOR_* variable or a setting holds a value that it cannot have."""


class ShapeError(JitensorError, ValueError):
    """Shapes or axes do not fit the op."""


class DTypeError(JitensorError, TypeError):
    """dtypes do not fit the op."""


class TraceError(JitensorError, TypeError):
    """Tracing met something that it cannot record: a value needed early, a leaked tracer, an unsupported function."""


class CompileError(JitensorError, RuntimeError):
    """A kernel could not be made into machine code."""


class DeviceError(JitensorError, RuntimeError):
    """A device is missing, or cannot do what was asked."""


class ExportError(JitensorError, ValueError):
    """A function cannot be saved or exported in the form asked for."""


class OperatorNotAllowedInGraphError(TraceError):
    """Python asked a traced tensor for its value: `if`, `for`, `bool()`, `int()` (TensorFlow's name)."""


# TensorFlow's names, as `jt.errors.*`. Each is also the built-in that Python code would expect.
class OpError(JitensorError):
    """Base of the errors under TensorFlow's names."""


class InvalidArgumentError(OpError, TypeError, ValueError):
    """An argument has the wrong type, shape or value; both a TypeError and a ValueError."""


class OutOfRangeError(OpError, IndexError):
    """An index or an iterator went past its end."""


class NotFoundError(OpError, LookupError):
    """Something asked for by name does not exist."""


class AlreadyExistsError(OpError, ValueError):
    """Something with this name exists already."""


class FailedPreconditionError(OpError, RuntimeError):
    """The object is not in a state that allows this, such as an uninitialised Variable."""


class UnimplementedError(OpError, NotImplementedError):
    """jitensor does not have this feature."""


class ResourceExhaustedError(OpError, MemoryError):
    """Memory ran out."""


class InternalError(OpError, RuntimeError):
    """A fault of jitensor's own."""


class CancelledError(OpError, RuntimeError):
    """The operation was cancelled."""


class AbortedError(OpError, RuntimeError):
    """The operation was aborted."""


class DataLossError(OpError, RuntimeError):
    """Stored data cannot be read back."""


class PermissionDeniedError(OpError, RuntimeError):
    """The caller may not do this."""


class UnavailableError(OpError, RuntimeError):
    """A resource cannot be reached now."""


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_internal_files: dict[str, bool] = {}


def user_location() -> Location:
    """Return the nearest line of the calling stack that is neither jitensor's nor NumPy's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        internal = _internal_files.get(file)
        if internal is None:
            internal = _internal_files[file] = is_internal(file)
        if not internal:
            return Location(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return UNKNOWN_LOCATION


def is_internal(file: str) -> bool:
    """True when `file` belongs to jitensor, is generated by it, or belongs to NumPy, whose Python layers call back."""
    numpy = sys.modules.get("numpy")
    numpy_file = numpy.__file__ if numpy is not None else None
    numpy_package = (os.path.dirname(numpy_file) + os.sep,) if numpy_file else ()
    return file.startswith((_PACKAGE, "<jitensor", "<__array_function__", *numpy_package))
