"""Joint modes of nested factors: block-arrow Newton, all clusters of a run together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.arrow import Arrow, factor_arrow
from multilevel.likelihood.generalized.row import RowDerivatives
from multilevel.likelihood.generalized.tree_rows import Branch, TreeRows

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_ITERATIONS = 200
NEAR_DECREMENT = 1e-8
FINAL_DECREMENT = 1e-14
LEAST_SCALE = 1e-12


@dataclass(frozen=True)
class BranchPoint:
    """One run of clusters at given effects.

    Attributes
    ----------
    h : (G,) joint log density; score (J_0, Q) ``Z'l'``; A (J_0, Q, Q) ``Z'WZ``.
    arrow : the factor of ``H``.
    slopes : by level (J_t, q_t), the gradient of h.
    """

    h: Array
    score: Array
    A: Array
    arrow: Arrow
    slopes: list[Array]


class BranchSearch:
    """Finds the modes of one run of coarsest clusters.

    ``failed`` is None, or the cluster of the run (counted from 0) whose mode was not found.
    """

    def __init__(
        self, rows: TreeRows, branch: Branch, ops: ModuleType, Lam: Array, fixed: Array
    ) -> None:
        self.rows, self.branch, self.ops, self.Lam, self.fixed = rows, branch, ops, Lam, fixed
        self.shape = branch.shape
        self.failed: int | None = None
        home = np.arange(branch.clusters.stop - branch.clusters.start)
        homes = [home]
        for parent in reversed(self.shape.parents):
            homes.insert(0, homes[0][parent])
        self.homes = homes  # coarsest cluster of each unit, by level

    @property
    def design(self) -> tuple[Array, Index, Index, Index, int, int]:
        """What row kernels want to know of these units."""
        rows, units = self.rows, self.branch.units[0]
        return rows.Z, rows.ptr, rows.column_part, rows.random, units.start, units.stop

    def predict(self, u: Sequence[Array]) -> Array:
        """``eta`` (D, m)."""
        rows = self.branch.rows
        effects = np.ascontiguousarray((self.shape.join(u) @ self.Lam.T)[:, None, :])
        eta = np.empty((self.fixed.shape[0], 1, rows.stop - rows.start))
        self.ops.predict_at(self.fixed, *self.design, effects, eta)
        return eta[:, 0]

    def point(
        self, value: Array, first: Array, second: Array, at: Index, u: Sequence[Array]
    ) -> BranchPoint:
        """Collect rows into the arrow; ``first`` and ``second`` are indexed through ``at``."""
        Z, ptr, part, _, a, b = self.design
        J, Q = b - a, self.Lam.shape[0]
        total, score, A = np.empty(J), np.empty((J, Q)), np.empty((J, Q, Q))
        self.ops.gather_units(value, first, second, at, Z, ptr, part, a, b, total, score, A)
        B = self.Lam.T @ A @ self.Lam
        bad = np.asarray(~(np.isfinite(B).all(axis=(1, 2)) & np.isfinite(score).all(axis=1)))
        B[bad] = 0.0
        arrow = factor_arrow(B, self.shape)
        pull = np.where(bad[:, None], 0.0, score @ self.Lam)
        slopes = [g - own for g, own in zip(self.shape.split(pull), u, strict=True)]
        h = self.shape.to_top(np.where(bad, -np.inf, total), 0) - 0.5 * self.inner(u, u)
        return BranchPoint(h, score, A, arrow, slopes)

    def inner(self, one: Sequence[Array], two: Sequence[Array]) -> Array:
        """Inner products (G,) over all effects of each coarsest cluster."""
        total = np.zeros(len(one[-1]))
        for t, (a, b) in enumerate(zip(one, two, strict=True)):
            total += self.shape.to_top((a * b).sum(axis=1), t)
        return total

    def run(self, u: list[Array]) -> tuple[BranchPoint, RowDerivatives] | None:
        """Move ``u`` (in place, by level) to the modes; None if some cluster fails."""
        family, rows = self.rows.sorted.likelihood, self.branch.rows
        at = np.arange(len(self.rows.random), dtype=np.int64)
        G = len(u[-1])
        base, step = [own.copy() for own in u], [np.zeros_like(own) for own in u]
        base_h, scale = np.full(G, -np.inf), np.ones(G)
        moved, near = np.zeros(G, dtype=bool), np.zeros(G, dtype=bool)
        for _ in range(MAX_ITERATIONS):
            found = self.point(*family.newton(self.predict(u), rows), at, u)
            ahead = found.arrow.solve(found.slopes)
            decrement = self.inner(found.slopes, ahead)
            slack = 1e-11 * (1.0 + np.where(np.isfinite(base_h), np.abs(base_h), 0.0))
            fine = (
                np.isfinite(found.h)
                & np.isfinite(decrement)
                & (~moved | (found.h >= base_h - slack))
            )
            if not self._restart(~fine & ~moved & ~near, u):
                return None
            go = fine & ~near
            base_h[go] = found.h[go]
            for home, own, b, s, d in zip(self.homes, u, base, step, ahead, strict=True):
                b[go[home]], s[go[home]] = own[go[home]], d[go[home]]
            scale = np.where(go, 1.0, np.where(~fine & moved, 0.5 * scale, scale))
            stuck = (go & found.arrow.shifted & (decrement < FINAL_DECREMENT)) | (
                scale < LEAST_SCALE
            )
            if stuck.any():
                self.failed = int(np.flatnonzero(stuck)[0])
                return None
            moving = (go | (~fine & moved)) & ~near
            for home, own, b, s in zip(self.homes, u, base, step, strict=True):
                here = moving[home]
                own[here] = (b + scale[home, None] * s)[here]
            moved |= go
            near |= go & (decrement < NEAR_DECREMENT) & ~found.arrow.shifted
            if near.all():
                settled = self._settle(u, near, moved)
                if settled is not None:
                    return settled
        self.failed = int(np.flatnonzero(~near)[0]) if not near.all() else 0
        return None

    def _restart(self, lost: Bools, u: list[Array]) -> bool:
        """Send clusters without a finite start to 0; False if one is there already."""
        for g in np.flatnonzero(lost):
            mine = [home == g for home in self.homes]
            if not any(own[here].any() for own, here in zip(u, mine, strict=True)):
                self.failed = int(g)
                return False
            for own, here in zip(u, mine, strict=True):
                own[here] = 0.0
        return True

    def _settle(
        self, u: list[Array], near: Bools, moved: Bools
    ) -> tuple[BranchPoint, RowDerivatives] | None:
        """Everything at the modes, or None where some cluster has to go on."""
        family = self.rows.sorted.likelihood
        rows = family.derivatives(self.predict(u), self.branch.rows)
        found = self.point(rows.value, rows.first, rows.second, self.rows.random, u)
        decrement = self.inner(found.slopes, found.arrow.solve(found.slopes))
        good = np.isfinite(found.h) & ~found.arrow.shifted & (decrement < FINAL_DECREMENT)
        near[:] = near & good
        moved[:] = moved & good
        return (found, rows) if good.all() else None
