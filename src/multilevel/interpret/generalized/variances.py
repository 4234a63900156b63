r"""Variances of a generalized model: components, reliability of predictions, along predictors.

All on the scale of the linear predictors. The reliability of a predicted random effect is the
squared correlation of effect and prediction, ``1 - Var(b_c | y) / tau`` (Henderson 1975; for item
responses the marginal reliability of EAP scores, Green et al. 1984, Journal of Educational
Measurement 21:347). Along a predictor with a random slope, ``Var = z' G z + level-1 variance``
with ``z = (1, x)`` (Goldstein, Browne & Rasbash 2002, Understanding Statistics 1:223).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.delta import delta_covariance
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.latent import (
    between_variances,
    check_level_name,
    latent_words,
    level_one_variance,
)
from multilevel.interpret.generalized.predict import limits
from multilevel.interpret.related import relation_of
from multilevel.interpret.reliability import Reliability
from multilevel.interpret.variance import INTERCEPT, effect_components
from multilevel.interpret.variance_function import VarianceAt, VarianceFunction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GeneralizedComponent:
    """One variance or covariance of the model.

    Attributes
    ----------
    group : grouping factor, or ``"residual"``.
    term, term2 : random effects; ``term2`` is empty for a variance.
    variance, sd, correlation : ``variance`` holds the covariance where ``term2`` is named; NaN
        where not defined.
    """

    group: str
    term: str
    term2: str
    variance: float
    sd: float
    correlation: float


def generalized_components(evidence: GeneralizedEvidence) -> tuple[GeneralizedComponent, ...]:
    """Every estimated variance and covariance, and the level-1 variance where it is the same for
    all rows (``residual``: latent for binary and ordered responses, estimated for normal ones)."""
    found = effect_components(evidence.design.blocks, evidence.fit.random_covariance)
    out = [
        GeneralizedComponent(c.group, c.term, c.term2, c.variance, c.sd, c.correlation)
        for c in found
    ]
    family = evidence.family
    constant = family.has_residual and len(evidence.design.parts[1].names) <= 1
    if family.level_one_variance is not None or (constant and family.link == "identity"):
        own = level_one_variance(evidence, evidence.fit.psi, "lognormal")
        nan = float("nan")
        out.append(GeneralizedComponent("residual", "", "", own, float(np.sqrt(own)), nan))
    return tuple(out)


def generalized_reliabilities(evidence: GeneralizedEvidence) -> tuple[Reliability, ...]:
    """Reliability of every predicted random effect: mean and range over the levels.

    Raises
    ------
    InferenceError : no random effects.
    """
    design = evidence.design
    if not design.blocks:
        raise InferenceError(
            "Reliability is that of random effects.",
            "a model without random terms",
            "add a term such as (1 | person)",
        )
    out = []
    pieces = zip(
        design.blocks, evidence.fit.random_covariance, evidence.effect_covariances, strict=True
    )
    for block, G, C in pieces:
        tau = np.diag(G)
        relation = relation_of(block)
        size = 1.0 if relation is None else relation.diagonal
        errors = np.einsum("jaa->ja", C)
        for a, term in enumerate(block.names):
            if not tau[a] > 0.0:
                values = np.zeros(block.n_levels)
            else:
                values = np.clip(1.0 - errors[:, a] / (tau[a] * size), 0.0, 1.0)
            what = "effects" if term == INTERCEPT else f"slopes of {term}"
            sentence = (
                f"The predicted {what} of {block.group} have a reliability of {values.mean():.3f} "
                f"on average ({values.min():.3f} to {values.max():.3f} over {block.n_levels} "
                "levels)."
            )
            out.append(
                Reliability(
                    block.group, term, "prediction", float(values.mean()), float(values.min()),
                    float(values.max()), block.n_levels, sentence,
                )
            )  # fmt: skip
    return tuple(out)


def generalized_variance_function(
    evidence: GeneralizedEvidence,
    term: str,
    values: Sequence[float] | None = None,
    group: str | None = None,
    conf_level: float = 0.95,
    level: str = "lognormal",
) -> VarianceFunction:
    """Latent variance and latent ICC at values of a predictor with a random slope of the mean.

    Parameters
    ----------
    term : a random slope by name; other random slopes of its factor are held at 0, other factors
        contribute their mean over the rows.
    values : where; default five values from the smallest to the largest in the data.
    group : the factor, where the slope varies over several.
    level : form of the observation-level variance of log links.

    Raises
    ------
    InferenceError : a term without a random slope, or one that varies over several factors; a
        family without a level-1 variance.
    """
    check_level(conf_level)
    check_level_name(level)
    t, a = _find(evidence, term, group)
    block = evidence.design.blocks[t]
    own = [k for k, d in enumerate(evidence.design.block_parts[t]) if d == 0]
    z = block.columns[:, a]
    low, high = float(z.min()), float(z.max())
    at = np.linspace(low, high, 5) if values is None else np.asarray(values, dtype=np.float64)
    base = np.array([1.0 if block.names[k] == INTERCEPT else 0.0 for k in own])
    place = own.index(a)
    points = np.tile(base, (np.size(at), 1))
    points[:, place] = np.atleast_1d(at)

    def pieces(psi: Array) -> tuple[Array, float]:
        L = evidence.prepared.problem.factors(psi)[t]
        G = (L @ L.T)[np.ix_(own, own)]
        others = between_variances(evidence, psi)
        others[t] = 0.0
        rest = float(others.sum()) + level_one_variance(evidence, psi, level)
        return np.einsum("ka,ab,kb->k", points, G, points), rest

    def shares(psi: Array) -> Array:
        between, rest = pieces(psi)
        return np.asarray(between / (between + rest))

    between, rest = pieces(evidence.fit.psi)
    found, covariance = delta_covariance(shares, evidence.fit)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    quantile = float(normal_quantile(0.5 + conf_level / 2.0))
    rows = []
    for k, value in enumerate(np.atleast_1d(at).tolist()):
        error, bounds = float(errors[k]), (float("nan"), float("nan"))
        if error > 0.0 and 0.0 < found[k] < 1.0:
            lower, upper = limits("unit", found[k], errors[k], quantile)
            bounds = float(lower), float(upper)
        rows.append(
            VarianceAt(
                value, float(between[k]), float(between[k] + rest), float(found[k]),
                error if error > 0.0 else float("nan"), *bounds,
            )
        )  # fmt: skip
    least, smallest, sentence = _least(evidence, t, a, own, rest)
    return VarianceFunction(block.group, term, least, smallest, tuple(rows), sentence + (
        f" Within clusters: {latent_words(evidence, level)}."
    ))  # fmt: skip


def _least(
    evidence: GeneralizedEvidence, t: int, a: int, own: list[int], rest: float
) -> tuple[float, float, str]:
    """Where the latent variance is smallest, how large it is there, and both in words."""
    block = evidence.design.blocks[t]
    term, place = block.names[a], own.index(a)
    G = evidence.fit.random_covariance[t][np.ix_(own, own)]
    point = np.array([1.0 if block.names[k] == INTERCEPT else 0.0 for k in own])
    if not G[place, place] > 0.0:
        constant = float(point @ G @ point) + rest
        words = f"The slope of {term} does not vary over {block.group}: the variance is constant."
        return float("nan"), constant, words
    least = -float(G[place] @ point) / float(G[place, place])
    point[place] = least
    smallest = float(point @ G @ point) + rest
    low, high = float(block.columns[:, a].min()), float(block.columns[:, a].max())
    inside = "inside" if low <= least <= high else "outside"
    return least, smallest, (
        f"On the {evidence.family.link} scale the variance between {block.group} levels depends "
        f"on {term}: the latent variance is smallest, {smallest:.3f}, at {term} = {least:.3f} "
        f"({inside} the observed range {low:.3f} to {high:.3f}), and grows to both sides."
    )  # fmt: skip


def _find(evidence: GeneralizedEvidence, term: str, group: str | None) -> tuple[int, int]:
    """Block and column of a random slope of the mean."""
    pairs = list(zip(evidence.design.blocks, evidence.design.block_parts, strict=True))
    slopes = [
        (t, a)
        for t, (block, parts) in enumerate(pairs)
        for a, name in enumerate(block.names)
        if name != INTERCEPT and parts[a] == 0
    ]
    named = [(t, a) for t, a in slopes if pairs[t][0].names[a] == term]
    hits = [(t, a) for t, a in named if group in (None, pairs[t][0].group)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        where = " and ".join(pairs[t][0].group for t, _ in hits)
        raise InferenceError(
            "The grouping factor must be named where a slope varies over several.",
            f"{term} varies over {where}",
            f"add group={pairs[hits[0][0]][0].group!r}",
        )
    known = [f"{pairs[t][0].names[a]} over {pairs[t][0].group}" for t, a in slopes]
    raise InferenceError(
        "The variance depends on predictors with a random slope of the mean only.",
        f"{term!r}" + (f" over {group}" if group else "")
        + "; random slopes of this model: " + (", ".join(known) or "none"),
        "name one of these",
    )  # fmt: skip
