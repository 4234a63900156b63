"""A generalized model laid over a table: the response, and the arrays of every linear predictor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.build import (
    RankDeficient,
    Workshop,
    compile_model,
    lay,
    needed,
)
from multilevel.design.records import Design, RandomBlock, Response, RowReport
from multilevel.design.related import (
    Related,
    has_same_levels,
    is_related,
    without_membership,
)
from multilevel.design.response import ResponseRequest, read_response
from multilevel.design.rows import check_rows, read_weights
from multilevel.design.scale_effects import check_distinct, correlated
from multilevel.design.variables import Positions, Source, complete_rows
from multilevel.errors import DesignError
from multilevel.model.covariance.structures import factor_map, joined_maps
from multilevel.model.families.records import Family, PartSpec
from multilevel.model.specification import Model
from multilevel.tables.table import as_table

Array = NDArray[np.float64]
Column = str | Sequence[float] | NDArray[np.float64]
_INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class PartDesign:
    """One linear predictor laid over the rows.

    Attributes
    ----------
    spec : what it is.
    design : the design that its columns come from (replays on new rows); None for a part that is
        one intercept.
    columns : positions of its columns among ``design.names`` (all, or all but the intercept).
    X : (n, p_d) its fixed-effect columns.
    names : p_d names.
    offset : (n,) or None.
    """

    spec: PartSpec
    design: Design | None
    columns: tuple[int, ...]
    X: Array
    names: tuple[str, ...]
    offset: Array | None


@dataclass(frozen=True)
class GeneralizedDesign:
    """Arrays with labels of a generalized model.

    Attributes
    ----------
    family : the family, its parts complete.
    response : the response as numbers, and what is modelled in words.
    mean : the design of the formula (``y`` holds the numbers of the response).
    parts : per part of the family its predictor, the mean first.
    blocks : per grouping factor all random-effect columns of all parts; names of columns that do
        not belong to the mean start with the part's name.
    block_parts : per block the part of each column.
    frequency_weights, precision_weights : (n,) or None.
    """

    family: Family
    response: Response
    mean: Design
    parts: tuple[PartDesign, ...]
    blocks: tuple[RandomBlock, ...]
    block_parts: tuple[tuple[int, ...], ...]
    frequency_weights: Array | None
    precision_weights: Array | None

    @property
    def n(self) -> int:
        """Number of analysed rows."""
        return len(self.response.y)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all fixed effects, part by part; parts other than the first are prefixed."""
        return tuple(
            name if d == 0 else f"{part.spec.name}: {name}"
            for d, part in enumerate(self.parts)
            for name in part.names
        )


@dataclass(frozen=True)
class GeneralizedRequest:
    """What the caller asked for beside the formula.

    Attributes
    ----------
    family_of : gives the family once the categories of the response are known.
    response : kind of response, event, categories (``trials`` is read here).
    trials : column or numbers of trials, or None.
    weights : precision weights (numbers of trials for binary responses), or None.
    frequency_weights : how many rows each row stands for, or None.
    formulas : ``{argument: Model}`` of parts that have their own formula (``"dispersion"``,
        ``"zero"``...).
    rank_deficient, allow : see ``build_design``.
    is_correlated : whether random effects of different formulas on one factor are correlated
        (location-scale models).
    related : see ``build_design``; for every formula.
    """

    family_of: Callable[[tuple[str, ...]], Family]
    response: ResponseRequest
    trials: Column | None = None
    weights: Column | None = None
    frequency_weights: Column | None = None
    formulas: Mapping[str, Model] | None = None
    rank_deficient: RankDeficient = "drop"
    allow: Sequence[str] = ()
    is_correlated: bool = False
    related: Related | None = None


def build_generalized(model: Model, data: Any, request: GeneralizedRequest) -> GeneralizedDesign:
    """Lay a generalized model over a table; rows must have the variables of every part.

    Raises
    ------
    DesignError : see ``build_design``; values that the family does not allow; formulas for parts
        that the family does not have.
    """
    formulas = dict(request.formulas or {})
    source = Source(as_table(data))
    columns, lost = _row_columns(request, source)
    kept, missing = _kept(model, formulas, source, lost)
    workshop = Workshop(source, kept)
    rows = RowReport(source.n_rows, np.arange(source.n_rows) if kept is None else kept, missing)
    taken = {k: v if kept is None else v[kept] for k, v in columns.items()}
    response, precision = _response_and_weights(model, workshop, request, taken)
    family = request.family_of(response.categories)
    _check_formulas(family, formulas)
    mean = lay(
        model, response.y, workshop, rows,
        weights=precision, rank_deficient=request.rank_deficient, allow=request.allow,
        row_effects=not family.has_residual, related=request.related,
    )  # fmt: skip
    others = {
        argument: lay(
            other, response.y, Workshop(source, kept), rows,
            rank_deficient=request.rank_deficient, allow=request.allow, row_effects=True,
            related=request.related,
        )
        for argument, other in formulas.items()
    }  # fmt: skip
    drop = family.option("mean_intercept") == "no"
    parts = tuple(
        _part(spec, mean if d == 0 else _design_of(spec, mean, others), mean.n, drop and d == 0)
        for d, spec in enumerate(family.parts)
    )
    _check_thresholds(parts)
    blocks, block_parts = _blocks(
        family, mean, others, correlated if request.is_correlated else _joined
    )
    if request.is_correlated:
        check_distinct(blocks)
    return GeneralizedDesign(
        family, response, mean, parts, blocks, block_parts,
        taken.get("frequency_weights"), precision,
    )  # fmt: skip


def _row_columns(
    request: GeneralizedRequest, source: Source
) -> tuple[dict[str, Array], dict[str, NDArray[np.bool_]]]:
    """Numbers by row that stand beside the formula, and where they are missing."""
    columns: dict[str, Array] = {}
    lost: dict[str, NDArray[np.bool_]] = {}
    for name in ("trials", "weights", "frequency_weights"):
        values, missing = read_weights(getattr(request, name), source)
        if values is not None:
            columns[name] = values
        if missing is not None:
            lost[name] = missing
    return columns, lost


def _kept(
    model: Model,
    formulas: Mapping[str, Model],
    source: Source,
    lost: Mapping[str, NDArray[np.bool_]],
) -> tuple[Positions | None, dict[str, int]]:
    """Rows that have every variable of every part."""
    is_interval = model.response.startswith("interval") and bool(model.response_parts)
    variables: dict[str, None] = {}
    groups: dict[str, None] = {}
    for at, one in enumerate((model, *formulas.values())):
        names, factors = needed(one, compile_model(one), response=at == 0 and not is_interval)
        variables |= dict.fromkeys(names)
        groups |= dict.fromkeys(factors)
    parts = compile_model(model)
    bounds = [*parts.response.variables, *(parts.second.variables if parts.second else ())]
    source.check([*variables, *groups, *(bounds if is_interval else [])], model.formula)
    kept, missing = complete_rows(source, list(variables), list(groups))
    gone = np.zeros(source.n_rows, dtype=bool)
    lost = dict(lost)
    for one in (model, *formulas.values()):
        lost |= without_membership(one, source)
    for name, mask in lost.items():
        missing[name] = int(mask.sum())
        gone |= mask
    if is_interval:
        unseen = np.logical_and.reduce([np.isnan(np.asarray(source.values(b), dtype=np.float64))
                                        for b in bounds])  # fmt: skip
        if unseen.any():
            missing[model.response] = int(unseen.sum())
            gone |= unseen
    if gone.any():
        whole = np.ones(source.n_rows, dtype=bool)
        if kept is not None:
            whole[:] = False
            whole[kept] = True
        kept = np.flatnonzero(whole & ~gone)
    check_rows(source.n_rows if kept is None else len(kept), source.n_rows, missing)
    return kept, missing


def _response_and_weights(
    model: Model, workshop: Workshop, request: GeneralizedRequest, taken: Mapping[str, Array]
) -> tuple[Response, Array | None]:
    """The response; and precision weights, unless they are numbers of trials."""
    wanted = request.response
    weights = taken.get("weights")
    if "trials" in taken:
        name = request.trials if isinstance(request.trials, str) else "trials"
        wanted = replace(wanted, trials=taken["trials"], trials_name=name)
    elif wanted.kind == "binary" and weights is not None:
        wanted, weights = replace(wanted, trials=weights, trials_name="weights"), None
    if wanted.trials is not None and wanted.kind != "binary":
        raise DesignError(
            "Numbers of trials go with a binomial family.",
            "trials= with another family",
            'leave trials= out, or write family="binomial"',
        )
    return read_response(model, workshop, wanted), weights


def _check_formulas(family: Family, formulas: Mapping[str, Model]) -> None:
    """Refuse formulas for parts that the family does not have."""
    known = {spec.argument for spec in family.parts if spec.argument not in ("", "formula")}
    for argument in formulas:
        if argument not in known:
            has = ", ".join(f"{name}=" for name in sorted(known)) or "no such argument"
            raise DesignError(
                f"{argument}= needs a family with that part.",
                f"the {family.label} family takes {has}",
                "leave it out, or choose another family",
            )


def _design_of(spec: PartSpec, mean: Design, others: Mapping[str, Design]) -> Design | None:
    """The design that a part after the first takes its columns from."""
    return mean if spec.argument == "formula" else others.get(spec.argument)


def _part(spec: PartSpec, design: Design | None, n: int, drop: bool) -> PartDesign:
    """The fixed effects of one part; ``drop`` leaves the intercept out."""
    if design is None:
        ones = np.ones((n, 1), order="F")
        return PartDesign(spec, None, (0,), ones, (_INTERCEPT,), None)
    columns = tuple(j for j, name in enumerate(design.names) if not (drop and name == _INTERCEPT))
    X = design.X
    if len(columns) < X.shape[1]:
        X = np.asfortranarray(X[:, list(columns)])
    names = tuple(design.names[j] for j in columns)
    return PartDesign(spec, design, columns, X, names, design.offset)


def _check_thresholds(parts: Sequence[PartDesign]) -> None:
    """Refuse predictors that stand in the mean and in every threshold: they say the same twice."""
    free = [set(part.names) for part in parts[1:] if part.spec.argument == "thresholds"]
    both = sorted(set(parts[0].names).intersection(*free)) if free else []
    if both:
        raise DesignError(
            "A predictor of the thresholds must not be a predictor of the mean too.",
            f"{', '.join(both)} in both",
            "keep it in thresholds= only: it then has one slope for each threshold",
        )


def _blocks(
    family: Family,
    mean: Design,
    others: Mapping[str, Design],
    join: Callable[[RandomBlock, RandomBlock], RandomBlock],
) -> tuple[tuple[RandomBlock, ...], tuple[tuple[int, ...], ...]]:
    """All random effects by grouping factor; blocks of the same factor are joined."""
    found: dict[frozenset[str], tuple[RandomBlock, tuple[int, ...]]] = {}
    sources: dict[int, tuple[list[int], Design]] = {}
    for d, spec in enumerate(family.parts):
        design = mean if d == 0 else _design_of(spec, mean, others)
        if design is not None and design.blocks:
            sources.setdefault(id(design), ([], design))[0].append(d)
    for parts, design in sources.values():
        for block in design.blocks:
            wide, belongs = _repeated(block, parts, family)
            key = frozenset(block.group.split(":"))
            if key in found:
                old, at = found[key]
                found[key] = join(old, wide), (*at, *belongs)
            else:
                found[key] = wide, belongs
    order = sorted(found.values(), key=lambda pair: -pair[0].n_levels)
    return tuple(block for block, _ in order), tuple(parts for _, parts in order)


def _repeated(
    block: RandomBlock, parts: Sequence[int], family: Family
) -> tuple[RandomBlock, tuple[int, ...]]:
    """A block once for each part that it belongs to, correlated across them where unstructured."""
    q = len(block.names)
    belongs = tuple(d for d in parts for _ in range(q))
    labels = [family.parts[d].name for d in parts]
    names = tuple(
        name if d == 0 and len(parts) == 1 else f"{label}: {name}"
        for d, label in zip(parts, labels, strict=True)
        for name in block.names
    )
    if len(parts) == 1:
        return replace(block, names=names), belongs
    if any(structure != "unstructured" for _, _, structure in block.structure.terms):
        structure = joined_maps([block.structure] * len(parts), names)
    else:
        structure = factor_map(((q * len(parts), "unstructured"),))
    columns = np.asfortranarray(np.hstack([block.columns] * len(parts)))
    return replace(block, columns=columns, names=names, structure=structure), belongs


def _joined(first: RandomBlock, second: RandomBlock) -> RandomBlock:
    """Two blocks of one factor side by side, independent of each other."""
    if (is_related([first]) or is_related([second])) and not has_same_levels(first, second):
        raise DesignError(
            f"Every term on {first.group} must use the same memberships and relation.",
            "two that differ",
            "write the same weights in each formula",
        )
    names = (*first.names, *second.names)
    return replace(
        first,
        columns=np.asfortranarray(np.hstack([first.columns, second.columns])),
        names=names,
        structure=joined_maps([first.structure, second.structure], names),
    )
