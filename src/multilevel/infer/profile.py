"""Profile likelihood intervals.

The criterion is minimised with one parameter held at a value; the signed root of its rise is close
to normal, and the limits are where it equals the normal quantile.

A standard deviation or correlation is held exactly: with the columns of its term reordered so that
it comes first, the Cholesky factor on the user's scale is linear in the free parameters (for a
standard deviation after division by ``sigma``, which is one of them). A fixed effect is held by
moving its part to the response (ML only: REML criteria of other columns cannot be compared).
Sources: Bates et al. 2015, JSS 67:1, section 5; Bates & Watts 1988, section 6.1 (signed root).
lme4 profiles the ML criterion of REML fits too; this profiles the criterion that was fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError, LikelihoodError
from multilevel.estimate.fit import optimise
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.profile_criterion import HeldCriterion, held_criterion
from multilevel.infer.variance_intervals import Interval, Quantity, is_at_boundary, value_of
from multilevel.model.covariance.curves import Curve

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
TOLERANCE = 1e-5  # of the signed root at a limit
STEPS = 40
EDGE = 1e-6  # distance to a correlation of one, or a range of zero
WALK = 12  # steps from the estimate to a held correlation


@dataclass(frozen=True)
class Profile:
    """Signed roots of one parameter.

    Attributes
    ----------
    quantity : which.
    values : (k,) values at which it was held, ascending.
    signed_roots : (k,) ``sign(value - estimate) sqrt(rise of the criterion)``.
    interval : the limits found.
    """

    quantity: Quantity
    values: Array
    signed_roots: Array
    interval: Interval


def profile_interval(
    prepared: Prepared,
    fit: Fit,
    quantity: Quantity,
    conf_level: float,
    guess: float,
    held: Callable[[float], float] | None = None,
) -> Profile:
    """Profile one fixed effect, standard deviation, variance or correlation.

    Parameters
    ----------
    guess : a standard error to start the search from (its size matters for speed only).
    held : the lowest criterion with the quantity held; default ``held_at`` of this fit.

    Raises
    ------
    InferenceError : a fixed effect of a REML fit, a parameter of a tied structure, a fit that was
        not at its optimum.
    """
    if quantity.component == "variance":
        inner = profile_interval(
            prepared, fit, replace(quantity, component="sd"), conf_level, guess
        )
        i = inner.interval
        squared = replace(
            i,
            quantity=quantity,
            estimate=i.estimate**2,
            conf_low=i.conf_low**2,
            conf_high=i.conf_high**2,
        )
        return Profile(quantity, inner.values**2, inner.signed_roots, squared)
    held = held or held_at(prepared, fit, quantity)
    estimate = value_of(quantity, fit.beta, fit.random_covariance, fit.sigma2)
    search = _Search(held, fit.criterion, estimate)
    target = float(normal_quantile(0.5 + conf_level / 2.0))
    bottom, top = _range(quantity)
    if not np.isfinite(guess) or guess <= 0.0:
        guess = 0.1 * float(np.sqrt(fit.sigma2)) if quantity.component == "sd" else 0.1
    if not np.isfinite(estimate):
        raise InferenceError(
            "A correlation needs two variances above zero.",
            f"the correlation of {quantity.term} over {quantity.group}, one of them zero",
            "leave the random effect without variance out",
        )
    low, low_note = search.limit(-target, guess, bottom)
    high, high_note = search.limit(target, guess, top)
    note = " ".join(x for x in (low_note, high_note) if x)
    if is_at_boundary(quantity, fit):
        note = f"The estimate is at its boundary: the interval is one-sided. {note}".strip()
    order = np.argsort(search.values)
    return Profile(
        quantity,
        np.asarray(search.values)[order],
        np.asarray(search.roots)[order],
        Interval(quantity, estimate, float("nan"), low, high, note),
    )


def held_at(prepared: Prepared, fit: Fit, quantity: Quantity) -> Callable[[float], float]:
    """The lowest criterion (user's units) as a function of the value at which a quantity is held.

    Each call starts from the last one's optimum. Raises as ``profile_interval``.
    """
    if quantity.component == "fixed":
        return _held_fixed(prepared, fit, quantity)
    if quantity.component == "covariance":
        raise InferenceError(
            "Profile intervals are for standard deviations, variances, correlations and fixed "
            "effects.",
            f"the covariance of {quantity.term}",
            "ask for its correlation",
        )
    if quantity.component == "variance":
        held = _held_variance(prepared, fit, replace(quantity, component="sd"))
        return lambda value: held(float(np.sqrt(value)))
    return _held_variance(prepared, fit, quantity)


def _range(q: Quantity) -> tuple[float, float]:
    """Smallest and largest value that a quantity can have."""
    if q.component == "fixed":
        return -np.inf, np.inf
    if q.curve is not None and q.k >= 0:
        low, high = q.curve.limits
        return low + EDGE, high - EDGE
    if q.component == "correlation":
        return -1.0, 1.0
    return (0.0, np.inf) if q.block >= 0 else (np.finfo(float).tiny, np.inf)


class _Search:
    """Signed roots that were evaluated, and the search for a limit among them."""

    def __init__(self, held: Callable[[float], float], lowest: float, estimate: float) -> None:
        self.held, self.lowest, self.estimate = held, lowest, estimate
        self.values, self.roots = [estimate], [0.0]

    def root(self, value: float) -> float:
        """The signed root at a value; a criterion below the fit's is an error."""
        rise = self.held(value) - self.lowest
        if rise < -1e-4 - 1e-9 * abs(self.lowest):
            raise InferenceError(
                "No value may give a higher likelihood than the fit.",
                f"a criterion lower by {-rise:.3g} with the parameter held at {value:.6g}",
                "fit again and look at fit.certificate",
            )
        root = float(np.sign(value - self.estimate) * np.sqrt(max(rise, 0.0)))
        self.values.append(value)
        self.roots.append(root)
        return root

    def limit(self, target: float, step: float, end: float) -> tuple[float, str]:
        """The value where the signed root is ``target``, or ``end`` if it is never reached."""
        sign = np.sign(target)
        if abs(self.estimate - end) <= 1e-12:
            return end, ""
        inside, inside_root = self.estimate, 0.0
        move = step * abs(target)
        outside = outside_root = float("nan")
        for _ in range(STEPS):
            value = inside + sign * move
            at_end = sign * (value - end) >= 0.0
            if at_end:
                value = end
            root = self.root(value)
            if sign * (root - target) >= 0.0:
                outside, outside_root = value, root
                break
            if at_end:
                return end, f"The {'lower' if sign < 0 else 'upper'} limit is the end of the range."
            # The slope of the last step, as the curve may flatten towards the end of the range.
            rise = sign * (root - inside_root)
            ahead = sign * (target - root) * move / rise if rise > 1e-6 else 3.0 * move
            inside, inside_root = value, root
            move = float(np.clip(1.1 * ahead, 0.1 * move, 3.0 * move))
        else:
            return float("nan"), "The likelihood does not fall far enough to give a limit."
        return self._between(inside, inside_root, outside, outside_root, target), ""

    def _between(self, a: float, fa: float, b: float, fb: float, target: float) -> float:
        """Root of ``root(value) - target`` between two values (Illinois false position)."""
        fa, fb = fa - target, fb - target
        best, side = b, 0
        for _ in range(STEPS):
            x = (a * fb - b * fa) / (fb - fa)
            f = self.root(x) - target
            best = x
            if abs(f) < TOLERANCE:
                break
            if f * fb > 0.0:
                b, fb = x, f
                fa = 0.5 * fa if side == 1 else fa
                side = 1
            else:
                a, fa = x, f
                fb = 0.5 * fb if side == -1 else fb
                side = -1
        return best


def _held_variance(prepared: Prepared, fit: Fit, q: Quantity) -> Callable[[float], float]:
    """Criterion with a standard deviation, correlation or the residual SD held."""
    if q.curve is not None and q.k >= 0:
        return _held_parameter(prepared, fit, q, q.curve)
    if q.component == "correlation":
        return _HeldCorrelation(prepared, fit, q)
    return held_criterion(prepared, fit, q).minimum


def _held_parameter(
    prepared: Prepared, fit: Fit, q: Quantity, curve: Curve
) -> Callable[[float], float]:
    """Criterion with a parameter of a structure held (rho, phi, a range)."""
    if curve.held(q.k, value_of(q, fit.beta, fit.random_covariance, fit.sigma2)) is None:
        raise InferenceError(
            "A profile holds one parameter of a structure at a time.",
            f"{q.term} over {q.group}, which depends on several",
            'use method="wald" or method="bootstrap"',
        )
    criterion = held_criterion(prepared, fit, q)

    def at(value: float) -> float:
        x = curve.held(q.k, value)
        return criterion.minimum(0.0 if x is None else x)

    return at


class _HeldCorrelation:
    """Criterion with a correlation held, both standard deviations positive or zero.

    A correlation may be anything where one of its two variances is zero, so that the criterion
    there is an upper bound of its profile. The free parameters may leave the admissible region
    through such a point (minus the correlation is then what was held); far enough from the
    estimate the bound is the profile. The way there goes in small steps, as a large one may leave
    the region too early.
    """

    def __init__(self, prepared: Prepared, fit: Fit, q: Quantity) -> None:
        self.criterion: HeldCriterion = held_criterion(prepared, fit, q)
        self.start = self.criterion.phi
        self.estimate = value_of(q, fit.beta, fit.random_covariance, fit.sigma2)
        self.inside = [-np.inf, np.inf]  # beyond these the bound is the profile
        block = prepared.design.blocks[q.block]
        self.bound = min(
            held_criterion(
                prepared, fit, Quantity(block.names[k], q.group, "sd", q.block, k, k)
            ).minimum(0.0)
            for k in (q.a, q.b)
        )

    def __call__(self, value: float) -> float:
        """The lowest criterion at one value."""
        if not self.inside[0] < value < self.inside[1]:
            return self.bound
        before = self.criterion.phi
        found = self.criterion.minimum(value)
        if self.criterion.keeps_sign:
            return min(found, self.bound)
        self.criterion.phi = self.start
        for step in np.linspace(self.estimate, value, WALK + 1)[1:]:
            found = self.criterion.minimum(float(step))
            if not self.criterion.keeps_sign:
                self.inside[int(value > self.estimate)] = float(step)
                self.criterion.phi = before
                return self.bound
        return min(found, self.bound)


def _held_fixed(prepared: Prepared, fit: Fit, q: Quantity) -> Callable[[float], float]:
    """ML criterion with one fixed effect held: ``y - x_k c`` on the other columns."""
    if fit.method != "ml":
        raise InferenceError(
            "Profile intervals of fixed effects need an ML fit: the REML criterion depends on the "
            "fixed-effect columns.",
            "a REML fit",
            'ask for update(method="ml").confint(method="profile"), or use method="wald"',
        )
    cross, scaling = prepared.cross, prepared.scaling
    p = cross.n_fixed
    # raw beta_k = offset + a'beta_s
    a = scaling.y_scale * scaling.U[q.a, :p]
    offset = -scaling.U[q.a, p] * scaling.y_scale
    N = np.linalg.svd(a[None, :])[2][1:].T
    start = [fit.theta]

    def criterion(value: float) -> float:
        fixed = a * (value - offset) / float(a @ a)
        K = np.zeros((p + 1, p))
        K[:p, : p - 1] = N
        K[:p, p - 1], K[p, p - 1] = -fixed, 1.0
        held = replace(
            cross,
            n_fixed=p - 1,
            total=K.T @ cross.total @ K,
            rhs=tuple(r @ K for r in cross.rhs),
        )
        solution = optimise(replace(prepared, cross=held), theta_start=start[0])
        if not solution.certificate.is_certified:
            raise LikelihoodError(
                "Each point of a profile must be at its optimum.",
                solution.certificate.sentence,
                'use method="wald" or method="bootstrap"',
            )
        start[0] = solution.theta
        return float(solution.path.value + scaling.criterion_shift(cross.n, p, reml=False))

    return criterion
