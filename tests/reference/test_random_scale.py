"""Random-effect variances by group against nlme 3.1-162 (lme with pdDiag and pdBlocked).

Tolerances: criteria to 1e-6 away from the boundary (2e-4 on it, where nlme stops short); estimates
to what a flat criterion leaves open. Under ML nlme scales standard errors by n / (n - p), so they
are compared under REML.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).parents[1] / "data"
FITS = json.loads((DATA / "random_scale.json").read_text(encoding="utf-8"))["fits"]
TERMS = {
    "intercepts": "(1 | Subject, by=Sex)",
    "lines": "(1 + I(age - 11) | Subject, by=Sex)",
}


def ours(f, term=None, **options):
    table = pd.read_csv(DATA / "nlme_Orthodont.csv.gz")
    return mlm.fit(
        f"distance ~ age * Sex + {term or TERMS[f['name']]}", table, method=f["method"].lower(),
        scale="~ Sex" if f["by_scale"] else None, **options,
    )  # fmt: skip


def label(f):
    return f"{f['name']}-{f['method']}-{'residual too' if f['by_scale'] else 'one residual'}"


@pytest.mark.parametrize("f", FITS, ids=label)
def test_by_group_equals_nlme(f):
    found = ours(f)
    edge = found.certificate.status == "singular"
    assert found.certificate.is_certified
    assert found.fit.criterion == pytest.approx(f["minus2ll"], abs=2e-4 if edge else 1e-6)
    assert found.fit.criterion < f["minus2ll"] + 1e-6
    errors = np.sqrt(np.diag(found.vcov_fixed))
    assert np.abs((found.fixed_effects.to_numpy() - f["beta"]) / errors).max() < 2e-4
    G = found.fit.random_covariance[0]
    assert pytest.approx(np.array(f["G"]), rel=2e-2 if edge else 2e-3, abs=2e-3) == G
    if f["method"] == "REML":
        assert pytest.approx(f["se"], rel=2e-3) == errors


@pytest.mark.parametrize("f", [f for f in FITS if f["name"] == "intercepts"], ids=label)
def test_log_linear_in_a_dummy_equals_nlme(f):
    found = ours(f, "(1 | Subject)", random_scale={"Subject": "~ Sex"})
    assert found.fit.criterion == pytest.approx(f["minus2ll"], abs=1e-6)
    G = np.array(f["G"])  # Female, Male
    effect = found.random_scale_effects().iloc[0]
    assert effect["sd_ratio"] ** 2 == pytest.approx(G[1, 1] / G[0, 0], rel=1e-3)
    assert found.fit.random_covariance[0][0, 0] == pytest.approx(G[0, 0], rel=1e-3)
    boy = found.cluster_random_covariance("M01")[0].iloc[0, 0]
    assert boy == pytest.approx(G[1, 1], rel=1e-3)
