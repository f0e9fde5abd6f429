"""From a graph to something that runs, all stages in order on one screen.

outline     sizes and constants out, so that graphs share programs       passes.abstract
simplify    named rules, verified                                        passes.simplify
fuse        groups and calls over buffers                                codegen.fuse
lower       kernels: canonical text, generic in sizes                    codegen.kernel
schedule    loop nests                                                   codegen.schedule
emit        LLVM IR or @njit source                                      codegen.emit_llvm, emit_numba
compile     machine code, from this process, from disk, or new           runtime.compiler
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jitensor import events, settings
from jitensor.codegen.emit_llvm import emit_llvm
from jitensor.codegen.emit_numba import PRELUDE, emit_numba
from jitensor.codegen.kernel import Kernel
from jitensor.codegen.program import Program
from jitensor.codegen.schedule import schedule
from jitensor.ir.dims import Dim
from jitensor.ir.graph import Graph
from jitensor.ir.interpret import bind_sizes, concrete, interpret
from jitensor.ir.text import print_graph
from jitensor.passes.abstract import Outline
from jitensor.passes.simplify import simplify
from jitensor.passes.stages import Stage, split
from jitensor.runtime.compiler import CompiledKernel, load_kernel
from jitensor.runtime.counters import tally
from jitensor.runtime.executor import ProgramRunner, layout_of
from jitensor.runtime.njit import load_source

_DIRECT = 0x101  # NumPy's flags C_CONTIGUOUS and ALIGNED

_runners: dict[Any, ProgramRunner] = {}
_lock = threading.RLock()


def compile_kernel(kernel: Kernel) -> CompiledKernel:
    """Machine code for a kernel, through the writer that the settings choose."""
    symbol = "k_" + hashlib.sha256(kernel.text.encode()).hexdigest()[:12]
    if settings.active().dump is not None:
        events.dump(symbol, "kernel", kernel.text)
        events.dump(symbol, "py", emit_numba(kernel, symbol))
    if settings.active().backend == "njit":
        return load_source(emit_numba(kernel, symbol), symbol, prelude=PRELUDE)
    return load_kernel(kernel.text, symbol, make_source=lambda: emit_llvm(schedule(kernel), symbol))


class Executable:
    """A graph bound to its program. Calling it never traces and never looks at Python values other than these:

    arguments: one per graph input, in order: an ndarray of the declared dtype and rank (any strides), or, for inputs in
        `graph.scalars`, a number of the declared dtype (NumPy scalar).
    sizes: the value of each symbol of the graph's Dims.
    Returns one fresh ndarray per output (0-d for scalars). Arrays of `graph.updates` are written in place.
    """

    def __init__(self, graph: Graph, united: Mapping[str, int | Dim] | None = None) -> None:
        self.graph = graph
        self.outline = Outline(graph, united or {})
        self._is_scalar = [v.id in graph.scalars for v in graph.inputs]
        self._written = {i for i, v in enumerate(graph.inputs) if any(t.id == v.id for t, _ in graph.updates)}
        self._runner: dict[Any, ProgramRunner] = {}
        self._direct: dict[str, ProgramRunner] = {}  # by backend: for arguments that are all row-major
        self._sizes = [next(iter(n.symbols)) if isinstance(n, Dim) else n for n in self.outline.sizes]
        known = [n for n in self.outline.sizes if not isinstance(n, Dim)]
        self._static = tuple(known) if len(known) == len(self.outline.sizes) else None
        self._arrays = [np.ascontiguousarray(a) for a in self.outline.arrays]
        self._fixed_layouts = ("C",) * len(self._arrays)

    def __call__(
        self, arguments: Sequence[Any], sizes: Mapping[str, int], *, apart: bool = False
    ) -> list[np.ndarray[Any, Any]]:
        """apart: no other argument overlaps one that is written."""
        mode = settings.active()
        if mode.disable_jit:
            return self._interpret(arguments, sizes)
        arrays: list[Any] = []
        numbers: list[Any] = []
        direct = apart or not self._written
        for argument, is_scalar in zip(arguments, self._is_scalar, strict=True):
            if is_scalar:
                numbers.append(argument)
            else:
                arrays.append(argument)
                if (
                    argument.__class__ is not np.ndarray
                    or argument.flags.num & _DIRECT != _DIRECT
                    or not argument.dtype.isnative
                ):
                    direct = False
        if not direct:
            return self._call_strided(arguments, numbers, sizes)
        runner = self._direct.get(mode.backend)
        if runner is None:
            runner = self._direct[mode.backend] = self.runner(("C",) * len(arrays))
        return runner.run(arrays + self._arrays, numbers + self.outline.numbers(sizes), self._actual(sizes))

    def _actual(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The values of the program's size symbols."""
        if self._static is not None:
            return self._static
        return tuple([sizes[n] if isinstance(n, str) else n for n in self._sizes])

    def _call_strided(
        self, arguments: Sequence[Any], numbers: list[Any], sizes: Mapping[str, int]
    ) -> list[np.ndarray[Any, Any]]:
        arrays, back = [], []
        for i, (argument, is_scalar) in enumerate(zip(arguments, self._is_scalar, strict=True)):
            if is_scalar:
                continue
            if isinstance(argument, np.ndarray) and _is_direct(argument) and not self._is_overwritten(i, arguments):
                arrays.append(argument)
                continue
            copied = np.array(argument, self.graph.inputs[i].dtype.numpy)
            arrays.append(copied)
            if i in self._written:
                back.append((argument, copied))
        layouts = tuple([layout_of(a) for a in arrays])
        actual = self._actual(sizes)
        for a, layout in zip(arrays, layouts, strict=True):
            if layout.__class__ is tuple and layout and layout[0] == "S":
                strides = a.strides[:-1] if layout[1] else a.strides
                actual += tuple([s // a.itemsize for s in strides])
        results = self.runner(layouts).run(arrays + self._arrays, numbers + self.outline.numbers(sizes), actual)
        for target, copied in back:
            target[...] = copied
        return results

    def _is_overwritten(self, i: int, arguments: Sequence[Any]) -> bool:
        """Does the memory of argument `i` overlap that of another one, which the program writes to?"""
        return any(k != i and np.may_share_memory(arguments[k], arguments[i]) for k in self._written)

    def bound_steps(self, sizes: Mapping[str, int]) -> list[Any]:
        """The steps of a call with C-contiguous arguments, bound to these sizes."""
        runner = self.runner(("C",) * sum(not s for s in self._is_scalar))
        return runner.bind(self._actual(sizes)).steps

    def runner(self, layouts: tuple[Any, ...]) -> ProgramRunner:
        """The program for arguments that lie in memory as `layouts` say, made and compiled if need be."""
        backend = settings.active().backend
        runner = self._runner.get((layouts, backend))
        if runner is None:
            with _lock:
                key = (self.outline.key, layouts, backend)
                runner = _runners.get(key)
                if runner is None:
                    runner = _runners[key] = ProgramRunner(self._program(layouts), compile_kernel)
                self._runner[layouts, backend] = runner
        return runner

    def runners(self) -> list[ProgramRunner]:
        """The programs made so far, by layout of the arguments."""
        return list(self._runner.values())

    def runner_for(self, arguments: Sequence[Any]) -> ProgramRunner | None:
        """The program that a call with these arguments would run, if there is one already."""
        layouts = tuple([layout_of(a) for a, s in zip(arguments, self._is_scalar, strict=True) if not s])
        return self._runner.get((layouts, settings.active().backend))

    def _program(self, layouts: tuple[Any, ...]) -> Program:
        with events.timed("passes"):
            skeleton = simplify(self.outline.skeleton())
        if settings.active().dump is not None:
            events.dump(self.graph.name, "graph", f"{print_graph(self.graph)}\n\n{print_graph(skeleton)}\n")
        return Program(skeleton, layouts + self._fixed_layouts, len(self.outline.sizes))

    def describe(self, arguments: Sequence[Any] | None = None) -> Program:
        """The program that a call with these arguments would run (C layout without), neither compiled nor run."""
        n = sum(not s for s in self._is_scalar)
        layouts: tuple[Any, ...] = ("C",) * n
        if arguments is not None:
            layouts = tuple([layout_of(a) for a, s in zip(arguments, self._is_scalar, strict=True) if not s])
        return self._program(layouts)

    def _interpret(self, arguments: Sequence[Any], sizes: Mapping[str, int]) -> list[np.ndarray[Any, Any]]:
        outputs, updates = interpret(self.graph, arguments, sizes)
        outputs = [np.array(o) for o in outputs]
        position = {v.id: i for i, v in enumerate(self.graph.inputs)}
        for (target, _), new in zip(self.graph.updates, updates, strict=True):
            arguments[position[target.id]][...] = new
        return outputs


class StagedExecutable:
    """An executable for a graph with sizes that are known only after some of it has run (`x[mask]`, `nonzero`,
    `unique`): compiled parts, with the nodes that find sizes between them. Called like `Executable`."""

    def __init__(self, graph: Graph, united: Mapping[str, int | Dim] | None = None) -> None:
        self.graph = graph
        self.stages = [(s, None if s.graph is None else Executable(s.graph, united)) for s in split(graph)]

    def __call__(
        self, arguments: Sequence[Any], sizes: Mapping[str, int], *, apart: bool = False
    ) -> list[np.ndarray[Any, Any]]:
        """apart: promised by the caller as for `Executable`; parts look for themselves, since they read each other."""
        values: dict[int, Any] = {v.id: a for v, a in zip(self.graph.inputs, arguments, strict=True)}
        values.update({c.value.id: c.source for c in self.graph.captures})
        found = dict(sizes)
        for stage, executable in self.stages:
            if executable is not None:
                results = executable([values[v.id] for v in stage.inputs], found)
            else:
                results = self._run_node(stage, [np.asarray(values[v.id]) for v in stage.inputs], found)
            values.update(zip([v.id for v in stage.outputs], results, strict=True))
        given = {id(a) for a in arguments}
        outputs = [values[v.id] for v in self.graph.outputs]
        return [np.array(o) if id(o) in given or not isinstance(o, np.ndarray) else o for o in outputs]

    def _run_node(self, stage: Stage, inputs: list[Any], sizes: dict[str, int]) -> list[Any]:
        """A node whose result decides sizes: by NumPy."""
        assert stage.node is not None
        params = {name: concrete(p, sizes) for name, p in stage.node.params}
        results = stage.node.primitive.evaluate(*inputs, **params)
        results = list(results) if isinstance(results, tuple) else [results]
        made = []
        for value, result in zip(stage.node.outputs, results, strict=True):
            made.append(np.ascontiguousarray(result, value.dtype.numpy).reshape(np.shape(result)))
            bind_sizes(value.shape, made[-1].shape, sizes)
            expected = concrete(value.shape, sizes)
            if expected != made[-1].shape:
                raise ValueError(
                    f"operands could not be broadcast together: {stage.node.primitive.name} gave shape "
                    f"{made[-1].shape}, where {expected} is needed"
                    + (f" ({stage.node.location})" if stage.node.location else "")
                )
        tally.library_calls += 1
        tally.bytes_allocated += sum(m.nbytes for m in made)
        return made

    def runners(self) -> list[ProgramRunner]:
        """The programs made so far."""
        return [r for _, e in self.stages if e is not None for r in e.runners()]

    def runner_for(self, arguments: Sequence[Any]) -> ProgramRunner | None:
        """None: no single program runs a call."""
        return None

    def describe(self, arguments: Sequence[Any] | None = None) -> Program:
        """The program of the first part."""
        return next(e for _, e in self.stages if e is not None).describe()


def _is_direct(array: Any) -> bool:
    """Can kernels walk it as it is: aligned, native, strides in whole elements?"""
    size = array.itemsize
    return array.flags.aligned and array.dtype.isnative and all(s % size == 0 for s in array.strides)


def build(graph: Graph, united: Mapping[str, int | Dim] | None = None) -> Executable | StagedExecutable:
    """The executable of a verified graph. united: size symbols that the trace found equal to another size.

    Programs are shared: graphs that differ only in sizes and constants reuse one.
    """
    if any(node.primitive.data_shape for node in graph.nodes):
        return StagedExecutable(graph, united)
    return Executable(graph, united)


def forget_programs() -> None:
    """Forget every program of this process. For tests and measurements."""
    with _lock:
        _runners.clear()
