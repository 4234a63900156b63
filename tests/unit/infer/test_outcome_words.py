"""Small promises of generalized fits: weights as repeated rows, errors that name the way out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, InferenceError
from multilevel.likelihood.generalized.objective import off_words


def table(n=240, seed=2):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(20), n // 20), rng.integers(0, 2, n)
    eta = 0.4 * x + rng.normal(size=20)[g]
    return pd.DataFrame(
        {
            "g": g,
            "x": x,
            "y": (rng.random(n) < 1 / (1 + np.exp(-eta))) * 1,
            "grade": np.digitize(eta + rng.logistic(size=n), [-0.5, 1.0]),
        }
    )


def test_frequency_weights_are_repeated_rows_for_every_criterion():
    rows = table()
    counted = rows.groupby(["g", "x", "y"]).size().reset_index(name="w")
    options = {"family": "binomial", "n_quad": 9, "accuracy": "none"}
    long = mlm.fit("y ~ x + (1 | g)", rows, **options)
    short = mlm.fit("y ~ x + (1 | g)", counted, frequency_weights="w", **options)
    assert short.n < long.n == 240
    for name in ("minus2_loglik", "aic", "bic"):
        assert getattr(short, name) == pytest.approx(getattr(long, name), abs=1e-6)
    a, b = short.information_criteria(), long.information_criteria()
    assert a.bic == pytest.approx(b.bic)
    assert a.aicc == pytest.approx(b.aicc)
    np.testing.assert_allclose(short.fit.vcov, long.fit.vcov, rtol=1e-4)
    words = " ".join(short.summary().split())
    assert "BIC takes N = 240 observations, which the rows stand for." in words
    assert "BIC takes N = 240 rows." in " ".join(long.summary().split())


def test_a_part_without_coefficients_names_one_that_has_some():
    m = mlm.fit("grade ~ 1 + (1 | g)", table(), family="cumulative", thresholds="~ x", n_quad=1)
    with pytest.raises(InferenceError, match=r"part\('thresholds'\)"):
        m.coefficients()
    table_of_both = m.part("thresholds")
    assert table_of_both.part.tolist() == [
        "threshold 1",
        "threshold 1",
        "threshold 2",
        "threshold 2",
    ]
    pd.testing.assert_frame_equal(
        table_of_both[2:].drop(columns="part").reset_index(drop=True), m.part("threshold 2")
    )


def test_parts_go_by_the_arguments_that_describe_them():
    data = table().assign(count=lambda d: d.grade * (1 + d.y))
    options = {"data": data, "n_quad": 1, "accuracy": "none"}
    hurdle = mlm.fit("count ~ x + (1 | g)", family="poisson", hurdle="~ x", **options)
    pd.testing.assert_frame_equal(hurdle.part("hurdle"), hurdle.part("zero"))
    plain = mlm.fit("count ~ x + (1 | g)", family="poisson", **options)
    for name in ("hurdle", "zero", "formula", ""):
        with pytest.raises(InferenceError, match="The parts of this family are mean"):
            plain.part(name)
    nominal = mlm.fit("grade ~ x + (1 | g)", family="nominal", **options)
    assert nominal.part("categories").part.nunique() == 2
    with pytest.raises(InferenceError, match="The parts of this family are"):
        hurdle.part("thresholds")


def test_proportions_without_trials_are_told_of_beta():
    data = table().assign(share=np.linspace(0.1, 0.9, 240))
    with pytest.raises(DesignError, match='family="beta" for proportions'):
        mlm.fit("share ~ x + (1 | g)", data, family="binomial")


def test_errors_that_are_rounding_are_called_right():
    assert off_words(3e-12) == "right to 1e-08"
    assert off_words(0.00374) == "0.00374 too high"
    assert off_words(-2.0) == "2 too low"
