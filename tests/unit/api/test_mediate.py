"""Mediation: designs read off the data, effects, intervals, words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, InferenceError, ModelError


@pytest.fixture(scope="module")
def clusters():
    """120 clusters of 8: within a = .5, b = .4; between a = .8, b = .7."""
    rng = np.random.default_rng(2)
    J, n = 120, 8
    g = np.repeat(np.arange(J), n)
    w = rng.normal(size=J)
    ux, ex = 0.8 * w + 0.6 * rng.normal(size=J), rng.normal(size=J * n)
    um = 0.8 * ux + 0.5 * rng.normal(size=J)
    em = 0.5 * ex + rng.normal(size=J * n)
    y = 0.7 * um[g] + 0.4 * em + 0.2 * ex + 0.5 * rng.normal(size=J)[g] + rng.normal(size=J * n)
    data = pd.DataFrame({"g": g, "x": ux[g] + ex, "m": um[g] + em, "y": y, "w": w[g]})
    data["um"] = um[g]
    data["uy"] = (0.7 * um + 0.5 * rng.normal(size=J))[g]
    data["xc"] = data["x"] - data.groupby("g")["x"].transform("mean")
    return data


@pytest.mark.parametrize(
    ("x", "m", "y", "design", "levels"),
    [
        ("x", "m", "y", "1-1-1", ["within", "between"]),
        ("w", "m", "y", "2-1-1", ["between"]),
        ("w", "um", "y", "2-2-1", ["between"]),
        ("x", "m", "uy", "1-1-2", ["between"]),
        ("x", "um", "y", "1-2-1", ["between"]),
        ("w", "m", "uy", "2-1-2", ["between"]),
        ("xc", "m", "y", "1-1-1", ["within"]),
    ],
)
def test_designs_are_recognised(clusters, x, m, y, design, levels):
    found = mlm.mediate(x=x, m=m, y=y, data=clusters, cluster="g", n_draws=500)
    assert found.design == design
    effects = found.effects()
    indirect = effects[(effects["effect"] == "indirect") & (effects["level"] != "contextual")]
    assert indirect["level"].tolist() == levels
    assert found.model.certificate.is_certified
    table = found.model.parameters().set_index("label")["estimate"]
    for level in levels:
        mine = effects[effects["level"] == level].set_index("effect")["estimate"]
        a, b, c = (table[f"{path}_{level}"] for path in "abc")
        assert mine["indirect"] == pytest.approx(a * b, rel=1e-12)
        assert mine["total"] == pytest.approx(a * b + c, rel=1e-12)
    text = str(found)
    for level in levels:
        assert f"{level.capitalize()} g, the effect of {x} on {y}" in text
    assert ("No indirect effect exists between g" in text) == (levels == ["within"])


def test_known_effects_are_inside_their_intervals(clusters):
    effects = mlm.mediate(x="x", m="m", y="y", data=clusters, cluster="g").effects()
    by = effects.set_index(["effect", "level"])
    for level, truth in (("within", 0.5 * 0.4), ("between", 0.8 * 0.7)):
        row = by.loc[("indirect", level)]
        assert row["conf_low"] < truth < row["conf_high"]
        assert row["delta_low"] == pytest.approx(row["conf_low"], abs=0.03)
        assert row["std_error"] > 0.0


def test_delta_error_of_a_product(clusters):
    found = mlm.mediate(x="x", m="m", y="y", data=clusters, cluster="g")
    V = found.model.vcov()
    est = found.model.parameters().set_index("label")["estimate"]
    a, b = est["a_within"], est["b_within"]
    paths = ["a_within", "b_within"]
    variance = np.array([b, a]) @ V.loc[paths, paths].to_numpy() @ np.array([b, a])
    row = found.effects().set_index(["effect", "level"]).loc[("indirect", "within")]
    assert row["std_error"] == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_monte_carlo_interval_of_one_parameter_is_normal(clusters):
    text = "level: 1\ny ~ a*m\nlevel: 2\ny ~ m\nsame := a"
    result = mlm.sem(text, clusters, cluster="g")
    delta = result.defined()
    draws = result.defined(interval="monte_carlo", n_draws=200_000, seed=3)
    error = delta["std_error"].item()
    for end in ("conf_low", "conf_high"):
        assert draws[end].item() == pytest.approx(delta[end].item(), abs=0.02 * error)
    again = result.defined(interval="monte_carlo", n_draws=200_000, seed=3)
    assert again["conf_low"].item() == draws["conf_low"].item()
    with pytest.raises(InferenceError, match="at least 100"):
        result.defined(interval="monte_carlo", n_draws=5)
    with pytest.raises(ModelError, match="interval is one of"):
        result.defined(interval="likelihood")


def test_definition_that_does_not_exist_at_some_draws(clusters):
    text = "level: 1\ny ~ a*m\nlevel: 2\ny ~ m\nbad := log(a - 0.35)"
    result = mlm.sem(text, clusters, cluster="g")
    with pytest.raises(InferenceError, match=r"bad does not exist at \d+ of 20000 draws"):
        result.defined(interval="monte_carlo", seed=1)


def test_holes_in_predictor_and_mediator(clusters):
    rng = np.random.default_rng(4)
    holed = clusters.copy()
    for name in ("x", "m", "y"):
        holed.loc[rng.random(len(holed)) < 0.15, name] = np.nan
    full = mlm.mediate(x="x", m="m", y="y", data=clusters, cluster="g").effects()
    fiml = mlm.mediate(x="x", m="m", y="y", data=holed, cluster="g")
    assert fiml.model.problem.design.n_rows == len(clusters)
    gap = (fiml.effects()["estimate"] - full["estimate"]).abs()
    assert (gap < 2.0 * fiml.effects()["std_error"]).all()
    assert "Missing values: m" in str(fiml)
    rows = mlm.mediate(x="x", m="m", y="y", data=holed, cluster="g", missing="listwise")
    assert rows.model.problem.design.n_rows == len(holed.dropna())
    ratio = fiml.effects()["std_error"] / rows.effects()["std_error"]
    assert ratio.mean() < 1.0  # more values, more information


def test_names_with_blanks_and_covariates(clusters):
    data = clusters.rename(columns={"x": "my x"}).assign(d=(clusters["xc"] > 0).astype(float))
    found = mlm.mediate(
        x="my x", m="m", y="y", data=data, cluster="g", covariates=["w"], n_draws=500
    )
    table = found.model.parameters()
    assert len(table.query("op == '~' and rhs == 'w' and level == 'between'")) == 2
    assert found.model.fit.model.fixed_exogenous == ("w",)


def test_questions_without_an_answer(clusters):
    with pytest.raises(ModelError, match="a level at which x, m and y all vary"):
        mlm.mediate(x="xc", m="um", y="y", data=clusters, cluster="g")
    with pytest.raises(ModelError, match="varies within clusters"):
        mlm.mediate(x="w", m="um", y="uy", data=clusters, cluster="g")
    with pytest.raises(ModelError, match="different columns"):
        mlm.mediate(x="x", m="m", y="x", data=clusters, cluster="g")
    one = clusters.assign(k=1.0)
    with pytest.raises(DesignError, match="'k' has one value"):
        mlm.mediate(x="k", m="m", y="y", data=one, cluster="g")
