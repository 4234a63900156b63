r"""A slope that mixes two: the smushed slope as the information-weighted mean of both.

The fixed effects of the model with the within and the between part apart are estimated at the
smushed model's own variances. With ``I`` the information of the two slopes (the other effects
profiled out) and ``b`` their estimates, the smushed slope is ``1'I b / 1'I 1``, since it is the
generalised least squares estimate under the restriction that both are equal. For random
intercepts and no other predictors the weights are ``SS_within / sigma2`` and
``sum_c h_c (xbar_c - xbar_h)^2``, ``h_c = n_c / (sigma2 + n_c tau2)``.
Source: Raudenbush & Bryk 2002, chapter 5; own derivation for other designs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.interpret.level_parts import cluster_means
from multilevel.interpret.variance_share import Evidence

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SmushedSlope:
    """The two slopes behind a smushed one.

    Attributes
    ----------
    slopes : (2,) within and between, at the variances of the smushed model.
    covariance : (2, 2) of the two, these variances taken as known.
    weights : (2,) that give the smushed slope, ``weights @ slopes``; they sum to 1.
    """

    slopes: Array
    covariance: Array
    weights: Array

    @property
    def mean(self) -> float:
        """The weighted mean, which equals the smushed slope."""
        return float(self.weights @ self.slopes)


def unmix(evidence: Evidence, column: int, block: int) -> SmushedSlope:
    """Take the slope of one column of X apart into within and between a factor.

    Parameters
    ----------
    evidence : the fit of the smushed model.
    column : position of the predictor among the fixed effects.
    block : position of the grouping factor.
    """
    design = evidence.prepared.design
    x = design.X[:, column]
    means = cluster_means(x, design.blocks[block])[design.blocks[block].codes]
    X = np.column_stack([np.delete(design.X, column, axis=1), x - means, means])
    names = tuple(name for k, name in enumerate(design.names) if k != column)
    wider = replace(design, X=np.asfortranarray(X), names=(*names, "within part", "between part"))
    scaling, profile = evidence.at_variances(wider)
    beta = scaling.beta(profile.beta)
    p = len(beta)
    inverse = np.linalg.solve(profile.R, np.eye(p))
    covariance = scaling.vcov_beta(inverse @ inverse.T)
    relative = covariance[-2:, -2:]
    information = np.linalg.inv(relative)
    weights = information.sum(axis=0) / information.sum()
    # vcov_beta leaves out the residual variance of the scaled problem; ours is on the user's scale
    scale = evidence.fit.sigma2 / scaling.y_scale**2
    return SmushedSlope(beta[-2:], scale * relative, weights)
