"""Residual structures against nlme 3.1-162 (gls, lme) and published values.

Tolerances: both programs reach the same criterion to 2e-8 (the worst seen); 1e-6 is asked for.
nlme stops where its criterion is flat, so estimates and standard errors agree to about the root of
that: 2e-4, relative to the standard error. Under ML nlme scales standard errors by n / (n - p), so
they are compared under REML.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).parents[1] / "data"
FITS = json.loads((DATA / "residual_structures.json").read_text(encoding="utf-8"))["fits"]


@lru_cache
def table(name):
    if name == "body":
        found = pd.read_csv(DATA / "nlme_BodyWeight.csv.gz")
        return found.assign(Diet=found["Diet"].astype(str), Rat=found["Rat"].astype(str))
    found = pd.read_csv(DATA / "nlme_Orthodont.csv.gz")
    return found if name == "orthodont" else found[np.arange(len(found)) % 7 != 3]


@lru_cache
def fitted(formula, data, method, residual, scale):
    return mlm.fit(formula, table(data), method=method, residual=residual, scale=scale)


def ours(f):
    return fitted(f["formula"], f["data"], f["method"].lower(), f.get("residual"), f.get("scale"))


def label(f):
    return f"{f['data']}-{f['name']}-{f['method']}"


@pytest.mark.parametrize("f", FITS, ids=label)
def test_criterion(f):
    found = ours(f)
    assert found.certificate.is_certified
    assert found.fit.criterion == pytest.approx(f["minus2ll"], abs=1e-6)


@pytest.mark.parametrize("f", FITS, ids=label)
def test_fixed_effects(f):
    found = ours(f)
    errors = np.sqrt(np.diag(found.vcov_fixed))
    gaps = (found.fixed_effects.to_numpy() - f["beta"]) / errors
    assert np.abs(gaps).max() < 2e-4
    if f["method"] == "REML":
        np.testing.assert_allclose(errors, f["se"], rtol=2e-4)


POTTHOFF_ROY = {
    "un(age | Subject)": 419.477,
    "cs(1 | Subject)": 428.6391,
    "ar1(age | Subject)": 440.681,
    "ind": 478.2418,
}


@pytest.mark.parametrize("residual", POTTHOFF_ROY)
def test_published_likelihoods_of_potthoff_and_roy(residual):
    m = mlm.fit("distance ~ age * Sex", table("orthodont"), method="ml", residual=residual)
    assert m.minus2_loglik == pytest.approx(POTTHOFF_ROY[residual], abs=6e-4)


def test_published_variance_by_sex():
    m = mlm.fit("distance ~ age * Sex + (1 | Subject)", table("orthodont"), residual="ind(by=Sex)")
    assert m.reml_criterion == pytest.approx(415.2205, abs=6e-5)
    variances = m.residual_variance * np.exp([0.0, m.residual_parameters()["estimate"][0]])
    assert np.sqrt(variances[0] / variances[1]) == pytest.approx(0.467894, abs=2e-5)
