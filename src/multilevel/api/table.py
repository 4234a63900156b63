"""Models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.errors import InferenceError
from multilevel.report.generalized.column import GeneralizedColumn
from multilevel.report.model_column import Column, ModelColumn
from multilevel.report.model_table import ModelTable, TableFormat, model_table

if TYPE_CHECKING:
    from multilevel.api.result import MultilevelFit


def table(
    models: Sequence[MultilevelFit | GeneralizedMultilevelFit],
    *,
    names: Sequence[str] | None = None,
    format: TableFormat = "text",
    path: str | Path | None = None,
) -> ModelTable:
    """Lay fitted models out side by side, as journals print them.

    The two sides of each model are labelled (means, variance); standard errors stand in
    parentheses under the fixed effects; then criterion, AIC, BIC, rows and levels; notes say what
    may not be compared.

    Parameters
    ----------
    models : fitted models of any family, in the order of the columns.
    names : one title per model; ``model 1``, ``model 2`` ... if not given.
    format : what printing gives: ``"text"``, ``"html"``, ``"latex"``, ``"markdown"``;
        ``"docx"`` needs ``path``.
    path : file to write as well; its suffix (.txt .html .tex .md .docx) says how.

    Returns
    -------
    ModelTable : prints in the chosen format; ``.save("table.docx")`` writes it.

    Raises
    ------
    InferenceError : no model, titles that repeat or do not match, an unknown format or suffix.
    MissingPackageError : Word is asked for and python-docx is not installed.

    Examples
    --------
    >>> import multilevel as mlm
    >>> hsb = mlm.load_hsb()
    >>> empty = mlm.fit("mathach ~ 1 + (1 | school)", hsb)
    >>> with_ses = mlm.fit("mathach ~ ses + (1 | school)", hsb)
    >>> both = mlm.table([empty, with_ses], names=["empty", "ses"])
    >>> both.grid.rows[1]
    ('  (Intercept)', '12.637', '12.657')
    """
    titles = [f"model {k}" for k in range(1, len(models) + 1)] if names is None else list(names)
    if len(titles) != len(models):
        raise InferenceError(
            "A table needs one title per model.",
            f"{len(titles)} names for {len(models)} models",
            "pass as many names as models",
        )
    if format == "docx" and path is None:
        raise InferenceError(
            "A Word table is a file.", "format='docx' without a path", "pass path='table.docx'"
        )
    columns = [_column(title, model) for title, model in zip(titles, models, strict=True)]
    made = model_table(columns, format)
    if path is not None:
        made.save(path)
    return made


def _column(title: str, model: MultilevelFit | GeneralizedMultilevelFit) -> Column:
    if isinstance(model, GeneralizedMultilevelFit):
        return GeneralizedColumn(title, model.fit, model.design)
    return ModelColumn(title, model.fit, model.design, model.coefficients(df="none"))
