"""Slopes and contrasts of a fitted generalized model: of the response, and of its predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from multilevel.api.effects import sentence_frame
from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.predictions import EvidenceHolder
from multilevel.interpret.generalized.average_effects import (
    AverageEffect,
    average_comparisons,
    average_slopes,
)
from multilevel.interpret.generalized.link_scale import link_evidence, link_words
from multilevel.interpret.generalized.predict import PredictionKind
from multilevel.interpret.generalized.within_between import within_between
from multilevel.interpret.johnson_neyman import Region, johnson_neyman
from multilevel.interpret.simple_slopes import EffectRow, simple_slopes
from multilevel.interpret.within_between import LevelEffect


class GeneralizedSlopeMethods(EvidenceHolder):
    """What one predictor does, on the scale of the response and of the link."""

    def average_slopes(
        self,
        focal: str,
        at: Mapping[str, Any] | None = None,
        *,
        kind: PredictionKind = "marginal",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Average slope of a numeric predictor on the scale of the response.

        Parameters
        ----------
        focal : the predictor, in any part of the model.
        at : ``{predictor: value}`` that every row gets; others stay as observed.
        kind : ``"marginal"`` (population-averaged: over the random effects), ``"population"``
            (random effects of zero) or ``"conditional"`` (estimated random effects).

        Returns
        -------
        Frame ``term, component, category, kind, estimate, std_error, statistic, p_value,
        conf_low, conf_high``; at most 2,000 evenly spaced rows are averaged over.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ ses + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> m.average_slopes("ses")["estimate"].round(2).tolist()
        [0.15]
        """
        found = average_slopes(self._evidence(), focal, at, kind, conf_level)
        return sentence_frame(found, AverageEffect)

    def average_comparisons(
        self,
        variable: str,
        values: Sequence[Any] | None = None,
        at: Mapping[str, Any] | None = None,
        *,
        kind: PredictionKind = "marginal",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Average difference of the expected response between values of one predictor.

        ``values``: those to compare; default every category, both values of a two-valued number,
        or one unit more than observed. The rest as in ``average_slopes``.
        """
        found = average_comparisons(self._evidence(), variable, values, at, kind, conf_level)
        return sentence_frame(found, AverageEffect)

    def slopes(
        self,
        focal: str,
        at: Mapping[str, Any] | None = None,
        *,
        df: str | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Simple slopes of a predictor on the link scale, at values of its moderators.

        Arguments and columns as for Gaussian models; ``df`` is ``"none"`` (z tests, the default)
        or ``"between-within"``. ``average_slopes`` answers on the scale of the response.
        """
        evidence = self._evidence()
        table = simple_slopes(link_evidence(evidence), focal, at, df, conf_level)
        out = frame_of_records(table.rows, EffectRow)
        out.attrs["sentence"] = f"{link_words(evidence)} {table.sentence}"
        return out

    def johnson_neyman(
        self,
        focal: str,
        moderator: str,
        at: Mapping[str, Any] | None = None,
        *,
        df: str | None = None,
        conf_level: float = 0.95,
        false_discovery: bool = False,
    ) -> pd.DataFrame:
        """Regions of a moderator where the slope of ``focal`` on the link scale differs from zero.

        Arguments and columns as for Gaussian models.
        """
        evidence = self._evidence()
        found = johnson_neyman(
            link_evidence(evidence), focal, moderator, at, df, conf_level, false_discovery
        )
        out = frame_of_records(found.regions, Region)
        out.attrs["sentence"] = f"{link_words(evidence)} {found.sentence}"
        out.attrs["observed"], out.attrs["alpha"] = found.observed, found.alpha
        return out

    def within_between(
        self,
        *,
        df: str | None = None,
        conf_level: float = 0.95,
        pairs: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Within, between and contextual effects on the link scale, however predictors are centred.

        Arguments and columns as for Gaussian models; ``df`` is ``"none"`` (z, the default) or
        ``"between-within"``. ``sd_y`` and ``standardised`` are NaN: the link fixes the level-1
        variance.
        """
        found = within_between(self._evidence(), df, conf_level, pairs)
        out = frame_of_records(found.rows, LevelEffect)
        out.attrs["sentence"] = found.sentence
        return out
