"""The criterion with one standard deviation or correlation held, minimised over the rest.

Free parameters ``phi``: entries of the Cholesky factor of the reordered term on the user's scale,
the parameters of all other terms, and ``tau = log sigma2`` unless sigma is held. At given tau

    d(theta, tau) = d(theta) + nu (tau - log sigma2_hat) + r^2 / sigma2 - nu,
    dd/dtheta_a   = <Q + gg' (1/sigma2_hat - 1/sigma2), D_a>,  dd/dtau = nu - r^2/sigma2,

and theta is a smooth function of phi, so the gradient is exact; its differences give the Hessian.
Source: own derivation from the conventions of ``likelihood.gaussian``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError, LikelihoodError
from multilevel.estimate.trust_region import minimise
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.model.covariance.curves import FACTORED, HOMOGENEOUS
from multilevel.model.covariance.structures import FactorMap, lower_factor

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.infer.variance_intervals import Quantity

Array = NDArray[np.float64]
LINEAR = ("unstructured", "diagonal", "identity")


class HeldCriterion:
    """The criterion as a function of the free parameters, one quantity held at ``value``.

    ``theta`` = ``(local, others)``; the held quantity rules entries ``held`` (a standard
    deviation: ``value / sigma``; a correlation: ``k (rho, sqrt(1-rho^2))``).
    """

    def __init__(
        self,
        objective: GaussianObjective,
        theta: Array,
        tau: float,
        component: str,
        held: tuple[int, ...],
        unit: float,
        shift: float,
    ) -> None:
        self.objective, self.component, self.held = objective, component, held
        self.unit, self.shift, self.value = unit, shift, 0.0
        self.free = np.setdiff1d(np.arange(len(theta)), held)
        extra = [float(np.hypot(*theta[list(held)]))] if component == "correlation" else []
        last = [] if component == "residual" else [tau]
        self.phi: Array = np.concatenate([theta[self.free], extra, last])

    @property
    def keeps_sign(self) -> bool:
        """Whether the optimum has the correlation that was held rather than minus that.

        The correlation is the held value times the signs of the first diagonal entry and of the
        length of the second row.
        """
        diagonal = self.phi[np.searchsorted(self.free, self.held[0] - 1)]
        return bool(diagonal * self.phi[len(self.free)] >= 0.0)

    def unpack(self, phi: Array) -> tuple[Array, float, Array]:
        """``theta``, ``tau = log sigma2`` and ``dtheta/dphi`` (r, f) at free parameters (f,)."""
        f = len(self.free)
        theta = np.zeros(self.objective.n_parameters)
        J = np.zeros((len(theta), len(phi)))
        theta[self.free] = phi[:f]
        J[self.free, np.arange(f)] = 1.0
        if self.component == "residual":
            return theta, 2.0 * float(np.log(self.value / self.unit)), J
        tau = float(phi[-1])
        if self.component == "parameter":
            theta[self.held[0]] = self.value
        elif self.component == "log_sd":
            theta[self.held[0]] = np.log(max(self.value, 1e-300) / self.unit) - tau / 2.0
            J[self.held[0], -1] = -0.5
        elif self.component == "sd":
            theta[self.held[0]] = self.value / self.unit * np.exp(-tau / 2.0)
            J[self.held[0], -1] = -theta[self.held[0]] / 2.0
        else:
            share = np.array([self.value, np.sqrt(max(1.0 - self.value**2, 0.0))])
            theta[list(self.held)] = phi[f] * share
            J[list(self.held), f] = share
        return theta, tau, J

    def _evaluate(self, phi: Array) -> float:
        theta, tau, _ = self.unpack(phi)
        profile = self.objective.set(theta)
        nu = self.objective.nu
        return float(
            profile.criterion + nu * (tau - np.log(profile.sigma2)) + profile.r2 * np.exp(-tau) - nu
        )

    def _gradient(self, phi: Array) -> Array:
        """Gradient in ``phi``, at which the criterion was last evaluated."""
        _, tau, J = self.unpack(phi)
        objective = self.objective
        profile = objective.profile
        if profile is None:
            raise InferenceError("The criterion must be evaluated first.", "unset", "evaluate it")
        excess = 1.0 / profile.sigma2 - np.exp(-tau)
        parts = [
            np.einsum("ab,rab->r", Q + excess * (g.T @ g), D)
            for Q, g, D in zip(
                objective.scores(),
                objective.residual_scores(),
                objective.directions(),
                strict=True,
            )
        ]
        out = J.T @ np.concatenate(parts)
        if self.component != "residual":
            out[-1] += objective.nu - profile.r2 * np.exp(-tau)
        return np.asarray(out)

    def _derivatives(self, phi: Array) -> tuple[Array, Array]:
        H = np.empty((len(phi), len(phi)))
        for a in range(len(phi)):
            h = 1e-5 * max(1.0, abs(float(phi[a])))
            step = np.zeros(len(phi))
            step[a] = h
            self._evaluate(phi + step)
            up = self._gradient(phi + step)
            self._evaluate(phi - step)
            H[a] = (up - self._gradient(phi - step)) / (2.0 * h)
        self._evaluate(phi)
        return self._gradient(phi), (H + H.T) / 2.0

    def minimum(self, value: float) -> float:
        """Lowest criterion (user's units) with the quantity held at ``value``; a warm start.

        Raises
        ------
        LikelihoodError : no optimum was found.
        """
        self.value = value
        start = self.phi.copy()
        if not len(start):
            return self._evaluate(start) + self.shift
        path = minimise(
            self._evaluate,
            self._derivatives,
            start,
            tolerance=1e-9,
            max_iterations=60,
            noise=lambda: 0.0,
            start_value=self._evaluate(start),
        )
        if not path.decrement < 1e-5:
            raise LikelihoodError(
                "Each point of a profile must be at its optimum.",
                f"with the parameter held at {value:.6g}: {path.reason}",
                'use method="wald" or method="bootstrap"',
            )
        self.phi = path.theta
        return path.value + self.shift


def _on_user_scale(
    objective: GaussianObjective,
    prepared: Prepared,
    fit: Fit,
    q: Quantity,
    part: slice,
    term: tuple[int, int, str],
) -> tuple[Array, Array, tuple[int, ...]]:
    """Basis of the block and theta with the held columns first and in the user's units."""
    start, stop, structure = term
    mapping, scaling = objective.maps[q.block], prepared.scaling
    basis = mapping.basis.copy()
    theta = fit.theta.copy()
    at = objective.slices[q.block].start + part.start
    B = scaling.random[q.block][start:stop, start:stop]
    back = np.linalg.inv(B)
    wanted = [q.a] if q.a == q.b else [q.b, q.a]
    local = [w - start for w in wanted]
    if structure == "unstructured":
        order = local + [a for a in range(stop - start) if a not in local]
        P = np.eye(stop - start)[:, order]
        relative = fit.random_covariance[q.block][start:stop, start:stop] / fit.sigma2
        L = lower_factor(P.T @ relative @ P)
        inner = basis[part][:, start:stop, start:stop]
        basis[part, start:stop, start:stop] = back @ P @ inner
        theta[at : at + part.stop - part.start] = L[np.tril_indices(stop - start)]
        held: tuple[int, ...] = (at,) if q.a == q.b else (at + 1, at + 2)
    else:
        index = 0 if structure == "identity" else local[0]
        basis[part, start:stop, start:stop] = back @ mapping.basis[part, start:stop, start:stop]
        theta[at + index] = fit.theta[at + index] * B[local[0], local[0]]
        if structure == "diagonal":
            theta[at : at + stop - start] = fit.theta[at : at + stop - start] * np.diag(B)
        held = (at + index,)
    return basis, np.where(np.abs(theta) < 1e-3, 1e-3, theta), held


def _held_structure(
    objective: GaussianObjective,
    prepared: Prepared,
    fit: Fit,
    q: Quantity,
    part: slice,
    tau: float,
    shift: float,
) -> HeldCriterion:
    """One standard deviation or one parameter of a structure held.

    The value of a parameter is held on its unconstrained scale: ``minimum`` takes that.
    """
    curve = q.curve
    start = objective.slices[q.block].start + part.start
    theta, unit = fit.theta.copy(), prepared.scaling.y_scale
    if curve is None or curve.structure in FACTORED:
        raise InferenceError(
            "Profile intervals are for structures with standard deviations of their own.",
            f"{q.component} {q.term} over {q.group}",
            'use method="wald" or method="bootstrap"',
        )
    if q.k >= 0:
        at = (start + curve.n_scales + q.k,)
        return HeldCriterion(objective, theta, tau, "parameter", at, unit, shift)
    B = prepared.scaling.random[q.block]
    unit = unit * float(B[q.a, q.a])
    if curve.structure in HOMOGENEOUS:
        theta[start] = theta[start] or 1e-3
        return HeldCriterion(objective, theta, tau, "sd", (start,), unit, shift)
    first = next(a for a, b, _ in objective.maps[q.block].terms if a <= q.a < b)
    at = (start + q.a - first,)
    return HeldCriterion(objective, theta, tau, "log_sd", at, unit, shift)


def held_criterion(prepared: Prepared, fit: Fit, q: Quantity) -> HeldCriterion:
    """The criterion of a fit with one quantity held (``component`` sd or correlation).

    Raises
    ------
    InferenceError : a compound symmetric term, or an engine whose criterion is noisy.
    """
    objective = prepared.objective()
    if not objective.engine.exact:
        raise InferenceError(
            "A profile needs an exact criterion.",
            f"the {objective.engine.name} engine, whose criterion carries noise",
            'use method="wald" or method="bootstrap"',
        )
    scaling, cross = prepared.scaling, prepared.cross
    tau = float(np.log(fit.sigma2)) - 2.0 * float(np.log(scaling.y_scale))
    shift = scaling.criterion_shift(cross.n, cross.n_fixed, fit.method == "reml")
    if q.block == -1:
        return HeldCriterion(
            objective, fit.theta.copy(), tau, "residual", (), scaling.y_scale, shift
        )
    mapping = objective.maps[q.block]
    term, part = next(
        (term, s)
        for term, s in zip(mapping.terms, mapping.parameter_slices(), strict=True)
        if term[0] <= q.a < term[1]
    )
    structure = term[2]
    if q.curve is not None:
        return _held_structure(objective, prepared, fit, q, part, tau, shift)
    if structure not in LINEAR:
        raise InferenceError(
            "Profile intervals are for unstructured, diagonal and identity terms.",
            f"the {structure} term over {q.group}",
            'use method="wald" or method="bootstrap"',
        )
    basis, theta, held = _on_user_scale(objective, prepared, fit, q, part, term)
    maps = list(objective.maps)
    maps[q.block] = FactorMap(basis, mapping.terms, mapping.curves, mapping.sizes)
    held_objective = GaussianObjective(
        objective.engine,
        maps,
        objective.n,
        objective.p,
        objective.reml,
        objective.sum_log_weights,
    )
    component = "sd" if q.a == q.b else "correlation"
    return HeldCriterion(held_objective, theta, tau, component, held, scaling.y_scale, shift)
