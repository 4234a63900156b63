"""Model and table in, labelled arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.blocks import (
    BlockContext,
    check_allowed,
    group_terms,
    learn_block,
    order_blocks,
)
from multilevel.design.centring import learn_centring
from multilevel.design.encode import evaluate_number, learn_columns
from multilevel.design.rank import find_dependent
from multilevel.design.recipe import LearntCentring, Recipe
from multilevel.design.records import Design, RowReport
from multilevel.design.variables import (
    Positions,
    Source,
    Values,
    complete_rows,
    row_words,
    take,
)
from multilevel.errors import DesignError
from multilevel.model.formula.compile import Compiled, compile_columns, compile_expression
from multilevel.model.formula.names import CentringCall
from multilevel.model.specification import Model
from multilevel.tables.table import as_table

Array = NDArray[np.float64]
RankDeficient = Literal["drop", "refuse"]
_RANK_CHOICES = get_args(RankDeficient)
_WEIGHTS = "weights"


@dataclass(frozen=True)
class Parts:
    """The compiled parts of a model, and the columns that they need."""

    response: Compiled
    fixed: Compiled
    offsets: tuple[Compiled, ...]
    random: tuple[Compiled, ...]

    @property
    def all(self) -> tuple[Compiled, ...]:
        """Every part."""
        return (self.response, self.fixed, *self.offsets, *self.random)


@lru_cache(maxsize=256)
def compile_model(model: Model) -> Parts:
    """Compile the parts of a model, once per model.

    Raises
    ------
    FormulaError : a part that is not a formula.
    """
    return Parts(
        compile_expression(model.response),
        compile_columns(model.fixed),
        tuple(compile_expression(text) for text in model.offsets),
        tuple(compile_columns(term.columns) for term in model.random),
    )


class _Workshop:
    """Columns of the kept rows, and centred variables, each made once."""

    def __init__(self, source: Source, kept: Positions | None) -> None:
        self.source, self.kept = source, kept
        self.n = source.n_rows if kept is None else len(kept)
        self._columns: dict[str, Values] = {}
        self._centred: dict[CentringCall, tuple[Array, LearntCentring]] = {}

    def column(self, name: str) -> Values:
        """One column on the kept rows."""
        if name not in self._columns:
            self._columns[name] = take(self.source.values(name), self.kept)
        return self._columns[name]

    def columns(self, compiled: Compiled) -> dict[str, Values]:
        """Everything that one part needs, by identifier."""
        found: dict[str, Values] = {i: self.column(name) for i, name in compiled.columns}
        for identifier, call in compiled.centring:
            if call not in self._centred:
                self._centred[call] = learn_centring(call, self.source, self.kept)
            found[identifier] = self._centred[call][0]
        return found

    @property
    def centring(self) -> tuple[LearntCentring, ...]:
        """What the centring calls learnt, in order of use."""
        return tuple(learnt for _, learnt in self._centred.values())


def build_design(
    model: Model,
    data: Any,
    *,
    weights: str | Sequence[float] | NDArray[Any] | None = None,
    rank_deficient: RankDeficient = "drop",
    levels: Mapping[str, Sequence[Any]] | None = None,
    allow: Sequence[str] = (),
) -> Design:
    """Lay a model over a table.

    A row is analysed if every variable of the model (and its group, and its weight) is there.
    Text, categories and True/False become 0/1 columns ``name[category]`` against the first
    category; whole numbers are numbers unless written ``C(x)``. Centring calls learn their means
    on the analysed rows (``rows="all"``: on all rows that have variable and group).

    Parameters
    ----------
    model : from ``parse_formula``.
    data : a Table, or any data frame or dict of columns that ``as_table`` takes; n_table rows.
    weights : precision weights (the residual variance of a row is ``sigma2 / weight``): a column
        name, or n_table positive numbers.
    rank_deficient : ``"drop"`` leaves out fixed-effect columns that are combinations of earlier
        ones (and says why in ``dropped_columns``); ``"refuse"`` raises.
    levels : ``{variable: categories in order}``, the first is the reference.
    allow : refusals that are lifted: ``"random_slope_of_cluster_predictor"``.

    Returns
    -------
    Design : y (n,), X (n, p), one block for each grouping factor, offset, weights.

    Raises
    ------
    DesignError : unknown columns, infinite values, no rows left, a response that is not numeric,
        random effects that cannot be identified, X without full rank under ``"refuse"``.
    TableError : data that is not a table.
    """
    if rank_deficient not in _RANK_CHOICES:
        raise DesignError(
            "rank_deficient must be 'drop' or 'refuse'.",
            f"rank_deficient={rank_deficient!r}",
            "write rank_deficient='drop'",
        )
    parts = compile_model(model)
    source = Source(as_table(data), levels)
    variables, groups = _needed(model, parts)
    source.check([*variables, *groups], model.formula)
    source.check(list(source.levels), "levels=")
    all_weights, weights_lost = _read_weights(weights, source)
    weights_name = weights if isinstance(weights, str) else _WEIGHTS
    kept, missing = _analysed_rows(source, variables, groups, weights_lost, weights_name)
    workshop = _Workshop(source, kept)
    y = _response(parts.response, workshop)
    X, fixed = learn_columns(parts.fixed, workshop.columns(parts.fixed), workshop.n, kept)
    final_weights = all_weights if all_weights is None or kept is None else all_weights[kept]
    report = find_dependent(X, fixed.names)
    dropped = {fixed.names[j]: why for j, why in report.dropped.items()}
    if rank_deficient == "refuse":
        _refuse_dropped(dropped)
    context = BlockContext(
        source, kept, workshop.n, workshop.columns, final_weights, check_allowed(allow)
    )
    pairs = order_blocks([learn_block(terms, context) for terms in group_terms(model.random)])
    offset = _offset(parts.offsets, workshop)
    _check_size(workshop.n, len(report.kept))
    recipe = Recipe(
        response=parts.response,
        fixed=fixed,
        kept_columns=report.kept,
        blocks=tuple(learnt for _, learnt in pairs),
        offsets=parts.offsets,
        centring=workshop.centring,
        kinds=_kinds(parts, source),
        levels=source.levels,
    )
    return Design(
        model=model,
        y=y,
        X=X if not dropped else np.asfortranarray(X[:, list(report.kept)]),
        names=tuple(fixed.names[j] for j in report.kept),
        blocks=tuple(block for block, _ in pairs),
        offset=offset,
        weights=final_weights,
        rows=RowReport(source.n_rows, np.arange(source.n_rows) if kept is None else kept, missing),
        dropped_columns=dropped,
        recipe=recipe,
    )


def _needed(model: Model, parts: Parts) -> tuple[list[str], list[str]]:
    """Names of all variables, and of all grouping columns."""
    variables: dict[str, None] = {}
    groups: dict[str, None] = {}
    for part in parts.all:
        variables |= dict.fromkeys(name for _, name in part.columns)
        for _, call in part.centring:
            variables |= dict.fromkeys(name for _, name in call.columns)
            groups |= dict.fromkeys(call.factors)
    for term in model.random:
        groups |= dict.fromkeys(term.factors)
    return list(variables), list(groups)


def _read_weights(
    weights: str | Sequence[float] | NDArray[Any] | None, source: Source
) -> tuple[Array | None, NDArray[np.bool_] | None]:
    """Precision weights of all rows, and which are missing (None if none is)."""
    if weights is None:
        return None, None
    if isinstance(weights, str):
        source.check([weights], "weights")
        found = source.values(weights)
    else:
        found = np.asarray(weights)
    where = f"column {weights!r}" if isinstance(weights, str) else "weights"
    if isinstance(found, pd.Categorical) or found.dtype.kind not in "iuf":
        raise DesignError("Weights must be numbers.", where, "give positive numbers")
    if found.shape != (source.n_rows,):
        raise DesignError(
            "There must be one weight for each row of the table.",
            f"shape {found.shape} for {source.n_rows} rows",
            "give the weights as a column of the table",
        )
    values = found.astype(np.float64, copy=False)
    bad = np.flatnonzero(~((values > 0.0) & np.isfinite(values)) & ~np.isnan(values))
    if len(bad):
        raise DesignError(
            "Precision weights must be positive and finite.",
            f"{where}: {values[bad[0]]:g} in {row_words(bad)}",
            "leave rows of weight 0 out of the table",
        )
    lost = np.isnan(values)
    return values, (lost if lost.any() else None)


def _analysed_rows(
    source: Source,
    variables: Sequence[str],
    groups: Sequence[str],
    weights_lost: NDArray[np.bool_] | None,
    weights_name: str,
) -> tuple[Positions | None, dict[str, int]]:
    """Positions of the complete rows (None: all), and what each variable cost."""
    kept, missing = complete_rows(source, variables, groups)
    if weights_lost is not None:
        missing[weights_name] = int(weights_lost.sum())
        whole = np.ones(source.n_rows, dtype=bool) if kept is None else _flags(kept, source.n_rows)
        kept = np.flatnonzero(whole & ~weights_lost)
    _check_rows(source.n_rows if kept is None else len(kept), source.n_rows, missing)
    return kept, missing


def _refuse_dropped(dropped: Mapping[str, str]) -> None:
    """Refuse fixed-effect columns that repeat others."""
    if dropped:
        raise DesignError(
            "Every fixed-effect column must add something to the others.",
            "; ".join(dropped.values()),
            "leave these terms out, or write rank_deficient='drop'",
        )


def _flags(kept: Positions, n: int) -> NDArray[np.bool_]:
    """Positions as a mask."""
    flags = np.zeros(n, dtype=bool)
    flags[kept] = True
    return flags


def _check_rows(n: int, n_table: int, missing: Mapping[str, int]) -> None:
    """Refuse a table without analysable rows."""
    if n:
        return
    counts = ", ".join(f"{name} in {count}" for name, count in missing.items())
    raise DesignError(
        "At least one row must have every variable of the model.",
        f"none of {n_table} rows has" + (f"; missing: {counts}" if counts else ""),
        "leave out the variables that are missing most",
    )


def _check_size(n: int, p: int) -> None:
    """Refuse models with as many fixed effects as rows."""
    if n <= p:
        raise DesignError(
            "There must be more rows than fixed effects.",
            f"{n} rows for {p} fixed effects",
            "leave out predictors, or add data",
        )


def _response(compiled: Compiled, workshop: _Workshop) -> Array:
    """The response as numbers that vary."""
    shown = dict(compiled.display).get(compiled.text, compiled.text)
    columns = workshop.columns(compiled)
    bare = columns.get(compiled.text)
    is_flag = isinstance(bare, np.ndarray) and bare.dtype.kind == "b"
    if isinstance(bare, pd.Categorical) or is_flag:
        examples = bare.categories if isinstance(bare, pd.Categorical) else [False, True]
        listed = ", ".join(map(str, list(examples)[:5]))
        raise DesignError(
            "The response of this model must be a number.",
            f"{shown} has the categories {listed}",
            "categories need a binary, ordinal or nominal family, and this model is Gaussian"
            + (f"; to model the share of True, write I({shown})" if is_flag else ""),
        )
    y = evaluate_number(compiled, columns, workshop.n, workshop.kept)
    if workshop.n > 1 and y.min() == y.max():
        raise DesignError(
            "The response must vary.",
            f"{shown} is {y[0]:g} in all {workshop.n} analysed rows",
            "check the column",
        )
    return y


def _offset(offsets: Iterable[Compiled], workshop: _Workshop) -> Array | None:
    """Sum of the offsets, or None."""
    total: Array | None = None
    for compiled in offsets:
        values = evaluate_number(compiled, workshop.columns(compiled), workshop.n, workshop.kept)
        total = values if total is None else total + values
    return total


def _kinds(parts: Parts, source: Source) -> dict[str, str]:
    """Whether each variable is a number or categories."""
    return {
        name: "category" if isinstance(source.values(name), pd.Categorical) else "number"
        for part in parts.all
        for name in _value_names(part)
    }


def _value_names(part: Compiled) -> list[str]:
    """Columns whose values (not only groups) a part uses."""
    names = [name for _, name in part.columns]
    for _, call in part.centring:
        names += [name for _, name in call.columns]
    return names
