"""Simple slopes, regions of significance and comparisons of a fitted model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.holder import FitHolder
from multilevel.interpret.johnson_neyman import Region, johnson_neyman
from multilevel.interpret.simple_slopes import EffectRow, EffectTable, comparisons, simple_slopes
from multilevel.interpret.variance_share import Evidence


def _effect_frame(table: EffectTable) -> pd.DataFrame:
    out = frame_of_records(table.rows, EffectRow)
    out.attrs["sentence"] = table.sentence
    return out


class SlopeMethods(FitHolder):
    """What one predictor does at chosen values of the others."""

    def _slope_evidence(self) -> Evidence:
        return Evidence(self._prepared, self.fit, self._objective())

    def slopes(
        self,
        focal: str,
        at: Mapping[str, Any] | None = None,
        *,
        df: str | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Simple slopes of a predictor, simple intercepts, and differences of slopes.

        Parameters
        ----------
        focal : a numeric predictor: a column, ``"within(ses, school)"``, or ``"within"`` where
            there is one such call.
        at : values of the predictors it interacts with: numbers, categories, ``"sd"`` (mean and
            one standard deviation to both sides), ``"quartiles"`` or ``"mean"``. Default: every
            category, both values of a two-valued number, ``"sd"`` of another. ``{focal: value}``
            says where a curved effect is differentiated (default its mean).
        df : degrees of freedom, as in ``coefficients``; None takes the default.

        Returns
        -------
        Frame ``term, component, at, estimate, std_error, df, statistic, p_value, conf_low,
        conf_high``; ``component`` is ``"slope"``, ``"intercept"`` or ``"difference"``.

        Raises
        ------
        InferenceError, DesignError : see the message.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * sector + (1 | school)", mlm.load_hsb())
        >>> m.slopes("ses")[["component", "at", "estimate"]].round(2).head(2).values.tolist()
        [['slope', 'sector = 0', 2.95], ['slope', 'sector = 1', 1.64]]
        """
        evidence = self._slope_evidence()
        return _effect_frame(simple_slopes(evidence, focal, at, df, conf_level))

    def comparisons(
        self,
        variable: str,
        at: Mapping[str, Any] | None = None,
        *,
        df: str | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Differences of the expected outcome between values of one predictor.

        Compares every pair of categories, the two values of a two-valued number, or the mean of
        another number with one unit more; ``at={variable: [a, b]}`` names other values. Further
        entries of ``at`` set its moderators (default: every category, both values, the mean).

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * sector + (1 | school)", mlm.load_hsb())
        >>> m.comparisons("sector", at={"ses": [-1, 1]})["estimate"].round(2).tolist()
        [3.45, 0.83]
        """
        evidence = self._slope_evidence()
        return _effect_frame(comparisons(evidence, variable, at, df, conf_level))

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
        """Regions of a moderator where the slope of ``focal`` differs from zero.

        Parameters
        ----------
        focal, moderator : numeric predictors that share a term.
        at : values of further moderators (three-way interactions).
        df : degrees of freedom; where they vary with the moderator, bounds are searched up to
            five observed ranges beyond the data.
        false_discovery : control the false discovery rate over the observed values.

        Returns
        -------
        Frame ``at, low, high, low_inside, high_inside, is_significant, sign``, one row per
        stretch; ``low_inside`` tells whether that bound lies in the observed range.
        ``attrs``: ``sentence``, ``observed``, ``alpha``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * meanses + (1 | school)", mlm.load_hsb())
        >>> m.johnson_neyman("ses", "meanses", df="none")["is_significant"].tolist()
        [False, True, False]
        """
        evidence = self._slope_evidence()
        found = johnson_neyman(evidence, focal, moderator, at, df, conf_level, false_discovery)
        out = frame_of_records(found.regions, Region)
        out.attrs["sentence"], out.attrs["observed"] = found.sentence, found.observed
        out.attrs["alpha"] = found.alpha
        return out
