"""Parameters of structured random effects as they are reported: rho, ranges, loadings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.distributions import normal_quantile

if TYPE_CHECKING:
    from multilevel.design.generalized import GeneralizedDesign
    from multilevel.design.records import RandomBlock
    from multilevel.estimate.generalized.records import GeneralizedFit
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StructureParameter:
    """One parameter of a structure beside the standard deviations of its effects.

    Attributes
    ----------
    group : grouping factor.
    term : what varies, e.g. the column of time.
    structure : short name, e.g. ``"ar1"``.
    parameter : ``"rho"``, ``"phi"``, ``"range"``, ``"rho(2)"``, a loading, a uniqueness.
    kind : ``"correlation"``, ``"range"``, ``"loading"`` or ``"uniqueness"`` (an SD).
    estimate, std_error, conf_low, conf_high : Wald, symmetric on the unconstrained scale; NaN
        where there is no standard error (ask ``confint`` for loadings of linear models).
    """

    group: str
    term: str
    structure: str
    parameter: str
    kind: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float


def structure_parameters(
    blocks: Sequence[RandomBlock],
    thetas: Sequence[Array],
    covariances: Sequence[Array],
    matrices: Sequence[Array],
    conf_level: float = 0.95,
    has_units: bool = True,
) -> tuple[StructureParameter, ...]:
    """Parameters of all structured terms, block by block.

    Parameters
    ----------
    thetas, covariances : per block (r,) and (r, r) of its parameters; NaN where unknown.
    matrices : per block (q, q) G in the user's units.
    has_units : whether ``covariances`` hold for parameters in the user's units (generalized
        models); else standard errors of loadings are left out.
    """
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    out: list[StructureParameter] = []
    for block, theta, V, G in zip(blocks, thetas, covariances, matrices, strict=True):
        slices = block.structure.parameter_slices()
        for number, ((start, stop, structure), s) in enumerate(
            zip(block.structure.terms, slices, strict=True)
        ):
            curve = block.structure.curve(number)
            if curve is None:
                continue
            local = theta[s]
            size = float(np.trace(curve.covariance(local)))
            unit = float(np.sqrt(np.trace(G[start:stop, start:stop]) / size)) if size > 0 else 1.0
            values = curve.natural(local, unit)
            slopes = curve.natural_slopes(local, unit)
            spread = np.einsum("ka,ab,kb->k", slopes, V[s, s], slopes)
            errors = np.sqrt(np.where(spread > 0.0, spread, np.nan))
            for k, (name, kind) in enumerate(curve.parameter_names()):
                known = kind in ("correlation", "range") or has_units
                se = float(errors[k]) if known and size > 0 else float("nan")
                value = float(values[k]) if size > 0 else float("nan")
                low, high = curve.interval(k, value, se, z)
                out.append(
                    StructureParameter(
                        block.group, curve.stem, structure, name, kind, value, se, low, high
                    )
                )
    return tuple(out)


def of_fit(
    blocks: Sequence[RandomBlock], fit: Fit, conf_level: float = 0.95
) -> tuple[StructureParameter, ...]:
    """The structured terms of a linear model; errors from the curvature of its criterion."""
    sizes = [block.structure.n_parameters for block in blocks]
    if all(block.structure.is_linear for block in blocks):
        return ()
    ends = np.cumsum([0, *sizes])
    parts = [slice(int(a), int(b)) for a, b in pairwise(ends)]
    H = fit.theta_curvature
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    values, vectors = np.linalg.eigh(H * np.outer(scale, scale))
    good = values > 1e-10
    half = vectors[:, good] / np.sqrt(values[good]) * scale[:, None]
    V = 2.0 * half @ half.T
    return structure_parameters(
        blocks, [fit.theta[s] for s in parts], [V[s, s] for s in parts], fit.random_covariance,
        conf_level, has_units=False,
    )  # fmt: skip


def of_generalized(
    design: GeneralizedDesign, fit: GeneralizedFit, conf_level: float = 0.95
) -> tuple[StructureParameter, ...]:
    """The structured terms of a generalized model; errors from the covariance of its estimates."""
    if all(block.structure.is_linear for block in design.blocks):
        return ()
    n_theta = sum(block.structure.n_parameters for block in design.blocks)
    first = len(fit.psi) - n_theta
    ends = first + np.cumsum([0, *(b.structure.n_parameters for b in design.blocks)])
    parts = [slice(int(a), int(b)) for a, b in pairwise(ends)]
    return structure_parameters(
        design.blocks, [fit.psi[s] for s in parts], [fit.vcov[s, s] for s in parts],
        fit.random_covariance, conf_level,
    )  # fmt: skip
