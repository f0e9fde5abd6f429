"""Builders of test graphs: named ones, and random ones whose results are exact or well conditioned.

A random graph is generated together with its values: each node is evaluated as it is added, and what would leave the
range in which every order of evaluation is exact becomes a dead end that nothing reads. So most comparisons can be bit
for bit; values of rounded functions are `rough` and only feed operations that do not magnify errors.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jitensor.errors import DTypeError, ShapeError
from jitensor.ir import dims
from jitensor.ir.dims import Dim, evaluate, symbol
from jitensor.ir.graph import Graph, GraphBuilder, Value
from jitensor.ir.interpret import concrete, interpret
from jitensor.ir.types import BY_SHORT, DType, TensorType, bool_, float32, float64, int64
from jitensor.ops import TABLE

Array = np.ndarray[Any, Any]


class HintResolver:
    """Answers questions about sizes by their values in this call, and keeps the answers as guards."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.guards: list[tuple[str, int | Dim, int | Dim, bool]] = []
        self.united: dict[str, int | Dim] = {}

    def relation(self, op: str, a: int | Dim, b: int | Dim) -> bool:
        a, b = dims.substitute(a, self.united), dims.substitute(b, self.united)
        if isinstance(a, int) and isinstance(b, int):
            return dims.holds(op, a, b)
        answer = dims.holds(op, evaluate(a, self.sizes), evaluate(b, self.sizes))
        if a != b:
            self.guards.append((op, a, b, answer))
            if op == "eq" and answer:
                self._unite(a, b)
        return answer

    def _unite(self, a: int | Dim, b: int | Dim) -> None:
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Dim) and len(one.symbols) == 1 and one == symbol(next(iter(one.symbols))):
                if not one.symbols & dims.symbols_of(other):
                    name = next(iter(one.symbols))
                    self.united = {k: dims.substitute(v, {name: other}) for k, v in self.united.items()}
                    self.united[name] = other
                    return

    def value(self, a: Dim, why: str) -> int:
        found = evaluate(a, self.sizes)
        self.relation("eq", a, found)
        return found

    def allow(self, sizes: Mapping[str, int]) -> bool:
        return all(dims.holds(op, evaluate(a, sizes), evaluate(b, sizes)) is answer for op, a, b, answer in self.guards)


# Named graphs ---------------------------------------------------------------------------------------------------------

N, M, K = symbol("n"), symbol("m"), symbol("k")


class Build(GraphBuilder):
    """A builder that is called with an op's name: `b("add", x, y)`; sums over `axes` and so on by keyword."""

    def __call__(self, name: str, *inputs: Value, **params: Any) -> Value:
        return self.add(TABLE[name], inputs, params)[0]

    def array(self, *shape: int | Dim, dtype: DType = float64) -> Value:
        return self.input(TensorType(dtype, shape))

    def number(self, value: Any, dtype: DType = float64) -> Value:
        return self.constant(value, dtype)

    def mean(self, x: Value, axes: tuple[int, ...], *, keep: bool) -> Value:
        count = self("size_value", size=dims.product(tuple(x.shape[a] for a in axes)), dtype=x.dtype)
        mean = self("divide", self("reduce_sum", x, axes=axes), count)
        return self("expand_dims", mean, axes=axes) if keep else mean

    def slice(self, x: Value, starts: Sequence[Any], sizes: Sequence[Any], steps: Sequence[int] | None = None) -> Value:
        steps = tuple(steps) if steps is not None else (1,) * len(x.shape)
        return self("slice", x, starts=tuple(starts), sizes=tuple(sizes), steps=steps)

    def store(self, base: Value, value: Value, starts: Sequence[Any], steps: Sequence[int] | None = None) -> Value:
        steps = tuple(steps) if steps is not None else (1,) * len(base.shape)
        return self("update_slice", base, value, starts=tuple(starts), sizes=value.shape, steps=steps)


def black_scholes() -> Graph:
    b = Build("black_scholes")
    spot, strike, years = b.array(N), b.array(N), b.array(N)
    rate, sigma, half = b.number(0.02), b.number(0.3), b.number(0.5)
    root = b("multiply", sigma, b("sqrt", years))
    drift = b("multiply", b("add", rate, b("multiply", half, b("multiply", sigma, sigma))), years)
    d1 = b("divide", b("add", b("log", b("divide", spot, strike)), drift), root)

    def normal(x: Value) -> Value:
        return b("multiply", half, b("add", b.number(1.0), b("erf", b("multiply", x, b.number(2**-0.5)))))

    discounted = b("multiply", strike, b("exp", b("multiply", b("negative", rate), years)))
    second = b("multiply", discounted, normal(b("subtract", d1, root)))
    call = b("subtract", b("multiply", spot, normal(d1)), second)
    return b.finish([call, b("add", b("subtract", call, spot), discounted)])


def chain(count: int = 250) -> Graph:
    b = Build("chain")
    x, y = b.array(N), b.array(N)
    value = x
    for i in range(count // 2):
        value = b("add", b("multiply", value, y), b.number(i * 0.1))
    return b.finish([value])


def mean_square() -> Graph:
    b = Build("mean_square")
    d = b("subtract", b.array(N, M), b.array(N, M))
    return b.finish([b.mean(b("multiply", d, d), (0, 1), keep=False)])


def softmax(axis: int) -> Graph:
    b = Build("softmax")
    x = b.array(N, M, dtype=float32)
    top = b("expand_dims", b("reduce_max", x, axes=(axis,)), axes=(axis,))
    e = b("exp", b("subtract", x, top))
    return b.finish([b("divide", e, b("expand_dims", b("reduce_sum", e, axes=(axis,)), axes=(axis,)))])


def layer_norm() -> Graph:
    b = Build("layer_norm")
    x, scale, shift = b.array(N, M, dtype=float32), b.array(M, dtype=float32), b.array(M, dtype=float32)
    d = b("subtract", x, b.mean(x, (1,), keep=True))
    spread = b("sqrt", b("add", b.mean(b("multiply", d, d), (1,), keep=True), b.number(1e-5, float32)))
    return b.finish([b("add", b("multiply", b("divide", d, spread), scale), shift)])


def variance(rank: int, axes: tuple[int, ...]) -> Graph:
    b = Build("variance")
    x = b.array(*(N, M, K)[:rank])
    d = b("subtract", x, b.mean(x, axes, keep=True))
    return b.finish([b.mean(b("multiply", d, d), axes, keep=False)])


def log_sum_exp(axis: int) -> Graph:
    b = Build("log_sum_exp")
    x = b.array(N, M)
    top = b("reduce_max", x, axes=(axis,))
    e = b("exp", b("subtract", x, b("expand_dims", top, axes=(axis,))))
    return b.finish([b("add", b("log", b("reduce_sum", e, axes=(axis,))), top)])


def pairwise() -> Graph:
    b = Build("pairwise")
    x, y = b.array(N, K), b.array(M, K)
    d = b("subtract", b("expand_dims", x, axes=(1,)), b("expand_dims", y, axes=(0,)))
    return b.finish([b("sqrt", b("reduce_sum", b("multiply", d, d), axes=(2,)))])


def stencil() -> Graph:
    b = Build("stencil")
    x = b.array(N, M)
    up, down, left, right, middle = (
        b.slice(x, at, (N - 2, M - 2)) for at in ((0, 1), (2, 1), (1, 0), (1, 2), (1, 1))
    )  # fmt: skip
    around = b("add", b("add", b("add", up, down), left), right)
    return b.finish([b("subtract", b("multiply", b.number(0.25), around), middle)])


def dense() -> Graph:
    b = Build("dense")
    x, w, bias = b.array(N, K, dtype=float32), b.array(K, M, dtype=float32), b.array(M, dtype=float32)
    return b.finish([b("maximum", b("add", b("matmul", x, w), bias), b.number(0, float32))])


ONE_KERNEL: dict[str, Callable[[], Graph]] = {
    "black_scholes": black_scholes,
    "chain of 250": chain,
    "mean_square": mean_square,
    "softmax of rows": lambda: softmax(1),
    "softmax of columns": lambda: softmax(0),
    "layer_norm": layer_norm,
    "logsumexp of rows": lambda: log_sum_exp(1),
    "logsumexp of columns": lambda: log_sum_exp(0),
    "pairwise": pairwise,
    "stencil": stencil,
    **{
        f"variance of {rank} dimensions over {axes}": functools.partial(variance, rank, axes)
        for rank in (1, 2, 3)
        for count in range(1, rank + 1)
        for axes in itertools.combinations(range(rank), count)
    },
}


# Values in memory -----------------------------------------------------------------------------------------------------

LAYOUTS = ("C", "C", "C", "F", "step", "reverse", "perm", "inner", "zero")


def place(array: Array, layout: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """The array laid out in memory as told, and the whole memory, which is larger and poisoned around it."""
    rank = array.ndim
    order = tuple(range(rank))
    steps = [1] * rank
    if layout == "F":
        order = order[::-1]
    elif layout == "perm":
        order = tuple(rng.permutation(rank))
    elif layout == "step":
        steps = [int(rng.integers(1, 4)) for _ in range(rank)]
    elif layout == "inner" and rank > 1:
        steps = [*[int(rng.integers(1, 4)) for _ in range(rank - 1)], 1]
    elif layout == "reverse":
        steps = [int(rng.choice([-2, -1, 1])) for _ in range(rank)]
    outer = [array.shape[d] * abs(steps[d]) + (2 if layout in ("step", "inner") else 0) for d in order]
    count = int(np.prod(outer)) if outer else 1
    margin = 64
    memory = np.empty(count + 2 * margin, array.dtype)
    memory.view(np.uint8)[:] = 0xA5
    block = memory[margin : margin + count].reshape(outer)
    block = block.transpose(np.argsort(order)) if rank else block
    index = tuple(
        slice(None, n * s, s) if s > 0 else (slice(n * -s - 1, None, s) if n else slice(0, 0))
        for n, s in zip(array.shape, steps, strict=True)
    )
    view = block[index] if rank else block
    assert view.shape == array.shape
    view[...] = array
    return view, memory


def fill(dtype: DType, shape: Sequence[int], rng: np.random.Generator, special: bool) -> Array:
    shape = tuple(shape)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        if special and rng.random() < 0.3:
            info = np.iinfo(dtype.numpy)
            return np.asarray(rng.integers(info.min, info.max, shape, dtype=dtype.numpy, endpoint=True))
        return np.asarray(rng.integers(0 if dtype.kind == "u" else -7, 8, shape).astype(dtype.numpy))
    result = np.asarray(rng.integers(-7, 8, shape).astype(dtype.numpy))
    if dtype.kind == "c":
        return np.asarray(result + 1j * rng.integers(-7, 8, shape)).astype(dtype.numpy)
    if special and rng.random() < 0.3:
        which = rng.random(shape)
        for bound, value in ((0.05, np.nan), (0.08, np.inf), (0.11, -np.inf), (0.2, -0.0)):
            result = np.where((which < bound) & (which >= bound - 0.05), dtype.numpy.type(value), result)
    return np.asarray(result)


# Random graphs --------------------------------------------------------------------------------------------------------

EXACT_LIMIT = {"f16": 1 << 9, "f32": 1 << 21, "f64": 1 << 48, "c64": 1 << 9, "c128": 1 << 22}
DTYPES = tuple(BY_SHORT.values())
# Elementwise entries whose floating results are exact on small whole numbers, whatever is contracted.
EXACT = (
    *("add", "subtract", "multiply", "negative", "positive", "absolute", "fabs", "square", "conjugate", "maximum"),
    *("minimum", "fmax", "fmin", "clip", "floor", "ceil", "trunc", "rint", "sign", "copysign", "heaviside"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "where", "isnan", "isinf", "isfinite"),
    *("signbit", "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("invert", "left_shift", "right_shift", "bitwise_count", "floor_divide", "remainder", "fmod", "gcd", "lcm"),
    *("real", "imag", "complex", "power", "frexp_mantissa", "frexp_exponent", "modf_fraction", "modf_integral"),
)
SMOOTH = (
    *("tanh", "sin", "cos", "atan", "sigmoid", "erf", "exp2", "sqrt", "log1p", "expm1", "asinh", "cbrt", "exp", "log"),
)
FAMILIES = (
    *(("elementwise", 44), ("cast", 8), ("reduction", 12), ("transpose", 5), ("expand_dims", 5), ("squeeze", 3)),
    *(("broadcast_to", 4), ("slice", 9), ("reshape", 6), ("full", 3), ("iota", 3), ("concatenate", 4), ("update", 7)),
    *(("matmul", 2), ("library", 2), ("smooth", 6), ("normalise", 4)),
)


class RandomGraph:
    """Grows one graph. `symbolic`: sizes of inputs are symbols."""

    def __init__(self, seed: int, nodes: int, symbolic: bool, focus: str = "") -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.symbolic = symbolic
        self.focus = focus
        self.builder = GraphBuilder(f"g{seed}")
        self.values: dict[int, Array] = {}
        self.pool: list[Value] = []
        self.rough: set[int] = set()
        self.inputs: list[tuple[Value, str, bool]] = []  # value, layout, special values
        self.log: list[str] = []
        self.updates: dict[int, Value] = {}
        rng = self.rng
        high = 40 if rng.random() < 0.1 else 9
        low = 2 if rng.random() < 0.8 else 0
        names = ("a", "b", "c", "d")
        self.sizes = {n: int(rng.integers(low, high)) for n in names} if symbolic else {}
        if symbolic:
            for n in names:
                self.sizes[n] = max(self.sizes[n], 2)
            if rng.random() < 0.3:
                self.sizes["b"] = self.sizes["a"]
        self.extents: list[Any] = (
            [symbol(n) for n in names] if symbolic else [int(rng.integers(low, high)) for _ in range(3)]
        )
        self.resolver = HintResolver(self.sizes)
        if rng.random() < 0.06:  # longer than the blocks that loops run in
            if symbolic:
                self.sizes["a"] = int(rng.integers(250, 1100))
            else:
                self.extents[0] = int(rng.integers(250, 1100))
        few = rng.integers(1, 4)
        self.dtypes = [DTYPES[i] for i in rng.choice(len(DTYPES), few, replace=False)]
        if rng.random() < 0.5:
            self.dtypes.append(float64)
        with dims.resolving(self.resolver), np.errstate(all="ignore"):
            for _ in range(int(rng.integers(1, 6))):
                self.add_input()
            for _ in range(nodes):
                self.grow()
            self.graph = self.close()

    # Parts ------------------------------------------------------------------------------------------------------------

    def concrete(self, shape: Sequence[int | Dim]) -> tuple[int, ...]:
        return tuple(evaluate(n, self.sizes) for n in shape)

    def pick_shape(self, most: int = 4) -> tuple[int | Dim, ...]:
        rank = int(self.rng.choice([0, 1, 2, 2, 2, 3, 3, most]))
        shape = []
        for _ in range(rank):
            u = self.rng.random()
            shape.append(1 if u < 0.12 else 0 if u < 0.13 else self.extents[self.rng.integers(len(self.extents))])
        return tuple(shape)

    def add_input(self) -> None:
        rng = self.rng
        dtype = self.dtypes[rng.integers(len(self.dtypes))]
        scalar = rng.random() < 0.15
        shape = () if scalar else self.pick_shape()
        while np.prod(self.concrete(shape)) > 20000:
            shape = shape[1:]
        value = self.builder.input(TensorType(dtype, shape), scalar=scalar)
        layout = str(rng.choice(LAYOUTS))
        special = bool(rng.random() < 0.4)
        self.inputs.append((value, layout, special))
        array = fill(dtype, self.concrete(shape), rng, special)
        self.values[value.id] = array
        self.pool.append(value)

    def any(self, want: Callable[[Value], bool] = lambda v: True) -> Value | None:
        pool = [v for v in self.pool if want(v)]
        if not pool:
            return None
        if self.rng.random() < 0.5:
            pool = pool[-6:]
        return pool[self.rng.integers(len(pool))]

    def add(self, name: str, inputs: Sequence[Value], rough: bool = False, **params: Any) -> Value | None:
        primitive = TABLE[name]
        try:
            outputs = self.builder.add(primitive, inputs, params)
        except (ShapeError, DTypeError, TypeError):
            return None
        given = {k: concrete(p, self.sizes) for k, p in params.items()}
        results = primitive.evaluate(*[self.values[v.id] for v in inputs], **given)
        if not isinstance(results, tuple):
            results = (results,)
        rough = rough or any(v.id in self.rough for v in inputs)
        kept = None
        for v, result in zip(outputs, results, strict=True):
            if v.id in self.values:
                return v if v in self.pool else None
            array = self.values[v.id] = np.asarray(result, v.dtype.numpy)
            assert array.shape == self.concrete(v.shape), (name, array.shape, v.shape, self.concrete(v.shape))
            if rough or (name in ("absolute", "sign") and inputs[0].dtype.kind == "c"):
                self.rough.add(v.id)
            if self.tame(array, v.dtype):
                self.pool.append(v)
                kept = v
            self.log.append(f"{v} = {name} {[i.id for i in inputs]} {params}")
        return kept

    def tame(self, array: Array, dtype: DType) -> bool:
        if array.size > 20000:
            return False
        limit = EXACT_LIMIT.get(dtype.short)
        if limit is None or array.size == 0:
            return True
        finite = array[np.isfinite(array)]
        return bool(np.all(np.abs(finite) <= limit)) and (dtype.kind != "c" or finite.size == array.size)

    def grow(self) -> None:
        names = [n for n, _ in FAMILIES]
        weights = np.array([w * (6 if n == self.focus else 1) for n, w in FAMILIES], float)
        getattr(self, "grow_" + self.rng.choice(names, p=weights / weights.sum()))()

    def is_exact(self, v: Value) -> bool:
        return v.id not in self.rough

    def grow_elementwise(self) -> None:
        rng = self.rng
        first = self.any()
        if first is None:
            return
        if first.id in self.rough:
            self.grow_rough(first)
            return
        for _ in range(12):
            name = str(rng.choice(EXACT)) if rng.random() < 0.6 else str(rng.choice(EXACT[:14]))
            primitive = TABLE[name]
            operands = [first]
            for _ in range(len(primitive.samples) - 1):
                other = self.any(lambda v: v.dtype is first.dtype and self.is_exact(v) and self.fits(v, first))
                if rng.random() < 0.1:
                    other = self.constant(first.dtype)
                operands.append(other or first)
            if name == "where":
                condition = self.any(lambda v: v.dtype is bool_ and self.is_exact(v) and self.fits(v, first))
                if condition is None:
                    continue
                operands[0] = condition
                operands[1] = first
            if name == "power" and first.dtype.kind in "fc":
                operands[1] = self.builder.constant(int(rng.integers(0, 4)), first.dtype)
                self.values[operands[1].id] = np.asarray(self.literal(operands[1]), first.dtype.numpy)
            if name in ("floor_divide", "remainder", "fmod") and first.dtype.kind == "f":
                if not np.all(np.isfinite(self.values[operands[1].id])):
                    continue
            if self.add(name, operands) is not None:
                return

    def literal(self, v: Value) -> Any:
        return self.builder.producer[v.id].param("value").array[()]

    def grow_rough(self, first: Value) -> None:
        other = self.any(lambda v: v.dtype is first.dtype and self.fits(v, first)) or first
        name = str(self.rng.choice(["maximum", "minimum", "negative", "absolute", "add", "multiply"]))
        if name in ("add", "multiply") and first.dtype.kind == "f":
            # |x| + |y| loses nothing; products neither.
            a = self.add("absolute", [first]) or first
            b = self.add("absolute", [other]) or other
            self.add(name, [a, b])
        elif len(TABLE[name].samples) == 1:
            self.add(name, [first])
        else:
            self.add(name, [first, other])

    def fits(self, v: Value, first: Value) -> bool:
        shape = list(reversed(self.concrete(v.shape)))
        mine = list(reversed(self.concrete(first.shape)))
        return all(n == m or n == 1 or m == 1 for n, m in zip(shape, mine, strict=False))

    def constant(self, dtype: DType) -> Value:
        value = fill(dtype, (), self.rng, False)
        made = self.builder.constant(value, dtype)
        self.values[made.id] = np.asarray(value)
        return made

    def grow_cast(self) -> None:
        v = self.any(self.is_exact)
        if v is None:
            return
        dtype = DTYPES[self.rng.integers(len(DTYPES))] if self.rng.random() < 0.3 else None
        dtype = dtype or self.dtypes[self.rng.integers(len(self.dtypes))]
        if v.dtype.kind in "fc" and dtype.kind in "iu":
            array = self.values[v.id]
            if not np.all(np.isfinite(array)) or (array.size and np.abs(array).max() > 100) or (
                dtype.kind == "u" and array.size and array.real.min() < 0):  # fmt: skip
                return
        if v.dtype.kind in "iu" and dtype.kind in "fc":
            array = self.values[v.id]
            if array.size and max(abs(int(array.max())), abs(int(array.min()))) > 256:
                return
        if v.dtype is not dtype:
            self.add("cast", [v], dtype=dtype)

    def grow_reduction(self) -> None:
        v = self.any(lambda v: bool(v.shape))
        if v is None:
            return
        rank = len(v.shape)
        count = int(self.rng.integers(1, rank + 1))
        axes = tuple(sorted(int(a) for a in self.rng.choice(rank, count, replace=False)))
        names = ["reduce_sum", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"]
        if v.dtype is bool_:
            names = ["reduce_any", "reduce_all", "reduce_max"]
        elif self.is_exact(v):
            names += ["argmax", "argmin"]
        name = str(self.rng.choice(names))
        if not self.is_exact(v):
            if name == "reduce_prod":
                return
            if name == "reduce_sum":
                v = self.add("absolute", [v]) or v
        if name.startswith("arg") and count not in (1, rank):
            axes = axes[:1]
        array = self.values[v.id]
        if v.dtype.kind in "fc" and name in ("reduce_sum", "reduce_prod"):
            finite = np.abs(array[np.isfinite(array)])
            if finite.size and name == "reduce_sum" and finite.sum() > EXACT_LIMIT[v.dtype.short]:
                return
            if finite.size and name == "reduce_prod":
                if np.sum(np.log2(np.maximum(finite, 1.0))) > np.log2(EXACT_LIMIT[v.dtype.short]) - 1:
                    return
        self.add(name, [v], axes=axes)

    def grow_normalise(self) -> None:
        """x minus its row extreme, the shape of softmax and variance."""
        v = self.any(lambda v: bool(v.shape) and v.dtype.kind in "iufc" and self.is_exact(v))
        if v is None:
            return
        rank = len(v.shape)
        axes = tuple(sorted(int(a) for a in self.rng.choice(rank, int(self.rng.integers(1, rank + 1)), replace=False)))
        total = self.add(str(self.rng.choice(["reduce_sum", "reduce_max", "reduce_min"])), [v], axes=axes)
        if total is None:
            return
        kept = self.add("expand_dims", [total], axes=axes)
        if kept is None:
            return
        centred = self.add(str(self.rng.choice(["subtract", "add", "maximum"])), [v, kept])
        if centred is not None and self.rng.random() < 0.6:
            again = self.add("multiply", [centred, centred]) or centred
            self.add("reduce_sum", [again], axes=axes)

    def grow_transpose(self) -> None:
        v = self.any(lambda v: len(v.shape) > 1)
        if v is not None:
            self.add("transpose", [v], perm=tuple(int(p) for p in self.rng.permutation(len(v.shape))))

    def grow_expand_dims(self) -> None:
        v = self.any(lambda v: len(v.shape) < 6)
        if v is not None:
            self.add("expand_dims", [v], axes=(int(self.rng.integers(len(v.shape) + 1)),))

    def grow_squeeze(self) -> None:
        v = self.any(lambda v: any(isinstance(n, int) and n == 1 for n in v.shape))
        if v is not None:
            ones = [d for d, n in enumerate(v.shape) if isinstance(n, int) and n == 1]
            self.add("squeeze", [v], axes=(int(self.rng.choice(ones)),))

    def grow_broadcast_to(self) -> None:
        v = self.any(lambda v: len(v.shape) < 5)
        if v is None:
            return
        shape = tuple(
            self.extents[self.rng.integers(len(self.extents))] if isinstance(n, int) and n == 1 else n for n in v.shape
        )
        if self.rng.random() < 0.5:
            shape = (self.extents[self.rng.integers(len(self.extents))], *shape)
        if shape != v.shape and np.prod(self.concrete(shape)) < 20000:
            self.add("broadcast_to", [v], shape=shape)

    def region(self, shape: Sequence[int | Dim]) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[int, ...]]:
        starts, sizes, steps = [], [], []
        for n in shape:
            actual = evaluate(n, self.sizes)
            kind = int(self.rng.integers(7)) if actual > 1 else 0
            if kind in (0, 1) or actual == 0:
                part = (0, n, 1)
            elif kind == 2:
                part = (1, n - 1, 1)
            elif kind == 3:
                part = (0, n - 1, 1)
            elif kind == 4:
                part = (n - 1, n, -1)
            elif kind == 5:
                part = (0, (n + 1) // 2, 2)
            elif actual > 2:
                part = (1, n - 2, 1)
            else:
                part = (n - 1, 1, 1)
            starts.append(part[0])
            sizes.append(part[1])
            steps.append(part[2])
        return tuple(starts), tuple(sizes), tuple(steps)

    def grow_slice(self) -> None:
        v = self.any(lambda v: bool(v.shape))
        if v is not None:
            starts, sizes, steps = self.region(v.shape)
            self.add("slice", [v], starts=starts, sizes=sizes, steps=steps)

    def grow_reshape(self) -> None:
        v = self.any()
        if v is None:
            return
        shape = list(v.shape)
        kind = self.rng.integers(4)
        if kind == 0 or len(shape) < 2:
            shape = [dims.product(v.shape)]
        elif kind == 1:
            d = int(self.rng.integers(len(shape) - 1))
            shape[d : d + 2] = [shape[d] * shape[d + 1]]
        elif kind == 2:
            shape.insert(int(self.rng.integers(len(shape) + 1)), 1)
        else:
            shape = shape[1:] + shape[:1]
        self.add("reshape", [v], shape=tuple(shape))

    def grow_full(self) -> None:
        v = self.any(lambda v: v.shape == ())
        if v is None or self.rng.random() < 0.4:
            v = self.constant(self.dtypes[self.rng.integers(len(self.dtypes))])
        shape = self.pick_shape(3)
        if np.prod(self.concrete(shape)) <= 20000:
            self.add("full", [v], shape=shape)

    def grow_iota(self) -> None:
        shape = self.pick_shape(3)
        if not shape or np.prod(self.concrete(shape)) > 20000:
            return
        dtype = self.dtypes[self.rng.integers(len(self.dtypes))]
        dtype = dtype if dtype is not bool_ else int64
        self.add("iota", [], shape=shape, axis=int(self.rng.integers(len(shape))), dtype=dtype)

    def grow_concatenate(self) -> None:
        first = self.any(lambda v: bool(v.shape))
        if first is None:
            return
        axis = int(self.rng.integers(len(first.shape)))
        parts = [first]
        for _ in range(int(self.rng.integers(1, 4))):
            other = self.any(
                lambda v: v.dtype is first.dtype
                and len(v.shape) == len(first.shape)
                and all(d == axis or n == m for d, (n, m) in enumerate(
                    zip(self.concrete(v.shape), self.concrete(first.shape), strict=True)))
            )  # fmt: skip
            parts.append(other or first)
        self.add("concatenate", parts, axis=axis)

    def grow_update(self) -> None:
        """A chain of writes into an input, a fresh array or any value."""
        targets = [v for v, layout, _ in self.inputs if v.id not in self.builder.scalars and layout != "zero"]
        into_input = bool(targets) and self.rng.random() < 0.6
        target = targets[self.rng.integers(len(targets))] if into_input else None
        base = self.updates.get(target.id, target) if target is not None else self.any(lambda v: bool(v.shape))
        if base is None:
            return
        for _ in range(int(self.rng.integers(1, 4))):
            if self.rng.random() < 0.5:
                self.grow()
            if target is not None:
                base = self.updates.get(target.id, base)  # what grew may have written it too
            starts, sizes, steps = self.region(base.shape)
            actual = self.concrete(sizes)
            dtype = base.dtype
            new = self.any(lambda v: v.dtype is dtype and self.concrete(v.shape) == actual)  # noqa: B023
            if new is None or self.rng.random() < 0.3:
                own = self.add("slice", [base], starts=starts, sizes=sizes, steps=steps)
                if own is not None and self.rng.random() < 0.8:
                    other = self.any(lambda v: v.dtype is dtype and self.fits(v, own) and self.is_exact(v))  # noqa: B023
                    name = str(self.rng.choice(["add", "maximum", "multiply", "minimum"]))
                    new = self.add(name, [own, other or own]) if self.is_exact(own) else own
                    if new is not None and self.concrete(new.shape) != actual:
                        new = None
            if new is None:
                new = self.add("full", [self.constant(dtype)], shape=sizes)
            if new is None:
                return
            made = self.add("update_slice", [base, new], starts=starts, sizes=sizes, steps=steps)
            if made is None:
                return
            base = made
            if target is not None:
                self.updates[target.id] = base

    def grow_matmul(self) -> None:
        a = self.any(lambda v: len(v.shape) in (2, 3) and v.dtype.short not in ("b1", "f16") and self.is_exact(v))
        if a is None or not np.all(np.isfinite(self.values[a.id])):
            return
        b = self.any(lambda v: len(v.shape) == 2 and v.dtype is a.dtype and self.is_exact(v)
                     and self.concrete(v.shape)[0] == self.concrete(a.shape)[-1])  # fmt: skip
        if b is None:
            b = self.add("transpose", [a], perm=(1, 0)) if len(a.shape) == 2 else None
        if b is None or not np.all(np.isfinite(self.values[b.id])):
            return
        limit = EXACT_LIMIT.get(a.dtype.short)
        big = self.values[a.id].size and self.values[b.id].size
        if limit and big:
            bound = float(np.abs(self.values[a.id]).max()) * float(np.abs(self.values[b.id]).max())
            if bound * max(self.concrete(a.shape)[-1], 1) > limit:
                return
        self.add("matmul", [a, b])

    def grow_library(self) -> None:
        v = self.any(lambda v: bool(v.shape) and v.dtype.kind in "iuf" and self.is_exact(v))
        if v is None:
            return
        axis = int(self.rng.integers(len(v.shape)))
        array = self.values[v.id]
        if v.dtype.kind == "f" and array.size and not np.abs(np.nan_to_num(array, posinf=0, neginf=0)).sum() < (
            EXACT_LIMIT[v.dtype.short]):  # fmt: skip
            return
        self.add(str(self.rng.choice(["cumsum", "cummax", "sort"])), [v], axis=axis)

    def grow_smooth(self) -> None:
        v = self.any(lambda v: v.dtype.short in ("f32", "f64", "f16") and self.is_exact(v))
        if v is None:
            return
        array = self.values[v.id]
        finite = array[np.isfinite(array)]
        name = str(self.rng.choice(SMOOTH))
        if finite.size and np.abs(finite).max() > 8:
            name = str(self.rng.choice(["tanh", "erf", "atan", "sigmoid"]))
        if name in ("sqrt", "log1p", "log"):
            v = self.add("absolute", [v]) or v
        self.add(name, [v], rough=True)

    # The end ----------------------------------------------------------------------------------------------------------

    def close(self) -> Graph:
        rng = self.rng
        pool = list(dict.fromkeys(self.pool))
        count = min(len(pool), int(rng.integers(1, 5)))
        chosen = [pool[i] for i in rng.choice(len(pool), count, replace=False)]
        if rng.random() < 0.7:
            chosen[-1] = pool[-1]
        if rng.random() < 0.1:
            chosen.append(chosen[0])
        updates = []
        for value, layout, _ in self.inputs:
            if value.id in self.builder.scalars or layout == "zero":
                continue
            new = self.updates.get(value.id)
            if new is None and rng.random() < 0.15:
                new = self.any(lambda v: v.dtype is value.dtype and v.shape == value.shape)  # noqa: B023
                if new is value:
                    new = None
            if new is not None:
                updates.append((value, new))
        return self.builder.finish(chosen, updates)

    def is_exact_for(self, arguments: Sequence[Any], sizes: Mapping[str, int]) -> bool:
        """Do other arguments stay in the range in which every order of evaluation gives the same bits?"""
        values: dict[int, Array] = {}
        for v, a in zip(self.graph.inputs, arguments, strict=True):
            values[v.id] = np.asarray(a)
        needed = {v.id for v in self.graph.outputs} | {v.id for _, v in self.graph.updates}
        live = []
        for node in reversed(self.graph.nodes):
            if any(v.id in needed for v in node.outputs):
                live.append(node)
                needed.update(v.id for v in node.inputs)
        with np.errstate(all="ignore"):
            for node in reversed(live):
                given = {k: concrete(p, sizes) for k, p in node.params}
                operands = [values[v.id] for v in node.inputs]
                if not self._is_exact_node(node.primitive.name, operands, node.output.dtype):
                    return False
                results = node.primitive.evaluate(*operands, **given)
                results = results if isinstance(results, tuple) else (results,)
                for v, result in zip(node.outputs, results, strict=True):
                    values[v.id] = np.asarray(result, v.dtype.numpy)
                    if not self.tame(values[v.id], v.dtype):
                        return False
        return True

    def _is_exact_node(self, name: str, operands: list[Array], dtype: DType) -> bool:
        limit = EXACT_LIMIT.get(dtype.short, 0)
        x = operands[0] if operands else np.zeros(())
        if name == "cast" and x.dtype.kind in "fc" and dtype.kind in "iu":
            return bool(
                np.all(np.isfinite(x)) and np.all(np.abs(x) < 100) and (dtype.kind == "i" or np.all(x.real >= 0))
            )
        if name == "cast" and limit and x.dtype.kind in "iu" and x.size:
            return max(abs(int(x.max())), abs(int(x.min()))) <= 256
        if not limit or not x.size or x.dtype.kind not in "fc":
            return True
        sizes = np.abs(x[np.isfinite(x)])
        if name in ("reduce_sum", "cumsum"):
            return float(sizes.sum()) <= limit
        if name == "reduce_prod":
            return float(np.sum(np.log2(np.maximum(sizes, 1.0)))) < np.log2(limit)
        if name == "matmul":
            finite = all(np.all(np.isfinite(o)) for o in operands)
            return finite and float(sizes.max()) * float(np.abs(operands[1]).max(initial=0)) * x.shape[-1] <= limit
        if name in ("floor_divide", "remainder", "fmod"):
            return bool(np.all(np.isfinite(operands[1])))
        return True

    def arguments(self, sizes: Mapping[str, int], seed: int) -> tuple[list[Any], list[Array | None]]:
        """Arguments for a call, and the whole memory around each. Seed 0 gives the values that the graph grew with."""
        rng, layouts = np.random.default_rng((self.seed, seed)), np.random.default_rng(self.seed)
        arguments: list[Any] = []
        memories: list[Array | None] = []
        for value, layout, special in self.inputs:
            shape = tuple(evaluate(n, sizes) for n in value.shape)
            array = self.values[value.id] if seed == 0 else fill(value.dtype, shape, rng, special)
            if value.id in self.builder.scalars:
                arguments.append(array[()])
                memories.append(None)
                continue
            if layout == "zero" and array.ndim:
                d = int(layouts.integers(array.ndim))
                line = array.take([0], axis=d) if array.shape[d] else array
                placed = np.broadcast_to(line, array.shape)
                memory = line
            else:
                placed, memory = place(array, layout, layouts)
            arguments.append(placed)
            memories.append(memory)
        return arguments, memories


def random_graph(seed: int, nodes: int, *, symbolic: bool, focus: str = "") -> RandomGraph:
    return RandomGraph(seed, nodes, symbolic, focus)


def expected(graph: Graph, arguments: Sequence[Any], sizes: Mapping[str, int]) -> tuple[list[Array], list[Array]]:
    outputs, updates = interpret(graph, [np.array(a) for a in arguments], sizes)
    return [np.array(o) for o in outputs], [np.array(u) for u in updates]
