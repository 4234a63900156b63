"""Shares of the latent variance where rows have several levels or levels are correlated.

The shares are those of ``interpret.related`` on the scale of the linear predictor, with the level-1
variance of ``latent`` in place of the residual variance: heritability on the latent scale.
Sources: Nakagawa & Schielzeth 2010 (Biological Reviews 85:935) for latent-scale heritability; as in
``interpret.related`` for the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RandomBlock
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.delta import delta_covariance
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.intraclass import GeneralizedIcc
from multilevel.interpret.generalized.latent import (
    check_level_name,
    latent_words,
    level_one_variance,
    mean_variances,
)
from multilevel.interpret.generalized.predict import limits
from multilevel.interpret.related import AVERAGE, share_name, share_words

Array = NDArray[np.float64]


def related_latent_shares(
    evidence: GeneralizedEvidence, conf_level: float = 0.95, level: str = "lognormal"
) -> tuple[GeneralizedIcc, ...]:
    """Share of each factor in the latent variance of a row, with intervals.

    Per factor the share for a row with one level of variance sigma^2, and where the analysed rows
    differ from that, their average (components as in ``interpret.related``). Delta method on the
    logit scale.

    Raises
    ------
    InferenceError : no random effects of the mean, a family without a level-1 variance.
    """
    check_level(conf_level)
    check_level_name(level)
    if 0 not in evidence.random or evidence.family.response == "nominal":
        raise InferenceError(
            "Shares of the latent variance need random effects of one mean.",
            f"family {evidence.family.label}",
            "read random_covariance",
        )
    columns, spread = evidence.rows.columns, evidence.rows.spread
    psi = evidence.fit.psi
    differs = not np.allclose(
        mean_variances(evidence, columns, psi), mean_variances(evidence, spread, psi), rtol=1e-9
    )

    def values(at: Array) -> Array:
        own = level_one_variance(evidence, at, level)
        parts = [mean_variances(evidence, z, at) for z in (columns, spread)]
        return np.concatenate([p / (p.sum() + own) for p in parts])

    found, covariance = delta_covariance(values, evidence.fit)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    within = f"Within levels: {latent_words(evidence, level)}."
    out = []
    for t, block in enumerate(evidence.design.blocks):
        if 0 not in evidence.design.block_parts[t]:
            continue
        out.append(_record(block, share_name(block), found[t], errors[t], conf_level, within))
        if differs:
            k = t + len(columns)
            out.append(_record(block, AVERAGE, found[k], errors[k], conf_level, within))
    return tuple(out)


def _record(
    block: RandomBlock, component: str, estimate: float, error: float, conf_level: float, note: str
) -> GeneralizedIcc:
    """One share with its interval and its words."""
    low = high = float("nan")
    text = f"On the latent scale: {share_words(block, component, float(estimate))}"
    if error > 0.0 and 0.0 < estimate < 1.0:
        z = float(normal_quantile(0.5 + conf_level / 2.0))
        bounds = limits("unit", np.array(estimate), np.array(error), z)
        low, high = (float(b) for b in bounds)
        text += f" ({100 * conf_level:g}% interval {low:.3f} to {high:.3f})"
    else:
        error = float("nan")
    return GeneralizedIcc(
        block.group, component, "latent", "", float(estimate), float(error), low, high,
        f"{text}. {note}",
    )  # fmt: skip
