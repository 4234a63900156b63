"""What to look at again in a structural model: variables whose between part was left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralGroup
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.distributions import f_tail
from multilevel.interpret.structural_slopes import is_cluster_mean
from multilevel.model.structural.reference import exogenous_predictors

Array = NDArray[np.float64]
_MIN_ICC, _MAX_P = 0.02, 0.01


def anova_icc(values: Array, codes: NDArray[np.intp]) -> tuple[float, float]:
    """Intraclass correlation of one variable by the Anova estimator, and the p of no clustering.

    Missing values are left out. Source: Donner 1986 (Int. Stat. Rev. 54:67). NaN where there are
    too few clusters or rows.
    """
    known = ~np.isnan(values)
    y, g = values[known], np.unique(codes[known], return_inverse=True)[1].ravel()
    n, J = len(y), int(g.max()) + 1 if len(y) else 0
    if J < 2 or n <= J:
        return float("nan"), float("nan")
    size = np.bincount(g).astype(np.float64)
    mean = np.bincount(g, y) / size
    between = float(np.sum(size * (mean - y.mean()) ** 2)) / (J - 1)
    within = float(np.sum((y - mean[g]) ** 2)) / (n - J)
    typical = (n - float(np.sum(size**2)) / n) / (J - 1)
    if within <= 0.0:
        return 1.0, 0.0
    icc = (between - within) / (between + (typical - 1.0) * within)
    return icc, float(f_tail(between / within, J - 1, n - J))


def structural_advice(problem: StructuralProblem, fit: StructuralFit) -> tuple[str, ...]:
    """One sentence for each variable that is named at level 1 only but differs between clusters."""
    model = fit.model
    if not model.cluster:
        return ()
    upper = model.level_name("between")
    out = []
    for data in problem.design.groups:
        predictors = exogenous_predictors(model, "within")
        where = f" (group {data.label})" if data.label else ""
        for name in model.within_only:
            column = data.y[:, model.observed("within").index(name)]
            icc, p = anova_icc(column, data.codes)
            if not (icc > _MIN_ICC and p < _MAX_P) or _has_mean(problem, data, name):
                continue
            share = f"{100.0 * icc:.0f}% of the variance of {name}{where} lies between clusters"
            if name in predictors:
                out.append(
                    f"{share}, but {name} is named at level 1 only: its slope mixes the within and"
                    f" the between effect. Name it at the {upper} level too (it is then split), or"
                    " add its cluster mean there."
                )
            else:
                out.append(
                    f"{share}, but {name} is named at level 1 only, so that the model takes its"
                    " rows as independent given the predictors: standard errors are too small."
                    f" Name it at the {upper} level too."
                )
    return tuple(out)


def _has_mean(problem: StructuralProblem, data: StructuralGroup, name: str) -> bool:
    model = problem.design.model
    return any(is_cluster_mean(model, data, name, z) for z in model.between_only)
