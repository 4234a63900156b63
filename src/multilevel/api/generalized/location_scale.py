"""The fitted location-scale model that users hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.scale_points import scale_points
from multilevel.infer.location_scale import (
    RandomScaleTest,
    ScaleCorrelationTest,
    random_scale_test,
    scale_correlation_test,
)
from multilevel.interpret.location_scale.clusters import (
    ClusterVariance,
    cluster_variances,
    location_and_scale,
)
from multilevel.interpret.location_scale.effects import (
    ScaleCorrelation,
    VarianceEffect,
    VarianceRange,
    has_location_effects,
    has_scale_effects,
    quantity_of,
    scale_correlations,
    scale_group,
    scale_part,
    variance_effects,
    variance_ranges,
)
from multilevel.interpret.location_scale.rows import prediction_intervals, row_variances
from multilevel.report.document import Part, Picture
from multilevel.report.generalized.effect_words import effect_part
from multilevel.report.layout import Section
from multilevel.report.location_scale import (
    PARAGRAPH,
    variability_json,
    variability_methods,
    who_varies_more,
    with_variability,
)

if TYPE_CHECKING:
    from multilevel.interpret.generalized.predict import PredictionKind
    from multilevel.interpret.location_scale.effects import At
    from multilevel.report.layout import Section
    from multilevel.report.plots.backend import ggplot


MOST_CLUSTERS = 20  # that a report lists


class LocationScaleFit(GeneralizedMultilevelFit):
    """A fitted model whose residual variance (or dispersion) has its own formula, ``scale=``.

    All that a generalized fit offers, and answers to who varies more. ``part("dispersion")`` holds
    the coefficients of the log variance; columns of ``random_covariance`` that start with
    ``dispersion:`` are scale effects.

    Examples
    --------
    >>> import multilevel as mlm
    >>> m = mlm.fit(
    ...     "mathach ~ ses + (1 | school)", mlm.load_hsb(), scale="~ ses + (1 | school)"
    ... )
    >>> m.variance_range()[["median", "range_low", "range_high"]].iloc[1].round(2).tolist()
    [6.08, 5.38, 6.87]
    """

    def sections(self, *, verbose: bool = False, df: str | None = None) -> list[Section]:
        """The summary as its sections, one about the variability of clusters among them."""
        return with_variability(super().sections(verbose=verbose, df=df), self.fit, self.design)

    def variability_paragraph(self, *, tests: bool = True) -> str:
        """Who varies more, in one paragraph that needs no statistics to read.

        Parameters
        ----------
        tests : whether the model is refitted without scale effects, and without their correlation,
            to give likelihood-ratio tests (some seconds).
        """
        if not has_scale_effects(self.design):
            return who_varies_more(self.fit, self.design, None, ())
        group = scale_group(self.design)
        found = None
        if tests:
            part = scale_part(self.design)
            random = random_scale_test(self._prepared, self.fit, part, group)
            try:
                joint = scale_correlation_test(self._prepared, self.fit, part, group)
            except InferenceError:  # scale effects that are uncorrelated by construction
                joint = None
            found = random, joint
        clusters, _ = cluster_variances(self._evidence(), group, 0.95)
        return who_varies_more(self.fit, self.design, found, clusters)

    def methods_paragraph(self, df: str | None = None) -> str:
        """A paragraph for the methods section, the model for the variance included."""
        return f"{super().methods_paragraph(df)} {variability_methods(self.fit, self.design)}"

    def to_dict(self, df: str | None = None) -> dict[str, Any]:
        """As for every generalized fit; ``variability`` holds effects, ranges, correlations."""
        return {**super().to_dict(df), "variability": variability_json(self.fit, self.design)}

    def _more_parts(self, pictures: bool) -> list[Part]:
        """The paragraph on who varies more, its tables, and its pictures."""
        parts = [Part(Section(PARAGRAPH, sentences=(self.variability_paragraph(),)))]
        effects = self.variance_effects()[["term", "percent", "percent_low", "percent_high",
                                           "p_value"]].iloc[1:]  # fmt: skip
        if len(effects):
            parts.append(effect_part("Change of the variance per unit, in percent", effects))
        if not has_scale_effects(self.design):
            return parts
        columns = ["group", "quantity", "median", "mean", "range_low", "range_high"]
        ranges = self.variance_range()[columns]
        parts.append(effect_part("Where 95% of clusters have their variance", ranges))
        clusters = self.cluster_variances(scale_group(self.design))
        shown = clusters[clusters["is_unusual"]][["level", "n_rows", "ratio", "ratio_low",
                                                  "ratio_high"]].head(MOST_CLUSTERS)  # fmt: skip
        if len(shown):
            parts.append(effect_part("Clusters that stand out, most variable first", shown))
        if pictures:
            from multilevel.report.plots.backend import to_png

            drawn = []
            if has_location_effects(self.design):
                drawn.append(("Location against scale", self.plot_location_scale()))
            if len(effects):
                drawn.append(("Residual SD along a predictor", self.plot_residual_sd()))
            shown_pictures = tuple(Picture(name, name, to_png(one)) for name, one in drawn)
            parts.append(Part(Section("Pictures of the variability"), pictures=shown_pictures))
        return parts

    def update(
        self,
        *,
        n_quad: int | tuple[int, ...] | None = None,
        accuracy: str = "report",
        penalty: str | Sequence[str] | None = None,
    ) -> Self:
        """Fit the same model to the same rows with another approximation or penalty.

        Arguments as in ``GeneralizedMultilevelFit.update``.
        """
        points = scale_points(self._problem) if n_quad is None else n_quad
        return super().update(n_quad=points, accuracy=accuracy, penalty=penalty)

    def variance_effects(self, conf_level: float = 0.95) -> pd.DataFrame:
        """Effects on the residual variance (or dispersion), in percent per unit.

        Columns ``term, estimate, std_error, statistic, p_value`` (of the log variance, Wald z),
        ``ratio, ratio_low, ratio_high`` (``exp``) and ``percent, percent_low, percent_high``:
        ``100 (exp(estimate) - 1)``, missing for the intercept.
        """
        found, sentence = variance_effects(self.design, self.fit, conf_level)
        return _frame(found, VarianceEffect, sentence)

    def variance_range(self, share: float = 0.95, at: At = "mean") -> pd.DataFrame:
        """Between which values a share of the clusters have their residual variance and SD.

        ``exp(w'tau +/- z sd(omega))``, with predictors of the variance at their means or at zero.
        Columns ``group, quantity, sd_scale, median, mean, range_low, range_high``: a random-effects
        range, not a confidence interval.
        """
        found, sentence = variance_ranges(self.design, self.fit, share, at)
        return _frame(found, VarianceRange, sentence)

    def cluster_variances(self, group: str | None = None, conf_level: float = 0.95) -> pd.DataFrame:
        """Every cluster's scale effect and residual variance given the data, most variable first.

        Columns as in ``multilevel.interpret.location_scale.clusters.ClusterVariance``:
        ``is_unusual`` marks intervals without zero. Shrunken towards zero as all random effects.
        """
        found, sentence = cluster_variances(self._evidence(), group, conf_level)
        return _frame(found, ClusterVariance, sentence)

    def scale_correlations(self, conf_level: float = 0.95) -> pd.DataFrame:
        """Correlations of scale effects with location effects (and each other), with Wald tests.

        Columns ``group, term, with_term, estimate, std_error, statistic, p_value, conf_low,
        conf_high``; intervals on Fisher's z scale (missing beyond +/- 0.95), tests of the
        covariance. ``test_scale_correlation`` is the likelihood-ratio test.
        """
        found, sentence = scale_correlations(self.design, self.fit, conf_level)
        return _frame(found, ScaleCorrelation, sentence)

    def test_random_scale(self, group: str | None = None) -> pd.DataFrame:
        """Do clusters differ in their variance? Likelihood-ratio test against the refit without.

        One row with ``group, statistic, df, null, p_value, naive_p_value, minus2_loglik,
        minus2_loglik_without, sentence``; the p-value is that of the mixture of chi-squares that
        holds on the boundary.
        """
        found = random_scale_test(self._prepared, self.fit, scale_part(self.design), group)
        return _frame((found,), RandomScaleTest, found.sentence)

    def test_scale_correlation(self, group: str | None = None) -> pd.DataFrame:
        """Do level and variability go together? Likelihood-ratio test against ``(1 || group)``.

        One row with ``group, statistic, df, p_value, minus2_loglik, minus2_loglik_without,
        sentence``. More exact than the Wald tests of ``scale_correlations``.
        """
        found = scale_correlation_test(self._prepared, self.fit, scale_part(self.design), group)
        return _frame((found,), ScaleCorrelationTest, found.sentence)

    def row_variances(
        self, data: Any = None, *, kind: PredictionKind = "population", conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Variances and the intraclass correlation as functions of predictors and cluster.

        Parameters
        ----------
        data : rows to answer for; None takes the analysed rows.
        kind : ``"population"`` for a typical cluster, ``"conditional"`` for the row's own cluster,
            ``"marginal"`` with the residual variance averaged over clusters.

        Returns
        -------
        Frame ``location_variance, residual_variance, residual_sd, icc, std_error, conf_low,
        conf_high`` (of the icc; delta method, logit scale). For families and links other than the
        Gaussian identity one all variances are on the response scale.
        """
        found = row_variances(self._evidence(), data, kind, conf_level)
        return _columns(found, data)

    def prediction_intervals(
        self, data: Any, *, kind: PredictionKind = "conditional", share: float = 0.95
    ) -> pd.DataFrame:
        """Intervals for new responses that carry the heterogeneity of the residual variance.

        ``"conditional"``: in the row's own cluster; ``"marginal"``: in a new one. Quantiles of a
        mixture of normals over what is not known of the cluster's variance. Frame ``estimate,
        residual_sd, conf_low, conf_high`` in the rows of ``data``. Other families: quantiles of the
        response averaged over the same, on the response scale.
        """
        return _columns(prediction_intervals(self._evidence(), data, kind, share), data)

    def plot_location_scale(self, group: str | None = None, term: str | None = None) -> ggplot:
        """Location effects against scale effects of all clusters, with intervals of both."""
        from multilevel.report.plots.location_scale import location_against_scale

        found = location_and_scale(self._evidence(), group, term)
        return location_against_scale(found, quantity_of(self.design))

    def plot_residual_sd(self, predictor: str | None = None) -> ggplot:
        """Residual standard deviation (or dispersion) along a predictor of the variance."""
        from multilevel.report.plots.location_scale import spread_along

        return spread_along(self.design, self.fit, predictor)


def _frame(records: tuple[Any, ...], kind: type, sentence: str) -> pd.DataFrame:
    out = frame_of_records(records, kind)
    out.attrs["sentence"] = sentence
    return out


def _columns(found: Any, data: Any) -> pd.DataFrame:
    """Arrays of a record as columns, on the index of ``data``."""
    index = data.index if isinstance(data, pd.DataFrame) else None
    arrays = {k: v for k, v in vars(found).items() if isinstance(v, np.ndarray)}
    out = pd.DataFrame(arrays, index=index)
    out.attrs["sentence"] = found.sentence
    return out
