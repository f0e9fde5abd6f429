"""Each entry's loop body, compiled alone, against its NumPy meaning: drawn and special values, every real dtype."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from scalar_harness import compile_llvm
from table import elementwise_entries, operands, signatures, worst

from jitensor.ir.graph import Primitive
from jitensor.ir.types import DType, TensorType, float16
from jitensor.ops import TABLE

_MACHINE = {"bool": "i1", "float16": "f32"}
Signature = tuple[DType, ...]


def _machine_types(dtypes: Signature) -> tuple[str, ...]:
    return tuple(_MACHINE.get(t.name, t.short) for t in dtypes)


@functools.cache
def _by_signature() -> dict[Signature, list[Primitive]]:
    found: dict[Signature, list[Primitive]] = {}
    for entry in elementwise_entries(TABLE):
        for dtypes in signatures(entry):
            result = entry.type_rule(*[TensorType(t, ()) for t in dtypes]).dtype
            if all(t.kind != "c" for t in (result, *dtypes)):
                found.setdefault(dtypes, []).append(entry)
    return found


def _widened(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]


@functools.cache
def _compiled(dtypes: Signature, exact: bool) -> Any:
    """One kernel that runs every entry of the signature."""
    entries = _by_signature()[dtypes]

    def all_of_them(*values: Any) -> list[Any]:
        return [entry.lower(*values) for entry in entries]

    return compile_llvm(all_of_them, _machine_types(dtypes), exact=exact)


@pytest.mark.parametrize("dtypes", _by_signature(), ids=lambda dtypes: "-".join(t.short for t in dtypes))
def test_loop_bodies_agree_with_numpy(dtypes: Signature) -> None:
    faults = []
    for i, entry in enumerate(_by_signature()[dtypes]):
        for special in (False, True):
            arrays = operands(entry, dtypes, special=special)
            with np.errstate(all="ignore"):
                expected = np.asarray(entry.evaluate(*arrays))
            # The exact program is always right; the fast one wherever it does not ask for the exact one.
            for exact in (False, True):
                kernel = _compiled(dtypes, exact)
                actual = kernel(*_widened(arrays))
                actual = (actual if isinstance(actual, tuple) else (actual,))[i]
                with np.errstate(all="ignore"):
                    actual = actual.astype(expected.dtype)
                sure = np.ones(actual.shape, bool) if exact else ~kernel.slow
                tolerance = max(entry.tolerance, 1.0) if float16 in dtypes else entry.tolerance
                distance, where = worst(actual[sure], expected[sure], [a[sure] for a in arrays])
                if distance > tolerance:
                    faults.append(f"{entry.name} exact={exact}: {distance} ULP (allowed {tolerance}) {where}")
    assert not faults, "\n".join(faults)
