"""The cluster argument of structural models: columns of the levels, nested as stated or as seen."""

from __future__ import annotations

from collections.abc import Sequence

from multilevel.errors import ModelError
from multilevel.tables.table import Table


def is_stated_nested(cluster: str | Sequence[str] | None, table: Table) -> bool:
    """Whether the nesting is written out, ``"school/class"``: labels of classes may then repeat."""
    return isinstance(cluster, str) and "/" in cluster and cluster not in table.columns


def cluster_columns(cluster: str | Sequence[str] | None, table: Table) -> tuple[str, ...]:
    """The columns of the units from level 2 upwards.

    ``"school/class"`` is read as in the formulas of mixed models: classes in schools.

    Raises
    ------
    ModelError : no name in the list, one that is not text, a column twice, or one that is called
        like a level.
    """
    if cluster is None:
        return ()
    if isinstance(cluster, str):
        parts = cluster.split("/") if is_stated_nested(cluster, table) else [cluster]
        columns = tuple(name.strip() for name in reversed(parts))
    else:
        columns = tuple(cluster)
    remedy = 'write cluster="school", or cluster=["class", "school"] from below'
    if not columns or not all(isinstance(name, str) and name for name in columns):
        raise ModelError("cluster names columns.", f"{cluster!r}", remedy)
    for name in columns:
        if columns.count(name) > 1:
            raise ModelError("Every level has its own column.", f"{name!r} twice", remedy)
        if len(columns) > 1 and name.lower() in ("within", "between"):
            raise ModelError("The columns of three levels are not called within or between.",
                             f"{name!r}", "rename the column")  # fmt: skip
    return columns
