"""`jitensor doctor`: what this machine offers, and whether a kernel can be compiled and run on it."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

import jitensor
from jitensor import settings
from jitensor.cli.cache import describe
from jitensor.runtime import blas, compiler, disk, fingerprint, memory, threads

REQUIRED = ("numpy", "numba", "llvmlite")
OPTIONAL = ("scipy", "numba-cuda", "matplotlib", "scikit-learn")
TELLING_FEATURES = (
    "sse4.2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512vl",
    "avx512bf16",
    "amx-tile",
    "neon",
    "sve",
)
Row = tuple[str, str]

PROBE = """
define i64 @jitensor_doctor(ptr %buffers, ptr %ints, ptr %scalars, i64 %begin, i64 %end) {
  %sum = add i64 %begin, %end
  ret i64 %sum
}
"""


def main(argv: Sequence[str]) -> int:
    """Print the report. Returns the exit status: 1 when a kernel cannot be compiled."""
    parser = argparse.ArgumentParser(prog="jitensor doctor", description=__doc__)
    parser.parse_args(argv)
    compiles, verdict = probe()
    for title, rows in (
        ("versions", list(versions())),
        ("cpu", list(cpu())),
        ("gpu", list(gpu())),
        ("cache", list(describe(disk.configured()).items())),
        ("settings", list(changed_settings())),
        ("kernel", [("test", verdict)]),
    ):
        print(title)
        for name, value in rows:
            print(f"  {name:<13} {value}")
    return 0 if compiles else 1


def versions() -> Iterator[Row]:
    """Yield the versions of Python, jitensor and what it uses."""
    import llvmlite.binding as llvm

    yield "jitensor", jitensor.__version__
    yield "python", f"{platform.python_version()} ({sys.implementation.name}), {platform.platform()}"
    for name in REQUIRED:
        yield name, _installed(name) or "missing: python -m pip install " + name
    yield "llvm", ".".join(map(str, llvm.llvm_version_info))
    for name in OPTIONAL:
        yield name, _installed(name) or "not installed"


def cpu() -> Iterator[Row]:
    """Yield the CPU's name and features, the threads that kernels may use, and the BLAS library."""
    import llvmlite.binding as llvm

    features = set(fingerprint.cpu_features().split(","))
    yield "name", llvm.get_host_cpu_name()
    yield "features", " ".join(name for name in TELLING_FEATURES if "+" + name in features) or "unknown"
    yield "cores", f"{_usable_cores()} usable of {os.cpu_count()}"
    asked = "" if settings.active().num_threads else " (JITENSOR_NUM_THREADS is not set)"
    yield "threads", f"{threads.get_num_threads()}{asked}"
    store = f"at most {memory.limit() >> 20} MiB" if memory.is_used() else "off"
    yield "memory kept", f"{store} for the next large results (JITENSOR_MEMORY_LIMIT)"
    yield "blas", blas.library_path() or "through np.matmul"


def gpu() -> Iterator[Row]:
    """Yield whether an NVIDIA GPU can be used, and which."""
    try:
        cuda = importlib.import_module("numba.cuda")
        if not cuda.is_available():
            yield "available", "no: no NVIDIA driver or device was found"
            return
        device = cuda.get_current_device()
    except ImportError as error:
        yield "available", f"no: {error}"
        return
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    yield "available", f"yes: {name}, compute capability {'.'.join(map(str, device.compute_capability))}"


def changed_settings() -> Iterator[Row]:
    """Yield the call path, and the settings that differ from their defaults."""
    current, default = settings.active(), settings.Settings()
    yield "entry", current.entry
    yield "backend", current.backend
    for name in settings.TABLE:
        value = getattr(current, name)
        if name not in ("entry", "backend") and value != getattr(default, name):
            shown = ",".join(sorted(value)) if isinstance(value, frozenset) else value
            yield settings.PREFIX + name.upper(), str(shown)


def probe() -> tuple[bool, str]:
    """Return whether a small kernel compiled and ran, outside caches and counters, and the sentence that says so."""
    start = time.perf_counter()
    try:
        compiled = compiler.compile_llvm(PROBE, "jitensor_doctor", "jitensor_doctor")
    except (ImportError, RuntimeError) as error:
        return False, f"failed: {error}"
    seconds = time.perf_counter() - start
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)(compiled.address)
    if kernel(None, None, None, 2, 40) != 42:
        return False, "failed: the kernel ran and gave a wrong result"
    return True, f"compiled and ran in {seconds * 1e3:.0f} ms (Numba's import included), NumPy {np.__version__}"


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
