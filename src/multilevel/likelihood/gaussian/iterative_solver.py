"""Conjugate gradients for many right-hand sides at once, with their Lanczos coefficients.

Solves ``(I + H'O H) x = b`` column by column in step; a column that has converged is frozen and,
once a quarter of the columns have, taken out of the arrays. With ``h = -O H x`` accumulated beside
the residual, ``x = b + H'h - r`` needs no array of its own.
Sources: Hestenes & Stiefel 1952; Saad 2003, section 6.7 (Lanczos coefficients from those of CG).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import iterative_kernels as kernels
from multilevel.likelihood.gaussian.iterative_operator import CrossedOperator, Workers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Solutions:
    """What conjugate gradients leave behind.

    Attributes
    ----------
    h : (n_core, k) ``-O H x``.
    residual : (n_core, k) ``b - (I + H'O H) x``.
    first_product : (n_core, k) ``O H b``.
    alpha, beta : (steps, k) coefficients; ``steps`` (k,) counts those of each column.
    """

    h: Array
    residual: Array
    first_product: Array
    alpha: Array
    beta: Array
    steps: NDArray[np.int64]


class _State:
    """The arrays of the columns still at work."""

    def __init__(self, operator: CrossedOperator, b: Array, parts: int) -> None:
        self.columns = np.arange(b.shape[1])
        self.residual = b.copy()
        self.direction = b.copy()
        self.image = np.ascontiguousarray(operator.times(operator.H, b))
        self.total = np.zeros_like(b)
        self.allocate(parts)

    def allocate(self, parts: int) -> None:
        shape = self.residual.shape
        self.product = np.empty(shape)
        self.parts = np.empty((parts, *shape))
        self.sums = np.empty((parts, shape[1]))

    def keep(self, which: NDArray[np.intp], parts: int) -> None:
        self.columns = self.columns[which]
        for name in ("residual", "direction", "image", "total"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[:, which]))
        self.allocate(parts)


def _multiply(operator: CrossedOperator, workers: Workers, state: _State) -> Array:
    """``product = O image``; returns ``p'(I + H'O H)p`` by column."""
    a = operator.layout

    def leaf(i: int, first: int, last: int) -> None:
        kernels.apply_leaf(
            a.indptr, a.index, a.value, operator.N, state.image, state.parts[i], first, last
        )

    def core(i: int, first: int, last: int) -> None:
        kernels.finish_product(
            *a.off_diagonal,
            a.first,
            a.width,
            operator.leaf_part,
            state.parts,
            state.direction,
            state.image,
            state.product,
            state.sums[i],
            first,
            last,
        )

    workers.run(leaf, workers.leaf)
    workers.run(core, workers.core)
    return np.asarray(state.sums.sum(axis=0))


def _advance(operator: CrossedOperator, workers: Workers, state: _State, alpha: Array) -> Array:
    """Take the step; returns the squared norms of the residuals."""
    a = operator.layout

    def run(i: int, first: int, last: int) -> None:
        kernels.step(
            a.first,
            a.width,
            operator.H_rows,
            alpha,
            state.direction,
            state.product,
            state.residual,
            state.total,
            state.sums[i],
            first,
            last,
        )

    workers.run(run, workers.core)
    return np.asarray(state.sums.sum(axis=0))


def _turn(operator: CrossedOperator, workers: Workers, state: _State, beta: Array) -> None:
    a = operator.layout

    def run(_i: int, first: int, last: int) -> None:
        kernels.turn(
            a.first,
            a.width,
            operator.H_rows,
            beta,
            state.residual,
            state.direction,
            state.image,
            first,
            last,
        )

    workers.run(run, workers.core)


def conjugate_gradients(
    operator: CrossedOperator,
    workers: Workers,
    b: Array,
    tolerance: Array,
    max_steps: int,
) -> Solutions:
    """Solve for all columns of ``b`` (n_core, k) until ``|r| <= tolerance |b|`` in each.

    Raises
    ------
    LikelihoodError : a column has not converged after ``max_steps``, or a direction has no
        positive curvature (a matrix that is not positive definite).
    """
    n, k = b.shape
    parts = len(workers.leaf)
    state = _State(operator, b, parts)
    squares = np.einsum("ij,ij->j", b, b)
    limit = tolerance**2 * squares
    h, residual, first = np.zeros((n, k)), np.empty((n, k)), np.zeros((n, k))
    residual[:] = b
    alphas: list[Array] = []
    betas: list[Array] = []
    steps = np.zeros(k, dtype=np.int64)
    working = squares > limit
    while working.any():
        if len(alphas) == max_steps:
            _fail(working, squares, limit, tolerance, max_steps)
        at = state.columns
        if len(at) - working[at].sum() >= max(1, len(at) // 4):
            done = ~working[at]
            h[:, at[done]] = state.total[:, done]
            residual[:, at[done]] = state.residual[:, done]
            state.keep(np.flatnonzero(~done), parts)
            at = state.columns
        curvature = _multiply(operator, workers, state)
        active = working[at]
        if not np.all(curvature[active] > 0.0):
            raise LikelihoodError(
                "The core of the crossed design must be positive definite.",
                f"curvature {float(curvature[active].min()):.3g} along a direction of "
                f"conjugate gradients, step {len(alphas) + 1}",
                "rescale the predictors with random slopes",
            )
        if not alphas:
            first[:, at] = state.product
        alpha = np.where(active, squares[at] / np.where(active, curvature, 1.0), 0.0)
        new = _advance(operator, workers, state, alpha)
        beta = np.where(active, new / np.where(active, squares[at], 1.0), 0.0)
        alphas.append(_spread(alpha, at, k))
        betas.append(_spread(beta, at, k))
        steps += working
        squares[at] = np.where(active, new, squares[at])
        working = squares > limit
        if working.any():
            _turn(operator, workers, state, beta)
    h[:, state.columns] = state.total
    residual[:, state.columns] = state.residual
    shape = (len(alphas), k)
    return Solutions(h, residual, first, np.reshape(alphas, shape), np.reshape(betas, shape), steps)


def _spread(values: Array, at: NDArray[np.intp], k: int) -> Array:
    out = np.zeros(k)
    out[at] = values
    return out


def _fail(
    working: NDArray[np.bool_], squares: Array, limit: Array, tolerance: Array, max_steps: int
) -> None:
    worst = float(np.max(np.sqrt(squares[working] / limit[working]) * tolerance[working]))
    raise LikelihoodError(
        "Conjugate gradients must converge.",
        f"{int(working.sum())} of {len(working)} right-hand sides not solved after {max_steps} "
        f"steps; largest relative residual {worst:.2e}, tolerance "
        f"{float(tolerance[working].min()):.0e}",
        "use a direct engine (dense or sparse core): the design is close to nested or the "
        "variances are very large against the residual variance",
    )


def log_quadrature(solutions: Solutions, squares: Array, columns: slice) -> Array:
    """``z'(log(M) + I - M)z`` per column by Gauss quadrature, ``M = I + H'O H``, z = b.

    ``squares`` (k,) are ``z'z`` of all columns. The part ``I - M`` is the control variate: its
    trace is zero exactly. Golub & Meurant 2010; Ubaru, Chen & Saad 2017.
    """
    out = []
    chosen = range(len(squares))[columns]
    for c in chosen:
        m = int(solutions.steps[c])
        if m == 0:
            out.append(0.0)
            continue
        alpha, beta = solutions.alpha[:m, c], solutions.beta[:m, c]
        T = np.diag(1.0 / alpha)
        if m > 1:
            at = np.arange(m - 1)
            T[at + 1, at + 1] += beta[:-1] / alpha[:-1]
            T[at, at + 1] = T[at + 1, at] = np.sqrt(beta[:-1]) / alpha[:-1]
        values, vectors = np.linalg.eigh(T)
        values = np.maximum(values, np.finfo(float).tiny)
        out.append(float(squares[c] * (vectors[0] ** 2 @ (np.log(values) + 1.0 - values))))
    return np.array(out)
