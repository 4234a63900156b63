"""Bootstraps of generalized fits: refits to drawn data, one row per replicate with its status.

Every replicate has its own generator (child k of the seed, ``SeedSequence.spawn``), so the numbers
depend on the seed only, not on the number of processes. Refits start from the estimates and modes
of the fit and use its approximation. A replicate that cannot be fitted is a row of NaN with the
reason. Sources: Efron & Tibshirani 1993, chapter 6; van der Leeden, Meijer & Busing 2008.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import RandomBlock
from multilevel.errors import DesignError, EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.generalized.prepare import (
    GeneralizedPrepared,
    prepare_generalized,
    with_outcome,
)
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.bootstrap_intervals import FEWEST, check_interval, limits
from multilevel.infer.bootstrap_pool import check_workers, in_processes
from multilevel.infer.generalized.draws import drawn_responses, refitted
from multilevel.infer.generalized.effects import is_nested_chain
from multilevel.infer.generalized.quantities import (
    Parameter,
    ParameterInterval,
    at_psi,
    value_of,
)

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
GeneralizedBootstrapKind = Literal["parametric", "cluster"]
KINDS: tuple[str, ...] = get_args(GeneralizedBootstrapKind)
FITTING_ERRORS = (LikelihoodError, EstimationError, DesignError)
SUMMARY = {
    "parametric": "new random effects and responses from the fitted model",
    "cluster": "whole clusters drawn with replacement",
}


@dataclass(frozen=True)
class OutcomeReplicate:
    """One replicate: a status word, and the parameters where it was fitted."""

    status: str
    psi: Array | None = None
    criterion: float = float("nan")


@dataclass(frozen=True)
class OutcomeBootstrap:
    """Replicates of one fit.

    Attributes
    ----------
    kind : what was drawn.
    psi : (R, P) parameters; NaN where a replicate was not fitted.
    criterion : (R,).
    status : R words: ``"ok"``, ``"singular"`` (both are used), ``"not_certified"`` or
        ``"failed: reason"``.
    sentence : what was done and how many replicates are of which status.
    """

    kind: GeneralizedBootstrapKind
    psi: Array
    criterion: Array
    status: tuple[str, ...]
    sentence: str

    @property
    def is_used(self) -> NDArray[np.bool_]:
        """(R,) replicates that were fitted to a certified optimum."""
        return np.array([s in ("ok", "singular") for s in self.status])

    def values(self, prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter) -> Array:
        """(R,) a parameter in every replicate; NaN where it was not fitted."""
        return np.array(
            [
                value_of(prepared, at_psi(prepared, fit, psi), q)
                if np.all(np.isfinite(psi))
                else float("nan")
                for psi in self.psi
            ]
        )


@dataclass(frozen=True)
class _Redraw:
    """Draw, refit (must be picklable)."""

    prepared: GeneralizedPrepared
    fit: GeneralizedFit
    kind: str

    def one(self, seed: np.random.SeedSequence) -> OutcomeReplicate:
        """The replicate of one seed."""
        rng = np.random.default_rng(seed)
        modes: Sequence[Array] = self.fit.modes
        try:
            if self.kind == "cluster":
                prepared, modes = redrawn_clusters(self.prepared, self.fit, rng)
            else:
                y = drawn_responses(self.prepared, self.fit, 1, rng)[:, 0]
                prepared = with_outcome(self.prepared, y)
            found = refitted(prepared, self.fit, modes=modes)
        except FITTING_ERRORS as error:
            return OutcomeReplicate(f"failed: {error.must} {error.found}")
        if not found.certificate.is_certified:
            return OutcomeReplicate("not_certified", found.psi, found.criterion)
        status = "singular" if found.certificate.status == "singular" else "ok"
        return OutcomeReplicate(status, found.psi, found.criterion)


def check_outcome_kind(design: GeneralizedDesign, kind: str) -> GeneralizedBootstrapKind:
    """A kind of bootstrap that this design allows.

    Raises
    ------
    InferenceError : another kind, or one that has no sound answer here, with the reason.
    """
    if kind not in KINDS:
        raise InferenceError(
            f"The kind of bootstrap of a generalized model must be one of {', '.join(KINDS)}.",
            f"kind={kind!r}",
            "write kind='parametric'",
        )
    if kind == "cluster":
        if not design.blocks or not is_nested_chain(design.blocks):
            found = ", ".join(b.group for b in design.blocks) or "none"
            raise InferenceError(
                "A cluster bootstrap needs one grouping factor, or nested ones.",
                f"grouping factors: {found}",
                "write kind='parametric'",
            )
    elif design.frequency_weights is not None:
        raise InferenceError(
            "A parametric bootstrap needs one row for each observation.",
            "frequency weights",
            "repeat the rows instead of weighting them, or write kind='cluster'",
        )
    elif design.family.response == "interval":
        raise InferenceError(
            "A parametric bootstrap needs to know how new values would be censored.",
            f"the {design.family.label} family: only the censoring of the observed rows is known",
            "write kind='cluster'",
        )
    return cast(GeneralizedBootstrapKind, kind)


def redrawn_clusters(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, rng: np.random.Generator
) -> tuple[GeneralizedPrepared, list[Array]]:
    """Whole clusters of the coarsest factor drawn with replacement, and modes to start from.

    Copies of a cluster are different clusters; so are the finer levels in them.
    """
    design = prepared.design
    top = design.blocks[-1]
    drawn = rng.integers(0, top.n_levels, size=top.n_levels)
    order = np.argsort(top.codes, kind="stable")
    starts = np.searchsorted(top.codes[order], np.arange(top.n_levels + 1))
    pieces = [order[starts[j] : starts[j + 1]] for j in drawn]
    rows = np.concatenate(pieces)
    copy = np.repeat(np.arange(len(drawn)), [len(p) for p in pieces])
    blocks: list[RandomBlock] = []
    modes: list[Array] = []
    for t, block in enumerate(design.blocks):
        key = copy * block.n_levels + block.codes[rows]
        present, codes = np.unique(key, return_inverse=True)
        old = present % block.n_levels
        blocks.append(
            replace(
                block,
                codes=codes.astype(np.int32),
                levels=block.levels[old],
                columns=np.asfortranarray(block.columns[rows]),
            )
        )
        modes.append(np.ascontiguousarray(fit.modes[t][old]))
    parts = tuple(
        replace(
            part,
            design=None,
            X=np.asfortranarray(part.X[rows]),
            offset=None if part.offset is None else part.offset[rows],
        )
        for part in design.parts
    )
    weights = design.frequency_weights, design.precision_weights
    frequency, precision = (None if w is None else w[rows] for w in weights)
    redrawn = replace(
        design,
        response=design.response.take(rows.astype(np.intp)),
        parts=parts,
        blocks=tuple(blocks),
        frequency_weights=frequency,
        precision_weights=precision,
    )
    return prepare_generalized(redrawn), modes


def _lean(prepared: GeneralizedPrepared) -> GeneralizedPrepared:
    """The problem without what refits do not read: it can be sent to another process."""
    design = prepared.design
    mean = replace(design.mean, recipe=None)
    parts = tuple(replace(part, design=None) for part in design.parts)
    blocks = tuple(replace(b, levels=np.arange(b.n_levels)) for b in design.blocks)
    return replace(prepared, design=replace(design, mean=mean, parts=parts, blocks=blocks))


def bootstrap_outcomes(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    n_boot: int,
    seed: np.random.SeedSequence,
    *,
    kind: str = "parametric",
    workers: int = 1,
    progress: Progress | None = None,
) -> OutcomeBootstrap:
    """Refit the model to ``n_boot`` drawn data sets.

    Parameters
    ----------
    seed : all randomness.
    kind : ``"parametric"`` or ``"cluster"`` (nested factors).
    workers : processes; the numbers do not depend on it.
    progress : told ``(done, total)``.

    Raises
    ------
    InferenceError : a kind that this design does not allow, no replicates, workers that do not
        start.
    """
    checked, workers = check_outcome_kind(prepared.design, kind), check_workers(workers)
    if n_boot < 1:
        raise InferenceError(
            "A bootstrap needs at least one replicate.", f"n_boot={n_boot}", "write n_boot=1000"
        )
    work = _Redraw(_lean(prepared), fit, checked)
    seeds = seed.spawn(n_boot)
    found: list[OutcomeReplicate | None] = [None] * n_boot
    several = workers > 1 and n_boot > 1
    stream = (
        in_processes(work, range(n_boot), seeds, workers)
        if several
        else ((k, work.one(one)) for k, one in enumerate(seeds))
    )
    for done, (k, replicate) in enumerate(stream, start=1):
        found[k] = replicate
        if progress is not None:
            progress(done, n_boot)
    return _collect(fit, checked, [r for r in found if r is not None])


def _collect(
    fit: GeneralizedFit, kind: GeneralizedBootstrapKind, found: Sequence[OutcomeReplicate]
) -> OutcomeBootstrap:
    """Replicates as arrays; what was not fitted is NaN."""
    psi = np.full((len(found), len(fit.psi)), np.nan)
    for k, replicate in enumerate(found):
        if replicate.psi is not None:
            psi[k] = replicate.psi
    status = tuple(r.status for r in found)
    counts = Counter(s.split(":")[0] for s in status)
    told = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in sorted(counts.items()))
    sentence = f"{len(found)} refits: {SUMMARY[kind]}. Status of the replicates: {told}."
    criterion = np.array([r.criterion for r in found])
    return OutcomeBootstrap(kind, psi, criterion, status, sentence)


def outcome_intervals(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    drawn: OutcomeBootstrap,
    which: Sequence[Parameter],
    conf_level: float,
    interval: str,
) -> tuple[ParameterInterval, ...]:
    """Bootstrap intervals; ``std_error`` is the standard deviation of the replicates.

    Raises
    ------
    InferenceError : an unknown interval, or fewer than 20 replicates that were fitted.
    """
    checked, used = check_interval(interval), drawn.is_used
    if int(used.sum()) < FEWEST:
        raise InferenceError(
            f"Bootstrap intervals need at least {FEWEST} replicates that were fitted.",
            f"{int(used.sum())} of {len(used)}",
            "ask for more replicates; look at bootstrap()['status']",
        )
    out = []
    for q in which:
        estimate = value_of(prepared, fit, q)
        bounds = {
            "sd": (0.0, np.inf), "variance": (0.0, np.inf), "correlation": (-1.0, 1.0)
        }.get(q.component, (-np.inf, np.inf))  # fmt: skip
        found = limits(drawn.values(prepared, fit, q)[used], estimate, conf_level, checked, bounds)
        status = "ok"
        if found.n_undefined:
            status = f"ok; {found.n_undefined} replicates where it is not defined are left out"
        out.append(ParameterInterval(q, estimate, found.std_error, found.low, found.high, status))
    return tuple(out)
