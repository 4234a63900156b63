"""What a bootstrap draws: sufficient statistics or responses (rows: ``bootstrap_rows``).

Sufficient statistics (one grouping factor; no rows are made): with ``A_j = Z_j'Z_j``,
``S_j = Z_j'X_j`` and ``C = X'X - sum S_j'A_j^+S_j``, residuals ``e ~ N(0, sigma2 I)`` give

    Z_j'e = sigma A_j^(1/2) z_j,   X'e = sum S_j'A_j^+ Z_j'e + sigma C^(1/2) w,
    e'e = sigma2 (sum z'z + w'w + chi2(n - sum rank A_j - rank C)).

Sources: own derivation (projection on ``[Z X]``); Carpenter, Goldstein & Rasbash 2003, Applied
Statistics 52 (residual bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.related import drawn_effects, rows_part
from multilevel.errors import InferenceError
from multilevel.likelihood.gaussian.batch import Responses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design
    from multilevel.estimate.posterior import BlockEffects
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.blocks.cross_products import CrossProducts
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]
RANK = 1e-10


def _roots(M: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """``M^(1/2)`` (columns times roots of eigenvalues), ``M^+`` and which columns count."""
    values, vectors = np.linalg.eigh(M)
    top = np.maximum(values[..., -1:], 1e-300)
    kept = values > RANK * top
    root = vectors * np.sqrt(np.where(kept, values, 0.0))[..., None, :]
    inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
    return root, (vectors * inverse[..., None, :]) @ np.swapaxes(vectors, -1, -2), kept


@dataclass(frozen=True)
class StatisticSource:
    """Draws sufficient statistics of new responses from a fitted model (scaled problem)."""

    cross: CrossProducts
    beta: Array
    sigma: float
    factor: Array

    @classmethod
    def of(cls, cross: CrossProducts, objective: GaussianObjective) -> StatisticSource:
        """From an objective that is set at the fit."""
        profile = objective.profile
        if profile is None:
            raise InferenceError("The objective must be set at the fit.", "unset", "set it")
        return cls(cross, profile.beta, float(np.sqrt(profile.sigma2)), objective.factors[0])

    def draw(self, n_rep: int, rng: np.random.Generator) -> Responses:
        """Sufficient statistics of ``n_rep`` new responses."""
        return self.draw_each([rng] * n_rep)

    def draw_each(self, rngs: Sequence[np.random.Generator]) -> Responses:
        """Sufficient statistics of one new response per generator."""
        cross, p, n_rep = self.cross, self.cross.n_fixed, len(rngs)
        A, S, XX = cross.own[0], cross.rhs[0][:, :, :p], cross.total[:p, :p]
        J, q = A.shape[:2]
        root, inverse, kept = _roots(A)
        K = inverse @ S
        root_x, _, kept_x = _roots(XX - np.einsum("jap,jar->pr", S, K)) if p else (
            np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, dtype=bool)
        )  # fmt: skip
        spare = cross.n - int(kept.sum()) - int(kept_x.sum())
        z, u, w = np.empty((n_rep, J, q)), np.empty((n_rep, J, q)), np.empty((n_rep, p))
        rest = np.zeros(n_rep)
        for k, rng in enumerate(rngs):
            rng.standard_normal(out=z[k])
            rng.standard_normal(out=u[k])
            rng.standard_normal(out=w[k])
            if spare > 0:
                rest[k] = rng.chisquare(spare)
        z, w = z * kept, w * kept_x
        ze = self.sigma * np.einsum("jab,kjb->kja", root, z)
        xe = np.einsum("jap,kja->kp", K, ze) + self.sigma * (w @ root_x.T)
        ee = self.sigma**2 * ((z**2).sum((1, 2)) + (w**2).sum(1) + rest)
        b = self.sigma * (u @ self.factor.T)
        Ab = np.einsum("jab,kjb->kja", A, b)
        fixed = S @ self.beta
        xb = np.einsum("jap,kja->kp", S, b)
        yy = self.beta @ XX @ self.beta + 2.0 * (xb + xe) @ self.beta + ee
        yy += np.einsum("kja,kja->k", b, Ab) + 2.0 * np.einsum("kja,kja->k", b, ze)
        return Responses(np.ascontiguousarray(fixed + Ab + ze), XX @ self.beta + xb + xe, yy)


def _mean(design: Design, fit: Fit) -> Array:
    mean = design.X @ fit.beta if fit.n_fixed else np.zeros(design.n)
    return mean if design.offset is None else mean + design.offset


def _noise_scale(design: Design) -> Array:
    return np.ones(design.n) if design.weights is None else 1.0 / np.sqrt(design.weights)


def draw_response(design: Design, fit: Fit, rng: np.random.Generator) -> Array:
    """A response (n,) from the fitted model: new random effects, new residuals."""
    y = _mean(design, fit)
    sigma = float(np.sqrt(fit.sigma2))
    for block, factor in zip(design.blocks, fit.relative_factors, strict=True):
        y = y + rows_part(block, sigma * drawn_effects(block, rng, factor))
    return np.asarray(y + sigma * _noise_scale(design) * rng.standard_normal(design.n))


@dataclass(frozen=True)
class ResidualSource:
    """Estimated random effects and residuals, inflated to the estimated variances.

    ``u* = u A`` with ``A`` so that the covariance of the centred ``u*`` is the estimated ``G``;
    residuals are centred and scaled to ``sigma``.
    """

    design: Design
    fit: Fit
    effects: tuple[Array, ...]
    residuals: Array

    @classmethod
    def of(cls, design: Design, fit: Fit, effects: tuple[BlockEffects, ...]) -> ResidualSource:
        """From the estimated random effects of a fit."""
        e = design.y - _mean(design, fit)
        inflated = []
        for block, effect, G in zip(design.blocks, effects, fit.random_covariance, strict=True):
            u = effect.estimates
            e = e - np.einsum("iq,iq->i", block.columns, u[block.codes])
            centred = u - u.mean(0)
            values, vectors = np.linalg.eigh(centred.T @ centred / len(u))
            kept = values > RANK * max(float(values[-1]), 1e-300)
            whitening = vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T
            roots, axes = np.linalg.eigh(G)
            colour = axes * np.sqrt(np.maximum(roots, 0.0)) @ axes.T
            inflated.append(centred @ whitening @ colour)
        e = e / _noise_scale(design)
        e = e - e.mean()
        e = e * np.sqrt(fit.sigma2 / float(np.mean(e**2)))
        return cls(design, fit, tuple(inflated), e)

    def draw(self, rng: np.random.Generator) -> Array:
        """A response (n,) with effects and residuals drawn with replacement."""
        design = self.design
        y = _mean(design, self.fit)
        for block, u in zip(design.blocks, self.effects, strict=True):
            chosen = u[rng.integers(0, block.n_levels, block.n_levels)]
            y = y + np.einsum("iq,iq->i", block.columns, chosen[block.codes])
        chosen_e = self.residuals[rng.integers(0, design.n, design.n)]
        return np.asarray(y + _noise_scale(design) * chosen_e)


@dataclass(frozen=True)
class ModelSource:
    """Draws responses from a fitted model, row by row."""

    design: Design
    fit: Fit

    def draw(self, rng: np.random.Generator) -> Array:
        """A response (n,)."""
        return draw_response(self.design, self.fit, rng)


def row_statistics(prepared: Prepared, Y: Array) -> Responses:
    """Sufficient statistics of responses given by rows, one grouping factor.

    Parameters
    ----------
    prepared : the problem; its scaling, that of its own response included, is used.
    Y : (n, R) responses, user's units.
    """
    design, U = prepared.design, prepared.scaling.U
    block, p = design.blocks[0], design.X.shape[1]
    shifted = Y if design.offset is None else Y - design.offset[:, None]
    scaled = shifted * U[p, p]
    W = prepared.scaling.apply(design.X, np.zeros(design.n))
    X = W[:, :p]
    if p:
        scaled = scaled + (design.X @ prepared.scaling.first[:p, p])[:, None]
    weighted = scaled if design.weights is None else scaled * design.weights[:, None]
    Z = block.columns @ prepared.scaling.random[0]
    J, q = block.n_levels, Z.shape[1]
    rows = np.repeat(np.arange(design.n), q)
    places = (block.codes[:, None].astype(np.int64) * q + np.arange(q)).ravel()
    wide = sparse.csr_matrix((Z.ravel(), (places, rows)), shape=(J * q, design.n))
    zy = np.asarray(wide @ weighted).T.reshape(-1, J, q)
    yy = np.einsum("nk,nk->k", scaled, weighted)
    return Responses(np.ascontiguousarray(zy), np.ascontiguousarray((X.T @ weighted).T), yy)
