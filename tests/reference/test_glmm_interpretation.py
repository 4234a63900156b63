"""Random effects, residuals and predictions of generalized fits, held against lme4.

lme4's optimiser stops at gradients that move estimates by up to 1e-3 of a standard error, and its
conditional modes with them; probabilities follow.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
REFERENCE = json.loads((DATA / "glmm_interpretation.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def herds():
    frame = pd.read_csv(DATA / "cbpp.csv.gz")
    frame["period"] = frame["period"].astype(str)
    return mlm.fit(
        "incidence ~ period + (1 | herd)", frame, family="binomial", trials="size", n_quad=1
    )


def compare(fit, group: str, reference: dict) -> None:
    """Modes within 2e-3 of their standard errors, standard errors to 1e-3."""
    found = fit.random_effects()
    found = found[found["group"] == group]
    found = found.set_index(found["level"].astype(str))
    own = found.loc[[str(level) for level in reference["level"]]]
    error = np.array(reference["std_error"])
    assert np.abs((own["estimate"] - reference["estimate"]) / error).max() < 2e-3
    assert np.allclose(own["std_error"], error, rtol=1e-3)


def test_random_effects_and_their_errors(herds):
    compare(herds, "herd", REFERENCE["cbpp"]["herd"])


def test_crossed_random_effects_and_their_errors():
    frame = pd.read_csv(DATA / "VerbAgg.csv.gz")
    fit = mlm.fit(
        "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", frame, family="binomial",
        event="Y", accuracy="none",
    )  # fmt: skip
    compare(fit, "item", REFERENCE["VerbAgg"]["item"])


@pytest.mark.parametrize("kind", ["deviance", "pearson"])
def test_residuals(herds, kind):
    assert np.allclose(herds.residuals(kind), REFERENCE["cbpp"][kind], atol=2e-3)


@pytest.mark.parametrize("kind", ["population", "conditional"])
def test_fitted_probabilities(herds, kind):
    assert np.allclose(herds.fitted(kind), REFERENCE["cbpp"][kind], atol=3e-4)
