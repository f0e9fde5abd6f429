"""jt.jit: functions that NumPy itself runs, recorded with types that NumPy tells: values, other sizes, errors."""

from __future__ import annotations

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt

X = np.sin(np.arange(24.0)).reshape(4, 6)
V = np.cos(np.arange(6.0))
S = X @ X.T + np.eye(4)

LIBRARY = """
np.linalg.solve(S,X) | np.linalg.solve(S,x[:,0]) | np.linalg.inv(S) | np.linalg.det(S) | np.linalg.slogdet(S)
np.linalg.cholesky(S) | np.linalg.qr(x) | np.linalg.qr(x,mode='r') | np.linalg.svd(x)
np.linalg.svd(x,full_matrices=False) | np.linalg.eigh(S) | np.linalg.eigvalsh(S) | np.linalg.lstsq(x.T,V)
np.linalg.pinv(x) | np.linalg.matrix_power(S,3) | np.linalg.matrix_rank(x) | np.linalg.eig(x[:,:4]+0j)
np.linalg.matrix_norm(x) | np.linalg.cond(S) | np.linalg.svdvals(x) | np.linalg.inv(x.T@x+np.eye(6)).T*2
np.linalg.inv(np.stack([S,S*2])) | np.linalg.solve(S,np.sqrt(np.abs(x))).sum(axis=1) | np.fft.fft(x)
np.fft.rfft(x) | np.fft.irfft(x) | np.fft.fft(x,8) | np.fft.ifft(x,axis=0) | np.fft.fft2(x) | np.fft.irfftn(x)
np.fft.rfftfreq(x.shape[1]) * V[:4] | np.abs(np.fft.fft(x)) ** 2 | np.fft.irfft(np.fft.rfft(x) * 2) | np.median(x)
np.median(x,axis=0) | np.median(x,axis=1,keepdims=True) | np.percentile(x,30.0,axis=1) | np.percentile(x,[30,40])
np.percentile(x,V[0]*10+50) | np.quantile(x,[0.1,0.5],axis=0) | np.nanvar(x,axis=0) | np.nanstd(x)
np.nanmedian(x,axis=1) | np.histogram(x,5) | np.histogram(x,np.sort(V)) | np.histogram2d(x[0],V,4)
np.histogram(x, 4, range=(0.0, V[0])) | np.convolve(V,V[:3]) | np.convolve(V,V[:3],'valid')
np.convolve(V,V[:3],'same') | np.correlate(V,V) | np.interp(x,np.sort(V),V) | np.digitize(x,np.sort(V)) | np.cov(x)
np.corrcoef(x) | np.isin(x,V) | np.lexsort((V,x[0])) | np.partition(x,2) | np.argpartition(x,2,axis=0)
np.hanning(6)*V | np.kaiser(6, 2.0)*V | np.vander(V,3) | np.unwrap(x) | np.polyfit(V,x[0],2)
np.unravel_index(np.argmax(x),x.shape) | np.packbits(x>0) | np.choose((x>0).astype(int),[x,-x]) | np.poly(V)
np.maximum.reduceat(x,[0,2,3],axis=1) | np.add.reduceat(x,[0,2],axis=0) | np.subtract.reduce(x)
np.hypot.reduce(x,axis=1) | np.bitwise_xor.reduce((x>0)*1) | np.logaddexp.accumulate(x) | np.ldexp(x,3)
np.frexp(x) | np.modf(x) | np.nextafter(x,1) | np.vecdot(x,x) | np.matvec(S,x[:,0]) | np.gcd((x*9).astype(int),6)
np.heaviside(x,0.5) | np.unique(x) | np.unique(np.round(x),return_counts=True) | np.unique(np.round(x)).sum()
np.unique(np.round(x))*2+1 | np.intersect1d(np.round(V),np.round(x)) | np.setdiff1d(np.round(x),np.round(V))+1
np.bincount((x>0).ravel().astype(int)) | np.delete(x,1,0) | np.trim_zeros(np.round(V))
np.bincount(np.digitize(x.ravel(),np.sort(V))) | np.put(x,[1,2],V[:2]) or x | np.fill_diagonal(x,V[0]) or x
np.place(x,x>0,V) or x | np.putmask(x,x>0,-x) or x
np.put_along_axis(x,np.argmax(x,axis=1,keepdims=True),9,axis=1) or x | np.maximum.at(x,([0,1],[2,3]),5) or x
np.subtract.at(x,[1,1],V) or x | np.partition(x,2,axis=0).sum(axis=1) | x.partition(3) or x
"""
EXPRESSIONS = [e.strip() for line in LIBRARY.strip().splitlines() for e in line.split(" | ")]
EXPRESSIONS = [e for e in EXPRESSIONS if "np.matvec" not in e or hasattr(np, "matvec")]  # NumPy 2.2


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_library_function(expression: str) -> None:
    same(eval(f"lambda x, V, S, X: {expression}", {"np": np}), X, V, S, X)


DTYPES = ["bool", "int8", "int64", "float16", "float32", "complex64"]
BY_DTYPE = """np.median(x, axis=0) np.partition(x, 1) np.unique(x) np.fft.fft(x) np.quantile(x, 0.25)
np.isin(x, x[0])
np.linalg.det(x[:,:3]) np.convolve(x[0], x[1])
 np.nanstd(x, axis=1) np.histogram(x, 3) np.interp(x, [0, 1, 2], [5, 6, 8])"""


@pytest.mark.parametrize("dtype", DTYPES)
def test_library_function_of_dtype(dtype: str) -> None:
    x = (np.arange(12).reshape(3, 4) * 7 % 5).astype(dtype)
    for expression in BY_DTYPE.replace("\n", " ").replace(" np.", "\nnp.").splitlines():
        function = eval(f"lambda x: {expression}", {"np": np})
        try:
            function(x)
        except (TypeError, ValueError, np.linalg.LinAlgError):
            same_error(function, x, text=False)
        else:
            same(function, x)


def test_one_trace_serves_other_sizes() -> None:
    f = jt.jit(
        lambda a, b, v: (
            np.linalg.solve(a, b),
            np.convolve(v, b[0]),
            np.linalg.svd(b, full_matrices=False),
            np.fft.rfft(v),
        )
    )
    same(f.__wrapped__, S, X, V, jitted=f)
    before = jt.counters()
    rng = np.random.default_rng(0)
    for n, m, k in ((5, 9, 12), (7, 3, 8), (3, 30, 31)):
        same(f.__wrapped__, rng.random((n, n)), rng.random((n, m)), rng.random(k), jitted=f)
    assert (jt.counters() - before).traces == 0


def test_one_trace_serves_other_data() -> None:
    f = jt.jit(lambda x: (np.unique(x), np.unique(x, return_counts=True)[1] * 2, np.bincount(x) + 1))
    same(f.__wrapped__, np.array([3, 1, 3]), jitted=f)
    before = jt.counters()
    for data in ([1, 1, 1, 1], [5, 4, 3, 2], [0, 0]):
        same(f.__wrapped__, np.array(data), jitted=f)
    assert (jt.counters() - before).traces == 0


def test_an_int_that_numpy_needs_belongs_to_the_trace() -> None:
    f = jt.jit(lambda x, k: np.partition(x, k))
    same(f.__wrapped__, V, 2, jitted=f)
    same(f.__wrapped__, V, 4, jitted=f)
    assert len(f.signatures()) == 2


ERRORS = """
np.linalg.solve(x, x) | np.linalg.inv(x) | np.percentile(x, 300) | np.convolve(x, x)
np.cov(x, ddof='a') | np.unravel_index(99, x.shape) | np.fft.fft(x, axis=5) | np.histogram(x, -1)
"""


@pytest.mark.parametrize("expression", [e.strip() for line in ERRORS.strip().splitlines() for e in line.split(" | ")])
def test_errors_are_numpy_s(expression: str) -> None:
    same_error(eval(f"lambda x: {expression}", {"np": np}), X)


@pytest.mark.parametrize(
    "expression",
    ["np.linalg.cholesky(x[:, :4] - 9)", "np.linalg.inv(x[:, :4] * 0)", "np.put(x, 99, 1)", "np.bincount(x.ravel())"]
    + [
        "np.take_along_axis(x, np.array([[9]]), 1)",
        "np.maximum.at(x, [9], 1)",
        "np.choose([9], x) * x",
        "np.partition(x, 9)",
    ],
)
def test_errors_of_data_come_when_the_program_runs(expression: str) -> None:
    function = eval(f"lambda x: {expression}", {"np": np})
    with pytest.raises(Exception) as expected:
        function(X.copy())
    with pytest.raises(expected.type) as got:
        jt.jit(function)(X.copy())
    assert str(got.value) == str(expected.value)


def test_a_result_that_data_shape_in_no_way_is_refused() -> None:
    with pytest.raises(jt.errors.TraceError, match="complex"):
        jt.jit(lambda x: np.linalg.eigvals(x))(S)


def test_large_positions_leave_sizes_free() -> None:
    f = jt.jit(lambda x: np.partition(x, 5000)[5000])
    rng = np.random.default_rng(1)
    for n in (400_000, 300_001, 5001):
        same(f.__wrapped__, rng.random(n), jitted=f)
    assert len(f.signatures()) == 1
