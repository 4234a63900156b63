"""Fitted structural models: identities with other models, closed forms, honest failures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, EstimationError, ModelError

TWO = """
level: within
  y ~ {within}
level: between
  y ~ {between}
"""


@pytest.fixture(scope="module")
def clusters():
    """60 clusters of 2 to 9 rows; x on both levels, z with a between part only, w a predictor."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(2, 10, 60)
    g = np.repeat(np.arange(60), sizes)
    n = len(g)
    w = rng.normal(size=60)
    ux = rng.normal(size=60)
    x = 1.0 + ux[g] + rng.normal(size=n)
    m = 0.5 * (x - 1.0 - ux[g]) + (0.8 * ux + 0.3 * w)[g] + rng.normal(size=60)[g] * 0.5
    m = m + rng.normal(size=n)
    y = 2.0 + 0.4 * m + 0.3 * x + (0.5 * w + 0.6 * rng.normal(size=60))[g] + rng.normal(size=n)
    return pd.DataFrame({"g": g, "x": x, "m": m, "y": y, "w": w[g], "d": (x > 1).astype(float)})


def estimate(result, level, lhs, op, rhs=""):
    table = result.parameters()
    mine = (table["level"] == level) & (table["lhs"] == lhs) & (table["op"] == op)
    return table.loc[mine & (table["rhs"] == rhs), "estimate"].item()


def test_one_equation_is_the_mixed_model(clusters):
    mixed = mlm.fit("y ~ x + d + w + (1 | g)", clusters, method="ml")
    path = mlm.sem(TWO.format(within="x + d", between="w"), clusters, cluster="g")
    assert path.minus2_loglik == pytest.approx(mixed.fit.criterion, rel=1e-11)
    fixed = mixed.fixed_effects
    assert estimate(path, "within", "y", "~", "x") == pytest.approx(fixed["x"], rel=1e-6)
    assert estimate(path, "within", "y", "~", "d") == pytest.approx(fixed["d"], rel=1e-6)
    assert estimate(path, "between", "y", "~", "w") == pytest.approx(fixed["w"], rel=1e-6)
    assert estimate(path, "between", "y", "~1") == pytest.approx(fixed["(Intercept)"], rel=1e-6)
    assert estimate(path, "within", "y", "~~", "y") == pytest.approx(
        mixed.residual_variance, rel=1e-6
    )
    assert estimate(path, "between", "y", "~~", "y") == pytest.approx(
        mixed.fit.random_covariance[0][0, 0], rel=1e-5
    )


def test_missing_outcome_drops_its_row_only(clusters):
    # with a fixed predictor, rows without the outcome carry nothing
    holed = clusters.copy()
    holed.loc[::5, "y"] = np.nan
    full = mlm.sem(TWO.format(within="x", between="w"), holed.dropna(), cluster="g")
    fiml = mlm.sem(TWO.format(within="x", between="w"), holed, cluster="g")
    mixed = mlm.fit("y ~ x + w + (1 | g)", holed, method="ml")
    assert fiml.minus2_loglik == pytest.approx(mixed.fit.criterion, rel=1e-10)
    assert estimate(fiml, "within", "y", "~", "x") == pytest.approx(
        estimate(full, "within", "y", "~", "x"), rel=1e-6
    )


def test_complete_data_by_patterns_is_complete_data(clusters):
    text = "level: 1\ny ~ m + x\nm ~ x\nlevel: 2\ny ~ m + x + w\nm ~ x + w"
    fiml = mlm.sem(text, clusters, cluster="g")
    plain = mlm.sem(text, clusters, cluster="g", missing="listwise")
    assert fiml.minus2_loglik == plain.minus2_loglik
    # a row of which nothing is seen changes nothing, whatever its pattern
    empty = pd.concat([clusters, clusters.iloc[[0]].assign(y=np.nan, m=np.nan, x=np.nan)])
    more = mlm.sem(text, empty, cluster="g")
    assert more.minus2_loglik == pytest.approx(fiml.minus2_loglik, rel=1e-12)


def test_saturated_single_level_model_has_closed_forms(clusters):
    own = clusters[["y", "m"]]
    result = mlm.sem("y ~~ m", own)
    n, cov = len(own), np.cov(own.T, bias=True)
    expected = n * (2 * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1] + 2)
    assert result.minus2_loglik == pytest.approx(expected, rel=1e-11)
    assert estimate(result, "within", "y", "~~", "m") == pytest.approx(cov[0, 1], rel=1e-7)
    assert estimate(result, "within", "y", "~1") == pytest.approx(own["y"].mean(), rel=1e-9)
    errors = result.parameters(std_errors="expected").set_index(["lhs", "op", "rhs"])["std_error"]
    assert errors["y", "~~", "y"] == pytest.approx(cov[0, 0] * np.sqrt(2 / n), rel=1e-6)


def test_regression_has_closed_forms(clusters):
    result = mlm.sem("y ~ x + w", clusters)
    X = np.column_stack([np.ones(len(clusters)), clusters[["x", "w"]]])
    beta, rss = np.linalg.lstsq(X, clusters["y"], rcond=None)[:2]
    n = len(clusters)
    s2 = rss[0] / n
    table = result.parameters().query("op == '~'")
    assert table["estimate"].to_numpy() == pytest.approx(beta[1:], rel=1e-8)
    errors = np.sqrt(s2 * np.diag(np.linalg.inv(X.T @ X)))[1:]
    assert table["std_error"].to_numpy() == pytest.approx(errors, rel=1e-7)
    assert result.minus2_loglik == pytest.approx(n * (np.log(2 * np.pi * s2) + 1), rel=1e-11)
    assert result.r_squared()["r_squared"].item() == pytest.approx(
        1 - s2 / clusters["y"].var(ddof=0), rel=1e-8
    )


def test_derivatives_of_the_whole_criterion(clusters):
    holed = clusters.copy()
    holed.loc[::4, "m"] = np.nan
    holed.loc[1::6, "y"] = np.nan
    text = "level: 1\nf =~ y + m + x\nlevel: 2\nfb =~ y + m + x\nfb ~ w"
    result = mlm.sem(text, holed, cluster="g")
    objective = result.problem.objective(result.fit.model)
    theta = result.fit.theta * 1.1 + 0.05
    q, h = len(theta), 1e-5
    numeric, second = np.zeros(q), np.zeros((q, q))
    for a in range(q):
        e = np.eye(q)[a] * h
        numeric[a] = (objective.value(theta + e) - objective.value(theta - e)) / (2 * h)
        second[a] = (objective.gradient(theta + e) - objective.gradient(theta - e)) / (2 * h)
    assert objective.gradient(theta) == pytest.approx(numeric, rel=1e-6, abs=1e-5)
    exact = objective.hessian(theta)
    assert exact == pytest.approx(second, rel=1e-6, abs=1e-6 * np.abs(exact).max())
    assert objective.scores(theta).sum(axis=0) == pytest.approx(
        -0.5 * objective.gradient(theta), rel=1e-9, abs=1e-8
    )


def test_scale_and_shift_of_variables_change_nothing_else(clusters):
    text = "level: 1\ny ~ m + x\nm ~ x\nlevel: 2\ny ~ m + w\nm ~ w"
    moved = clusters.assign(m=1000.0 * clusters["m"] + 5e4)
    one, two = (mlm.sem(text, data, cluster="g") for data in (clusters, moved))
    assert two.certificate.is_certified
    assert estimate(two, "between", "y", "~", "m") == pytest.approx(
        estimate(one, "between", "y", "~", "m") / 1000.0, rel=1e-6
    )
    assert two.standardized()["estimate"].iloc[:4].to_numpy() == pytest.approx(
        one.standardized()["estimate"].iloc[:4].to_numpy(), rel=1e-6
    )


def test_labels_across_levels_make_slopes_equal(clusters):
    free = mlm.sem("level: 1\ny ~ a*m\nlevel: 2\ny ~ b*m\nctx := b - a", clusters, cluster="g")
    equal = mlm.sem("level: 1\ny ~ a*m\nlevel: 2\ny ~ a*m", clusters, cluster="g")
    assert equal.fit.n_parameters == free.fit.n_parameters - 1
    assert equal.fit_measures.model.df == 1
    assert equal.fit_measures.model.statistic == pytest.approx(
        equal.minus2_loglik - free.minus2_loglik, abs=1e-6
    )
    slope = free.level_two_slopes().iloc[0]
    assert slope["kind"] == "between"
    defined = free.defined().iloc[0]
    assert slope["contextual"] == pytest.approx(defined["estimate"])
    assert slope["contextual_std_error"] == pytest.approx(defined["std_error"])
    assert "is between" in str(free)


def test_observed_cluster_mean_is_contextual_beside_the_raw_predictor(clusters):
    data = clusters.assign(xm=clusters.groupby("g")["x"].transform("mean") - 1.0)
    raw = mlm.sem(TWO.format(within="x", between="xm"), data, cluster="g")
    slope = raw.level_two_slopes().iloc[0]
    assert (slope["kind"], slope["within_predictor"]) == ("contextual", "x")
    centred = mlm.fit("y ~ within(x, g) + xm + (1 | g)", data, method="ml").fixed_effects
    assert slope["between"] == pytest.approx(centred["xm"], rel=1e-6)


def test_a_negative_variance_is_reported(clusters):
    rng = np.random.default_rng(5)
    n = 40
    g = np.repeat(np.arange(n), 4)
    e = rng.normal(size=(n, 4))
    y = (e - 1.3 * e.mean(axis=1, keepdims=True)).ravel()  # rows of a cluster repel each other
    text = "level: 1\ny ~~ y\nlevel: 2\ny ~~ y"
    held = mlm.sem(text, {"y": y, "g": g}, cluster="g")
    assert held.certificate.status == "singular"
    assert estimate(held, "between", "y", "~~", "y") == 0.0
    assert "The variance of y at the between level is estimated as zero" in held.boundary[0]
    mixed = mlm.fit("y ~ 1 + (1 | g)", {"y": y, "g": g}, method="ml")
    assert held.minus2_loglik == pytest.approx(mixed.minus2_loglik, abs=1e-8)
    result = mlm.sem(text, {"y": y, "g": g}, cluster="g", allow=["inadmissible"])
    assert result.certificate.is_certified
    assert estimate(result, "between", "y", "~~", "y") < 0.0
    assert "y ~~ y at the between level is negative" in result.inadmissible[0]
    assert "INADMISSIBLE SOLUTION" in str(result)


def test_parameters_that_are_not_identified_are_named(clusters):
    # two indicators at each level, and nothing else to tell their loadings from their variances
    text = "level: 1\nf =~ y + a*m\nx ~ 0*f\nlevel: 2\ny ~~ m\nx ~~ y"
    with pytest.raises(EstimationError, match="can change together") as caught:
        mlm.sem(text, clusters, cluster="g")
    assert "a" in str(caught.value)
    assert "f ~~ f [within]" in str(caught.value)
    assert "x ~~ x" not in str(caught.value)


def test_bad_data_are_refused(clusters):
    with pytest.raises(DesignError, match="'x' has several values in cluster"):
        mlm.sem(TWO.format(within="m", between="x"), clusters, cluster="g")
    with pytest.raises(DesignError, match="'w' has one value in every g"):
        mlm.sem("level: 1\ny ~ w\nlevel: 2\ny ~ w", clusters, cluster="g")
    with pytest.raises(DesignError, match="Every cluster belongs to one group"):
        mlm.sem(TWO.format(within="x", between="w"), clusters, cluster="g", group="d")
    words = clusters.assign(t="a")
    with pytest.raises(DesignError, match="'t' is"):
        mlm.sem(TWO.format(within="t", between="w"), words, cluster="g")
    with pytest.raises(ModelError, match="exogenous is one of"):
        mlm.sem("y ~ x", clusters, exogenous="random")
    with pytest.raises(EstimationError, match="do not determine each other"):
        mlm.sem("y ~ x + x2", clusters.assign(x2=2.0 * clusters["x"]))
    with pytest.raises(DesignError, match="Some clusters have two rows"):
        mlm.sem(TWO.format(within="x", between="w"), clusters.assign(g=range(len(clusters))),
                cluster="g")  # fmt: skip


def test_too_few_clusters_for_the_between_level(clusters):
    few = clusters[clusters["g"] < 3]
    with pytest.raises(EstimationError, match="3 clusters for 3 variables"):
        mlm.sem("level: 1\ny ~~ m\ny ~~ x\nlevel: 2\ny ~~ m\ny ~~ x", few, cluster="g")
    # an unbalanced likelihood rises without end where a negative between variance meets a largest
    # cluster without residual; with three clusters nothing keeps the search from it
    text = "level: 1\ny ~ m\nlevel: 2\ny ~ 1"
    with pytest.raises(EstimationError, match="must have a maximum"):
        mlm.sem(text, few, cluster="g", allow=["inadmissible"])
    held, mixed = mlm.sem(text, few, cluster="g"), mlm.fit("y ~ m + (1 | g)", few, method="ml")
    assert held.minus2_loglik == pytest.approx(mixed.minus2_loglik, abs=1e-7)
    more = mlm.sem("level: 1\ny ~ m\nlevel: 2\ny ~ 1", clusters[clusters["g"] < 12], cluster="g")
    assert more.certificate.is_certified


def test_a_fit_without_certificate_is_refused(clusters, monkeypatch):
    monkeypatch.setattr("multilevel.estimate.structural._MAX_ITERATIONS", 1)
    monkeypatch.setattr("multilevel.estimate.structural._MAX_SCORING", 1)
    text = "level: 1\nf =~ y + m + x\nlevel: 2\nfb =~ y + m + x"
    with pytest.raises(EstimationError, match="must be shown to be at the optimum"):
        mlm.sem(text, clusters, cluster="g", allow=("inadmissible",))
    allow = ("not_certified", "inadmissible")
    with pytest.warns(mlm.errors.ConvergenceWarning, match="not certified"):
        result = mlm.sem(text, clusters, cluster="g", allow=allow)
    assert "NOT at an optimum" in str(result)
    assert "not to be trusted" in result.fit_measures.sentence


def test_two_groups_without_shared_labels_are_two_fits(clusters):
    data = clusters.assign(odd=(clusters["g"] % 2).astype(int))
    text = "level: 1\ny ~ {a}m + x\nlevel: 2\ny ~ m + w"
    both = mlm.sem(text.format(a=""), data, cluster="g", group="odd")
    parts = [mlm.sem(text.format(a=""), data[data["odd"] == k], cluster="g") for k in (0, 1)]
    assert both.minus2_loglik == pytest.approx(sum(p.minus2_loglik for p in parts), rel=1e-11)
    labelled = mlm.sem(text.format(a="c(s, t)*"), data, cluster="g", group="odd")
    assert labelled.minus2_loglik == pytest.approx(both.minus2_loglik, rel=1e-12)
    equal = mlm.sem(text.format(a="c(s, s)*"), data, cluster="g", group="odd")
    assert equal.fit.n_parameters == both.fit.n_parameters - 1
    assert equal.minus2_loglik > both.minus2_loglik
    table = equal.parameters().query(
        "lhs == 'y' and op == '~' and rhs == 'm' and level == 'within'"
    )
    assert table["group"].tolist() == ["0", "1"]
    assert table["estimate"].nunique() == 1
    errors = labelled.parameters(std_errors="robust").query("label == 's'")["std_error"].item()
    alone = parts[0].parameters(std_errors="robust").query("op == '~' and rhs == 'm'")
    assert errors == pytest.approx(alone["std_error"].iloc[0], rel=1e-6)


def test_a_predictor_without_its_between_part_is_pointed_out(clusters):
    raw = mlm.sem(TWO.format(within="x", between="w"), clusters, cluster="g")
    assert len(raw.advice) == 1
    assert "of the variance of x lies between clusters" in raw.advice[0]
    assert raw.advice[0].split()[0] in str(raw)
    split = mlm.sem(TWO.format(within="x", between="x + w"), clusters, cluster="g")
    assert split.advice == ()
    data = clusters.assign(xm=clusters.groupby("g")["x"].transform("mean"))
    assert mlm.sem(TWO.format(within="x", between="xm"), data, cluster="g").advice == ()
    flat = mlm.sem("level: 1\ny ~ x\nlevel: 2\nx ~~ x", clusters, cluster="g")
    assert "y is named at level 1 only" in flat.advice[0]
    noise = clusters.assign(x=np.random.default_rng(1).normal(size=len(clusters)))
    assert mlm.sem(TWO.format(within="x", between="w"), noise, cluster="g").advice == ()


def test_units_far_apart_are_no_obstacle(clusters):
    text = "level: 1\ny ~ m + x\nm ~ x\nlevel: 2\ny ~ m + w\nm ~ w"
    odd = clusters.assign(y=1e6 * clusters["y"], w=1e-5 * (clusters["w"] + 300.0))
    one, two = (mlm.sem(text, data, cluster="g") for data in (clusters, odd))
    n_values = len(clusters)
    assert two.minus2_loglik - one.minus2_loglik == pytest.approx(
        2 * n_values * np.log(1e6), rel=1e-9
    )
    assert estimate(two, "between", "y", "~", "w") == pytest.approx(
        1e11 * estimate(one, "between", "y", "~", "w"), rel=1e-6
    )
