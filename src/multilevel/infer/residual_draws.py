"""A response drawn from a fit with structured residuals.

``y = X beta + offset + Z b + e``, ``e = sigma D L z`` with z independent standard normal.
Source: Efron & Tibshirani 1993, chapter 6 (parametric bootstrap).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.residual.whiten import Whitener

Array = NDArray[np.float64]


def fixed_mean(design: Design, fit: Fit) -> Array:
    """``X beta`` plus the offset: (n,), response units."""
    mean = design.X @ fit.beta if fit.n_fixed else np.zeros(design.n)
    return mean if design.offset is None else mean + design.offset


def draw_random_part(design: Design, fit: Fit, rng: np.random.Generator) -> Array:
    """``Z b`` of new random effects: (n,), response units."""
    out, sigma = np.zeros(design.n), float(np.sqrt(fit.sigma2))
    for block, factor in zip(design.blocks, fit.relative_factors, strict=True):
        b = sigma * (rng.standard_normal((block.n_levels, len(block.names))) @ factor.T)
        out += np.einsum("iq,iq->i", block.columns, b[block.codes])
    return out


def draw_residuals(fit: Fit, whitener: Whitener, rng: np.random.Generator) -> Array:
    """Residuals (n,), response units; ``whitener`` is set at the fit."""
    n = len(whitener.layout.order)
    e = np.empty(n)
    e[whitener.layout.order] = whitener.colour(rng.standard_normal((n, 1)))[:, 0]
    return float(np.sqrt(fit.sigma2)) * e


def draw_structured(
    design: Design, fit: Fit, whitener: Whitener, rng: np.random.Generator
) -> Array:
    """A response (n,) with new random effects and new residuals."""
    mean = fixed_mean(design, fit) + draw_random_part(design, fit, rng)
    return np.asarray(mean + draw_residuals(fit, whitener, rng))
