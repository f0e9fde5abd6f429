"""The retracing conformance cases recorded from TensorFlow, where that folder is present beside the repository.

Cases that need what a later issue brings (converted control flow) are known by the names they use, or listed.
Quirk cases are those where TensorFlow's behaviour is an accident; jitensor does the sane thing, which
tests/test_function_rules.py and tests/test_signature.py pin.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import jitensor

ORACLE = pathlib.Path(__file__).resolve().parents[2] / "shared" / "oracle"
CATEGORIES = (
    *("key_tensor", "key_python", "key_structure", "key_object", "args_canonical", "methods", "input_signature"),
    *("reduce_retracing", "dispatch", "concrete", "introspection", "captures", "side_effects", "nesting"),
    *("errors_tracing", "outputs", "copying", "threading", "retrace_warning", "tracing_protocol", "dtype_strict"),
    *("broadcasting", "slicing", "tensor_api", "options", "context"),
    *("key_variable", "var_creation", "variable_ops", "gradients"),
)
LATER = re.compile(r"tf\.(cond|while_loop|TensorArray|autograph)\b")
NEEDS_CONVERSION = {"variable_ops.loop_updates", "gradients.through_while"}
# Literals differ by type and value here, so 3 and 3.0 are two traces where TensorFlow counts one.
FOLLOWS_FROM_A_QUIRK = {"introspection.tracing_count_progress"}


@pytest.mark.skipif(not (ORACLE / "run.py").exists(), reason="the oracle's folder ../shared/oracle is not here")
def test_cases_agree_with_tensorflow(tmp_path):
    cases = json.loads((ORACLE / "cases_open.json").read_text())["cases"]
    wanted = {
        case["id"]
        for case in cases
        if case["category"] in CATEGORIES
        and not case["quirk"]
        and not LATER.search(case["source"])
        and case["id"] not in FOLLOWS_FROM_A_QUIRK | NEEDS_CONVERSION
    }
    report = tmp_path / "report.json"
    command = [sys.executable, str(ORACLE / "run.py"), "--module", "jitensor", "--json", str(report)]
    package = str(pathlib.Path(jitensor.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": package}
    subprocess.run(
        [*command, "--only", ",".join(sorted(wanted))], check=False, capture_output=True, timeout=300, env=environment
    )
    results = {case["id"]: case for case in json.loads(report.read_text())["cases"]}
    assert len(wanted) > 100
    wrong = {name: results[name]["obs"] for name in wanted if not results[name]["agree"]}
    assert not wrong
