"""The range that holds most clusters: on the link scale, and as probabilities, means or ratios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.evidence import GeneralizedEvidence, any_rows
from multilevel.interpret.generalized.ratios import INTERCEPT

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClusterRange:
    """Where a share of the clusters lies.

    Attributes
    ----------
    group, term : factor and random effect.
    component : ``"link"``, ``"response"`` (expected response, predictors at 0) or ``"ratio"``
        (``exp`` of a slope).
    estimate : of the cluster whose random effect is zero.
    sd : of the random effect (link scale), NaN on other scales.
    low, high : the limits; share : what they hold.
    sentence : in words.
    """

    group: str
    term: str
    component: str
    estimate: float
    sd: float
    low: float
    high: float
    share: float
    sentence: str


def cluster_ranges(evidence: GeneralizedEvidence, share: float = 0.95) -> tuple[ClusterRange, ...]:
    """Ranges of intercepts and slopes over clusters; not confidence intervals of fixed effects.

    A random effect without its fixed effect varies around zero. Responses are given for
    intercepts of the mean (not for categories), at predictors of 0 and typical dispersions.

    Raises
    ------
    InferenceError : a share outside (0, 1).
    """
    z = float(normal_quantile(0.5 + check_level(share) / 2.0))
    out = []
    design = evidence.design
    for t, block in enumerate(design.blocks):
        for a, (name, d) in enumerate(zip(block.names, design.block_parts[t], strict=True)):
            short = name.removeprefix(f"{design.parts[d].spec.name}: ")
            names = design.parts[d].names
            centre = 0.0
            if short in names:
                centre = float(evidence.fit.psi[evidence.fit.fixed_slices[d]][names.index(short)])
            sd = float(np.sqrt(evidence.fit.random_covariance[t][a, a]))
            ends = np.array([centre, centre - z * sd, centre + z * sd])
            out += _ranges(evidence, block.group, name, short, d, ends, sd, share)
    return tuple(out)


def _ranges(
    evidence: GeneralizedEvidence, group: str, name: str, short: str, d: int, ends: Array,
    sd: float, share: float,
) -> list[ClusterRange]:  # fmt: skip
    """The range on the link scale, and on the one that people read where there is one."""
    what = "intercepts" if short == INTERCEPT else f"slopes of {short}"
    text = (
        f"{100 * share:g}% of the levels of {group} have {what} from {ends[1]:.3f} to "
        f"{ends[2]:.3f} on the link scale."
    )
    out = [ClusterRange(group, name, "link", *_numbers(ends, sd), share, text)]
    if d == 0 and short != INTERCEPT and evidence.family.link in ("logit", "log", "cloglog"):
        shown = np.exp(ends)
        text = (
            f"{100 * share:g}% of the levels of {group} have ratios of {short} from "
            f"{shown[1]:.3f} to {shown[2]:.3f}."
        )
        out.append(ClusterRange(group, name, "ratio", *_numbers(shown), share, text))
    has_constant = INTERCEPT in evidence.design.parts[0].names and not evidence.categories
    if d == 0 and short == INTERCEPT and has_constant:
        shown = _response(evidence, ends)
        text = (
            f"Where every predictor is 0, {100 * share:g}% of the levels of {group} have an "
            f"expected response from {shown[1]:.3f} to {shown[2]:.3f}; for U = 0 it is "
            f"{shown[0]:.3f}."
        )
        out.append(ClusterRange(group, name, "response", *_numbers(shown), share, text))
    return out


def _numbers(ends: Array, sd: float = float("nan")) -> tuple[float, float, float, float]:
    low, high = sorted((float(ends[1]), float(ends[2])))
    return float(ends[0]), sd, low, high


def _response(evidence: GeneralizedEvidence, ends: Array) -> Array:
    """Expected responses at three predictors of the mean, other parts at their mean."""
    eta = np.empty((len(evidence.design.parts), 3))
    for k, (X, s) in enumerate(zip(evidence.rows.X, evidence.fit.fixed_slices, strict=True)):
        eta[k] = float((X @ evidence.fit.psi[s]).mean())
    eta[0] = ends
    return np.asarray(any_rows(evidence, 3).mean(eta))
