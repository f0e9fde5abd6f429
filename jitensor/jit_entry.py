"""Native entries for `jt.jit`: what a trace checks and returns, as an `EntrySpec`.

Owns the translation of a trace's guards, numbers and results; where one of them needs Python, `make` raises
`Unsupported` with the reason and the Python path goes on serving. Must not know how entries are written or called.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from types import CellType
from typing import Any, NamedTuple

import numpy as np

from jitensor.codegen.emit_entry import (
    FIRST_WORD,
    ArrayArg,
    Attribute,
    EntrySpec,
    FloatStep,
    Guard,
    NumberArg,
    ObjectArg,
    Place,
    SameObject,
    Unsupported,
    blas_call,
    dtype_words,
    emit_entry,
)
from jitensor.ir import dims, types
from jitensor.ir.dims import Dim
from jitensor.pipeline import Executable
from jitensor.runtime import blas, entry
from jitensor.runtime.compiler import uncounted_code
from jitensor.runtime.executor import BoundLaunch
from jitensor.tracing.context import Guard as TraceGuard
from jitensor.tracing.context import NumberStep
from jitensor.tracing.signature import Key
from jitensor.tracing.trace import HiddenStep, Trace

_ALIGNED, _C = 0x100, 0x1


class CallForm(NamedTuple):
    """How a call is written: so many positional arguments, then these keywords (name -> parameter position)."""

    positional: int
    keywords: dict[str, int]

    def slots(self) -> dict[int, int]:
        """Parameter position -> place among the passed arguments."""
        found = {i: i for i in range(self.positional)}
        found.update({p: self.positional + i for i, p in enumerate(self.keywords.values())})
        return found


def make(
    trace: Trace,
    key: Key,
    values: Sequence[Any],
    arguments: Sequence[Any],
    sizes: Mapping[str, int],
    form: CallForm,
) -> entry.Specialisation:
    """The compiled entry for calls that this trace serves, written in this form, with parameters like `values` (those
    not passed at their defaults), which the trace bound to `arguments` and `sizes`. Raises Unsupported."""
    maker = _Maker(trace, key, values, form)
    spec = maker.spec(arguments, sizes)
    symbol = "entry"
    text = emit_entry(spec, symbol, entry.offsets())
    words = maker.addresses + [id(d.numpy) for d in dtype_words(spec)]
    words += [o if isinstance(o, Address) else id(o) for o in maker.objects]
    keep = (maker.kernels, maker.objects, [d.numpy for d in dtype_words(spec)], trace)
    return entry.Specialisation(uncounted_code(text, symbol), words, keep)


class Address(int):
    """A context word that is an address already, of an object that the entry must not keep alive."""


class _Maker:
    def __init__(self, trace: Trace, key: Key, values: Sequence[Any], form: CallForm) -> None:
        self.trace = trace
        self.form = form
        self.key = key
        self.values = values
        self.object_at: dict[str, int] = {}  # leaf that is an object -> its number among the arguments
        self.objects: list[Any] = []  # what the context's last words point to
        self.scope: dict[str, int | Dim] = {}
        self.size_floats: list[FloatStep] = []  # sizes that the program reads as numbers
        self.tuples: list[SameObject] = []  # guards of the variables that are tuples
        self.united_sizes = {name: n for name, n in trace.united.items() if name.startswith("d")}

    def spec(self, bound_arguments: Sequence[Any], sizes: Mapping[str, int]) -> EntrySpec:
        trace = self.trace
        if not isinstance(trace.executable, Executable):
            raise Unsupported("sizes are known only at run time")
        if self.key and self.key[-1][0] == "aliases":
            raise Unsupported("an array is passed twice")
        if len(trace.executable.outline.arrays):
            raise Unsupported("the trace holds an array of its own")
        runner = trace.executable.runner(("C",) * sum(f.kind != "scalar" for f in trace.feeds))
        program = runner.program
        self._first_object = FIRST_WORD + len(program.steps)
        arguments, arrays = self._arguments()
        bound = trace.executable.bound_steps(sizes)
        self.kernels = [s.kernel for s in bound if isinstance(s, BoundLaunch)]
        self.addresses = [_address(b, s) for b, s in zip(bound, program.steps, strict=True)]
        spec = EntrySpec(
            arguments=arguments,
            guards=list(self.tuples),
            floats=[],
            sizes=list(trace.executable.outline.sizes),
            numbers=self._numbers(runner),
            arrays=arrays,
            program=program,
            passed=self.form.positional,
            keywords=[self._word(sys.intern(name)) for name in self.form.keywords],
            variants=[s.variant if isinstance(s, BoundLaunch) else None for s in bound],
            outputs=[],
            is_tuple=False,
        )
        spec.floats.extend(self.size_floats)
        self._steps(spec)
        self._outputs(spec)
        # Objects follow the dtypes in the context.
        shift = len(dtype_words(spec))
        spec.guards = [_shifted(g, shift) for g in spec.guards]
        spec.arguments = [_shifted(a, shift) for a in spec.arguments]
        spec.keywords = [w + shift for w in spec.keywords]
        spec.outputs = [(k, p + shift if k == "constant" else p) for k, p in spec.outputs]
        return spec

    def _word(self, value: Any) -> int:
        self.objects.append(value)
        return self._first_object + len(self.objects) - 1

    # Arguments --------------------------------------------------------------------------------------------------------

    def _arguments(self) -> tuple[list[Any], list[int]]:
        """One per positional argument, and the argument position of each array input."""
        trace = self.trace
        leaf = 0
        arguments: list[Any] = []
        position_of: dict[str, int] = {}
        slots = self.form.slots()
        for position, (key, value) in enumerate(zip(self.key, self.values, strict=True)):
            kind = key[0]
            slot = slots.get(position)
            if slot is None:  # at its default, which is always the same object
                if kind not in ("literal", "object"):
                    raise Unsupported(f"a default is a {kind}")
                leaf += kind == "object"
                continue
            if kind == "array":
                position_of[f"a{leaf}"] = len(arguments)
                arguments.append(("array", f"a{leaf}", key, None, slot))
                leaf += 1
            elif kind in ("int", "float"):
                name = f"a{leaf}"
                arguments.append(NumberArg(slot, kind, name if kind == "float" else self._symbol_of(name)))
                leaf += 1
            elif kind == "literal" and (value is None or isinstance(value, (bool, str))):
                arguments.append(ObjectArg(slot, self._word(value)))
            elif kind == "object":
                # By address alone: when the object goes, the entry is cleared with its trace.
                self.object_at[f"a{leaf}"] = len(arguments)
                arguments.append(ObjectArg(slot, self._word(Address(id(value)))))
                leaf += 1
            else:
                raise Unsupported(f"an argument is a {kind}")
        for step in trace.all_steps:
            if isinstance(step, HiddenStep) and step.key[0] == "tuple":
                self._hidden_tuple(step)
            elif isinstance(step, HiddenStep):
                self._hidden(step, arguments, position_of)
        arrays = []
        for i, (feed, value) in enumerate(zip(trace.feeds, trace.graph.inputs, strict=True)):
            if feed.kind == "scalar":
                continue
            if feed.kind != "leaf" or feed.where not in position_of:
                raise Unsupported("an array is held by the trace")
            position = position_of[feed.where]
            key = arguments[position][2]
            if not key[3] & _C or not key[3] & _ALIGNED or key[4] is not None:
                raise Unsupported("an array argument is not C-contiguous")
            sizes = tuple([n if isinstance(n, int) else _bare(n) for n in value.shape])
            place, slot = arguments[position][3:]
            arguments[position] = ArrayArg(slot, types.as_dtype(key[1]), sizes, i in trace.written, place)
            arrays.append(position)
        for argument in arguments:
            if isinstance(argument, tuple):
                raise Unsupported("an array argument is not read")
        return arguments, arrays

    def _hidden(self, step: HiddenStep, arguments: list[Any], position_of: dict[str, int]) -> None:
        """A global or closure variable that is an input: one number or one array."""
        place = self._place(ast.parse(step.source, mode="eval").body)
        kind = step.key[0]
        position = len(arguments)
        if kind == "array":
            position_of[step.names[0]] = position
            arguments.append(("array", step.names[0], step.key, place, -1))
        elif kind in ("int", "float"):
            name = step.names[0]
            arguments.append(NumberArg(-1, kind, name if kind == "float" else self._symbol_of(name), place))
        else:
            raise Unsupported(f"the variable {step.name} is a {kind}")

    def _hidden_tuple(self, step: HiddenStep) -> None:
        """A global or closure variable that holds a tuple of Python floats: the entry serves that very tuple, which
        cannot change, with its numbers written into the code."""
        place = self._place(ast.parse(step.source, mode="eval").body)
        if not isinstance(place, Place):
            raise Unsupported(f"the attribute {step.name} is a tuple")
        *holder, last = [self.objects[word - self._first_object] for word in place.words]
        value = holder[0][last] if holder else last.cell_contents
        floats = _floats(value)
        if floats is None or len(floats) != len(step.names):
            raise Unsupported(f"the variable {step.name} is a tuple of more than floats")
        self.tuples.append(SameObject(place, self._word(value)))
        self.size_floats += [FloatStep(name, ("const", x)) for name, x in zip(step.names, floats, strict=True)]

    def _symbol_of(self, name: str) -> str:
        """The size symbol that a Python int argument got: the trace's code begins with `p0 = a3`."""
        for line in self.trace.source.splitlines():
            target, _, source = line.strip().partition(" = ")
            if source == name:
                return target
        raise Unsupported("an int argument has no symbol")

    # Guards and numbers -----------------------------------------------------------------------------------------------

    def _steps(self, spec: EntrySpec) -> None:
        for step in self.trace.all_steps:
            if isinstance(step, NumberStep):
                self._number_step(step, spec)
            elif isinstance(step, TraceGuard):
                self._guard(ast.parse(step.source, mode="eval").body, spec, True)

    def _number_step(self, step: NumberStep, spec: EntrySpec) -> None:
        tree = ast.parse(step.source, mode="eval").body
        if step.kind is float:
            spec.floats.append(FloatStep(step.name, self._float(tree)))
        else:
            self.scope[step.name] = self._int(tree)

    def _guard(self, tree: ast.expr, spec: EntrySpec, wanted: bool) -> None:
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
            self._guard(tree.operand, spec, not wanted)
            return
        if not isinstance(tree, ast.Compare) or len(tree.ops) != 1:
            raise Unsupported(f"the condition {ast.unparse(tree)} is checked in Python")
        left, right = tree.left, tree.comparators[0]
        if isinstance(tree.ops[0], ast.Is) and wanted:
            spec.guards.append(self._identity(left, right))
            return
        op = _COMPARISONS.get(type(tree.ops[0]))
        if op is None:
            raise Unsupported(f"the condition {ast.unparse(tree)} is checked in Python")
        a, b = self._int(left), self._int(right)
        guard = Guard(op if wanted else _OPPOSITE[op], a, b)
        if guard.a != guard.b or guard.op != "eq":
            spec.guards.append(guard)

    def _identity(self, left: ast.expr, right: ast.expr) -> SameObject:
        """`c_3['np'] is c_4`"""
        if not isinstance(right, ast.Name) or right.id not in self.trace.constants:
            raise Unsupported("a variable is compared in Python")
        return SameObject(self._place(left), self._word(self.trace.constants[right.id]))

    def _place(self, tree: ast.expr) -> Place | Attribute:
        """`c_3['np']` or `c_7.cell_contents`"""
        constants = self.trace.constants
        holder = constants.get(tree.value.id) if isinstance(tree, (ast.Subscript, ast.Attribute)) and isinstance(
            tree.value, ast.Name) else None  # fmt: skip
        if isinstance(tree, ast.Subscript) and isinstance(tree.slice, ast.Constant) and type(holder) is dict:
            # The dict's own key object, so that the lookup compares by identity first.
            own = next((k for k in holder if k == tree.slice.value), tree.slice.value)
            return Place((self._word(holder), self._word(own)))
        if isinstance(tree, ast.Attribute) and tree.attr == "cell_contents" and type(holder) is CellType:
            return Place((self._word(holder),))
        if isinstance(tree, ast.Attribute):
            name = self._word(sys.intern(tree.attr))
            if isinstance(tree.value, ast.Name) and tree.value.id in self.object_at:
                return Attribute(self.object_at[tree.value.id], name)
            if isinstance(tree.value, ast.Attribute):
                return Attribute(self._place(tree.value), name)
        raise Unsupported(f"the variable {ast.unparse(tree)} is read in Python")

    def _int(self, tree: ast.expr) -> int | Dim:
        """An integer expression over sizes and int arguments."""
        if isinstance(tree, ast.Constant) and type(tree.value) is int:
            return tree.value
        if isinstance(tree, ast.Name):
            if tree.id in self.scope:
                return self.scope[tree.id]
            constant = self.trace.constants.get(tree.id)
            if type(constant) is int:
                return constant
            if tree.id[0] not in "dpq":
                raise Unsupported(f"{tree.id} is no integer")
            # The checks of the arrays compare sizes that guards united; a number's guard is the one check of it.
            value: int | Dim = dims.symbol(tree.id)
            while isinstance(value, Dim) and not value.symbols.isdisjoint(self.united_sizes):
                value = value.substitute(self.united_sizes)
            return value
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return -self._int(tree.operand)
        if isinstance(tree, ast.BinOp) and type(tree.op) in _INTEGER_OPS:
            return _INTEGER_OPS[type(tree.op)](self._int(tree.left), self._int(tree.right))
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in ("max", "min"):
            return dims.opaque(tree.func.id, *[self._int(a) for a in tree.args])
        raise Unsupported(f"the number {ast.unparse(tree)} is computed in Python")

    def _float(self, tree: ast.expr) -> Any:
        if isinstance(tree, ast.Constant) and isinstance(tree.value, (float, int)) and not isinstance(tree.value, bool):
            return ("const", float(tree.value))
        if isinstance(tree, ast.Name):
            constant = self.trace.constants.get(tree.id)
            if type(constant) is float or (type(constant) is int and abs(constant) < 2**53):
                return ("const", float(constant))
            if constant is not None:
                raise Unsupported(f"the number {tree.id} is computed in Python")
            return ("name", tree.id)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return ("neg", self._float(tree.operand))
        if isinstance(tree, ast.BinOp) and type(tree.op) in _FLOAT_OPS:
            return (_FLOAT_OPS[type(tree.op)], self._float(tree.left), self._float(tree.right))
        raise Unsupported(f"the number {ast.unparse(tree)} is computed in Python")

    def _numbers(self, runner: Any) -> list[tuple[types.DType, Any]]:
        numbers: list[tuple[types.DType, Any]] = []
        for feed in self.trace.feeds:
            if feed.kind == "scalar":
                assert feed.dtype is not None
                tree = ast.parse(str(feed.where), mode="eval").body
                if not isinstance(tree, ast.Name):
                    raise Unsupported(f"the number {feed.where} is computed in Python")
                numbers.append((feed.dtype, tree.id))
        dtypes = [v.dtype for v in runner.program.numbers[len(numbers) :]]
        assert isinstance(self.trace.executable, Executable)
        outline = self.trace.executable.outline
        sizes = {place: size for place, size, _ in outline.size_numbers}
        for i, (dtype, value) in enumerate(zip(dtypes, outline.constants, strict=True)):
            if i in sizes:
                numbers.append((dtype, self._size_number(sizes[i])))
            else:
                numbers.append((dtype, np.asarray(value, dtype.numpy).tobytes()))
        for node in runner.program.fixed_numbers:
            numbers.append((node.output.dtype, node.param("value").array.tobytes()))
        return numbers

    def _size_number(self, size: int | Dim) -> str:
        """The name of a size that the program reads as a number: a symbol, or a float computed from symbols."""
        tree = ast.parse(str(size), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id
        name = f"size_{len(self.size_floats)}"
        self.size_floats.append(FloatStep(name, self._float(tree)))
        return name

    # Results ----------------------------------------------------------------------------------------------------------

    def _outputs(self, spec: EntrySpec) -> None:
        form = getattr(self.trace.finish, "form", None)
        if form is None:
            raise Unsupported("the result is put together in Python")
        parts = form[1] if form[0] is tuple else [form]
        spec.is_tuple = form[0] is tuple
        feeds = [i for i, f in enumerate(self.trace.feeds) if f.kind != "scalar"]
        for part in parts:
            if part is None or part[0] not in ("array", "scalar", "argument", "constant"):
                raise Unsupported("the result is put together in Python")
            kind, position = part
            if kind == "argument":
                position = spec.arrays[feeds.index(position)]
            elif kind == "constant":
                position = self._word(position)
            spec.outputs.append((kind, position))


def _floats(value: Any) -> list[float] | None:
    """The leaves of a tuple (of tuples) of Python floats; None where it holds anything else."""
    if type(value) is float:
        return [value]
    if type(value) is not tuple:
        return None
    found: list[float] = []
    for part in value:
        inner = _floats(part)
        if inner is None:
            return None
        found += inner
    return found


def _address(bound: Any, step: Any) -> int:
    """Of the code that a step runs: a kernel, or a routine of BLAS."""
    if isinstance(bound, BoundLaunch):
        return bound.kernel.address
    routine, _ = blas_call(step)
    address = blas.cblas_address(routine)
    if address is None:
        raise Unsupported("there is no BLAS to call directly")
    return address


def _shifted(item: Any, by: int) -> Any:
    """Object words moved behind the dtype words."""
    if isinstance(item, SameObject):
        return SameObject(_moved(item.place, by), item.expected + by)
    if isinstance(item, ObjectArg):
        return item.replace(word=item.word + by)
    if isinstance(item, (ArrayArg, NumberArg)) and item.place is not None:
        return item.replace(place=_moved(item.place, by))
    return item


def _moved(place: Any, by: int) -> Any:
    if isinstance(place, Attribute):
        base = place.base if isinstance(place.base, int) else _moved(place.base, by)
        return Attribute(base, place.name + by)
    return Place(tuple([w + by for w in place.words]))


def _bare(n: Dim) -> str:
    if len(n.symbols) == 1 and n == dims.symbol(next(iter(n.symbols))):
        return next(iter(n.symbols))
    raise Unsupported("the size of an argument is an expression")


_COMPARISONS = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
_INTEGER_OPS: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_FLOAT_OPS: dict[type, str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
