r"""Intraclass correlations of generalized models: of the latent response, and of the response.

* ``scale="latent"``: shares of the variance of the linear predictor plus the level-1 variance (see
  ``latent``). Averages over the analysed rows where slopes are random.
* ``scale="observation"``: the correlation of two responses with the same predictors that share
  random effects, ``Cov = E_A[(E_rest m)^2] - (E m)^2`` over ``Var = E Var(y | b) + Var m``,
  ``m = E(y | b)``, by numerical integration (what Goldstein, Browne & Rasbash 2002, Understanding
  Statistics 1:223, simulate). It depends on the predictors: covariance and variance are averaged
  over rows spread over the analysed ones. For categories: of the indicator of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.design_effect import cluster_sizes, design_effect
from multilevel.interpret.generalized.delta import delta_covariance
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    any_rows,
    block_covariance,
    fixed_predictors,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.generalized.latent import (
    between_variances,
    check_level_name,
    latent_words,
    level_one_variance,
)
from multilevel.interpret.generalized.predict import check_marginal, limits
from multilevel.interpret.level_parts import finer_than

Array = NDArray[np.float64]
IccScale = Literal["latent", "observation"]
SCALES: tuple[str, ...] = get_args(IccScale)
#: Rows at which the observation-scale correlation is integrated.
ROWS = 120


@dataclass(frozen=True)
class GeneralizedIcc:
    """One intraclass correlation.

    Attributes
    ----------
    group : factor, or factors joined by `` & ``, whose levels two rows share.
    component : ``"proportion"`` of variance, or ``"correlation"`` of two rows.
    scale : ``"latent"`` or ``"observation"``; category : of the response, or empty.
    estimate, std_error, conf_low, conf_high : delta method on the logit scale; NaN on the
        boundary.
    sentence : in words.
    """

    group: str
    component: str
    scale: str
    category: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    sentence: str


@dataclass(frozen=True)
class _Share:
    """What two rows share: label, component and blocks."""

    group: str
    component: str
    blocks: tuple[int, ...]


def _shares(evidence: GeneralizedEvidence, scale: str) -> list[_Share]:
    """Every share that the design has: factors, what they lie in, pairs of crossed factors."""
    blocks = evidence.design.blocks
    nested = finer_than(replace(evidence.design.mean, blocks=blocks))
    above = [tuple(np.flatnonzero(nested[t]).tolist()) for t in range(len(blocks))]
    out = []
    for t, block in enumerate(blocks):
        if scale == "latent":
            out.append(_Share(block.group, "proportion", (t,)))
        out.append(_Share(block.group, "correlation", (t, *above[t])))
    for t, one in enumerate(blocks):
        for s in range(t + 1, len(blocks)):
            if s not in above[t] and t not in above[s]:
                both = tuple(sorted({t, s, *above[t], *above[s]}))
                out.append(_Share(f"{one.group} & {blocks[s].group}", "correlation", both))
    return out


def icc_estimates(
    evidence: GeneralizedEvidence,
    scale: str = "latent",
    conf_level: float = 0.95,
    level: str = "lognormal",
) -> tuple[GeneralizedIcc, ...]:
    """Intraclass correlations of each grouping factor (see the module's text).

    Parameters
    ----------
    scale : ``"latent"`` or ``"observation"``.
    level : form of the observation-level variance of log links (latent scale).

    Raises
    ------
    InferenceError : no random effects, an unknown option, a family without the scale.
    """
    check_level(conf_level)
    check_level_name(level)
    if scale not in SCALES:
        raise InferenceError(
            "The scale of an intraclass correlation must be 'latent' or 'observation'.",
            f"scale={scale!r}",
            'write scale="latent"',
        )
    if not evidence.design.blocks:
        raise InferenceError(
            "An intraclass correlation needs random effects.",
            "a model without random terms",
            "add a term such as (1 | school)",
        )
    shares = _shares(evidence, scale)
    if scale == "latent":
        return _latent(evidence, shares, conf_level, level)
    return _observed(evidence, shares, conf_level)


def _latent(
    evidence: GeneralizedEvidence, shares: list[_Share], conf_level: float, level: str
) -> tuple[GeneralizedIcc, ...]:
    """Shares of the latent variance, for each category of a nominal response."""
    nominal = evidence.family.response == "nominal"
    labels = evidence.categories[1:] if nominal else ("",)
    within = latent_words(evidence, level)
    out: list[GeneralizedIcc] = []
    for part, label in enumerate(labels):
        if part not in evidence.random:
            continue

        def values(psi: Array, part: int = part) -> Array:
            between = between_variances(evidence, psi, part)
            total = between.sum() + level_one_variance(evidence, psi, level)
            return np.array([between[list(s.blocks)].sum() / total for s in shares])

        out += _records(evidence, values, shares, [label] * len(shares), "latent", conf_level,
                        f"Within clusters: {within}.")  # fmt: skip
    if not out:
        raise InferenceError(
            "An intraclass correlation of the latent response needs random effects of the mean.",
            "random effects of other parts only",
            'write scale="observation"',
        )
    return tuple(out)


def _records(
    evidence: GeneralizedEvidence,
    values: Callable[[Array], Array],
    shares: Sequence[_Share],
    labels: Sequence[str],
    scale: str,
    conf_level: float,
    note: str,
) -> list[GeneralizedIcc]:
    found, covariance = delta_covariance(values, evidence.fit)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    out = []
    for k, (share, label) in enumerate(zip(shares, labels, strict=True)):
        estimate, error = float(found[k]), float(errors[k])
        low = high = float("nan")
        if error > 0.0 and 0.0 < estimate < 1.0:
            low, high = (float(b) for b in limits("unit", found[k], errors[k], z))
        else:
            error = float("nan")
        interval = f" ({100 * conf_level:g}% interval {low:.3f} to {high:.3f})" * (low == low)
        what = f" of category {label}" if label else ""
        group = share.group.replace(" & ", " and ")
        if share.component == "proportion":
            text = (
                f"{100 * estimate:.1f}% of the latent variance{what} lies between levels of "
                f"{group}{interval}."
            )
        elif scale == "latent":
            text = (
                f"The latent responses{what} of two rows that share {group} correlate "
                f"{estimate:.3f}{interval}."
            )
        else:
            indicator = f"indicators of category {label}" if label else "responses"
            text = (
                f"The {indicator} of two rows with the same predictors that share {group} "
                f"correlate {estimate:.3f}{interval}."
            )
        out.append(
            GeneralizedIcc(
                share.group, share.component, scale, label, estimate, error, low, high,
                f"{text} {note}",
            )
        )  # fmt: skip
    return out


def spread_rows(evidence: GeneralizedEvidence, most: int = ROWS) -> PartRows:
    """At most ``most`` analysed rows, evenly spaced in the order of their predictor."""
    rows = evidence.rows
    if rows.n <= most:
        return rows
    order = np.argsort(fixed_predictors(rows, evidence.fit)[0], kind="stable")
    at = order[np.linspace(0, rows.n - 1, most).round().astype(np.intp)]
    return rows.pick(at)


def _observed(
    evidence: GeneralizedEvidence, shares: list[_Share], conf_level: float
) -> tuple[GeneralizedIcc, ...]:
    check_marginal(evidence)
    if len(evidence.random) > 2 and len(evidence.design.blocks) > 1:
        raise InferenceError(
            "Correlations of responses are integrated over at most two random parts where there"
            " are several grouping factors.",
            f"{len(evidence.random)} random parts, {len(evidence.design.blocks)} factors",
            'write scale="latent"',
        )
    rows = spread_rows(evidence)
    labels = evidence.categories or ("",)

    def values(psi: Array) -> Array:
        return observed_correlations(evidence, rows, psi, [s.blocks for s in shares]).ravel()

    pairs = [(s, label) for s in shares for label in labels]
    note = (
        f"Averaged over {rows.n} rows spread over the analysed ones; it depends on the predictors."
    )
    return tuple(
        _records(evidence, values, [s for s, _ in pairs], [c for _, c in pairs], "observation",
                 conf_level, note)
    )  # fmt: skip


def observed_correlations(
    evidence: GeneralizedEvidence, rows: PartRows, psi: Array, sets: Sequence[tuple[int, ...]]
) -> Array:
    """Correlations (sets, C) of responses that share the random effects of some blocks.

    Covariances and variances are means over the rows; rows have weight 1 and one trial.
    """
    outcome, random = any_rows(evidence, rows.n), evidence.random
    eta = fixed_predictors(rows, evidence.fit, psi)
    design = evidence.design
    shares = [
        block_covariance(z, parts, random, L @ L.T)
        for z, parts, L in zip(
            rows.columns, design.block_parts, evidence.prepared.problem.factors(psi), strict=True
        )
    ]
    whole = sum(shares, np.zeros_like(shares[0]))

    def mean(at: Array) -> Array:
        return np.atleast_2d(outcome.mean(at))

    def second(at: Array) -> Array:
        m = mean(at)
        own = m * (1.0 - m) if evidence.categories else np.atleast_2d(outcome.variance(at))
        return own + m**2

    centre = average(mean, eta, whole, random)
    total = np.mean(average(second, eta, whole, random) - centre**2, axis=1)
    out = []
    for blocks in sets:
        shared = sum((shares[t] for t in blocks), np.zeros_like(whole))
        rest = whole - shared

        def inner(at: Array, rest: Array = rest) -> Array:
            return np.asarray(average(mean, at, rest, random) ** 2)

        both = average(inner, eta, shared, random)
        out.append(np.mean(both - centre**2, axis=1) / total)
    return np.array(out)


@dataclass(frozen=True)
class GeneralizedDesignEffect:
    """The design effect of one grouping factor for a mean of the response.

    Attributes
    ----------
    group, component, cluster_size : factor; ``"mean size"`` or ``"Kish size"``; rows per cluster.
    icc : correlation of two responses of one level (observation scale).
    estimate : ``1 + (cluster_size - 1) icc``; effective_n : rows over it.
    sentence : in words.
    """

    group: str
    component: str
    cluster_size: float
    icc: float
    estimate: float
    effective_n: float
    sentence: str


def design_effects(evidence: GeneralizedEvidence) -> tuple[GeneralizedDesignEffect, ...]:
    """Design effect of each factor, from the correlation of the responses themselves.

    Raises
    ------
    InferenceError : categories (which have no single mean), no random effects.
    """
    if evidence.categories:
        raise InferenceError(
            "A design effect belongs to the mean of one response.",
            f"{len(evidence.categories)} categories",
            'read icc(scale="observation"), which has one for each category',
        )
    found = icc_estimates(evidence, "observation")
    out = []
    for block in evidence.design.blocks:
        icc = next(i.estimate for i in found if i.group == block.group)
        for component, size in zip(("mean size", "Kish size"), cluster_sizes(block), strict=True):
            effect = design_effect(size, icc)
            worth = evidence.design.n / effect
            out.append(
                GeneralizedDesignEffect(
                    block.group, component, size, icc, effect, worth,
                    f"With {size:.1f} rows per {block.group} ({component}) and responses that "
                    f"correlate {icc:.3f} within it, the {evidence.design.n} rows are worth "
                    f"{worth:.0f} independent ones for a mean (design effect {effect:.2f}).",
                )
            )  # fmt: skip
    return tuple(out)
