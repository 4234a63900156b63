"""Bootstraps: refits to drawn data, one row per replicate with its status.

Every replicate has its own generator (child k of the seed, ``SeedSequence.spawn``), so the numbers
depend on the seed only. A replicate that cannot be fitted is a row of NaN with the reason, never
dropped silently. Sources: Efron & Tibshirani 1993, chapter 6; Carpenter, Goldstein & Rasbash 2003
(residuals); van der Leeden, Meijer & Busing 2008 (multilevel resampling); Owen 2007 (pigeonhole).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.bootstrap_pool import check_workers, in_processes
from multilevel.infer.bootstrap_refits import Near, Observer, Refits, Replicate
from multilevel.infer.variance_intervals import Quantity, value_of

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
BootstrapKind = Literal["parametric", "residual", "cluster", "pigeonhole"]
KINDS: tuple[str, ...] = get_args(BootstrapKind)
BATCHED_FROM = 400  # replicates from which a batch pays although it may have to be compiled
SUMMARY = {
    "parametric": "new random effects and residuals from the fitted model",
    "residual": "estimated random effects and residuals, inflated to the estimated variances and "
    "drawn with replacement (Carpenter, Goldstein & Rasbash 2003)",
    "cluster": "whole clusters drawn with replacement",
    "pigeonhole": "the levels of each crossed factor drawn with replacement (pigeonhole bootstrap, "
    "Owen 2007), for fixed effects only",
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
    observed : (R, k) what was read off each replicate; k is 0 if nothing was asked for.
    """

    kind: BootstrapKind
    beta: Array
    covariances: tuple[Array, ...]
    sigma2: Array
    criterion: Array
    status: tuple[str, ...]
    sentence: str
    observed: Array

    @property
    def is_used(self) -> NDArray[np.bool_]:
        """(R,) replicates that were fitted to a certified optimum."""
        return np.array([s in ("ok", "singular") for s in self.status])

    def values(self, quantity: Quantity) -> Array:
        """(R,) the quantity in every replicate.

        Raises
        ------
        InferenceError : a variance of a pigeonhole bootstrap.
        """
        check_component(self.kind, quantity.component)
        return np.array(
            [
                value_of(quantity, self.beta[k], [G[k] for G in self.covariances], s2)
                for k, s2 in enumerate(self.sigma2)
            ]
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


def check_component(kind: str, component: str) -> None:
    """Refuse variances from a pigeonhole bootstrap (see ``bootstrap_rows``)."""
    if kind == "pigeonhole" and component != "fixed":
        raise InferenceError(
            "A pigeonhole bootstrap is for fixed effects: copies of a row share their residual, "
            "so its variances are not those of the model.",
            f"component {component!r}",
            'ask for fixed effects only (components=["fixed"]), or write kind="parametric"',
        )


def bootstrap(
    prepared: Prepared,
    fit: Fit,
    n_boot: int,
    seed: np.random.SeedSequence,
    *,
    kind: str = "parametric",
    batched: bool | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Bootstrap:
    """Refit the model to ``n_boot`` drawn data sets.

    Parameters
    ----------
    prepared, fit : the problem and its fit.
    n_boot : number of replicates, at least 1.
    seed : all randomness.
    kind : ``"parametric"``, ``"residual"``, ``"cluster"`` or ``"pigeonhole"`` (crossed factors,
        fixed effects only).
    batched : force or forbid the compiled batch (one grouping factor, rows kept); None chooses by
        size. Both give the same numbers.
    workers : processes for refits that are not batched; the numbers do not depend on it.
    progress : told ``(done, total)`` from time to time.

    Raises
    ------
    InferenceError : an unknown kind, no replicates, clusters that cross, workers that do not start.
    """
    return bootstrap_models(
        [prepared], [fit], n_boot, seed, kind=kind, batched=batched, workers=workers,
        progress=progress,
    )  # fmt: skip


def bootstrap_models(
    problems: Sequence[Prepared],
    fits: Sequence[Fit],
    n_boot: int,
    seed: np.random.SeedSequence,
    *,
    kind: str = "parametric",
    batched: bool | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> Bootstrap:
    """Refit several models of the same rows to data drawn by the first; observe each replicate.

    Parameters
    ----------
    problems, fits : the models; estimates of the first are kept, of all are observed.
    observe : reads numbers off the designs and estimates of a replicate.
    n_boot, seed, kind, batched, workers, progress : as in ``bootstrap``. Seeds give other draws
        here than there where responses are drawn by rows instead of sufficient statistics.

    Raises
    ------
    InferenceError : as in ``bootstrap``.
    """
    checked, workers = check_kind(kind), check_workers(workers)
    if n_boot < 1:
        raise InferenceError(
            "A bootstrap needs at least one replicate.", f"n_boot={n_boot}", "write n_boot=1000"
        )
    refits = Refits.of(problems, fits, checked, observe)
    seeds = seed.spawn(n_boot)
    found: list[Replicate | Near | None] = [None] * n_boot
    use_batch = (n_boot >= BATCHED_FROM if batched is None else batched) and refits.can_batch
    count = _Count(n_boot, progress)
    if use_batch:
        _in_batches(refits, seeds, found, count)
    left = [k for k in range(n_boot) if not isinstance(found[k], Replicate)]
    if workers > 1 and not use_batch:
        for k, replicate in in_processes(refits, left, [seeds[k] for k in left], workers):
            found[k] = replicate
            count.add(1)
    else:
        for k in left:
            near = found[k]
            found[k] = refits.one(seeds[k], near if isinstance(near, Near) else None)
            count.add(1)
    return _collect(problems[0], checked, [r for r in found if isinstance(r, Replicate)])


class _Count:
    """Replicates that are done, told to whoever listens."""

    def __init__(self, total: int, listener: Progress | None) -> None:
        self.done, self.total, self.listener = 0, total, listener

    def add(self, n: int) -> None:
        """Count ``n`` more."""
        self.done += n
        if self.listener is not None and n:
            self.listener(self.done, self.total)


def _in_batches(
    refits: Refits,
    seeds: Sequence[np.random.SeedSequence],
    found: list[Replicate | Near | None],
    count: _Count,
) -> None:
    """Fill in the replicates that the compiled loop can fit."""
    for at in range(0, len(seeds), refits.batch_size):
        part = seeds[at : at + refits.batch_size]
        found[at : at + len(part)] = refits.many(part)
        count.add(sum(isinstance(r, Replicate) for r in found[at : at + len(part)]))


def _collect(prepared: Prepared, kind: BootstrapKind, found: Sequence[Replicate]) -> Bootstrap:
    """Replicates as arrays; what was not fitted is NaN."""
    n_boot = len(found)
    beta = np.full((n_boot, prepared.cross.n_fixed), np.nan)
    covariances = tuple(np.full((n_boot, q, q), np.nan) for _, q in prepared.cross.sizes)
    sigma2, criterion = np.full(n_boot, np.nan), np.full(n_boot, np.nan)
    width = next((len(r.observed) for r in found if r.observed is not None), 0)
    observed = np.full((n_boot, width), np.nan)
    for k, replicate in enumerate(found):
        if replicate.observed is not None:
            observed[k] = replicate.observed
        if replicate.estimates is None:
            continue
        at = replicate.estimates
        beta[k], sigma2[k], criterion[k] = at.beta, at.sigma2, at.criterion
        for out, G in zip(covariances, at.random_covariance, strict=True):
            out[k] = G
    status = tuple(r.status for r in found)
    counts = Counter(s.split(":")[0] for s in status)
    told = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in sorted(counts.items()))
    sentence = f"{n_boot} refits: {SUMMARY[kind]}. Status of the replicates: {told}."
    return Bootstrap(kind, beta, covariances, sigma2, criterion, status, sentence, observed)
