"""How well a structural model fits: chi-square, CFI, TLI, RMSEA and SRMR by level.

* chi-square: difference of -2 log-likelihood to the saturated model; scaled (MLR): divided by
  ``c = (tr1 - tr0) / df`` with ``tr = tr(H^-1 J)`` of each model (Yuan & Bentler 2000, Sociol.
  Methodol. 30:165, in the form of Asparouhov & Muthen 2005, as Mplus and lavaan).
* CFI (Bentler 1990), TLI (Tucker & Lewis 1973), RMSEA (Steiger & Lind 1980) with its interval from
  the noncentral chi-square (Browne & Cudeck 1993); N is the number of rows, as in Mplus and lavaan.
* robust CFI, TLI and RMSEA: Brosseau-Liard, Savalei & Li 2012; Brosseau-Liard & Savalei 2014.
* SRMR of a level: root mean square of the residual correlations, saturated less implied, diagonal
  counted (Bollen 1989; as lavaan does for two levels), for each level by itself as in Mplus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.errors import InferenceError
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.structural import correction_trace
from multilevel.model.structural.records import Level

Array = NDArray[np.float64]
_NAN = float("nan")
_MEASURES = ("cfi", "tli", "rmsea", "rmsea_low", "rmsea_high", "cfi_robust", "tli_robust",
             "rmsea_robust", "srmr_within", "srmr_between")  # fmt: skip


@dataclass(frozen=True)
class ChiSquare:
    """A likelihood-ratio test against the saturated model.

    ``scaling`` is the MLR factor c (NaN where it does not exist), ``scaled = statistic / c``.
    """

    statistic: float
    df: int
    p_value: float
    scaling: float
    scaled: float
    p_value_scaled: float


@dataclass(frozen=True)
class FitMeasures:
    """Fit of one model.

    Attributes
    ----------
    minus2_loglik, n_parameters, aic, bic : of the model; ``minus2_loglik_saturated`` of h1.
    model, baseline : tests of the model and of the independence model.
    cfi, tli, rmsea, rmsea_low, rmsea_high : from the likelihood ratio; 90% interval.
    cfi_robust, tli_robust, rmsea_robust : corrected for non-normality and clustering.
    srmr_within, srmr_between : by level, averaged over groups; NaN where a level is empty.
    sentence : the verdict in words.
    srmr_higher : name and SRMR of each level above the second, where ``srmr_between`` is that of
        the second.
    """

    minus2_loglik: float
    minus2_loglik_saturated: float
    n_parameters: int
    aic: float
    bic: float
    model: ChiSquare
    baseline: ChiSquare
    cfi: float
    tli: float
    rmsea: float
    rmsea_low: float
    rmsea_high: float
    cfi_robust: float
    tli_robust: float
    rmsea_robust: float
    srmr_within: float
    srmr_between: float
    sentence: str
    srmr_higher: tuple[tuple[str, float], ...] = ()


def fit_measures(
    problem: StructuralProblem,
    fit: StructuralFit,
    saturated: StructuralFit,
    independence: StructuralFit,
) -> FitMeasures:
    """All measures of fit (see the module).

    Raises
    ------
    InferenceError : an information matrix without an inverse.
    """
    trace = trace_if_any(problem, saturated)
    model = likelihood_ratio(problem, fit, saturated, trace)
    baseline = likelihood_ratio(problem, independence, saturated, trace)
    n, groups = fit.n_rows, len(fit.model.groups)
    low, high = _rmsea_bounds(model, n, groups)
    srmr = {level: level_srmr(problem, fit, saturated, level) for level in fit.model.levels}
    scales = (model.scaling, baseline.scaling)
    return FitMeasures(
        minus2_loglik=fit.criterion,
        minus2_loglik_saturated=saturated.criterion,
        n_parameters=fit.n_parameters,
        aic=fit.aic,
        bic=fit.bic,
        model=model,
        baseline=baseline,
        cfi=comparative_fit(model, baseline, 1.0, 1.0),
        tli=tucker_lewis(model, baseline, 1.0, 1.0),
        rmsea=approximation_error(model, 1.0, n, groups),
        rmsea_low=low,
        rmsea_high=high,
        cfi_robust=comparative_fit(model, baseline, *scales),
        tli_robust=tucker_lewis(model, baseline, *scales),
        rmsea_robust=approximation_error(model, model.scaling, n, groups),
        srmr_within=srmr["within"],
        srmr_between=srmr["between"],
        sentence=_sentence(model, saturated) + _at_boundary(model, fit),
        srmr_higher=tuple((level, srmr[level]) for level in fit.model.levels[2:]),
    )


def criteria_alone(fit: StructuralFit) -> FitMeasures:
    """-2 log-likelihood, AIC and BIC of a model with random slopes; all else is NaN.

    Given the predictors, every row has its own covariance matrix, so that there is no saturated
    model to compare with.
    """
    none = ChiSquare(_NAN, 0, _NAN, _NAN, _NAN, _NAN)
    return FitMeasures(
        minus2_loglik=fit.criterion,
        minus2_loglik_saturated=_NAN,
        n_parameters=fit.n_parameters,
        aic=fit.aic,
        bic=fit.bic,
        model=none,
        baseline=none,
        **dict.fromkeys(_MEASURES, _NAN),
        srmr_higher=(),
        sentence=(
            "A model with random slopes has no saturated model, hence no chi-square, CFI, TLI,"
            " RMSEA or SRMR: compare it with simpler models by the change of -2 log-likelihood."
        ),
    )


def trace_if_any(problem: StructuralProblem, fit: StructuralFit) -> float:
    """``correction_trace``, NaN where the information has no inverse."""
    try:
        return correction_trace(problem, fit)
    except InferenceError:
        return _NAN


def likelihood_ratio(
    problem: StructuralProblem, fit: StructuralFit, saturated: StructuralFit, trace: float
) -> ChiSquare:
    """Test of a model against a larger one, whose ``correction_trace`` is ``trace``."""
    # both are optima of nested models: a negative difference is rounding
    statistic = max(fit.criterion - saturated.criterion, 0.0)
    df = saturated.n_parameters - fit.n_parameters
    if df <= 0:
        return ChiSquare(0.0 if df == 0 else statistic, df, _NAN, _NAN, _NAN, _NAN)
    p_value = float(chi_square_tail(statistic, df))
    if fit.boundary is not None:
        return ChiSquare(statistic, df, p_value, _NAN, _NAN, _NAN)
    scaling = (trace - trace_if_any(problem, fit)) / df
    if not scaling > 0.0:
        return ChiSquare(statistic, df, p_value, _NAN, _NAN, _NAN)
    scaled = statistic / scaling
    return ChiSquare(statistic, df, p_value, scaling, scaled, float(chi_square_tail(scaled, df)))


def comparative_fit(model: ChiSquare, baseline: ChiSquare, c: float, c_base: float) -> float:
    """CFI (Bentler 1990); ``c`` and ``c_base`` are scaling factors, 1 for the plain one."""
    if model.df == 0:
        return 1.0
    excess = max(model.statistic - c * model.df, 0.0)
    worst = max(baseline.statistic - c_base * baseline.df, excess)
    return 1.0 - excess / worst if worst > 0.0 else 1.0 if worst == 0.0 else _NAN


def tucker_lewis(model: ChiSquare, baseline: ChiSquare, c: float, c_base: float) -> float:
    """TLI (Tucker & Lewis 1973); scaling factors as in ``comparative_fit``."""
    if model.df == 0:
        return 1.0
    if baseline.df <= 0:
        return _NAN
    part = (model.statistic - c * model.df) / model.df
    whole = (baseline.statistic - c_base * baseline.df) / baseline.df
    return 1.0 - part / whole if whole != 0.0 else _NAN


def approximation_error(model: ChiSquare, c: float, n: int, groups: int) -> float:
    """RMSEA (Steiger & Lind 1980) of ``n`` units in ``groups`` groups; ``c`` a scaling factor."""
    if model.df == 0:
        return 0.0
    if not np.isfinite(c):
        return _NAN
    return float(np.sqrt(max(model.statistic - c * model.df, 0.0) / (model.df * n) * groups))


def _rmsea_bounds(model: ChiSquare, n: int, groups: int) -> tuple[float, float]:
    """90% interval: noncentralities at which the statistic is the 95th and the 5th percentile."""
    if model.df <= 0:
        return 0.0, 0.0

    def bound(level: float) -> float:
        if float(special.chdtr(model.df, model.statistic)) < level:
            return 0.0
        excess = float(special.chndtrinc(model.statistic, model.df, level))
        return float(np.sqrt(excess / (model.df * n) * groups))

    return bound(0.95), bound(0.05)


def level_srmr(
    problem: StructuralProblem, fit: StructuralFit, saturated: StructuralFit, level: Level
) -> float:
    """SRMR of one level, averaged over groups (see the module); NaN where the level is empty."""
    one, two = problem.objective(fit.model), problem.objective(saturated.model)
    total, weight = 0.0, 0.0
    for g, data in enumerate(problem.statistics):
        implied = one.implied(fit.theta, g)[level].cov
        observed = two.implied(saturated.theta, g)[level].cov
        if not len(observed):
            return _NAN
        residual = _correlations(observed) - _correlations(implied)
        lower = residual[np.tril_indices(len(residual))]
        n = data.n_rows if level == "within" else data.n_clusters
        if level in fit.model.levels[2:]:
            n = problem.uppers[g][fit.model.levels.index(level) - 2].n_units
        total += n * float(np.sqrt(np.mean(lower**2)))
        weight += n
    return total / weight


def _correlations(cov: Array) -> Array:
    """Correlations; NaN where a variance is not positive."""
    variances = np.diag(cov)
    size = np.sqrt(np.where(variances > 0.0, variances, np.nan))
    return np.asarray(cov / np.outer(size, size))


def _at_boundary(model: ChiSquare, fit: StructuralFit) -> str:
    """What zero variances do to the test: the reference is a mixture (Shapiro 1988)."""
    if fit.boundary is None or model.df <= 0:
        return ""
    held = fit.n_parameters - fit.boundary.tangent.shape[1]
    p = float(chi_square_tail(model.statistic, model.df + held))
    return (
        f" With {held} of the parameters at the boundary the p lies between that and"
        f" {'< .001' if p < 0.001 else f'{p:.3f}'} ({model.df + held} df), and no correction for"
        " non-normality is defined."
    )


def _sentence(model: ChiSquare, saturated: StructuralFit) -> str:
    if not saturated.certificate.is_certified:
        return (
            "The saturated model has no certified optimum in these data, so that chi-square, CFI, "
            "TLI, RMSEA and SRMR are not to be trusted (few clusters for many variables?)."
        )
    if model.df == 0:
        return (
            "The model is saturated: it reproduces all means and covariances, so that its fit "
            "cannot be tested."
        )
    worse = model.p_value < 0.05
    return (
        f"The model fits {'significantly worse than' if worse else 'as well as'} the saturated "
        f"model: chi-square({model.df}) = {model.statistic:.2f}, "
        f"p {'< .001' if model.p_value < 0.001 else f'= {model.p_value:.3f}'}."
    )
