"""What `f.explain(*args)` returns and `f.kernels()` lists, for both doors.

Owns `Explanation`, whose print is the report, and `KernelView`, one kernel's texts on demand. Must not know doors:
they pass the signature, the cache decision with its reason, the executable and its arguments. Nothing here runs a
program, compiles, or counts.

    distance(x: float64[n], y: float64[n])
    cache: new trace; x was float64[n], now float32[n]
    graph distance(%0: f32[d0], %1: f32[d0]) { ...
    kernel k_3f9a...: not compiled yet
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from jitensor.codegen.emit_llvm import emit_llvm
from jitensor.codegen.emit_numba import emit_numba
from jitensor.codegen.kernel import Kernel
from jitensor.codegen.program import Launch, Program
from jitensor.codegen.schedule import schedule
from jitensor.ir.graph import Graph
from jitensor.ir.text import print_graph
from jitensor.pipeline import Executable, StagedExecutable
from jitensor.runtime.compiler import CompiledKernel
from jitensor.runtime.executor import ProgramRunner


class KernelView:
    """One kernel of a function: `name, text, source, llvm, assembly, seconds, origin`.

    origin: "compiled" or "loaded" (from disk), None before it was needed; seconds: what that took. llvm is the text
    that was compiled where the kernel is there, else what the writer would hand over; assembly is None before the
    kernel exists.
    """

    def __init__(self, kernel: Kernel, compiled: CompiledKernel | None) -> None:
        self.text = kernel.text
        self.name = "k_" + hashlib.sha256(kernel.text.encode()).hexdigest()[:12]
        self._kernel = kernel
        self._compiled = compiled

    @property
    def seconds(self) -> float | None:
        return None if self._compiled is None else self._compiled.seconds

    @property
    def origin(self) -> str | None:
        return None if self._compiled is None else self._compiled.origin

    @property
    def source(self) -> str:
        """A readable @njit function that does the same."""
        return emit_numba(self._kernel, self.name)

    @property
    def llvm(self) -> str:
        if self._compiled is not None:
            return self._compiled.llvm()
        return emit_llvm(schedule(self._kernel), self.name)

    @property
    def assembly(self) -> str | None:
        return None if self._compiled is None else self._compiled.assembly()

    def __repr__(self) -> str:
        if self._compiled is None:
            return f"<kernel {self.name}: not compiled yet>"
        return f"<kernel {self.name}: {self.origin} in {self._compiled.seconds * 1e3:.1f} ms>"


class Explanation:
    """How a call would be served. Attributes: signature, decision ("hit" or "trace"), reason, narrowed (values that the
    trace fixes, with lines), graph (Graph), graph_text, optimised_text (after the passes), kernels, library_calls."""

    def __init__(
        self,
        signature: str,
        decision: str,
        reason: str,
        narrowed: Sequence[str],
        executable: Executable | StagedExecutable,
        arguments: Sequence[Any] | None,
    ) -> None:
        self.signature = signature
        self.decision = decision
        self.reason = reason
        self.narrowed = list(narrowed)
        self.graph: Graph = executable.graph
        self.graph_text = print_graph(self.graph)
        program = executable.describe(arguments)
        self.optimised_text = print_graph(program.graph)
        runner = executable.runner_for(arguments) if arguments is not None else None
        self.kernels = kernels_of(program, runner)
        self.library_calls = [s.call.node.primitive.name for s in program.steps if not isinstance(s, Launch)]

    def __str__(self) -> str:
        parts = [self.signature, f"cache: {'known trace' if self.decision == 'hit' else 'new trace'}; {self.reason}"]
        parts += [f"    {line}" for line in self.narrowed]
        parts += ["", self.graph_text, "", "after the passes, sizes and constants taken out:", self.optimised_text, ""]
        if self.library_calls:
            parts.append(f"library calls: {', '.join(self.library_calls)}")
        for kernel in self.kernels:
            origin = "not compiled yet" if kernel.origin is None else f"{kernel.origin} in {kernel.seconds or 0:.4f} s"
            parts += [f"{kernel.name}: {origin}", kernel.text.rstrip(), "", kernel.source.rstrip(), ""]
        return "\n".join(parts).rstrip() + "\n"

    def __repr__(self) -> str:
        return str(self)


def kernels_of(program: Program, runner: ProgramRunner | None) -> list[KernelView]:
    """The program's kernels in the order of its steps: as compiled for the sizes seen so far, else as they would be."""
    used = runner.used() if runner is not None else []
    views = []
    for k, step in enumerate(program.steps):
        if isinstance(step, Launch):
            compiled = [KernelView(kernel, code) for at, kernel, code in used if at == k]
            views += compiled or [KernelView(step.kernel, None)]
    return views


def kernels_used(executables: Sequence[Executable | StagedExecutable]) -> list[KernelView]:
    """Every kernel that the executables have run, each once, in the order of their first steps."""
    found: dict[str, KernelView] = {}
    for executable in executables:
        for runner in executable.runners():
            for _, kernel, code in runner.used():
                found.setdefault(code.text, KernelView(kernel, code))
    return list(found.values())
