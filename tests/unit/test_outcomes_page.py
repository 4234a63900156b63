"""The page on outcomes names every family with its links and arguments, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from multilevel.cli.arguments import build_parser
from multilevel.model.families.bounded import BOUNDED
from multilevel.model.families.catalogue import FAMILIES
from multilevel.model.families.categories import CATEGORY_LINKS
from multilevel.model.families.request import request_family

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "outcomes.md").read_text("utf-8")
LINKS = {name: entry.links for name, entry in FAMILIES.items()} | CATEGORY_LINKS
LINKS |= dict.fromkeys(BOUNDED, ("logit",))


def table_of_families() -> dict[str, list[str]]:
    """Rows of the table of families by name."""
    section = PAGE.split("## Every family")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith('| `"')]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {row[0].strip('`" '): row for row in cells}


def test_the_table_has_every_family():
    assert set(table_of_families()) == set(LINKS)


def test_every_family_has_its_times():
    section = PAGE.split("Seconds of a second fit")[1].split("\n## ")[0]
    rows = [
        line.strip("|").split(" | ") for line in section.splitlines() if line.startswith('| `"')
    ]
    assert {row[0].split("`")[1].strip('"') for row in rows} == set(LINKS)
    assert all(float(cell.strip(" |")) > 0.0 for row in rows for cell in row[1:])
    assert {len(row) for row in rows} == {7}


@pytest.mark.parametrize("family", LINKS)
def test_links_and_arguments(family):
    row = table_of_families()[family]
    links = [word.split(" ")[0] for word in row[1].split(", ")]
    assert links == list(LINKS[family])
    base = request_family(family).family(("a", "b", "c"))
    own = {p.argument for p in base.parts if p.argument not in ("", "formula")}
    assert all(f"`{argument}=`" in row[3] for argument in own)
    for kind in ("zero", "hurdle"):
        kinds = {"zero": "inflated", "hurdle": "hurdle"}
        if f"`{kind}=`" in row[3] and kind not in own:
            assert request_family(family, zero=kinds[kind]).base.option("zero") == kinds[kind]
    if "`truncated=`" in row[3]:
        assert request_family(family, truncated=True).base.option("truncated") == "yes"


def test_every_family_that_is_named_exists():
    for name in re.findall(r'family="([^"]+)"', PAGE):
        assert request_family(name).base.label


def test_examples_run(capsys):
    session: dict[str, object] = {}
    for block in re.findall(r"^```python [^\n]*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "outcomes.md", "exec"), session)
    printed = capsys.readouterr().out
    assert "Modelled: the probability that r2 = Y (against N)." in printed
    assert "logit(P(resp_pc <= k)) = tau_k - eta_pc" in printed


def test_commands_parse():
    import shlex

    section = PAGE.split("## On the command line")[1]
    commands = re.findall(r"^multilevel (.*)$", section, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert build_parser().parse_args(shlex.split(command)).family
