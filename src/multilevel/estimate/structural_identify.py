"""Local identification: the rank of the derivatives of the moments, with the parameters named.

Source: Rothenberg 1971 (Econometrica 39:577): where the Jacobian of the moments has constant rank,
full column rank is necessary and sufficient for local identification.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError
from multilevel.likelihood.structural.nested_objective import NestedObjective
from multilevel.likelihood.structural.objective import StructuralObjective
from multilevel.likelihood.structural.slope_objective import SlopeObjective

Array = NDArray[np.float64]
_RANK_LIMIT = 1e-8  # smallest singular value of the Jacobian with columns of length 1
_NAME_LIMIT = 0.05  # share of a null direction above which a parameter is named


def natural_units(objective: StructuralObjective, theta: Array) -> Array:
    """(q,) the size of one unit of each parameter, from the standard deviations at ``theta``."""
    out = np.ones(len(theta))
    for g in range(len(objective.groups)):
        for level, at in objective.implied(theta, g).items():
            names = objective.maps[g][level].names
            size = np.sqrt(np.abs(np.diag(at.full_cov)))
            size[size == 0.0] = 1.0  # a part whose variance is fixed at zero
            sd = dict(zip(names, size, strict=True))
            for p in objective.model.block(level, g):
                if not p.is_free:
                    continue
                left, right = sd[p.lhs], sd[p.rhs] if p.rhs else 1.0
                unit = {"~": left / right, "=~": right / left, "~~": left * right, "~1": left}
                out[p.free] = unit[p.op]
    return out


def generic_point(objective: StructuralObjective, theta: Array) -> Array:
    """A point near ``theta`` without its accidental zeros; always the same one."""
    q = np.arange(1, len(theta) + 1)
    unit = natural_units(objective, theta)
    step = 0.2 * np.sin(q) * np.maximum(np.abs(theta), 0.3 * unit)
    loops = [p.free for p in objective.model.parameters if p.is_free and p.op == "~"]
    step[loops] = 0.1 * np.sin(q[loops]) * unit[loops]
    return np.asarray(theta + step)


def moment_jacobian(objective: StructuralObjective, theta: Array) -> Array:
    """Derivatives of all distinct observed moments, (number of moments, q), without units.

    Moments are in standard deviations of the variables, parameters in their natural units.
    """
    parts = []
    for g, data in enumerate(objective.groups):
        if isinstance(objective, NestedObjective):
            parts += _nested_jacobian(objective, theta, g)
            continue
        at, along = objective.directions(theta, g)
        # a random slope is known from its cluster, like a between part; but it has its own mean
        b = data.n_both
        own = [np.sqrt(np.abs(np.diag(cov))) for cov in (at.cov_within, at.cov_between)]
        within, between = (np.maximum(size, 1e-150) for size in own)
        mean = along.mean_within.copy()
        mean[:, :b] += along.mean_between[:, :b]
        parts += [mean / within, along.mean_between[:, b:] / between[b:]]
        for cov, size in ((along.cov_within, within), (along.cov_between, between)):
            rows, columns = np.tril_indices(cov.shape[1])
            parts.append((cov / np.outer(size, size))[:, rows, columns])
        if isinstance(objective, SlopeObjective):
            carry = objective.carry_directions(theta, g)
            parts.append(carry.reshape(len(carry), -1))
    unit = natural_units(objective, theta)
    return np.concatenate(parts, axis=1).T * unit


def _nested_jacobian(objective: NestedObjective, theta: Array, g: int) -> list[Array]:
    """Derivatives of the moments of all levels of a group, (q, number) each."""
    parts = []
    model, q = objective.model, len(theta)
    means: dict[str, Array] = {}
    sizes: dict[str, float] = {}
    for level, at in objective.implied(theta, g).items():
        mean, cov = objective.maps[g][level].directions(at)
        size = np.sqrt(np.abs(np.diag(at.cov)))
        size[size == 0.0] = 1.0  # a part whose variance is fixed at zero
        rows, columns = np.tril_indices(len(size))
        parts.append((cov / np.outer(size, size))[:, rows, columns])
        for k, name in enumerate(model.located(level)):  # a mean is the sum over the levels
            means[name] = means.get(name, np.zeros(q)) + mean[:, k]
            sizes[name] = max(sizes.get(name, 0.0), float(size[k]))
    parts.append(np.column_stack([means[name] / sizes[name] for name in means]))
    carry = objective.carry_directions(theta, g)
    parts.append(carry.reshape(q, -1))
    return parts


def check_rank(objective: StructuralObjective, theta: Array) -> None:
    """Refuse a model whose parameters the moments do not determine.

    Parameters
    ----------
    objective : the model on its data.
    theta : (q,) start values.

    Raises
    ------
    EstimationError : names the parameters that can change together without changing any moment.
    """
    if not len(theta):
        raise EstimationError("A model has free parameters.", "all are fixed", "free some of them")
    J = moment_jacobian(objective, generic_point(objective, theta))
    length = np.sqrt(np.sum(J * J, axis=0))
    names = objective.model.free_names
    idle = [names[a] for a in np.flatnonzero(length <= 1e-12)]
    if idle:
        raise EstimationError(
            "Every free parameter changes a mean, a variance or a covariance.",
            f"{', '.join(idle)} changes none",
            "fix it, or connect its latent variable with observed variables",
        )
    _, values, directions = np.linalg.svd(J / length, full_matrices=True)
    padded = np.r_[values, np.zeros(len(names) - len(values))]
    null = directions[padded < _RANK_LIMIT * max(float(values[0]), 1.0)]
    if len(null):
        share = np.max(np.abs(null), axis=0)
        involved = [names[a] for a in np.flatnonzero(share > _NAME_LIMIT)]
        raise EstimationError(
            "The means, variances and covariances of each level determine all free parameters.",
            f"{len(null)} too many: these can change together without changing any of them: "
            + ", ".join(involved),
            "fix one of these, set two equal by a label, or leave out relations",
        )
