"""The null distribution of leaving out a term, by parametric bootstrap.

Where the parameters of a term mean nothing once its variance is zero (the correlation of an
``ar1``), the likelihood ratio has no known large-sample distribution: it is the maximum of a
process over them. The chi-square with all parameters is conservative: for 30 groups of 5 occasions
with two rows each, 1.3% to 1.8% of 400 null draws of ``ar1`` and ``exp`` lie beyond its 5% point.
So responses are drawn from the fit without the term and both models fitted to each;
``p = (1 + #{ratio >= observed}) / (1 + draws)``.
Source: Davies 1987, Biometrika 74:33 (the problem); Davison & Hinkley 1997, section 4.3 (the p).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import with_response
from multilevel.infer.bootstrap_draws import draw_response

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

#: Fewer usable draws than this share of those asked for are no distribution.
LEAST_USABLE = 0.8
FEWEST = 19


@dataclass(frozen=True)
class DrawnNull:
    """Likelihood ratios under the model without the term.

    Attributes
    ----------
    draws : (m,) ratios of the draws to which both models could be fitted.
    n_failed : draws to which they could not.
    """

    draws: NDArray[np.float64]
    n_failed: int

    def p_value(self, statistic: float) -> float:
        """``(1 + #{draws >= statistic}) / (1 + m)``."""
        return float((1 + np.sum(self.draws >= statistic)) / (1 + len(self.draws)))


def drawn_null(
    small: tuple[Prepared, Fit], large: Prepared, n_boot: int, rng: np.random.Generator
) -> DrawnNull:
    """Draw from the smaller fit, fit both models, take the difference of their criteria.

    Parameters
    ----------
    small : the model without the term, and its fit.
    large : the model with it.
    n_boot : draws, at least 19.

    Raises
    ------
    InferenceError : too few draws asked for, or too many to which the models cannot be fitted.
    """
    if n_boot < FEWEST:
        raise InferenceError(
            f"A bootstrap p-value needs at least {FEWEST} draws.",
            f"n_boot={n_boot}",
            "write n_boot=999",
        )
    problem, fit = small
    found, failed = [], 0
    for _ in range(n_boot):
        y = draw_response(problem.design, fit, rng)
        try:
            fits = [solve(with_response(one, y)) for one in (problem, large)]
        except (LikelihoodError, EstimationError):
            # a draw whose likelihood has no maximum is no evidence on either side; it is counted
            failed += 1
            continue
        if all(one.certificate.is_certified for one in fits):
            found.append(max(fits[0].criterion - fits[1].criterion, 0.0))
        else:
            failed += 1
    if len(found) < LEAST_USABLE * n_boot:
        raise InferenceError(
            "Both models must be fitted to most of the draws.",
            f"{failed} of {n_boot} draws without a certified fit",
            "use the chi-square p-value of the same table, or a simpler structure",
        )
    return DrawnNull(np.asarray(found), failed)
