"""Small fits of every outcome family, made once for the tests of what they say."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import multilevel as mlm

ORDER = ["no", "perhaps", "yes", "sure"]


@cache
def data() -> pd.DataFrame:
    """40 clusters of 12 rows with one outcome of each kind."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(40), 12)
    n = len(g)
    x, w = rng.normal(size=n), rng.normal(size=40)[g]
    eta = 0.3 + 0.5 * x + rng.normal(0, 0.7, 40)[g]
    p, mu = 1 / (1 + np.exp(-eta)), np.exp(eta)
    d = pd.DataFrame({"g": g, "h": g // 8, "x": x, "w": w})
    d["arm"] = np.where(g % 2 == 0, "a", "b")
    d["bin"] = np.where(rng.random(n) < p, "yes", "no")
    d["t"] = rng.integers(3, 9, n)
    d["s"] = rng.binomial(d.t, p)
    d["f"] = d.t - d.s
    d["pois"] = rng.poisson(mu)
    d["nb"] = rng.negative_binomial(2, 2 / (2 + mu))
    d["zi"] = np.where(rng.random(n) < 0.25, 0, d.nb)
    d["pos"] = rng.gamma(2, mu / 2)
    d["tw"] = np.where(rng.random(n) < 0.2, 0, d.pos)
    d["beta"] = np.clip(rng.beta(p * 5, (1 - p) * 5), 1e-4, 1 - 1e-4)
    d["ob"] = np.where(rng.random(n) < 0.1, 0, np.where(rng.random(n) < 0.1, 1, d.beta))
    d["y"] = eta + rng.standard_t(5, n)
    d["lo"] = np.where(d.y < -0.5, np.nan, d.y)
    d["up"] = np.where(d.y < -0.5, -0.5, d.y)
    d["ord"] = np.digitize(eta + rng.logistic(size=n), [-1, 0.5, 2]) + 1
    d["ordt"] = np.array(ORDER)[d.ord - 1]
    d["trunc"] = np.maximum(d.pois, 1)
    return d


_ONE = "{} ~ x + (1 | g)"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "binary": ("bin ~ x + w + (1 | g)", {"family": "binomial", "event": "yes"}),
    "slope": ("bin ~ x + (x | g)", {"family": "binomial", "link": "probit"}),
    "cloglog": (_ONE.format("bin"), {"family": "binomial", "link": "cloglog"}),
    "trials": (_ONE.format("s"), {"family": "binomial", "trials": "t"}),
    "successes": (_ONE.format("cbind(s, f)"), {"family": "binomial"}),
    "poisson": ("pois ~ x * arm + (1 | h/g)", {"family": "poisson"}),
    "nb2": (_ONE.format("nb"), {"family": "negative_binomial"}),
    "nb1": (_ONE.format("nb"), {"family": "nb1"}),
    "zinb": (_ONE.format("zi"), {"family": "negative_binomial", "zero": "~ x"}),
    "zinb_constant": (
        _ONE.format("zi"),
        {"family": "negative_binomial", "zero": "~ 1", "dispersion": "~ x"},
    ),
    "hurdle": (_ONE.format("zi"), {"family": "poisson", "hurdle": "~ x + (1 | g)"}),
    "truncated": (_ONE.format("trunc"), {"family": "poisson", "truncated": True}),
    "generalized_poisson": (_ONE.format("nb"), {"family": "generalized_poisson"}),
    "gamma": (_ONE.format("pos"), {"family": "gamma"}),
    "inverse_gaussian": (_ONE.format("pos"), {"family": "inverse_gaussian"}),
    "lognormal": (_ONE.format("pos"), {"family": "lognormal"}),
    "beta": (_ONE.format("beta"), {"family": "beta"}),
    "ordered_beta": (_ONE.format("ob"), {"family": "ordered_beta"}),
    "zoib": (_ONE.format("ob"), {"family": "zero_one_inflated_beta"}),
    "tweedie": (_ONE.format("tw"), {"family": "tweedie"}),
    "student": (_ONE.format("y"), {"family": "student"}),
    "censored": (_ONE.format("interval(lo, up)"), {"family": "gaussian"}),
    "hurdle_gamma": (_ONE.format("tw"), {"family": "gamma", "hurdle": "~ x"}),
    "cumulative": (_ONE.format("ordt"), {"family": "cumulative", "categories": ORDER}),
    "free": (
        _ONE.format("ordt"),
        {"family": "cumulative", "categories": ORDER, "thresholds": "~ 1"},
    ),
    "partial": (
        "ordt ~ w + (1 | g)",
        {"family": "cumulative", "categories": ORDER, "thresholds": "~ x"},
    ),
    "adjacent": (_ONE.format("ord"), {"family": "adjacent"}),
    "continuation": (_ONE.format("ord"), {"family": "continuation_ratio", "link": "cloglog"}),
    "nominal": (_ONE.format("ordt"), {"family": "nominal", "categories": ORDER}),
}


@cache
def fitted(name: str) -> Any:
    """One fit; its error of approximation is not estimated (tests of that ask for it)."""
    formula, options = CASES[name]
    return mlm.fit(formula, data(), accuracy="none", **options)
