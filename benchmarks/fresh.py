"""The rows that need a new Python process each time: imports, first kernels, cold and warm starts.

Must not know workers or the table's form.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import dags
from benchmarks.runner import PeerError, fresh_process, median
from benchmarks.table import Row, at_most, duration

IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""
ARGUMENTS = "x, y, z = np.full(1000, 0.3), np.full(1000, 0.4), np.full(1000, 0.5)"
JITENSOR = f"""
{{first}}
import time
import numpy as np
import jitensor as jt
{{source}}
f = jt.jit(f)
{ARGUMENTS}
start = time.perf_counter()
f(x, y, z)
print(time.perf_counter() - start)
"""
JAX = f"""
import numpy
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as np
{{source}}
f = jax.jit(f)
{ARGUMENTS}
numpy.asarray(f(x, y, z))
print(0)
"""
Run = Callable[[], float]


def rows(repeats: int, peers: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows, with the peers asked for."""
    with_jax = "jax" in peers
    yield import_row(repeats)
    yield from first_kernel_rows(repeats)
    with tempfile.TemporaryDirectory(prefix="jitensor-benchmarks-") as folder:
        cold, warm = cold_runs(Path(folder), with_jax), warm_runs(Path(folder), with_jax)
        yield start_row("fresh process to first result, cold", repeats, 0.6, cold)
        yield start_row("fresh process to first result, warm disk cache", repeats, 0.5, warm)


def import_row(repeats: int) -> Row:
    """Return what `import jitensor` takes beside `import numpy`."""
    found = alternate({name: inside(IMPORT.format(module=name)) for name in ("jitensor", "numpy")}, repeats)
    share = found["jitensor"] / found["numpy"] if len(found) == 2 else None
    return Row("import", cells(found), (at_most(1.5, "x import numpy", share),), {"seconds": found})


def first_kernel_rows(repeats: int) -> Iterator[Row]:
    """Yield the first kernel of a process: with Numba imported before, and with its import inside."""
    text = dags.source(5, 1)
    for name, first, most in (("imported", "import numba", 60.0), ("import included", "", 350.0)):
        found = alternate({"jitensor": inside(JITENSOR.format(first=first, source=text))}, repeats)
        took = found.get("jitensor")
        check = at_most(most, " ms", took * 1e3 if took else None)
        yield Row(f"first kernel of a process, Numba {name}", cells(found), (check,), {"seconds": found})


def cold_runs(folder: Path, with_jax: bool) -> dict[str, Run]:
    """Return the whole life of a process that computes one result of 50 operations, with empty caches."""
    text = dags.source(50, 1)
    numbered = iter(range(1_000_000))

    def ours() -> float:
        empty = {"JITENSOR_CACHE": "on", "JITENSOR_CACHE_DIR": str(folder / f"cold-{next(numbered)}")}
        return fresh_process(JITENSOR.format(first="", source=text), "jitensor", empty)[0]

    runs: dict[str, Run] = {"jitensor": ours}
    if with_jax:
        runs["jax"] = lambda: fresh_process(JAX.format(source=text), "jax", {})[0]
    return runs


def warm_runs(folder: Path, with_jax: bool) -> dict[str, Run]:
    """Return the same with disk caches that the first run, which is not counted, has filled."""
    text = dags.source(50, 1)
    own = {"JITENSOR_CACHE": "on", "JITENSOR_CACHE_DIR": str(folder / "warm")}
    jax = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    runs: dict[str, Run] = {
        "jitensor": lambda: fresh_process(JITENSOR.format(first="", source=text), "jitensor", own)[0]
    }
    if with_jax:
        runs["jax"] = lambda: fresh_process(JAX.format(source=text), "jax", jax)[0]
    return runs


def start_row(name: str, repeats: int, most: float, runs: Mapping[str, Run]) -> Row:
    """Return the row of whole processes, ours against JAX's."""
    found = alternate(runs, repeats)
    share = found["jitensor"] / found["jax"] if len(found) == 2 else None
    return Row(name, cells(found), (at_most(most, "x JAX", share),), {"seconds": found})


def inside(script: str) -> Run:
    """Return the run whose seconds are what the script prints."""
    return lambda: float(fresh_process(script, "jitensor", {})[1])


def alternate(runs: Mapping[str, Run], repeats: int) -> dict[str, float]:
    """Return the medians; one run of each comes first and is not counted. A run that fails is left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    failed = set()
    for turn in range(repeats + 1):
        for name, run in runs.items():
            if name in failed:
                continue
            try:
                took = run()
            except PeerError as error:
                failed.add(name)
                print(f"    {name} failed: {error}", file=sys.stderr)
                continue
            if turn:
                times[name].append(took)
    return {name: median(values) for name, values in times.items() if values and name not in failed}


def cells(found: Mapping[str, float]) -> dict[str, str]:
    """Return the times for people."""
    return {name: duration(seconds) for name, seconds in found.items()}
