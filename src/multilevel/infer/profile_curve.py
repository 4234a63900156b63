"""Profile curves: the signed root of the rise of the criterion along each parameter.

``zeta(v) = sign(v - estimate) sqrt(criterion held at v - lowest criterion)``, close to a standard
normal deviate. It is a straight line where estimate +/- z standard errors is a right interval.
Source: Bates & Watts 1988, section 6.1; Bates et al. 2015, JSS 67:1, section 5 (zeta plots).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from multilevel.errors import InferenceError, LikelihoodError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.profile import held_at, profile_interval
from multilevel.infer.variance_intervals import Component, Quantity, quantities, wald_intervals

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]

#: Confidence levels whose limits are marked.
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
_COMPONENTS: tuple[Component, ...] = ("fixed", "sd", "correlation", "variance")
RESIDUAL_PARAMETER = -3  # ``Quantity.block`` of a parameter of a residual structure
_SIDE = 6  # first points between the estimate and each outermost limit
_GAP = 0.45  # neighbours further apart in zeta than this get a point between them
_MOST = 40  # points before the limits are settled
_ROUNDS = 5
_FINE = 201  # points of the interpolated curve on each side


@dataclass(frozen=True)
class ProfileCurve:
    """The profile of one parameter out to its 99% limits, or to the end of its range.

    Attributes
    ----------
    quantity, estimate : which parameter, and where zeta is zero.
    std_error : Wald standard error on the parameter's own scale; NaN at a boundary.
    values, zeta : (k,) ascending values and signed roots (monotone interpolation of the points
        at which the criterion was minimised).
    low, high : (5,) limits at ``LEVELS``; NaN where the curve ends before the level.
    """

    quantity: Quantity
    estimate: float
    std_error: float
    values: Array
    zeta: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class ProfileCurves:
    """Curves in the order of the parameters, and a sentence for each that does not exist."""

    curves: tuple[ProfileCurve, ...]
    left_out: tuple[str, ...]


def check_components(components: Sequence[str] | None) -> tuple[Component, ...]:
    """The kinds of parameters to profile; None means fixed effects, SDs and correlations.

    Raises
    ------
    InferenceError : another name, or none.
    """
    if components is None:
        return _COMPONENTS[:3]
    wanted = [components] if isinstance(components, str) else list(components)
    unknown = [c for c in wanted if c not in _COMPONENTS]
    if unknown or not wanted:
        raise InferenceError(
            f"components must be among {', '.join(map(repr, _COMPONENTS))}.",
            repr(components),
            'write components=["sd"], or leave it out',
        )
    return tuple(c for c in _COMPONENTS if c in wanted)


def profile_curves(
    prepared: Prepared,
    fit: Fit,
    objective: GaussianObjective,
    components: Sequence[Component],
) -> ProfileCurves:
    """Profile every parameter of the named kinds.

    Parameters
    ----------
    prepared, fit, objective : the problem, its optimum, the objective evaluated there.
    components : as in ``quantities``. Fixed effects have a profile under ML only.

    Raises
    ------
    InferenceError : none of the parameters has a profile.
    """
    curves, left_out = [], []
    for quantity in quantities(prepared.design, components):
        if quantity.component == "fixed" and fit.method == "reml":
            continue
        try:
            curves.append(_curve(prepared, fit, objective, quantity))
        except (InferenceError, LikelihoodError) as error:
            name = " of ".join(x for x in (quantity.component, quantity.term) if x)
            left_out.append(f"No profile for the {name}: {error.must}")
    if "fixed" in components and fit.method == "reml":
        left_out.append("Fixed effects have a profile under ML only.")
    if not curves:
        raise InferenceError(
            "A profile needs a parameter whose criterion can be minimised with it held.",
            " ".join(left_out) or f"no parameter among {', '.join(components)}",
            'ask for other components, or for confint("bootstrap")',
        )
    return ProfileCurves(tuple(curves), tuple(left_out))


def _curve(
    prepared: Prepared, fit: Fit, objective: GaussianObjective, quantity: Quantity
) -> ProfileCurve:
    """Minimise at points between the 99% limits, then read the other limits off the curve."""
    std_error = _wald(prepared, fit, objective, quantity)
    return curve_of(prepared, fit, quantity, std_error, lambda: held_at(prepared, fit, quantity))


def curve_of(
    prepared: Prepared,
    fit: Fit,
    quantity: Quantity,
    std_error: float,
    held_anew: Callable[[], Callable[[float], float]],
) -> ProfileCurve:
    """The curve of one quantity.

    Parameters
    ----------
    std_error : its Wald standard error; NaN where it does not exist.
    held_anew : makes the lowest criterion with the quantity held, started at the estimates.

    Raises
    ------
    InferenceError : an estimate at the end of its range.
    """
    found = profile_interval(prepared, fit, quantity, LEVELS[-1], std_error, held_anew())
    points = _Points(held_anew, fit.criterion, found.interval.estimate)
    for end in (found.interval.conf_low, found.interval.conf_high):
        if np.isfinite(end) and abs(end - points.estimate) > 1e-12:
            points.add(np.linspace(points.estimate, end, _SIDE + 1)[1:])
    if len(points.known) < 2:
        raise InferenceError(
            "A profile needs room on one side of the estimate.",
            f"{quantity.term or quantity.group} at the end of its range",
            "leave it out",
        )
    points.refine()
    targets = np.asarray(normal_quantile([0.5 + level / 2.0 for level in LEVELS]))
    points.settle(np.concatenate([-targets, targets]))
    fine, curve = points.interpolated()
    low, high = (np.array([_crossing(fine, curve, s * t) for t in targets]) for s in (-1.0, 1.0))
    return ProfileCurve(quantity, points.estimate, std_error, fine, curve, low, high)


class _Points:
    """Signed roots of one parameter at the values where the criterion was minimised."""

    def __init__(
        self, held_anew: Callable[[], Callable[[float], float]], lowest: float, estimate: float
    ) -> None:
        self.held_anew, self.lowest, self.estimate = held_anew, lowest, estimate
        self.known = {estimate: 0.0}

    def add(self, values: Array) -> None:
        """Minimise at further values, on each side from the estimate outwards (warm starts)."""
        for sign in (-1.0, 1.0):
            side = sorted(
                {float(v) for v in values if sign * (v - self.estimate) > 0.0} - set(self.known),
                key=lambda v: sign * v,
            )
            held = self.held_anew() if side else None
            for value in side:
                rise = held(value) - self.lowest if held else 0.0
                self.known[value] = float(sign * np.sqrt(max(rise, 0.0)))

    def sorted(self) -> tuple[Array, Array]:
        """Values ascending and their roots, made monotone against rounding."""
        at = np.array(sorted(self.known))
        return at, np.maximum.accumulate(np.array([self.known[v] for v in at]))

    def refine(self) -> None:
        """Halve stretches over which the curve rises much."""
        while len(self.known) < _MOST:
            at, zeta = self.sorted()
            wide = (np.diff(zeta) > _GAP) & (np.diff(at) > 1e-3 * (at[-1] - at[0]))
            if not wide.any():
                return
            self.add(0.5 * (at[:-1] + at[1:])[wide])

    def settle(self, targets: Array) -> None:
        """Minimise where the curve has the targets, until it has them there within 1e-3."""
        for _ in range(_ROUNDS):
            fine, curve = self.interpolated()
            places = {t: _crossing(fine, curve, t) for t in targets.tolist()}
            new = {t: x for t, x in places.items() if np.isfinite(x) and x not in self.known}
            self.add(np.array(list(new.values())))
            if all(abs(self.known[x] - t) < 1e-3 for t, x in new.items()):
                return

    def interpolated(self) -> tuple[Array, Array]:
        """A fine grid of values, the known ones among them, and the curve over it."""
        at, zeta = self.sorted()
        fine = np.union1d(np.linspace(at[0], at[-1], 2 * _FINE), at)
        return fine, np.asarray(PchipInterpolator(at, zeta)(fine))


def _wald(prepared: Prepared, fit: Fit, objective: GaussianObjective, quantity: Quantity) -> float:
    """Standard error on the parameter's own scale; NaN where it does not exist."""
    try:
        return wald_intervals(prepared, fit, objective, (quantity,), 0.95)[0].std_error
    except InferenceError:
        return float("nan")


def _crossing(values: Array, zeta: Array, target: float) -> float:
    """Where an ascending curve has the value ``target``; NaN if it ends before."""
    slack = 2e-5  # the outermost limits are found to 1e-5
    if not zeta[0] - slack <= target <= zeta[-1] + slack:
        return float("nan")
    k = int(np.clip(np.searchsorted(zeta, target), 1, len(zeta) - 1))
    rise = zeta[k] - zeta[k - 1]
    if rise <= 0.0:
        return float(values[k])
    share = float(np.clip((target - zeta[k - 1]) / rise, 0.0, 1.0))
    return float(values[k - 1] + share * (values[k] - values[k - 1]))
