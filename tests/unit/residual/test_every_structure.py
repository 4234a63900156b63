"""Every residual structure through the door: ML and REML, alone, nested, crossed and by group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.estimate.structured import prepare_structured
from multilevel.model.formula.parse import parse_formula
from multilevel.model.residual import parse_residual
from tests.support.residual import repeated_measures
from tests.unit.residual.test_likelihood import STRUCTURES, check_value_and_gradient

FITTED = {name: text for name, text in STRUCTURES.items() if name not in ("fa", "fa 2", "un by")}
OF_ITEMS = ["ind", "cs", "arma11", "toep", "toeph", "un", "fa", "fa 2", "gau", "sph", "un by",
            "cs by", "exp by", "arh1 by"]  # fmt: skip


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("structure", OF_ITEMS)  # test_crossed has the others
def test_beside_crossed_effects_it_is_the_dense_density(structure, method):
    text = STRUCTURES[structure]
    kind = text.partition("(")[0]
    data = repeated_measures(1, continuous=kind in ("car1", "exp", "gau", "sph"))
    item = np.array([f"i{k}" for k in np.random.default_rng(9).integers(0, 5, len(data))])
    model = replace(parse_formula("y ~ time + x + (1 | item)", method),
                    residual=parse_residual(text))  # fmt: skip
    prepared = prepare_structured(build_design(model, data.assign(item=item)), method=method)
    assert prepared.problem.is_crossed == (kind != "ind")  # each row is a unit there
    check_value_and_gradient(prepared, kind, "arm" if "by=" in text else None, [])


@pytest.fixture(scope="module")
def data():
    """60 persons at up to 5 occasions, AR(1) of 0.5; items cross persons, arms differ."""
    rng = np.random.default_rng(5)
    n, T = 60, 5
    e = rng.normal(size=(n, T))
    for k in range(1, T):
        e[:, k] = 0.5 * e[:, k - 1] + np.sqrt(0.75) * e[:, k]
    person = np.repeat(np.arange(n), T)
    time = np.tile(np.arange(T), n)
    arm = person % 2
    item = rng.integers(0, 6, n * T)
    x = rng.normal(size=n * T)
    y = 1.0 + 0.3 * x + 0.1 * time + 0.6 * rng.normal(size=6)[item]
    y += 0.6 * rng.normal(size=8)[person % 8] + e.ravel() * (1.0 + 0.4 * arm) * (1.0 + 0.1 * time)
    frame = pd.DataFrame({"y": y, "x": x, "time": time, "id": person, "item": item,
                          "site": person % 8, "arm": np.array(["arm0", "arm1"])[arm]})  # fmt: skip
    return frame[rng.uniform(size=len(frame)) > 0.12].reset_index(drop=True)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", ["", " + (1 | site)", " + (1 | item)"],
                         ids=["alone", "nested", "crossed"])  # fmt: skip
@pytest.mark.parametrize("name", FITTED)
def test_every_structure_is_fitted_and_certified(data, name, random, method):
    m = mlm.fit(f"y ~ time + x{random}", data, residual=FITTED[name], method=method)
    assert m.certificate.is_certified
    R, C = m.residual_covariance()
    assert np.linalg.eigvalsh(R.to_numpy()).min() > 0.0
    np.testing.assert_allclose(np.diag(C), 1.0)
    V, correlation = m.cluster_covariance()
    assert np.linalg.eigvalsh(V.to_numpy()).min() > 0.0
    assert np.abs(correlation.to_numpy()).max() <= 1.0 + 1e-12
    assert np.isfinite(m.coefficients(df="satterthwaite")["df"]).all()
    assert np.isfinite(m.predict(data.head(2).assign(time=2))["estimate"]).all()
