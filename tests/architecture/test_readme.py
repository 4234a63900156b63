"""The README shows what the package prints, and its commands are the ones that CI runs."""

from __future__ import annotations

import re

import pytest

from multilevel.cli.main import main
from tests.architecture.source import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_picture_is_printed_by_the_demo(capsys):
    assert main(["demo"]) == 0
    printed = capsys.readouterr().out
    (picture,) = blocks("text")
    for part in picture.split("…\n"):
        assert part.rstrip() in printed


def test_the_python_example_runs(capsys):
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert "Model for the means" in capsys.readouterr().out


def test_two_commands_start_from_a_fresh_clone():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("multilevel demo")
    assert "pytest" in commands[1]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_to_files(target):
    assert (ROOT / target).exists()
