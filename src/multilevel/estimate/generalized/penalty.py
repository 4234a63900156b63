r"""Weakly informative penalties, off unless asked for by name.

``"slopes"``: Student t with 3 degrees of freedom, scale 2.5, on the slopes of standardised columns
(``-2 log``: ``4 log(1 + (b / 2.5)^2 / 3)``); keeps slopes finite under separation. After Gelman,
Jakulin, Pittau & Su 2008.
``"variances"``: ``-2 sum_a log |L_aa|`` per covariance matrix (the Wishart of Chung, Gelman,
Rabe-Hesketh, Liu & Dorie 2015, in scaled columns); keeps covariance matrices off the boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]

PENALTIES: dict[str, str] = {
    "slopes": "t(3, 0, 2.5) on the slopes of standardised predictors",
    "variances": "Wishart on covariance matrices of random effects (boundary avoiding)",
}
_SCALE, _DF = 2.5, 3.0


@dataclass(frozen=True)
class Penalty:
    """Penalties on some scaled parameters.

    Attributes
    ----------
    slopes : indices of penalised slopes.
    roots : indices of diagonal elements of factors.
    name : in words, or ``""`` for none.
    """

    slopes: tuple[int, ...] = ()
    roots: tuple[int, ...] = ()
    name: str = ""

    def value(self, phi: Array) -> float:
        """Added to the criterion (units of -2 log-likelihood)."""
        z = phi[list(self.slopes)] / _SCALE
        total = (_DF + 1.0) * float(np.sum(np.log1p(z**2 / _DF)))
        if self.roots:
            with np.errstate(divide="ignore"):
                total -= 2.0 * float(np.sum(np.log(np.abs(phi[list(self.roots)]))))
        return total

    def gradient(self, phi: Array) -> Array:
        """(P,)."""
        out = np.zeros(len(phi))
        at = list(self.slopes)
        b = phi[at]
        out[at] = 2.0 * (_DF + 1.0) * b / (_DF * _SCALE**2 + b**2)
        at = list(self.roots)
        out[at] -= 2.0 / phi[at]
        return out

    def hessian(self, phi: Array) -> Array:
        """(P, P), diagonal."""
        out = np.zeros(len(phi))
        at = list(self.slopes)
        b, c = phi[at], _DF * _SCALE**2
        out[at] = 2.0 * (_DF + 1.0) * (c - b**2) / (c + b**2) ** 2
        at = list(self.roots)
        out[at] += 2.0 / phi[at] ** 2
        return np.diag(out)


def penalty_of(problem: GeneralizedProblem, names: str | Sequence[str] | None) -> Penalty:
    """The penalty that the caller named; none for None.

    Raises
    ------
    EstimationError : an unknown name.
    """
    wanted = () if names is None else (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in PENALTIES:
            raise EstimationError(
                f"penalty may name {' and '.join(map(repr, PENALTIES))}.",
                f"penalty={name!r}",
                'write penalty="slopes"',
            )
    slopes: list[int] = []
    roots: list[int] = []
    if "slopes" in wanted:
        for part, s in zip(problem.fixed, problem.fixed_slices, strict=True):
            moves = part.X.std(axis=0) > 1e-12
            slopes += [s.start + int(j) for j in np.flatnonzero(moves)]
    if "variances" in wanted:
        for block, s in zip(problem.blocks, problem.theta_slices, strict=True):
            if not block.structure.is_linear:
                raise EstimationError(
                    'penalty="variances" is for unstructured, diagonal, cs and id random effects.',
                    ", ".join(structure for _, _, structure in block.structure.terms),
                    "leave it out, or leave out the structure",
                )
            roots += [s.start + int(k) for k in np.flatnonzero(block.structure.scales())]
    return Penalty(tuple(slopes), tuple(roots), "; ".join(PENALTIES[name] for name in wanted))
