"""``between(x, g, latent=True)``: equal to the structural model, unbiased, and what it answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import FormulaError, ModelError

CENTRED = "y ~ within(x, g) + between(x, g, latent=True) + (1 | g)"


def _data(seed: int, n_clusters: int = 300, size: int = 5, slope_sd: float = 0.0) -> pd.DataFrame:
    """Within slope 0.2, between slope 0.8; intraclass correlation of x 0.2 (Ludtke et al. 2008)."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_clusters), size)
    mu, w = np.sqrt(0.2) * rng.normal(size=n_clusters), rng.normal(size=n_clusters)
    mu = mu + 0.1 * w
    deviation = np.sqrt(0.8) * rng.normal(size=len(g))
    z = 0.5 * deviation + rng.normal(size=len(g)) + 0.3 * w[g]
    slope = 0.2 + slope_sd * rng.normal(size=n_clusters)
    y = 1.0 + slope[g] * (mu[g] + deviation) + 0.6 * mu[g] + 0.3 * w[g] - 0.4 * z
    y = y + 0.3 * rng.normal(size=n_clusters)[g] + 0.8 * rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": mu[g] + deviation, "w": w[g], "z": z, "y": y})


def test_it_is_the_structural_model():
    data = _data(1)
    data.loc[::40, "y"] += 2.0
    found = mlm.fit(CENTRED.replace("(1", "w + (1"), data)
    text = "level: 1\ny ~ a*x\nlevel: 2\ny ~ b*x + c*w\ny ~ i*1\nd := b - a"
    model = mlm.sem(text, data, cluster="g")
    table = model.parameters().query("label != ''").set_index("label")
    assert found.minus2_loglik == pytest.approx(model.minus2_loglik, abs=1e-8)
    names = ["(Intercept)", "within(x, g)", "between(x, g, latent=True)", "w"]
    for column in ("estimate", "std_error", "p_value", "conf_low"):
        ours = found.coefficients().set_index("term").loc[names, column]
        theirs = table.loc[["i", "a", "b", "c"], column]
        assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-8)
    effects = found.within_between().set_index("component")
    contextual = model.defined().iloc[0]
    assert effects.loc["contextual", "estimate"] == pytest.approx(contextual["estimate"], rel=1e-8)
    assert effects.loc["contextual", "std_error"] == pytest.approx(contextual["std_error"],
                                                                   rel=1e-8)  # fmt: skip
    errors = np.sqrt(np.diag(found.vcov_fixed))
    assert errors == pytest.approx(found.coefficients()["std_error"].to_numpy())


def test_as_observed_and_centred_are_one_model():
    data = _data(2)
    centred = mlm.fit(CENTRED.replace("(1", "w + z + (1"), data)
    raw = mlm.fit("y ~ x + between(x, g, latent=True) + w + z + (1 | g)", data)
    assert raw.minus2_loglik == pytest.approx(centred.minus2_loglik, abs=1e-9)
    one, two = centred.within_between(), raw.within_between()
    assert np.allclose(one["estimate"], two["estimate"])
    assert raw.fixed_effects["between(x, g, latent=True)"] == pytest.approx(one["estimate"][2])
    assert centred.fixed_effects["between(x, g, latent=True)"] == pytest.approx(one["estimate"][1])
    assert np.allclose(centred.predict(), raw.predict())
    assert np.allclose(centred.predict("population"), raw.predict("population"))


def test_random_slope_of_the_observed_predictor():
    data = _data(3, slope_sd=0.3)
    found = mlm.fit("y ~ x + between(x, g, latent=True) + (x | g)", data)
    text = "level: 1\ns | y ~ x\nlevel: 2\ny ~ c*x\ny ~ i*1\ns ~ a*1\ns ~~ 0*x"
    model = mlm.sem(text, data, cluster="g")
    assert found.minus2_loglik == pytest.approx(model.minus2_loglik, abs=1e-8)
    labels = model.parameters().query("label != ''").set_index("label")["estimate"]
    fixed = found.fixed_effects
    assert fixed["x"] == pytest.approx(labels["a"], rel=1e-8)
    assert fixed["between(x, g, latent=True)"] == pytest.approx(labels["c"], rel=1e-8)
    assert set(found.random_effects()["term"]) == {"(Intercept)", "x"}
    scores = model.factor_scores("between").query("variable == 's'")["estimate"].to_numpy()
    own = found.random_effects().query("term == 'x'")["estimate"].to_numpy()
    assert np.allclose(own + fixed["x"], scores)
    parts = found.variance_components()
    assert len(parts) == 6


def test_the_contextual_effect_is_recovered_and_the_observed_one_attenuated():
    truth, latent, observed, covered = 0.6, [], [], 0
    reliability = 0.21 / (0.21 + 0.8 / 5)
    for seed in range(100, 160):
        found = mlm.fit(CENTRED.replace("(1", "w + z + (1"), _data(seed, n_clusters=200))
        row = found.within_between().iloc[2]
        latent.append(row["estimate"])
        observed.append(row["observed_mean"])
        covered += row["conf_low"] <= truth <= row["conf_high"]
    error = np.std(latent) / np.sqrt(len(latent))
    assert np.mean(latent) == pytest.approx(truth, abs=3.0 * error + 0.01)
    # with w in the model the reliability of what is left of the mean is that given w
    given = 0.20 / (0.20 + 0.8 / 5)
    assert given < reliability
    assert np.mean(observed) == pytest.approx(given * truth, abs=0.04)
    assert covered >= 52
    found = mlm.fit(CENTRED, _data(100))
    assert "too near to zero" in " ".join(repr(found).split())


def test_reliability_random_effects_and_predictions():
    data = _data(4).drop(index=range(3))
    found = mlm.fit(CENTRED.replace("(1", "w + (1"), data)
    parts = found.variance_components().set_index(["group", "component"])["estimate"]
    tau2, sigma2 = parts["g", "latent mean of x"], parts["residual", "x around its latent mean"]
    table = found.reliability().set_index("cluster_size")
    assert table.index.tolist() == [2, 5]
    assert table.loc[5, "reliability"] == pytest.approx(tau2 / (tau2 + sigma2 / 5))
    fixed = found.fixed_effects
    means = found.latent_means().set_index("cluster")["estimate"]
    effects = found.random_effects().set_index("level")["estimate"]
    mean = means.loc[data["g"]].to_numpy()
    expected = (
        fixed["(Intercept)"]
        + fixed["within(x, g)"] * (data["x"] - mean)
        + fixed["between(x, g, latent=True)"] * mean
        + fixed["w"] * data["w"]
    )
    assert np.allclose(found.predict("population"), expected)
    assert np.allclose(found.predict(), expected + effects.loc[data["g"]].to_numpy())
    assert found.n == len(data)
    assert found.groups == {"g": 300}
    assert found.is_singular is False


def test_categories_and_missing_rows_go_along():
    data = _data(5)
    data["kind"] = np.where(np.arange(len(data)) % 3 == 0, "a", "b")
    data.loc[:9, "y"] = np.nan
    found = mlm.fit(CENTRED.replace("(1", "kind + (1"), data)
    assert found.n == len(data) - 10
    assert found.predict().index[0] == 10
    name = next(n for n in found.fixed_effects.index if n.startswith("kind"))
    plain = mlm.fit("y ~ within(x, g) + between(x, g) + kind + (1 | g)", data, method="ml")
    assert found.fixed_effects[name] == pytest.approx(plain.fixed_effects[name], abs=0.02)
    assert "kind" in found.equations


def test_no_variance_between_clusters_ends_at_the_boundary():
    rng = np.random.default_rng(3)
    data = _data(6, n_clusters=60)
    data["y"] = 0.5 * data["x"] + rng.normal(size=len(data))
    data["y"] -= 0.9 * (data["y"] - 0.5 * data["x"]).groupby(data["g"]).transform("mean")
    found = mlm.fit(CENTRED, data)
    assert found.is_singular
    assert found.variance_components()["estimate"].iloc[0] == 0.0
    assert "AT THE BOUNDARY" in repr(found)


def test_a_random_slope_that_does_not_vary_ends_at_the_boundary():
    found = mlm.fit("y ~ x + z + w + between(x, g, latent=True) + (x | g)", _data(2, 60))
    assert found.is_singular
    assert not found.model.inadmissible
    assert found.certificate.is_certified


def test_other_verbs_refuse_in_words(tmp_path):
    found = mlm.fit(CENTRED, _data(7))
    for verb in ("icc", "r2", "simulate", "bootstrap", "profile", "residuals"):
        if hasattr(mlm.MultilevelFit, verb):
            with pytest.raises(ModelError, match=r"fit\.observed"):
                getattr(found, verb)
    with pytest.raises(AttributeError):
        _ = found.no_such_verb
    page = found.report(tmp_path / "fit.md", pictures=False).read_text("utf-8")
    assert "Latent or observed mean" in page
    with pytest.raises(ModelError, match="kind is one of"):
        found.predict("marginal")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ between(x, g, latent=True) + (1 | g)", "stands the predictor itself"),
        ("y ~ x + within(x, g) + between(x, g, latent=True) + (1 | g)", "predictor itself"),
        ("y ~ within(x, g) + between(x, g, latent=True) + (within(x, g) | g)", "no closed"),
        ("y ~ x + between(x, g, latent=True) + (x || g)", "correlated random slope"),
        ("y ~ x + between(x, g, latent=True) + (z | g)", "random intercept of g"),
        ("y ~ x * w + between(x, g, latent=True) + (1 | g)", "no interactions"),
        ("y ~ 0 + x + between(x, g, latent=True) + (1 | g)", "intercept"),
    ],
)
def test_models_that_it_is_not(formula, message):
    with pytest.raises(ModelError, match=message):
        mlm.fit(formula, _data(8))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x + between(log(x), g, latent=True) + (1 | g)", "names of two columns"),
        ("y ~ within(x, g, latent=True) + (1 | g)", "names of two columns"),
        ("y ~ x + between(x, g, latent=False) + (1 | g)", "leave latent= out"),
        ("y ~ x + between(x, g, latent=True) + between(z, g, latent=True) + (1 | g)", "any number"),
    ],
)
def test_calls_that_are_not_understood(formula, message):
    with pytest.raises(FormulaError, match=message):
        mlm.fit(formula, _data(8))


@pytest.mark.parametrize(
    "options",
    [{"method": "reml"}, {"family": "binomial"}, {"weights": "w"}, {"residual": "ar1(z | g)"},
     {"scale": "~ w"}],
)  # fmt: skip
def test_options_that_do_not_go_with_it(options):
    with pytest.raises(ModelError, match=next(iter(options))):
        mlm.fit(CENTRED, _data(8), **options)
