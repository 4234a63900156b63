"""Maximum likelihood for structural models with families: trust-region Newton on exact gradients.

Laplace first, then quadrature from there where the dimension allows it. Curvature: outer products
of cluster scores far from the optimum, differences of the exact gradient near it; the certificate
rests on the latter. Where that ends at a covariance matrix without full rank, the search is done
again within the cone of covariance matrices (``structural_mixed_boundary``). Default points as in
``estimate.generalized.accuracy``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.generalized.records import Approximation
from multilevel.estimate.records import Certificate
from multilevel.estimate.structural import Boundary
from multilevel.estimate.structural_mixed_boundary import search_bounded
from multilevel.estimate.structural_mixed_edge import edge_of
from multilevel.estimate.structural_mixed_search import Optimum, certify_inside, search_inside
from multilevel.estimate.structural_mixed_start import mixed_pattern, mixed_start
from multilevel.likelihood.generalized.grid import MAX_NODES
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.structural.mixed_objective import (
    MixedLayout,
    MixedObjective,
    lay_out_mixed,
)
from multilevel.model.structural.boundary import covariance_blocks

Array = NDArray[np.float64]
_FEW, _SAME = 3, 0.05  # points per dimension; difference of criteria that changes nothing
DEFAULT_POINTS = {1: 7, 2: 7, 3: 5}
ROW_POINTS = {1: 15, 2: 9, 3: 5}  # latent variables of rows: few values for each


@dataclass(frozen=True)
class MixedFit:
    """Numbers of one fitted mixed structural model.

    Attributes
    ----------
    layout : the stacked problem.
    theta : (q,) estimates: the free parameters of the table, then thresholds and dispersions as the
        families hold them.
    criterion : -2 log-likelihood by the approximation, conditional on the fixed predictors.
    hessian : (q, q) curvature of the criterion.
    scores : (J, q) cluster scores; None where clusters are crossed.
    approximation : how the integrals were computed, and how well.
    certificate : evidence that the estimates are the optimum.
    boundary : what is left to vary where variances are zero or correlations one; None inside.
    """

    layout: MixedLayout
    theta: Array
    criterion: float
    hessian: Array
    scores: Array | None
    approximation: Approximation
    certificate: Certificate
    boundary: Boundary | None = None

    @property
    def n_parameters(self) -> int:
        """q."""
        return len(self.theta)

    @property
    def aic(self) -> float:
        """-2 log-likelihood + 2 q."""
        return self.criterion + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2 log-likelihood + q log(rows)."""
        return self.criterion + float(np.log(self.layout.design.n_rows)) * self.n_parameters


def fit_mixed(
    design: MixedDesign, *, n_quad: int | tuple[int, ...] | None = None, seed: int = 0,
    draws: int = 400,
) -> MixedFit:  # fmt: skip
    """Estimate a mixed structural model by maximum likelihood.

    Parameters
    ----------
    n_quad : quadrature points per dimension of the integral; 1 is Laplace; None chooses.
    seed, draws : of the importance sampling that estimates the error of Laplace's approximation.

    Raises
    ------
    EstimationError : no feasible start, missing predictors, a residual variance within clusters at
        zero, a covariance matrix at its boundary with covariances that are shared or fixed.
    """
    theta = mixed_start(design)
    pattern = mixed_pattern(design, theta)
    try:
        layout = lay_out_mixed(design, theta, pattern)
        points = default_points(layout) if n_quad is None else n_quad
        final = MixedObjective(layout, points)
        # with few binary items Laplace's approximation has its optimum at infinite loadings
        is_direct = _is_laplace(points) or layout.map.has_rows
        objective = final if is_direct else MixedObjective(layout, 1)
        objective.value(theta)
    except LikelihoodError as error:
        raise EstimationError(error.must, error.found, error.remedy) from error
    found = _inside(objective, final, theta, is_free=n_quad is None)
    edge = None if isinstance(found, EstimationError) else edge_of(layout, found.theta)
    if isinstance(found, EstimationError) or edge is not None or not found.certificate.is_certified:
        start = theta if isinstance(found, EstimationError) else found.theta
        if edge is None or edge.is_between:
            bounded = search_bounded(design, pattern, points, (start, theta))
            if bounded is not None and bounded.boundary is not None:
                return _as_fit(bounded, seed, draws)
            if bounded is not None:
                again = _inside(final, final, bounded.theta)
                found = found if isinstance(again, EstimationError) else again
                edge = edge if isinstance(again, EstimationError) else edge_of(layout, again.theta)
        if edge is not None:
            raise edge.error
        if isinstance(found, EstimationError):
            raise _explained(design, found)
    return _as_fit(found, seed, draws)


def _explained(design: MixedDesign, error: EstimationError) -> EstimationError:
    """Name the covariance matrices that cannot be held within bounds, if there are any."""
    refused = [names for m in design.model.models for names in covariance_blocks(m, ["between"])[1]]
    if not refused:
        return error
    names = sorted({n for group in refused for n in group})
    return EstimationError(
        "A covariance matrix of random effects is held within bounds where all its covariances are"
        " free, each on its own.",
        f"covariances that are shared, fixed or left to a slope among {', '.join(names)}, and a"
        f" search that ended at an impossible matrix ({error.found})",
        "make a random slope fixed, or take a random effect out; or free these covariances, with a"
        " covariance between clusters in the place of a slope there",
    )


def _inside(
    objective: MixedObjective, final: MixedObjective, theta: Array, *, is_free: bool = False
) -> Optimum | EstimationError:
    """Search without bounds, with few nodes and then with all; the error if that is impossible.

    ``is_free`` : fewer nodes will do where they give the same.
    """
    try:
        path, kind, history, done = search_inside(objective, theta)
        if final is not objective:
            final.engine.set_modes(objective.engine.modes())
            final.value(path.theta)
            if is_free:
                final = _cheaper(final, path.theta)
            path, kind, more, extra = search_inside(final, path.theta)
            history, done = history + more, done + extra
    except LikelihoodError as error:
        return EstimationError(error.must, error.found, error.remedy)
    except EstimationError as error:
        return error
    certificate = certify_inside(final, path, kind, history, done)
    return Optimum(final, path.theta, path.value, path.curvature, certificate)


def _cheaper(final: MixedObjective, theta: Array) -> MixedObjective:
    """The objective at hand, or one with fewer nodes where these hardly change it.

    Gaussian values make the integrand nearly normal in the directions that they measure: in three
    dimensions 27 nodes are then as good as 125. Asks at ``theta``, the point last set.
    """
    if sum(final.layout.ranks) < 3 or max(final.points) <= _FEW:
        return final
    other = MixedObjective(final.layout, _FEW)
    other.engine.set_modes(final.engine.modes())
    off = abs(other.value(theta) - final.value(theta))
    return other if off < _SAME else final


def _as_fit(found: Optimum, seed: int, draws: int) -> MixedFit:
    final = found.objective
    final.value(found.theta)
    scores = final.cluster_scores()
    off = _error(final.layout, final, final.points, seed, draws)
    how = Approximation(final.method, final.points, off, sentence=_sentence(final, off))
    return MixedFit(final.layout, found.theta, found.value, found.curvature, scores, how,
                    found.certificate, found.boundary)  # fmt: skip


def default_points(layout: MixedLayout) -> int:
    """Points per dimension where the caller named none; 1 (Laplace) beyond small dimensions."""
    ranks = [r for r in layout.ranks if r]
    crossed = layout.design.is_crossed
    is_normal = all(layout.design.model.is_gaussian(n) for n in layout.design.outcomes)
    if not ranks or crossed or is_normal or (len(ranks) > 1 and max(ranks) > 1):
        return 1
    if len(ranks) == 1 and layout.map.has_rows:
        return ROW_POINTS.get(ranks[0], 1)
    return DEFAULT_POINTS.get(max(ranks), 1)


def _is_laplace(points: int | tuple[int, ...]) -> bool:
    return points == 1 if isinstance(points, int) else max(points) == 1


def _error(
    layout: MixedLayout, final: MixedObjective, points: int | tuple[int, ...], seed: int, draws: int
) -> ErrorEstimate | None:
    """Estimated error of the criterion: more points where that is possible."""
    if not layout.blocks:
        return None
    if all(layout.design.model.is_gaussian(n) for n in layout.design.outcomes):
        return ErrorEstimate(0.0, 0.0, "none", "All variables are Gaussian: Laplace's approximation"
                             " is exact.")  # fmt: skip
    have = points if isinstance(points, int) else max(points)
    rank = sum(layout.ranks)
    finer = 5 if have == 1 else have + 2 if rank > 2 else 2 * have + 1
    if len(layout.design.factors) <= 1 and finer**rank <= MAX_NODES:
        other = MixedObjective(layout, finer)
        other.engine.set_modes(final.engine.modes())
        value = other.value(final.theta)
        error = final.value(final.theta) - value
        return ErrorEstimate(
            error, 0.0, "more points",
            f"With {finer} points -2 log-likelihood at the same parameters changes by "
            f"{-error:.2g}.",
        )  # fmt: skip
    return final.engine.error_estimate(np.random.default_rng(seed), draws)


def _sentence(objective: MixedObjective, error: ErrorEstimate | None) -> str:
    if error is None:
        return "There are no random effects: the likelihood is exact."
    if objective.method == "Laplace":
        how = "Laplace approximation"
    else:
        how = f"Adaptive quadrature with {max(objective.points)} points per dimension"
    sentence = f"{how}. {error.sentence}"
    if abs(error.criterion) - 2.0 * error.std_error > 0.5:
        sentence += " Errors of this size can change a test: "
        is_crossed = objective.layout.design.is_crossed
        sentence += "read variances with care." if is_crossed else "raise n_quad."
    return sentence
