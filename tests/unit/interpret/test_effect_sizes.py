"""ICC, design effect, reliability, random-effects intervals, variance functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.interpret.design_effect import cluster_sizes, design_effect
from tests.reference.lme4_fits import DATA
from tests.unit.interpret.support import block


@pytest.fixture(scope="module")
def hsb():
    return mlm.load_hsb().to_pandas()


@pytest.fixture(scope="module")
def slopes(hsb):
    return mlm.fit("mathach ~ ses + (ses | school)", hsb)


def test_published_design_effects():
    assert design_effect(5, 0.30) == pytest.approx(2.20)
    assert round(500 / design_effect(5, 0.30)) == 227
    assert design_effect(20, 0.05) == pytest.approx(1.95)
    assert round(1000 / design_effect(20, 0.05)) == 513
    with pytest.raises(InferenceError, match="cluster size"):
        design_effect(0.5, 0.1)


def test_kish_size():
    g = block("g", [0, 0, 0, 1], np.ones((4, 1)))
    assert cluster_sizes(g) == pytest.approx((2.0, 10.0 / 4.0))


def test_icc_and_its_delta_interval(hsb):
    m = mlm.fit("mathach ~ 1 + (1 | school)", hsb)
    row = m.icc().iloc[0]
    # lme4's tau2 and sigma2; its stopping rule leaves four digits of tau2
    assert row["estimate"] == pytest.approx(8.61431 / (8.61431 + 39.14831), rel=1e-4)
    # the profile of the REML criterion in the ICC, curvature by differences
    objective = m._objective()

    def criterion(icc):
        return objective.value(np.sqrt([icc / (1.0 - icc)]))

    h = 1e-3
    at = row["estimate"]
    curvature = (criterion(at + h) - 2 * criterion(at) + criterion(at - h)) / h**2
    objective.set(m.fit.theta)
    assert row["std_error"] == pytest.approx(np.sqrt(2.0 / curvature), rel=1e-3)
    z = stats.norm.ppf(0.975) * row["std_error"] / (at * (1 - at))
    logit = np.log(at / (1 - at))
    assert row["conf_low"] == pytest.approx(1 / (1 + np.exp(-(logit - z))))
    assert row["conf_high"] == pytest.approx(1 / (1 + np.exp(-(logit + z))))


def test_exact_interval_of_a_balanced_one_way_layout():
    data = pd.read_csv(DATA / "Dyestuff.csv.gz")
    row = mlm.fit("Yield ~ 1 + (1 | Batch)", data).icc().iloc[0]
    assert row["interval"].startswith("exact F")
    # the bounds are the ICCs whose F ratio puts the observed one at its 2.5% and 97.5% points
    groups = [g["Yield"].to_numpy() for _, g in data.groupby("Batch")]
    F = stats.f_oneway(*groups).statistic
    for bound, p in ((row["conf_low"], 0.975), (row["conf_high"], 0.025)):
        if bound > 0:
            expected = 1 + 5 * bound / (1 - bound)
            assert stats.f.cdf(F / expected, 5, 24) == pytest.approx(p, rel=1e-9)
    assert row["conf_high"] > 0


def test_three_level_conventions_and_crossed_sums():
    data = pd.read_csv(DATA / "Pastes.csv.gz")
    m = mlm.fit("strength ~ 1 + (1 | batch/cask)", data)
    found = m.icc().set_index(["group", "component"])["estimate"]
    cask, batch = (float(m.random_covariance[g].iloc[0, 0]) for g in ("batch:cask", "batch"))
    total = cask + batch + m.residual_variance
    assert found["batch:cask", "proportion"] == pytest.approx(cask / total)
    assert found["batch:cask", "correlation"] == pytest.approx((cask + batch) / total)
    assert found["batch", "correlation"] == pytest.approx(batch / total)
    _, R = m.cluster_covariance("batch")
    assert R.iloc[0, 1] == pytest.approx(found["batch:cask", "correlation"])
    data = pd.read_csv(DATA / "Penicillin.csv.gz")
    m = mlm.fit("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    found = m.icc().set_index(["group", "component"])
    both = found.loc[("plate & sample", "correlation")]
    alone = found["estimate"]["plate", "proportion"] + found["estimate"]["sample", "proportion"]
    assert both["estimate"] == pytest.approx(alone)
    # delta method by brute force: differences of the criterion's values and of the ICC
    objective, at, h = m._objective(), m.fit.theta, 1e-3
    value = objective.value
    e = np.eye(2) * h
    H = np.array(
        [
            [
                value(at + e[i] + e[j]) - value(at + e[i] - e[j])
                - value(at - e[i] + e[j]) + value(at - e[i] - e[j])
                for j in range(2)
            ]
            for i in range(2)
        ]
    ) / (4 * h**2)  # fmt: skip
    objective.set(at)

    def icc(theta):
        return float(theta @ theta) / (1 + float(theta @ theta))

    slope = np.array([(icc(at + e[i]) - icc(at - e[i])) / (2 * h) for i in range(2)])
    error = np.sqrt(slope @ (2 * np.linalg.inv(H)) @ slope)
    assert icc(at) == pytest.approx(both["estimate"])
    assert both["std_error"] == pytest.approx(error, rel=1e-3)


def test_icc_with_slopes_is_the_average_over_rows(slopes):
    G = slopes.random_covariance["school"].to_numpy()
    Z = slopes.design.blocks[0].columns
    between = np.mean([z @ G @ z for z in Z])
    row = slopes.icc().iloc[0]
    assert row["estimate"] == pytest.approx(between / (between + slopes.residual_variance))
    assert "depends on the predictors" in slopes.icc().attrs["sentence"]


def test_no_interval_on_the_boundary():
    data = pd.read_csv(DATA / "Dyestuff2.csv.gz")
    m = mlm.fit("Yield ~ 1 + (1 | Batch)", data, method="ml")
    ones = pd.concat([data, data.iloc[:1]], ignore_index=True)
    row = mlm.fit("Yield ~ 1 + (1 | Batch)", ones).icc().iloc[0]
    assert np.isnan(row["conf_low"])
    assert "boundary" in row["interval"]
    exact = m.icc().iloc[0]
    assert exact["conf_low"] == 0.0 < exact["conf_high"]


def test_reliability_of_means_and_slopes(hsb, slopes):
    m = mlm.fit("mathach ~ 1 + (1 | school)", hsb)
    sizes = hsb.groupby("school").size().to_numpy()
    tau, sigma2 = float(m.random_covariance["school"].iloc[0, 0]), m.residual_variance
    by_hand = tau / (tau + sigma2 / sizes)
    table = m.reliability()
    for _, row in table.iterrows():
        assert row["estimate"] == pytest.approx(by_hand.mean())
        assert row["minimum"] == pytest.approx(by_hand.min())
        assert row["maximum"] == pytest.approx(by_hand.max())
    table = slopes.reliability().set_index(["term", "component"])
    G = slopes.random_covariance["school"].to_numpy()
    own, predicted = [], []
    for _, rows in hsb.groupby("school"):
        Z = np.column_stack([np.ones(len(rows)), rows["ses"]])
        v = slopes.residual_variance * np.linalg.inv(Z.T @ Z)
        own.append(G[1, 1] / (G[1, 1] + v[1, 1]))
        V = Z @ G @ Z.T + slopes.residual_variance * np.eye(len(rows))
        predicted.append((G @ Z.T @ np.linalg.solve(V, Z @ G))[1, 1] / G[1, 1])
    assert table.loc[("ses", "least_squares"), "estimate"] == pytest.approx(np.mean(own))
    assert table.loc[("ses", "prediction"), "estimate"] == pytest.approx(np.mean(predicted))


def test_clusters_that_cannot_have_their_own_slope_are_left_out(hsb):
    data = hsb.copy()
    first = data["school"] == data["school"].iloc[0]
    data.loc[first, "female"] = 0
    m = mlm.fit("mathach ~ female + (female | school)", data)
    table = m.reliability().set_index(["term", "component"])
    both = data.groupby("school")["female"].nunique().eq(2).sum()
    assert table.loc[("female", "least_squares"), "n_clusters"] == both < 160
    assert table.loc[("female", "prediction"), "n_clusters"] == 160


def test_random_intervals(slopes):
    table = slopes.random_intervals().set_index("term")
    tau = np.sqrt(slopes.random_covariance["school"].loc["ses", "ses"])
    gamma = slopes.fixed_effects["ses"]
    assert table.loc["ses", "low"] == pytest.approx(gamma - stats.norm.ppf(0.975) * tau)
    sentence = slopes.random_intervals().attrs["sentence"]
    assert "95% of the levels of school are predicted to have slopes of ses from" in sentence


def test_variance_function(slopes):
    G = slopes.random_covariance["school"].to_numpy()
    table = slopes.variance_function("ses", [-1.0, 0.0, 2.0])
    for _, row in table.iterrows():
        x = row["value"]
        between = G[0, 0] + 2 * x * G[0, 1] + x**2 * G[1, 1]
        assert row["total"] == pytest.approx(between + slopes.residual_variance)
        assert row["estimate"] == pytest.approx(between / row["total"])
        assert row["conf_low"] < row["estimate"] < row["conf_high"]
    assert table.attrs["minimum"] == pytest.approx(-G[0, 1] / G[1, 1])
    least = table.attrs["minimum_total"]
    near = slopes.variance_function("ses", [table.attrs["minimum"] + d for d in (-0.1, 0, 0.1)])
    assert near["total"].min() == pytest.approx(least)
    assert near["total"].argmin() == 1
    with pytest.raises(InferenceError, match="random slope"):
        slopes.variance_function("female")
