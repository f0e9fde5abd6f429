"""The code of the README and of docs/inside.md runs as it stands, and the table of settings is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jitensor import settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(text):
    """Return the Python blocks of a Markdown text."""
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_code_of_the_readme_runs(capsys):
    namespace = {}
    for block in code_blocks(README):
        exec(compile(block, "README.md", "exec"), namespace)
    assert "kernels_compiled=" in capsys.readouterr().out


def test_code_of_inside_runs(capsys):
    for block in code_blocks((ROOT / "docs" / "inside.md").read_text(encoding="utf-8")):
        exec(compile(block, "inside.md", "exec"), {})
    assert "graph mse" in capsys.readouterr().out


def test_ten_lines_are_ten():
    first = [line for line in code_blocks(README)[0].splitlines() if line.strip()]
    assert len(first) <= 10


@pytest.mark.parametrize("name", settings.TABLE)
def test_every_setting_is_described(name):
    assert f"`JITENSOR_{name.upper()}`" in README


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
