"""jt.jit: NumPy's functions and array methods, against the undecorated function."""

from __future__ import annotations

import numpy as np
import pytest
from jit_harness import same, same_error

import jitensor as jt

X = np.sin(np.arange(24.0)).reshape(4, 6)
C = np.sin(np.arange(24.0)).reshape(2, 3, 4)
V = np.cos(np.arange(6.0))

MATRIX = """
x.sum() | x.sum(axis=1) | x.sum(axis=(0, 1)) | x.sum(axis=-1, keepdims=True) | np.sum(x, 0) | np.sum(x, dtype='f4')
x.mean() | x.mean(axis=0) | np.mean(x, axis=1, keepdims=True) | x.var() | x.var(axis=1, ddof=1) | x.std(axis=0)
np.std(x)
x.max() | x.min(axis=1) | np.max(x, axis=0) | np.amin(x) | np.ptp(x, axis=1) | x.prod(axis=1) | np.prod(x)
x.argmax() | x.argmin(axis=1) | np.argmax(x, axis=0) | np.argmax(x, axis=1, keepdims=True) | x.argmax(-1)
(x > 0).any() | (x > 0).all(axis=1) | np.any(x) | np.all(x > -2, axis=0) | np.count_nonzero(x > 0)
np.count_nonzero(x, axis=1)
x.sum(axis=()) | x.max(initial=5.0) | np.sum(x, initial=10.0, where=x > 0) | np.mean(x, where=x > 0)
np.max(x, axis=1, initial=-9, where=x > 0)
x.cumsum() | x.cumsum(axis=1) | np.cumprod(x, axis=0) | np.trace(x) | x.trace(1)
np.nansum(np.where(x > 0, x, np.nan), axis=0)
np.nanmax(np.where(x > 0, x, np.nan), axis=1) | np.nanmean(np.where(x > 0, x, np.nan)) | np.nanmin(x)
x.reshape(-1) | x.reshape(2, -1) | x.reshape((3, 8)) | np.reshape(x, (8, 3)) | x.reshape(2, 2, 6) | x.ravel()
x.flatten()
x.reshape(-1, order='F') | x.ravel('F') | x.T.reshape(-1) | x.reshape(x.shape[0] * x.shape[1])
x.reshape(x.shape + (1,))
x.T | np.transpose(x) | x.transpose(1, 0) | np.swapaxes(x, 0, 1) | x.swapaxes(0, -1) | np.moveaxis(x, 0, -1)
np.rollaxis(x, 1)
np.expand_dims(x, 0) | np.expand_dims(x, (0, -1)) | np.squeeze(x[None]) | x[:1].squeeze(0)
x[None, :, None].squeeze()
np.broadcast_to(x[0], (3, 6)) * 1 | np.broadcast_arrays(x, x[0])[1] * 1 | np.atleast_1d(x[0, 0])
np.atleast_2d(x[0]) | np.atleast_3d(x)
np.concatenate([x, x + 1]) | np.concatenate((x, x), axis=1) | np.concatenate([x, x], axis=None)
np.stack([x, x]) | np.stack((x, x), axis=-1)
np.vstack([x, x[0]]) | np.hstack([x, x]) | np.hstack([x[0], x[1]]) | np.dstack([x, x])
np.column_stack([x[0], x[1]]) | np.append(x, x)
np.split(x, 2) | np.split(x, [1, 3]) | np.array_split(x, 3, axis=1) | np.array_split(x, 4, axis=1)
np.hsplit(x, 3) | np.vsplit(x, 2)
np.flip(x) | np.flip(x, 1) | np.fliplr(x) | np.flipud(x) | np.rot90(x) | np.rot90(x, 2) | np.rot90(x, 3)
np.roll(x, 1) | np.roll(x, -2, axis=1) | np.roll(x, (1, 2), axis=(0, 1)) | np.tile(x, 2) | np.tile(x, (2, 1))
np.tile(x, (2, 1, 1))
np.repeat(x, 2) | np.repeat(x, 3, axis=1) | x.repeat(2, axis=0) | np.repeat(x, [1, 0, 2, 1], axis=0)
np.pad(x, 1) | np.pad(x, (1, 2)) | np.pad(x, ((1, 0), (0, 2))) | np.pad(x, 1, constant_values=7)
np.pad(x, 2, mode='edge')
np.pad(x, 2, mode='reflect') | np.pad(x, 2, mode='symmetric') | np.pad(x, 2, mode='wrap')
np.pad(x, 1, 'constant', constant_values=(1, 2))
np.where(x > 0, x, 0) | np.where(x > 0, 1, -1) | np.where(x > 0, x, x[0]) | np.clip(x, -0.5, 0.5) | x.clip(0)
np.clip(x, None, 0.1) | x.clip(max=0)
np.round(x, 2) | x.round(1) | np.around(x) | np.fix(x) | np.rint(x) | x.astype(int) | x.astype('f4')
x.astype(np.complex128) | x.astype(bool)
np.zeros(3) | np.zeros((2, 3), int) | np.ones(x.shape) | np.full((2, 2), 7) | np.full(3, x[0, 0])
np.empty(4) * 0 | np.eye(3) | np.eye(3, 4, k=1)
np.zeros_like(x) | np.ones_like(x, dtype=int) | np.full_like(x, 2) | np.empty_like(x) * 0 | np.identity(3)
np.tri(3) | np.tril(x) | np.triu(x, 1) | np.tril(x[0]) | np.triu(x[:, 1], -1)
x.item(3) | x.item(-1) | x.item(1, 2) | x.item((2, 0)) | x.T.item(5) | x[0].item(2) | x[0, 0].item()
np.arange(5) | np.arange(2, 9, 3) | np.arange(0, 1, 0.25) | np.arange(5.0) | np.arange(x.shape[0])
np.arange(5, 0, -1) | np.arange(0)
np.linspace(0, 1, 5) | np.linspace(0, 1, 5, endpoint=False) | np.linspace(x[0, 0], x[0, 1], 7)
np.linspace(0, 1, x.shape[0]) | np.logspace(0, 2, 3)
np.array([1, 2, 3]) | np.array([[1.0, 2], [3, 4]]) | np.array([x[0, 0], 1, 2.5]) | np.array([x[0], x[1]])
np.array(x) | np.asarray([1, 2], dtype='f4')
np.float32(x) | np.float64(x.sum()) | np.int32(x * 3) | np.float32(2.5) * x | np.bool_(x[0, 0])
np.array(x, dtype=np.float32) | np.array(x, copy=False)
x @ x.T | x @ V | V @ x.T | np.dot(x, x.T) | x.dot(V) | np.inner(x, x) | np.outer(V, V) | V @ V | np.vdot(V, V)
np.tensordot(x, x, axes=([1], [1]))
np.matmul(x[None], x.T) | np.einsum('ij,kj->ik', x, x) | np.einsum('ij->j', x) | np.einsum('ij,j->i', x, V)
np.einsum('i,i->', V, V) | np.tensordot(x, V, 1)
np.linalg.norm(x) | np.linalg.norm(x, axis=1) | np.linalg.norm(V, 1) | np.linalg.norm(V, np.inf)
np.linalg.norm(x, ord=3, axis=0, keepdims=True)
np.sort(x) | np.sort(x, axis=0) | np.argsort(x, axis=1) | np.searchsorted(np.sort(V), x)
np.take_along_axis(x, np.argsort(x, axis=1), 1)
np.diff(x) | np.diff(x, axis=0) | np.diff(V, 2) | np.diff(V, prepend=0.0) | np.gradient(V)
np.gradient(x, 2.0, axis=1) | np.gradient(x)
np.isclose(x, x + 1e-9) | np.allclose(x, x) | np.array_equal(x, x) | np.isnan(x) | np.isfinite(x)
np.nan_to_num(np.where(x > 0, np.nan, x)) | np.sinc(x)
np.select([x > 0.5, x < -0.5], [x, -x], 0.25) | np.cross(x[:, :3], x[:, 3:]) | np.trapezoid(x)
np.trapezoid(V, x[0]) | np.average(x, axis=1, weights=V)
np.diag(V) | np.diag(x) | np.diagonal(x, 1) | np.meshgrid(V, V[:3]) | np.meshgrid(V, V[:3], indexing='ij')
np.shape(x) | np.ndim(x) | np.size(x, 1)
x.shape | x.size | x.ndim | len(x) | x.dtype | x.itemsize | x.nbytes | x.real | x.imag | x.copy() | x.conj()
np.copy(x)
np.iscomplexobj(x) | np.isscalar(x.sum()) | np.finfo(x.dtype).eps * x | np.result_type(x, np.float32)
isinstance(x, np.ndarray)
np.interp(0.5, [0.0, 1.0], [1.0, 2.0]) * x | np.hanning(6) * x | np.ascontiguousarray(x.T) | np.ediff1d(V)
np.hypot(x, 1)
"""
EXPRESSIONS = [e.strip() for line in MATRIX.strip().splitlines() for e in line.split(" | ")]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_function(expression: str) -> None:
    function = eval(f"lambda x, V: {expression}", {"np": np})
    same(function, X, V)


THREE_AXES = """
x.sum(axis=(0, 2)) | x.mean(axis=(1, 2), keepdims=True) | x.var(axis=(0, 2)) | x.transpose(2, 0, 1)
np.moveaxis(x, [0, 1], [-1, -2])
x.max(axis=(0, 1)) | x.argmax(axis=1) | x @ np.ones((4, 2)) | np.einsum('ijk,ik->ij', x, x[:, 0])
x.reshape(6, 4) | x[..., ::-1, 0]
np.rollaxis(x, 2) | np.swapaxes(x, 0, 2) | np.concatenate([x, x], axis=2) | np.flip(x, (0, 2))
np.stack([x, x], 2) | np.tensordot(x, x, 3)
"""


@pytest.mark.parametrize(
    "expression", [e.strip() for line in THREE_AXES.strip().splitlines() for e in line.split(" | ")]
)
def test_function_of_three_axes(expression: str) -> None:
    same(eval(f"lambda x: {expression}", {"np": np}), C)


DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_of_each_dtype(dtype: str) -> None:
    x = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
    same(
        lambda x: (x.sum(), x.sum(axis=0), x.prod(axis=1), x.mean(axis=1), x.var(), x.std(axis=0), x.max(), x.min(0)), x
    )
    same(lambda x: (x.any(), x.all(axis=1), x.argmax(), x.argmin(axis=0), np.count_nonzero(x), x.cumsum(axis=1)), x)


def test_out_of_functions() -> None:
    def f(x, total, joined):
        x.sum(axis=1, out=total)
        np.concatenate([x, x], out=joined)
        np.clip(x, 0, 1, out=x)
        return np.mean(x, axis=1, out=total) is total

    same(f, X, np.zeros(4), np.zeros((8, 6)))


ERRORS = """
x.reshape(5, 5) | x.sum(axis=2) | np.sum(x, axis=(0, 0)) | x.transpose(0, 0) | np.squeeze(x, 0)
np.concatenate([]) | x @ x
np.dot(x, x) | np.concatenate([x, x[:, :2]]) | np.stack([x, x[0]]) | np.split(x, 3) | x.reshape(-1, -1)
np.zeros(-1) | x.swapaxes(0, 3)
np.broadcast_to(x, (5, 6)) | x.max(axis=0, where=x > 0) | np.expand_dims(x, 5) | np.pad(x, -1) | x.undefined
x.astype('nonsense')
"""


@pytest.mark.parametrize("expression", [e.strip() for line in ERRORS.strip().splitlines() for e in line.split(" | ")])
def test_error(expression: str) -> None:
    different_words = ("concatenate([x, x[:", "stack([x, x[0]]")
    text = not any(w in expression for w in different_words)
    same_error(eval(f"lambda x: {expression}", {"np": np}), X, text=text)


def test_empty_reduction() -> None:
    same_error(lambda x: x.max(), np.zeros(0))
    same_error(lambda x: x.argmax(axis=0), np.zeros((0, 3)))
    same(lambda x: (x.sum(), x.prod(), x.any(), x.all()), np.zeros((0, 3)))


@pytest.mark.parametrize(
    "name", ["array2string", "asmatrix", "min_scalar_type", "save", "busday_count", "linalg.eigvals"]
)
def test_function_outside_the_coverage_is_named(name: str) -> None:
    jitted = jt.jit(eval(f"lambda x: np.{name}(x)", {"np": np}))
    with pytest.raises(jt.errors.TraceError, match=name.rpartition(".")[2]):
        jitted(X)
    assert jitted.signatures() == []


@pytest.mark.parametrize("expression", ["np.random.rand(3) + x", "np.random.default_rng(0).normal() * x"])
def test_random_numbers_are_refused(expression: str) -> None:
    with pytest.raises(jt.errors.TraceError, match="random"):
        jt.jit(eval(f"lambda x: {expression}", {"np": np}))(X)


def test_unsupported_dtypes_and_classes() -> None:
    identity = jt.jit(lambda x: x + 1)
    for bad in (np.array([1, None]), np.array(["a"]), np.array([1], "datetime64[s]"), np.zeros(2, [("a", int)])):
        with pytest.raises(jt.errors.DTypeError, match="not supported"):
            identity(bad)
    with pytest.raises(jt.errors.TraceError, match="subclass"):
        identity(np.ma.masked_array([1.0, 2.0]))
    with pytest.raises(jt.errors.TraceError, match="subclass"):
        identity(np.matrix([[1.0]]))
    with pytest.raises(jt.errors.DTypeError):
        jt.jit(lambda x: x.astype(object))(X)
    assert identity(X).shape == X.shape
