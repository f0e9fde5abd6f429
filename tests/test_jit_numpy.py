"""jt.jit: functions made of recorded ones, rarer arguments, methods of ufuncs: against the undecorated function."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt
from jitensor import settings
from jitensor.cli import coverage

X = np.sin(np.arange(24.0)).reshape(4, 6)
V = np.cos(np.arange(6.0))
N = np.where(X > 0.5, np.nan, X)

EXPRESSIONS = """
np.kron(x,V) | np.kron(x,x[:2,:3]) | np.block([[x,x],[x,x]]) | np.block([V,V]) | np.block([[np.ones((4,1)),x]])
np.diagflat(V) | np.polyval([1,2,3],x) | np.polyval(V[:3],x) | np.piecewise(x,[x<0,x>0.5],[lambda v:v*2,3])
np.piecewise(x,[x<0],[-1,lambda v:v-v.mean()]) | np.apply_along_axis(np.sum,0,x)
np.apply_along_axis(lambda r:r-r.mean(),1,x) | np.apply_along_axis(lambda r:(r.max()),0,x)
np.apply_along_axis(np.sort,1,x) | np.iscomplex(x+1j) | np.isreal(x) | np.isneginf(x/0) | np.isposinf(x)
np.array_equiv(x,x) | np.array_equiv(x,V) | np.asarray_chkfinite(x) | np.asfortranarray(x)*1
np.require(x,requirements='C') | np.nanvar(N) | np.nanvar(N,axis=0) | np.nanvar(N,axis=1,ddof=1)
np.nanstd(N,axis=(0,1),keepdims=True) | np.nanstd(N.astype('f4'),axis=0) | np.nanvar(N+1j*x)
np.nanvar((x>0).astype(int)) | np.nanvar(N[:1],axis=0,ddof=1) | np.cov(x) | np.cov(x,rowvar=False) | np.cov(V)
np.cov(V,x[0]) | np.cov(x,bias=True) | np.cov(x,ddof=0) | np.cov(x+1j) | np.cov(x.astype('f4'))
np.cov(x,aweights=np.abs(V)) | np.cov((x>0)*2) | np.cov(x[:1]) | np.cumulative_sum(V)
np.cumulative_sum(x,axis=1,include_initial=True) | np.cumulative_prod(x,axis=0) | np.fft.fftshift(x)
np.fft.ifftshift(V[:5]) | np.fft.fftshift(x,axes=1) | np.linalg.cross(x[:,:3],x[:,3:]) | np.linalg.diagonal(x)
np.linalg.trace(x) | np.linalg.matmul(x,x.T) | np.linalg.outer(V,V) | np.linalg.tensordot(x,x)
np.linalg.vecdot(x,x) | np.linalg.vector_norm(x) | np.linalg.vector_norm(x,axis=1,keepdims=True)
np.linalg.multi_dot([x,x.T,x]) | np.linalg.matrix_transpose(x) | np.insert(x,1,V,axis=0) | np.resize(x,(5,7))
np.polymul(V,x[0]) | np.polydiv(V,V[:3]) | np.roots(V+0j) | np.trim_zeros(np.round(V)) | np.real(x) | np.real(x+1j)
x.real | np.astype(x,'f4') | np.histogramdd(x[:,:2],3) | np.einsum('ii->i',x[:,:4]) | np.einsum('ii',x[:,:4])
np.einsum('...j->...',x) | np.einsum('ij,jk,kl',x,x.T,x) | np.einsum('...i,...i',x,x) | np.einsum(x,[0,1],[1])
np.einsum('i...->...',x) | np.einsum('ij,ij->i',x,x) | np.einsum('ij,kj->ki',x,x)
np.einsum('a,b,c->abc',V,V[:2],V[:3]) | np.einsum('ijj->i',np.stack([x[:,:4]]*2)) | np.var(x,axis=0,where=x>0)
np.std(x,where=x>0) | np.var(x,axis=1,mean=x.mean(axis=1,keepdims=True)) | x.var(axis=1,where=x>0,ddof=1)
np.gradient(x,V[:4].cumsum(),axis=0) | np.gradient(V,edge_order=2) | np.gradient(x,2.0,axis=1,edge_order=2)
np.average(x,axis=1,returned=True) | np.average(x,weights=np.abs(x),axis=0,returned=True) | np.linalg.norm(x,ord=2)
np.linalg.norm(x,'nuc') | np.linalg.norm(x,1) | np.linalg.norm(x,axis=(0,1)) | np.linalg.norm(x,ord=2,axis=(0,1))
np.linalg.norm(x,np.inf) | np.searchsorted(V,x,sorter=np.argsort(V)) | np.pad(x,1,mode='linear_ramp')
np.pad(x,1,mode='mean') | np.take_along_axis(x,np.argsort(x,axis=1),axis=1) | np.take(x,[1,2],axis=1,mode='wrap')
np.logspace(0,x[0,0],4) | np.geomspace(1.0,x[0,1]+2,4) | np.trapezoid(x,x=V,axis=1) | np.nan_to_num(N,nan=1.0)
np.round(x,1) | np.argsort(x,axis=None) | np.argsort(x,kind='stable') | np.sort(x,axis=None)
np.repeat(x,[1,2,1,0],axis=0) | np.logaddexp.reduce(x,axis=1) | np.add.reduce(x) | np.multiply.accumulate(x,axis=1)
np.subtract.outer(V,V) | np.maximum.reduce(x,axis=None) | np.hypot.outer(V,V) | np.logical_xor.reduce(x>0,axis=1)
np.minimum.accumulate(x) | np.add.reduce(x,axis=(0,1),keepdims=True) | np.power.outer(V**2,V)
np.add.accumulate(x,axis=1) | np.bitwise_or.reduce((x*8).astype(int),axis=0)
"""
LISTED = [e.strip() for line in EXPRESSIONS.strip().splitlines() for e in line.split(" | ")]


@pytest.mark.parametrize("expression", LISTED)
def test_expression(expression: str) -> None:
    same(eval(f"lambda x, V, N: {expression}", {"np": np}), X, V, N)


SCIPY = """
special.gammaln(np.abs(x) + 1) | special.digamma(x + 2) | special.i0(x) | special.j0(x) * 2 | special.binom(5, x + 2)
special.ndtri(np.abs(x) / 2) | special.xlogy(x + 1, x + 2) | special.entr(x + 1) | linalg.inv(x[:, :4] + 3 * np.eye(4))
linalg.expm(x[:, :4]) | linalg.lu(x) | signal.detrend(x) | linalg.solve(x[:, :4] + 3 * np.eye(4), V[:4])
"""


def test_scipy_s_functions() -> None:
    modules = {name: pytest.importorskip(f"scipy.{name}") for name in ("linalg", "signal", "special")}
    for expression in (e for line in SCIPY.strip().splitlines() for e in line.split(" | ")):
        same(eval(f"lambda x, V: {expression}", {"np": np, **modules}), X, V)


def test_vectorize_calls_python_when_the_program_runs() -> None:
    clipped = np.vectorize(lambda a, b: a if a > b else b)
    same(lambda x, V: clipped(x, V) * 2 + x.sum(), X, V)


ERRORS = """
np.einsum('ij,jk', x) | np.einsum('ijk', x) | np.einsum('i', x) | np.einsum('ij->k', x) | np.einsum('ii', x)
np.block([[x], x]) | np.piecewise(x, [x > 0], [1, 2, 3]) | np.isposinf(x + 1j) | np.asarray_chkfinite(x / 0)
np.linalg.outer(x, x) | np.linalg.trace(x[0]) | np.cumulative_sum(x) | np.kron(x, 'a') | np.cov(x, ddof=0.5)
np.linalg.norm(x, 'bad') | np.gradient(x, x) | np.resize(x, (-1, 2))
"""


@pytest.mark.parametrize("expression", [e.strip() for line in ERRORS.strip().splitlines() for e in line.split(" | ")])
def test_error(expression: str) -> None:
    function = eval(f"lambda x: {expression}", {"np": np})
    with np.errstate(all="ignore"), pytest.raises(Exception) as expected:
        function(X.copy())
    with pytest.raises((expected.type, jt.errors.JitensorError)):
        jt.jit(function)(X.copy())


def test_slices_one_by_one_are_limited() -> None:
    with pytest.raises(jt.errors.TraceError, match="axis="):
        jt.jit(lambda x: np.apply_along_axis(lambda row: row.max() * 2, 1, x))(np.ones((100, 2)))
    same_error(lambda x: np.apply_along_axis(np.sum, 2, x), X)


# The page of coverage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["numpy", "numpy.linalg", "numpy.fft", "ndarray"])
def test_the_page_of_coverage_is_true(module: str) -> None:
    stated = (Path(__file__).parent.parent / "docs" / "numpy.md").read_text()
    if f"NumPy {coverage.version()}:" not in stated:
        pytest.skip("the page was made with another NumPy")
    with settings.override(disable_jit=True):
        section = coverage.section(module)
    assert section in stated, "run: jitensor coverage > docs/numpy.md"


def test_most_of_numpy_is_recorded() -> None:
    stated = (Path(__file__).parent.parent / "docs" / "numpy.md").read_text()
    found = re.search(r"\((\d+\.\d) %\)", stated)
    assert found is not None
    assert float(found[1]) >= 95


def _arguments(rows: int, columns: int, dtype: str) -> dict[str, np.ndarray]:
    """The arguments of the examples in other sizes and another dtype."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, columns)).astype(dtype)
    z = x + 1j * rng.standard_normal((rows, columns)).astype(dtype)
    lines = {"v": rng.standard_normal(columns).astype(dtype), "n": rng.integers(0, 3, columns)}
    s = (x @ x.T + np.eye(rows)).astype(dtype)
    return {"x": x, **lines, "s": s, "i": rng.integers(0, 3, (rows, columns)), "b": x > 0, "z": z}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", ["numpy", "numpy.linalg", "numpy.fft", "ndarray"])
def test_examples_in_other_sizes_and_dtypes(module: str) -> None:
    """One jitted function for all calls: what its first trace says of sizes is held against NumPy."""
    examples = coverage.examples_of(module)
    with settings.override(disable_jit=True), np.errstate(all="ignore"):
        for finding in [coverage.find(module, name, examples) for name in coverage.public_names(module)]:
            if finding.how not in ("loops", "NumPy") or "empty" in finding.name:
                continue
            function = eval(f"lambda {', '.join(coverage.ARGUMENTS)}: ({finding.example}, x)", {"np": np})
            jitted = jt.jit(function)
            jitted(**{name: array.copy() for name, array in coverage.ARGUMENTS.items()})
            for arguments in (_arguments(3, 5, "f8"), _arguments(6, 8, "f8"), _arguments(3, 4, "f4")):
                try:
                    expected = function(**{name: array.copy() for name, array in arguments.items()})
                except Exception as error:
                    with pytest.raises(type(error)):
                        jitted(**arguments)
                    continue
                got = jitted(**{name: array.copy() for name, array in arguments.items()})
                _assert_close(got, expected, finding.example)


def _assert_close(got: object, expected: object, example: str) -> None:
    assert type(got) is type(expected), example
    if isinstance(expected, (tuple, list)):
        assert len(got) == len(expected), example
        for g, e in zip(got, expected, strict=True):
            _assert_close(g, e, example)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert got.dtype == expected.dtype and np.shape(got) == np.shape(expected), example
        tolerance = {"rtol": 2e-4, "atol": 1e-5} if expected.dtype.itemsize <= 4 or expected.dtype.char == "F" else {}
        np.testing.assert_allclose(got, expected, err_msg=example, **({"rtol": 1e-7, "atol": 1e-9} | tolerance))
    else:
        assert got == expected, example
