"""`jitensor demo` runs, shows every part, and says what is missing instead of failing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from jitensor.cli import demo
from jitensor.cli import hot_functions as hot


@pytest.fixture
def tiny(monkeypatch):
    """Small inputs, so that the whole demo takes a moment."""
    monkeypatch.setattr(demo, "numeric_works", lambda n, real=demo.numeric_works: real(200))


def without(monkeypatch, *modules):
    """Make the import of these modules fail."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_demo_shows_every_part(tiny, tmp_path, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    status = demo.main(["--quick", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert status == 0
    for part in ("options", "seawater", "photograph", "local contrast", "sharpening", "jt.function"):
        assert part in shown
    assert shown.count(" 1 retrace, 0 kernels compiled") == 3


def test_demo_writes_a_picture(tiny, tmp_path, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    demo.main(["--quick", "--out", str(tmp_path / "new")])
    assert (tmp_path / "new" / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_without_scikit_learn_still_runs_the_numbers(tiny, tmp_path, capsys, monkeypatch):
    without(monkeypatch, "sklearn", "sklearn.datasets", "rich", "rich.console")
    assert demo.main(["--quick", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "pip install 'jitensor[demo]'" in shown
    assert "seawater" in shown and "photograph 6" not in shown


def test_demo_without_scipy_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(hot, "erf", None)
    assert demo.option_works(10) == []
    assert "pip install 'jitensor[demo]'" in capsys.readouterr().out


def test_wrong_results_are_not_passed_over():
    result = demo.Result(demo.seawater_work(4), 1.0, 1.0, 0.5, 1, 0, 0, 1e-3, 1.0, np.ones(4))
    assert result.speedup == 2.0
    assert not demo.agrees(result)


def test_black_scholes_keeps_put_call_parity():
    pytest.importorskip("scipy")
    spot, strike, years = demo.contracts(100)
    call, put = hot.black_scholes(spot, strike, years, 0.03, 0.25)
    np.testing.assert_allclose(call - put, spot - strike * np.exp(-0.03 * years), rtol=1e-10, atol=1e-10)


def test_seawater_is_the_slope_of_the_integral_of_specific_volume():
    salinity, temperature, pressure = demo.ocean(5)

    def volume(t, p):
        s, root = salinity, np.sqrt(salinity)
        b0 = hot.horner(hot.B0, t) + s * (hot.horner(hot.B0_S, t) + root * hot.horner(hot.B0_S3_2, t))
        b1 = hot.horner(hot.TWICE_B1, t) + s * hot.horner(hot.TWICE_B1_S, t)
        b2 = hot.horner(hot.B2, t) + s * hot.B2_S
        a0 = hot.horner(hot.A0, t) + s * (hot.horner(hot.A0_S, t) + hot.A0_S2 * s + root * hot.horner(hot.A0_S3_2, t))
        a1 = hot.horner(hot.A1, t) + s * hot.horner(hot.A1_S, t)
        a2 = hot.horner(hot.A2, t) + hot.A2_ST * s * t
        return (a0 + p * (a1 + p * (a2 + p * hot.horner(hot.A3, t)))) / (b0 + p * (b1 + p * b2))

    nodes, weights = np.polynomial.legendre.leggauss(20)
    step = 1e-3
    slope = sum(
        weight * (volume(temperature + step, p) - volume(temperature - step, p)) / (2 * step)
        for weight, p in zip(weights, (pressure * (node + 1) / 2 for node in nodes), strict=True)
    )
    np.testing.assert_allclose(hot.seawater(salinity, temperature, pressure), 1e4 * slope * pressure / 2, rtol=1e-6)


def test_srgb_and_linear_light_are_inverses():
    encoded = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(hot.to_srgb(hot.to_linear(encoded)), encoded, atol=1e-6)
