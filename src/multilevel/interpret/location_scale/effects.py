"""Effects on the residual variance (or dispersion), its range across clusters, its correlations.

``log sigma^2 = w'tau + omega``: ``100 (exp(tau) - 1)`` is the change of the variance in percent per
unit of a predictor, and ``exp(w'tau +/- z sd(omega))`` holds the variances of a share of the
clusters. Sources: Hedeker, Mermelstein & Demirtas 2008; Hoffman 2015, chapter 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.infer.generalized.natural import part_tests
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.delta import delta_covariance
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]
NEAR_LIMIT = 0.95  # correlations beyond this have no Wald tests
At = Literal["mean", "zero"]
_INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class VarianceEffect:
    """One coefficient of the model for the log variance, and what it does to the variance.

    ``percent`` is ``100 (exp(estimate) - 1)`` per unit; for the intercept, which is a level and not
    a change, ``ratio`` is the variance itself and ``percent`` NaN.
    """

    term: str
    estimate: float
    std_error: float
    statistic: float
    p_value: float
    ratio: float
    ratio_low: float
    ratio_high: float
    percent: float
    percent_low: float
    percent_high: float


@dataclass(frozen=True)
class VarianceRange:
    """The range of a variance over a share of the clusters.

    ``quantity`` says what of; ``median`` is the value of a cluster with a scale effect of zero.
    """

    group: str
    quantity: str
    sd_scale: float
    median: float
    mean: float
    range_low: float
    range_high: float


@dataclass(frozen=True)
class ScaleCorrelation:
    """The correlation of a scale effect with another random effect of the same clusters."""

    group: str
    term: str
    with_term: str
    estimate: float
    std_error: float
    statistic: float
    p_value: float
    conf_low: float
    conf_high: float


def scale_part(design: GeneralizedDesign) -> int:
    """The part that holds the log residual variance or log dispersion.

    Raises
    ------
    InferenceError : a family without one.
    """
    for d, part in enumerate(design.parts):
        if part.spec.argument == "dispersion":
            return d
    raise InferenceError(
        "The family must have a residual variance or a dispersion.",
        f"family {design.family.label}",
        "this question has no answer for it",
    )


def quantity_of(design: GeneralizedDesign) -> str:
    """What the scale part is the log of, in words."""
    return design.parts[scale_part(design)].spec.meaning.split(":")[0]


def scale_columns(design: GeneralizedDesign, block: int) -> list[int]:
    """Columns of a block that are scale effects."""
    part = scale_part(design)
    return [a for a, d in enumerate(design.block_parts[block]) if d == part]


def has_scale_effects(design: GeneralizedDesign) -> bool:
    """Whether clusters have random intercepts of their log variance."""
    return any(
        block.names[a].endswith(_INTERCEPT)
        for t, block in enumerate(design.blocks)
        for a in scale_columns(design, t)
    )


def scale_group(design: GeneralizedDesign) -> str:
    """The first factor with a random intercept of the log variance."""
    return design.blocks[scale_intercept(design, None)[0]].group


def has_location_effects(design: GeneralizedDesign) -> bool:
    """Whether the factor of the first scale effect has random effects on the mean too."""
    return 0 in design.block_parts[scale_intercept(design, None)[0]]


def scale_intercept(design: GeneralizedDesign, group: str | None) -> tuple[int, int]:
    """Block and column of the random intercept of the log variance of a factor.

    Default: the first factor that has one.

    Raises
    ------
    InferenceError : no such effect.
    """
    found: list[str] = []
    for t, block in enumerate(design.blocks):
        for a in scale_columns(design, t):
            if not block.names[a].endswith(_INTERCEPT):
                continue
            if group is None or block.group == group:
                return t, a
            found.append(block.group)
    raise InferenceError(
        "This needs a random intercept of the log variance.",
        f"group={group!r}; random intercepts of {', '.join(found)}" if found else "none",
        'fit with scale="~ (1 | group)"' if not found else f"write group={found[0]!r}",
    )


def variance_effects(
    design: GeneralizedDesign, fit: GeneralizedFit, conf_level: float = 0.95
) -> tuple[tuple[VarianceEffect, ...], str]:
    """Coefficients of the log variance with changes in percent, and a sentence about them."""
    tests = part_tests(design, fit, scale_part(design), conf_level=conf_level)
    if tests is None:
        raise InferenceError(
            "The model for the variance must have a coefficient.", "none", 'write scale="~ x"'
        )
    out = []
    with np.errstate(over="ignore"):
        for row in tests.rows:
            ratio = [float(np.exp(v)) for v in (row.estimate, row.conf_low, row.conf_high)]
            percent = [
                math.nan if row.term == _INTERCEPT else 100.0 * math.expm1(v)
                for v in (row.estimate, row.conf_low, row.conf_high)
            ]
            out.append(
                VarianceEffect(
                    row.term, row.estimate, row.std_error, row.statistic, row.p_value,
                    ratio[0], ratio[1], ratio[2], percent[0], percent[1], percent[2],
                )
            )  # fmt: skip
    return tuple(out), _effects_sentence(design, out, conf_level)


def _effects_sentence(
    design: GeneralizedDesign, found: list[VarianceEffect], conf_level: float
) -> str:
    words = [f"Estimates are of the log of the {quantity_of(design)}; tests are Wald z tests."]
    for row in found:
        if math.isnan(row.percent):
            continue
        way = "larger" if row.percent >= 0.0 else "smaller"
        words.append(
            f"Per unit of {row.term} the {quantity_of(design)} is {abs(row.percent):.1f}% {way} "
            f"({100 * conf_level:g}% interval {row.percent_low:+.1f}% to {row.percent_high:+.1f}%)."
        )
    return " ".join(words)


def variance_ranges(
    design: GeneralizedDesign, fit: GeneralizedFit, share: float = 0.95, at: str = "mean"
) -> tuple[tuple[VarianceRange, ...], str]:
    """Where a share of the clusters have their residual variance (and standard deviation).

    ``at``: predictors of the variance at their ``"mean"`` over the analysed rows or at ``"zero"``.
    The range is ``exp(w'tau +/- z sd(omega))``; ``mean`` is the average over clusters,
    ``exp(w'tau + var(omega) / 2)``.
    """
    if at not in get_args(At):
        raise InferenceError("at= is 'mean' or 'zero'.", f"at={at!r}", "write at='mean'")
    z = float(normal_quantile(0.5 + check_level(share) / 2.0))
    d = scale_part(design)
    part = design.parts[d]
    tau, _ = fit.coefficients(d)
    if at == "mean":
        row = part.X.mean(axis=0)
        shift = 0.0 if part.offset is None else float(part.offset.mean())
    else:
        row, shift = (np.array(part.names) == _INTERCEPT).astype(np.float64), 0.0
    centre = float(row @ tau) + shift
    name, out = quantity_of(design), []
    for t, block in enumerate(design.blocks):
        for a in scale_columns(design, t):
            if not block.names[a].endswith(_INTERCEPT):
                continue
            sd = math.sqrt(max(float(fit.random_covariance[t][a, a]), 0.0))
            out.append(_range(block.group, name, centre, sd, z, 1.0))
            if design.family.has_residual:
                label = name.replace("residual variance", "residual standard deviation")
                label = label.removeprefix("squared ")
                out.append(_range(block.group, label, centre, sd, z, 0.5))
    where = "their means" if at == "mean" else "zero"
    words = [
        f"{100 * share:g}% of clusters of {one.group} have {with_article(one.quantity)} between "
        f"{one.range_low:.4g} and {one.range_high:.4g} (predictors of the variance at {where})."
        for one in out
    ]
    return tuple(out), " ".join(words) or "No cluster has a random scale effect."


def _range(
    group: str, name: str, centre: float, sd: float, z: float, power: float
) -> VarianceRange:
    centre, own = power * centre, power * sd
    return VarianceRange(
        group, name, sd, math.exp(centre), math.exp(centre + own**2 / 2.0),
        math.exp(centre - z * own), math.exp(centre + z * own),
    )  # fmt: skip


def scale_correlations(
    design: GeneralizedDesign, fit: GeneralizedFit, conf_level: float = 0.95
) -> tuple[tuple[ScaleCorrelation, ...], str]:
    """Correlations of scale effects with the other effects of their clusters.

    Intervals are on Fisher's z scale (delta method; missing beyond +/- 0.95, where that fails).
    Tests are Wald tests of the covariance divided by the SD of the other effect, which is nearer
    to normal than the correlation: the two may disagree at the margin. All are missing where a
    variance is zero.
    """
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    out = []
    for t, block in enumerate(design.blocks):
        scale = scale_columns(design, t)
        for b in scale:
            for a in range(len(block.names)):
                if a == b or (a in scale and a > b) or not _may_correlate(block.structure, a, b):
                    continue
                out.append(_correlation(design, fit, t, (a, b), z))
    words = []
    for row in out:
        if not math.isfinite(row.estimate):
            continue
        if math.isfinite(row.p_value):
            sure = "" if row.p_value < 1.0 - conf_level else ", but this may be chance"
            p = "p < .001" if row.p_value < 0.001 else f"p = {row.p_value:.3f}"
            test = f"Wald {p}{sure}"
        else:
            test = "without a Wald test: see test_scale_correlation()"
        words.append(f"{_goes_with(row, design)} (correlation {row.estimate:.2f}, {test}).")
    return tuple(out), " ".join(words) or "No scale effect is correlated with another effect."


def _goes_with(row: ScaleCorrelation, design: GeneralizedDesign) -> str:
    """What the sign of a correlation says about the clusters of a factor."""
    mark = "dispersion: "
    own, other = row.term.removeprefix(mark), row.with_term.removeprefix(mark)
    size = "larger" if row.estimate > 0.0 else "smaller"
    if row.with_term != other:
        what = f"a larger scale effect of {other}"
    else:
        what = f"a larger {other} effect"
    if own != _INTERCEPT:
        return (
            f"Clusters of {row.group} with {what} have a {size} effect of {own} on the log "
            f"{quantity_of(design)}"
        )
    if row.with_term != other:
        return f"Clusters of {row.group} with {what} have a {size} {quantity_of(design)}"
    more = "more" if (row.estimate > 0.0) != is_precision(design) else "less"
    return f"Clusters of {row.group} with {what} vary {more} within"


def is_precision(design: GeneralizedDesign) -> bool:
    """Whether a larger scale effect means less variance (the precision of a beta)."""
    return quantity_of(design).startswith("precision")


def with_article(noun: str) -> str:
    """``a residual variance``, ``an overdispersion alpha``."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def _may_correlate(structure: FactorMap, a: int, b: int) -> bool:
    return any(
        lo <= a < hi and lo <= b < hi and kind != "diagonal" for lo, hi, kind in structure.terms
    )


def _correlation(
    design: GeneralizedDesign, fit: GeneralizedFit, t: int, pair: tuple[int, int], z: float
) -> ScaleCorrelation:
    """One correlation; ``pair`` = (other column, scale column)."""
    block = design.blocks[t]
    a, b = pair
    n_fixed = fit.fixed_slices[-1].stop
    sizes = [one.structure.n_parameters for one in design.blocks]
    start = n_fixed + sum(sizes[:t])
    names = block.names[b], block.names[a]
    G = fit.random_covariance[t]
    if G[a, a] <= 0.0 or G[b, b] <= 0.0:
        return ScaleCorrelation(block.group, *names, *([math.nan] * 6))

    def both(psi: Array) -> Array:
        """Fisher's z, and the slope of the scale effect on the other one in SDs of the latter."""
        L = block.structure.factor(psi[start : start + sizes[t]])
        S = L @ L.T
        rho = np.clip(S[a, b] / math.sqrt(S[a, a] * S[b, b]), -1.0 + 1e-12, 1.0 - 1e-12)
        return np.array([np.arctanh(rho), S[a, b] / math.sqrt(S[a, a])])

    rho = float(G[a, b] / math.sqrt(G[a, a] * G[b, b]))
    value, covariance = delta_covariance(both, fit)
    error, slope_error = np.sqrt(np.maximum(np.diag(covariance), 0.0)).tolist()
    statistic = float(value[1]) / slope_error if slope_error > 0.0 else math.nan
    p_value = 2.0 * float(normal_tail(abs(statistic)))
    if abs(rho) > NEAR_LIMIT or error == 0.0:  # Fisher's z runs away, its error faster
        nan = math.nan
        return ScaleCorrelation(block.group, *names, rho, nan, statistic, p_value, nan, nan)
    centre = float(value[0])
    return ScaleCorrelation(
        block.group, *names, rho, error * (1.0 - rho**2), statistic, p_value,
        math.tanh(centre - z * error), math.tanh(centre + z * error),
    )  # fmt: skip
