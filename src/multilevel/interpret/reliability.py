r"""Reliability of cluster means and of cluster slopes.

``least_squares``: ``tau_qq / (tau_qq + v_qqc)`` with ``v_c = sigma2 (Z_c' W Z_c)^-1``, the
variance of the cluster's own least-squares coefficient (Raudenbush & Bryk 2002, chapter 3); for a
random intercept ``tau2 / (tau2 + sigma2 / n_c)``. Clusters whose rows do not determine their own
coefficients have none.

``prediction``: ``1 - Var(b_c | y) / tau_qq``, the squared correlation of the random effect and its
prediction with the fixed effects known; equal to the former for one random intercept, and defined
for any design (Henderson 1975).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design, RandomBlock
    from multilevel.estimate.posterior import BlockEffects
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
#: Reciprocal condition number under which a cluster's rows do not determine its coefficients.
LEAST_CONDITION = 1e-10


@dataclass(frozen=True)
class Reliability:
    """Reliability of one random effect over the clusters.

    Attributes
    ----------
    group, term : grouping factor and random effect.
    component : ``"least_squares"`` or ``"prediction"``.
    estimate, minimum, maximum : mean, smallest and largest over clusters; NaN if none has one.
    n_clusters : clusters that have one.
    sentence : in words.
    """

    group: str
    term: str
    component: str
    estimate: float
    minimum: float
    maximum: float
    n_clusters: int
    sentence: str


def reliabilities(
    design: Design, fit: Fit, effects: Sequence[BlockEffects], *, by_least_squares: bool = True
) -> tuple[Reliability, ...]:
    """Reliability of every random effect: mean and range over the levels of its factor.

    Parameters
    ----------
    design, fit : the design and its fit.
    effects : random effects of every block, ``estimate.posterior.random_effects``.
    by_least_squares : False leaves that component out, where levels share correlated rows.

    Returns
    -------
    Records; ``least_squares`` only for designs with one grouping factor.
    """
    out: list[Reliability] = []
    for t, block in enumerate(design.blocks):
        tau = np.diag(fit.random_covariance[t])
        if len(design.blocks) == 1 and by_least_squares:
            own = _own_variances(design, block, fit.sigma2)
            out += _records(block, "least_squares", tau / (tau + own))
        errors = np.einsum("jaa->ja", effects[t].covariance())
        with np.errstate(divide="ignore", invalid="ignore"):
            predicted = np.where(tau > 0.0, 1.0 - errors / tau, 0.0)
        out += _records(block, "prediction", predicted)
    return tuple(out)


def _own_variances(design: Design, block: RandomBlock, sigma2: float) -> Array:
    """``diag(sigma2 (Z_c' W Z_c)^-1)`` (J, q); NaN for clusters that do not determine it."""
    Z = block.columns
    J, q = block.n_levels, Z.shape[1]
    gram = np.empty((J, q, q))
    for a in range(q):
        for b in range(a + 1):
            product = Z[:, a] * Z[:, b]
            if design.weights is not None:
                product = product * design.weights
            gram[:, a, b] = gram[:, b, a] = np.bincount(block.codes, product, minlength=J)
    scale = np.sqrt(np.einsum("jaa->ja", gram))
    usable = np.all(scale > 0.0, axis=1)
    out = np.full((J, q), np.nan)
    if not usable.any():
        return out
    unit = gram[usable] / (scale[usable][:, :, None] * scale[usable][:, None, :])
    usable[usable] = np.linalg.eigvalsh(unit)[:, 0] > LEAST_CONDITION
    if usable.any():
        out[usable] = sigma2 * np.einsum("jaa->ja", np.linalg.inv(gram[usable]))
    return out


def _records(block: RandomBlock, component: str, values: Array) -> list[Reliability]:
    """One record per random effect of a block from values (J, q)."""
    out = []
    for a, term in enumerate(block.names):
        known = values[:, a][np.isfinite(values[:, a])]
        nan = float("nan")
        mean, low, high = (
            (float(known.mean()), float(known.min()), float(known.max()))
            if len(known)
            else (nan, nan, nan)
        )
        what = "means" if term == "(Intercept)" else f"slopes of {term}"
        if len(known):
            sentence = (
                f"The {what} of {block.group} have a reliability of {mean:.3f} on average "
                f"({low:.3f} to {high:.3f} over {len(known)} of {block.n_levels} levels)."
            )
        else:
            sentence = f"No level of {block.group} determines its own coefficients."
        out.append(Reliability(block.group, term, component, mean, low, high, len(known), sentence))
    return out
