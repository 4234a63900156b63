"""The door: a formula and a table in, a fitted model out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from multilevel.api.doors import (
    RandomScaleWords,
    generalized_door,
    related_door,
    structured_door,
    warn_dropped,
)
from multilevel.api.generalized.options import OutcomeOptions
from multilevel.api.latent_mean import latent_mean_door
from multilevel.api.result import MultilevelFit, require_certified
from multilevel.design.blocks import check_allowed
from multilevel.design.build import RankDeficient, build_design
from multilevel.estimate.choose import EngineName
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.model.formula.parse import has_memberships, parse_formula
from multilevel.model.latent_mean import read_latent_mean
from multilevel.model.specification import Method, check_method
from multilevel.report.facts import labels_of
from multilevel.tables.table import as_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from multilevel.api.generalized.location_scale import LocationScaleFit
    from multilevel.api.generalized.related import RelatedOutcomeFit
    from multilevel.api.generalized.result import GeneralizedMultilevelFit
    from multilevel.api.latent_mean_result import LatentMeanFit
    from multilevel.api.related import RelatedFit
    from multilevel.api.structured import StructuredFit
    from multilevel.design.generalized import Column
    from multilevel.design.relations import Relation
    from multilevel.estimate.generalized.accuracy import Accuracy

_STAGES = ("formula", "design", "cross-products", "estimation")


@overload
def fit(
    formula: str,
    data: Any,
    *,
    family: Literal["gaussian", "normal"] = ...,
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
) -> MultilevelFit: ...


@overload
def fit(
    formula: str,
    data: Any,
    *,
    related: Mapping[str, Relation | pd.DataFrame],
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
) -> RelatedFit: ...


@overload
def fit(
    formula: str,
    data: Any,
    *,
    family: str,
    related: Mapping[str, Relation | pd.DataFrame],
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
    link: str | None = None,
    trials: Column | None = None,
    event: Any = None,
    categories: Sequence[Any] = (),
    exposure: str | None = None,
    frequency_weights: Column | None = None,
    dispersion: str | None = None,
    zero: str | None = None,
    hurdle: str | None = None,
    thresholds: str | None = None,
    truncated: bool = False,
    accuracy: Accuracy = "report",
    penalty: str | Sequence[str] | None = None,
) -> RelatedOutcomeFit: ...


@overload
def fit(
    formula: str,
    data: Any,
    *,
    residual: str,
    scale: str | None = None,
    family: Literal["gaussian", "normal"] = ...,
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
    random_scale: RandomScaleWords | None = None,
) -> StructuredFit: ...


@overload
def fit(
    formula: str,
    data: Any,
    *,
    residual: None = None,
    scale: None = None,
    random_scale: RandomScaleWords,
    family: Literal["gaussian", "normal"] = ...,
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
) -> StructuredFit: ...


@overload
def fit(
    formula: str,
    data: Any,
    *,
    residual: None = None,
    scale: str,
    family: Literal["gaussian", "normal"] = ...,
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
    n_quad: int | tuple[int, ...] | None = None,
    accuracy: Accuracy = "report",
    random_scale: RandomScaleWords | None = None,
) -> StructuredFit | LocationScaleFit: ...


@overload
def fit(
    formula: str,
    data: Any,
    *,
    family: str = ...,
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
    link: str | None = None,
    trials: Column | None = None,
    event: Any = None,
    categories: Sequence[Any] = (),
    exposure: str | None = None,
    frequency_weights: Column | None = None,
    dispersion: str | None = None,
    zero: str | None = None,
    hurdle: str | None = None,
    thresholds: str | None = None,
    truncated: bool = False,
    n_quad: int | tuple[int, ...] | None = None,
    accuracy: Accuracy = "report",
    penalty: str | Sequence[str] | None = None,
    scale: str | None = None,
) -> GeneralizedMultilevelFit: ...


def fit(
    formula: str,
    data: Any,
    *,
    family: str = "gaussian",
    method: Method | None = None,
    weights: str | Sequence[float] | NDArray[np.float64] | None = None,
    engine: EngineName | None = None,
    rank_deficient: RankDeficient = "drop",
    advice: bool = True,
    allow: Sequence[str] = (),
    link: str | None = None,
    trials: Column | None = None,
    event: Any = None,
    categories: Sequence[Any] = (),
    exposure: str | None = None,
    frequency_weights: Column | None = None,
    dispersion: str | None = None,
    zero: str | None = None,
    hurdle: str | None = None,
    thresholds: str | None = None,
    truncated: bool = False,
    n_quad: int | tuple[int, ...] | None = None,
    accuracy: Accuracy = "report",
    penalty: str | Sequence[str] | None = None,
    residual: str | None = None,
    scale: str | None = None,
    random_scale: RandomScaleWords | None = None,
    related: Mapping[str, Relation | pd.DataFrame] | None = None,
) -> MultilevelFit | LatentMeanFit | GeneralizedMultilevelFit:
    """Fit a multilevel model: general (conditionally normal), or generalized by ``family=``.

    Parameters
    ----------
    formula : the model, e.g. ``"mathach ~ ses + (ses | school)"``: the response, the model for
        the means, and the random terms ``(effects | group)`` of the model for the variance.
    data : a pandas or Polars data frame, a PyArrow table, a dict of columns, or a ``Table`` from
        ``multilevel.read`` (its variable labels are shown in the summary). Rows that miss a
        variable of the model are left out and counted.
    family : what kind of outcome: ``"gaussian"`` (default); ``"binomial"``; ``"poisson"``,
        ``"negative_binomial"`` and other counts; ``"gamma"``, ``"beta"``, ``"tweedie"``, ``"t"``
        and other numbers; ``"cumulative"`` (ordered) and ``"nominal"`` categories. An unknown name
        lists them all.
    method : ``"reml"`` (default for Gaussian models) or ``"ml"`` (the only one for all others; the
        default with random scale effects, where ``"reml"`` is an approximation).
        Models with different fixed effects may be compared by their likelihood under ``"ml"`` only.
    weights : precision weights: a column name or one positive number per row of the table. The
        residual variance of a row is ``residual_variance / weight``; for binomial proportions they
        are numbers of trials. Not sampling weights.
    engine : name of the algorithm; None chooses the cheapest by size and nesting.
    rank_deficient : ``"drop"`` leaves out fixed-effect columns that repeat others, with a
        warning; ``"refuse"`` raises an error.
    advice : whether the summary ends with advice on likely mistakes (``fit.advice`` always works).
    allow : names of mistakes that are refused unless they are meant:
        ``"random_slope_of_cluster_predictor"`` lets the variance of a group depend on one of its
        variables; ``"not_certified"`` returns estimates that are not shown to be the optimum,
        with a warning.
    link : link of the mean (``"logit"``, ``"probit"``, ``"cloglog"``, ``"log"``...); None for the
        family's own.
    trials : numbers of trials where the response counts successes (or is a proportion).
    event : the category that counts as success (binary responses); None for the last.
    categories : order of the response's categories, lowest or reference first.
    exposure : column of exposures (counts per unit of time, persons at risk...).
    frequency_weights : how many equal rows each row stands for.
    dispersion, zero, hurdle, thresholds : right-hand sides (``"~ x"``) for the dispersion, the
        probability of extra zeros (zero inflation or hurdle) and non-proportional thresholds.
    truncated : whether counts of zero cannot occur.
    n_quad : quadrature points per random effect; 1 is Laplace; None takes 7 for one or two random
        effects per cluster, Laplace otherwise.
    accuracy : ``"report"`` estimates the error of the approximation; ``"auto"`` raises the points
        until they no longer matter; ``"none"``.
    penalty : ``"slopes"`` and / or ``"variances"``: weakly informative penalties; None for none.
    residual : structure of correlated or unequal residuals of a Gaussian model, such as
        ``"ar1(time | id)"``, ``"un(time | id)"``, ``"ind(by=sex)"`` (the guide on formulas lists
        them all); the formula may then have no random term. Rows of a unit are ordered by the
        value of time.
    scale : model for the log of the residual variance, ``"~ sex + x"``; with random scale effects,
        ``"~ sex + (1 | school)"``, clusters differ in their residual variance too, correlated with
        their random effects on the mean (``(1 || school)``: uncorrelated). For other families the
        log of their dispersion, as ``dispersion=``.
    random_scale : models for the log standard deviations of the random effects by grouping factor,
        ``{"school": "~ sector + size"}``, in variables with one value in each school; correlations
        stay the same. (``(1 | school, by=sector)`` in the formula gives each sector a covariance
        matrix of its own.)
    related : known covariances of the levels of a grouping factor, ``{"animal": ...}``, made by
        ``mlm.pedigree``, ``mlm.phylogeny``, ``mlm.decay`` or ``mlm.relationship``; a pandas frame
        is a covariance matrix. (``(1 | mm(school1, school2, weights=[w1, w2]))`` in the formula:
        rows that belong to several levels.)

    Returns
    -------
    MultilevelFit, or GeneralizedMultilevelFit for other families : prints as a summary.
    RelatedFit, or RelatedOutcomeFit for other families, with ``mm()`` or ``related``.
    StructuredFit (a MultilevelFit) where ``residual``, ``scale`` or ``random_scale`` is given;
    LocationScaleFit (a
    GeneralizedMultilevelFit) where ``scale`` has random effects, or with another family.
    LatentMeanFit where the formula has ``between(x, g, latent=True)``, the latent mean of x.

    Raises
    ------
    FormulaError, ModelError : a formula or an option that is not understood or not supported.
    TableError, DesignError : data that is not a table, or does not hold what the formula needs.
    EstimationError, LikelihoodError : a model that cannot be estimated from these rows, or
        estimates that are not shown to be the optimum.

    Warns
    -----
    ConvergenceWarning : the estimates are not shown to be the optimum, and that was allowed.
    DataWarning : fixed-effect columns were left out.

    Examples
    --------
    >>> import multilevel as mlm
    >>> result = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
    >>> result.n, result.groups
    (7185, {'school': 160})
    >>> result.fixed_effects.round(2).to_dict()
    {'(Intercept)': 12.66, 'ses': 2.39}
    """
    asked = read_latent_mean(formula)
    if asked is not None:
        return latent_mean_door(asked, data, locals())
    options = OutcomeOptions(
        family, link, trials, event, categories, exposure, frequency_weights, dispersion, zero,
        hurdle, thresholds, truncated, n_quad, accuracy, penalty, scale,
    )  # fmt: skip
    is_plain = options.is_plain and not formula.lstrip().startswith("interval(")
    if related or has_memberships(formula):
        is_alone = residual is None and scale is None and random_scale is None
        return related_door(
            formula, data, related, is_alone, None if is_plain else options,
            method=method, weights=weights, engine=engine, rank_deficient=rank_deficient,
            advice=advice, allow=allow,
        )  # fmt: skip
    if residual is not None or random_scale is not None or (scale is not None and is_plain):
        return structured_door(
            formula, data, residual, scale, is_plain, method, weights, engine, rank_deficient,
            advice, allow, random_scale,
        )  # fmt: skip
    if not is_plain:
        return generalized_door(
            formula, data, options, method=method, weights=weights, engine=engine,
            rank_deficient=rank_deficient, advice=advice, allow=allow,
        )  # fmt: skip
    return _gaussian(formula, data, method, weights, engine, rank_deficient, advice, allow)


def _gaussian(
    formula: str,
    data: Any,
    method: Method | None,
    weights: Column | None,
    engine: EngineName | None,
    rank_deficient: RankDeficient,
    advice: bool,
    allow: Sequence[str],
) -> MultilevelFit:
    """Independent normal residuals of one variance."""
    clock = [time.perf_counter()]
    model = parse_formula(formula, check_method("reml" if method is None else method))
    clock.append(time.perf_counter())
    table = as_table(data)
    design = build_design(model, table, weights=weights, rank_deficient=rank_deficient, allow=allow)
    clock.append(time.perf_counter())
    prepared = prepare(design, method=model.method, engine=engine)
    clock.append(time.perf_counter())
    solved = solve(prepared)
    clock.append(time.perf_counter())
    solved = replace(solved, seconds=_seconds(clock))
    warn_dropped(design.dropped_columns, stacklevel=4)
    labels, allow = labels_of(table), check_allowed(allow)
    require_certified(solved, allow, stacklevel=4)
    return MultilevelFit(prepared, solved, labels=labels, shows_advice=advice, allow=allow)


def _seconds(clock: Sequence[float]) -> dict[str, float]:
    """Wall time of each stage."""
    return {name: clock[i + 1] - clock[i] for i, name in enumerate(_STAGES)}
