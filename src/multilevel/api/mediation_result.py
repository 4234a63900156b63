"""The answer to a mediation question. Methods are one call each into the rooms below."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.structural_result import StructuralResult, interval_of
from multilevel.infer.structural import (
    covariance_if_any,
    defined_values,
    z_tests,
)
from multilevel.interpret.mediation import (
    MediationEffect,
    mediation_effects,
    mediation_sentences,
)
from multilevel.interpret.mediation_nested import nested_mediation_sentences
from multilevel.model.structural.mediation import MediationPlan
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.mediation import mediation_sections, mediation_title
from multilevel.report.structural_document import structural_document
from multilevel.report.write import check_report_path, write_document

if TYPE_CHECKING:
    from multilevel.report.plots.backend import ggplot

MediationInterval = Literal["monte_carlo", "profile", "bootstrap"]


class MediationResult:
    """The answer to a mediation question. ``multilevel.mediate`` makes it.

    Attributes
    ----------
    plan : the design and the text of the model.
    model : the fitted ``StructuralResult``.
    """

    def __init__(
        self,
        plan: MediationPlan,
        model: StructuralResult,
        conf_level: float,
        n_draws: int | None,
        seed: int,
        interval: MediationInterval = "monte_carlo",
    ) -> None:
        self.plan, self.model = plan, model
        self._conf_level, self._n_draws, self._seed = conf_level, n_draws, seed
        self._interval: MediationInterval = interval

    @property
    def design(self) -> str:
        """Levels of x, m and y, e.g. ``"2-1-1"``."""
        return self.plan.design

    @cached_property
    def _found(self) -> tuple[tuple[MediationEffect, ...], tuple[str, ...]]:
        """Effects, and notes on how their intervals were made."""
        fit = self.model.fit
        covariance = covariance_if_any(self.model.problem, fit, self.model.std_errors)
        tests = z_tests(*defined_values(fit), covariance, self._conf_level)
        intervals = interval_of(
            self.model.problem, fit, covariance, self._interval, self._conf_level, self._n_draws,
            self._seed,
        )  # fmt: skip
        names = [d.name for d in fit.model.defined]
        drawn = "" if self._interval == "profile" else f" Seed {self._seed}."
        notes = (covariance.sentence, intervals.sentence + drawn)
        effects = mediation_effects(names, tests, intervals)
        return tuple(replace(e, level=self.plan.title(e.level)) for e in effects), notes

    def effects(self) -> pd.DataFrame:
        """Indirect, direct and total effects per level, and contextual ones in 1-1-1.

        Columns: ``effect, level, estimate, std_error, statistic, p_value`` (delta method),
        ``conf_low, conf_high`` (Monte Carlo, profile or bootstrap), ``delta_low, delta_high``.
        """
        out = frame_of_records(self._found[0], MediationEffect)
        out.attrs["sentence"] = " ".join(self._found[1])
        return out

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer in words, one sentence per level."""
        model, effects = self.model.fit.model, self._found[0]
        if model.higher:
            return nested_mediation_sentences(self.plan, effects, model.clusters, self._conf_level)
        return mediation_sentences(self.plan, effects, model.cluster, self._conf_level)

    def sections(self) -> list[Section]:
        """The summary as its sections, to be laid out anew."""
        effects, notes = self._found
        return mediation_sections(effects, self.sentences, notes, self.model.sections())

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(self._title(), self.sections(), width)

    def plot(self, name: str = "paths", **options: Any) -> ggplot:
        """Draw the paths of each level, or the distribution of the indirect effects.

        ``"paths"``, ``"indirect"``; options and errors as ``StructuralResult.plot``.
        """
        if name == "indirect" and "terms" not in options:
            wanted = [f"indirect_{level}" for level in self.plan.levels]
            options["terms"] = wanted
        return self.model.plot(name, **options)

    def report(self, path: str | Path, *, pictures: bool = True) -> Path:
        """Write the answer, its evidence and its pictures as .html, .md, .docx or .tex.

        Parameters and errors as ``StructuralResult.report``.
        """
        target = check_report_path(path)
        wanted = [f"indirect_{level}" for level in self.plan.levels]
        drawn = self.model.drawn_pictures(wanted) if pictures else []
        plan = self.plan
        clusters = self.model.fit.model.clusters
        named = repr(clusters[0]) if len(clusters) == 1 else repr(list(clusters))
        call = f"mediate(x={plan.x!r}, m={plan.m!r}, y={plan.y!r}, cluster={named})"
        document = structural_document(self._title()[0], call, plan.text, self.sections(), drawn)
        return write_document(document, target)

    def _title(self) -> tuple[str, ...]:
        return mediation_title(self.plan, " in ".join(self.model.fit.model.clusters))

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(self._title(), self.sections())
