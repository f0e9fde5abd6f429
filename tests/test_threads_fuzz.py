"""Random graphs, cut into chunks of one iteration that three threads run: whatever may be cut gives what it means."""

import platform
import sys

import pytest

from jitensor import pipeline, settings
from jitensor.codegen import emit_pool, kernel, work
from jitensor.runtime import executor, threads
from jitensor.runtime.compiler import uncounted_code
from tests.test_fuzz import check_random

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels run on one thread elsewhere")
KEPT = []  # the code that workers run


@pytest.fixture
def every_launch_is_shared(monkeypatch):
    small = {"PARALLEL_PS": 0, "CHUNK_PS": 1, "CHUNK": 4, "MOST": 1 << 40, "DEBT": 0}
    monkeypatch.setattr(emit_pool, "_NUMBERS", emit_pool._NUMBERS | small)
    symbol = "jitensor_run_small"
    if not KEPT:
        KEPT.append(uncounted_code(emit_pool.emit_pool(symbol, platform.machine(), threads=True), symbol))
    driver = threads._DRIVER(KEPT[0].address)
    monkeypatch.setattr(threads, "driver", lambda: driver)
    monkeypatch.setattr(executor, "PARALLEL_PICOSECONDS", 0)
    monkeypatch.setattr(kernel, "CHUNK", 4)
    grain = work._grain
    monkeypatch.setattr(work, "_grain", lambda k: grain(k) if grain(k) == work.WHOLE else 1)
    pipeline.forget_programs()
    settings.configure(num_threads=3)  # forgets what launches owe
    yield
    settings.configure(num_threads=0)
    pipeline.forget_programs()


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_random_graphs_in_the_smallest_chunks(every_launch_is_shared, start):
    before = threads.stats()["shared_launches"]
    for seed in range(start, start + 10):
        check_random(90_000 + seed)
    assert threads.stats()["shared_launches"] > before
