r"""REML-type estimates of models whose residual variance has random effects.

With random scale effects the response is no longer normal given the variance parameters, so there
are no error contrasts whose likelihood would be REML. What REML also is carries over: the
likelihood with the fixed effects ``beta`` of the means integrated out, by Laplace's approximation
at their profile maximum. For ``eta`` (variances, correlations, coefficients of the log variance)

    d_R(eta) = min_beta d(beta, eta) + log|I_beta(eta)| - p log 2 pi,

``d`` = -2 log-likelihood, ``I_beta`` half its Hessian in beta: the adjusted profile likelihood of
Cox & Reid 1987 (JRSS B 49:1), eq. 10. In a Gaussian model without random scale effects ``d`` is a
quadratic in beta, and ``d_R`` is the REML criterion exactly.

The gradient of ``d`` is exact; that of the determinant is differenced along the profile. Standard
errors come from the observed information of the likelihood at these estimates.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.objective import GeneralizedObjective

Array = NDArray[np.float64]
STEP = 1e-2  # of differences, in standard errors
TOLERANCE = 1e-7  # expected further fall of the criterion
MOST = 60
SENTENCE = (
    "REML-type: fixed effects of the means are integrated out by Laplace's approximation at their "
    "profile maximum (adjusted profile likelihood of Cox & Reid 1987)."
)


class AdjustedProfile:
    """``d_R`` and its gradient; parameters in units of their ML standard errors.

    Parameters
    ----------
    objective : -2 log-likelihood.
    fixed : positions of ``beta`` in ``psi``.
    unit : (P,) standard errors.
    """

    def __init__(self, objective: GeneralizedObjective, fixed: slice, unit: Array) -> None:
        self.objective, self.unit = objective, unit
        every = np.arange(len(unit))
        self.beta = every[fixed]
        self.eta = np.setdiff1d(every, self.beta)

    def gradient(self, psi: Array) -> tuple[float, Array]:
        """``d`` and its gradient per standard error at ``psi``."""
        value = self.objective.value(psi)
        return value, self.objective.gradient() * self.unit

    def _columns(self, psi: Array, which: NDArray[np.intp]) -> Array:
        """Columns ``which`` of the Hessian per standard error: (P, k)."""
        out = np.empty((len(psi), len(which)))
        for k, at in enumerate(which):
            shift = np.zeros(len(psi))
            shift[at] = STEP * self.unit[at]
            ends = [self.gradient(psi + side * shift)[1] for side in (1.0, -1.0)]
            out[:, k] = (ends[0] - ends[1]) / (2.0 * STEP)
        return out

    def log_information(self, psi: Array) -> float:
        """``log|I_beta|`` per standard error at ``psi``."""
        H = self._columns(psi, self.beta)[self.beta]
        sign, logdet = np.linalg.slogdet((H + H.T) / 4.0)
        if sign <= 0.0:
            raise LikelihoodError(
                "The likelihood must curve in the fixed effects of the means.",
                "an information matrix that is not positive definite",
                "leave out a predictor",
            )
        return float(logdet)

    def profiled(self, psi: Array, H_bb: Array) -> Array:
        """``psi`` with ``beta`` at its maximum, by Newton steps with a given curvature."""
        psi = psi.copy()
        for _ in range(MOST):
            _, g = self.gradient(psi)
            step = np.linalg.solve(H_bb, g[self.beta])
            psi[self.beta] -= step * self.unit[self.beta]
            if float(g[self.beta] @ step) < 1e-13:
                break
        return psi

    def value(self, psi: Array) -> float:
        """``d_R`` at ``psi``, whose ``beta`` is at its maximum."""
        found = self.log_information(psi)
        p, scale = len(self.beta), 2.0 * float(np.log(self.unit[self.beta]).sum())
        return self.objective.value(psi) + found - scale - p * float(np.log(2.0 * np.pi))

    def slopes(self, psi: Array) -> tuple[Array, Array]:
        """Gradient (k,) of ``d_R`` in eta along the profile, and the Hessian (P, P) of ``d``."""
        H = self._columns(psi, np.arange(len(psi)))
        H = (H + H.T) / 2.0
        b, e = self.beta, self.eta
        tangent = np.linalg.solve(H[np.ix_(b, b)], H[np.ix_(b, e)])
        bend = np.empty(len(e))
        for k, at in enumerate(e):
            shift = np.zeros(len(psi))
            shift[at] = STEP
            shift[b] = -STEP * tangent[:, k]
            ends = [self.log_information(psi + side * shift * self.unit) for side in (1.0, -1.0)]
            bend[k] = (ends[0] - ends[1]) / (2.0 * STEP)
        _, g = self.gradient(psi)
        return g[e] - tangent.T @ g[b] + bend, H


def restrict(prepared: GeneralizedPrepared, fit: GeneralizedFit) -> GeneralizedFit:
    """REML-type estimates from a fit by maximum likelihood.

    Parameters
    ----------
    fit : by maximum likelihood, at an optimum inside the parameter space.

    Returns
    -------
    The fit with ``estimator = "reml"``: ``criterion`` is ``d_R``, ``vcov`` twice the inverse
    Hessian of -2 log-likelihood at the estimates.

    Raises
    ------
    EstimationError : another family, no fixed effects of the means, an optimum on the boundary, no
        optimum found.
    """
    design, began = prepared.design, time.perf_counter()
    _check(prepared, fit)
    objective = make_objective(prepared.problem, fit.approximation.points)
    objective.set_modes(fit.modes)
    unit = np.sqrt(np.diag(fit.vcov))
    surface = AdjustedProfile(objective, fit.fixed_slices[0], unit)
    try:
        psi, H, decrement, steps = _search(surface, fit.psi.copy())
        criterion = surface.value(psi)
        objective.value(psi)
    except (LikelihoodError, np.linalg.LinAlgError) as error:
        raise EstimationError(
            "The adjusted profile likelihood must exist around its optimum.",
            str(error),
            'take the fit by method="ml"',
        ) from error
    vcov = 2.0 * np.linalg.inv(H) * np.outer(unit, unit)
    factors = tuple(prepared.problem.factors(psi))
    certificate = replace(
        fit.certificate, newton_decrement=decrement, iterations=steps,
        evaluations=objective.n_evaluations, history=(),
        sentence=f"At the optimum of the adjusted profile likelihood. {SENTENCE}",
    )  # fmt: skip
    seconds = {**fit.seconds, "restricted": time.perf_counter() - began}
    return replace(
        fit, criterion=criterion, psi=psi, vcov=(vcov + vcov.T) / 2.0, relative_factors=factors,
        random_covariance=tuple(L @ L.T for L in factors),
        modes=tuple(m.copy() for m in objective.modes()), curvature=H / np.outer(unit, unit),
        certificate=certificate, seconds=seconds, estimator="reml",
        plan=f"{fit.plan} {SENTENCE} ({design.n} rows)",
    )  # fmt: skip


def _check(prepared: GeneralizedPrepared, fit: GeneralizedFit) -> None:
    """Refuse where the adjusted profile likelihood is not defined."""
    family = prepared.design.family
    found = ""
    if family.name != "gaussian" or family.link != "identity":
        found = f"family {family.label}"
    elif fit.fixed_slices[0].stop == fit.fixed_slices[0].start:
        found = "no fixed effects of the means: REML and ML are the same"
    elif fit.certificate.status == "singular" or fit.at_limit:
        found = "an optimum on the boundary: a variance of zero or a correlation of one"
    elif fit.penalty:
        found = "a penalised fit"
    if found:
        raise EstimationError(
            "REML-type estimates of location-scale models need a Gaussian response with the "
            "identity link and an optimum by ML inside the parameter space.",
            found,
            'take the fit by method="ml", or leave the zero variance out first',
        )


def _search(surface: AdjustedProfile, psi: Array) -> tuple[Array, Array, float, int]:
    """Newton steps on the profile curvature, halved where they lead up."""
    value = None
    for step_number in range(MOST):
        gradient, H = surface.slopes(psi)
        b, e = surface.beta, surface.eta
        H_bb = H[np.ix_(b, b)]
        schur = H[np.ix_(e, e)] - H[np.ix_(e, b)] @ np.linalg.solve(H_bb, H[np.ix_(b, e)])
        step = np.linalg.solve(schur, gradient)
        decrement = float(gradient @ step) / 2.0
        if np.linalg.eigvalsh(schur)[0] <= 0.0:
            raise LikelihoodError(
                "The likelihood must curve upwards near the optimum.", "it does not",
                "use a simpler random part",
            )  # fmt: skip
        if abs(decrement) < TOLERANCE:
            return psi, H, decrement, step_number
        before = surface.value(psi) if value is None else value
        for _ in range(12):
            trial = psi.copy()
            trial[e] -= step * surface.unit[e]
            trial[b] += np.linalg.solve(H_bb, H[np.ix_(b, e)] @ step) * surface.unit[b]
            trial = surface.profiled(trial, H_bb)
            value = surface.value(trial)
            if value < before + 1e-7:
                break
            step = step / 2.0
        psi = trial
    raise LikelihoodError(
        f"The search must end within {MOST} steps.", f"a gap of {decrement:.1g}",
        "use a simpler random part",
    )  # fmt: skip
