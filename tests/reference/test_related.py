"""Several levels per row and correlated levels against lme4 with Zt made by hand.

lme4's optimiser stops where the criterion is flat to about 1e-7 (``scripts/
regenerate_reference_related.R``), so estimates agree to five or six digits.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
REFERENCE = json.loads((DATA / "related.json").read_text("utf-8"))
FORMULAS = {
    "membership": "mAch ~ ses + (1 | mm(school, other, weights=[w1, w2]))",
    "membership_slopes": "mAch ~ ses + (ses | mm(school, other, weights=[w1, w2]))",
    "relation": "mAch ~ ses + (1 | school)",
}


@pytest.fixture(scope="module")
def schools():
    data = pd.read_csv(DATA / "Hsb82.csv.gz")
    labels = data["school"].unique()
    place = pd.Index(labels).get_indexer(data["school"])
    data["other"] = labels[(place + 1) % len(labels)]
    data["w2"] = np.where(np.arange(1, len(data) + 1) % 3 == 0, 0.3, 0.0)
    data["w1"] = 1.0 - data["w2"]
    gap = np.abs(np.subtract.outer(np.arange(len(labels)), np.arange(len(labels))))
    return data, pd.DataFrame(0.6**gap, index=labels, columns=labels)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", list(FORMULAS))
def test_agrees_with_lme4(schools, name, method):
    data, A = schools
    related = {"school": A} if name == "relation" else None
    m = mlm.fit(FORMULAS[name], data, method=method, related=related)
    expected = REFERENCE[f"{name}_{method}"]
    assert m.fit.criterion == pytest.approx(expected["criterion"], abs=1e-5)
    assert m.fit.criterion <= expected["criterion"] + 1e-7
    np.testing.assert_allclose(m.fixed_effects, expected["fixed"], rtol=2e-5)
    errors = np.sqrt(np.diag(m.vcov_fixed))
    np.testing.assert_allclose(errors, expected["std_error"], rtol=2e-4)
    G = m.fit.random_covariance[0]
    np.testing.assert_allclose(G, expected["covariance"][0], rtol=2e-3, atol=2e-4)
    assert np.sqrt(m.residual_variance) == pytest.approx(expected["sigma"], rel=1e-5)
    if name == "membership":
        first = m.random_effects().set_index("level")["estimate"]
        found = [float(first[label]) for label in data["school"].unique()[:5]]
        np.testing.assert_allclose(found, expected["effects"], rtol=1e-3, atol=1e-4)
