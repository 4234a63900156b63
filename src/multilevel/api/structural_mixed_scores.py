"""Scores of structural models with families or crossed clusters."""

from __future__ import annotations

from abc import ABC

import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.structural_scores import score_frame
from multilevel.errors import ModelError
from multilevel.estimate.structural_mixed import MixedFit
from multilevel.interpret.structural_mixed_scores import mixed_scores, score_levels
from multilevel.interpret.structural_scores import (
    ScoreColumn,
    ScoreMethod,
    ScoreReliability,
    score_reliability,
)


class MixedScoreMethods(ABC):
    """Methods that estimate what is not observed, unit by unit."""

    mixed: MixedFit

    def factor_scores(
        self, level: str | None = None, method: ScoreMethod = "regression"
    ) -> pd.DataFrame:
        """Scores with standard errors: latent variables, between parts, random slopes.

        The mean of each unknown given all data (by quadrature), or its most probable value
        (Laplace's approximation), with the estimates of the model taken as known. The between part
        of a binary, ordinal or count variable is on the scale of its link.

        Parameters
        ----------
        level : ``"within"``, ``"between"``, or the name of a cluster column where there are
            several; None for all.
        method : ``"regression"``, the only one here.

        Returns
        -------
        One line per unit and variable, columns as ``StructuralResult.factor_scores``.

        Raises
        ------
        ModelError : an unknown level, or Bartlett scores.
        InferenceError : nothing to score at the level.
        """
        columns = self._scored(level, method)
        out = pd.concat([score_frame(c) for c in columns], ignore_index=True)
        centre = "mode" if self.mixed.approximation.method == "Laplace" else "mean"
        out.attrs["sentence"] = (
            f"Regression scores: the {centre} of each unknown given all data, shrunk towards what"
            " the model predicts; std_error is the standard deviation of what is left unknown, with"
            " the estimates of the model taken as known. Between parts of variables that are not"
            " Gaussian are on the scale of their link."
        )
        return out

    def score_reliability(
        self, level: str | None = None, method: ScoreMethod = "regression"
    ) -> pd.DataFrame:
        """Reliability of the scores by variable and cluster size.

        Arguments and errors as ``factor_scores``; columns as
        ``StructuralResult.score_reliability``.
        """
        found = score_reliability(tuple(self._scored(level, method)))
        out = frame_of_records(found, ScoreReliability)
        out.attrs["sentence"] = (
            "Reliability is the share of the model-implied variance of the level that the score"
            " carries; a score of reliability .50 is half noise."
        )
        return out

    def _scored(self, level: str | None, method: str) -> tuple[ScoreColumn, ...]:
        if method != "regression":
            raise ModelError(
                "Models with families= or crossed clusters have regression scores.",
                f"method={method!r}",
                'write method="regression"',
            )
        clusters = self.mixed.layout.design.model.clusters
        known = ("within", *(("between",) if len(clusters) == 1 else clusters))
        if level is not None and level not in known:
            raise ModelError(
                f"level is one of {', '.join(map(repr, known))}, or None for all.",
                f"{level!r}",
                'write level="within"',
            )
        return mixed_scores(self.mixed, score_levels(self.mixed) if level is None else (level,))
