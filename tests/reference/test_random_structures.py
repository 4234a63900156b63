"""Structured random effects against glmmTMB 1.1.5.

Made by `scripts/regenerate_reference_random_structures.R`.
Its ``toep`` and ``cs`` have variances of their own (here ``toeph``, ``csh``); ``ou`` is ``car1``.
Tolerances: the criterion agrees to what glmmTMB's optimiser leaves (1e-5); SDs and correlations to
the root of that.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import multilevel as mlm

TRUTH = json.loads((Path(__file__).parents[1] / "data" / "random_structures.json").read_text())
DATA = {name: np.array(values) for name, values in TRUTH["data"].items()}
CASES = [
    pytest.param(f, id=f"{f['formula'].split('~')[1]} {f['family']} {f['method']}")
    for f in TRUTH["fits"]
]


@pytest.mark.parametrize("truth", CASES)
def test_glmmtmb(truth):
    how = {"family": "poisson", "n_quad": 1} if truth["family"] == "poisson" else {}
    how |= {} if how else {"method": truth["method"].lower()}
    m = mlm.fit(truth["formula"], DATA, **how)
    if truth["family"] == "poisson" and "toeph" in truth["formula"]:
        # glmmTMB stops at the edge of its correlations ("false convergence"), above this optimum
        assert truth["minus2ll"] - 0.1 < m.fit.criterion < truth["minus2ll"] + 1e-5
        return
    assert m.fit.criterion == pytest.approx(truth["minus2ll"], abs=1e-5)
    beta = m.fixed_effects["estimate"] if hasattr(m.fixed_effects, "columns") else m.fixed_effects
    assert np.allclose(np.ravel(beta), truth["beta"], atol=2e-4)
    G = m.random_covariance["id"].to_numpy()
    sd = np.sqrt(np.diag(G))
    if sd.max() == 0.0:
        return
    assert np.allclose(sd, np.resize(truth["sd"], len(sd)), atol=2e-3)
    C = np.array(truth["correlation"])
    if C.shape == G.shape and "diag" not in truth["formula"]:
        assert np.allclose(G / np.outer(sd, sd), C, atol=3e-3)
    if truth["family"] == "gaussian":
        assert np.sqrt(m.residual_variance) == pytest.approx(truth["sigma"], abs=1e-3)
