"""Fits for the Python package ``marginaleffects``: slopes, comparisons, predictions, hypotheses.

Its interface, as of version 0.6.0: an object of a subclass of ``ModelAbstract`` with the estimates,
their covariance, the data and a prediction for any estimates. Here a prediction is the fixed part
(random effects of zero). The class is made when it is first asked for: the package is optional.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multilevel.api.result import MultilevelFit
from multilevel.design.replay import replay
from multilevel.errors import InferenceError
from multilevel.infer.robust import RobustType
from multilevel.report.packages import require
from multilevel.tables.table import Table, as_table

if TYPE_CHECKING:
    from multilevel.design.recipe import Recipe

_ROBUST = ("CR0", "CR1", "CR1S", "CR2", "CR3")


def for_marginaleffects(result: MultilevelFit, data: Any, *, df: float | None = None) -> Any:
    """Hand a fit over to the package ``marginaleffects``.

    ``marginaleffects.avg_slopes(for_marginaleffects(m, data))``, and likewise ``slopes``,
    ``predictions``, ``comparisons``, their averages and ``hypotheses``. Its ``vcov=`` may be True
    (model-based), one of ``"CR0"`` to ``"CR3"`` (cluster-robust, see ``vcov_robust``), a matrix or
    False. Install it with ``pip install "multilevel[marginaleffects]"``.

    Parameters
    ----------
    result : a fit of a general (normal) model.
    data : the table that it was fitted to.
    df : one number of degrees of freedom for all tests; None gives z tests. (The package cannot
        take degrees of freedom that differ between estimates; ``result.slopes`` and
        ``result.comparisons`` have them.)

    Returns
    -------
    An object that its functions take as their model. Predictions are those of the fixed part:
    random effects of zero, cluster means of ``within`` and ``between`` as learnt from the data.

    Raises
    ------
    InferenceError : a fit with an offset, or of another kind; another table; a df that is not
        positive.
    MissingPackageError : marginaleffects is not installed.
    """
    require("marginaleffects", "Adapters")
    if not isinstance(result, MultilevelFit):
        raise InferenceError(
            "The adapter takes fits of general (normal) models.",
            f"a {type(result).__name__}",
            "pass what multilevel.fit(...) returns without family=",
        )
    if result.design.offset is not None:
        raise InferenceError(
            "marginaleffects takes predictions that are linear in the estimates only.",
            "a model with an offset",
            "use slopes(), comparisons() and predict() of the fit",
        )
    if df is not None and not df > 0:
        raise InferenceError("df must be a positive number.", f"df={df}", "leave it out")
    return _adapter()(result, _model_data(result, as_table(data)), df)


def _predictors(recipe: Recipe) -> list[str]:
    """Variables of the fixed part, in the order of the formula; ids of centring calls are not."""
    compiled = recipe.fixed.compiled
    names = dict.fromkeys(name for _, name in compiled.columns)
    for _, call in compiled.centring:
        names |= dict.fromkeys(name for _, name in call.columns)
    return list(names)


def _model_data(result: MultilevelFit, table: Table) -> pd.DataFrame:
    """The analysed rows of every variable and id of the model; text as categories."""
    design = result.design
    if table.n_rows != design.rows.n_table:
        raise InferenceError(
            "data must be the table that the model was fitted to.",
            f"{table.n_rows} rows, the model had {design.rows.n_table}",
            "pass that table",
        )
    recipe: Recipe = design.recipe
    names = dict.fromkeys(name for _, name in recipe.response.columns)
    names |= dict.fromkeys(_predictors(recipe)) | dict.fromkeys(recipe.kinds)
    names |= dict.fromkeys(f for block in recipe.blocks for f in block.factors)
    names |= dict.fromkeys(f for learnt in recipe.centring for f in learnt.call.factors)
    table.check(list(names))
    rows = design.rows.kept
    frame = pd.DataFrame({name: table.series(name).to_numpy()[rows] for name in names})
    if not np.array_equal(replay(design, frame, groups="ignore").X, design.X):
        raise InferenceError(
            "data must be the table that the model was fitted to.",
            "its rows give other fixed-effect columns than the model's",
            "pass that table, in its order of rows",
        )
    return frame


def _polars(frame: pd.DataFrame) -> Any:
    """Numbers as numbers, everything else as categories, which the package asks for."""
    import polars as pl

    columns = {}
    for name in frame.columns:
        values = frame[name]
        if values.dtype.kind in "fiub":
            columns[name] = pl.Series(values.to_numpy())
            continue
        text = [str(value) for value in values]
        columns[name] = pl.Series(text, dtype=pl.Enum(sorted(set(text))))
    return pl.DataFrame(columns)


@cache
def _adapter() -> Any:
    """The subclass of the package's model class, made once."""
    import polars as pl
    from marginaleffects.classes import ModelAbstract, ModelVault

    class MultilevelModel(ModelAbstract):  # type: ignore[misc]
        """A fit as the package's functions take it."""

        def __init__(self, result: MultilevelFit, frame: pd.DataFrame, df: float | None) -> None:
            if df is not None:
                self.df_resid = float(df)
            predictors = _predictors(result.design.recipe)
            vault = ModelVault(
                coef=result.fit.beta.copy(),
                coefnames=np.array(result.design.names),
                # a function, so that the package does not read our formula as its own
                formula=self.get_exog,
                modeldata=_polars(frame),
                package="multilevel",
                variable_names=[frame.columns[0], *predictors],
            )
            super().__init__(result, vault)

        def get_vcov(self, vcov: Any = True) -> Any:
            """Covariance of the fixed effects: model-based or cluster-robust."""
            if vcov is False or vcov is None:
                return None
            if vcov is True:
                return self.model.fit.vcov_beta.copy()
            if vcov in _ROBUST:
                robust: RobustType = vcov
                return self.model.vcov_robust(robust).to_numpy()
            raise InferenceError(
                f"vcov must be True, False, a matrix, or one of {', '.join(_ROBUST)}.",
                f"vcov={vcov!r}",
                'write vcov=True or vcov="CR2"',
            )

        def get_exog(self, newdata: Any) -> Any:
            """Fixed-effect columns (m, p) of new rows, all of which must be complete."""
            rows = replay(self.model.design, newdata, groups="ignore")
            if rows.n < rows.rows.n_table:
                raise InferenceError(
                    "Every row of newdata needs every predictor.",
                    ", ".join(f"{name} missing in {n}" for name, n in rows.rows.missing.items()),
                    "leave these rows out",
                )
            return rows.X

        def get_predict(self, params: Any, newdata: Any) -> Any:
            """Expected outcome (m,) of design rows at any estimates."""
            estimate = np.asarray(newdata) @ np.asarray(params)
            rowid = pl.Series(range(len(estimate)), dtype=pl.Int32)
            return pl.DataFrame({"rowid": rowid, "estimate": estimate})

    return MultilevelModel
