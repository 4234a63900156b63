"""Random-effects intervals: where the clusters' own intercepts and slopes lie.

``gamma -/+ z sqrt(tau2)`` holds 95% of the clusters' coefficients; it is not the confidence
interval of gamma, which narrows as clusters are added. Source: Snijders & Bosker 2012, section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.variance import INTERCEPT

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit


@dataclass(frozen=True)
class EffectInterval:
    """The range that holds a given share of the clusters' coefficients.

    Attributes
    ----------
    group, term : grouping factor and random effect.
    estimate : the average coefficient (the fixed effect; 0 if the model has none).
    sd : standard deviation of the coefficient over clusters.
    low, high : ends of the range.
    share : share of clusters that it holds.
    sentence : in words.
    """

    group: str
    term: str
    estimate: float
    sd: float
    low: float
    high: float
    share: float
    sentence: str


def effect_intervals(design: Design, fit: Fit, share: float = 0.95) -> tuple[EffectInterval, ...]:
    """The range of every random coefficient, ``share`` of the clusters inside it.

    Raises
    ------
    InferenceError : a share outside (0, 1).
    """
    z = float(normal_quantile(0.5 + check_level(share) / 2.0))
    fixed = dict(zip(design.names, fit.beta.tolist(), strict=True))
    out = []
    for block, G in zip(design.blocks, fit.random_covariance, strict=True):
        for a, term in enumerate(block.names):
            mean = float(fixed.get(term, 0.0))
            sd = float(np.sqrt(max(G[a, a], 0.0)))
            low, high = mean - z * sd, mean + z * sd
            what = "intercepts" if term == INTERCEPT else f"slopes of {term}"
            average = (
                f"On average the {'intercept' if term == INTERCEPT else 'slope of ' + term} is "
                f"{mean:.3f}, and "
                if term in fixed
                else "The model has no fixed part of this effect, so that its average is 0; "
            )
            zero = _zero_points(design, term)
            sentence = (
                f"{average}{100 * share:g}% of the levels of {block.group} are predicted to have "
                f"{what} from {low:.3f} to {high:.3f}{zero}."
            )
            out.append(EffectInterval(block.group, term, mean, sd, low, high, share, sentence))
    return tuple(out)


def _zero_points(design: Design, term: str) -> str:
    """Say at which value of interacting predictors the coefficient is meant."""
    if term == INTERCEPT:
        return ", where every predictor is 0" if len(design.names) > 1 else ""
    others: list[str] = []
    for name in design.names:
        parts = name.split(":")
        if len(parts) > 1 and term in parts:
            others += [part for part in parts if part != term]
    return f", at {' = '.join([*dict.fromkeys(others), '0'])}" if others else ""
