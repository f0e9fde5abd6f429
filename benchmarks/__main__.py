"""`python -m benchmarks`: jitensor against NumPy, JAX, torch.compile, Numba by hand and numexpr, all in one run.

One thread, but for the section `cores`: every other measured process is pinned to one core. Peers sit in processes of
their own and are asked in turn, the order rotating from round to round; medians count. Each result is compared with
NumPy's before it is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cores, fresh, table
from benchmarks.cases import CASES
from benchmarks.peers import PEERS
from benchmarks.steady import Workers, compile_rows, measure_case, measure_sum_error, new_shape_rows
from benchmarks.table import Row

SECTIONS = ("steady", "errors", "compile", "shapes", "fresh", "cores")


@dataclass(frozen=True)
class Effort:
    """How often things are repeated, and by what each case's size is divided."""

    rounds: int = 15
    repeats: int = 9
    draws: int = 100
    shapes: int = 50
    divisor: int = 1


QUICK = Effort(rounds=3, repeats=2, draws=5, shapes=5, divisor=16)


def main(argv: Sequence[str]) -> int:
    """Measure and print. Returns 1 when a target is missed."""
    options = parse(argv)
    effort = QUICK if options.quick else Effort()
    rows, versions = measure(options, effort)
    peers = list(options.peers)
    print()
    print(table.as_markdown(rows, peers) if options.markdown else table.as_text(rows, peers))
    print(f"\n{table.machine(versions)}")
    if options.quick:
        print("Quick: small sizes and few rounds. These figures say that everything runs, and nothing more.")
    if options.json:
        found = {"machine": table.machine(versions), "quick": options.quick, "rows": table.as_json(rows)}
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if any(row.met is False for row in rows) else 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"rows whose name or section ({', '.join(SECTIONS)}) contains this")
    parser.add_argument("--peers", default=",".join(PEERS), type=names, help="peers to run, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to see that it runs")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--device", choices=("cpu",), default="cpu", help="where to run")
    return parser.parse_args(argv)


def names(text: str) -> tuple[str, ...]:
    """Return the peers named, jitensor always among them."""
    chosen = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = set(chosen) - PEERS.keys()
    if unknown:
        raise argparse.ArgumentTypeError(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return tuple(peer for peer in PEERS if peer in chosen or peer == "jitensor")


def measure(options: argparse.Namespace, effort: Effort) -> tuple[list[Row], dict[str, str | None]]:
    """Return the rows asked for, and the versions of the peers."""
    rows = []
    with ExitStack() as stack:
        workers = Workers(options.peers, stack)
        for row in every_row(options.only, options.peers, workers, effort):
            print(f"  {row.work}: {table.VERDICTS[row.met]}", file=sys.stderr, flush=True)
            for peer, failure in row.raw.get("failures", {}).items():
                print(f"    {peer} failed: {failure}", file=sys.stderr)
            rows.append(row)
    return rows, workers.versions


def every_row(only: str, peers: tuple[str, ...], workers: Workers, effort: Effort) -> Iterator[Row]:
    """Yield the rows whose name or section contains `only`, in the order of the table."""

    def wanted(*texts: str) -> bool:
        return any(only.lower() in text.lower() for text in texts)

    for case in CASES:
        if wanted("steady", case.name):
            yield measure_case(case, workers, case.size // effort.divisor, effort.rounds)
        if case.is_sum and wanted("errors", case.name):
            yield measure_sum_error(case, workers, case.size // effort.divisor, effort.draws)
    if wanted("compile"):
        yield from compile_rows(workers, effort.repeats)
    if wanted("shapes", "new size"):
        yield from new_shape_rows(workers, effort.shapes)
    if wanted("fresh", "import", "first kernel"):
        yield from fresh.rows(effort.repeats, peers)
    if wanted("cores", "threads", "memory"):
        yield from cores.rows(effort.divisor, effort.rounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
