"""`jitensor cache info` and `jitensor cache clear`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from jitensor import settings
from jitensor.runtime import disk


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit status: 1 when the folder may not be used."""
    parser = argparse.ArgumentParser(prog="jitensor cache", description="Show or clear the disk cache.")
    parser.add_argument("action", choices=("info", "clear"), nargs="?", default="info")
    action = parser.parse_args(argv).action
    cache = disk.configured()
    if action == "clear":
        removed = cache.clear()
        print(f"removed {removed} kernels from {cache.kernels}")
    else:
        for name, value in describe(cache).items():
            print(f"{name:<12}{value}")
    return 1 if cache.why_unsafe() else 0


def describe(cache: disk.DiskCache) -> dict[str, str]:
    """Return the facts of `cache info`, as text by name."""
    entries = cache.entries()
    used = sum(entry.size for entry in entries)
    facts = {
        "folder": cache.folder,
        "state": cache.why_unsafe() or ("on" if settings.active().cache else "off (JITENSOR_CACHE)"),
        "kernels": str(len(entries)),
        "size": f"{in_units(used)} of {in_units(cache.limit)} ({used / max(cache.limit, 1):.1%})",
    }
    if entries:
        facts["oldest use"] = _moment(entries[0].used)
        facts["latest use"] = _moment(entries[-1].used)
    return facts


def in_units(size: float) -> str:
    """Return a number of bytes for people: `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
