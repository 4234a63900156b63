"""Variance components, reliability and variance functions of generalized fits.

A lognormal response is a linear model of its logarithm, so the linear answers are the truth.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.api.result import MultilevelFit
from multilevel.errors import InferenceError

Pair = tuple[MultilevelFit, GeneralizedMultilevelFit]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(40), 12)
    x = rng.normal(size=g.size)
    u = rng.normal(size=(40, 2)) @ np.array([[0.6, 0.2], [0.0, 0.4]])
    log_y = 1.0 + 0.5 * x + u[g, 0] + u[g, 1] * x + rng.normal(size=g.size)
    hit = (log_y + rng.logistic(size=g.size) > 1.0).astype(int)
    return pd.DataFrame({"y": np.exp(log_y), "log_y": log_y, "x": x, "g": g, "hit": hit})


@pytest.fixture(scope="module")
def pair(data: pd.DataFrame) -> Pair:
    linear = mlm.fit("log_y ~ x + (x | g)", data, method="ml", advice=False)
    same = mlm.fit("y ~ x + (x | g)", data, family="lognormal", n_quad=1, advice=False)
    assert isinstance(linear, MultilevelFit)
    assert isinstance(same, GeneralizedMultilevelFit)
    return linear, same


@pytest.fixture(scope="module")
def binary(data: pd.DataFrame) -> GeneralizedMultilevelFit:
    found = mlm.fit("hit ~ x + (x | g)", data, family="binomial", advice=False)
    assert isinstance(found, GeneralizedMultilevelFit)
    return found


def test_components_are_those_of_the_linear_model(pair: Pair) -> None:
    linear, same = (one.variance_components() for one in pair)
    assert list(same["term"]) == list(linear["term"])
    assert list(same["term2"]) == list(linear["term2"])
    assert np.allclose(same["variance"], linear["variance"][: len(same)], rtol=2e-4)


def test_reliability_is_that_of_the_linear_model(pair: Pair) -> None:
    linear, same = (one.reliability() for one in pair)
    linear = linear[linear["component"] == "prediction"].reset_index(drop=True)
    for column in ("estimate", "minimum", "maximum"):
        assert np.allclose(same[column], linear[column], rtol=2e-4)


def test_variance_function_is_that_of_the_linear_model(pair: Pair) -> None:
    linear, same = (one.variance_function("x", [-1.0, 0.0, 2.0]) for one in pair)
    assert np.allclose(same[["between", "total", "estimate"]],
                       linear[["between", "total", "estimate"]], rtol=3e-4)  # fmt: skip
    assert np.allclose(same["std_error"], linear["std_error"], rtol=0.02)
    assert same.attrs["minimum"] == pytest.approx(linear.attrs["minimum"], rel=1e-3)


def test_variance_at_zero_of_a_binary_model(binary: GeneralizedMultilevelFit) -> None:
    found = binary.variance_function("x", [0.0])
    tau = float(binary.random_covariance["g"].to_numpy()[0, 0])
    assert found["total"][0] == pytest.approx(tau + np.pi**2 / 3.0)
    assert found["conf_low"][0] < found["estimate"][0] < found["conf_high"][0]
    components = binary.variance_components()
    assert components["variance"].iloc[-1] == pytest.approx(np.pi**2 / 3.0)


def test_reliability_of_a_binary_model(binary: GeneralizedMultilevelFit) -> None:
    effects = binary.random_effects()
    own = effects[effects["term"] == "(Intercept)"]["std_error"].to_numpy() ** 2
    tau = float(binary.random_covariance["g"].to_numpy()[0, 0])
    found = binary.reliability()
    assert found["estimate"][0] == pytest.approx(float(np.mean(1.0 - own / tau)))


def test_overview_names_every_check(binary: GeneralizedMultilevelFit) -> None:
    text = str(binary.diagnose())
    for topic in ("Approximation", "Check of uniformity", "Random effects", "Normality",
                  "Influence"):  # fmt: skip
        assert topic in text
    assert set(binary.normality()["group"]) == {"residual", "g"}
    points = binary.quantile_plot_data()
    one = points[(points["group"] == "g") & (points["term"] == "x")]
    assert np.all(np.diff(one["sample"]) >= 0.0)


def test_standardised_effects_of_the_linear_model(pair: Pair) -> None:
    # the linear model allows for estimated fixed effects, the generalized one takes them as known
    linear, same = (one.random_effect_diagnostics() for one in pair)
    assert np.allclose(same["estimate"], linear["estimate"], atol=2e-3)
    assert np.corrcoef(same["std"], linear["std"])[0, 1] > 0.999
    assert np.all(same["df"] == 2)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("intraclass_correlations", "icc"),
        ("comparisons", "average_comparisons"),
        ("cluster_covariance", "random_covariance"),
        ("conditional_aic", "aic"),
        ("heteroscedasticity", "dispersion"),
        ("row_diagnostics", "influence"),
        ("residual_autocorrelation", "quantile"),
    ],
)
def test_what_has_no_answer_says_what_to_use(
    binary: GeneralizedMultilevelFit, name: str, use: str
) -> None:
    with pytest.raises(InferenceError, match=use):
        getattr(binary, name)()


def test_unknown_slopes_are_named(binary: GeneralizedMultilevelFit) -> None:
    with pytest.raises(InferenceError, match="x over g"):
        binary.variance_function("z")
