"""Answers about the linear predictor of the mean, by the functions of linear models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from multilevel.design.records import Design
from multilevel.infer.degrees_of_freedom import DfApproach
from multilevel.infer.generalized.effects import (
    Effects,
    check_generalized_df,
    effects_df,
    full_effects,
    mean_part,
)
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.variance_share import Evidence


@dataclass(frozen=True)
class _Prepared:
    """The design, where functions of linear models look for it."""

    design: Design


@dataclass(frozen=True)
class _LinkEvidence:
    """The part of ``Evidence`` that simple slopes and their regions read."""

    prepared: _Prepared
    fit: Effects

    def approach(self, df: str | None) -> DfApproach:
        """z tests, or the method named."""
        return effects_df(self.fit, check_generalized_df(df))


def link_evidence(evidence: GeneralizedEvidence) -> Evidence:
    """Evidence about the predictor of the mean for ``simple_slopes`` and ``johnson_neyman``.

    These read the design, the estimates and the degrees of freedom only, so that is what it holds.

    Raises
    ------
    InferenceError : a mean without fixed effects.
    """
    effects = full_effects(evidence.design, evidence.fit, mean_part(evidence.design))
    return cast(Evidence, _LinkEvidence(_Prepared(effects.design), effects))


def link_words(evidence: GeneralizedEvidence) -> str:
    """What "outcome" stands for on this scale."""
    return (
        f"Here the outcome is the linear predictor ({evidence.family.link} scale), conditional on "
        "the random effects."
    )
