r"""Shares of the outcome variance as functions of theta, with their delta-method errors.

A share is ``sum_A v_t / (1 + sum_t v_t)`` with ``v_t = tr(Psi_t M_t)``, ``Psi_t = G_t / sigma2``
and ``M_t`` a matrix of second moments of the random-effect columns. It does not depend on the
residual variance, so its sampling variance is that of ``Var(theta) = 2 H^-1``, H the Hessian of
the criterion (-2 log-likelihood) with the residual variance profiled out.
Source: delta method; Donner 1986 (International Statistical Review 54:67) for intervals of ICCs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.prepare import prepare
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import approach_of

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.infer.degrees_of_freedom import DfApproach
    from multilevel.likelihood.blocks.scaling import Scaling
    from multilevel.likelihood.gaussian.objective import GaussianObjective, Profile

Array = NDArray[np.float64]
#: More parameters than this, and the stored curvature is used instead of differences.
MOST_DIFFERENCED = 12


@dataclass(frozen=True)
class Evidence:
    """What every answer about a fit is computed from.

    Attributes
    ----------
    prepared, fit : the frozen problem and its fit.
    objective : the objective, factorised at the fit's theta.
    approaches : the methods of degrees of freedom by name (None: the default) where the fit has
        its own, as with structured residuals.
    mean_residual : residual variance averaged over the analysed rows, where rows differ.
    profiled : what ``at_variances`` asks where residuals have a structure.
    """

    prepared: Prepared
    fit: Fit
    objective: GaussianObjective
    approaches: Callable[[str | None], DfApproach] | None = None
    mean_residual: float | None = None
    profiled: Callable[[Design], tuple[Scaling, Profile]] | None = None

    @property
    def averaged(self) -> Fit:
        """The fit with the residual variance of an average row."""
        if self.mean_residual is None:
            return self.fit
        return replace(self.fit, sigma2=self.mean_residual)

    def at_variances(self, design: Design) -> tuple[Scaling, Profile]:
        """Other columns of X with the covariance parameters of this fit: scaling and profile."""
        if self.profiled is not None:
            return self.profiled(design)
        problem = prepare(design, method=self.prepared.method, engine=self.fit.engine)
        return problem.scaling, problem.objective().set(self.fit.theta)

    def approach(self, df: str | None) -> DfApproach:
        """The method of degrees of freedom; None takes the default of the estimator.

        Raises
        ------
        InferenceError : a method that this fit does not allow, with the reason.
        """
        if self.approaches is not None and self.fit.n_fixed:
            return self.approaches(df)
        return approach_of(self.prepared, self.fit, self.objective, df)

    @cached_property
    def theta_covariance(self) -> Array | None:
        """Covariance of theta (r, r), or None where the curvature is not positive definite.

        The Hessian is exact for one grouping factor, a central difference of the exact gradient
        for few parameters, and else the curvature that the fit kept.
        """
        if len(self.fit.theta) == 0:
            return None
        if len(self.prepared.design.blocks) == 1:
            H = self.objective.exact_hessian()
        elif len(self.fit.theta) <= MOST_DIFFERENCED and self.fit.engine != "iterative":
            H = self.objective.differenced_hessian(self.fit.theta)
        else:
            H = self.fit.theta_curvature
        scale = np.sqrt(np.maximum(np.diag(H), 0.0))
        if not np.all(scale > 0):
            return None
        if float(np.linalg.eigvalsh(H / np.outer(scale, scale))[0]) < 1e-10:
            return None
        return np.asarray(2.0 * np.linalg.inv(H))

    def relative_variances(self, moments: Sequence[Array]) -> tuple[Array, Array]:
        """``v_t = tr(Psi_t M_t)`` (T,) and its derivatives in theta (T, r).

        ``moments`` holds one (q, q) matrix per block, in the units of the raw columns.
        """
        r = len(self.fit.theta)
        v, dv = np.zeros(len(moments)), np.zeros((len(moments), r))
        scaling = self.prepared.scaling.random
        pieces = zip(self.objective.maps, self.objective.slices, scaling, moments, strict=True)
        for t, (mapping, part, B, M) in enumerate(pieces):
            L = mapping.factor(self.fit.theta[part])
            inner = B.T @ M @ B
            v[t] = float(np.trace(L.T @ inner @ L))
            slopes = mapping.covariance_slopes(self.fit.theta[part], L)
            dv[t, part] = np.einsum("rab,ab->r", slopes, inner)
        return v, dv


@dataclass(frozen=True)
class Share:
    """A share of variance: estimate, standard error and interval (NaN where they do not exist)."""

    estimate: float
    std_error: float
    conf_low: float
    conf_high: float


def share(
    evidence: Evidence, moments: Sequence[Array], members: Sequence[int], conf_level: float
) -> Share:
    """Return the share of the blocks ``members`` in the total variance of a row of weight 1.

    Parameters
    ----------
    evidence : the fit.
    moments : per block (q, q) second moments of its columns.
    members : positions of the blocks in the numerator.
    conf_level : between 0 and 1; the interval is symmetric on the logit scale.
    """
    v, dv = evidence.relative_variances(moments)
    chosen = list(members)
    top, total = float(v[chosen].sum()), 1.0 + float(v.sum())
    estimate = top / total
    nan = float("nan")
    covariance = evidence.theta_covariance
    if covariance is None or not 1e-9 < estimate < 1.0:
        return Share(estimate, nan, nan, nan)
    slope = dv[chosen].sum(axis=0) / total - top * dv.sum(axis=0) / total**2
    error = float(np.sqrt(max(float(slope @ covariance @ slope), 0.0)))
    width = float(normal_quantile(0.5 + conf_level / 2.0)) * error / (estimate * (1.0 - estimate))
    center = float(np.log(estimate / (1.0 - estimate)))
    low, high = (1.0 / (1.0 + np.exp(-(center + s * width))) for s in (-1.0, 1.0))
    return Share(estimate, error, float(low), float(high))
