r"""Residuals on a uniform scale, by simulation from the fitted model.

A row's residual is the share of simulated responses below the observed one, spread evenly within
its step: ``(rank + U) / (S + 1)``. Under the model, parameters known, the observed response and the
S simulated ones are exchangeable, so a statistic of the observed column is compared with the same
statistic of every simulated column: this p-value allows for the dependence of rows in a cluster,
which a Kolmogorov-Smirnov table does not. Estimated parameters make the tests conservative.

Sources: Dunn & Smyth 1996 (JCGS 5:236); Barnard 1963 (Monte Carlo tests).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError

Array = NDArray[np.float64]
ROWS_AT_ONCE = 1 << 13
LEAST_SIMULATIONS = 20


@dataclass(frozen=True)
class SimulationTest:
    """One statistic of the observed data among those of S simulated data sets.

    Attributes
    ----------
    test : ``"uniformity"`` (largest distance from the uniform distribution), ``"dispersion"``
        (mean squared residual over its simulated variance) or ``"outliers"`` (share of rows
        outside everything simulated).
    statistic, expected : observed, and mean over the simulated data sets.
    p_value : Monte Carlo; two-sided for dispersion and outliers.
    sentence : the finding.
    """

    test: str
    statistic: float
    expected: float
    p_value: float
    sentence: str


@dataclass(frozen=True)
class QuantileResiduals:
    """Uniform residuals (n,) and the tests on them; ``n_sim`` data sets were simulated."""

    residuals: Array
    tests: tuple[SimulationTest, ...]
    n_sim: int


def quantile_residuals(y: Array, simulated: Array, rng: np.random.Generator) -> QuantileResiduals:
    """Uniform residuals of the analysed rows and Monte Carlo tests of the model.

    Parameters
    ----------
    y : (n,) observed response.
    simulated : (n, S) responses drawn from the fitted model.
    rng : spreads each residual within its step.

    Raises
    ------
    InferenceError : fewer than 20 simulations.
    """
    n, S = simulated.shape
    if S < LEAST_SIMULATIONS:
        raise InferenceError(
            f"Quantile residuals need at least {LEAST_SIMULATIONS} simulations.",
            f"{S}",
            "write n_sim=250",
        )
    counts = np.zeros((S + 1, S + 1))  # by rank, by data set; the observed one is the first
    dispersion, residuals = np.zeros(S + 1), np.empty(n)
    for start in range(0, n, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        both = np.column_stack([y[rows], simulated[rows]])
        ranks = np.argsort(np.argsort(both, axis=1, kind="stable"), axis=1, kind="stable")
        residuals[rows] = (ranks[:, 0] + rng.random(len(both))) / (S + 1)
        for k in range(S + 1):
            counts[:, k] += np.bincount(ranks[:, k], minlength=S + 1)
        centred = both - both.mean(axis=1, keepdims=True)
        variance = np.maximum(centred.var(axis=1, keepdims=True), np.finfo(float).tiny)
        dispersion += np.sum(centred**2 / variance, axis=0)
    distance = np.abs(np.cumsum(counts, axis=0) / n - np.arange(1, S + 2)[:, None] / (S + 1))
    outside = (counts[0] + counts[-1]) / n
    tests = (
        _uniformity(distance.max(axis=0)),
        _dispersion(dispersion / n),
        _outliers(outside, S),
    )
    return QuantileResiduals(residuals, tests, S)


def _upper(values: Array) -> float:
    return float(np.mean(values >= values[0]))


def _two_sided(values: Array) -> float:
    return float(min(1.0, 2.0 * min(_upper(values), float(np.mean(values <= values[0])))))


def _shown(p: float, S: int) -> str:
    return f"p = {p:.3f}, {S} simulated data sets"


def _uniformity(values: Array) -> SimulationTest:
    p, S = _upper(values), len(values) - 1
    finding = "differs from" if p < 0.05 else "agrees with"
    return SimulationTest(
        "uniformity",
        float(values[0]),
        float(values[1:].mean()),
        p,
        f"The distribution of the response {finding} what the model simulates ({_shown(p, S)}).",
    )


def _dispersion(values: Array) -> SimulationTest:
    p, S = _two_sided(values), len(values) - 1
    ratio = float(values[0] / values[1:].mean())
    finding = "as much as" if p >= 0.05 else ("more than" if ratio > 1.0 else "less than")
    return SimulationTest(
        "dispersion",
        float(values[0]),
        float(values[1:].mean()),
        p,
        f"The response varies {finding} the model says: {ratio:.2f} times its variance "
        f"({_shown(p, S)}).",
    )


def _outliers(values: Array, S: int) -> SimulationTest:
    p = _two_sided(values)
    return SimulationTest(
        "outliers",
        float(values[0]),
        float(values[1:].mean()),
        p,
        f"{100 * values[0]:.2f}% of the rows lie outside all of their {S} simulated values; "
        f"{200 / (S + 1):.2f}% are expected (p = {p:.3f}).",
    )
