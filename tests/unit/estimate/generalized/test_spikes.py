"""Optima on spikes of an approximate likelihood are recognised, named, and left by quadrature."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import ConvergenceWarning, EstimationError
from multilevel.estimate.generalized.spikes import SPIKE, find_spike


def counts(seed=2):
    rng = np.random.default_rng(seed)
    J, n = 30, 4
    g = np.repeat(np.arange(J), n)
    x = rng.standard_normal(J * n)
    b = 0.5 * rng.standard_normal(J)[g]
    mu = np.exp(0.6 + 0.3 * x + b + 0.4 * rng.standard_normal(J)[g] * x)
    y = rng.negative_binomial(2, 2 / (2 + mu))
    return pd.DataFrame({"y": y, "x": x, "g": g})[y > 0]


@pytest.fixture(scope="module")
def spiked():
    with pytest.warns(ConvergenceWarning, match="hardly curves"):
        return mlm.fit(
            "y ~ x + (x | g)", counts(), family="nb1", truncated=True, n_quad=1,
            allow=("not_certified",),
        )  # fmt: skip


def test_a_spike_is_named_with_its_cluster_and_never_certified(spiked):
    found = find_spike(spiked._problem, spiked.fit.psi, spiked.fit.modes)
    assert found is not None
    assert found.ratio > SPIKE  # how far up the spike a search gets is chance
    assert spiked.fit.certificate.status == "not_certified"
    level = spiked.design.blocks[found.block].levels[found.level]
    words = f"Do not trust this fit: in g {level} the log density hardly curves"
    assert words in spiked.fit.certificate.sentence
    assert words in " ".join(str(spiked).split())
    assert words in json.loads(spiked.to_json())["approximation"]["sentence"]


def test_without_allowance_the_refusal_says_why():
    with pytest.raises(EstimationError, match="hardly curves at its mode"):
        mlm.fit("y ~ x + (x | g)", counts(), family="nb1", truncated=True, n_quad=1)


def test_quadrature_starts_away_from_the_spike(spiked):
    fit = mlm.fit("y ~ x + (x | g)", counts(), family="nb1", truncated=True, n_quad=7)
    assert fit.fit.certificate.status == "certified"
    assert "Do not trust" not in fit.approximation.sentence
    assert find_spike(fit._problem, fit.fit.psi, fit.fit.modes) is None
    assert fit.fit.criterion > spiked.fit.criterion  # the spike is falsely low


def test_a_curvature_that_is_no_maximum_is_a_spike(spiked):
    psi = spiked.fit.psi.copy()
    psi[:] = np.nan  # no likelihood at all
    found = find_spike(spiked._problem, psi, spiked.fit.modes)
    assert found is not None
    assert not np.isfinite(found.ratio)


def test_log_concave_families_have_none():
    data = counts()
    fit = mlm.fit("y ~ x + (1 | g)", data, family="poisson", n_quad=1)
    assert find_spike(fit._problem, fit.fit.psi, fit.fit.modes) is None
    assert "Do not trust" not in fit.approximation.sentence
