"""Bootstrap intervals of every measure of explained variance.

Each replicate is refitted by the model, and by the comparison model where there is one, and every
measure is computed from the replicate as it was from the data. Parametric and residual draws keep
the rows' predictors, so that intervals are for these rows; drawn clusters bring theirs along.
Measures of explained variance lean upwards, in replicates once more than in the data: the
bias-corrected interval takes that into account (Efron & Tibshirani 1993, chapter 14).
Sources: as in ``explained_variance`` and ``infer.bootstrap``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.bootstrap import Progress, bootstrap_models, check_component, check_kind
from multilevel.infer.bootstrap_intervals import check_enough, check_interval, limits
from multilevel.infer.variance_intervals import check_conf_level
from multilevel.interpret.explained_variance import (
    Explained,
    explained_variance,
    overall,
    reduction_records,
    reductions,
    rights_sterba,
)
from multilevel.interpret.variance_parts import PartForms, part_forms, variance_parts

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.infer.bootstrap_refits import Estimates

Array = NDArray[np.float64]
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class ExplainedInterval:
    """One measure of explained variance with its bootstrap interval.

    Attributes
    ----------
    measure, group, term, component, estimate, sentence : as in ``Explained``.
    std_error : standard deviation of the replicates.
    conf_low, conf_high : limits; NaN with fewer than 20 replicates in which the measure exists.
    """

    measure: str
    group: str
    term: str
    component: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    sentence: str


@dataclass(frozen=True)
class ExplainedIntervals:
    """Measures with intervals; ``sentence`` says how they were made and what failed."""

    rows: tuple[ExplainedInterval, ...]
    sentence: str


@dataclass(frozen=True)
class _Observer:
    """Reads the measures off a replicate.

    Attributes
    ----------
    keys : which measures, in order.
    forms : of the design, if every replicate has its columns; None where rows are drawn.
    name : the comparison model in words.
    """

    keys: tuple[Key, ...]
    forms: PartForms | None
    name: str

    def __call__(self, designs: Sequence[Design], estimates: Sequence[Estimates]) -> Array:
        """The measures (k,); NaN where one does not exist in this replicate."""
        design, at = designs[0], estimates[0]
        parts = variance_parts(design, at) if self.forms is None else self.forms.at(at)
        records = [*overall(design, at), *rights_sterba(parts, every=True)]
        if len(designs) > 1:
            records += reduction_records(design, at, designs[1], estimates[1], self.name)
        found = {_key(record): record.estimate for record in records}
        return np.array([found.get(key, np.nan) for key in self.keys])


def _key(record: Explained) -> Key:
    return record.measure, record.group, record.term, record.component


def explained_intervals(
    prepared: Prepared,
    fit: Fit,
    n_boot: int,
    seed: np.random.SeedSequence,
    *,
    other: tuple[Prepared, Fit] | None = None,
    name: str = "",
    conf_level: float = 0.95,
    kind: str = "parametric",
    interval: str = "percentile",
    batched: bool | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> ExplainedIntervals:
    """Every measure of ``explained_variance`` (and ``reductions``) with a bootstrap interval.

    Parameters
    ----------
    other, name : a comparison model, refitted to the same draws, and its name in words.
    n_boot, seed, kind, batched, workers, progress : as in ``infer.bootstrap``.
    interval : as in ``infer.bootstrap_intervals``.

    Raises
    ------
    InferenceError : models that cannot be compared, an unknown option, a pigeonhole bootstrap,
        fewer than 20 replicates that were fitted.
    """
    level, how = check_conf_level(conf_level), check_interval(interval)
    check_component(check_kind(kind), "explained variance")
    records = list(explained_variance(prepared.design, fit))
    problems, fits = [prepared], [fit]
    if other is not None:
        records += reductions(prepared.design, fit, other[0].design, other[1], name)
        problems.append(other[0])
        fits.append(other[1])
    forms = None if kind == "cluster" else part_forms(prepared.design)
    observer = _Observer(tuple(_key(record) for record in records), forms, name)
    drawn = bootstrap_models(
        problems, fits, n_boot, seed, kind=kind, batched=batched, workers=workers,
        progress=progress, observe=observer,
    )  # fmt: skip
    check_enough(drawn)
    values = drawn.observed[drawn.is_used]
    rows, notes, beyond = [], [], []
    for k, record in enumerate(records):
        lowest = -np.inf if record.measure in ("reduction", "snijders_bosker") else 0.0
        found = limits(values[:, k], record.estimate, level, how, (lowest, 1.0))
        if found.n_undefined:
            notes.append(
                f"{found.n_undefined} replicates do not have {record.measure} of "
                f"{record.term or record.group}; they are left out there."
            )
        if found.low > record.estimate or found.high < record.estimate:
            beyond.append(record.measure)
        rows.append(
            ExplainedInterval(
                *_key(record), record.estimate, found.std_error, found.low, found.high,
                record.sentence,
            )
        )  # fmt: skip
    if beyond:
        names = ", ".join(dict.fromkeys(beyond))
        notes.append(
            f"Estimates that lie outside their interval: {len(beyond)} ({names}). Data drawn from "
            "this model do not show what these data show; predictors whose slopes differ within "
            'and between clusters are a common reason. kind="cluster" does not rest on the model.'
            if kind != "cluster"
            else f"Estimates that lie outside their interval: {len(beyond)} ({names})."
        )
    text = f"{100 * level:g}% {how} bootstrap intervals. {drawn.sentence}"
    return ExplainedIntervals(tuple(rows), " ".join([text, *dict.fromkeys(notes)]))
