"""Fits with structured residuals: what users hold, and what such a fit cannot give."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from multilevel.api.frames import square_frame
from multilevel.api.result import MultilevelFit, require_certified
from multilevel.api.structured_checks import StructuredCheckMethods
from multilevel.api.structured_effects import StructuredEffectMethods
from multilevel.api.structured_holder import refuse
from multilevel.api.structured_intervals import StructuredIntervalMethods
from multilevel.api.structured_words import StructuredWordMethods
from multilevel.design.blocks import check_allowed
from multilevel.design.build import build_design
from multilevel.design.records import Design
from multilevel.errors import DataWarning, InferenceError, ModelError
from multilevel.estimate.mean_power import fit_design
from multilevel.interpret.residual_variance import residual_matrix, total_matrix
from multilevel.model.formula.parse import parse_formula
from multilevel.model.random_scale import check_random_scale
from multilevel.model.residual import check_scale, parse_residual
from multilevel.model.specification import check_method
from multilevel.report.facts import labels_of
from multilevel.tables.table import as_table

if TYPE_CHECKING:
    from multilevel.model.specification import Method


def fit_structured(
    formula: str,
    data: Any,
    residual: str | None,
    scale: str | None,
    *,
    method: str | None,
    weights: Any,
    engine: str | None,
    rank_deficient: Any,
    advice: bool,
    allow: Sequence[str],
    random_scale: Mapping[str, str] | str | None = None,
) -> StructuredFit:
    """Fit a model that has a residual structure, or a model for one of its variances.

    Parameters and errors as in ``multilevel.fit``.
    """
    if engine not in (None, "nested"):
        raise ModelError(
            "Structured residuals are estimated by the nested engine.",
            f"engine={engine!r}",
            "leave engine out",
        )
    clock = [time.perf_counter()]
    words = parse_formula(formula, check_method("reml" if method is None else method))
    model = replace(
        words,
        residual=None if residual is None else parse_residual(residual),
        scale=None if scale is None else check_scale(scale),
        random_scale=()
        if random_scale is None
        else check_random_scale(random_scale, [term.factors for term in words.random]),
    )
    clock.append(time.perf_counter())
    table = as_table(data)
    design = build_design(model, table, weights=weights, rank_deficient=rank_deficient, allow=allow)
    clock.append(time.perf_counter())
    structured, whitened, solved = fit_design(design, method=model.method)
    clock.append(time.perf_counter())
    stages = ("formula", "design", "estimation")
    seconds = {name: clock[i + 1] - clock[i] for i, name in enumerate(stages)}
    solved = replace(solved, seconds=seconds)
    if design.dropped_columns:
        warnings.warn(
            f"{len(design.dropped_columns)} fixed-effect column(s) left out because they repeat "
            "others: " + "; ".join(design.dropped_columns.values()),
            DataWarning,
            stacklevel=4,
        )
    allowed = check_allowed(allow)
    require_certified(solved, allowed, stacklevel=5)
    return StructuredFit(
        structured, whitened, solved, labels=labels_of(table), shows_advice=advice, allow=allowed
    )


class StructuredFit(
    StructuredWordMethods, StructuredIntervalMethods, StructuredCheckMethods,
    StructuredEffectMethods,
):  # fmt: skip
    """A fitted model with structured residuals, made by ``multilevel.fit(residual=, scale=)``.

    All that ``MultilevelFit`` offers and that holds for such a model works the same; what is not
    derived for it yet raises ``InferenceError``. ``residual_variance`` is the variance of a row of
    the reference (first category of ``by``, first occasion, scale predictors zero, weight 1).

    Examples
    --------
    >>> import multilevel as mlm
    >>> data = {
    ...     "y": [1.0, 2.1, 2.9, 4.2, 0.5, 1.1, 2.5, 2.6, 2.0, 2.2, 3.9, 4.6],
    ...     "t": [0, 1, 2, 3] * 3,
    ...     "id": ["a"] * 4 + ["b"] * 4 + ["c"] * 4,
    ... }
    >>> m = mlm.fit("y ~ t", data, residual="ar1(t | id)")
    >>> m.residual_parameters()["term"].tolist()
    ['rho']
    """

    def _again(self, design: Design, method: Method) -> StructuredFit:
        structured, whitened, fit = fit_design(design, method=method, psi_start=self._psi)
        require_certified(fit, self._allow, stacklevel=4)
        return StructuredFit(
            structured, whitened, fit, labels=self._labels, shows_advice=self._shows_advice,
            allow=self._allow,
        )  # fmt: skip

    # -- the model for the variance ------------------------------------------------------------

    def residual_covariance(self, unit: Hashable = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``R`` and its correlations for the rows of one unit of the residual structure.

        Default: the unit with the most rows (the first of them). Rows are in the order of time,
        labelled by position among the analysed rows.
        """
        found = residual_matrix(self.design, self.fit, unit)
        labels = [str(row) for row in found.rows]
        return square_frame(found.covariance, labels), square_frame(found.correlation, labels)

    def cluster_covariance(
        self, group: str | None = None, level: Hashable = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``V = ZGZ' + R`` and VCORR of one cluster; see ``MultilevelFit.cluster_covariance``."""
        found = total_matrix(self.design, self.fit, group, level)
        labels = [str(row) for row in found.rows]
        return square_frame(found.covariance, labels), square_frame(found.correlation, labels)

    # -- other data, other methods -------------------------------------------------------------

    def refit(self, y: Any) -> StructuredFit:
        """Fit the same model to another response, (n,) in the order of the analysed rows."""
        values = np.ascontiguousarray(y, dtype=np.float64)
        if values.shape != self.design.y.shape or not np.all(np.isfinite(values)):
            raise InferenceError(
                "A new response must have one finite value per analysed row.",
                f"shape {values.shape} for {self.design.n} rows",
                "pass the response of the analysed rows, in their order",
            )
        design = replace(self.design, y=values)
        return self._again(design, self.fit.method)

    def update(self, *, method: Method) -> StructuredFit:
        """Fit the same model to the same rows by ``"ml"`` or ``"reml"``."""
        checked = check_method(method)
        model = replace(self.design.model, method=checked)
        design = replace(self.design, model=model)
        return self._again(design, checked)


def _refusing(name: str) -> Callable[..., Any]:
    def method(self: StructuredFit, *_args: Any, **_options: Any) -> NoReturn:
        refuse(f"{name}()", "fit the model without residual= and scale= to use it")

    method.__name__ = name
    method.__doc__ = "Not available for a model with structured residuals (``InferenceError``)."
    return method


#: Inherited methods that hold for structured residuals as they are; all others are refused.
INHERITED = frozenset({
    "advice", "aic", "anova", "bic", "certificate", "coefficients", "comparisons", "contrast",
    "design", "equations", "fitted", "fixed_effects", "groups", "information_criteria",
    "cluster_random_covariance", "is_singular", "johnson_neyman", "marginal_means", "method",
    "methods_paragraph",
    "minus2_loglik", "n", "n_parameters", "normality", "pairwise_comparisons",
    "quantile_plot_data", "quantile_residuals", "random_covariance",
    "random_intervals", "random_scale_effects", "reml_criterion", "report",
    "residual_autocorrelation", "residual_variance", "robust", "row_variances",
    "rows", "sections", "slopes", "structure_parameters", "summary", "test", "to_dict", "to_json",
    "variance_components", "vcov_fixed", "vcov_robust",
    "within_between",
})  # fmt: skip

for _name in dir(MultilevelFit):
    is_its_own = getattr(StructuredFit, _name) is not getattr(MultilevelFit, _name)
    if not _name.startswith("_") and _name not in INHERITED and not is_its_own:
        setattr(StructuredFit, _name, _refusing(_name))
