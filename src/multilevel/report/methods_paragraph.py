"""A paragraph for the methods section, written from the fitted object alone.

Each number is read from the fit, the design or the table of fixed effects and then rounded; the
package's version is the only other number. Software that the text should cite stays the author's
choice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from multilevel.design.records import Design
from multilevel.design.related import is_related
from multilevel.design.structured_terms import without_occasions
from multilevel.estimate.records import Certificate, Fit
from multilevel.interpret.advice.columns import INTERCEPT
from multilevel.interpret.related import share_sentences
from multilevel.interpret.variance import variance_components
from multilevel.report.facts import homes, intraclass, is_chain, is_unconditional
from multilevel.report.layout import count, join_words, number, short
from multilevel.report.random_scale_words import effects_of, scale_methods_sentence
from multilevel.report.random_structures import structured_words
from multilevel.report.related_words import related_kind, related_methods_sentence
from multilevel.report.residual_words import residual_methods_sentence

_LEVELS = {2: "two-level", 3: "three-level", 4: "four-level", 5: "five-level"}
_ESTIMATORS = {"reml": "restricted maximum likelihood (REML)", "ml": "maximum likelihood (ML)"}


def methods_paragraph(
    fit: Fit, design: Design, coefficients: pd.DataFrame | None = None, version: str = ""
) -> str:
    """Write down what was fitted and found, in the words of a methods section.

    Parameters
    ----------
    fit, design : the fit and its design.
    coefficients : the table of fixed effects with any of ``df, statistic, p_value``; where given,
        each effect is reported with what the table holds.
    version : of this package; empty leaves it out.

    Returns
    -------
    One paragraph of plain text.
    """
    sentences = [
        _model_sentence(fit, design, version),
        rows_sentence(design),
        means_sentence(design),
        variance_sentence(design),
        related_methods_sentence(design.blocks),
        scale_methods_sentence(fit, design),
        residual_methods_sentence(fit, design),
        convergence_sentence(fit.certificate),
    ]
    if coefficients is not None:
        sentences.append(effects_sentence(coefficients))
    sentences += [_components_sentence(fit, design), _icc_sentence(fit, design)]
    return " ".join(s for s in sentences if s)


def _model_sentence(fit: Fit, design: Design, version: str) -> str:
    k = len(design.blocks)
    kind = _LEVELS.get(k + 1, "") if is_chain(design) else "cross-classified" if k > 1 else ""
    software = f" in multilevel {version} (Python)" if version else ""
    if related_kind(design.blocks):
        kind = "multilevel"
    article = "An empty-means" if is_unconditional(design) else "A"
    return (
        f"{article} {kind + ' ' if kind and k else ''}model for {design.model.response} was"
        f" estimated by {_ESTIMATORS[fit.method]}{software}."
    )


def rows_sentence(design: Design) -> str:
    """Rows and clusters."""
    parts = []
    nested = homes(design)
    for block in design.blocks:
        inside = f" (nested in {join_words(nested[block.group])})" if nested[block.group] else ""
        parts.append(f"{block.n_levels} levels of {block.group}{inside}")
    dropped = design.rows.n_dropped
    missing = f"; {count(dropped, 'row')} with missing values left out" if dropped else ""
    among = f" from {join_words(parts)}" if parts else ""
    return f"The analysis used {count(design.n, 'row')}{among}{missing}."


def means_sentence(design: Design) -> str:
    """The predictors of the means; empty without any."""
    names = [name for name in design.names if name != INTERCEPT]
    if not names:
        return ""
    dropped = (
        f" ({join_words(list(design.dropped_columns))} left out as redundant)"
        if design.dropped_columns
        else ""
    )
    return f"The model for the means included {join_words(names)}{dropped}."


def variance_sentence(design: Design) -> str:
    """The random effects; empty without any."""
    parts = []
    for block in design.blocks:
        plain = effects_of(without_occasions(block))
        words = ["intercepts" if n == INTERCEPT else f"slopes of {n}" for n in plain]
        words += structured_words(block)
        free = any(
            stop - start > 1 and structure == "unstructured"
            for start, stop, structure in block.structure.terms
        )
        together = " and their covariances" if free else ""
        parts.append(f"random {join_words(words)}{together} over {block.group}")
    if not parts:
        return ""
    weights = ", with precision weights" if design.weights is not None else ""
    return f"The model for the variance included {join_words(parts)}{weights}."


def convergence_sentence(certificate: Certificate) -> str:
    """Whether the estimates are an optimum."""
    status = certificate.status
    if status == "certified":
        return "The estimates satisfied the conditions of an optimum."
    if status == "singular":
        return (
            "The optimum lies on the boundary: a variance is estimated as zero or a correlation as"
            " perfect."
        )
    return "The estimates could not be shown to be an optimum and must not be reported as they are."


def effects_sentence(table: pd.DataFrame) -> str:
    """Estimates with errors and tests, as the table holds them."""
    parts = []
    for _, row in table.iterrows():
        pieces = [f"b = {short(float(row['estimate']))}", f"SE = {short(float(row['std_error']))}"]
        df = float(row["df"]) if "df" in table.columns else float("nan")
        if "statistic" in table.columns and np.isfinite(float(row["statistic"])):
            about = f"t({number(df, 1)})" if np.isfinite(df) else "z"
            pieces.append(f"{about} = {float(row['statistic']):.2f}")
        if "p_value" in table.columns and np.isfinite(float(row["p_value"])):
            p = float(row["p_value"])
            pieces.append("p < .001" if p < 0.0005 else f"p = {f'{p:.3f}'.removeprefix('0')}")
        parts.append(f"{row['term']} ({', '.join(pieces)})")
    return f"Fixed effects: {'; '.join(parts)}." if parts else ""


def _components_sentence(fit: Fit, design: Design) -> str:
    parts = []
    varies = fit.residual is not None and fit.residual.n_variances
    residual = "residual of the reference" if varies else "residual"
    for c in variance_components(design, fit):
        if c.term2:
            continue
        name = residual if not c.term else f"{c.group} {c.term}"
        parts.append(f"{name} {short(c.variance)}")
    return f"Variances: {'; '.join(parts)}."


def _icc_sentence(fit: Fit, design: Design) -> str:
    if fit.residual is not None:
        return ""  # shares of variance need one residual variance and independent residuals
    if is_related(design.blocks):
        return " ".join(share_sentences(design, fit))
    kind = "intraclass" if is_unconditional(design) else "conditional intraclass"
    parts = [f"{icc.group} {icc.proportion:.3f}" for icc in intraclass(fit, design)]
    if not parts:
        return ""
    return f"Shares of the variance ({kind} correlations): {'; '.join(parts)}."
