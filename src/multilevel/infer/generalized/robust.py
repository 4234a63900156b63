r"""Cluster-robust covariance of all parameters of a generalized fit.

``V_r = V (c sum_j s_j s_j') V`` with ``V`` the covariance by the observed information (all
parameters, variances included) and cluster scores ``s_j = d log L_j / d psi``, exact for the
approximation in use. CR0: ``c = 1``; CR1: ``c = J / (J - 1)``. Tests are t tests with ``J - 1``
degrees of freedom, which is safer than z with few clusters.
Sources: White 1982 (Econometrica 50:1); Liang & Zeger 1986; Rabe-Hesketh & Skrondal 2006 (JRSS A
169:805, multilevel models); Cameron & Miller 2015 (J - 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.generalized.effects import with_blocks
from multilevel.infer.robust_clusters import Clustering, is_inside, resolve_clusters
from multilevel.likelihood.generalized.objective import GeneralizedObjective

Array = NDArray[np.float64]
TYPES = ("CR0", "CR1")


@dataclass(frozen=True)
class RobustParameters:
    """A robust covariance of all parameters.

    Attributes
    ----------
    type : ``"CR0"`` or ``"CR1"``.
    n_clusters : J.
    vcov : (P, P).
    sentence : what was done.
    """

    type: str
    n_clusters: int
    vcov: Array
    sentence: str


@runtime_checkable
class _HasRowScores(Protocol):
    def row_scores(self) -> Array:
        """Scores by row (n, P)."""
        ...


def robust_parameters(
    design: GeneralizedDesign,
    fit: GeneralizedFit,
    objective: GeneralizedObjective,
    *,
    type: str | None = None,
    cluster: Any = None,
) -> RobustParameters:
    """Sandwich covariance of ``psi``.

    Parameters
    ----------
    objective : set at the estimates.
    type : ``"CR1"`` (default) or ``"CR0"``.
    cluster : None for the coarsest grouping factor, its name, or (n,) ids of the analysed rows in
        which whole clusters of the model lie.

    Raises
    ------
    InferenceError : another type, crossed factors, clusters that cut those of the model, a
        penalised fit (its scores do not add up to zero).
    """
    kind = "CR1" if type is None else type
    if kind not in TYPES:
        raise InferenceError(
            "The type of a generalized model must be 'CR0' or 'CR1'.",
            f"type={type!r}",
            'write type="CR1"; CR2 and CR3 are defined for Gaussian models',
        )
    if fit.penalty:
        raise InferenceError(
            "A robust covariance needs an unpenalised fit.",
            f"penalty: {fit.penalty}",
            "fit without penalty=, or use the bootstrap",
        )
    wanted = resolve_clusters(with_blocks(design), cluster)
    if len(wanted) > 1:
        raise InferenceError(
            "A robust covariance needs independent clusters.",
            "crossed grouping factors: " + ", ".join(c.name for c in wanted),
            "use bootstrap(kind='parametric'), or Wald tests of the model",
        )
    s = _summed(design, objective, wanted[0])
    J = len(s)
    factor = J / (J - 1) if kind == "CR1" else 1.0
    half = s @ fit.vcov
    vcov = factor * (half.T @ half)
    sentence = (
        f"Robust ({kind}) covariance from {J} levels of {wanted[0].name}: it holds when the "
        "distribution that the model assumes is wrong, if the levels are independent and the model "
        f"for the means is right. Tests use t with {J - 1} degrees of freedom (clusters - 1)."
    )
    return RobustParameters(kind, J, (vcov + vcov.T) / 2.0, sentence)


def _summed(
    design: GeneralizedDesign, objective: GeneralizedObjective, wanted: Clustering
) -> Array:
    """Scores (J, P) by wanted cluster."""
    scores = objective.cluster_scores()
    if scores is not None:
        coarse = design.blocks[-1]
        codes = coarse.codes
        if codes is wanted.codes:
            return scores
        if not is_inside(codes, wanted.codes):
            raise InferenceError(
                f"Every level of {coarse.group} must lie in one cluster.",
                f"levels that extend over several clusters of {wanted.name}",
                f'cluster by "{coarse.group}" or by something coarser',
            )
        home = np.zeros(coarse.n_levels, dtype=np.intp)
        home[codes] = wanted.codes
    elif isinstance(objective, _HasRowScores):
        scores, home = objective.row_scores(), wanted.codes.astype(np.intp)
    else:
        raise InferenceError(
            "A robust covariance needs independent clusters.",
            "crossed grouping factors: " + ", ".join(b.group for b in design.blocks),
            "use bootstrap(kind='parametric'), or Wald tests of the model",
        )
    out = np.zeros((wanted.n_clusters, scores.shape[1]))
    np.add.at(out, home, scores)
    return out
