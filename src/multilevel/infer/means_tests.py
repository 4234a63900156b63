"""Tests and intervals of linear combinations of fixed effects, under any method of df."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.infer.between_within import between_within, residual, z_tests
from multilevel.infer.containment import containment
from multilevel.infer.degrees_of_freedom import (
    LARGE_DF,
    DfApproach,
    DfMethod,
    FixedEffects,
    check_df,
    default_df,
    method_sentence,
)
from multilevel.infer.distributions import (
    chi_square_tail,
    f_tail,
    normal_quantile,
    normal_tail,
    t_quantile,
    t_tail,
)
from multilevel.infer.kenward_roger import kenward_roger
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.satterthwaite import satterthwaite
from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowTest:
    """One combination of fixed effects; ``df`` is infinite for z tests."""

    term: str
    estimate: float
    std_error: float
    df: float
    statistic: float
    p_value: float
    conf_low: float
    conf_high: float


@dataclass(frozen=True)
class RowTests:
    """Tests of single rows.

    Attributes
    ----------
    rows : the tests.
    method : method of the degrees of freedom.
    conf_level : of the intervals.
    sentence : which tests these are, and what to know about them.
    """

    rows: tuple[RowTest, ...]
    method: DfMethod
    conf_level: float
    sentence: str


@dataclass(frozen=True)
class JointTest:
    """A test of several rows at once.

    Attributes
    ----------
    term : what is tested.
    df_num, df : numerator and denominator degrees of freedom (``df`` infinite: chi-square).
    statistic : F, or chi-square where ``df`` is infinite.
    p_value : its tail probability.
    sentence : the result in words.
    """

    term: str
    df_num: int
    df: float
    statistic: float
    p_value: float
    sentence: str


def approach_of(
    prepared: Prepared, fit: Fit, objective: GaussianObjective, df: str | None = None
) -> DfApproach:
    """The method of degrees of freedom for a fit; None takes the default of its estimator.

    Parameters
    ----------
    objective : factorised at the fit's parameters (``estimate.posterior.evaluated``).

    Raises
    ------
    InferenceError : an unknown method, or one that this fit does not allow (with the reason).
    """
    method = default_df(fit.method) if df is None else check_df(df)
    if fit.n_fixed == 0:
        raise InferenceError(
            "Tests of fixed effects need fixed effects.",
            "a model without any",
            "add a predictor or an intercept",
        )
    if method == "satterthwaite":
        return satterthwaite(prepared, fit, objective)
    if method == "kenward-roger":
        return kenward_roger(prepared, fit, objective)
    if method == "between-within":
        return between_within(prepared, fit)
    if method == "containment":
        return containment(prepared, fit)
    return residual(fit) if method == "residual" else z_tests(fit)


def check_level(conf_level: float) -> float:
    """A confidence level strictly between 0 and 1, or ``InferenceError``."""
    level = float(conf_level)
    if not 0.0 < level < 1.0:
        raise InferenceError(
            "conf_level must lie strictly between 0 and 1.",
            f"conf_level={conf_level!r}",
            "write conf_level=0.95",
        )
    return level


def _two_sided(statistic: Array, df: Array) -> Array:
    """Two-sided p-values of t (z where df is infinite)."""
    finite = np.isfinite(df)
    t = t_tail(np.abs(statistic), np.where(finite, df, 1.0))
    z = normal_tail(np.abs(statistic))
    return np.asarray(2.0 * np.where(finite, t, z), dtype=np.float64)


def critical_values(df: Array, conf_level: float) -> Array:
    """Two-sided critical values of t (z where df is infinite), same shape."""
    tail = 0.5 * (1.0 + conf_level)
    finite = np.isfinite(df)
    t = t_quantile(tail, np.where(finite, df, 1.0))
    return np.asarray(np.where(finite, t, normal_quantile(tail)), dtype=np.float64)


def row_tests(
    fit: FixedEffects,
    approach: DfApproach,
    hypothesis: Hypothesis,
    *,
    conf_level: float = 0.95,
    was_default: bool = False,
) -> RowTests:
    """Test each row of ``L beta = rhs`` by itself.

    The estimate is ``L beta - rhs``; intervals are for it. A row of zeros, or one without
    variance, has no test: NaN.
    """
    level = check_level(conf_level)
    L = hypothesis.L
    estimate = L @ fit.beta - hypothesis.rhs
    error = np.sqrt(np.maximum(np.einsum("kp,pq,kq->k", L, approach.vcov, L), 0.0))
    known = error > 0.0
    df = np.full(len(L), np.nan)
    if known.any():
        df[known] = approach.row_df(L[known])
    statistic = np.full(len(L), np.nan)
    statistic[known] = estimate[known] / error[known]
    p, margin = np.full(len(L), np.nan), np.full(len(L), np.nan)
    p[known] = _two_sided(statistic[known], df[known])
    margin[known] = critical_values(df[known], level) * error[known]
    columns = (estimate, error, df, statistic, p, estimate - margin, estimate + margin)
    rows = [
        RowTest(label, *(float(column[k]) for column in columns))
        for k, label in enumerate(hypothesis.labels)
    ]
    sentences = [method_sentence(approach, fit.method, was_default), *approach.notes]
    if known.any() and approach.method != "none" and np.all(df[known] > LARGE_DF):
        sentences.append("Every degree of freedom exceeds 10000: t and z tests agree.")
    return RowTests(tuple(rows), approach.method, level, " ".join(sentences))


def joint_test(
    fit: FixedEffects, approach: DfApproach, hypothesis: Hypothesis, term: str
) -> JointTest:
    """Test all rows of ``L beta = rhs`` at once.

    Raises
    ------
    InferenceError : rows of zeros, or rows that contradict one another.
    """
    difference = hypothesis.L @ fit.beta - hypothesis.rhs
    found = approach.joint(hypothesis.L, difference)
    if np.isfinite(found.df):
        p = float(f_tail(found.statistic, found.df_num, found.df))
        what = f"F({found.df_num}, {found.df:.1f}) = {found.statistic:.3f}"
    else:
        statistic = found.statistic
        if approach.method != "none":  # an F whose denominator df is infinite
            statistic = found.statistic * found.df_num
        p = float(chi_square_tail(statistic, found.df_num))
        what = f"chi-square({found.df_num}) = {statistic:.3f}"
    tail = "p < .001" if p < 0.001 else f"p = {p:.3f}"
    sentence = f"{term}: {what}, {tail}."
    return JointTest(term, found.df_num, found.df, found.statistic, p, sentence)


def coefficient_hypothesis(names: tuple[str, ...]) -> Hypothesis:
    """Each fixed effect equals zero."""
    p = len(names)
    return Hypothesis(names, np.eye(p), np.zeros(p))


#: Predicted seconds that a printed summary may spend on degrees of freedom.
PRINTING_SECONDS = 2.0


def predicted_seconds(prepared: Prepared, fit: Fit) -> float:
    """Predicted seconds of Satterthwaite df: evaluations of the criterion with its gradient."""
    several = len(prepared.design.blocks) > 1
    exact = prepared.engine_plan.name != "iterative"
    evaluations = 1 + (2 * len(fit.theta) if several and exact else 2)
    return prepared.engine_plan.seconds * evaluations


def default_tests(
    prepared: Prepared,
    fit: Fit,
    approach: Callable[[DfMethod], DfApproach],
    *,
    conf_level: float = 0.95,
    seconds: float | None = None,
) -> RowTests:
    """Tests of all fixed effects by the default method, or z tests where it cannot be had.

    Parameters
    ----------
    approach : makes a method by its name (``approach_of`` with the fit filled in).
    seconds : z tests too where the default is predicted to take longer; None sets no limit.

    The sentence says which tests these are, and why where they are not the default.
    """
    method = default_df(fit.method) if fit.n_fixed else "none"
    hypothesis = coefficient_hypothesis(prepared.design.names)
    reason = ""
    if method != "none":
        predicted = predicted_seconds(prepared, fit)
        if seconds is None or predicted <= seconds:
            try:
                return row_tests(
                    fit, approach(method), hypothesis, conf_level=conf_level, was_default=True
                )
            except InferenceError as error:
                reason = f"Satterthwaite degrees of freedom cannot be had: {error.found}."
        else:
            reason = (
                f"Satterthwaite degrees of freedom would take about {predicted:.0f} s here: ask"
                " with df='satterthwaite'."
            )
    found = row_tests(fit, z_tests(fit), hypothesis, conf_level=conf_level, was_default=True)
    return replace(found, sentence=f"{found.sentence} {reason}") if reason else found
