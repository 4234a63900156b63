"""What estimation of a generalized multilevel model returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.records import Certificate
from multilevel.likelihood.generalized.objective import ErrorEstimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Approximation:
    """How the integral over the random effects was computed, and how well.

    Attributes
    ----------
    method : ``"Laplace"``, ``"adaptive quadrature"``, or ``"none"`` (no random effects).
    points : quadrature points per dimension and grouping factor (1 for Laplace).
    error : estimated error of the criterion at the estimates; None if it was not asked for.
    largest_variance_error : how much the largest variance changed at the last increase of points,
        or would change if the likelihood were exact (one Newton step), as a share of itself; NaN
        where it was not asked for or cannot be estimated.
    largest_variance_std_error : Monte Carlo standard error of that share; 0 without sampling.
    steps : what was done to reach the accuracy asked for, as sentences.
    sentence : the verdict in one plain sentence.
    """

    method: str
    points: tuple[int, ...]
    error: ErrorEstimate | None = None
    largest_variance_error: float = float("nan")
    largest_variance_std_error: float = float("nan")
    steps: tuple[str, ...] = ()
    sentence: str = ""


@dataclass(frozen=True)
class GeneralizedFit:
    """Numbers of one fitted generalized multilevel model, in the user's units.

    Attributes
    ----------
    n : rows.
    criterion : -2 log-likelihood by the approximation, every constant of the density included;
        a penalty, where asked for, is not part of it.
    psi : (P,) all parameters: fixed effects part by part, then ``theta``.
    vcov : (P, P) covariance of ``psi`` from the observed information; rows and columns of
        parameters at a limit are zero.
    fixed_slices : per part, where its coefficients stand in ``psi``.
    relative_factors : per block (q, q) ``Lambda`` with ``G = Lambda Lambda'``.
    random_covariance : per block (q, q) ``G``.
    modes : per block (J, q) conditional modes of the spherical effects ``u`` (``b = Lambda u``).
    curvature : (P, P) Hessian of the (penalised) criterion at ``psi``.
    at_limit : ``{index in psi: sentence}`` parameters whose likelihood rises without end.
    certificate : see ``Certificate``.
    approximation : see ``Approximation``.
    penalty : its name and formula, or ``""``.
    plan : why this engine was chosen.
    seconds : wall time by stage.
    estimator : ``"reml"`` for the adjusted profile likelihood (``restricted``); else ``"ml"``.
    frequency_total : sum of the frequency weights; None without.
    """

    n: int
    criterion: float
    psi: Array
    vcov: Array
    fixed_slices: tuple[slice, ...]
    relative_factors: tuple[Array, ...]
    random_covariance: tuple[Array, ...]
    modes: tuple[Array, ...]
    curvature: Array
    at_limit: dict[int, str]
    certificate: Certificate
    approximation: Approximation
    penalty: str = ""
    plan: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    estimator: Literal["ml", "reml"] = "ml"
    frequency_total: float | None = None

    @property
    def n_observations(self) -> int:
        """Rows, each counted as often as its frequency weight says."""
        return self.n if self.frequency_total is None else round(self.frequency_total)

    @property
    def method(self) -> Literal["ml", "reml"]:
        """Maximum likelihood, but for REML-type fits of location-scale models."""
        return self.estimator

    @property
    def beta(self) -> Array:
        """Fixed effects of the first part."""
        return self.psi[self.fixed_slices[0]]

    @property
    def vcov_beta(self) -> Array:
        """Their covariance."""
        return self.vcov[self.fixed_slices[0], self.fixed_slices[0]]

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return len(self.psi)

    @property
    def aic(self) -> float:
        """Criterion + 2 parameters."""
        return self.criterion + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """Criterion + log(observations) parameters."""
        return self.criterion + float(np.log(self.n_observations)) * self.n_parameters

    def coefficients(self, part: int) -> tuple[Array, Array]:
        """Estimates and standard errors of the fixed effects of one part."""
        where = self.fixed_slices[part]
        return self.psi[where], np.sqrt(np.diag(self.vcov)[where])
