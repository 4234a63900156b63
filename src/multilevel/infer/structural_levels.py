"""Which level of a structural model fails: each level tested with all other levels saturated.

The chi-square of a model is dominated by level 1, which has the most units. The model of one level
beside saturated other levels (a partially saturated model) against the saturated model has the
misfit of that level alone; the baseline of CFI and TLI is independence at that level, the other
levels saturated. RMSEA of a level counts its units: rows within, clusters between.

Source: Ryu & West 2009 (Structural Equation Modeling 16:583); Ryu 2014 (Frontiers in Psychology
5:81). Scaled chi-square and robust indices as in ``multilevel.infer.structural_fit``. All models
are estimated without bounds on variances, so that a chi-square needs no mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.errors import EstimationError, InferenceError
from multilevel.estimate.structural import (
    StructuralFit,
    StructuralProblem,
    fit_saturated,
    fit_structural,
)
from multilevel.infer.structural_fit import (
    ChiSquare,
    approximation_error,
    comparative_fit,
    level_srmr,
    likelihood_ratio,
    trace_if_any,
    tucker_lewis,
)
from multilevel.model.structural.records import Level, StructuralModel
from multilevel.model.structural.reference import level_alone, level_independence


@dataclass(frozen=True)
class LevelFit:
    """Fit of one level, the other levels saturated.

    Attributes
    ----------
    level : name of the level.
    chi_square, df, p_value : against the saturated model.
    cfi, tli, rmsea : of the level; ``srmr`` of the level in the model as it was fitted.
    scaling, chi_square_scaled, p_value_scaled : MLR factor and the test divided by it.
    cfi_robust, tli_robust, rmsea_robust : corrected for non-normality and clustering.
    n_units : rows or clusters, of which RMSEA is told.
    sentence : the verdict in words.
    """

    level: str
    chi_square: float
    df: int
    p_value: float
    cfi: float
    tli: float
    rmsea: float
    srmr: float
    scaling: float
    chi_square_scaled: float
    p_value_scaled: float
    cfi_robust: float
    tli_robust: float
    rmsea_robust: float
    n_units: int
    sentence: str


def fit_by_level(
    problem: StructuralProblem, fit: StructuralFit, *, is_robust: bool = False
) -> tuple[LevelFit, ...]:
    """Test each level that has observed variables (see the module).

    Parameters
    ----------
    is_robust : whether the sentences rest on the scaled chi-square.

    Raises
    ------
    InferenceError : random slopes, or means of a level that cannot be tested by themselves.
    EstimationError : a level that cannot be estimated by itself.
    """
    model = fit.model
    if model.random_slopes:
        raise InferenceError(
            "A test of one level needs a saturated model of the other levels.",
            f"random slopes {', '.join(model.slope_names)}: every row has a covariance matrix of "
            "its own, so that no model is saturated",
            "make the slopes fixed to test the levels, or compare minus2_loglik of nested models",
        )
    levels = [level for level in model.levels if model.observed(level)]
    for level in levels:
        _check_means(model, level)
    saturated = fit_saturated(problem)
    trace = trace_if_any(problem, saturated)
    return tuple(_of_level(problem, fit, saturated, trace, level, is_robust) for level in levels)


def level_sentence(found: tuple[LevelFit, ...], fit: StructuralFit) -> str:
    """All verdicts, and what belongs to no level."""
    words = " ".join(one.sentence for one in found)
    places: dict[int, set[Level]] = {}
    for p in fit.model.parameters:
        if p.is_free:
            places.setdefault(p.free, set()).add(p.level)
    if any(len(levels) > 1 for levels in places.values()):
        words += (
            " Parameters that are equal across levels are not tested here: the test of the whole"
            " model includes that."
        )
    if fit.boundary is not None:
        words += (
            " The model as fitted is at the boundary; these tests let variances fall below zero,"
            " so that their p values need no mixture."
        )
    return words


def _of_level(
    problem: StructuralProblem,
    fit: StructuralFit,
    saturated: StructuralFit,
    trace: float,
    level: Level,
    is_robust: bool,
) -> LevelFit:
    title = fit.model.level_name(level)
    alone = _estimated(problem, level_alone(fit.model, level), saturated, title)
    apart = _estimated(problem, level_independence(fit.model, level), saturated, title)
    test = likelihood_ratio(problem, alone, saturated, trace)
    base = likelihood_ratio(problem, apart, saturated, trace)
    n, groups = n_units(problem, fit.model, level), len(fit.model.groups)
    scales = (test.scaling, base.scaling)
    is_certified = all(one.certificate.is_certified for one in (alone, apart, saturated))
    return LevelFit(
        level=title,
        chi_square=test.statistic,
        df=test.df,
        p_value=test.p_value,
        cfi=comparative_fit(test, base, 1.0, 1.0),
        tli=tucker_lewis(test, base, 1.0, 1.0),
        rmsea=approximation_error(test, 1.0, n, groups),
        srmr=level_srmr(problem, fit, saturated, level),
        scaling=test.scaling,
        chi_square_scaled=test.scaled,
        p_value_scaled=test.p_value_scaled,
        cfi_robust=comparative_fit(test, base, *scales),
        tli_robust=tucker_lewis(test, base, *scales),
        rmsea_robust=approximation_error(test, test.scaling, n, groups),
        n_units=n,
        sentence=_verdict(test, title, is_certified, is_robust),
    )


def n_units(problem: StructuralProblem, model: StructuralModel, level: Level) -> int:
    """Rows, clusters, or units of a higher level, over all groups."""
    if level == "within":
        return sum(data.n_rows for data in problem.statistics)
    if level == "between":
        return sum(data.n_clusters for data in problem.statistics)
    at = model.levels.index(level) - 2
    return sum(uppers[at].n_units for uppers in problem.uppers)


def _estimated(
    problem: StructuralProblem, model: StructuralModel, saturated: StructuralFit, title: str
) -> StructuralFit:
    try:
        return fit_structural(problem, model, saturated)
    except EstimationError as error:
        raise EstimationError(
            f"The {title} level must have estimates of its own, all other levels saturated.",
            f"{error.must.rstrip('.')}: {error.found}",
            "where parameters that are equal across levels identify the model, or a variance is"
            " zero, read the test of the whole model (fit_measures)",
        ) from error


def _check_means(model: StructuralModel, level: Level) -> None:
    """Means that are restricted at a level must not rest on variables of the levels below.

    Beside a saturated lower level an intercept is the mean of the variable; beside ``y ~ x`` with x
    on the lower level only it is the mean at x = 0.
    """
    below = model.levels[: model.levels.index(level)]
    lower = {n for one in below for n in model.observed(one) if n not in model.above(one)}
    if not lower:
        return
    for group in range(len(model.groups)):
        means = [p for p in model.block(level, group) if p.op == "~1"]
        free = {p.free for p in means if p.is_free}
        n_free = len(free) + sum(p.origin == "exogenous" for p in means)
        names = [n for n in model.observed(level) if n not in model.above(level)]
        if n_free < len(names):
            raise InferenceError(
                f"The means of the {model.level_name(level)} level must be free, for it to be "
                "tested by itself beside variables of lower levels only.",
                f"{n_free} free means of {len(names)} variables ({', '.join(names)}), beside "
                f"{', '.join(sorted(lower))}",
                "free the means of that level, or read the test of the whole model (fit_measures)",
            )


def _verdict(test: ChiSquare, title: str, is_certified: bool, is_robust: bool) -> str:
    if not is_certified:
        return (
            f"The {title} level has no certified optimum with the other levels saturated: its"
            " numbers are not to be trusted (few clusters for many variables?)."
        )
    if test.df == 0:
        return f"The {title} level is saturated: its fit cannot be tested."
    use_scaled = is_robust and test.scaling == test.scaling
    statistic, p = (
        (test.scaled, test.p_value_scaled) if use_scaled else (test.statistic, test.p_value)
    )
    verdict = "does not fit" if p < 0.05 else "fits"
    return (
        f"The {title} level {verdict}: {'scaled ' * use_scaled}chi-square({test.df}) ="
        f" {statistic:.2f}, p {'< .001' if p < 0.001 else f'= {p:.3f}'}."
    )
