"""Data that come with the package."""

from __future__ import annotations

from pathlib import Path

from multilevel.errors import TableError
from multilevel.tables.read import read
from multilevel.tables.table import Table

_FOLDER = Path(__file__).parent / "data"
_FILES = {"hsb": "hsb.dta", "verbagg": "verbagg.csv.gz"}


def shipped_path(name: str) -> Path:
    """Return the path of a shipped data file; ``name`` is ``"hsb"`` or ``"verbagg"``.

    Raises `TableError`."""
    if name not in _FILES:
        raise TableError(
            f"The shipped data are {', '.join(map(repr, _FILES))}.", f"{name!r}", "use one of them"
        )
    return _FOLDER / _FILES[name]


def load_hsb() -> Table:
    """Return the High School and Beyond data: mathematics achievement in 160 schools.

    7185 students of the 1982 survey (Raudenbush & Bryk 2002, *Hierarchical Linear Models*), as in
    the R package mlmRev (``Hsb82``).

    Returns
    -------
    A `Table` with the columns ``school`` (id, text), ``minority`` (0 no, 1 yes), ``female``
    (0 male, 1 female), ``ses`` (socioeconomic status of the student), ``mathach`` (the usual
    outcome), ``sector`` (of the school: 0 public, 1 Catholic), ``meanses`` (mean ``ses`` of the
    school's students in these data).

    Examples
    --------
    >>> import multilevel as mlm
    >>> mlm.load_hsb().columns
    ('school', 'minority', 'female', 'ses', 'mathach', 'sector', 'meanses')
    """
    return read(shipped_path("hsb"))


def load_verbagg() -> Table:
    """Return the verbal aggression data: 316 persons answer 24 items, one row per response.

    Each item is a frustrating situation and a verbally aggressive behaviour that one would want to
    show or would show (Vansteelandt 2000; De Boeck & Wilson 2004, *Explanatory Item Response
    Models*, chapter 1), as in the R package lme4 (``VerbAgg``).

    Returns
    -------
    A `Table` with 7584 rows and the columns ``id`` (person), ``item`` (label), ``resp`` (the
    response: no, perhaps, yes), ``r2`` (the response in two: N for no, Y for perhaps or yes);
    of the item ``btype`` (behaviour: curse, scold, shout), ``situ`` (who is to blame: other,
    self), ``mode`` (want or do); of the person ``Anger`` (trait anger, 11 to 39), ``Gender``
    (F, M).

    Examples
    --------
    >>> import multilevel as mlm
    >>> mlm.load_verbagg().columns
    ('Anger', 'Gender', 'item', 'resp', 'id', 'btype', 'situ', 'mode', 'r2')
    """
    return read(shipped_path("verbagg"))
