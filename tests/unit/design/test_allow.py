"""Refusals that a caller may lift by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design import blocks
from multilevel.errors import DesignError
from multilevel.infer import compare

NAME = "random_slope_of_cluster_predictor"
RNG = np.random.default_rng(11)
G = np.repeat(np.arange(60), 8)
W = RNG.uniform(0.0, 2.0, 60)
DATA = pd.DataFrame(
    {
        "g": G,
        "w": W[G],
        "two": (W > 1.0).astype(float)[G],
        "sign": np.where(W > 1.0, 1.0, -1.0)[G],
        "y": ((0.5 + 1.5 * W) * RNG.standard_normal(60))[G] + RNG.standard_normal(480),
    }
)


def test_refused_by_default_with_the_name_in_the_remedy():
    with pytest.raises(DesignError, match=NAME):
        mlm.fit("y ~ w + (w | g)", DATA)


def test_allowed_it_is_a_variance_function_of_the_group():
    """The criterion is that of the dense normal density with Var = t00 + 2 t01 w + t11 w^2."""
    m = mlm.fit("y ~ w + (w | g)", DATA, method="ml", allow=(NAME,))
    assert NAME in [advice.code for advice in m.advice]
    T = m.fit.random_covariance[0]
    minus2 = 0.0
    for g in range(60):
        z = np.array([1.0, W[g]])
        V = (z @ T @ z) * np.ones((8, 8)) + m.residual_variance * np.eye(8)
        rows = DATA[DATA["g"] == g]
        e = rows["y"].to_numpy() - z @ m.fit.beta
        minus2 += np.linalg.slogdet(2 * np.pi * V)[1] + e @ np.linalg.solve(V, e)
    assert m.minus2_loglik == pytest.approx(minus2, rel=1e-9)
    plain = mlm.fit("y ~ w + (1 | g)", DATA, method="ml")
    assert m.minus2_loglik < plain.minus2_loglik - 5.0


@pytest.mark.parametrize("term", ["(two | g)", "(sign || g)"])
def test_values_that_do_not_determine_the_variances_stay_refused(term):
    name = term.strip("(g) ").split()[0]
    with pytest.raises(DesignError, match=f"{name} has"):
        mlm.fit(f"y ~ w + {term}", DATA, allow=[NAME])


def test_two_values_of_different_size_suffice_without_a_covariance():
    m = mlm.fit("y ~ w + (two || g)", DATA, allow=NAME)
    assert m.certificate.is_certified


def test_every_name_is_in_the_docs():
    page = (Path(__file__).parents[3] / "docs" / "mistakes.md").read_text()
    listed = re.findall(r'^\| `"(\w+)"` \|', page, flags=re.MULTILINE)
    assert listed == [*blocks.ALLOWABLE, *compare.ALLOWABLE]


def test_unknown_names_are_refused():
    with pytest.raises(DesignError, match="allow may name"):
        mlm.fit("y ~ w + (1 | g)", DATA, allow=("reml_comparison",))
