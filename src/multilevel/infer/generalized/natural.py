"""Parameters beside the means on the scale people read: alpha, phi, p, probabilities, thresholds.

Standard errors are by the delta method. The interval of a monotone function of one parameter is
that function of the Wald limits on the parameter's own scale (it never leaves the range of the
parameter); of several parameters it is estimate +/- z standard errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from multilevel.design.generalized import GeneralizedDesign, PartDesign
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.degrees_of_freedom import DfMethod
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.generalized.effects import effects_df, part_effects
from multilevel.infer.means_tests import (
    RowTest,
    RowTests,
    check_level,
    coefficient_hypothesis,
    row_tests,
)
from multilevel.model.families.categories import natural_thresholds, threshold_names
from multilevel.model.families.records import Family
from multilevel.model.families.zero import base_family

Array = NDArray[np.float64]
Curve = Callable[[float], float]
_INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class NaturalParameter:
    """One parameter on its natural scale.

    Attributes
    ----------
    part : name of the part that it belongs to (``"dispersion"``, ``"threshold"``...).
    term : short name, ``"alpha"``, ``"no|perhaps"``.
    meaning : in words.
    estimate, std_error, conf_low, conf_high : NaN errors and limits where the likelihood is flat.
    """

    part: str
    term: str
    meaning: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float


@dataclass(frozen=True)
class _Form:
    """A function of one predictor: name, meaning, value and slope."""

    term: str
    meaning: str
    value: Curve
    slope: Curve


def part_tests(
    design: GeneralizedDesign,
    fit: GeneralizedFit,
    part: int,
    df: DfMethod = "none",
    conf_level: float = 0.95,
) -> RowTests | None:
    """Tests and intervals of the coefficients of one part, on the scale of its predictor.

    ``df`` is ``"none"`` (z tests) or ``"between-within"``. None for a part without coefficients.
    A parameter at a limit, where the likelihood is flat, has neither error nor test: NaN.

    Raises
    ------
    InferenceError : degrees of freedom that this design does not allow, with the reason.
    """
    own = design.parts[part]
    if not own.names:
        return None
    effects = part_effects(design, fit, own.spec.name)
    names = coefficient_hypothesis(effects.names)
    found = row_tests(effects, effects_df(effects, df), names, conf_level=conf_level)
    rows = [row if row.std_error > 0.0 else _without_error(row) for row in found.rows]
    return replace(found, rows=tuple(rows))


def _without_error(row: RowTest) -> RowTest:
    nan = float("nan")
    return replace(row, std_error=nan, conf_low=nan, conf_high=nan)


def is_constant(part: PartDesign) -> bool:
    """Whether a part is one number: an intercept, no offset."""
    return part.names == (_INTERCEPT,) and part.offset is None


def core_name(family: Family) -> str:
    """Name of a family without zero inflation or hurdle."""
    return base_family(family).name if family.option("zero") else family.name


def natural_parameters(
    design: GeneralizedDesign, fit: GeneralizedFit, conf_level: float = 0.95
) -> tuple[NaturalParameter, ...]:
    """Parameters beside the means on their natural scale, in the order of the parts.

    Parts with predictors have no single natural value and are left out.

    Raises
    ------
    InferenceError : ``conf_level`` outside (0, 1).
    """
    z = float(normal_quantile(0.5 * (1.0 + check_level(conf_level))))
    out = list(_thresholds(design, fit, z))
    for d, part in enumerate(design.parts):
        if d == 0 or not is_constant(part) or part.spec.argument in ("formula", "thresholds"):
            continue
        at, name = fit.fixed_slices[d].start, part.spec.name
        out += [_one(fit, at, name, form, z) for form in _forms(design.family, name)]
    out += _cuts(design, fit, z)
    out += _student_variance(design, fit, z)
    return tuple(out)


def _one(fit: GeneralizedFit, at: int, part: str, form: _Form, z: float) -> NaturalParameter:
    """A function of one parameter; limits by the function itself."""
    eta, error = float(fit.psi[at]), float(np.sqrt(max(fit.vcov[at, at], 0.0)))
    if at in fit.at_limit or not error > 0.0:
        nan = float("nan")
        return NaturalParameter(part, form.term, form.meaning, form.value(eta), nan, nan, nan)
    ends = sorted((form.value(eta - z * error), form.value(eta + z * error)))
    spread = abs(form.slope(eta)) * error
    return NaturalParameter(part, form.term, form.meaning, form.value(eta), spread, *ends)


def _exp(x: float) -> float:
    return float(np.exp(min(x, 700.0)))


def _logistic(x: float) -> float:
    return float(expit(x))


def _logistic_slope(x: float) -> float:
    return _logistic(x) * _logistic(-x)


def _plain(term: str, meaning: str) -> _Form:
    return _Form(term, meaning, _exp, _exp)


def _inverse(term: str, meaning: str) -> _Form:
    return _Form(term, meaning, lambda x: _exp(-x), lambda x: -_exp(-x))


def _root(term: str, meaning: str) -> _Form:
    return _Form(term, meaning, lambda x: _exp(0.5 * x), lambda x: 0.5 * _exp(0.5 * x))


def _probability(term: str, meaning: str) -> _Form:
    return _Form(term, meaning, _logistic, _logistic_slope)


_RESIDUAL = (
    _plain("residual variance", "variance of the rows around their means"),
    _root("residual SD", "its square root"),
)
_LOG_RESIDUAL = (
    _plain("residual variance", "variance of the log response around its mean"),
    _root("residual SD", "its square root"),
)
_PRECISION = (_plain("phi", "the variance is mu (1 - mu) / (1 + phi)"),)
_DISPERSION: dict[str, tuple[_Form, ...]] = {
    "gaussian": _RESIDUAL,
    "censored_gaussian": _RESIDUAL,
    "lognormal": _LOG_RESIDUAL,
    "censored_lognormal": _LOG_RESIDUAL,
    "negative_binomial": (
        _plain("alpha", "the variance is mu + alpha mu^2"),
        _inverse("1 / alpha", "R calls it size or theta"),
    ),
    "negative_binomial_1": (_plain("alpha", "the variance is mu (1 + alpha)"),),
    "generalized_poisson": (_plain("alpha", "the variance is mu (1 + alpha)^2"),),
    "gamma": (
        _plain("phi", "the variance is phi mu^2"),
        _inverse("1 / phi", "shape of the gamma distribution"),
    ),
    "inverse_gaussian": (_plain("phi", "the variance is phi mu^3"),),
    "beta": _PRECISION,
    "ordered_beta": _PRECISION,
    "zero_one_inflated_beta": _PRECISION,
    "tweedie": (_plain("phi", "the variance is phi mu^p"),),
    "student": (
        _plain("squared scale", "the residual variance is this times df / (df - 2)"),
        _root("scale", "its square root"),
    ),
}


def _forms(family: Family, part: str) -> tuple[_Form, ...]:
    """What the intercept of a part says on natural scales."""
    if part == "dispersion":
        return _DISPERSION[core_name(family)]
    if part == "power":
        power = _Form(
            "p", "power of the mean in the variance", lambda x: 1.0 + _logistic(x), _logistic_slope
        )
        return (power,)
    if part == "df":
        return (_plain("df", "degrees of freedom of the residuals; large ones mean Gaussian"),)
    if part == "zero":
        structural = family.option("zero") == "inflated"
        return (_probability("probability", f"probability of {'a structural ' * structural}zero"),)
    if part == "zero or one":
        return (_probability("probability", "probability of exactly zero or one"),)
    if part == "one":
        return (_probability("probability", "probability of one among exact zeros and ones"),)
    return ()


def _thresholds(design: GeneralizedDesign, fit: GeneralizedFit, z: float) -> list[NaturalParameter]:
    """Thresholds of an ordered family without predictors in them."""
    places = [d for d, p in enumerate(design.parts) if p.spec.name.startswith("threshold ")]
    if not places or not all(is_constant(design.parts[d]) for d in places):
        return []
    where = [fit.fixed_slices[d].start for d in places]
    tau, J = natural_thresholds(design.family, fit.psi[where])
    V = J @ fit.vcov[np.ix_(where, where)] @ J.T
    categories = design.response.categories
    meanings = [f"between {a} and {b}" for a, b in pairwise(categories)]
    names = threshold_names(categories)
    return [
        _wald("threshold", name, meaning, float(t), float(v), z)
        for name, meaning, t, v in zip(names, meanings, tau, np.diag(V), strict=True)
    ]


def _wald(
    part: str, term: str, meaning: str, estimate: float, variance: float, z: float
) -> NaturalParameter:
    error = float(np.sqrt(variance)) if variance > 0.0 else float("nan")
    return NaturalParameter(
        part, term, meaning, estimate, error, estimate - z * error, estimate + z * error
    )


def _places(design: GeneralizedDesign, fit: GeneralizedFit, names: Sequence[str]) -> list[int]:
    """Where the constants of these parts stand; empty unless all are constants."""
    found = {p.spec.name: d for d, p in enumerate(design.parts)}
    if any(name not in found or not is_constant(design.parts[found[name]]) for name in names):
        return []
    return [fit.fixed_slices[found[name]].start for name in names]


def _cuts(design: GeneralizedDesign, fit: GeneralizedFit, z: float) -> list[NaturalParameter]:
    """Both cuts of an ordered beta: k1 and k2 = k1 + exp(second part)."""
    at = _places(design, fit, ("lower cut", "upper cut"))
    if not at:
        return []
    low, step = float(fit.psi[at[0]]), _exp(float(fit.psi[at[1]]))
    V = fit.vcov[np.ix_(at, at)]
    slope = np.array([1.0, step])
    below = "predictor at which zero is as likely as not"
    above = "predictor at which one is as likely as not"
    return [
        _wald("cut", "lower cut", below, low, float(V[0, 0]), z),
        _wald("cut", "upper cut", above, low + step, float(slope @ V @ slope), z),
    ]


def _student_variance(
    design: GeneralizedDesign, fit: GeneralizedFit, z: float
) -> list[NaturalParameter]:
    """Residual variance ``s2 df / (df - 2)`` of Student t residuals, where df is above 2."""
    if design.family.name != "student":
        return []
    at = _places(design, fit, ("dispersion", "df"))
    if not at or any(a in fit.at_limit for a in at):
        return []
    s2, df = _exp(float(fit.psi[at[0]])), _exp(float(fit.psi[at[1]]))
    if df <= 2.0:
        return []
    value = s2 * df / (df - 2.0)
    slope = np.array([value, -2.0 * s2 * df / (df - 2.0) ** 2])
    variance = float(slope @ fit.vcov[np.ix_(at, at)] @ slope)
    meaning = "variance of the rows around their centre"
    return [_wald("dispersion", "residual variance", meaning, value, variance, z)]
