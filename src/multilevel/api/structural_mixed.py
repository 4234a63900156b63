"""The result of structural models with families or crossed clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records, square_frame
from multilevel.api.structural_mixed_scores import MixedScoreMethods
from multilevel.api.structural_result import (
    DefinedInterval,
    StructuralResult,
    check_option,
)
from multilevel.errors import InferenceError, ModelError
from multilevel.estimate.structural_mixed import MixedFit
from multilevel.estimate.structural_mixed_search import parameter_names
from multilevel.infer.structural import (
    ParameterTests,
    StdErrorType,
    StructuralCovariance,
    check_std_errors,
    defined_values,
    z_tests,
)
from multilevel.infer.structural_fit import FitMeasures
from multilevel.infer.structural_mixed import (
    family_parameters,
    held_at_boundary,
    mixed_covariance,
    of_table,
    table_fit,
    table_values,
)
from multilevel.infer.structural_monte_carlo import monte_carlo_intervals
from multilevel.interpret.structural_mixed import (
    LatentResponseVariance,
    mixed_r_squared,
    mixed_standardized,
    scale_sentences,
)
from multilevel.report.document import Picture
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.plots.structural import check_structural_picture, paths_picture
from multilevel.report.structural_mixed import MixedReport, mixed_sections, mixed_title

if TYPE_CHECKING:
    from multilevel.report.plots.backend import ggplot


class MixedStructuralResult(MixedScoreMethods, StructuralResult):
    """A fitted structural model with families or crossed clusters. ``multilevel.sem`` makes it.

    Attributes
    ----------
    mixed : the frozen numbers (``multilevel.estimate.structural_mixed.MixedFit``).
    fit : the free parameters of the table as a structural fit.
    std_errors : the type of standard errors that tables show by default.
    """

    def __init__(self, mixed: MixedFit, std_errors: StdErrorType) -> None:
        self.mixed, self.fit = mixed, table_fit(mixed)
        self.std_errors: StdErrorType = std_errors

    def __getattr__(self, name: str) -> Any:
        if name == "problem":
            raise ModelError(
                "This answer needs a model whose variables are all Gaussian, on nested levels.",
                "a model with families= or crossed clusters",
                "use parameters(), thresholds(), defined(), standardized(), r_squared(), vcov(), "
                "factor_scores() or summary()",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def parameters(
        self, *, std_errors: StdErrorType | None = None, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """The parameter table with estimates, z tests and intervals.

        Columns as ``StructuralResult.parameters``; with crossed clusters ``level`` is the name of
        the cluster column. Thresholds and dispersions: ``thresholds()``.
        """
        tests = z_tests(*table_values(self.mixed), self._full(std_errors), conf_level)
        out = _tests_frame(self._names(), tests)
        out["standardized"] = mixed_standardized(self.mixed)[0]
        return out

    def thresholds(
        self, *, std_errors: StdErrorType | None = None, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Thresholds of ordinal variables, and dispersions, on their natural scale.

        Columns: ``outcome, term, estimate, std_error, conf_low, conf_high`` (delta method).
        """
        found = family_parameters(self.mixed)
        tests = z_tests(found.estimate, found.jacobian, self._full(std_errors), conf_level)
        names = {"outcome": list(found.outcomes), "term": list(found.names)}
        return _tests_frame(names, tests).drop(columns=["statistic", "p_value"])

    def standardized(
        self, *, std_errors: StdErrorType | None = None, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """The standardised solution per level, on the scale of latent responses within clusters.

        NaN where a variable has no variance on one scale: counts within clusters, and what depends
        on a binary or count variable there. Columns as in ``parameters``.
        """
        values, jacobian = mixed_standardized(self.mixed)
        tests = z_tests(values, jacobian, self._full(std_errors), conf_level)
        return _tests_frame(self._names(), tests)

    def defined(
        self,
        *,
        interval: DefinedInterval = "delta",
        std_errors: StdErrorType | None = None,
        conf_level: float = 0.95,
        n_draws: int | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """The defined parameters (``:=``), one row each; ``interval`` delta or Monte Carlo.

        ``attrs["sentence"]`` says on which scale products of slopes are.

        Raises
        ------
        InferenceError : profile or bootstrap intervals.
        """
        check_option("interval", interval, get_args(DefinedInterval))
        if interval not in ("delta", "monte_carlo"):
            raise InferenceError(
                "Models with families= or crossed clusters have delta-method and Monte Carlo "
                "intervals.",
                f"interval={interval!r}",
                'write interval="monte_carlo"',
            )
        rows = self.fit.model.defined
        names = {"term": [d.name for d in rows], "expression": [d.source for d in rows]}
        covariance = of_table(self.mixed, self._full(std_errors))
        out = _tests_frame(names, z_tests(*defined_values(self.fit), covariance, conf_level))
        words = [covariance.sentence, *scale_sentences(self.mixed)]
        if interval == "monte_carlo":
            found = monte_carlo_intervals(
                self.fit, covariance, conf_level=conf_level,
                n_draws=20_000 if n_draws is None else n_draws, rng=np.random.default_rng(seed),
            )  # fmt: skip
            out["conf_low"], out["conf_high"] = found.conf_low, found.conf_high
            words.insert(1, found.sentence)
        out.attrs["sentence"] = " ".join(words)
        return out

    def vcov(self, *, std_errors: StdErrorType | None = None) -> pd.DataFrame:
        """Covariance of all parameters, (q, q), by name.

        Thresholds and dispersions on the scale on which the families hold them.
        """
        return square_frame(self._full(std_errors).vcov, parameter_names(self.mixed.layout))

    def _full(self, std_errors: StdErrorType | None) -> StructuralCovariance:
        kind = self.std_errors if std_errors is None else check_std_errors(std_errors)
        return mixed_covariance(self.mixed, kind)

    def _covariance(self, std_errors: StdErrorType | None) -> StructuralCovariance:
        return of_table(self.mixed, self._full(std_errors))

    def _own_covariance(self) -> StructuralCovariance:
        return self._covariance(None)

    def _names(self) -> dict[str, list[str]]:
        model = self.mixed.layout.design.model
        rows, held = model.parameters, held_at_boundary(self.mixed)
        return {
            "level": list(model.homes),
            "group": [""] * len(rows),
            "lhs": [p.lhs for p in rows],
            "op": [p.op for p in rows],
            "rhs": [p.rhs for p in rows],
            "label": [p.label for p in rows],
            "status": [
                "exogenous" if p.origin == "exogenous" else
                "fixed" if not p.is_free else "boundary" if held[p.free] else "free"
                for p in rows
            ],
        }  # fmt: skip

    # -- fit -----------------------------------------------------------------------------------

    @property
    def aic(self) -> float:
        """-2 log-likelihood + 2 parameters."""
        return self.mixed.aic

    @property
    def bic(self) -> float:
        """-2 log-likelihood + log(rows) parameters."""
        return self.mixed.bic

    @property
    def approximation(self) -> str:
        """How the integrals were computed and how far off the criterion may be, in words."""
        return self.mixed.approximation.sentence

    @cached_property
    def inadmissible(self) -> tuple[str, ...]:
        """Always empty: such estimates end at the boundary (``boundary`` says which)."""
        return ()

    @cached_property
    def advice(self) -> tuple[str, ...]:
        """On which scale slopes and products are, one sentence each."""
        return scale_sentences(self.mixed)

    @cached_property
    def fit_measures(self) -> FitMeasures:
        """Not defined here.

        Raises
        ------
        InferenceError : always; says what to use.
        """
        return self._none("A chi-square test and its indices", "compare aic, bic or minus2_loglik "
                          "of nested models")  # fmt: skip

    def fit_by_level(self) -> pd.DataFrame:
        """Not defined here.

        Raises
        ------
        InferenceError : always; says what to use.
        """
        return self._none(
            "Tests of each level", "compare aic, bic or minus2_loglik of nested models"
        )

    def modification_indices(self, *, least: float = 0.0) -> pd.DataFrame:
        """Not defined here, whatever ``least``.

        Raises
        ------
        InferenceError : always; says what to use.
        """
        return self._none(f"Modification indices (asked for with least={least:g})",
                          "fit the larger model and compare minus2_loglik")  # fmt: skip

    def level_two_slopes(self, *, std_errors: StdErrorType | None = None) -> pd.DataFrame:
        """Not defined here, whatever ``std_errors``.

        Raises
        ------
        InferenceError : always; says what to use.
        """
        self._full(std_errors)
        instead = "label both slopes and define their difference, k := b_b - b_w"
        return self._none("The split of slopes into within and contextual ones", instead)

    def _none(self, what: str, instead: str) -> NoReturn:
        raise InferenceError(
            f"{what} exist for models whose variables are all Gaussian, on nested levels.",
            "a model with families= or crossed clusters",
            instead,
        )

    def r_squared(self) -> pd.DataFrame:
        """Explained variance of every variable that something points at, per level.

        Columns: ``level, outcome, variance, residual_variance, r_squared, scale``; NaN where there
        is no variance on one scale.
        """
        return frame_of_records(mixed_r_squared(self.mixed), LatentResponseVariance)

    def plot(self, name: str = "paths", **options: Any) -> ggplot:
        """Draw ``"paths"`` or ``"indirect"``, as ``StructuralResult.plot``.

        Raises
        ------
        InferenceError : ``"paths"`` with several cluster columns, or as there.
        """
        if name != "paths":
            return super().plot(name, **options)
        check_structural_picture(name, options)
        if len(self.mixed.layout.design.factors) > 1:
            self._none("Path diagrams", 'read parameters(), or draw plot("indirect")')
        tests = z_tests(*table_values(self.mixed), self._full(None), 0.95)
        return paths_picture(self.fit.model, tests, 0)

    def drawn_pictures(self, terms: Sequence[str] | None) -> list[Picture]:
        """Pictures of a report: paths (one cluster column), and defined parameters, if any."""
        from multilevel.report.plots.backend import to_png

        out = []
        if len(self.mixed.layout.design.factors) <= 1:
            out.append(Picture("paths", "Paths, with estimates", to_png(self.plot("paths"))))
        if self.fit.model.defined:
            words = "Distribution of the defined parameters"
            out.append(Picture("indirect", words, to_png(self._indirect(terms))))
        return out

    def sections(self) -> list[Section]:
        """The summary as its sections, to be laid out anew."""
        full = self._full(None)
        family = family_parameters(self.mixed)
        report = MixedReport(
            fit=self.mixed,
            tests=z_tests(*table_values(self.mixed), full, 0.95),
            standardized=mixed_standardized(self.mixed)[0],
            family=family,
            family_tests=z_tests(family.estimate, family.jacobian, full, 0.95),
            defined=z_tests(*defined_values(self.fit), of_table(self.mixed, full), 0.95),
            explained=mixed_r_squared(self.mixed),
            scales=scale_sentences(self.mixed),
        )
        return mixed_sections(report)

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(mixed_title(self.mixed), self.sections(), width)

    def _repr_html_(self) -> str:
        return render_html(mixed_title(self.mixed), self.sections())


def _tests_frame(names: Mapping[str, Sequence[str]], tests: ParameterTests) -> pd.DataFrame:
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
