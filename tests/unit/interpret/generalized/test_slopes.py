"""Average slopes and contrasts of generalized fits against finite differences and draws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.interpret.generalized.models import fitted, table


@pytest.mark.parametrize("kind", ["population", "marginal", "conditional"])
@pytest.mark.parametrize("name", ["logit", "zero_inflated", "cumulative", "beta"])
def test_average_slopes_are_differences_of_predictions(name, kind):
    fit, h = fitted(name, "(x | g)"), 1e-4
    data = table()
    up = fit.predict({**data, "x": data["x"] + h}, kind=kind)["estimate"].to_numpy()
    down = fit.predict({**data, "x": data["x"] - h}, kind=kind)["estimate"].to_numpy()
    truth = ((up - down) / (2 * h)).reshape(fit.n, -1).mean(axis=0)
    found = fit.average_slopes("x", kind=kind)
    assert np.allclose(found["estimate"], truth, atol=1e-6)
    assert (found["std_error"] > 0).all()


def test_standard_error_of_an_average_slope_agrees_with_refitted_predictions():
    """The slope as a function of the parameters, drawn from a shrunken normal distribution."""
    from dataclasses import replace

    from multilevel.interpret.generalized.average_effects import average_slopes
    from multilevel.interpret.generalized.evidence import GeneralizedEvidence

    fit, shrink = fitted("logit"), 1e-4
    rng = np.random.default_rng(0)
    values = []
    for psi in rng.multivariate_normal(fit.fit.psi, shrink * fit.fit.vcov, size=300):
        factors = tuple(fit._problem.factors(psi))
        other = replace(
            fit.fit, psi=psi, relative_factors=factors,
            random_covariance=tuple(L @ L.T for L in factors), vcov=np.zeros_like(fit.fit.vcov),
        )  # fmt: skip
        evidence = GeneralizedEvidence(fit._prepared, other, fit._objective())
        values.append(average_slopes(evidence, "x")[0].estimate)
    truth = np.std(values, ddof=1) / np.sqrt(shrink)
    assert fit.average_slopes("x")["std_error"][0] == pytest.approx(truth, rel=0.2)


def test_categories_are_read_back_and_compared():
    data = {**table(), "c": np.array(["a", "b", "c"])[np.arange(300) % 3]}
    fit = mlm.fit("count ~ c * x + (1 | g)", data, family="poisson", n_quad=1)
    found = fit.average_comparisons("c", kind="population").set_index("component")["estimate"]
    means = {
        c: fit.predict({**data, "c": np.repeat(c, 300)}, kind="population")["estimate"].mean()
        for c in "abc"
    }
    for one, two in [*pairwise("abc"), ("a", "c")]:
        assert found[f"{two} - {one}"] == pytest.approx(means[two] - means[one])
    slope = fit.average_slopes("x", {"c": "b"}, kind="population")["estimate"][0]
    eta = fit.fixed_effects
    b = eta["x"] + eta["c[b]:x"]
    mu = fit.predict({**data, "c": np.repeat("b", 300)}, kind="population")["estimate"]
    assert slope == pytest.approx(b * mu.mean(), rel=1e-5)
    one = fit.average_comparisons("x", kind="population")
    assert one["component"].tolist() == ["observed + 1 - observed"]
    with pytest.raises(InferenceError, match="average_comparisons"):
        fit.average_slopes("c")


def test_population_averaged_slope_is_smaller_than_the_unit_specific_one():
    fit = fitted("logit")
    tau2 = fit.random_covariance["g"].to_numpy()[0, 0]
    assert tau2 > 0
    at = {"x": -fit.fixed_effects["(Intercept)"] / fit.fixed_effects["x"]}  # p = 1/2
    marginal = fit.average_slopes("x", at)["estimate"][0]
    specific = fit.average_slopes("x", at, kind="population")["estimate"][0]
    assert specific == pytest.approx(fit.fixed_effects["x"] / 4, rel=1e-5)
    assert marginal < specific


def test_simple_slopes_and_regions_on_the_link_scale():
    data = {**table(), "w": np.tile([0.0, 1.0, 2.0], 100)}
    fit = mlm.fit("binary ~ x * w + (1 | g)", data, family="binomial", n_quad=1)
    b, V = fit.fixed_effects, fit.vcov_fixed
    found = fit.slopes("x", {"w": [0, 2]})
    row = found[(found["component"] == "slope") & (found["at"] == "w = 2")].iloc[0]
    assert row["estimate"] == pytest.approx(b["x"] + 2 * b["x:w"])
    variance = V.loc["x", "x"] + 4 * V.loc["x", "x:w"] + 4 * V.loc["x:w", "x:w"]
    assert row["std_error"] == pytest.approx(np.sqrt(variance))
    assert np.isinf(row["df"])
    assert "logit scale" in found.attrs["sentence"]
    regions = fit.johnson_neyman("x", "w")
    for bound in regions["high"][np.isfinite(regions["high"])]:
        slope = b["x"] + bound * b["x:w"]
        error = np.sqrt(
            V.loc["x", "x"] + 2 * bound * V.loc["x", "x:w"] + bound**2 * V.loc["x:w", "x:w"]
        )
        assert abs(slope / error) == pytest.approx(1.959964, rel=1e-4)
    ordered = mlm.fit("ordered ~ x * w + (1 | g)", data, family="cumulative", n_quad=1)
    slopes = ordered.slopes("x", {"w": [1]})
    first = slopes[slopes["component"] == "slope"]["estimate"].iloc[0]
    assert first == pytest.approx(ordered.fixed_effects["x"] + ordered.fixed_effects["x:w"])


@pytest.mark.parametrize("family", ["binomial", "cumulative"])
def test_within_between_and_contextual_effects(family):
    rng = np.random.default_rng(3)
    z = table()["x"] + rng.normal(size=30)[table()["g"]]
    data = {**table(), "z": z}
    response = "binary" if family == "binomial" else "ordered"
    right = "z + between(z, g) + (1 | g)"
    fit = mlm.fit(f"{response} ~ {right}", data, family=family, n_quad=1)
    b, V = fit.fixed_effects, fit.vcov_fixed
    found = fit.within_between().set_index("component")
    assert found.loc["within", "estimate"] == pytest.approx(b["z"])
    assert found.loc["contextual", "estimate"] == pytest.approx(b["between(z, g)"])
    assert found.loc["between", "estimate"] == pytest.approx(b.sum() - b.get("(Intercept)", 0.0))
    names = ["z", "between(z, g)"]
    error = np.sqrt(V.loc[names, names].to_numpy().sum())
    assert found.loc["between", "std_error"] == pytest.approx(error)
    centred = mlm.fit(
        f"{response} ~ within(z, g) + between(z, g) + (1 | g)", data, family=family, n_quad=1
    )
    again = centred.within_between().set_index("component")
    assert np.allclose(again["estimate"][found.index], found["estimate"], atol=1e-4)
    smushed = mlm.fit(f"{response} ~ z + (1 | g)", data, family=family, n_quad=1).within_between()
    assert smushed["component"].tolist() == ["smushed"]
    assert "smushed" in smushed.attrs["sentence"]
