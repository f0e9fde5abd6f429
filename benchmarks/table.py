"""Rows of results, and their forms: text for a terminal, Markdown for the README, JSON for later.

Must not know how anything was measured.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Check:
    """One target: what was reached, in words, what was asked, and whether it is met (None: not measured)."""

    asked: str
    reached: str
    met: bool | None


@dataclass(frozen=True)
class Row:
    """One line of the table. `cells` holds a text for each peer; `raw` what JSON keeps besides."""

    work: str
    cells: Mapping[str, str]
    checks: tuple[Check, ...]
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """True when all targets are met, False when one is missed, None when something was not measured."""
        verdicts = [check.met for check in self.checks]
        return False if False in verdicts else None if None in verdicts or not verdicts else True


def at_least(asked: float, of: str, reached: float | None) -> Check:
    """Return the check that a ratio is at least this."""
    if reached is None:
        return Check(f">= {asked:g}x {of}", "not measured", None)
    return Check(f">= {asked:g}x {of}", f"{reached:.2f}x", reached >= asked)


def at_most(asked: float, unit: str, reached: float | None) -> Check:
    """Return the check that a value is at most this; the unit brings its own space."""
    if reached is None:
        return Check(f"<= {asked:g}{unit}", "not measured", None)
    return Check(f"<= {asked:g}{unit}", f"{reached:.3g}", reached <= asked)


def duration(seconds: float) -> str:
    """Return a time for people."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


VERDICTS = {True: "met", False: "MISSED", None: "-"}


def lines(rows: Sequence[Row], peers: Sequence[str]) -> list[list[str]]:
    """Return the table as text cells, headings first. Peers without any cell are left out."""
    shown = [peer for peer in peers if any(peer in row.cells for row in rows)]
    table = [["work", *shown, "target", ""]]
    for row in rows:
        missed = {check: f" (is {check.reached})" if check.met is False else "" for check in row.checks}
        targets = "; ".join(check.asked + missed[check] for check in row.checks)
        table.append([row.work, *(row.cells.get(peer, "") for peer in shown), targets, VERDICTS[row.met]])
    return table


def as_text(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """Return the table with aligned columns."""
    table = lines(rows, peers)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    ruled = [table[0], ["-" * width for width in widths], *table[1:]]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in ruled)


def as_markdown(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """Return the table in Markdown."""
    head, *body = lines(rows, peers)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON values."""
    return [{**asdict(row), "met": row.met} for row in rows]


def machine(versions: Mapping[str, str | None]) -> str:
    """Return one sentence on machine, date and versions; a peer without a version is missing."""
    names = ", ".join(f"{peer} {found or 'missing'}" for peer, found in versions.items())
    python = f"Python {platform.python_version()}"
    return f"{cpu_name()}, one core, {platform.system()}, {python}, {date.today().isoformat()}. {names}."


def cpu_name() -> str:
    """Return the CPU's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
