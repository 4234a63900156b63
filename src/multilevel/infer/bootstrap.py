"""Bootstraps: refits to drawn data, one row per replicate with its status, and their intervals.

Every block of 100 replicates has its own generator (``SeedSequence.spawn``), so the numbers depend
on the seed only. A replicate that cannot be fitted is a row of NaN with the reason, never dropped
silently. Sources: Efron & Tibshirani 1993, chapters 6 and 13; Davison & Hinkley 1997, section 5.2
(basic interval); Carpenter, Goldstein & Rasbash 2003 (residuals); van der Leeden, Meijer & Busing
2008 (multilevel resampling).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DesignError, EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated, random_effects
from multilevel.estimate.prepare import Prepared, prepare, with_response
from multilevel.infer.bootstrap_draws import (
    ClusterSource,
    ResidualSource,
    StatisticSource,
    draw_response,
)
from multilevel.infer.variance_intervals import Interval, Quantity, value_of
from multilevel.likelihood.gaussian.batch import Responses, fit_responses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
BootstrapKind = Literal["parametric", "residual", "cluster"]
IntervalKind = Literal["percentile", "basic"]
KINDS: tuple[str, ...] = get_args(BootstrapKind)
BLOCK = 100
BATCHED_FROM = 400  # replicates from which a batch pays although it may have to be compiled
SUMMARY = {
    "parametric": "new random effects and residuals from the fitted model",
    "residual": "estimated random effects and residuals, inflated to the estimated variances and "
    "drawn with replacement (Carpenter, Goldstein & Rasbash 2003)",
    "cluster": "whole clusters drawn with replacement",
}


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of one fit, user's units.

    Attributes
    ----------
    kind : what was drawn.
    beta : (R, p); ``covariances`` per block (R, q, q); ``sigma2`` and ``criterion`` (R,).
    status : R words: ``"ok"``, ``"singular"`` (both are used), ``"not_certified"`` or
        ``"failed: reason"`` (NaN, not used).
    sentence : what was done and how many replicates are of which status.
    """

    kind: BootstrapKind
    beta: Array
    covariances: tuple[Array, ...]
    sigma2: Array
    criterion: Array
    status: tuple[str, ...]
    sentence: str

    @property
    def is_used(self) -> NDArray[np.bool_]:
        """(R,) replicates that were fitted to a certified optimum."""
        return np.array([s in ("ok", "singular") for s in self.status])

    def values(self, quantity: Quantity) -> Array:
        """(R,) the quantity in every replicate."""
        return np.array(
            [
                value_of(quantity, self.beta[k], [G[k] for G in self.covariances], s2)
                for k, s2 in enumerate(self.sigma2)
            ]
        )


class _Rows:
    """Replicates as they come in."""

    def __init__(self, prepared: Prepared, n_boot: int) -> None:
        p = prepared.cross.n_fixed
        self.prepared = prepared
        self.beta = np.full((n_boot, p), np.nan)
        self.G = [np.full((n_boot, q, q), np.nan) for _, q in prepared.cross.sizes]
        self.sigma2, self.criterion = np.full(n_boot, np.nan), np.full(n_boot, np.nan)
        self.status = [""] * n_boot

    def add(self, k: int, fit: Fit) -> None:
        """Write the fit of replicate ``k``."""
        word = {"certified": "ok"}.get(fit.certificate.status, fit.certificate.status)
        self.status[k] = word
        self.beta[k], self.sigma2[k], self.criterion[k] = fit.beta, fit.sigma2, fit.criterion
        for out, G in zip(self.G, fit.random_covariance, strict=True):
            out[k] = G

    def solve(self, k: int, problem: Prepared, start: Array | None) -> None:
        """Fit replicate ``k``; a failure is its status."""
        try:
            self.add(k, solve(problem, theta_start=start))
        except (LikelihoodError, EstimationError, DesignError) as error:
            self.status[k] = f"failed: {error.must} {error.found}"


def bootstrap(
    prepared: Prepared,
    fit: Fit,
    n_boot: int,
    seed: np.random.SeedSequence,
    *,
    kind: str = "parametric",
    batched: bool | None = None,
) -> Bootstrap:
    """Refit the model to ``n_boot`` drawn data sets.

    Parameters
    ----------
    prepared, fit : the problem and its fit.
    n_boot : number of replicates, at least 1.
    seed : all randomness.
    kind : ``"parametric"``, ``"residual"`` or ``"cluster"``.
    batched : force or forbid the compiled batch of parametric refits (one grouping factor only);
        None chooses by size. Both give the same numbers.

    Raises
    ------
    InferenceError : an unknown kind, no replicates, clusters that cross.
    """
    checked = check_kind(kind)
    if n_boot < 1:
        raise InferenceError(
            "A bootstrap needs at least one replicate.", f"n_boot={n_boot}", "write n_boot=1000"
        )
    rows = _Rows(prepared, n_boot)
    starts = range(0, n_boot, BLOCK)
    for at, child in zip(starts, seed.spawn(len(starts)), strict=True):
        rng = np.random.default_rng(child)
        where = range(at, min(at + BLOCK, n_boot))
        if checked == "parametric" and prepared.cross.n_blocks == 1:
            use = n_boot >= BATCHED_FROM if batched is None else batched
            _statistics(rows, fit, where, rng, use)
        elif checked == "cluster":
            source = ClusterSource.of(prepared.design)
            for k in where:
                _cluster(rows, k, source.draw(rng), prepared)
        else:
            _responses(rows, fit, where, rng, checked)
    counts = Counter(s.split(":")[0] for s in rows.status)
    told = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in sorted(counts.items()))
    sentence = f"{n_boot} refits: {SUMMARY[checked]}. Status of the replicates: {told}."
    return Bootstrap(
        checked,
        rows.beta,
        tuple(rows.G),
        rows.sigma2,
        rows.criterion,
        tuple(rows.status),
        sentence,
    )


def check_kind(kind: str) -> BootstrapKind:
    """A kind of bootstrap that exists."""
    if kind in KINDS:
        return cast(BootstrapKind, kind)
    raise InferenceError(
        f"The kind of bootstrap must be one of {', '.join(map(repr, KINDS))}.",
        f"kind={kind!r}",
        "write kind='parametric'",
    )


def _statistics(
    rows: _Rows, fit: Fit, where: range, rng: np.random.Generator, batched: bool
) -> None:
    """Parametric replicates of a design with one factor, by their sufficient statistics."""
    prepared = rows.prepared
    source = StatisticSource.of(prepared.cross, evaluated(prepared, fit))
    drawn = source.draw(len(where), rng)
    left = list(range(len(where)))
    if batched:
        left = _batch(rows, fit, where, drawn)
    for i in left:
        problem = replace(prepared, cross=drawn.cross_products(prepared.cross, i))
        rows.solve(where[i], problem, fit.theta)


def _batch(rows: _Rows, fit: Fit, where: range, drawn: Responses) -> list[int]:
    """Fit in one compiled loop; returns the replicates that must be solved one by one."""
    prepared = rows.prepared
    mapping, cross = prepared.design.blocks[0].structure, prepared.cross
    scaling, reml = prepared.scaling, fit.method == "reml"
    found = fit_responses(cross, mapping, drawn, fit.theta, reml)
    shift = scaling.criterion_shift(cross.n, cross.n_fixed, reml)
    factors = scaling.random[0] @ np.tensordot(found.theta, mapping.basis, axes=1)
    for i in np.flatnonzero(found.is_interior):
        k = where[i]
        rows.beta[k] = scaling.beta(found.beta[i])
        rows.sigma2[k] = found.sigma2[i] * scaling.y_scale**2
        rows.criterion[k] = found.criterion[i] + shift
        rows.G[0][k] = rows.sigma2[k] * (factors[i] @ factors[i].T)
        rows.status[k] = "ok"
    return [int(i) for i in np.flatnonzero(~found.is_interior)]


def _responses(
    rows: _Rows, fit: Fit, where: range, rng: np.random.Generator, kind: BootstrapKind
) -> None:
    """Replicates by new responses of the same rows."""
    prepared = rows.prepared
    source = None
    if kind == "residual":
        effects = random_effects(prepared, fit)
        source = ResidualSource.of(prepared.design, fit, effects)
    for k in where:
        y = draw_response(prepared.design, fit, rng) if source is None else source.draw(rng)
        rows.solve(k, with_response(prepared, y), fit.theta)


def _cluster(rows: _Rows, k: int, design: Design, prepared: Prepared) -> None:
    """One replicate of drawn clusters."""
    try:
        problem = prepare(design, method=prepared.method)
    except (LikelihoodError, EstimationError, DesignError) as error:
        rows.status[k] = f"failed: {error.must} {error.found}"
        return
    rows.solve(k, problem, None)


def bootstrap_intervals(
    replicates: Bootstrap,
    fit: Fit,
    which: Sequence[Quantity],
    conf_level: float,
    interval: str = "percentile",
) -> tuple[Interval, ...]:
    """Percentile or basic intervals; ``std_error`` is the standard deviation of the replicates.

    Raises
    ------
    InferenceError : an unknown interval, or fewer than 20 replicates that were fitted.
    """
    if interval not in get_args(IntervalKind):
        raise InferenceError(
            "A bootstrap interval must be 'percentile' or 'basic'.",
            f"interval={interval!r}",
            "write interval='percentile'",
        )
    used = replicates.is_used
    if int(used.sum()) < 20:
        raise InferenceError(
            "A bootstrap interval needs at least 20 fitted replicates.",
            f"{int(used.sum())} of {len(used)}",
            "ask for more replicates, n_boot=1000",
        )
    tail = (1.0 - conf_level) / 2.0
    out = []
    for q in which:
        estimate = value_of(q, fit.beta, fit.random_covariance, fit.sigma2)
        x = replicates.values(q)[used]
        undefined = int(np.isnan(x).sum())
        x = x[~np.isnan(x)]
        note = ""
        if undefined:
            note = f"{undefined} replicates have a variance of zero, where {q.component} of "
            note += f"{q.term} is not defined; they are left out here."
        if len(x) < 20:
            nan = float("nan")
            out.append(Interval(q, estimate, nan, nan, nan, note))
            continue
        low, high = (float(v) for v in np.quantile(x, [tail, 1.0 - tail]))
        if interval == "basic":
            low, high = 2.0 * estimate - high, 2.0 * estimate - low
            if q.component in ("sd", "variance"):
                low = max(low, 0.0)
            if q.component == "correlation":
                low, high = max(low, -1.0), min(high, 1.0)
        out.append(Interval(q, estimate, float(x.std(ddof=1)), low, high, note))
    return tuple(out)
