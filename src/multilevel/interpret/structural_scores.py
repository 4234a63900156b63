"""Factor scores of structural models: latent variables, between parts and random slopes by unit.

* regression: mean and standard deviation of the posterior distribution given all data of the
  cluster (Thomson 1939; Skrondal & Laird 2001, Psychometrika 66:563; for two levels, the scores of
  Rosseel 2021); shrunk towards what the model predicts.
* Bartlett: the latent variables of the unit as fixed unknowns, all else of the cluster (residuals,
  between parts, other rows) as random: generalized least squares, not shrunk, unbiased given the
  latent variables (Bartlett 1937). With posterior ``N(t, V)`` and ``N(m, V0)`` the distribution
  given the observed predictors only: precision ``V^-1 - V0^-1``, score
  ``(V^-1 - V0^-1)^-1 (V^-1 t - V0^-1 m)``.

Reliability: squared correlation of score and true value in the model, ``1 - V / Var`` (regression)
or ``Var / (Var + error variance)`` (Bartlett), Var the model-implied variance of the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.likelihood.structural.nested_posterior import group_posterior
from multilevel.likelihood.structural.posterior import GroupPosterior, Posterior
from multilevel.model.structural.records import Level, StructuralModel
from multilevel.model.structural.reference import exogenous_predictors

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
ScoreMethod = Literal["regression", "bartlett"]
SCORE_METHODS: tuple[str, ...] = get_args(ScoreMethod)
_LEAST = 1e-9  # share of the information on a latent variable that the data must hold


@dataclass(frozen=True)
class ScoreColumn:
    """One variable at one level of one group, for all its units.

    Attributes
    ----------
    level, group, variable : names.
    kind : ``"latent variable"``, ``"between part"`` (the latent cluster mean; with levels above,
        its deviation from the mean of the unit above) or ``"random slope"``.
    clusters : (n,) label of each unit; of rows, that of their level-2 unit.
    rows : (n,) row of the table; -1 above level 1.
    sizes : (n,) rows used of the unit; of rows, those of their level-2 unit.
    estimate, std_error, reliability : (n,); NaN where the unit says nothing of the variable.
    """

    level: Level
    group: str
    variable: str
    kind: str
    clusters: NDArray[Any]
    rows: Codes
    sizes: Codes
    estimate: Array
    std_error: Array
    reliability: Array


@dataclass(frozen=True)
class ScoreReliability:
    """Reliability of the scores of one variable in clusters of one size.

    ``reliability`` is the average over the units; ``lowest`` and ``highest`` differ from it where
    values are missing or a predictor with a random slope varies.
    """

    level: Level
    group: str
    variable: str
    cluster_size: int
    n_clusters: int
    reliability: float
    lowest: float
    highest: float


def factor_scores(
    problem: StructuralProblem,
    fit: StructuralFit,
    levels: tuple[Level, ...],
    method: ScoreMethod,
) -> tuple[ScoreColumn, ...]:
    """Scores of every variable that is not observed (see the module).

    Raises
    ------
    InferenceError : a model without such variables at these levels, or Bartlett scores that
        do not exist.
    LikelihoodError : estimates at which the likelihood does not exist.
    """
    objective = problem.objective(fit.model)
    wanted = {level: _wanted(fit.model, level, method) for level in levels}
    if not any(wanted.values()):
        what = "latent variable (=~)" if method == "bartlett" else "latent variable or between part"
        raise InferenceError(
            f"Scores need a {what} at the level asked for.",
            f"none at the level {' or '.join(map(fit.model.level_name, levels))}",
            'write method="regression", or another level'
            if method == "bartlett"
            else "score another level, or write a model with =~",
        )
    out: list[ScoreColumn] = []
    for g, label in enumerate(fit.model.groups):
        posterior = group_posterior(objective, fit.theta, g)
        for level in levels:
            if wanted[level]:
                out += _columns(problem, fit.model, g, label, level, wanted[level], posterior,
                                method)  # fmt: skip
    return tuple(out)


def _wanted(model: StructuralModel, level: Level, method: ScoreMethod) -> dict[str, str]:
    """``{variable: kind}`` of what is scored at a level."""
    slopes = set(model.slope_names)
    latent = {n: "latent variable" for n in model.latent(level) if n not in slopes}
    if level == "within" or method == "bartlett":
        return latent
    shared = model.above(level) | set(_from_below(model, level))
    parts = {n: "between part" for n in model.located(level) if n in shared and n not in slopes}
    here = [n for n in model.located(level) if n in slopes]
    return parts | dict.fromkeys(here, "random slope") | latent


def _from_below(model: StructuralModel, level: Level) -> tuple[str, ...]:
    """Variables of an upper level that have a part at the level below it too."""
    high = next((h for h in model.higher if h.name == level), None)
    return model.both if high is None else high.parts


def _columns(
    problem: StructuralProblem,
    model: StructuralModel,
    g: int,
    label: str,
    level: Level,
    wanted: dict[str, str],
    posterior: GroupPosterior,
    method: ScoreMethod,
) -> list[ScoreColumn]:
    data, group = posterior.data, problem.design.groups[g]
    names = posterior.maps[level].names
    chosen = np.array([names.index(n) for n in wanted], dtype=np.intp)
    found = posterior.of_level(level, chosen)
    size_of = np.bincount(data.row_cluster, minlength=data.n_clusters)
    if level == "within":
        clusters, rows = group.clusters[data.row_cluster], _used_rows(group.y, group.rows)
        sizes = size_of[data.row_cluster]
    else:
        clusters, sizes = group.clusters, size_of
        for units in group.upper[: model.levels.index(level) - 1]:
            clusters = units.labels
            sizes = np.bincount(units.codes, sizes, len(clusters)).astype(np.intp)
        rows = np.full(len(clusters), -1)
    variance = np.diag(posterior.at[level].full_cov)[chosen]
    if method == "bartlett":
        found = _bartlett(model, level, posterior, chosen, found, list(wanted))
    left = np.diagonal(found.cov, axis1=1, axis2=2)
    # a negative variance of the model has no standard error; zero may be missed by rounding
    error = np.sqrt(np.where(left < -1e-8 * np.abs(variance), np.nan, np.maximum(left, 0.0)))
    size = np.where(variance > 0.0, variance, np.nan)
    share = size / (size + error**2) if method == "bartlett" else 1.0 - error**2 / size
    title = model.level_name(level)
    return [
        ScoreColumn(title, label, name, kind, clusters, rows, sizes, found.mean[:, k],
                    error[:, k], share[:, k])
        for k, (name, kind) in enumerate(wanted.items())
    ]  # fmt: skip


def _used_rows(y: Array, rows: Codes) -> Codes:
    """Rows of the table that have any level-1 value."""
    return rows[~np.all(np.isnan(y), axis=1)] if y.shape[1] else rows


def _bartlett(
    model: StructuralModel,
    level: Level,
    posterior: GroupPosterior,
    chosen: Codes,
    found: Posterior,
    wanted: list[str],
) -> Posterior:
    """Take what the model knows without the unit's data out of the posterior distribution."""
    at, own = posterior.at[level], posterior.own_values(level)
    C, names = at.full_cov, posterior.maps[level].names
    exogenous = exogenous_predictors(model, level)
    moved = [n for n in exogenous if np.any(C[chosen, names.index(n)] != 0.0)]
    below = _from_below(model, level) if level != "within" else ()
    split = [n for n in moved if n in below or n in model.above(level)]
    if split:
        raise InferenceError(
            "Bartlett scores take the predictors of latent variables as given, so they must be "
            "observed at the level.",
            f"{', '.join(split)}, split into latent parts, at the {model.level_name(level)} level",
            'write method="regression"',
        )
    place = [names.index(n) for n in moved]
    columns = [k - own.first for k in place]
    mean, cov = np.full_like(found.mean, np.nan), np.full_like(found.cov, np.nan)
    for m in range(len(own.seen)):
        mine = np.flatnonzero(own.pattern == m)
        here = [k for k, c in enumerate(columns) if own.seen[m, c] == 1.0]
        e = np.array([place[k] for k in here], dtype=np.intp)
        B = C[np.ix_(chosen, e)] @ np.linalg.inv(C[np.ix_(e, e)])
        prior = C[np.ix_(chosen, chosen)] - B @ C[np.ix_(e, chosen)]
        shift = (own.values[mine][:, [columns[k] for k in here]] - at.full_mean[e]) @ B.T
        mean[mine], cov[mine] = _without_prior(
            found.mean[mine], found.cov[mine], at.full_mean[chosen] + shift, prior
        )
    if np.all(np.isnan(mean)):
        raise InferenceError(
            "Bartlett scores need indicators that determine the latent variables.",
            f"the data of a unit do not determine {', '.join(wanted)} at the "
            f"{model.level_name(level)} level, or "
            "their residual variance is not positive",
            'write method="regression"',
        )
    return Posterior(mean, cov)


def _without_prior(t: Array, V: Array, m: Array, V0: Array) -> tuple[Array, Array]:
    """Mean (n, k) and covariance (n, k, k) of the likelihood alone; NaN where it is flat."""
    mean, cov = np.full_like(t, np.nan), np.full_like(V, np.nan)
    values, vectors = np.linalg.eigh(V0)
    if float(values.min()) <= 0.0 or not len(t):
        return mean, cov
    # in units of the prior: posterior covariance U has eigenvalues in (0, 1]
    root = vectors * np.sqrt(values)
    back = np.linalg.inv(root)
    U = back @ V @ back.T
    u, w = np.linalg.eigh(0.5 * (U + np.swapaxes(U, 1, 2)))
    known = 1.0 - u
    good = np.all((known > _LEAST) & (u > 0.0), axis=1)
    ratio = np.where(good[:, None], u / np.where(known > 0.0, known, 1.0), np.nan)
    Lw = root @ w
    # (V^-1 - V0^-1)^-1 = Lw diag(u / (1 - u)) Lw', and V^-1 t - V0^-1 m likewise
    tilted = np.einsum("nji,nj->ni", w, (t - m) @ back.T) / (1.0 - u + (known <= 0.0))
    mean[good] = (m + np.einsum("nij,nj->ni", Lw, tilted))[good]
    cov[good] = ((Lw * ratio[:, None, :]) @ np.swapaxes(Lw, 1, 2))[good]
    return mean, cov


def score_reliability(columns: tuple[ScoreColumn, ...]) -> tuple[ScoreReliability, ...]:
    """Reliability of the scores by level, variable and cluster size."""
    out = []
    for c in columns:
        for size in np.unique(c.sizes):
            mine = (c.sizes == size) & ~np.isnan(c.reliability)
            if not np.any(mine):
                continue
            r = c.reliability[mine]
            n = len(dict.fromkeys(c.clusters[mine].tolist()))
            out.append(
                ScoreReliability(c.level, c.group, c.variable, int(size), n, float(r.mean()),
                                 float(r.min()), float(r.max()))
            )  # fmt: skip
    return tuple(out)
