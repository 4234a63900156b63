r"""Rows of models whose rows have several levels or whose levels are correlated, for diagnostics.

With ``S_t = (A (x) Psi) Z_t'V^-1 W`` by level (what the engine solves for) and
``N = Var(b | y) / sigma2``: rows of ``V^-1 X`` are ``w g`` with ``g = x - sum_t z_t S_t``,
conditional residuals ``y - X beta - Zb``, the total leverage ``w (z'N z + g'M g)``.
Sources: those of ``robust_rows``, ``leverage`` and ``related_predict``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.design.related import loadings_of, row_variances
from multilevel.errors import InferenceError
from multilevel.infer.robust_rows import WorkingRows
from multilevel.interpret.leverage import Leverage
from multilevel.interpret.related import relation_of
from multilevel.interpret.residual_diagnostics import EffectResiduals, standardised_effects
from multilevel.likelihood.related.engine import RelatedEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design
    from multilevel.estimate.posterior import BlockEffects
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]
ROWS_AT_ONCE = 256


def _engine_of(objective: GaussianObjective) -> RelatedEngine:
    if not isinstance(objective.engine, RelatedEngine):
        raise InferenceError(
            "Related levels need their engine.", objective.engine.name, "use working_rows"
        )
    return objective.engine


def related_working_rows(prepared: Prepared, objective: GaussianObjective) -> WorkingRows:
    """Rows of a fit in scaled coordinates; ``objective`` is factorised at the estimates.

    ``Z`` is so scaled that ``z Psi z'`` is the variance that the factor gives the row.
    """
    design, scaling = prepared.design, prepared.scaling
    profile, p, engine = objective.profile, objective.p, _engine_of(objective)
    if profile is None:
        raise InferenceError(
            "The objective must be factorised at the estimates.", "no parameters", "call set(theta)"
        )
    y = design.y if design.offset is None else design.y - design.offset
    W = scaling.apply(design.X, y)
    X, weights = W[:, :p], np.ones(design.n) if design.weights is None else design.weights
    marginal = W[:, p] - X @ profile.beta
    gap, conditional, Z = X.copy(), marginal.copy(), []
    for t, (block, B) in enumerate(zip(design.blocks, scaling.random, strict=True)):
        z, loads, solved = block.columns @ B, loadings_of(block), engine.solution(t)
        effects = solved[:, :, p] - solved[:, :, :p] @ profile.beta
        conditional -= np.einsum("iq,iq->i", z, loads @ effects)
        for a in range(z.shape[1]):
            gap -= z[:, [a]] * (loads @ solved[:, a, :p])
        Z.append(z * np.sqrt(row_variances(loads, relation_of(block)))[:, None])
    inverse = np.linalg.solve(profile.R, np.eye(p)) if p else np.zeros((0, 0))
    return WorkingRows(
        X, tuple(Z), gap * weights[:, None], marginal, conditional, weights,
        inverse @ inverse.T, profile.sigma2, tuple(L @ L.T for L in objective.factors),
        scaling.y_scale * scaling.U[:p, :p], scaling.y_scale,
    )  # fmt: skip


def related_leverages(
    prepared: Prepared, rows: WorkingRows, objective: GaussianObjective
) -> Leverage:
    """Leverages at the estimates, a run of rows at a time."""
    design, engine = prepared.design, _engine_of(objective)
    gap = rows.XV / rows.weights[:, None]
    total = np.einsum("ia,ab,ib->i", gap, rows.M, gap, optimize=True)
    pairs = list(zip(design.blocks, prepared.scaling.random, strict=True))
    columns = [block.columns @ B for block, B in pairs]
    loads = [loadings_of(block) for block, _ in pairs]
    for start in range(0, design.n, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        Zs = [
            np.einsum("kj,ka->jak", known[part].toarray(), z[part])
            for known, z in zip(loads, columns, strict=True)
        ]
        for mine, N in zip(Zs, engine.posterior_product(Zs), strict=True):
            total[part] += np.einsum("jak,jak->k", mine, N)
    fixed = np.einsum("ia,ab,ib->i", rows.X, rows.M, rows.XV, optimize=True)
    return Leverage(fixed, rows.weights * total)


def related_effect_residuals(
    design: Design, fit: Fit, effects: Sequence[BlockEffects]
) -> tuple[EffectResiduals, ...]:
    """Standardised EBLUPs: the variance of an effect before the data is ``A_jj G``."""
    out = []
    for block, G, effect in zip(design.blocks, fit.random_covariance, effects, strict=True):
        relation = relation_of(block)
        size = np.ones(block.n_levels) if relation is None else relation.diagonal
        spread = size[:, None, None] * G - effect.prediction_covariance()
        found = standardised_effects(
            block.group, block.levels, block.names, effect.estimates, G, spread
        )
        out.append(replace(found, levels=block.levels))
    return tuple(out)
