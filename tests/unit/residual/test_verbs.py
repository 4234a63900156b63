"""Checks, effect sizes and tests of fits with structured residuals: the plain fit's answers where
residuals are independent, dense matrices elsewhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.likelihood.residual.dense import residual_matrices
from tests.support.residual import repeated_measures

DATA = Path(__file__).parents[2] / "data"
PLAIN = ["y ~ time + x + (1 | id)", "y ~ time + x + (time | id)", "y ~ time + x + (1 | site/id)"]


@pytest.fixture(scope="module")
def frame():
    data = repeated_measures(11, n_ids=40)
    item = np.random.default_rng(5).integers(0, 6, len(data))
    big = np.array([f"b{k}" for k in np.arange(len(data)) % 4])
    return data.assign(item=[f"i{k}" for k in item], big=big)


@pytest.fixture(scope="module", params=PLAIN)
def pair(request, frame):
    return (
        mlm.fit(request.param, frame, weights="w"),
        mlm.fit(request.param, frame, weights="w", residual="ind"),
    )


def alike(one, two, names=None, rtol=2e-5, atol=1e-7):
    names = one.columns if names is None else names
    for name in names:
        a, b = one[name].to_numpy(), two[name].to_numpy()
        if a.dtype == object or a.dtype.kind not in "fi":
            assert list(map(str, a)) == list(map(str, b)), name
        else:
            np.testing.assert_allclose(
                b.astype(float), a.astype(float), rtol=rtol, atol=atol, err_msg=name
            )


@pytest.mark.parametrize(
    "verb",
    [
        "row_diagnostics", "random_effect_diagnostics", "normality", "quantile_plot_data",
        "reliability", "design_effects", "within_between",
    ],
)  # fmt: skip
def test_independent_residuals_give_the_answers_of_the_plain_fit(pair, verb):
    plain, ind = pair
    one, two = getattr(plain, verb)(), getattr(ind, verb)()
    names = [c for c in one.columns if c not in ("sentence", "p_value")]
    alike(one, two, names, rtol=1e-3, atol=1e-5)


def test_independent_residuals_have_the_same_influence_criteria_and_tests(pair, frame):
    plain, ind = pair
    for by in (None, "row"):
        one, two = plain.influence(by), ind.influence(by)
        shared = [c for c in two.columns if c in one.columns and c != "level"]
        assert len(shared) == 3 + 2 * len(plain.design.names)
        alike(one, two, shared, rtol=2e-3, atol=1e-5)
    one, two = plain.conditional_aic(), ind.conditional_aic()
    assert two.caic == pytest.approx(one.caic, abs=1e-4)
    assert two.effective_df == pytest.approx(one.effective_df, rel=1e-4)
    one, two = plain.random_tests(n_sim=200), ind.random_tests(n_sim=200)
    alike(one, two, ["term", "group", "statistic", "df"], atol=1e-4)
    away = one["statistic"] > 1e-3  # at zero the mixture jumps from one half to one
    alike(one[away], two[away], ["p_value"], rtol=1e-3)
    if len(plain.groups) == 1 and plain.random_covariance[next(iter(plain.groups))].shape == (1, 1):
        one = plain.intraclass_correlations()
        alike(one, ind.intraclass_correlations(), ["group", "proportion", "correlation"], 1e-4)
    else:
        assert np.isfinite(ind.intraclass_correlations()["proportion"]).all()
    found = ind.diagnose()
    assert {f.topic for f in found.findings} >= {"Residuals", "Leverage", "Influence"}


def test_independent_residuals_have_the_same_homogeneity_and_variance_function(frame):
    formula = "y ~ time + x + (x | big)"
    plain, ind = mlm.fit(formula, frame), mlm.fit(formula, frame, residual="ind")
    one, two = plain.heteroscedasticity(), ind.heteroscedasticity()
    alike(one, two, rtol=1e-6)
    assert two.attrs["statistic"] == pytest.approx(one.attrs["statistic"], rel=1e-6)
    one, two = plain.variance_function("x", [-1.0, 0.5]), ind.variance_function("x", [-1.0, 0.5])
    alike(one, two, rtol=5e-3, atol=1e-4)
    for key in ("minimum", "minimum_total"):
        assert two.attrs[key] == pytest.approx(one.attrs[key], rel=1e-3)
    a = plain.quantile_residuals(60, seed=3)["residual"]
    b = ind.quantile_residuals(60, seed=3)["residual"]
    assert np.corrcoef(a, b)[0, 1] > 0.95


STRUCTURED = [
    ("y ~ time + x + (1 + x | id)", {"residual": "ar1(time | id)", "scale": "~ x", "weights": "w"}),
    ("y ~ time + x", {"residual": "un(time | id)"}),
    ("y ~ time + x + (1 | site)", {"residual": "toep(time | id, band=2)", "scale": "~ arm"}),
    ("y ~ time + x + (1 | id) + (1 | item)", {"residual": "ar1(time | id)"}),
]


@pytest.fixture(scope="module", params=range(len(STRUCTURED)))
def case(request, frame):
    formula, options = STRUCTURED[request.param]
    m = mlm.fit(formula, frame, method="ml", allow=("not_certified",), **options)
    layout, n = m.design.residual, m.design.n
    R = np.zeros((n, n))
    for a, b in zip(layout.starts[:-1], layout.starts[1:], strict=True):
        rows = layout.order[a:b]
        R[np.ix_(rows, rows)] = (
            m.fit.sigma2 * residual_matrices(layout, m.fit.residual.phi, rows[None])[0][0]
        )
    V = R.copy()
    for block, G in zip(m.design.blocks, m.fit.random_covariance, strict=True):
        same = block.codes[:, None] == block.codes[None]
        V += (block.columns @ G @ block.columns.T) * same
    X = m.design.X
    inverse = np.linalg.inv(V)
    M = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ M @ X.T @ inverse
    return m, R, V, M, P


def test_row_diagnostics_are_those_of_the_matrices(case):
    m, R, V, M, P = case
    X, y, order = m.design.X, m.design.y, m.design.residual.order
    e = y - X @ m.fixed_effects.to_numpy()
    t = m.row_diagnostics()
    conditional = R @ np.linalg.solve(V, e)
    close = {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(t["conditional"], conditional, **close)
    np.testing.assert_allclose(t["marginal"], e, **close)
    spread = np.sqrt(np.diag(R @ P @ R))
    np.testing.assert_allclose(t["conditional_std"], conditional / spread, **close)
    spread = np.sqrt(np.diag(V - X @ M @ X.T))
    np.testing.assert_allclose(t["marginal_std"], e / spread, **close)
    L = np.linalg.cholesky(R[np.ix_(order, order)])
    inside = np.eye(len(e)) - L.T @ P[np.ix_(order, order)] @ L
    np.testing.assert_allclose(t["leverage"][order], np.diag(inside), **close)
    fixed = np.linalg.solve(L, X[order] @ M @ (X.T @ np.linalg.inv(V))[:, order] @ L)
    np.testing.assert_allclose(t["leverage_fixed"][order], np.diag(fixed), **close)
    white = np.linalg.solve(L, conditional[order])
    np.testing.assert_allclose(t["normalised"][order], white, **close)
    np.testing.assert_allclose(
        t["normalised_std"][order], white / np.sqrt(1.0 - np.diag(inside)), **close
    )
    np.testing.assert_allclose(t["normalised"], m.residuals("normalised"), **close)
    assert m.conditional_aic().effective_df == pytest.approx(np.trace(inside), rel=1e-6)
    assert "normalised" in t.attrs["sentence"]


def test_influence_is_that_of_a_fit_without_the_rows(case):
    m, _, V, M, _ = case
    X, y = m.design.X, m.design.y
    beta = m.fixed_effects.to_numpy()

    def without(gone):
        left = np.setdiff1d(np.arange(len(y)), gone)
        inverse = np.linalg.inv(V[np.ix_(left, left)])
        covariance = np.linalg.inv(X[left].T @ inverse @ X[left])
        change = beta - covariance @ X[left].T @ inverse @ y[left]
        cook = change @ np.linalg.solve(M, change) / len(beta)
        return change, cook, np.linalg.det(covariance) / np.linalg.det(M)

    t = m.influence("row")
    columns = [f"change[{name}]" for name in m.design.names]
    for i in (0, 7, 30):
        change, cook, ratio = without([i])
        np.testing.assert_allclose(t.loc[i, columns].astype(float), change, rtol=1e-5, atol=1e-9)
        assert t.loc[i, "cooks_distance"] == pytest.approx(cook, rel=1e-5)
        assert t.loc[i, "covratio"] == pytest.approx(ratio, rel=1e-5)
        assert m.row_diagnostics().loc[i, "cooks_distance"] == pytest.approx(cook, rel=1e-5)
    codes = m.design.residual.codes if not m.design.blocks else m.design.blocks[-1].codes
    if m._structured.problem.is_crossed:
        with pytest.raises(InferenceError, match="hold all rows"):
            m.influence()
        with pytest.raises(InferenceError, match="extend over"):
            m.influence("item")
        return
    t = m.influence()
    for j in (0, len(t) - 1):
        change, cook, ratio = without(np.flatnonzero(codes == j))
        np.testing.assert_allclose(t.loc[j, columns].astype(float), change, rtol=1e-5, atol=1e-9)
        assert t.loc[j, "cooks_distance"] == pytest.approx(cook, rel=1e-5)
        assert t.loc[j, "covratio"] == pytest.approx(ratio, rel=1e-5)
    if m.design.blocks and m.design.blocks[-1].group != "id":
        with pytest.raises(InferenceError, match="correlates"):
            m.influence("id")


def test_design_effects_are_those_of_the_matrices(case):
    m, R, V, _, _ = case
    t = m.design_effects().set_index("component")
    whole = V.sum() / np.trace(V)
    assert t.loc["variance of the mean", "estimate"] == pytest.approx(whole, rel=1e-6)
    own = 1.0 + (R.sum() - np.trace(R)) / np.trace(V)
    assert t.loc["residual correlation", "estimate"] == pytest.approx(own, rel=1e-6)


def test_reliability_is_that_of_the_matrices(case):
    m, R, V, _, _ = case
    if not m.design.blocks:
        assert len(m.reliability()) == 0
        return
    block, G = m.design.blocks[0], m.fit.random_covariance[0]
    J, q = block.n_levels, len(block.names)
    Z = np.zeros((m.n, J * q))
    for a in range(q):
        Z[np.arange(m.n), block.codes * q + a] = block.columns[:, a]
    big = np.kron(np.eye(J), G)
    explained = np.diag(big @ Z.T @ np.linalg.solve(V, Z) @ big).reshape(J, q) / np.diag(G)
    t = m.reliability()
    own = t[(t["component"] == "prediction") & (t["group"] == block.group)]
    np.testing.assert_allclose(own["estimate"], explained.mean(axis=0), rtol=1e-5)
    by = m.reliability(by_cluster=True)
    by = by[(by["group"] == block.group) & (by["term"] == block.names[0])]
    np.testing.assert_allclose(by["estimate"], explained[:, 0], rtol=1e-5)
    least = t[t["component"] == "least_squares"]
    assert len(least) == (q if len(m.design.blocks) == 1 else 0)
    if len(least) and q == 1:
        errors = [
            1.0 / np.sum(np.linalg.inv(R[np.ix_(rows, rows)]))
            for rows in (np.flatnonzero(block.codes == j) for j in range(J))
        ]
        expected = np.mean(G[0, 0] / (G[0, 0] + np.array(errors)))
        assert least["estimate"].iloc[0] == pytest.approx(expected, rel=1e-6)


def test_conditional_aic_is_that_of_the_density(case):
    m, R, V, _, P = case
    e = m.design.y - m.design.X @ m.fixed_effects.to_numpy()
    inside = R @ np.linalg.solve(V, e)
    minus2 = m.n * np.log(2.0 * np.pi) + np.linalg.slogdet(R)[1]
    minus2 += inside @ np.linalg.solve(R, inside)
    rho = m.n - np.trace(R @ P)
    found = m.conditional_aic()
    assert found.minus2_conditional == pytest.approx(minus2, rel=1e-7)
    extra = 1 + len(m.fit.residual.phi)
    assert found.caic == pytest.approx(minus2 + 2.0 * (rho + extra), rel=1e-7)


def test_distributions_and_simulated_residuals(case):
    m = case[0]
    t = m.normality()
    rows = m.row_diagnostics()
    first = m.quantile_plot_data()
    first = first[first["group"] == "residual"]
    np.testing.assert_allclose(np.sort(rows["normalised_std"]), first["sample"])
    assert t.loc[0, "n"] == m.n
    u = m.quantile_residuals(40, seed=1)
    assert u["residual"].between(0, 1).all()
    conditional = m.quantile_residuals(40, seed=1, kind="conditional")
    assert conditional["residual"].between(0, 1).all()
    words = str(m.diagnose())
    assert "Left-over correlation" in words
    assert "Equal variances" in words or "Not available" in words


# -- tests of parameters -----------------------------------------------------------------------


def test_leaving_out_equals_fits_of_the_smaller_models(frame):
    text = {"residual": "ar1(time | id)", "scale": "~ x"}
    m = mlm.fit("y ~ time + x + (1 | site)", frame, method="ml", **text)
    t = m.random_tests().set_index("term")
    smaller = {
        "(Intercept)": mlm.fit("y ~ time + x", frame, method="ml", **text),
        "correlation: ar1": mlm.fit("y ~ time + x + (1 | site)", frame, method="ml", scale="~ x"),
        "log_variance(x)": mlm.fit(
            "y ~ time + x + (1 | site)", frame, method="ml", residual="ar1(time | id)"
        ),
    }
    assert list(t.index) == list(smaller)
    for name, small in smaller.items():
        statistic = max(small.minus2_loglik - m.minus2_loglik, 0.0)
        assert t.loc[name, "statistic"] == pytest.approx(statistic, abs=1e-5)
        assert t.loc[name, "df"] == 1
    away = t.loc["log_variance(x)", "statistic"]
    assert t.loc["log_variance(x)", "p_value"] == pytest.approx(chi2.sf(away, 1))
    one = t.loc["(Intercept)"]
    assert "50:50" in one["distribution"]
    if one["statistic"] > 1e-3:
        assert one["p_value"] == pytest.approx(chi2.sf(one["statistic"], 1) / 2.0)
    assert "Residual" in set(t["group"])


def test_leaving_out_variances_by_occasion_and_decays(frame):
    m = mlm.fit("y ~ time + x", frame, residual="arh1(time | id)", method="ml")
    t = m.random_tests().set_index("term")
    equal = mlm.fit("y ~ time + x", frame, residual="ar1(time | id)", method="ml")
    none = mlm.fit("y ~ time + x", frame, residual="diag(time | id)", method="ml")
    for name, small, df in (
        ("variances by time", equal, 5),
        ("correlation: arh1", none, 1),
    ):
        assert t.loc[name, "statistic"] == pytest.approx(small.minus2_loglik - m.minus2_loglik,
                                                         abs=1e-5)  # fmt: skip
        assert t.loc[name, "df"] == df
        assert t.loc[name, "p_value"] == pytest.approx(chi2.sf(t.loc[name, "statistic"], df))
    decay = mlm.fit("y ~ time + x", frame, residual="car1(time | id)").random_tests()
    assert decay["distribution"].tolist() == ["50:50 mixture of chi2(0) and chi2(1)"]
    assert decay["p_value"][0] == pytest.approx(decay["p_naive"][0] / 2.0)
    wide = mlm.fit("y ~ time + x", frame, residual="arma11(time | id)").random_tests()
    assert "conservative" in wide["distribution"][0]
    with pytest.raises(InferenceError, match="random effect"):
        mlm.fit("y ~ time", frame, residual="ind").random_tests()


def test_leaving_out_beside_models_for_standard_deviations():
    rng = np.random.default_rng(4)
    school = np.repeat(np.arange(50), 8)
    w = rng.normal(size=50)[school]
    u = (np.exp(0.4 * w) * rng.normal(size=50)[school]) * 0.8
    data = {"x": rng.normal(size=400), "w": w, "school": school, "class_": np.arange(400) // 4}
    data["y"] = data["x"] + u + rng.normal(size=400)
    m = mlm.fit("y ~ x + (1 | school) + (1 | school:class_)", data, method="ml",
                random_scale={"school": "~ w"})  # fmt: skip
    t = m.random_tests()
    plain = mlm.fit("y ~ x + (1 | school) + (1 | school:class_)", data, method="ml")
    inner = mlm.fit("y ~ x + (1 | school)", data, method="ml", random_scale={"school": "~ w"})
    outer = mlm.fit("y ~ x + (1 | school:class_)", data, method="ml")
    found = t.set_index(["group", "term"])["statistic"]
    for key, small in (
        (("school", "log_sd(school: w)"), plain),
        (("school:class_", "(Intercept)"), inner),
        (("school", "(Intercept)"), outer),
    ):
        expected = max(small.minus2_loglik - m.minus2_loglik, 0.0)
        assert found[key] == pytest.approx(expected, abs=1e-4), key
    by_level = m.random_effect_diagnostics()
    own = m.random_effects()
    np.testing.assert_allclose(by_level["estimate"], own["estimate"], rtol=1e-10)


# -- variances along predictors ----------------------------------------------------------------


def test_variance_function_is_that_of_rows(frame):
    m = mlm.fit("y ~ time + x + (x | id)", frame, scale="~ x + arm", method="ml")
    t = m.variance_function("x", [-1.0, 0.0, 2.0])
    G = m.random_covariance["id"].to_numpy()
    alpha = m.residual_parameters().set_index("term")["estimate"]
    share = (frame["arm"] == "arm1").mean()
    arm = 1.0 - share + share * np.exp(alpha["log_variance(arm[arm1])"])
    for k, x in enumerate((-1.0, 0.0, 2.0)):
        between = np.array([1.0, x]) @ G @ np.array([1.0, x])
        within = m.residual_variance * np.exp(x * alpha["log_variance(x)"]) * arm
        assert t.loc[k, "between"] == pytest.approx(between, rel=1e-9)
        assert t.loc[k, "total"] == pytest.approx(between + within, rel=1e-9)
        assert t.loc[k, "estimate"] == pytest.approx(between / (between + within), rel=1e-9)
    grid = m.variance_function("x", np.linspace(frame["x"].min(), frame["x"].max(), 301).tolist())
    best = grid["value"][grid["total"].idxmin()]
    assert t.attrs["minimum"] == pytest.approx(best, abs=0.02)
    # one combination of predictors: the interval of row_variances
    one = mlm.fit("y ~ time + x + (1 | id)", frame, scale="~ x", method="ml")
    rows = one.row_variances({"x": [0.3], "time": [1.0], "id": ["p1"]})
    line = one.variance_function("x", [0.3])
    for name, other in (("estimate", "icc"), ("std_error",) * 2, ("conf_low",) * 2):
        assert line[name][0] == pytest.approx(rows[other][0], rel=1e-4)
    with pytest.raises(InferenceError, match="must depend on the predictor"):
        one.variance_function("time")
    power = mlm.fit("y ~ time + x", frame.assign(y=frame["y"] + 20.0), scale="~ x + power(mean)",
                    allow=("not_certified",))  # fmt: skip
    with pytest.raises(InferenceError, match="row_variances"):
        power.variance_function("x")


def test_intraclass_correlations_by_stratum(frame):
    m = mlm.fit("y ~ time + (1 | site/id)", frame, scale="~ arm")
    t = m.intraclass_correlations().set_index(["group", "at"])
    tau = {g: c.iloc[0, 0] for g, c in m.random_covariance.items()}
    ratio = np.exp(m.residual_parameters()["estimate"][0])
    fine, coarse = (b.group for b in m.design.blocks)
    for at, factor in (("arm[arm1] = 0", 1.0), ("arm[arm1] = 1", ratio)):
        total = sum(tau.values()) + factor * m.residual_variance
        assert t.loc[(fine, at), "proportion"] == pytest.approx(tau[fine] / total)
        assert t.loc[(fine, at), "correlation"] == pytest.approx(sum(tau.values()) / total)
        assert t.loc[(coarse, at), "correlation"] == pytest.approx(tau[coarse] / total)
    assert "At arm[arm1] = 1" in t.attrs["sentence"] or "At arm[arm1] = 1" in "".join(t["sentence"])


def test_a_variance_of_zero_gives_shares_without_a_warning():
    rng = np.random.default_rng(0)
    id_ = np.repeat(np.arange(20), 5)
    y = rng.normal(size=100)
    y -= np.array([y[id_ == j].mean() for j in range(20)])[id_]  # no variance between persons
    data = {"y": y, "x": rng.normal(size=100), "id": id_}
    m = mlm.fit("y ~ x + (1 | id)", data, scale="~ x")
    assert m.is_singular
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = m.row_variances()
        t = m.reliability(), m.intraclass_correlations(), m.variance_function("x")
        m.diagnose()
    assert (found["icc"] == 0.0).all()
    assert found["std_error"].isna().all()
    assert (t[2]["estimate"] == 0.0).all()
    assert t[2]["conf_low"].isna().all()
    assert (t[0]["estimate"] == 0.0).all()


# -- within and between ------------------------------------------------------------------------


def test_within_and_between_take_the_covariance_into_account(frame):
    means = frame.groupby("id")["x"].transform("mean")
    data = frame.assign(xb=means, xw=frame["x"] - means)
    text = {"residual": "ar1(time | id)", "scale": "~ arm"}
    m = mlm.fit("y ~ time + x + xb + (1 | id)", data, **text)
    t = m.within_between().set_index("component")
    split = mlm.fit("y ~ time + xw + xb + (1 | id)", data, **text)
    direct = split.coefficients().set_index("term")
    for component, term in (("within", "xw"), ("between", "xb")):
        for name in ("estimate", "std_error", "df", "p_value"):
            assert t.loc[component, name] == pytest.approx(direct.loc[term, name], rel=1e-4)
    test = m.coefficients().set_index("term").loc["xb"]
    for name in ("estimate", "std_error", "p_value"):
        assert t.loc["contextual", name] == pytest.approx(test[name], rel=1e-6)
    kr = m.within_between(df="kenward-roger").set_index("component")
    assert kr.loc["within", "std_error"] == pytest.approx(
        split.coefficients(df="kenward-roger").set_index("term").loc["xw", "std_error"], rel=1e-4
    )
    smushed = mlm.fit("y ~ time + x + (1 | id)", data, **text).within_between()
    assert set(smushed["component"]) == {"smushed"}
    assert "weighted mean" in smushed.attrs["sentence"]


def test_smushed_slope_is_the_weighted_mean_of_both(frame):
    from multilevel.interpret.smushed import unmix

    m = mlm.fit("y ~ time + x + (1 | id)", frame, residual="ar1(time | id)", scale="~ arm")
    found = unmix(m._evidence(), m.design.names.index("x"), 0)
    assert found.mean == pytest.approx(m.fixed_effects["x"], rel=1e-6)


# -- equal variances ---------------------------------------------------------------------------


def test_homogeneity_sees_what_the_structure_has_caught():
    rng = np.random.default_rng(8)
    id_ = np.repeat(np.arange(24), 40)
    arm = np.array(["a", "b"])[id_ % 2]
    week = np.tile(np.arange(40), 24)
    e = rng.normal(size=(24, 40))
    for k in range(1, 40):
        e[:, k] = 0.5 * e[:, k - 1] + np.sqrt(0.75) * e[:, k]
    y = rng.normal(size=24)[id_] + e.ravel() * np.where(arm == "a", 1.0, 2.0)
    data = {"y": y, "week": week, "arm": arm, "id": id_}
    caught = mlm.fit("y ~ week + (1 | id)", data, residual="ar1(week | id, by=arm)")
    missed = mlm.fit("y ~ week + (1 | id)", data, residual="ar1(week | id)")
    good, bad = caught.heteroscedasticity(), missed.heteroscedasticity()
    assert good.attrs["p_value"] > 0.05 > bad.attrs["p_value"]
    assert "accounts for the differences" in good.attrs["sentence"]
    strata = caught.heteroscedasticity("arm")
    np.testing.assert_allclose(strata["sd"], 1.0, atol=0.05)
    assert len(caught.heteroscedasticity("week")) == 40
    with pytest.raises(InferenceError, match="whole units"):
        caught.heteroscedasticity("y")
    neighbours = next(f for f in caught.diagnose().findings if f.topic == "Left-over correlation")
    assert "no correlation is left" in neighbours.sentence
    none = mlm.fit("y ~ week + (1 | id)", data, residual="ind(by=arm)").diagnose()
    assert "Left-over correlation" not in {f.topic for f in none.findings}
    weak = mlm.fit("y ~ week", data, residual="cs(1 | id)").diagnose()
    assert "correlation is left that" in str(weak).replace("\n  ", " ")


def test_normalised_residuals_are_those_of_nlme():
    known = json.loads((DATA / "normalised_residuals.json").read_text(encoding="utf-8"))
    made, data = known["provenance"], pd.read_csv(DATA / "nlme_Orthodont.csv.gz")
    m = mlm.fit(made["formula"], data, residual=made["residual"], scale=made["scale"])
    assert m.reml_criterion == pytest.approx(known["reml_criterion"], abs=1e-5)
    t = m.row_diagnostics()
    # nlme's optimum is found to about 1e-4 in rho
    np.testing.assert_allclose(t["normalised"], known["normalised"], atol=2e-4)
    np.testing.assert_allclose(m.residuals("standardised"), known["pearson"], atol=2e-4)


# -- profiles ----------------------------------------------------------------------------------


def test_profiles_of_standard_deviations_of_the_plain_fit(frame):
    formula = "y ~ time + x + (time | id)"
    one = mlm.fit(formula, frame).confint("profile", components=["sd"])
    two = mlm.fit(formula, frame, residual="ind").confint("profile", components=["sd"])
    assert two["term"].tolist() == ["(Intercept) | id", "time | id", "Residual"]
    for name in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4)


@pytest.mark.parametrize("crossed", [False, True])
def test_a_profile_limit_lies_where_the_dense_criterion_has_risen(frame, crossed):
    """SD of the intercept, or of the residual, held at the limit: the best of all other values."""
    group = "item" if crossed else "site"
    m = mlm.fit(f"y ~ time + (1 | {group})", frame, residual="ar1(time | id)", method="ml")
    assert m._structured.problem.is_crossed == crossed
    t = m.confint("profile", conf_level=0.9, components=["sd", "residual"]).set_index("term")
    X, y = m.design.X, m.design.y
    layout, codes = m.design.residual, m.design.blocks[0].codes
    same = codes[:, None] == codes[None]
    units = [layout.order[a:b] for a, b in zip(layout.starts[:-1], layout.starts[1:], strict=True)]

    def criterion(tau, sigma, phi):
        V = tau**2 * same.astype(float)
        for rows in units:
            R = residual_matrices(layout, np.array([phi]), rows[None])[0][0]
            V[np.ix_(rows, rows)] += sigma**2 * R
        L = np.linalg.cholesky(V)
        A, b = np.linalg.solve(L, X), np.linalg.solve(L, y)
        e = b - A @ np.linalg.lstsq(A, b, rcond=None)[0]
        return len(y) * np.log(2 * np.pi) + 2 * np.log(np.diag(L)).sum() + e @ e

    start = [
        np.sqrt(m.fit.random_covariance[0][0, 0]),
        np.sqrt(m.fit.sigma2),
        m.fit.residual.phi[0],
    ]
    assert criterion(*start) == pytest.approx(m.minus2_loglik, abs=1e-6)
    for k, name in ((0, f"(Intercept) | {group}"), (1, "Residual")):
        held = t.loc[name, "conf_high"]

        def rest(free, k=k, held=held):
            return criterion(*np.insert(free, k, held))

        low = minimize(rest, np.delete(start, k), method="Nelder-Mead",
                       options={"xatol": 1e-6, "fatol": 1e-8, "maxiter": 2000}).fun  # fmt: skip
        assert low - m.minus2_loglik == pytest.approx(chi2.ppf(0.9, 1), abs=1e-3)


def test_a_bootstrap_of_the_tests(frame):
    m = mlm.fit("y ~ time + (1 | site)", frame, residual="ar1(time | id)", method="ml")
    t = m.random_tests(n_boot=19, seed=1)
    assert (t["p_bootstrap"] * 20).round(8).isin(range(1, 21)).all()
    assert t.loc[1, "p_bootstrap"] == 0.05
    assert "Parametric bootstrap (19 draws)" in t.loc[1, "sentence"]
    with pytest.raises(InferenceError, match="at least 19"):
        m.random_tests(n_boot=5)


def test_quarters_of_the_mean_judge_a_power_of_it():
    rng = np.random.default_rng(2)
    x = rng.uniform(1, 8, 400)
    mean = 2.0 + 1.5 * x
    data = {"x": x, "y": mean + 0.2 * mean * rng.normal(size=400)}
    power = mlm.fit("y ~ x", data, scale="~ power(mean)").heteroscedasticity()
    assert power["group"].unique().tolist() == ["mean"]
    assert power.attrs["p_value"] > 0.05
    np.testing.assert_allclose(power["sd"], 1.0, atol=0.2)
