"""Every family with every link: made-up responses and predictors, and its scipy distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
from scipy import special, stats

from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.catalogue import FAMILIES, family_of
from multilevel.model.families.records import Family

CENTRES = {
    ("poisson", "identity"): 3.0,
    ("poisson", "sqrt"): 2.0,
    ("binomial", "log"): -1.0,
    ("gamma", "inverse"): 1.5,
}


@dataclass(frozen=True)
class Case:
    """One family with one link."""

    family: Family

    @property
    def name(self) -> str:
        cut = "truncated " if self.truncated else ""
        return f"{cut}{self.family.name}-{self.family.link}"

    @property
    def truncated(self) -> bool:
        return self.family.option("truncated") == "yes"

    @property
    def n_parts(self) -> int:
        return len(self.family.parts)

    def eta(self, rng: np.random.Generator, m: int, spread: float = 0.7) -> np.ndarray:
        eta = spread * rng.uniform(-1, 1, (self.n_parts, m))
        centre = CENTRES.get((self.family.name, self.family.link), 0.0)
        eta[0] += centre
        if centre:
            eta[0] = np.sign(centre) * np.maximum(np.abs(eta[0]), 0.05)
        return eta

    def response(self, rng: np.random.Generator, m: int) -> Response:
        name = self.family.name
        if name == "binomial":
            trials = rng.integers(1, 6, m).astype(float)
            return Response(rng.binomial(trials.astype(int), 0.5).astype(float), trials)
        if self.family.response == "count":
            y = rng.negative_binomial(0.6, 0.1, m).astype(float)
            y[: m // 10] *= 17
            return Response(np.maximum(y, 1.0) if self.truncated else y)
        if name == "beta":
            return Response(rng.beta(0.8, 1.2, m).clip(1e-4, 1 - 1e-4))
        if name == "tweedie":
            return Response(rng.gamma(1.0, 2.0, m) * (rng.random(m) < 0.7))
        if self.family.response == "interval":
            return censored(rng, m, positive=name == "censored_lognormal")
        if self.family.response == "positive":
            return Response(rng.gamma(1.5, 1.0, m) + 0.05)
        return Response(rng.normal(0.0, 1.5, m))

    def rows(self, response: Response, random: tuple[int, ...] = (0,), **weights: Any) -> Any:
        return row_likelihood(self.family, response, None, random, **weights)


def censored(rng: np.random.Generator, m: int, *, positive: bool) -> Response:
    low = rng.gamma(1.5, 1.0, m) + 0.1 if positive else rng.normal(0.0, 1.5, m)
    high = low + np.choose(np.arange(m) % 4, [0.0, 0.02, 1.0, np.inf])
    low = np.where(np.arange(m) % 8 == 6, 0.0 if positive else -np.inf, low)
    return Response(low, upper=np.maximum(high, low))


def every_case() -> list[Case]:
    plain = [Case(family_of(n, link)) for n, entry in FAMILIES.items() for link in entry.links]
    cut = [
        Case(family_of(n, link, truncated=True))
        for n, entry in FAMILIES.items()
        if entry.may_be_truncated
        for link in entry.links
    ]
    return plain + cut


def every_random(n_parts: int) -> list[tuple[int, ...]]:
    parts = range(n_parts)
    return list(chain.from_iterable(combinations(parts, r) for r in range(n_parts + 1)))


def inverse(link: str, eta: np.ndarray) -> np.ndarray:
    return {
        "identity": lambda x: x,
        "log": np.exp,
        "logit": special.expit,
        "probit": stats.norm.cdf,
        "cloglog": lambda x: 1 - np.exp(-np.exp(x)),
        "cauchit": stats.cauchy.cdf,
        "sqrt": np.square,
        "inverse": lambda x: 1 / x,
    }[link](eta)


def scipy_of(family: Family, eta: np.ndarray, trials: np.ndarray | None = None) -> Any:
    """The frozen scipy distribution before truncation and censoring; None where scipy has none."""
    mean = inverse(family.link, eta[0])
    dispersion = np.exp(eta[1]) if len(eta) > 1 else None
    name = family.name.removeprefix("censored_")
    makers: dict[str, Callable[[], Any]] = {
        "gaussian": lambda: stats.norm(mean, np.sqrt(dispersion)),
        "lognormal": lambda: stats.lognorm(np.sqrt(dispersion), scale=np.exp(mean)),
        "binomial": lambda: stats.binom(1 if trials is None else trials.astype(int), mean),
        "poisson": lambda: stats.poisson(mean),
        "negative_binomial": lambda: stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean)),
        "negative_binomial_1": lambda: stats.nbinom(mean / dispersion, 1 / (1 + dispersion)),
        "gamma": lambda: stats.gamma(1 / dispersion, scale=mean * dispersion),
        "inverse_gaussian": lambda: stats.invgauss(mean * dispersion, scale=1 / dispersion),
        "beta": lambda: stats.beta(mean * dispersion, (1 - mean) * dispersion),
        "student": lambda: stats.t(np.exp(eta[2]), mean, np.sqrt(dispersion)),
    }
    return makers[name]() if name in makers else None
