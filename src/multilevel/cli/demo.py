"""``multilevel demo``: the High School and Beyond data, from the empty model up.

The order of the models follows Raudenbush & Bryk 2002, chapter 4. Every number printed comes from
a fit made when the command runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from multilevel.api.fit import fit
from multilevel.design.records import Design
from multilevel.estimate.records import Fit
from multilevel.interpret.variance import INTERCEPT
from multilevel.report.changes import what_changed
from multilevel.report.describe import describe_text
from multilevel.report.facts import split_interaction
from multilevel.report.layout import Section, render_text, short
from multilevel.tables.describe import describe_design
from multilevel.tables.shipped import load_hsb

_SHOWN = ("Equations", "Model for the means", "Model for the variance", "In words")
_WITHIN, _BETWEEN, _SECTOR = "within(ses, school)", "between(ses, school)", "sector"

Waiting = Callable[[str], AbstractContextManager[None]]
Reader = Callable[["Model"], tuple[str, ...]]


@dataclass(frozen=True)
class Model:
    """One fitted step: its numbers by name."""

    fit: Fit
    design: Design
    sections: Sequence[Section]

    def slope(self, name: str) -> float:
        """Fixed effect of a term; parts of an interaction may stand in any order."""
        return float(self.fit.beta[self._place(name)])

    def error(self, name: str) -> float:
        """Its standard error."""
        place = self._place(name)
        return float(np.sqrt(self.fit.vcov_beta[place, place]))

    def _place(self, name: str) -> int:
        wanted = set(split_interaction(name))
        return [set(split_interaction(n)) for n in self.design.names].index(wanted)

    def intercept_variance(self) -> float:
        """Variance of the school intercepts."""
        block = self.design.blocks[0]
        place = block.names.index(INTERCEPT)
        return float(self.fit.random_covariance[0][place, place])


@dataclass(frozen=True)
class Step:
    """One rung of the ladder.

    Attributes
    ----------
    name : what the model is called when the next one is compared with it.
    question : what it is fitted for.
    formula : the model.
    read : the sentences on how to read it.
    """

    name: str
    question: str
    formula: str
    read: Reader


def _read_empty(m: Model) -> tuple[str, ...]:
    mean = m.slope(INTERCEPT)
    spread = 1.96 * float(np.sqrt(m.intercept_variance()))
    return (
        f"{short(mean)} is the mathach of the average school. 95% of schools are predicted to have"
        f" means from {short(mean - spread)} to {short(mean + spread)}: the random-effects range,"
        " not the confidence interval of the average.",
        "The students of one school are alike, so they do not count as independent: that is why a"
        " multilevel model is needed.",
    )


def _read_sector(m: Model) -> tuple[str, ...]:
    return (
        f"Catholic schools (sector = 1) have a mean mathach {short(m.slope(_SECTOR))} higher than"
        f" public schools (standard error {short(m.error(_SECTOR))}); the intercept,"
        f" {short(m.slope(INTERCEPT))}, is now the mean of public schools (sector = 0).",
        "sector has one value per school, so that it can explain variance between schools only;"
        " the residual variance cannot change.",
    )


def _read_split(m: Model) -> tuple[str, ...]:
    within, between = m.slope(_WITHIN), m.slope(_BETWEEN)
    return (
        f"Within: a student whose ses is one unit above the mean of the school scores"
        f" {short(within)} higher than a student at that mean, in the same school.",
        f"Between: a school whose mean ses is one unit higher has a mean mathach"
        f" {short(between)} higher, at the same sector.",
        f"Contextual effect: {short(between)} - {short(within)} = {short(between - within)}."
        " That is how far apart two students with the same ses are expected to be when the mean"
        " ses of their schools differs by one unit. A single slope for ses would mix the two.",
    )


def _read_slope(m: Model) -> tuple[str, ...]:
    return (
        f"Each school now has its own slope of ses; {short(m.slope(_WITHIN))} is their mean."
        " The correlation says whether schools with a high intercept have steep or flat slopes.",
        "The slope varies on the within part of ses only: a random slope of ses as it stands would"
        " mix differences within and between schools again.",
    )


def _read_interaction(m: Model) -> tuple[str, ...]:
    public, change = m.slope(_WITHIN), m.slope(f"{_WITHIN}:{_SECTOR}")
    return (
        f"In public schools (sector = 0) the within slope of ses is {short(public)}; in Catholic"
        f" schools it is {short(public)} {'-' if change < 0 else '+'} {short(abs(change))} ="
        f" {short(public + change)} (standard error of the difference"
        f" {short(m.error(f'{_WITHIN}:{_SECTOR}'))}).",
        f"The slope of {_WITHIN} in the table is therefore that of public schools, not of all.",
        "A cross-level interaction explains variance of the slopes: compare that pile with the"
        " model before.",
    )


LADDER = (
    Step(
        "the empty model",
        "How much do schools differ?",
        "mathach ~ 1 + (1 | school)",
        _read_empty,
    ),
    Step(
        "the model with sector",
        "Does the kind of school explain the difference?",
        "mathach ~ sector + (1 | school)",
        _read_sector,
    ),
    Step(
        "the model with ses",
        "What does ses do within a school, and what between schools?",
        f"mathach ~ sector + {_WITHIN} + {_BETWEEN} + (1 | school)",
        _read_split,
    ),
    Step(
        "the model with a random slope",
        "Does ses matter more in some schools than in others?",
        f"mathach ~ sector + {_WITHIN} + {_BETWEEN} + ({_WITHIN} | school)",
        _read_slope,
    ),
    Step(
        "the model with a cross-level interaction",
        "Does the kind of school explain which schools have steep slopes?",
        f"mathach ~ sector * {_WITHIN} + {_BETWEEN} + ({_WITHIN} | school)",
        _read_interaction,
    ),
)


def steps(waiting: Waiting) -> Iterator[str]:
    """Yield the demo piece by piece: the design, the five models, how to go on.

    Parameters
    ----------
    waiting : shows a message while something runs.
    """
    data = load_hsb()
    yield _opening()
    yield describe_text(describe_design(data, "mathach", ["school"]))
    before: Model | None = None
    statuses = []
    for place, step in enumerate(LADDER, 1):
        with waiting(f"Fitting model {place} of {len(LADDER)}"):
            result = fit(step.formula, data, method="ml")
        model = Model(result.fit, result.design, result.sections())
        name0 = LADDER[place - 2].name
        yield _page(place, step, model, before, name0)
        statuses.append(model.fit.certificate.status)
        before = model
    yield _closing(statuses)


def _opening() -> str:
    title = ("The High School and Beyond data, from the empty model up",)
    text = Section(
        "What this shows",
        sentences=(
            f"Mathematics achievement of students in schools, in {len(LADDER)} models, each with"
            " one more idea. All are fitted by ML, so that any two can be compared by their -2"
            " log-likelihood; for final variances use REML, the default of `multilevel fit`.",
        ),
    )
    return render_text(title, [text])


def _page(place: int, step: Step, model: Model, before: Model | None, name0: str) -> str:
    title = (f"Model {place} of {len(LADDER)}: {step.question}", step.formula)
    parts = [s for s in model.sections if s.heading.startswith(_SHOWN)]
    if before is None:
        line = f"-2 log-likelihood {model.fit.criterion:.2f}"
        parts.append(Section("Fit", lines=(line,)))
    else:
        changes = what_changed(before.fit, before.design, model.fit, model.design, name0)
        parts.append(Section("What changed", sentences=changes))
    parts.append(Section("How to read it", sentences=step.read(model)))
    if not model.fit.certificate.is_certified:
        parts.append(Section("Convergence", sentences=(model.fit.certificate.sentence,)))
    return render_text(title, parts)


def _closing(statuses: Sequence[str]) -> str:
    proven = sum(status != "not_certified" for status in statuses)
    return render_text(
        (f"{proven} of {len(statuses)} fits are shown to be at their optimum.",),
        [
            Section(
                "Where to go on",
                lines=(
                    'multilevel fit YOUR.csv "y ~ x + (x | group)"',
                    "multilevel describe YOUR.csv --outcome y --clusters group",
                    "multilevel fit --help",
                ),
            )
        ],
    )
