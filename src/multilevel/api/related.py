"""Fits whose rows have several levels, or whose levels are correlated in a known way."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.effects import sentence_frame
from multilevel.api.frames import frame_of_records, prediction_frame, square_frame
from multilevel.api.relationships import relation_from
from multilevel.api.result import MultilevelFit, require_certified
from multilevel.design.blocks import check_allowed
from multilevel.design.build import build_design
from multilevel.design.related import check_related
from multilevel.errors import DataWarning, InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import random_effects as estimate_random_effects
from multilevel.estimate.prepare import prepare
from multilevel.interpret.design_effect import DesignEffect
from multilevel.interpret.diagnosis import (
    Diagnosis,
    about_effects,
    about_leverage,
    about_normality,
    about_residuals,
)
from multilevel.interpret.explained_variance import Explained
from multilevel.interpret.intraclass import IccEstimate
from multilevel.interpret.normality import normality, standardised_sets
from multilevel.interpret.predict import (
    IntervalKind,
    NewLevels,
    PredictionKind,
    check_interval,
    prediction_interval,
)
from multilevel.interpret.related import (
    related_covariance,
    related_design_effects,
    related_shares,
)
from multilevel.interpret.related_explained import related_r2, related_reliabilities
from multilevel.interpret.related_predict import predict_related
from multilevel.interpret.related_rows import (
    related_effect_residuals,
    related_leverages,
    related_working_rows,
)
from multilevel.interpret.reliability import Reliability
from multilevel.interpret.residual_diagnostics import row_residuals
from multilevel.model.formula.parse import parse_formula
from multilevel.model.specification import check_method
from multilevel.report.facts import labels_of
from multilevel.tables.table import as_table

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.infer.conventions import InformationCriteria
    from multilevel.infer.degrees_of_freedom import DfApproach
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.interpret.leverage import Leverage
    from multilevel.interpret.residual_diagnostics import EffectResiduals, RowResiduals

Array = NDArray[np.float64]


def fit_related(
    formula: str,
    data: Any,
    related: Mapping[str, Any],
    *,
    method: str | None,
    weights: Any,
    engine: str | None,
    rank_deficient: Any,
    advice: bool,
    allow: Sequence[str],
) -> RelatedFit:
    """Fit a model with memberships (``mm``) or known relations; as in ``multilevel.fit``."""
    clock = [time.perf_counter()]
    model = parse_formula(formula, check_method("reml" if method is None else method))
    relations = {str(name): relation_from(value, str(name)) for name, value in related.items()}
    check_related(model, relations)
    clock.append(time.perf_counter())
    table = as_table(data)
    design = build_design(
        model, table, weights=weights, rank_deficient=rank_deficient, allow=allow,
        related=relations,
    )  # fmt: skip
    clock.append(time.perf_counter())
    prepared = prepare(design, method=model.method, engine=engine)
    clock.append(time.perf_counter())
    solved = solve(prepared)
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
    return RelatedFit(prepared, solved, labels=labels_of(table), shows_advice=advice, allow=allowed)


def refuse(what: str, remedy: str) -> NoReturn:
    """Say that a method is not there for such a model.

    Raises
    ------
    InferenceError : always.
    """
    raise InferenceError(
        f"{what} is not available where rows have several levels or levels are correlated.",
        "a fit with mm() or related=",
        remedy,
    )


class RelatedFit(MultilevelFit):
    """A fitted model with ``mm()`` or ``related=``, made by ``multilevel.fit``.

    All that ``MultilevelFit`` offers and that holds for such a model works the same; what is not
    derived for it raises ``InferenceError``.

    Examples
    --------
    >>> import multilevel as mlm
    >>> data = {
    ...     "y": [3.1, 2.7, 4.0, 5.2, 3.3, 2.9, 4.6, 5.5],
    ...     "sheep": ["a", "a", "b", "b", "c", "c", "d", "d"],
    ... }
    >>> family = mlm.pedigree(
    ...     {"id": ["a", "b", "c", "d"], "sire": ["", "", "a", "b"], "dam": ["", "", "b", ""]}
    ... )
    >>> m = mlm.fit("y ~ 1 + (1 | sheep)", data, related={"sheep": family})
    >>> m.icc()["component"].tolist()
    ['heritability']
    """

    def _like(self, prepared: Prepared, fit: Fit) -> RelatedFit:
        return RelatedFit(
            prepared, fit, labels=self._labels, shows_advice=self._shows_advice, allow=self._allow
        )

    def _approach(self, df: str | None) -> DfApproach:
        name = None if df is None else str(df).lower().replace("_", "-")
        if name in ("between-within", "containment"):
            refuse(f"df={df!r}", "write df='satterthwaite', 'kenward-roger', 'residual' or 'none'")
        return super()._approach(df)

    # -- the model for the variance ------------------------------------------------------------

    def icc(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Share of each factor in the variance of a row, with intervals.

        Frame ``group, component, estimate, std_error, conf_low, conf_high, interval``.
        ``component`` is ``"heritability"`` (pedigrees and phylogenies), ``"one membership"``
        (``mm()``: a row that has one level only) or ``"proportion"``; ``"average row"`` is the
        share in the analysed rows, inbreeding and weights included. Intervals by the delta method
        on the logit scale; ``attrs["sentence"]`` in words.
        """
        return sentence_frame(related_shares(self._evidence(), conf_level), IccEstimate)

    def design_effects(self) -> pd.DataFrame:
        """How many independent rows these rows are worth for a mean, by factor.

        Frame ``group, component, cluster_size, icc, estimate, effective_n``;
        ``attrs["sentence"]`` in words.
        """
        return sentence_frame(related_design_effects(self.design, self.fit), DesignEffect)

    def cluster_covariance(
        self, group: str | None = None, level: Hashable = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``V`` and VCORR of the rows that have a level; see ``MultilevelFit``."""
        found = related_covariance(self.design, self.fit, group, level)
        labels = [str(row) for row in found.rows]
        return square_frame(found.covariance, labels), square_frame(found.correlation, labels)

    def information_criteria(self, as_in: str | None = None) -> InformationCriteria:
        """AIC, AICc and BIC by the rules of ``"stata"`` or ``"r"``; see ``MultilevelFit``."""
        if as_in is not None and str(as_in).lower() in ("sas", "spss"):
            refuse(f"as_in={as_in!r} (whose n counts independent subjects)", "leave as_in out")
        return super().information_criteria(as_in)

    def reliability(self) -> pd.DataFrame:
        """Reliability and accuracy of the predicted effects: mean and range over the levels.

        Frame ``group, term, component, estimate, minimum, maximum, n_clusters``; ``component`` is
        ``"prediction"`` (``1 - Var(b | y) / (A_jj tau)``, the squared correlation of an effect and
        its prediction) or ``"accuracy"`` (its square root, as breeders report it).
        """
        effects = estimate_random_effects(self._prepared, self.fit)
        return sentence_frame(related_reliabilities(self.design, self.fit, effects), Reliability)

    def r2(self, compared_with: Any = None, **options: Any) -> pd.DataFrame:
        """Explained variance: ``total``, and ``nakagawa`` (marginal and conditional).

        Frame ``measure, group, term, component, estimate, sentence``, for the average analysed
        row. Comparisons, shares by level and bootstrap intervals are refused.
        """
        given = [name for name, value in options.items() if value is not None]
        if compared_with is not None or given:
            refuse(f"r2({', '.join(['compared_with'] * (compared_with is not None) + given)})",
                   "write r2() for each model")  # fmt: skip
        return frame_of_records(related_r2(self.design, self.fit), Explained)

    # -- checks --------------------------------------------------------------------------------

    def _working(self) -> tuple[WorkingRows, Leverage]:
        objective = self._objective()
        rows = related_working_rows(self._prepared, objective)
        return rows, related_leverages(self._prepared, rows, objective)

    def _residual_sets(self) -> tuple[RowResiduals, tuple[EffectResiduals, ...]]:
        effects = estimate_random_effects(self._prepared, self.fit)
        return (
            row_residuals(*self._working()),
            related_effect_residuals(self.design, self.fit, effects),
        )

    def influence(self, by: Any = "row") -> pd.DataFrame:
        """What the fixed effects would be without each row, variances held: exact.

        ``by`` must be ``"row"``: no cluster holds all random effects of its rows. Columns as in
        ``MultilevelFit.influence``.
        """
        if not (isinstance(by, str) and by == "row"):
            refuse(f"influence({by!r})", 'write influence("row")')
        return super().influence("row")

    def diagnose(self) -> Diagnosis:
        """One readable overview of residuals, random effects, leverage and normality."""
        _, leverage = self._working()
        residuals, effects = self._residual_sets()
        sets = [normality(*one) for one in standardised_sets(residuals, effects)]
        return Diagnosis(
            (
                about_residuals(self.design, residuals),
                *about_effects(effects),
                about_leverage(self.design, leverage),
                *about_normality(sets),
            )
        )

    # -- rows ----------------------------------------------------------------------------------

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
        """Predict the response for the rows of a new table; see ``MultilevelFit.predict``.

        Levels of the relation without rows in the data (young animals, say) have predictions of
        their own. A level that the relation does not have is taken as unrelated.
        """
        check_interval(interval, conf_level)
        estimates = self._estimates if kind == "conditional" else ()
        found = predict_related(
            self._prepared, self.fit, new_data, estimates, kind=kind, new_levels=new_levels,
            std_error=std_error or interval is not None,
        )  # fmt: skip
        bounds = None if interval is None else prediction_interval(found, interval, conf_level)
        return prediction_frame(found, new_data, bounds)

    # -- intervals -----------------------------------------------------------------------------

    def bootstrap(self, n_boot: int = 1000, **options: Any) -> pd.DataFrame:
        """Refit the model to responses drawn from it; see ``MultilevelFit.bootstrap``.

        New effects of related levels are drawn together. ``kind`` must be ``"parametric"``: rows
        and clusters that are not independent cannot be drawn with replacement.
        """
        _check_parametric(options.get("kind"))
        return super().bootstrap(n_boot, **options)

    def confint(self, method: Any = "wald", **options: Any) -> pd.DataFrame:
        """Wald, profile and (parametric) bootstrap intervals; see ``MultilevelFit.confint``."""
        _check_parametric(options.get("kind"))
        return super().confint(method, **options)

    def plot(self, name: str, **options: Any) -> Any:
        """Draw any picture of ``PICTURES``: ``"residuals"``, ``"caterpillar"``, ``"profile"``..."""
        if name not in PICTURES:
            refuse(f"plot({name!r})", f"choose one of {', '.join(map(repr, PICTURES))}")
        return super().plot(name, **options)


PICTURES = ("residuals", "caterpillar", "profile", "slopes", "johnson_neyman", "spaghetti")


def _check_parametric(kind: Any) -> None:
    if kind not in (None, "parametric"):
        refuse(f"A bootstrap of kind {kind!r}", "write kind='parametric'")


def _refusing(name: str) -> Callable[..., Any]:
    def method(self: RelatedFit, *_args: Any, **_options: Any) -> NoReturn:
        refuse(f"{name}()", INSTEAD.get(name, "use one of the other methods"))

    method.__name__ = name
    method.__doc__ = (
        "Not available where rows have several levels or levels are correlated "
        "(``InferenceError``)."
    )
    return method


#: What to use for a method that is refused.
INSTEAD = {
    "intraclass_correlations": "write icc()",
    "vcov_robust": "use coefficients(): no set of independent clusters is known here",
    "robust": "use coefficients(): no set of independent clusters is known here",
    "within_between": "fit with within(x, g) and between(x, g) on the main level of each row",
    "variance_function": "write icc(), which averages over the rows",
    "heteroscedasticity": "look at residuals('standardised') against fitted()",
}
#: Inherited methods that hold as they are; all others are refused.
INHERITED = frozenset({
    "advice", "aic", "anova", "bic", "certificate", "coefficients", "comparisons",
    "conditional_aic", "contrast", "design", "equations", "fitted", "fixed_effects", "groups",
    "is_singular", "johnson_neyman", "marginal_means", "method", "methods_paragraph",
    "minus2_loglik", "n", "n_parameters", "normality", "pairwise_comparisons",
    "quantile_plot_data", "quantile_residuals", "random_covariance", "random_effect_diagnostics",
    "random_effects", "random_intervals", "random_tests", "refit", "reml_criterion", "report",
    "residual_variance", "residuals", "row_diagnostics", "rows", "sections", "simulate", "slopes",
    "summary", "test", "to_dict", "to_json", "update", "variance_components", "vcov_fixed",
})  # fmt: skip

for _name in dir(MultilevelFit):
    is_its_own = getattr(RelatedFit, _name) is not getattr(MultilevelFit, _name)
    if not _name.startswith("_") and _name not in INHERITED and not is_its_own:
        setattr(RelatedFit, _name, _refusing(_name))
