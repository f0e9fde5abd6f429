"""Native entries for `jt.function`: calls of eager tensors whose trace is one program of known sizes.

Owns the translation of a concrete function into an `EntrySpec`, and where a Tensor keeps its parts in memory. Where
something needs Python, `make` raises `Unsupported` with the reason. Must not know how entries are written or called.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jitensor.codegen.emit_entry import (
    FIRST_WORD,
    EntrySpec,
    ObjectArg,
    TensorArg,
    TensorParts,
    Unsupported,
    dtype_words,
    emit_entry,
)
from jitensor.concrete import ConcreteFunction
from jitensor.ir import dims
from jitensor.pipeline import Executable
from jitensor.runtime import entry
from jitensor.runtime.compiler import uncounted_code
from jitensor.runtime.executor import BoundLaunch
from jitensor.tensor import Tensor, make_eager


def make(concrete: ConcreteFunction, args: Sequence[Any], counter: Any) -> entry.Specialisation:
    """The compiled entry for calls like `args`, all positional, that `concrete` serves. counter: a C int64 that counts
    its calls. Raises Unsupported."""
    runner = concrete.static_runner()
    if runner is None or runner.only_results is None or not runner.only_results:
        raise Unsupported("the result is put together in Python")
    executable = runner.executable
    if not isinstance(executable, Executable) or executable.outline.arrays or executable.graph.updates:
        raise Unsupported("the program holds arrays or variables of its own")
    if any(n.primitive.effects for n in executable.graph.nodes):
        raise Unsupported("the program has effects")
    bound = executable.bound_steps({})
    kernels = [s.kernel for s in bound if isinstance(s, BoundLaunch)]
    if len(kernels) != len(bound):
        raise Unsupported("a library call is part of the program")
    program = executable.runner(("C",) * len(executable.graph.inputs)).program
    objects: list[Any] = []
    first_object = FIRST_WORD + len(program.steps)

    def word(value: Any) -> int:
        objects.append(value)
        return first_object + len(objects) - 1

    # Sizes lie in the context, so that functions and shapes of one kind share their code.
    known: dict[str, int] = {}

    def size(n: int) -> str:
        name = f"w{n}"
        if name not in known:
            known[name] = word(Word(n))
        return name

    arguments = _arguments(args, word, size)
    tensors = [i for i, a in enumerate(arguments) if isinstance(a, TensorArg)]
    order = runner.order or range(len(tensors))
    if len(tensors) != len(executable.graph.inputs):
        raise Unsupported("an argument is not part of the program")
    outputs: list[Any] = []
    for position, dtype in enumerate(runner.only_results):
        sizes = word(tuple(executable.graph.outputs[position].shape))
        outputs.append(("tensor", position, sizes, word(dtype)))
    spec = EntrySpec(
        arguments=arguments,
        guards=[],
        floats=[],
        sizes=[dims.symbol(size(int(n))) for n in executable.outline.sizes],  # type: ignore[arg-type]
        numbers=[
            (v.dtype, np.asarray(c, v.dtype.numpy).tobytes())
            for v, c in zip(program.numbers, executable.outline.numbers({}), strict=True)
        ]
        + [(n.output.dtype, n.param("value").array.tobytes()) for n in program.fixed_numbers],
        arrays=[tensors[i] for i in order],
        program=program,
        passed=len(args),
        keywords=[],
        variants=[s.variant for s in bound],
        outputs=outputs,
        is_tuple=not concrete.returns_one,
        tensor=parts(),
        tensor_words=(word(Tensor), word(None)),
        counter=word(Word(ctypes.addressof(counter))),
        known=known,
    )
    if not concrete.returns_one and not concrete.returns_tuple:
        raise Unsupported("the result is put together in Python")
    shift = len(dtype_words(spec))
    _shift(spec, shift)
    text = emit_entry(spec, "entry", entry.offsets())
    words = [k.address for k in kernels] + [id(d.numpy) for d in dtype_words(spec)]
    words += [o if isinstance(o, Word) else id(o) for o in objects]
    return entry.Specialisation(uncounted_code(text, "entry"), words, (kernels, objects, counter, concrete))


class Word(int):
    """A context word that is a number or an address already."""


def _arguments(args: Sequence[Any], word: Any, size: Any) -> list[Any]:
    found: list[Any] = []
    for position, value in enumerate(args):
        if type(value) is Tensor:
            if value._array.dtype.kind not in "biufc":
                raise Unsupported("a tensor of text")
            found.append(TensorArg(position, value._dtype, tuple(map(size, value._sizes or ())), False, None))
        elif value is None or isinstance(value, (bool, str)):
            found.append(ObjectArg(position, word(value)))
        else:
            raise Unsupported(f"an argument is a {type(value).__name__}")
    return found


def _shift(spec: EntrySpec, by: int) -> None:
    """Object words lie behind the dtype words."""
    spec.arguments = [a.replace(word=a.word + by) if isinstance(a, ObjectArg) else a for a in spec.arguments]
    spec.outputs = [(kind, position, sizes + by, dtype + by) for kind, position, sizes, dtype in spec.outputs]
    spec.tensor_words = (spec.tensor_words[0] + by, spec.tensor_words[1] + by)
    spec.counter += by
    spec.known = {name: w + by for name, w in (spec.known or {}).items()}


@functools.cache
def parts() -> TensorParts:
    """Where a Tensor keeps its slots, found by looking for what one holds. Raises Unsupported where it is unclear."""
    array = np.arange(3.0)
    tensor = make_eager(array)
    size = Tensor.__basicsize__
    words = (ctypes.c_int64 * (size // 8)).from_address(id(tensor))
    markers = {name: object() for name in ("_array", "_context", "_value", "_dtype", "_sizes", "_known")}
    offsets = {}
    for name, marker in markers.items():
        before = getattr(tensor, name)
        setattr(tensor, name, marker)
        places = [8 * i for i, w in enumerate(words) if w == id(marker)]
        setattr(tensor, name, before)
        if len(places) != 1:
            raise Unsupported("a Tensor does not lie in memory as expected")
        offsets[name] = places[0]
    return TensorParts(*[offsets[name] for name in markers])
