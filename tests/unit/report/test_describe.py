from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from multilevel.report.describe import describe_html, describe_json, describe_text
from multilevel.tables.describe import describe_design
from multilevel.tables.table import Table


def classes(reused: bool) -> Table:
    school = np.repeat(np.arange(6), 12)
    inside = np.tile(np.repeat(np.arange(1, 4), 4), 6)
    i = np.arange(72)
    y = np.cos(3.0 * school) + np.sin(7.0 * i)
    y[:2] = np.nan
    frame = pd.DataFrame(
        {
            "y": y,
            "x": np.sin(i) + school,
            "size": 10.0 * (school + 1),
            "school": school,
            "class": inside if reused else 10 * school + inside,
        }
    )
    return Table(frame, variable_labels={"x": "A <predictor>"})


def flat(text: str) -> str:
    return " ".join(text.split())


def test_groups_rows_and_levels_of_variables():
    text = describe_text(describe_design(classes(False), "y", ["school", "class"]))
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    assert ["school", "6", "10", "12", "11.7", "12"] in lines
    assert "70 of 72 rows have y" in flat(text)
    assert "class is nested in school: every class occurs in one school only." in flat(text)
    assert next(cells for cells in lines if cells[:1] == ["size"])[1] == "school"
    assert "write within(x, school) + between(x, school)" in flat(text)


def test_numbers_in_the_sentences_are_those_of_the_description():
    found = describe_design(classes(False), "y", ["school"])
    variation = found.variable("y").variation("school")
    text = flat(describe_text(found))
    assert f"{100 * variation.icc:.1f}% of the variance of y" in text
    assert f"worth about {variation.n_effective:.0f} independent ones" in text


def test_reused_ids_come_with_the_formula_that_mends_them():
    text = flat(describe_text(describe_design(classes(True), "y", ["school", "class"])))
    assert "The ids of class may start again in every school (3 ids, 6 levels of school" in text
    assert "there are 18 of them: write (1 | school/class)" in text


def test_html_is_escaped_and_json_is_valid():
    found = describe_design(classes(False), "y", ["school", "class"])
    assert "A &lt;predictor&gt;" in describe_html(found)
    out = json.loads(json.dumps(describe_json(found), allow_nan=False))
    assert out["n_rows"] == 70
    assert out["factors"][0]["n_groups"] == 6
    assert "sizes" not in out["factors"][0]
    assert out["pairs"][0]["relation"] == "nested"
    assert out["variables"][0]["by_factor"][0]["icc"] == pytest.approx(
        found.variables[0].by_factor[0].icc
    )


def test_a_design_without_outcome():
    text = describe_text(describe_design(classes(False), None, ["school"]))
    assert "no outcome named" in text
