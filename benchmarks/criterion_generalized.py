"""The judge of generalized models: the criterion at the estimates that a program returned.

The same approximation for every program, by NumPy and SciPy alone: with random effects ``b = L u``
and ``h(u) = log f(y | u) - u'u / 2`` at its mode ``u*``, with curvature ``H = -h''(u*)``,

    Laplace       log L = h(u*) - log|H| / 2
    quadrature    log L_j = log sum_k w_k exp{h(u* + R t_k) + t_k't_k / 2} - log|H| / 2,  RR' = H^-1

(Pinheiro and Bates 1995). One grouping factor is done level by level in small batches, several
factors with one dense matrix, so that their levels together must fit in memory squared.
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit, gammaln, log_expit

from benchmarks.columns import Column
from benchmarks.criterion import Estimates, _factor, _indicator, _times_factor
from benchmarks.models import Model

Array = NDArray[np.float64]


def row_terms(family: str, y: Array, eta: Array, extra: Array) -> tuple[Array, Array, Array]:
    """Log density of each row, its first derivative in eta, and minus its second one."""
    if family == "binomial":
        mu = expit(eta)
        return y * eta + log_expit(-eta), y - mu, mu * (1.0 - mu)
    if family == "poisson":
        mu = np.exp(eta)
        return y * eta - mu - gammaln(y + 1.0), y - mu, mu
    if family == "negative_binomial":
        size = 1.0 / float(extra[0])
        mu = np.exp(eta)
        share = mu / (size + mu)
        value = gammaln(y + size) - gammaln(size) - gammaln(y + 1.0)
        value = value + y * np.log(share) + size * np.log1p(-share)
        return value, y - (y + size) * share, (y + size) * share * (1.0 - share)
    cuts = np.concatenate([[-np.inf], extra, [np.inf]])
    category = y.astype(int)
    low, high = expit(cuts[category] - eta), expit(cuts[category + 1] - eta)
    # cumulative logit: d log(F_high - F_low) / d eta = F_low + F_high - 1
    weight = low * (1.0 - low) + high * (1.0 - high)
    return np.log(high - low), low + high - 1.0, weight


class GeneralizedJudge:
    """Evaluates criteria of one generalized model on one table."""

    def __init__(self, table: dict[str, Column], model: Model) -> None:
        y = np.asarray(table[model.response], float)
        first = [] if model.family == "cumulative" else [np.ones(len(y))]
        columns = [*first, *(table[name] for name in model.fixed)]
        self.X = np.column_stack(columns) if columns else np.zeros((len(y), 0))
        self.y, self.model = y, model
        self.Z = [_indicator(table, term) for term in model.terms]

    def criterion(self, found: Estimates) -> float:
        """-2 log-likelihood by the model's approximation at the estimates."""
        fixed = self.X @ found.beta
        factors = [_factor(g) for g in found.G]
        if len(self.Z) == 1:
            return self._by_level(fixed, factors[0], found.extra)
        Z = sp.hstack([_times_factor(z, L) for z, L in zip(self.Z, factors, strict=True)]).tocsr()
        return self._jointly(fixed, Z, found.extra)

    def _rows(self, eta: Array, extra: Array) -> tuple[Array, Array, Array]:
        return row_terms(self.model.family, self.y, eta, extra)

    def _jointly(self, fixed: Array, Z: Any, extra: Array) -> float:
        """Laplace with all levels in one vector."""
        u = np.zeros(Z.shape[1])
        best = -np.inf
        for _ in range(100):
            value, slope, weight = self._rows(fixed + Z @ u, extra)
            best = float(value.sum() - 0.5 * u @ u)
            H = (Z.T @ sp.diags(weight) @ Z).toarray()
            H.flat[:: len(u) + 1] += 1.0
            L = scipy.linalg.cholesky(H, lower=True)
            step = scipy.linalg.cho_solve((L, True), Z.T @ slope - u)
            if np.abs(step).max() < 1e-10:
                break
            share = 1.0
            while share > 1e-8:
                trial = u + share * step
                at = self._rows(fixed + Z @ trial, extra)[0].sum() - 0.5 * trial @ trial
                if at >= best - 1e-10 * abs(best):
                    break
                share /= 2.0
            u = trial
        return float(-2.0 * (best - np.log(np.diag(L)).sum()))

    def _by_level(self, fixed: Array, factor: Array, extra: Array) -> float:
        """Laplace or quadrature of one grouping factor, all levels side by side."""
        q = len(factor)
        rows = self.Z[0]
        J = rows.shape[1] // q
        codes = rows.indices[::q] // q
        z = rows.data.reshape(-1, q) @ factor

        def sums(values: Array) -> Array:
            return np.bincount(codes, values, J)

        def joint(u: Array) -> tuple[Array, Array, Array]:
            value, slope, weight = self._rows(fixed + (z * u[codes]).sum(axis=1), extra)
            score = np.column_stack([sums(slope * z[:, a]) for a in range(q)]) - u
            H = np.empty((J, q, q))
            for a in range(q):
                for b in range(q):
                    H[:, a, b] = sums(weight * z[:, a] * z[:, b]) + (a == b)
            return sums(value) - 0.5 * (u**2).sum(axis=1), score, H

        u = np.zeros((J, q))
        h, score, H = joint(u)
        for _ in range(100):
            step = np.linalg.solve(H, score[:, :, None])[:, :, 0]
            if np.abs(step).max() < 1e-10:
                break
            trial = u + step
            new = joint(trial)
            worse = new[0] < h - 1e-10 * np.abs(h)
            while worse.any() and np.abs(step[worse]).max() > 1e-9:
                step[worse] /= 2.0
                trial = u + step
                new = joint(trial)
                worse = new[0] < h - 1e-10 * np.abs(h)
            u, (h, score, H) = trial, new
        root = np.linalg.inv(np.linalg.cholesky(H)).transpose(0, 2, 1)
        logdet = np.linalg.slogdet(H)[1]
        if self.model.points == 1:
            return float(-2.0 * (h - 0.5 * logdet).sum())
        t, w = np.polynomial.hermite_e.hermegauss(self.model.points)
        grid = np.stack(np.meshgrid(*[t] * q, indexing="ij")).reshape(q, -1).T
        weights = np.stack(np.meshgrid(*[w] * q, indexing="ij")).reshape(q, -1).prod(axis=0)
        total = np.full(J, -np.inf)
        for node, weight in zip(grid, weights, strict=True):
            at = u + root @ node
            rows_at = self._rows(fixed + (z * at[codes]).sum(axis=1), extra)[0]
            value = sums(rows_at) - 0.5 * (at**2).sum(axis=1)
            share = log(weight) - 0.5 * q * log(2.0 * pi) + 0.5 * node @ node
            total = np.logaddexp(total, value + share)
        return float(-2.0 * (total - 0.5 * logdet).sum())
