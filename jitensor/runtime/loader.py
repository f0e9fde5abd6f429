"""Object code into this process, with llvmlite alone.

Owns one ORC engine, made at the first load. Must not import Numba: a warm start needs none of it. A missing symbol or a
malformed object is a LinkError here, where MCJIT would end the process.
"""

from __future__ import annotations

import functools
import itertools
import threading
from typing import Any


class LinkError(RuntimeError):
    """The object code could not be linked into this process."""


class LoadedObject:
    """Object code in memory. `address` stays valid as long as this object lives."""

    __slots__ = ("_tracker", "address")

    def __init__(self, address: int, tracker: Any) -> None:
        self.address = address
        self._tracker = tracker


_lock = threading.RLock()
_serial = itertools.count()


def load_object(code: bytes, symbol: str) -> LoadedObject:
    """Return the linked object code that defines `symbol`. Raises LinkError."""
    import llvmlite.binding as llvm

    with _lock:
        builder = llvm.JITLibraryBuilder()
        builder.add_object_img(code).add_current_process().export_symbol(symbol)
        try:
            tracker = builder.link(_engine(), f"{symbol}.{next(_serial)}")
            address = tracker[symbol]
        except (RuntimeError, KeyError) as error:
            raise LinkError(str(error)) from None
    if not address:
        raise LinkError(f"{symbol} has no address")
    return LoadedObject(address, tracker)


@functools.cache
def _engine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(suppress_errors=True)


def has_symbol(name: str) -> bool:
    """True when native code in this process can call `name`."""
    import llvmlite.binding as llvm

    return bool(llvm.address_of_symbol(name))
