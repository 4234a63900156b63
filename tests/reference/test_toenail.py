"""The toenail trial: seven binary responses per patient, where Laplace and few points are far off.

Published: Lesaffre & Spiessens 2001 (Applied Statistics 50) find the estimates unstable below about
50 points and a standard deviation of about 4.0 (variance 16.0) with enough of them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
FORMULA = "outcome ~ treatment * time + (1 | patientID)"


@pytest.fixture(scope="module")
def toenail() -> pd.DataFrame:
    return pd.read_csv(DATA / "toenail.csv.gz")


def fitted(data, **options):
    return mlm.fit(FORMULA, data, family="binomial", event="moderate or severe", **options)


def variance(fit) -> float:
    return float(fit.random_covariance["patientID"].iloc[0, 0])


def test_laplace_and_seven_points_are_wrong_and_say_so(toenail):
    laplace = fitted(toenail, n_quad=1)
    seven = fitted(toenail, n_quad=7)
    assert variance(laplace) == pytest.approx(20.89, abs=0.05)
    assert variance(seven) == pytest.approx(14.2, abs=0.05)
    for fit in (laplace, seven):
        assert abs(fit.approximation.error.criterion) > 0.5
        assert 'accuracy="auto"' in fit.approximation.sentence


def test_auto_climbs_to_the_truth(toenail):
    fit = fitted(toenail, accuracy="auto")
    assert variance(fit) == pytest.approx(16.05, abs=0.01)
    assert fit.minus2_loglik == pytest.approx(fitted(toenail, n_quad=151).minus2_loglik, abs=1e-3)
    assert len(fit.approximation.steps) >= 3
    assert fit.approximation.largest_variance_error < 1e-3
    assert "no longer matter" in fit.approximation.sentence


def test_the_error_estimate_is_about_right(toenail):
    """At the same parameters the estimate is the difference to a much finer rule."""
    fit = fitted(toenail, n_quad=15)
    objective = fitted(toenail, n_quad=151)._objective()
    exact = objective.value(fit.fit.psi)
    assert fit.approximation.error.criterion == pytest.approx(fit.minus2_loglik - exact, rel=0.2)
