"""Reports of real fits: the text says what the fit holds, and what was published."""

from __future__ import annotations

import pytest

import multilevel
from multilevel.report.changes import what_changed
from multilevel.report.summary import summary_text


@pytest.fixture(scope="module")
def hsb():
    return multilevel.load_hsb()


def cells(text: str, *start: str) -> list[float]:
    line = next(x for x in text.splitlines() if x.split()[: len(start)] == list(start))
    return [float(v) for v in line.split()[len(start) :]]


def test_empty_model_of_hsb_as_published(hsb):
    # Raudenbush & Bryk 2002, table 4.2: 12.64 (0.24), 8.61, 39.15; REML criterion by lme4 and SAS
    result = multilevel.fit("mathach ~ 1 + (1 | school)", hsb)
    text = summary_text(result.fit, result.design)
    assert cells(text, "(Intercept)")[:2] == pytest.approx([12.637, 0.2444], abs=5e-4)
    assert cells(text, "school", "(Intercept)")[0] == pytest.approx(8.614, abs=1e-3)
    assert cells(text, "Residual")[0] == pytest.approx(39.148, abs=1e-3)
    assert "REML criterion 47116.79 " in text
    assert "18.0% of the variance is due to school mean differences" in " ".join(text.split())


def test_within_and_between_keep_their_levels_in_the_equations(hsb):
    result = multilevel.fit(
        "mathach ~ within(ses, school) * sector + between(ses, school)"
        " + (within(ses, school) | school)",
        hsb,
        method="ml",
    )
    text = " ".join(summary_text(result.fit, result.design).split())
    assert "beta_0c + beta_1c within(ses, school)_pc + e_pc" in text
    assert "gamma_01 sector_c + gamma_02 between(ses, school)_c + U_0c" in text
    assert "beta_1c = gamma_10 + gamma_11 sector_c + U_1c" in text


def test_change_between_real_fits(hsb):
    one = multilevel.fit("mathach ~ 1 + (1 | school)", hsb, method="ml")
    two = multilevel.fit("mathach ~ sector + (1 | school)", hsb, method="ml")
    text = " ".join(what_changed(one.fit, one.design, two.fit, two.design, "the empty model"))
    fall = one.fit.criterion - two.fit.criterion
    old, new = one.fit.random_covariance[0][0, 0], two.fit.random_covariance[0][0, 0]
    assert f"falls by {fall:.2f} with 1 parameter more" in text
    assert f"{100 * (old - new) / old:.1f}% of it explained, relative to the empty model" in text
