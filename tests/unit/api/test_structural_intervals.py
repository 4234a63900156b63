"""Intervals of defined parameters, pictures and reports of structural models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import multilevel as mlm
from multilevel.errors import InferenceError, ModelError

TEXT = """
level: within
  m ~ a*x
  y ~ b*m + x
level: between
  m ~~ y
  ab := a * b
  same := a
"""


@pytest.fixture(scope="module")
def clusters():
    """40 clusters of 6; a small a, so that the likelihood of the product is skew."""
    rng = np.random.default_rng(21)
    g = np.repeat(np.arange(40), 6)
    x = rng.normal(size=240) + rng.normal(size=40)[g]
    m = 0.25 * x + 0.5 * rng.normal(size=40)[g] + rng.normal(size=240)
    y = 0.4 * m + 0.2 * x + 0.5 * rng.normal(size=40)[g] + rng.normal(size=240)
    return pd.DataFrame({"g": g, "x": x, "m": m, "y": y})


@pytest.fixture(scope="module")
def result(clusters):
    return mlm.sem(TEXT, clusters, cluster="g")


def test_profile_limits_are_where_the_criterion_has_risen(clusters, result):
    profile = result.defined(interval="profile").set_index("term")
    assert "profile-likelihood" in profile.attrs["sentence"]
    top = result.minus2_loglik + 3.841458820694124

    def at(a, b):
        fixed = TEXT.replace("a*x", f"{a:.15g}*x").replace("b*m", f"{b:.15g}*m")
        text = "\n".join(line for line in fixed.splitlines() if ":=" not in line)
        return mlm.sem(text, clusters, cluster="g").minus2_loglik

    def a_alone(a):
        text = TEXT.replace("a*x", f"{a:.15g}*x")
        text = "\n".join(line for line in text.splitlines() if ":=" not in line)
        return mlm.sem(text, clusters, cluster="g").minus2_loglik

    for end in ("conf_low", "conf_high"):
        assert a_alone(profile.loc["same", end]) == pytest.approx(top, abs=1e-6)
        limit = profile.loc["ab", end]
        best = minimize_scalar(
            lambda a, v=limit: at(a, v / a), bounds=(0.02, 0.8), method="bounded"
        )
        assert best.fun == pytest.approx(top, abs=1e-4)
    delta = result.defined().set_index("term")
    # the product is skew to the right
    assert profile.loc["ab", "conf_low"] > delta.loc["ab", "conf_low"]
    assert profile.loc["ab", "conf_high"] > delta.loc["ab", "conf_high"]


def test_profile_of_a_symmetric_likelihood_is_the_wald_interval(clusters):
    # one regression, rows: -2 log-likelihood of the slope is n log(1 + t^2 / n)
    one = mlm.sem("y ~ b*m\nsame := b", clusters)
    found = one.defined(interval="profile").iloc[0]
    wald = one.defined().iloc[0]
    n = len(clusters)
    stretch = np.sqrt(n * np.expm1(3.841458820694124 / n) / 3.841458820694124)
    half = stretch * (wald["conf_high"] - wald["estimate"])
    assert found["conf_high"] - found["estimate"] == pytest.approx(half, rel=1e-6)
    assert found["estimate"] - found["conf_low"] == pytest.approx(half, rel=1e-6)


def test_bootstrap_draws_whole_clusters(result):
    found = result.defined(interval="bootstrap", n_draws=100, seed=4)
    again = result.defined(interval="bootstrap", n_draws=100, seed=4)
    assert found["conf_low"].tolist() == again["conf_low"].tolist()
    assert "100 bootstrap samples of 40 clusters" in found.attrs["sentence"]
    robust = result.defined(std_errors="robust")
    width = found["conf_high"] - found["conf_low"]
    expected = robust["conf_high"] - robust["conf_low"]
    # ends of 100 draws are known to about a seventh of the width
    assert (width / expected).to_numpy() == pytest.approx(np.ones(2), abs=0.35)


def test_bootstrap_refits_are_the_fits_of_the_resampled_tables(clusters, result):
    from multilevel.estimate.structural_resample import resample_clusters

    found = resample_clusters(result.problem, result.fit.theta, 2, np.random.default_rng(9))
    assert found.n_failed == 0
    rng = np.random.default_rng(9)
    for k in range(2):
        parts = [
            clusters[clusters["g"] == j].assign(g=new)
            for new, j in enumerate(rng.integers(0, 40, 40))
        ]
        refit = mlm.sem(TEXT, pd.concat(parts), cluster="g")
        assert found.theta[k] == pytest.approx(refit.fit.theta, rel=1e-4, abs=1e-5)


def test_intervals_that_make_no_sense(clusters, result):
    with pytest.raises(ModelError, match="interval is one of"):
        result.defined(interval="guess")
    with pytest.raises(InferenceError, match="at least 50 draws"):
        result.defined(interval="bootstrap", n_draws=0)
    with pytest.raises(InferenceError, match="conf_level"):
        result.defined(interval="profile", conf_level=1.2)
    single = mlm.sem("y ~ b*m\nsame := b", clusters)
    with pytest.raises(InferenceError, match="draws clusters"):
        single.defined(interval="bootstrap")


@pytest.mark.parametrize("interval", ["profile", "bootstrap"])
def test_mediation_takes_the_interval(clusters, interval):
    own = {"x": "x", "m": "m", "y": "y", "data": clusters, "cluster": "g", "n_draws": 50}
    found = mlm.mediate(**own, interval=interval)
    words = {"profile": "profile-likelihood", "bootstrap": "50 bootstrap samples"}[interval]
    assert words in found.effects().attrs["sentence"]
    expected = found.model.defined(interval=interval, n_draws=50, seed=1)
    np.testing.assert_array_equal(found.effects()["conf_low"], expected["conf_low"])
    assert np.isfinite(expected["conf_low"].iloc[0])


def test_pictures(result):
    paths = result.plot("paths")
    layers = [layer._data for layer in paths.layers if isinstance(layer._data, pd.DataFrame)]
    texts = {t for frame in layers if "text" in frame for t in frame["text"]}
    table = result.parameters().set_index("label")
    a = table.loc["a"]
    assert any(t.startswith(f"{a['estimate']:.2f}") for t in texts)
    paths.draw()
    result.plot("indirect", terms=["ab"]).draw()
    with pytest.raises(InferenceError, match="names of defined parameters"):
        result.plot("indirect", terms=["x"])
    with pytest.raises(InferenceError, match="A picture must be one of"):
        result.plot("nothing")
    with pytest.raises(InferenceError, match="takes the options"):
        result.plot("paths", terms=["ab"])
    with pytest.raises(InferenceError, match="A group is one of"):
        result.plot("paths", group="b")


def test_reports(clusters, result, tmp_path):
    text = result.report(tmp_path / "model.md", pictures=False).read_text(encoding="utf-8")
    assert "The model as written" in text
    assert "Defined parameters" in text
    found = mlm.mediate(x="x", m="m", y="y", data=clusters, cluster="g", n_draws=500)
    page = found.report(tmp_path / "answer.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2
    assert found.sentences[0][:40] in page
    assert found.report(tmp_path / "answer.docx").stat().st_size > 20_000
