"""Workloads with correlated residuals: a diary study with AR(1), a trial with free covariances."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import generators
from benchmarks.columns import Column
from benchmarks.generators import scaled
from benchmarks.models import Model, Residual, Term, structured

Table = Callable[[float], dict[str, Column]]

_DIARY = structured(
    "y", ("x", "w", "time"), (Term(("subject",)),), Residual("ar1", "time", "subject")
)
_VISITS = tuple(name for k in range(1, 6) for name in (f"v{k}", f"arm_v{k}"))
_TRIAL = structured("y", ("base", "arm", *_VISITS), (), Residual("un", "visit", "patient"))


def diary_ar1(scale: float) -> dict[str, Column]:
    """100 000 rows of 10 000 subjects at 10 times."""
    return generators.diary(scaled(10_000, scale, 50), 10, 61)


def diary_ar1_gaps(scale: float) -> dict[str, Column]:
    """The same with a tenth of the rows missing: the subjects were seen at 200 sets of times."""
    return generators.diary(scaled(10_000, scale, 50), 10, 62, missed=0.1)


def trial_un(scale: float) -> dict[str, Column]:
    """1 800 rows of 300 patients at 6 visits."""
    return generators.trial(scaled(300, scale, 40), 6, 63)


#: Name, title, model, table, target in seconds.
STRUCTURED: tuple[tuple[str, str, Model, Table, float | None], ...] = (
    ("ar1_100k", "AR(1) residuals and random intercept, 100 000 rows, 10 000 subjects",
     _DIARY, diary_ar1, 3.0),
    ("ar1_gaps", "the same with a tenth of the rows missing", _DIARY, diary_ar1_gaps, 3.0),
    ("mmrm_un", "unstructured residuals (MMRM), 300 patients, 6 visits", _TRIAL, trial_un, 0.030),
)  # fmt: skip
