"""The door of measurement invariance: latent variables and data in, a comparison of models out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.structural_clusters import cluster_columns, is_stated_nested
from multilevel.api.structural_mixed_door import are_crossed
from multilevel.api.structural_result import StructuralResult, check_option
from multilevel.design.structural import (
    MISSING,
    Missing,
    build_structural_design,
    group_labels,
)
from multilevel.errors import EstimationError, ModelError
from multilevel.estimate.structural import (
    StructuralFit,
    fit_independence,
    fit_model,
    fit_saturated,
    prepare_structural,
)
from multilevel.infer.structural import StdErrorType, check_std_errors
from multilevel.infer.structural_fit import FitMeasures, fit_measures
from multilevel.infer.structural_invariance import (
    ConstraintTest,
    InvarianceTest,
    constraint_tests,
    difference_tests,
)
from multilevel.interpret.structural_invariance import (
    below_zero,
    highest_step,
    invariance_sentences,
)
from multilevel.model.structural.build import build_structural
from multilevel.model.structural.identify import check_identified
from multilevel.model.structural.invariance import InvarianceStep, plan_invariance
from multilevel.model.structural.parse import parse_structural
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.structural_document import structural_document
from multilevel.report.structural_invariance import invariance_sections
from multilevel.report.structural_levels import unit_lines
from multilevel.report.write import check_report_path, write_document
from multilevel.tables.table import Table, as_table


def invariance(
    text: str,
    data: Any,
    *,
    cluster: str | Sequence[str] | None = None,
    group: str | None = None,
    free: Sequence[str] = (),
    missing: Missing = "fiml",
    std_errors: StdErrorType = "observed",
    alpha: float = 0.05,
) -> InvarianceResult:
    """Do items measure the same across levels, or across groups? Fits and compares all steps.

    Without ``group``, across the two levels of ``cluster``: *configural* (same items), *weak*
    (equal loadings), *strong* (no residual variance of items between clusters besides: no cluster
    bias; Jak, Oort & Dolan 2013). With three levels, ``cluster="school/class"``, across all three.
    With ``group``, across groups, of rows or (with ``cluster``) of clusters: *configural*, *weak*,
    *strong* (equal intercepts; means of the latent variables free in all groups but the first),
    *strict* (equal residual variances). The first loading of each latent variable is its unit, and
    its variance is free at each level and in each group.

    Parameters
    ----------
    text : the latent variables, ``f =~ y1 + y2 + y3``, one line each, and residual covariances
        ``y1 ~~ y2``; no levels and labels, the steps write these.
    data : any table.
    cluster : column of the level-2 units; ``"school/class"``, or a list of columns from below, for
        three levels or more.
    group : column of the groups.
    free : parameters to leave out of the equalities (partial invariance): ``"f =~ y4"``,
        ``"y4 ~ 1"``, ``"y4 ~~ y4"``.
    missing : ``"fiml"`` uses all values that are there, ``"listwise"`` complete rows.
    std_errors : ``"robust"`` (MLR) scales the chi-squares and their differences (Satorra & Bentler
        2001); ``"observed"`` and ``"expected"`` do not.
    alpha : a step holds if its difference test has a p of at least this.

    Returns
    -------
    InvarianceResult : prints as an answer with its evidence.

    Raises
    ------
    FormulaError, ModelError : a text that is not a definition of latent variables; neither cluster
        nor group; two items at a level where three are needed.
    TableError, DesignError : data that do not hold what the models need.
    EstimationError : a step whose optimum is not shown.

    Examples
    --------
    >>> import multilevel as mlm, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> school = np.repeat(np.arange(60), 10)
    >>> trait = rng.normal(size=60)[school] + rng.normal(size=600)
    >>> items = {f"y{k}": trait + rng.normal(size=600) for k in range(1, 5)}
    >>> found = mlm.invariance(
    ...     "trait =~ y1 + y2 + y3 + y4", {"school": school, **items}, cluster="school"
    ... )
    >>> found.highest
    'strong'
    """
    check_option("missing", missing, MISSING)
    kind = check_std_errors(std_errors)
    if not 0.0 < alpha < 1.0:
        raise ModelError("alpha lies between 0 and 1.", repr(alpha), "write alpha=0.05")
    if cluster is None and group is None:
        raise ModelError(
            "Invariance is across levels or across groups.",
            "neither cluster nor group",
            'write cluster="school" (levels) or group="country" (groups)',
        )
    table = as_table(data)
    clusters = cluster_columns(cluster, table)
    if not is_stated_nested(cluster, table) and are_crossed(table, clusters):
        raise ModelError(
            "invariance() takes clusters that are nested.",
            f"labels of {clusters[0]} that stand in several {clusters[1]}",
            f'if they are different units there, write cluster="{"/".join(reversed(clusters))}"',
        )
    groups = group_labels(table, group)
    if group is not None and len(groups) < 2:
        raise ModelError("Groups are compared with each other.", f"{group!r} has one value",
                         "name another column")  # fmt: skip
    steps = plan_invariance(text, clusters=clusters, n_groups=len(groups), free=free)
    results = _fit_steps(steps, table, clusters, group, groups, missing, kind)
    return InvarianceResult(steps, results, alpha)


def _fit_steps(
    steps: Sequence[InvarianceStep],
    table: Table,
    clusters: tuple[str, ...],
    group: str | None,
    groups: tuple[str, ...],
    missing: Missing,
    kind: StdErrorType,
) -> dict[str, StructuralResult]:
    """All steps on the same sums of the data."""
    models = []
    for step in steps:
        first = clusters[0] if clusters else None
        parsed = parse_structural(step.text, first, clusters[1:])
        models.append(build_structural(parsed, cluster=first or "", groups=groups))
        check_identified(models[-1])
    design = build_structural_design(models[0], table, group=group, missing=missing)
    problem = prepare_structural(design)
    out: dict[str, StructuralResult] = {}
    for step, model in zip(steps, models, strict=True):
        own = replace(problem, design=replace(design, model=model))
        fit = fit_model(own)
        _require_certified(step, fit)
        out[step.name] = StructuralResult(own, fit, kind)
    return out


def _require_certified(step: InvarianceStep, fit: StructuralFit) -> None:
    if not fit.certificate.is_certified:
        raise EstimationError(
            "Every step must be shown to be at its optimum before the steps are compared.",
            f"the {step.name} step: {fit.certificate.sentence}",
            "rescale items of very different spread, use fewer items, or look at the step by "
            f"mlm.sem with allow=('not_certified',) and this text:\n{step.text}",
        )


class InvarianceResult:
    """Steps of measurement invariance, compared. ``multilevel.invariance`` makes it.

    Attributes
    ----------
    steps : what each step holds equal, and its text in the language of ``sem``.
    results : ``{step: StructuralResult}``, the fitted models.
    """

    def __init__(
        self, steps: Sequence[InvarianceStep], results: dict[str, StructuralResult], alpha: float
    ) -> None:
        self.steps, self.results, self._alpha = tuple(steps), results, alpha

    @property
    def _is_scaled(self) -> bool:
        return self.results["configural"].std_errors == "robust"

    @property
    def _kind(self) -> str:
        groups = self.results["configural"].fit.model.groups
        return "groups" if len(groups) > 1 else "levels"

    @cached_property
    def _measures(self) -> tuple[FitMeasures, ...]:
        first = self.results["configural"].problem
        saturated, independence = fit_saturated(first), fit_independence(first)
        return tuple(
            fit_measures(r.problem, r.fit, saturated, independence) for r in self.results.values()
        )

    @cached_property
    def _tests(self) -> tuple[InvarianceTest, ...]:
        own = tuple(self.results.values())
        return difference_tests(
            [r.problem for r in own], [r.fit for r in own], self._measures, list(self.results),
            is_scaled=self._is_scaled, alpha=self._alpha,
        )  # fmt: skip

    @cached_property
    def _faults(self) -> dict[str, tuple[ConstraintTest, ...]]:
        own = zip(self.steps[1:], list(self.results.values())[1:], strict=True)
        return {s.name: constraint_tests(r.problem, r.fit, s) for s, r in own}

    @property
    def highest(self) -> str:
        """The highest step that holds, with all steps before it."""
        return highest_step(self._tests)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in words."""
        return invariance_sentences(
            self._kind, self.steps, self._measures, self._tests, self._faults, self._alpha
        )

    def models(self) -> pd.DataFrame:
        """Fit of every step.

        Columns: ``step, minus2_loglik, n_parameters, chi_square, df, p_value, scaling,
        chi_square_scaled, p_value_scaled, cfi, tli, rmsea, rmsea_low, rmsea_high, cfi_robust,
        tli_robust, rmsea_robust, srmr_within, srmr_between, aic, bic, inadmissible`` (what
        no population can have, in words; empty if nothing); with three levels also the SRMR of the
        third, ``srmr_school``, where ``srmr_between`` is that of the second.
        """
        rows = []
        for (name, result), m in zip(self.results.items(), self._measures, strict=True):
            rows.append(
                {
                    "step": name, "minus2_loglik": m.minus2_loglik, "n_parameters": m.n_parameters,
                    "chi_square": m.model.statistic, "df": m.model.df, "p_value": m.model.p_value,
                    "scaling": m.model.scaling, "chi_square_scaled": m.model.scaled,
                    "p_value_scaled": m.model.p_value_scaled, "cfi": m.cfi, "tli": m.tli,
                    "rmsea": m.rmsea, "rmsea_low": m.rmsea_low, "rmsea_high": m.rmsea_high,
                    "cfi_robust": m.cfi_robust, "tli_robust": m.tli_robust,
                    "rmsea_robust": m.rmsea_robust, "srmr_within": m.srmr_within,
                    "srmr_between": m.srmr_between, "aic": m.aic, "bic": m.bic,
                    "inadmissible": " ".join(result.inadmissible),
                }
                | {f"srmr_{level}": value for level, value in m.srmr_higher}
            )  # fmt: skip
        out = pd.DataFrame(rows)
        out.attrs["sentence"] = " ".join(self.sentences)
        return out

    def tests(self) -> pd.DataFrame:
        """Every step against the one before it.

        Columns: ``step, against, statistic, df, p_value`` (scaled with robust standard errors),
        ``scaling, unscaled, change_cfi, change_rmsea, change_srmr_within, change_srmr_between,
        holds``.
        """
        out = frame_of_records(self._tests, InvarianceTest)
        out.attrs["sentence"] = " ".join(self._notes)
        return out

    def constraints(self, step: str | None = None) -> pd.DataFrame:
        """Score tests: what -2 log-likelihood would gain from freeing one constraint of a step.

        Parameters
        ----------
        step : ``"weak"``, ``"strong"``... ; None for all.

        Columns: ``step, parameter, level, group, value`` (at which it is held), ``expected_change,
        statistic`` (chi-square, 1 df), ``p_value``, largest first within a step.

        Raises
        ------
        ModelError : an unknown step.
        """
        if step is not None:
            check_option("step", step, tuple(self._faults))
        rows = [t for name, ts in self._faults.items() if step in (None, name) for t in ts]
        return frame_of_records(rows, ConstraintTest)

    @property
    def _notes(self) -> tuple[str, ...]:
        out = []
        if self._is_scaled:
            out.append(
                "Chi-squares are corrected for non-normality and clustering (MLR); their"
                " differences by Satorra & Bentler (2001; 2010 where that is not positive)."
            )
            if any(not np.isfinite(t.scaling) for t in self._tests):
                out.append("A scaled difference test does not exist for every step here.")
            without = [
                name
                for name, m in zip(self.results, self._measures, strict=True)
                if m.model.df > 0 and not np.isfinite(m.model.scaled)
            ]
            if without:
                out.append(
                    f"No scaled chi-square exists for the {' and the '.join(without)} step (factor"
                    " below 0): the unscaled one is shown."
                )
        if self._kind == "levels":
            out.append(
                "Between residual variances may be estimated below zero, so that zero is not a"
                " boundary and the chi-square of the strong step needs no mixture."
            )
        for name, result in self.results.items():
            out += [
                f"{name.capitalize()} step: {t}" for t in below_zero(result.problem, result.fit)
            ]
        return tuple(out)

    # -- words ---------------------------------------------------------------------------------

    def sections(self) -> list[Section]:
        """The summary as its sections, to be laid out anew."""
        failing = next((t.step for t in self._tests if not t.holds), "")
        return invariance_sections(
            self.steps, self._measures, self._tests, self._faults.get(failing, ()),
            self.sentences, self._notes, is_scaled=self._is_scaled,
        )  # fmt: skip

    def _title(self) -> tuple[str, ...]:
        model, design = self.results["configural"].fit.model, self.results["configural"].problem
        where = f", clusters: {' in '.join(model.clusters)}" if model.cluster else ""
        compared = f"groups {', '.join(model.groups)}" if self._kind == "groups" else "levels"
        return (f"Measurement invariance across {compared}{where}", unit_lines(design.design)[0])

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(self._title(), self.sections(), width)

    def report(self, path: str | Path) -> Path:
        """Write the comparison as .html, .md, .docx or .tex, by the suffix.

        Raises
        ------
        InferenceError : an unknown suffix, or a folder that does not exist.
        """
        target = check_report_path(path)
        text = "\n".join(f"# {s.name}\n{s.text}" for s in self.steps)
        call = f"invariance(text, {'group' if self._kind == 'groups' else 'cluster'}=...)"
        document = structural_document(self._title()[0], call, text, self.sections(), [])
        return write_document(document, target)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(self._title(), self.sections())
