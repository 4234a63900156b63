"""Refits of a structural model on resampled clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralDesign, StructuralGroup
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.structural import StructuralProblem, fit_structural, prepare_structural
from multilevel.estimate.structural_nested import draw_top_units

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClusterRefits:
    """Estimates of refits on resampled clusters.

    Attributes
    ----------
    theta : (n, q), NaN where a refit failed.
    failures : ``{why: how often}``.
    """

    theta: Array
    failures: dict[str, int]

    @property
    def n_failed(self) -> int:
        """Refits without a certified optimum."""
        return sum(self.failures.values())


def resample_clusters(
    problem: StructuralProblem, start: Array, n_draws: int, rng: np.random.Generator
) -> ClusterRefits:
    """Draw clusters with replacement in each group, and estimate the model again from ``start``.

    With three levels or more, units of the highest level are drawn, with all that is in them.
    A cluster keeps its rows, its level-2 values and its holes; one drawn twice counts as two
    clusters. Source: Davison & Hinkley 1997, section 3.8, for the resampling of whole clusters.

    Parameters
    ----------
    start : (q,) where every refit begins, the estimates.
    """
    theta = np.full((n_draws, len(start)), np.nan)
    failures: dict[str, int] = {}
    curvature = problem.objective(problem.design.model).hessian(start)
    rows = [_rows_by_cluster(g) for g in problem.design.groups]
    for k in range(n_draws):
        groups = tuple(
            _drawn(g, own, rng) for g, own in zip(problem.design.groups, rows, strict=True)
        )
        try:
            drawn = prepare_structural(_with_groups(problem.design, groups))
            fit = fit_structural(drawn, problem.design.model, start=start, curvature=curvature)
        except (EstimationError, LikelihoodError) as error:
            failures[error.must] = failures.get(error.must, 0) + 1
            continue
        if fit.certificate.is_certified:
            theta[k] = fit.theta
        else:
            failures["no certified optimum"] = failures.get("no certified optimum", 0) + 1
    return ClusterRefits(theta, failures)


def _rows_by_cluster(group: StructuralGroup) -> list[NDArray[np.intp]]:
    order = np.argsort(group.codes, kind="stable")
    ends = np.cumsum(np.bincount(group.codes, minlength=len(group.z)))
    return [part.astype(np.intp) for part in np.split(order, ends[:-1])]


def _drawn(
    group: StructuralGroup, rows: list[NDArray[np.intp]], rng: np.random.Generator
) -> StructuralGroup:
    """One sample of the highest units, with replacement."""
    if group.upper:
        n = len(group.upper[-1].z)
        return draw_top_units(group, rng.integers(0, n, n))
    chosen = rng.integers(0, len(rows), len(rows))
    parts = [rows[j] for j in chosen]
    codes = np.repeat(np.arange(len(parts)), [len(p) for p in parts]).astype(np.intp)
    return StructuralGroup(
        label=group.label,
        y=group.y[np.concatenate(parts)],
        codes=codes,
        z=group.z[chosen],
        clusters=np.arange(len(parts)).astype(object),
    )


def _with_groups(design: StructuralDesign, groups: tuple[StructuralGroup, ...]) -> StructuralDesign:
    return StructuralDesign(
        model=design.model,
        groups=groups,
        n_table=design.n_table,
        n_rows=sum(len(g.y) for g in groups),
        n_clusters=sum(len(g.z) for g in groups),
        missing={},
        notes=(),
        n_higher=design.n_higher,
    )
