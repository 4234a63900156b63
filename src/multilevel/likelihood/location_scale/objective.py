"""``-2 log L`` of a Gaussian location-scale model by quadrature over the scale effect alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.clusters import sort_by_cluster
from multilevel.likelihood.generalized.families.gaussian import Gaussian
from multilevel.likelihood.generalized.grid import gauss_hermite, log_sum
from multilevel.likelihood.generalized.nested_error import compare_with_more, more_points
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.related_layout import is_general
from multilevel.likelihood.location_scale.conditional import Conditional
from multilevel.likelihood.location_scale.sums import row_adjoints, sum_rows

Array = NDArray[np.float64]

LEAST_VARIANCE = 1e-10  # added to the variance of the scale effect
MAX_STEPS = 100
SETTLED = 1e-11  # Newton step in v
#: Offsets, in posterior standard deviations, of differences that take derivatives at the mode.
OFFSETS = 0.25 * np.arange(-4.0, 5.0)


def _differences(order: int) -> Array:
    """Weights over ``OFFSETS`` of the derivative of this order, exact to degree 8."""
    powers = np.vander(OFFSETS, increasing=True).T
    wanted = np.zeros(len(OFFSETS))
    wanted[order] = float(order)  # order! for orders 1 and 2
    return np.asarray(np.linalg.solve(powers, wanted))


_FIRST, _SECOND = _differences(1), _differences(2)


def reduces(problem: GeneralizedProblem) -> bool:
    """Whether this objective holds: a Gaussian response (identity link), one grouping factor with
    location effects and one random intercept of the log residual variance."""
    if len(problem.blocks) != 1 or problem.n_parts != 2 or is_general(problem):
        return False
    block = problem.blocks[0]
    parts = np.array(block.parts)
    if (parts == 1).sum() != 1 or (parts == 0).sum() < 1:
        return False
    if not np.all(block.columns[:, int(np.flatnonzero(parts == 1)[0])] == 1.0):
        return False
    rows = problem.row_likelihood()
    return isinstance(rows, Gaussian) and rows.is_direct


class LocationScale:
    """Quadrature over the scale effect, exact in the location effects (``GeneralizedObjective``).

    ``modes`` holds the mode of the scale effect given y and the expected location effects given
    that mode, in spherical coordinates.

    Parameters
    ----------
    problem : one for which ``reduces`` holds.
    points : quadrature points; with one, the Laplace approximation in the scale effect.
    """

    def __init__(self, problem: GeneralizedProblem, points: int) -> None:
        if not reduces(problem):
            raise LikelihoodError(
                "This objective needs a Gaussian response, one grouping factor, location effects "
                "and one random intercept of the log residual variance.",
                f"{len(problem.blocks)} factor(s), {problem.n_parts} parts",
                "build the objective with make_objective",
            )
        self.problem = problem
        self.points: tuple[int, ...] = (points,)
        self.method = "Laplace" if points == 1 else "adaptive quadrature"
        self.grid = gauss_hermite(points, 1)
        self.rows = sort_by_cluster(problem)
        likelihood = self.rows.sorted.likelihood
        if not isinstance(likelihood, Gaussian):  # reduces() has looked; this tells the type
            raise LikelihoodError("The response must be Gaussian.", "another one", "see reduces")
        self._gaussian = likelihood
        parts = np.array(problem.blocks[0].parts)
        self._at = int(np.flatnonzero(parts == 1)[0])
        self._location = np.flatnonzero(parts == 0)
        self._Z = np.ascontiguousarray(self.rows.Z[self._location])
        self._cluster = np.repeat(np.arange(self.rows.n_clusters), np.diff(self.rows.ptr))
        J, q = self.rows.n_clusters, len(parts)
        self._start_u: Array | None = None
        self._v = np.zeros(J)
        self._moved = np.ones(J), np.zeros((J, points))  # sd and node weights at the last point
        self._rho, self._LamBar = np.zeros((2, problem.n)), np.zeros((J, q, q))
        self.psi, self.criterion = np.zeros(problem.n_parameters), np.nan
        self.n_evaluations = 0
        self._log_value = np.zeros(J)
        self.plan = (
            f"Gaussian location-scale model, one grouping factor ({J} clusters): location effects "
            "integrated exactly, quadrature over the scale effect alone"
        )

    # -- the three calls -----------------------------------------------------------------------

    def value(self, psi: Array) -> float:
        """``-2 log L`` at ``psi`` (P,).

        Raises
        ------
        LikelihoodError : parameters that are not finite, no mode, or a value that overflows.
        """
        psi = np.array(psi, dtype=float)
        self.n_evaluations += 1
        if not np.isfinite(psi).all():
            raise _none(f"parameters {psi.tolist()}")
        problem, sorted_rows = self.problem, self.rows.sorted
        eta = sorted_rows.fixed_predictors([psi[s] for s in problem.fixed_slices])
        Lam = problem.factors(psi)[0]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            log_variance = self._gaussian.log_variance(eta[1])
            sums = sum_rows(
                self._gaussian.y - eta[0], log_variance, self._Z, self.rows.ptr[:-1],
                self._gaussian.frequency,
            )  # fmt: skip
            if not (np.isfinite(sums.e).all() and np.isfinite(sums.A).all()):
                raise _none("residual variances that overflow")
            s, m, C = self._given_scale(Lam)
            self._conditional = Conditional(sums, m, C, s)
            if self._start_u is not None:
                self._v = self._start_u @ Lam[self._at] / s
                self._start_u = None
            self._v = self._modes_of(self._conditional, self._v)
            self._integrate(Lam)
        total = float(self._log_value.sum())
        if not np.isfinite(total):
            raise _none("a likelihood that is not finite")
        self.psi, self.criterion = psi, -2.0 * total
        return self.criterion

    def _given_scale(self, Lam: Array) -> tuple[float, Array, Array]:
        """``s``, ``m`` (q,), ``C`` (q, q)."""
        G = Lam @ Lam.T
        s = float(np.sqrt(G[self._at, self._at] + LEAST_VARIANCE))
        m = G[self._location, self._at] / s
        return s, m, G[np.ix_(self._location, self._location)] - np.outer(m, m)

    def _modes_of(self, conditional: Conditional, v: Array) -> Array:
        """Modes (J,) of ``log f(y|v) - v^2/2`` by Newton steps, halved where they lead down."""
        for start in (v, np.zeros_like(v)):
            v = np.where(np.isfinite(start), start, 0.0)
            height = conditional.value(v[:, None])[:, 0]
            for _ in range(MAX_STEPS):
                first, second = (x[:, 0] for x in conditional.derivatives(v[:, None]))
                step = first / np.maximum(-second, 0.25)
                step = np.clip(step, -3.0, 3.0)
                if np.all(np.abs(step) < SETTLED * (1.0 + np.abs(v))):
                    return v
                for _halving in range(30):
                    trial = v + step
                    reached = conditional.value(trial[:, None])[:, 0]
                    worse = ~(reached >= height - 1e-9 * (1.0 + np.abs(height)))
                    if not worse.any():
                        break
                    step = np.where(worse, step / 2.0, step)
                else:
                    break
                v, height = trial, reached
        raise _none(f"scale effects without a mode after {MAX_STEPS} steps")

    def _integrate(self, Lam: Array) -> None:
        """Value and gradient pieces at the modes."""
        given, v = self._conditional, self._v[:, None]
        curvature = given.derivatives(v)[1][:, 0]
        if not np.all(curvature < 0.0):
            raise _none("a mode of the scale effect that is no maximum")
        sd = 1.0 / np.sqrt(-curvature)
        t = self.grid.nodes[:, 0]
        nodes = v + sd[:, None] * t
        log_total, weights = log_sum(given.value(nodes) + self.grid.log_weights)
        self._log_value = log_total + np.log(sd)
        self._moved = sd, weights
        slope = given.derivatives(nodes)[0]
        near = v + sd[:, None] * OFFSETS
        third = given.derivatives(near)[1] @ _FIRST / sd
        along = (weights * slope).sum(axis=1)
        across = (weights * slope * t).sum(axis=1) + 1.0 / sd
        c = 0.5 * across * sd**3
        a = sd**2 * (along + c * third)
        pull = (a / sd)[:, None] * _FIRST + (c / sd**2)[:, None] * _SECOND
        found = given.adjoints(
            np.concatenate([nodes, near], axis=1), np.concatenate([weights, pull], axis=1)
        )
        self._rho = row_adjoints(
            given.sums, self._Z, self._cluster, found.e, found.g, found.A, self._gaussian.frequency
        )
        m_bar = found.m - 2.0 * (found.C @ given.m)
        s_bar = found.s - m_bar @ given.m / given.s
        J, q = len(sd), len(Lam)
        G_bar = np.zeros((J, q, q))
        G_bar[np.ix_(np.arange(J), self._location, self._location)] = found.C
        half = m_bar / (2.0 * given.s)
        G_bar[:, self._location, self._at] = half
        G_bar[:, self._at, self._location] = half
        G_bar[:, self._at, self._at] = s_bar / (2.0 * given.s)
        self._LamBar = 2.0 * (G_bar @ Lam)

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,) at the point last set."""
        theta = np.tensordot(self._basis, self._LamBar.sum(axis=0), axes=2)
        return np.concatenate([-2.0 * self.rows.sorted.total(self._rho), -2.0 * theta])

    @property
    def _basis(self) -> Array:
        return self.problem.factor_slopes(self.psi)[0]

    # -- by cluster ----------------------------------------------------------------------------

    def cluster_scores(self) -> Array:
        """``d log L_j / d psi`` (J, P) by level; zeros for levels without rows."""
        rows, p = self.rows, self.problem.n_fixed
        out = np.zeros((rows.n_levels, self.problem.n_parameters))
        out[rows.levels, :p] = rows.sorted.by_cluster(self._rho, rows.ptr[:-1])
        out[rows.levels, p:] = np.tensordot(self._LamBar, self._basis, axes=([1, 2], [1, 2]))
        return out

    def log_likelihoods(self) -> Array:
        """``log L_j`` (J,) by level at the point last set; zeros for levels without rows."""
        out = np.zeros(self.rows.n_levels)
        out[self.rows.levels] = self._log_value
        return out

    def modes(self) -> list[Array]:
        """Spherical effects (J, q + 1) at the mode of the scale effect."""
        J, q = self._LamBar.shape[:2]
        b = np.empty((J, q))
        b[:, self._location] = self._conditional.location(self._v)
        b[:, self._at] = self._conditional.s * self._v
        return [self._spherical(b)]

    def means(self) -> list[Array]:
        """Posterior means of the spherical effects: one array (J, q + 1)."""
        return [self._spherical(self._posterior()[0])]

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """Posterior covariance of the spherical effects (J', q + 1, q + 1) by the quadrature."""
        if block != 0:
            raise LikelihoodError(
                "This model has one grouping factor, block 0.", f"block {block}", "ask for block 0"
            )
        inverse, empty = self._inverse()
        out = np.broadcast_to(np.eye(len(empty)), (self.rows.n_levels, *empty.shape)).copy()
        out[self.rows.levels] = inverse @ self._posterior()[1] @ inverse.T + empty
        return out if levels is None else out[np.asarray(levels)]

    def _posterior(self) -> tuple[Array, Array]:
        """Mean and covariance of the effects themselves, columns in the order of the block."""
        sd, weights = self._moved
        nodes = self._v[:, None] + sd[:, None] * self.grid.nodes[:, 0]
        mean, covariance = self._conditional.posterior(nodes, weights)
        back = np.empty(len(self._location) + 1, dtype=np.intp)
        back[[*self._location, self._at]] = np.arange(len(back))
        return mean[:, back], covariance[:, back][:, :, back]

    def _inverse(self) -> tuple[Array, Array]:
        """Pseudo-inverse of ``Lambda`` and the projector on what it sends to zero."""
        Lam = self.problem.factors(self.psi)[0]
        inverse = np.asarray(np.linalg.pinv(Lam, rcond=1e-8), dtype=np.float64)
        return inverse, np.eye(len(Lam)) - inverse @ Lam

    def _spherical(self, b: Array) -> Array:
        out = np.zeros((self.rows.n_levels, b.shape[1]))
        out[self.rows.levels] = b @ self._inverse()[0].T
        return out

    def set_modes(self, modes: Sequence[Array]) -> None:
        """Start the next search from these (J, q + 1)."""
        start = np.asarray(modes[0], dtype=float)
        wanted = (self.rows.n_levels, self._LamBar.shape[1])
        if start.shape != wanted or not np.isfinite(start).all():
            raise LikelihoodError(
                f"Modes must be a finite array of shape {wanted}.",
                f"shape {start.shape}",
                "pass what modes() returned for a model of this size",
            )
        self._start_u = start[self.rows.levels]

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Error at the point last set, against more points (nothing is drawn).

        Raises
        ------
        LikelihoodError : arguments that no objective could use.
        """
        if not isinstance(rng, np.random.Generator) or draws < 0:
            raise LikelihoodError(
                "An error estimate takes a NumPy random generator and a number of draws.",
                f"{type(rng).__name__}, {draws}",
                "pass numpy.random.default_rng(seed) and a few hundred",
            )
        wanted = more_points(self.points[0], 1) or self.points[0] + 2
        finer = LocationScale(self.problem, wanted)
        finer.set_modes(self.modes())
        return compare_with_more(self.criterion, finer.value(self.psi), self.points[0], wanted)


def _none(what: str) -> LikelihoodError:
    return LikelihoodError(
        "Every cluster needs a finite likelihood with one mode of its scale effect.",
        what,
        "take a shorter step, rescale the predictors, or look for clusters without any spread",
    )
