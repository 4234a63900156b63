"""Problems at made-up parameters, with their dense covariance matrix, for checks by definition."""

from __future__ import annotations

import numpy as np

from multilevel.estimate.prepare import prepare
from tests.support.designs import design_of
from tests.support.oracle import random_rows


def problem(kind, seed=3, weighted=False, offset=False):
    rows = random_rows(kind, seed, weighted)
    more = np.linspace(0.0, 1.0, len(rows.y)) if offset else None
    design = design_of(rows, offset=more)
    prepared = prepare(design, method="reml")
    objective = prepared.objective()
    rng = np.random.default_rng(seed)
    objective.set(rng.uniform(0.3, 1.2, objective.n_parameters))
    return prepared, objective


def dense(prepared, objective):
    """Rows times the root of their weights: X, V, M, residuals."""
    design = prepared.design
    root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
    X = design.X * root[:, None]
    y = (design.y - (0.0 if design.offset is None else design.offset)) * root
    V = np.eye(design.n)
    for block, B, L in zip(design.blocks, prepared.scaling.random, objective.factors, strict=True):
        psi = B @ L @ L.T @ B.T
        same = block.codes[:, None] == block.codes[None, :]
        z = block.columns * root[:, None]
        V += same * (z @ psi @ z.T)
    Vi = np.linalg.inv(V)
    M = np.linalg.inv(X.T @ Vi @ X)
    return X, V, M, y - X @ (M @ (X.T @ Vi @ y))
