"""The door to descriptions: who is sampled within what, before any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multilevel.report.describe import describe_html, describe_json, describe_text
from multilevel.tables.describe import describe_design
from multilevel.tables.description import DesignDescription


@dataclass(frozen=True, repr=False)
class Description:
    """A description of a sampling design; prints as text, shows as HTML in notebooks.

    Attributes
    ----------
    record : the numbers (``multilevel.tables.description.DesignDescription``).
    """

    record: DesignDescription

    def __repr__(self) -> str:
        return describe_text(self.record)

    def _repr_html_(self) -> str:
        return describe_html(self.record)

    def to_dict(self) -> dict[str, Any]:
        """The numbers under stable keys, ready for JSON."""
        return describe_json(self.record)


def describe(
    data: Any,
    outcome: str | None = None,
    clusters: str | Sequence[str] = (),
    variables: Sequence[str] | None = None,
) -> Description:
    """Describe a table before modelling it: groups, nesting or crossing, variables by level.

    Parameters
    ----------
    data : anything that ``multilevel.fit`` takes.
    outcome : column of the outcome; only rows where it is known count. None: all rows.
    clusters : grouping factors: a column or several, ``"a:b"`` for combined ones, ``"a/b"`` for
        ``a`` and ``a:b``.
    variables : columns to describe besides the outcome; default all that are not clusters.

    Returns
    -------
    Description.

    Raises
    ------
    TableError : a name that is not a column, or no row with an outcome.

    Examples
    --------
    >>> import multilevel as mlm
    >>> found = mlm.describe(mlm.load_hsb(), "mathach", clusters="school")
    >>> [(factor.name, factor.n_groups) for factor in found.record.factors]
    [('school', 160)]
    """
    names = [clusters] if isinstance(clusters, str) else list(clusters)
    return Description(describe_design(data, outcome, names, variables))
