"""The disk cache: whatever happens to its files, a miss and at most one warning, never a crash or a wrong payload."""

import errno
import logging
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jitensor import settings
from jitensor.runtime import disk

KEY = "ab" * 32
FINGERPRINT = "llvm 1; cpu test"
PAYLOAD = bytes(range(40))
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_reported", False)
    return disk.DiskCache(str(tmp_path / "cache"), limit=2**20)


def entry_file(cache: disk.DiskCache, key: str = KEY) -> Path:
    return Path(cache.kernels, key + disk.SUFFIX)


def warnings_in(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "jitensor"]


def test_what_was_stored_is_loaded(cache):
    assert cache.load(KEY, FINGERPRINT) is None
    assert cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert cache.load(KEY, FINGERPRINT) == PAYLOAD
    assert [entry.size for entry in cache.entries()] == [disk.HEADER.size + len(FINGERPRINT) + len(PAYLOAD)]


def test_an_empty_payload_is_not_a_miss(cache):
    assert cache.store(KEY, FINGERPRINT, b"")
    assert cache.load(KEY, FINGERPRINT) == b""


def test_every_truncation_is_a_miss_and_heals(cache, caplog):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    whole = entry_file(cache).read_bytes()
    for length in range(len(whole)):
        entry_file(cache).write_bytes(whole[:length])
        assert cache.load(KEY, FINGERPRINT) is None, length
        assert not entry_file(cache).exists()
    assert len(warnings_in(caplog)) == 1
    assert cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert cache.load(KEY, FINGERPRINT) == PAYLOAD


def test_every_flipped_bit_and_any_added_byte_is_a_miss(cache):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    whole = entry_file(cache).read_bytes()
    for position in range(len(whole)):
        for bit in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            entry_file(cache).write_bytes(damaged)
            assert cache.load(KEY, FINGERPRINT) is None, (position, bit)
    entry_file(cache).write_bytes(whole + b"\0")
    assert cache.load(KEY, FINGERPRINT) is None


def test_lengths_that_lie_do_not_exhaust_memory(cache):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    header = disk.HEADER.pack(disk.MAGIC, disk.FORMAT, 2**31, 2**62, b"\0" * 32)
    entry_file(cache).write_bytes(header + PAYLOAD)
    assert cache.load(KEY, FINGERPRINT) is None


def test_another_cpu_or_version_is_a_miss(cache):
    cache.store(KEY, "llvm 2; cpu other", PAYLOAD)
    assert cache.load(KEY, FINGERPRINT) is None


def test_another_format_is_a_miss(cache, monkeypatch):
    monkeypatch.setattr(disk, "FORMAT", disk.FORMAT + 1)
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    monkeypatch.undo()
    assert cache.load(KEY, FINGERPRINT) is None


def test_a_renamed_entry_is_a_miss(cache):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    other = "cd" * 32
    entry_file(cache).rename(entry_file(cache, other))
    assert cache.load(other, FINGERPRINT) is None


@posix_only
def test_folders_and_files_are_the_owner_s_alone(cache):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (cache.folder, cache.kernels, entry_file(cache))]
    assert modes == [0o700, 0o700, 0o600]


@posix_only
@pytest.mark.parametrize("place", ["folder", "kernels"])
def test_a_folder_that_others_may_write_is_not_used(cache, caplog, place):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    os.chmod(getattr(cache, place), 0o777)
    assert cache.load(KEY, FINGERPRINT) is None
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert cache.clear() == 0
    assert entry_file(cache).exists()
    (message,) = warnings_in(caplog)
    assert "may be written by others" in message


@posix_only
def test_a_file_that_others_may_write_is_not_read(cache, caplog):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    os.chmod(entry_file(cache), 0o666)
    assert cache.load(KEY, FINGERPRINT) is None
    assert "may be written by others" in warnings_in(caplog)[0]


@posix_only
@pytest.mark.parametrize("place", ["folder", "kernels"])
def test_a_planted_link_to_a_folder_is_not_followed(cache, tmp_path, caplog, place):
    target = tmp_path / "theirs"
    target.mkdir(mode=0o700)
    if place == "kernels":
        os.mkdir(cache.folder, 0o700)
    os.symlink(target, getattr(cache, place))
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert cache.load(KEY, FINGERPRINT) is None
    assert list(target.iterdir()) == []
    assert "symbolic link" in warnings_in(caplog)[0]


@posix_only
def test_a_planted_link_to_a_file_is_neither_read_nor_written_through(cache, tmp_path):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    content = entry_file(cache).read_bytes()
    target = tmp_path / "theirs"
    target.write_bytes(content)
    entry_file(cache).unlink()
    entry_file(cache).symlink_to(target)
    assert cache.load(KEY, FINGERPRINT) is None
    assert cache.store(KEY, FINGERPRINT, b"new")
    assert target.read_bytes() == content
    assert cache.load(KEY, FINGERPRINT) == b"new"


@posix_only
def test_a_pipe_or_folder_in_an_entry_s_place_is_a_miss(cache):
    cache.store("11" * 32, FINGERPRINT, PAYLOAD)
    os.mkfifo(entry_file(cache))
    assert cache.load(KEY, FINGERPRINT) is None
    entry_file(cache).unlink()
    entry_file(cache).mkdir()
    assert cache.load(KEY, FINGERPRINT) is None
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert [entry.path for entry in cache._scan(disk.PARTIAL)] == []


@posix_only
def test_another_user_s_folder_is_not_used(cache, caplog, monkeypatch):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(cache.folder).st_uid + 1)
    assert cache.load(KEY, FINGERPRINT) is None
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert "belongs to user" in warnings_in(caplog)[0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_full_or_read_only_disk_is_a_warning_and_leaves_no_partial_file(cache, caplog, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
    assert os.listdir(cache.kernels) == []
    (message,) = warnings_in(caplog)
    assert os.strerror(code) in message
    assert "JITENSOR_CACHE=off" in message


@posix_only
def test_a_write_that_stops_halfway_leaves_nothing(cache):
    os.makedirs(cache.kernels, mode=0o700)
    limited = textwrap.dedent(f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        from jitensor.runtime import disk
        print(disk.DiskCache({cache.folder!r}, 2**20).store({KEY!r}, "f", bytes(1000)))
    """)
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert os.listdir(cache.kernels) == []


def test_a_read_only_folder_still_serves(cache, caplog, monkeypatch):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    really_open = os.open

    def open_for_reading(path, flags, *mode, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really_open(path, flags, *mode, **options)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Permissions would not stop root, so the system calls say what a read-only disk says.
    monkeypatch.setattr(os, "open", open_for_reading)
    for name in ("utime", "unlink", "replace", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    assert cache.load(KEY, FINGERPRINT) == PAYLOAD
    assert warnings_in(caplog) == []
    assert not cache.store("cd" * 32, FINGERPRINT, PAYLOAD)
    assert cache.load("cd" * 32, FINGERPRINT) is None
    assert len(warnings_in(caplog)) == 1


def test_a_file_in_the_folder_s_place_is_a_miss(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(disk, "_reported", False)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        cache = disk.DiskCache(str(folder), 2**20)
        assert not cache.store(KEY, FINGERPRINT, PAYLOAD)
        assert cache.load(KEY, FINGERPRINT) is None
    assert len(warnings_in(caplog)) == 1


def test_no_warning_when_logging_is_turned_into_nothing(cache, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jitensor"), "disabled", True)
    Path(cache.folder).write_text("")
    assert not cache.store(KEY, FINGERPRINT, PAYLOAD)


def test_bytes_are_bounded_and_the_least_recently_used_go_first(tmp_path):
    cache = disk.DiskCache(str(tmp_path / "cache"), limit=10_000)
    keys = [f"{i:064x}" for i in range(40)]
    for moment, key in enumerate(keys[:8]):
        cache.store(key, FINGERPRINT, bytes(1000))
        os.utime(entry_file(cache, key), (moment, moment))
    assert cache.load(keys[0], FINGERPRINT) is not None  # now the latest used
    for key in keys[8:12]:
        cache.store(key, FINGERPRINT, bytes(1000))
    assert cache.load(keys[0], FINGERPRINT) is not None
    assert cache.load(keys[1], FINGERPRINT) is None
    for key in keys[12:]:
        cache.store(key, FINGERPRINT, bytes(1000))
        assert sum(entry.size for entry in cache.entries()) <= 10_000


def test_what_exceeds_the_whole_cache_is_not_stored(tmp_path):
    cache = disk.DiskCache(str(tmp_path / "cache"), limit=1000)
    assert not cache.store(KEY, FINGERPRINT, bytes(1000))
    assert cache.entries() == []


def test_forgotten_partial_files_are_removed(cache):
    cache.store(KEY, FINGERPRINT, PAYLOAD)
    old, new = (Path(cache.kernels, name + disk.PARTIAL) for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"x")
    os.utime(old, (1, 1))
    disk.DiskCache(cache.folder, cache.limit).store("cd" * 32, FINGERPRINT, PAYLOAD)
    assert (old.exists(), new.exists()) == (False, True)


def test_clear_removes_everything(cache):
    for i in range(3):
        cache.store(f"{i:064x}", FINGERPRINT, PAYLOAD)
    partial = Path(cache.kernels, "x" + disk.PARTIAL)
    partial.write_bytes(b"x")
    os.utime(partial, (1, 1))
    assert cache.clear() == 3
    assert os.listdir(cache.kernels) == []


WRITER = """
import sys
from jitensor.runtime import disk
cache = disk.DiskCache(sys.argv[1], 60_000)
wrong = 0
for turn in range(150):
    for i in range(4):
        key, payload = f"{i:064x}", bytes([i]) * (2000 + i)
        cache.store(key, "f", payload)
        found = cache.load(key, "f")
        wrong += found is not None and found != payload
    if turn % 40 == 39:
        cache.clear()
print(wrong, disk._reported)
"""


def test_processes_may_write_read_and_clear_at_once(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [writer.communicate()[0].split() for writer in writers] == [["0", "False"]] * 4


def test_settings_choose_the_folder_and_switch_it_off(tmp_path):
    with settings.override(cache_dir=tmp_path / "mine", cache_limit="1M"):
        cache = disk.active()
        assert cache is not None
        assert (cache.folder, cache.limit) == (str(tmp_path / "mine"), 2**20)
        assert disk.active() is cache
        with settings.override(cache="off"):
            assert disk.active() is None


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG rule")
def test_default_folder_follows_xdg(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert disk.default_folder() == "/x/jitensor"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert disk.default_folder() == os.path.expanduser("~/.cache/jitensor")
