r"""Cluster-robust covariances of fixed effects with structured residuals.

``M (sum_j s_j s_j') M`` with ``M = (X'V^-1X)^-1`` and ``s_j = X_j'V_j^-1(y_j - X_j beta)``, V the
fitted covariance with its residual structure; CR0 as it is, CR1 times ``J / (J - 1)``, CR1S times
``J (n - 1) / ((J - 1)(n - p))``. t tests have J - 1 degrees of freedom.
Source: Liang & Zeger 1986 (Biometrika 73:13); Cameron & Miller 2015 (J. Human Resources 50:317).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.infer.residual_clusters import independent_units
from multilevel.infer.robust import RobustCovariance
from multilevel.infer.robust_clusters import Clustering, is_inside, resolve_clusters
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]
TYPES = ("CR0", "CR1", "CR1S")


def structured_robust(
    prepared: StructuredPrepared,
    fit: Fit,
    objective: StructuredObjective,
    psi: Array,
    *,
    type: str | None = None,
    cluster: Any = None,
) -> RobustCovariance:
    """Cluster-robust covariance of the fixed effects, user units.

    Parameters
    ----------
    objective : of ``prepared``; left set at ``psi`` (r + K,).
    type : ``"CR0"``, ``"CR1"`` (default) or ``"CR1S"``.
    cluster : None for the coarsest factor (the residual unit where nothing is random); else as
        in ``resolve_clusters``: one clustering that holds all correlated rows.

    Raises
    ------
    InferenceError : another type, several clusterings, one that cuts through correlated rows, a
        model without fixed effects.
    """
    if type is not None and type not in TYPES:
        raise InferenceError(
            f"With structured residuals the type must be one of {', '.join(TYPES)}.",
            f"type={type!r}",
            'write type="CR1"',
        )
    if fit.n_fixed == 0:
        raise InferenceError(
            "A covariance of fixed effects needs fixed effects.",
            "a model without any",
            "add an intercept to the formula",
        )
    design = prepared.plain.design
    own = independent_units(prepared)
    chosen = [own] if cluster is None else resolve_clusters(design, cluster)
    if len(chosen) != 1 or not is_inside(own.codes, chosen[0].codes):
        raise InferenceError(
            "Robust errors need one clustering that holds all rows that the model correlates.",
            f"{' and '.join(c.name for c in chosen)}; rows of one {own.name} are correlated",
            f"leave cluster out, or name one that holds {own.name}",
        )
    return _covariance(prepared, objective, psi, type or "CR1", chosen[0])


def _covariance(
    prepared: StructuredPrepared, objective: StructuredObjective, psi: Array, kind: str,
    cluster: Clustering,
) -> RobustCovariance:  # fmt: skip
    inner = objective.ensure(psi)
    if inner.profile is None:
        raise InferenceError("The objective must be set at the fit.", "unset", "call set(psi)")
    rows = objective.fixed_scores(psi)
    n, p = rows.shape
    J = cluster.n_clusters
    if J < 2:
        raise InferenceError(
            "Robust errors need at least two clusters.", f"{J} in {cluster.name}", "use vcov_fixed"
        )
    scores = np.zeros((J, p))
    np.add.at(scores, cluster.codes[prepared.layout.order], rows)
    half = np.linalg.solve(inner.profile.R, np.eye(p))
    M = half @ half.T
    factor = {"CR0": 1.0, "CR1": J / (J - 1.0), "CR1S": J * (n - 1.0) / ((J - 1.0) * (n - p))}
    vcov = prepared.plain.scaling.vcov_beta(factor[kind] * (M @ (scores.T @ scores) @ M))
    sentence = (
        f"{kind} cluster-robust standard errors, {J} clusters ({cluster.name}); weights are the"
        f" fitted covariance with its residual structure. t tests on {J - 1} degrees of freedom"
        " (clusters - 1)."
    )
    df = np.full(p, J - 1.0)
    return RobustCovariance(kind, {cluster.name: J}, vcov, df, "clusters - 1", sentence)
