"""Standardised random effects of a generalized model, and one overview of its checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RandomBlock
from multilevel.interpret.diagnosis import (
    Diagnosis,
    Finding,
    about_effects,
    about_normality,
    gathered,
)
from multilevel.interpret.generalized.checks import cluster_influence, run_checks
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.residuals import residuals
from multilevel.interpret.normality import RESIDUAL, Normality, normality
from multilevel.interpret.related import relation_of
from multilevel.interpret.residual_diagnostics import EffectResiduals, standardised_effects

Array = NDArray[np.float64]
CHECKS = 250  # simulated data sets of the overview


def effect_sets(evidence: GeneralizedEvidence) -> tuple[EffectResiduals, ...]:
    """Random effects over the standard deviation of their predictions, ``G - Var(b | y)``."""
    pieces = zip(
        evidence.design.blocks,
        evidence.fit.random_covariance,
        evidence.effects,
        evidence.effect_covariances,
        strict=True,
    )
    return tuple(
        standardised_effects(block.group, block.levels, block.names, b, G, _prior(block, G) - C)
        for block, G, b, C in pieces
    )


def _prior(block: RandomBlock, G: Array) -> Array:
    """Variance of a level's effects: ``G``, by level (J, q, q) where levels are correlated."""
    relation = relation_of(block)
    return G if relation is None else relation.diagonal[:, None, None] * G


def normality_sets(
    evidence: GeneralizedEvidence, rng: np.random.Generator
) -> list[tuple[str, str, Array]]:
    """``(group, term, values)``: quantile residuals as normal quantiles, and random effects."""
    found = np.asarray(residuals(evidence, "quantile", "conditional", rng))
    sets = [(RESIDUAL, "", found)]
    for effect in effect_sets(evidence):
        for a, name in enumerate(effect.names):
            if int(np.isfinite(effect.std[:, a]).sum()) > 2:
                sets.append((effect.group, name, effect.std[:, a]))
    return sets


def generalized_normality(
    evidence: GeneralizedEvidence, rng: np.random.Generator
) -> tuple[Normality, ...]:
    """Shape and tests of quantile residuals and standardised random effects."""
    return tuple(normality(*one) for one in normality_sets(evidence, rng))


def overview(
    evidence: GeneralizedEvidence, advice: Sequence[str], rng: np.random.Generator
) -> Diagnosis:
    """What the checks of a generalized fit found, each with the call that shows more."""
    approximation = evidence.fit.approximation
    findings = [Finding("Approximation", approximation.sentence, "approximation")]
    checks = run_checks(evidence, CHECKS, rng)
    findings += [Finding(f"Check of {one.check}", one.sentence, "checks()") for one in checks]
    findings += about_effects(effect_sets(evidence))
    findings += about_normality(generalized_normality(evidence, rng))
    findings += gathered(partial(_influence, evidence))
    findings += [Finding("Advice", text, "advice") for text in advice]
    return Diagnosis(tuple(findings))


def _influence(evidence: GeneralizedEvidence) -> Finding:
    return Finding("Influence", cluster_influence(evidence).sentence, "influence()")
