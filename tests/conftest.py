"""What every test shares: a disk cache of the run's own, so that counts do not depend on earlier runs; golden texts."""

import os
import tempfile
from pathlib import Path

import pytest

# Before jitensor reads its settings, and inherited by the processes that tests start.
os.environ["JITENSOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="jitensor-tests-")
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden with what the tests find")


@pytest.fixture
def golden(request):
    """check(name, text): the text is that of tests/golden/<name>, or becomes it under --update-golden."""

    def check(name, text):
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no {path}: run pytest --update-golden, and review what it writes"
        assert text == path.read_text(encoding="utf-8"), f"{name} differs: if that is right, pytest --update-golden"

    return check


def pytest_unconfigure(config):
    import shutil

    shutil.rmtree(os.environ["JITENSOR_CACHE_DIR"], ignore_errors=True)
