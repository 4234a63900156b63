"""Whether a point of a mixed structural model lies at the edge of what can be: a variance of zero,
random effects that determine each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.errors import EstimationError
from multilevel.estimate.structural_mixed_start import slope_size
from multilevel.likelihood.structural.mixed_objective import MixedLayout

Array = NDArray[np.float64]
_EDGE = 1e-4  # share of a variance left over by other effects, below which it is at the boundary


@dataclass(frozen=True)
class Edge:
    """What is at the edge: the error that says so, and whether it is a matter of clusters."""

    error: EstimationError
    is_between: bool


def sizes_of(design: MixedDesign) -> dict[str, float]:
    """Variances of outcomes on the scale of their predictors, and those of slopes to match."""
    out = {
        name: float(np.nanvar(design.values[:, k])) if design.model.is_gaussian(name) else 1.0
        for k, name in enumerate(design.outcomes)
    }
    for s in design.model.slopes:
        out[s.name] = slope_size(design, s, out[s.outcome])
    return out


def edge_of(layout: MixedLayout, theta: Array) -> Edge | None:
    """The first thing at the edge, or None."""
    design, sizes = layout.design, sizes_of(layout.design)
    at = layout.map.predictors(theta)
    for i, kind in enumerate(design.kinds):
        name = design.outcomes[kind.outcome]
        if design.model.is_gaussian(name) and np.exp(at.log_variance[i]) < _EDGE * sizes[name]:
            return Edge(EstimationError(
                "Residual variances are positive.",
                f"at the best point found that of {name} at the within level is zero",
                f"take a relation of {name} out, or fix its variance, {name} ~~ 0.1*{name}",
            ), False)  # fmt: skip
    for p, home in zip(design.model.parameters, design.model.homes, strict=True):
        if not (p.is_variance and p.is_free and home != "within" and p.lhs in sizes):
            continue
        if theta[p.free] < _EDGE * sizes[p.lhs]:
            return Edge(EstimationError(
                "Variances of random effects are positive.",
                f"at the best point found that of {p.lhs} at the {home} level is zero "
                f"({p.name}: {theta[p.free]:.2g})",
                f"fix it, {p.lhs} ~~ 0*{p.lhs}, where a predictor carries the differences between "
                f"clusters; else take {p.lhs} out of that level",
            ), True)  # fmt: skip
    for block, place in zip(layout.blocks, layout.places, strict=True):
        found = _determined(layout, block.name, [block.effects[i] for i in block.pivots],
                            np.asarray(at.covariances[place]), sizes)  # fmt: skip
        if found is not None:
            return found
    return None


def _determined(
    layout: MixedLayout, grouping: str, P: list[int], covariance: Array, sizes: dict[str, float]
) -> Edge | None:
    """The first random effect of one grouping that has no variance, or none given the others."""
    design = layout.design
    G = covariance[np.ix_(P, P)]
    for i, effect in enumerate(P):
        slope, number = divmod(effect, len(design.kinds))
        name = design.outcomes[design.kinds[number].outcome]
        name = design.model.slopes[slope - 1].name if slope else name
        others = [j for j in range(len(P)) if j != i]
        left = G[i, i]
        if others and float(np.linalg.eigvalsh(G[np.ix_(others, others)]).min()) > 0.0:
            left = left - G[i, others] @ np.linalg.solve(G[np.ix_(others, others)], G[others, i])
        least = _EDGE * sizes[name]
        if G[i, i] >= least and left >= _EDGE * max(G[i, i], least):
            continue
        is_zero = G[i, i] < least
        what = "has no variance" if is_zero else "is determined by those of others"
        error = EstimationError(
            "Random effects need variances and correlations inside their range.",
            f"at the best point found the effect of {grouping} on {name} {what} "
            f"(variance {float(G[i, i]):.2g})",
            f"take {name} out of that level (name it within only)" if is_zero
            else f"fix its residual variance there at zero, {name} ~~ 0*{name}, with a "
            "predictor or a latent variable that carries it, or take a covariance out",
        )  # fmt: skip
        return Edge(error, grouping != "rows")
    return None
