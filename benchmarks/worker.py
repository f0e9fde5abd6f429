"""One process for one peer: it reads a command per line on stdin, a JSON object, and answers each with one on stdout.

    {"do": "prepare", "case": "gelu f64 1e6", "size": 1000000}   → {"difference": 1e-16, "first_seconds": 0.04}
    {"do": "time", "calls": 20}                                  → {"seconds": 0.0011}

Commands that fail answer {"error": "..."}. Owns what runs inside a peer's process. Must not know rounds, other peers or
the table.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from benchmarks import dags, functions
from benchmarks.cases import CASES
from benchmarks.peers import PEERS, Missing, difference, jax_module, version

BY_NAME = {case.name: case for case in CASES}
Answer = dict[str, Any]


class Worker:
    """The commands, and the call that is ready to be timed."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.call: Callable[[], Any] = lambda: None

    def version(self) -> Answer:
        """Import the peer, and answer its version."""
        if version(self.peer) is None:
            raise Missing(f"{self.peer} is not installed")
        importlib.import_module("jitensor" if self.peer == "njit" else self.peer)
        return {"version": version(self.peer)}

    def prepare(self, case: str, size: int) -> Answer:
        """Make the case's call, run it once and check it against NumPy."""
        arguments = BY_NAME[case].arguments(size)
        expected = getattr(functions, BY_NAME[case].function)(*arguments)
        start = time.perf_counter()
        self.call = PEERS[self.peer](BY_NAME[case], arguments)
        output = self.call()
        return {"first_seconds": time.perf_counter() - start, "difference": difference(output, expected)}

    def time(self, calls: int) -> Answer:
        """Answer the mean seconds of this many calls; results are dropped, as in a loop of a user's."""
        call = self.call
        gc.disable()
        try:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            return {"seconds": (time.perf_counter() - start) / calls}
        finally:
            gc.enable()

    def sum_error(self, case: str, size: int, draws: int) -> Answer:
        """Answer the worst relative error over the draws, against extended precision."""
        chosen = BY_NAME[case]
        worst = 0.0
        for seed in range(draws):
            random = np.random.default_rng(seed)
            # Half of the draws are uniform, half spread over many magnitudes; all positive, which keeps the sum itself
            # well-conditioned.
            spread = 0.0 if seed % 2 else 3.0
            scale = np.exp(spread * random.normal(size=(len(chosen.arguments(2)), size)))
            arrays = tuple(scale * random.uniform(size=scale.shape))
            output, right = float(np.asarray(PEERS[self.peer](chosen, arrays)())), exact(chosen.function, arrays)
            worst = max(worst, abs(output - right) / right)
        return {"worst_relative_error": worst}

    def compile(self, operations: int, seed: int) -> Answer:
        """Answer the seconds of a first call on eight elements: tracing, compiling, and nearly no running."""
        arguments = tuple(np.full(8, value) for value in (0.3, 0.4, 0.5))
        if self.peer == "jax":
            jax = jax_module()
            function = jax.jit(dags.function(operations, seed, np=jax.numpy))
            return {"seconds": timed(lambda: jax.block_until_ready(function(*arguments))), "compiled": 1}
        import numba  # noqa: F401  cold means: Numba imported

        import jitensor as jt

        compiled = jt.jit(dags.function(operations, seed, np=np))
        before = jt.counters()
        took = timed(lambda: compiled(*arguments))
        return {"seconds": took, "compiled": (jt.counters() - before).kernels_compiled}

    def new_shapes(self, door: str, shapes: int) -> Answer:
        """Answer the median seconds of a call with a new size, of a hit, and what was traced and compiled meanwhile."""
        import jitensor as jt

        function = getattr(jt, door)(functions.seawater)
        every = BY_NAME["seawater f64 1e5"].arguments(100 + shapes)
        function(*(values[:99] for values in every))
        function(*(values[:99] for values in every))
        new, hits = [], []
        before = jt.counters()
        for size in range(100, 100 + shapes):
            arguments = tuple(values[:size] for values in every)
            new.append(timed(functools.partial(function, *arguments)))
            hits.append(timed(functools.partial(function, *arguments)))
        made = jt.counters() - before
        return {
            "new_seconds": statistics.median(new),
            "hit_seconds": statistics.median(hits),
            "traces": made.traces,
            "kernels_compiled": made.kernels_compiled,
        }


def exact(function: str, arrays: tuple[np.ndarray[Any, Any], ...]) -> float:
    """Return the sum, or the mean squared difference, rounded once."""
    if function == "total":
        return math.fsum(arrays[0])
    apart = arrays[0].astype(np.longdouble) - arrays[1]
    return float(np.mean(apart * apart))


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def serve(peer: str, commands: TextIO, answers: TextIO) -> None:
    """Answer commands until there are no more."""
    worker = Worker(peer)
    for line in commands:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Missing as missing:
            answer = {"error": str(missing), "missing": True}
        except Exception as error:  # a peer's failure is a result of the table, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # Peers print what they like on descriptor 1; answers keep the pipe to themselves.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, pipe)
