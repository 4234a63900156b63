"""Small fits of every family, made once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

import multilevel as mlm

#: name -> (response, arguments of fit)
FAMILIES = {
    "logit": ("binary", {"family": "binomial"}),
    "probit": ("binary", {"family": "binomial", "link": "probit"}),
    "cloglog": ("binary", {"family": "binomial", "link": "cloglog"}),
    "cauchit": ("binary", {"family": "binomial", "link": "cauchit"}),
    "trials": ("successes", {"family": "binomial", "trials": "size"}),
    "poisson": ("count", {"family": "poisson"}),
    "negative_binomial": ("over", {"family": "negative_binomial"}),
    "negative_binomial_1": ("over", {"family": "nb1"}),
    "generalized_poisson": ("over", {"family": "generalized_poisson"}),
    "truncated": ("positive_count", {"family": "poisson", "truncated": True}),
    "zero_inflated": ("many_zeros", {"family": "poisson", "zero": "~ x"}),
    "hurdle": ("many_zeros", {"family": "poisson", "hurdle": "~ 1"}),
    "gamma": ("positive", {"family": "gamma"}),
    "inverse_gaussian": ("positive", {"family": "inverse_gaussian"}),
    "lognormal": ("positive", {"family": "lognormal"}),
    "beta": ("proportion", {"family": "beta"}),
    "ordered_beta": ("bounded", {"family": "ordered_beta"}),
    "tweedie": ("with_zeros", {"family": "tweedie"}),
    "student": ("number", {"family": "student"}),
    "gaussian": ("number", {"family": "gaussian", "dispersion": "~ x"}),
    "cumulative": ("ordered", {"family": "cumulative"}),
    "adjacent": ("ordered", {"family": "adjacent"}),
    "continuation_ratio": ("ordered", {"family": "continuation_ratio"}),
    "nominal": ("ordered", {"family": "nominal"}),
    "random_zero": ("many_zeros", {"family": "poisson", "zero": "~ 1 + (1 | g)"}),
}


@lru_cache(maxsize=1)
def table() -> dict[str, np.ndarray]:
    """300 rows in 30 clusters, crossed with 8 others, and a response for every family."""
    rng = np.random.default_rng(11)
    J, m = 30, 10
    g, x = np.repeat(np.arange(J), m), rng.normal(size=J * m)
    h = rng.integers(0, 8, size=J * m)
    eta = 0.2 + 0.5 * x + 0.8 * rng.normal(size=J)[g] + 0.4 * rng.normal(size=8)[h]
    p, mu = 1 / (1 + np.exp(-eta)), np.exp(0.7 * eta + 0.5)
    count = rng.poisson(mu).astype(float)
    over = rng.poisson(mu * rng.gamma(1.5, 1 / 1.5, size=J * m)).astype(float)
    positive = mu * rng.gamma(3.0, 1 / 3.0, size=J * m) + 1e-3
    proportion = np.clip(rng.beta(4 * p, 4 * (1 - p)), 1e-4, 1 - 1e-4)
    latent = eta + rng.logistic(size=J * m)
    kind = rng.random(J * m)
    return {
        "g": g,
        "h": h,
        "x": x,
        "size": rng.integers(1, 6, size=J * m),
        "binary": (rng.random(J * m) < p).astype(float),
        "successes": rng.binomial(1, p).astype(float),
        "count": count,
        "over": over,
        "positive_count": np.maximum(count, 1.0),
        "many_zeros": np.where(rng.random(J * m) < 0.3, 0.0, count),
        "positive": positive,
        "proportion": proportion,
        "bounded": np.where(kind < 0.1, 0.0, np.where(kind > 0.9, 1.0, proportion)),
        "with_zeros": np.where(count == 0, 0.0, positive),
        "number": eta + rng.standard_t(5, size=J * m),
        "ordered": np.digitize(latent, [-1.0, 0.5, 1.5]).astype(float),
    }


@lru_cache(maxsize=64)
def fitted(name: str, random: str = "(1 | g)", right: str = "x", n_quad: int = 1):
    """A fit of one family."""
    response, options = FAMILIES[name]
    return mlm.fit(
        f"{response} ~ {right} + {random}", table(), n_quad=n_quad, accuracy="none", **options
    )
