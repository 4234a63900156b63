"""Effect sizes of a fitted model: shares of variance, explained variance, within and between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.holder import FitHolder
from multilevel.api.progress import Telling, teller
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import random_effects as estimate_random_effects
from multilevel.infer.bootstrap import BootstrapKind
from multilevel.infer.bootstrap_intervals import IntervalKind
from multilevel.interpret.design_effect import DesignEffect, design_effects
from multilevel.interpret.effect_intervals import EffectInterval, effect_intervals
from multilevel.interpret.explained_intervals import ExplainedInterval, explained_intervals
from multilevel.interpret.explained_variance import (
    Explained,
    empty_model,
    explained_variance,
    reductions,
)
from multilevel.interpret.intraclass import IccEstimate, icc_estimates
from multilevel.interpret.reliability import Reliability, reliabilities
from multilevel.interpret.variance_function import VarianceAt, variance_function
from multilevel.interpret.variance_share import Evidence
from multilevel.interpret.within_between import LevelEffect, within_between

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit


def sentence_frame(records: Sequence[Any], kind: type) -> pd.DataFrame:
    """Records as a frame without their sentences, which go to ``attrs["sentence"]``."""
    out = frame_of_records(records, kind)
    if "sentence" in {field.name for field in fields(kind)}:
        out = out.drop(columns="sentence")
        out.attrs["sentence"] = " ".join(record.sentence for record in records)
    return out


def _refuse_stray(options: Mapping[str, object]) -> None:
    """Options of intervals without intervals."""
    given = [key for key, value in options.items() if value is not None]
    if given:
        raise InferenceError(
            f"{', '.join(given)} cannot be used without intervals.",
            "an option that would be ignored",
            'add intervals="bootstrap", or leave it out',
        )


class EffectMethods(FitHolder):
    """How much varies where, and how much of it is explained."""

    def _evidence(self) -> Evidence:
        return Evidence(self._prepared, self.fit, self._objective())

    def icc(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Intraclass correlations with intervals.

        Per grouping factor two rows: ``component`` is ``"proportion"`` (share of the variance
        between its levels) or ``"correlation"`` (of two rows of one level, which share every
        higher unit too); they differ from three levels on. Crossed factors add the correlation
        of rows that share both. With random slopes: averages over the analysed rows.

        Returns
        -------
        Frame ``group, component, estimate, std_error, conf_low, conf_high, interval``;
        ``attrs["sentence"]`` in words. Intervals: exact F for a balanced one-way layout, else
        the delta method on the logit scale; NaN on the boundary.

        Raises
        ------
        InferenceError : no random effects, or a confidence level outside (0, 1).

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
        >>> m.icc().loc[0, ["estimate", "conf_low", "conf_high"]].astype(float).round(3).tolist()
        [0.18, 0.147, 0.22]
        """
        return sentence_frame(icc_estimates(self._evidence(), conf_level), IccEstimate)

    def design_effects(self) -> pd.DataFrame:
        """Design effect and effective sample size of each grouping factor.

        Frame ``group, component, cluster_size, icc, estimate, effective_n``: ``estimate`` is
        ``1 + (cluster_size - 1) icc`` at the mean cluster size and at Kish's
        ``sum n_c^2 / sum n_c``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
        >>> m.design_effects()[["estimate", "effective_n"]].round(1).to_numpy().tolist()
        [[8.9, 805.6], [9.5, 758.0]]
        """
        return sentence_frame(design_effects(self.design, self.fit), DesignEffect)

    def reliability(self) -> pd.DataFrame:
        """Reliability of the clusters' means and slopes: mean and range over clusters.

        Frame ``group, term, component, estimate, minimum, maximum, n_clusters``. ``component``:
        ``"least_squares"`` judges each cluster by its own rows (one grouping factor only),
        ``"prediction"`` is the squared correlation of random effect and prediction.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
        >>> m.reliability()["estimate"].round(3).tolist()
        [0.901, 0.901]
        """
        effects = estimate_random_effects(self._prepared, self.fit)
        return sentence_frame(reliabilities(self.design, self.fit, effects), Reliability)

    def random_intervals(self, *, share: float = 0.95) -> pd.DataFrame:
        """The range that holds ``share`` of the clusters' intercepts and slopes.

        Frame ``group, term, estimate, sd, low, high, share``; not confidence intervals of the
        fixed effects.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
        >>> m.random_intervals().round(2).loc[1, ["low", "high"]].tolist()
        [1.13, 3.65]
        """
        return sentence_frame(effect_intervals(self.design, self.fit, share), EffectInterval)

    def variance_function(
        self,
        term: str,
        values: Sequence[float] | None = None,
        *,
        group: str | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Outcome variance and ICC at values of a predictor with a random slope.

        Parameters
        ----------
        term : the random slope by name; other random slopes of its factor are held at 0.
        values : default five values over the observed range.
        group : the grouping factor, where the slope varies over several.

        Returns
        -------
        Frame ``value, between, total, estimate (the ICC), std_error, conf_low, conf_high``;
        ``attrs["minimum"]`` is where the variance is smallest.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
        >>> m.variance_function("ses", [0.0, 1.0])["total"].round(2).tolist()
        [41.66, 41.76]
        """
        found = variance_function(self._evidence(), term, values, group, conf_level)
        out = frame_of_records(found.rows, VarianceAt)
        out.attrs["minimum"], out.attrs["minimum_total"] = found.minimum, found.minimum_total
        out.attrs["sentence"] = found.sentence
        return out

    def r2(
        self,
        compared_with: FitHolder | str | None = None,
        *,
        name: str | None = None,
        intervals: Literal["bootstrap"] | None = None,
        conf_level: float | None = None,
        n_boot: int | None = None,
        seed: int | None = None,
        kind: BootstrapKind | None = None,
        interval: IntervalKind | None = None,
        workers: int | None = None,
        progress: Telling = None,
    ) -> pd.DataFrame:
        """Explained variance by every measure in use, each labelled.

        Parameters
        ----------
        compared_with : another fit to the same rows, or ``"empty"`` (random intercepts only, no
            predictors, fitted here): adds the reduction of each variance and Snijders-Bosker R2.
        name : the comparison model in words.
        intervals : ``"bootstrap"`` adds ``std_error, conf_low, conf_high`` from refits; the
            comparison model is refitted to the same draws.
        conf_level, n_boot, seed, kind, interval, workers, progress : of these intervals, as in
            ``confint``; 95%, 500 replicates, seed 0, ``"parametric"`` (or ``"residual"``,
            ``"cluster"``), ``"percentile"`` (or ``"basic"``, ``"bias-corrected"``).

        Returns
        -------
        Frame ``measure, group, term, component, estimate, sentence``: ``total`` (squared
        correlation of outcome and fixed prediction), ``nakagawa`` (marginal, conditional),
        ``rights_sterba`` (parts of the total and of each level: fixed effects f, random slopes
        v, random intercepts m), ``reduction`` (per variance; may be negative),
        ``snijders_bosker``. With intervals ``attrs["sentence"]`` counts the refits by status.

        Raises
        ------
        InferenceError : a comparison model with other rows, outcome or method; an option of
            intervals without intervals.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> found = m.r2(compared_with="empty")
        >>> found[found["measure"] == "reduction"][["group", "estimate"]].round(3).values.tolist()
        [['school', 0.446], ['Residual', 0.054]]
        """
        options = {
            "conf_level": conf_level, "n_boot": n_boot, "seed": seed, "kind": kind,
            "interval": interval, "workers": workers, "progress": progress,
        }  # fmt: skip
        other, label = self._comparison(compared_with, name)
        if intervals is None:
            _refuse_stray(options)
            records = list(explained_variance(self.design, self.fit))
            if other is not None:
                records += reductions(self.design, self.fit, other[0].design, other[1], label)
            return frame_of_records(records, Explained)
        if intervals != "bootstrap":
            raise InferenceError(
                "Intervals of explained variance are by bootstrap.",
                f"intervals={intervals!r}",
                'write intervals="bootstrap"',
            )
        found = explained_intervals(
            self._prepared,
            self.fit,
            500 if n_boot is None else n_boot,
            np.random.SeedSequence(seed or 0),
            other=other,
            name=label,
            conf_level=0.95 if conf_level is None else conf_level,
            kind=kind or "parametric",
            interval=interval or "percentile",
            workers=1 if workers is None else workers,
            progress=teller(progress, "bootstrap"),
        )
        out = frame_of_records(found.rows, ExplainedInterval)
        out.attrs["sentence"] = found.sentence
        return out

    def _comparison(
        self, compared_with: FitHolder | str | None, name: str | None
    ) -> tuple[tuple[Prepared, Fit] | None, str]:
        """The comparison model and its name in words."""
        if compared_with is None:
            return None, ""
        if isinstance(compared_with, FitHolder):
            label = name or f"the model {compared_with.design.model.formula}"
            return (compared_with._prepared, compared_with.fit), label
        if compared_with == "empty":
            return empty_model(self._prepared), name or "the empty model"
        raise InferenceError(
            "A comparison model must be a fitted model, or the word 'empty'.",
            repr(compared_with),
            'write compared_with="empty" or compared_with=other_fit',
        )

    def within_between(
        self,
        *,
        df: str | None = None,
        conf_level: float = 0.95,
        pairs: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Within, between and contextual effects, whichever way the predictors were centred.

        Parameters
        ----------
        df : degrees of freedom, as in ``coefficients``; None takes the default.
        pairs : ``{within column: between column}`` for hand-made deviations whose original
            variable is not in the model. Means made by hand are found without it.

        Returns
        -------
        Frame ``term, group, component, columns, estimate, std_error, df, statistic, p_value,
        conf_low, conf_high, sd_x, sd_y, standardised``; ``component`` is ``"within"``,
        ``"between"``, ``"contextual"`` (between minus within) or ``"smushed"`` (one slope for
        both; the sentence takes it apart). ``standardised`` is per SD of the predictor's part in
        SDs of the outcome at that level, both given.

        Raises
        ------
        InferenceError : no predictor varies at both levels.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + between(ses, school) + (1 | school)", mlm.load_hsb())
        >>> m.within_between()[["component", "estimate"]].round(2).values.tolist()
        [['within', 2.19], ['between', 5.87], ['contextual', 3.68]]
        """
        found = within_between(self._evidence(), df, conf_level, pairs)
        out = frame_of_records(found.rows, LevelEffect)
        out.attrs["sentence"] = found.sentence
        return out
