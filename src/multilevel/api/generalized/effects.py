"""Effect sizes of a fitted generalized model: shares of variance, explained variance, ratios."""

from __future__ import annotations

import pandas as pd

from multilevel.api.effects import sentence_frame
from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.predictions import EvidenceHolder
from multilevel.errors import InferenceError
from multilevel.interpret.explained_variance import Explained
from multilevel.interpret.generalized.effect_ranges import ClusterRange, cluster_ranges
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.explained import (
    empty_model,
    explained_variance,
    reductions,
)
from multilevel.interpret.generalized.intraclass import (
    GeneralizedDesignEffect,
    GeneralizedIcc,
    IccScale,
    design_effects,
    icc_estimates,
)
from multilevel.interpret.generalized.latent import ObservationLevel
from multilevel.interpret.generalized.ratios import MedianRatio, Ratio, median_ratios, ratios


class GeneralizedEffectMethods(EvidenceHolder):
    """How much varies where, how much is explained, and what effects mean as ratios."""

    def icc(
        self,
        scale: IccScale = "latent",
        *,
        level: ObservationLevel = "lognormal",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Intraclass correlations of the latent response, or of the response itself.

        Parameters
        ----------
        scale : ``"latent"``: shares of the variance on the link scale (level-1 variance
            ``pi^2/3`` for a logit, 1 probit, ``pi^2/6`` cloglog, an observation-level variance
            for log links). ``"observation"``: correlation of two responses with the same
            predictors that share random effects, by integration; smaller, and it depends on the
            predictors (averaged over rows spread over the analysed ones).
        level : form of the observation-level variance of log links: ``"lognormal"``,
            ``"delta"`` or ``"trigamma"`` (Nakagawa, Johnson & Schielzeth 2017).

        Returns
        -------
        Frame ``group, component, scale, category, estimate, std_error, conf_low, conf_high``;
        ``component`` is ``"proportion"`` or ``"correlation"`` (they differ from three levels on).

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ 1 + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> tuple(round(float(m.icc(s)["estimate"][0]), 2) for s in ("latent", "observation"))
        (0.17, 0.13)
        """
        found = icc_estimates(self._evidence(), scale, conf_level, level)
        return sentence_frame(found, GeneralizedIcc)

    def design_effects(self) -> pd.DataFrame:
        """Design effect and effective sample size for a mean of the response.

        Frame ``group, component, cluster_size, icc, estimate, effective_n``; ``icc`` is the
        correlation of the responses (``icc("observation")``).
        """
        return sentence_frame(design_effects(self._evidence()), GeneralizedDesignEffect)

    def r2(
        self,
        compared_with: EvidenceHolder | str | None = None,
        *,
        name: str | None = None,
        level: ObservationLevel = "lognormal",
    ) -> pd.DataFrame:
        """Explained variance by every measure in use, each labelled.

        Parameters
        ----------
        compared_with : another fit to the same rows, or ``"empty"`` (random intercepts only, no
            predictors, fitted here): adds the reduction of each random-effect variance, as
            printed and on the latent scale of the comparison model.
        name : the comparison model in words.
        level : as in ``icc``.

        Returns
        -------
        Frame ``measure, group, term, component, estimate, sentence``: ``total`` (squared
        correlation of response and fixed prediction), ``latent`` (marginal, conditional; link
        scale), ``reduction`` (may be negative).

        Raises
        ------
        InferenceError : a comparison model with other rows, response or family.
        """
        evidence = self._evidence()
        records = list(explained_variance(evidence, level))
        if compared_with is not None:
            other, label = self._compared(evidence, compared_with, name)
            records += reductions(evidence, other, label)
        return frame_of_records(records, Explained)

    def _compared(
        self, evidence: GeneralizedEvidence, other: EvidenceHolder | str, name: str | None
    ) -> tuple[GeneralizedEvidence, str]:
        if isinstance(other, EvidenceHolder):
            label = name or f"the model {other.design.mean.model.formula}"
            return other._evidence(), label
        if other == "empty":
            return empty_model(evidence), name or "the empty model"
        raise InferenceError(
            "A comparison model must be a fitted generalized model, or the word 'empty'.",
            repr(other),
            'write compared_with="empty" or compared_with=other_fit',
        )

    def random_intervals(self, *, share: float = 0.95) -> pd.DataFrame:
        """The range that holds ``share`` of the clusters' intercepts and slopes.

        Frame ``group, term, component, estimate, sd, low, high, share``; ``component`` is
        ``"link"``, ``"response"`` (probabilities or means where every predictor is 0) or
        ``"ratio"`` (odds or rate ratios of slopes). Not confidence intervals of fixed effects.
        """
        return sentence_frame(cluster_ranges(self._evidence(), share), ClusterRange)

    def ratios(self, *, marginal: bool = True, conf_level: float = 0.95) -> pd.DataFrame:
        """Odds ratios, rate ratios or ratios of means of the fixed effects.

        Frame ``term, component, measure, estimate, std_error, conf_low, conf_high``:
        ``"conditional"`` ratios hold within a cluster; ``"marginal"`` odds ratios (binary and
        cumulative logit models) compare probabilities averaged over the random effects, and are
        nearer to 1. For log links the two agree unless slopes are random.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ ses + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> m.ratios()[["component", "estimate"]].round(2).values.tolist()
        [['conditional', 2.02], ['marginal', 1.91]]
        """
        return sentence_frame(ratios(self._evidence(), conf_level, marginal), Ratio)

    def median_ratios(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Median odds (or rate) ratio of each grouping factor.

        Frame ``group, measure, estimate, std_error, conf_low, conf_high``: of two rows with the
        same predictors from two random clusters, the odds of the higher over those of the lower,
        in the median; ``exp(0.6745 sqrt(2 variance))``.
        """
        return sentence_frame(median_ratios(self._evidence(), conf_level), MedianRatio)
