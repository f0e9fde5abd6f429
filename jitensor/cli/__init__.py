"""The `jitensor` command: one module per subcommand, imported when it is asked for.

Owns the list of subcommands. A subcommand's module has `main(argv) -> int`, which parses its own arguments.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from jitensor.errors import JitensorError

COMMANDS = {
    "cache": "show or clear the disk cache of compiled kernels",
    "coverage": "run an example of each NumPy function and print which are recorded",
    "demo": "run real hot functions on real input and show what jitensor does with them",
    "doctor": "show versions, CPU, cache, threads, GPU, and whether a kernel compiles",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that `argv` (default: the process's arguments) names. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command, rest = _parser().parse_args(arguments[:1]).command, arguments[1:]
    try:
        return int(importlib.import_module(f"jitensor.cli.{command}").main(rest) or 0)
    except JitensorError as error:
        print(f"jitensor {command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe went away, as `| head` does.
        sys.stderr.close()
        return 141


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog="jitensor",
        usage="jitensor [-h] [--version] COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Commands:\n" + "\n".join(f"  {name:{width}}{doc}" for name, doc in COMMANDS.items()),
        epilog="`jitensor COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    return parser


def _version() -> str:
    from jitensor import __version__

    return f"jitensor {__version__}"
