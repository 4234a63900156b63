"""What runs through a mediator that is not Gaussian, within clusters.

The product of the two slopes has no unit: the first is on the link scale of the mediator, the
second for one more of the mediator itself. What x does through m to the linear predictor of y is

    b * { E(m | x + 1) - E(m | x) },

averaged over the rows and, by Gauss-Hermite quadrature, over the random intercept of m (the natural
indirect effect on the scale of y's linear predictor; VanderWeele 2015, Explanation in Causal
Inference, chapter 2). Derivatives by central differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from multilevel.estimate.structural_mixed import MixedFit
from multilevel.likelihood.generalized.families.make import make_rows
from multilevel.model.structural.records import Parameter

Array = NDArray[np.float64]
_NODES, _STEP = 15, 1e-5


@dataclass(frozen=True)
class MediatedChange:
    """``b {E(m | x + 1) - E(m | x)}`` and its gradient (q,) in all parameters."""

    estimate: float
    gradient: Array


def mediated_change(fit: MixedFit, a: Parameter, b: Parameter) -> MediatedChange:
    """The change of y's linear predictor through m for one more x, within clusters.

    Parameters
    ----------
    a, b : the rows ``m ~ x`` and ``y ~ m`` of the within level.
    """
    gradient = np.zeros(fit.n_parameters)
    for k in range(fit.n_parameters):
        h = _STEP * max(1.0, abs(float(fit.theta[k])))
        step = np.zeros(fit.n_parameters)
        step[k] = h
        up, down = _change(fit, fit.theta + step, a, b), _change(fit, fit.theta - step, a, b)
        gradient[k] = (up - down) / (2.0 * h)
    return MediatedChange(_change(fit, fit.theta, a, b), gradient)


def _change(fit: MixedFit, theta: Array, a: Parameter, b: Parameter) -> float:
    layout = fit.layout
    design, problem = layout.design, layout.problem
    outcome = design.outcomes.index(a.lhs)
    number = next(i for i, kind in enumerate(design.kinds) if kind.outcome == outcome)
    start = sum(len(kind.rows) for kind in design.kinds[:number])
    here = slice(start, start + len(design.kinds[number].rows))
    psi, _ = layout.psi(theta)
    slices = problem.fixed_slices
    X = problem.fixed[0].X[here]
    eta = X @ psi[slices[0]]
    parts = [psi[slices[d]] for d in layout.extra_parts[number]]
    at = layout.map.predictors(theta)
    variance = float(sum(G[number, number] for G in at.covariances))
    rows = make_rows(design.families[outcome], design.kinds[number].response, None, (0,))
    shift = float(theta[a.free]) if a.is_free else a.value
    slope = float(theta[b.free]) if b.is_free else b.value
    nodes, weights = hermegauss(_NODES)
    total = 0.0
    for t, w in zip(nodes, weights / weights.sum(), strict=True):
        moved = eta + np.sqrt(variance) * t
        more = [np.stack([moved + d, *(np.full(len(eta), p[0]) for p in parts)])
                for d in (shift, 0.0)]  # fmt: skip
        total += w * float(np.mean(rows.mean(more[0]) - rows.mean(more[1])))
    return slope * total
