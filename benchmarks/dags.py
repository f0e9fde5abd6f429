"""Random functions with a given number of operations, as source text: what the compile times are measured on.

Must not know who compiles them. The same seed gives the same text; no two seeds share a kernel.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

BINARY = ("{a} + {b}", "{a} - {b}", "{a} * {b}", "np.maximum({a}, {b})", "{a} * {b} + {c}")
UNARY = ("np.sqrt(np.abs({a}))", "1.0 / (1.5 + {a} * {a})")
TRANSCENDENTAL = "np.exp(-np.abs({a}))"


def source(operations: int, seed: int) -> str:
    """Return the text of `def f(x, y, z)` with exactly this many operations; every value is used.

    One in fifty is an exp; the rest are arithmetic, square roots and a few divisions.
    """
    draw = random.Random(1000 * operations + seed)
    unused, names = ["x", "y", "z"], ["x", "y", "z"]
    lines: list[str] = []
    left = operations
    while left > 0:
        text = choose(draw, left, len(unused), done=operations - left)
        a, b = take(draw, unused), take(draw, unused) if len(unused) and "{b}" in text else draw.choice(names)
        name = f"t{len(lines)}"
        lines.append(f"    {name} = {text.format(a=a, b=b, c=f'{draw.uniform(0.1, 0.9):.6f}')}")
        left -= cost(text)
        names.append(name)
        unused.append(name)
    assert len(unused) == 1, unused
    return "\n".join(["def f(x, y, z):", *lines, f"    return {unused[0]}"])


def choose(draw: random.Random, left: int, unused: int, done: int) -> str:
    """Return a template that fits into the operations left and still lets all unused values be joined."""
    if left <= unused - 1:
        return BINARY[draw.randrange(4)]
    if done % 50 > 47 and left - 3 >= unused - 1:
        return TRANSCENDENTAL
    pool = [text for text in (*BINARY * 3, *UNARY) if left - cost(text) >= max(0, unused - 1 - ("{b}" in text))]
    return draw.choice(pool)


def cost(text: str) -> int:
    """Return how many operations a template holds."""
    return text.count("np.") + sum(text.count(f" {symbol} ") for symbol in "+-*/") + text.count("(-")


def take(draw: random.Random, unused: list[str]) -> str:
    """Remove a value that nothing has used yet, among the oldest, and return it."""
    return unused.pop(draw.randrange(min(3, len(unused))))


def function(operations: int, seed: int, **names: Any) -> Callable[..., Any]:
    """Return the function itself, over the `np` given in `names`."""
    namespace: dict[str, Any] = dict(names)
    exec(source(operations, seed), namespace)
    return namespace["f"]
