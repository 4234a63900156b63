r"""What the variances would be without one cluster: one Newton step.

The criterion without cluster j at the full estimate theta has an exact gradient that follows from
sums the engine holds (one grouping factor): with ``beta(j) = beta - d_j`` the residual scores of
the other levels become ``g_k + H_k d_j``, so that

    Q(j) = sum_k G_k - G_j - sum_{k != j} (g_k + H_k d_j)(g_k + H_k d_j)' / sigma2(j)
           - [REML] sum_{k != j} H_k (T - T_j)^-1 H_k',
    r2(j) = r2 - e_j'V_j^-1 e_j - s_j'd_j,    sigma2(j) = r2(j) / (nu - n_j).

One step with the Hessian of all data, in theta; sigma2 moves along by ``dr2 = -<sum g g', dPsi>``.
Source: Pan & Fang 2002, Growth Curve Models, section 6 (one-step deletion); own derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.robust_rows import sums_by_level

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.infer.robust_clusters import Clustering
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.interpret.influence import Deletions
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VarianceInfluence:
    """Variances without each of J clusters, by one Newton step; user units.

    Attributes
    ----------
    random_covariance : (J, q, q).
    sigma2 : (J,) residual variance.
    """

    random_covariance: Array
    sigma2: Array


def why_not(fit: Fit, objective: GaussianObjective, cluster: Clustering) -> str:
    """Why one-step variances are not available for a fit; empty if they are."""
    if len(objective.maps) != 1:
        return "one-step variances need a model with one grouping factor"
    if fit.certificate.status != "certified":
        return "one-step variances need an optimum inside the parameter space"
    if cluster.n_clusters != objective.engine.information_blocks(0).shape[0]:
        return "one-step variances need the clusters to be the levels of the random effects"
    return ""


def variance_influence(
    prepared: Prepared,
    fit: Fit,
    objective: GaussianObjective,
    rows: WorkingRows,
    cluster: Clustering,
    deleted: Deletions,
) -> VarianceInfluence:
    """Variances without each cluster.

    Raises
    ------
    InferenceError : several grouping factors, or an optimum on the boundary.
    """
    reason = why_not(fit, objective, cluster)
    profile = objective.profile
    if reason or profile is None:
        raise InferenceError(
            "One-step deletion needs one grouping factor and an interior optimum.",
            reason or "no parameters",
            "use the fixed effects' influence only",
        )
    J = cluster.n_clusters
    counts = np.bincount(cluster.codes, minlength=J)
    own_r2 = sums_by_level(
        (rows.weights * rows.conditional * rows.marginal)[:, None], cluster.codes, J
    )[:, 0]
    r2 = profile.r2 - own_r2 - np.einsum("ja,ja->j", deleted.scores, deleted.change)
    nu = objective.nu - counts
    sigma2 = r2 / nu
    Q, gg = _scores_without(objective, deleted, sigma2)
    directions = objective.directions()[0]
    gradient = np.einsum("jab,rab->jr", Q, directions)
    step = -np.linalg.solve(objective.exact_hessian(), gradient.T).T
    sigma2 = (r2 - np.einsum("jab,rab,jr->j", gg, directions, step, optimize=True)) / nu
    L = np.stack([objective.maps[0].factor(theta) for theta in fit.theta + step])
    raw = prepared.scaling.random[0] @ L
    scale = sigma2 * prepared.scaling.y_scale**2
    return VarianceInfluence(scale[:, None, None] * (raw @ raw.transpose(0, 2, 1)), scale)


def _scores_without(
    objective: GaussianObjective, deleted: Deletions, sigma2: Array
) -> tuple[Array, Array]:
    """``Q(j)`` and ``sum_{k != j} g g'`` at ``beta(j)``: (J, q, q) each."""
    p = objective.p
    H = objective.engine.cross(0)[:, :, :p]
    g = objective.residual_scores()[0]
    G = objective.engine.information_blocks(0)
    # the same Psi and beta as the sums: own part taken off
    own_gg = g[:, :, None] * g[:, None, :]
    own_hg = H[:, :, :, None] * g[:, None, None, :]
    hg = own_hg.sum(axis=0) - own_hg
    d = deleted.change
    cross = np.einsum("japb,jp->jab", hg, d, optimize=True)
    own_hh = np.einsum("jap,jbs->japbs", H, H, optimize=True)
    hh = own_hh.sum(axis=0) - own_hh
    gg = own_gg.sum(axis=0) - own_gg + cross + cross.transpose(0, 2, 1)
    gg = gg + np.einsum("japbs,jp,js->jab", hh, d, d, optimize=True)
    Q = G.sum(axis=0) - G - gg / sigma2[:, None, None]
    if objective.reml:
        Q = Q - np.einsum("japbs,jps->jab", hh, deleted.inverse, optimize=True)
    return Q, gg
