"""Spikes: places where an approximate likelihood is falsely high, and how they are recognised.

Laplace's value of a cluster has ``-log|H| / 2``; where the rows are not log-concave (zero
inflation, truncated counts, Student t) H can come near to singular, the value then rises without
bound, and so does that of quadrature around the same mode. The true integral does not. The sign of
it is a posterior variance ``H^-1`` far above the one before the data were seen (1 for spherical
effects); for log-concave rows it never exceeds 1. In fits of simulated data (truncated negative
binomial, generalized Poisson, zero inflation, Student t; 30 clusters of 4) it was at most 2.3 at
sound optima and 50 to 5,000 at spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.likelihood.generalized.choose import has_quadrature, make_objective
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.location_scale.objective import reduces

Array = NDArray[np.float64]

SPIKE = 10.0  # posterior over prior variance of some effect from which a value is not believed


@dataclass(frozen=True)
class Spike:
    """A cluster whose curvature nearly vanishes.

    Attributes
    ----------
    ratio : largest posterior variance, in units of the prior one; infinite if H is not positive.
    block, level : where; -1 if not known.
    """

    ratio: float
    block: int
    level: int


def find_spike(problem: GeneralizedProblem, psi: Array, modes: Sequence[Array]) -> Spike | None:
    """The worst cluster at ``psi``, or None where the curvature is sound everywhere."""
    if not problem.blocks or reduces(problem) or problem.row_likelihood().log_concave:
        return None
    objective = make_objective(problem, 1)
    objective.set_modes(modes)
    try:
        objective.value(psi)
    except LikelihoodError:
        return Spike(float("inf"), -1, -1)
    worst = Spike(SPIKE, -1, -1)
    for t in range(len(problem.blocks)):
        largest = np.linalg.eigvalsh(objective.mode_covariance(t))[:, -1]
        level = int(np.argmax(largest))
        if largest[level] > worst.ratio:
            worst = Spike(float(largest[level]), t, level)
    return None if worst.block < 0 else worst


def with_spikes(prepared: GeneralizedPrepared, fit: GeneralizedFit) -> GeneralizedFit:
    """The fit, with a warning in its certificate and approximation if it stands on a spike."""
    spike = find_spike(prepared.problem, fit.psi, fit.modes)
    if spike is None:
        return fit
    sentence = _sentence(prepared, fit, spike)
    certificate, how = fit.certificate, fit.approximation
    return replace(
        fit,
        certificate=replace(certificate, sentence=f"{certificate.sentence} {sentence}"),
        approximation=replace(how, sentence=f"{sentence} {how.sentence}"),
    )


def _sentence(prepared: GeneralizedPrepared, fit: GeneralizedFit, spike: Spike) -> str:
    by, where = "the curvature is not even positive", "some cluster"
    laplace = max(fit.approximation.points) == 1 and has_quadrature(prepared.problem)
    if spike.block >= 0:
        block = prepared.design.blocks[spike.block]
        where = f"{block.group} {block.levels[spike.level]}"
        by = f"its effects seem {spike.ratio:,.0f} times as uncertain as without data"
    return (
        f"Do not trust this fit: in {where} the log density hardly curves at its mode ({by}), where"
        " approximations of the likelihood are falsely high. Use "
        + ("quadrature (n_quad=7), which starts elsewhere, or " if laplace else "")
        + "random intercepts in place of slopes, a simpler distribution, or more rows per cluster."
    )
