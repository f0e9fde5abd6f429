"""Exact counts of what was traced, compiled, launched and allocated.

Owns `tally`, which any thread increments without a lock (`tally.launches += 1`), and `counters()`, which sums over
threads. Must not know what is counted.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import NamedTuple


class Counters(NamedTuple):
    """A snapshot. `after - before` gives the counts of what lay between."""

    traces: int = 0
    kernels_compiled: int = 0
    kernels_loaded: int = 0
    kernels_reused: int = 0
    launches: int = 0
    library_calls: int = 0
    bytes_allocated: int = 0

    def __sub__(self, other: Counters) -> Counters:
        """Return the counts since `other`."""
        if not isinstance(other, Counters):
            return NotImplemented
        return Counters(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


class _Tally(threading.local):
    """Each thread's own counts, as attributes."""

    traces: int
    kernels_compiled: int
    kernels_loaded: int
    kernels_reused: int
    launches: int
    library_calls: int
    bytes_allocated: int

    def __init__(self) -> None:
        self.__dict__.update(Counters()._asdict())
        _enrol(self.__dict__)


class _Enrolment(NamedTuple):
    thread: weakref.ref[threading.Thread]
    counts: dict[str, int]

    def is_running(self) -> bool:
        thread = self.thread()
        return thread is not None and thread.is_alive()


_lock = threading.Lock()
_enrolled: list[_Enrolment] = []
_retired = Counters()


def _enrol(counts: dict[str, int]) -> None:
    with _lock:
        _retire_ended_threads()
        _enrolled.append(_Enrolment(weakref.ref(threading.current_thread()), counts))


def _retire_ended_threads() -> None:
    """Fold the counts of threads that ended, so that a server with many short threads does not collect them."""
    global _retired, _enrolled
    running = [entry.is_running() for entry in _enrolled]
    if all(running):
        return
    _retired = _sum([_retired, *(Counters(**e.counts) for e, runs in zip(_enrolled, running, strict=True) if not runs)])
    _enrolled = [e for e, runs in zip(_enrolled, running, strict=True) if runs]


def _sum(parts: list[Counters]) -> Counters:
    return Counters(*map(sum, zip(*parts, strict=True)))


tally = _Tally()


# What native entries count, holding the GIL: launches, bytes allocated, library calls.
native = (ctypes.c_int64 * 3)()


def counters() -> Counters:
    """Return the counts of this process so far, over all threads."""
    with _lock:
        compiled_calls = Counters(launches=native[0], bytes_allocated=native[1], library_calls=native[2])
        return _sum([_retired, compiled_calls, *(Counters(**e.counts) for e in _enrolled)])


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
