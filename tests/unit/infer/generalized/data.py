"""Small tables for tests of inference on generalized fits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

import multilevel as mlm


@lru_cache(maxsize=1)
def table():
    rng = np.random.default_rng(11)
    J, m = 30, 8
    n = J * m
    g = np.repeat(np.arange(J), m)
    w = rng.normal(size=J)[g]
    x = rng.normal(size=n)
    arm = np.array(["a", "b", "c"])[rng.integers(0, 3, size=n)]
    eta = -0.2 + 0.7 * x + 0.4 * w + 0.5 * (arm == "b") + 0.9 * rng.normal(size=J)[g]
    latent = eta + rng.logistic(size=n)
    return {
        "g": g,
        "h": rng.integers(0, 12, size=n),
        "x": x,
        "w": w,
        "arm": arm,
        "binary": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float),
        "count": rng.poisson(np.exp(0.5 * eta + 0.5)).astype(float),
        "spread": rng.negative_binomial(2, 2 / (2 + np.exp(0.5 * eta + 1.0))).astype(float),
        "ordered": np.digitize(latent, [-1.0, 0.3, 1.5]).astype(float),
        "number": eta + 0.7 * rng.normal(size=J)[g] * x + rng.normal(size=n),
    }


@lru_cache(maxsize=32)
def fit(formula: str, family: str, n_quad: int = 1, **more: str):
    options = {"categories": [0.0, 1.0, 2.0, 3.0]} if family == "cumulative" else {}
    return mlm.fit(
        formula, table(), family=family, n_quad=n_quad, accuracy="none", **options, **more
    )
