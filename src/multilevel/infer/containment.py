"""Containment degrees of freedom (SAS DDFM=CONTAIN).

A fixed effect is contained in a random effect if its variables are among those of the random
effect and its grouping factor, by name. It gets the smallest rank that such a random effect adds
to ``[X Z]``, random effects entered from the coarsest factor to the finest; an effect that none
contains gets ``n - rank[X Z]``. Source: SAS/STAT user's guide, MIXED, DDFM=CONTAIN (definition).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.infer.between_within import CountedDf
from multilevel.infer.names import parts_of, variable_of
from multilevel.likelihood.gaussian.small import dense_gram

Array = NDArray[np.float64]
MAX_COLUMNS = 3000


def containment(prepared: Prepared, fit: Fit) -> CountedDf:
    """Containment degrees of freedom of every fixed effect.

    Raises
    ------
    InferenceError : more random effects than a dense rank is worth (``MAX_COLUMNS``), or none
        left over.
    """
    design, cross = prepared.design, prepared.cross
    N = sum(J * q for J, q in cross.sizes)
    if N > MAX_COLUMNS:
        raise InferenceError(
            "Containment needs the rank of all random effects together.",
            f"{N} random effects, more than {MAX_COLUMNS}",
            "write df='between-within' (nested factors) or df='satterthwaite'",
        )
    added, total = _ranks(prepared)
    out = np.empty(fit.n_fixed)
    for k, name in enumerate(design.names):
        own = _variables(name)
        inside = [
            added[t, a]
            for t, block in enumerate(design.blocks)
            for a, effect in enumerate(block.names)
            if own <= _variables(effect) | set(block.group.split(":"))
        ]
        out[k] = min(inside) if inside else fit.n - total
        if out[k] <= 0:
            raise InferenceError(
                "Containment must leave degrees of freedom.",
                f"{int(out[k])} for {name}",
                "write df='satterthwaite'",
            )
    note = "Containment goes by names: a cluster-level predictor that no random effect names gets"
    return CountedDf(
        "containment", fit.vcov_beta, out, (f"{note} the residual degrees of freedom.",)
    )


def _variables(name: str) -> set[str]:
    """Variables of a column name without their categories: ``a[x]:b`` gives ``{a, b}``."""
    if name == "(Intercept)":
        return set()
    return {variable_of(part) for part in parts_of(name)}


def _ranks(prepared: Prepared) -> tuple[dict[tuple[int, int], int], int]:
    """Rank that each random-effect column adds to ``[X Z]``, and the rank of the whole."""
    cross = prepared.cross
    A, S = dense_gram(cross)
    p = cross.n_fixed
    G = np.block([[cross.total[:p, :p], S[:, :p].T], [S[:, :p], A]])
    size = 1.0 / np.sqrt(np.maximum(np.diag(G), 1e-300))
    G = G * size[:, None] * size
    groups: list[tuple[tuple[int, int] | None, NDArray[np.int64]]] = [(None, np.arange(p))]
    ends = p + np.concatenate([[0], np.cumsum([J * q for J, q in cross.sizes])])
    for t in range(cross.n_blocks - 1, -1, -1):
        J, q = cross.sizes[t]
        groups += [((t, a), ends[t] + np.arange(J) * q + a) for a in range(q)]
    added: dict[tuple[int, int], int] = {}
    total = 0
    for key, where in groups:
        values, vectors = np.linalg.eigh(G[np.ix_(where, where)])
        kept = values > 1e-9 * max(len(where), 1)
        rank = int(kept.sum())
        total += rank
        if key is not None:
            added[key] = rank
        root = vectors[:, kept] / np.sqrt(values[kept])
        half = root.T @ G[where]
        G = G - half.T @ half
    return added, total
