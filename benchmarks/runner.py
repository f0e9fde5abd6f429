"""Worker processes, one per peer, and interleaved rounds over them: who is first changes from round to round.

Owns processes and medians. Must not know what is timed or how it is shown.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.peers import environment

ROOT = Path(__file__).resolve().parent.parent
ROUND_SECONDS = 0.03
Answer = dict[str, Any]


class PeerError(Exception):
    """A peer could not do what was asked; `missing` is True where it is not installed or has no form of the case."""

    def __init__(self, message: str, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


def measuring_core() -> int:
    """Return the core that every measured process is pinned to: the last one that this process may use."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def pin() -> None:
    """Pin this process to the measuring core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {measuring_core()})


class Process(AbstractContextManager["Process"]):
    """A peer's worker process."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer],
            cwd=ROOT,
            env=environment(peer),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=pin,
        )

    def ask(self, do: str, **values: Any) -> Answer:
        """Return the answer to a command. Raises PeerError for a failure, or when the process died."""
        assert self._child.stdin and self._child.stdout
        try:
            print(json.dumps({"do": do, **values}), file=self._child.stdin, flush=True)
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.peer}: the process ended with status {self._child.wait()}")
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"], answer.get("missing", False))
        return answer

    def __exit__(self, *exception: object) -> None:
        assert self._child.stdin
        self._child.stdin.close()
        self._child.kill()
        self._child.wait()


def interleave(processes: Sequence[Process], rounds: int) -> Mapping[str, list[float]]:
    """Return each peer's seconds per call, one per round; each round asks every peer, in rotating order."""
    calls = {process.peer: calls_per_round(process) for process in processes}
    times: dict[str, list[float]] = {process.peer: [] for process in processes}
    for turn in range(rounds):
        first = turn % len(processes)
        for process in (*processes[first:], *processes[:first]):
            times[process.peer].append(process.ask("time", calls=calls[process.peer])["seconds"])
    return times


def calls_per_round(process: Process) -> int:
    """Return how many calls fill a round."""
    warm = min(process.ask("time", calls=1)["seconds"] for _ in range(2))
    return max(1, min(10_000, int(ROUND_SECONDS / warm)))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def fresh_process(script: str, peer: str, extra: Mapping[str, str], arguments: Sequence[str] = ()) -> tuple[float, str]:
    """Return the wall seconds of a fresh Python that runs the script, pinned, and what it printed.

    Raises PeerError with the last line of its complaint when it fails.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**environment(peer), **extra},
        capture_output=True,
        text=True,
        preexec_fn=pin,
    )
    took = time.perf_counter() - start
    if done.returncode:
        raise PeerError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
    return took, done.stdout.strip()
