"""Intervals of variances against lme4's profiles, dense brute force and definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.infer.variance_intervals import Quantity, quantities
from tests.reference.lme4_fits import table

#: R 4.2.2, lme4 1.1.31: ``confint(profile(lmer(..., REML = FALSE), signames = FALSE))``; HSB's cses
#: rows with ``delta = 0.1`` (the default grid moves that limit by .001). Rows are our order.
LME4 = {
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"): [
        (237.680695469, 265.129514692),
        (7.358653295, 13.575918741),
        (14.381434354, 37.716012146),
        (3.801164738, 8.753366735),
        (-0.481500444, 0.684986206),
        (22.898266215, 28.857997323),
    ],
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)"): [
        (237.57214800, 265.23806177),
        (7.33406683, 13.60050511),
        (15.25864617, 37.78646394),
        (3.96407437, 8.76916043),
        (22.88055468, 28.78759756),
    ],
    ("Hsb82", "mAch ~ cses + meanses + (cses | school)"): [
        (12.388024714, 12.973019453),
        (1.939732744, 2.443111945),
        (5.189332515, 6.604540553),
        (1.404646184, 1.885602759),
        (0.450872317, 1.143720229),
        (-0.561841696, 0.153642599),
        (5.959285152, 6.161822874),
    ],
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"): [
        (21.266627383, 24.677817637),
        (0.633565966, 1.182103975),
        (1.095789465, 3.556291864),
        (0.485845400, 0.629453479),
    ],
    ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"): [
        (4.31210022, 7.01909235),
        (0.0, 2.08404349),
        (2.89283102, 4.81583255),
    ],
}


def fit(name: str, formula: str, method: str = "ml"):
    return mlm.fit(formula, table(name), method=method, advice=False)


@pytest.mark.parametrize(("name", "formula"), list(LME4))
def test_profiles_are_those_of_lme4(name, formula):
    """Tolerance: lme4 interpolates between points, 1e-4 of the interval's width (Dyestuff2's
    mean, next to a boundary: 1e-3)."""
    found = fit(name, formula).confint("profile")
    expected = np.array(LME4[name, formula])
    ours = found[["conf_low", "conf_high"]].to_numpy()
    width = np.diff(expected, axis=1)
    limit = np.where(np.arange(len(expected)) == 0, 1e-3, 4e-4)[:, None] * width
    assert np.all(np.abs(ours - expected) < limit), found


def dense_criterion(m, G, sigma2) -> float:
    """REML or ML criterion at absolute covariances, with V formed and inverted."""
    d, X = m.design, m.design.X
    V = sigma2 * np.eye(d.n)
    for block, g in zip(d.blocks, G, strict=True):
        V += (block.columns @ g @ block.columns.T) * (block.codes[:, None] == block.codes[None, :])
    Vi = np.linalg.inv(V)
    XVX = X.T @ Vi @ X
    e = d.y - X @ np.linalg.solve(XVX, X.T @ Vi @ d.y)
    p = X.shape[1] if m.method == "reml" else 0
    out = np.linalg.slogdet(V)[1] + e @ Vi @ e + (d.n - p) * np.log(2 * np.pi)
    return float(out + (np.linalg.slogdet(XVX)[1] if p else 0.0))


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_wald_errors_are_the_inverse_of_the_dense_hessian(method):
    """Second differences of the dense criterion in (variances, covariance, residual variance)."""
    m = fit("sleepstudy", "Reaction ~ Days + (Days | Subject)", method)
    (G,) = m.fit.random_covariance
    at = np.array([G[0, 0], G[1, 1], G[1, 0], m.residual_variance])

    def criterion(v):
        return dense_criterion(m, [np.array([[v[0], v[2]], [v[2], v[1]]])], v[3])

    assert criterion(at) == pytest.approx(m.fit.criterion, abs=1e-7)
    h, H = 2e-3 * np.abs(at), np.empty((4, 4))
    for a in range(4):
        for b in range(4):
            ea, eb = np.eye(4)[a] * h, np.eye(4)[b] * h
            H[a, b] = criterion(at + ea + eb) - criterion(at + ea - eb)
            H[a, b] += criterion(at - ea - eb) - criterion(at - ea + eb)
            H[a, b] /= 4 * h[a] * h[b]
    error = np.sqrt(np.diag(2 * np.linalg.inv(H)))
    found = m.confint(components=["variance", "covariance"])
    assert found["component"].tolist() == ["variance", "variance", "covariance", "variance"]
    assert found["std_error"].to_numpy() == pytest.approx(error, rel=2e-4)
    sd = m.confint(components=["sd"])
    assert sd["std_error"].to_numpy() == pytest.approx(
        error[[0, 1, 3]] / (2 * np.sqrt(at[[0, 1, 3]])), rel=2e-4
    )
    z = 1.959963984540054
    low, high = sd["conf_low"].to_numpy(), sd["conf_high"].to_numpy()
    assert np.sqrt(low * high) == pytest.approx(sd["estimate"].to_numpy())
    assert np.log(high / low) / 2 / z == pytest.approx(
        (sd["std_error"] / sd["estimate"]).to_numpy()
    )
    cor = m.confint(components=["correlation"]).iloc[0]
    middle = np.arctanh([cor.conf_low, cor.conf_high]).mean()
    assert middle == pytest.approx(np.arctanh(cor.estimate))


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | h)"])
def test_reml_limits_rise_by_the_quantile(formula):
    """At each limit the dense criterion, minimised over the rest by search, has risen by 3.84."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(4)
    g, h, x = np.repeat(np.arange(12), 6), np.tile(np.arange(6), 12), rng.standard_normal(72)
    y = x + 1.5 * rng.standard_normal(12)[g] + rng.standard_normal(12)[g] * x
    y += rng.standard_normal(6)[h] + rng.standard_normal(72)
    m = mlm.fit(formula, {"y": y, "x": x, "g": g, "h": h}, advice=False)
    found = m.confint("profile", components=["sd"], conf_level=0.9)
    slopes = "x |" in formula

    def G_of(v):
        if slopes:
            c = v[0] * v[1] * np.tanh(v[2])
            return [np.array([[v[0] ** 2, c], [c, v[1] ** 2]])]
        return [np.array([[v[0] ** 2]]), np.array([[v[1] ** 2]])]

    start = [*found["estimate"][:2], *([0.1] if slopes else []), found["estimate"].iloc[-1]]
    for row, column in ((0, "conf_low"), (0, "conf_high"), (2, "conf_high")):
        held = row if row < 2 else len(start) - 1
        value = found[column][row]

        def rest(free, held=held, value=value):
            v = np.insert(free, held, value)
            return dense_criterion(m, G_of(v), v[-1] ** 2)

        best = minimize(rest, np.delete(start, held), method="Nelder-Mead",
                        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000})  # fmt: skip
        assert best.fun - m.reml_criterion == pytest.approx(chi2.ppf(0.9, 1), abs=1e-3)


def test_variances_are_squares_and_units_follow_the_data():
    data = table("sleepstudy")
    m = fit("sleepstudy", "Reaction ~ Days + (Days | Subject)")
    sd = m.confint("profile", components=["sd"])
    variance = m.confint("profile", components=["variance"])
    limits = ["conf_low", "conf_high"]
    assert variance[limits].to_numpy() == pytest.approx(sd[limits].to_numpy() ** 2, rel=1e-5)
    data = data.assign(weeks=data["Days"] / 7, y=data["Reaction"] / 1000)
    other = mlm.fit("y ~ weeks + (weeks | Subject)", data, method="ml", advice=False)
    for method in ("wald", "profile"):
        a = m.confint(method, components=["sd", "correlation"])[limits].to_numpy()
        b = other.confint(method, components=["sd", "correlation"])[limits].to_numpy()
        scale = np.array([1e3, 1e3 / 7, 1.0, 1e3])[:, None]
        assert b * scale == pytest.approx(a, rel=2e-5)


def test_boundary_is_one_sided_and_says_so():
    m = fit("Dyestuff2", "Yield ~ 1 + (1 | Batch)", "reml")
    wald = m.confint("wald", components=["sd"])
    assert np.isnan(wald["std_error"][0])
    assert wald["conf_low"][0] == 0.0
    assert np.isnan(wald["conf_high"][0])
    assert 'method="profile"' in wald.attrs["sentence"]
    profile = m.confint("profile", components=["sd"])
    assert profile["conf_low"][0] == 0.0
    assert profile["conf_high"][0] > 1.0
    assert "one-sided" in profile.attrs["sentence"]


def test_single_level_residual_has_the_profile_of_a_chi_square():
    """REML without random effects: nu (log(s2/s2_hat) + s2_hat/s2 - 1) = 3.84 at both limits."""
    m = fit("sleepstudy", "Reaction ~ Days", "reml")
    row = m.confint("profile", components=["sd"]).iloc[0]
    nu = m.n - 2
    for limit in (row.conf_low, row.conf_high):
        ratio = (row.estimate / limit) ** 2
        assert nu * (ratio - 1 - np.log(ratio)) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)


def test_fixed_effects_follow_the_degrees_of_freedom():
    m = fit("sleepstudy", "Reaction ~ Days + (Days | Subject)", "reml")
    for df in (None, "none", "kenward-roger"):
        found = m.confint(components=["fixed"], df=df)
        table_ = m.coefficients(df=df)
        for column in ("estimate", "std_error", "conf_low", "conf_high"):
            assert found[column].to_numpy() == pytest.approx(table_[column].to_numpy())
    assert "fixed" not in m.confint("profile")["component"].tolist()


def test_what_does_not_exist_is_refused():
    m = fit("sleepstudy", "Reaction ~ Days + (Days | Subject)", "reml")
    cs = fit("sleepstudy", "Reaction ~ Days + cs(1 + Days | Subject)", "reml")
    for match, call in {
        "need an ML fit": lambda: m.confint("profile", components=["fixed"]),
        "n_boot cannot be used": lambda: m.confint("wald", n_boot=100),
        "df cannot be used": lambda: m.confint("profile", df="none"),
        "df is for": lambda: m.confint("wald", components=["sd"], df="none"),
        "components must be among": lambda: m.confint(components=["slopes"]),
        "method must be": lambda: m.confint("exact"),
        "confidence level": lambda: m.confint(conf_level=95),
        "Profile intervals are for standard": lambda: m.confint(
            "profile", components=["covariance"]
        ),
        "unstructured, diagonal and identity": lambda: cs.confint("profile", components=["sd"]),
    }.items():
        with pytest.raises(InferenceError, match=match):
            call()


def test_order_of_quantities():
    m = fit("sleepstudy", "Reaction ~ Days + (Days || Subject)")
    found = quantities(m.design, ("sd", "correlation"))
    assert found[0] == Quantity("(Intercept)", "Subject", "sd", 0, 0, 0)
    assert [q.component for q in found] == ["sd", "sd", "sd"]  # no correlation is free
