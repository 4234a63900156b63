r"""Covariances of fixed effects that hold when the model for the variance is wrong.

``M_r = M (sum_j s_j s_j') M`` with ``M = (X'V^-1X)^-1`` and cluster scores s_j
(``robust_adjust.py``). One clustering that holds all random effects:

* CR0: no adjustment (HLM's "robust standard errors"; WeMix, MLwiN);
* CR1: times ``J / (J - 1)`` (Stata ``mixed``);
* CR1S: times ``J (n - 1) / ((J - 1)(n - p))`` (Stata ``regress``);
* CR2: unbiased if the model is right; the default. CR3: close to the jackknife.

Several clusterings (crossed factors): the sum over the clusterings, minus those of pairs, plus
those of triples, ... (Cameron, Gelbach & Miller 2011, JBES 29:238, eq. 2.11), each term with its
own adjustment or factor. Rows contribute ``(V^-1X)_i (y - X beta)_i``. With CR2 the result is
unbiased if the model is right and the clusterings hold all its random effects. Negative eigenvalues
are set to zero (their section 2.3).

Sources: Liang & Zeger 1986 (Biometrika 73:13); Bell & McCaffrey 2002; Pustejovsky & Tipton 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import t_quantile, t_tail
from multilevel.infer.robust_adjust import adjusted_scores, plain_scores, satterthwaite_df
from multilevel.infer.robust_clusters import Clustering, intersection, resolve_clusters
from multilevel.infer.robust_rows import WorkingRows, sums_by_level, working_rows
from multilevel.infer.robust_several import MAX_CLUSTERS, SignedClustering, signed_df
from multilevel.likelihood.blocks.threads import blas_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.estimate.prepare import Prepared
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]
RobustType = Literal["CR0", "CR1", "CR1S", "CR2", "CR3"]
ROBUST_TYPES: tuple[str, ...] = get_args(RobustType)
SEVERAL_WAYS = ("CR0", "CR1", "CR2", "CR3")


@dataclass(frozen=True)
class RobustCovariance:
    """A cluster-robust covariance of the fixed effects, user units.

    Attributes
    ----------
    type : ``"CR0"`` to ``"CR3"``.
    clusters : ``{name: number of clusters}``.
    vcov : (p, p).
    df : (p,) degrees of freedom of each coefficient.
    df_method : ``"satterthwaite"`` or ``"clusters - 1"``.
    sentence : what was done.
    """

    type: str
    clusters: dict[str, int]
    vcov: Array
    df: Array
    df_method: str
    sentence: str


@dataclass(frozen=True)
class RobustCoefficients:
    """Fixed effects with robust standard errors: arrays (p,) and a sentence."""

    estimate: Array
    std_error: Array
    df: Array
    statistic: Array
    p_value: Array
    conf_low: Array
    conf_high: Array
    conf_level: float
    sentence: str


def robust_covariance(
    prepared: Prepared,
    objective: GaussianObjective,
    *,
    type: str | None = None,
    cluster: Any = None,
) -> RobustCovariance:
    """Cluster-robust covariance of the fixed effects.

    Parameters
    ----------
    prepared : the problem.
    objective : factorised at the estimates.
    type : see the module; several clusterings have no ``"CR1S"``. None: ``"CR2"``; ``"CR1"``
        for several clusterings with more than 2,000 clusters and cells together.
    cluster : see ``resolve_clusters``.

    Raises
    ------
    InferenceError : an unknown type, or one that the clustering does not have.
    """
    if type is not None and type not in ROBUST_TYPES:
        raise InferenceError(
            f"The type must be one of {', '.join(ROBUST_TYPES)}.",
            f"type={type!r}",
            'write type="CR2"',
        )
    if not prepared.design.names:
        raise InferenceError(
            "A covariance of fixed effects needs fixed effects.",
            "a model without any",
            "add an intercept to the formula",
        )
    clusters = resolve_clusters(prepared.design, cluster)
    rows = working_rows(prepared, objective)
    if len(clusters) == 1:
        with blas_threads(0):  # many small matrices
            return _one_way(prepared, rows, clusters[0], type or "CR2")
    if type is not None and type not in SEVERAL_WAYS:
        names = ", ".join(c.name for c in clusters)
        raise InferenceError(
            f"With several clusterings the type must be one of {', '.join(SEVERAL_WAYS)}.",
            f"type={type!r} for {names}",
            'write type="CR2"',
        )
    with blas_threads(0):
        return _several_ways(prepared, rows, clusters, type or _default_type(clusters))


def _one_way(
    prepared: Prepared, rows: WorkingRows, cluster: Clustering, kind: str
) -> RobustCovariance:
    n, p = rows.X.shape
    J = cluster.n_clusters
    if kind in ("CR2", "CR3"):
        scores = adjusted_scores(prepared.design, rows, cluster, kind)
    else:
        scores = plain_scores(rows, cluster)
    factor = {"CR1": J / (J - 1), "CR1S": J * (n - 1) / ((J - 1) * (n - p))}.get(kind, 1.0)
    half = scores.s @ rows.M
    vcov = rows.back @ (factor * (half.T @ half)) @ rows.back.T
    df = np.array([satterthwaite_df(scores, rows.M, rows.back[k]) for k in range(p)])
    sentence = (
        f"Robust ({kind}) covariance from {J} levels of {cluster.name}: it holds when the "
        "variances of the model are wrong, if the levels are independent and the model for the "
        "means is right. Satterthwaite degrees of freedom."
    )
    if scores.n_exact:
        sentence += (
            f" In {scores.n_exact} of them the rows alone decide a fixed effect; "
            "they tell nothing about its error."
        )
    return RobustCovariance(
        kind, {cluster.name: J}, (vcov + vcov.T) / 2.0, df, "satterthwaite", sentence
    )


def _default_type(clusters: Sequence[Clustering]) -> str:
    """CR2 where it takes about as long as the fit, CR1 where there are many clusters anyway."""
    cells = intersection(tuple(clusters)).n_clusters
    return "CR2" if cells + sum(c.n_clusters for c in clusters) <= MAX_CLUSTERS else "CR1"


def _several_ways(
    prepared: Prepared, rows: WorkingRows, clusters: Sequence[Clustering], kind: str
) -> RobustCovariance:
    p = rows.X.shape[1]
    meat = np.zeros((p, p))
    terms, n_exact = [], 0
    for size in range(1, len(clusters) + 1):
        for subset in combinations(clusters, size):
            part = intersection(subset)
            J = part.n_clusters
            if kind in ("CR2", "CR3"):
                scores = adjusted_scores(prepared.design, rows, part, kind)
                adjusted = scores.rows if scores.rows is not None else rows.XV
                s, n_exact = scores.s, n_exact + scores.n_exact
            else:
                adjusted = rows.XV / np.sqrt(rows.weights)[:, None]
                s = sums_by_level(rows.scores, part.codes, J)
            factor = J / (J - 1) if kind == "CR1" else 1.0
            sign = (-1.0) ** (size + 1) * factor
            meat += sign * (s.T @ s)
            terms.append(SignedClustering(sign, part.codes, J, adjusted))
    scaled = rows.M @ meat @ rows.M
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2.0)
    n_negative = int(np.sum(values < -1e-12 * np.abs(values).max(initial=0.0)))
    vcov = rows.back @ (vectors * np.maximum(values, 0.0)) @ vectors.T @ rows.back.T
    df, method, words = _several_df(prepared, rows, clusters, terms)
    shown = " and ".join(f"{c.n_clusters} levels of {c.name}" for c in clusters)
    sentence = f"Robust ({kind}) covariance clustered by {shown}. {words}"
    if n_exact:
        sentence += f" In {n_exact} clusters or cells the rows alone decide a fixed effect."
    if n_negative:
        sentence += (
            f" {n_negative} negative eigenvalue{'s' if n_negative > 1 else ''} set to zero: there "
            "are few clusters for this method."
        )
    counts = {c.name: c.n_clusters for c in clusters}
    return RobustCovariance(kind, counts, (vcov + vcov.T) / 2.0, df, method, sentence)


def _several_df(
    prepared: Prepared,
    rows: WorkingRows,
    clusters: Sequence[Clustering],
    terms: list[SignedClustering],
) -> tuple[Array, str, str]:
    """Degrees of freedom, their name and a sentence on them."""
    fewest = min(clusters, key=lambda c: c.n_clusters)
    fallback = float(fewest.n_clusters - 1)
    df = signed_df(prepared.design, rows, terms, rows.back)
    if df is None:
        words = f"Degrees of freedom: levels of {fewest.name} minus 1."
        return np.full(rows.X.shape[1], fallback), "clusters - 1", words
    missing = ~np.isfinite(df)
    words = "Satterthwaite degrees of freedom."
    if missing.any():
        words = (
            f"Satterthwaite degrees of freedom, levels of {fewest.name} minus 1 where none exist."
        )
    return np.where(missing, fallback, df), "satterthwaite", words


def robust_coefficients(
    beta: Array, covariance: RobustCovariance, conf_level: float = 0.95
) -> RobustCoefficients:
    """t tests and intervals of the fixed effects ``beta`` (p,) by a robust covariance.

    Raises
    ------
    InferenceError : a confidence level outside (0, 1).
    """
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "conf_level must lie between 0 and 1.", f"{conf_level}", "write conf_level=0.95"
        )
    error = np.sqrt(np.maximum(np.diag(covariance.vcov), 0.0))
    statistic = np.divide(beta, error, out=np.full(len(beta), np.nan), where=error > 0)
    p_value = 2.0 * t_tail(np.abs(statistic), covariance.df)
    width = error * t_quantile(0.5 + conf_level / 2.0, covariance.df)
    return RobustCoefficients(
        beta.copy(),
        error,
        covariance.df,
        statistic,
        np.asarray(p_value),
        beta - width,
        beta + width,
        conf_level,
        covariance.sentence,
    )
