r"""Laplace's approximation for any number of grouping factors: nested, crossed, anything between.

All random effects are found together and integrated by one determinant; the storage of ``H`` is
chosen once by size and pattern. The gradient is exact; it needs ``H^-1`` only where random effects
meet in a row, so a sparse ``H`` never fills. ``Lambda`` is never inverted: singular covariances
need no care. Formulas and conventions: the room's docstring.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import row_kernels as kernels
from multilevel.likelihood.generalized.correction import Correction
from multilevel.likelihood.generalized.joint_error import (
    JointSample,
    sample_jointly,
    sampled_error,
    second_order,
    second_order_error,
)
from multilevel.likelihood.generalized.leaf_sampling import (
    NODES,
    LeafIntegrator,
    sample_given_leaf,
)
from multilevel.likelihood.generalized.mode_search import ModePoint, ModeSearch
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.related_layout import Prior
from multilevel.likelihood.generalized.row import RowDerivatives
from multilevel.likelihood.generalized.row_layout import RowLayout, lay_out_rows
from multilevel.likelihood.generalized.storage_choice import StoragePlan, choose_storage
from multilevel.likelihood.generalized.working_information import working_information

Array = NDArray[np.float64]
# draws of the other random effects when the finest factor is integrated: at least, and by rows
FEWEST_DRAWS, ROW_BUDGET = 50, 5_000_000


class CrossedLaplace:
    """``-2 log L`` by Laplace's approximation (``GeneralizedObjective``).

    Parameters
    ----------
    problem : the frozen arrays, with at least one grouping factor.
    storage : ``"dense"``, ``"leaf"`` or ``"sparse"`` to force one (tests); None chooses.

    Attributes
    ----------
    order : order of the largest dense matrix (for the number of threads).

    Raises
    ------
    LikelihoodError : no grouping factor, or a design too large for memory.
    """

    method = "Laplace"

    def __init__(self, problem: GeneralizedProblem, storage: str | None = None) -> None:
        if not problem.blocks:
            raise LikelihoodError(
                "A Laplace approximation needs random effects.",
                "a model without grouping factors",
                "use a generalized linear model",
            )
        self.problem = problem
        self.points = tuple(1 for _ in problem.blocks)
        self.layout, chosen = self._lay_out(storage)
        self.plan, self.order = chosen.sentence, chosen.order
        self.storage = chosen.make(self.layout)
        self.rows = problem.row_likelihood(self.layout.order)
        self.index = self.layout.index(self.storage.effects)
        relations = self.layout.relations
        prior = Prior(relations, self.storage.effects) if relations else None
        self.search = ModeSearch(self.rows, self.index, self.storage, chosen.ratio, prior)
        self.n_evaluations = 0
        self._u = np.zeros(self.layout.n_effects)
        self._random = list(problem.random_parts)
        self._one_group = np.zeros(self.layout.n, np.int32)
        self._Z: Array = np.empty((0, 0, 0))
        self._fixed: Array = np.empty((0, 0))
        self._psi, self._factors = np.zeros(problem.n_parameters), list[Array]()
        self._point: ModePoint | None = None
        self._pieces: _Pieces | None = None
        self._derivatives: RowDerivatives | None = None

    def _lay_out(self, storage: str | None) -> tuple[RowLayout, StoragePlan]:
        """The rows in their order, and how ``H`` is kept."""
        layout = lay_out_rows(self.problem)
        return layout, choose_storage(layout, storage)

    # -- value ---------------------------------------------------------------------------------

    def value(self, psi: Array) -> float:
        """The criterion at ``psi`` (P,); see ``GeneralizedObjective``."""
        self._point = self._pieces = self._derivatives = None
        psi = np.asarray(psi, np.float64)
        if psi.shape != (self.problem.n_parameters,) or not np.isfinite(psi).all():
            raise LikelihoodError(
                "Parameters must be finite numbers, one for each of the model's parameters.",
                f"shape {psi.shape}, {int((~np.isfinite(psi)).sum())} not finite",
                f"pass {self.problem.n_parameters} finite numbers",
            )
        self.n_evaluations += 1
        self._psi, self._factors = psi.copy(), self.problem.factors(psi)
        self._Z = self.layout.scaled(self._factors)
        self._fixed = self.problem.fixed_predictors(psi)[:, self.layout.order]
        point = self.search.find(self._fixed, self._Z, self._u)
        self._point, self._u = point, point.u
        return -2.0 * point.h + self.storage.logdet

    # -- gradient ------------------------------------------------------------------------------

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,), exact."""
        scores: Array = self._scores(self._one_group, 1)[0]
        return -2.0 * scores

    def cluster_scores(self) -> Array | None:
        """(J, P) scores of the coarsest units of nested factors; None where factors are crossed."""
        layout = self.layout
        if not layout.pattern.is_chain:
            return None
        return self._scores(layout.codes[-1], layout.sizes[-1][0])

    def _scores(self, group: NDArray[np.int32], n_groups: int) -> Array:
        """``d log L / d psi`` (G, P), each row's share added to its group."""
        problem, layout = self.problem, self.layout
        if n_groups > 1 or self._pieces is None:
            pieces = self._row_adjoints(group, n_groups)
        else:
            pieces = self._pieces
        out = np.empty((n_groups, problem.n_parameters))
        for part, s, rho in zip(problem.fixed, problem.fixed_slices, pieces.rho, strict=True):
            in_design = np.empty(layout.n)
            in_design[layout.order] = rho
            if n_groups == 1:
                out[0, s] = part.X.T @ in_design
                continue
            coarse = problem.blocks[-1].codes
            for k, column in zip(range(s.start, s.stop), part.X.T, strict=True):
                out[:, k] = np.bincount(coarse, column * in_design, n_groups)
        slopes = problem.factor_slopes(self._psi)
        for t, (E, s) in enumerate(zip(slopes, problem.theta_slices, strict=True)):
            local = sum(pieces.factor_scores[:, at, at] for at, _ in layout.slots(t))
            out[:, s] = np.tensordot(local, E, axes=([1, 2], [1, 2]))
        return out

    def _row_adjoints(self, group: NDArray[np.int32], n_groups: int) -> _Pieces:
        point, layout, Z = self._set_point(), self.layout, self._Z
        R = layout.n_random
        leverage, moved = self._leverages(group, n_groups)
        d = self._row_derivatives()
        if R == 1:
            c = 0.5 * d.third[0, 0] * leverage[0, 0]
        else:
            c = 0.5 * np.einsum("rsdn,rsn->dn", d.third, leverage)
        right = np.zeros(layout.n_effects)
        kernels.add_transposed(Z, self.index, np.ascontiguousarray(c[self._random]), right)
        s = self.storage.solve(right)
        slope = np.zeros((R, layout.n))
        kernels.add_predictor(Z, self.index, s, slope)
        rho = d.first + c
        for r in range(R):
            rho += d.second[r] * slope[r]
        scores = -moved
        kernels.factor_scores(
            layout.raw, self.index, layout.part, layout.starts, group,
            np.ascontiguousarray(rho[self._random]), point.u,
            np.ascontiguousarray(d.first[self._random]), s, scores,
        )  # fmt: skip
        pieces = _Pieces(rho, scores)
        if n_groups == 1:
            self._pieces = pieces
        return pieces

    def _leverages(self, group: NDArray[np.int32], n_groups: int) -> tuple[Array, Array]:
        """``z~ H^-1 z~'`` (R, R, n) and ``sum z'(W z~ H^-1)`` (G, Q, Q) by group."""
        layout, point = self.layout, self._set_point()
        Q, R = layout.raw.shape[1], layout.n_random
        leverage = np.empty((R, R, layout.n))
        moved = np.zeros((n_groups, Q, Q))
        kernels.leverages(
            self._Z, point.W, self.storage.at_inverse, self.storage.inverse(), layout.raw,
            layout.part, layout.starts, group, leverage, moved,
        )  # fmt: skip
        return leverage, moved

    def information(self) -> Array:
        """Approximate ``-d2 log L / d psi d psi'`` (P, P): that of the working linear model."""
        point = self._set_point()
        return working_information(
            self.problem, self.layout, self.rows, self.storage, self.index, self._Z, point.eta,
            self._row_derivatives(), self._factors, self.problem.factor_slopes(self._psi),
        )  # fmt: skip

    def _row_derivatives(self) -> RowDerivatives:
        """Derivatives by row at the modes, once per point."""
        if self._derivatives is None:
            self._derivatives = self.rows.derivatives(self._set_point().eta)
        return self._derivatives

    def _set_point(self) -> ModePoint:
        if self._point is None:
            raise LikelihoodError(
                "The criterion must be set before it is read.",
                "no successful call of value",
                "call value(psi) first",
            )
        return self._point

    # -- random effects ------------------------------------------------------------------------

    def modes(self) -> list[Array]:
        """Conditional modes of ``u`` by block, (J_t, q_t) each."""
        u = self._set_point().u
        return [u[effects] for effects in self.storage.effects]

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """``(H^-1)_gg`` (J', q_t, q_t) of the levels of one block (all by default)."""
        self._set_point()
        places = self.storage.own_places(block)
        wanted = places if levels is None else places[np.asarray(levels, np.intp)]
        return self.storage.inverse()[wanted]

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Estimated error of the criterion: importance sampling where it is reliable.

        Else, and where ``draws`` is below 2, the second-order term of the Laplace expansion.
        """
        point = self._set_point()
        sampled = self._sample(point, rng, draws) if draws >= 2 else None
        if sampled is not None and sampled.is_reliable:
            return sampled_error(sampled)
        leverage, _ = self._leverages(self._one_group, 1)
        term = second_order(self.search, self._Z, point, leverage)
        return second_order_error(term, self.layout.n, sampled)

    def correction(self, rng: np.random.Generator, draws: int) -> Correction:
        """The error of the criterion with its draws; below 2 draws the second-order term."""
        point = self._set_point()
        if draws >= 2:
            sampled = self._sample(point, rng, draws)
            if sampled.log_weights is not None:
                pairs = np.ascontiguousarray(sampled.log_weights.T)[None]
                return Correction(2.0 * sampled.log_ratio, pairs)
        leverage, _ = self._leverages(self._one_group, 1)
        return Correction(2.0 * second_order(self.search, self._Z, point, leverage).value)

    def _sample(self, point: ModePoint, rng: np.random.Generator, draws: int) -> JointSample:
        """Draws of all random effects, or of all but the finest factor's where that is possible.

        A draw of the latter kind is worth many but takes ``NODES`` passes over the rows, so large
        data get fewer.
        """
        layout = self.layout
        if len(layout.sizes) > 1 and layout.sizes[0][1] == 1:
            leaf, codes = self.storage.effects[0][:, 0], layout.codes[0]
            inner = LeafIntegrator(self.search, leaf, codes, self._fixed, self._Z, point)
            if inner.is_possible:
                affordable = max(FEWEST_DRAWS, ROW_BUDGET // (NODES * layout.n))
                return sample_given_leaf(inner, rng, min(draws, affordable))
        return sample_jointly(self.search, self._fixed, self._Z, point, rng, draws)

    def set_modes(self, modes: Sequence[Array]) -> None:
        """Start the next search from these, (J_t, q_t) per block."""
        found = [np.shape(m) for m in modes]
        if found != list(self.layout.sizes):
            raise LikelihoodError(
                "Modes must come as (levels, columns), one array per grouping factor.",
                f"shapes {found}; expected {list(self.layout.sizes)}",
                "pass what modes() returned",
            )
        self._u = np.empty(self.layout.n_effects)
        for effects, m in zip(self.storage.effects, modes, strict=True):
            self._u[effects] = m
        self.storage.is_set = False  # its factor belongs to other modes
        self._point = self._pieces = self._derivatives = None


class _Pieces:
    """``rho`` (D, n) by row, sorted; ``factor_scores`` (G, Q, Q) ``d log L / d Lambda``."""

    def __init__(self, rho: Array, factor_scores: Array) -> None:
        self.rho, self.factor_scores = rho, factor_scores
