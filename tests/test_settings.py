"""settings.py and events.py: parsing, scopes, errors that name the variable, events, dumps."""

import threading

import pytest

from jitensor import events, settings
from jitensor.errors import SettingError

GOOD = [
    ("CACHE", "off", "cache", False),
    ("CACHE", "1", "cache", True),
    ("CACHE_LIMIT", "64M", "cache_limit", 64 * 2**20),
    ("CACHE_LIMIT", "2GiB", "cache_limit", 2 * 2**30),
    ("CACHE_LIMIT", "1000", "cache_limit", 1000),
    ("DEBUG", "retrace, llvm", "debug", frozenset({"retrace", "llvm"})),
    ("DEBUG", "all", "debug", frozenset(settings.STAGES)),
    ("DISABLE_JIT", "1", "disable_jit", True),
    ("BACKEND", "njit", "backend", "njit"),
    ("ENTRY", "Python", "entry", "python"),
    ("NUM_THREADS", "3", "num_threads", 3),
    ("CACHE_DIR", "/x/y", "cache_dir", "/x/y"),
    ("DUMP", "", "dump", None),
]
BAD = [
    ("CACHE", "maybe"),
    ("CACHE_LIMIT", "much"),
    ("CACHE_LIMIT", "-1"),
    ("DEBUG", "everything"),
    ("BACKEND", "gcc"),
    ("NUM_THREADS", "1.5"),
    ("NUM_THREADS", "-2"),
    ("ENTRY", "fast"),
]


@pytest.fixture(autouse=True)
def own_process_settings(monkeypatch):
    monkeypatch.setattr(settings, "_process", settings.Settings())


@pytest.mark.parametrize(("variable", "text", "name", "value"), GOOD)
def test_environment(variable, text, name, value):
    assert getattr(settings.from_environment({"JITENSOR_" + variable: text}), name) == value


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_a_bad_value_is_an_error_naming_the_variable_and_the_cure(variable, text):
    with pytest.raises(SettingError, match=rf"JITENSOR_{variable}: '{text}' was given; it must be .+\."):
        settings.from_environment({"JITENSOR_" + variable: text})


def test_every_setting_has_a_line_of_documentation():
    assert all(field.metadata["doc"] for field in settings.TABLE.values())


def test_override_ends_with_its_block_also_after_an_error():
    with pytest.raises(KeyError), settings.override(backend="njit"):
        assert settings.active().backend == "njit"
        raise KeyError
    assert settings.active().backend == "llvm"


def test_overrides_nest():
    with settings.override(backend="njit"), settings.override(num_threads=2):
        assert (settings.active().backend, settings.active().num_threads) == ("njit", 2)


def test_override_is_of_this_thread_and_configure_of_all():
    seen = []

    def look():
        seen.append((settings.active().num_threads, settings.active().backend))

    settings.configure(num_threads=5)
    with settings.override(backend="njit"):
        thread = threading.Thread(target=look)
        # Python 3.14 may hand the context on to threads (sys.flags.thread_inherit_context), which is as good.
        thread.start()
        thread.join()
    assert seen[0][0] == 5


def test_unknown_setting():
    with pytest.raises(SettingError, match="no setting `backed`; there are backend, cache"):
        settings.configure(backed="njit")


def test_only_what_changes_code_is_in_the_key():
    base = settings.active().key()
    with settings.override(backend="njit"):
        assert settings.active().key() != base
    with settings.override(num_threads=3, cache=False, debug="run"):
        assert settings.active().key() == base


def test_events_reach_subscribers_until_they_leave():
    assert not events.wanted("trace")
    with events.collect() as gathered:
        assert events.wanted("trace")
        events.emit("trace", function="f", seconds=0.5)
        with events.timed("passes.simplify", graph="f"):
            pass
    events.emit("trace", function="g")
    assert [event.name for event in gathered] == ["trace", "passes.simplify"]
    assert gathered[0].fields == {"function": "f", "seconds": 0.5}
    assert gathered[1].fields["seconds"] >= 0
    assert gathered[1].stage == "passes"


def test_debug_prints_the_named_stages_only(capsys):
    with settings.override(debug="compile"):
        events.emit("compile.load", symbol="k_1", seconds=0.25)
        events.emit("trace", function="f")
    assert capsys.readouterr().err == "[compile.load] symbol=k_1 seconds=250.000ms\n"


def test_dump_writes_named_files(tmp_path):
    with settings.override(dump=tmp_path / "new"):
        events.dump("k_1", "ll", "define")
        events.dump("f/<lambda>", "graph", "graph")
    assert (tmp_path / "new" / "k_1.ll").read_text() == "define"
    assert (tmp_path / "new" / "f_lambda_.graph").read_text() == "graph"
