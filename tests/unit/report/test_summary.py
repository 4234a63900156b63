from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.design.records import RowReport
from multilevel.estimate.records import RedundantDirection
from multilevel.report.facts import labels_of
from multilevel.report.summary import summary_text
from multilevel.tables.table import Table
from tests.unit.report import hand


def row(text: str, *start: str) -> list[str]:
    """The cells of the first line that begins with these words."""
    for line in text.splitlines():
        if line.split()[: len(start)] == list(start):
            return line.split()[len(start) :]
    raise AssertionError(f"no line starts with {start} in\n{text}")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_both_sides_of_the_model_stand_by_name_with_their_numbers():
    text = summary_text(*hand.cross_level_model())
    means = text.index("Model for the means (fixed effects)")
    assert means < text.index("Model for the variance (random effects and residual)")
    assert [float(v) for v in row(text[means:], "ses:sector")] == [-1.25, 0.05, -25.0]
    variance = text[text.index("Model for the variance") :]
    assert [float(v) for v in row(variance, "school", "(Intercept)")] == [4.0, 2.0]
    assert [float(v) for v in row(variance, "ses")] == [0.25, 0.5, -0.3]
    assert [float(v) for v in row(variance, "Residual")] == [36.0, 6.0]


@pytest.mark.parametrize(
    ("method", "name"), [("reml", "REML criterion"), ("ml", "-2 log-likelihood")]
)
def test_criterion_has_the_name_of_its_method_and_counts_all_parameters(method, name):
    fit, design = hand.cross_level_model(method, criterion=250.0)
    text = summary_text(fit, design)
    line = next(x for x in text.splitlines() if x.strip().startswith(name))
    words = line.split()
    assert float(words[words.index("AIC") + 1]) == pytest.approx(250.0 + 2 * 8)
    assert float(words[words.index("BIC") + 1]) == pytest.approx(250 + 8 * np.log(60), abs=0.005)
    assert "8 parameters: 4 fixed effects, 3 variances and covariances" in flat(text)
    assert ("Compare REML criteria" in text) == (method == "reml")


def test_icc_is_a_sentence_and_conditional_once_predictors_are_in():
    assert "18.0% of the variance is due to school mean differences; two rows of one school" in (
        flat(summary_text(*hand.empty_model()))
    )
    of = hand.design(
        "y ~ ses + (1 | school)",
        {"(Intercept)": hand.ONE, "ses": hand.SES},
        [hand.block("school", hand.CODES, [hand.ONE], ["(Intercept)"])],
    )
    text = flat(summary_text(hand.fit(of, [1, 2], [0.1, 0.1], [[[1.0]]], 3.0), of))
    assert "Given the predictors, 25.0% of the variance" in text
    assert "correlate 0.25 on average (the conditional ICC)" in text


def test_no_icc_but_the_range_of_slopes_where_slopes_vary():
    text = flat(summary_text(*hand.cross_level_model()))
    assert "ICC" not in text
    low, high = 2.0 - 1.959964 * 0.5, 2.0 + 1.959964 * 0.5
    assert "slope of ses is 2.000 on average where sector = 0; 95%" in text
    assert f"from {low:.3f} to {high:.3f}" in text


def test_nested_and_crossed_factors_share_what_they_share():
    school = hand.CODES // 3
    item = np.tile(np.arange(5), 12)
    blocks = [
        hand.block(name, codes, [hand.ONE], ["(Intercept)"])
        for name, codes in (("class", hand.CODES), ("item", item), ("school", school))
    ]
    of = hand.design("y ~ 1 + (1 | school/class) + (1 | item)", {"(Intercept)": hand.ONE}, blocks)
    fit = hand.fit(of, [1.0], [0.1], [[[2.0]], [[3.0]], [[1.0]]], 4.0)
    text = flat(summary_text(fit, of))
    assert "Cross-classified model" in text
    assert "class is nested in school." in text
    assert "class and item are crossed: 60 of 60 combinations occur" in text
    assert "20.0% of the variance is due to class mean differences" in text
    assert "one class but different item correlate 0.30 on average, as they share school" in text
    assert "one school but different class and item correlate 0.10" in text


def test_dropped_rows_are_counted_by_variable():
    of = hand.empty_model()[1]
    rows = RowReport(75, np.arange(60), {"ses": 11, "mathach": 6})
    of = hand.design(of.model.formula, {"(Intercept)": hand.ONE}, of.blocks, rows=rows)
    text = flat(summary_text(hand.fit(of, [1.0], [0.1], [[[1.0]]], 1.0), of))
    assert "60 of 75 rows used; 15 dropped for missing values: ses in 11 and mathach in 6." in text


def test_dropped_columns_and_weights_are_said():
    of = hand.empty_model()[1]
    of = hand.design(
        of.model.formula,
        {"(Intercept)": hand.ONE},
        of.blocks,
        weights=hand.ONE * 2,
        dropped_columns={"b": "b = 2 * a"},
    )
    text = flat(summary_text(hand.fit(of, [1.0], [0.1], [[[1.0]]], 1.0), of))
    assert "Left out, as it adds nothing: b = 2 * a." in text
    assert "Precision weights" in text
    assert "(rows of weight 1)" in text


def test_a_singular_fit_is_explained_in_the_users_names():
    direction = RedundantDirection("school", {"ses": 1.0}, "The ses slope has no variance.")
    certificate = hand.certificate("singular", redundant=(direction,), boundary_residual=0.3)
    text = flat(summary_text(*hand.cross_level_model(certificate=certificate)))
    assert "The verdict is singular." in text
    assert "The ses slope has no variance." in text
    assert "|| school)" in text


def test_a_fit_that_is_not_certified_says_so_and_what_to_do():
    text = summary_text(*hand.empty_model(certificate=hand.certificate("not_certified")))
    assert "The verdict is not_certified." in text
    assert "Error: Rescale and centre the predictors" in flat(text)


def test_verbose_adds_evidence_engine_and_times():
    fit, of = hand.empty_model(seconds={"estimation": 0.25}, plan="nested engine: one factor")
    brief, long = summary_text(fit, of), flat(summary_text(fit, of, verbose=True))
    for words in ("Evidence: expected further fall", "nested engine: one factor", "0.250 s"):
        assert words in long
        assert words not in brief


def test_labels_of_the_variables_in_the_formula_only():
    labels = {"ses": "Socioeconomic status", "mathach": "Mathematics", "sect": "no", "female": "no"}
    text = summary_text(*hand.cross_level_model(), labels)
    assert "ses: Socioeconomic status" in text
    assert "mathach: Mathematics" in text
    assert ": no" not in text


def test_structure_of_the_random_effects_and_many_correlations():
    names = ["(Intercept)", *"abcde"]
    columns = [hand.ONE, *(hand.SES**k for k in range(1, 6))]
    of = hand.design(
        "y ~ 1 + (a + b + c + d + e | school)",
        {"(Intercept)": hand.ONE},
        [hand.block("school", hand.CODES, columns, names)],
    )
    G = np.eye(6) + 0.5 * (1 - np.eye(6))
    text = summary_text(hand.fit(of, [1.0], [0.1], [G], 1.0), of)
    assert "Correlations of random effects" in text
    assert row(text, "school", "d", "e") == ["0.50"]
    assert max(map(len, text.splitlines())) <= 80
    of = hand.design(
        "y ~ 1 + (ses || school)",
        {"(Intercept)": hand.ONE},
        [hand.block("school", hand.CODES, columns[:2], names[:2], "diagonal")],
    )
    text = summary_text(hand.fit(of, [1.0], [0.1], [np.diag([4.0, 1.0])], 1.0), of)
    assert "Corr." not in text
    assert "no covariances" in text


@pytest.mark.parametrize("verbose", [False, True])
def test_everything_fits_in_80_columns(verbose):
    for fit, of in (hand.empty_model(), hand.cross_level_model()):
        assert max(map(len, summary_text(fit, of, verbose=verbose).splitlines())) <= 80


def test_value_labels_stand_behind_the_label():
    table = Table(
        pd.DataFrame({"sector": [0.0, 1.0], "x": [1.0, 2.0], "many": [1.0, 2.0]}),
        {"sector": "Sector"},
        {"sector": {0: "Public", 1.0: "Catholic"}, "many": {k: f"v{k}" for k in range(9)}},
    )
    words = labels_of(table)
    assert words["sector"] == "Sector (0 Public, 1 Catholic)"
    assert words["many"].endswith("5 v5, 3 more)")
    assert set(words) == {"sector", "many"}
