"""The threads that kernels run on: how many, the pool's memory, its driver.

Owns the pool of this process and `run_kernel`, the driver's Python face. The workers are native threads that the driver
itself starts at the first launch worth it (`codegen.emit_pool`): they sleep on a semaphore, never touch Python, and are
gone in a forked child, which starts its own. Must not know programs.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import threading
from typing import Any

from jitensor import settings
from jitensor.codegen.emit_pool import (
    CREATED,
    CREDIT,
    HELPED_CHUNKS,
    OWED,
    POOL_WORDS,
    RUN,
    SHARED_LAUNCHES,
    THREADS,
    emit_pool,
)
from jitensor.runtime.compiler import Code, uncounted_code

_DRIVER = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 6, ctypes.c_int64)

_lock = threading.Lock()


def _zeroed(words: int) -> ctypes.Array[ctypes.c_int64]:
    """Zeroed words on a cache line of their own, which stay for good: native threads may read them to the very end."""
    memory = (ctypes.c_int64 * (words + 8))()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    return (ctypes.c_int64 * words).from_address((ctypes.addressof(memory) + 63) & ~63)


_pool = _zeroed(POOL_WORDS)
POOL = ctypes.addressof(_pool)


@functools.cache
def _code() -> Code:
    symbol = "jitensor_run"
    code = uncounted_code(emit_pool(symbol, platform.machine(), threads=sys.platform == "linux"), symbol)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
    return code


@functools.cache
def driver() -> Any:
    """The driver as a ctypes function, which runs without the GIL; from now on native entries find it in the pool."""
    with _lock:
        _pool[RUN] = _code().address
    return _DRIVER(_pool[RUN])


def get_num_threads() -> int:
    """Return how many threads one kernel may use: what the settings ask for, else the cores that this process may."""
    return settings.active().num_threads or _default()


def set_num_threads(count: int) -> None:
    """Let one kernel use `count` threads of this process from now on, its caller among them; 0: the default again."""
    settings.configure(num_threads=count)


@functools.cache
def _default() -> int:
    """OMP_NUM_THREADS where a parent process set it (joblib, dask and batch systems do), at most the cores that this
    process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(int(given), usable) if given.isdigit() and int(given) > 0 else usable


def stats() -> dict[str, int]:
    """Return counts of this process: worker threads, launches that were shared with them, chunks that they ran."""
    return {"workers": _pool[CREATED], "shared_launches": _pool[SHARED_LAUNCHES], "helped_chunks": _pool[HELPED_CHUNKS]}


def _update() -> None:
    """Native entries take the process's settings; while an override is in force, calls take the Python path."""
    _pool[THREADS] = settings.of_process().num_threads or _default()
    _pool[OWED] = -CREDIT


def _after_fork() -> None:
    """A child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    run, count = _pool[RUN], _pool[THREADS]
    ctypes.memset(POOL, 0, ctypes.sizeof(_pool))
    _pool[RUN], _pool[THREADS], _pool[OWED] = run, count, -CREDIT


settings.watch(_update)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
