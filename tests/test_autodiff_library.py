"""Gradients of NumPy functions that run as they are: linear algebra and Fourier transforms, to second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from autodiff_harness import Eager, Tape, check, evaluate, gradient

from jitensor.ops import TABLE
from jitensor.ops import composites as c
from jitensor.ops.numpy_call import call_of, leaves

RNG = np.random.default_rng(2)
X = RNG.normal(size=(2, 3, 3)) + 2 * np.eye(3)
Z = X + 1j * RNG.normal(size=(2, 3, 3))
B = RNG.normal(size=(3, 2))


def call(text: str) -> Callable[..., Any]:
    def function(emit: Tape, *values: Eager) -> Any:
        results = list(leaves(call_of(text, len(values))(*[v.array for v in values])))
        return emit(
            TABLE["numpy_call"],
            *values,
            call=text,
            dtypes=tuple(r.dtype.name for r in results),
            ranks=tuple(r.ndim for r in results),
            shape=tuple(n for r in results for n in r.shape),
        )

    return function


def of_symmetric(text: str, part: int | None = None) -> Callable[..., Any]:
    """The call on x x^H + 1, so that the function's domain is that of its operand; of an eigenvector, what does not
    depend on its phase."""

    def function(emit: Tape, x: Eager) -> Any:
        adjoint = c.swapaxes(emit, emit(TABLE["conjugate"], x), x.type.rank - 2, x.type.rank - 1)
        square = emit(TABLE["matmul"], x, adjoint)
        result = call(text)(emit, square)
        if part is None:
            return result
        return emit(TABLE["square"], emit(TABLE["absolute"], result[part])) if part else result[0]

    return function


CASES: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("inv", call("numpy.linalg.inv(x0)"), (X,)),
    ("inv of complex", call("numpy.linalg.inv(x0)"), (Z,)),
    ("solve", call("numpy.linalg.solve(x0, x1)"), (X[0], B)),
    ("solve batches", call("numpy.linalg.solve(x0, x1)"), (X, B)),
    ("solve a vector", call("numpy.linalg.solve(x0, x1)"), (X[0], B[:, 0])),
    ("solve one vector by many", call("numpy.linalg.solve(x0, x1)"), (X, B[:, 0])),
    ("det", call("numpy.linalg.det(x0)"), (X,)),
    ("det of complex", call("numpy.linalg.det(x0)"), (Z,)),
    ("logdet", lambda e, x: call("numpy.linalg.slogdet(x0)")(e, x)[1], (X,)),
    ("logdet of complex", lambda e, x: call("numpy.linalg.slogdet(x0)")(e, x)[1], (Z,)),
    ("cholesky", of_symmetric("numpy.linalg.cholesky(x0)"), (X,)),
    ("cholesky of complex", of_symmetric("numpy.linalg.cholesky(x0)"), (Z[:1],)),
    ("eigenvalues", of_symmetric("numpy.linalg.eigh(x0)", 0), (X,)),
    ("eigenvectors", of_symmetric("numpy.linalg.eigh(x0)", 1), (X,)),
    ("eigenvectors of complex", of_symmetric("numpy.linalg.eigh(x0)", 1), (Z[:1],)),
    ("singular values", call("numpy.linalg.svd(x0, compute_uv=False)"), (B,)),
    ("fft", call("numpy.fft.fft(x0, axis=0)"), (B,)),
    ("fft of complex", call("numpy.fft.fft(x0)"), (Z[0],)),
    ("ifft", call("numpy.fft.ifft(x0, None, 1, 'ortho')"), (Z[0],)),
    ("fft2", call("numpy.fft.fft2(x0)"), (X,)),
    ("ifftn", call("numpy.fft.ifftn(x0, axes=(0, 2), norm='forward')"), (Z,)),
    ("rfft", call("numpy.fft.rfft(x0, axis=0)"), (B,)),
    ("rfft even", call("numpy.fft.rfft(x0, norm='ortho')"), (B,)),
    ("irfft", call("numpy.fft.irfft(x0)"), (Z[0],)),
    ("irfft odd", call("numpy.fft.irfft(x0, 5, axis=1)"), (Z[0],)),
]


@pytest.mark.parametrize("name, function, arrays", CASES, ids=[n for n, _, _ in CASES])
def test_against_differences(name: str, function: Any, arrays: tuple[Any, ...]) -> None:
    check(function, arrays, order=1)
    if "eigen" not in name and "values" not in name:  # the full decomposition has no second derivative here
        check(lambda e, *v: e(TABLE["square"], function(e, *v)), arrays)


@pytest.mark.parametrize("text", ["numpy.fft.fft(x0, 8)", "numpy.linalg.pinv(x0)", "numpy.fft.hfft(x0)"])
def test_other_calls_raise_by_name(text: str) -> None:
    with pytest.raises(LookupError, match=rf"numpy_call of {text.partition('(')[0]}.* has no gradient"):
        evaluate(gradient(call(text), [0]), [X[0]])
