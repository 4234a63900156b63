"""The door of structural models: text and a table in, a fitted model out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records, square_frame
from multilevel.design.blocks import NOT_CERTIFIED
from multilevel.design.structural import (
    MISSING,
    Missing,
    build_structural_design,
    group_labels,
    has_missing,
)
from multilevel.errors import ConvergenceWarning, EstimationError, ModelError
from multilevel.estimate.structural import (
    StructuralFit,
    StructuralProblem,
    fit_independence,
    fit_model,
    fit_saturated,
    prepare_structural,
)
from multilevel.infer.structural import (
    ParameterTests,
    StdErrorType,
    StructuralCovariance,
    check_std_errors,
    covariance_if_any,
    defined_values,
    parameter_values,
    structural_covariance,
    z_tests,
)
from multilevel.infer.structural_fit import FitMeasures, fit_measures
from multilevel.infer.structural_monte_carlo import monte_carlo_intervals
from multilevel.interpret.structural import (
    ExplainedVariance,
    explained_variances,
    inadmissible,
    standardized_solution,
)
from multilevel.interpret.structural_slopes import LevelTwoSlope, level_two_slopes
from multilevel.model.structural.build import build_structural, fixed_candidates
from multilevel.model.structural.identify import check_identified
from multilevel.model.structural.parse import parse_structural
from multilevel.model.structural.records import (
    EXOGENOUS,
    LATENT_SCALES,
    Exogenous,
    LatentScale,
    Parameter,
)
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.structural import StructuralReport, structural_sections, structural_title
from multilevel.tables.table import as_table

if TYPE_CHECKING:
    from multilevel.estimate.records import Certificate

DefinedInterval = Literal["delta", "monte_carlo"]


def sem(
    text: str,
    data: Any,
    *,
    cluster: str | None = None,
    group: str | None = None,
    missing: Missing = "fiml",
    exogenous: Exogenous = "auto",
    latent_scale: LatentScale = "loading",
    std_errors: StdErrorType = "observed",
    allow: Sequence[str] = (),
) -> StructuralResult:
    r"""Fit a two-level structural equation model by maximum likelihood.

    The language is that of lavaan: ``level: within`` and ``level: between`` open a level;
    ``f =~ y1 + y2`` measures a latent variable, ``y ~ x`` regresses, ``y ~~ z`` lets (residuals)
    covary, ``y ~ 1`` is a mean; ``a*x`` labels, ``0*x`` fixes, ``start(0.5)*x`` starts;
    ``ind := a * b`` defines. See ``multilevel.model.structural.parse.parse_structural`` for all of
    it and ``multilevel.model.structural.build.build_structural`` for what is added by default.

    A variable that is named at both levels is split into a latent within and a latent between
    part (its latent cluster mean), so that its level-2 slopes are *between* slopes. A variable
    that is named at one level only has no part at the other.

    Parameters
    ----------
    text : the model.
    data : a pandas or Polars data frame, a PyArrow table, a dict of columns, or a ``Table``. All
        variables are numbers.
    cluster : column of the level-2 units; None fits a single-level model (no level headings).
    group : column of groups of clusters whose parameters may differ; equal labels make them equal.
    missing : ``"fiml"`` uses all values that are there (right if they are missing at random);
        ``"listwise"`` leaves out rows with a missing value.
    exogenous : predictors that nothing points at. ``"fixed"``: the likelihood is conditional on
        them, without assumptions on their distribution; rows that miss them are left out.
        ``"modelled"``: their means, variances and covariances are free parameters of the joint
        normal distribution, and missing values of theirs are handled as those of outcomes.
        ``"auto"``: fixed where complete. A predictor on both levels is always modelled, because its
        latent parts are not observed.
    latent_scale : ``"loading"`` fixes the first loading of a latent variable at 1, ``"variance"``
        its variance.
    std_errors : ``"observed"``, ``"expected"`` (averages over the model's distribution of the
        predictors) or ``"robust"`` (MLR: valid without normality).
    allow : ``"not_certified"`` returns estimates that are not shown to be the optimum, with a
        warning.

    Returns
    -------
    StructuralResult : prints as a summary.

    Raises
    ------
    FormulaError, ModelError : a text or an option that is not understood or not supported.
    TableError, DesignError : data that do not hold what the model needs.
    EstimationError : parameters that are not identified (named), no feasible start, or estimates
        that are not shown to be the optimum.

    Warns
    -----
    ConvergenceWarning : the estimates are not shown to be the optimum, and that was allowed.

    Examples
    --------
    >>> import multilevel as mlm
    >>> model = '''
    ... level: within
    ...   mathach ~ ses
    ... level: between
    ...   mathach ~ sector
    ... '''
    >>> result = mlm.sem(model, mlm.load_hsb(), cluster="school")
    >>> result.parameters().query("op == '~'")["estimate"].round(2).tolist()
    [2.38, 2.1]
    """
    for name in allow:
        _one_of("allow", name, (NOT_CERTIFIED,))
    _one_of("missing", missing, MISSING)
    _one_of("exogenous", exogenous, EXOGENOUS)
    _one_of("latent_scale", latent_scale, LATENT_SCALES)
    kind = check_std_errors(std_errors)
    table = as_table(data)
    parsed = parse_structural(text, cluster)
    fixed = () if exogenous == "modelled" else fixed_candidates(parsed)
    if exogenous == "auto" and missing == "fiml":
        holes = set(has_missing(table, fixed))
        fixed = tuple(name for name in fixed if name not in holes)
    model = build_structural(
        parsed,
        cluster=cluster or "",
        groups=group_labels(table, group),
        fixed=fixed,
        latent_scale=latent_scale,
    )
    check_identified(model)
    design = build_structural_design(model, table, group=group, missing=missing)
    problem = prepare_structural(design)
    fit = fit_model(problem)
    _require_certified(fit, allow)
    return StructuralResult(problem, fit, kind)


def _require_certified(fit: StructuralFit, allow: Sequence[str]) -> None:
    """Refuse a fit that is not shown to be at its optimum, unless that is allowed."""
    if fit.certificate.is_certified:
        return
    if NOT_CERTIFIED not in allow:
        raise EstimationError(
            "The estimates must be shown to be at the optimum before they are used.",
            fit.certificate.sentence,
            "give start values, like start(0.5)*x, or take relations out of the smaller level. To "
            f'look at the numbers all the same, fit with allow=("{NOT_CERTIFIED}",)',
        )
    warnings.warn(
        f"The fit is not certified, do not trust its numbers: {fit.certificate.sentence}",
        ConvergenceWarning,
        stacklevel=3,
    )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(
            f"{name} is one of {', '.join(map(repr, allowed))}.",
            f"{value!r}",
            f"write {name}={allowed[0]!r}",
        )


class StructuralResult:
    """A fitted structural model; printing it gives the summary. ``multilevel.sem`` makes it.

    Attributes
    ----------
    problem : the data and their sums (``multilevel.estimate.structural.StructuralProblem``).
    fit : the frozen numbers (``multilevel.estimate.structural.StructuralFit``).
    std_errors : the type of standard errors that tables show by default.
    """

    def __init__(
        self,
        problem: StructuralProblem,
        fit: StructuralFit,
        std_errors: StdErrorType,
    ) -> None:
        self.problem, self.fit = problem, fit
        self.std_errors: StdErrorType = std_errors

    # -- the estimates -------------------------------------------------------------------------

    def parameters(
        self, *, std_errors: StdErrorType | None = None, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """The parameter table with estimates, z tests and intervals.

        Columns: ``level, group, lhs, op, rhs, label, status`` (free, fixed, exogenous),
        ``estimate, std_error, statistic, p_value, conf_low, conf_high, standardized``. A fixed
        parameter has no standard error (NaN). ``attrs["sentence"]`` says what they rest on.
        """
        values, jacobian = parameter_values(self.problem, self.fit)
        tests = z_tests(values, jacobian, self._covariance(std_errors), conf_level)
        out = _with_tests(self._names(), tests)
        out["standardized"] = standardized_solution(self.problem, self.fit)[0]
        return out

    def standardized(
        self, *, std_errors: StdErrorType | None = None, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """The solution standardised in all variables, per level, with delta-method errors.

        Variances are the model-implied ones of the level; columns as in ``parameters``.
        """
        values, jacobian = standardized_solution(self.problem, self.fit)
        return _with_tests(
            self._names(), z_tests(values, jacobian, self._covariance(std_errors), conf_level)
        )

    def defined(
        self,
        *,
        interval: DefinedInterval = "delta",
        std_errors: StdErrorType | None = None,
        conf_level: float = 0.95,
        n_draws: int = 20_000,
        seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """The defined parameters (``:=``), one row each, with delta-method errors and z tests.

        Parameters
        ----------
        interval : ``"delta"``, or ``"monte_carlo"`` for products and other skew functions: the
            middle of ``n_draws`` draws of the estimates, made with ``seed``.
        std_errors : as in ``sem``; None for the fit's own.
        conf_level : confidence level.
        n_draws, seed : for ``"monte_carlo"`` only.
        """
        _one_of("interval", interval, get_args(DefinedInterval))
        rows = self.fit.model.defined
        names = {"term": [d.name for d in rows], "expression": [d.source for d in rows]}
        covariance = self._covariance(std_errors)
        out = _with_tests(names, z_tests(*defined_values(self.fit), covariance, conf_level))
        if interval == "monte_carlo":
            rng = np.random.default_rng(seed)
            found = monte_carlo_intervals(
                self.fit, covariance, conf_level=conf_level, n_draws=n_draws, rng=rng
            )
            out["conf_low"], out["conf_high"] = found.conf_low, found.conf_high
            out.attrs["sentence"] = f"{covariance.sentence} {found.sentence}"
        return out

    def vcov(self, *, std_errors: StdErrorType | None = None) -> pd.DataFrame:
        """Covariance of the free parameters, (q, q), by name.

        Raises
        ------
        InferenceError : an information matrix without an inverse.
        """
        kind = self.std_errors if std_errors is None else check_std_errors(std_errors)
        found = structural_covariance(self.problem, self.fit, kind)
        return square_frame(found.vcov, self.fit.model.free_names)

    def _covariance(self, std_errors: StdErrorType | None) -> StructuralCovariance:
        kind = self.std_errors if std_errors is None else check_std_errors(std_errors)
        return covariance_if_any(self.problem, self.fit, kind)

    def _names(self) -> dict[str, list[str]]:
        rows = self.fit.model.parameters
        return {
            "level": [p.level for p in rows],
            "group": [self.fit.model.groups[p.group] for p in rows],
            "lhs": [p.lhs for p in rows],
            "op": [p.op for p in rows],
            "rhs": [p.rhs for p in rows],
            "label": [p.label for p in rows],
            "status": [_status(p) for p in rows],
        }

    # -- fit -----------------------------------------------------------------------------------

    @property
    def minus2_loglik(self) -> float:
        """-2 log-likelihood, conditional on the fixed predictors."""
        return self.fit.criterion

    @property
    def certificate(self) -> Certificate:
        """Evidence that the estimates are the optimum."""
        return self.fit.certificate

    @cached_property
    def inadmissible(self) -> tuple[str, ...]:
        """What no population can have (negative variances, ...), one sentence each."""
        return inadmissible(self.problem, self.fit)

    @cached_property
    def fit_measures(self) -> FitMeasures:
        """Chi-square (scaled too), CFI, TLI, RMSEA, SRMR within and between, AIC, BIC."""
        saturated, independence = fit_saturated(self.problem), fit_independence(self.problem)
        return fit_measures(self.problem, self.fit, saturated, independence)

    def r_squared(self) -> pd.DataFrame:
        """Explained variance of every variable that has a predictor or a latent cause, per level.

        Columns: ``level, group, outcome, variance, residual_variance, r_squared``.
        """
        return frame_of_records(explained_variances(self.problem, self.fit), ExplainedVariance)

    def level_two_slopes(self, *, std_errors: StdErrorType | None = None) -> pd.DataFrame:
        """For every level-2 slope with a level-1 partner: is it between or contextual, and both.

        Columns: ``group, outcome, predictor, within_predictor, kind, within, between, contextual``
        with standard errors, ``p_contextual``, and the sentence.
        """
        covariance = self._covariance(std_errors)
        return frame_of_records(level_two_slopes(self.problem, self.fit, covariance), LevelTwoSlope)

    # -- words ---------------------------------------------------------------------------------

    def sections(self) -> list[Section]:
        """The summary as its sections, to be laid out anew."""
        covariance = self._covariance(None)
        tests = z_tests(*parameter_values(self.problem, self.fit), covariance, 0.95)
        report = StructuralReport(
            problem=self.problem,
            fit=self.fit,
            tests=tests,
            standardized=standardized_solution(self.problem, self.fit)[0],
            defined=z_tests(*defined_values(self.fit), covariance, 0.95),
            explained=explained_variances(self.problem, self.fit),
            slopes=level_two_slopes(self.problem, self.fit, covariance),
            faults=self.inadmissible,
            measures=self.fit_measures,
        )
        return structural_sections(report)

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(structural_title(self.fit), self.sections(), width)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(structural_title(self.fit), self.sections())


def _status(p: Parameter) -> str:
    return "free" if p.is_free else "exogenous" if p.origin == "exogenous" else "fixed"


def _with_tests(names: dict[str, list[str]], tests: ParameterTests) -> pd.DataFrame:
    """Names and tests side by side."""
    out = pd.DataFrame(
        {
            **names,
            "estimate": tests.estimate,
            "std_error": tests.std_error,
            "statistic": tests.statistic,
            "p_value": tests.p_value,
            "conf_low": tests.conf_low,
            "conf_high": tests.conf_high,
        }
    )
    out.attrs["sentence"] = tests.sentence
    out.attrs["conf_level"] = tests.conf_level
    return out
