"""Rows of a fit with structured residuals: residuals, predictions, simulated responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import prediction_frame
from multilevel.api.structured_holder import StructuredHolder, refuse
from multilevel.design.random_scale import factors_by_level
from multilevel.design.replay import replay
from multilevel.interpret.fitted import check_kind, fitted_values, fixed_part
from multilevel.interpret.predict import (
    CAVEAT,
    STD_ERROR_SENTENCES,
    IntervalKind,
    NewLevels,
    Prediction,
    PredictionKind,
    check_interval,
    predict_rows,
    prediction_interval,
)
from multilevel.interpret.random_effects import StdErrorKind
from multilevel.interpret.residual_predict import predicted_residuals
from multilevel.interpret.residual_prediction_error import SENTENCES, prediction_errors
from multilevel.simulate.residual_response import simulate_structured

Array = NDArray[np.float64]


class StructuredRowMethods(StructuredHolder):
    """Residuals, predictions, simulated responses."""

    def random_effects(
        self, *, std_error: StdErrorKind = "comparative", conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Estimated random effects (EBLUPs), one row per group, level and term.

        As for every fit; with ``random_scale=`` each cluster's effects have its own standard
        deviation.
        """
        out = super().random_effects(std_error=std_error, conf_level=conf_level)
        if not self._structured.problem.scales.n_parameters:
            return out
        own = np.concatenate([factors_by_level(block).ravel() for block in self.design.blocks])
        for column in ("estimate", "std_error", "conf_low", "conf_high"):
            out[column] *= own
        return out

    def residuals(self, kind: str = "conditional") -> Array:
        """Residuals of the analysed rows, (n,).

        ``"conditional"`` and ``"marginal"`` as for every fit; ``"standardised"`` divides the
        conditional ones by their model standard deviation; ``"normalised"`` also takes out their
        correlation: independent with variance one if the model holds.
        """
        check_kind(kind, ("conditional", "marginal", "standardised", "normalised"), "residuals")
        part = "population" if kind == "marginal" else "conditional"
        estimates = () if kind == "marginal" else self._estimates
        out = self.design.y - fitted_values(self.design, self.fit, estimates, part)
        if kind in ("conditional", "marginal"):
            return out
        whitener, order = self._joint_objective().whitener, self._structured.layout.order
        scaled = out[order] / (whitener.sd * np.sqrt(self.fit.sigma2))
        if kind == "normalised":
            scaled = whitener.decorrelate(scaled[:, None])[:, 0]
        found = np.empty_like(out)
        found[order] = scaled
        return found

    def predict(
        self,
        new_data: Any,
        *,
        kind: PredictionKind = "conditional",
        new_levels: NewLevels = "zero",
        std_error: bool = False,
        interval: IntervalKind | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Predict the response for the rows of a new table: column ``estimate``.

        ``"conditional"`` adds the random effects of the row's groups and, where residuals are
        correlated, what the residuals of the unit's own rows say about the new row (kriging);
        a row at a time that is in the data gets its own outcome back (``fitted()`` leaves the
        residual out). ``"population"`` and ``"marginal"`` use the model for the means only.

        ``std_error`` adds ``std_error`` (of the mean; not where a correlated residual is part of
        the prediction) and ``prediction_std_error`` (of one new observation of weight 1, at the
        residual variance of its own row, the kriging variance included). ``interval`` adds
        ``conf_low, conf_high``: ``"confidence"`` by the first, ``"prediction"`` by the second.
        Normal quantiles; variances are taken as known. NaN where the residual variance of a row
        is not known (an occasion that was not observed).
        """
        check_interval(interval, conf_level)
        conditional = kind == "conditional"
        has_residual = conditional and self._structured.layout.has_correlation
        if has_residual and interval == "confidence":
            refuse(
                "An interval for the mean where the prediction holds a correlated residual",
                "write interval='prediction', or kind='population'",
            )
        with_error = std_error or interval is not None
        estimates = self._estimates if conditional else ()
        found = predict_rows(
            self._prepared, self.fit, new_data, estimates, kind=kind, new_levels=new_levels,
            std_error=with_error and not has_residual,
        )  # fmt: skip
        if has_residual:
            found = self._with_residuals(found, new_data)
        if with_error:
            phi = self._psi[len(self.fit.theta) :]
            errors = prediction_errors(self._structured, self.fit, phi, new_data, kind)
            found = replace(
                found,
                std_error=np.full(len(errors), np.nan) if has_residual else found.std_error,
                prediction_std_error=errors,
                sentence=f"{SENTENCES[kind]} {CAVEAT}"
                if has_residual
                else f"{STD_ERROR_SENTENCES[kind]} {SENTENCES[kind]} {CAVEAT}",
            )
        bounds = None if interval is None else prediction_interval(found, interval, conf_level)
        frame = prediction_frame(found, new_data, bounds)
        return frame.drop(columns="std_error") if has_residual and with_error else frame

    def _with_residuals(self, found: Prediction, new_data: Any) -> Prediction:
        """Predictions plus what the residuals of the unit's own rows say."""
        known = np.flatnonzero(np.isfinite(found.estimate))
        rows = replay(self.design, new_data, groups="ignore")
        means = np.full(len(found.estimate), np.nan)
        means[rows.rows.kept] = fixed_part(rows.X, self.fit.beta, rows.offset)
        extra = predicted_residuals(
            self._structured, self._joint_objective(), self._psi, new_data, known, means[known]
        )
        estimate = found.estimate.copy()
        estimate[known] += extra
        return replace(found, estimate=estimate)

    def simulate(
        self, n_sim: int = 1, seed: int | np.random.Generator | None = None, *, kind: str = "new"
    ) -> Array:
        """Draw responses from the fitted model: (n, n_sim), with correlated residuals.

        ``"new"`` draws new random effects for each column; ``"conditional"`` keeps the estimated
        ones (residuals are drawn anew in both). The same ``seed`` gives the same numbers.
        """
        estimates = self._estimates if kind == "conditional" else ()
        whitener, rng = self._joint_objective().whitener, np.random.default_rng(seed)
        return simulate_structured(
            self.design, self.fit, whitener, n_sim, rng, kind=kind, estimates=estimates
        )
