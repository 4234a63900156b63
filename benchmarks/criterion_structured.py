"""The judge of models with correlated residuals: dense matrices, unit by unit.

With ``V_j = R_j + Z_j Psi Z_j'`` relative to the residual variance (``R[s, t] = rho^|s - t|``, or
the entries that a program returned for its visits) the criterion is that of ``criterion``.
Every unit is one level of the only grouping factor, if there is one.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
from numpy.typing import NDArray

from benchmarks.columns import Column
from benchmarks.criterion import Estimates
from benchmarks.levels import level_codes
from benchmarks.models import Model

Array = NDArray[np.float64]


class StructuredJudge:
    """Evaluates criteria of one model on one table."""

    def __init__(self, table: dict[str, Column], model: Model) -> None:
        if model.residual is None or any(t.group != (model.residual.unit,) for t in model.terms):
            raise SystemExit("the judge needs residuals, and random effects of their unit only")
        n = len(table[model.response])
        X = np.column_stack([np.ones(n), *(table[name] for name in model.fixed)])
        self.model, self.n, self.p = model, n, int(X.shape[1])
        codes = level_codes(table, (model.residual.unit,))
        order = np.argsort(codes, kind="stable")
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        W = np.column_stack([X, table[model.response]])
        slopes = model.terms[0].slopes if model.terms else ()
        Z = np.column_stack([np.ones(n), *(table[name] for name in slopes)])
        time = np.asarray(table[model.residual.time], dtype=np.int64)
        self.units = [(W[rows], Z[rows], time[rows]) for rows in np.split(order, cuts)]

    def criterion(self, found: Estimates) -> float:
        """-2 log-likelihood or REML criterion (``model.method``) at the estimates."""
        T, logdet = np.zeros((self.p + 1, self.p + 1)), 0.0
        for W, Z, time in self.units:
            V = self._correlation(time, found.extra)
            if found.G:
                V = V + Z @ found.G[0] @ Z.T / found.sigma2
            root = np.linalg.cholesky(V)
            half = np.linalg.solve(root, W)
            T += half.T @ half
            logdet += 2.0 * float(np.log(np.diag(root)).sum())
        p, sigma2 = self.p, found.sigma2
        if self.model.method == "ml":
            contrast = np.append(-found.beta, 1.0)
            return self.n * log(2 * pi * sigma2) + logdet + float(contrast @ T @ contrast) / sigma2
        root = np.linalg.cholesky(T)
        logdet += 2.0 * float(np.log(np.diag(root)[:p]).sum())
        return (self.n - p) * log(2 * pi * sigma2) + logdet + float(root[-1, -1] ** 2) / sigma2

    def _correlation(self, time: NDArray[np.int64], extra: Array) -> Array:
        if self.model.residual is not None and self.model.residual.structure == "ar1":
            return np.asarray(extra[0] ** np.abs(time[:, None] - time[None]), dtype=np.float64)
        n_visits = round(len(extra) ** 0.5)
        return extra.reshape(n_visits, n_visits)[np.ix_(time, time)]
