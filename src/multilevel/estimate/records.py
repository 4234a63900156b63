"""What estimation returns: the Fit and its convergence certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Status = Literal["certified", "singular", "not_certified"]


@dataclass(frozen=True)
class RedundantDirection:
    """A combination of random effects whose variance is estimated as zero.

    Attributes
    ----------
    group : grouping factor.
    weights : ``{random-effect name: weight}`` of the combination (unit length, raw scale).
    sentence : the same in words.
    """

    group: str
    weights: dict[str, float]
    sentence: str


@dataclass(frozen=True)
class Certificate:
    """Evidence that the reported estimates are the optimum.

    Attributes
    ----------
    status : ``"certified"``; ``"singular"`` (certified, on the boundary); ``"not_certified"``.
    sentence : the verdict in one plain sentence.
    newton_decrement : expected further fall of the criterion, ``g'H^-1 g / 2`` (scale-free).
    max_scaled_gradient : largest ``|g_a| / sqrt(H_aa)``.
    min_curvature : smallest eigenvalue of the curvature scaled to unit diagonal (interior part).
    curvature : ``"exact"``, ``"average information"`` or ``"differenced gradient"``.
    boundary_residual : smallest eigenvalue of the score on the null space, scaled; >= 0 (up to
        rounding) proves that no variance in a null direction would raise the likelihood; NaN if
        the fit is interior.
    redundant : directions of zero variance, in the user's names.
    iterations, evaluations, restarts : what was done to get here.
    monte_carlo_error : standard error of the criterion; 0 for exact engines.
    history : criterion after each accepted step.
    notes : anything out of the ordinary, as sentences.
    """

    status: Status
    sentence: str
    newton_decrement: float
    max_scaled_gradient: float
    min_curvature: float
    curvature: str
    boundary_residual: float
    redundant: tuple[RedundantDirection, ...]
    iterations: int
    evaluations: int
    restarts: int
    monte_carlo_error: float = 0.0
    history: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_certified(self) -> bool:
        """Whether the estimates are proven to be a (local) optimum, interior or boundary."""
        return self.status != "not_certified"


@dataclass(frozen=True)
class ResidualFit:
    """The estimated residual covariance ``sigma2 R(phi)``.

    Attributes
    ----------
    title : the structure in words; ``sentence`` says what it was laid over.
    names : names of the parameters, as reported: ratios of variances to the reference, then
        correlations, ranges or loadings (K').
    estimates : (K',) the same parameters; variances as ratios to ``sigma2``.
    phi : (K,) unconstrained: coefficients of the log variance, then correlation parameters.
    curvature : (r + K, r + K) Hessian of the criterion in ``(theta, phi)``, sigma2 profiled.
    std_errors : (K',) by the delta method; NaN where the curvature does not give them.
    n_variances : how many of the parameters are coefficients of the log variance.
    logdet : ``log|R|``.
    """

    title: str
    sentence: str
    names: tuple[str, ...]
    estimates: Array
    phi: Array
    curvature: Array
    std_errors: Array
    n_variances: int
    logdet: float


@dataclass(frozen=True)
class Fit:
    """Numbers of one fitted Gaussian multilevel model, raw (user) scale.

    Attributes
    ----------
    method : ``"reml"`` or ``"ml"``.
    n, n_fixed : rows; columns of X.
    criterion : -2 log-likelihood (ML) or REML criterion.
    beta : (p,) fixed effects.
    vcov_beta : (p, p) their model-based covariance ``sigma2 (X'V^-1X)^-1``.
    theta : (r,) parameters of the *scaled* problem (start values for refits).
    relative_factors : per block (q, q) ``Lambda`` on the raw scale, ``G = sigma2 Lambda Lambda'``.
    random_covariance : per block (q, q) ``G`` (absolute).
    sigma2 : residual variance.
    theta_curvature : (r, r) Hessian of the criterion in theta (scaled problem, sigma2 profiled).
    certificate : see ``Certificate``.
    engine : engine name; ``plan`` the sentence why it was chosen.
    seconds : wall time by stage.
    residual : the residual covariance; None for independent residuals of one variance.
    """

    method: Literal["reml", "ml"]
    n: int
    n_fixed: int
    criterion: float
    beta: Array
    vcov_beta: Array
    theta: Array
    relative_factors: tuple[Array, ...]
    random_covariance: tuple[Array, ...]
    sigma2: float
    theta_curvature: Array
    certificate: Certificate
    engine: str
    plan: str
    seconds: dict[str, float] = field(default_factory=dict)
    residual: ResidualFit | None = None

    @property
    def n_parameters(self) -> int:
        """Fixed effects, covariance parameters, residual parameters and the residual variance."""
        extra = 0 if self.residual is None else len(self.residual.phi)
        return self.n_fixed + len(self.theta) + extra + 1

    @property
    def aic(self) -> float:
        """Criterion + 2 (all parameters); under REML too, as lme4 and Stata do."""
        return self.criterion + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """Criterion + log(n rows) (all parameters), as lme4 and Stata do."""
        return self.criterion + float(np.log(self.n)) * self.n_parameters
