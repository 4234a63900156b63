"""The summary of one fit: its sections, and the plain text made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from multilevel.design.records import Design, RandomBlock
from multilevel.design.related import has_memberships, loadings_of
from multilevel.estimate.records import Certificate, Fit
from multilevel.infer.means_tests import RowTests
from multilevel.interpret.advice.advise import advise
from multilevel.interpret.random_structures import of_fit
from multilevel.interpret.related import relation_notes
from multilevel.interpret.variance import RESIDUAL, VarianceComponent, variance_components
from multilevel.report.equations import equations
from multilevel.report.facts import (
    homes,
    is_chain,
)
from multilevel.report.layout import (
    WIDTH,
    Grid,
    Section,
    count,
    decimals_for,
    join_words,
    number,
    render_text,
    share,
)
from multilevel.report.random_scale_words import (
    by_notes,
    parameter_words,
    reference_notes,
    scale_section,
)
from multilevel.report.random_structures import structure_sections, structure_words
from multilevel.report.related_words import related_kind
from multilevel.report.residual_words import residual_sentences
from multilevel.report.share_words import icc_sentences, slope_sentences

_COUNT_WORDS = {1: "Single", 2: "Two", 3: "Three", 4: "Four", 5: "Five"}
_STRUCTURES = {
    "diagonal": "no covariances",
    "compound_symmetry": "compound symmetry: equal variances and equal covariances",
    "identity": "equal variances, no covariances",
}
_MAX_INLINE_CORRELATIONS = 4


def summary_text(
    fit: Fit,
    design: Design,
    labels: Mapping[str, str] | None = None,
    verbose: bool = False,
    width: int = WIDTH,
    tests: RowTests | None = None,
) -> str:
    """Return the summary of a fit as plain text.

    Parameters
    ----------
    fit, design : the fit and the design it was made from.
    labels : ``{variable: label}`` to show beside the variables that the formula names.
    verbose : add the evidence for convergence, the engine and why it was chosen, and the times.
    width : characters per line.
    tests : tests of the fixed effects; without them the ratios of estimate and error are shown.

    Returns
    -------
    str, without a newline at the end.
    """
    return render_text(title(fit, design), sections(fit, design, labels, verbose, tests), width)


def title(fit: Fit, design: Design) -> tuple[str, ...]:
    """Return the title lines: kind of model, outcome, estimator; then the formula."""
    k = len(design.blocks)
    general = related_kind(design.blocks)
    if general:
        kind = general[0].upper() + general[1:]
    elif is_chain(design) and k + 1 in _COUNT_WORDS:
        kind = f"{_COUNT_WORDS[k + 1]}-level model"
    else:
        kind = "Cross-classified model" if k > 1 else "Model"
    return (
        f"{kind} for {design.model.response}, estimated by {fit.method.upper()}",
        design.model.text,
    )


def sections(
    fit: Fit,
    design: Design,
    labels: Mapping[str, str] | None = None,
    verbose: bool = False,
    tests: RowTests | None = None,
) -> list[Section]:
    """Return the sections of a summary, in reading order; empty ones are skipped in print."""
    out = [
        Section("Equations", lines=equations(design)),
        design_section(design),
        labels_section(design, labels or {}),
        _means_section(fit, design, tests),
        *_variance_sections(fit, design),
        *structure_sections(of_fit(design.blocks, fit)),
        *scale_section(fit, design),
        *_residual_sections(fit),
        _criterion_section(fit, design),
        Section(
            "In words",
            sentences=(
                *icc_sentences(fit, design),
                *slope_sentences(fit, design),
                *residual_sentences(fit, design),
            ),
        ),
        convergence_section(fit.certificate, verbose),
        Section("Advice", sentences=_advice_sentences(fit, design)),
    ]
    if verbose:
        out.append(_engine_section(fit))
    return out


def design_section(design: Design) -> Section:
    """Rows used and lost, and the size and nesting of every grouping factor."""
    rows = design.rows
    if rows.n_dropped:
        missing = sorted(rows.missing.items(), key=lambda item: -item[1])
        cost = [f"{name} in {n}" for name, n in missing]
        text = f"{design.n} of {rows.n_table} rows used; {rows.n_dropped} dropped"
        text += f" for missing values: {join_words(cost)}." if cost else "."
        if len(cost) > 1:
            text += " (One row can miss several.)"
    else:
        text = f"All {count(design.n, 'row')} used."
    sentences = [text]
    if design.weights is not None:
        sentences.append(
            "Precision weights: the residual variance of a row is the one below divided by its"
            " weight."
        )
    for inner, outer in homes(design).items():
        if outer:
            sentences.append(f"{inner} is nested in {join_words(outer)}.")
    sentences += _crossings(design)
    body = []
    for block in design.blocks:
        sizes = np.bincount(loadings_of(block).indices, minlength=block.n_levels)
        mean = f"{sizes.mean():.1f}"
        body.append((block.group, str(block.n_levels), str(sizes.min()), mean, str(sizes.max())))
    header = ("Grouping factor", "Levels", "Rows each: min", "mean", "max")
    return Section("Design", grid=Grid(header, tuple(body)), sentences=tuple(sentences))


def _crossings(design: Design) -> list[str]:
    found, out = homes(design), []
    for i, a in enumerate(design.blocks):
        for b in design.blocks[i + 1 :]:
            if has_memberships(a) or has_memberships(b):
                continue
            if b.group not in found[a.group] and a.group not in found[b.group]:
                cells = len(np.unique(a.codes.astype(np.int64) * b.n_levels + b.codes))
                out.append(
                    f"{a.group} and {b.group} are crossed: {cells} of"
                    f" {a.n_levels * b.n_levels} combinations occur."
                )
    return out


def labels_section(design: Design, labels: Mapping[str, str]) -> Section:
    """Labels of the variables that the formula names."""
    used = [name for name in labels if labels[name] and _mentions(design.model.formula, name)]
    return Section("Labels", lines=tuple(f"{name}: {labels[name]}" for name in used))


def _mentions(formula: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", formula) is not None


def _means_section(fit: Fit, design: Design, tests: RowTests | None) -> Section:
    notes = tuple(
        f"Left out, as it adds nothing: {reason}." for reason in design.dropped_columns.values()
    )
    heading = "Model for the means (fixed effects)"
    if not design.names:
        return Section(heading, sentences=("No fixed effects.", *notes))
    if tests is not None:
        return Section(heading, grid=_tests_grid(tests), sentences=(tests.sentence, *notes))
    errors = np.sqrt(np.clip(np.diag(fit.vcov_beta), 0.0, None))
    decimals = decimals_for([*map(float, errors)])
    body = []
    for name, estimate, error in zip(design.names, fit.beta, errors, strict=True):
        ratio = float(estimate / error) if error > 0.0 else float("nan")
        cells = (number(float(estimate), decimals), number(float(error), decimals))
        body.append((name, *cells, number(ratio, 2)))
    header = ("Term", "Estimate", "Std. error", "Est./SE")
    return Section(heading, grid=Grid(header, tuple(body)), sentences=notes)


def _tests_grid(tests: RowTests) -> Grid:
    """Estimates with their tests; the column of df is left out where all are infinite."""
    is_z = all(np.isinf(row.df) for row in tests.rows)
    decimals = decimals_for([row.std_error for row in tests.rows])
    body = []
    for row in tests.rows:
        cells = [row.term, number(row.estimate, decimals), number(row.std_error, decimals)]
        if not is_z:
            cells.append("inf" if np.isinf(row.df) else number(row.df, 1))
        cells += [number(row.statistic, 2), p_text(row.p_value)]
        body.append(tuple(cells))
    middle = () if is_z else ("df",)
    return Grid(("Term", "Estimate", "Std. error", *middle, "z" if is_z else "t", "p"), tuple(body))


def p_text(p: float) -> str:
    """A p-value to three decimals, ``<.001`` below."""
    return "<.001" if p < 0.0005 else f"{p:.3f}".replace("0.", ".", 1)


def _variance_sections(fit: Fit, design: Design) -> list[Section]:
    parts = [c for c in variance_components(design, fit) if c.group != RESIDUAL]
    heading = "Model for the variance (random effects and residual)"
    return variance_sections(heading, design.blocks, parts, fit.sigma2)


def variance_sections(
    heading: str,
    blocks: Sequence[RandomBlock],
    parts: Sequence[VarianceComponent],
    residual: float | None,
) -> list[Section]:
    """Variances, standard deviations and correlations by grouping factor, the residual last.

    Parameters
    ----------
    parts : variances and covariances of random effects.
    residual : the residual variance; None where the model has none.
    """
    variances = [c for c in parts if not c.term2]
    pairs = {(c.group, c.term, c.term2): c.correlation for c in parts if c.term2}
    last_one = [] if residual is None else [residual]
    decimals = decimals_for([*(c.variance for c in variances), *last_one])
    inline = [b for b in blocks if len(b.names) - 1 <= _MAX_INLINE_CORRELATIONS]
    n_corr = max(
        (len(b.names) - 1 for b in inline if any(k[0] == b.group for k in pairs)), default=0
    )
    body: list[tuple[str, ...]] = []
    for block in blocks:
        for a, c in enumerate(c for c in variances if c.group == block.group):
            cells = [number(c.variance, decimals), number(c.sd, decimals)]
            keys = [(block.group, block.names[b], block.names[a]) for b in range(a)]
            known = [share(pairs[k]) if k in pairs else "" for k in keys[:n_corr]]
            corr = known + [""] * (n_corr - len(known)) if block in inline else [""] * n_corr
            body.append((block.group if a == 0 else "", c.term, *cells, *corr))
    if residual is not None:
        last = (number(residual, decimals), number(float(np.sqrt(residual)), decimals))
        body.append(("Residual", "", *last, *([""] * n_corr)))
    corr_titles = ("Corr.", *([""] * (n_corr - 1))) if n_corr else ()
    header = ("Group", "Term", "Variance", "SD", *corr_titles)
    notes = tuple(note for b in blocks for note in structure_notes(b))
    out = [Section(heading, grid=Grid(header, tuple(body), 2), sentences=notes)]
    long = [c for c in parts if c.term2 and c.group not in {b.group for b in inline}]
    if long:
        out.append(_correlation_section(long))
    return out


def _residual_sections(fit: Fit) -> list[Section]:
    """Parameters of a residual structure; nothing for independent residuals of one variance."""
    record = fit.residual
    if record is None:
        return []
    decimals = decimals_for([float(s) for s in record.std_errors if np.isfinite(s)])
    body = tuple(
        (name, number(float(value), decimals), number(float(error), decimals))
        for name, value, error in zip(
            record.names, record.estimates, record.std_errors, strict=True
        )
        if not name.startswith("log_sd(")
    )
    if not body:
        return []
    sentences = [record.sentence]
    if record.n_variances:
        sentences.append(
            "log_variance: log of the residual variance relative to the one above, which is that"
            " of the reference."
        )
    grid = Grid(("Parameter", "Estimate", "Std. error"), body)
    return [Section("Residual structure", grid=grid, sentences=tuple(sentences))]


def structure_notes(block: RandomBlock) -> list[str]:
    """Structures other than unstructured in words."""
    out = [*by_notes(block), *reference_notes(block)]
    for k, (start, stop, structure) in enumerate(block.structure.terms):
        curve = block.structure.curve(k)
        if curve is not None:
            out.append(f"{block.group}, {curve.stem}: {structure_words(curve)}.")
        elif structure in _STRUCTURES and stop - start > 1:
            names = join_words(block.names[start:stop])
            out.append(f"{block.group}, {names}: {_STRUCTURES[structure]}.")
    return [*out, *relation_notes(block)]


def _correlation_section(pairs: Sequence[VarianceComponent]) -> Section:
    body = tuple((c.group, c.term, c.term2, share(c.correlation)) for c in pairs)
    return Section(
        "Correlations of random effects", grid=Grid(("Group", "Term", "with", "Corr."), body, 3)
    )


def _criterion_section(fit: Fit, design: Design) -> Section:
    name = "REML criterion" if fit.method == "reml" else "-2 log-likelihood"
    line = f"{name} {fit.criterion:.2f}    AIC {fit.aic:.2f}    BIC {fit.bic:.2f}"
    estimated = variance_components(design, fit)
    noun = "variances and covariances" if any(c.term2 for c in estimated) else "variances"
    noun = "variance" if len(fit.theta) == 1 else noun
    parts = [
        count(fit.n_fixed, "fixed effect"),
        f"{len(fit.theta)} {noun} of random effects",
        "the residual variance",
    ]
    if fit.residual is not None:
        n_scales = sum(name.startswith("log_sd(") for name in fit.residual.names)
        k = len(fit.residual.phi) - n_scales
        own = [count(k, "parameter") + " of the residual structure"] if k else []
        own = [*parameter_words(fit), *own]
        parts = [parts[0], *(parts[1:2] if len(fit.theta) else ()), *own, parts[2]]
    sentences = [
        f"{count(fit.n_parameters, 'parameter')}: {join_words(parts)}."
        f" AIC and BIC count all of them; BIC takes N = {fit.n} rows."
    ]
    if fit.method == "reml":
        sentences.append(
            "Compare REML criteria, AIC and BIC only between models with the same fixed effects."
        )
    return Section("Fit", lines=(line,), sentences=tuple(sentences))


def convergence_section(c: Certificate, verbose: bool) -> Section:
    """The verdict on convergence; ``verbose`` adds its evidence."""
    sentences = [c.sentence, *c.notes]
    if verbose:
        sentences.append(
            f"Evidence: expected further fall of the criterion {c.newton_decrement:.1e}; largest"
            f" scaled gradient {c.max_scaled_gradient:.1e}; smallest scaled curvature"
            f" {c.min_curvature:.3g} ({c.curvature})."
        )
        if np.isfinite(c.boundary_residual):
            sentences.append(
                f"At the boundary: smallest score eigenvalue {c.boundary_residual:.1e} (not"
                " negative: no variance that is zero would raise the likelihood)."
                if c.boundary_residual > -1e-6
                else f"At the boundary: smallest score eigenvalue {c.boundary_residual:.1e}"
                " (negative: a variance that is zero should be larger)."
            )
        sentences.append(
            f"{count(c.iterations, 'iteration')}, {count(c.evaluations, 'evaluation')},"
            f" {count(c.restarts, 'restart')}."
        )
    return Section("Convergence", sentences=tuple(s for s in sentences if s))


def _advice_sentences(fit: Fit, design: Design) -> tuple[str, ...]:
    out: list[str] = []
    for advice in advise(design, fit):
        # The section on convergence has said already that, and why, the fit is not certified.
        text = advice.mend if advice.code == "not_certified" else f"{advice.sentence} {advice.mend}"
        out.append(f"{advice.severity.capitalize()}: {text}")
    return tuple(out)


def _engine_section(fit: Fit) -> Section:
    times = [f"{stage} {value:.3f} s" for stage, value in fit.seconds.items()]
    lines = (f"Time: {', '.join(times)}",) if times else ()
    return Section("Engine", lines=(fit.plan, *lines))
