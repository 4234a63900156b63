"""Records that describe the design of a table: groups, pairs of groups, variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import TableError
from multilevel.tables.columns import Kind

R = TypeVar("R")
Relation = Literal["nested", "crossed", "partially crossed", "identical"]


@dataclass(frozen=True, eq=False)
class FactorDescription:
    """One grouping factor, on the rows where the outcome and the factor are known.

    Attributes
    ----------
    name : column, or columns joined by ``":"``.
    label : variable label, ``""`` if there is none.
    n_rows : rows counted, N.
    n_missing : rows with an outcome whose group is missing.
    n_groups : J.
    size_min, size_median, size_mean, size_max : rows per group.
    size_effective : sum n_j^2 / sum n_j, the size that enters the design effect (Kish 1965).
    size_anova : n0 = (N - sum n_j^2 / N) / (J - 1), the size that enters the ANOVA estimator of
        variance (Searle, Casella & McCulloch 1992, ch. 3); ``nan`` for one group.
    n_singletons : groups with one row.
    sizes : (J,) rows of each group, in the order of ``levels``.
    levels : (J,) ids.
    """

    name: str
    label: str
    n_rows: int
    n_missing: int
    n_groups: int
    size_min: int
    size_median: float
    size_mean: float
    size_max: int
    size_effective: float
    size_anova: float
    n_singletons: int
    sizes: NDArray[np.int64]
    levels: NDArray[Any]


@dataclass(frozen=True)
class ReusedIds:
    """Ids of a lower factor that seem to start again in every unit of an upper one.

    Data cannot tell class 1..5 in every school (different classes) from item 1..5 given to every
    school (the same items): this is a question for the user, not a finding.

    Attributes
    ----------
    lower, upper : e.g. ``"class"`` and ``"school"``.
    n_ids : distinct ids of ``lower``.
    n_units : units of ``upper``.
    share_from_first : share of upper units whose ids are exactly the first so many of the sorted
        ids of ``lower``: 1, 2, 3, without a gap.
    is_numbering_uneven : units have different numbers of ids, and still each starts from the
        first: strong evidence of numbering within units.
    n_cells : number of lower units if they are all different (levels of ``upper:lower``).
    formula : the term that makes the ids unique, ``"(1 | school/class)"``.
    """

    lower: str
    upper: str
    n_ids: int
    n_units: int
    share_from_first: float
    is_numbering_uneven: bool
    n_cells: int
    formula: str


@dataclass(frozen=True)
class PairDescription:
    """How two grouping factors lie to each other, on the rows where both are known.

    Attributes
    ----------
    first, second : names, in the order given.
    relation : ``"nested"``: every id of ``lower`` occurs in one unit of ``upper``;
        ``"identical"``: nested both ways; ``"crossed"``: every combination occurs;
        ``"partially crossed"``: neither.
    lower, upper : where nested, which in which; else ``None``.
    n_rows : rows counted.
    n_first_in_many : ids of ``first`` that occur in more than one unit of ``second``.
    n_second_in_many : ids of ``second`` that occur in more than one unit of ``first``.
    n_cells : combinations that occur.
    n_cells_possible : J_first * J_second.
    share_cells : ``n_cells / n_cells_possible``.
    cell_min, cell_median, cell_mean, cell_max : rows in the cells that occur.
    n_components : connected parts of the design; effects of levels in different parts are never
        compared within data.
    largest_component : share of rows in the largest part.
    reused : ids that may start again in every upper unit, or ``None``.
    """

    first: str
    second: str
    relation: Relation
    lower: str | None
    upper: str | None
    n_rows: int
    n_first_in_many: int
    n_second_in_many: int
    n_cells: int
    n_cells_possible: int
    share_cells: float
    cell_min: int
    cell_median: float
    cell_mean: float
    cell_max: int
    n_components: int
    largest_component: float
    reused: ReusedIds | None


@dataclass(frozen=True)
class Variation:
    """Where a variable varies relative to one factor; one-way, other factors ignored.

    On the rows where outcome, factor and variable are known. Variances are ANOVA moments (Searle,
    Casella & McCulloch 1992, ch. 3): sigma2 = SSW / (N - J), tau2 = (MSB - sigma2) / n0.

    Attributes
    ----------
    factor : the grouping factor.
    n_rows, n_groups : N and J.
    share_constant : share of the groups with two rows or more in which the variable is constant;
        ``nan`` if there is no such group.
    is_constant_within : constant in every such group, and there is one: a property of the group.
    is_constant_between : all groups have the same mean (for text: the same single value).
    sd_within : sqrt(sigma2); ``nan`` for text, or where every group has one row.
    sd_between : sqrt(max(tau2, 0)); ``nan`` where sd_within or n0 is.
    sd_means : standard deviation of the observed group means, divisor J - 1.
    icc_unclamped : tau2 / (tau2 + sigma2); can be negative.
    icc : the same with tau2 set to 0 where negative; ``nan`` where it is not defined.
    is_clamped : tau2 was negative and set to 0.
    design_effect : 1 + (n_effective - 1) * icc, n_effective = sum n^2 / sum n.
    design_effect_mean : the same with the mean group size.
    n_effective : N / design_effect.
    reliability : mean over groups of tau2 / (tau2 + sigma2 / n_j): of the group means as measures
        of the groups.
    """

    factor: str
    n_rows: int
    n_groups: int
    share_constant: float
    is_constant_within: bool
    is_constant_between: bool
    sd_within: float
    sd_between: float
    sd_means: float
    icc_unclamped: float
    icc: float
    is_clamped: bool
    design_effect: float
    design_effect_mean: float
    n_effective: float
    reliability: float


@dataclass(frozen=True)
class VariableDescription:
    """One variable.

    Attributes
    ----------
    name, label, kind : see `multilevel.Table`.
    value_labels : ``{value: label}``, empty if there are none.
    n_missing : rows of the table in which it is missing.
    n_infinite : rows of the table in which it is infinite; they are left out of all that follows.
    n_distinct : different values, on the rows with an outcome.
    mean, sd, minimum, maximum : of a numeric variable, on the rows with an outcome; else ``nan``.
    is_binary : numeric or flag with the two values 0 and 1.
    level : where it belongs: the name of the coarsest factor within whose groups it is constant;
        ``"row"`` if it varies within all of them; ``"constant"`` if it never varies.
    varies_at : ``"row"`` and the names of factors at which it varies: its own level, and every
        coarser factor over which its variance is positive (``icc_unclamped > 0``).
    by_factor : one `Variation` per factor, in the order of the factors.
    """

    name: str
    label: str
    kind: Kind
    value_labels: Mapping[Any, str]
    n_missing: int
    n_infinite: int
    n_distinct: int
    mean: float
    sd: float
    minimum: float
    maximum: float
    is_binary: bool
    level: str
    varies_at: tuple[str, ...]
    by_factor: tuple[Variation, ...]

    def variation(self, factor: str) -> Variation:
        """Where it varies relative to one factor; raises `TableError` for an unknown name."""
        return _named(self.by_factor, "factor", factor)


@dataclass(frozen=True)
class DesignDescription:
    """The design of a table for one outcome.

    Attributes
    ----------
    outcome : name of the outcome; ``None`` if none was named, then all rows count.
    n_table : rows of the table.
    n_rows : rows with an outcome.
    n_rows_complete : rows with an outcome and all groups.
    factors : one per grouping factor, in the order given.
    pairs : every pair of factors.
    variables : the outcome first, then the others in the order asked for.
    """

    outcome: str | None
    n_table: int
    n_rows: int
    n_rows_complete: int
    factors: tuple[FactorDescription, ...]
    pairs: tuple[PairDescription, ...]
    variables: tuple[VariableDescription, ...]

    def factor(self, name: str) -> FactorDescription:
        """One factor; raises `TableError` for an unknown name."""
        return _named(self.factors, "name", name)

    def variable(self, name: str) -> VariableDescription:
        """One variable; raises `TableError` for an unknown name."""
        return _named(self.variables, "name", name)

    def pair(self, one: str, other: str) -> PairDescription:
        """One pair of factors, in either order; raises `TableError` for unknown names."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {one, other}:
                return pair
        raise TableError(
            "The pair must be two of the described factors.",
            f"{one!r} and {other!r}",
            f"the factors are {', '.join(factor.name for factor in self.factors)}",
        )


def _named(records: tuple[R, ...], attribute: str, name: str) -> R:
    """Find a record by name."""
    for record in records:
        if getattr(record, attribute) == name:
            return record
    raise TableError(
        "The name must be one that was described.",
        repr(name),
        f"the names are {', '.join(getattr(record, attribute) for record in records)}",
    )
