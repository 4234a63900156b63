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

from multilevel.design.records import Design
from multilevel.design.residual_layout import ResidualLayout
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.boundary import escape, gain, null_directions, snap
from multilevel.estimate.certificate import Account, certify, curvature_floor
from multilevel.estimate.choose import EnginePlan, choose_engine
from multilevel.estimate.fit import ESCAPE_GAIN, Solution, in_user_units
from multilevel.estimate.prepare import Prepared, prepare
from multilevel.estimate.records import Certificate, Fit, ResidualFit
from multilevel.estimate.start import moment_start
from multilevel.estimate.trust_region import Path, minimise, newton_decrement
from multilevel.likelihood.blocks.threads import blas_threads
from multilevel.likelihood.residual.objective import StructuredObjective, StructuredProblem
from multilevel.model.covariance.correlation import natural_names
from multilevel.model.residual import CONTINUOUS
from multilevel.model.specification import Method

Array = NDArray[np.float64]
Derivatives = Callable[[Array], tuple[Array, Array]]

TOLERANCE = 1e-10  # Newton decrement, in units of -2 log-likelihood
AVERAGED_TOLERANCE = 1e-8  # where the Hessian is never differenced
NEAR = 1e-3  # decrement from which differences take over
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
    """

    plain: Prepared
    problem: StructuredProblem

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
        return StructuredObjective(self.problem, self.method == "reml")


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
    if not plain.cross.is_chain:
        raise EstimationError(
            "Structured residuals need grouping factors that are nested in one another.",
            "crossed: " + ", ".join(block.group for block in design.blocks),
            "leave out one of the factors, or fit without residual= and scale=",
        )
    why = "nested engine: rows are whitened by unit at each evaluation; cost grows with the rows"
    plan = choose_engine(plain.cross, "nested")
    plain = replace(plain, engine_plan=replace(plan, sentence=why))
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
    return StructuredPrepared(plain, problem)


class _Solver:
    """One run from start values to a certified optimum."""

    def __init__(self, prepared: StructuredPrepared, max_iterations: int) -> None:
        self.prepared = prepared
        self.objective = prepared.objective()
        self.r = self.objective.n_theta
        self.max_iterations = max_iterations
        self.account = Account()
        k, problem = self.objective.n_parameters, prepared.problem
        gradient = SECONDS_PER_ENTRY * problem.F.size
        self.refines = 2 * k * gradient < DIFFERENCED_BELOW
        self.curvature_kind = "differenced gradient" if self.refines else "average information"

    def start(self, psi_start: Array | None) -> Array:
        """Start values."""
        if psi_start is not None:
            psi = np.asarray(psi_start, dtype=np.float64).copy()
            theta = psi[: self.r]
            theta[np.abs(theta) < 1e-3] = 1e-3  # a zero would hide its own gradient
            return psi
        theta = moment_start(self.prepared.plain)
        return np.concatenate([theta, self.objective.whitener.start()])

    def differenced(self, psi: Array) -> tuple[Array, Array]:
        """Gradient and differenced Hessian; averaged where a neighbour has no likelihood."""
        try:
            H = self.objective.hessian(psi)
        except LikelihoodError:
            return self.averaged(psi)
        return self.objective.gradient(psi), H

    def averaged(self, psi: Array) -> tuple[Array, Array]:
        """Gradient and average information."""
        gradient = self.objective.gradient(psi)
        return gradient, self.objective.average_information(psi)

    def derivatives(self, psi: Array) -> tuple[Array, Array]:
        """Gradient and the curvature that the certificate rests on."""
        return self.differenced(psi) if self.refines else self.averaged(psi)

    def descend(self, psi: Array) -> Path:
        """Newton from a point: by average information, then by differences where they are cheap."""
        if not self.refines:
            return self._minimise(psi, self.averaged, AVERAGED_TOLERANCE)
        near = self._minimise(psi, self.averaged, NEAR)
        if not near.converged and self._edge(near.theta):
            return near
        return self._minimise(near.theta, self.differenced, TOLERANCE)

    def _minimise(self, psi: Array, derivatives: Derivatives, tolerance: float) -> Path:
        path = minimise(
            self.objective.value,
            derivatives,
            psi,
            tolerance=tolerance,
            max_iterations=self.max_iterations,
            noise=lambda: 0.0,
            start_value=self.objective.value(psi),
        )
        self.account.iterations += path.iterations
        self.account.history += path.history
        self.objective.ensure(path.theta)
        return path

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
        path = self.descend(self.start(psi_start))
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
        certificate = replace(certificate, evaluations=self.objective.n_evaluations)
        edge = self._edge(path.theta)
        if edge and certificate.is_certified:
            certificate = replace(certificate, notes=(*certificate.notes, edge))
        elif edge:
            certificate = replace(certificate, sentence=f"{certificate.sentence} {edge}")
        return path, certificate

    def _edge(self, psi: Array) -> str:
        """What to say where residual parameters run to the edge of their range."""
        whitener, layout = self.objective.whitener, self.prepared.layout
        phi = psi[self.r :]
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
    with blas_threads(0):
        solver = _Solver(prepared, max_iterations)
        path, certificate = solver.run(psi_start)
    objective = solver.objective
    inner, r = objective.ensure(path.theta), objective.n_theta
    if objective.cross is None:
        raise EstimationError("A solution must have been evaluated.", "none", "solve it first")
    whitened = replace(
        prepared.plain,
        cross=objective.cross,
        engine_plan=_plan(prepared.plain.engine_plan),
    )
    fit = in_user_units(whitened, Solution(path.theta[:r], path, certificate, inner))
    residual = residual_fit(prepared, path, objective.whitener.logdet, r)
    fit = replace(fit, residual=residual, theta_curvature=path.curvature[:r, :r])
    fit.seconds["estimation"] = time.perf_counter() - began
    return whitened, fit


def _plan(plan: EnginePlan) -> EnginePlan:
    return replace(plan, warm_start=None)


def residual_fit(prepared: StructuredPrepared, path: Path, logdet: float, r: int) -> ResidualFit:
    """The residual parameters as they are reported, with their standard errors."""
    layout, phi = prepared.layout, path.theta[r:]
    names, estimates = reported(layout, phi)
    k = len(phi)
    covariance = covariance_of(path.curvature)[r:, r:]
    jacobian = np.empty((len(estimates), k))
    for a in range(k):
        shift = np.zeros(k)
        shift[a] = 1e-6
        jacobian[:, a] = (
            reported(layout, phi + shift)[1] - reported(layout, phi - shift)[1]
        ) / 2e-6
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.einsum("ia,ab,ib->i", jacobian, covariance, jacobian))
    term = layout.term
    return ResidualFit(
        title="independent, unequal variances" if term is None else term.title,
        sentence=layout.sentence,
        names=names,
        estimates=estimates,
        phi=phi,
        curvature=path.curvature,
        std_errors=errors,
        n_variances=len(layout.variance_names),
        logdet=logdet,
    )


def covariance_of(curvature: Array) -> Array:
    """Twice the inverse Hessian; NaN where it is not positive definite."""
    try:
        np.linalg.cholesky(curvature)
        return np.asarray(2.0 * np.linalg.inv(curvature))
    except np.linalg.LinAlgError:
        return np.full_like(curvature, np.nan)


def reported(layout: ResidualLayout, phi: Array) -> tuple[tuple[str, ...], Array]:
    """Names and values of the reported parameters: log-variance coefficients, correlations."""
    n_variances = len(layout.variance_names)
    values, at = [phi[:n_variances]], n_variances
    for m in layout.maps:
        values.append(m.natural(phi[at : at + m.n_parameters]))
        at += m.n_parameters
    names = (
        *(f"log_variance({name})" for name in layout.variance_names),
        *natural_names(layout.maps, layout.groups),
    )
    return names, np.concatenate(values)
