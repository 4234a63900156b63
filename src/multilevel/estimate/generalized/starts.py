"""Start values: the model without random effects first, then moderate variances.

The fixed effects of the pooled model are marginal; those of the multilevel model are larger by
about ``sqrt(1 + c^2 tau^2)``, ``c = 16 sqrt(3) / (15 pi)`` (Zeger, Liang & Albert 1988), on logit
links.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.generalized.penalty import Penalty
from multilevel.estimate.generalized.scale import scaling_matrix
from multilevel.estimate.trust_region import Path, minimise
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.single_level import SingleLevel
from multilevel.model.covariance.structures import parameters_from_covariance

Array = NDArray[np.float64]

LOGIT_STRETCH = 16.0 * np.sqrt(3.0) / (15.0 * np.pi)
START_SD = {"logit": 0.8, "probit": 0.5, "cloglog": 0.7, "log": 0.4}


@dataclass(frozen=True)
class Pooled:
    """The model without random effects.

    ``phi`` (P_fixed,) scaled coefficients; ``psi`` in user units; ``path`` of the search.
    """

    phi: Array
    psi: Array
    path: Path


def pooled(problem: GeneralizedProblem, penalty: Penalty, tolerance: float = 1e-6) -> Pooled:
    """Fit the model without random effects by Newton from the intercepts of the response."""
    bare = replace(problem, blocks=())
    objective = SingleLevel(bare)
    T = scaling_matrix(bare)
    small = Penalty(penalty.slopes, (), penalty.name)
    start = np.zeros(bare.n_parameters)
    rows = objective.rows
    for intercept, part, s in zip(rows.start(), bare.fixed, bare.fixed_slices, strict=True):
        constant = np.flatnonzero(np.all(part.X == 1.0, axis=0))
        if len(constant):
            shift = 0.0 if part.offset is None else float(part.offset.mean())
            start[s.start + int(constant[0])] = intercept - shift
    inverse = np.linalg.inv(T)
    phi = inverse @ start

    def value(p: Array) -> float:
        return objective.value(T @ p) + small.value(p)

    def derivatives(p: Array) -> tuple[Array, Array]:
        g = T.T @ objective.gradient() + small.gradient(p)
        H = T.T @ objective.hessian() @ T + small.hessian(p)
        return g, (H + H.T) / 2.0

    path = minimise(
        value,
        derivatives,
        phi,
        tolerance=tolerance,
        max_iterations=60,
        noise=lambda: 0.0,
        start_value=value(phi),
    )
    return Pooled(path.theta, T @ path.theta, path)


def start_values(
    problem: GeneralizedProblem, first: Pooled, link: str, scale: float = 1.0
) -> Array:
    """``psi`` (P,) to start from: the pooled coefficients and variances of moderate size."""
    sd = scale * START_SD.get(link, 0.5)
    psi = np.concatenate([first.psi, np.zeros(problem.n_parameters - len(first.psi))])
    stretch = np.sqrt(1.0 + (LOGIT_STRETCH * sd) ** 2) if link == "logit" else 1.0
    psi[problem.fixed_slices[0]] *= stretch
    for block, s in zip(problem.blocks, problem.theta_slices, strict=True):
        size = np.sqrt(np.mean(block.columns**2, axis=0))
        size = np.where(size > 0.0, size, 1.0)
        sds = np.where(np.array(block.parts) == 0, sd, 0.5) / size
        psi[s] = parameters_from_covariance(block.structure, np.diag(sds**2))
    return psi
