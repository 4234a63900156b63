"""Intervals, comparisons and words of models with structured random effects."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, EstimationError, InferenceError
from multilevel.likelihood.gaussian.objective import _outer_by_level, _traces
from multilevel.likelihood.gaussian.wide_traces import wide_traces


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    n, T, rep = 50, 5, 2
    C = 0.6 ** np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    b = rng.normal(size=(n, T)) @ np.linalg.cholesky(C).T
    g, t = np.repeat(np.arange(n), T * rep), np.tile(np.repeat(np.arange(T), rep), n)
    y = 1 + 0.2 * t + b[g, t] + 0.7 * rng.normal(size=len(g))
    visit = np.array(["a", "b", "c", "d", "e"])[t]
    seen = rng.poisson(np.exp(0.5 * b[g, t])).astype(float)
    return {"y": y, "g": g, "t": t, "u": 0.3 * t**1.3, "visit": visit, "seen": seen}


@pytest.fixture(scope="module")
def ar1(data):
    return mlm.fit("y ~ t + ar1(0 + t | g)", data, method="ml")


def test_what_is_printed(ar1):
    text = ar1.summary()
    assert "rho" in text
    assert "autoregressive" in text
    assert "U_t[g]" in text
    assert "U_5c" not in text
    assert "slope" not in " ".join(a.sentence for a in ar1.advice)
    assert "effects by t (autoregressive" in ar1.methods_paragraph()
    found = ar1.to_dict()["random_structures"][0]
    assert found["parameter"] == "rho"
    assert found["conf_low"] < found["estimate"]
    assert list(ar1.variance_components()["term"]) == ["t", ""]


def test_wald_and_profile_intervals_agree_where_the_data_are_many(ar1):
    wald = ar1.confint(components=["sd", "correlation"]).set_index("term")
    profile = ar1.confint("profile", components=["sd", "correlation"]).set_index("term")
    assert list(wald.index) == ["t", "t: rho", ""]
    for end in ("conf_low", "conf_high"):
        assert np.allclose(wald[end], profile[end], atol=0.06)
    # at a limit the criterion has risen by the chi-square quantile
    prepared, rho = ar1._prepared, profile.loc["t: rho", "conf_low"]
    objective = prepared.objective()
    s = np.linspace(0.5, 3.0, 400) * ar1.fit.theta[0]
    lowest = min(objective.value(np.array([one, np.arctanh(rho)])) for one in s)
    objective.set(ar1.fit.theta)
    assert lowest - objective.profile.criterion == pytest.approx(3.8415, abs=2e-3)


@pytest.mark.parametrize(
    ("small", "large", "df"),
    [
        ("ar1(0 + t | g)", "us(0 + visit | g)", 13),
        ("ar1(0 + t | g)", "toep(0 + t | g)", 3),
        ("ar1(0 + t | g)", "arh1(0 + t | g)", 4),
        ("toep(0 + t | g)", "toeph(0 + t | g)", 4),
        ("cs(0 + visit | g)", "csh(0 + visit | g)", 4),
        ("id(0 + visit | g)", "ar1(0 + visit | g)", 1),
        ("diag(0 + visit | g)", "fa(0 + visit | g)", 5),
        ("rr(0 + visit | g)", "rr(0 + visit | g, 2)", 4),
        ("(1 | g)", "(1 | g) + ar1(0 + t | g)", 2),
    ],
)
def test_nested_structures_are_compared(data, small, large, df):
    fits = [mlm.fit(f"y ~ t + {term}", data, method="ml") for term in (small, large)]
    found = mlm.compare(*fits)
    assert f"LL({df})" in found.sentence
    assert fits[1].fit.criterion < fits[0].fit.criterion + 1e-6


def test_what_is_not_nested_is_not_tested(data):
    one, two = (
        mlm.fit(f"y ~ t + {term}", data, method="ml")
        for term in ("arma11(0 + t | g)", "arh1(0 + t | g)")
    )
    assert "LL(" not in mlm.compare(one, two).sentence


def test_the_term_is_tested_as_a_whole(ar1):
    row = ar1.random_tests().iloc[0]
    assert row["df"] == 2
    assert row["term"] == "ar1(t)"
    assert row["p_value"] < 1e-8


def test_kenward_roger_and_satterthwaite_are_close(data):
    m = mlm.fit("y ~ t + ar1(0 + t | g)", data)
    one, two = (m.coefficients(df=how) for how in ("satterthwaite", "kenward-roger"))
    assert np.allclose(one["std_error"], two["std_error"], rtol=0.02)
    assert np.allclose(one["df"], two["df"], rtol=0.15)


def test_drawn_data_have_the_structure(data):
    m = mlm.fit("y ~ t + toep(0 + t | g)", data)
    drawn = m.simulate(200, seed=1)
    rows = np.flatnonzero(data["g"] == 3)
    V = np.cov(np.asarray(drawn)[rows])
    assert np.allclose(V, m.cluster_covariance("g", 3)[0], atol=0.6)
    boot = m.bootstrap(10, seed=2)
    assert set(boot["status"]) <= {"ok", "singular"}
    assert boot["cor(t: rho(1) | g)"].between(-1, 1).all()


def test_generalized_fits_answer_alike(data):
    m = mlm.fit("seen ~ t + ar1(0 + t | g)", data, family="poisson", n_quad=1)
    assert m.structure_parameters()["parameter"].tolist() == ["rho"]
    wald = m.confint(components=["sd", "correlation"])
    profile = m.confint("profile", components=["sd", "correlation"])
    assert np.allclose(wald["conf_low"], profile["conf_low"], atol=0.12)
    assert "Structure of the random effects" in m.summary()
    assert m.random_tests()["df"].tolist() == [2]
    assert m.predict(data).shape[0] == len(data["y"])
    names = list(m.vcov.columns)
    assert names[-2:] == ["ar1 t: sd | g", "ar1 t: x1 | g"]


def test_traces_by_level_equal_aggregated_ones():
    rng = np.random.default_rng(5)
    r, q, J, p = 3, 4, 7, 2
    D, G = rng.normal(size=(r, q, q)), rng.normal(size=(J, q, q))
    D, G = D + D.transpose(0, 2, 1), G @ G.transpose(0, 2, 1)
    g, Y = rng.normal(size=(J, q)), rng.normal(size=(J, q, p))
    flat, flat_D = G.reshape(J, -1), D.reshape(r, -1)
    gg = (g[:, :, None] * g[:, None, :]).reshape(J, -1)
    pairs = (flat, gg, _outer_by_level(Y).reshape(J, -1))
    wanted = [_traces(flat_D, (one.T @ flat).reshape(q, q, q, q)) for one in pairs]
    for one, two in zip(wide_traces(D, G, g, Y), wanted, strict=True):
        assert np.allclose(one, two)


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("y ~ 1 + car1(0 + visit | g)", "categories"),
        ("y ~ 1 + ar1(0 + u | g)", "no common step"),
        ("y ~ 1 + fa(0 + visit | g, rank=3)", "rank=2"),
        ("y ~ 1 + rr(0 + visit | g, rank=6)", "rank=5"),
        ("y ~ 1 + (1 | g) + toep(0 + t | g)", "leave out"),
        ("y ~ 1 + csh(0 + u | g)", "at least two"),
    ],
)
def test_designs_that_cannot_be_fitted_are_refused(data, formula, told):
    with pytest.raises(DesignError, match=told):
        mlm.fit(formula, data)


def test_structures_that_repeat_the_residual_are_refused(data):
    once = {name: values[::2] for name, values in data.items()}
    for structure in ("toep(0 + t | g)", "fa(0 + visit | g)", "arma11(0 + t | g)"):
        with pytest.raises(DesignError, match="told apart"):
            mlm.fit(f"y ~ 1 + {structure}", once)
    with pytest.raises(DesignError, match="same"):
        mlm.fit("y ~ 1 + ar1(0 + t | g)", once, residual="ar1(t | g)")
    m = mlm.fit("y ~ 1 + ar1(0 + t | g)", once)
    assert m.certificate.is_certified
    assert mlm.fit("seen ~ 1 + toep(0 + t | g)", once, family="poisson").n == len(once["y"])


def test_what_has_no_profile_or_penalty_says_so(data):
    m = mlm.fit("y ~ 1 + fa(0 + visit | g)", data)
    with pytest.raises(InferenceError, match="wald"):
        m.confint("profile", components=["loading"])
    with pytest.raises(EstimationError, match="variances"):
        mlm.fit("seen ~ 1 + ar1(0 + t | g)", data, family="poisson", penalty="variances")
