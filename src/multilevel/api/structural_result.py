"""The fitted structural model that users hold. Methods are one call each into the rooms below."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records, square_frame
from multilevel.api.structural_bounds import StructuralBoundMethods
from multilevel.api.structural_levels import StructuralLevelMethods
from multilevel.api.structural_pictures import StructuralPictureMethods
from multilevel.api.structural_scores import StructuralScoreMethods
from multilevel.errors import ModelError
from multilevel.estimate.structural import (
    StructuralFit,
    StructuralProblem,
    fit_independence,
    fit_saturated,
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
from multilevel.infer.structural_bootstrap import BootstrapIntervals, bootstrap_intervals
from multilevel.infer.structural_fit import FitMeasures, criteria_alone, fit_measures
from multilevel.infer.structural_modification import ModificationIndex, modification_indices
from multilevel.infer.structural_monte_carlo import MonteCarloIntervals, monte_carlo_intervals
from multilevel.infer.structural_profile import ProfileIntervals, profile_intervals
from multilevel.interpret.structural import (
    ExplainedVariance,
    explained_variances,
    inadmissible,
    standardized_solution,
)
from multilevel.interpret.structural_advice import structural_advice
from multilevel.interpret.structural_nested import higher_level_slopes, nested_advice
from multilevel.interpret.structural_slopes import LevelTwoSlope, level_two_slopes
from multilevel.model.structural.records import Parameter
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.structural import StructuralReport, structural_sections, structural_title

if TYPE_CHECKING:
    from multilevel.estimate.records import Certificate

DefinedInterval = Literal["delta", "monte_carlo", "profile", "bootstrap"]


def check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse an option that is not in ``allowed``.

    Raises
    ------
    ModelError : names the options.
    """
    if value not in allowed:
        raise ModelError(
            f"{name} is one of {', '.join(map(repr, allowed))}.",
            f"{value!r}",
            f"write {name}={allowed[0]!r}",
        )


def interval_of(
    problem: StructuralProblem,
    fit: StructuralFit,
    covariance: StructuralCovariance,
    interval: str,
    conf_level: float,
    n_draws: int | None,
    seed: int | np.random.Generator | None,
) -> BootstrapIntervals | MonteCarloIntervals | ProfileIntervals:
    """Intervals of the defined parameters of a kind other than ``"delta"``."""
    if interval == "profile":
        return profile_intervals(problem, fit, conf_level)
    rng = np.random.default_rng(seed)
    if interval == "bootstrap":
        return bootstrap_intervals(
            problem,
            fit,
            conf_level=conf_level,
            n_draws=1_000 if n_draws is None else n_draws,
            rng=rng,
        )
    return monte_carlo_intervals(
        fit,
        covariance,
        conf_level=conf_level,
        n_draws=20_000 if n_draws is None else n_draws,
        rng=rng,
    )


class StructuralResult(
    StructuralPictureMethods,
    StructuralScoreMethods,
    StructuralBoundMethods,
    StructuralLevelMethods,
):
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

        Columns: ``level, group, lhs, op, rhs, label, status`` (free, fixed, exogenous,
        boundary),
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

        Raises
        ------
        ModelError : random slopes, with which variances depend on the predictors.
        """
        if self.fit.model.random_slopes:
            raise ModelError(
                "A standardised solution needs one variance per variable.",
                f"with the random slopes {', '.join(self.fit.model.slope_names)} the variance of"
                " their outcomes depends on the predictors",
                "standardise the variables before fitting",
            )
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
        n_draws: int | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """The defined parameters (``:=``), one row each, with delta-method errors and z tests.

        Parameters
        ----------
        interval : ``"delta"``; for products and other skew functions ``"monte_carlo"`` (the middle
            of ``n_draws`` draws of the estimates, made with ``seed``), ``"profile"`` (profile
            likelihood) or ``"bootstrap"`` (the middle of ``n_draws`` refits on resampled clusters).
        std_errors : as in ``sem``; None for the fit's own.
        conf_level : confidence level.
        n_draws, seed : for ``"monte_carlo"`` (20,000 draws if None) and ``"bootstrap"`` (1,000).
        """
        check_option("interval", interval, get_args(DefinedInterval))
        rows = self.fit.model.defined
        names = {"term": [d.name for d in rows], "expression": [d.source for d in rows]}
        covariance = self._covariance(std_errors)
        out = _with_tests(names, z_tests(*defined_values(self.fit), covariance, conf_level))
        if interval != "delta":
            found = interval_of(
                self.problem, self.fit, covariance, interval, conf_level, n_draws, seed
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
            "level": [self.fit.model.level_name(p.level) for p in rows],
            "group": [self.fit.model.groups[p.group] for p in rows],
            "lhs": [p.lhs for p in rows],
            "op": [p.op for p in rows],
            "rhs": [p.rhs for p in rows],
            "label": [p.label for p in rows],
            "status": [_status(p, self.fit) for p in rows],
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
    def advice(self) -> tuple[str, ...]:
        """What to look at again, one sentence each (variables whose between part was left out)."""
        return structural_advice(self.problem, self.fit) + nested_advice(self.problem, self.fit)

    @cached_property
    def fit_measures(self) -> FitMeasures:
        """Chi-square (scaled too), CFI, TLI, RMSEA, SRMR within and between, AIC, BIC."""
        if self.fit.model.random_slopes:
            return criteria_alone(self.fit)
        saturated, independence = fit_saturated(self.problem), fit_independence(self.problem)
        return fit_measures(self.problem, self.fit, saturated, independence)

    def modification_indices(self, *, least: float = 0.0) -> pd.DataFrame:
        """What -2 log-likelihood would gain from one more loading or covariance: score tests.

        Parameters
        ----------
        least : only indices of at least this size (3.84 is p < .05 for one that was chosen before
            looking).

        Columns: ``level, group, lhs, op, rhs, index`` (chi-square, 1 df), ``expected_change,
        p_value``, largest first. Source: Sorbom 1989 (Psychometrika 54:371).

        Raises
        ------
        InferenceError : a model with random slopes.
        """
        found = modification_indices(self.problem, self.fit)
        out = frame_of_records([m for m in found if m.index >= least], ModificationIndex)
        out.attrs["sentence"] = (
            "Score tests with the expected information; the largest of many is large by chance:"
            " free a parameter for a reason, and test it in other data."
        )
        return out

    def r_squared(self) -> pd.DataFrame:
        """Explained variance of every variable that has a predictor or a latent cause, per level.

        Columns: ``level, group, outcome, variance, residual_variance, r_squared``.
        """
        return frame_of_records(explained_variances(self.problem, self.fit), ExplainedVariance)

    def level_two_slopes(self, *, std_errors: StdErrorType | None = None) -> pd.DataFrame:
        """For every upper-level slope with a partner below: is it between or contextual, and both.

        Columns: ``group, outcome, predictor, within_predictor, kind, within, between, contextual``
        with standard errors, ``p_contextual``, the sentence and ``level``. Above the second level
        ``within`` is the slope one level below.
        """
        return frame_of_records(self._upper_slopes(self._covariance(std_errors)), LevelTwoSlope)

    def _upper_slopes(self, covariance: StructuralCovariance) -> tuple[LevelTwoSlope, ...]:
        found = level_two_slopes(self.problem, self.fit, covariance)
        return found + higher_level_slopes(self.problem, self.fit, covariance)

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
            slopes=self._upper_slopes(covariance),
            faults=self.inadmissible,
            boundary=self.boundary,
            measures=self.fit_measures,
            advice=self.advice,
        )
        return structural_sections(report)

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(structural_title(self.fit), self.sections(), width)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(structural_title(self.fit), self.sections())


def _status(p: Parameter, fit: StructuralFit) -> str:
    if not p.is_free:
        return "exogenous" if p.origin == "exogenous" else "fixed"
    is_held = fit.boundary is not None and not np.any(fit.boundary.tangent[p.free])
    return "boundary" if is_held else "free"


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
