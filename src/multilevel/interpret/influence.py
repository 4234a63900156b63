r"""What the fixed effects would be without one row, or without one cluster.

Variance parameters held at their estimates, deletion is exact:

* row i: ``beta^ - beta^(i) = M (V^-1X)_i r_i / P_ii`` with ``r = V^-1(y - X beta^)`` (a dummy
  variable for the row);
* cluster j that holds all random effects of its rows: ``beta^ - beta^(j) = (T - T_j)^-1 s_j`` with
  ``T = X'V^-1X``, ``T_j`` its part and ``s_j`` the score of the cluster.

Cook's distance is ``d'(X'V^-1X)d / (p sigma2)`` for ``d = beta^ - beta^(i)``; DFBETAS is d over the
model-based standard error; COVRATIO is ``|Var(beta^(j))| / |Var(beta^)|`` at the same sigma2.
Sources: Christensen, Pearson & Johnson 1992 (Technometrics 34:38); Zewotir & Galpin 2005 (Journal
of Data Science 3:153); Demidenko & Stukel 2005 (Statistics in Medicine 24:893).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.robust_rows import outer_sums_by_level, sums_by_level

if TYPE_CHECKING:
    from multilevel.infer.robust_clusters import Clustering
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.interpret.leverage import Leverage

Array = NDArray[np.float64]
EXACT_FIT = 1e-10


@dataclass(frozen=True)
class Influence:
    """Influence of k rows or clusters on the p fixed effects, user units.

    Attributes
    ----------
    labels : (k,) positions of rows among the analysed rows, or labels of clusters.
    n_rows : (k,) rows deleted.
    change : (k, p) ``beta^ - beta^(without it)``; NaN where the rest cannot estimate them.
    dfbetas : (k, p) the same over the standard errors.
    cooks_distance : (k,).
    covratio : (k,) how much larger the covariance of the rest is.
    """

    labels: NDArray[Any]
    n_rows: NDArray[np.intp]
    change: Array
    dfbetas: Array
    cooks_distance: Array
    covratio: Array


def _finished(
    rows: WorkingRows,
    labels: NDArray[Any],
    n_rows: NDArray[np.intp],
    change: Array,
    covratio: Array,
) -> Influence:
    p = rows.X.shape[1]
    T = np.linalg.inv(rows.M)
    cook = np.einsum("ka,ab,kb->k", change, T, change, optimize=True) / (p * rows.sigma2)
    raw = change @ rows.back.T
    error = np.sqrt(rows.sigma2 * np.diag(rows.back @ rows.M @ rows.back.T))
    return Influence(labels, n_rows, raw, raw / error, cook, covratio)


def _check(rows: WorkingRows) -> None:
    if rows.X.shape[1] == 0:
        raise InferenceError(
            "Influence on fixed effects needs fixed effects.",
            "a model without any",
            "add an intercept to the formula",
        )


def row_influence(rows: WorkingRows, leverage: Leverage) -> Influence:
    """Influence of every analysed row, variance parameters held at their estimates."""
    _check(rows)
    P = rows.weights * (1.0 - leverage.total)
    r = rows.weights * rows.conditional
    known = 1.0 - leverage.total > EXACT_FIT
    effect = np.divide(r, P, out=np.full(len(r), np.nan), where=known)
    change = (rows.XV @ rows.M) * effect[:, None]
    n = len(r)
    # |T - x x'/v| = |T| (1 - x'M x / v) where 1/v = 1/(V^-1)_ii
    inverse_diagonal = P + np.einsum("ia,ab,ib->i", rows.XV, rows.M, rows.XV, optimize=True)
    covratio = np.divide(inverse_diagonal, P, out=np.full(n, np.nan), where=known)
    return _finished(rows, np.arange(n), np.ones(n, dtype=np.intp), change, covratio)


@dataclass(frozen=True)
class Deletions:
    """Fixed effects without each of J clusters, scaled coordinates.

    Attributes
    ----------
    change : (J, p) ``beta^ - beta^(j)``; NaN where the rest cannot estimate them.
    inverse : (J, p, p) ``(T - T_j)^-1``.
    log_det : (J,) ``log|T - T_j|``.
    scores : (J, p) ``s_j``.
    """

    change: Array
    inverse: Array
    log_det: Array
    scores: Array


def deletions(rows: WorkingRows, cluster: Clustering) -> Deletions:
    """Leave each cluster out by downdating ``X'V^-1X``; exact at fixed variance parameters."""
    _check(rows)
    J, p = cluster.n_clusters, rows.X.shape[1]
    root = np.linalg.cholesky(rows.M)
    # in the basis where T is the identity, so that what is left can be judged without units
    white = rows.X @ root
    gone = outer_sums_by_level(white, rows.XV @ root, cluster.codes, J)
    values, vectors = np.linalg.eigh(np.eye(p) - (gone + gone.transpose(0, 2, 1)) / 2.0)
    estimable = values[:, 0] > EXACT_FIT
    safe = np.where(estimable[:, None], values, 1.0)
    inverse = (vectors / safe[:, None, :]) @ vectors.transpose(0, 2, 1)
    inverse[~estimable] = np.nan
    s = sums_by_level(rows.scores, cluster.codes, J)
    change = np.einsum("ab,jbc,jc->ja", root, inverse, s @ root, optimize=True)
    log_det = np.where(estimable, np.log(safe).sum(axis=1), np.nan)
    T_log_det = -float(np.linalg.slogdet(rows.M)[1])
    return Deletions(change, root @ inverse @ root.T, log_det + T_log_det, s)


def cluster_influence(rows: WorkingRows, cluster: Clustering) -> Influence:
    """Influence of every cluster, variance parameters held at their estimates.

    ``cluster`` holds whole levels of every random effect (``resolve_clusters`` checks it).
    """
    found = deletions(rows, cluster)
    T_log_det = -float(np.linalg.slogdet(rows.M)[1])
    counts = np.bincount(cluster.codes, minlength=cluster.n_clusters)
    covratio = np.exp(T_log_det - found.log_det)
    return _finished(rows, cluster.labels, counts, found.change, covratio)
