r"""Scores of structural models with families: what each unit is, given all data.

The random effects of a unit are ``b = Lambda w``, ``w ~ N(0, I)``; the engine gives mean (Laplace:
mode) and covariance W of w given the data. What is scored, v, is jointly normal with b given the
observed predictors, ``v = mu + A w + rest`` with ``A = Cov(v, b_P) Lambda_P^-T`` (P the pivots, on
which Lambda has full rank), so that

    E(v | data) = mu + A E(w | data),    Var(v | data) = Var(v) - A A' + A W A'.

Empirical Bayes: the estimates of the model are taken as known (Skrondal & Rabe-Hesketh 2009, J. R.
Stat. Soc. A 172:659).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structural_mixed import MixedFit
from multilevel.interpret.structural_scores import ScoreColumn
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.structural.mixed_objective import MixedObjective
from multilevel.model.structural.records import StructuralModel

Array = NDArray[np.float64]


def score_levels(fit: MixedFit) -> tuple[str, ...]:
    """Levels at which something can be scored."""
    model = fit.layout.design.model
    labels = ("between",) if len(model.clusters) == 1 else model.clusters
    found = ["within"] * bool(model.models[0].latent_within)
    for label, one in zip(labels, model.models, strict=False):
        found += [label] * bool(_wanted(one))
    return tuple(found)


def mixed_scores(fit: MixedFit, levels: tuple[str, ...]) -> tuple[ScoreColumn, ...]:
    """Scores of all variables that are not observed at these levels (of ``score_levels``).

    Raises
    ------
    InferenceError : latent variables of rows that depend on outcomes with a between part.
    """
    layout = fit.layout
    points = fit.approximation.points
    objective = MixedObjective(layout, points if points else 1)
    objective.value(fit.theta)
    labels = score_levels(fit)
    if not levels:
        raise InferenceError(
            "Scores need a latent variable, a between part or a random slope.",
            "a model without them",
            "write a model with =~ or clusters",
        )
    out: list[ScoreColumn] = []
    for label in levels:
        if label not in labels:
            raise InferenceError(
                "Scores need a latent variable, a between part or a random slope at the level asked"
                " for.",
                f"none at the level {label}",
                f"score {' or '.join(map(repr, labels))}" if labels else "write a model with =~",
            )
        out += _rows(fit, objective) if label == "within" else _clusters(fit, objective, label)
    return tuple(out)


def _wanted(model: StructuralModel) -> dict[str, str]:
    """``{variable: kind}`` of one cluster column."""
    slopes = set(model.slope_names)
    out = dict.fromkeys(model.both, "between part") | dict.fromkeys(slopes, "random slope")
    return out | {n: "latent variable" for n in model.latent_between if n not in slopes}


def _effects(
    objective: MixedObjective, place: int, n_units: int
) -> tuple[Array, Array, Array, list[int]]:
    """``E(w | data)`` (J, r), W (J, r, r), ``Lambda_P`` (r, r), effects P of one grouping."""
    layout = objective.layout
    if place not in layout.places:
        return np.zeros((n_units, 0)), np.zeros((n_units, 0, 0)), np.zeros((0, 0)), []
    t = layout.places.index(place)
    block, engine = layout.blocks[t], objective.engine
    r = len(block.pivots)
    centres = engine.means() if isinstance(engine, NestedQuadrature) else engine.modes()
    W = engine.mode_covariance(t)
    psi, _ = layout.psi(objective.theta)
    factor = layout.problem.factors(np.asarray(psi, dtype=np.float64))[t]
    P = list(block.pivots)
    return centres[t][:, :r], W[:, :r, :r], factor[P, :r], [block.effects[i] for i in P]


def _posterior(
    cross: Array, spread: Array, effects: tuple[Array, Array, Array, list[int]]
) -> tuple[Array, Array]:
    """Means (J, n) beyond the prior ones and variances (J, n), given ``Cov(v, b)`` (n, E)."""
    mean, W, factor, P = effects
    A = np.linalg.solve(factor, cross[:, P].T).T if P else np.zeros((len(cross), 0))
    left = np.diag(spread) - np.sum(A**2, axis=1)
    return mean @ A.T, left + np.einsum("na,jab,nb->jn", A, W, A)


def _clusters(fit: MixedFit, objective: MixedObjective, label: str) -> list[ScoreColumn]:
    """Between parts, random slopes and latent variables of the units of one cluster column."""
    mapping, design, theta = fit.layout.map, fit.layout.design, fit.theta
    names = ("between",) if len(design.factors) == 1 else design.model.clusters
    k = names.index(label)
    factor, model, level = design.factors[k], design.model.models[k], mapping.between[k]
    at = level.implied(theta)
    n_u = len(model.both) + len(model.slope_names)
    z = list(range(n_u, n_u + len(model.between_only)))
    wanted = _wanted(model)
    v = [level.names.index(n) for n in wanted]
    u = list(range(n_u))
    C, J = at.full_cov, len(factor.labels)
    R = np.linalg.solve(C[np.ix_(z, z)], C[np.ix_(z, v)]).T if z else np.zeros((len(v), 0))
    mean = at.full_mean[v] + (factor.z - at.full_mean[z]) @ R.T
    spread = C[np.ix_(v, v)] - R @ C[np.ix_(z, v)]
    moved = mapping.moved(k, mapping.rows(theta))
    cross = (C[np.ix_(v, u)] - R @ C[np.ix_(z, u)]) @ moved.T
    place = k + int(mapping.has_rows)
    shift, variance = _posterior(cross, spread, _effects(objective, place, J))
    sizes = np.bincount(factor.codes, minlength=J).astype(np.intp)
    rows = np.full(J, -1, dtype=np.intp)
    return [
        _column(label, name, kind, factor.labels, rows, sizes, (mean + shift)[:, i],
                variance[:, i], float(C[v[i], v[i]]))
        for i, (name, kind) in enumerate(wanted.items())
    ]  # fmt: skip


def _rows(fit: MixedFit, objective: MixedObjective) -> list[ScoreColumn]:
    """Latent variables of rows, given the inputs and the outcomes that cause them."""
    mapping, design, theta = fit.layout.map, fit.layout.design, fit.theta
    own = mapping.rows(theta)
    f, x, o = mapping.latent, mapping.inputs, mapping.outcomes
    causes = [i for i, k in enumerate(o) if np.any(own.A[np.ix_(f, [k])])]
    if any(design.outcomes[i] in design.model.split for i in causes):
        raise InferenceError(
            "Scores of rows need latent variables that do not depend on variables with a between"
            " part.",
            f"a latent variable depends on {design.outcomes[causes[0]]}",
            "score the level between",
        )
    given = design.given @ own.A[np.ix_(f, x)].T
    for i in causes:
        given = given + np.outer(design.values[:, i], own.A[f, o[i]])
    mean = (own.m[f] + given) @ own.T.T
    S = own.S[np.ix_(f, f)]
    spread = own.T @ S @ own.T.T
    n_slopes = len(design.model.slopes)
    load = np.concatenate([own.h @ own.L, np.zeros((len(own.h) * n_slopes, len(f)))])
    shift, variance = _posterior(own.T @ S @ load.T, spread, _effects(objective, 0, design.n_rows))
    full = mapping.within.implied(theta).full_cov
    n = design.n_rows
    labels, sizes = np.arange(n).astype(object), np.ones(n, dtype=np.intp)
    if design.factors:
        lowest = design.factors[0]
        labels = lowest.labels[lowest.codes]
        sizes = np.bincount(lowest.codes)[lowest.codes].astype(np.intp)
    return [
        _column("within", mapping.within.names[k], "latent variable", labels, design.rows, sizes,
                (mean + shift)[:, i], variance[:, i], float(full[k, k]))
        for i, k in enumerate(f)
    ]  # fmt: skip


def _column(
    level: str,
    name: str,
    kind: str,
    labels: NDArray[np.object_],
    rows: NDArray[np.intp],
    sizes: NDArray[np.intp],
    estimate: Array,
    variance: Array,
    total: float,
) -> ScoreColumn:
    left = np.maximum(variance, 0.0)
    share = 1.0 - left / total if total > 0.0 else np.full(len(left), np.nan)
    return ScoreColumn(level, "", name, kind, labels, rows, sizes, estimate, np.sqrt(left), share)
