"""Reliability of predicted effects and explained variance, memberships and relations included.

The reliability of a prediction is ``1 - Var(b | y) / (A_jj tau)``; for breeding values its square
root is their accuracy, the correlation of the true value and the predicted one (Mrode 2014, Linear
Models for the Prediction of Animal Breeding Values, section 2.2). R2 as in
``interpret.explained_variance``, with the variance that a factor gives the average analysed row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.interpret.explained_variance import Explained, shares_explained
from multilevel.interpret.fitted import fixed_part
from multilevel.interpret.related import parts_of, relation_of
from multilevel.interpret.reliability import Reliability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design, RandomBlock
    from multilevel.estimate.posterior import BlockEffects
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]


def related_reliabilities(
    design: Design, fit: Fit, effects: Sequence[BlockEffects]
) -> tuple[Reliability, ...]:
    """Reliability and accuracy of every predicted effect: mean and range over the levels."""
    out: list[Reliability] = []
    for block, G, effect in zip(design.blocks, fit.random_covariance, effects, strict=True):
        relation = relation_of(block)
        size = np.ones(block.n_levels) if relation is None else relation.diagonal
        errors = np.einsum("jaa->ja", effect.covariance())
        for a, tau in enumerate(np.diag(G)):
            known = np.zeros(block.n_levels)
            if tau > 0.0:
                known = np.clip(1.0 - errors[:, a] / (tau * size), 0.0, 1.0)
            out.append(_record(block, a, "prediction", "reliability", known))
            out.append(_record(block, a, "accuracy", "accuracy", np.sqrt(known)))
    return tuple(out)


def _record(block: RandomBlock, a: int, component: str, word: str, values: Array) -> Reliability:
    relation, term = relation_of(block), block.names[a]
    breeding = relation is not None and relation.kind == "pedigree" and term == "(Intercept)"
    what = "breeding values" if breeding else "effects" if term == "(Intercept)" else term
    link = "of" if term == "(Intercept)" else "over"
    also = " (correlation of the true value and its prediction)" if word == "accuracy" else ""
    mean, low, high = float(values.mean()), float(values.min()), float(values.max())
    sentence = (
        f"The predicted {what} {link} {block.group} have a {word}{also} of {mean:.3f} on average "
        f"({low:.3f} to {high:.3f} over {block.n_levels} levels)."
    )
    if word == "accuracy":
        sentence = sentence.replace("have a accuracy", "have an accuracy")
    return Reliability(block.group, term, component, mean, low, high, len(values), sentence)


def related_r2(design: Design, fit: Fit) -> tuple[Explained, ...]:
    """Total, marginal and conditional R2 of the analysed rows."""
    prediction = fixed_part(design.X, fit.beta, design.offset)
    pairs = zip(fit.random_covariance, parts_of(design), strict=True)
    random = sum(float(np.trace(G @ part.moments)) for G, part in pairs)
    return shares_explained(design.y, prediction, random, fit.sigma2)
