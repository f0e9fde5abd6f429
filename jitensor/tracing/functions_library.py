"""The table of NumPy functions that NumPy itself runs: each is one name.

Owns the lists; how a call is recorded is `tracing.library`. A function that loops should do better lives elsewhere.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jitensor.tracing.library import library_version, record_call, writing_version
from jitensor.tracing.registry import RECORDED, unsupported

# Sizes of results follow from sizes of operands; Python ints among the arguments belong to the trace.
PLAIN = """
numpy.apply_over_axes numpy.argpartition numpy.bartlett numpy.blackman numpy.hamming numpy.hanning numpy.kaiser
numpy.choose numpy.convolve numpy.correlate numpy.corrcoef numpy.digitize numpy.geomspace numpy.histogram
numpy.histogram2d numpy.i0 numpy.in1d numpy.isin numpy.insert numpy.resize numpy.lexsort numpy.median numpy.nanargmax
numpy.nanargmin numpy.nancumprod numpy.nancumsum numpy.nanmedian numpy.nanpercentile numpy.nanquantile numpy.packbits
numpy.unpackbits numpy.partition numpy.percentile numpy.quantile numpy.poly numpy.polyadd numpy.polyder numpy.polyfit
numpy.polyint numpy.polysub numpy.ravel_multi_index numpy.unravel_index numpy.unwrap numpy.vander numpy.sort_complex
numpy.interp numpy.linalg.cholesky numpy.linalg.cond numpy.linalg.det numpy.linalg.eigh numpy.linalg.eigvalsh
numpy.linalg.inv numpy.linalg.matrix_norm numpy.linalg.matrix_power numpy.linalg.matrix_rank numpy.linalg.pinv
numpy.linalg.qr numpy.linalg.slogdet numpy.linalg.solve numpy.linalg.svd numpy.linalg.svdvals numpy.linalg.tensorinv
numpy.linalg.tensorsolve numpy.fft.fft numpy.fft.fft2 numpy.fft.fftfreq numpy.fft.fftn numpy.fft.hfft numpy.fft.ifft
numpy.fft.ifft2 numpy.fft.ifftn numpy.fft.ihfft numpy.fft.irfft numpy.fft.irfft2 numpy.fft.irfftn numpy.fft.rfft
numpy.fft.rfft2 numpy.fft.rfftfreq numpy.fft.rfftn numpy.diag_indices numpy.tril_indices numpy.triu_indices
numpy.mask_indices numpy.triu_indices_from numpy.tril_indices_from numpy.diag_indices_from
"""
# Sizes of results depend on data: found when the program runs.
SIZED = """
numpy.bincount numpy.delete numpy.linalg.lstsq numpy.histogram_bin_edges numpy.intersect1d
numpy.setdiff1d
numpy.setxor1d numpy.union1d numpy.unique numpy.unique_all numpy.unique_counts numpy.unique_inverse
numpy.unique_values
"""
# Sizes of results depend on data, all of them.
ALL_SIZED = "numpy.polydiv numpy.polymul numpy.trim_zeros"
# They write into their first argument.
WRITES = "numpy.fill_diagonal numpy.place numpy.put numpy.put_along_axis numpy.putmask"


def find(name: str) -> Any:
    """The function of that name, or None where this NumPy has it not."""
    found: Any = np
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found


for _name in PLAIN.split():
    if (_found := find(_name)) is not None:
        RECORDED.setdefault(_found, library_version(_name))
for _name in SIZED.split():
    if (_found := find(_name)) is not None:
        RECORDED.setdefault(_found, library_version(_name, data=True))
for _name in ALL_SIZED.split():
    RECORDED.setdefault(find(_name), library_version(_name, data=True, all_sizes=True))
for _name in WRITES.split():
    RECORDED.setdefault(find(_name), writing_version(_name))


def complex_only(name: str, **how: Any) -> Any:
    """A function that gives real or complex results as real data have it; complex data always give complex ones."""

    def version(a: Any, *args: Any, **options: Any) -> Any:
        if not np.iscomplexobj(a):
            raise unsupported(name, f"Real data may give complex results. Use {name}(x.astype(complex)), or eigh.")
        return record_call(name, (a, *args), options, **how)

    return version


RECORDED[np.histogramdd] = library_version("numpy.histogramdd", exact=True)
RECORDED[np.linalg.eig] = complex_only("numpy.linalg.eig")
RECORDED[np.roots] = complex_only("numpy.roots", data=True, all_sizes=True)
RECORDED[np.linalg.eigvals] = complex_only("numpy.linalg.eigvals")


@functools.lru_cache(1024)
def name_of(ufunc: np.ufunc) -> str | None:
    """How the text of a call names a ufunc, or None where no module of NumPy or SciPy has it."""
    if getattr(np, ufunc.__name__, None) is ufunc:
        return f"numpy.{ufunc.__name__}"
    module = _scipy_special()
    return f"scipy.special.{ufunc.__name__}" if getattr(module, ufunc.__name__, None) is ufunc else None


def _scipy_special() -> Any:
    try:
        import scipy.special
    except ImportError:
        return None
    return scipy.special


def library_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A ufunc or one of its methods run by NumPy."""
    name = name_of(ufunc)
    if name is None:
        return NotImplemented
    full = name if method == "__call__" else f"{name}.{method}"
    if options.get("where") is True:
        del options["where"]
    return record_call(full, inputs, {n: v for n, v in options.items() if v is not np._NoValue}, int_operands=True)
