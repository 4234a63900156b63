r"""Standard deviations of random effects that depend on predictors of their clusters.

``Psi_j = D_j Psi D_j``, ``D_j = diag(exp(W_j alpha))``: the columns of cluster j are ``Z_j D_j``
and the engines do not notice. With ``Q_j = dd/dPsi`` of level j on the scaled columns
(``G_j - g_j g_j'/sigma2``, less ``Y_j Y_j'`` under REML)

    dd/dalpha_ka = sum_j W_jk 2 (Q_j Psi)_aa,

as ``dPsi_j = Delta_j Psi + Psi Delta_j`` with ``Delta_j = W_jk e_a e_a'``.
Source: own derivation; checked against a dense likelihood and differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import LARGEST_LOG
from multilevel.design.records import RandomBlock
from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]


class ScaledColumns:
    """The models for standard deviations of all blocks over sorted rows; frozen.

    Parameters ``alpha`` are per spread of the predictors, block by block, predictor by predictor,
    effect by effect; predictors count from ``origins`` (per scaled block, per spread), if given.
    """

    def __init__(
        self,
        blocks: Sequence[RandomBlock],
        rows: NDArray[np.intp],
        origins: Mapping[int, Array] | None = None,
    ) -> None:
        self._blocks, self._rows = blocks, rows
        self._at: list[tuple[int, int, Array, Array]] = []  # block, first column, rows, levels
        start = 0
        for k, block in enumerate(blocks):
            if block.scale is not None:
                W = block.scale.columns[rows] / block.scale.spread
                if origins is not None:
                    W = W - origins[k]
                levels = np.zeros((block.n_levels, W.shape[1]))
                levels[block.codes[rows]] = W
                self._at.append((k, start, W, levels))
            start += block.columns.shape[1]
        self._q = [block.columns.shape[1] for block in blocks]
        self.n_parameters = sum(W.shape[1] * self._q[k] for k, _, W, _ in self._at)

    def unscaled(self) -> list[Array]:
        """Random-effect columns of the sorted rows at ``alpha = 0``, per block."""
        out = []
        for block in self._blocks:
            Z = block.columns[self._rows]
            if block.scale is not None:
                Z = Z / np.exp(block.scale.columns[self._rows] @ block.scale.log_sd)
            out.append(Z)
        return out

    def _split(self, phi: Array) -> list[Array]:
        """``alpha`` (a, q) per scaled block from the end of ``phi``."""
        tail, out, at = phi[len(phi) - self.n_parameters :], [], 0
        for k, _, W, _ in self._at:
            size = W.shape[1] * self._q[k]
            out.append(tail[at : at + size].reshape(W.shape[1], self._q[k]))
            at += size
        return out

    def apply(self, F: Array, phi: Array) -> Array:
        """Rows ``[Z X y]`` with their random-effect columns scaled.

        Raises
        ------
        LikelihoodError : standard deviations that leave the numeric range.
        """
        if not self._at:
            return F
        out = F.copy()
        for (k, start, W, _), alpha in zip(self._at, self._split(phi), strict=True):
            exponent = W @ alpha
            if not np.abs(exponent).max(initial=0.0) < LARGEST_LOG:
                raise LikelihoodError(
                    "Standard deviations of random effects must stay within their numeric range.",
                    f"a coefficient of random_scale of {self._blocks[k].group} that is too large",
                    "rescale its predictors, or leave one out",
                )
            out[:, start : start + self._q[k]] *= np.exp(exponent)
        return out

    def counted_from(self, origins: Mapping[int, Array]) -> ScaledColumns:
        """The same with predictors that count from ``origins``, ``{block: (a,)}`` per spread."""
        return ScaledColumns(self._blocks, self._rows, origins)

    def log_sds(self, phi: Array) -> list[Array | None]:
        """Log standard deviations (J, q) per block, relative to predictors at the origin."""
        out: list[Array | None] = [None] * len(self._blocks)
        for (k, _, _, levels), alpha in zip(self._at, self._split(phi), strict=True):
            out[k] = levels @ alpha
        return out

    def widest_levels(self, phi: Array) -> dict[int, Array]:
        """Per scaled block the predictors (a,) of the level with the largest standard deviation,
        of the effect whose standard deviations differ most."""
        out = {}
        for (k, _, _, levels), alpha in zip(self._at, self._split(phi), strict=True):
            logs = levels @ alpha
            out[k] = levels[logs[:, int(np.ptp(logs, axis=0).argmax())].argmax()]
        return out

    def widest(self, phi: Array) -> float:
        """Largest log ratio of the standard deviations of one effect over the levels."""
        found = [
            float(np.ptp(levels @ alpha, axis=0).max())
            for (_, _, _, levels), alpha in zip(self._at, self._split(phi), strict=True)
        ]
        return max(found, default=0.0)

    def score(self, inner: GaussianObjective, reml: bool) -> Array:
        """``dd/dalpha``; ``inner`` is set on the scaled columns."""
        profile, parts = inner.profile, []
        for k, _, _, levels in self._at:
            if profile is None:
                raise ValueError("the objective is not set")
            L = inner.factors[k]
            g = inner.residual_scores()[k]
            gPsi = g @ (L @ L.T)
            GPsi = np.einsum("jab,ba->ja", inner.engine.information_blocks(k), L @ L.T)
            slope = GPsi - g * gPsi / profile.sigma2
            if reml and inner.p:
                Y = inner.projections()[k][0]
                slope = slope - np.einsum("jap,jbp,ba->ja", Y, Y, L @ L.T, optimize=True)
            parts.append(2.0 * (levels.T @ slope).ravel())
        return np.concatenate(parts) if parts else np.zeros(0)

    def directions(self, factors: Sequence[Array]) -> list[tuple[int, list[tuple[Array, Array]]]]:
        """Per scaled block the pairs ``(W_.k (J,), e_a e_a' Psi + Psi e_a e_a')``, in the order of
        the parameters: ``dPsi_j/dalpha_ka`` is ``W_jk`` times the matrix."""
        out = []
        for k, _, _, levels in self._at:
            Psi, q = factors[k] @ factors[k].T, self._q[k]
            moves = []
            for a in range(q):
                D = np.zeros((q, q))
                D[a] = Psi[a]
                moves.append(D + D.T)
            out.append((k, [(levels[:, i], D) for i in range(levels.shape[1]) for D in moves]))
        return out

    def working(self, inner: GaussianObjective) -> Iterator[tuple[int, Array]]:
        """Coefficients of the working columns ``Z_j (Delta_j Psi + Psi Delta_j) g_j``.

        Yields block and (J, q, a q) in the order of the parameters.
        """
        for k, _, _, levels in self._at:
            L, q = inner.factors[k], self._q[k]
            Psi = L @ L.T
            g = inner.residual_scores()[k]
            gPsi = g @ Psi
            C = np.zeros((len(g), q, levels.shape[1], q))
            for a in range(q):
                move = g[:, a, None] * Psi[:, a]
                move[:, a] += gPsi[:, a]
                C[:, :, :, a] = move[:, :, None] * levels[:, None, :]
            yield k, C.reshape(len(g), q, -1)
