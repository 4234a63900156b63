"""The door of multilevel mediation: three columns in, an answer out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.sem import sem
from multilevel.api.structural_clusters import cluster_columns, is_stated_nested
from multilevel.api.structural_mixed_door import are_crossed
from multilevel.api.structural_result import StructuralResult, check_option, interval_of
from multilevel.design.structural import Missing
from multilevel.design.structural_levels import homes_of, nested_homes_of, split_at_means
from multilevel.errors import ModelError
from multilevel.infer.structural import (
    StdErrorType,
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
from multilevel.model.structural.mediation import MediationPlan, plan_mediation
from multilevel.model.structural.mediation_nested import plan_nested_mediation
from multilevel.model.structural.mediation_random import plan_random_mediation
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.mediation import mediation_sections, mediation_title
from multilevel.report.structural_document import structural_document
from multilevel.report.write import check_report_path, write_document
from multilevel.tables.table import Table, as_table

if TYPE_CHECKING:
    from multilevel.report.plots.backend import ggplot

Slopes = Literal["fixed", "random"]
MediationInterval = Literal["monte_carlo", "profile", "bootstrap"]


def mediate(
    *,
    x: str,
    m: str,
    y: str,
    data: Any,
    cluster: str | Sequence[str],
    covariates: Sequence[str] = (),
    slopes: Slopes = "fixed",
    missing: Missing = "fiml",
    std_errors: StdErrorType = "observed",
    conf_level: float = 0.95,
    interval: MediationInterval = "monte_carlo",
    n_draws: int | None = None,
    seed: int = 1,
    allow: Sequence[str] = (),
) -> MediationResult:
    """Ask whether the effect of x on y runs through m: within clusters, between them, or both.

    The design is read off the data: a variable with one value per cluster is of level 2, one whose
    cluster means are all equal varies within clusters only, any other is split into a latent
    within and a latent between part. So 1-1-1, 2-1-1, 2-2-1, 1-1-2, 1-2-1, ... are recognised.
    Source: Preacher, Zyphur & Zhang 2010 (Psychol. Methods 15:209).

    Parameters
    ----------
    x, m, y : columns of the predictor, the mediator and the outcome (numbers; normal given their
        predictors).
    data : any table.
    cluster : column of the level-2 units, or a list of columns from below, like
        ``["class", "school"]``: indirect effects within classes, between the classes of a school
        and between schools (fixed slopes).
    covariates : further predictors of m and y, at every level at which they vary.
    slopes : ``"fixed"``: the same in all clusters, with latent cluster means of x and m.
        ``"random"``: the slopes of x to m (a) and of m to y (b) vary over clusters, where both
        variables do; the indirect effect within is then ``E(a_j b_j) = a b + tau_ab`` (Kenny,
        Korchmaros & Bolger 2003; Bauer, Preacher & Gil 2006). x is split at its observed cluster
        means, which are taken as known; the direct effect is the same in all clusters.
    missing : ``"fiml"`` uses all values that are there, ``"listwise"`` complete rows.
    std_errors : ``"observed"``, ``"expected"`` (fixed slopes only) or ``"robust"``.
    interval : ``"monte_carlo"`` (the middle of ``n_draws`` draws of the estimates, 20,000 if None),
        ``"profile"`` (profile likelihood) or ``"bootstrap"`` (``n_draws`` refits on resampled
        clusters, 1,000 if None).
    conf_level, n_draws, seed : of the intervals.
    allow : as in ``sem``: ``"inadmissible"``, ``"not_certified"``.

    Returns
    -------
    MediationResult : prints as an answer with its evidence.

    Raises
    ------
    ModelError : variables that never vary at one level; random slopes where no path varies within
        clusters.
    TableError, DesignError, EstimationError : as ``sem``.

    Examples
    --------
    >>> import multilevel as mlm
    >>> found = mlm.mediate(x="sector", m="ses", y="mathach", data=mlm.load_hsb(), cluster="school")
    >>> found.design
    '2-1-1'
    >>> found.effects()["estimate"].round(1).tolist()
    [1.6, 1.2, 2.8]
    """
    check_option("slopes", slopes, get_args(Slopes))
    check_option("interval", interval, get_args(MediationInterval))
    table = as_table(data)
    names = (x, m, y, *covariates)
    clusters = cluster_columns(cluster, table)
    if not clusters:
        raise ModelError("mediate() needs clusters.", "none", 'write cluster="school"')
    if len(clusters) > 1:
        _check_nested(table, cluster, clusters, slopes)
        nested = nested_homes_of(table, names, clusters)
        plan = plan_nested_mediation(x, m, y, covariates, nested, clusters)
    elif slopes == "random":
        homes = homes_of(table, names, clusters[0])
        plan = plan_random_mediation(x, m, y, covariates, homes, table.columns)
        table = _with_split(table, plan, names, clusters[0])
    else:
        plan = plan_mediation(x, m, y, covariates, homes_of(table, names, clusters[0]))
    model = sem(
        plan.text, table, cluster=cluster, missing=missing, std_errors=std_errors, allow=allow
    )
    return MediationResult(plan, model, conf_level, n_draws, seed, interval)


def _check_nested(
    table: Table, cluster: str | Sequence[str], clusters: tuple[str, ...], slopes: Slopes
) -> None:
    """Refuse what three levels do not have: random slopes, crossed clusters."""
    if slopes == "random":
        raise ModelError(
            "mediate() has random slopes with one cluster column.",
            f"{len(clusters)} cluster columns",
            'write slopes="fixed", or the model with s | y ~ m in sem()',
        )
    if not is_stated_nested(cluster, table) and are_crossed(table, clusters):
        stated = "/".join(reversed(clusters))
        raise ModelError(
            "mediate() takes clusters that are nested.",
            f"labels of {clusters[0]} that stand in several {clusters[1]}",
            f'if they are different units there, write cluster="{stated}"; if the clusters are'
            " crossed, use sem()",
        )


def _with_split(table: Table, plan: MediationPlan, names: Sequence[str], cluster: str) -> Table:
    """The columns of the model, with x split at its observed cluster means if the plan says so."""
    frame = table.to_pandas([*names, cluster])
    if plan.split:
        frame[plan.split[0]], frame[plan.split[1]] = split_at_means(table, plan.x, cluster)
    return Table(frame)


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
