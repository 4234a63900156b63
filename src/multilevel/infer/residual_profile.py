r"""Profiles of a fit with structured residuals: standard deviations, residual and fixed parameters.

A standard deviation is held in the user's units (``profile_criterion.HeldCriterion`` knows which
free parameters that leaves) and the residual parameters are optimised with the others. With ``tau =
log sigma2`` free beside ``psi``,

    d(psi, tau) = d(psi) + nu (tau - log sigma2_hat) + r^2 / sigma2 - nu,

whose gradient in ``psi`` is that of the profiled criterion with ``sigma2_hat`` replaced by sigma2.
Source: Pinheiro & Bates 2000, section 2.4; own derivation from ``likelihood.residual``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.estimate.structured_profile import HeldEffect, HeldParameter, profile_limits
from multilevel.estimate.structured_report import covariance_of, reported
from multilevel.estimate.trust_region import minimise
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.profile import profile_interval
from multilevel.infer.profile_criterion import HeldCriterion, held_criterion
from multilevel.infer.profile_curve import (
    LEVELS,
    RESIDUAL_PARAMETER,
    ProfileCurve,
    ProfileCurves,
    curve_of,
)
from multilevel.infer.residual_intervals import is_one_to_one
from multilevel.infer.variance_intervals import Interval, Quantity, quantities

Array = NDArray[np.float64]
NAN = float("nan")
_POINTS = 12  # on each side of a residual parameter
_FINE = 201
WHY_NOT_CORRELATIONS = (
    "Correlations of random effects have no profile beside structured residuals:"
    " confint('bootstrap')."
)


class HeldSd:
    """The criterion with one standard deviation held, everything else optimised."""

    def __init__(
        self, prepared: StructuredPrepared, whitened: Prepared, fit: Fit, quantity: Quantity
    ) -> None:
        self.inner: HeldCriterion = held_criterion(whitened, fit, quantity)
        problem = copy.copy(prepared.problem)
        problem.maps = tuple(self.inner.objective.maps)
        self.objective = replace(prepared, problem=problem, patterns=None).objective()
        phi = np.zeros(0) if fit.residual is None else fit.residual.phi
        self.f = len(self.inner.phi)
        self.x = np.concatenate([self.inner.phi, phi])

    def _psi(self, x: Array) -> tuple[Array, float, Array]:
        theta, tau, J = self.inner.unpack(x[: self.f])
        return np.concatenate([theta, x[self.f :]]), tau, J

    def _evaluate(self, x: Array) -> float:
        psi, tau, _ = self._psi(x)
        profile = self.objective.set(psi)
        nu = self.inner.objective.nu
        return float(
            profile.criterion + nu * (tau - np.log(profile.sigma2)) + profile.r2 * np.exp(-tau) - nu
        )

    def _gradient(self, x: Array) -> Array:
        """Gradient at ``x``, where the criterion was last evaluated."""
        psi, tau, J = self._psi(x)
        inner = self.objective.ensure(psi)
        profile, r = inner.profile, self.objective.n_theta
        if profile is None:
            raise InferenceError("The criterion must be evaluated first.", "unset", "evaluate it")
        inner.profile = replace(profile, sigma2=float(np.exp(tau)))
        slope = self.objective.gradient(psi)
        inner.profile = profile
        out = J.T @ slope[:r]
        if self.inner.component != "residual":
            out[-1] += self.inner.objective.nu - profile.r2 * np.exp(-tau)
        return np.concatenate([out, slope[r:]])

    def _derivatives(self, x: Array) -> tuple[Array, Array]:
        H = np.empty((len(x), len(x)))
        for a in range(len(x)):
            step = np.zeros(len(x))
            step[a] = 1e-5 * max(1.0, abs(float(x[a])))
            self._evaluate(x + step)
            up = self._gradient(x + step)
            self._evaluate(x - step)
            H[a] = (up - self._gradient(x - step)) / (2.0 * step[a])
        self._evaluate(x)
        return self._gradient(x), (H + H.T) / 2.0

    def minimum(self, value: float) -> float:
        """Lowest criterion (user's units) with the standard deviation at ``value``; a warm start.

        Raises
        ------
        LikelihoodError : no optimum was found.
        """
        self.inner.value = value
        first = self._evaluate(self.x)
        if not len(self.x):
            return first + self.inner.shift
        path = minimise(
            self._evaluate, self._derivatives, self.x.copy(), tolerance=1e-9, max_iterations=60,
            noise=lambda: 0.0, start_value=first,
        )  # fmt: skip
        if not path.decrement < 1e-5:
            raise LikelihoodError(
                "Each point of a profile must be at its optimum.",
                f"with the parameter held at {value:.6g}: {path.reason}",
                'use method="wald" or method="bootstrap"',
            )
        self.x = path.theta
        return path.value + self.inner.shift


def sd_intervals(
    prepared: StructuredPrepared, whitened: Prepared, fit: Fit, conf_level: float
) -> tuple[tuple[Interval, ...], tuple[str, ...]]:
    """Profile intervals of standard deviations (random effects, residual); why others have none."""
    found, left_out = [], []
    for q in quantities(whitened.design, ("sd", "correlation")):
        if q.component != "sd":
            left_out.append(WHY_NOT_CORRELATIONS)
            continue
        try:
            held = HeldSd(prepared, whitened, fit, q).minimum
            found.append(profile_interval(whitened, fit, q, conf_level, NAN, held).interval)
        except (InferenceError, LikelihoodError) as error:
            left_out.append(f"No profile for the SD of {q.term} over {q.group}: {error.must}")
    return tuple(found), tuple(dict.fromkeys(left_out))


def check_profiled(components: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds of parameters to profile: ``"fixed"``, ``"sd"``, ``"residual"``; None means all.

    Raises
    ------
    InferenceError : another name, or none.
    """
    known = ("fixed", "sd", "residual")
    wanted = [components] if isinstance(components, str) else components
    if wanted is not None and (not wanted or set(wanted) - set(known)):
        raise InferenceError(
            f"components must be among {', '.join(map(repr, known))}.",
            repr(components),
            'write components=["sd"], or leave it out',
        )
    return tuple(k for k in known if wanted is None or k in wanted)


def structured_curves(
    prepared: StructuredPrepared,
    whitened: Prepared,
    fit: Fit,
    psi: Array,
    components: Sequence[str] | None,
) -> ProfileCurves:
    """Profile curves of fixed effects (ML), standard deviations and residual parameters.

    Parameters
    ----------
    psi : (r + K,) estimates on the scaled problem.
    components : among ``"fixed"``, ``"sd"``, ``"residual"``; None for all.

    Raises
    ------
    InferenceError : another component, or no parameter with a profile.
    """
    wanted = check_profiled(components)
    curves: list[ProfileCurve] = []
    left_out: list[str] = []
    for kind in wanted:
        more, why = {"fixed": _fixed, "sd": _sds, "residual": _residual}[kind](
            prepared, whitened, fit, psi
        )
        curves, left_out = curves + more, left_out + why
    if not curves:
        raise InferenceError(
            "A profile needs a parameter whose criterion can be minimised with it held.",
            " ".join(left_out) or "none",
            'ask for other components, or for confint("bootstrap")',
        )
    return ProfileCurves(tuple(curves), tuple(dict.fromkeys(left_out)))


def _fixed(
    prepared: StructuredPrepared, whitened: Prepared, fit: Fit, psi: Array
) -> tuple[list[ProfileCurve], list[str]]:
    if fit.method == "reml":
        return [], ["Fixed effects have a profile under ML only."]
    if prepared.layout.has_power_of_mean:
        return [], ["Fixed effects have no profile where variances depend on the means."]
    out = []
    for q in quantities(whitened.design, ("fixed",)):

        def held_anew(k: int = q.a) -> Callable[[float], float]:
            held = HeldEffect(prepared, fit, psi, k)
            return lambda value: held.rise(value) + fit.criterion

        error = float(np.sqrt(fit.vcov_beta[q.a, q.a]))
        out.append(curve_of(whitened, fit, q, error, held_anew))
    return out, []


def _sds(
    prepared: StructuredPrepared, whitened: Prepared, fit: Fit, _psi: Array
) -> tuple[list[ProfileCurve], list[str]]:
    out, left_out = [], []
    for q in quantities(whitened.design, ("sd", "correlation")):
        if q.component != "sd":
            left_out.append(WHY_NOT_CORRELATIONS)
            continue

        def held_anew(q: Quantity = q) -> Callable[[float], float]:
            return HeldSd(prepared, whitened, fit, q).minimum

        try:
            out.append(_sloped(curve_of(whitened, fit, q, NAN, held_anew)))
        except (InferenceError, LikelihoodError) as error:
            left_out.append(f"No profile for the SD of {q.term} over {q.group}: {error.must}")
    return out, left_out


def _sloped(curve: ProfileCurve) -> ProfileCurve:
    """The curve with the standard error that its slope at the estimate gives: the slope of the
    signed root is one over it (the curvature of the profiled criterion). None at zero."""
    slope = float(np.interp(curve.estimate, curve.values, np.gradient(curve.zeta, curve.values)))
    if curve.estimate <= curve.values[0] or slope <= 0.0:
        return curve
    return replace(curve, std_error=1.0 / slope)


def _residual(
    prepared: StructuredPrepared, _whitened: Prepared, fit: Fit, psi: Array
) -> tuple[list[ProfileCurve], list[str]]:
    record = fit.residual
    if record is None or not len(record.phi):
        return [], []
    if len(record.names) != len(record.phi) or not is_one_to_one(prepared, record.phi):
        return [], [
            f"No profile for {record.title}: its correlations depend on several parameters."
        ]
    return [_residual_curve(prepared, fit, psi, k) for k in range(len(record.phi))], []


def _residual_curve(prepared: StructuredPrepared, fit: Fit, psi: Array, k: int) -> ProfileCurve:
    """The curve of one residual parameter, minimised on its unconstrained scale."""
    record, r = fit.residual, len(fit.theta)
    if record is None:
        raise EstimationError("A residual structure is needed.", "none", "fit with residual=")

    def natural(x: float) -> float:
        phi = record.phi.copy()
        phi[k] = x
        return float(reported(prepared.layout, phi)[1][k])

    best = float(psi[r + k])
    spread = float(np.sqrt(covariance_of(record.curvature)[r + k, r + k]))
    z = float(normal_quantile(0.5 + LEVELS[-1] / 2.0))
    step = z * spread if np.isfinite(spread) else 1.0
    values, zeta = [best], [0.0]
    low, high = profile_limits(prepared, psi, r + k, step, z)
    far = 3.0 * step  # a limit at the edge of the range: as far as there is something to see
    for end, sign in ((max(low, best - far), -1.0), (min(high, best + far), 1.0)):
        held = HeldParameter(prepared.objective(), psi, r + k)
        for x in np.linspace(best, end, _POINTS + 1)[1:].tolist():
            rise = held.rise(x)
            if np.isfinite(rise):
                values.append(x)
                zeta.append(sign * float(np.sqrt(max(rise, 0.0))))
    order = np.argsort(values)
    at, root = np.asarray(values)[order], np.maximum.accumulate(np.asarray(zeta)[order])
    fine = np.union1d(np.linspace(at[0], at[-1], 2 * _FINE), at)
    curve = np.interp(fine, at, root)
    shown = np.array([natural(x) for x in fine])
    if shown[-1] < shown[0]:
        shown, curve = shown[::-1], -curve[::-1]
    targets = np.asarray(normal_quantile([0.5 + level / 2.0 for level in LEVELS]))
    ends = [np.interp(s * targets, curve, shown, left=np.nan, right=np.nan) for s in (-1.0, 1.0)]
    name = record.names[k]
    quantity = Quantity(name, "Residual", "fixed", RESIDUAL_PARAMETER, k, k)
    return ProfileCurve(
        quantity, float(record.estimates[k]), float(record.std_errors[k]), shown, curve,
        ends[0], ends[1],
    )  # fmt: skip
