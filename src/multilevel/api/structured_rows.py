"""Rows of a fit with structured residuals: residuals, predictions, simulated responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import prediction_frame
from multilevel.api.structured_holder import StructuredHolder, refuse
from multilevel.interpret.fitted import check_kind, fitted_values
from multilevel.interpret.predict import (
    IntervalKind,
    NewLevels,
    PredictionKind,
    check_interval,
    predict_rows,
    prediction_interval,
)
from multilevel.interpret.residual_predict import predicted_residuals
from multilevel.simulate.residual_response import simulate_structured

Array = NDArray[np.float64]


class StructuredRowMethods(StructuredHolder):
    """Residuals, predictions, simulated responses."""

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
        These two have a ``std_error`` and ``interval="confidence"`` for the mean; errors of
        conditional predictions and of new observations are not derived and refused.
        """
        check_interval(interval, conf_level)
        conditional = kind == "conditional"
        with_error = std_error or interval is not None
        if with_error and (conditional or interval == "prediction"):
            refuse(
                "A standard error of conditional predictions, or of new observations",
                "write kind='population' with interval='confidence', or leave both out",
            )
        estimates = self._estimates if conditional else ()
        found = predict_rows(
            self._prepared, self.fit, new_data, estimates, kind=kind, new_levels=new_levels,
            std_error=with_error,
        )  # fmt: skip
        if conditional and self._structured.layout.has_correlation:
            known = np.flatnonzero(np.isfinite(found.estimate))
            extra = predicted_residuals(
                self._structured, self._joint_objective(), self._psi, new_data, known
            )
            estimate = found.estimate.copy()
            estimate[known] += extra
            found = replace(found, estimate=estimate)
        bounds = None if interval is None else prediction_interval(found, interval, conf_level)
        frame = prediction_frame(found, new_data, bounds)
        if with_error:
            frame = frame.drop(columns="prediction_std_error")  # one variance for all rows is wrong
            frame.attrs["std_error"] = "std_error: uncertainty of the fixed effects only."
        return frame

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
