"""New rows through a design that has learnt its encodings, means and levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.by_groups import columns_by
from multilevel.design.centring import match_levels, replay_centring
from multilevel.design.encode import evaluate_number, replay_columns
from multilevel.design.new_occasions import NewOccasions, without_new
from multilevel.design.recipe import LearntBlock, LearntCentring, LearntColumns, Recipe
from multilevel.design.records import Design, RandomBlock, RowReport
from multilevel.design.related import Memberships, main_codes, read_memberships
from multilevel.design.variables import Positions, Source, Values, complete_rows, take
from multilevel.errors import DesignError
from multilevel.model.formula.compile import Compiled
from multilevel.model.formula.names import CentringCall
from multilevel.tables.table import as_table

Array = NDArray[np.float64]
Groups = Literal["match", "ignore"]
_GROUP_CHOICES = get_args(Groups)


@dataclass(frozen=True)
class NewBlock:
    """One grouping factor on new rows.

    Attributes
    ----------
    group : label of the factor.
    codes : (n,) int32, level of each row among the levels of the design; -1 for a level that the
        design does not have, and for a missing one.
    columns : (n, q) random-effect columns, in the order of the design's block.
    new_levels : labels that the design does not have.
    memberships : several levels per row; ``codes`` holds that of the largest weight.
    scale_columns : (n, a) predictors of the log standard deviations of the effects; None without.
    occasions : rows at times that a structure in time has not seen, whose columns are zero.
    """

    group: str
    codes: NDArray[np.int32]
    columns: Array
    new_levels: tuple[Any, ...]
    memberships: Memberships | None = None
    scale_columns: Array | None = None
    occasions: tuple[NewOccasions, ...] = ()


@dataclass(frozen=True)
class NewRows:
    """New rows as arrays; only rows that have every predictor are in the arrays.

    Attributes
    ----------
    X : (n, p) in the order of ``Design.names``.
    blocks : one for each block of the design, same order.
    offset : (n,) or None.
    y : (n,) if asked for, else None.
    rows : ``kept`` says which rows of the new table the arrays hold, ``missing`` why others are
        not there.
    new_groups : ``{centring call: groups whose mean was not learnt}``; for these the mean of
        their own new rows was used.
    """

    X: Array
    blocks: tuple[NewBlock, ...]
    offset: Array | None
    y: Array | None
    rows: RowReport
    new_groups: dict[str, tuple[Any, ...]]

    @property
    def n(self) -> int:
        """Number of rows in the arrays."""
        return int(self.X.shape[0])


class _Replayer:
    """Columns of new rows and replayed centring, each made once."""

    def __init__(self, source: Source, kept: Positions | None, recipe: Recipe) -> None:
        self.source, self.kept = source, kept
        self.n = source.n_rows if kept is None else len(kept)
        self.new_groups: dict[str, tuple[Any, ...]] = {}
        self._learnt: dict[CentringCall, LearntCentring] = {c.call: c for c in recipe.centring}
        self._centred: dict[CentringCall, Array] = {}

    def columns(self, compiled: Compiled) -> dict[str, Values]:
        """Everything that one part needs, by identifier."""
        found = {i: take(self.source.values(name), self.kept) for i, name in compiled.columns}
        for identifier, call in compiled.centring:
            if call not in self._centred:
                values, new = replay_centring(self._learnt[call], self.source, self.kept)
                self._centred[call] = values
                if new:
                    self.new_groups[call.text] = new
            found[identifier] = self._centred[call]
        return found

    def matrix(self, learnt: LearntColumns, found: dict[str, Values] | None = None) -> Array:
        """Columns of one sum of terms, of its variables ``found`` if not of the table's."""
        if self.n == 0:
            return np.empty((0, len(learnt.names)), order="F")
        values = self.columns(learnt.compiled) if found is None else found
        return replay_columns(learnt, values, self.n, self.kept)

    def number(self, compiled: Compiled) -> Array:
        """Values of one expression."""
        if self.n == 0:
            return np.empty(0)
        return evaluate_number(compiled, self.columns(compiled), self.n, self.kept)


def replay(
    design: Design,
    data: Any,
    response: bool = False,
    groups: Groups = "match",
    new_occasions: bool = False,
) -> NewRows:
    """Lay the design's recipe over a new table: same columns, same coding, same means.

    Rows that miss a predictor (or the response, where it is asked for) are left out and counted
    in ``rows``. A missing or unknown group keeps its row, with code -1.

    Parameters
    ----------
    design : from ``build_design``.
    data : any table that ``as_table`` takes.
    response : whether the response is needed.
    groups : ``"ignore"`` gives every row code -1 and needs no grouping columns (predictions for
        the population); columns that ``within`` and ``between`` group by are always needed.
    new_occasions : whether structures in time may be asked for times that they have not seen; such
        rows are told in ``NewBlock.occasions`` (False: they are refused).

    Returns
    -------
    NewRows.

    Raises
    ------
    DesignError : a missing column, an unknown category, a variable that changed its kind, values
        outside the range of a spline, ids of another kind than in the design.
    """
    if groups not in _GROUP_CHOICES:
        raise DesignError(
            "groups must be 'match' or 'ignore'.", f"groups={groups!r}", "write groups='match'"
        )
    recipe: Recipe = design.recipe
    source = Source(as_table(data), recipe.levels)
    parts = _parts(recipe, response)
    variables, centring_groups = _names(parts)
    factors = [f for b in recipe.blocks for f in _group_columns(b)] if groups == "match" else []
    factors += [one.name for block in recipe.blocks for one in block.by if one is not None]
    source.check([*variables, *centring_groups, *factors], design.model.formula)
    _check_kinds(source, variables, recipe)
    kept, missing = complete_rows(source, variables, centring_groups)
    replayer = _Replayer(source, kept, recipe)
    X = replayer.matrix(recipe.fixed)
    if len(recipe.kept_columns) < X.shape[1]:
        X = np.asfortranarray(X[:, list(recipe.kept_columns)])
    offset: Array | None = None
    for compiled in recipe.offsets:
        values = replayer.number(compiled)
        offset = values if offset is None else offset + values
    return NewRows(
        X=X,
        blocks=tuple(
            _block(learnt, replayer, groups, block if new_occasions else None)
            for learnt, block in zip(recipe.blocks, design.blocks, strict=True)
        ),
        offset=offset,
        y=replayer.number(recipe.response) if response else None,
        rows=RowReport(source.n_rows, np.arange(source.n_rows) if kept is None else kept, missing),
        new_groups=replayer.new_groups,
    )


def _parts(recipe: Recipe, response: bool) -> list[Compiled]:
    """The parts that new rows need."""
    random = [term.compiled for block in recipe.blocks for term in block.terms]
    random += [b.scale.columns.compiled for b in recipe.blocks if b.scale is not None]
    own = [recipe.response] if response else []
    return [*own, recipe.fixed.compiled, *recipe.offsets, *random]


def _names(parts: Sequence[Compiled]) -> tuple[list[str], list[str]]:
    """Variables, and grouping columns of centring calls."""
    variables: dict[str, None] = {}
    groups: dict[str, None] = {}
    for part in parts:
        variables |= dict.fromkeys(name for _, name in part.columns)
        for _, call in part.centring:
            variables |= dict.fromkeys(name for _, name in call.columns)
            groups |= dict.fromkeys(call.factors)
    return list(variables), list(groups)


def _check_kinds(source: Source, variables: Sequence[str], recipe: Recipe) -> None:
    """Refuse numbers where the design has categories, and the reverse."""
    for name in variables:
        values = source.values(name)
        is_category = isinstance(values, pd.Categorical)
        learnt = recipe.kinds[name]
        if is_category == (learnt == "category") or pd.isna(values).all():
            continue
        kinds = {"category": "text or categories", "number": "numbers"}
        found = "category" if is_category else "number"
        raise DesignError(
            "A variable must hold the same kind of values as in the data of the model.",
            f"{name} holds {kinds[found]}, the model was built on {kinds[learnt]}",
            f"convert {name} before predicting",
        )


def _block(
    learnt: LearntBlock, replayer: _Replayer, groups: Groups, block: RandomBlock | None
) -> NewBlock:
    """One grouping factor on the new rows; with ``block``, new times of its structures too."""
    group = ":".join(learnt.factors)
    if any(one is not None for one in learnt.by) or learnt.scale is not None:
        block = None  # columns by group, or scaled by cluster: known times only
    matrices, occasions = [], []
    for number, term in enumerate(learnt.terms):
        found, new = without_new(term, replayer.columns(term.compiled), block, number)
        matrix = replayer.matrix(term, found)
        if new is not None:
            matrix[new.rows] = 0.0
            occasions.append(new)
        matrices.append(matrix)
    columns = matrices[0] if len(matrices) == 1 else np.asfortranarray(np.hstack(matrices))
    widths = [matrix.shape[1] for matrix in matrices]
    columns = columns_by(columns, widths, learnt.by, replayer.source, replayer.kept)
    W: Array | None = None
    if learnt.scale is not None:
        W = replayer.matrix(learnt.scale.columns)[:, list(learnt.scale.keep)]
        columns = np.asfortranarray(columns * np.exp(W @ learnt.scale.log_sd))
    told = tuple(occasions)
    if groups == "ignore":
        none = np.full(replayer.n, -1, dtype=np.int32)
        return NewBlock(group, none, columns, (), None, W, told)
    if learnt.membership is not None:
        return _membership_block(learnt, columns, replayer)
    codes, levels = replayer.source.group_codes(learnt.factors, replayer.kept)
    place = match_levels(levels, learnt.levels).astype(np.int32)
    if len(place) and (place < 0).all():
        _check_same_kind(group, levels, learnt.levels)
    final = np.append(place, np.int32(-1))[codes]
    return NewBlock(group, final, columns, tuple(levels[place < 0].tolist()), None, W, told)


def _group_columns(learnt: LearntBlock) -> tuple[str, ...]:
    """The columns that name the levels (and their weights)."""
    words = learnt.membership
    return learnt.factors if words is None else (*words.columns, *words.weights)


def _membership_block(learnt: LearntBlock, columns: Array, replayer: _Replayer) -> NewBlock:
    """Several levels per row on the new rows."""
    group, words, source = ":".join(learnt.factors), learnt.membership, replayer.source
    if words is None:
        raise DesignError("A block of memberships is needed.", group, "use _block")
    found, _, is_new = read_memberships(words, source, replayer.kept, learnt.levels)
    new: dict[Any, None] = {}
    for k, name in enumerate(words.columns):
        codes, levels = source.group_codes((name,), replayer.kept)
        new |= dict.fromkeys(levels[np.unique(codes[is_new[:, k]])].tolist())
    return NewBlock(group, main_codes(found), columns, tuple(new), found)


def _check_same_kind(group: str, new: NDArray[Any], known: NDArray[Any]) -> None:
    """Refuse ids that would match if their kind were the same (1 and "1")."""
    texts = {str(label) for label in known.tolist()}
    if any(str(label) in texts for label in new.tolist()):
        raise DesignError(
            "Group ids must be of the same kind as in the data of the model.",
            f"{group}: {new[0]!r} is new, but the same text is known as {known.dtype.name}",
            f"convert {group} to the kind of the original column",
        )
