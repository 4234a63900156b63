"""What a fitted model says about rows: fitted values, residuals, predictions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import prediction_frame
from multilevel.api.holder import FitHolder
from multilevel.estimate.posterior import BlockEffects
from multilevel.estimate.posterior import random_effects as estimate_random_effects
from multilevel.interpret.fitted import FittedKind, ResidualKind, fitted_values, residuals
from multilevel.interpret.predict import (
    IntervalKind,
    NewLevels,
    PredictionKind,
    check_interval,
    predict_rows,
    prediction_interval,
)

Array = NDArray[np.float64]


class RowMethods(FitHolder):
    """Fitted values, residuals and predictions."""

    @cached_property
    def _effects(self) -> tuple[BlockEffects, ...]:
        return estimate_random_effects(self._prepared, self.fit)

    @property
    def _estimates(self) -> tuple[Array, ...]:
        return tuple(effect.estimates for effect in self._effects)

    def fitted(self, kind: FittedKind = "conditional") -> Array:
        """Fitted values of the analysed rows, (n,), offset included.

        ``"conditional"`` adds the estimated random effects; ``"population"`` sets them to zero;
        ``"marginal"`` averages over them (the same number for the identity link).
        """
        estimates = self._estimates if kind == "conditional" else ()
        return fitted_values(self.design, self.fit, estimates, kind)

    def residuals(self, kind: ResidualKind = "conditional") -> Array:
        """Residuals of the analysed rows, (n,).

        ``"conditional"`` is ``y - fitted("conditional")``; ``"marginal"`` is ``y`` minus the
        fixed part; ``"standardised"`` is conditional over ``sigma / sqrt(weight)``.
        """
        estimates = () if kind == "marginal" else self._estimates
        return residuals(self.design, self.fit, estimates, kind)

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
        """Predict the response for the rows of a new table.

        Parameters
        ----------
        new_data : table with the predictors (and, for ``"conditional"``, the group ids).
        kind : ``"conditional"`` adds the random effects of the row's groups; ``"population"``
            sets them to zero; ``"marginal"`` averages over them (same mean, identity link).
        new_levels : for ``"conditional"``: ``"zero"`` gives groups without data random effects
            of zero, their best prediction; ``"error"`` refuses them.
        std_error : adds ``std_error`` (of the mean) and ``prediction_std_error`` (of one new
            observation of weight 1); ``attrs["std_error"]`` says what each includes.
        interval : adds ``conf_low, conf_high``: ``"confidence"`` for the mean (``std_error``) or
            ``"prediction"`` for one new observation of weight 1 (``prediction_std_error``).
            Normal quantiles, variances taken as known; ``attrs["interval"]`` says so.
        conf_level : of the interval.

        Returns
        -------
        Frame with ``estimate``, one row per row of ``new_data``; NaN where a predictor is missing
        (``attrs["n_missing"]``). ``attrs["new_levels"]`` lists the groups without data.

        Raises
        ------
        InferenceError, DesignError, TableError : see the message.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> new = {"ses": [0.0, 1.0]}
        >>> m.predict(new, kind="marginal", interval="confidence")["conf_low"].round(1).tolist()
        [12.3, 14.6]
        """
        check_interval(interval, conf_level)
        estimates = self._estimates if kind == "conditional" else ()
        prediction = predict_rows(
            self._prepared,
            self.fit,
            new_data,
            estimates,
            kind=kind,
            new_levels=new_levels,
            std_error=std_error or interval is not None,
        )
        bounds = None if interval is None else prediction_interval(prediction, interval, conf_level)
        return prediction_frame(prediction, new_data, bounds)
