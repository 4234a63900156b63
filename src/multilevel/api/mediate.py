"""The door of multilevel mediation: three columns in, an answer out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.sem import sem
from multilevel.api.structural_result import StructuralResult, check_option
from multilevel.design.structural import Missing
from multilevel.design.structural_levels import homes_of, split_at_means
from multilevel.infer.structural import (
    StdErrorType,
    covariance_if_any,
    defined_values,
    z_tests,
)
from multilevel.infer.structural_monte_carlo import monte_carlo_intervals
from multilevel.interpret.mediation import (
    MediationEffect,
    mediation_effects,
    mediation_sentences,
)
from multilevel.model.structural.mediation import MediationPlan, plan_mediation
from multilevel.model.structural.mediation_random import plan_random_mediation
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.mediation import mediation_sections, mediation_title
from multilevel.tables.table import Table, as_table

Slopes = Literal["fixed", "random"]


def mediate(
    *,
    x: str,
    m: str,
    y: str,
    data: Any,
    cluster: str,
    covariates: Sequence[str] = (),
    slopes: Slopes = "fixed",
    missing: Missing = "fiml",
    std_errors: StdErrorType = "observed",
    conf_level: float = 0.95,
    n_draws: int = 20_000,
    seed: int = 1,
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
    cluster : column of the level-2 units.
    covariates : further predictors of m and y, at every level at which they vary.
    slopes : ``"fixed"``: the same in all clusters, with latent cluster means of x and m.
        ``"random"``: the slopes of x to m (a) and of m to y (b) vary over clusters, where both
        variables do; the indirect effect within is then ``E(a_j b_j) = a b + tau_ab`` (Kenny,
        Korchmaros & Bolger 2003; Bauer, Preacher & Gil 2006). x is split at its observed cluster
        means, which are taken as known; the direct effect is the same in all clusters.
    missing : ``"fiml"`` uses all values that are there, ``"listwise"`` complete rows.
    std_errors : ``"observed"``, ``"expected"`` (fixed slopes only) or ``"robust"``.
    conf_level, n_draws, seed : of the Monte Carlo intervals.

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
    table = as_table(data)
    names = (x, m, y, *covariates)
    homes = homes_of(table, names, cluster)
    if slopes == "random":
        plan = plan_random_mediation(x, m, y, covariates, homes, table.columns)
        table = _with_split(table, plan, names, cluster)
    else:
        plan = plan_mediation(x, m, y, covariates, homes)
    model = sem(plan.text, table, cluster=cluster, missing=missing, std_errors=std_errors)
    return MediationResult(plan, model, conf_level, n_draws, seed)


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
        n_draws: int,
        seed: int,
    ) -> None:
        self.plan, self.model = plan, model
        self._conf_level, self._n_draws, self._seed = conf_level, n_draws, seed

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
        intervals = monte_carlo_intervals(
            fit,
            covariance,
            conf_level=self._conf_level,
            n_draws=self._n_draws,
            rng=np.random.default_rng(self._seed),
        )
        names = [d.name for d in fit.model.defined]
        notes = (covariance.sentence, f"{intervals.sentence.rstrip('.')}; seed {self._seed}.")
        return mediation_effects(names, tests, intervals), notes

    def effects(self) -> pd.DataFrame:
        """Indirect, direct and total effects per level, and contextual ones in 1-1-1.

        Columns: ``effect, level, estimate, std_error, statistic, p_value`` (delta method),
        ``conf_low, conf_high`` (Monte Carlo), ``delta_low, delta_high``.
        """
        out = frame_of_records(self._found[0], MediationEffect)
        out.attrs["sentence"] = " ".join(self._found[1])
        return out

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer in words, one sentence per level."""
        cluster = self.model.fit.model.cluster
        return mediation_sentences(self.plan, self._found[0], cluster, self._conf_level)

    def sections(self) -> list[Section]:
        """The summary as its sections, to be laid out anew."""
        effects, notes = self._found
        return mediation_sections(effects, self.sentences, notes, self.model.sections())

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(self._title(), self.sections(), width)

    def _title(self) -> tuple[str, ...]:
        return mediation_title(self.plan, self.model.fit.model.cluster)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(self._title(), self.sections())
