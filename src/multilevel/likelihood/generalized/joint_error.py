"""How far Laplace's approximation of one joint integral over all random effects is from the truth.

Importance sampling: ``L = E_q[exp h(u) / q(u)]`` with ``u = u~ + A e``, ``A A' = H^-1``, in
antithetic pairs ``e, -e``: an unbiased estimate of the likelihood, with a Monte Carlo error and an
effective number of draws. A few random effects get Student tails (heavier than the integrand's);
with many, tails that all effects share would spoil every draw, so the noise is Gaussian.

Second order (h = log joint density, ``a = z~ H^-1 z~'``):

    eps = sum l''''a^2 / 8 + c'H^-1 c / 8 + sum_{i,i'} l'''_i l'''_i' a_{ii'}^3 / 12,
    c   = sum_i l'''_i a_i z~_i

The last sum goes over all pairs of rows and needs all of ``H^-1``; it is left out where that is too
much, and the sentence says so. Fourth derivatives are differences of third ones.

Sources: Skaug 2002 (importance sampling from Laplace's Gaussian); Geweke 1988 (antithetic draws);
Kong 1992 (effective number); Shun & McCullagh 1995; Raudenbush, Yang & Yosef 2000 (second order).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from multilevel.likelihood.blocks.row_kernels import add_transposed, pair_cubes
from multilevel.likelihood.generalized.mode_search import ModePoint, ModeSearch
from multilevel.likelihood.generalized.objective import ErrorEstimate

Array = NDArray[np.float64]

DEGREES = 5.0  # of the Student noise for few random effects
FEW_EFFECTS = 10
BATCH_NUMBERS = 2_000_000  # predictors held at once
LEAST_DRAWS, LEAST_SHARE = 15.0, 0.05  # effective draws below which sampling is not trusted
STEP = 1e-3  # of the differences of third derivatives
PAIR_EFFECTS, PAIR_ROWS = 2500, 20_000  # sizes up to which pairs of rows are summed


@dataclass(frozen=True)
class JointSample:
    """``log L`` minus Laplace's, by importance sampling.

    Attributes
    ----------
    log_ratio : estimated ``log L - log L_Laplace``, corrected for the bias of a logarithm.
    std_error : its Monte Carlo standard error.
    draws : draws, both halves of each pair counted.
    effective : effective number of draws ``(sum w)^2 / sum w^2``.
    nodes : quadrature points by which the finest factor was integrated; 0: all effects drawn.
    log_weights : (2, pairs) log weights of the antithetic pairs.
    """

    log_ratio: float
    std_error: float
    draws: int
    effective: float
    nodes: int = 0
    log_weights: Array | None = field(default=None, compare=False)

    @property
    def is_reliable(self) -> bool:
        """Whether enough draws carry the estimate."""
        return self.effective >= max(LEAST_DRAWS, LEAST_SHARE * self.draws)


def sample_jointly(
    search: ModeSearch,
    fixed: Array,
    Z: Array,
    point: ModePoint,
    rng: np.random.Generator,
    draws: int,
) -> JointSample:
    """Importance sampling around the mode ``point``; ``search.storage`` holds the factor there.

    ``fixed`` (D, n) predictors, ``Z`` (R, n, Q) scaled; ``draws`` is rounded up to pairs.
    """
    N, pairs = search.storage.n_independent, max(2, (draws + 1) // 2)
    noise, log_density = _noise(rng, N, pairs)
    log_weights = np.empty((2, pairs))
    batch = max(1, BATCH_NUMBERS // point.eta.size)
    for start in range(0, pairs, batch):
        here = slice(start, min(start + batch, pairs))
        moved = search.storage.colour(np.ascontiguousarray(noise[:, here]))
        for sign in range(2):
            u = point.u[:, None] + (moved if sign == 0 else -moved)
            h = _heights(search, fixed, Z, u)
            log_weights[sign, here] = h - point.h - log_density[here]
    return summarise_weights(log_weights - 0.5 * N * np.log(2.0 * np.pi))


def summarise_weights(log_weights: Array, nodes: int = 0) -> JointSample:
    """The estimate from log weights (2, pairs) of antithetic pairs."""
    pairs = log_weights.shape[1]
    top = float(log_weights.max())
    weights = np.exp(log_weights - top)
    means = weights.mean(axis=0)
    mean = float(means.mean())
    variance = float(means.var(ddof=1)) / (pairs * mean**2)
    return JointSample(
        log_ratio=top + float(np.log(mean)) + 0.5 * variance,
        std_error=float(np.sqrt(variance)),
        draws=2 * pairs,
        effective=float(weights.sum() ** 2 / (weights**2).sum()),
        nodes=nodes,
        log_weights=log_weights,
    )


def _noise(rng: np.random.Generator, N: int, pairs: int) -> tuple[Array, Array]:
    """Noise (N, pairs) and its log density (pairs,)."""
    noise = rng.standard_normal((N, pairs))
    if N > FEW_EFFECTS:
        square = np.einsum("np,np->p", noise, noise)
        return noise, -0.5 * (square + N * np.log(2.0 * np.pi))
    noise *= np.sqrt(DEGREES / rng.chisquare(DEGREES, pairs))
    square = np.einsum("np,np->p", noise, noise)
    constant = gammaln((DEGREES + N) / 2.0) - gammaln(DEGREES / 2.0)
    constant -= 0.5 * N * np.log(DEGREES * np.pi)
    return noise, constant - 0.5 * (DEGREES + N) * np.log1p(square / DEGREES)


def _heights(search: ModeSearch, fixed: Array, Z: Array, u: Array) -> Array:
    """``h`` (K,) at each column of ``u`` (N, K)."""
    K = u.shape[1]
    eta = np.empty((fixed.shape[0], K, fixed.shape[1]))
    for k in range(K):
        eta[:, k] = search.predictors(fixed, Z, np.ascontiguousarray(u[:, k]))
    values = search.rows.value(eta)
    out: Array = values.sum(axis=1) - 0.5 * np.einsum("nk,nk->k", u, search.pulled(u))
    return out


@dataclass(frozen=True)
class SecondOrder:
    """Second-order term of ``log L``; ``has_pairs``: whether pairs of rows are in it."""

    value: float
    has_pairs: bool


def second_order(
    search: ModeSearch, Z: Array, point: ModePoint, leverage: Array, pairs: bool | None = None
) -> SecondOrder:
    """Second-order term at the mode; ``leverage`` (R, R, n); ``pairs`` None chooses by size."""
    rows, storage, index = search.rows, search.storage, search.index
    random = list(rows.random)
    n = Z.shape[1]
    third = np.ascontiguousarray(rows.derivatives(point.eta).third[:, :, random])
    total = 0.0
    for r, part in enumerate(random):
        shift = np.zeros_like(point.eta)
        shift[part] = STEP
        up = rows.derivatives(point.eta + shift).third[:, :, random]
        down = rows.derivatives(point.eta - shift).third[:, :, random]
        fourth = (up - down) / (2.0 * STEP)
        total += float(np.einsum("abcn,abn,cn->", fourth, leverage, leverage[:, r])) / 8.0
    c = np.ascontiguousarray(np.einsum("abcn,abn->cn", third, leverage))
    right = np.zeros(point.u.size)
    add_transposed(Z, index, c, right)
    total += float(right @ storage.solve(right)) / 8.0
    if pairs is None:
        pairs = point.u.size <= PAIR_EFFECTS and n <= PAIR_ROWS
    if pairs:
        whole = np.ascontiguousarray(storage.solve(np.eye(point.u.size)))
        total += float(pair_cubes(Z, index, whole, third)) / 12.0
    return SecondOrder(total, pairs)


def sampled_error(sampled: JointSample) -> ErrorEstimate:
    """The error of ``-2 log L`` (approximation minus truth) by importance sampling."""
    error, se = 2.0 * sampled.log_ratio, 2.0 * sampled.std_error
    what = "all random effects together"
    if sampled.nodes:
        what = (
            "all random effects but those of the factor with most levels, which are integrated "
            f"with {sampled.nodes} quadrature points each"
        )
    sentence = (
        f"-2 log-likelihood differs by {error:+.3g} (Monte Carlo standard error {se:.2g}) from "
        f"importance sampling of {what} ({sampled.draws} draws, worth {sampled.effective:.0f} "
        "independent ones)."
    )
    return ErrorEstimate(error, se, "importance sampling", sentence)


def second_order_error(
    term: SecondOrder, n: int, unreliable: JointSample | None = None
) -> ErrorEstimate:
    """The error of ``-2 log L`` as the second-order term; says which sampling was set aside."""
    pairs = "" if term.has_pairs else f", without the part that pairs all {n:,} rows,"
    sentence = (
        f"The second-order term of the Laplace expansion{pairs} changes -2 log-likelihood by "
        f"{-2.0 * term.value:+.3g}"
    )
    if unreliable is not None:
        sentence += (
            f"; importance sampling was not reliable ({unreliable.draws} draws worth only "
            f"{unreliable.effective:.0f})"
        )
    return ErrorEstimate(2.0 * term.value, 0.0, "second-order Laplace", sentence + ".")
