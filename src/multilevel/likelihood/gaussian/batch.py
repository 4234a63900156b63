"""Many responses on one design with one grouping factor, fitted in one compiled loop.

A replicate that ends near the boundary or does not converge is marked, not fitted: the caller
solves it one by one, where boundaries are proven. Plain twin: ``estimate.fit.solve``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.threads import idle_cores
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]
INTERIOR = 1e-2  # smallest singular value of Lambda (scaled columns) that is surely interior


@dataclass(frozen=True)
class Responses:
    """Sufficient statistics of R responses.

    Attributes
    ----------
    zy : (R, J, q) ``Z_j'y``; ``xy`` (R, p) ``X'y``; ``yy`` (R,) ``y'y``.
    """

    zy: Array
    xy: Array
    yy: Array

    def cross_products(self, design: CrossProducts, k: int) -> CrossProducts:
        """The cross-products of ``design`` with response ``k``."""
        p = design.n_fixed
        total, rhs = design.total.copy(), design.rhs[0].copy()
        total[:p, p] = total[p, :p] = self.xy[k]
        total[p, p] = self.yy[k]
        rhs[:, :, p] = self.zy[k]
        return CrossProducts(
            design.n, p, total, design.own, (rhs,), design.pairs, design.sum_log_weights
        )


@dataclass(frozen=True)
class BatchFit:
    """Fits of R responses, scaled problem.

    Attributes
    ----------
    theta : (R, r); ``beta`` (R, p); ``sigma2``, ``criterion`` (R,).
    is_interior : (R,) converged to an optimum away from the boundary; the others are to be
        solved one by one.
    """

    theta: Array
    beta: Array
    sigma2: Array
    criterion: Array
    is_interior: NDArray[np.bool_]


def fit_responses(
    cross: CrossProducts, mapping: FactorMap, responses: Responses, start: Array, reml: bool
) -> BatchFit:
    """Fit every response from the same start values.

    Parameters
    ----------
    cross : the design's cross-products (its own response is not used).
    mapping : covariance structure of the one grouping factor.
    start : (r,) start values.

    Raises
    ------
    LikelihoodError : more than one grouping factor.
    """
    from multilevel.likelihood.blocks.batch_kernels import fit_batch

    if cross.n_blocks != 1 or not mapping.is_linear:
        raise LikelihoodError(
            "Batches of fits are for designs with one grouping factor and a linear structure.",
            f"{cross.n_blocks} grouping factors, "
            + ", ".join(structure for _, _, structure in mapping.terms),
            "solve them one by one",
        )
    p, n_rep, r = cross.n_fixed, len(responses.yy), mapping.n_parameters
    S_X = np.ascontiguousarray(cross.rhs[0][:, :, :p])
    XX = np.ascontiguousarray(cross.total[:p, :p])
    E = np.ascontiguousarray(mapping.basis)
    theta, beta = np.zeros((n_rep, r)), np.zeros((n_rep, p))
    sigma2, criterion = np.zeros(n_rep), np.zeros(n_rep)
    converged = np.zeros(n_rep, dtype=np.bool_)
    nu = cross.n - p if reml else cross.n
    origin = np.asarray(start, dtype=np.float64).copy()
    origin[np.abs(origin) < 1e-2] = 1e-2  # a zero would hide its own gradient

    def part(rows: slice) -> None:
        fit_batch(
            cross.own[0], S_X, XX, responses.zy[rows], responses.xy[rows], responses.yy[rows], E,
            origin, nu, reml, theta[rows], beta[rows], sigma2[rows], criterion[rows],
            converged[rows],
        )  # fmt: skip

    workers = min(idle_cores(), n_rep)
    edges = np.linspace(0, n_rep, workers + 1).astype(int)
    slices = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    if workers == 1:
        part(slices[0])
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(part, slices))
    factors = np.tensordot(theta, mapping.basis, axes=1)
    smallest = np.linalg.svd(factors, compute_uv=False)[:, -1] if r else np.ones(n_rep)
    criterion -= cross.sum_log_weights
    return BatchFit(theta, beta, sigma2, criterion, converged & (smallest > INTERIOR))
