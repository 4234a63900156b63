"""Standard deviations of random effects that go to zero in some clusters: the limit, reached.

With ``random_scale=`` a standard deviation is ``sd exp(w'alpha)``, so none is ever zero: where the
best one is, ``alpha`` runs off and the criterion falls to a limit. If the clusters with predictors
of zero are those without variance, ``sd`` runs to zero at the same time and a search turns in a
narrow valley. The search is then repeated from the clusters that vary most: predictors count from
theirs, ``sd`` is theirs, and ``alpha`` alone runs off. Both are one model,

    Lambda' = diag(exp(o'alpha)) Lambda,   o: predictors of these clusters,

and gradient and curvature are carried back by the Jacobian. Source: own derivation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RandomBlock
from multilevel.estimate.trust_region import Path
from multilevel.likelihood.residual.objective import StructuredProblem
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]
WIDEST = 5.0  # log ratio of standard deviations of random effects that is no longer a finding
#: The limit is taken as reached when eight steps together lower the criterion by less.
LEAST_GAIN = 1e-9
BOUNDARY = (
    "At the optimum, which lies on the boundary: the standard deviation of random effects goes to "
    "zero in some clusters, and the likelihood has reached its limit."
)


class Recentred:
    """The problem with predictors of standard deviations counted from the widest clusters.

    Attributes
    ----------
    problem : a copy with shifted predictors; everything else is shared.
    is_needed : whether that changes anything, and is the same model (every standard deviation a
        parameter of its own).
    """

    def __init__(self, problem: StructuredProblem, psi: Array, r: int) -> None:
        origins = problem.scales.widest_levels(psi[r:])
        self._r = r
        self._powers = _powers(problem, origins, len(psi) - r)
        self.problem = copy.copy(problem)
        self.problem.scales = problem.scales.counted_from(origins)
        free = all(_is_free(problem.maps[k]) for k in origins)
        self.is_needed = free and bool(np.any(self._powers != 0.0))

    def forth(self, psi: Array) -> Array:
        """The same point in the parameters of the shifted problem."""
        return self._turned(psi, 1.0)

    def back(self, path: Path) -> Path:
        """A path of the shifted problem in the parameters of the problem."""
        r, psi = self._r, self._turned(path.theta, -1.0)
        J = np.eye(len(psi))  # d psi' / d psi
        J[np.arange(r), np.arange(r)] = np.exp(self._powers @ psi[r:])
        J[:r, r:] = path.theta[:r, None] * self._powers
        return Path(
            psi, path.value, J.T @ path.gradient, J.T @ path.curvature @ J, path.decrement,
            path.iterations, path.converged, path.reason, [],
        )  # fmt: skip

    def _turned(self, psi: Array, sign: float) -> Array:
        out = psi.copy()
        out[: self._r] *= np.exp(sign * (self._powers @ psi[self._r :]))
        return out


def _powers(problem: StructuredProblem, origins: dict[int, Array], size: int) -> Array:
    """``O`` (r, K) with ``theta' = theta exp(O phi)``: ``o`` at the alpha of each entry's row."""
    r = sum(m.n_parameters for m in problem.maps)
    out = np.zeros((r, size))
    tail = size - problem.scales.n_parameters
    base = 0
    for k, m in enumerate(problem.maps):
        if k in origins:
            rows = np.abs(m.basis).sum(axis=2).argmax(axis=1)  # (r_k,) the effect of each entry
            for i, o in enumerate(origins[k]):
                out[base + np.arange(len(rows)), tail + i * m.width + rows] = o
        base += m.n_parameters
        tail += m.width * len(origins.get(k, ()))
    return out


def _is_free(m: FactorMap) -> bool:
    return all(
        structure in ("unstructured", "diagonal") or stop - start == 1
        for start, stop, structure in m.terms
    )


def sinking_words(blocks: Sequence[RandomBlock], sds: Sequence[Array | None]) -> str:
    """Which standard deviations go to zero where, and what that means; empty if none.

    Parameters
    ----------
    sds : per block (J, q) log standard deviations of every cluster relative to predictors of
        zero; None without a model for them.
    """
    told = []
    for block, logs in zip(blocks, sds, strict=True):
        if logs is None:
            continue
        for a, name in enumerate(block.names):
            zero = logs[:, a] < logs[:, a].max() - WIDEST
            if np.any(zero):
                what = "random intercepts" if name == "(Intercept)" else f"random slopes of {name}"
                told.append(
                    f"The standard deviation of the {what} goes to zero in {int(zero.sum())} of"
                    f" {block.n_levels} levels of {block.group} ({block.levels[zero][0]} among"
                    " them): these clusters do not differ from each other."
                )
    if not told:
        return ""
    return (
        " ".join(told)
        + " The coefficients of random_scale= that lead there have no estimate, standard error or"
        " test. The same model by group, (1 | g, by=...), has the variance of zero itself; or take"
        " the predictor out."
    )
