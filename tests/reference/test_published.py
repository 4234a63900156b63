"""Values printed in the literature and by several programs, not by one program alone."""

from __future__ import annotations

import pytest

import multilevel as mlm
from tests.reference.lme4_fits import table


@pytest.fixture(scope="module")
def null_model():
    return mlm.fit("mAch ~ 1 + (1 | school)", table("Hsb82"), method="reml")


def test_hsb_null_model_criterion(null_model):
    """lme4, SAS and HLM agree on -2 restricted log-likelihood 47116.793475 to its last digits."""
    assert null_model.reml_criterion == pytest.approx(47116.793475, abs=2e-5)


def test_hsb_null_model_estimates(null_model):
    """Raudenbush & Bryk (2002, ch. 4): sigma2 39.14831, tau00 8.61431, gamma00 12.636972.

    The printed values belong to a point a little beside the optimum (criterion 47116.793475 both
    there and here, tau00 8.61402 at the optimum), so variances and the standard error are compared
    to 1e-4 relative; the mean hardly depends on them and is compared to what is printed.
    """
    assert null_model.residual_variance == pytest.approx(39.14831, rel=1e-4)
    tau = null_model.random_covariance["school"].iloc[0, 0]
    assert tau == pytest.approx(8.61431, rel=1e-4)
    row = null_model.coefficients().iloc[0]
    assert row["estimate"] == pytest.approx(12.636972, abs=5e-6)
    assert row["std_error"] == pytest.approx(0.244412, rel=1e-4)


def test_hsb_random_coefficients_model():
    """-2RLL 46714.23, AIC 46726.2 and BIC 46767.5 as Stata and R print them."""
    fit = mlm.fit("mAch ~ cses + (cses | school)", table("Hsb82"), method="reml")
    assert fit.reml_criterion == pytest.approx(46714.23, abs=0.005)
    assert fit.aic == pytest.approx(46726.2, abs=0.05)
    assert fit.bic == pytest.approx(46767.5, abs=0.05)


def test_shipped_hsb_is_the_same_table():
    formula = "mathach ~ within(ses, school) + (within(ses, school) | school)"
    shipped = mlm.fit(formula, mlm.load_hsb(), method="reml")
    assert shipped.reml_criterion == pytest.approx(46714.23, abs=0.005)


def test_a_category_column_equals_an_inline_factor():
    """``C(x)`` of a column of numbers is the model of the same column as categories."""
    frame = table("cake")
    numbers = frame.assign(temperature=frame["temperature"].astype(str).astype(int))
    formula = "angle ~ recipe * {} + (1 | recipe:replicate)"
    categories = mlm.fit(formula.format("temperature"), frame, method="ml")
    inline = mlm.fit(formula.format("C(temperature)"), numbers, method="ml")
    assert inline.minus2_loglik == pytest.approx(categories.minus2_loglik, abs=1e-6)
    assert inline.fixed_effects.to_numpy() == pytest.approx(categories.fixed_effects.to_numpy())
    linear = mlm.fit(formula.format("temperature"), numbers, method="ml")
    assert len(linear.fixed_effects) == 6
    assert linear.minus2_loglik > categories.minus2_loglik + 1
