"""Model and table in, labelled arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from multilevel.design.random_scale import parameter_names, with_scale
from multilevel.design.rank import find_dependent
from multilevel.design.recipe import LearntCentring, Recipe
from multilevel.design.records import Design, RowReport
from multilevel.design.related import Related, without_membership
from multilevel.design.residual import residual_layout, scale_part
from multilevel.design.residual_checks import check_identified
from multilevel.design.rows import analysed_rows, read_weights
from multilevel.design.variables import (
    Positions,
    Source,
    Values,
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


@dataclass(frozen=True)
class Parts:
    """The compiled parts of a model, and the columns that they need."""

    response: Compiled
    fixed: Compiled
    offsets: tuple[Compiled, ...]
    random: tuple[Compiled, ...]
    second: Compiled | None = None  # of a response of two columns
    scale: Compiled | None = None
    random_scale: tuple[Compiled, ...] = ()

    @property
    def predictors(self) -> tuple[Compiled, ...]:
        """Every part but the response."""
        own = (self.fixed, *self.offsets, *self.random, *self.random_scale)
        return own if self.scale is None else (*own, self.scale)

    @property
    def all(self) -> tuple[Compiled, ...]:
        """Every part."""
        second = () if self.second is None else (self.second,)
        return (self.response, *second, *self.predictors)


@lru_cache(maxsize=256)
def compile_model(model: Model) -> Parts:
    """Compile the parts of a model, once per model.

    Raises
    ------
    FormulaError : a part that is not a formula.
    """
    first, second = (*model.response_parts, None, None)[:2]
    return Parts(
        compile_expression(first or model.response),
        compile_columns(model.fixed),
        tuple(compile_expression(text) for text in model.offsets),
        tuple(compile_columns(term.columns) for term in model.random),
        None if second is None else compile_expression(second),
        scale_part(model.scale),
        tuple(compile_columns(term.predictors) for term in model.random_scale),
    )


class Workshop:
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
    related: Related | None = None,
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
    related : known covariances of levels by grouping factor; ``{}`` allows ``mm()`` only, None
        neither.

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
    variables, groups = needed(model, parts)
    source.check([*variables, *groups], model.formula)
    source.check(list(source.levels), "levels=")
    all_weights, weights_lost = read_weights(weights, source)
    weights_name = weights if isinstance(weights, str) else "weights"
    lost = {} if weights_lost is None else {weights_name: weights_lost}
    lost |= without_membership(model, source)
    kept, missing = analysed_rows(source, variables, groups, lost)
    rows = RowReport(source.n_rows, np.arange(source.n_rows) if kept is None else kept, missing)
    final_weights = all_weights if all_weights is None or kept is None else all_weights[kept]
    workshop = Workshop(source, kept)
    y = _response(model, parts, workshop)
    return lay(
        model,
        y,
        workshop,
        rows,
        weights=final_weights,
        rank_deficient=rank_deficient,
        allow=allow,
        related=related,
    )


def lay(
    model: Model,
    y: Array,
    workshop: Workshop,
    rows: RowReport,
    *,
    weights: Array | None = None,
    rank_deficient: RankDeficient = "drop",
    allow: Sequence[str] = (),
    row_effects: bool = False,
    related: Related | None = None,
) -> Design:
    """Lay a model over rows that are chosen already, with a response that is read already.

    Parameters
    ----------
    y : (n,) response as numbers.
    workshop : the columns of the analysed rows.
    rows : which rows these are.
    weights : (n,) precision weights of the analysed rows, or None.
    row_effects : whether a grouping factor may have one row per group (families without a
        residual).
    rank_deficient, allow, related : see ``build_design``.
    """
    parts, source, kept = compile_model(model), workshop.source, workshop.kept
    X, fixed = learn_columns(parts.fixed, workshop.columns(parts.fixed), workshop.n, kept)
    report = find_dependent(X, fixed.names)
    dropped = {fixed.names[j]: why for j, why in report.dropped.items()}
    if rank_deficient == "refuse":
        _refuse_dropped(dropped)
    context = BlockContext(
        source, kept, workshop.n, workshop.columns, weights, check_allowed(allow), row_effects,
        related,
    )  # fmt: skip
    pairs = order_blocks([learn_block(terms, context) for terms in group_terms(model.random)])
    pairs = [with_scale(pair, model.random_scale, context) for pair in pairs]
    offset = _offset(parts.offsets, workshop)
    _check_size(workshop.n, len(report.kept))
    layout = None
    if model.has_structured_residual:
        layout = residual_layout(
            model.residual, model.scale, source, kept, workshop.n, workshop.columns,
            workshop.column, weights,
        )  # fmt: skip
        layout = replace(layout, random_scale=parameter_names([block for block, _ in pairs]))
        check_identified(model, layout, [block for block, _ in pairs])
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
        weights=weights,
        rows=rows,
        dropped_columns=dropped,
        recipe=recipe,
        residual=layout,
    )


def needed(model: Model, parts: Parts, response: bool = True) -> tuple[list[str], list[str]]:
    """Names of all variables (those of the response on request), and of all grouping columns."""
    variables: dict[str, None] = {}
    groups: dict[str, None] = {}
    for part in parts.all if response else parts.predictors:
        variables |= dict.fromkeys(name for _, name in part.columns)
        for _, call in part.centring:
            variables |= dict.fromkeys(name for _, name in call.columns)
            groups |= dict.fromkeys(call.factors)
    for term in model.random:
        own = () if term.membership is not None else term.factors
        groups |= dict.fromkeys((*own, *(() if term.by is None else (term.by,))))
    if model.residual is not None:
        variables |= dict.fromkeys(model.residual.variables)
        groups |= dict.fromkeys(model.residual.factors)
    return list(variables), list(groups)


def _refuse_dropped(dropped: Mapping[str, str]) -> None:
    """Refuse fixed-effect columns that repeat others."""
    if dropped:
        raise DesignError(
            "Every fixed-effect column must add something to the others.",
            "; ".join(dropped.values()),
            "leave these terms out, or write rank_deficient='drop'",
        )


def _check_size(n: int, p: int) -> None:
    """Refuse models with as many fixed effects as rows."""
    if n <= p:
        raise DesignError(
            "There must be more rows than fixed effects.",
            f"{n} rows for {p} fixed effects",
            "leave out predictors, or add data",
        )


def _response(model: Model, parts: Parts, workshop: Workshop) -> Array:
    """The response as numbers that vary."""
    compiled = parts.response
    if parts.second is not None:
        raise DesignError(
            "A Gaussian model has a response of one column.",
            model.response,
            'write family="binomial" for successes and failures, and family="gaussian" with '
            "interval(lower, upper) through fit()",
        )
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
            'write family="binomial" (two categories), "cumulative" (ordered) or "nominal"'
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


def _offset(offsets: Iterable[Compiled], workshop: Workshop) -> Array | None:
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
