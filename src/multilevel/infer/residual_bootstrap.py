"""Bootstraps of models with structured residuals: refits to drawn data, one row per replicate.

``parametric``: new random effects and new residuals, correlated and of unequal variance as fitted.
``cluster``: whole independent clusters drawn with replacement, their residual structure with them.
Every replicate has its own generator (child k of the seed); what cannot be fitted is a row of NaN
with the reason. Sources: Efron & Tibshirani 1993, chapter 6; Davison & Hinkley 1997, section 3.8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RowReport
from multilevel.errors import InferenceError
from multilevel.estimate.mean_power import fit_design
from multilevel.estimate.structured import (
    StructuredPrepared,
)
from multilevel.infer.bootstrap import SUMMARY, Bootstrap
from multilevel.infer.bootstrap_refits import FITTING_ERRORS
from multilevel.infer.residual_clusters import independent_units
from multilevel.infer.residual_draws import draw_structured
from multilevel.likelihood.residual.whiten import Whitener

if TYPE_CHECKING:
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
KINDS = ("parametric", "cluster")


@dataclass(frozen=True)
class _Replicate:
    status: str
    fit: Fit | None = None


def structured_bootstrap(
    prepared: StructuredPrepared,
    fit: Fit,
    whitener: Whitener,
    n_boot: int,
    seed: np.random.SeedSequence,
    *,
    kind: str = "parametric",
    progress: Progress | None = None,
) -> Bootstrap:
    """Refit a model with structured residuals to ``n_boot`` drawn data sets.

    Parameters
    ----------
    prepared, fit : the problem and its fit; ``whitener`` is set at the fit.
    seed : all randomness.
    kind : ``"parametric"`` or ``"cluster"``.
    progress : told ``(done, total)`` after each replicate.

    Returns
    -------
    Bootstrap, whose ``observed`` (R, k) holds the reported residual parameters.

    Raises
    ------
    InferenceError : another kind, no replicates, fewer than two clusters to draw.
    """
    if kind not in KINDS:
        raise InferenceError(
            "With structured residuals a bootstrap is 'parametric' or 'cluster'.",
            f"kind={kind!r}",
            "write kind='parametric'",
        )
    if n_boot < 1:
        raise InferenceError(
            "A bootstrap needs at least one replicate.", f"n_boot={n_boot}", "write n_boot=1000"
        )
    record = fit.residual
    phi = np.zeros(0) if record is None else record.phi
    source = (
        _Responses(prepared.plain.design, fit, whitener)
        if kind == "parametric"
        else _Clusters.of(prepared)
    )
    start = np.concatenate([fit.theta, phi])
    found = []
    for k, child in enumerate(seed.spawn(n_boot)):
        found.append(_refit(source.draw(np.random.default_rng(child)), prepared, start))
        if progress is not None:
            progress(k + 1, n_boot)
    names = () if record is None else record.names
    return _collect(fit, names, "parametric" if kind == "parametric" else "cluster", found)


def _refit(design: Design, prepared: StructuredPrepared, start: Array) -> _Replicate:
    try:
        fit = fit_design(design, method=prepared.method, psi_start=start)[2]
    except FITTING_ERRORS as error:
        return _Replicate(f"failed: {error.must} {error.found}")
    status = fit.certificate.status
    return _Replicate({"certified": "ok"}.get(status, status), fit)


@dataclass(frozen=True)
class _Responses:
    """The rows as they are, with a new response."""

    design: Design
    fit: Fit
    whitener: Whitener

    def draw(self, rng: np.random.Generator) -> Design:
        """The design with a response from the fitted model."""
        y = draw_structured(self.design, self.fit, self.whitener, rng)
        return replace(self.design, y=y)


@dataclass(frozen=True)
class _Clusters:
    """Rows by independent cluster, to be drawn."""

    design: Design
    order: NDArray[np.intp]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, prepared: StructuredPrepared) -> _Clusters:
        own = independent_units(prepared)
        if own.n_clusters < 2:
            raise InferenceError(
                "A cluster bootstrap needs at least two clusters.",
                f"{own.n_clusters} in {own.name}",
                "write kind='parametric'",
            )
        counts = np.bincount(own.codes, minlength=own.n_clusters)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(prepared.plain.design, np.argsort(own.codes, kind="stable"), starts)

    def draw(self, rng: np.random.Generator) -> Design:
        """The design of one drawn set of clusters; one drawn twice counts as two."""
        J = len(self.starts) - 1
        drawn = rng.integers(0, J, J)
        sizes = np.diff(self.starts)[drawn]
        copies = np.repeat(np.arange(J, dtype=np.int64), sizes)
        rest = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = self.order[np.repeat(self.starts[:-1][drawn], sizes) + rest]
        design = self.design
        blocks = []
        for block in design.blocks:
            levels, codes = np.unique(
                block.codes[rows].astype(np.int64) * J + copies, return_inverse=True
            )
            blocks.append(
                replace(
                    block,
                    codes=codes.astype(np.int32),
                    levels=np.arange(len(levels)),
                    columns=np.asfortranarray(block.columns[rows]),
                    scale=None
                    if block.scale is None
                    else replace(block.scale, columns=block.scale.columns[rows]),
                )
            )
        return replace(
            design,
            y=design.y[rows],
            X=np.asfortranarray(design.X[rows]),
            blocks=tuple(blocks),
            offset=None if design.offset is None else design.offset[rows],
            weights=None if design.weights is None else design.weights[rows],
            rows=RowReport(design.rows.n_table, design.rows.kept[rows], {}),
            residual=None if design.residual is None else design.residual.take(rows, copies),
        )


def _collect(
    fit: Fit, names: tuple[str, ...], kind: Literal["parametric", "cluster"],
    found: list[_Replicate],
) -> Bootstrap:  # fmt: skip
    """Replicates as arrays; what was not fitted is NaN."""
    n = len(found)
    beta, observed = np.full((n, fit.n_fixed), np.nan), np.full((n, len(names)), np.nan)
    sigma2, criterion = np.full(n, np.nan), np.full(n, np.nan)
    covariances = tuple(np.full((n, *G.shape), np.nan) for G in fit.random_covariance)
    for k, replicate in enumerate(found):
        if replicate.fit is None:
            continue
        at = replicate.fit
        beta[k], sigma2[k], criterion[k] = at.beta, at.sigma2, at.criterion
        for out, G in zip(covariances, at.random_covariance, strict=True):
            out[k] = G
        if at.residual is not None:
            observed[k] = at.residual.estimates
    status = tuple(replicate.status for replicate in found)
    counts = Counter(s.split(":")[0] for s in status)
    told = ", ".join(f"{c} {word.replace('_', ' ')}" for word, c in sorted(counts.items()))
    sentence = f"{n} refits: {SUMMARY[kind]}. Status of the replicates: {told}."
    return Bootstrap(kind, beta, covariances, sigma2, criterion, status, sentence, observed)
