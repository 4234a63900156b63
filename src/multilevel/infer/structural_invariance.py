"""Comparison of models of measurement invariance: fit, difference tests, and who is at fault.

* Difference tests: change of -2 log-likelihood, chi-square with the difference of the numbers of
  parameters; scaled (MLR): divided by ``(tr1 - tr0) / df`` with ``tr = tr(H^-1 J)`` of each model
  (Satorra & Bentler 2001, Psychometrika 66:507, in terms of traces); where that is not positive,
  with tr1 taken at the estimates of the smaller model (Satorra & Bentler 2010, Psychometrika
  75:243). Between residual variances may be estimated below zero, so that zero is no boundary and
  the chi-square needs no mixture (Savalei & Kolenikov 2008, Psychol. Methods 13:150).
* Score tests of single constraints at the estimates of the smaller model (Sorbom 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError, LikelihoodError
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.structural import correction_trace
from multilevel.infer.structural_fit import FitMeasures
from multilevel.model.structural.invariance import InvarianceStep
from multilevel.model.structural.records import Parameter, StructuralModel

Array = NDArray[np.float64]
_NAN = float("nan")
_LEAST = 1e-9


@dataclass(frozen=True)
class InvarianceTest:
    """One step against the step before it.

    ``statistic`` and ``p_value`` are scaled if ``scaling`` (the factor) is a number; ``unscaled``
    is the change of -2 log-likelihood. ``change_cfi`` and the other changes are step less the step
    before. ``holds``: p is at least ``alpha``.
    """

    step: str
    against: str
    statistic: float
    df: int
    p_value: float
    scaling: float
    unscaled: float
    change_cfi: float
    change_rmsea: float
    change_srmr_within: float
    change_srmr_between: float
    holds: bool


@dataclass(frozen=True)
class ConstraintTest:
    """What -2 log-likelihood would gain from freeing one constraint of a step.

    ``statistic`` is chi-square with 1 df, ``expected_change`` the likely change of the parameter
    from its common (or zero) value.
    """

    step: str
    parameter: str
    level: str
    group: str
    value: float
    expected_change: float
    statistic: float
    p_value: float


def difference_tests(
    problems: Sequence[StructuralProblem],
    fits: Sequence[StructuralFit],
    measures: Sequence[FitMeasures],
    names: Sequence[str],
    *,
    is_scaled: bool,
    alpha: float,
) -> tuple[InvarianceTest, ...]:
    """Every step against the one before it."""
    out = []
    for k in range(1, len(fits)):
        large, small = fits[k - 1], fits[k]
        df = large.n_parameters - small.n_parameters
        gain = max(small.criterion - large.criterion, 0.0)
        scaling = _scaling(problems[k - 1], large, problems[k], small) if is_scaled else _NAN
        statistic = gain / scaling if is_scaled else gain
        p = float(chi_square_tail(statistic, df)) if np.isfinite(statistic) and df else _NAN
        one, two = measures[k - 1], measures[k]
        robust = is_scaled and np.isfinite(two.cfi_robust) and np.isfinite(one.cfi_robust)
        cfi = two.cfi_robust - one.cfi_robust if robust else two.cfi - one.cfi
        rmsea = two.rmsea_robust - one.rmsea_robust if robust else two.rmsea - one.rmsea
        out.append(
            InvarianceTest(names[k], names[k - 1], statistic, df, p, scaling, gain, cfi, rmsea,
                           two.srmr_within - one.srmr_within,
                           two.srmr_between - one.srmr_between, bool(p >= alpha))
        )  # fmt: skip
    return tuple(out)


def _scaling(
    large_problem: StructuralProblem,
    large: StructuralFit,
    small_problem: StructuralProblem,
    small: StructuralFit,
) -> float:
    """The factor of the scaled difference test; NaN where it does not exist."""
    df = large.n_parameters - small.n_parameters
    try:
        own = correction_trace(small_problem, small)
        factor = (correction_trace(large_problem, large) - own) / df
        if factor > 0.0:
            return factor
        theta = _as_larger(small, large.model)
        objective = large_problem.objective(large.model)
        if abs(objective.value(theta) - small.criterion) > 1e-6:
            return _NAN  # the smaller model is not the larger one with some parameters fixed
        moved = replace(large, theta=theta, known_hessian=None)
        factor = (correction_trace(large_problem, moved) - own) / df
    except (InferenceError, LikelihoodError):
        return _NAN
    return factor if factor > 0.0 else _NAN


def _key(p: Parameter) -> tuple[str, int, str, frozenset[str], str]:
    return p.level, p.group, p.op, frozenset((p.lhs, p.rhs)), p.lhs if p.op != "~~" else ""


def _as_larger(small: StructuralFit, model: StructuralModel) -> Array:
    """(q,) parameters of the larger model at the estimates of the smaller one."""
    values = {
        _key(p): small.theta[p.free] if p.is_free else p.value for p in small.model.parameters
    }
    theta = np.zeros(model.n_free)
    for p in model.parameters:
        if p.is_free:
            theta[p.free] = values.get(_key(p), 0.0)
    return theta


def constraint_tests(
    problem: StructuralProblem, fit: StructuralFit, step: InvarianceStep
) -> tuple[ConstraintTest, ...]:
    """Score tests of the constraints that a step adds, largest first.

    Raises
    ------
    LikelihoodError : estimates at which the likelihood does not exist.
    """
    rows, theta, back, added = _released(fit, step)
    if not added:
        return ()
    model = fit.model
    larger = replace(
        model, parameters=tuple(rows), free_names=tuple(str(k) for k in range(len(theta)))
    )
    objective = problem.objective(larger)
    score = -0.5 * objective.gradient(theta)
    information = objective.expected_information(theta)
    own = back.T @ information @ back
    out = []
    for p in added:
        cross = back.T @ information[:, p.free]
        total = information[p.free, p.free]
        left = float(total - cross @ np.linalg.solve(own, cross))
        if not left > _LEAST * total:
            continue
        size = float(score[p.free])
        statistic = size * size / left
        out.append(
            ConstraintTest(step.name, p.name, model.level_name(p.level) if model.cluster else "",
                           model.groups[p.group], float(theta[p.free]), size / left, statistic,
                           float(chi_square_tail(statistic, 1)))
        )  # fmt: skip
    return tuple(sorted(out, key=lambda t: -t.statistic))


def _released(
    fit: StructuralFit, step: InvarianceStep
) -> tuple[list[Parameter], Array, Array, list[Parameter]]:
    """The step's model with its new constraints lifted, at the step's estimates.

    Returns
    -------
    rows : parameter table; theta : (Q,) values; back : (Q, q) derivative of the lifted parameters
    in those of the step; added : the parameters that a constraint held.
    """
    rows, added = [], []
    values, place = list(fit.theta), list(range(len(fit.theta)))
    used: set[int] = set()
    labels = [p.label for p in fit.model.parameters]
    for p in fit.model.parameters:
        mine = p
        is_zero = p.is_variance and p.level != "within" and p.lhs in step.zeros and not p.is_free
        if is_zero or (p.label in step.labels and p.is_free):
            if is_zero or p.free in used:
                mine = replace(p, free=len(values), value=float("nan"))
                values.append(0.0 if is_zero else fit.theta[p.free])
                place.append(-1 if is_zero else p.free)
            elif labels.count(p.label) == 2:
                used.add(p.free)  # of two equal parameters, freeing one is freeing the other
                rows.append(mine)
                continue
            else:
                used.add(p.free)
            added.append(mine)
        rows.append(mine)
    back = np.zeros((len(values), len(fit.theta)))
    for row, column in enumerate(place):
        if column >= 0:
            back[row, column] = 1.0
    return rows, np.array(values), back, added
