"""Outcomes in four levels through the door: points by default, words, refusals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import LikelihoodError


def nested(seed=2, tops=12):
    rng = np.random.default_rng(seed)
    n = tops * 3 * 3 * 4
    unit = np.arange(n) // 4
    x = rng.standard_normal(n)
    eta = 0.6 * x + 1.2 * rng.standard_normal(n)[unit] + 0.9 * rng.standard_normal(n)[unit // 3]
    eta += 0.8 * rng.standard_normal(n)[unit // 9]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))) * 1
    return pd.DataFrame({"y": y, "x": x, "c": unit, "b": unit // 3, "a": unit // 9})


@pytest.fixture(scope="module")
def fits():
    data = nested()
    formula = "y ~ x + (1 | a/b/c)"
    return (
        mlm.fit(formula, data, family="binomial"),
        mlm.fit(formula, data, family="binomial", n_quad=1),
        data,
    )


def test_deep_nesting_takes_points_by_default_and_certifies(fits):
    fine, laplace, _ = fits
    assert fine.approximation.points == (7, 7, 7)
    assert fine.fit.certificate.status == "certified"
    assert abs(fine.approximation.error.criterion) < 0.05
    assert laplace.approximation.error.method == "more points"
    told = fine.fit.criterion - laplace.fit.criterion
    assert -told == pytest.approx(laplace.approximation.error.criterion, rel=0.35)
    how = json.loads(fine.to_json())["approximation"]
    assert how["n_quad"] == 7
    assert how["largest_variance_error"] is not None
    assert "Adaptive quadrature with 7 points per random effect" in str(fine)


def test_auto_climbs_along_the_chain(fits):
    found = fits[1].update(accuracy="auto", n_quad=3)
    assert found.approximation.points[0] >= 7
    assert "no longer matter" in found.approximation.sentence


def test_too_many_nodes_are_refused_with_the_arithmetic(fits):
    with pytest.raises(LikelihoodError, match=r"31\^1 x 31\^1 x 31\^1 = 29,791"):
        mlm.fit("y ~ x + (1 | a/b/c)", fits[2], family="binomial", n_quad=31)


def test_random_effects_and_predictions_work_in_four_levels(fits):
    fine, _, data = fits
    assert len(fine.random_effects()) == data[["a", "b", "c"]].nunique().sum()
    predicted = fine.predict(data, kind="conditional")
    assert len(predicted) == len(data)
