"""The iterative engine for crossed factors whose core is too large to factorise.

The factor with most levels (the leaf) is eliminated exactly; the rest is solved by block
conjugate gradients. ``T``, ``cross`` and ``information_product`` are exact to the tolerance.
``logdet`` and ``information_sum`` use Rademacher probes, drawn once per engine, so that the noise
is the same at every evaluation and cancels in comparisons.

Noise is kept low in three ways. (1) The trace is split: the near-constant directions ``Q`` (one
per core random effect, where the large eigenvalues sit) enter exactly, only the rest is sampled
(Meyer et al. 2021, Hutch++). (2) The core is scaled to unit diagonal, ``M = I + H'O H``, so
``tr(I - M) = 0`` exactly: the first-order control variate. (3) Information sums are exact for the
diagonal core plus a sampled remainder (own derivation; ``U = (I + Psi Delta)^-1`` per level):

    core: ``G_gg = Delta U - U'[O H M^-1 H'O]_gg U``
    leaf: ``G_gg = U_g A_g - U_g b_g'H M^-1 H'b_g U_g'``, of which ``M^-1 = I`` is exact.

The probes' logdet is smooth in the factors, but its derivative is not the sampled information
(only the expectations agree): accept steps with the noise in mind.
Sources: Ubaru, Chen & Saad 2017 (Lanczos quadrature); see the room's docstring for notation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import iterative_kernels as kernels
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.gaussian.iterative_cost import IterativeCost, predict_cost
from multilevel.likelihood.gaussian.iterative_operator import (
    CrossedLayout,
    CrossedOperator,
    Workers,
    crossed_layout,
)
from multilevel.likelihood.gaussian.iterative_solver import (
    Solutions,
    conjugate_gradients,
    log_quadrature,
)

__all__ = ["IterativeCost", "IterativeEngine", "predict_cost"]

Array = NDArray[np.float64]
WORK_RANGES = 2  # fixed, so that results do not depend on the number of threads
BATCH = 32  # right-hand sides per solve outside of an evaluation


@dataclass(frozen=True)
class _Sampled:
    """Directions and probes after the solves: ``n_known`` exact directions, then the probes."""

    n_known: int
    weight: Array
    left: Array  # H z
    right: Array  # H (x - z)
    first_product: Array  # O H z
    h: Array  # -O H x


class IterativeEngine:
    """Engine for crossed factors by conjugate gradients and probes (``GaussianEngine``).

    Parameters
    ----------
    cross : cross-products of at least two factors; block 0 has most levels.
    probes : number of Rademacher probes, at least 2.
    tolerance, probe_tolerance : relative residuals at which the columns of W and the probes are
        solved. The error of ``logdet`` is of second order in ``probe_tolerance``.
    max_steps : conjugate-gradient steps before a LikelihoodError.
    rng : source of the probes, used once, here.
    threads : threads over fixed ranges of work; results do not depend on it.

    Attributes (beside the contract)
    --------------------------------
    logdet_error : Monte Carlo standard error of ``logdet``.
    steps : conjugate-gradient steps of the last evaluation.
    """

    name = "crossed, iterative"
    exact = False

    def __init__(
        self,
        cross: CrossProducts,
        *,
        rng: np.random.Generator,
        probes: int = 30,
        tolerance: float = 1e-8,
        probe_tolerance: float = 1e-5,
        max_steps: int = 200,
        threads: int = 2,
    ) -> None:
        self._start(
            cross,
            crossed_layout(cross, WORK_RANGES),
            int(rng.integers(2**63 - 1)),
            probes,
            (tolerance, probe_tolerance, max_steps, threads),
        )

    def _start(
        self,
        cross: CrossProducts,
        layout: CrossedLayout,
        seed: int,
        probes: int,
        settings: tuple[float, float, int, int],
    ) -> None:
        if probes < 2:
            raise LikelihoodError(
                "The iterative engine needs at least 2 probes to know its own error.",
                f"probes={probes}",
                "use 30, or 200 for a final evaluation",
            )
        if not (0.0 < settings[0] < 1.0 and 0.0 < settings[1] < 1.0):
            raise LikelihoodError(
                "Tolerances of conjugate gradients must lie between 0 and 1.",
                f"tolerance={settings[0]}, probe_tolerance={settings[1]}",
                "use 1e-8 and 1e-5",
            )
        self.cross_products, self.layout, self.probes = cross, layout, probes
        self._seed, self._settings = seed, settings
        self.tolerance, self.probe_tolerance, self.max_steps, self.threads = settings
        # probe by probe, so that more probes begin with the same ones
        bits = np.random.Generator(np.random.PCG64(seed)).integers(
            0, 2, size=(probes, layout.n_core), dtype=np.int8
        )
        self._signs = np.ascontiguousarray(2 * bits.T - 1)
        self.n_evaluations = 0
        self.T: Array = cross.total
        self.logdet = 0.0
        self.logdet_error = 0.0
        self.steps = 0
        self._operator: CrossedOperator | None = None
        self._clear()

    def _clear(self) -> None:
        self._cross: list[Array] | None = None
        self._sums: dict[int, tuple[Array, Array]] = {}
        self._leaf_columns: Array | None = None

    predict_cost = staticmethod(predict_cost)

    def cost(self) -> IterativeCost:
        """Predicted cost of one evaluation of this engine."""
        return predict_cost(self.cross_products, self.probes)

    def with_probes(self, probes: int) -> IterativeEngine:
        """The same engine with another number of probes (its first ones are the same).

        Call ``factorise`` on it before reading; nothing but the probes is drawn or built anew.
        """
        other = IterativeEngine.__new__(IterativeEngine)
        other._start(self.cross_products, self.layout, self._seed, probes, self._settings)
        return other

    # -- evaluation ----------------------------------------------------------------------------

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors (q_t, q_t), eliminate the leaf, solve W and the probes.

        Raises
        ------
        LikelihoodError : conjugate gradients do not converge; wrong or non-finite factors.
        """
        self._clear()
        factors = self._checked(factors)
        cross, m = self.cross_products, self.cross_products.n_columns
        op = CrossedOperator(cross, self.layout, factors)
        rhs = cross.rhs[0]
        N_rhs = op.N @ rhs
        core = np.concatenate([r.reshape(-1, m) for r in cross.rhs[1:]])
        core = core - op.leaf_scatter(N_rhs)
        known = self._known_directions(op)
        Z = self._signs.astype(np.float64)
        Z -= known @ (known.T @ Z)
        r = known.shape[1]
        b = np.hstack([op.times(op.H, core, transpose=True), known, Z])
        tolerance = np.full(b.shape[1], self.tolerance)
        tolerance[m + r :] = self.probe_tolerance
        with Workers(self.layout, self.threads) as workers:
            solved = conjugate_gradients(op, workers, b, tolerance, self.max_steps)
        change = op.times(op.H, solved.h, transpose=True) - solved.residual
        bW, xW = b[:, :m], b[:, :m] + change[:, :m]
        # x'r makes the error quadratic in the tolerance
        product = bW.T @ xW + xW.T @ solved.residual[:, :m]
        T = cross.total - np.tensordot(rhs, N_rhs, axes=([0, 1], [0, 1])) - product
        self.T = (T + T.T) / 2.0
        self._set_logdet(op, solved, b, m + r)
        self._operator = op
        self._core_rhs = core
        self._solved_W = (op.times(op.H, xW), solved.h[:, :m].copy())
        weight = np.full(r + self.probes, 1.0 / self.probes)
        weight[:r] = 1.0
        self._sampled = _Sampled(
            r,
            weight,
            np.ascontiguousarray(op.times(op.H, b[:, m:])),
            np.ascontiguousarray(op.times(op.H, change[:, m:])),
            solved.first_product[:, m:],
            solved.h[:, m:],
        )
        self.steps = int(solved.steps.max(initial=0))
        self.n_evaluations += 1

    def _checked(self, factors: Sequence[Array]) -> list[Array]:
        shapes = [(q, q) for _, q in self.cross_products.sizes]
        found = [np.shape(f) for f in factors]
        if found != shapes or not all(np.all(np.isfinite(f)) for f in factors):
            raise LikelihoodError(
                f"Relative factors must be finite and of shapes {shapes}.",
                f"shapes {found}" if found != shapes else "values that are not finite",
                "pass one square factor per grouping factor",
            )
        return [np.ascontiguousarray(f, dtype=np.float64) for f in factors]

    def _known_directions(self, op: CrossedOperator) -> Array:
        """Orthonormal ``F'(1 x e_a)``: where the core's outlying eigenvalues sit."""
        out = np.zeros((self.layout.n_core, sum(F.shape[1] for F in op.F)))
        at = 0
        for where, F in zip(self.layout.slices, op.F, strict=True):
            for a in range(F.shape[1]):
                out[where, at] = F[:, a, :].reshape(-1)
                at += 1
        return np.asarray(np.linalg.qr(out)[0])

    def _set_logdet(self, op: CrossedOperator, solved: Solutions, b: Array, n_exact: int) -> None:
        squares = np.einsum("ij,ij->j", b, b)
        m = self.cross_products.n_columns
        values = log_quadrature(solved, squares, slice(m, None))
        sampled = values[n_exact - m :]
        self.logdet = op.logdet + float(values[: n_exact - m].sum() + sampled.mean())
        self.logdet_error = float(sampled.std(ddof=1) / np.sqrt(self.probes))

    def _ready(self) -> CrossedOperator:
        if self._operator is None:
            raise LikelihoodError(
                "The engine must be factorised before it is read.",
                "no call of factorise so far",
                "call factorise(factors) first",
            )
        return self._operator

    # -- products, exact to the tolerance --------------------------------------------------------

    def _finish(
        self, op: CrossedOperator, leaf: Array, core: Array, v: Array, h: Array
    ) -> list[Array]:
        """``Z'V^-1 f`` by block from ``Z'f`` and the solution ``v = H x``."""
        k = core.shape[1]
        out = [op.U @ (leaf - op.leaf_gather(v))]
        total = core - op.times(op.Delta, v) + h
        for where, (J, q) in zip(self.layout.slices, self.cross_products.sizes[1:], strict=True):
            out.append(total[where].reshape(J, q, k))
        return out

    def cross(self, block: int) -> Array:
        """``Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        op = self._ready()
        if self._cross is None:
            rhs = self.cross_products.rhs[0]
            self._cross = self._finish(op, rhs, self._core_rhs, *self._solved_W)
        return self._cross[block]

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` by block; ``C_t`` is (J_t, q_t, k)."""
        op = self._ready()
        k = coefficients[0].shape[2]
        out = [np.empty(c.shape) for c in coefficients]
        for first in range(0, k, BATCH):
            part = slice(first, min(first + BATCH, k))
            for whole, piece in zip(
                out, self._product(op, [c[:, :, part] for c in coefficients]), strict=True
            ):
                whole[:, :, part] = piece
        return out

    def _product(self, op: CrossedOperator, coefficients: Sequence[Array]) -> list[Array]:
        cross, k = self.cross_products, coefficients[0].shape[2]
        C0 = np.ascontiguousarray(coefficients[0])
        Cc = np.concatenate([c.reshape(-1, k) for c in coefficients[1:]])
        leaf = cross.own[0] @ C0 + op.leaf_gather(Cc)
        core = op.times(cross.own[1:], Cc) + op.leaf_scatter(C0 - op.N @ leaf)
        core += self.layout.off_matrix @ Cc
        b = op.times(op.H, core, transpose=True)
        with Workers(self.layout, self.threads) as workers:
            solved = conjugate_gradients(op, workers, b, np.full(k, self.tolerance), self.max_steps)
        x = b + op.times(op.H, solved.h, transpose=True) - solved.residual
        return self._finish(op, leaf, core, op.times(op.H, x), solved.h)

    # -- information, sampled --------------------------------------------------------------------

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t), with Monte Carlo noise."""
        return self._information(block)[0]

    def information_sum_error(self, block: int) -> Array:
        """Monte Carlo standard errors of ``information_sum``, entry by entry (q_t, q_t)."""
        return self._information(block)[1]

    def information_blocks(
        self, block: int, levels: NDArray[np.intp] | Sequence[int] | None = None
    ) -> Array:
        """``(Z_t'V^-1 Z_t)_gg`` by level.

        With ``levels``: those levels, exact to the tolerance by ``len(levels) q_t`` solves
        (len(levels), q_t, q_t). Without: all levels (J_t, q_t, q_t), exact for a diagonal core
        plus a sampled remainder: they add up to ``information_sum``, but each carries noise of
        its own and small eigenvalues may come out negative.
        """
        op = self._ready()
        if levels is not None:
            return self._blocks_by_solves(block, np.asarray(levels, dtype=np.intp))
        s = self._sampled
        if block == 0:
            _, forms = self._leaf_forms(op, by_level=True)
            forms = op.U @ op.leaf_first_order() @ op.U.transpose(0, 2, 1) + forms
            out = op.information - forms
        else:
            left, right = self._core_forms(op, block)
            U, Delta = op.core_U[block - 1], op.Delta[block - 1]
            out = Delta @ U + (left * s.weight) @ right.transpose(0, 2, 1)
        return np.asarray((out + out.transpose(0, 2, 1)) / 2.0)

    def _blocks_by_solves(self, block: int, levels: NDArray[np.intp]) -> Array:
        sizes = self.cross_products.sizes
        q = sizes[block][1]
        out = np.empty((len(levels), q, q))
        step = max(1, BATCH // q)
        for first in range(0, len(levels), step):
            some = levels[first : first + step]
            k = len(some) * q
            C = [np.zeros((J, width, k)) for J, width in sizes]
            at = np.arange(k)
            C[block][np.repeat(some, q), at % q, at] = 1.0
            G = self.information_product(C)[block][some].reshape(len(some), q, len(some), q)
            diagonal = np.arange(len(some))
            out[first : first + step] = G[diagonal, :, diagonal, :]
        return np.asarray((out + out.transpose(0, 2, 1)) / 2.0)

    def _information(self, block: int) -> tuple[Array, Array]:
        op = self._ready()
        if block not in self._sums:
            if block == 0:
                columns = -self._leaf_forms(op, by_level=False)[0]
                forms = op.U @ op.leaf_first_order() @ op.U.transpose(0, 2, 1)
                exact = op.information.sum(axis=0) - forms.sum(axis=0)
            else:
                left, right = self._core_forms(op, block)
                columns = np.einsum("gak,gbk->kab", left, right, optimize=left.shape[1] > 1)
                exact = np.einsum("gab,gbc->ac", op.Delta[block - 1], op.core_U[block - 1])
            columns = (columns + columns.transpose(0, 2, 1)) / 2.0
            total = exact + np.tensordot(self._sampled.weight, columns, axes=1)
            noise = columns[self._sampled.n_known :].std(axis=0, ddof=1) / np.sqrt(self.probes)
            self._sums[block] = ((total + total.T) / 2.0, noise)
        return self._sums[block]

    def _core_forms(self, op: CrossedOperator, block: int) -> tuple[Array, Array]:
        """``U'(O H z)`` and ``-U'(O H x)`` by level of a core block: (J_t, q_t, columns)."""
        J, q = self.cross_products.sizes[block]
        where, s = self.layout.slices[block - 1], self._sampled
        Ut = op.core_U[block - 1].transpose(0, 2, 1)
        left = s.first_product[where].reshape(J, q, -1)
        right = s.h[where].reshape(J, q, -1)
        if q == 1:
            return Ut * left, Ut * right
        return Ut @ left, Ut @ right

    def _leaf_forms(self, op: CrossedOperator, by_level: bool) -> tuple[Array, Array]:
        """Sampled forms of the leaf: by column (columns, q_0, q_0) and, if asked, by level."""
        s, a = self._sampled, self.layout
        k, (J0, q0) = len(s.weight), self.cross_products.sizes[0]
        sums = np.zeros((WORK_RANGES, k, q0, q0))
        levels = np.zeros((J0 if by_level else 0, q0, q0))

        def run(i: int, first: int, last: int) -> None:
            kernels.leaf_forms(
                a.indptr,
                a.index,
                a.value,
                op.U,
                s.left,
                s.right,
                s.weight,
                sums[i],
                levels,
                first,
                last,
            )

        with Workers(a, self.threads) as workers:
            workers.run(run, workers.leaf)
        return sums.sum(axis=0), levels
