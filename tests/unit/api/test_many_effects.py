"""Five correlated effects per cluster through the door: sparse grids, and what replaces them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.likelihood.generalized import sparse_quadrature

FORMULA = "y ~ x1 + x2 + x3 + x4 + diag(1 + x1 + x2 + x3 + x4 | g)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    J, n = 60, 15
    g = np.repeat(np.arange(J), n)
    X = rng.standard_normal((J * n, 4))
    b = rng.standard_normal((J, 5)) * (0.9, 0.7, 0.6, 0.5, 0.7)
    eta = b[g, 0] + ((0.4 + b[g, 1:]) * X).sum(axis=1)
    y = (rng.random(J * n) < 1 / (1 + np.exp(-eta))) * 1
    return pd.DataFrame({"y": y, "g": g} | {f"x{k + 1}": X[:, k] for k in range(4)})


def test_five_effects_by_a_sparse_grid(data):
    fine = mlm.fit(FORMULA, data, family="binomial", n_quad=5)
    laplace = mlm.fit(FORMULA, data, family="binomial", n_quad=1)
    assert fine.fit.certificate.status in ("certified", "singular")
    assert "on a sparse grid of 111 nodes" in fine.approximation.sentence
    assert "sparse (Smolyak) grid" in fine.methods_paragraph()
    error = fine.approximation.error
    assert error.method == "importance sampling"
    assert abs(error.criterion) < 0.3 * abs(laplace.approximation.error.criterion)
    assert fine.approximation.largest_variance_std_error > 0.0


def test_a_grid_that_cancels_is_replaced_loudly(data, monkeypatch):
    monkeypatch.setattr(sparse_quadrature, "MOST_CANCELLED", 1.0)
    fit = mlm.fit(FORMULA, data, family="binomial", n_quad=5)
    assert fit.approximation.method == "Laplace"
    assert "Laplace was used instead" in fit.approximation.steps[0]
    assert "Laplace was used instead" in " ".join(str(fit).split())
