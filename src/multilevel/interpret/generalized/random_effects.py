"""Random effects given the data as one tidy table: conditional modes and their spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.random_effects import check_conf_level


@dataclass(frozen=True)
class EffectGivenData:
    """One random effect of one level.

    Attributes
    ----------
    part : linear predictor that it belongs to.
    group, level, term : labels.
    estimate : conditional mode, on the link scale.
    std_error : its standard deviation given the data, parameters taken as known (lme4's condVar).
    conf_low, conf_high : normal limits.
    """

    part: str
    group: str
    level: Any
    term: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float


def random_effects_rows(
    evidence: GeneralizedEvidence, conf_level: float = 0.95
) -> tuple[dict[str, Any], str]:
    """Columns of the table (fields of ``EffectGivenData``), and what they mean in words.

    Rows of one level stand together, terms in the order of the design.
    """
    z = float(normal_quantile(0.5 + check_conf_level(conf_level) / 2.0))
    design = evidence.design
    columns: dict[str, list[Any]] = {name: [] for name in EffectGivenData.__dataclass_fields__}
    pieces = zip(
        design.blocks, design.block_parts, evidence.effects, evidence.effect_covariances,
        strict=True,
    )  # fmt: skip
    for block, parts, b, C in pieces:
        J, q = b.shape
        error = np.sqrt(np.maximum(np.einsum("jaa->ja", C), 0.0)).ravel()
        estimate = b.ravel()
        columns["part"] += [design.parts[d].spec.name for d in parts] * J
        columns["group"] += [block.group] * (J * q)
        columns["level"] += np.repeat(np.asarray(block.levels, dtype=object), q).tolist()
        columns["term"] += list(block.names) * J
        columns["estimate"] += estimate.tolist()
        columns["std_error"] += error.tolist()
        columns["conf_low"] += (estimate - z * error).tolist()
        columns["conf_high"] += (estimate + z * error).tolist()
    method = evidence.fit.approximation.method
    spread = "its curvature there" if method == "Laplace" else "quadrature"
    sentence = (
        "estimate is the conditional mode of each random effect, on the link scale; std_error its "
        f"standard deviation given the data by {spread}, parameters taken as known (lme4's "
        "condVar)."
    )
    return dict(columns), sentence
