"""Models side by side in every format."""

from __future__ import annotations

import re

import docx
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.report import fits
from tests.unit.report.test_documents import Checked


@pytest.fixture(scope="module")
def models():
    hsb = mlm.load_hsb()
    formulas = [
        "mathach ~ 1 + (1 | school)",
        "mathach ~ ses + (1 | school)",
        "mathach ~ ses + (ses | school)",
    ]
    return [mlm.fit(formula, hsb, method="ml") for formula in formulas]


def cells(table) -> dict[str, tuple[str, ...]]:
    return {row[0].strip(): row[1:] for row in table.grid.rows if row[0]}


def test_numbers_stand_in_their_columns(models):
    found = mlm.table(models, names=["empty", "ses", "slope"])
    rows = cells(found)
    assert found.grid.header == ("", "empty", "ses", "slope")
    for k, m in enumerate(models):
        assert rows["-2 log-likelihood"][k] == f"{m.minus2_loglik:.2f}"
        assert rows["AIC"][k] == f"{m.aic:.2f}"
        assert rows["parameters"][k] == str(m.n_parameters)
        assert float(rows["(Intercept)"][k]) == pytest.approx(m.fixed_effects.iloc[0], abs=5e-4)
        assert float(rows["residual variance"][k]) == pytest.approx(m.residual_variance, abs=5e-3)
    assert rows["ses"][0] == ""
    assert rows["school: variance of ses"][:2] == ("", "")
    assert rows["levels of school"] == ("160", "160", "160")
    text = list(found.grid.rows)
    below = text[[r[0].strip() for r in text].index("ses") + 1]
    error = models[1].vcov_fixed.iloc[1, 1] ** 0.5
    assert float(below[2].strip("()")) == pytest.approx(error, abs=5e-4)


def test_text_names_both_sides_and_prints_itself(models):
    found = mlm.table(models)
    for words in ("Model for the means", "Model for the variance", "in parentheses"):
        assert words in repr(found)
    assert str(found) == found.text() == repr(found)
    assert all(line == line.rstrip() for line in found.text().splitlines())


def test_html_is_valid(models):
    page = Checked()
    page.feed(mlm.table(models, names=["<1>", "a&b", "c"], format="html")._repr_html_())
    assert page.open == []
    assert "<1>" in page.text


def test_markdown_and_latex_are_rectangular(models):
    markdown = str(mlm.table(models, format="markdown"))
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    latex = str(mlm.table(models, names=["a_1", "b", "c"], format="latex"))
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {3}
    assert r"a\_1" in latex
    assert r"\quad{}ses" in latex


@pytest.mark.parametrize("suffix", [".txt", ".html", ".md", ".tex"])
def test_saved_files_hold_the_table(models, tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    mlm.table(models, path=path)
    assert "47116" not in path.read_text("utf-8")
    assert f"{models[0].aic:.2f}" in path.read_text("utf-8")


def test_word_holds_the_table(models, tmp_path):
    path = tmp_path / "table.docx"
    found = mlm.table(models, format="docx", path=path)
    (table,) = docx.Document(str(path)).tables
    assert len(table.rows) == len(found.grid.rows) + 1
    assert [c.text for c in table.rows[0].cells] == ["", "model 1", "model 2", "model 3"]


def test_notes_say_what_does_not_compare(models):
    other = models[0].update(method="reml")
    assert "by REML and by ML" in str(mlm.table([models[0], other]))
    pair = [fits.empty(), fits.three_level()]
    assert "different rows" in str(mlm.table(pair))
    assert "different fixed effects" in str(mlm.table(pair))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"]}, "one title per model"),
        ({"names": ["a", "a", "b"]}, "a title of its own"),
        ({"format": "excel"}, "format of a table"),
        ({"format": "docx"}, "without a path"),
        ({"path": "table.xlsx"}, "written as one of"),
    ],
)
def test_what_cannot_be_made(models, options, message):
    with pytest.raises(InferenceError, match=message):
        mlm.table(models, **options)
    with pytest.raises(InferenceError, match="at least one model"):
        mlm.table([])
