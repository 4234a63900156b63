"""The door: a formula and a table in, a fitted model out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from multilevel.api.result import MultilevelFit, require_certified
from multilevel.design.blocks import check_allowed
from multilevel.design.build import RankDeficient, build_design
from multilevel.errors import DataWarning
from multilevel.estimate.choose import EngineName
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.model.formula.parse import parse_formula
from multilevel.model.specification import Method, check_method
from multilevel.report.facts import labels_of
from multilevel.tables.table import as_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def fit(
    formula: str,
    data: Any,
    *,
    method: Method = "reml",
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
) -> MultilevelFit:
    """Fit a general (conditionally normal) multilevel model.

    Parameters
    ----------
    formula : the model, e.g. ``"mathach ~ ses + (ses | school)"``: the response, the model for
        the means, and the random terms ``(effects | group)`` of the model for the variance.
    data : a pandas or Polars data frame, a PyArrow table, a dict of columns, or a ``Table`` from
        ``multilevel.read`` (its variable labels are shown in the summary). Rows that miss a
        variable of the model are left out and counted.
    method : ``"reml"`` (default) or ``"ml"``. Models with different fixed effects may be compared
        by their likelihood under ``"ml"`` only.
    weights : precision weights: a column name or one positive number per row of the table. The
        residual variance of a row is ``residual_variance / weight``. Not sampling weights.
    engine : name of the algorithm; None chooses the cheapest by size and nesting.
    rank_deficient : ``"drop"`` leaves out fixed-effect columns that repeat others, with a
        warning; ``"refuse"`` raises an error.
    advice : whether the summary ends with advice on likely mistakes (``fit.advice`` always works).
    allow : names of mistakes that are refused unless they are meant:
        ``"random_slope_of_cluster_predictor"`` lets the variance of a group depend on one of its
        variables; ``"not_certified"`` returns estimates that are not shown to be the optimum,
        with a warning.

    Returns
    -------
    MultilevelFit : prints as a summary.

    Raises
    ------
    FormulaError, ModelError : a formula or an option that is not understood or not supported.
    TableError, DesignError : data that is not a table, or does not hold what the formula needs.
    EstimationError, LikelihoodError : a model that cannot be estimated from these rows, or
        estimates that are not shown to be the optimum.

    Warns
    -----
    ConvergenceWarning : the estimates are not shown to be the optimum, and that was allowed.
    DataWarning : fixed-effect columns were left out.

    Examples
    --------
    >>> import multilevel as mlm
    >>> result = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
    >>> result.n, result.groups
    (7185, {'school': 160})
    >>> result.fixed_effects.round(2).to_dict()
    {'(Intercept)': 12.66, 'ses': 2.39}
    """
    clock = [time.perf_counter()]
    model = parse_formula(formula, check_method(method))
    clock.append(time.perf_counter())
    table = as_table(data)
    design = build_design(model, table, weights=weights, rank_deficient=rank_deficient, allow=allow)
    clock.append(time.perf_counter())
    prepared = prepare(design, method=model.method, engine=engine)
    clock.append(time.perf_counter())
    solved = solve(prepared)
    clock.append(time.perf_counter())
    stages = ("formula", "design", "cross-products", "estimation")
    seconds = {name: clock[i + 1] - clock[i] for i, name in enumerate(stages)}
    solved = replace(solved, seconds=seconds)
    if design.dropped_columns:
        warnings.warn(
            f"{len(design.dropped_columns)} fixed-effect column(s) left out because they repeat "
            "others: " + "; ".join(design.dropped_columns.values()),
            DataWarning,
            stacklevel=2,
        )
    allowed = check_allowed(allow)
    require_certified(solved, allowed, stacklevel=3)
    return MultilevelFit(
        prepared, solved, labels=labels_of(table), shows_advice=advice, allow=allowed
    )
