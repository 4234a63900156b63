"""The covariance parameters that are free at a fit: those off the boundary.

At a singular optimum some direction of ``Psi`` has zero variance. Second-order inference is then
made on the face of the cone that holds the optimum: as if the model had been written without the
redundant random effects. On a face ``Psi = N K N'``, and because ``QN = 0`` there (KKT), any
parametrisation of ``K`` gives the same tests; ``Lambda + E`` with ``E = D (Lambda^+)' / 2`` moves
``Psi`` by ``D``. Source: own derivation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.model.covariance.curves import Curve
from multilevel.model.covariance.structures import FactorMap, basis

Array = NDArray[np.float64]
#: Ratio of standard deviations below which a direction counts as null: far above what the square
#: root of a rounded zero leaves (1e-8), far below what an optimum is snapped to zero at (1e-4).
NULL_RATIO = 1e-6


@dataclass(frozen=True)
class Face:
    """The problem in its free covariance parameters.

    Attributes
    ----------
    objective : set at the fit.
    theta : (r,) free parameters.
    n_null : directions of zero variance that were left out.
    """

    objective: GaussianObjective
    theta: Array
    n_null: int


def face_of(prepared: Prepared, fit: Fit, objective: GaussianObjective) -> Face:
    """The face of a fit; for an interior fit the problem itself (``objective`` set at the fit)."""
    maps, theta, n_null = [], [], 0
    for t, mapping in enumerate(objective.maps):
        local = fit.theta[objective.slices[t]]
        new, values, lost = _reduced(mapping, local, objective.factors[t])
        maps.append(new)
        theta.append(values)
        n_null += lost
    if n_null == 0:
        return Face(objective, fit.theta, 0)
    reduced = GaussianObjective(
        prepared.engine_plan.make(prepared.cross),
        maps,
        objective.n,
        objective.p,
        objective.reml,
        objective.sum_log_weights,
    )
    free = np.concatenate(theta)
    reduced.set(free)
    return Face(reduced, free, n_null)


def _reduced(mapping: FactorMap, theta: Array, L: Array) -> tuple[FactorMap, Array, int]:
    """The map of one block without its null directions, its parameters, how many were left out."""
    pieces, values, lost = [], [], 0
    curves: list[Curve | None] = []
    slices = mapping.parameter_slices()
    for number, ((start, stop, structure), s) in enumerate(zip(mapping.terms, slices, strict=True)):
        curve = mapping.curve(number)
        is_null = curve is not None and not np.any(L[start:stop, start:stop])
        curves.append(None if is_null else curve)
        if curve is not None:
            lost += int(is_null)
            keep = slice(s.start, s.start if is_null else s.stop)
            pieces.append(mapping.basis[keep])
            values.append(theta[keep])
            continue
        if structure != "unstructured":
            free = theta[s] != 0.0
            lost += int(np.sum(~free))
            pieces.append(mapping.basis[s][free])
            values.append(theta[s][free])
            continue
        local = L[start:stop, start:stop]
        left, singular, _ = np.linalg.svd(local)
        N = left[:, singular > NULL_RATIO * max(float(singular[0]), NULL_RATIO)]
        k = N.shape[1]
        lost += stop - start - k
        whole = np.zeros((k * (k + 1) // 2, *L.shape))
        coordinates = np.zeros(len(whole))
        inverse = np.linalg.pinv(local, rcond=NULL_RATIO).T
        K = 2.0 * (N.T @ local) @ (N.T @ local).T
        for c, (a, b) in enumerate(zip(*np.tril_indices(k), strict=True)):
            S = np.zeros((k, k))
            S[a, b] = S[b, a] = 1.0
            whole[c, start:stop, start:stop] = 0.5 * N @ S @ N.T @ inverse
            coordinates[c] = K[a, b]
        pieces.append(whole)
        values.append(coordinates)
    sizes = tuple(len(piece) for piece in pieces)
    kept = tuple(curves) if any(curves) else ()
    new = FactorMap(np.concatenate(pieces), mapping.terms, kept, sizes)
    return new, np.concatenate(values), lost


def linear_basis(mapping: FactorMap, theta: Array) -> Array:
    """Symmetric matrices that span ``Psi`` of a block, linearly: (r, q, q).

    Unstructured terms have one per element, the other linear structures the squares of their
    basis; the others their derivatives at ``theta``, which span Psi to first order.
    """
    q = mapping.basis.shape[1]
    out = []
    slices = mapping.parameter_slices()
    for number, (start, stop, structure) in enumerate(mapping.terms):
        width = stop - start
        curve = mapping.curve(number)
        if curve is not None:
            local = curve.covariance_slopes(theta[slices[number]])
            local = local[np.abs(local).max(axis=(1, 2)) > 0.0]
        elif structure == "unstructured":
            local = basis(structure, width)
            local = local + local.transpose(0, 2, 1)
            local = local / np.maximum(local.max(axis=(1, 2), keepdims=True), 1.0)
        else:
            half = basis(structure, width)
            local = half @ half.transpose(0, 2, 1)
        whole = np.zeros((len(local), q, q))
        whole[:, start:stop, start:stop] = local
        out.append(whole)
    return np.concatenate(out) if out else np.zeros((0, q, q))


def coordinates(elements: Array, Psi: Array) -> Array:
    """``c`` with ``Psi = sum_c c E_c`` for a linear basis (r, q, q): (r,)."""
    flat = elements.reshape(len(elements), -1)
    return np.asarray(np.linalg.lstsq(flat.T, Psi.reshape(-1), rcond=None)[0])
