"""Tests of coefficients and terms, marginal means, robust covariances of generalized fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, f, norm, t

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.likelihood.generalized.choose import make_objective
from tests.unit.infer.generalized.data import fit, table

FORMULA = "binary ~ x + w + arm + (1 | g)"


def test_between_within_degrees_of_freedom_follow_the_rule_of_sas():
    """30 clusters, 240 rows: w and the intercept are between, x and arm (2 columns) within."""
    found = fit(FORMULA, "binomial").coefficients(df="between-within").set_index("term")
    assert found.df["(Intercept)"] == found.df["w"] == 30 - 2
    assert found.df["x"] == found.df["arm[b]"] == 240 - 30 - 3
    row = found.loc["x"]
    assert row.p_value == pytest.approx(2 * t.sf(abs(row.statistic), 207), rel=1e-10)


def test_between_within_is_refused_for_crossed_factors_and_satterthwaite_always():
    crossed = fit("binary ~ x + (1 | g) + (1 | h)", "binomial")
    with pytest.raises(InferenceError, match="nested"):
        crossed.coefficients(df="between-within")
    with pytest.raises(InferenceError, match="defined for Gaussian models"):
        crossed.coefficients(df="satterthwaite")


def test_odds_ratios_are_exponentials_with_delta_errors():
    m = fit(FORMULA, "binomial")
    plain, ratio = m.coefficients(), m.coefficients(exponentiate=True)
    assert np.allclose(ratio.estimate, np.exp(plain.estimate))
    assert np.allclose(ratio.conf_high, np.exp(plain.conf_high))
    assert np.allclose(ratio.std_error, ratio.estimate * plain.std_error)
    assert np.allclose(ratio.p_value, plain.p_value)
    assert "odds ratios" in ratio.attrs["sentence"]
    probit = fit("binary ~ x + (1 | g)", "binomial", link="probit")
    with pytest.raises(InferenceError, match="logit, log or cloglog"):
        probit.coefficients(exponentiate=True)


def test_joint_tests_are_wald_statistics():
    m = fit(FORMULA, "binomial")
    names = ["x", "w"]
    at = [list(m.fixed_effects.index).index(n) for n in names]
    b, V = m.fit.beta[at], m.fit.vcov_beta[np.ix_(at, at)]
    joint = m.test("x = 0, w = 0").iloc[-1]
    assert joint.statistic == pytest.approx(b @ np.linalg.solve(V, b), rel=1e-9)
    assert joint.p_value == pytest.approx(chi2.sf(joint.statistic, 2), rel=1e-9)
    counted = m.test("x = 0, w = 0", df="between-within").iloc[-1]
    assert counted.p_value == pytest.approx(f.sf(joint.statistic / 2, 2, 28), rel=1e-9)
    difference = m.contrast({"x - w": {"x": 1, "w": -1}}).iloc[0]
    c = np.array([1.0, -1.0])
    assert difference.std_error == pytest.approx(np.sqrt(c @ V @ c), rel=1e-9)


@pytest.mark.parametrize("kind", [2, 3])
def test_anova_of_ordered_and_nominal_responses_are_tests_of_their_coefficients(kind):
    ordered = fit("ordered ~ x + arm + (1 | g)", "cumulative")
    joint = ordered.test("arm[b] = 0, arm[c] = 0").iloc[-1].statistic
    found = ordered.anova(kind).set_index("term")
    assert found.statistic["arm"] == pytest.approx(joint, rel=1e-8)
    nominal = mlm.fit("ordered ~ x + arm + (1 | g)", table(), family="nominal", n_quad=1)
    terms = nominal.anova(kind).set_index("term")
    assert terms.df_num["arm"] == 6
    assert terms.df_num["x"] == 3
    names = [n for n in nominal.coefficients().term if n.endswith(": x")]
    joint = nominal.contrast({n: {n: 1} for n in names}).iloc[-1].statistic
    assert terms.statistic["x"] == pytest.approx(joint, rel=1e-8)


def test_response_means_are_inverse_links_and_probabilities_sum_to_one():
    m = fit(FORMULA, "binomial")
    link = m.marginal_means("arm", at={"x": 0.3, "w": 0}, scale="link")
    found = m.marginal_means("arm", at={"x": 0.3, "w": 0})
    p = 1 / (1 + np.exp(-link.estimate))
    assert np.allclose(found.estimate, p)
    assert np.allclose(found.std_error, p * (1 - p) * link.std_error, rtol=1e-6)
    assert np.allclose(found.conf_low, 1 / (1 + np.exp(-link.conf_low)))
    b = m.fixed_effects
    assert link.estimate[1] == pytest.approx(b["(Intercept)"] + 0.3 * b["x"] + b["arm[b]"])

    ordered = fit("ordered ~ x + arm + (1 | g)", "cumulative")
    shares = ordered.marginal_means("arm", at={"x": 0.0})
    assert np.allclose(shares.groupby("arm").estimate.sum(), 1.0)
    tau = ordered.part("threshold 1").estimate[0]
    assert shares.estimate[0] == pytest.approx(1 / (1 + np.exp(-tau)))
    se = ordered.part("threshold 1").std_error[0]
    assert shares.std_error[0] == pytest.approx(
        shares.estimate[0] * (1 - shares.estimate[0]) * se, rel=1e-5
    )


def test_response_means_include_zero_inflation_and_refuse_unknown_parts():
    m = fit("count ~ arm + (1 | g)", "poisson", zero="~ 1")
    found = m.marginal_means("arm")
    z = m.part("zero").estimate[0]
    b = m.fixed_effects
    expected = np.exp(b["(Intercept)"] + b["arm[c]"]) / (1 + np.exp(z))
    assert found.estimate[2] == pytest.approx(expected, rel=1e-9)
    other = fit("count ~ arm + (1 | g)", "poisson", zero="~ x")
    with pytest.raises(InferenceError, match="predictors of its own"):
        other.marginal_means("arm")
    assert len(other.marginal_means("arm", scale="link")) == 3


def test_pairwise_ratios_are_ratios():
    m = fit(FORMULA, "binomial")
    ratios = m.pairwise_comparisons("arm", adjust="none", exponentiate=True)
    assert ratios.term.tolist() == ["arm[a] / arm[b]", "arm[a] / arm[c]", "arm[b] / arm[c]"]
    assert ratios.estimate[0] == pytest.approx(np.exp(-m.fixed_effects["arm[b]"]))


def _scores(m):
    """Scores of every cluster by differences of its own likelihood."""
    problem, psi = m._prepared.problem, m.fit.psi
    J, P = problem.blocks[0].n_levels, len(psi)
    out = np.zeros((J, P))
    objective = make_objective(problem, m.fit.approximation.points)
    for k in range(P):
        h = np.zeros(P)
        h[k] = 1e-4
        sides = []
        for sign in (1.0, -1.0):
            objective.value(psi + sign * h)
            sides.append(objective.log_likelihoods())
        out[:, k] = (sides[0] - sides[1]) / 2e-4
    return out


@pytest.mark.parametrize("n_quad", [1, 7])
def test_the_sandwich_is_its_definition(n_quad):
    m = fit(FORMULA, "binomial", n_quad)
    s, V = _scores(m), m.fit.vcov
    p = len(m.fixed_effects)
    expected = (V @ (s.T @ s) @ V)[:p, :p]
    assert np.allclose(m.vcov_robust("CR0"), expected, rtol=1e-4, atol=1e-8)
    assert np.allclose(m.vcov_robust("CR1"), expected * 30 / 29, rtol=1e-4, atol=1e-8)
    table_ = m.robust("CR0")
    assert np.allclose(table_.std_error, np.sqrt(np.diag(m.vcov_robust("CR0"))))
    assert (table_.df == 29).all()
    same = m.coefficients(robust="CR0")
    assert np.allclose(same.p_value, table_.p_value)
    assert "CR0" in same.attrs["sentence"]
    z = m.coefficients(robust="CR0", df="none")
    assert np.allclose(z.p_value, 2 * norm.sf(abs(z.statistic)))


def test_coarser_clusters_add_their_scores_and_crossed_ones_are_refused():
    m = fit(FORMULA, "binomial")
    ids = m.design.blocks[0].codes // 3
    s = _scores(m).reshape(10, 3, -1).sum(axis=1)
    p = len(m.fixed_effects)
    expected = (m.fit.vcov @ (s.T @ s) @ m.fit.vcov)[:p, :p]
    assert np.allclose(m.vcov_robust("CR0", cluster=ids), expected, rtol=1e-4, atol=1e-8)
    with pytest.raises(InferenceError):
        m.vcov_robust(cluster=np.arange(m.n) % 7)
    with pytest.raises(InferenceError, match="CR1"):
        m.vcov_robust("CR2")
    crossed = fit("binary ~ x + (1 | g) + (1 | h)", "binomial")
    with pytest.raises(InferenceError, match="independent clusters"):
        crossed.robust()


def test_the_joint_covariance_is_labelled():
    m = fit("spread ~ x + (x | g)", "negative_binomial")
    names = list(m.vcov.columns)
    assert names[:3] == ["(Intercept)", "x", "dispersion: (Intercept)"]
    assert names[3:] == [
        "Lambda((Intercept) | g)", "Lambda(x, (Intercept) | g)", "Lambda(x | g)",
    ]  # fmt: skip
    found = m.coefficients(part="dispersion").std_error[0]
    assert found == pytest.approx(np.sqrt(m.vcov.iloc[2, 2]))


def test_a_model_without_random_effects_has_the_classic_sandwich():
    m, data = fit("binary ~ x + w", "binomial"), table()
    X, y = m.design.parts[0].X, m.design.response.y
    p = 1 / (1 + np.exp(-X @ m.fit.beta))
    bread = np.linalg.inv(X.T @ (X * (p * (1 - p))[:, None]))
    s = np.zeros((30, 3))
    np.add.at(s, data["g"], X * (y - p)[:, None])
    expected = bread @ (s.T @ s) @ bread
    assert np.allclose(m.vcov_robust("CR0", cluster=data["g"]), expected, rtol=1e-5)
    with pytest.raises(InferenceError, match="Clusters must be named"):
        m.vcov_robust()


def test_other_parts_have_tests_too():
    m = fit("count ~ x + (1 | g)", "poisson", zero="~ x")
    zero = m.coefficients(part="zero")
    assert zero.term.tolist() == ["(Intercept)", "x"]
    assert np.allclose(zero.std_error, m.part("zero").std_error)
    alone = m.test("x = 0", part="zero").iloc[0]
    assert alone.statistic == pytest.approx(zero.statistic[1])
    ratios = m.coefficients(part="zero", exponentiate=True)
    assert np.allclose(ratios.estimate, np.exp(zero.estimate))
    assert len(m.anova(part="zero")) == 1
    with pytest.raises(InferenceError, match="mean, zero"):
        m.coefficients(part="dispersion")
    with pytest.raises(InferenceError, match="one number"):
        fit("spread ~ x + (x | g)", "negative_binomial").anova(part="dispersion")
