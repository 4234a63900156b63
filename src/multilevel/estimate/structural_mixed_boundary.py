"""Mixed structural models at the boundary: variances of zero, correlations of one.

As for Gaussian models (``structural_boundary``): residual covariance matrices of clusters are
``S = L L'``; the criterion is minimised in L, first with L square, then with the columns that the
rank of S leaves. There the point is an optimum if the gradient vanishes along the matrices of that
rank and if no variance in a direction in which S is zero would raise the likelihood:
``N'(dF/dS)N`` positive semidefinite, N spanning these directions (first-order condition on the cone
of covariance matrices; Shapiro 1988, Int. Stat. Rev. 56:49). F has no derivative in the factor
of S at the edge itself, so it is taken a little inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.errors import LikelihoodError
from multilevel.estimate.certificate import BOUNDARY_LIMIT, curvature_floor
from multilevel.estimate.structural import Boundary
from multilevel.estimate.structural_mixed_edge import sizes_of
from multilevel.estimate.structural_mixed_scale import log_variances
from multilevel.estimate.structural_mixed_search import (
    Optimum,
    climb,
    make_certificate,
    shortfalls,
)
from multilevel.estimate.structural_roots import Root, RootMap, pivoted_root
from multilevel.estimate.trust_region import Path
from multilevel.likelihood.structural.mixed_objective import MixedObjective, lay_out_mixed
from multilevel.model.structural.boundary import covariance_blocks

Array = NDArray[np.float64]
_FLOOR = 0.02  # smallest eigenvalue of the start, as a share of the variances
_ZEROS = (1e-3, 1e-6)  # shares of the variances below which an eigenvalue may be zero
_INSIDE = 1e-5  # where one-sided derivatives are taken, as a share of the variances
_LARGEST = 50.0
Points = int | tuple[int, ...]


class RootCoordinates:
    """The criterion in roots of covariance matrices, and logarithms of the other variances."""

    def __init__(self, objective: MixedObjective, roots: tuple[Root, ...], start: Array) -> None:
        self.objective, self.problem, self.points = objective, objective.problem, objective.points
        self.map = RootMap(len(start), roots)
        logs = log_variances(objective.layout.design.model, start)[self.map.outside]
        self.is_log = np.concatenate([logs, np.zeros(self.map.size - len(logs), dtype=np.bool_)])
        self.w: Array = np.empty(0)

    @property
    def n_evaluations(self) -> int:
        """Evaluations so far."""
        return self.objective.n_evaluations

    def coordinates(self, theta: Array, factors: list[Array]) -> Array:
        """(m,) the point with these factors."""
        phi = self.map.phi(theta, factors)
        return np.where(self.is_log, np.log(np.where(self.is_log, phi, 1.0)), phi)

    def _phi(self, w: Array) -> Array:
        return np.where(self.is_log, np.exp(np.where(self.is_log, w, 0.0)), w)

    def parameters(self, w: Array) -> Array:
        """(q,) theta."""
        return np.asarray(self.map.theta(self._phi(w)), dtype=np.float64)

    def tangent(self, w: Array) -> Array:
        """(q, m) derivative of theta."""
        phi = self._phi(w)
        return np.asarray(self.map.tangent(phi) * np.where(self.is_log, phi, 1.0))

    def value(self, w: Array) -> float:
        """The criterion; sets the point.

        Raises
        ------
        LikelihoodError : variances that overflow; parameters at which the model does not exist.
        """
        if np.any(np.abs(w[self.is_log]) > _LARGEST):
            raise LikelihoodError(
                "Variances are numbers of moderate size.",
                "one that overflows or vanishes",
                "take a shorter step",
            )
        self.w = w.copy()
        return self.objective.value(self.parameters(w))

    def gradient(self) -> Array:
        """(m,) at the point last set."""
        return np.asarray(self.tangent(self.w).T @ self.objective.gradient())

    def cluster_scores(self) -> Array | None:
        """(J, m) at the point last set; None where clusters are crossed."""
        found = self.objective.cluster_scores()
        return None if found is None else np.asarray(found @ self.tangent(self.w))


def search_bounded(
    design: MixedDesign, pattern: Array, points: Points, starts: Sequence[Array]
) -> Optimum | None:
    """Maximum likelihood with covariance matrices that a population can have.

    Parameters
    ----------
    pattern : as in ``lay_out_mixed``; points : quadrature points.
    starts : (q,) points, the best first.

    Returns
    -------
    Optimum or None : without ``boundary`` it lies inside, and is to be polished there. None where
        no covariance matrix is free, or no start leads anywhere.
    """
    roots = _roots(design)
    if not roots:
        return None
    for start in starts:
        try:
            found = _from(design, pattern, points, roots, start)
        except LikelihoodError:
            continue
        return found
    return None


def _roots(design: MixedDesign) -> tuple[Root, ...]:
    """The covariance matrices of clusters that are free, with the size of their variables."""
    sizes, out = sizes_of(design), []
    for model, factor in zip(design.model.models, design.factors, strict=False):
        known = dict(sizes)
        for k, name in enumerate(model.between_only):
            known[name] = float(factor.z[:, k].var())
        label = factor.name if len(design.factors) > 1 else "between"
        for block in covariance_blocks(model, ["between"])[0]:
            unit = np.sqrt([known.get(n, 1.0) for n in block.names])
            k = len(block.names)
            out.append(Root(replace(block, level=label), tuple(range(k)), k, unit))
    return tuple(out)


def _objective(design: MixedDesign, theta: Array, pattern: Array, points: Points) -> MixedObjective:
    layout = lay_out_mixed(design, theta, pattern)
    several = points if isinstance(points, int) else points[: len(layout.blocks)]
    return MixedObjective(layout, several)


def _from(
    design: MixedDesign, pattern: Array, points: Points, roots: tuple[Root, ...], start: Array
) -> Optimum:
    """Search from one start."""
    factors, theta = [], start.copy()
    for root in roots:
        values, vectors = np.linalg.eigh(root.matrix(start))
        raised = (vectors * np.maximum(values, _FLOOR)) @ vectors.T
        factors.append(root.unit[:, None] * np.linalg.cholesky(raised))
        theta[root.places] = factors[-1] @ factors[-1].T
    moved = RootCoordinates(_objective(design, theta, pattern, points), roots, theta)
    path, kind, history, done = climb(moved, moved.coordinates(theta, factors))
    theta, seen = moved.parameters(path.theta), set()
    for zero in _ZEROS:
        smaller, factors = _reduced(roots, theta, zero)
        ranks = tuple(r.rank for r in smaller)
        if ranks in seen or all(r.rank == len(r.order) for r in smaller):
            continue
        seen.add(ranks)
        here = np.asarray(RootMap(len(theta), smaller).theta(
            RootMap(len(theta), smaller).phi(theta, factors)))  # fmt: skip
        own = RootCoordinates(_objective(design, here, pattern, points), smaller, here)
        again, kind, more, extra = climb(own, own.coordinates(here, factors))
        if again.value > path.value + 1e-5:
            continue
        return _finish(own, again, kind, history + more, done + extra, pattern, points)
    certificate = make_certificate(moved.objective, path, kind, history, done, [], "")
    return Optimum(moved.objective, theta, path.value, np.empty((0, 0)), certificate)


def _reduced(
    roots: tuple[Root, ...], theta: Array, zero: float
) -> tuple[tuple[Root, ...], list[Array]]:
    """Roots of the rank that the matrices have, and their factors."""
    smaller, factors = [], []
    for root in roots:
        order, L = pivoted_root(root.matrix(theta), zero)
        smaller.append(replace(root, order=order, rank=L.shape[1]))
        factors.append(root.unit[list(order)][:, None] * L)
    return tuple(smaller), factors


def _finish(
    moved: RootCoordinates,
    path: Path,
    kind: str,
    history: list[float],
    done: int,
    pattern: Array,
    points: Points,
) -> Optimum:
    """Certify the end at the boundary, and say what is there."""
    theta = moved.parameters(path.theta)
    design = moved.objective.layout.design
    residual = _residual(design, moved.map, theta, pattern, points)
    floor = curvature_floor(path.curvature)
    reasons = shortfalls(path, floor)
    if not reasons and floor < 1e-7:
        reasons.append("the data do not determine all parameters (a flat direction)")
    if residual < BOUNDARY_LIMIT:
        reasons.append(
            f"a variance that is estimated as zero would raise the likelihood ({residual:.2g})"
        )
    sentence = (
        "At the optimum, which lies on the boundary: -2 log-likelihood can fall by no more than"
        f" {max(path.decrement, 1e-16):.1g}, and no variance in a zero direction would lower it."
    )
    certificate = make_certificate(moved.objective, path, kind, history, done, reasons, sentence,
                                   residual, is_singular=True)  # fmt: skip
    boundary = Boundary(moved.tangent(path.theta), path.curvature, _sentences(moved.map, theta))
    return Optimum(moved.objective, theta, path.value, np.empty((0, 0)), certificate, boundary)


def _residual(
    design: MixedDesign, mapped: RootMap, theta: Array, pattern: Array, points: Points
) -> float:
    """Smallest eigenvalue of ``N'(dF/dS)N``, in units of the variances."""
    inner = theta.copy()
    empty = []
    for root in mapped.roots:
        values, vectors = np.linalg.eigh(root.matrix(theta))
        N = vectors[:, values <= 1e-9] * root.unit[:, None]
        empty.append(N)
        names = root.block.names
        places = np.array([[root.block.free[a, b] for b in names] for a in names], dtype=np.intp)
        inner[places] += _INSIDE * N @ N.T
    objective = _objective(design, inner, pattern, points)
    objective.value(inner)
    slope, worst = objective.gradient(), np.nan
    for root, N in zip(mapped.roots, empty, strict=True):
        if N.shape[1]:
            names = root.block.names
            places = np.array([[root.block.free[a, b] for b in names] for a in names])
            M = 0.5 * slope[places] * (1.0 + np.eye(len(names)))
            worst = float(np.fmin(worst, np.linalg.eigvalsh(N.T @ M @ N).min()))
    return worst


def _sentences(mapped: RootMap, theta: Array) -> tuple[str, ...]:
    """What is at the boundary, one sentence per matrix."""
    out = []
    for root in mapped.roots:
        if root.rank == len(root.order):
            continue
        at, S = f"at the {root.block.level} level", root.matrix(theta)
        none = [n for i, n in enumerate(root.block.names) if S[i, i] <= 1e-9]
        if none:
            also = ", and its covariances with it" if len(root.order) > 1 else ""
            out.append(
                f"The (residual) variance of {' and '.join(none)} {at} is estimated as zero{also}:"
                " no positive variance would raise the likelihood."
            )
        rest = [n for n in root.block.names if n not in none]
        if len(rest) > root.rank:
            out.append(
                f"{' and '.join(rest)} {at} are estimated as perfectly correlated (a combination of"
                " them does not vary): the data hold too little information on their covariances."
            )
    return tuple(out)
