"""What, besides its text, decides a kernel's machine code.

Owns the list: jitensor's version and the source of its writers, llvmlite, LLVM, Numba and its settings, the platform,
the CPU and its features, and the settings marked `in_key`. Must not import Numba, which costs 200 ms and which a
warm start does not need. Nothing here is bumped by hand.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator

from jitensor import settings

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WRITERS = ("codegen", "scalar", "ops", "runtime/compiler.py", "runtime/njit.py", "runtime/fingerprint.py")
NUMBA_VARIABLES = (
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
    "NUMBA_OPT",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_SLP_VECTORIZE",
    "NUMBA_ENABLE_AVX",
    "NUMBA_DISABLE_INTEL_SVML",
    "NUMBA_BOUNDSCHECK",
    "NUMBA_DEBUGINFO",
)


def kernel_key(text: str, kind: str) -> str:
    """Return the hex key of a kernel: sha256 of its text, the kind of text (`llvm`, `njit`) and the fingerprint."""
    return hashlib.sha256(f"{kind}\n{fingerprint()}\n{text}".encode()).hexdigest()


def fingerprint() -> str:
    """Return the fingerprint as one line of readable text."""
    return f"{_fixed_part()}; {settings.active().key()}"


@functools.cache
def _fixed_part() -> str:
    import llvmlite
    import llvmlite.binding as llvm

    numba_settings = " ".join(f"{name}={os.environ[name]}" for name in NUMBA_VARIABLES if name in os.environ)
    parts = (
        f"writers {writers_hash()[:16]}",
        f"llvmlite {llvmlite.__version__}",
        "llvm " + ".".join(map(str, llvm.llvm_version_info)),
        f"numba {numba_version()}",
        f"python {sys.version_info.major}.{sys.version_info.minor}",
        llvm.get_process_triple(),
        f"cpu {llvm.get_host_cpu_name()}",
        f"features {hashlib.sha256(cpu_features().encode()).hexdigest()[:16]}",
        numba_settings,
    )
    return "; ".join(part for part in parts if part)


def cpu_features() -> str:
    """Return LLVM's feature string of this CPU (`+avx2,-avx512f,...`), empty where LLVM cannot tell."""
    import llvmlite.binding as llvm

    try:
        return llvm.get_host_cpu_features().flatten()
    except RuntimeError:
        return ""


@functools.cache
def writers_hash() -> str:
    """Return the sha256 of the source of everything that turns a kernel into code."""
    digest = hashlib.sha256()
    for name in sorted(name for root in WRITERS for name in _sources(root)):
        with open(os.path.join(PACKAGE, name), "rb") as file:
            digest.update(f"\n# {name}\n".encode())
            digest.update(file.read())
    return digest.hexdigest()


def _sources(root: str) -> Iterator[str]:
    """Yield the Python files of `root`, a file or folder below the package."""
    if root.endswith(".py"):
        yield root
    for folder, _, files in os.walk(os.path.join(PACKAGE, root)):
        for file in files:
            if file.endswith(".py"):
                yield os.path.relpath(os.path.join(folder, file), PACKAGE)


@functools.cache
def numba_version() -> str:
    """Return Numba's version without importing it: from its version file, or the text `unknown`."""
    imported = sys.modules.get("numba")
    if imported is not None:
        return str(imported.__version__)
    found = importlib.util.find_spec("numba")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = os.path.join(folder, "_version.py")
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                version = re.search(r"""["']?version["']?\s*[:=]\s*["']([^"']+)["']""", file.read())
            if version:
                return version[1]
    return "unknown"
