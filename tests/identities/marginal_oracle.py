"""Marginal likelihoods of one grouping factor from scipy densities: brute force, and Laplace.

Nothing of the package is used but the arrays of the design; ``densities`` gives the rows.
"""

from __future__ import annotations

import numpy as np

from tests.identities.densities import log_density


class Marginal:
    """``-2 log L`` of a fit with one grouping factor whose effects are intercepts of some parts."""

    def __init__(self, fit, density: str, psi=None, precision=None, frequency=None) -> None:
        design, numbers = fit.design, fit.fit
        psi = numbers.psi if psi is None else psi
        self.eta = [
            part.X @ psi[s] for part, s in zip(design.parts, numbers.fixed_slices, strict=True)
        ]
        for d, part in enumerate(design.parts):
            if part.offset is not None:
                self.eta[d] = self.eta[d] + part.offset
        if precision is not None:
            self.eta[1] = self.eta[1] - np.log(precision)
        (block,), (self.parts,) = design.blocks, design.block_parts
        self.columns, self.codes, self.J = block.columns, block.codes, block.n_levels
        self.factor = numbers.relative_factors[0]
        response = design.response
        self.y = response.y if response.upper is None else (response.y, response.upper)
        self.name, self.link = density, design.family.link
        self.free = design.family.option("thresholds") == "free"
        self.frequency = 1.0 if frequency is None else frequency[:, None]

    def log_joint(self, u):
        """(J, K) log density of rows and effects; ``u`` (q, J, K) standard normal effects."""
        b = np.einsum("ab,bjk->ajk", self.factor, u)
        eta = [np.broadcast_to(e[:, None], (len(e), u.shape[2])).copy() for e in self.eta]
        for a, part in enumerate(self.parts):
            eta[part] += self.columns[:, a, None] * b[a][self.codes]
        y = tuple(v[:, None] for v in self.y) if isinstance(self.y, tuple) else self.y[:, None]
        with np.errstate(all="ignore"):
            rows = self.frequency * log_density(self.name, self.link, y, eta, free=self.free)
        rows = np.where(np.isnan(rows), -np.inf, rows)
        total = np.full((self.J, u.shape[2]), 0.0)
        np.add.at(total, self.codes, rows)
        return total - 0.5 * (u**2).sum(axis=0)

    def brute(self, width: float = 8.0) -> float:
        """By the trapezoidal rule on a grid far finer than any conditional distribution."""
        q = len(self.parts)
        axis = np.linspace(-width, width, 601 if q == 1 else 97)
        nodes = np.stack(np.meshgrid(*[axis] * q, indexing="ij")).reshape(q, 1, -1)
        values = self.log_joint(np.broadcast_to(nodes, (q, self.J, nodes.shape[2])))
        top = values.max(axis=1, keepdims=True)
        spacing = (axis[1] - axis[0]) / np.sqrt(2.0 * np.pi)
        inner = np.log(np.exp(values - top).sum(axis=1)) + q * np.log(spacing)
        return float(-2.0 * (top[:, 0] + inner).sum())

    def laplace(self, near) -> float:
        """By Laplace's method at the modes next to ``near`` (J,), one effect per cluster."""
        h = 2e-3
        stencil = h * np.arange(-2, 3)
        u = np.asarray(near, dtype=float).copy()
        for _ in range(4):
            f = self.log_joint((u[:, None] + stencil)[None])
            slope = (f @ np.array([1, -8, 0, 8, -1])) / (12 * h)
            curve = (f @ np.array([-1, 16, -30, 16, -1])) / (12 * h**2)
            u -= slope / curve
        return float(-2.0 * (f[:, 2] - 0.5 * slope**2 / curve - 0.5 * np.log(-curve)).sum())
