"""The disk cache: object code by content key, where any doubt is a miss.

Owns the file format, the folder's safety and the bound on its bytes. Must not know what a kernel is: a payload is
bytes, its name a hex digest. One entry is one file, `<folder>/kernels/<key>.jtk`:

    magic 8 | format u32 | length of fingerprint u32 | length of payload u64 | sha256 32 | fingerprint | payload

The checksum covers the key, the fingerprint (versions and CPU, as text) and the payload, so a truncated, altered,
renamed or foreign file is a miss. Nothing is unpickled. Files are written under another name and renamed. Failures are
reported once per process through the `jitensor` logger, never raised.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from jitensor import settings

MAGIC = b"JITENSOR"
FORMAT = 1
HEADER = struct.Struct("<8sIIQ32s")
SUFFIX = ".jtk"
PARTIAL = ".partial"
PARTIAL_LIFE_SECONDS = 3600.0
SHRINK_TO = 0.8
STORES_BETWEEN_SCANS = 64
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class Entry(NamedTuple):
    """One file of the cache: its path, bytes, and when it was last used (seconds since the epoch)."""

    path: str
    size: int
    used: float


class DiskCache:
    """The entries below one folder. `load` and `store` never raise for anything that the file system does."""

    def __init__(self, folder: str, limit: int) -> None:
        self.folder = folder
        self.kernels = os.path.join(folder, "kernels")
        self.limit = limit
        self._estimate = 0
        self._stores_until_scan = 0

    def load(self, key: str, fingerprint: str) -> bytes | None:
        """Return the payload stored under `key` by the same `fingerprint`, or None."""
        try:
            if not self._is_safe():
                return None
            path = self._path(key)
            content = _read_own_file(path, self.limit)
            payload = _unpack(content, key, fingerprint)
            if payload is None:
                _report(f"{path} is damaged or foreign; it will be made again.")
                _remove(path)
                return None
            with contextlib.suppress(OSError):
                os.utime(path)
            return payload
        except FileNotFoundError:
            return None
        except OSError as error:
            _report(f"cannot read from {self.kernels}: {error}.")
            return None

    def store(self, key: str, fingerprint: str, payload: bytes) -> bool:
        """Keep `payload` under `key`; True when it was written."""
        content = _pack(key, fingerprint, payload)
        if len(content) > self.limit:
            return False
        try:
            for folder in (self.folder, self.kernels):
                _make_own_folder(folder)
                if not self._is_safe():
                    return False
            _write_and_rename(self._path(key), content)
            self._bound(len(content))
            return True
        except FileNotFoundError:
            return False  # the folder was removed under us
        except OSError as error:
            _report(f"cannot write to {self.kernels}: {error}.")
            return False

    def entries(self) -> list[Entry]:
        """Return the entries, least recently used first."""
        return sorted(self._scan(SUFFIX), key=lambda entry: entry.used)

    def clear(self) -> int:
        """Remove every entry, and return how many there were."""
        if not self._is_safe():
            return 0
        self._remove_old_partials()
        return sum(_remove(entry.path) for entry in self.entries())

    def why_unsafe(self) -> str | None:
        """Return why the folder may not be used, or None. A folder that does not exist yet is safe."""
        return _why_unsafe(self.folder, stat.S_IWOTH) or _why_unsafe(self.kernels, stat.S_IWOTH | stat.S_IWGRP)

    def _is_safe(self) -> bool:
        reason = self.why_unsafe()
        if reason is not None:
            _report(f"{reason}; nothing is kept on disk.")
        return reason is None

    def _path(self, key: str) -> str:
        return os.path.join(self.kernels, key + SUFFIX)

    def _scan(self, suffix: str) -> Iterator[Entry]:
        try:
            with os.scandir(self.kernels) as files:
                for file in files:
                    if file.name.endswith(suffix):
                        with contextlib.suppress(OSError):
                            status = file.stat(follow_symlinks=False)
                            yield Entry(file.path, status.st_size, status.st_mtime)
        except OSError:
            return

    def _bound(self, written: int) -> None:
        """Remove the least recently used entries once the folder exceeds its limit.

        The folder is measured now and then; in between, what this process wrote is added: a store costs no scan.
        """
        self._estimate += written
        self._stores_until_scan -= 1
        if self._stores_until_scan > 0 and self._estimate <= self.limit:
            return
        self._stores_until_scan = STORES_BETWEEN_SCANS
        entries = self.entries()
        self._estimate = sum(entry.size for entry in entries)
        if self._estimate > self.limit:
            for entry in entries:
                if self._estimate <= self.limit * SHRINK_TO:
                    break
                _remove(entry.path)
                self._estimate -= entry.size
        self._remove_old_partials()

    def _remove_old_partials(self) -> None:
        """Remove what writers that died left; a young one may still be renamed."""
        for partial in self._scan(PARTIAL):
            if time.time() - partial.used > PARTIAL_LIFE_SECONDS:
                _remove(partial.path)


def default_folder() -> str:
    """Return the user's cache folder for jitensor by the platform's rule."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return os.path.join(base, "jitensor")


_open_caches: dict[tuple[str, int], DiskCache] = {}


def active() -> DiskCache | None:
    """Return the cache that the settings ask for, or None when it is off."""
    current = settings.active()
    return configured() if current.cache else None


def configured() -> DiskCache:
    """Return the cache at the place that the settings name, whether or not it is in use."""
    current = settings.active()
    where = (current.cache_dir or default_folder(), current.cache_limit)
    return _open_caches.get(where) or _open_caches.setdefault(where, DiskCache(*where))


def _pack(key: str, fingerprint: str, payload: bytes) -> bytes:
    text = fingerprint.encode()
    return HEADER.pack(MAGIC, FORMAT, len(text), len(payload), _checksum(key, text, payload)) + text + payload


def _unpack(content: bytes, key: str, fingerprint: str) -> bytes | None:
    if len(content) < HEADER.size:
        return None
    magic, version, text_length, payload_length, checksum = HEADER.unpack_from(content)
    if magic != MAGIC or version != FORMAT or HEADER.size + text_length + payload_length != len(content):
        return None
    text, payload = content[HEADER.size : HEADER.size + text_length], content[HEADER.size + text_length :]
    if text != fingerprint.encode() or checksum != _checksum(key, text, payload):
        return None
    return payload


def _checksum(key: str, text: bytes, payload: bytes) -> bytes:
    lengths = struct.pack("<IQ", len(text), len(payload))
    return hashlib.sha256(key.encode() + lengths + text + payload).digest()


def _read_own_file(path: str, limit: int) -> bytes:
    """Return the bytes of a regular file of ours. Raises OSError for a link, or what others own or may write."""
    descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        reason = _why_foreign(status, stat.S_IWOTH | stat.S_IWGRP)
        if not stat.S_ISREG(status.st_mode):
            reason = "is not a regular file"
        if status.st_size > limit:
            reason = "is larger than the cache may be"
        if reason is not None:
            raise OSError(f"{path} {reason}")
        return file.read(status.st_size + 1)


def _write_and_rename(path: str, content: bytes) -> None:
    partial = f"{path}.{os.getpid()}-{os.urandom(6).hex()}{PARTIAL}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        _remove(partial)
        raise


def _make_own_folder(folder: str) -> None:
    if not os.path.lexists(folder):
        os.makedirs(os.path.dirname(folder) or ".", exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _why_unsafe(folder: str, forbidden: int) -> str | None:
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{folder} cannot be examined: {error}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a folder or is a symbolic link"
    reason = _why_foreign(status, forbidden)
    return f"{folder} {reason}" if reason is not None else None


def _why_foreign(status: os.stat_result, forbidden: int) -> str | None:
    if sys.platform == "win32":
        return None
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to {os.geteuid()}"
    return "may be written by others" if status.st_mode & forbidden else None


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


_reported = False


def _report(message: str) -> None:
    """Log a warning, once per process: a broken cache is slow, not wrong."""
    global _reported
    if _reported:
        return
    _reported = True
    import logging  # costs 10 ms, and is wanted only here

    logging.getLogger("jitensor").warning("disk cache: %s JITENSOR_CACHE=off silences this.", message)
