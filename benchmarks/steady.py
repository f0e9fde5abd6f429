"""The rows measured in worker processes: steady calls, errors of sums, compile times, new shapes.

Owns the order of measurements in the workers. Must not know the table's form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from benchmarks.cases import COMPILE_MS, COMPILE_SHARE_OF_JAX, WRITERS_RATIO, Case
from benchmarks.peers import Missing
from benchmarks.runner import PeerError, Process, interleave, median
from benchmarks.table import Check, Row, at_least, at_most, duration

OURS = "jitensor"


class Workers:
    """The worker processes of the peers that are installed, by peer."""

    def __init__(self, peers: Sequence[str], stack: ExitStack) -> None:
        self.versions: dict[str, str | None] = {}
        self.processes: dict[str, Process] = {}
        for peer in peers:
            process = stack.enter_context(Process(peer))
            try:
                self.versions[peer] = process.ask("version")["version"]
                self.processes[peer] = process
            except PeerError:
                self.versions[peer] = None


def measure_case(case: Case, workers: Workers, size: int, rounds: int) -> Row:
    """Return the row of one case: every peer is checked against NumPy, then timed in interleaved rounds."""
    cells, differences, failures, ready = {}, {}, {}, []
    for peer, process in workers.processes.items():
        try:
            differences[peer] = process.ask("prepare", case=case.name, size=size)["difference"]
        except PeerError as error:
            if not error.missing:
                cells[peer], failures[peer] = "failed", str(error)
            continue
        # Written so that nan counts as wrong.
        if differences[peer] <= case.tolerance:
            ready.append(process)
        else:
            cells[peer] = f"wrong by {differences[peer]:.1e}"
    times = {peer: median(values) for peer, values in interleave(ready, rounds).items()} if ready else {}
    ours = times.get(OURS)
    for peer, seconds in times.items():
        ratio = f" ({seconds / ours:.2f}x)" if ours and peer != OURS else ""
        cells[peer] = duration(seconds) + ratio
    raw = {"seconds": times, "difference": differences, "size": size, "failures": failures}
    return Row(case.name, cells, case_checks(case, times), raw)


def case_checks(case: Case, times: Mapping[str, float]) -> tuple[Check, ...]:
    """Return the targets of a steady row, checked."""
    ours = times.get(OURS)

    def over(peer: str) -> float | None:
        return times[peer] / ours if ours and peer in times else None

    writers = over("njit")
    checks = [at_least(asked, peer, over(peer)) for peer, asked in case.faster_than.items()]
    return (*checks, at_most(WRITERS_RATIO, "x by the njit writer", writers))


def measure_sum_error(case: Case, workers: Workers, size: int, draws: int) -> Row:
    """Return the row that compares the worst error of a sum with NumPy's."""
    worst: dict[str, float] = {}
    for peer in (OURS, "njit", "numpy", "jax"):
        if peer in workers.processes:
            try:
                answer = workers.processes[peer].ask("sum_error", case=case.name, size=size, draws=draws)
                worst[peer] = answer["worst_relative_error"]
            except PeerError:
                continue
    cells = {peer: f"{error / 2**-53:.2f} half-ulp" for peer, error in worst.items()}
    share = worst[OURS] / worst["numpy"] if {OURS, "numpy"} <= worst.keys() and worst["numpy"] else None
    return Row(
        f"{case.name}: worst error of {draws}", cells, (at_most(1.0, "x NumPy's error", share),), {"worst": worst}
    )


def compile_rows(workers: Workers, repeats: int) -> Iterator[Row]:
    """Yield the rows of compile times. Each repeat is another random function, the same for both peers."""
    peers = [peer for peer in (OURS, "njit", "jax") if peer in workers.processes]
    for peer in peers:  # what only the first compilation of a process pays has a row of its own
        for seed in (998, 999):
            try_compile(workers.processes[peer], 20, seed)
    for operations, most in COMPILE_MS.items():
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        for seed in range(repeats):
            first = seed % max(1, len(peers))
            for peer in (*peers[first:], *peers[:first]):
                times[peer] += try_compile(workers.processes[peer], operations, seed)
        medians = {peer: median(values) for peer, values in times.items() if values}
        ours = medians.get(OURS)
        checks = [at_most(most, " ms", ours * 1e3 if ours else None)]
        if operations in COMPILE_SHARE_OF_JAX:
            share = ours / medians["jax"] if ours and "jax" in medians else None
            checks.append(at_most(COMPILE_SHARE_OF_JAX[operations], "x JAX", share))
        cells = {peer: duration(seconds) for peer, seconds in medians.items()}
        yield Row(f"compile, {operations} operations", cells, tuple(checks), {"seconds": medians})


def try_compile(process: Process, operations: int, seed: int) -> list[float]:
    """Return the seconds as a list of one; of none where it failed, or where nothing was compiled in fact."""
    try:
        answer = process.ask("compile", operations=operations, seed=seed)
    except PeerError:
        return []
    return [answer["seconds"]] if answer["compiled"] else []


def new_shape_rows(workers: Workers, shapes: int) -> Iterator[Row]:
    """Yield what a new size of the seawater function costs under each door, with the counters."""
    for door, traces in (("jit", 0), ("function", shapes)):
        name = f"seawater with a new size, jt.{door}"
        try:
            if OURS not in workers.processes:
                raise Missing("jitensor does not start")
            found = workers.processes[OURS].ask("new_shapes", door=door, shapes=shapes)
        except (PeerError, Missing) as error:
            yield Row(name, {OURS: "failed"}, (Check("measured", "failed", None),), {"failures": {OURS: str(error)}})
            continue
        over = found["new_seconds"] - found["hit_seconds"]
        whole = at_most(3.0, " ms", found["new_seconds"] * 1e3)
        cost = at_most(20.0, " us over a hit", over * 1e6) if door == "jit" else whole
        counts = f"{found['traces']} traces, {found['kernels_compiled']} kernels compiled in {shapes} sizes"
        expected = found["traces"] == traces and found["kernels_compiled"] == 0
        check = Check(f"{traces} traces, 0 kernels compiled", counts, expected)
        cell = f"{duration(found['new_seconds'])} (hit {duration(found['hit_seconds'])}); {counts}"
        yield Row(name, {OURS: cell}, (cost, check), found)
