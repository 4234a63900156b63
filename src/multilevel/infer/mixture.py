"""Null distributions of likelihood-ratio statistics when variances may only grow from zero.

The smaller model puts ``k`` variances at zero, the boundary of the larger model. The statistic is
then a mixture of chi-squares (chi-bar-square): a chi-square for everything that may move both ways
(``f`` parameters) plus the squared length of a normal vector projected on the cone of what may
only grow:

* one new variance (with any covariances): 50:50 mixture of chi2(f) and chi2(f + 1);
* several uncorrelated new variances: weights by how many survive the projection; binomial if
  their information is uncorrelated, closed form for two, else drawn from the information;
* several new variances with their covariances: the cone of positive semi-definite matrices, the
  projection drawn from the information.

Sources: Self & Liang 1987; Stram & Lee 1994; Shapiro 1988; Silvapulle & Sen 2005, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.distributions import chi_square_tail

Array = NDArray[np.float64]
DRAWS = 20_000
MATRIX_DRAWS = 4_000
UNCORRELATED = 0.02  # absolute correlation of the information below which it is called zero


@dataclass(frozen=True)
class NullDistribution:
    """Distribution of -2 delta LL under the smaller model.

    Attributes
    ----------
    df : (k,) degrees of freedom of the components; chi2(0) is zero with certainty.
    weights : (k,) their probabilities; empty if ``squared_lengths`` stands in for them.
    squared_lengths : (draws,) squared projections; added to a chi-square of ``df[0]``.
    sentence : the distribution in words.
    """

    df: tuple[int, ...]
    weights: tuple[float, ...]
    sentence: str
    squared_lengths: Array | None = None

    def p_value(self, statistic: float) -> float:
        """Probability of a value at least as large."""
        if self.squared_lengths is not None:
            return float(np.mean(_tail(statistic - self.squared_lengths, self.df[0])))
        values = [_tail(np.array([statistic]), d)[0] for d in self.df]
        return float(np.dot(self.weights, values))


def _tail(statistic: Array, df: int) -> Array:
    """P(chi2(df) >= statistic), with chi2(0) = 0."""
    if df == 0:
        return np.asarray((statistic <= 0.0).astype(np.float64))
    return np.asarray(chi_square_tail(np.maximum(statistic, 0.0), df))


def chi_square(df: int) -> NullDistribution:
    """The ordinary chi-square."""
    return NullDistribution((df,), (1.0,), f"chi2({df})")


def one_variance(n_free: int) -> NullDistribution:
    """One new variance, with ``n_free`` further parameters that may move both ways."""
    text = f"50:50 mixture of chi2({n_free}) and chi2({n_free + 1})"
    return NullDistribution((n_free, n_free + 1), (0.5, 0.5), text)


def several_variances(
    n_free: int, information: Array, rng: np.random.Generator
) -> NullDistribution:
    """``k`` new variances without covariances.

    Parameters
    ----------
    n_free : further parameters that may move both ways.
    information : (k, k) efficient information of the new variances at zero.
    rng : used only for three or more variances whose information is correlated.
    """
    k = len(information)
    df = tuple(range(n_free, n_free + k + 1))
    named = f"chi2({df[0]}) to chi2({df[-1]})"
    scale = np.sqrt(np.diag(information))
    R = information / np.outer(scale, scale)
    if float(np.abs(R - np.eye(k)).max()) < UNCORRELATED:
        weights = tuple(comb(k, i) / 2.0**k for i in range(k + 1))
        return NullDistribution(df, weights, f"mixture of {named} with binomial weights")
    if k == 2:
        # the estimates' correlation is minus the information's
        top = float(np.arccos(R[0, 1])) / (2.0 * np.pi)
        weights = (0.5 - top, 0.5, top)
        shown = ", ".join(f"{w:.3f}" for w in weights)
        return NullDistribution(df, weights, f"mixture of {named}, weights {shown}")
    z = rng.standard_normal((DRAWS, k)) @ np.linalg.inv(np.linalg.cholesky(R))
    counts = np.bincount(_n_positive(z, R), minlength=k + 1)
    weights = tuple(float(c) / DRAWS for c in counts)
    shown = ", ".join(f"{w:.3f}" for w in weights)
    text = f"mixture of {named}, weights {shown} from {DRAWS} draws of the information matrix"
    return NullDistribution(df, weights, text)


def _n_positive(z: Array, R: Array) -> NDArray[np.int64]:
    """How many coordinates of the projection of ``z`` on the orthant (metric R) are positive.

    Every active set is tried: the right one has positive coordinates and a dual that is not.
    """
    k = len(R)
    score = z @ R
    out = np.zeros(len(z), dtype=np.int64)
    found = np.zeros(len(z), dtype=bool)
    for size in range(k, -1, -1):
        for chosen in combinations(range(k), size):
            kept = list(chosen)
            rest = [i for i in range(k) if i not in chosen]
            x = score[:, kept] @ np.linalg.inv(R[np.ix_(kept, kept)]) if kept else score[:, :0]
            dual = score[:, rest] - x @ R[np.ix_(kept, rest)]
            fits = np.all(x > 0.0, axis=1) & np.all(dual <= 0.0, axis=1) & ~found
            out[fits], found = size, found | fits
    return out


def cone_of_matrices(
    n_free: int, orders: tuple[int, ...], information: Array, rng: np.random.Generator
) -> NullDistribution:
    """New variances with covariances among them.

    Parameters
    ----------
    n_free : further parameters that may move both ways.
    orders : orders of the positive semi-definite parts; each takes d (d + 1) / 2 coordinates,
        lower triangle by rows.
    information : efficient information in these coordinates.
    """
    L = np.linalg.cholesky(np.linalg.inv(information))
    z = rng.standard_normal((MATRIX_DRAWS, len(information))) @ L.T
    x = _project(z, orders, information)
    lengths = np.einsum("ka,ab,kb->k", x, information, x)
    parts = " and ".join(f"{d}x{d}" for d in orders)
    text = (
        f"chi2({n_free}) plus the projection on covariance matrices ({parts}), "
        f"{MATRIX_DRAWS} draws of the information matrix"
    )
    return NullDistribution((n_free,), (), text, np.asarray(lengths))


def _project(z: Array, orders: tuple[int, ...], information: Array, steps: int = 150) -> Array:
    """Projection on the product of cones in the metric of the information (FISTA)."""
    # coordinates in which a Frobenius projection clips eigenvalues: off-diagonals count twice
    scale = np.concatenate([_frobenius(d) for d in orders])
    M = information / np.outer(scale, scale)
    target = z * scale
    step = 1.0 / float(np.linalg.eigvalsh(M)[-1])
    x = _clip(target, orders)
    y, momentum = x, 1.0
    for _ in range(steps):
        new = _clip(y - step * (y - target) @ M, orders)
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        y = new + (momentum - 1.0) / following * (new - x)
        x, momentum = new, following
    return np.asarray(x / scale)


def _frobenius(d: int) -> Array:
    rows, cols = np.tril_indices(d)
    return np.where(rows == cols, 1.0, np.sqrt(2.0))


def _clip(x: Array, orders: tuple[int, ...]) -> Array:
    out, at = x.copy(), 0
    for d in orders:
        rows, cols = np.tril_indices(d)
        where = slice(at, at + len(rows))
        scale = _frobenius(d)
        S = np.zeros((len(x), d, d))
        S[:, rows, cols] = S[:, cols, rows] = x[:, where] / scale
        values, vectors = np.linalg.eigh(S)
        S = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
        out[:, where] = S[:, rows, cols] * scale
        at += len(rows)
    return out
