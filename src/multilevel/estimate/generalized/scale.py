"""Well-scaled coordinates of the parameters: ``psi = T phi``, so that one unit means about as much
in every direction. Columns of each part are centred (where it has an intercept) and divided by
their standard deviation; rows of ``Lambda`` are divided by the root mean square of their columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.problem import EffectBlock, GeneralizedProblem

Array = NDArray[np.float64]


def scaling_matrix(problem: GeneralizedProblem) -> Array:
    """``T`` (P, P), invertible."""
    T = np.zeros((problem.n_parameters, problem.n_parameters))
    for part, s in zip(problem.fixed, problem.fixed_slices, strict=True):
        T[s, s] = column_scaling(part.X)
    for block, s in zip(problem.blocks, problem.theta_slices, strict=True):
        T[s, s] = np.diag(factor_scaling(block))
    return T


def column_scaling(X: Array) -> Array:
    """``A`` (p, p) with ``beta = A beta_scaled``."""
    p = X.shape[1]
    A = np.eye(p)
    if p == 0:
        return A
    mean, spread = X.mean(axis=0), np.empty(p)
    for j in range(p):  # a column at a time: it stays in cache
        rest = X[:, j] - mean[j]
        spread[j] = np.sqrt(rest @ rest / len(rest))
    size = np.hypot(mean, spread)
    constant = np.flatnonzero(spread <= 1e-12 * np.maximum(size, 1e-300))
    constant = constant[size[constant] > 0.0]
    if len(constant) == 0:
        A[np.diag_indices(p)] = 1.0 / np.where(size > 0.0, size, 1.0)
        return A
    c = int(constant[0])
    others = [j for j in range(p) if j != c]
    A[c, c] = 1.0 / mean[c]
    for j in others:
        A[j, j] = 1.0 / (spread[j] if spread[j] > 0.0 else 1.0)
        A[c, j] = -mean[j] * A[j, j] / mean[c]
    return A


def factor_scaling(block: EffectBlock) -> Array:
    """(r,) multipliers of ``theta``; 1 for structures that tie the columns together."""
    size = np.sqrt(np.mean(block.columns**2, axis=0))
    size = np.where(size > 0.0, size, 1.0)
    out = np.ones(block.structure.n_parameters)
    slices = block.structure.parameter_slices()
    for number, ((start, stop, structure), s) in enumerate(
        zip(block.structure.terms, slices, strict=True)
    ):
        curve = block.structure.curve(number)
        if curve is not None:
            out[s][curve.in_units] = 1.0 / float(np.sqrt(np.mean(size[start:stop] ** 2)))
        elif structure == "unstructured":
            rows = np.tril_indices(stop - start)[0]
            out[s] = 1.0 / size[start:stop][rows]
        elif structure == "diagonal":
            out[s] = 1.0 / size[start:stop]
        else:
            out[s] = 1.0 / float(np.sqrt(np.mean(size[start:stop] ** 2)))
    return out
