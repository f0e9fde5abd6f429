"""The benchmarks' cases give NumPy's results under jt.jit, and the table says what was measured; no timing asserts."""

from __future__ import annotations

import json

import numpy as np
import pytest

import jitensor as jt
from benchmarks import cores, dags, functions, table
from benchmarks.__main__ import QUICK, Effort, names
from benchmarks.cases import CASES, COMPILE_MS
from benchmarks.peers import as_arrays, difference
from benchmarks.steady import case_checks

FUNCTIONS = {(case.function, str(case.arguments(8)[0].dtype)): case for case in CASES}


@pytest.mark.parametrize("case", FUNCTIONS.values(), ids=lambda case: case.name)
def test_case_gives_numpys_result(case):
    if case.function == "black_scholes":
        pytest.importorskip("scipy", reason="its erf")
    arguments = case.arguments(17)
    function = getattr(functions, case.function)
    compiled = jt.jit(function)
    for _ in range(2):
        output = compiled(*arguments)
        assert difference(output, function(*arguments)) <= case.tolerance
    assert [one.dtype for one in as_arrays(output)] == [one.dtype for one in as_arrays(function(*arguments))]


@pytest.mark.parametrize("operations", COMPILE_MS)
def test_random_function_has_its_operations_and_is_the_same_each_time(operations):
    text = dags.source(operations, 3)
    assert sum(dags.cost(line.partition(" = ")[2]) for line in text.splitlines()[1:-1]) == operations
    assert text == dags.source(operations, 3) != dags.source(operations, 4)


def test_random_function_compiled():
    arguments = [np.full(4, value) for value in (0.3, 0.4, 0.5)]
    function = dags.function(50, 2, np=np)
    np.testing.assert_allclose(jt.jit(function)(*arguments), function(*arguments), rtol=1e-12)


def test_rebound_function_uses_the_names_given():
    class Halved:
        tanh = staticmethod(lambda x: 0.5)

    assert functions.rebound("gelu", np=Halved)(2.0) == 0.5 * 2.0 * 1.5
    assert functions.np is np


def test_difference_sees_values_shapes_and_nan():
    assert difference((1.0, np.ones(2)), (1.0, np.ones(2))) == 0.0
    assert difference(np.array([1.0, 4.0]), np.array([2.0, 4.0])) == 0.25
    assert difference(np.ones(3), np.ones(2)) == float("inf")
    assert not difference(np.array([np.nan]), np.ones(1)) <= 1.0


@pytest.mark.parametrize(
    ("numpy_seconds", "njit_seconds", "met"),
    [(4.0, 1.1, True), (3.9, 1.1, False), (4.0, 1.3, False), (None, 1.1, None)],
)
def test_a_row_is_met_when_every_target_is(numpy_seconds, njit_seconds, met):
    case = next(case for case in CASES if case.name == "gelu f64 1e6")
    times = {"jitensor": 1.0, "jax": 1.5, "torch": 1.5, "njit": njit_seconds}
    if numpy_seconds is not None:
        times["numpy"] = numpy_seconds
    assert table.Row(case.name, {}, case_checks(case, times)).met is met


def test_table_leaves_out_absent_peers_and_shows_what_missed():
    rows = [table.Row("work", {"jitensor": "1 ms", "numpy": "2 ms (2x)"}, (table.at_least(4.0, "numpy", 2.0),))]
    text = table.as_text(rows, ["jitensor", "numpy", "torch"])
    assert "torch" not in text
    assert ">= 4x numpy (is 2.00x)" in text and "MISSED" in text
    assert table.as_markdown(rows, ["jitensor", "numpy"]).splitlines()[1] == "| --- | --- | --- | --- | --- |"
    assert json.loads(json.dumps(table.as_json(rows)))[0]["met"] is False


def test_duration_has_a_unit():
    assert [table.duration(s) for s in (1.5, 0.0123, 4.2e-6, 5e-8)] == ["1.5 s", "12.3 ms", "4.2 us", "50 ns"]


def test_peers_named_on_the_command_line():
    assert names("numpy") == ("jitensor", "numpy")
    with pytest.raises(Exception, match="no peer tensorflow"):
        names("tensorflow")


def test_quick_is_smaller_than_the_default():
    assert QUICK.rounds < Effort().rounds and QUICK.divisor > Effort().divisor


def test_rows_of_threads_and_memory():
    rows = list(cores.rows(divisor=500, rounds=2))
    assert not any("failures" in row.raw for row in rows), rows[0].raw
    assert len(rows) == len(cores.SCALING) + 6
    assert all("jitensor" in row.cells for row in rows)
