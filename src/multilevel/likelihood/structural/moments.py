"""Free parameters to model-implied moments of one level, with exact derivatives.

Reticular action model (McArdle & McDonald 1984, Brit. J. Math. Stat. Psych. 37:234): all variables,
observed first, then latent, obey ``v = m + A v + e``, ``Var e = S``, so that with
``T = (I - A)^-1``: mean ``T m``, covariance ``T S T'``; observed rows are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.model.structural.records import Level, Parameter, StructuralModel

Array = NDArray[np.float64]
Numbers = NDArray[Any]
_KINDS = {"=~": "A", "~": "A", "~~": "S", "~1": "m"}


@dataclass(frozen=True)
class Entry:
    """One parameter's place: ``kind`` "A", "S" or "m", row, column; ``free`` -1 if fixed."""

    kind: str
    row: int
    column: int
    free: int
    value: float


@dataclass(frozen=True)
class Implied:
    """One level at one point: observed mean and covariance, and all variables' ``T``, moments."""

    mean: Numbers
    cov: Numbers
    T: Numbers
    full_mean: Numbers
    full_cov: Numbers
    A: Numbers
    S: Numbers


@dataclass(frozen=True)
class LevelMap:
    """The matrices of one level of one group.

    Attributes
    ----------
    names : all variables, the first ``n_observed`` of them observed.
    n_observed : p, observed variables and, between clusters, random slopes.
    n_free : q, free parameters of the whole model.
    entries : where each parameter stands.
    """

    names: tuple[str, ...]
    n_observed: int
    n_free: int
    entries: tuple[Entry, ...]

    def implied(self, theta: Numbers) -> Implied:
        """Moments at ``theta`` (q,), real or complex.

        Raises
        ------
        LikelihoodError : variables that cause each other so that ``I - A`` has no inverse.
        """
        k, p = len(self.names), self.n_observed
        A, S = np.zeros((k, k), theta.dtype), np.zeros((k, k), theta.dtype)
        m = np.zeros(k, theta.dtype)
        for e in self.entries:
            value = theta[e.free] if e.free >= 0 else e.value
            if e.kind == "A":
                A[e.row, e.column] = value
            elif e.kind == "S":
                S[e.row, e.column] = S[e.column, e.row] = value
            else:
                m[e.row] = value
        try:
            T = np.linalg.inv(np.eye(k) - A)
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                "Regressions must have a solution.",
                "variables that cause each other with a product of slopes of 1",
                "remove a loop of regressions",
            ) from error
        full_mean, full_cov = T @ m, T @ S @ T.T
        return Implied(full_mean[:p], full_cov[:p, :p], T, full_mean, full_cov, A, S)

    def pullback(self, at: Implied, mean_slope: Numbers, cov_slope: Numbers) -> Numbers:
        """(q,) derivative of F, given dF/d mean (p,) and symmetric dF/d cov (p, p)."""
        p = self.n_observed
        T = at.T[:p]
        slope_s = T.T @ cov_slope @ T
        slope_m = T.T @ mean_slope
        slope_a = 2.0 * T.T @ cov_slope @ at.full_cov[:p]
        slope_a = slope_a + np.outer(slope_m, at.full_mean)
        out = np.zeros(self.n_free, dtype=slope_a.dtype)
        for e in self.entries:
            if e.free < 0:
                continue
            if e.kind == "A":
                out[e.free] += slope_a[e.row, e.column]
            elif e.kind == "S":
                out[e.free] += slope_s[e.row, e.column] * (1.0 if e.row == e.column else 2.0)
            else:
                out[e.free] += slope_m[e.row]
        return out

    def directions(self, at: Implied) -> tuple[Array, Array]:
        """Derivatives of the observed mean (q, p) and covariance (q, p, p) in all parameters."""
        p = self.n_observed
        mean = np.zeros((self.n_free, p))
        cov = np.zeros((self.n_free, p, p))
        T = at.T[:p]
        for e in self.entries:
            if e.free < 0:
                continue
            if e.kind == "A":
                half = np.outer(T[:, e.row], at.full_cov[e.column, :p])
                mean[e.free] += T[:, e.row] * at.full_mean[e.column]
                cov[e.free] += half + half.T
            elif e.kind == "S":
                half = np.outer(T[:, e.row], T[:, e.column])
                cov[e.free] += half if e.row == e.column else half + half.T
            else:
                mean[e.free] += T[:, e.row]
        return mean, cov


def level_map(
    model: StructuralModel, level: Level, group: int, taken: dict[tuple[str, str, str], float]
) -> LevelMap:
    """Lay one level of a model out in matrices.

    Parameters
    ----------
    taken : ``{(lhs, op, rhs): value}`` moments of fixed exogenous predictors, from the data.
    """
    observed = model.located(level)
    names = (*observed, *(n for n in model.latent(level) if n not in observed))
    place = {name: i for i, name in enumerate(names)}

    def entry(p: Parameter) -> Entry:
        value = taken[p.lhs, p.op, p.rhs] if p.origin == "exogenous" else p.value
        kind, a = _KINDS[p.op], place[p.lhs]
        b = place[p.rhs] if p.rhs else 0
        row, column = (b, a) if p.op == "=~" else (a, b)
        return Entry(kind, row, column, p.free, value)

    entries = tuple(entry(p) for p in model.block(level, group))
    return LevelMap(names, len(observed), model.n_free, entries)
