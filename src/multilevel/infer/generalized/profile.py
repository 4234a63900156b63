"""Profile likelihood intervals of generalized models.

The criterion is minimised with one quantity held; a limit is where it has risen by the chi-square
quantile. Limits are found by Newton's method on the signed root of the rise, whose slope comes from
the gradient (envelope theorem), inside a bracket. Each minimum starts from its neighbours.
Intervals of monotone functions of one parameter are that function of the parameter's limits.
A search that does not succeed is a row with a status, never an invented number.
Sources: Bates & Watts 1988, section 6.1; Venzon & Moolgavkar 1988.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.generalized.held import HeldPoint, minimise_held, whitening
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.generalized.natural import is_constant, natural_parameters
from multilevel.infer.generalized.profile_maps import (
    HeldCorrelation,
    HeldProblem,
    held_covariance,
    held_entry,
    held_threshold,
)
from multilevel.infer.generalized.profile_structures import held_structure
from multilevel.infer.generalized.quantities import (
    OK,
    Parameter,
    ParameterInterval,
    at_psi,
    is_at_boundary,
    value_of,
)

Array = NDArray[np.float64]
TOLERANCE = 5e-7  # of the rise of the criterion at a limit
STEPS = 40
FAR = 10  # steps, most of them three times the last, after which there is no limit
FARTHEST, HUGE = 300.0, 1e60  # predictor, and its exponential, that stand for infinity
HIGHER = 1e-5  # fall of the criterion below the fit's that is an error


@dataclass(frozen=True)
class _End:
    """One end of an interval: its value, a note, whether it is a limit."""

    value: float
    note: str = ""


def profile_interval(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    q: Parameter,
    conf_level: float,
    guess: float,
) -> ParameterInterval:
    """Profile one parameter.

    Parameters
    ----------
    guess : a standard error to start the search from (matters for speed only).

    Raises
    ------
    InferenceError : a penalised fit (its criterion is no likelihood).
    """
    if fit.penalty:
        raise InferenceError(
            "Profile likelihood intervals need an unpenalised fit.",
            f"penalty: {fit.penalty}",
            'fit without penalty=, or use method="bootstrap"',
        )
    estimate = value_of(prepared, fit, q)
    nan = float("nan")
    try:
        return _profiled(prepared, fit, q, estimate, conf_level, guess)
    except (InferenceError, LikelihoodError, EstimationError) as error:
        reason = f"failed: {error.must} {error.found}".rstrip(".")
        return ParameterInterval(q, estimate, nan, nan, nan, reason)


def _profiled(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    q: Parameter,
    estimate: float,
    conf_level: float,
    guess: float,
) -> ParameterInterval:
    if q.component == "variance":
        inner = _profiled(
            prepared, fit, replace(q, component="sd"), float(np.sqrt(estimate)), conf_level,
            guess / max(2.0 * float(np.sqrt(estimate)), 1e-12),
        )  # fmt: skip
        return replace(
            inner, parameter=q, estimate=estimate, conf_low=inner.conf_low**2,
            conf_high=inner.conf_high**2,
        )  # fmt: skip
    if q.component == "covariance":
        raise InferenceError(
            "Profiles are for standard deviations, variances, correlations and coefficients.",
            f"the covariance of {q.term}",
            "ask for its correlation",
        )
    if not np.isfinite(estimate):
        raise InferenceError(
            "A correlation needs two variances above zero.", q.term, "leave one effect out"
        )
    if q.block == -1 and q.a in fit.at_limit:
        raise InferenceError(
            "A parameter at a limit has no profile.", fit.at_limit[q.a], "leave the part out"
        )
    if q.block == -2:
        return _natural(prepared, fit, q, estimate, conf_level, guess)
    if q.curve is not None:
        held = held_structure(prepared, fit, q, q.curve)
        return _interval(held, fit, q, estimate, conf_level, guess)
    if q.component == "correlation" and _may_vanish(prepared, fit, q, conf_level):
        note = "ok; one of the two variances may be zero: any correlation is possible"
        return ParameterInterval(q, estimate, float("nan"), -1.0, 1.0, note)
    held = held_entry(prepared, fit, q.a) if q.block == -1 else held_covariance(prepared, fit, q)
    return _interval(held, fit, q, estimate, conf_level, guess)


def _may_vanish(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter, conf_level: float
) -> bool:
    """Whether a variance of zero lies inside the limits: its correlations are then undefined."""
    target = float(normal_quantile(0.5 + conf_level / 2.0)) ** 2
    for column in (q.a, q.b):
        one = replace(q, component="sd", a=column, b=column)
        held = held_covariance(prepared, fit, one)
        point = minimise_held(held.objective, held.where, 0.0, held.x, whitening(held.curvature))
        if point.criterion - fit.criterion < target:
            return True
    return False


def _natural(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    q: Parameter,
    estimate: float,
    conf_level: float,
    guess: float,
) -> ParameterInterval:
    """A natural parameter: a monotone function of one entry of ``psi``, or a threshold."""
    design = prepared.design
    places = [
        fit.fixed_slices[d].start
        for d, part in enumerate(design.parts)
        if d and is_constant(part) and part.spec.argument != "formula"
    ]
    moved = [k for k in places if _depends(prepared, fit, q, k)]
    if len(moved) == 1:
        if moved[0] in fit.at_limit:
            raise InferenceError(
                "A parameter at a limit has no profile.", fit.at_limit[moved[0]], "leave it out"
            )
        at = moved[0]
        se = float(np.sqrt(max(fit.vcov[at, at], 0.0)))
        inner = _interval(held_entry(prepared, fit, at), fit, q, float(fit.psi[at]), conf_level, se)
        function = _function(prepared, fit, q, at)
        ends = sorted((function(inner.conf_low), function(inner.conf_high)))
        return replace(inner, estimate=estimate, conf_low=ends[0], conf_high=ends[1])
    if q.group == "threshold":
        held = held_threshold(prepared, fit, tuple(places[: len(moved)]))
        return _interval(held, fit, q, estimate, conf_level, guess)
    raise InferenceError(
        "Profiles are for functions of one parameter.",
        f"{q.term} is a function of {len(moved)}",
        'use method="wald" or method="bootstrap"',
    )


def _function(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter, at: int
) -> Callable[[float], float]:
    def natural(value: float) -> float:
        if np.isnan(value):
            return value
        psi = fit.psi.copy()
        psi[at] = float(np.clip(value, -FARTHEST, FARTHEST))
        found = natural_parameters(prepared.design, at_psi(prepared, fit, psi))[q.a].estimate
        if np.isinf(value) and abs(found) > HUGE:
            return float(np.sign(found)) * float("inf")
        return 0.0 if np.isinf(value) and abs(found) < 1.0 / HUGE else found

    return natural


def _depends(prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter, at: int) -> bool:
    function = _function(prepared, fit, q, at)
    here = float(fit.psi[at])
    return bool(function(here + 0.01) != function(here))


def _interval(
    held: HeldProblem,
    fit: GeneralizedFit,
    q: Parameter,
    estimate: float,
    conf_level: float,
    guess: float,
) -> ParameterInterval:
    """Both limits of a held quantity."""
    search = _Search(held, fit.criterion, estimate, guess)
    if held.is_reordered and max(fit.approximation.points, default=1) > 1:
        search.centre()
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    low, high = search.limit(-1.0, z), search.limit(1.0, z)
    notes = [end.note for end in (low, high) if end.note]
    if is_at_boundary(fit, q):
        notes.insert(0, "the estimate is at its boundary: the interval is one-sided")
    status = "; ".join([OK, *notes]) if notes else OK
    return ParameterInterval(q, estimate, float("nan"), low.value, high.value, status)


class _Search:
    """Minima that were found, and the search for a limit among them."""

    def __init__(self, held: HeldProblem, lowest: float, estimate: float, guess: float) -> None:
        self.held, self.lowest, self.estimate = held, lowest, estimate
        self.W = whitening(held.curvature)
        usable = np.isfinite(guess) and guess > 0.0
        self.step = guess if usable else 0.25 * max(abs(estimate), 1.0)

    def centre(self) -> None:
        """Take the lowest value in this order of columns as the optimum (quadrature grids)."""
        value, x = self.estimate, self.held.x
        for _ in range(8):
            point = self._minimum(value, x)
            ahead = self._minimum(value + 1e-4, point.x)
            bend = (ahead.slope - point.slope) / 1e-4
            if abs(point.slope) < 1e-7 or bend <= 0.0:
                break
            value, x = value - point.slope / bend, point.x
        self.lowest, self.estimate = point.criterion, value

    def _minimum(self, value: float, x: Array) -> HeldPoint:
        point = minimise_held(self.held.objective, self.held.where, value, x, self.W)
        if not point.is_converged:
            raise InferenceError(
                "Each point of a profile must be at its optimum.",
                f"a Newton decrement of {point.decrement:.2g} with {value:.6g} held",
                'use method="bootstrap"',
            )
        if isinstance(self.held.where, HeldCorrelation):
            first = self.held.where.rows[0] - 1
            psi = self.held.where.at(value, point.x).psi
            if psi[first] * point.x[-1] < 0.0:
                raise InferenceError(
                    "Both standard deviations must stay positive.",
                    f"one of them passed zero with {value:.4g} held",
                    'use method="bootstrap"',
                )
        return point

    def limit(self, sign: float, z: float) -> _End:
        """The value at which the signed root is ``sign z``, or the end of the range."""
        end = self.held.low if sign < 0.0 else self.held.high
        side = "lower" if sign < 0.0 else "upper"
        if abs(self.estimate - end) <= 1e-12:
            return _End(end)
        inside, outside = self.estimate, float("nan")
        behind, x = (self.estimate, self.held.x), self.held.x
        value = self._clipped(self.estimate + sign * z * self.step, sign, end)
        for tried in range(STEPS):
            if tried >= FAR and not np.isfinite(outside) and not np.isfinite(end):
                return _End(
                    sign * float("inf"), f"there is no {side} limit: the likelihood is flat"
                )
            start = x + (x - behind[1]) * _ahead(value, inside, behind[0])
            try:
                point = self._minimum(value, start)
            except LikelihoodError:
                outside = value
                value = 0.5 * (inside + value)
                if abs(value - inside) < 1e-10 * (1.0 + abs(inside)):
                    break
                continue
            rise = point.criterion - self.lowest
            if rise < -HIGHER - 1e-10 * abs(self.lowest):
                raise InferenceError(
                    "No value may give a higher likelihood than the fit.",
                    f"a criterion lower by {-rise:.3g} with {value:.6g} held",
                    "fit again and look at fit.certificate",
                )
            if abs(rise - z**2) < TOLERANCE:
                return _End(value)
            root = float(np.sqrt(max(rise, 0.0)))
            if root < z:
                if value == end:
                    return _End(end, f"the {side} limit is the end of the range")
                behind, inside, x = (inside, x), value, point.x
            else:
                outside = value
            value = self._next(value, root, point.slope, (inside, outside), sign, z, end)
        return _End(float("nan"), f"the likelihood does not fall far enough for a {side} limit")

    def _clipped(self, value: float, sign: float, end: float) -> float:
        """Half way to the end of the range at most, on the first step."""
        if np.isfinite(end) and sign * (value - end) >= 0.0:
            return 0.5 * (self.estimate + end)
        return value

    def _next(
        self,
        value: float,
        root: float,
        slope: float,
        bracket: tuple[float, float],
        sign: float,
        z: float,
        end: float,
    ) -> float:
        """Newton's step on the signed root, kept inside the bracket and the range."""
        inside, outside = bracket
        speed = sign * slope / (2.0 * root) if root > 0.0 else 0.0
        new = value + sign * (z - root) / speed if speed > 0.0 else float("nan")
        if np.isfinite(outside):
            low, high = min(inside, outside), max(inside, outside)
            if not (np.isfinite(new) and low < new < high):
                new = 0.5 * (inside + outside)
            return float(new)
        farthest = inside + 3.0 * sign * max(abs(inside - self.estimate), self.step)
        if not np.isfinite(new) or sign * (new - farthest) > 0.0:
            new = farthest
        if sign * (new - inside) <= 0.0:
            new = inside + sign * self.step
        return float(end) if sign * (new - end) >= 0.0 else float(new)


def _ahead(value: float, inside: float, behind: float) -> float:
    """How many steps ahead of the last one a value is (for extrapolation), at most two."""
    gap = inside - behind
    return float(np.clip((value - inside) / gap, -1.0, 2.0)) if gap != 0.0 else 0.0
