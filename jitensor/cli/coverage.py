"""`jitensor coverage`: which of NumPy's public functions and ndarray methods `jt.jit` records.

Owns the examples, one for each function, and the page made of running them (`jitensor coverage > docs/numpy.md`). A
function is "loops" where the graph of its example is generated code and BLAS alone, "NumPy" where a node of it is run
by NumPy at each call, and refused with its error otherwise. An example counts only where the result is NumPy's.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import jitensor as jt
from jitensor import settings

X = np.sin(np.arange(12.0)).reshape(3, 4)
ARGUMENTS: dict[str, Any] = {
    "x": X,
    "v": np.cos(np.arange(4.0)),
    "s": X @ X.T + np.eye(3),
    "i": np.array([[1, 0, 2, 1], [2, 2, 0, 1], [0, 1, 1, 3]]),
    "n": np.array([2, 0, 1, 1]),
    "b": X > 0,
    "z": X + 1j,
}
# Tried in this order where a function has no example of its own.
PATTERNS = ("x", "x, x", "i", "i, i", "x, 1", "s", "x, v", "v", "v, v", "s, s", "b", "z", "(3, 4)", "3", "[x, x]")

EXAMPLES = {
    "numpy": """apply_along_axis(np.sum, 0, x) apply_over_axes(np.sum, x, [0]) arange(3) * v[0] array(x)
array_split(x, 2)
argpartition(x, 1) block([[x, x]]) broadcast_to(v, (3, 4)) choose(i, [x, x, x, x]) astype(x, int) clip(x, 0, 1)
column_stack([v, v])
compress(b[0], x, 1) copyto(x, v) cross(x[:, :3], x[:, 1:]) delete(x, 1, 0) digitize(x, np.sort(v)) dsplit(x[None], 2)
einsum('ij,kj->ik', x, x) einsum_path('ij,jk', s, s) expand_dims(x, 0) extract(b, x) eye(3) * v[0] fill_diagonal(x, 0)
fromfunction(lambda i, j: i + j, (2, 3)) full(3, v[0]) full_like(x, 2) geomspace(1, 8, 4) * v gradient(x)
histogram(x, 4) histogram2d(v, v, 3) histogramdd(x, 2) hsplit(x, 2) identity(3) * v[0] indices((2, 3)) * v[0]
insert(x, 1, 0, axis=0) interp(x, np.sort(v), v) ix_([0, 1], [1, 2]) kron(x, s) lexsort((v, v))
linspace(v[0], v[1], 3)
logspace(0, 1, 3) * v[0] mask_indices(3, np.triu) matmul(x, v) moveaxis(x, 0, 1) nan_to_num(x) ones(3) * v[0]
packbits(b) pad(x, 1) partition(x, 1) percentile(x, 40) piecewise(x, [x < 0, x >= 0], [-1, 1]) place(x, b, v)
polyfit(v, v, 2) polyval(v, x) polydiv(v, v[:2]) polymul(v, v) roots(z[0]) put(x, [0], 1)
put_along_axis(x, i[:, :1], 1, 1) putmask(x, b, 0)
quantile(x, 0.4) ravel_multi_index((n, n), (3, 3)) repeat(x, 2) reshape(x, (4, 3)) resize(x, (2, 3)) roll(x, 1)
rollaxis(x, 1) rot90(x) searchsorted(v, x) select([b], [x]) setdiff1d(i, n) split(x, 3) stack([x, x])
swapaxes(x, 0, 1)
take(x, n) take_along_axis(x, i, 1) tensordot(x, x, 2) tile(x, 2) trapezoid(x) tri(3) * v[0] tril_indices(3)
triu_indices(3) trim_zeros(v) unpackbits(i.astype('u1')) unravel_index(n, (3, 4)) vander(v) vsplit(x, 3)
where(b, x, 0)
zeros(3) * v[0] full_like(x, 1) diag_indices(3) broadcast_arrays(x, v) bmat([[x, x]]) bincount(n) append(x, v)
isin(i, n) unwrap(x) zeros_like(x) copy(x) empty(3).shape empty_like(x).shape ediff1d(v) convolve(v, v)
correlate(v, v) average(x, weights=x) hanning(4) * v hamming(4) * v bartlett(4) * v blackman(4) * v kaiser(4, 2.0) * v
meshgrid(v, v) concatenate([x, x]) concat([x, x]) vstack([x, x]) hstack([x, x]) dstack([x, x]) row_stack([x, x])
asarray(x) ascontiguousarray(x) asfortranarray(x) asanyarray(x) asarray_chkfinite(x) require(x) vectorize(abs)(x)
ldexp(x, n) frexp(x) vecdot(x, x) matvec(s, x[:, 0]) vecmat(x[:, 0], s) diagflat(v) real_if_close(x) unstack(x)
fromiter((1.0, 2.0), float) * v[0] frombuffer(b'ab', 'u1') * v[0] fromstring('1 2', sep=' ') * v[0]
broadcast_shapes((3, 1), (4,))
left_shift(i, n) right_shift(i, n) bitwise_left_shift(i, n) bitwise_right_shift(i, n) gcd(i, n) lcm(i, n)
invert(i)""",
    "numpy.linalg": """solve(s, x) lstsq(x, x) eig(z[:, :3]) eigvals(z[:, :3]) matrix_power(s, 2)
multi_dot([x.T, s, x])
tensorsolve(s, x[:, 0]) tensorinv(s.reshape(3, 3, 1)[..., 0], 1) qr(x) svd(x) cross(x[:, :3], x[:, 1:]) cholesky(s)
cond(s)
matmul(s, x) tensordot(x, x) outer(v, v) vecdot(x, x) diagonal(x) trace(x) matrix_transpose(x) norm(x)""",
    "numpy.fft": "fftfreq(4) * v rfftfreq(6) * v fftshift(x) ifftshift(x) irfft(z) hfft(z) irfft2(z) irfftn(z)",
    "ndarray": """argpartition(1) astype(int) i.choose([x, x, x, x]) clip(0, 1) compress(b[0], 1) dot(v) fill(1)
item(0, 1) partition(1)
put([0], 1) repeat(2) reshape(4, 3) v.searchsorted(0.5) swapaxes(0, 1) take(n) transpose() view() resize((2, 6))
sort()
argsort() byteswap() diagonal() trace() squeeze() ravel() flatten() nonzero() copy() conj() conjugate() round()
cumsum()
cumprod() argmax() argmin() all() any() max() min() mean() prod() std() sum() var() tobytes() tolist()""",
}
# They neither compute with arrays nor make them: input and output, text, settings, types. Inside a traced function
# those that take no traced array are NumPy's own.
NO_ARRAYS = {
    "numpy": """array2string array_repr array_str asmatrix base_repr binary_repr busday_count busday_offset is_busday
datetime_as_string datetime_data format_float_positional format_float_scientific from_dlpack fromfile fromregex
frompyfunc
genfromtxt get_include get_printoptions getbufsize geterr geterrcall info load loadtxt may_share_memory shares_memory
mintypecode min_scalar_type nested_iters printoptions promote_types save savetxt savez savez_compressed
set_printoptions
setbufsize seterr seterrcall show_config show_runtime test typename can_cast result_type common_type isdtype
issubdtype isnat
iterable bmat isfortran einsum_path""",
    "numpy.linalg": "test",
    "numpy.fft": "test",
    "ndarray": """dump dumps getfield newbyteorder setfield setflags to_device tofile tobytes tolist byteswap""",
}


_NOT_TAKEN = (TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RuntimeError, np.linalg.LinAlgError)


def main(argv: Sequence[str]) -> int:
    """Run the command: prints the page. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="jitensor coverage", description="Print which NumPy functions are recorded.")
    parser.parse_args(argv)
    with settings.override(disable_jit=True):
        print(page(), end="")
    return 0


class Finding(NamedTuple):
    """What became of one function: how is "loops", "NumPy", "refused" or "" (no arrays)."""

    name: str
    how: str
    example: str
    error: str = ""


def examples_of(module: str) -> dict[str, str]:
    """The examples of a module by function name."""
    found: dict[str, str] = {}
    for line in EXAMPLES[module].split("\n"):
        rest = line.strip()
        while rest:
            depth = 0
            end = len(rest)
            for at, letter in enumerate(rest):
                depth += (letter in "([{") - (letter in ")]}")
                if letter == " " and not depth and rest[at + 1 : at + 2].isalpha() and rest[at - 1] not in "*":
                    end = at
                    break
            example, rest = rest[:end], rest[end:].strip()
            receiver, _, method = example.partition(".")
            found[(method if len(receiver) == 1 else example).partition("(")[0]] = example
    return found


def public_names(module: str) -> list[str]:
    """NumPy's public functions and ufuncs of a module, or ndarray's methods."""
    if module == "ndarray":
        names = [n for n in dir(np.ndarray) if not n.startswith("_") and callable(getattr(np.ndarray, n))]
        return sorted(names)
    owner = _owner(module)
    return sorted(
        n for n in dir(owner)
        if not n.startswith("_") and callable(getattr(owner, n)) and not isinstance(getattr(owner, n), type)
    )  # fmt: skip


def _owner(module: str) -> Any:
    return {"numpy": np, "numpy.linalg": np.linalg, "numpy.fft": np.fft}[module]


def expressions(module: str, name: str, examples: dict[str, str]) -> Iterator[str]:
    """Calls of the function to try, the first that NumPy takes is the example."""
    short = {"numpy": "np.", "numpy.linalg": "np.linalg.", "numpy.fft": "np.fft.", "ndarray": "x."}[module]
    if name in examples:
        yield examples[name] if examples[name][1:2] == "." else short + examples[name]
        return
    for pattern in ("",) if module == "ndarray" else PATTERNS:
        yield f"{short}{name}({pattern})"


def find(module: str, name: str, examples: dict[str, str]) -> Finding:
    """Runs the function's example by NumPy and by jt.jit."""
    if name in NO_ARRAYS[module].split():
        return Finding(name, "", "")
    for expression in expressions(module, name, examples):
        text = f"lambda {', '.join(ARGUMENTS)}: ({expression}, x)"
        function = eval(text, {"np": np})
        theirs = {n: a.copy() for n, a in ARGUMENTS.items()}
        try:
            expected = function(**theirs)
        except _NOT_TAKEN:
            continue
        if expected[0] is not NotImplemented:
            return _compare(name, expression, function, expected)
    return Finding(name, "refused", "", "no example")


def _compare(name: str, expression: str, function: Any, expected: Any) -> Finding:
    jitted = jt.jit(function)
    try:
        got = jitted(**{n: a.copy() for n, a in ARGUMENTS.items()})
    except (jt.errors.JitensorError, *_NOT_TAKEN) as error:
        return Finding(name, "refused", expression, type(error).__name__ + ": " + str(error).partition("      ")[0])
    if not _same(got, expected):
        return Finding(name, "refused", expression, "another result than NumPy's")
    (traces,) = jitted._traces.values()
    library = any(n.primitive.family == "library" for n in traces[0].graph.nodes)
    return Finding(name, "NumPy" if library else "loops", expression)


def _same(got: Any, expected: Any) -> bool:
    if isinstance(expected, (tuple, list)):
        return len(got) == len(expected) and all(map(_same, got, expected))
    if isinstance(expected, (np.ndarray, np.generic, float, int, complex)):
        if np.asarray(got).dtype != np.asarray(expected).dtype or np.shape(got) != np.shape(expected):
            return False
        return bool(np.allclose(got, expected, equal_nan=True))
    return bool(got == expected)


def findings(module: str) -> list[Finding]:
    """One for each public name."""
    examples = examples_of(module)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [find(module, name, examples) for name in public_names(module)]


def section(module: str, found: list[Finding] | None = None) -> str:
    """The part of the page about one module."""
    found = findings(module) if found is None else found
    kinds = {how: [f for f in found if f.how == how] for how in _KINDS}
    refused = f"**Refused** ({len(kinds['refused'])}):\n\n{_refusals(kinds['refused'])}\n\n"
    without = f"**No arrays** ({len(kinds[''])}): {_names(kinds[''])}\n" if kinds[""] else ""
    return (
        f"## `{module}`\n\n"
        f"**Loops** ({len(kinds['loops'])}): {_names(kinds['loops'])}\n\n"
        f"**Run by NumPy** ({len(kinds['NumPy'])}): {_names(kinds['NumPy'])}\n\n"
        + (refused if kinds["refused"] else "")
        + without
    )


_KINDS = ("loops", "NumPy", "refused", "")


def page() -> str:
    """docs/numpy.md."""
    found = {module: findings(module) for module in EXAMPLES}
    loops, library, refused, without = (sum(f.how == how for fs in found.values() for f in fs) for how in _KINDS)
    total = loops + library + refused
    share = 100.0 * (loops + library) / total
    head = (
        f"# NumPy's functions under `jt.jit`\n\n"
        f"Made by `jitensor coverage` with NumPy {version()}: an example of each public function is "
        f"traced, run and compared with NumPy's result. Of {total} functions and methods that compute with arrays "
        f"or make them, {loops + library} ({share:.1f} %) are recorded: {loops} without a call "
        f"of NumPy at run time (generated loops, BLAS, constants), {library} with one, around which the rest is fused. "
        f"{refused} are refused. {without} more have nothing to do with the values of arrays.\n\n"
        "A listed function may refuse rarer arguments; the error names them.\n\n"
    )
    return head + "\n".join(section(module, found[module]) for module in EXAMPLES)


def version() -> str:
    """NumPy's version, of which the page tells."""
    return ".".join(np.__version__.split(".")[:2])


def _names(found: list[Finding]) -> str:
    return ", ".join(f"`{f.name}`" for f in found) or "none"


def _refusals(found: list[Finding]) -> str:
    return "\n".join(f"- `{f.name}`: {f.error}" for f in found)
