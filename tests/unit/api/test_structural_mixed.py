"""``sem`` and ``mediate`` with families and crossed clusters: door, words and refusals."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from scipy import special

import multilevel as mlm
from multilevel.errors import (
    DesignError,
    EstimationError,
    InferenceError,
    ModelError,
)


@lru_cache(maxsize=1)
def table() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    J, n = 60, 10
    g = np.repeat(np.arange(J), n)
    u = rng.normal(size=(J, 2)) * 0.7
    x = rng.normal(size=J * n)
    x -= (np.bincount(g, x) / n)[g]
    m = 0.5 * x + u[g, 0] + rng.normal(size=J * n)
    eta = -0.2 + 0.6 * (m - u[g, 0]) + 0.5 * u[g, 0] + 0.3 * x + u[g, 1]
    y = (rng.random(J * n) < special.expit(eta)).astype(float)
    mb = (rng.random(J * n) < special.expit(x + u[g, 0])).astype(float)
    yc = 0.7 * mb + 0.2 * x + 0.3 * u[g, 0] + u[g, 1] + rng.normal(size=J * n)
    o = np.digitize(eta + rng.logistic(size=J * n), [-1.0, 1.0]) + 1.0
    return pd.DataFrame({"g": g, "x": x, "m": m, "y": y, "mb": mb, "yc": yc, "o": o})


@lru_cache(maxsize=4)
def mediated(m: str, y: str, family: str) -> mlm.MediationResult:
    families = {family: "binomial"}
    return mlm.mediate(x="x", m=m, y=y, data=table(), cluster="g", families=families)


TEXT = "level: within\n o ~ a*m\n m ~ x\nlevel: between\n o ~ m\n ab := 2*a"


@lru_cache(maxsize=1)
def ordinal():
    return mlm.sem(TEXT, table(), cluster="g", families={"o": ("ordinal", "probit")})


def test_binary_outcome_has_indirect_effects_on_the_logit_scale():
    found = mediated("m", "y", "y")
    effects = found.effects().set_index(["effect", "level"])
    slopes = found.model.parameters().query("level == 'within'").set_index("label")["estimate"]
    product = slopes["a_within"] * slopes["b_within"]
    assert effects.loc[("indirect", "within"), "estimate"] == pytest.approx(product)
    assert any("logit scale" in s for s in found.sentences)
    assert "Adaptive quadrature with 7 points" in found.model.approximation


def test_binary_mediator_changes_its_mean():
    found = mediated("mb", "yc", "mb")
    effects = found.effects().set_index(["effect", "level"])
    assert found.design == "1-1-1"
    slopes = found.model.parameters().query("level == 'within'").set_index("label")["estimate"]
    product = slopes["a_within"] * slopes["b_within"]
    indirect = effects.loc[("indirect", "within"), "estimate"]
    assert 0.1 * product < indirect < 0.25 * product  # a logit moves a probability by 1/4 at most
    x, u = table().x, np.linspace(-2.0, 2.0, 41)
    weights = np.exp(-0.5 * (u / 0.7) ** 2)
    moved = [np.average(np.mean(special.expit(x.to_numpy()[:, None] + d + u), axis=0),
                        weights=weights) for d in (1.0, 0.0)]  # fmt: skip
    truth = 0.7 * (moved[0] - moved[1])
    error = effects.loc[("indirect", "within"), "std_error"]
    assert abs(indirect - truth) < 3.0 * error
    total = effects.loc[("total", "within"), "estimate"]
    direct = effects.loc[("direct", "within"), "estimate"]
    assert total == pytest.approx(indirect + direct)
    assert any("has no unit" in s for s in found.sentences)


def test_the_summary_says_families_scales_and_approximation():
    text = ordinal().summary(width=200)
    assert "o: cumulative (probit link)" in text
    assert "o: 1|2" in text
    assert "probit scale" in text
    assert "points per dimension" in text
    assert "Convergence" in text


def test_thresholds_have_delta_errors():
    found = ordinal().thresholds()
    assert found["term"].tolist() == ["1|2", "2|3"]
    assert np.all(np.diff(found["estimate"]) > 0.0)
    vcov = ordinal().vcov()
    gap = found["estimate"][1] - found["estimate"][0]
    own = vcov.iloc[-2:, -2:].to_numpy()
    J = np.array([1.0, gap])
    assert found["std_error"][1] == pytest.approx(float(np.sqrt(J @ own @ J)))


def test_standardised_on_the_latent_response():
    table_ = ordinal().standardized().query("level == 'within' and op == '~'").set_index("lhs")
    raw = ordinal().parameters().query("level == 'within'").set_index(["lhs", "op", "rhs"])
    a = raw.loc[("o", "~", "m"), "estimate"]
    variance_m = (
        raw.loc[("m", "~", "x"), "estimate"] ** 2 * table().x.var(ddof=0)
        + raw.loc[("m", "~~", "m"), "estimate"]
    )
    expected = a * np.sqrt(variance_m / (a**2 * variance_m + 1.0))
    assert table_.loc["o", "estimate"] == pytest.approx(expected, rel=1e-6)
    r2 = ordinal().r_squared().set_index(["level", "outcome"])["r_squared"]
    assert r2["within", "o"] == pytest.approx(expected**2, rel=1e-6)


def test_robust_errors_are_the_sandwich():
    vcov = ordinal().vcov().to_numpy()
    scores = ordinal().mixed.scores
    expected = vcov @ (scores.T @ scores) @ vcov
    found = ordinal().vcov(std_errors="robust").to_numpy()
    assert found == pytest.approx(expected, rel=1e-8)


def test_verbs_of_exact_models_refuse():
    model = ordinal()
    for call in (
        lambda: model.fit_measures,
        lambda: model.modification_indices(),
        lambda: model.level_two_slopes(),
        lambda: model.defined(interval="profile"),
    ):
        with pytest.raises(InferenceError):
            call()
    with pytest.raises(ModelError, match="parameters"):
        model.slope_tests()
    with pytest.raises(InferenceError, match="observed or robust"):
        model.vcov(std_errors="expected")


def test_paths_are_drawn_for_one_cluster_column():
    assert ordinal().plot("paths").labels.title == "Paths"


def test_monte_carlo_intervals_of_defined_parameters():
    found = ordinal().defined(interval="monte_carlo", seed=1)
    assert found["conf_low"][0] < found["estimate"][0] < found["conf_high"][0]
    assert "Monte Carlo" in found.attrs["sentence"]


REFUSED = {
    "unknown variable": (TEXT, {"q": "binomial"}, ModelError, "names level-1 variables"),
    "nominal": (TEXT, {"o": "nominal"}, ModelError, "one linear predictor"),
    "not 0/1": (TEXT, {"o": "binomial"}, DesignError, "0 or 1"),
    "residual covariance": (
        "level: within\n o ~ x\n m ~ x\n o ~~ m\nlevel: between\n o ~ m",
        {"o": "ordinal"}, ModelError, "do not covary",
    ),
    "loop": (
        "level: within\n y ~ m\n m ~ y\nlevel: between\n y ~ m",
        {"y": "binomial"}, ModelError, "cause themselves",
    ),
    "intercept of ordinal": (
        "level: within\n o ~ x\nlevel: between\n o ~ 1", {"o": "ordinal"}, ModelError, "thresholds",
    ),
    "slope of an ordinal predictor": (
        "level: within\n s | y ~ o\nlevel: between\n s ~ 1\n y ~~ y",
        {"o": "ordinal"}, ModelError, "not a predictor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_estimated_is_refused(name):
    text, families, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        mlm.sem(text, table(), cluster="g", families=families)


def test_missing_predictors_are_refused_with_their_rows():
    data = table().copy()
    data.loc[[3, 7], "m"] = np.nan
    with pytest.raises(EstimationError, match="analysed rows 3, 7"):
        mlm.sem(TEXT, data, cluster="g", families={"o": "ordinal"})


def test_points_beyond_the_boundary_are_refused():
    with pytest.raises(ModelError, match="leave it out"):
        mlm.sem(TEXT, table(), cluster="g", families={"o": "ordinal"}, allow=("inadmissible",))


def test_points_and_families_go_together():
    with pytest.raises(ModelError, match="n_quad"):
        mlm.sem("level: within\n m ~ x\nlevel: between\n m ~~ m", table(), cluster="g", n_quad=7)


@lru_cache(maxsize=1)
def random_slopes():
    rng = np.random.default_rng(3)
    J, n = 80, 15
    g = np.repeat(np.arange(J), n)
    u = rng.normal(size=(J, 2)) * 0.6
    ab = rng.multivariate_normal([0.5, 0.6], [[0.3, 0.1], [0.1, 0.3]], size=J)
    x = rng.normal(size=J * n)
    x -= (np.bincount(g, x) / n)[g]
    m = ab[g, 0] * x + u[g, 0] + rng.normal(size=J * n)
    y = (rng.random(J * n) < special.expit(ab[g, 1] * m + 0.2 * x + u[g, 1])).astype(float)
    data = pd.DataFrame({"g": g, "x": x, "m": m, "y": y})
    return mlm.mediate(x="x", m="m", y="y", data=data, cluster="g", slopes="random",
                       families={"y": "binomial"})  # fmt: skip


def test_slopes_that_do_not_vary_are_refused_where_bounds_cannot_be_kept():
    with pytest.raises(EstimationError, match="make a random slope fixed"):
        mlm.mediate(x="x", m="m", y="y", data=table(), cluster="g", slopes="random",
                    families={"y": "binomial"})  # fmt: skip


def test_random_slopes_add_their_covariance_to_the_indirect_effect():
    found = random_slopes()
    effects = found.effects().set_index(["effect", "level"])["estimate"]
    label = found.model.parameters().query("label != ''").set_index("label")["estimate"]
    expected = label["a_within"] * label["b_within"] + label["tau_ab"]
    assert effects["indirect", "within"] == pytest.approx(expected)
    assert any("logit scale" in s for s in found.sentences)
    assert any("b_random is the slope of y on the observed m" in s for s in found.model.advice)
    within = found.model.standardized().query("level == 'within' and lhs == 'y'")
    assert within["estimate"].isna().all()


def test_random_slopes_need_a_gaussian_mediator():
    with pytest.raises(ModelError, match="the mediator is Gaussian"):
        mlm.mediate(x="x", m="mb", y="yc", data=table(), cluster="g", slopes="random",
                    families={"mb": "binomial"})  # fmt: skip


@pytest.mark.slow
def test_mediation_with_a_binary_outcome_is_recovered_and_covered():
    rng = np.random.default_rng(2026)
    J, n, a, b = 60, 10, 0.5, 0.6
    g = np.repeat(np.arange(J), n)
    estimates, covered = [], 0
    for _ in range(40):
        u = rng.normal(size=(J, 2)) * 0.7
        x = rng.normal(size=J * n)
        x -= (np.bincount(g, x) / n)[g]
        w = a * x + rng.normal(size=J * n)
        eta = b * w + 0.3 * x + (0.5 * u[:, 0] + u[:, 1])[g]
        y = (rng.random(J * n) < special.expit(eta)).astype(float)
        data = pd.DataFrame({"g": g, "x": x, "m": w + u[g, 0], "y": y})
        found = mlm.mediate(x="x", m="m", y="y", data=data, cluster="g",
                            families={"y": "binomial"}, n_draws=2_000)  # fmt: skip
        row = found.effects().query("effect == 'indirect' and level == 'within'").iloc[0]
        estimates.append(row.estimate)
        covered += row.conf_low <= a * b <= row.conf_high
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - a * b) < 3.0 * error
    assert covered >= 34  # 40 times 0.95 is 38; below 34 has a probability of 0.5%
