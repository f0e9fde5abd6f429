"""How each peer turns a NumPy function and NumPy arguments into a call that is ready to be timed.

Each gets its best: JAX and torch their own arrays, NumPy and jitensor ndarrays. Must not know timing.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.cases import Case

Call = Callable[[], Any]
Prepare = Callable[[Case, tuple[Any, ...]], Call]


class Missing(Exception):
    """The peer is not installed, or has no form of this case. The text says which."""


def prepare_numpy(case: Case, arguments: tuple[Any, ...]) -> Call:
    """Return the function itself, bound to its arguments."""
    function = getattr(functions, case.function)
    return lambda: function(*arguments)


def prepare_jitensor(case: Case, arguments: tuple[Any, ...]) -> Call:
    """Return the function under `jt.jit`, called with ndarrays, so that its own conversions are in the time."""
    import jitensor as jt

    function = jt.jit(getattr(functions, case.function))
    return lambda: function(*arguments)


def prepare_jax(case: Case, arguments: tuple[Any, ...]) -> Call:
    """Return the function under `jax.jit`, on device arrays, waiting for its result."""
    jax = jax_module()
    function = jax.jit(functions.rebound(case.function, np=jax.numpy, erf=jax.scipy.special.erf))
    on_device = tuple(jax.device_put(a) if isinstance(a, np.ndarray) else a for a in arguments)
    return lambda: jax.block_until_ready(function(*on_device))


def jax_module() -> Any:
    """Return jax with 64-bit types."""
    import jax
    import jax.scipy.special

    jax.config.update("jax_enable_x64", True)
    return jax


def prepare_torch(case: Case, arguments: tuple[Any, ...]) -> Call:
    """Return the function under `torch.compile`, on tensors, without gradients."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch._dynamo.config.recompile_limit = 64  # one process runs all cases
    function = torch.compile(functions.rebound(case.function, np=torch_names(torch), erf=torch.erf), dynamic=False)
    tensors = tuple(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments)
    return lambda: function(*tensors)


def torch_names(torch: Any) -> SimpleNamespace:
    """Return NumPy's names for torch's functions."""
    return SimpleNamespace(
        exp=torch.exp,
        log=torch.log,
        sqrt=torch.sqrt,
        tanh=torch.tanh,
        where=torch.where,
        sum=lambda x, axis=None, keepdims=False: x.sum() if axis is None else x.sum(dim=axis, keepdim=keepdims),
        mean=lambda x, axis=None, keepdims=False: x.mean() if axis is None else x.mean(dim=axis, keepdim=keepdims),
        max=lambda x, axis, keepdims=False: x.amax(dim=axis, keepdim=keepdims),
    )


def prepare_numba(case: Case, arguments: tuple[Any, ...]) -> Call:
    """Return the loops written by hand."""
    from benchmarks import by_hand

    function = getattr(by_hand, case.function)
    return lambda: function(*arguments)


def prepare_numexpr(case: Case, arguments: tuple[Any, ...]) -> Call:
    """Return numexpr on the case's expression, or on the four shifted slices of the stencil."""
    import numexpr

    numexpr.set_num_threads(1)
    if case.function == "stencil":
        (u,) = arguments
        names = {"c": u[1:-1, 1:-1], "n": u[:-2, 1:-1], "s": u[2:, 1:-1], "w": u[1:-1, :-2], "e": u[1:-1, 2:]}
        return lambda: numexpr.evaluate("c + 0.1*(n + s + w + e - 4.0*c)", local_dict=names)
    if case.numexpr is None:
        raise Missing("no natural form")
    names = dict(zip(("x", "y"), arguments, strict=False))
    if case.function == "mean_squared_error":
        return lambda: numexpr.evaluate(case.numexpr, local_dict=names) / arguments[0].size
    return lambda: numexpr.evaluate(case.numexpr, local_dict=names)


PEERS: dict[str, Prepare] = {
    "jitensor": prepare_jitensor,
    "njit": prepare_jitensor,  # the same in a process with JITENSOR_BACKEND=njit
    "numpy": prepare_numpy,
    "jax": prepare_jax,
    "torch": prepare_torch,
    "numba": prepare_numba,
    "numexpr": prepare_numexpr,
}
DISTRIBUTIONS = {"njit": "jitensor"}  # where the distribution has another name than the peer


def version(peer: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(peer, peer))
    except importlib.metadata.PackageNotFoundError:
        return jitensor_version() if peer in ("jitensor", "njit") else None


def jitensor_version() -> str:
    """Return the version of the checkout that is being run."""
    import jitensor

    return jitensor.__version__


def environment(peer: str) -> dict[str, str]:
    """Return the environment of the peer's process: one thread everywhere, no disk cache, NumPy's own BLAS choice."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JITENSOR_", "OPENBLAS_"))}
    threads = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA", "JITENSOR", "VECLIB")
    return {
        **inherited,
        **{f"{name}_NUM_THREADS": "1" for name in threads},
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "JAX_PLATFORMS": "cpu",
        "JITENSOR_CACHE": "off",
        "JITENSOR_BACKEND": "njit" if peer == "njit" else "llvm",
        "PYTHONHASHSEED": "0",
    }


def as_arrays(output: Any) -> list[np.ndarray[Any, Any]]:
    """Return a peer's output, one or several, as float64 arrays."""
    several = output if isinstance(output, tuple | list) else (output,)
    return [np.asarray(one, np.float64) for one in several]


def difference(output: Any, expected: Any) -> float:
    """Return the largest |difference| over the largest |value|, over all outputs; nan where either has one."""
    pairs = list(zip(as_arrays(output), as_arrays(expected), strict=True))
    if any(got.shape != want.shape for got, want in pairs):
        return float("inf")
    return max(float(np.max(np.abs(got - want)) / max(np.max(np.abs(want)), 1e-300)) for got, want in pairs)
