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


@lru_cache(maxsize=1)
def wide_table():
    """The same rows with a response for every family."""
    data = dict(table())
    rng = np.random.default_rng(21)
    mu = np.exp(0.3 + 0.3 * data["x"])
    unit = 1 / (1 + np.exp(-0.5 * data["x"]))
    n = len(mu)
    data["size"] = rng.integers(3, 9, size=n).astype(float)
    data["hits"] = rng.binomial(data["size"].astype(int), unit).astype(float)
    data["zeros"] = np.where(rng.random(n) < 0.3, 0.0, data["count"])
    data["positive"] = rng.gamma(4.0, mu / 4.0)
    data["share"] = rng.beta(6 * unit, 6 * (1 - unit))
    data["rain"] = np.where(rng.random(n) < 0.3, 0.0, data["positive"])
    data["tails"] = 0.5 * data["x"] + rng.standard_t(8, size=n)
    data["bounded"] = np.clip(1.3 * (data["share"] - 0.15), 0.0, 1.0)
    data["above"] = data["count"] + 1.0
    data["kind"] = data["ordered"].astype(int).astype(str)
    return data
