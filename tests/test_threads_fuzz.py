"""Random graphs cut into chunks of one iteration, in any order and on three threads: they give what the graphs mean."""

import ctypes
import math
import platform
import random
import sys

import pytest

from jitensor import pipeline, settings
from jitensor.codegen import emit_pool, work
from jitensor.codegen import kernel as kernel_module
from jitensor.runtime import executor, threads
from jitensor.runtime.compiler import uncounted_code
from tests.test_fuzz import check_random

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels run on one thread elsewhere")
KEPT = []  # the code that workers run


def in_any_order(_pool, kernel, plan, pointers, ints, scalars, _count):
    """The driver in Python, on one thread: the chunks of each stage in random order."""
    run = executor._FUNCTION(kernel)
    loops, _, _, stages, slots, fixed, buffers = (ctypes.c_int64 * 7).from_address(plan)
    extents = list((ctypes.c_int64 * max(loops, 1)).from_address(ints))
    if not stages:
        for i in random.sample(range(extents[0]), extents[0]):
            run(pointers, ints, scalars, i, i + 1)
        return 0
    rows = max(1, kernel_module.CHUNK // max(1, math.prod(extents[1:])))
    chunks = -(-extents[0] // rows)
    scratch = (ctypes.c_int64 * (fixed + chunks * slots))(rows, chunks, *[-1] * (fixed - 2 + chunks * slots))
    places = (ctypes.c_int64 * (buffers + 2)).from_buffer_copy(pointers)
    places[buffers] = places[buffers + 1] = ctypes.addressof(scratch)
    for stage in range(0, stages, 2):
        for c in random.sample(range(chunks), chunks):
            run(ctypes.addressof(places), ints, scalars, (stage << 32) + c, (stage << 32) + c + 1)
        run(ctypes.addressof(places), ints, scalars, (stage + 1) << 32, ((stage + 1) << 32) + 1)
    return 0


@pytest.fixture(params=["any order", "three threads"])
def every_launch_is_shared(monkeypatch, request):
    small = {"PARALLEL_PS": 0, "CHUNK_PS": 1, "CHUNK": 4, "MOST": 1 << 40, "DEBT": 0}
    monkeypatch.setattr(emit_pool, "_NUMBERS", emit_pool._NUMBERS | small)
    symbol = "jitensor_run_small"
    if not KEPT:
        KEPT.append(uncounted_code(emit_pool.emit_pool(symbol, platform.machine(), threads=True), symbol))
    driver = threads._DRIVER(KEPT[0].address)
    if request.param == "any order":
        driver = in_any_order
        random.seed(1)
    monkeypatch.setattr(threads, "driver", lambda: driver)
    monkeypatch.setattr(executor, "PARALLEL_PICOSECONDS", 0)
    monkeypatch.setattr(kernel_module, "CHUNK", 4)
    grain = work._grain
    monkeypatch.setattr(work, "_grain", lambda k: grain(k) if grain(k) == work.WHOLE else 1)
    pipeline.forget_programs()
    settings.configure(num_threads=3)  # forgets what launches owe
    yield request.param
    settings.configure(num_threads=0)
    pipeline.forget_programs()


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_random_graphs_in_the_smallest_chunks(every_launch_is_shared, start):
    before = threads.stats()["shared_launches"]
    for seed in range(start, start + 10):
        check_random(90_000 + seed)
    if every_launch_is_shared == "three threads":
        assert threads.stats()["shared_launches"] > before
