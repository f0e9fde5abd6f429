"""The `jitensor` command."""

import subprocess
import sys
import types

import pytest

import jitensor
from jitensor import cli, settings
from jitensor.cli import doctor
from jitensor.cli.cache import in_units
from jitensor.errors import DeviceError
from jitensor.runtime import disk
from jitensor.runtime.counters import Counters, counters


def test_doctor_reports_everything_and_compiles(capsys):
    before = counters()
    assert cli.main(["doctor"]) == 0
    report = capsys.readouterr().out
    for word in ("jitensor", "numpy", "numba", "llvmlite", "llvm", "features", "cores", "gpu", "cache", "entry"):
        assert word in report
    assert "compiled and ran" in report
    assert counters() - before == Counters()


def test_doctor_says_when_nothing_compiles(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "define nonsense")
    assert cli.main(["doctor"]) == 1
    assert "failed: kernel jitensor_doctor: LLVM does not accept its text" in capsys.readouterr().out


def test_doctor_shows_settings_that_differ(capsys):
    with settings.override(debug="run,llvm", num_threads=3):
        cli.main(["doctor"])
    report = capsys.readouterr().out
    assert "JITENSOR_DEBUG" in report and "llvm,run" in report
    assert "JITENSOR_NUM_THREADS" in report


def test_cache_info_and_clear(capsys, tmp_path):
    with settings.override(cache_dir=tmp_path / "c", cache_limit="1M"):
        disk.configured().store("ab" * 32, "f", bytes(3000))
        assert cli.main(["cache", "info"]) == 0
        info = capsys.readouterr().out
        assert str(tmp_path / "c") in info
        assert "kernels     1\n" in info
        assert "3.0 KiB of 1.0 MiB" in info
        assert cli.main(["cache", "clear"]) == 0
        assert "removed 1 kernels" in capsys.readouterr().out
        assert cli.main(["cache"]) == 0
        assert "kernels     0\n" in capsys.readouterr().out


def test_cache_info_says_when_it_is_off_or_unsafe(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    with settings.override(cache_dir=tmp_path / "c", cache=False):
        cli.main(["cache", "info"])
        assert "off (JITENSOR_CACHE)" in capsys.readouterr().out
    with settings.override(cache_dir=tmp_path / "file"):
        assert cli.main(["cache", "info"]) == 1
        assert "is not a folder" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["cache", "nonsense"], ["doctor", "--nonsense"]])
def test_bad_usage_is_exit_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: jitensor" in capsys.readouterr().err


def test_help_names_every_command_and_its_purpose(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"{name}" in text and doc in text for name, doc in cli.COMMANDS.items())


def test_a_command_gets_its_arguments_and_gives_its_status(monkeypatch):
    seen = []
    module = types.ModuleType("jitensor.cli.demo")
    module.main = lambda argv: seen.append(argv) or 3
    monkeypatch.setitem(sys.modules, "jitensor.cli.demo", module)
    assert cli.main(["demo", "--quick", "x"]) == 3
    assert seen == [["--quick", "x"]]


def test_an_error_of_jitensor_is_a_line_not_a_traceback(monkeypatch, capsys):
    def fail(argv):
        raise DeviceError("no such device")

    monkeypatch.setattr(doctor, "main", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "jitensor doctor: no such device\n"


def test_python_dash_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "jitensor", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"jitensor {jitensor.__version__}\n"


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB")])
def test_bytes_for_people(size, text):
    assert in_units(size) == text
