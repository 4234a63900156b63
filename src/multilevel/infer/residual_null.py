"""Null distributions by parametric bootstrap beside structured residuals.

Responses are drawn from the smaller fit (random effects and residuals), both models fitted to each;
see ``compare_bootstrap``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.design.records import Design
from multilevel.errors import EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.fit import solve
from multilevel.estimate.mean_power import fit_design
from multilevel.estimate.prepare import prepare
from multilevel.estimate.records import Fit
from multilevel.infer.bootstrap_draws import draw_response
from multilevel.infer.compare_bootstrap import FEWEST, LEAST_USABLE, DrawnNull
from multilevel.infer.residual_draws import draw_structured
from multilevel.likelihood.residual.whiten import Whitener
from multilevel.model.specification import Method


def fit_any(design: Design, method: Method) -> tuple[Design, Fit]:
    """A design fitted with its residual structure, or by the ordinary route where it has none:
    the design at the estimates, and the fit."""
    layout = design.residual
    if layout is None or layout.n_parameters == 0:
        plain = prepare(replace(design, residual=None), method=method)
        return plain.design, solve(plain)
    _, whitened, fit = fit_design(design, method=method)
    return whitened.design, fit


def drawn_structured_null(
    small: tuple[Design, Fit], large: Design, n_boot: int, rng: np.random.Generator
) -> DrawnNull:
    """Draw from the smaller fit, fit both models, take the difference of their criteria.

    Parameters
    ----------
    small : the smaller model at its estimates, and its fit; ``large`` the larger model.
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
    design, fit = small
    whitener = None
    if design.residual is not None and fit.residual is not None:
        whitener = Whitener(design.residual)
        whitener.set(fit.residual.phi[: whitener.n_parameters])
    found, failed = [], 0
    for _ in range(n_boot):
        y = (
            draw_response(design, fit, rng)
            if whitener is None
            else draw_structured(design, fit, whitener, rng)
        )
        try:
            fits = [fit_any(replace(one, y=y), fit.method)[1] for one in (design, large)]
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
            "use the p-value of the same table that needs no draws, or a simpler structure",
        )
    return DrawnNull(np.asarray(found), failed)
