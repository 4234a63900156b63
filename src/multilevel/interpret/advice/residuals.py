r"""Advice on the residuals: a variance that differs between rows, a correlation over time.

Score tests of parameters that are zero in the fitted model: with the criterion ``d`` (-2 log-
likelihood, or the REML criterion), its exact gradient ``g`` and the average information ``H`` in
all covariance parameters, ``g'H^-1 g / 2`` is chi-squared, and ``-H^-1 g`` the first Newton step
towards the estimates. Named is only what is both beyond chance and large enough to matter.
Source: Cox & Hinkley 1974, Theoretical Statistics, section 9.3; Verbyla 1993 (J. R. Statist. Soc. B
55:493) for log-linear variances.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.design.residual_layout import ResidualLayout
from multilevel.design.residual_time import TimeScale, all_lags, positions
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import prepare_structured
from multilevel.infer.distributions import chi_square_tail
from multilevel.interpret.advice.columns import variable_of
from multilevel.interpret.advice.record import Advice
from multilevel.interpret.autocorrelation import TimeColumn, time_columns
from multilevel.model.covariance.correlation import CorrelationMap
from multilevel.model.residual import ResidualTerm

Array = NDArray[np.float64]
#: A finding needs a p-value below this, a variance ratio and a correlation beyond these.
CHANCE, RATIO, CORRELATION = 1e-3, 1.5, 0.15
#: More rows would make printing wait.
MOST_ROWS = 50_000
_INDICATOR = re.compile(r"^([^\W\d][\w.]*)\[[^\]]+\]$")


def about_residuals(design: Design, fit: Fit) -> list[Advice]:
    """Both checks, for fits with independent residuals of one variance and nested factors."""
    if (
        fit.residual is not None
        or not fit.certificate.is_certified
        or design.n > MOST_ROWS
        or np.ptp(design.y) == 0.0
    ):
        return []
    return [*_variances(design, fit), *_correlation(design, fit)]


def _variances(design: Design, fit: Fit) -> list[Advice]:
    """Log residual variance against every predictor of the means that stands by itself."""
    columns = predictors_of(design)
    if not columns:
        return []
    spans: list[tuple[str, slice]] = []
    parts: list[Array] = []
    for name, x in columns.items():
        start = sum(part.shape[1] for part in parts)
        spans.append((name, slice(start, start + x.shape[1])))
        parts.append(x - x.mean(axis=0))
    X = np.column_stack(parts)
    none = np.zeros(design.n, dtype=np.int64)
    rows = np.arange(design.n)
    layout = ResidualLayout(
        None, rows, np.arange(design.n + 1), rows, rows.astype(np.int32),
        np.zeros((design.n, 1)), (), none, ("",), X,
        tuple(f"x{j}" for j in range(X.shape[1])), TimeScale(), design.weights, "",
    )  # fmt: skip
    found = _score(design, fit, layout)
    if found is None:
        return []
    gradient, H = found
    r = len(fit.theta)
    told = []
    for name, span in spans:
        own = np.r_[0:r, r + span.start : r + span.stop]
        step, p = _step(gradient[own], H[np.ix_(own, own)], r)
        change = X[:, span] @ step
        spread = 2.0 * float(change.std()) if _is_number(X[:, span]) else float(np.ptp(change))
        if p < CHANCE and spread > np.log(RATIO):
            told.append((name, float(np.exp(min(spread, 50.0)))))
    if not told:
        return []
    names = " + ".join(name for name, _ in told)
    listed = "; ".join(f"over {name} it changes about {ratio:.1f} times" for name, ratio in told)
    return [
        Advice(
            "heteroscedasticity",
            "warning",
            f"The residual variance is not the same in all rows ({listed}; score tests, p <"
            f" {CHANCE:g}).",
            f'Fit it too: scale="~ {names}", and compare with multilevel.compare.',
        )
    ]


def predictors_of(design: Design) -> dict[str, Array]:
    """Variables whose columns stand by themselves: a number, or all indicators of a factor."""
    found: dict[str, list[Array]] = {}
    for j, name in enumerate(design.names):
        indicator = _INDICATOR.match(name)
        key = indicator.group(1) if indicator else variable_of(name)
        if key is not None and (indicator or key == name):
            found.setdefault(key, []).append(design.X[:, j])
    return {key: np.column_stack(parts) for key, parts in found.items()}


def _is_number(x: Array) -> bool:
    return x.shape[1] == 1 and len(np.unique(x)) > 2


def _correlation(design: Design, fit: Fit) -> list[Advice]:
    """First-order autocorrelation along a predictor that looks like time."""
    for time in time_columns(design):
        term = ResidualTerm(
            "ar1", (time.name,), tuple(time.group.split(":")), None, 0,
            f"ar1({time.name} | {time.group})",
        )  # fmt: skip
        found = _score(design, fit, _in_time(design, term, time))
        if found is None:
            continue
        step, p = _step(*found, len(fit.theta))
        rho = float(np.tanh(step[0]))
        if p < CHANCE and abs(rho) > CORRELATION:
            slope = _no_slope(design, time)
            return [
                Advice(
                    "autocorrelation",
                    "warning",
                    f"Residuals of one {time.group} that follow one another in {time.name} are"
                    f" correlated (about {rho:.2f} one step apart; score test, p < {CHANCE:g}).",
                    f'Fit it: residual="ar1({time.name} | {time.group})"{slope}, and compare with'
                    " multilevel.compare.",
                )
            ]
    return []


def _no_slope(design: Design, time: TimeColumn) -> str:
    block = next(b for b in design.blocks if b.group == time.group)
    if time.name in block.names:
        return ""
    return f", or let {time.name} vary: ({time.name} | {time.group})"


def _in_time(design: Design, term: ResidualTerm, time: TimeColumn) -> ResidualLayout:
    position, scale = positions(term, design.n, lambda _: time.values)
    order = np.lexsort((position[:, 0], time.codes))
    block = next(b for b in design.blocks if b.group == time.group)
    counts = np.bincount(time.codes, minlength=block.n_levels)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    lags = np.unique(np.concatenate([[0.0], *all_lags(position, order, starts, 1)]))
    unit = float(np.median(lags[1:])) if len(lags) > 1 else 1.0
    structure = CorrelationMap("ar1", lags, (), 0, int(counts.max()), unit)
    return ResidualLayout(
        term, order, starts, block.levels, time.codes, position, (structure,),
        np.zeros(block.n_levels, dtype=np.int64), ("",), np.zeros((design.n, 0)), (), scale,
        design.weights, "",
    )  # fmt: skip


def _score(design: Design, fit: Fit, layout: ResidualLayout) -> tuple[Array, Array] | None:
    """Gradient and average information in ``(theta, phi)`` at phi = 0; None where not computed."""
    try:
        prepared = prepare_structured(replace(design, residual=layout), method=fit.method)
        objective = prepared.objective()
        psi = np.concatenate([fit.theta, np.zeros(layout.n_parameters)])
        return objective.gradient(psi), objective.average_information(psi)
    except (EstimationError, LikelihoodError):
        # crossed factors, or too few rows: the structure could not be fitted either
        return None


def _step(gradient: Array, H: Array, r: int) -> tuple[Array, float]:
    """First Newton step of the parameters after the first ``r``, and the score test's p-value."""
    scale = np.sqrt(np.maximum(np.diag(H), 1e-300))
    inverse = np.linalg.pinv(H / np.outer(scale, scale), rcond=1e-9) / np.outer(scale, scale)
    # what the fit has optimised, boundary included, is not tested
    g = np.concatenate([np.zeros(r), gradient[r:]])
    statistic = 0.5 * float(g @ inverse @ g)
    return -(inverse @ g)[r:], float(chi_square_tail(max(statistic, 0.0), len(gradient) - r))
