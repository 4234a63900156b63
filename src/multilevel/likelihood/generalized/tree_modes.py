"""Joint modes of two nested factors: block-arrow Newton, all clusters of a run together."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.arrow import Arrow, factor_arrow
from multilevel.likelihood.generalized.row import RowDerivatives
from multilevel.likelihood.generalized.tree_rows import Branch, TreeRows

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MAX_ITERATIONS = 200
NEAR_DECREMENT = 1e-8
FINAL_DECREMENT = 1e-14
LEAST_SCALE = 1e-12


@dataclass(frozen=True)
class BranchPoint:
    """One run of clusters at given effects.

    Attributes
    ----------
    h : (G,) joint log density; score (J, Q) ``Z'l'``; A (J, Q, Q) ``Z'WZ``.
    arrow : the factor of ``H``.
    g2, g3 : gradient of h (J, q2), (G, q3).
    """

    h: Array
    score: Array
    A: Array
    arrow: Arrow
    g2: Array
    g3: Array


class BranchSearch:
    """Finds the modes of one run of coarse clusters, starting from ``u2`` (J, q2), ``u3`` (G, q3).

    ``failed`` is None, or the cluster of the run (counted from 0) whose mode was not found.
    """

    def __init__(
        self, rows: TreeRows, branch: Branch, ops: ModuleType, Lam: Array, fixed: Array
    ) -> None:
        self.rows, self.branch, self.ops, self.Lam, self.fixed = rows, branch, ops, Lam, fixed
        self.starts = rows.uptr[branch.clusters] - branch.units.start
        counts = np.diff(rows.uptr[branch.clusters.start : branch.clusters.stop + 1])
        self.cluster = np.repeat(np.arange(counts.size), counts)
        self.failed: int | None = None

    def join(self, u2: Array, u3: Array) -> Array:
        """Effects of both factors by unit (J, Q)."""
        return np.concatenate([u2, u3[self.cluster]], axis=1)

    def predict(self, u2: Array, u3: Array) -> Array:
        """``eta`` (D, m)."""
        rows, branch = self.rows, self.branch
        effects = np.ascontiguousarray((self.join(u2, u3) @ self.Lam.T)[:, None, :])
        eta = np.empty((self.fixed.shape[0], 1, branch.rows.stop - branch.rows.start))
        self.ops.predict_at(
            self.fixed, rows.Z, rows.ptr, rows.column_part, rows.random, branch.units.start,
            branch.units.stop, effects, eta,
        )  # fmt: skip
        return eta[:, 0]

    def point(
        self, value: Array, first: Array, second: Array, at: Index, u2: Array, u3: Array
    ) -> BranchPoint:
        """Collect rows into the arrow; ``first`` and ``second`` are indexed through ``at``."""
        rows, units = self.rows, self.branch.units
        J, Q = u2.shape[0], self.Lam.shape[0]
        total, score, A = np.empty(J), np.empty((J, Q)), np.empty((J, Q, Q))
        self.ops.gather_units(
            value, first, second, at, rows.Z, rows.ptr, rows.column_part, units.start, units.stop,
            total, score, A,
        )  # fmt: skip
        B = self.Lam.T @ A @ self.Lam
        bad = np.asarray(~(np.isfinite(B).all(axis=(1, 2)) & np.isfinite(score).all(axis=1)))
        B[bad] = 0.0
        arrow = factor_arrow(B, rows.q2, self.starts, self.cluster)
        pull = score @ self.Lam
        h = arrow.sum_units(np.where(bad, -np.inf, total - 0.5 * (u2 * u2).sum(axis=1)))
        h = h - 0.5 * (u3 * u3).sum(axis=1)
        g3 = arrow.sum_units(np.where(bad[:, None], 0.0, pull[:, rows.q2 :])) - u3
        g2 = np.where(bad[:, None], 0.0, pull[:, : rows.q2]) - u2
        return BranchPoint(h, score, A, arrow, g2, g3)

    def run(self, u2: Array, u3: Array) -> tuple[BranchPoint, RowDerivatives] | None:
        """Move ``u2`` and ``u3`` (in place) to the modes; None if some cluster fails."""
        family, rows = self.rows.sorted.likelihood, self.branch.rows
        at = np.arange(len(self.rows.random), dtype=np.int64)
        G = u3.shape[0]
        base2, base3, step2, step3 = u2.copy(), u3.copy(), np.zeros_like(u2), np.zeros_like(u3)
        base_h, scale = np.full(G, -np.inf), np.ones(G)
        moved, near = np.zeros(G, dtype=bool), np.zeros(G, dtype=bool)
        for _ in range(MAX_ITERATIONS):
            found = self.point(*family.newton(self.predict(u2, u3), rows), at, u2, u3)
            d2, d3 = found.arrow.solve(found.g2, found.g3)
            decrement = (found.g3 * d3).sum(axis=1) + found.arrow.sum_units(
                (found.g2 * d2).sum(axis=1)
            )
            slack = 1e-11 * (1.0 + np.where(np.isfinite(base_h), np.abs(base_h), 0.0))
            fine = (
                np.isfinite(found.h)
                & np.isfinite(decrement)
                & (~moved | (found.h >= base_h - slack))
            )
            if not self._restart(~fine & ~moved & ~near, u2, u3):
                return None
            go = fine & ~near
            unit = go[self.cluster]
            base2[unit], step2[unit] = u2[unit], d2[unit]
            base3[go], step3[go], base_h[go] = u3[go], d3[go], found.h[go]
            scale = np.where(go, 1.0, np.where(~fine & moved, 0.5 * scale, scale))
            stuck = (go & found.arrow.shifted & (decrement < FINAL_DECREMENT)) | (
                scale < LEAST_SCALE
            )
            if stuck.any():
                self.failed = int(np.flatnonzero(stuck)[0])
                return None
            moving = (go | (~fine & moved)) & ~near
            unit = moving[self.cluster]
            u2[unit] = (base2 + scale[self.cluster, None] * step2)[unit]
            u3[moving] = (base3 + scale[:, None] * step3)[moving]
            moved |= go
            near |= go & (decrement < NEAR_DECREMENT) & ~found.arrow.shifted
            if near.all():
                settled = self._settle(u2, u3, near, moved)
                if settled is not None:
                    return settled
        self.failed = int(np.flatnonzero(~near)[0]) if not near.all() else 0
        return None

    def _restart(self, lost: NDArray[np.bool_], u2: Array, u3: Array) -> bool:
        """Send clusters without a finite start to 0; False if one is there already."""
        for g in np.flatnonzero(lost):
            units = self.cluster == g
            if not (u2[units].any() or u3[g].any()):
                self.failed = int(g)
                return False
            u2[units], u3[g] = 0.0, 0.0
        return True

    def _settle(
        self, u2: Array, u3: Array, near: NDArray[np.bool_], moved: NDArray[np.bool_]
    ) -> tuple[BranchPoint, RowDerivatives] | None:
        """Everything at the modes, or None where some cluster has to go on."""
        family = self.rows.sorted.likelihood
        rows = family.derivatives(self.predict(u2, u3), self.branch.rows)
        found = self.point(rows.value, rows.first, rows.second, self.rows.random, u2, u3)
        d2, d3 = found.arrow.solve(found.g2, found.g3)
        decrement = (found.g3 * d3).sum(axis=1) + found.arrow.sum_units((found.g2 * d2).sum(axis=1))
        good = np.isfinite(found.h) & ~found.arrow.shifted & (decrement < FINAL_DECREMENT)
        near[:] = near & good
        moved[:] = moved & good
        return (found, rows) if good.all() else None
