"""The table of JITENSOR_* settings: each a typed field with its default, its meaning and its part in the kernel key.

Owns reading the environment and overriding. Must not know who uses a setting. `active()` is the one way to read:

    settings.active().backend                     # "llvm"
    with settings.override(backend="njit"): ...   # this thread and the tasks it starts
    settings.configure(num_threads=1)             # the whole process
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from jitensor.errors import SettingError

PREFIX = "JITENSOR_"
STAGES = ("retrace", "trace", "passes", "kernels", "source", "llvm", "compile", "run")

Parse = Callable[[Any], Any]


def switch(value: Any) -> bool:
    """Return True for on, 1, true, yes and False for off, 0, false, no."""
    text = str(value).strip().lower()
    if text in ("1", "on", "true", "yes"):
        return True
    if text in ("0", "off", "false", "no", ""):
        return False
    raise ValueError("on or off")


def one_of(*choices: str) -> Parse:
    """Return the parser of a word out of `choices`."""

    def parse(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return word

    return parse


def count(value: Any) -> int:
    """Return a non-negative int."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ValueError("a non-negative integer")
    return number


UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size(value: Any) -> int:
    """Return a number of bytes: `1000000`, `64M`, `2G`, `512MiB`."""
    text = str(value).strip().upper().removesuffix("IB").removesuffix("B")
    unit = text[-1:] if text[-1:] in UNITS else ""
    try:
        return count(text.removesuffix(unit)) * UNITS[unit]
    except ValueError:
        raise ValueError("a number of bytes such as 268435456, 256M or 2G") from None


def size_or_default(value: Any) -> int | None:
    """Return a number of bytes; None for `default`, the empty text or None."""
    return None if value is None or str(value).strip().lower() in ("", "default") else size(value)


def directory(value: Any) -> str | None:
    """Return a path with `~` expanded; the empty text is None."""
    text = os.fspath(value) if value is not None else ""
    return os.path.abspath(os.path.expanduser(text)) if text else None


def stages(value: Any) -> frozenset[str]:
    """Return a set of stage names, given with commas or spaces or as a collection; `all` is every one."""
    words = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    names = frozenset(word.lower() for word in words)
    if "all" in names:
        return frozenset(STAGES)
    if not names <= set(STAGES):
        raise ValueError("some of " + ", ".join(STAGES) + ", or all")
    return names


def _setting(default: Any, parse: Parse, doc: str, *, in_key: bool = False) -> Any:
    return field(default=default, metadata={"parse": parse, "doc": doc, "in_key": in_key})


@dataclass(frozen=True, slots=True)
class Settings:
    """One consistent set of values. The environment variable of field `x` is `JITENSOR_X`."""

    backend: str = _setting("llvm", one_of("llvm", "njit"), "the writer of CPU kernels: llvm or njit", in_key=True)
    cache: bool = _setting(True, switch, "keep compiled kernels on disk: on or off")
    cache_dir: str | None = _setting(None, directory, "where the disk cache lives; default: the user's cache folder")
    cache_limit: int = _setting(512 * 2**20, size, "bytes the disk cache may hold; the least recently used go first")
    debug: frozenset[str] = _setting(frozenset(), stages, "stages to print: " + ", ".join(STAGES) + ", or all")
    disable_jit: bool = _setting(False, switch, "run graphs with the NumPy reference interpreter: on or off")
    dump: str | None = _setting(None, directory, "a folder that receives every text: graphs, kernels, source, assembly")
    entry: str = _setting(
        "native", one_of("native", "python"), "the call path of decorated functions: native or python"
    )
    memory_limit: int | None = _setting(
        None, size_or_default, "bytes of dropped results kept for the next ones; default: 256M or 1/16 of the memory"
    )
    num_threads: int = _setting(0, count, "threads for one kernel; 0: as many as the process may use")

    def key(self) -> str:
        """Return the text of the settings that change generated code; part of every kernel key."""
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.metadata["in_key"])


TABLE: Mapping[str, Field[Any]] = {f.name: f for f in fields(Settings)}

_process: Settings | None = None
_native_calls = (ctypes.c_int64 * 1)(0)
_watchers: list[Callable[[], None]] = []
_overrides = 0
_first_backend = ""
_overrides_lock = threading.Lock()
_context: ContextVar[Settings | None] = ContextVar("jitensor_settings", default=None)


def native_flag() -> int:
    """Return the address of a word that native entries read: 1 while they may run, 0 while a setting in force anywhere
    asks for the Python path (a dump, a debug stage, no JIT, another writer, an override)."""
    _update_native_flag()
    return ctypes.addressof(_native_calls)


def _update_native_flag() -> None:
    now = _process or reload()
    plain = now.entry == "native" and not now.disable_jit and not now.debug and now.dump is None
    # Entries hold kernels of the writer that the process began with.
    _native_calls[0] = int(plain and _overrides == 0 and now.backend == _first_backend)


def watch(changed: Callable[[], None]) -> None:
    """Call `changed` now and after every change of the process's settings."""
    _watchers.append(changed)
    changed()


def of_process() -> Settings:
    """Return the process's settings, whatever overrides are in force."""
    return _process or reload()


def active() -> Settings:
    """Return the settings in force here: the innermost override, else the process's."""
    return _context.get() or _process or reload()


def _changed() -> None:
    _update_native_flag()
    for changed in _watchers:
        changed()


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings that `environment` asks for. Raises SettingError for a bad value."""
    given = {name: environment[PREFIX + name.upper()] for name in TABLE if PREFIX + name.upper() in environment}
    return _with(Settings(), given)


def reload() -> Settings:
    """Read the environment again for the whole process, and return the new settings."""
    global _process, _first_backend
    _process = from_environment(os.environ)
    _first_backend = _first_backend or _process.backend
    _update_native_flag()
    return _process


def configure(**values: Any) -> Settings:
    """Change settings of the whole process, and return them. Overrides in force keep their own."""
    global _process
    _process = _with(_process or reload(), values)
    _changed()
    return _process


@contextmanager
def override(**values: Any) -> Iterator[Settings]:
    """Change settings inside a `with` block, in this thread or task only."""
    token = _context.set(_with(active(), values))
    hold_native_calls(1)
    try:
        yield active()
    finally:
        hold_native_calls(-1)
        _context.reset(token)


def hold_native_calls(change: int) -> None:
    """1: every decorated function goes through its Python path until -1 takes that back (a tape that must see calls, an
    override, eager mode). Holds add up."""
    global _overrides
    with _overrides_lock:
        _overrides += change
        _update_native_flag()


def _with(settings: Settings, values: Mapping[str, Any]) -> Settings:
    return replace(settings, **{name: _parse(name, value) for name, value in values.items()}) if values else settings


def _parse(name: str, value: Any) -> Any:
    if name not in TABLE:
        raise SettingError(f"settings: there is no setting `{name}`; there are {', '.join(TABLE)}.")
    try:
        return TABLE[name].metadata["parse"](value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{PREFIX}{name.upper()}: {value!r} was given; it must be {error}.") from None
