"""One fit as a dictionary with stable keys, ready for ``json.dumps(..., allow_nan=False)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from multilevel.design.records import Design
from multilevel.estimate.records import Certificate, Fit
from multilevel.infer.means_tests import RowTests
from multilevel.interpret.advice.advise import advise
from multilevel.interpret.design_effect import design_effects
from multilevel.interpret.explained_variance import overall
from multilevel.interpret.random_structures import StructureParameter, of_fit
from multilevel.interpret.variance import RESIDUAL, variance_components


def fit_json(fit: Fit, design: Design, tests: RowTests | None = None) -> dict[str, Any]:
    """Return all numbers of a fit under stable keys; numbers that do not exist are ``None``.

    Keys: ``formula, family, method, n, groups, minus2_loglik`` (ML) or ``reml_criterion`` (REML),
    ``n_par, aic, bic, fixed, random, residual_variance, icc, design_effect, r2, status,
    is_singular, certificate, seconds, advice``. ``random`` lists variances (``term2`` is ``None``)
    and estimated covariances of random effects; the residual variance stands alone. ``icc`` is the
    share of each factor in the variance, ``design_effect`` is at Kish's cluster size. ``advice``
    lists ``code, severity, sentence, mend``, the most severe first. With ``tests``, ``fixed`` has
    ``df, statistic, p_value, conf_low, conf_high`` too (``df`` is ``None`` where it is infinite),
    and ``df_method, df_sentence, conf_level`` say which tests these are.
    """
    criterion = "reml_criterion" if fit.method == "reml" else "minus2_loglik"
    certificate = fit.certificate
    return {
        "formula": design.model.formula,
        **({} if fit.residual is None else {"model": design.model.text}),
        "family": design.model.family,
        "method": fit.method,
        "n": int(fit.n),
        "groups": {block.group: int(block.n_levels) for block in design.blocks},
        criterion: plain_number(fit.criterion),
        "n_par": int(fit.n_parameters),
        "aic": plain_number(fit.aic),
        "bic": plain_number(fit.bic),
        "fixed": _fixed(fit, design, tests),
        **_which_tests(tests),
        "random": [
            {
                "group": c.group,
                "term": c.term,
                "term2": c.term2 or None,
                "variance_or_covariance": plain_number(c.variance),
                "sd_or_correlation": plain_number(c.correlation if c.term2 else c.sd),
            }
            for c in variance_components(design, fit)
            if c.group != RESIDUAL
        ],
        **structures_json(of_fit(design.blocks, fit)),
        "residual_variance": plain_number(fit.sigma2),
        **({} if fit.residual else _effect_sizes(fit, design)),
        **_residual(fit),
        "status": certificate.status,
        "is_singular": certificate.status == "singular" or bool(certificate.redundant),
        "certificate": certificate_json(certificate),
        "seconds": {stage: plain_number(value) for stage, value in fit.seconds.items()},
        "advice": [
            {"code": a.code, "severity": a.severity, "sentence": a.sentence, "mend": a.mend}
            for a in (() if fit.residual else advise(design, fit))
        ],
    }


def structures_json(found: Sequence[StructureParameter]) -> dict[str, Any]:
    """Parameters of structured random effects; nothing without any."""
    if not found:
        return {}
    numbers = ("estimate", "std_error", "conf_low", "conf_high")
    words = ("group", "term", "structure", "parameter", "kind")
    return {
        "random_structures": [
            {
                **{name: getattr(p, name) for name in words},
                **{name: plain_number(getattr(p, name)) for name in numbers},
            }
            for p in found
        ]
    }


def _residual(fit: Fit) -> dict[str, Any]:
    """The residual structure; nothing for independent residuals of one variance."""
    record = fit.residual
    if record is None:
        return {}
    return {
        "residual": {
            "structure": record.title,
            "sentence": record.sentence,
            "parameters": [
                {"term": name, "estimate": plain_number(value), "std_error": plain_number(error)}
                for name, value, error in zip(
                    record.names, record.estimates, record.std_errors, strict=True
                )
            ],
        }
    }


def _effect_sizes(fit: Fit, design: Design) -> dict[str, Any]:
    """Shares of variance by factor, design effects at Kish's cluster size, R2 by measure."""
    effects = [e for e in design_effects(design, fit) if e.component == "Kish size"]
    total, marginal, conditional = overall(design, fit)
    return {
        "icc": {e.group: plain_number(e.icc) for e in effects},
        "design_effect": {
            e.group: {
                "cluster_size": plain_number(e.cluster_size),
                "estimate": plain_number(e.estimate),
                "effective_n": plain_number(e.effective_n),
            }
            for e in effects
        },
        "r2": {
            "total": plain_number(total.estimate),
            "marginal": plain_number(marginal.estimate),
            "conditional": plain_number(conditional.estimate),
        },
    }


def _fixed(fit: Fit, design: Design, tests: RowTests | None) -> list[dict[str, Any]]:
    if tests is None:
        errors = np.sqrt(np.clip(np.diag(fit.vcov_beta), 0.0, None))
        return [
            {"term": name, "estimate": plain_number(estimate), "std_error": plain_number(error)}
            for name, estimate, error in zip(design.names, fit.beta, errors, strict=True)
        ]
    columns = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")
    return [
        {"term": row.term, **{name: plain_number(getattr(row, name)) for name in columns}}
        for row in tests.rows
    ]


def _which_tests(tests: RowTests | None) -> dict[str, Any]:
    if tests is None:
        return {}
    return {
        "df_method": tests.method,
        "df_sentence": tests.sentence,
        "conf_level": tests.conf_level,
    }


def certificate_json(c: Certificate) -> dict[str, Any]:
    """A certificate under stable keys."""
    return {
        "status": c.status,
        "sentence": c.sentence,
        "newton_decrement": plain_number(c.newton_decrement),
        "max_scaled_gradient": plain_number(c.max_scaled_gradient),
        "min_curvature": plain_number(c.min_curvature),
        "curvature": c.curvature,
        "boundary_residual": plain_number(c.boundary_residual),
        "redundant": [
            {
                "group": d.group,
                "weights": {name: plain_number(w) for name, w in d.weights.items()},
                "sentence": d.sentence,
            }
            for d in c.redundant
        ],
        "iterations": int(c.iterations),
        "evaluations": int(c.evaluations),
        "restarts": int(c.restarts),
        "monte_carlo_error": plain_number(c.monte_carlo_error),
        "history": [plain_number(value) for value in c.history],
        "notes": list(c.notes),
    }


def plain_number(value: Any) -> float | None:
    """A plain float, or ``None`` for NaN and infinities, which JSON does not have."""
    plain = float(value)
    return plain if math.isfinite(plain) else None
