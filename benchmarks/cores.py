"""The rows about threads and memory, measured in one process that may use every core.

`python -m benchmarks.cores [divisor rounds]` prints the figures as JSON; `rows` runs that and makes rows of them.
Medians of alternating rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import numpy as np

from benchmarks.table import Check, Row, at_least, at_most, duration
from jitensor.cli.demo import contracts, ocean

Calls = Mapping[str, Callable[[], Any]]

# Name, function, elements, dtype, target of two threads over one (None: told, not asked).
SCALING = (
    ("Black-Scholes f64 64k", "black_scholes", 1 << 16, np.float64, 1.8),
    ("Black-Scholes f64 1e6", "black_scholes", 10**6, np.float64, 1.8),
    ("Black-Scholes f32 256k", "black_scholes", 1 << 18, np.float32, 1.8),
    ("seawater f64 64k", "seawater", 1 << 16, np.float64, 1.8),
    ("seawater f64 1e6", "seawater", 10**6, np.float64, 1.8),
    ("softmax f32 1024x1024", "softmax", 1 << 20, np.float32, None),
    ("mean of squares f64 4e6", "squares", 4 * 10**6, np.float64, None),
    ("variance of columns f64 2000x2000", "columns", 4 * 10**6, np.float64, None),
)


def rows(divisor: int, rounds: int) -> Iterator[Row]:
    """Yield the rows."""
    command = [sys.executable, "-m", "benchmarks.cores", str(divisor), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        yield Row("threads and memory", {"jitensor": "failed"}, (Check("measured", "failed", None),), {"failures": {
            "jitensor": done.stderr}})  # fmt: skip
        return
    found = json.loads(done.stdout)
    for name, _, _, _, asked in SCALING:
        one, two = found["scaling"][name]
        check = (at_least(asked, "one thread", one / two),) if asked else ()
        yield _row(f"{name}, {found['threads']} threads", {"one": one, "two": two}, check)
    alone, shared = found["launch"]
    over = at_most(10, " us over serial", (shared - alone) * 1e6)
    yield _row("a launch of 60 us of work, shared", {"one": alone, "two": shared}, (over,))
    alone, shared = found["busy"]
    busy = at_most(1.1, "x serial", shared / alone)
    yield _row("1 ms of work, other cores busy", {"one": alone, "two": shared}, (busy,))
    for name, asked in (("dropped", 1.5), ("out", 1.0)):
        ours, numpy = found["add"][name]
        checks = [at_least(asked, "numpy", numpy / ours)]
        if name == "out":
            checks.append(at_least(0.9, "copy bandwidth", found["bandwidth"]["add"] / found["bandwidth"]["copy"]))
        yield Row(f"add of two 1e7 f64 arrays, {name}", {"jitensor": duration(ours), "numpy": duration(numpy)},
                  tuple(checks), found)  # fmt: skip
    for name in ("polynomial", "gelu"):
        ours, numpy = found["dropped"][name]
        yield Row(f"{name} f64 1e7, dropped", {"jitensor": duration(ours), "numpy": duration(numpy)},
                  (at_least(2.0, "numpy", numpy / ours),), found)  # fmt: skip


def _row(name: str, times: Mapping[str, float], checks: tuple[Check, ...]) -> Row:
    text = f"{duration(times['two'])} (one thread {duration(times['one'])}, {times['one'] / times['two']:.2f}x)"
    return Row(name, {"jitensor": text}, checks, dict(times))


# Measuring ----------------------------------------------------------------------------------------------------


def alternate(calls: Calls, rounds: int) -> dict[str, float]:
    """The median seconds of each call, asked in turn."""
    for call in calls.values():
        for _ in range(4):  # traces, compiles, and installs the native entry
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: median(found) for name, found in times.items()}


def one_and_all(call: Callable[[], Any], rounds: int) -> list[float]:
    """The median seconds of a call on one thread and on all, in alternating batches of ten calls."""
    import jitensor as jt

    times: dict[int, list[float]] = {1: [], 0: []}
    for _ in range(max(2, rounds // 10)):
        for count, found in times.items():
            jt.set_num_threads(count)
            call()
            found += [seconds(call) for _ in range(10)]
    return [median(times[1]), median(times[0])]


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def arguments(function: str, n: int, dtype: Any) -> tuple[Any, ...]:
    random = np.random.default_rng(7)
    if function == "black_scholes":
        return (*(v.astype(dtype) for v in contracts(n)), 0.03, 0.25)
    if function == "seawater":
        return ocean(n)
    if function == "squares":
        return (random.normal(size=n),)
    side = int(n**0.5)
    return (random.normal(size=(side, side)).astype(dtype),)


def measure(divisor: int, rounds: int) -> dict[str, Any]:
    """Every figure, in seconds."""
    import jitensor as jt
    from benchmarks import functions

    made: dict[str, Callable[..., Any]] = {
        "squares": lambda x: np.mean(x * x),
        "columns": lambda x: np.var(x, axis=0),
    }
    found: dict[str, Any] = {"threads": jt.get_num_threads(), "scaling": {}, "add": {}, "dropped": {}}
    for name, function, n, dtype, _ in SCALING:
        values = arguments(function, n // divisor, dtype)
        f = jt.jit(made.get(function) or getattr(functions, function))
        found["scaling"][name] = one_and_all(lambda f=f, values=values: f(*values), rounds * 4)
    # About 60 us and 1 ms on one core.
    f = jt.jit(lambda x: np.exp(x) * np.exp(-x * x))
    short, long = (np.random.default_rng(1).normal(size=n // divisor) for n in (60_000, 1_000_000))
    found["launch"] = one_and_all(lambda: f(short), rounds * 20)
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 2) - 1)]
    try:
        time.sleep(0.2)
        found["busy"] = one_and_all(lambda: f(long), rounds * 8)
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
    memory_figures(found, 10**7 // divisor, rounds)
    return found


def memory_figures(found: dict[str, Any], n: int, rounds: int) -> None:
    import jitensor as jt
    from benchmarks import functions

    jt.set_num_threads(0)
    random = np.random.default_rng(2)
    x, y, z = random.normal(size=(3, n))
    add = jt.jit(lambda x, y: x + y)

    def polynomial(x: Any) -> Any:
        return ((((0.1 * x + 0.2) * x + 0.3) * x + 0.4) * x + 0.5) * x + 0.6

    calls = {"ours": lambda: add(x, y), "numpy": lambda: np.add(x, y)}
    found["add"]["dropped"] = list(alternate(calls, rounds).values())
    calls = {
        "ours": lambda: add(x, y, out=z), "numpy": lambda: np.add(x, y, out=z), "copy": lambda: np.copyto(z, x),
    }  # fmt: skip
    times = alternate(calls, rounds)
    found["add"]["out"] = [times["ours"], times["numpy"]]
    found["bandwidth"] = {"add": 24 * n / times["ours"], "copy": 16 * n / times["copy"]}
    for name, function in (("polynomial", polynomial), ("gelu", functions.gelu)):
        f = jt.jit(function)
        calls = {"ours": lambda f=f: f(x), "numpy": lambda g=function: g(x)}
        found["dropped"][name] = list(alternate(calls, max(3, rounds // 3)).values())


if __name__ == "__main__":
    print(json.dumps(measure(*(int(a) for a in sys.argv[1:] or (1, 15)))))
