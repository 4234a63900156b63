"""What a fitted generalized model says about rows: random effects, fitted values, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.generalized.holder import GeneralizedHolder
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.predict import (
    GeneralizedPrediction,
    NewLevels,
    PredictionKind,
    PredictionScale,
    names_of,
    predict_table,
)
from multilevel.interpret.generalized.random_effects import random_effects_rows
from multilevel.interpret.generalized.residuals import ResidualKind, fitted_values, residuals

Array = NDArray[np.float64]


class EvidenceHolder(GeneralizedHolder):
    """Holds the evidence that interpretation reads."""

    def _evidence(self) -> GeneralizedEvidence:
        return GeneralizedEvidence(self._prepared, self.fit, self._objective())


class PredictionMethods(EvidenceHolder):
    """Random effects, fitted values, residuals and predictions."""

    def random_effects(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Conditional modes of the random effects with their standard deviations given the data.

        Frame ``part, group, level, term, estimate, std_error, conf_low, conf_high`` on the link
        scale; ``attrs["sentence"]`` says what the errors hold.

        Examples
        --------
        >>> import multilevel as mlm
        >>> d = {"y": [0, 1, 1, 0, 1, 1, 0, 0], "g": [1, 1, 2, 2, 3, 3, 4, 4]}
        >>> m = mlm.fit("y ~ 1 + (1 | g)", d, family="binomial")
        >>> m.random_effects()[["group", "level", "term"]].values.tolist()[0]
        ['g', 1, '(Intercept)']
        """
        columns, sentence = random_effects_rows(self._evidence(), conf_level)
        out = pd.DataFrame(columns)
        out.attrs["sentence"], out.attrs["conf_level"] = sentence, conf_level
        return out

    def fitted(
        self, kind: PredictionKind = "conditional", scale: PredictionScale = "response"
    ) -> Array | pd.DataFrame:
        """Fitted values of the analysed rows: (n,), or a frame with a column for each category.

        Parameters
        ----------
        kind : ``"conditional"`` (with the estimated random effects), ``"population"`` (at zero)
            or ``"marginal"`` (averaged over them).
        scale : ``"response"`` or ``"link"``.
        """
        evidence = self._evidence()
        found = fitted_values(evidence, kind, scale)
        names = names_of(evidence, scale)
        if len(names) == 1 and names[0] == "":
            return np.asarray(found[0])
        return pd.DataFrame(found.T, columns=list(names))

    def residuals(
        self,
        kind: ResidualKind = "quantile",
        *,
        given: PredictionKind = "conditional",
        seed: int | np.random.Generator = 0,
    ) -> Array:
        """Residuals of the analysed rows, (n,).

        Parameters
        ----------
        kind : ``"quantile"`` (randomised; standard normal if the model holds, for every family),
            ``"pearson"``, ``"deviance"`` (scaled by the dispersion) or ``"response"``.
        given : expectations with the estimated random effects (``"conditional"``), with zero
            ones (``"population"``) or averaged over them (``"marginal"``).
        seed : of the randomisation of quantile residuals.

        Raises
        ------
        InferenceError : a kind that the family does not have; the message says which it has.
        """
        rng = np.random.default_rng(seed)
        return residuals(self._evidence(), kind, given, rng)

    def predict(
        self,
        new_data: Any,
        *,
        kind: PredictionKind = "conditional",
        scale: PredictionScale = "response",
        new_levels: NewLevels = "zero",
        std_error: bool = False,
        interval: bool = False,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Predict the rows of a new table.

        Parameters
        ----------
        new_data : table with the predictors (and, for ``"conditional"``, the group ids). Rows
            count as one trial and weight 1.
        kind : ``"conditional"`` adds the estimated random effects of the row's groups (zero for
            groups without data); ``"population"`` sets them to zero (a typical cluster);
            ``"marginal"`` averages over them (the population average). The three differ
            unless the link is the identity.
        scale : ``"response"`` (probabilities, one for each category; expected counts...),
            ``"link"``, or ``"zero"`` (probability of a zero, for responses that have them).
        new_levels : ``"error"`` refuses groups without data.
        std_error, interval, conf_level : add ``std_error`` and ``conf_low, conf_high`` (confidence
            intervals of the expected response, by the delta method on the logit scale for
            probabilities and on the log scale for positive responses).

        Returns
        -------
        Frame with ``estimate`` in the rows of ``new_data``; for categories one row for each row
        and category, with ``row, category``. NaN where a predictor is missing
        (``attrs["n_missing"]``); ``attrs["sentence"]`` says what is predicted.

        Raises
        ------
        InferenceError, DesignError, TableError : see the message.

        Examples
        --------
        >>> import multilevel as mlm
        >>> d = {"y": [0, 1, 1, 0, 1, 1, 0, 0], "g": [1, 1, 2, 2, 3, 3, 4, 4]}
        >>> m = mlm.fit("y ~ 1 + (1 | g)", d, family="binomial")
        >>> m.predict({"g": [1]}, kind="population")["estimate"].round(3).tolist()
        [0.5]
        """
        found = predict_table(
            self._evidence(), new_data, kind=kind, scale=scale, new_levels=new_levels,
            std_error=std_error, interval=interval, conf_level=conf_level,
        )  # fmt: skip
        return _prediction_frame(found, new_data)


def _prediction_frame(found: GeneralizedPrediction, data: Any) -> pd.DataFrame:
    """Predictions as a frame on the index of ``data``, or long over categories."""
    values = {
        "estimate": found.estimate,
        "std_error": found.std_error,
        "conf_low": found.conf_low,
        "conf_high": found.conf_high,
    }
    given = {name: value for name, value in values.items() if value is not None}
    index = data.index if isinstance(data, pd.DataFrame) else None
    if found.names == ("",):
        out = pd.DataFrame({name: value[0] for name, value in given.items()}, index=index)
    else:
        C, n = found.estimate.shape
        labels = np.arange(n) if index is None else index.to_numpy()
        columns: dict[str, Any] = {
            "row": np.repeat(labels, C),
            "category": list(found.names) * n,
        }
        columns |= {name: value.T.ravel() for name, value in given.items()}
        out = pd.DataFrame(columns)
    out.attrs["kind"], out.attrs["scale"] = found.kind, found.scale
    out.attrs["n_missing"], out.attrs["missing"] = found.n_missing, found.missing
    out.attrs["new_levels"] = found.new_levels
    out.attrs["sentence"] = found.sentence
    if found.std_error is not None:
        out.attrs["std_error"] = found.error_sentence
    return out
