"""Importance sampling from the Gaussian of a Laplace approximation: likelihoods without bias.

``L = E[f(u) / g(u)]`` over draws ``u = u~ + L^-T t`` with ``t`` multivariate Student (5 degrees of
freedom, tails heavier than the integrand's) or Gaussian, in antithetic pairs ``t, -t``. The log of
a mean of n draws is too low by about ``var / 2n``, which is added back (delta method).
Sources: Skaug 2002; Pinheiro & Bates 1995; Geweke 1988 (antithetic pairs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.cluster_objective import ClusterObjective
from multilevel.likelihood.generalized.clusters import Chunk, cut

Array = NDArray[np.float64]

DEGREES = 5.0
LEAST_PAIRS = 4


@dataclass(frozen=True)
class SampledLikelihood:
    """Log-likelihood by importance sampling.

    Attributes
    ----------
    log_value : (J,) estimated ``log L_j`` (one number for one joint integral).
    variance : (J,) Monte Carlo variance of each.
    draws : draws per integral.
    log_weights : (J, pairs, 2) log weights of the antithetic pairs.
    """

    log_value: Array
    variance: Array
    draws: int
    log_weights: Array

    @property
    def criterion(self) -> float:
        """``-2 log L``."""
        return float(-2.0 * self.log_value.sum())

    @property
    def std_error(self) -> float:
        """Monte Carlo standard error of ``criterion``."""
        return float(2.0 * np.sqrt(self.variance.sum()))


def paired_draws(
    rng: np.random.Generator, shape: tuple[int, ...], q: int, degrees: float | None = DEGREES
) -> tuple[Array, Array]:
    """Draw ``t`` in antithetic pairs and the log density of each draw.

    Parameters
    ----------
    rng : random generator; the same state gives the same draws (common random numbers).
    shape : leading shape; its last entry counts pairs.
    q : dimension.
    degrees : degrees of freedom of the multivariate Student; None draws Gaussians.

    Returns
    -------
    t (*shape, 2, q) and its log density (*shape, 2).
    """
    z = rng.standard_normal((*shape, q))
    if degrees is None:
        density = -0.5 * q * np.log(2.0 * np.pi) - 0.5 * np.einsum("...q,...q->...", z, z)
    else:
        z *= np.sqrt(degrees / rng.chisquare(degrees, shape))[..., None]
        square = np.einsum("...q,...q->...", z, z)
        constant = gammaln((degrees + q) / 2.0) - gammaln(degrees / 2.0)
        constant -= 0.5 * q * np.log(degrees * np.pi)
        density = constant - 0.5 * (degrees + q) * np.log1p(square / degrees)
    return np.stack([z, -z], axis=-2), np.stack([density, density], axis=-1)


def log_mean(log_weights: Array) -> tuple[Array, Array]:
    """Log of the mean weight and its Monte Carlo variance.

    Parameters
    ----------
    log_weights : (..., pairs, 2) log importance weights of antithetic pairs.

    Returns
    -------
    (...,) log means, corrected for the curvature of the log, and (...,) variances.
    """
    pairs = log_weights.shape[-2]
    top = log_weights.max(axis=(-1, -2), keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(log_weights - top).mean(axis=-1)
    mean = weights.mean(axis=-1)
    variance = weights.var(axis=-1, ddof=1) / pairs / np.maximum(mean, 1e-300) ** 2
    return np.log(mean) + top[..., 0, 0] + 0.5 * variance, variance


def sample_likelihood(
    objective: ClusterObjective,
    rng: np.random.Generator,
    draws: int,
    degrees: float | None = DEGREES,
) -> SampledLikelihood:
    """Importance-sampled ``log L_j`` of a one-factor model at the point last set.

    Parameters
    ----------
    objective : evaluated Laplace or quadrature objective (its modes and ``H`` are the proposal).
    draws : draws per cluster, at least 8; an even number is used.

    Raises
    ------
    LikelihoodError : fewer than 8 draws.
    """
    pairs = draws // 2
    if pairs < LEAST_PAIRS:
        raise LikelihoodError(
            f"Importance sampling needs at least {2 * LEAST_PAIRS} draws in each cluster.",
            f"{draws} draws",
            "ask for a few hundred",
        )
    J = objective.rows.n_clusters
    log_weights = np.empty((J, pairs, 2))
    for chunk in cut(objective.rows.ptr, 2 * pairs * objective.problem.n_parts):
        here = slice(chunk.start, chunk.stop)
        log_weights[here] = _sample_chunk(objective, chunk, rng, pairs, degrees)
    return SampledLikelihood(*log_mean(log_weights), 2 * pairs, log_weights)


def _sample_chunk(
    objective: ClusterObjective,
    chunk: Chunk,
    rng: np.random.Generator,
    pairs: int,
    degrees: float | None,
) -> Array:
    """Log importance weights (J', pairs, 2) of every cluster of a chunk."""
    s, rows = objective.state, objective.rows
    J, q = chunk.stop - chunk.start, s.u.shape[1]
    here = slice(chunk.start, chunk.stop)
    t, density = paired_draws(rng, (J, pairs), q, degrees)
    t = t.reshape(J, 2 * pairs, q)
    U = s.u[here, None, :] + t @ s.Linv[here]
    effects = np.repeat(U @ s.Lam.T, np.diff(rows.ptr[chunk.start : chunk.stop + 1]), axis=0)
    eta = np.repeat(s.fixed[:, None, chunk.rows], 2 * pairs, axis=1)
    for c, r in enumerate(rows.column_part):
        eta[rows.random[r]] += (rows.Z[c, chunk.rows, None] * effects[:, :, c]).T
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        value = rows.sorted.likelihood.value(eta, chunk.rows)
    starts = rows.ptr[chunk.start : chunk.stop] - rows.ptr[chunk.start]
    joint = np.add.reduceat(value, starts, axis=1).T - 0.5 * np.einsum("jsq,jsq->js", U, U)
    joint -= 0.5 * q * np.log(2.0 * np.pi)
    joint -= np.log(np.einsum("jaa->ja", s.L[here])).sum(axis=1)[:, None]
    return np.asarray(joint.reshape(J, pairs, 2) - density)
