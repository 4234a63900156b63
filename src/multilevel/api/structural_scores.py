"""Scores of structural models: latent variables, between parts and random slopes of each unit."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.errors import ModelError
from multilevel.interpret.structural_scores import (
    SCORE_METHODS,
    ScoreColumn,
    ScoreMethod,
    ScoreReliability,
    factor_scores,
    score_reliability,
)
from multilevel.model.structural.records import Level, StructuralModel

if TYPE_CHECKING:
    from multilevel.estimate.structural import StructuralFit, StructuralProblem

_SENTENCES = {
    "regression": (
        "Regression scores: the mean of each unknown given all data of its cluster, shrunk towards"
        " what the model predicts; std_error is the standard deviation of what is left unknown,"
        " with the estimates of the model taken as known."
    ),
    "bartlett": (
        "Bartlett scores: the latent variables of each unit as fixed unknowns, not shrunk;"
        " std_error is their standard error, with the estimates of the model taken as known."
    ),
}


class StructuralScoreMethods(ABC):
    """Methods that estimate what is not observed, unit by unit."""

    problem: StructuralProblem
    fit: StructuralFit

    def factor_scores(
        self, level: Level | None = None, method: ScoreMethod = "regression"
    ) -> pd.DataFrame:
        """Scores with standard errors: latent variables, latent cluster means, random slopes.

        Parameters
        ----------
        level : ``"within"`` (latent variables of each row, given its whole cluster), ``"between"``
            (latent variables, between parts of the variables on both levels, and random slopes of
            each cluster), or None for all. With three levels ``"within"`` or the name of the
            cluster column; the parts and slopes of a class are then deviations from those of its
            school, whose own include the mean.
        method : ``"regression"`` (posterior mean, shrunk) or ``"bartlett"`` (latent variables with
            indicators only; unbiased given the latent variable, not shrunk).

        Returns
        -------
        One line per unit and variable. Columns: ``level, group, cluster, row`` (position in the
        table, from 0; missing above level 1), ``variable, kind`` (latent variable, between
        part, random slope), ``estimate, std_error, reliability``. Missing values and clusters of
        any size are taken as they are. ``attrs["sentence"]`` says what the numbers are.

        Raises
        ------
        ModelError : an unknown level or method.
        InferenceError : nothing to score at the level, or Bartlett scores that do not exist.

        Examples
        --------
        >>> import multilevel as mlm
        >>> text = "level: 1; mathach ~ ses; level: 2; mathach ~ sector"
        >>> result = mlm.sem(text, mlm.load_hsb(), cluster="school")
        >>> scores = result.factor_scores("between")
        >>> scores[["variable", "kind"]].iloc[0].tolist(), len(scores)
        (['mathach', 'between part'], 160)
        """
        columns = factor_scores(self.problem, self.fit, *_checked(self.fit.model, level, method))
        parts = [score_frame(c) for c in columns]
        out = pd.concat(parts, ignore_index=True)
        out.attrs["sentence"] = _SENTENCES[method]
        return out

    def score_reliability(
        self, level: Level | None = None, method: ScoreMethod = "regression"
    ) -> pd.DataFrame:
        """Reliability of the scores by variable and cluster size.

        The squared correlation of score and true value, if the model holds: the share of the
        variance of the level that the score carries. Arguments and errors as ``factor_scores``.

        Columns: ``level, group, variable, cluster_size`` (rows used), ``n_clusters, reliability``
        (average over the units), ``lowest, highest``.
        """
        columns = factor_scores(self.problem, self.fit, *_checked(self.fit.model, level, method))
        out = frame_of_records(score_reliability(columns), ScoreReliability)
        out.attrs["sentence"] = (
            "Reliability is the share of the model-implied variance of the level that the score"
            " carries; a score of reliability .50 is half noise."
        )
        return out


def _checked(
    model: StructuralModel, level: str | None, method: str
) -> tuple[tuple[Level, ...], ScoreMethod]:
    """The levels and the method asked for."""
    titles = {model.level_name(one): one for one in model.levels}
    if level is not None and level not in titles:
        raise ModelError(
            f"level is one of {', '.join(map(repr, titles))}, or None for all.", f"{level!r}",
            'write level="within"',
        )  # fmt: skip
    chosen = tuple(one for title, one in titles.items() if level in (None, title))
    for known in get_args(ScoreMethod):
        if method == known:
            return chosen, known
    raise ModelError(
        f"method is one of {', '.join(map(repr, SCORE_METHODS))}.", f"{method!r}",
        'write method="regression"',
    )  # fmt: skip


def score_frame(c: ScoreColumn) -> pd.DataFrame:
    """One variable as lines of a table."""
    rows = pd.array(c.rows, dtype="Int64")
    rows[np.flatnonzero(c.rows < 0)] = pd.NA
    return pd.DataFrame(
        {
            "level": c.level,
            "group": c.group,
            "cluster": c.clusters,
            "row": rows,
            "variable": c.variable,
            "kind": c.kind,
            "estimate": c.estimate,
            "std_error": c.std_error,
            "reliability": c.reliability,
        }
    )
