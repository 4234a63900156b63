"""One replicate of a bootstrap, singly or many in a compiled batch.

Every replicate has its own generator (child k of the seed), so it does not matter how many others
are drawn, in which order, or by which process. Several models can be refitted to the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RowReport
from multilevel.design.related import is_related
from multilevel.errors import DesignError, EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated, random_effects
from multilevel.estimate.prepare import Prepared, prepare, with_response
from multilevel.infer.bootstrap_draws import (
    ModelSource,
    ResidualSource,
    StatisticSource,
    row_statistics,
)
from multilevel.infer.bootstrap_rows import RowSource
from multilevel.likelihood.gaussian.batch import Responses, fit_responses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
FITTING_ERRORS = (LikelihoodError, EstimationError, DesignError)
BLOCK_DOUBLES = 8_000_000  # responses held at once by a batch: 64 MB


@dataclass(frozen=True)
class Estimates:
    """The estimates of one refit, user's units, named as in a ``Fit``."""

    beta: Array
    random_covariance: tuple[Array, ...]
    sigma2: float
    criterion: float


class Observer(Protocol):
    """What is read off a replicate besides its estimates (must be picklable)."""

    def __call__(
        self, designs: Sequence[Design], estimates: Sequence[Estimates]
    ) -> NDArray[np.float64]:
        """Numbers (k,) from the designs (with their responses) and estimates of every model."""
        ...


@dataclass(frozen=True)
class Replicate:
    """One replicate: estimates of the first model, what was observed, and a status word."""

    status: str
    estimates: Estimates | None = None
    observed: Array | None = None


@dataclass(frozen=True)
class Near:
    """Where the search for each model ended, of a replicate that a batch could not finish."""

    starts: Sequence[Array | None]


def _is_one_factor(problem: Prepared) -> bool:
    """Whether the cross-products divide by the levels of one factor."""
    return problem.cross.n_blocks == 1 and not is_related(problem.design.blocks)


@dataclass(frozen=True)
class Refits:
    """What every replicate is: draws, and refits of every model to them.

    Attributes
    ----------
    problems, fits : the models, the first of which rules the draws; all of the same rows.
    source : what is drawn.
    observe : what is read off each replicate, or None.
    """

    problems: tuple[Prepared, ...]
    fits: tuple[Fit, ...]
    source: StatisticSource | ModelSource | ResidualSource | RowSource
    observe: Observer | None = None

    @classmethod
    def of(
        cls,
        problems: Sequence[Prepared],
        fits: Sequence[Fit],
        kind: str,
        observe: Observer | None = None,
    ) -> Refits:
        """Choose the source: sufficient statistics where rows are not needed.

        Raises
        ------
        InferenceError : rows that cannot be drawn in this way (``RowSource.of``),
            a residual structure.
        """
        for problem in problems:
            if problem.design.residual is not None:
                raise InferenceError(
                    "Bootstraps are for independent residuals of one variance, up to weights.",
                    "a model with a residual structure",
                    'use confint(method="wald")',
                )
        first, fit = problems[0], fits[0]
        source: StatisticSource | ModelSource | ResidualSource | RowSource
        if kind in ("cluster", "pigeonhole"):
            source = RowSource.of([p.design for p in problems], kind)
        elif kind == "residual":
            source = ResidualSource.of(first.design, fit, random_effects(first, fit))
        elif len(problems) == 1 and observe is None and _is_one_factor(first):
            source = StatisticSource.of(first.cross, evaluated(first, fit))
        else:
            source = ModelSource(first.design, fit)
        return cls(tuple(problems), tuple(fits), source, observe)

    @property
    def can_batch(self) -> bool:
        """Whether the compiled batch applies: one grouping factor, linear, the columns kept."""
        one = all(
            p.cross.n_blocks == 1 and p.design.blocks[0].structure.is_linear for p in self.problems
        )
        return one and not isinstance(self.source, RowSource)

    def one(self, seed: np.random.SeedSequence, near: Near | None = None) -> Replicate:
        """Draw and refit one replicate; what fails is its status.

        ``near`` holds start values closer to the optimum than the fits' own.
        """
        try:
            problems = self._drawn(np.random.default_rng(seed))
            starts: Sequence[Array | None] = [f.theta for f in self.fits]
            if isinstance(self.source, RowSource):
                starts = [None] * len(problems)
            elif near is not None:
                starts = near.starts
            fits = [solve(p, theta_start=t) for p, t in zip(problems, starts, strict=True)]
        except FITTING_ERRORS as error:
            return Replicate(f"failed: {error.must} {error.found}")
        status = {"certified": "ok"}.get(fits[0].certificate.status, fits[0].certificate.status)
        if not all(f.certificate.is_certified for f in fits):
            status = "not_certified"
        found = [Estimates(f.beta, f.random_covariance, f.sigma2, f.criterion) for f in fits]
        observed = None if self.observe is None else self._observed(problems, found)
        return Replicate(status, found[0], observed)

    def _drawn(self, rng: np.random.Generator) -> list[Prepared]:
        """The problems of one draw."""
        source = self.source
        if isinstance(source, StatisticSource):
            first = self.problems[0]
            return [replace(first, cross=source.draw(1, rng).cross_products(first.cross, 0))]
        if isinstance(source, RowSource):
            pairs = zip(source.draw(rng), self.problems, strict=True)
            return [prepare(design, method=problem.method) for design, problem in pairs]
        y = source.draw(rng)
        return [with_response(problem, y) for problem in self.problems]

    def _observed(self, problems: Sequence[Prepared], found: Sequence[Estimates]) -> Array | None:
        return None if self.observe is None else self.observe([p.design for p in problems], found)

    @property
    def batch_size(self) -> int:
        """Replicates that a batch holds at once."""
        if isinstance(self.source, StatisticSource):
            J, q = self.problems[0].cross.sizes[0]
            return max(1, BLOCK_DOUBLES // (4 * J * q))
        return max(1, BLOCK_DOUBLES // (3 * self.problems[0].design.n))

    def many(self, seeds: Sequence[np.random.SeedSequence]) -> list[Replicate | Near]:
        """Fit replicates in one compiled loop; start values where ``one`` must be asked.

        Only where ``can_batch``. A fit near the boundary is left to ``one``, where boundaries are
        proven.
        """
        rngs = [np.random.default_rng(seed) for seed in seeds]
        Y: Array | None = None
        if isinstance(self.source, StatisticSource):
            drawn = [self.source.draw_each(rngs)]
        elif isinstance(self.source, RowSource):
            return [Near([None] * len(self.problems)) for _ in rngs]
        else:
            Y = np.column_stack([self.source.draw(rng) for rng in rngs])
            drawn = [row_statistics(problem, Y) for problem in self.problems]
        fitted = [
            _batched(problem, fit, responses)
            for problem, fit, responses in zip(self.problems, self.fits, drawn, strict=True)
        ]
        out: list[Replicate | Near] = []
        for k in range(len(rngs)):
            found = [e for _, model in fitted if (e := model[k]) is not None]
            if len(found) < len(fitted):
                out.append(Near([theta[k] for theta, _ in fitted]))
                continue
            observed = None
            if self.observe is not None and Y is not None:
                designs = [replace(problem.design, y=Y[:, k]) for problem in self.problems]
                observed = self.observe(designs, found)
            out.append(Replicate("ok", found[0], observed))
        return out


def _batched(
    prepared: Prepared, fit: Fit, drawn: Responses
) -> tuple[Array, list[Estimates | None]]:
    """One model fitted to many responses: where the search ended (R, r), and the estimates,
    None where that is no interior optimum."""
    mapping, cross = prepared.design.blocks[0].structure, prepared.cross
    scaling, reml = prepared.scaling, prepared.method == "reml"
    found = fit_responses(cross, mapping, drawn, fit.theta, reml)
    criterion = found.criterion + scaling.criterion_shift(cross.n, cross.n_fixed, reml)
    factors = scaling.random[0] @ np.tensordot(found.theta, mapping.basis, axes=1)
    sigma2 = found.sigma2 * scaling.y_scale**2
    covariances = sigma2[:, None, None] * (factors @ factors.transpose(0, 2, 1))
    return found.theta, [
        Estimates(
            scaling.beta(found.beta[k]), (covariances[k],), float(sigma2[k]), float(criterion[k])
        )
        if found.is_interior[k]
        else None
        for k in range(len(sigma2))
    ]


def lean(refits: Refits) -> Refits:
    """The same work without what refits do not read: small to send to another process.

    Recipes and labels of levels are left out, and the rows too where sufficient statistics are
    drawn.
    """
    kept = slice(0, 0) if isinstance(refits.source, StatisticSource) else slice(None)
    designs = [
        replace(
            p.design,
            y=p.design.y[kept],
            X=p.design.X[kept],
            offset=None if p.design.offset is None else p.design.offset[kept],
            weights=None if p.design.weights is None else p.design.weights[kept],
            rows=RowReport(p.design.rows.n_table, p.design.rows.kept[kept]),
            recipe=None,
            dropped_columns={},
            blocks=tuple(
                replace(
                    b,
                    levels=np.arange(b.n_levels),
                    codes=b.codes[kept],
                    columns=b.columns[kept],
                )
                for b in p.design.blocks
            ),
        )
        for p in refits.problems
    ]
    source = refits.source
    if isinstance(source, RowSource):
        source = replace(source, designs=tuple(designs))
    elif not isinstance(source, StatisticSource):
        source = replace(source, design=designs[0])
    problems = tuple(replace(p, design=d) for p, d in zip(refits.problems, designs, strict=True))
    return replace(refits, problems=problems, source=source)
