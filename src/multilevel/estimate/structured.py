"""Fits with structured residuals: start, Newton in ``(theta, phi)``, boundary, certificate.

The same trust region, boundary proof and certificate as for independent residuals; the covariance
parameters of the random effects and of the residuals move together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import resolved
from multilevel.design.records import Design
from multilevel.design.residual_layout import ResidualLayout
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.boundary import escape, gain, null_directions, snap
from multilevel.estimate.certificate import Account, certify, curvature_floor
from multilevel.estimate.choose import EnginePlan, choose_engine
from multilevel.estimate.fit import ESCAPE_GAIN, Solution, in_user_units
from multilevel.estimate.prepare import Prepared, prepare
from multilevel.estimate.records import Certificate, Fit
from multilevel.estimate.start import moment_start
from multilevel.estimate.structured_crossed import crossed_plan
from multilevel.estimate.structured_limit import (
    BOUNDARY,
    LEAST_GAIN,
    WIDEST,
    Recentred,
    sinking_words,
)
from multilevel.estimate.structured_report import residual_fit
from multilevel.estimate.trust_region import Path, minimise, newton_decrement
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.threads import blas_threads
from multilevel.likelihood.residual.arrow import ArrowObjective
from multilevel.likelihood.residual.arrow_engine import ArrowProducts, make_arrow
from multilevel.likelihood.residual.arrow_layout import ArrowLayout
from multilevel.likelihood.residual.crossed import CrossedObjective
from multilevel.likelihood.residual.objective import StructuredObjective, StructuredProblem
from multilevel.likelihood.residual.pattern_layout import PatternSums, find_patterns
from multilevel.likelihood.residual.pattern_objective import PatternObjective
from multilevel.model.residual import CONTINUOUS
from multilevel.model.specification import Method

Array = NDArray[np.float64]
Derivatives = Callable[[Array], tuple[Array, Array]]

TOLERANCE = 1e-10  # Newton decrement, in units of -2 log-likelihood
AVERAGED_TOLERANCE = 1e-8  # where the Hessian is never differenced
NEAR = 1e-3  # decrement from which the exact Hessian takes over
NEAR_BY_ROWS = 1e-11  # the same for differences, which cost as much as many averaged steps
SECONDS_PER_ENTRY = 1e-7  # of a gradient, per entry of the rows [Z X y]; measured
DIFFERENCED_BELOW = 1.2  # seconds per differenced Hessian up to which it is formed
SMALLEST_SD = 1e-3  # of a row relative to another, below which its variance goes to zero
FAR, EDGE = 15.0, 1e-2  # unconstrained parameters beyond, pivots below: at the edge
WEAK = 1e-7  # smallest scaled curvature below which parameters are not told apart


@dataclass(frozen=True)
class StructuredPrepared:
    """A frozen problem with structured residuals.

    Attributes
    ----------
    plain : the same problem with independent residuals (scaling, start values).
    problem : scaled, sorted rows.
    patterns : sums over clusters that look alike, where they make evaluations faster.
    arrow : leaf and core, where levels cross units and clusters are small.
    """

    plain: Prepared
    problem: StructuredProblem
    patterns: PatternSums | None = None
    arrow: ArrowLayout | None = None

    @property
    def layout(self) -> ResidualLayout:
        """The residual structure over the rows."""
        return self.problem.layout

    @property
    def method(self) -> Method:
        """``"reml"`` or ``"ml"``."""
        return self.plain.method

    def objective(self) -> StructuredObjective:
        """A fresh mutable objective."""
        if self.arrow is not None:
            return ArrowObjective(self.problem, self.method == "reml", self.arrow)
        kind = CrossedObjective if self.problem.is_crossed else StructuredObjective
        return kind(self.problem, self.method == "reml")

    def descent(self) -> StructuredObjective | PatternObjective:
        """The fastest objective for a search: by pattern of clusters, else row by row."""
        if self.patterns is None:
            return self.objective()
        return PatternObjective(self.problem, self.patterns, self.method == "reml")


def prepare_structured(design: Design, *, method: Method) -> StructuredPrepared:
    """Scale a design with a residual structure and sort its rows.

    Raises
    ------
    EstimationError : fewer rows than parameters, crossed grouping factors, no structure.
    """
    layout = design.residual
    if layout is None:
        raise EstimationError("A residual structure is needed.", "none", "use prepare(design)")
    plain = prepare(design, method=method)
    with blas_threads(0):
        problem = StructuredProblem(
            design, layout, plain.scaling, [block.structure for block in design.blocks]
        )
    if design.n <= design.X.shape[1] + layout.n_parameters + 1:
        raise EstimationError(
            "There must be more rows than parameters.",
            f"{design.n} rows, {design.X.shape[1]} fixed effects and {layout.n_parameters}"
            " residual parameters",
            "use a structure with fewer parameters",
        )
    if problem.is_crossed:
        return _prepare_crossed(plain, problem)
    with blas_threads(0):
        patterns = None if problem.scales.n_parameters else find_patterns(problem)
    why = "nested engine: rows are whitened by unit at each evaluation; cost grows with the rows"
    if patterns is not None:
        k = patterns.n_patterns
        why = (
            f"pattern sums: the clusters show {k} pattern{'s' if k > 1 else ''} of times and"
            " columns; cost grows with the patterns, not with the rows"
        )
    plan = choose_engine(plain.cross, "nested")
    plain = replace(plain, engine_plan=replace(plan, sentence=why))
    return StructuredPrepared(plain, problem, patterns)


def _prepare_crossed(plain: Prepared, problem: StructuredProblem) -> StructuredPrepared:
    """The same where levels cross the units of the residuals, or one another."""
    plan, arrow = crossed_plan(plain, problem)
    return StructuredPrepared(replace(plain, engine_plan=plan), problem, None, arrow)


class _Solver:
    """One run from start values to a certified optimum."""

    def __init__(self, prepared: StructuredPrepared, max_iterations: int) -> None:
        self.prepared = prepared
        self.objective = prepared.objective()
        self.search = self.objective if prepared.patterns is None else prepared.descent()
        self.r = self.objective.n_theta
        self.max_iterations = max_iterations
        self.account = Account()
        k, problem = self.objective.n_parameters, prepared.problem
        gradient = SECONDS_PER_ENTRY * problem.F.size
        is_exact = prepared.patterns is not None
        self.refines = is_exact or 2 * k * gradient < DIFFERENCED_BELOW
        self.curvature_kind = (
            "exact" if is_exact
            else "differenced gradient" if self.refines
            else "average information"
        )  # fmt: skip

    def start(self, psi_start: Array | None) -> Array:
        """Start values."""
        if psi_start is not None:
            psi = np.asarray(psi_start, dtype=np.float64).copy()
            theta = psi[: self.r]
            theta[np.abs(theta) < 1e-3] = 1e-3  # a zero would hide its own gradient
            return psi
        theta = moment_start(self.prepared.plain)
        own = np.zeros(self.prepared.problem.scales.n_parameters)
        return np.concatenate([theta, self.objective.whitener.start(), own])

    def differenced(self, psi: Array) -> tuple[Array, Array]:
        """Gradient and differenced Hessian; averaged where a neighbour has no likelihood."""
        try:
            H = self.search.hessian(psi)
        except LikelihoodError:
            return self.averaged(psi)
        return self.search.gradient(psi), H

    def averaged(self, psi: Array) -> tuple[Array, Array]:
        """Gradient and average information."""
        gradient = self.search.gradient(psi)
        return gradient, self.search.average_information(psi)

    def derivatives(self, psi: Array) -> tuple[Array, Array]:
        """Gradient and the curvature that the certificate rests on."""
        return self.differenced(psi) if self.refines else self.averaged(psi)

    def descend(self, psi: Array) -> Path:
        """Newton from a point: by average information, then by differences where they are cheap."""
        if not self.refines:
            return self._minimise(psi, self.averaged, AVERAGED_TOLERANCE)
        is_exact = self.search is not self.objective
        near = self._minimise(psi, self.averaged, NEAR if is_exact else NEAR_BY_ROWS)
        if not near.converged and self._edge(near.theta):
            return near
        return self._minimise(near.theta, self.differenced, TOLERANCE)

    def _minimise(self, psi: Array, derivatives: Derivatives, tolerance: float) -> Path:
        path = minimise(
            self.search.value,
            derivatives,
            psi,
            tolerance=tolerance,
            max_iterations=self.max_iterations,
            noise=lambda: 0.0,
            start_value=self.search.value(psi),
            least_gain=LEAST_GAIN if self.prepared.problem.scales.n_parameters else 0.0,
        )
        self.account.iterations += path.iterations
        self.account.history += path.history
        return path

    def from_the_widest(self, path: Path) -> Path:
        """The search repeated from the clusters that vary most, where others do not vary."""
        if self.prepared.problem.scales.widest(path.theta[self.r :]) <= WIDEST:
            return path
        moved = Recentred(self.prepared.problem, path.theta, self.r)
        if not moved.is_needed:
            return path
        other = _Solver(replace(self.prepared, problem=moved.problem), self.max_iterations)
        found = moved.back(other.descend(moved.forth(path.theta)))
        self.account.iterations += other.account.iterations
        return found if found.value <= path.value else path

    def at_boundary(self, path: Path) -> Path:
        """Set near-zero factors to exact zeros if that costs nothing."""
        inner = self.objective.ensure(path.theta)
        snapped = path.theta.copy()
        snapped[: self.r] = snap(inner, path.theta[: self.r])
        if np.array_equal(snapped, path.theta):
            return path
        value = self.objective.value(snapped)
        if value > path.value + max(1e-8, 1e-13 * abs(path.value)):
            self.objective.set(path.theta)
            return path
        gradient, H = self.derivatives(snapped)
        decrement = newton_decrement(gradient, H)
        return Path(snapped, value, gradient, H, decrement, 0, path.converged, path.reason, [])

    def run(self, psi_start: Array | None) -> tuple[Path, Certificate]:
        """Start, descend, prove or leave the boundary, certify."""
        path = self.from_the_widest(self.descend(self.start(psi_start)))
        directions = []
        for _ in range(6):
            path = self.at_boundary(path)
            inner = self.objective.ensure(path.theta)
            directions = null_directions(inner, path.theta[: self.r])
            gains = [gain(inner, d) for d in directions]
            if not gains or max(g[1] for g in gains) <= ESCAPE_GAIN:
                break
            worst = directions[int(np.argmax([g[1] for g in gains]))]
            moved = path.theta.copy()
            moved[: self.r] = escape(inner, path.theta[: self.r], worst)
            self.account.restarts += 1
            path = self.descend(moved)
        inner = self.objective.ensure(path.theta)
        if curvature_floor(path.curvature) < WEAK and not directions:
            self.account.notes.append(
                "Some variances or correlations are hardly told apart by these data: many values"
                " of them have the same likelihood."
            )
        certificate = certify(
            self.prepared.plain, inner, path, directions, self.account, self.curvature_kind, 0.0
        )
        evaluations = self.objective.n_evaluations
        if self.search is not self.objective:
            evaluations += self.search.n_evaluations
        certificate = replace(certificate, evaluations=evaluations)
        edge = self._edge(path.theta)
        if edge and self._sinks(path.theta) and certificate.is_certified:
            certificate = replace(
                certificate, status="singular", sentence=BOUNDARY, notes=(*certificate.notes, edge)
            )
        elif edge and certificate.is_certified:
            certificate = replace(certificate, notes=(*certificate.notes, edge))
        elif edge:
            certificate = replace(certificate, sentence=f"{certificate.sentence} {edge}")
        return path, certificate

    def _sinks(self, psi: Array) -> bool:
        """Whether standard deviations of random effects go to zero in some clusters."""
        return self.prepared.problem.scales.widest(psi[self.r :]) > WIDEST

    def _edge(self, psi: Array) -> str:
        """What to say where residual parameters run to the edge of their range."""
        self.objective.ensure(psi)
        whitener, layout = self.objective.whitener, self.prepared.layout
        phi = psi[self.r : self.r + whitener.n_parameters]
        if self._sinks(psi):
            blocks, scales = self.prepared.plain.design.blocks, self.prepared.problem.scales
            return sinking_words(blocks, scales.log_sds(psi[self.r :]))
        if float(whitener.sd.min()) < SMALLEST_SD * float(whitener.sd.max()):
            return (
                "The residual variance of some rows goes to zero: use one variance for more rows,"
                " or fewer random effects."
            )
        for m, where in zip(layout.maps, whitener.correlation, strict=True):
            if m.structure in CONTINUOUS and np.all(m.table(phi[where])[0][1:] < 1e-6):
                return "The residual correlation goes to zero: leave it out."
        far = np.abs(phi[whitener.A.shape[1] :]).max(initial=0.0) > FAR
        if not far and whitener.smallest_pivot > EDGE:
            return ""
        return (
            "The residual correlations run to the edge of what is possible (correlations of one, or"
            " no variance of an occasion's own): use a residual structure with fewer parameters."
        )


def solve_structured(
    prepared: StructuredPrepared,
    *,
    psi_start: Array | None = None,
    max_iterations: int = 100,
) -> tuple[Prepared, Fit]:
    """Fit a model with structured residuals.

    Parameters
    ----------
    prepared : from ``prepare_structured``.
    psi_start : (r + K,) start values on the scaled problem.

    Returns
    -------
    The problem on whitened cross-products at the estimates (what random effects and tests of
    fixed effects are made from), and the fit in the user's units.

    Raises
    ------
    LikelihoodError : the likelihood cannot be evaluated.
    """
    began = time.perf_counter()
    with blas_threads(0 if prepared.arrow is None else prepared.arrow.n_effects):
        solver = _Solver(prepared, max_iterations)
        path, certificate = solver.run(psi_start)
    objective = solver.objective
    inner, r = objective.ensure(path.theta), objective.n_theta
    if objective.cross is None:
        raise EstimationError("A solution must have been evaluated.", "none", "solve it first")
    whitened = replace(
        prepared.plain,
        design=at_estimates(prepared, path.theta[r:]).plain.design,
        cross=objective.cross,
        engine_plan=_plan(prepared, objective.cross),
    )
    fit = in_user_units(whitened, Solution(path.theta[:r], path, certificate, inner))
    residual = residual_fit(prepared.layout, path, objective.whitener.logdet, r)
    fit = replace(fit, residual=residual, theta_curvature=path.curvature[:r, :r])
    fit.seconds["estimation"] = time.perf_counter() - began
    return whitened, fit


def from_the_widest(prepared: StructuredPrepared, psi: Array) -> tuple[StructuredPrepared, Array]:
    """The same model at the same point, ready for differences in its parameters.

    Where standard deviations of random effects go to zero in some clusters, predictors of standard
    deviations count from the clusters that vary most; else nothing changes.
    """
    problem, r = prepared.problem, sum(m.n_parameters for m in prepared.problem.maps)
    if problem.scales.widest(psi[r:]) <= WIDEST:
        return prepared, psi
    moved = Recentred(problem, psi, r)
    if not moved.is_needed:
        return prepared, psi
    return replace(prepared, problem=moved.problem), moved.forth(psi)


def _plan(prepared: StructuredPrepared, cross: CrossProducts) -> EnginePlan:
    plan = prepared.plain.engine_plan
    if isinstance(cross, ArrowProducts):
        plan = replace(plan, name="dense", make=make_arrow)
    elif prepared.problem.is_crossed:
        plan = replace(choose_engine(cross, "dense"), sentence=plan.sentence)
    return replace(plan, warm_start=None)


def at_estimates(prepared: StructuredPrepared, phi: Array) -> StructuredPrepared:
    """The problem with standard deviations of random effects applied to their columns."""
    if not prepared.problem.scales.n_parameters:
        return prepared
    tail = phi[len(phi) - prepared.problem.scales.n_parameters :]
    design = resolved(prepared.plain.design, tail)
    return replace(prepared, plain=replace(prepared.plain, design=design))
