"""The criterion of a mixed structural model, through the engines of generalized models.

``MixedLayout`` stacks the entries into a ``GeneralizedProblem`` whose parameters ``psi`` are smooth
functions of the structural ones; ``MixedObjective`` is ``-2 log L`` in the latter, with the exact
gradient by the chain rule. Conventions: ``mixed_map`` and the room ``likelihood.generalized``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.row import Response
from multilevel.likelihood.structural.mixed_engine import FreeFactor, make_engine
from multilevel.likelihood.structural.mixed_map import MixedMap, factor_of, pivots_of
from multilevel.likelihood.structural.mixed_rows import KindRows, MixedRowsOf

Array = NDArray[np.float64]
Numbers = NDArray[Any]
Column = tuple[int, str, int]  # effect, what ("1", "x", "y" or a cluster column), which
_STEP = 1e-30


@dataclass(frozen=True)
class MixedBlock:
    """Random effects of one grouping: its name, the effects that vary, the pivots of G."""

    name: str
    effects: tuple[int, ...]
    pivots: tuple[int, ...]


@dataclass(frozen=True)
class MixedLayout:
    """A mixed structural model as a generalized problem.

    Attributes
    ----------
    design, map : what it was made of.
    problem : entries of all kinds, kind after kind.
    columns : meaning of the fixed effects of part 0.
    extra_parts : per kind the parts after the mean; of Gaussian kinds the log residual variance.
    extra_free : per kind where its parts stand in theta; empty for Gaussian kinds.
    blocks : in the order of the problem's blocks, with their place among the map's covariances.
    places : of each block among ``Predictors.covariances``.
    n_structural : free parameters of the table; the other parameters follow.
    """

    design: MixedDesign
    map: MixedMap
    problem: GeneralizedProblem
    columns: tuple[Column, ...]
    extra_parts: tuple[tuple[int, ...], ...]
    extra_free: tuple[tuple[int, ...], ...]
    blocks: tuple[MixedBlock, ...]
    places: tuple[int, ...]
    n_structural: int

    @property
    def ranks(self) -> tuple[int, ...]:
        """Dimensions of the integral by block."""
        return tuple(len(b.pivots) for b in self.blocks)

    def psi(self, theta: Numbers) -> tuple[Numbers, Any]:
        """Parameters of the generalized problem, and -2 log density of level-2 variables.

        Raises
        ------
        LikelihoodError : parameters at which the model does not exist.
        """
        at = self.map.predictors(theta)
        names = [f.name for f in self.design.factors]
        out = []
        for kind, what, which in self.columns:
            if what == "1":
                out.append(at.intercept[kind])
            elif what == "x":
                out.append(at.inputs[kind, which])
            elif what == "y":
                out.append(at.outcomes[kind, which])
            else:
                out.append(at.z[names.index(what)][kind, which])
        for kind, free in enumerate(self.extra_free):
            out += [theta[k] for k in free] if free else list(
                at.log_variance[kind : kind + 1][: len(self.extra_parts[kind])])  # fmt: skip
        pieces = [np.array(out, dtype=theta.dtype)]
        for block, place in zip(self.blocks, self.places, strict=True):
            G = at.covariances[place][np.ix_(block.effects, block.effects)]
            pieces.append(factor_of(G, block.pivots, block.name).ravel())
        return np.concatenate(pieces), at.minus2_loglik


def extra_names(design: MixedDesign) -> list[tuple[int, str]]:
    """Outcome and part of every parameter that is not in the table, in their order."""
    return [
        (k, part.name)
        for k, (name, family) in enumerate(zip(design.outcomes, design.families, strict=True))
        if not design.model.is_gaussian(name)
        for part in family.parts[1:]
    ]


def lay_out_mixed(design: MixedDesign, theta: Array, pattern: Array) -> MixedLayout:
    """Stack the entries.

    Parameters
    ----------
    theta : (q,) a point at which the model exists: the ranks of covariance matrices are read there.
    pattern : (q,) the same with slopes and means away from zero: what is not zero there can occur.

    Raises
    ------
    LikelihoodError : entries that need a predictor that is missing in their row.
    """
    mapping = MixedMap(design)
    n_s = len(design.model.free_names)
    at = mapping.predictors(pattern)
    columns = _columns(design, at)
    extras = extra_names(design)
    parts: list[tuple[int, ...]] = []
    free: list[tuple[int, ...]] = []
    n_parts = 1
    for kind in design.kinds:
        own = design.families[kind.outcome].parts[1:]
        parts.append(tuple(range(n_parts, n_parts + len(own))))
        n_parts += len(own)
        free.append(tuple(n_s + i for i, (k, _) in enumerate(extras) if k == kind.outcome))
    kind_of = np.repeat(np.arange(len(design.kinds)), [len(k.rows) for k in design.kinds])
    row_of = np.concatenate([k.rows for k in design.kinds])
    X = _fixed(design, columns, kind_of, row_of)
    one = np.ones((len(row_of), 1), order="F")
    ends = np.cumsum([0, *(len(k.rows) for k in design.kinds)])
    rows_of = MixedRowsOf(
        tuple(
            KindRows(design.families[k.outcome], k.response,
                     np.arange(ends[i], ends[i + 1]), (0, *parts[i]))
            for i, k in enumerate(design.kinds)
        ),
        len(row_of),
    )  # fmt: skip
    found = _blocks(design, mapping, at.covariances, mapping.predictors(theta).covariances,
                    kind_of, row_of)  # fmt: skip
    problem = GeneralizedProblem(
        response=Response(np.concatenate([k.response.y for k in design.kinds])),
        fixed=(FixedPart(X), *(FixedPart(one) for _ in range(n_parts - 1))),
        blocks=tuple(block for block, _, _ in found),
        rows_of=rows_of,
    )
    return MixedLayout(
        design, mapping, problem, columns, tuple(parts), tuple(free),
        tuple(b for _, b, _ in found), tuple(p for _, _, p in found), n_s,
    )  # fmt: skip


def _columns(design: MixedDesign, at: Any) -> tuple[Column, ...]:
    out: list[tuple[int, str, Any]] = []
    for i in range(len(at.intercept)):
        if at.intercept[i] != 0.0:
            out.append((i, "1", 0))
        if i < len(design.kinds):
            out += [(i, "x", k) for k in np.flatnonzero(at.inputs[i])]
            out += [(i, "y", k) for k in np.flatnonzero(at.outcomes[i])]
        for factor, slopes in zip(design.factors, at.z, strict=True):
            out += [(i, factor.name, k) for k in np.flatnonzero(slopes[i])]
    return tuple((effect, what, int(which)) for effect, what, which in out)


def _base(design: MixedDesign, effect: int, rows: NDArray[Any]) -> Array:
    """What an effect is multiplied by in some rows of the design: one, or a slope's predictor."""
    slope = effect // len(design.kinds) - 1
    if slope < 0:
        return np.ones(len(rows))
    outcome = design.outcomes[design.kinds[effect % len(design.kinds)].outcome]
    name = design.model.slopes[slope].predictor
    if name in design.inputs:
        return np.asarray(design.given[rows, design.inputs.index(name)])
    return _observed(design, outcome, design.outcomes.index(name), rows)


def _observed(design: MixedDesign, outcome: str, which: int, rows: NDArray[Any]) -> Array:
    """The values of a predictor of ``outcome`` that is an outcome itself.

    Raises
    ------
    LikelihoodError : missing ones.
    """
    value = design.values[rows, which]
    missing = np.flatnonzero(np.isnan(value))
    if len(missing):
        shown = ", ".join(str(int(r)) for r in rows[missing][:5])
        raise LikelihoodError(
            f"Rows with {outcome} have its predictors too.",
            f"{design.outcomes[which]} is missing in {len(missing)} of them (analysed rows "
            f"{shown}{', ...' if len(missing) > 5 else ''}, counted from 0)",
            'write missing="listwise" to leave these rows out, or impute the predictor',
        )
    return np.asarray(value)


def _fixed(
    design: MixedDesign, columns: Sequence[Column], kind_of: NDArray[np.intp], row_of: NDArray[Any]
) -> Array:
    """Fixed effects of part 0 (N, p), Fortran order."""
    X = np.zeros((len(row_of), len(columns)), order="F")
    factors = {f.name: f for f in design.factors}
    for c, (effect, what, which) in enumerate(columns):
        kind = effect % len(design.kinds)
        here = np.flatnonzero(kind_of == kind)
        rows = row_of[here]
        if what == "1":
            X[here, c] = _base(design, effect, rows)
        elif what == "x":
            X[here, c] = design.given[rows, which]
        elif what == "y":
            outcome = design.outcomes[design.kinds[kind].outcome]
            X[here, c] = _observed(design, outcome, which, rows)
        else:
            z = factors[what].z[factors[what].codes[rows], which]
            X[here, c] = z * _base(design, effect, rows)
    return X


def _blocks(
    design: MixedDesign,
    mapping: MixedMap,
    pattern: tuple[Numbers, ...],
    covariances: tuple[Numbers, ...],
    kind_of: NDArray[np.intp],
    row_of: NDArray[Any],
) -> list[tuple[EffectBlock, MixedBlock, int]]:
    """Random effects by row and by cluster column, by decreasing number of levels."""
    groups: list[tuple[str, NDArray[np.int32], int]] = []
    if mapping.has_rows:
        groups.append(("rows", row_of.astype(np.int32), design.n_rows))
    groups += [(f.name, f.codes[row_of], len(f.labels)) for f in design.factors]
    out = []
    for place, (name, codes, n_levels) in enumerate(groups):
        effects = np.flatnonzero(np.diag(pattern[place]))
        if not len(effects):
            continue
        pivots = pivots_of(covariances[place][np.ix_(effects, effects)])
        if not pivots:
            continue
        columns = np.zeros((len(row_of), len(effects)), order="F")
        for c, effect in enumerate(effects):
            here = np.flatnonzero(kind_of == effect % len(design.kinds))
            columns[here, c] = _base(design, int(effect), row_of[here])
        width = len(effects)
        block = EffectBlock(codes, n_levels, columns, (0,) * width, FreeFactor(width))
        out.append((block, MixedBlock(name, tuple(map(int, effects)), pivots), place))
    out.sort(key=lambda found: -found[0].n_levels)
    return out


class MixedObjective:
    """``-2 log L`` of the structural parameters ``theta`` (q,).

    Parameters
    ----------
    layout : the stacked problem.
    points : quadrature points per dimension; 1 is Laplace.

    Attributes
    ----------
    engine : the objective of the generalized problem.
    """

    def __init__(self, layout: MixedLayout, points: int | tuple[int, ...] = 1) -> None:
        self.layout, self.problem = layout, layout.problem
        self.engine: GeneralizedObjective = make_engine(layout.problem, layout.ranks, points)
        self.points: tuple[int, ...] = self.engine.points
        self.method, self.plan = self.engine.method, self.engine.plan
        self.n_evaluations = 0
        self.theta: Array = np.empty(0)
        self._jacobian: tuple[Array, Array, Array] | None = None

    def value(self, theta: Array) -> float:
        """The criterion; sets the point.

        Raises
        ------
        LikelihoodError : parameters at which the likelihood does not exist.
        """
        self.n_evaluations += 1
        theta = np.array(theta, dtype=np.float64)
        with np.errstate(over="raise", invalid="raise"):
            try:
                psi, level_2 = self.layout.psi(theta)
            except FloatingPointError as error:
                raise LikelihoodError(
                    "Parameters are finite.", "parameters that overflow", "take a shorter step"
                ) from error
        self.theta = theta
        return self.engine.value(np.asarray(psi)) + float(level_2)

    def jacobian(self) -> tuple[Array, Array]:
        """``d psi / d theta`` (P, q), and the gradient (q,) of the level-2 density, exact."""
        if self._jacobian is not None and np.array_equal(self._jacobian[0], self.theta):
            return self._jacobian[1:]
        q = len(self.theta)
        J, slope = np.empty((self.problem.n_parameters, q)), np.zeros(q)
        for a in range(q):
            moved = self.theta.astype(np.complex128)
            moved[a] += 1j * _STEP
            psi, level_2 = self.layout.psi(moved)
            J[:, a] = psi.imag / _STEP
            slope[a] = np.imag(level_2) / _STEP
        self._jacobian = self.theta.copy(), J, slope
        return J, slope

    def gradient(self) -> Array:
        """(q,) gradient at the point last set, exact."""
        J, slope = self.jacobian()
        return np.asarray(J.T @ self.engine.gradient() + slope)

    def cluster_scores(self) -> Array | None:
        """(J, q) derivatives of each cluster's log-likelihood; None where clusters are crossed."""
        if len(self.layout.design.factors) > 1 or not self.problem.blocks:
            return None
        found = self.engine.cluster_scores()
        if found is None:
            return None
        J, _ = self.jacobian()
        out = found @ J
        if self.layout.design.factors:
            for a in range(len(self.theta)):
                moved = self.theta.astype(np.complex128)
                moved[a] += 1j * _STEP
                out[:, a] -= 0.5 * self.layout.map.z_scores(moved, 0).imag / _STEP
        return np.asarray(out)
