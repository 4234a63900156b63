r"""Block-arrow algebra of a chain of nested factors: factor, solve, nodes and adjoint.

Levels t = 0 (finest) .. T - 1 (coarsest); a unit of level t has its own effects (q_t) and those of
its ancestors (Q_t of them, finer first). Elimination goes from the leaves to the root and never
fills: with ``M_j`` the contribution of unit j and all below it to its own and its ancestors' block,

    H_own = I + M_own,own,   E = chol(H_own)^-1,   F = M_above,own E'
    M of the parent = sum over its units of (M_above,above - F F')

Nodes of nested adaptive quadrature (Pinheiro & Chao 2006, here for any depth): the displacement of
a unit from its mode given the displacements ``a`` of its ancestors is ``d = E'(t - F'a)``, so the
conditional mode moves with the ancestors. Adjoints: own derivation, reverse through these lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.adjoint_plain import hessian_adjoint
from multilevel.likelihood.generalized.cluster_plain import shifted_factors

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Units of one run of coarsest clusters, counted from 0 in the run.

    Attributes
    ----------
    widths : random effects per unit of each level, finest level first.
    starts : per level but the finest, (J_t,) the first unit of the finer level in each unit.
    parents : per level but the coarsest, (J_t,) the unit of the next level it belongs to.
    """

    widths: tuple[int, ...]
    starts: tuple[Index, ...]
    parents: tuple[Index, ...]

    @property
    def n_levels(self) -> int:
        """T."""
        return len(self.widths)

    def up(self, values: Array, level: int) -> Array:
        """Sums of a level's units (first axis) by unit of the next level."""
        return np.asarray(np.add.reduceat(values, self.starts[level], axis=0))

    def to_top(self, values: Array, level: int) -> Array:
        """Sums of a level's units by coarsest cluster."""
        for t in range(level, self.n_levels - 1):
            values = self.up(values, t)
        return values

    def split(self, by_leaf: Array) -> list[Array]:
        """Columns of finest units (J_0, Q) summed by the unit of the level they belong to."""
        out, begin = [], 0
        for t, q in enumerate(self.widths):
            values = by_leaf[:, begin : begin + q]
            for s in range(t):
                values = self.up(values, s)
            out.append(values)
            begin += q
        return out

    def join(self, effects: Sequence[Array]) -> Array:
        """Effects of a finest unit and its ancestors (J_0, Q), from (J_t, q_t) by level."""
        out, home = [effects[0]], np.arange(len(effects[0]))
        for own, parent in zip(effects[1:], self.parents, strict=True):
            home = parent[home]
            out.append(own[home])
        return np.concatenate(out, axis=1)


@dataclass(frozen=True)
class Arrow:
    """Factors of one run of coarsest clusters; lists by level, finest first.

    Attributes
    ----------
    shape : see ``Shape``.
    H : (J_t, Q_t, q_t) ``M_above,own``; E : (J_t, q_t, q_t); F : (J_t, Q_t, q_t).
    shifted : (G,) whether anything in the cluster had to be shifted to be positive definite.
    """

    shape: Shape
    H: list[Array]
    E: list[Array]
    F: list[Array]
    shifted: NDArray[np.bool_]

    @property
    def half_log_det(self) -> Array:
        """``log|H| / 2`` by coarsest cluster (G,)."""
        total = np.zeros(len(self.E[-1]))
        for t, E in enumerate(self.E):
            total -= self.shape.to_top(np.log(np.einsum("jaa->ja", E)).sum(axis=1), t)
        return total

    def solve(self, right: Sequence[Array]) -> list[Array]:
        """``H^-1 right`` with right (J_t, q_t) by level."""
        shape, halves = self.shape, []
        rest = np.zeros((len(right[0]), sum(shape.widths) - shape.widths[0]))
        for t, (E, F, g) in enumerate(zip(self.E, self.F, right, strict=True)):
            q = shape.widths[t]
            if t:
                own, rest = g + rest[:, :q], rest[:, q:]
            else:
                own = g
            half = np.einsum("jab,jb->ja", E, own)
            halves.append(half)
            rest = rest - np.einsum("jab,jb->ja", F, half)
            if t < shape.n_levels - 1:
                rest = shape.up(rest, t)
        out: list[Array] = []
        above = np.zeros((len(right[-1]), 0))
        for t in reversed(range(shape.n_levels)):
            half = halves[t] - np.einsum("jba,jb->ja", self.F[t], above)
            own = np.einsum("jba,jb->ja", self.E[t], half)
            out.insert(0, own)
            if t:
                above = np.concatenate([own, above], axis=1)[shape.parents[t - 1]]
        return out

    def covariances(self) -> list[Array]:
        """Diagonal blocks of ``H^-1`` by level, (J_t, q_t, q_t) each."""
        shape = self.shape
        out: list[Array] = []
        above = np.zeros((len(self.E[-1]), 0, 0))
        for t in reversed(range(shape.n_levels)):
            E, F, q = self.E[t], self.F[t], shape.widths[t]
            pull = F @ E
            cross = -above @ pull
            own = E.transpose(0, 2, 1) @ E - pull.transpose(0, 2, 1) @ cross
            out.insert(0, own)
            if t:
                Q = q + above.shape[1]
                both = np.empty((len(own), Q, Q))
                both[:, :q, :q], both[:, q:, q:], both[:, q:, :q] = own, above, cross
                both[:, :q, q:] = cross.transpose(0, 2, 1)
                above = both[shape.parents[t - 1]]
        return out


def factor_arrow(B: Array, shape: Shape) -> Arrow:
    """Factor ``H = I + B``: ``B`` (J_0, Q, Q) is the contribution of each finest unit.

    What is not positive definite is shifted, and marked so.
    """
    M, H, E, F = B, [], [], []
    bad = np.zeros(len(B), dtype=np.int64)
    for t, q in enumerate(shape.widths):
        L, shifted = shifted_factors(np.eye(q) + M[:, :q, :q])
        bad = bad + shifted
        inverse = np.asarray(np.linalg.inv(L))
        beside = np.ascontiguousarray(M[:, q:, :q])
        H.append(beside)
        E.append(inverse)
        F.append(beside @ inverse.transpose(0, 2, 1))
        if t < shape.n_levels - 1:
            M = shape.up(M[:, q:, q:] - F[-1] @ F[-1].transpose(0, 2, 1), t)
            bad = np.asarray(np.add.reduceat(bad, shape.starts[t]))
    return Arrow(shape, H, E, F, bad > 0)


@dataclass(frozen=True)
class Nodes:
    """Displacements from the modes at joint nodes; by level, own nodes running fastest.

    Attributes
    ----------
    moves : (J_t, N_t, q_t); N_t joint nodes of the level and all coarser ones.
    above : (J_t, N_{t+1}, Q_t) displacements of the ancestors; shift : (J_t, N_{t+1}, q_t) ``F'a``.
    joint : (J_0, N_0, Q) displacements of finest units and their ancestors.
    """

    moves: list[Array]
    above: list[Array]
    shift: list[Array]
    joint: Array


def place_nodes(arrow: Arrow, grids: Sequence[Array]) -> Nodes:
    """Joint nodes from the nodes (K_t, q_t) of each level."""
    shape = arrow.shape
    moves: list[Array] = []
    aboves: list[Array] = []
    shifts: list[Array] = []
    above = np.zeros((len(arrow.E[-1]), 1, 0))
    joint = above
    for t in reversed(range(shape.n_levels)):
        J, K, q = len(arrow.E[t]), len(grids[t]), shape.widths[t]
        shift = above @ arrow.F[t]
        local = (grids[t] - shift[:, :, None, :]).reshape(J, -1, q)
        move = local @ arrow.E[t]
        moves.insert(0, move)
        aboves.insert(0, above)
        shifts.insert(0, shift)
        joint = np.concatenate([move, np.repeat(above, K, axis=1)], axis=2)
        if t:
            above = joint[shape.parents[t - 1]]
    return Nodes(moves, aboves, shifts, joint)


def arrow_adjoint(
    arrow: Arrow, nodes: Nodes, grids: Sequence[Array], own_pulls: Sequence[Array], joint: Array
) -> Array:
    """Symmetric adjoint of ``B`` (J_0, Q, Q), the term ``-log|H| / 2`` included.

    Parameters
    ----------
    own_pulls : (J_t, N_t, q_t) weighted derivatives of the log prior at the nodes of each level.
    joint : (J_0, N_0, Q) weighted derivatives of the rows' log density in finest units' effects and
        those of their ancestors.
    """
    shape, E_bars, F_bars = arrow.shape, [], []
    pull = joint
    for t, q in enumerate(shape.widths):
        J, K, E, F = len(arrow.E[t]), len(grids[t]), arrow.E[t], arrow.F[t]
        own = (pull[..., :q] + own_pulls[t]).reshape(J, -1, K, q)
        P = own.sum(axis=2)
        E_bar = grids[t].T @ own.sum(axis=1) - nodes.shift[t].transpose(0, 2, 1) @ P
        shift_bar = -P @ E.transpose(0, 2, 1)
        E_bars.append(E_bar)
        F_bars.append(nodes.above[t].transpose(0, 2, 1) @ shift_bar)
        if t < shape.n_levels - 1:
            rest = pull[..., q:].reshape(J, P.shape[1], K, -1).sum(axis=2)
            pull = shape.up(rest + shift_bar @ F.transpose(0, 2, 1), t)
    M = np.zeros((len(arrow.E[-1]), 0, 0))
    for t in reversed(range(shape.n_levels)):
        q, E = shape.widths[t], arrow.E[t]
        Q = q + M.shape[1]
        F_bar = F_bars[t] - 2.0 * M @ arrow.F[t]
        out = np.empty((len(E), Q, Q))
        out[:, :q, :q] = hessian_adjoint(E, E_bars[t] + F_bar.transpose(0, 2, 1) @ arrow.H[t])
        out[:, q:, q:] = M
        out[:, q:, :q] = 0.5 * F_bar @ E
        out[:, :q, q:] = out[:, q:, :q].transpose(0, 2, 1)
        M = out[shape.parents[t - 1]] if t else out
    return M
