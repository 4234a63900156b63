"""The fit with a latent cluster mean that users hold."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records, square_frame
from multilevel.api.result import MultilevelFit
from multilevel.api.structural_result import StructuralResult, check_option
from multilevel.errors import ModelError
from multilevel.infer.structural import covariance_if_any, label_duals
from multilevel.interpret.latent_mean import (
    EFFECTS,
    MeanReliability,
    VariancePart,
    attenuation_sentence,
    average_reliability,
    effect_tests,
    fixed_labels,
    mean_reliability,
    named_tests,
    predicted,
    random_effects,
    variance_parts,
)
from multilevel.model.latent_mean import LatentMeanPlan
from multilevel.report.html import render_html
from multilevel.report.latent_mean import (
    LatentMeanReport,
    latent_mean_equations,
    latent_mean_sections,
    latent_mean_title,
)
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.structural_document import structural_document
from multilevel.report.write import check_report_path, write_document

if TYPE_CHECKING:
    from multilevel.estimate.records import Certificate
    from multilevel.report.plots.backend import ggplot


class LatentMeanFit:
    """A fitted model with a latent cluster mean; printing it gives the summary.

    ``multilevel.fit`` makes it of ``between(x, g, latent=True)``. Verbs of ``MultilevelFit`` that
    it lacks refuse, and say what to use.

    Attributes
    ----------
    plan : the question and the structural model that answers it (``plan.text``).
    model : that model, fitted (``StructuralResult``), with everything it can do.
    observed : the same formula with the observed mean, by ML (``MultilevelFit``).
    rows : positions of the analysed rows in the table.
    """

    def __init__(
        self, plan: LatentMeanPlan, model: StructuralResult, observed: MultilevelFit, rows: Any
    ) -> None:
        self.plan, self.model, self.observed, self.rows = plan, model, observed, rows

    def __getattr__(self, name: str) -> Any:
        """Refuse the verbs of other fits in words."""
        if not name.startswith("_") and hasattr(MultilevelFit, name):
            raise ModelError(
                "A model with a latent cluster mean answers what its summary shows.",
                f"{name}, which is a verb of models with observed predictors",
                f"use fit.observed.{name} for the model with the observed mean, or fit.model (the"
                " structural model): parameters, factor_scores, defined, plot",
            )
        raise AttributeError(f"LatentMeanFit has no {name!r}")

    @cached_property
    def _covariance(self) -> Any:
        return covariance_if_any(self.model.problem, self.model.fit, self.model.std_errors)

    # -- the model for the means ---------------------------------------------------------------

    @property
    def fixed_effects(self) -> pd.Series[float]:
        """Estimated fixed effects by term; that of the latent mean under its name."""
        duals = label_duals(self.model.fit)
        values = {name: duals[label][0] for name, label in fixed_labels(self.plan).items()}
        return pd.Series(values, name="estimate")

    @property
    def vcov_fixed(self) -> pd.DataFrame:
        """Covariance of the fixed effects, (p, p) by term."""
        duals = label_duals(self.model.fit)
        labels = fixed_labels(self.plan)
        rows = np.array([duals[label][1] for label in labels.values()])
        return square_frame(rows @ self._covariance.vcov @ rows.T, tuple(labels))

    def coefficients(self, conf_level: float = 0.95) -> pd.DataFrame:
        """Fixed effects with z tests and intervals.

        Columns: ``term, estimate, std_error, statistic, p_value, conf_low, conf_high``.
        """
        labels = fixed_labels(self.plan)
        tests = named_tests(self.model.fit, list(labels.values()), self._covariance, conf_level)
        return _tests_frame("term", list(labels), tests)

    def within_between(self, conf_level: float = 0.95) -> pd.DataFrame:
        """The within, the between and the contextual effect of the predictor.

        Columns: ``component, estimate, std_error, statistic, p_value, conf_low, conf_high``, and
        ``observed_mean``, the estimate with the observed mean. ``attrs["sentence"]`` compares.
        """
        tests = effect_tests(self.model.fit, self._covariance, conf_level)
        out = _tests_frame("component", list(EFFECTS), tests)
        out["observed_mean"] = self._observed_effects
        out.attrs["sentence"] = self.sentence
        return out

    @property
    def _observed_effects(self) -> tuple[float, float, float]:
        question, beta = self.plan.question, self.observed.fixed_effects
        second = float(beta[question.observed_name])
        if self.plan.is_contextual:
            first = float(beta[question.variable])
            return first, first + second, second
        first = float(beta[question.within_name])
        return first, second, second - first

    @property
    def sentence(self) -> str:
        """The contextual effect with the latent and with the observed mean, in words."""
        effects = effect_tests(self.model.fit, self._covariance, 0.95)
        found = average_reliability(mean_reliability(self.model.problem, self.model.fit, self.plan))
        return attenuation_sentence(self.plan, effects, self._observed_effects[2], found)

    def reliability(self) -> pd.DataFrame:
        """Reliability of the observed cluster mean: ``cluster_size, n_clusters, reliability``."""
        found = mean_reliability(self.model.problem, self.model.fit, self.plan)
        return frame_of_records(found, MeanReliability)

    # -- the model for the variance ------------------------------------------------------------

    def variance_components(self) -> pd.DataFrame:
        """Variances of random effects, residual and predictor.

        Columns: ``group, component, estimate, std_error``.
        """
        parts = variance_parts(self.model.problem, self.model.fit, self.plan, self._covariance)
        return frame_of_records(parts, VariancePart)

    @property
    def residual_variance(self) -> float:
        """Residual variance of the outcome."""
        table = self.variance_components()
        return float(table.query("group == 'residual'")["estimate"].iloc[0])

    def random_effects(self) -> pd.DataFrame:
        """Random effects of each cluster: ``group, level, term, estimate, std_error``."""
        found = random_effects(self.model.problem, self.model.fit, self.plan)
        labels = self.model.problem.design.groups[0].clusters
        parts = [
            pd.DataFrame({"group": self.plan.question.cluster, "level": labels, "term": term,
                          "estimate": values, "std_error": error})
            for term, (values, error) in found.items()
        ]  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def latent_means(self) -> pd.DataFrame:
        """The latent mean of the predictor of each cluster.

        Columns: ``cluster, estimate, std_error, reliability``.
        """
        scores = self.model.factor_scores("between")
        mine = scores[scores["variable"] == self.plan.question.variable]
        return mine[["cluster", "estimate", "std_error", "reliability"]].reset_index(drop=True)

    def predict(
        self, kind: Literal["conditional", "population"] = "conditional"
    ) -> pd.Series[float]:
        """Expected outcome of the analysed rows, with the latent means at their estimates.

        Parameters
        ----------
        kind : ``"conditional"`` with the random effects of the cluster, ``"population"`` with these
            at zero.

        Returns
        -------
        (n,) by position of the row in the table.
        """
        check_option("kind", kind, ("conditional", "population"))
        values = predicted(self.model.problem, self.model.fit, self.plan,
                           with_random=kind == "conditional")  # fmt: skip
        return pd.Series(values, index=list(self.rows), name="estimate")

    # -- the fit -------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """``"ml"``, the only one."""
        return "ml"

    @property
    def minus2_loglik(self) -> float:
        """-2 log-likelihood of outcome and predictor together."""
        return self.model.minus2_loglik

    @property
    def n_parameters(self) -> int:
        """All estimated parameters, those of the predictor included."""
        return self.model.fit.n_parameters

    @property
    def aic(self) -> float:
        """AIC of outcome and predictor together: not comparable with models of the outcome."""
        return self.model.fit.aic

    @property
    def bic(self) -> float:
        """BIC (rows) of outcome and predictor together."""
        return self.model.fit.bic

    @property
    def n(self) -> int:
        """Number of analysed rows."""
        return self.model.problem.design.n_rows

    @property
    def groups(self) -> dict[str, int]:
        """Number of clusters."""
        return {self.plan.question.cluster: self.model.problem.design.n_clusters}

    @property
    def certificate(self) -> Certificate:
        """Evidence that the estimates are the optimum."""
        return self.model.certificate

    @property
    def is_singular(self) -> bool:
        """Whether a variance is estimated at zero, or a correlation at one."""
        return self.certificate.status == "singular"

    # -- words ---------------------------------------------------------------------------------

    @property
    def equations(self) -> str:
        """The model as equations, in plain text."""
        return latent_mean_equations(self.plan)

    def sections(self) -> list[Section]:
        """The summary as its sections, to be laid out anew."""
        labels = fixed_labels(self.plan)
        fit, problem = self.model.fit, self.model.problem
        report = LatentMeanReport(
            plan=self.plan, problem=problem, fit=fit, names=tuple(labels),
            tests=named_tests(fit, list(labels.values()), self._covariance, 0.95),
            effects=effect_tests(fit, self._covariance, 0.95), observed=self._observed_effects,
            variances=variance_parts(problem, fit, self.plan, self._covariance),
            reliability=mean_reliability(problem, fit, self.plan), sentence=self.sentence,
            faults=self.model.inadmissible, boundary=self.model.boundary,
        )  # fmt: skip
        return latent_mean_sections(report)

    def summary(self, *, width: int = WIDTH) -> str:
        """The summary as text of at most ``width`` characters per line."""
        return render_text(latent_mean_title(self.plan), self.sections(), width)

    def plot(self, name: str = "paths", **options: Any) -> ggplot:
        """Pictures of the structural model; options and errors as ``StructuralResult.plot``."""
        return self.model.plot(name, **options)

    def report(self, path: str | Path, *, pictures: bool = True) -> Path:
        """Write the fit as .html, .md, .docx or .tex; errors as ``StructuralResult.report``."""
        target = check_report_path(path)
        drawn = self.model.drawn_pictures(None) if pictures else []
        title = latent_mean_title(self.plan)
        document = structural_document(title[0], f"fit({title[1]!r})", self.plan.text,
                                       self.sections(), drawn)  # fmt: skip
        return write_document(document, target)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(latent_mean_title(self.plan), self.sections())


def _tests_frame(first: str, names: list[str], tests: Any) -> pd.DataFrame:
    out = pd.DataFrame(
        {
            first: names,
            "estimate": tests.estimate,
            "std_error": tests.std_error,
            "statistic": tests.statistic,
            "p_value": tests.p_value,
            "conf_low": tests.conf_low,
            "conf_high": tests.conf_high,
        }
    )
    out.attrs["sentence"], out.attrs["conf_level"] = tests.sentence, tests.conf_level
    return out
