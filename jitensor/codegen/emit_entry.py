"""The native call path: LLVM IR of one specialisation of a jitted function, called by CPython itself.

    PyObject *entry(int64_t *context, PyObject **args, Py_ssize_t nargs, PyObject *kwnames)

checks every argument, allocates the outputs, runs the program's kernels, and returns the result; it returns 1 (no
object has that address) where a check fails, and NULL with an exception set where allocation fails. It holds no
address: types, dtypes, the array API and kernels come from `context`, an array of 64-bit words that runtime.entry
fills. Must not know Python values, only `EntrySpec`.
"""

from __future__ import annotations

import struct
from typing import Any

from jitensor.codegen.emit_pool import RUN
from jitensor.codegen.kernel import CHUNK, SCRATCH, Kernel, keeps_rows
from jitensor.codegen.program import CallStep, Launch, Program
from jitensor.codegen.views import View, is_row_major
from jitensor.codegen.work import PARALLEL_PICOSECONDS, is_divisible, iteration_cost, launch_plan, scratch_words
from jitensor.ir.dims import Dim, product
from jitensor.ir.types import DType
from jitensor.records import Record

# Words of the context that every entry uses; others follow in the order of `EntrySpec.words`.
NDARRAY, API, LAUNCHES, BYTES, POOL, HANDLER, LIBRARY_CALLS, FIRST_WORD = 0, 1, 2, 3, 4, 5, 6, 7
ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112  # CBLAS's names for orders
PYARRAY_SCALAR, PYARRAY_NEW, SET_HANDLER = 60, 93, 304  # slots of NumPy's C API
LARGE = 1 << 18  # bytes of a result from which on its memory comes from the store (runtime.memory)
NO_STORE = 1  # the word of the handler where the store is not used; 0 where it is not there yet
FAIL = 1
RELEASE_BYTES = 1 << 16  # calls that touch more than this run without the GIL
ALIGNED_CARRAY, WRITEABLE = 0x101, 0x400


class Offsets(Record):
    """Where the running interpreter keeps things, in bytes from an object's address."""

    head: int  # size of PyObject's own part
    tuple_items: int  # where a tuple's items begin

    @property
    def data(self) -> int:
        return self.head

    @property
    def rank(self) -> int:
        return self.head + 8

    @property
    def dims(self) -> int:
        return self.head + 16

    @property
    def descr(self) -> int:
        return self.head + 40

    @property
    def flags(self) -> int:
        return self.head + 48

    @property
    def type(self) -> int:
        return self.head - 8


class Place(Record):
    """A variable outside the call: `words` are the context words of (dict, key), or of (cell,)."""

    words: tuple[int, ...]


class Attribute(Record):
    """An attribute of an argument (`base` its number in the spec) or of another attribute; `name` is a context word."""

    base: Any
    name: int


class ArrayArg(Record):
    """A C-contiguous, aligned array. dims: a required size, or the name of the symbol that it gives. place: where it is
    read from, if it is no argument."""

    position: int
    dtype: DType
    dims: tuple[int | str, ...]
    written: bool
    place: Place | Attribute | None = None


class TensorArg(ArrayArg):
    """An eager tensor that holds such an array."""


class TensorParts(Record):
    """Where a Tensor keeps its slots, in bytes from its address."""

    array: int
    context: int
    value: int
    dtype: int
    sizes: int
    known: int


class NumberArg(Record):
    """A Python number whose exact type is `kind` (int or float), called `name` in guards and sources."""

    position: int
    kind: str
    name: str
    place: Place | Attribute | None = None


class ObjectArg(Record):
    """An argument that must be the very object in context word `word`."""

    position: int
    word: int
    place: Place | Attribute | None = None


class Guard(Record):
    """`a op b` on integers (op: eq ne lt le gt ge) must hold."""

    op: str
    a: int | Dim
    b: int | Dim


# A launch's kernel, the positions of the integer arguments it takes, and the (position, value) pairs it holds for.
Variant = tuple[Kernel, tuple[int, ...], tuple[tuple[int, int], ...]]


class EntrySpec(Record):
    """numbers: for each host number of the program (dtype, source), the source a Python constant or the name of a
    NumberArg. passed: how many positional arguments there are; keywords: context words of the names after them.
    outputs: for each result ("array" | "scalar", output position),
    ("argument", argument position), ("constant", context word) or ("tensor", output
    position, words of its sizes and its dtype). tensor: of jt.function, where a Tensor keeps its parts, with the words
    of the class and of None; counter: the word of a counter of calls, or 0.
    `words`: how many context words follow the fixed ones; kernels come first, then dtypes."""

    arguments: list[Any]
    guards: list[Guard | SameObject]
    floats: list[FloatStep]
    sizes: list[int | Dim]
    numbers: list[tuple[DType, Any]]
    arrays: list[int]  # argument position of each of the program's array inputs
    program: Program
    passed: int
    keywords: list[int]
    variants: list[Variant | None]  # of each step; None for a library call
    outputs: list[Any]
    is_tuple: bool
    tensor: TensorParts | None = None
    tensor_words: tuple[int, int] = (0, 0)
    counter: int = 0
    known: dict[str, int] | None = None
    words: int = 0


class SameObject(Record):
    """The variable at `place` must be the very object in word `expected`."""

    place: Place | Attribute
    expected: int


class FloatStep(Record):
    """`name` is a Python float computed from others: tree is ("add", a, b), ("neg", a), ("const", x), ("name", n)."""

    name: str
    tree: Any


class Unsupported(Exception):
    """This specialisation needs the Python path; the text says why."""


_TYPE_NUMBERS = {
    **{"b1": 0, "i8": 1, "u8": 2, "i16": 3, "u16": 4, "i32": 5, "u32": 6, "f32": 11, "f64": 12, "c64": 14, "c128": 15},
    **{"f16": 23},
}
_LLVM = {"f64": "double", "f32": "float", "b1": "i8"}


def blas_call(step: CallStep) -> tuple[str, list[tuple[Any, bool, Any]]]:
    """The CBLAS routine of a matrix product, and for each operand its offset, whether it is read turned, and its
    leading dimension (of a vector: its step). Raises Unsupported for what NumPy would not hand to BLAS in one call."""
    node, views = step.call.node, step.call.operands
    if node.primitive.family != "contraction" or node.output.dtype.short not in ("f32", "f64"):
        raise Unsupported(f"{node.primitive.name} is run by NumPy")
    if any(len(v.shape) != 2 for v in views):
        raise Unsupported("a product of stacked matrices is run by NumPy")
    x, y = views
    if x.buffer is y.buffer or (x.shape[0] == 1 and y.shape[1] == 1):
        raise Unsupported("a matrix with itself, or a vector with a vector, is run by NumPy")
    letter = "s" if node.output.dtype.short == "f32" else "d"
    column, row = y.shape[1] == 1, x.shape[0] == 1
    operands = [
        (x.offset, False, x.strides[1]) if row else _leading(x),
        (y.offset, False, y.strides[0]) if column else _leading(y),
    ]
    return letter + ("gemv" if row or column else "gemm"), operands


def _leading(view: View) -> tuple[Any, bool, Any]:
    if view.strides[1] == 1:
        return view.offset, False, view.strides[0]
    if view.strides[0] == 1:
        return view.offset, True, view.strides[1]
    raise Unsupported("a strided matrix is copied by NumPy")


def dtype_words(spec: EntrySpec) -> list[DType]:
    """The dtypes whose descriptors the context holds, in order, after the kernels."""
    dtypes = [a.dtype for a in spec.arguments if isinstance(a, ArrayArg)]
    for kind, position, *_ in spec.outputs:
        if kind == "scalar":
            dtypes.append(spec.program.plan.outputs[position].buffer.dtype)
    return list(dict.fromkeys(dtypes))


def emit_entry(spec: EntrySpec, symbol: str, offsets: Offsets) -> str:
    """LLVM IR that defines `ptr @symbol(ptr %context, ptr %args, i64 %nargs, ptr %kwnames)`. Raises Unsupported."""
    return _Writer(spec, offsets).run(symbol)


class _Writer:
    def __init__(self, spec: EntrySpec, offsets: Offsets) -> None:
        self.spec = spec
        self.program = spec.program
        self.at = offsets
        self.lines: list[str] = []
        self.serial = 0
        self.symbols: dict[str, str] = {}  # size symbol -> i64 value
        self.floats: dict[str, str] = {}  # name -> double value
        self.sizes: dict[str, str] = {}  # z symbol -> i64 value
        self.declared: set[str] = set()
        self.returned: set[int] = set()  # buffers whose arrays are outputs already
        self.globals: list[str] = []
        self.heavy: list[str | None] = []  # of each launch, see is_heavy
        steps = self.program.steps
        self.step_word = {id(s): FIRST_WORD + i for i, s in enumerate(steps)}
        self.dtype_word = {d: FIRST_WORD + len(steps) + i for i, d in enumerate(dtype_words(spec))}

    # Small things -----------------------------------------------------------------------------------------------------

    def emit(self, line: str) -> None:
        self.lines.append("  " + line)

    def name(self, stem: str) -> str:
        self.serial += 1
        return f"%{stem}{self.serial}"

    def set(self, stem: str, expression: str) -> str:
        name = self.name(stem)
        self.emit(f"{name} = {expression}")
        return name

    def require(self, condition: str) -> None:
        """Goes on where the i1 holds, else fails."""
        self.serial += 1
        self.emit(f"br i1 {condition}, label %ok{self.serial}, label %fail, !prof !0")
        self.lines.append(f"ok{self.serial}:")

    def word(self, index: int, type: str = "ptr") -> str:
        place = self.set("w", f"getelementptr i64, ptr %context, i64 {index}")
        return self.set("w", f"load {type}, ptr {place}")

    def field(self, object: str, offset: int, type: str) -> str:
        place = self.set("f", f"getelementptr i8, ptr {object}, i64 {offset}")
        return self.set("f", f"load {type}, ptr {place}")

    def compare(self, op: str, a: str, b: str, type: str = "i64") -> str:
        word = op if op in ("eq", "ne") else "s" + op
        return self.set("c", f"icmp {word} {type} {a}, {b}")

    def integer(self, value: int | Dim, names: dict[str, str]) -> str:
        """An integer expression as an i64 value. Python numbers have no bounds: what leaves i64 goes to Python."""
        if isinstance(value, int):
            return self.literal(value)
        apply = self.checked if any(s[0] == "p" for s in value.symbols) else self.unchecked
        total = ""
        for monomial, coefficient in value.terms:
            term = self.literal(coefficient)
            for k, atom in enumerate(monomial):
                factor = self.atom(atom, names)
                term = factor if k == 0 and coefficient == 1 else apply("mul", term, factor)
            total = term if not total else apply("add", total, term)
        return total

    def literal(self, value: int) -> str:
        if not -(2**63) <= value < 2**63:
            raise Unsupported(f"the integer {value} has more than 64 bits")
        return str(value)

    def unchecked(self, op: str, a: str, b: str) -> str:
        return self.set(op[0], f"{op} i64 {a}, {b}")

    def checked(self, op: str, a: str, b: str) -> str:
        self.declared.add(f"declare {{i64, i1}} @llvm.s{op}.with.overflow.i64(i64, i64)")
        pair = self.set("o", f"call {{i64, i1}} @llvm.s{op}.with.overflow.i64(i64 {a}, i64 {b})")
        over = self.set("o", f"extractvalue {{i64, i1}} {pair}, 1")
        self.require(self.set("o", f"xor i1 {over}, true"))
        return self.set(op[0], f"extractvalue {{i64, i1}} {pair}, 0")

    def atom(self, atom: Any, names: dict[str, str]) -> str:
        if atom.op == "symbol":
            if atom.args[0] not in names:
                raise Unsupported(f"the value of {atom.args[0]} is computed in Python")
            return names[atom.args[0]]
        args = [self.integer(a, names) for a in atom.args]
        if atom.op in ("max", "min"):
            self.declared.add(f"declare i64 @llvm.s{atom.op}.i64(i64, i64)")
            result = args[0]
            for other in args[1:]:
                result = self.set("x", f"call i64 @llvm.s{atom.op}.i64(i64 {result}, i64 {other})")
            return result
        if atom.op in ("floordiv", "mod") and isinstance(atom.args[1], int) and atom.args[1] > 0:
            return self.floor_division(atom.op, args[0], args[1])
        raise Unsupported(f"a size is computed with {atom.op}")

    def floor_division(self, op: str, a: str, b: str) -> str:
        rest = self.set("r", f"srem i64 {a}, {b}")
        low = self.compare("lt", rest, "0")
        if op == "mod":
            up = self.set("r", f"add i64 {rest}, {b}")
            return self.set("r", f"select i1 {low}, i64 {up}, i64 {rest}")
        quotient = self.set("q", f"sdiv i64 {a}, {b}")
        down = self.set("q", f"sub i64 {quotient}, 1")
        return self.set("q", f"select i1 {low}, i64 {down}, i64 {quotient}")

    # The whole --------------------------------------------------------------------------------------------------------

    def run(self, symbol: str) -> str:
        self.inner: dict[int, str] = {}  # argument position -> the array that a tensor holds
        self.known = self.spec.known or {}
        for name, word in self.known.items():
            self.symbols[name] = self.word(word, "i64")
        self.check_call()
        self.objects: list[str] = []
        for i, argument in enumerate(self.spec.arguments):
            self.objects.append(self.argument(i))
            self.check(argument, self.objects[i])
        for guard in self.spec.guards:
            self.check_guard(guard)
        for step in self.spec.floats:
            self.floats[step.name] = self.float(step.tree)
        self.check_overlap()
        for i, size in enumerate(self.spec.sizes):
            self.sizes[f"z{i}"] = self.integer(size, self.symbols)
        arguments = [
            self.launch_arguments(k, s) if isinstance(s, Launch) else self.product_arguments(s)
            for k, s in enumerate(self.program.steps)
        ]
        numbers = self.write_numbers()
        self.allocate()
        self.launch(arguments, numbers)
        self.finish()
        return self.module(symbol)

    def module(self, symbol: str) -> str:
        head = f"define ptr @{symbol}(ptr %context, ptr %args, i64 %nargs, ptr %kwnames) {{"
        fail = ["fail:", f"  ret ptr inttoptr (i64 {FAIL} to ptr)", "}"]
        fail += ['!0 = !{!"branch_weights", i32 1000, i32 1}', ""]
        declared = {*self.declared, "declare ptr @PyEval_SaveThread()", "declare void @PyEval_RestoreThread(ptr)",
                    "declare void @Py_DecRef(ptr)", "declare void @Py_IncRef(ptr)"}  # fmt: skip
        return "\n".join([*sorted(declared), *self.globals, head, "entry:", *self.lines, *fail])

    def check_call(self) -> None:
        self.require(self.compare("eq", "%nargs", str(self.spec.passed)))
        if not self.spec.keywords:
            self.require(self.set("c", "icmp eq ptr %kwnames, null"))
            return
        self.require(self.set("c", "icmp ne ptr %kwnames, null"))
        # A tuple: its length follows the head of a variable-size object, then its items.
        count = self.field("%kwnames", self.at.head, "i64")
        self.require(self.compare("eq", count, str(len(self.spec.keywords))))
        for i, word in enumerate(self.spec.keywords):
            name = self.field("%kwnames", self.at.tuple_items + 8 * i, "ptr")
            self.require(self.set("c", f"icmp eq ptr {name}, {self.word(word)}"))

    def argument(self, i: int) -> str:
        outside = self.spec.arguments[i].place
        if outside is not None:
            found = self.fetch(outside)
            self.require(self.set("c", f"icmp ne ptr {found}, null"))
            return found
        place = self.set("p", f"getelementptr ptr, ptr %args, i64 {self.spec.arguments[i].position}")
        return self.set("arg", f"load ptr, ptr {place}")

    def check(self, argument: Any, object: str) -> None:
        if isinstance(argument, ObjectArg):
            expected = self.word(argument.word)
            self.require(self.set("c", f"icmp eq ptr {object}, {expected}"))
        elif isinstance(argument, NumberArg):
            self.check_number(argument, object)
        else:
            self.check_array(argument, object)

    def check_guard(self, guard: Guard | SameObject) -> None:
        if isinstance(guard, Guard):
            a, b = (self.integer(x, self.symbols) for x in (guard.a, guard.b))
            self.require(self.compare(guard.op, a, b))
            return
        found = self.fetch(guard.place)
        self.require(self.set("c", f"icmp eq ptr {found}, {self.word(guard.expected)}"))

    def fetch(self, place: Place | Attribute) -> str:
        """The object at a place, borrowed; null where there is none."""
        if isinstance(place, Attribute):
            return self.fetch_attribute(place)
        words = [self.word(w) for w in place.words]
        if len(words) == 1:
            return self.field(words[0], self.at.head, "ptr")  # a cell holds its object first
        self.declared.add("declare ptr @PyDict_GetItem(ptr, ptr)")
        return self.set("g", f"call ptr @PyDict_GetItem(ptr {words[0]}, ptr {words[1]})")

    def float(self, tree: Any) -> str:
        """A tree of Python float arithmetic as a double; what Python would raise for goes to the Python path."""
        op = tree[0]
        if op == "const":
            return f"0x{struct.unpack('<Q', struct.pack('<d', tree[1]))[0]:016X}"
        if op == "name":
            if tree[1] in self.floats:
                return self.floats[tree[1]]
            if tree[1] in self.symbols:
                return self.set("v", f"sitofp i64 {self.symbols[tree[1]]} to double")
            raise Unsupported(f"the number {tree[1]} is computed in Python")
        args = [self.float(a) for a in tree[1:]]
        if op == "neg":
            return self.set("v", f"fneg double {args[0]}")
        if op == "div":
            self.require(self.set("c", f"fcmp une double {args[1]}, 0.0"))
        return self.set("v", f"f{op} double {args[0]}, {args[1]}")

    def check_array(self, argument: ArrayArg, object: str) -> None:
        if isinstance(argument, TensorArg):
            assert self.spec.tensor is not None
            expected = self.word(self.spec.tensor_words[0])
            self.require(self.set("c", f"icmp eq ptr {self.field(object, self.at.type, 'ptr')}, {expected}"))
            object = self.field(object, self.spec.tensor.array, "ptr")
            self.inner[argument.position] = object
        expected = self.word(NDARRAY)
        self.require(self.set("c", f"icmp eq ptr {self.field(object, self.at.type, 'ptr')}, {expected}"))
        descr = self.word(self.dtype_word[argument.dtype])
        self.require(self.set("c", f"icmp eq ptr {self.field(object, self.at.descr, 'ptr')}, {descr}"))
        rank = self.field(object, self.at.rank, "i32")
        self.require(self.compare("eq", rank, str(len(argument.dims)), "i32"))
        needed = ALIGNED_CARRAY | (WRITEABLE if argument.written else 0)
        flags = self.set("g", f"and i32 {self.field(object, self.at.flags, 'i32')}, {needed}")
        self.require(self.compare("eq", flags, str(needed), "i32"))
        if not argument.dims:
            return
        dims = self.field(object, self.at.dims, "ptr")
        for d, n in enumerate(argument.dims):
            size = self.field(dims, 8 * d, "i64")
            if isinstance(n, int):
                self.require(self.compare("eq", size, str(n)))
            elif n in self.symbols:
                self.require(self.compare("eq", size, self.symbols[n]))
                if n not in self.known:
                    self.require(self.compare("gt", size, "1"))
            else:
                self.require(self.compare("gt", size, "1"))
                self.symbols[n] = size

    def check_number(self, argument: NumberArg, object: str) -> None:
        kind = "PyFloat_Type" if argument.kind == "float" else "PyLong_Type"
        self.declared.add(f"@{kind} = external global i8")
        self.require(self.set("c", f"icmp eq ptr {self.field(object, self.at.type, 'ptr')}, @{kind}"))
        if argument.kind == "float":
            self.declared.add("declare double @PyFloat_AsDouble(ptr)")
            self.floats[argument.name] = self.set("d", f"call double @PyFloat_AsDouble(ptr {object})")
            return
        self.declared.add("declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)")
        overflow = self.set("o", "alloca i32")
        value = self.set("i", f"call i64 @PyLong_AsLongLongAndOverflow(ptr {object}, ptr {overflow})")
        self.require(self.compare("eq", self.set("o", f"load i32, ptr {overflow}"), "0", "i32"))
        self.symbols[argument.name] = value

    def fetch_attribute(self, place: Attribute) -> str:
        """What is computed on the way, and so held by nobody, goes to the Python path."""
        holder = self.objects[place.base] if isinstance(place.base, int) else self.fetch(place.base)
        self.declared |= {"declare ptr @PyObject_GetAttr(ptr, ptr)", "declare void @PyErr_Clear()"}
        found = self.set("g", f"call ptr @PyObject_GetAttr(ptr {holder}, ptr {self.word(place.name)})")
        self.serial += 1
        n = self.serial
        missing = self.set("c", f"icmp eq ptr {found}, null")
        self.emit(f"br i1 {missing}, label %unset{n}, label %set{n}")
        self.lines += [f"unset{n}:", "  call void @PyErr_Clear()", "  br label %fail", f"set{n}:"]
        count = self.set("n", f"load i32, ptr {found}")
        kept = self.compare("ne", count, "1", "i32")
        self.emit(f"call void @Py_DecRef(ptr {found})")
        self.require(kept)
        return found

    def check_overlap(self) -> None:
        """An array that is written shares no memory with another array."""
        arrays = [(i, a) for i, a in enumerate(self.spec.arguments) if isinstance(a, ArrayArg)]
        if not any(a.written for _, a in arrays):
            return
        ranges = {}
        for i, a in arrays:
            start = self.set("s", f"ptrtoint ptr {self.field(self.objects[i], self.at.data, 'ptr')} to i64")
            count = str(a.dtype.size)
            for n in a.dims:
                count = self.set("n", f"mul i64 {count}, {n if isinstance(n, int) else self.symbols[n]}")
            ranges[i] = (start, self.set("e", f"add i64 {start}, {count}"))
        for i, a in arrays:
            for j, b in arrays:
                if i < j and (a.written or b.written):
                    before = self.compare("le", ranges[i][1], ranges[j][0])
                    after = self.compare("le", ranges[j][1], ranges[i][0])
                    self.require(self.set("c", f"or i1 {before}, {after}"))

    # Running ----------------------------------------------------------------------------------------------------------

    def launch_arguments(self, k: int, step: Launch) -> tuple[str, list[str]]:
        """The integer arguments of a launch on the stack."""
        values = [self.integer(n, self.sizes) for n in step.binding.ints]
        variant = self.spec.variants[k]
        assert variant is not None
        kernel, kept, pairs = variant
        for position, known in pairs:
            self.require(self.compare("eq", values[position], str(known)))
        if keeps_rows(kernel):
            self.require(self.compare("le", values[len(kernel.reduced) - 1], str(SCRATCH)))
        values = [values[p] for p in kept]
        self.heavy.append(self.is_heavy(kernel, values))
        array = self.set("ints", f"alloca [{max(len(values), 1)} x i64]")
        for i, value in enumerate(values):
            place = self.set("p", f"getelementptr i64, ptr {array}, i64 {i}")
            self.emit(f"store i64 {value}, ptr {place}")
        return array, values

    def product_arguments(self, step: CallStep) -> tuple[str, list[str]]:
        """Of a matrix product by BLAS: sizes m, n, k, then for each operand and the result its offset and its leading
        dimension (or step)."""
        self.heavy.append(None)
        routine, operands = blas_call(step)
        m, k = (self.integer(n, self.sizes) for n in step.call.operands[0].shape)
        n = self.integer(step.call.operands[1].shape[1], self.sizes)
        values = [m, n, k]
        for operand in operands:
            values += [self.integer(operand[0], self.sizes), self.integer(operand[2], self.sizes)]
        for size in (m, n, k):
            self.require(self.compare("ge", size, "1"))
        return routine, values

    def product_call(self, step: CallStep, values: list[str]) -> str:
        routine, operands = blas_call(step)
        dtype = step.call.node.output.dtype
        t, size = _LLVM[dtype.short], dtype.size
        m, n, k = values[:3]
        places = []
        for number, offset in zip((*step.operands, step.results[0]), (*values[3::2], "0"), strict=False):
            bytes_ = self.set("o", f"mul i64 {offset}, {size}")
            places.append(self.set("p", f"getelementptr i8, ptr {self.pointer(number)}, i64 {bytes_}"))
        a, b, c = places
        function = self.word(self.step_word[id(step)])
        (_, turned_a, _), (_, turned_b, _) = operands
        lda, ldb = values[4], values[6]
        turn = {False: NO_TRANSPOSE, True: TRANSPOSE}
        if routine.endswith("gemm"):
            return (
                f"call void {function}(i32 {ROW_MAJOR}, i32 {turn[turned_a]}, i32 {turn[turned_b]}, i64 {m}, i64 {n}, "
                f"i64 {k}, {t} 1.0, ptr {a}, i64 {lda}, ptr {b}, i64 {ldb}, {t} 0.0, ptr {c}, i64 {n})"
            )
        if step.call.operands[1].shape[1] == 1:  # a column: A x
            rows, columns, matrix, vector, lead, jump, turned = m, k, a, b, lda, ldb, turned_a
        else:  # a row: B' x
            rows, columns, matrix, vector, lead, jump, turned = n, k, b, a, ldb, lda, not turned_b
        if turned:
            rows, columns = columns, rows
        return (
            f"call void {function}(i32 {ROW_MAJOR}, i32 {turn[turned]}, i64 {rows}, i64 {columns}, {t} 1.0, "
            f"ptr {matrix}, i64 {lead}, ptr {vector}, i64 {jump}, {t} 0.0, ptr {c}, i64 1)"
        )

    def product(self, values: list[str]) -> str:
        total = "1"
        for value in values:
            total = self.set("m", f"mul i64 {total}, {value}")
        return total

    def is_heavy(self, kernel: Kernel, values: list[str]) -> str | None:
        """Is a launch worth the driver (an i1)? None for kernels it cannot serve. The Python path loads the driver."""
        if not is_divisible(kernel):
            return None
        elements = self.product(values[: len(kernel.reduced)])
        if kernel.chunked:
            heavy = self.compare("gt", elements, str(2 * CHUNK))
        else:
            work = self.set("m", f"mul i64 {elements}, {iteration_cost(kernel)}")
            heavy = self.compare("ge", work, str(PARALLEL_PICOSECONDS))
        light = self.set("c", f"xor i1 {heavy}, true")
        there = self.set("c", f"icmp ne ptr {self.field(self.word(POOL), 8 * RUN, 'ptr')}, null")
        self.require(self.set("c", f"or i1 {light}, {there}"))
        return heavy

    def write_numbers(self) -> list[str]:
        """Each host number's 16 bytes; gives their places."""
        places = []
        for dtype, source in self.spec.numbers:
            place = self.set("slot", "alloca [16 x i8], align 16")
            places.append(place)
            if isinstance(source, str):
                self.store_converted(dtype, source, place)
            else:
                for offset in range(0, len(source), 8):
                    word = int.from_bytes(source[offset : offset + 8].ljust(8, b"\0"), "little", signed=True)
                    part = self.set("p", f"getelementptr i8, ptr {place}, i64 {offset}")
                    self.emit(f"store i64 {word}, ptr {part}")
        return places

    def store_converted(self, dtype: DType, name: str, place: str) -> None:
        """A Python number as `dtype`, as NumPy converts it; an int that does not fit goes to the Python path."""
        if name in self.floats:
            value = self.floats[name]
            if dtype.short == "f32":
                value = self.set("v", f"fptrunc double {value} to float")
            elif dtype.short != "f64":
                raise Unsupported(f"a Python float becomes {dtype.name}")
            self.emit(f"store {_LLVM[dtype.short]} {value}, ptr {place}")
            return
        if name not in self.symbols:
            raise Unsupported(f"the number {name} is computed in Python")
        value = self.symbols[name]
        if dtype.short in ("f64", "f32"):
            # int -> float64 -> float32, as Python and then NumPy do it.
            value = self.set("v", f"sitofp i64 {value} to double")
            if dtype.short == "f32":
                value = self.set("v", f"fptrunc double {value} to float")
            self.emit(f"store {_LLVM[dtype.short]} {value}, ptr {place}")
        elif dtype.kind in "iu" and dtype.short != "u64":
            low, high = int(dtype.min), int(dtype.max)
            if dtype.size < 8:
                self.require(self.compare("ge", value, str(low)))
                self.require(self.compare("le", value, str(high)))
                value = self.set("v", f"trunc i64 {value} to i{dtype.size * 8}")
            self.emit(f"store i{dtype.size * 8} {value}, ptr {place}")
        else:
            raise Unsupported(f"a Python int becomes {dtype.name}")

    def allocate(self) -> None:
        """Output arrays, and memory for scalars; buffer number -> pointer to its data."""
        self.data: dict[int, str] = {}
        self.made: dict[int, str] = {}  # buffer number -> array object
        scalars = {
            self.program._number[self.program.plan.outputs[p].buffer.storage]
            for kind, p, *_ in self.spec.outputs if kind == "scalar"
        }  # fmt: skip
        self.shapes = self.output_shapes()
        arrays = {n: self.measure(n, self.program.buffers[n]) for n in self.program.allocated if n not in scalars}
        # Another thread may rebind a variable while the kernels run without the GIL.
        self.borrowed = [
            o for a, o in zip(self.spec.arguments, self.objects, strict=True)
            if a.place is not None and isinstance(a, ArrayArg)
        ]  # fmt: skip
        for object in self.borrowed:
            self.emit(f"call void @Py_IncRef(ptr {object})")
        for number, position in enumerate(self.spec.arrays):
            array = self.inner.get(self.spec.arguments[position].position, self.objects[position])
            self.data[number] = self.field(array, self.at.data, "ptr")
        self.bytes = "0"
        for number in self.program.allocated:
            if number in scalars:
                self.data[number] = self.set("cell", "alloca [16 x i8], align 16")
            else:
                self.new_array(number, *arrays[number])

    def output_shapes(self) -> dict[int, Any]:
        """The shape under which a buffer is returned, where that is another view of all its elements in order."""
        shapes: dict[int, Any] = {}
        for kind, position, *_ in self.spec.outputs:
            if kind not in ("array", "tensor"):
                continue
            view = self.program.plan.outputs[position]
            number = self.program._number[view.buffer.storage]
            in_order = view.offset == 0 and is_row_major(view.shape, view.strides)
            if not in_order or product(view.shape) != product(view.buffer.shape):
                raise Unsupported("an output is a view of another buffer")
            if shapes.setdefault(number, view.shape) != view.shape:
                raise Unsupported("a buffer is returned under two shapes")
        return shapes

    def measure(self, number: int, buffer: Any) -> tuple[str, str, str]:
        """An array's dimensions on the stack, its bytes, and whether it is large (an i1). The Python path makes the
        store for large ones."""
        shape = self.shapes.get(number, buffer.shape)
        dims = self.set("dims", f"alloca [{max(len(shape), 1)} x i64]")
        size = str(buffer.dtype.size)
        for d, n in enumerate(shape):
            value = self.integer(n, self.sizes)
            place = self.set("p", f"getelementptr i64, ptr {dims}, i64 {d}")
            self.emit(f"store i64 {value}, ptr {place}")
            size = self.set("n", f"mul i64 {size}, {value}")
        large = self.compare("ge", size, str(LARGE))
        there = self.set("c", f"icmp ne ptr {self.handler()}, null")
        self.require(self.set("c", f"or i1 {self.set('c', f'xor i1 {large}, true')}, {there}"))
        return dims, size, large

    def handler(self) -> str:
        return self.field(self.word(HANDLER), 0, "ptr")

    def new_array(self, number: int, dims: str, size: str, large: str) -> None:
        buffer = self.program.buffers[number]
        if buffer.dtype.short in ("i64", "u64"):
            type_number = 7 if buffer.dtype.kind == "i" else 8
        else:
            type_number = _TYPE_NUMBERS[buffer.dtype.short]
        rank = len(self.shapes.get(number, buffer.shape))
        call = (
            f"call ptr {self.api(PYARRAY_NEW)}(ptr {self.word(NDARRAY)}, i32 {rank}, ptr {dims}, "
            f"i32 {type_number}, ptr null, ptr null, i32 0, i32 0, ptr null)"
        )
        handler = self.handler()
        used = self.set("c", f"icmp ugt ptr {handler}, inttoptr (i64 {NO_STORE} to ptr)")
        self.serial += 1
        n = self.serial
        self.emit(f"br i1 {self.set('c', f'and i1 {large}, {used}')}, label %store{n}, label %plain{n}")
        self.lines.append(f"store{n}:")
        set_handler = self.api(SET_HANDLER)
        before = self.set("h", f"call ptr {set_handler}(ptr {handler})")
        stored = self.set("new", call)
        for object in (self.set("h", f"call ptr {set_handler}(ptr {before})"), before):
            self.emit(f"call void @Py_DecRef(ptr {object})")
        self.emit(f"br label %array{n}")
        self.lines.append(f"plain{n}:")
        plain = self.set("new", call)
        self.emit(f"br label %array{n}")
        self.lines.append(f"array{n}:")
        made = self.set("new", f"phi ptr [ {stored}, %store{n} ], [ {plain}, %plain{n} ]")
        self.require_made(made)
        self.made[number] = made
        self.data[number] = self.field(made, self.at.data, "ptr")
        self.bytes = self.set("n", f"add i64 {self.bytes}, {size}")

    def require_made(self, made: str) -> None:
        """NULL: an exception is set; what was made before is given back."""
        self.serial += 1
        n = self.serial
        missing = self.set("c", f"icmp eq ptr {made}, null")
        self.emit(f"br i1 {missing}, label %none{n}, label %made{n}")
        self.lines.append(f"none{n}:")
        for other in (*self.made.values(), *self.borrowed):
            self.emit(f"call void @Py_DecRef(ptr {other})")
        self.emit("ret ptr null")
        self.lines.append(f"made{n}:")

    def api(self, slot: int) -> str:
        table = self.word(API)
        place = self.set("p", f"getelementptr ptr, ptr {table}, i64 {slot}")
        return self.set("fn", f"load ptr, ptr {place}")

    def launch(self, arguments: list[tuple[str, list[str]]], numbers: list[str]) -> None:
        calls: list[tuple[str, str, str | None]] = []
        for k, (step, (ints, values)) in enumerate(zip(self.program.steps, arguments, strict=True)):
            if not isinstance(step, Launch):
                calls.append((self.product_call(step, values), "", None))
                continue
            variant = self.spec.variants[k]
            assert variant is not None
            kernel = variant[0]
            # Behind the buffers is the place of partial results, under two types.
            pointers = self.set("bufs", f"alloca [{max(len(step.buffers), 1) + 2 * kernel.chunked} x ptr]")
            for i, number in enumerate(step.buffers):
                place = self.set("p", f"getelementptr ptr, ptr {pointers}, i64 {i}")
                self.emit(f"store ptr {self.pointer(number)}, ptr {place}")
            scalars = self.set("scal", f"alloca [{max(16 * len(step.scalars), 16)} x i8], align 16")
            for i, s in enumerate(step.scalars):
                place = self.set("p", f"getelementptr i8, ptr {scalars}, i64 {16 * i}")
                value = self.set("v", f"load i128, ptr {numbers[s]}")
                self.emit(f"store i128 {value}, ptr {place}")
            extent = values[0] if step.kernel.parallel else "1"
            if kernel.chunked:
                extent = "-1"
                self.one_chunk(kernel, values[0], pointers, len(step.buffers))
            address = self.word(self.step_word[id(step)])
            places = f"ptr {pointers}, ptr {ints}, ptr {scalars}"
            whole = f"call i64 {address}({places}, i64 0, i64 {extent})"
            if self.heavy[k] is None:
                calls.append((whole, "", None))
                continue
            words = ", ".join(f"i64 {word}" for word in launch_plan(kernel))
            self.globals.append(f"@plan{k} = private constant [{words.count('i64')} x i64] [{words}]")
            pool = self.word(POOL)
            run = self.field(pool, 8 * RUN, "ptr")
            shared = f"call i64 {run}(ptr {pool}, ptr {address}, ptr @plan{k}, {places}, i64 0)"
            calls.append((whole, shared, self.heavy[k]))
        launches = len(self.program.launches)
        self.count(LAUNCHES, str(launches))
        if len(calls) > launches:
            self.count(LIBRARY_CALLS, str(len(calls) - launches))
        self.count(BYTES, self.bytes_with_scalars())
        if self.spec.counter:
            self.count(self.spec.counter, "1")
        self.run_kernels(calls)

    def one_chunk(self, kernel: Kernel, rows: str, pointers: str, count: int) -> None:
        """Partial results on the stack, for launches in one chunk. The driver puts its own in their place."""
        scratch = self.set("scratch", f"alloca [{scratch_words(kernel)} x i64]")
        self.declared.add("declare i64 @llvm.smax.i64(i64, i64)")
        self.emit(f"store i64 {self.set('x', f'call i64 @llvm.smax.i64(i64 {rows}, i64 1)')}, ptr {scratch}")
        second = self.set("p", f"getelementptr i64, ptr {scratch}, i64 1")
        self.emit(f"store i64 1, ptr {second}")
        for i in (count, count + 1):
            place = self.set("p", f"getelementptr ptr, ptr {pointers}, i64 {i}")
            self.emit(f"store ptr {scratch}, ptr {place}")

    def bytes_with_scalars(self) -> str:
        extra = sum(self.program.buffers[n].dtype.size for n in self.program.allocated if n not in self.made)
        return self.set("n", f"add i64 {self.bytes}, {extra}") if extra else self.bytes

    def count(self, word: int, amount: str) -> None:
        """Adds to a counter; the GIL is held."""
        counter = self.word(word)
        old = self.set("n", f"load i64, ptr {counter}")
        self.emit(f"store i64 {self.set('n', f'add i64 {old}, {amount}')}, ptr {counter}")

    def run_kernels(self, calls: list[tuple[str, str, str | None]]) -> None:
        """calls: of the kernel itself, of the driver, and when the driver is to be called."""
        self.serial += 1
        n = self.serial
        touched = self.touched()
        large = self.compare("gt", touched, str(RELEASE_BYTES))
        for _, _, heavy in calls:
            if heavy is not None:
                large = self.set("c", f"or i1 {large}, {heavy}")
        self.failed = self.set("failed", "alloca i64")
        self.emit(f"store i64 0, ptr {self.failed}")
        self.emit(f"br i1 {large}, label %free{n}, label %held{n}")
        self.lines.append(f"free{n}:")
        state = self.set("state", "call ptr @PyEval_SaveThread()")
        for call in calls:
            self.run_kernel(*call)
        self.emit(f"call void @PyEval_RestoreThread(ptr {state})")
        self.emit(f"br label %run{n}")
        self.lines.append(f"held{n}:")
        for whole, _, _ in calls:
            self.run_kernel(whole, "", None)
        self.emit(f"br label %run{n}")
        self.lines.append(f"run{n}:")
        if any(v is not None and v[0].chunked for v in self.spec.variants):
            self.require_memory()

    def run_kernel(self, whole: str, shared: str, heavy: str | None) -> None:
        self.serial += 1
        n = self.serial
        if whole.startswith("call void"):
            self.emit(whole)
            return
        if heavy is None:
            self.set("s", whole)
            return
        self.emit(f"br i1 {heavy}, label %share{n}, label %whole{n}")
        self.lines.append(f"whole{n}:")
        self.set("s", whole)
        self.emit(f"br label %after{n}")
        self.lines.append(f"share{n}:")
        status = self.set("s", f"or i64 {self.set('s', f'load i64, ptr {self.failed}')}, {self.set('s', shared)}")
        self.emit(f"store i64 {status}, ptr {self.failed}")
        self.emit(f"br label %after{n}")
        self.lines.append(f"after{n}:")

    def require_memory(self) -> None:
        """The driver found memory for partial results; else Python's MemoryError."""
        self.serial += 1
        n = self.serial
        self.declared.add("declare ptr @PyErr_NoMemory()")
        status = self.set("s", f"load i64, ptr {self.failed}")
        self.emit(f"br i1 {self.compare('eq', status, '0')}, label %done{n}, label %nomemory{n}")
        self.lines.append(f"nomemory{n}:")
        for other in (*self.made.values(), *self.borrowed):
            self.emit(f"call void @Py_DecRef(ptr {other})")
        self.set("e", "call ptr @PyErr_NoMemory()")
        self.emit("ret ptr null")
        self.lines.append(f"done{n}:")

    def touched(self) -> str:
        """Bytes of the largest array of the call."""
        total = self.bytes
        for argument in self.spec.arguments:
            if isinstance(argument, ArrayArg):
                count = str(argument.dtype.size)
                for n in argument.dims:
                    count = self.set("n", f"mul i64 {count}, {n if isinstance(n, int) else self.symbols[n]}")
                total = self.set("n", f"add i64 {total}, {count}")
        return total

    def pointer(self, number: int) -> str:
        buffer = self.program.buffers[number]
        return self.data[self.program._number[buffer.storage]]

    def finish(self) -> None:
        """The result object; temporaries are given back."""
        results = [self.result(kind, position, *more) for kind, position, *more in self.spec.outputs]
        returned = {self.program._number[self.program.plan.outputs[p].buffer.storage]
                    for kind, p, *_ in self.spec.outputs if kind in ("array", "tensor")}  # fmt: skip
        for number, made in self.made.items():
            if number not in returned:
                self.emit(f"call void @Py_DecRef(ptr {made})")
        for object in self.borrowed:
            self.emit(f"call void @Py_DecRef(ptr {object})")
        if not self.spec.is_tuple:
            self.emit(f"ret ptr {results[0]}")
            return
        self.declared.add("declare ptr @PyTuple_Pack(i64, ...)")
        parts = "".join(f", ptr {r}" for r in results)
        packed = self.set("t", f"call ptr (i64, ...) @PyTuple_Pack(i64 {len(results)}{parts})")
        for r in results:
            self.emit(f"call void @Py_DecRef(ptr {r})")
        self.emit(f"ret ptr {packed}")

    def tensor(self, array: str, sizes: int, dtype: int) -> str:
        """A new eager tensor around an array whose reference it takes over."""
        parts = self.spec.tensor
        assert parts is not None
        self.declared.add("declare ptr @PyType_GenericAlloc(ptr, i64)")
        made = self.set("t", f"call ptr @PyType_GenericAlloc(ptr {self.word(self.spec.tensor_words[0])}, i64 0)")
        self.serial += 1
        n = self.serial
        self.emit(f"br i1 {self.set('c', f'icmp eq ptr {made}, null')}, label %none{n}, label %made{n}")
        self.lines += [f"none{n}:", f"  call void @Py_DecRef(ptr {array})", "  ret ptr null", f"made{n}:"]
        none = self.word(self.spec.tensor_words[1])
        held = {parts.sizes: self.word(sizes), parts.dtype: self.word(dtype)}
        held |= dict.fromkeys((parts.context, parts.value, parts.known), none)
        for object in held.values():
            self.emit(f"call void @Py_IncRef(ptr {object})")
        for offset, object in {parts.array: array, **held}.items():
            self.emit(f"store ptr {object}, ptr {self.set('p', f'getelementptr i8, ptr {made}, i64 {offset}')}")
        return made

    def result(self, kind: str, position: int, *more: int) -> str:
        """A new reference."""
        if kind == "tensor":
            return self.tensor(self.result("array", position), *more)
        if kind == "constant":
            object = self.word(position)
            self.emit(f"call void @Py_IncRef(ptr {object})")
            return object
        if kind == "argument":
            self.emit(f"call void @Py_IncRef(ptr {self.objects[position]})")
            return self.objects[position]
        view = self.program.plan.outputs[position]
        number = self.program._number[view.buffer.storage]
        if kind == "scalar":
            descr = self.word(self.dtype_word[view.buffer.dtype])
            function = self.api(PYARRAY_SCALAR)
            return self.set("r", f"call ptr {function}(ptr {self.data[number]}, ptr {descr}, ptr null)")
        if number in self.returned:
            self.emit(f"call void @Py_IncRef(ptr {self.made[number]})")
        self.returned.add(number)
        return self.made[number]


DISPATCHER = f"""\
define ptr @SYMBOL(ptr %self, ptr %args, i64 %nargs, ptr %kwnames) {{
entry:
  %place = call ptr @PyCapsule_GetPointer(ptr %self, ptr null)
  %flagp = getelementptr i64, ptr %place, i64 2
  %flagat = load ptr, ptr %flagp
  %flag = load i64, ptr %flagat
  %chain = load atomic ptr, ptr %place monotonic, align 8
  %length = load i64, ptr %chain
  %on = icmp ne i64 %flag, 0
  %count = select i1 %on, i64 %length, i64 0
  %busyp = getelementptr i64, ptr %place, i64 3
  %busy0 = load i64, ptr %busyp
  %busy1 = add i64 %busy0, 1
  store i64 %busy1, ptr %busyp
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %failed ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %try, label %slow
try:
  %at = mul i64 %i, 2
  %at1 = add i64 %at, 1
  %at2 = add i64 %at, 2
  %fp = getelementptr i64, ptr %chain, i64 %at1
  %f = load ptr, ptr %fp
  %cp = getelementptr i64, ptr %chain, i64 %at2
  %c = load ptr, ptr %cp
  %r = call ptr %f(ptr %c, ptr %args, i64 %nargs, ptr %kwnames)
  %bad = icmp eq ptr %r, inttoptr (i64 {FAIL} to ptr)
  br i1 %bad, label %failed, label %done
failed:
  %next = add i64 %i, 1
  br label %head
done:
  %busy2 = load i64, ptr %busyp
  %busy3 = sub i64 %busy2, 1
  store i64 %busy3, ptr %busyp
  ret ptr %r
slow:
  %busy4 = load i64, ptr %busyp
  %busy5 = sub i64 %busy4, 1
  store i64 %busy5, ptr %busyp
  %sp = getelementptr i64, ptr %place, i64 1
  %callable = load ptr, ptr %sp
  %s = call ptr @PyObject_Vectorcall(ptr %callable, ptr %args, i64 %nargs, ptr %kwnames)
  ret ptr %s
}}
declare ptr @PyCapsule_GetPointer(ptr, ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
"""
