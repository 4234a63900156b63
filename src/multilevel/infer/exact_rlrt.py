"""Exact null distribution of the (restricted) likelihood ratio for one variance component.

For ``y = X beta + Z b + e`` with one random effect per level, ``mu_s`` the eigenvalues of
``Z'(I - X(X'X)^-1X')Z``, ``xi_s`` those of ``Z'Z`` and ``w_s`` standard normal:

    RLRT = sup_l (n-p) log(1 + N(l)/D(l)) - sum log(1 + l mu_s)
    LRT  = sup_l  n    log(1 + N(l)/D(l)) - sum log(1 + l xi_s)
    N = sum l mu_s/(1 + l mu_s) w_s^2,   D = sum w_s^2/(1 + l mu_s) + sum_{s>K}^{n-p} w_s^2.

Source: Crainiceanu & Ruppert 2004, JRSS B 66, theorem 1 and algorithm A. Deviation: the supremum
is taken over a fixed grid of 200 values of ``l`` and refined by a parabola.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.likelihood.blocks.cross_products import CrossProducts

Array = NDArray[np.float64]
GRID = 200
LARGEST = 4000  # levels up to which the eigenvalues are found
CHUNK = 1000


@dataclass(frozen=True)
class ExactNull:
    """Draws of the statistic under a variance of zero.

    Attributes
    ----------
    draws : (n_sim,) the statistic.
    probability_zero : share of draws that are zero.
    """

    draws: Array
    probability_zero: float

    def p_value(self, statistic: float) -> float:
        """``(1 + #draws >= statistic) / (1 + n_sim)``; 1 for a statistic of zero."""
        if statistic <= 1e-8:
            return 1.0
        return float((1 + np.sum(self.draws >= statistic)) / (1 + len(self.draws)))


def eigenvalues(cross: CrossProducts) -> tuple[Array, Array]:
    """``(mu, xi)`` of a design with one grouping factor and one random-effect column.

    Raises
    ------
    InferenceError : another kind of design, or more than 4000 levels.
    """
    if cross.n_blocks != 1 or cross.sizes[0][1] != 1:
        raise InferenceError(
            "The exact test is for models with one variance component besides the residual.",
            ", ".join(f"{q} column(s) over a factor of {J} levels" for J, q in cross.sizes),
            "use the mixture p value of the same table",
        )
    J, p = cross.sizes[0][0], cross.n_fixed
    if J > LARGEST:
        raise InferenceError(
            f"The exact test is worked out for at most {LARGEST} levels.",
            f"{J} levels",
            "use the mixture p value: with so many levels the two agree",
        )
    xi = cross.own[0][:, 0, 0]
    S = cross.rhs[0][:, 0, :p]
    M = np.diag(xi)
    if p:
        R = np.linalg.cholesky(cross.total[:p, :p])
        half = np.linalg.solve(R, S.T)
        M = M - half.T @ half
    mu = np.maximum(np.linalg.eigvalsh(M), 0.0)
    return mu[mu > 1e-10 * max(float(mu[-1]), 1e-300)], np.asarray(xi)


def exact_null(
    cross: CrossProducts, rng: np.random.Generator, *, reml: bool = True, n_sim: int = 10_000
) -> ExactNull:
    """Simulate the statistic under a variance of zero.

    Parameters
    ----------
    cross : cross-products of the model *with* the variance component (any scaling of columns).
    rng : source of randomness.
    reml : RLRT (True) or LRT of ML fits with the same fixed effects (False).
    n_sim : draws; the standard error of a p value near .05 is ``.22 / sqrt(n_sim)``.
    """
    mu, xi = eigenvalues(cross)
    size, n, p, K = float(mu.max()), cross.n, cross.n_fixed, len(mu)
    grid = np.concatenate([[0.0], np.exp(np.linspace(np.log(1e-6), np.log(1e6), GRID - 1))]) / size
    shrink = 1.0 / (1.0 + np.outer(mu, grid))
    penalty = np.log1p(np.outer(mu if reml else xi, grid)).sum(0)
    factor = n - p if reml else n
    out = np.empty(n_sim)
    for at in range(0, n_sim, CHUNK):
        rows = slice(at, min(at + CHUNK, n_sim))
        w2 = rng.standard_normal((rows.stop - rows.start, K)) ** 2
        rest = rng.chisquare(n - p - K, len(w2)) if n - p - K > 0 else np.zeros(len(w2))
        D = w2 @ shrink + rest[:, None]
        N = w2.sum(1)[:, None] + rest[:, None] - D
        out[rows] = _peak(factor * np.log1p(N / D) - penalty)
    return ExactNull(out, float(np.mean(out <= 1e-8)))


def _peak(values: Array) -> Array:
    """Largest value of each row, refined by a parabola through it and its neighbours."""
    top = values.argmax(1)
    rows = np.arange(len(values))
    inner = (top > 1) & (top < values.shape[1] - 1)
    best = values[rows, top]
    k, r = top[inner], rows[inner]
    a, b, c = values[r, k - 1], values[r, k], values[r, k + 1]
    bend = a - 2.0 * b + c
    lift = np.where(bend < 0.0, -((c - a) ** 2) / np.where(bend < 0.0, 8.0 * bend, 1.0), 0.0)
    best[inner] = b + lift
    return np.asarray(np.maximum(best, 0.0))
