"""Named events with timings: what the tracer, the passes and the compiler did, for whoever listens.

Owns the subscribers, printing for JITENSOR_DEBUG and files for JITENSOR_DUMP. Must not know who emits. An event's name
is a stage of `settings.STAGES` or a dotted name under one, such as `compile.load`. Emitters test first, so that nothing
is built when nobody listens:

    if events.wanted("compile"):
        events.emit("compile", symbol="k_3f9a", seconds=0.021)
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from jitensor import settings
from jitensor.errors import SettingError


class Event(NamedTuple):
    """Something that happened: its name, when (`time.perf_counter()` seconds), and its fields."""

    name: str
    time: float
    fields: Mapping[str, Any]

    @property
    def stage(self) -> str:
        """The stage that the event belongs to: its name up to the first dot."""
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"[{self.name}] " + " ".join(f"{name}={_brief(name, value)}" for name, value in self.fields.items())


def _brief(name: str, value: Any) -> str:
    if name.endswith("seconds"):
        return f"{value * 1e3:.3f}ms"
    text = str(value)
    return f"\n{text}\n" if "\n" in text else text


Subscriber = Callable[[Event], None]
_subscribers: tuple[Subscriber, ...] = ()


def wanted(name: str) -> bool:
    """True when someone listens to events of this name."""
    return bool(_subscribers) or name.partition(".")[0] in settings.active().debug


def emit(name: str, **fields: Any) -> None:
    """Tell the subscribers, and print when JITENSOR_DEBUG names the stage."""
    if not wanted(name):
        return
    event = Event(name, time.perf_counter(), fields)
    for subscriber in _subscribers:
        subscriber(event)
    if event.stage in settings.active().debug:
        print(event, file=sys.stderr, flush=True)


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber` with every event from now on, in the emitting thread. Returns the function that ends it."""
    global _subscribers
    _subscribers = (*_subscribers, subscriber)

    def unsubscribe() -> None:
        global _subscribers
        _subscribers = tuple(s for s in _subscribers if s is not subscriber)

    return unsubscribe


@contextmanager
def collect() -> Iterator[list[Event]]:
    """Gather the events of a `with` block, from all threads, into a list."""
    gathered: list[Event] = []
    unsubscribe = subscribe(gathered.append)
    try:
        yield gathered
    finally:
        unsubscribe()


@contextmanager
def timed(name: str, **fields: Any) -> Iterator[None]:
    """Emit the event with the `seconds` that the `with` block took, also when it raises."""
    if not wanted(name):
        yield
        return
    start = time.perf_counter()
    try:
        yield
    finally:
        emit(name, **fields, seconds=time.perf_counter() - start)


def dump(name: str, kind: str, text: str) -> None:
    """Write `text` to `<JITENSOR_DUMP>/<name>.<kind>`, when that setting names a folder."""
    folder = settings.active().dump
    if folder is None:
        return
    path = os.path.join(folder, f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.{kind}")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingError(f"JITENSOR_DUMP: {path!r} cannot be written ({error}); name a folder that can.") from None
