"""Which clusters vary more than others: scale effects given the data, and location beside scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.evidence import GeneralizedEvidence, fixed_predictors
from multilevel.interpret.location_scale.effects import (
    quantity_of,
    scale_intercept,
    scale_part,
    with_article,
)

Array = NDArray[np.float64]
_INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class ClusterVariance:
    """The residual variance (or dispersion) of one cluster.

    Attributes
    ----------
    group, level, n_rows : which cluster.
    estimate, std_error, conf_low, conf_high : its scale effect given the data, on the log scale.
    ratio, ratio_low, ratio_high : its variance divided by that of a typical cluster with the same
        predictors.
    variance : at the mean of its own rows' predictors; ``sd`` its square root (NaN where the
        quantity is no residual variance).
    is_unusual : whether the interval of its scale effect leaves zero out.
    """

    group: str
    level: Any
    n_rows: int
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    variance: float
    sd: float
    is_unusual: bool


@dataclass(frozen=True)
class LocationAndScale:
    """A location effect and a scale effect of every cluster of one factor, with their spread.

    Attributes
    ----------
    group, levels, term : the factor, its (J,) levels, the location effect.
    location, location_error, scale, scale_error : (J,) each.
    correlation : of the two over clusters, from the model; NaN where a variance is zero.
    """

    group: str
    levels: NDArray[Any]
    term: str
    location: Array
    location_error: Array
    scale: Array
    scale_error: Array
    correlation: float


def cluster_variances(
    evidence: GeneralizedEvidence, group: str | None = None, conf_level: float = 0.95
) -> tuple[tuple[ClusterVariance, ...], str]:
    """All clusters with data, the most variable first, and a sentence about the unusual ones."""
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    t, a = scale_intercept(evidence.design, group)
    block = evidence.design.blocks[t]
    omega = evidence.effects[t][:, a]
    error = np.sqrt(np.maximum(evidence.effect_covariances[t][:, a, a], 0.0))
    eta = fixed_predictors(evidence.rows, evidence.fit)[scale_part(evidence.design)]
    counts = np.bincount(block.codes, minlength=block.n_levels)
    sums = np.bincount(block.codes, weights=eta, minlength=block.n_levels)
    centre = sums / np.maximum(counts, 1)
    is_variance = evidence.family.has_residual
    out = []
    for j in np.argsort(-omega, kind="stable"):
        if counts[j] == 0:
            continue
        low, high = omega[j] - z * error[j], omega[j] + z * error[j]
        variance = math.exp(centre[j] + omega[j])
        out.append(
            ClusterVariance(
                block.group, block.levels[j], int(counts[j]),
                float(omega[j]), float(error[j]), float(low), float(high),
                math.exp(omega[j]), math.exp(low), math.exp(high),
                variance, math.sqrt(variance) if is_variance else math.nan,
                bool(low > 0.0 or high < 0.0),
            )
        )  # fmt: skip
    return tuple(out), _unusual(out, block.group, quantity_of(evidence.design), conf_level)


def _unusual(found: list[ClusterVariance], group: str, quantity: str, conf_level: float) -> str:
    more = [row for row in found if row.is_unusual and row.estimate > 0.0]
    less = [row for row in found if row.is_unusual and row.estimate < 0.0][::-1]
    words = [
        f"{len(more) + len(less)} of {len(found)} clusters of {group} have "
        f"{with_article(quantity)} that differs from that of a typical cluster "
        f"({100 * conf_level:g}% intervals given the data, one by one; "
        "estimates are shrunken towards zero)."
    ]
    for rows, name in ((more, "larger"), (less, "smaller")):
        if rows:
            listed = ", ".join(f"{row.level} ({row.ratio:.2f} times)" for row in rows[:5])
            rest = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            words.append(f"Notably {name}: {listed}{rest}.")
    return " ".join(words)


def location_and_scale(
    evidence: GeneralizedEvidence, group: str | None = None, term: str | None = None
) -> LocationAndScale:
    """The two kinds of effects of each cluster of a factor; ``term``: which location effect.

    Raises
    ------
    InferenceError : a factor without both kinds, or an unknown term.
    """
    design = evidence.design
    t, b = scale_intercept(design, group)
    block = design.blocks[t]
    names = [n for n, d in zip(block.names, design.block_parts[t], strict=True) if d == 0]
    chosen = term or (_INTERCEPT if _INTERCEPT in names else (names[0] if names else ""))
    if chosen not in names:
        raise InferenceError(
            f"term= names a location effect of {block.group}.",
            f"term={term!r}; it has {', '.join(names) or 'none'}",
            f"write term={names[0]!r}" if names else "add a random term to the formula",
        )
    a = block.names.index(chosen)
    G = evidence.fit.random_covariance[t]
    C = evidence.effect_covariances[t]
    size = math.sqrt(G[a, a] * G[b, b])
    return LocationAndScale(
        block.group, np.asarray(block.levels), chosen,
        evidence.effects[t][:, a], np.sqrt(np.maximum(C[:, a, a], 0.0)),
        evidence.effects[t][:, b], np.sqrt(np.maximum(C[:, b, b], 0.0)),
        float(G[a, b] / size) if size > 0.0 else math.nan,
    )  # fmt: skip
