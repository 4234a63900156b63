r"""Odds ratios and rate ratios, conditional and averaged; median ratios; ranges of clusters.

* Conditional (unit-specific): ``exp(beta)``, for two rows of the same cluster.
* Marginal (population-averaged): the ratio of the odds of the probabilities averaged over the
  random effects, one unit more against none, geometric mean over rows spread over the analysed
  ones. It is nearer to 1 the larger the variance; for one random intercept and a logit about
  ``exp(beta / sqrt(1 + 0.346 tau2))`` (Zeger, Liang & Albert 1988, Biometrics 44:1049).
* Median ratio: between the odds (rates) of two rows with the same predictors from two randomly
  chosen clusters, the higher over the lower, in the median: ``exp(Phi^-1(3/4) sqrt(2 tau2))``.
  Larsen & Merlo 2005 (American Journal of Epidemiology 161:81); Austin et al. 2018 (Statistics in
  Medicine 37:572) for rates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.delta import delta_covariance
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    any_rows,
    fixed_predictors,
    predictor_covariance,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.generalized.intraclass import spread_rows

Array = NDArray[np.float64]
INTERCEPT = "(Intercept)"
MEDIAN = 0.6744897501960817  # Phi^-1(3/4)


@dataclass(frozen=True)
class Ratio:
    """One ratio.

    Attributes
    ----------
    term : fixed effect (with the category in front for nominal responses).
    component : ``"conditional"`` or ``"marginal"``.
    measure : ``"odds ratio"``, ``"rate ratio"``, ``"ratio of means"``, ``"hazard ratio"``.
    estimate, std_error, conf_low, conf_high : limits are normal on the log scale.
    sentence : in words.
    """

    term: str
    component: str
    measure: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    sentence: str


def measure_of(evidence: GeneralizedEvidence) -> str:
    """What ``exp`` of a coefficient of the mean is.

    Raises
    ------
    InferenceError : a link whose coefficients have no such meaning.
    """
    family = evidence.family
    if family.link == "logit":
        return "odds ratio"
    if family.link == "cloglog":
        return "hazard ratio"
    if family.link == "log":
        if family.response == "binary":
            return "risk ratio"
        return "rate ratio" if family.response == "count" else "ratio of means"
    raise InferenceError(
        "Ratios belong to logit, cloglog and log links.",
        f"the {family.link} link",
        'use average_slopes(), or fit with link="logit"',
    )


def ratios(
    evidence: GeneralizedEvidence, conf_level: float = 0.95, marginal: bool = True
) -> tuple[Ratio, ...]:
    """Ratios of every fixed effect of the mean but the intercept.

    Parameters
    ----------
    marginal : add the population-averaged odds ratios (binary and cumulative logit models with
        random effects of the mean).

    Raises
    ------
    InferenceError : a link without ratios, or no predictors.
    """
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    measure = measure_of(evidence)
    nominal = evidence.family.response == "nominal"
    out = []
    for d, part in enumerate(evidence.design.parts):
        if d and not (nominal and part.spec.argument == "formula"):
            continue
        where = evidence.fit.fixed_slices[d]
        for j, name in enumerate(part.names):
            if name == INTERCEPT:
                continue
            k = where.start + j
            b, se = float(evidence.fit.psi[k]), float(np.sqrt(max(evidence.fit.vcov[k, k], 0.0)))
            label = f"{evidence.categories[d + 1]}: {name}" if nominal else name
            out.append(_ratio(label, "conditional", measure, b, se, z))
            if marginal and has_marginal(evidence):
                found, covariance = delta_covariance(_LogRatio(evidence, j), evidence.fit)
                error = float(np.sqrt(max(covariance[0, 0], 0.0)))
                out.append(_ratio(label, "marginal", measure, float(found[0]), error, z))
    if not out:
        raise InferenceError(
            "Ratios belong to predictors.", "a model without any", "add a predictor"
        )
    return tuple(out)


def has_marginal(evidence: GeneralizedEvidence) -> bool:
    """Whether averaged odds ratios are given: a logit, random effects of the mean only."""
    family = evidence.family
    kind = family.response == "binary" or family.name == "cumulative"
    return kind and family.link == "logit" and evidence.random == (0,)


def _ratio(term: str, component: str, measure: str, b: float, se: float, z: float) -> Ratio:
    value = float(np.exp(b))
    if not se > 0.0:
        se = float("nan")
    low, high = float(np.exp(b - z * se)), float(np.exp(b + z * se))
    noun = {"odds ratio": "odds", "risk ratio": "probability", "hazard ratio": "hazard",
            "rate ratio": "expected count"}.get(measure, "expected response")  # fmt: skip
    given = (
        "within the same cluster (conditional on the random effects)"
        if component == "conditional"
        else "averaged over the random effects (population-averaged)"
    )
    sentence = (
        f"One unit more of {term} multiplies the {noun} by {value:.3f} {given}, interval "
        f"{low:.3f} to {high:.3f}."
    )
    return Ratio(term, component, measure, value, value * se, low, high, sentence)


class _LogRatio:
    """Mean log ratio of the averaged odds of one coefficient, as a function of ``psi``."""

    def __init__(self, evidence: GeneralizedEvidence, column: int) -> None:
        self.evidence, self.column = evidence, column
        self.rows = spread_rows(evidence)
        self.more = self._shifted(self.rows)
        self.outcome = any_rows(evidence, self.rows.n)

    def _shifted(self, rows: PartRows) -> PartRows:
        """One unit more in the column, and in the random slope of the same name."""
        name = self.evidence.design.parts[0].names[self.column]
        X = rows.X[0].copy()
        X[:, self.column] += 1.0
        columns = []
        for block, z in zip(self.evidence.design.blocks, rows.columns, strict=True):
            moved = z.copy()
            if name in block.names:
                moved[:, block.names.index(name)] += 1.0
            columns.append(moved)
        return replace(rows, X=(X, *rows.X[1:]), columns=tuple(columns))

    def _log_odds(self, psi: Array, rows: PartRows) -> Array:
        factors = self.evidence.prepared.problem.factors(psi)
        S = predictor_covariance(rows, self.evidence, tuple(L @ L.T for L in factors))
        eta = fixed_predictors(rows, self.evidence.fit, psi)
        p = average(lambda at: np.atleast_2d(self.outcome.mean(at)), eta, S, (0,))
        if self.evidence.categories:  # probabilities of a higher category than each
            p = 1.0 - np.cumsum(p, axis=0)[:-1]
        return np.asarray(np.log(p) - np.log1p(-p))

    def __call__(self, psi: Array) -> Array:
        change = self._log_odds(psi, self.more) - self._log_odds(psi, self.rows)
        return np.array([float(change.mean())])


@dataclass(frozen=True)
class MedianRatio:
    """The median odds (or rate) ratio of one grouping factor.

    Attributes
    ----------
    group : factor; measure : ``"median odds ratio"``...
    estimate, std_error, conf_low, conf_high : limits from those of the log standard deviation.
    sentence : in words.
    """

    group: str
    measure: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    sentence: str


def median_ratio(variance: float) -> float:
    """``exp(Phi^-1(3/4) sqrt(2 variance))``.

    Examples
    --------
    >>> round(median_ratio(1.0), 3)
    2.596
    """
    return float(np.exp(MEDIAN * np.sqrt(2.0 * variance)))


def median_ratios(
    evidence: GeneralizedEvidence, conf_level: float = 0.95
) -> tuple[MedianRatio, ...]:
    """Median ratio of each factor with a random intercept of the mean.

    Raises
    ------
    InferenceError : a link without ratios, or no random intercepts.
    """
    measure = measure_of(evidence)
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    out = []
    for t, block in enumerate(evidence.design.blocks):
        places = [
            a for a, (name, d) in enumerate(
                zip(block.names, evidence.design.block_parts[t], strict=True)
            ) if d == 0 and name.endswith(INTERCEPT)
        ]  # fmt: skip
        if places:
            out.append(_median(evidence, t, places[0], measure, z))
    if not out:
        raise InferenceError(
            "Median ratios belong to random intercepts.",
            "a model without any",
            "add a term such as (1 | school)",
        )
    return tuple(out)


def _median(evidence: GeneralizedEvidence, t: int, a: int, measure: str, z: float) -> MedianRatio:
    block = evidence.design.blocks[t]

    def spread(psi: Array) -> Array:
        L = evidence.prepared.problem.factors(psi)[t]
        return np.array([float(np.sqrt((L @ L.T)[a, a]))])

    found, covariance = delta_covariance(spread, evidence.fit)
    sd, se = float(found[0]), float(np.sqrt(max(covariance[0, 0], 0.0)))
    value = median_ratio(sd**2)
    slope = MEDIAN * np.sqrt(2.0)
    low = high = error = float("nan")
    if sd > 0.0 and se > 0.0:
        low, high = (median_ratio((sd * np.exp(s * z * se / sd)) ** 2) for s in (-1.0, 1.0))
        error = float(value * slope * se)
    slopes = [name for name in block.names if not name.endswith(INTERCEPT)]
    at = f" where {', '.join(slopes)} is 0" if slopes else ""
    noun = {"odds ratio": "odds", "rate ratio": "expected counts"}.get(measure, "values")
    sentence = (
        f"Of two rows with the same predictors from two random levels of {block.group}{at}, the "
        f"{noun} of the higher one are {value:.2f} times those of the lower one in the median."
    )
    return MedianRatio(block.group, f"median {measure}", value, error, low, high, sentence)
