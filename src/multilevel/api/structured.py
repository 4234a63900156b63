"""Fits with structured residuals: what users hold, and what such a fit cannot give yet."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import frame_of_records, prediction_frame, square_frame
from multilevel.api.result import MultilevelFit, require_certified
from multilevel.design.blocks import check_allowed
from multilevel.design.build import build_design
from multilevel.errors import DataWarning, InferenceError, ModelError
from multilevel.estimate.structured import (
    StructuredPrepared,
    prepare_structured,
    solve_structured,
)
from multilevel.infer.degrees_of_freedom import DfApproach, check_df, default_df
from multilevel.infer.residual_df import structured_kenward_roger, structured_satterthwaite
from multilevel.infer.residual_intervals import (
    ResidualParameter,
    profiled_parameters,
    residual_parameters,
)
from multilevel.interpret.fitted import check_kind, fitted_values
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.predict import (
    IntervalKind,
    NewLevels,
    PredictionKind,
    check_interval,
    predict_rows,
    prediction_interval,
)
from multilevel.interpret.residual_predict import predicted_residuals
from multilevel.interpret.residual_variance import residual_matrix, total_matrix
from multilevel.likelihood.residual.objective import StructuredObjective
from multilevel.model.formula.parse import parse_formula
from multilevel.model.residual import check_scale, parse_residual
from multilevel.model.specification import check_method
from multilevel.report.facts import labels_of
from multilevel.simulate.residual_response import simulate_structured
from multilevel.tables.table import as_table

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.interpret.advice.record import Advice
    from multilevel.model.specification import Method

Array = NDArray[np.float64]


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
) -> StructuredFit:
    """Fit a model that has a residual structure or a model for the residual variance.

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
    )
    clock.append(time.perf_counter())
    table = as_table(data)
    design = build_design(model, table, weights=weights, rank_deficient=rank_deficient, allow=allow)
    clock.append(time.perf_counter())
    structured = prepare_structured(design, method=model.method)
    clock.append(time.perf_counter())
    whitened, solved = solve_structured(structured)
    clock.append(time.perf_counter())
    stages = ("formula", "design", "cross-products", "estimation")
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


class StructuredFit(MultilevelFit):
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

    def __init__(
        self, structured: StructuredPrepared, prepared: Prepared, fit: Fit, **options: Any
    ) -> None:
        super().__init__(prepared, fit, **options)
        self._structured = structured
        self._joint: StructuredObjective | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be computed again."""
        return {**super().__getstate__(), "_joint": None}

    # -- internal ------------------------------------------------------------------------------

    @property
    def _psi(self) -> Array:
        record = self.fit.residual
        phi = np.zeros(0) if record is None else record.phi
        return np.concatenate([self.fit.theta, phi])

    def _joint_objective(self) -> StructuredObjective:
        if self._joint is None:
            self._joint = self._structured.objective()
        self._joint.ensure(self._psi)
        return self._joint

    def _approach(self, df: str | None) -> DfApproach:
        name = default_df(self.fit.method) if df is None else check_df(df)
        if name in ("between-within", "containment"):
            self._check_unit_is_a_factor(name)
        if name not in ("satterthwaite", "kenward-roger"):
            return super()._approach(name)
        if self._approaches is None:
            self._approaches = {}
        if name not in self._approaches:
            joint = self._joint_objective()
            if name == "satterthwaite":
                found: DfApproach = structured_satterthwaite(
                    self._structured, self.fit, joint, self._psi
                )
            else:
                found = structured_kenward_roger(
                    self._structured, self._prepared, self.fit, joint, self._psi
                )
            self._approaches[name] = found
        return self._approaches[name]

    def _check_unit_is_a_factor(self, method: str) -> None:
        """Counted degrees of freedom know the levels of the random terms only."""
        term = self._structured.layout.term
        if term is None or not term.factors:
            return
        if term.group not in {block.group for block in self.design.blocks}:
            _refuse(
                f"df={method!r} without random effects of {term.group}",
                "write df='satterthwaite' or df='kenward-roger'",
            )

    def _again(self, structured: StructuredPrepared) -> StructuredFit:
        whitened, fit = solve_structured(structured, psi_start=self._psi)
        require_certified(fit, self._allow, stacklevel=4)
        return StructuredFit(
            structured, whitened, fit, labels=self._labels, shows_advice=self._shows_advice,
            allow=self._allow,
        )  # fmt: skip

    # -- the model for the variance ------------------------------------------------------------

    def residual_parameters(self, conf_level: float = 0.95) -> pd.DataFrame:
        """Parameters of the residual structure with Wald intervals.

        Columns ``term, estimate, std_error, conf_low, conf_high, sentence``. ``log_variance(...)``
        is the log of a ratio of variances (per unit of a predictor, or against the reference).
        """
        found = residual_parameters(self._structured, self.fit, check_level(conf_level))
        return frame_of_records(found, ResidualParameter)

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

    def confint(self, method: str = "wald", **options: Any) -> pd.DataFrame:
        """Wald intervals of the fixed effects and the residual parameters; profile of the latter.

        ``conf_level`` (and, for ``"wald"``, ``df``) as in ``coefficients``. Columns ``term,
        component, estimate, std_error, conf_low, conf_high``. ``"profile"`` gives the residual
        parameters by the criterion that was fitted; bootstrap intervals are not available.
        """
        allowed = {"wald": {"conf_level", "df"}, "profile": {"conf_level"}}.get(method, set())
        stray = ", ".join(sorted(set(options) - allowed))
        if method not in ("wald", "profile") or stray:
            _refuse(f"confint({method!r}{', ' + stray if stray else ''})", "write confint('wald')")
        level = check_level(options.get("conf_level", 0.95))
        columns = ["term", "component", "estimate", "std_error", "conf_low", "conf_high"]
        if method == "profile":
            found = profiled_parameters(self._structured, self.fit, level)
            only = frame_of_records(found, ResidualParameter)
            only.insert(1, "component", "residual")
            only.attrs["sentence"] = f"{100 * level:g}% profile intervals of the criterion."
            return only[columns]
        fixed = self.coefficients(df=options.get("df"), conf_level=level)
        fixed.insert(1, "component", "fixed")
        residual = self.residual_parameters(level)
        residual.insert(1, "component", "residual")
        out = pd.concat([fixed[columns], residual[columns]], ignore_index=True)
        out.attrs["sentence"] = (
            f"{100 * level:g}% Wald intervals: residual parameters on their unconstrained scale. "
            + str(fixed.attrs["sentence"])
        )
        return out

    @property
    def advice(self) -> tuple[Advice, ...]:
        """Empty: the checks of advice assume independent residuals of one variance."""
        return ()

    # -- rows ----------------------------------------------------------------------------------

    def residuals(self, kind: str = "conditional") -> Array:
        """Residuals of the analysed rows, (n,).

        ``"conditional"`` and ``"marginal"`` as for every fit; ``"standardised"`` divides the
        conditional ones by their model standard deviation; ``"normalised"`` also takes out their
        correlation: independent with variance one if the model holds.
        """
        check_kind(kind, ("conditional", "marginal", "standardised", "normalised"), "residuals")
        part = "population" if kind == "marginal" else "conditional"
        estimates = () if kind == "marginal" else self._estimates
        out = self.design.y - fitted_values(self.design, self.fit, estimates, part)
        if kind in ("conditional", "marginal"):
            return out
        whitener, order = self._joint_objective().whitener, self._structured.layout.order
        scaled = out[order] / (whitener.sd * np.sqrt(self.fit.sigma2))
        if kind == "normalised":
            scaled = whitener.decorrelate(scaled[:, None])[:, 0]
        found = np.empty_like(out)
        found[order] = scaled
        return found

    def predict(
        self,
        new_data: Any,
        *,
        kind: PredictionKind = "conditional",
        new_levels: NewLevels = "zero",
        std_error: bool = False,
        interval: IntervalKind | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Predict the response for the rows of a new table: column ``estimate``.

        ``"conditional"`` adds the random effects of the row's groups and, where residuals are
        correlated, what the residuals of the unit's own rows say about the new row (kriging);
        a row at a time that is in the data gets its own outcome back (``fitted()`` leaves the
        residual out). ``"population"`` and ``"marginal"`` use the model for the means only.
        These two have a ``std_error`` and ``interval="confidence"`` for the mean; errors of
        conditional predictions and of new observations are not derived and refused.
        """
        check_interval(interval, conf_level)
        conditional = kind == "conditional"
        with_error = std_error or interval is not None
        if with_error and (conditional or interval == "prediction"):
            _refuse(
                "A standard error of conditional predictions, or of new observations",
                "write kind='population' with interval='confidence', or leave both out",
            )
        estimates = self._estimates if conditional else ()
        found = predict_rows(
            self._prepared, self.fit, new_data, estimates, kind=kind, new_levels=new_levels,
            std_error=with_error,
        )  # fmt: skip
        if conditional and self._structured.layout.has_correlation:
            known = np.flatnonzero(np.isfinite(found.estimate))
            extra = predicted_residuals(
                self._structured, self._joint_objective(), self._psi, new_data, known
            )
            estimate = found.estimate.copy()
            estimate[known] += extra
            found = replace(found, estimate=estimate)
        bounds = None if interval is None else prediction_interval(found, interval, conf_level)
        frame = prediction_frame(found, new_data, bounds)
        if with_error:
            frame = frame.drop(columns="prediction_std_error")  # one variance for all rows is wrong
            frame.attrs["std_error"] = "std_error: uncertainty of the fixed effects only."
        return frame

    def simulate(
        self, n_sim: int = 1, seed: int | np.random.Generator | None = None, *, kind: str = "new"
    ) -> Array:
        """Draw responses from the fitted model: (n, n_sim), with correlated residuals.

        ``"new"`` draws new random effects for each column; ``"conditional"`` keeps the estimated
        ones (residuals are drawn anew in both). The same ``seed`` gives the same numbers.
        """
        estimates = self._estimates if kind == "conditional" else ()
        whitener, rng = self._joint_objective().whitener, np.random.default_rng(seed)
        return simulate_structured(
            self.design, self.fit, whitener, n_sim, rng, kind=kind, estimates=estimates
        )

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
        return self._again(prepare_structured(design, method=self.fit.method))

    def update(self, *, method: Method) -> StructuredFit:
        """Fit the same model to the same rows by ``"ml"`` or ``"reml"``."""
        checked = check_method(method)
        model = replace(self.design.model, method=checked)
        design = replace(self.design, model=model)
        return self._again(prepare_structured(design, method=checked))


def _refuse(what: str, remedy: str) -> NoReturn:
    raise InferenceError(
        f"{what} is not available for a model with structured residuals.",
        "a fit with residual= or scale=",
        remedy,
    )


def _refusing(name: str) -> Callable[..., Any]:
    def method(self: StructuredFit, *_args: Any, **_options: Any) -> NoReturn:
        _refuse(f"{name}()", "fit the model without residual= and scale= to use it")

    method.__name__ = name
    method.__doc__ = "Not available for a model with structured residuals (``InferenceError``)."
    return method


#: Inherited methods that hold for structured residuals as they are; all others are refused.
INHERITED = frozenset({
    "aic", "anova", "bic", "certificate", "coefficients", "contrast", "design", "equations",
    "fitted", "fixed_effects", "groups", "information_criteria", "is_singular", "marginal_means",
    "method", "minus2_loglik", "n", "n_parameters", "pairwise_comparisons", "random_covariance",
    "random_effects", "reml_criterion", "residual_variance", "rows", "sections", "summary", "test",
    "to_dict", "to_json", "variance_components", "vcov_fixed",
})  # fmt: skip

for _name in dir(MultilevelFit):
    if not _name.startswith("_") and _name not in INHERITED and _name not in vars(StructuredFit):
        setattr(StructuredFit, _name, _refusing(_name))
