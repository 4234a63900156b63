"""Random effects whose levels cross the units of the residuals: dense density, differences, nlme
twins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.estimate.structured import prepare_structured
from multilevel.likelihood.residual import arrow_layout, crossed
from multilevel.likelihood.residual.crossed import CrossedObjective
from multilevel.likelihood.residual.objective import StructuredObjective
from multilevel.model.formula.parse import parse_formula
from multilevel.model.residual import parse_residual
from tests.support.residual import repeated_measures
from tests.unit.residual.test_likelihood import (
    STRUCTURES,
    check_value_and_gradient,
    dense_average_information,
    some_point,
)

DATA = Path(__file__).parents[2] / "data"
RANDOM = {
    "items": " + (1 | item)",
    "persons and items": " + (1 | id) + (1 | item)",
    "slopes": " + (x | item) + (1 | site)",
    "inside units": " + (1 | id) + (1 | id:item)",
}
KINDS = ["ar1", "arh1", "car1", "toep banded", "csh", "ar1 by", "diag", "exp"]


def data_of(kind, seed=1):
    data = repeated_measures(seed, continuous=kind in ("car1", "exp", "gau", "sph"))
    item = np.array([f"i{k}" for k in np.random.default_rng(9).integers(0, 5, len(data))])
    return data.assign(item=item)


def problem(structure, random, method, scale=None, weights=None):
    text = None if structure is None else STRUCTURES[structure]
    kind = "" if text is None else text.partition("(")[0]
    model = replace(
        parse_formula("y ~ time + x" + RANDOM[random], method),
        residual=None if text is None else parse_residual(text), scale=scale,
    )  # fmt: skip
    design = build_design(model, data_of(kind), weights=weights)
    return prepare_structured(design, method=method)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", RANDOM)
@pytest.mark.parametrize("structure", KINDS)
def test_dense_density_and_gradient(structure, random, method):
    prepared = problem(structure, random, method)
    prepared = replace(prepared, arrow=None)  # the dense route; leaf by cluster has its own tests
    assert isinstance(prepared.objective(), CrossedObjective)
    text = STRUCTURES[structure]
    by = "arm" if "by=" in text else None
    check_value_and_gradient(prepared, text.partition("(")[0], by, [])


@pytest.mark.parametrize("structure", [None, "ar1", "csh"])
def test_scale_formula_and_weights(structure):
    prepared = problem(structure, "persons and items", "reml", scale="x + w", weights="w")
    kind = "ind" if structure is None else structure
    check_value_and_gradient(prepared, kind, None, ["x", "w"], weights=True)


@pytest.mark.parametrize("structure", ["ar1", "csh"])
@pytest.mark.parametrize("random", RANDOM)
def test_average_information_equals_its_dense_definition(structure, random):
    prepared = replace(problem(structure, random, "reml"), arrow=None)
    psi = some_point(prepared)
    found = prepared.objective().average_information(psi)
    expected = dense_average_information(prepared, psi)
    np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("random", [" + (1 | id)", " + (x | site/id)"])
def test_a_nested_design_gives_the_same_through_the_crossed_engine(random):
    model = replace(parse_formula("y ~ time" + random, "reml"),
                    residual=parse_residual("ar1(time | id)"))  # fmt: skip
    prepared = prepare_structured(build_design(model, data_of("ar1")), method="reml")
    one = StructuredObjective(prepared.problem, True)
    two = CrossedObjective(prepared.problem, True)
    psi = some_point(prepared)
    assert two.value(psi) == pytest.approx(one.value(psi), abs=1e-10)
    np.testing.assert_allclose(two.gradient(psi), one.gradient(psi), atol=1e-9)
    np.testing.assert_allclose(two.average_information(psi), one.average_information(psi),
                               atol=1e-8)  # fmt: skip
    np.testing.assert_allclose(
        two.conditional_residuals(psi), one.conditional_residuals(psi), atol=1e-10
    )


def ratings(n_persons=40, n_items=12, n_times=8, seed=2):
    """Every person rates items drawn at random, one at each time; AR(1) of 0.5 within person."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(n_persons, n_times))
    for t in range(1, n_times):
        e[:, t] = 0.5 * e[:, t - 1] + np.sqrt(0.75) * e[:, t]
    item = rng.integers(0, n_items, e.shape)
    x = rng.normal(size=e.shape)
    y = 2.0 + 0.5 * x + rng.normal(size=(n_persons, 1)) + rng.normal(size=n_items)[item] + e
    return pd.DataFrame({
        "y": y.ravel(), "x": x.ravel(), "item": [f"i{k}" for k in item.ravel()],
        "time": np.tile(np.arange(n_times), n_persons),
        "person": np.repeat([f"p{j}" for j in range(n_persons)], n_times),
    })  # fmt: skip


FORMULA = "y ~ x + (1 | person) + (1 | item)"


def test_a_fit_and_its_verbs():
    data = ratings()
    m = mlm.fit(FORMULA, data, residual="ar1(time | person)")
    assert m.certificate.is_certified
    rho = m.residual_parameters().loc[0]
    assert rho["conf_low"] < 0.5 < rho["conf_high"]
    assert set(m.random_covariance) == {"person", "item"}
    effects = m.random_effects()
    assert len(effects) == 52
    # the best predictions solve the mixed-model equations: G Z'V^-1 (y - X beta)
    X = np.column_stack([np.ones(len(data)), data["x"]])
    V = np.zeros((len(data), len(data)))
    same = data["person"].to_numpy()[:, None] == data["person"].to_numpy()[None]
    lag = np.abs(data["time"].to_numpy()[:, None] - data["time"].to_numpy()[None])
    V += m.residual_variance * same * rho["estimate"] ** lag
    G = {k: float(v.iloc[0, 0]) for k, v in m.random_covariance.items()}
    V += G["person"] * same
    Z = (data["item"].to_numpy()[:, None] == np.unique(data["item"])[None]).astype(float)
    V += G["item"] * Z @ Z.T
    r = np.linalg.solve(V, data["y"] - X @ m.fixed_effects.to_numpy())
    found = effects[effects["group"] == "item"].set_index("level")["estimate"]
    np.testing.assert_allclose(found.loc[np.unique(data["item"])], G["item"] * Z.T @ r, atol=1e-8)
    np.testing.assert_allclose(m.vcov_fixed, np.linalg.inv(X.T @ np.linalg.solve(V, X)), atol=1e-9)
    assert np.isfinite(m.coefficients()["df"]).all()
    assert np.isfinite(m.coefficients(df="kenward-roger")["df"]).all()
    assert len(m.simulate(2, seed=1)) == len(data)
    assert "item" in str(m)
    again = m.predict(data.iloc[:3])["estimate"]
    np.testing.assert_allclose(again, data["y"].iloc[:3], atol=1e-8)
    table = m.predict(data.iloc[:3].assign(time=20), interval="prediction")
    assert np.isfinite(table["conf_low"]).all()


@pytest.mark.parametrize("f", json.loads((DATA / "crossed_residual.json").read_text())["fits"],
                         ids=lambda f: f["method"])  # fmt: skip
def test_nlme(f):
    """nlme stops where its criterion is flat: 1e-6 of the criterion, 1e-3 of the variances."""
    data = pd.read_csv(DATA / "crossed_ratings.csv.gz")
    m = mlm.fit(FORMULA, data, residual="ar1(time | person)", method=f["method"].lower())
    assert m.fit.criterion == pytest.approx(f["minus2ll"], abs=1e-6)
    np.testing.assert_allclose(m.fixed_effects, f["beta"], atol=1e-4)
    assert m.residual_parameters().loc[0, "estimate"] == pytest.approx(f["rho"], abs=1e-4)
    for name in ("person", "item"):
        assert float(m.random_covariance[name].iloc[0, 0]) == pytest.approx(f[name], rel=1e-3)


def test_the_structure_is_worth_its_parameter():
    data = ratings()
    plain = mlm.fit(FORMULA, data)
    m = mlm.fit(FORMULA, data, residual="ar1(time | person)")
    assert m.reml_criterion < plain.reml_criterion - 20.0
    again = m.update(method="ml")
    assert again.certificate.is_certified
    assert mlm.compare(plain.update(method="ml"), again).sentence


def test_clusters_that_share_levels_are_one():
    m = mlm.fit(FORMULA, ratings(), residual="ar1(time | person)")
    with pytest.raises(mlm.errors.InferenceError, match="1 in connected rows"):
        m.robust()
    data = ratings()
    # two groups of persons with items of their own are two clusters
    half = data["person"] < "p2"
    apart = data.assign(item=data["item"] + np.where(half, "a", "b"))
    m = mlm.fit(FORMULA, apart, residual="ar1(time | person)")
    assert "2 clusters (connected rows)" in m.robust().attrs["sentence"]


def test_kenward_roger_lays_out_all_connected_rows():
    """For one correlation, all pieces from dense matrices: the unadjusted covariance and more."""
    data = ratings(12, 5, 4)
    m = mlm.fit(FORMULA, data, residual="ar1(time | person)")
    one = m.coefficients(df="kenward-roger")
    # the same model with persons and items in another order, and rows shuffled
    two = mlm.fit(
        "y ~ x + (1 | item) + (1 | person)", data.sample(frac=1.0, random_state=1),
        residual="ar1(time | person)",
    ).coefficients(df="kenward-roger")  # fmt: skip
    np.testing.assert_allclose(one["df"], two["df"], rtol=1e-3)
    np.testing.assert_allclose(one["std_error"], two["std_error"], rtol=1e-4)
    satterthwaite = m.coefficients()
    np.testing.assert_allclose(one["df"], satterthwaite["df"], rtol=0.2)


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(arrow_layout, "MOST_LOCAL", 100)
    monkeypatch.setattr(crossed, "MOST_EFFECTS", 50)
    with pytest.raises(mlm.errors.LikelihoodError, match="52 random effects"):
        mlm.fit(FORMULA, ratings(), residual="ar1(time | person)")
    monkeypatch.setattr(crossed, "MOST_EFFECTS", 60)
    monkeypatch.setattr(crossed, "MOST_PLACES", 100)
    with pytest.raises(mlm.errors.LikelihoodError, match="units of up to 8"):
        mlm.fit(FORMULA, ratings(), residual="ar1(time | person)")
