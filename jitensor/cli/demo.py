"""`jitensor demo`: real functions on real input, compiled; what it costs, and a retrace that compiles nothing.

Owns what is run and how it is shown. Must not know how jitensor works: it uses the public face alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import jitensor as jt
from jitensor import events, settings
from jitensor.cli import hot_functions as hot

Function = Callable[..., Any]
INSTALL = "pip install 'jitensor[demo]'"


@dataclass(frozen=True)
class Work:
    """One function with the arguments that it is run on, and those of another batch size where jt.function is shown."""

    title: str
    function: Function
    arguments: tuple[Any, ...]
    other_batch: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Result:
    """What one piece of work showed. Times are seconds."""

    work: Work
    numpy_seconds: float
    first_seconds: float
    steady_seconds: float
    compiled: int
    loaded: int
    reused: int
    difference: float
    largest: float
    output: Any

    @property
    def speedup(self) -> float:
        """NumPy's time over the compiled one's."""
        return self.numpy_seconds / self.steady_seconds


@dataclass(frozen=True)
class Retrace:
    """A second batch size under jt.function: what it cost and why it happened. Times are seconds."""

    work: Work
    seconds: float
    traces: int
    compiled: int
    reason: str


def main(argv: Sequence[str]) -> int:
    """Run the demo. Returns the exit status: 1 when a result is not NumPy's."""
    parser = argparse.ArgumentParser(prog="jitensor demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs and few repetitions")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for the pictures")
    options = parser.parse_args(argv)
    rounds = 3 if options.quick else 9

    photo = load_photo()
    works = [*numeric_works(20_000 if options.quick else 1_000_000), *image_works(photo)]
    with settings.override(num_threads=1):  # NumPy runs these on one thread
        results = [measure(work, rounds) for work in works]
    show_results(results)
    retraces = [retrace(work) for work in works if work.other_batch is not None]
    show_retraces(retraces)
    if photo is not None:
        draw(photo, results, options.out)
    return 0 if all(agrees(result) for result in results) else 1


# ---- the work ------------------------------------------------------------------------------------------------------
def load_photo() -> np.ndarray[Any, Any] | None:
    """Return scikit-learn's photograph of a pagoda `[427, 640, 3] uint8`, or None, said aloud, where it is missing."""
    try:
        from sklearn.datasets import load_sample_image

        return np.asarray(load_sample_image("china.jpg"))
    except ImportError as error:  # scikit-learn itself, or Pillow, which it reads pictures with
        print(f"The photographs need scikit-learn and Pillow ({error}): {INSTALL}\n")
        return None


def numeric_works(n: int) -> list[Work]:
    """Return the options and the seawater, n samples each."""
    return [*option_works(n), seawater_work(n)]


def option_works(n: int) -> list[Work]:
    """Return Black-Scholes over n contracts; nothing, said aloud, without SciPy's erf."""
    if hot.erf is None:
        print(f"The options need scipy.special.erf: {INSTALL}\n")
        return []
    spot, strike, years = contracts(n)
    half = n // 2
    return [
        Work(
            f"options {n:,}",
            hot.black_scholes,
            (spot, strike, years, 0.03, 0.25),
            (spot[:half], strike[:half], years[:half], 0.03, 0.25),
        )
    ]


def contracts(n: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return spot, strike and years to expiry of n option contracts."""
    random = np.random.default_rng(1)
    spot = random.uniform(50.0, 150.0, n)
    return spot, spot * random.uniform(0.7, 1.3, n), random.uniform(0.1, 3.0, n)


def seawater_work(n: int) -> Work:
    """Return the equation of state over n samples of the open ocean."""
    samples = ocean(n)
    return Work(f"seawater {n:,}", hot.seawater, samples, tuple(values[: n // 2] for values in samples))


def ocean(n: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return salinity, temperature and pressure of n samples."""
    random = np.random.default_rng(2)
    return random.uniform(30.0, 38.0, n), random.uniform(-1.0, 28.0, n), random.uniform(10.0, 5000.0, n)


def image_works(photo: np.ndarray[Any, Any] | None) -> list[Work]:
    """Return the three steps of developing a photograph, each on what NumPy made of the step before."""
    if photo is None:
        return []
    developed = hot.develop(photo, 1.0, 0.8)
    contrasted = hot.local_contrast(developed, 0.85, 1.35)
    height, width, _ = photo.shape
    return [
        Work(f"photograph {width} x {height}", hot.develop, (photo, 1.0, 0.8)),
        Work("  local contrast", hot.local_contrast, (developed, 0.85, 1.35)),
        Work("  sharpening", hot.sharpen, (contrasted, 0.5), (contrasted[: height // 2], 0.5)),
    ]


# ---- measuring -----------------------------------------------------------------------------------------------------
def measure(work: Work, rounds: int) -> Result:
    """Run the work in NumPy and compiled, in turn, and return medians and the largest difference."""
    expected = work.function(*work.arguments)
    compiled_function = jt.jit(work.function)
    before = jt.counters()
    first_seconds, output = seconds(compiled_function, work.arguments)
    made = jt.counters() - before
    numpy_times, compiled_times = [], []
    for _ in range(rounds):
        numpy_times.append(seconds(work.function, work.arguments)[0])
        compiled_times.append(seconds(compiled_function, work.arguments)[0])
    difference, largest = compare(output, expected)
    return Result(
        work=work,
        numpy_seconds=statistics.median(numpy_times),
        first_seconds=first_seconds,
        steady_seconds=statistics.median(compiled_times),
        compiled=made.kernels_compiled,
        loaded=made.kernels_loaded,
        reused=made.kernels_reused,
        difference=difference,
        largest=largest,
        output=output,
    )


def seconds(function: Function, arguments: tuple[Any, ...]) -> tuple[float, Any]:
    """Return how long one call took, and what it returned."""
    start = time.perf_counter()
    output = function(*arguments)
    return time.perf_counter() - start, output


def compare(output: Any, expected: Any) -> tuple[float, float]:
    """Return the largest absolute difference, and the largest absolute value expected, over all outputs."""
    pairs = zip(as_tuple(output), as_tuple(expected), strict=True)
    worst = [(float(np.max(np.abs(got - want))), float(np.max(np.abs(want)))) for got, want in pairs]
    return max(difference for difference, _ in worst), max(largest for _, largest in worst)


def as_tuple(output: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """Return one or several outputs as float64 arrays."""
    several = output if isinstance(output, tuple | list) else (output,)
    return tuple(np.asarray(one, np.float64) for one in several)


def agrees(result: Result) -> bool:
    """True when the difference is rounding: 1e-4 of the largest value in float32, 1e-8 in float64."""
    single = np.asarray(result.output[0] if isinstance(result.output, tuple) else result.output).dtype == np.float32
    return result.difference <= (1e-4 if single else 1e-8) * result.largest


def retrace(work: Work) -> Retrace:
    """Call the work through jt.function with its batch, then with another one, and return what the second cost."""
    assert work.other_batch is not None
    traced = jt.function(work.function)
    traced(*work.arguments)
    before = jt.counters()
    with events.collect() as happened:
        took, _ = seconds(traced, work.other_batch)
    made = jt.counters() - before
    reasons = [str(event.fields.get("reason", event)) for event in happened if event.stage == "retrace"]
    return Retrace(work, took, made.traces, made.kernels_compiled, "\n".join(reasons))


# ---- showing -------------------------------------------------------------------------------------------------------
HEADINGS = ("work", "NumPy", "first call", "steady", "speed-up", "kernels", "max diff")


def show_results(results: Sequence[Result]) -> None:
    """Print the table of results."""
    rows = [
        (
            result.work.title,
            milliseconds(result.numpy_seconds),
            milliseconds(result.first_seconds),
            milliseconds(result.steady_seconds),
            f"{result.speedup:.1f}x",
            kernels(result),
            f"{result.difference / result.largest:.0e}",
        )
        for result in results
    ]
    print_table("jt.jit on unmodified NumPy functions, on one thread like NumPy", HEADINGS, rows)
    print("kernels: compiled now, loaded from the disk cache, or known already in this process")
    print("max diff: the largest |jitensor - NumPy| over all elements, as a part of the largest |NumPy|")


def milliseconds(value: float) -> str:
    """Return a time for people: three digits or so."""
    return f"{value * 1e3:.3g} ms" if value < 1.0 else f"{value:.3g} s"


def kernels(result: Result) -> str:
    """Return how the kernels came: `2 compiled`, `2 loaded`, `2 known`, or `1 of 3 new` where it differs among them."""
    sources = ((result.compiled, "compiled"), (result.loaded, "loaded"), (result.reused, "known"))
    present = [f"{number} {how}" for number, how in sources if number]
    if len(present) > 1:
        return f"{result.compiled} of {result.compiled + result.loaded + result.reused} new"
    return present[0] if present else "none"


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, with rich where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print_plain_table(title, headings, rows)
        return
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table, width=None if console.is_terminal else 100)


def print_plain_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in plain characters."""
    widths = [max(len(line[column]) for line in (headings, *rows)) for column in range(len(headings))]
    print(title)
    for first, *others in (headings, ["-" * width for width in widths], *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def show_retraces(retraces: Sequence[Retrace]) -> None:
    """Print what another batch size cost under jt.function."""
    print("\nThe same functions through jt.function, with another batch size. A retrace is not a recompile:")
    for retraced in retraces:
        print(
            f"\n  {retraced.work.title.strip()}: {retraced.traces} retrace, {retraced.compiled} kernels compiled,"
            f" {milliseconds(retraced.seconds)} with the run"
        )
        for line in retraced.reason.splitlines():
            print(f"    {line}")


def draw(photo: np.ndarray[Any, Any], results: Sequence[Result], folder: Path) -> None:
    """Write before and after, and a bar chart of the speed-ups, where matplotlib is installed."""
    try:
        import matplotlib
    except ImportError:
        print(f"\nThe pictures need matplotlib: {INSTALL}")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (before, after, bars) = plt.subplots(1, 3, figsize=(18, 4.2), width_ratios=(1.2, 1.2, 0.9))
    for axes, title, image in ((before, "before", photo), (after, "after, by compiled kernels", results[-1].output)):
        axes.imshow(image)
        axes.set_title(title)
        axes.axis("off")
    names = [result.work.title.split("  ")[-1] for result in results]
    speedups = [result.speedup for result in results]
    drawn = bars.barh(names[::-1], speedups[::-1], color="#3b7dd8")
    bars.bar_label(drawn, [f" {speedup:.1f}x" for speedup in speedups[::-1]])
    bars.set_xlabel("times faster than NumPy, one thread")
    bars.spines[["top", "right"]].set_visible(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's advice about tight layouts is not the reader's concern
        figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"\nThe picture is in {path}")
