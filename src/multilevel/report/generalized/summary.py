"""The summary of a generalized fit as sections, ready for terminal, notebook and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.related import is_related
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.degrees_of_freedom import DfMethod
from multilevel.infer.generalized.natural import (
    NaturalParameter,
    is_constant,
    natural_parameters,
    part_tests,
)
from multilevel.infer.means_tests import RowTest
from multilevel.interpret.advice.record import Advice
from multilevel.interpret.random_structures import of_generalized
from multilevel.interpret.related import shares_in_words
from multilevel.interpret.variance import INTERCEPT, effect_components
from multilevel.report.facts import is_unconditional
from multilevel.report.generalized.equations import equation_lines
from multilevel.report.generalized.facts import (
    LatentResidual,
    kind_words,
    latent_residual,
    latent_shares,
    outcome_sentences,
    parameter_words,
    weight_sentences,
    whole_design,
)
from multilevel.report.generalized.ratios import ratio_section
from multilevel.report.generalized.words import (
    family_title,
    means_heading,
    natural_heading,
    part_heading,
)
from multilevel.report.layout import Grid, Section, decimals_for, join_words, number, percent, share
from multilevel.report.random_structures import structure_sections
from multilevel.report.summary import (
    convergence_section,
    design_section,
    labels_section,
    p_text,
    variance_sections,
)

_Z_SENTENCE = "Tests are z tests; intervals are 95% Wald intervals."
_UNIT_SPECIFIC = ("Effects are unit-specific: for given random effects.",)


def title(design: GeneralizedDesign, by: str = "ML") -> tuple[str, ...]:
    """Title lines: kind of model, outcome, family and link, estimator; then every formula."""
    model = design.mean.model
    outcome = f"{model.response}: {family_title(design.family)}"
    lines = [f"{kind_words(design)} for {outcome}, estimated by {by}", model.formula]
    seen: set[str] = set()
    for part in design.parts[1:]:
        argument = part.spec.argument
        if part.design is None or argument in ("formula", *seen):
            continue
        seen.add(argument)
        shown = "hurdle" if design.family.option("zero") == "hurdle" else "zero"
        name = shown if argument == "zero" else argument
        lines.append(f"{name} ~ {part.design.model.formula.split('~', 1)[1].strip()}")
    return tuple(lines)


def sections(
    fit: GeneralizedFit,
    design: GeneralizedDesign,
    labels: Mapping[str, str] | None = None,
    verbose: bool = False,
    df: DfMethod = "none",
    advice: Sequence[Advice] = (),
) -> list[Section]:
    """The sections of a summary, in reading order; empty ones are skipped in print.

    Parameters
    ----------
    df : degrees of freedom of tests of the means: ``"none"`` (z) or ``"between-within"``.
    advice : what the last section says.
    """
    rows = design_section(whole_design(design))
    rows = Section(rows.heading, grid=rows.grid,
                   sentences=(*rows.sentences, *weight_sentences(design)))  # fmt: skip
    out = [
        Section("Outcome", sentences=outcome_sentences(design)),
        Section("Equations", lines=equation_lines(design)),
        rows,
        labels_section(whole_design(design), labels or {}),
        *mean_sections(fit, design, df),
        *part_sections(fit, design),
        *_variance(fit, design),
        Section("In words", sentences=tuple(icc_sentences(fit, design))),
        _criterion(fit, design),
        approximation_section(fit),
        convergence_section(fit.certificate, verbose),
        Section(
            "Advice",
            sentences=tuple(_advised(a) for a in advice),
        ),
    ]
    if verbose:
        times = [f"{stage} {value:.3f} s" for stage, value in fit.seconds.items()]
        lines = (f"Time: {', '.join(times)}",) if times else ()
        out.append(Section("Engine", lines=(fit.plan, *lines)))
    return out


def _advised(advice: Advice) -> str:
    # The section on convergence has said already that, and why, the fit is not certified.
    said = advice.mend if advice.code == "not_certified" else f"{advice.sentence} {advice.mend}"
    return f"{advice.severity.capitalize()}: {said}"


def mean_sections(
    fit: GeneralizedFit, design: GeneralizedDesign, df: DfMethod = "none"
) -> list[Section]:
    """Coefficients, then their exponentials, of the mean or of every category."""
    notes = tuple(
        f"Left out, as it adds nothing: {reason}."
        for reason in design.mean.dropped_columns.values()
    )
    out = []
    for d, part in enumerate(design.parts):
        if d > 0 and part.spec.argument != "formula":
            continue
        heading, tests = means_heading(design, d), part_tests(design, fit, d, df)
        if tests is None:
            text = "No predictors: the thresholds alone describe the categories."
            out.append(Section(heading, sentences=(text, *notes)))
            continue
        unit = _UNIT_SPECIFIC if design.blocks else ()
        said = (_Z_SENTENCE if df == "none" else tests.sentence, *unit, *notes)
        out.append(Section(heading, grid=rows_grid(tests.rows), sentences=said if d == 0 else ()))
        out.append(ratio_section(design, d, tests.rows))
    return out


def rows_grid(rows: Sequence[RowTest]) -> Grid:
    """Estimates with tests and intervals; a column of df where any is finite."""
    is_z = not any(_is_finite_df(row) for row in rows)
    places = decimals_for([row.std_error for row in rows])
    body = []
    for row in rows:
        cells = [row.term, _near(row.estimate, row, places), number(row.std_error, places)]
        if not is_z:
            cells.append(number(row.df, 1) if _is_finite_df(row) else "inf")
        p = p_text(row.p_value) if row.p_value == row.p_value else "."
        cells += [_plain(row.statistic), p]
        cells += [_near(row.conf_low, row, places), _near(row.conf_high, row, places)]
        body.append(tuple(cells))
    middle = ("z",) if is_z else ("df", "t")
    head = ("Term", "Estimate", "Std. error", *middle, "p", "95% low", "high")
    return Grid(head, tuple(body))


def _near(value: float, row: RowTest, places: int) -> str:
    """A value with fixed decimals where its error can be read with them (0 is 0 within error)."""
    if not 10.0 ** (1 - places) <= row.std_error < 1e9 or not abs(value) < 1e9:
        return number(value, places)
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


def _plain(statistic: float) -> str:
    """A statistic with two decimals, ``.`` if it does not exist."""
    return f"{statistic:.2f}" if statistic == statistic else "."


def _is_finite_df(row: RowTest) -> bool:
    return row.df < float("inf")


def part_sections(fit: GeneralizedFit, design: GeneralizedDesign) -> list[Section]:
    """Every part beside the means: a table of effects, or its one number on its natural scale."""
    natural = natural_parameters(design, fit)
    out: list[Section] = []
    for name in dict.fromkeys(p.part for p in natural):
        mine = [p for p in natural if p.part == name]
        out.append(
            Section(natural_heading(design.family, name), grid=natural_grid(mine),
                    sentences=_natural_sentences(design, name, mine))
        )  # fmt: skip
    for d, part in enumerate(design.parts):
        if d == 0 or part.spec.argument == "formula":
            continue
        if part.spec.name.startswith("threshold "):
            continue
        if not is_constant(part):
            tests = part_tests(design, fit, d)
            rows = () if tests is None else tests.rows
            heading = part_heading(design.family, part.spec.name, part.spec.link)
            out.append(Section(heading, grid=rows_grid(rows)))
            out.append(ratio_section(design, d, rows))
    return [*out, *_free_thresholds(fit, design)]


def _natural_sentences(
    design: GeneralizedDesign, name: str, parameters: Sequence[NaturalParameter]
) -> tuple[str, ...]:
    if name != "threshold":
        return tuple(f"{p.term}: {p.meaning}." for p in parameters)
    compared = {
        "cumulative": "P(category or lower) = F(threshold - effects)",
        "adjacent": "the log odds of a category against the one below are effects - threshold",
        "continuation_ratio": "P(category, once it is reached) = F(threshold - effects)",
    }[design.family.name]
    return (f"Higher effects mean higher categories: {compared}.",)


def natural_grid(parameters: Sequence[NaturalParameter]) -> Grid:
    """Parameters on their natural scale with delta-method errors and intervals."""
    places = decimals_for([p.std_error for p in parameters])
    body = tuple(
        (
            p.term,
            *(number(v, places) for v in (p.estimate, p.std_error, p.conf_low, p.conf_high)),
        )
        for p in parameters
    )
    return Grid(("Parameter", "Estimate", "Std. error", "95% low", "high"), body)


def _free_thresholds(fit: GeneralizedFit, design: GeneralizedDesign) -> list[Section]:
    """Thresholds with predictors: one table, terms prefixed by the threshold."""
    places = [d for d, p in enumerate(design.parts) if p.spec.name.startswith("threshold ")]
    if all(is_constant(design.parts[d]) for d in places):
        return []
    rows: list[RowTest] = []
    categories = design.response.categories
    for c, d in enumerate(places):
        label = f"{categories[c]}|{categories[c + 1]}"
        tests = part_tests(design, fit, d)
        own = () if tests is None else tests.rows
        rows += [replace(row, term=f"{label}: {row.term}") for row in own]
    note = (
        "Effects on thresholds: a predictor that raises a threshold makes the categories above it"
        " less likely, the opposite of an effect on the means."
    )
    heading = f"Model for the thresholds (on the {design.family.link} scale)"
    return [Section(heading, grid=rows_grid(rows), sentences=(note,))]


def _variance(fit: GeneralizedFit, design: GeneralizedDesign) -> list[Section]:
    if not design.blocks:
        text = "No random effects: a single-level model."
        return [Section("Model for the variance", sentences=(text,))]
    blocks = design.blocks
    parts = effect_components(blocks, fit.random_covariance)
    links = dict.fromkeys(
        design.parts[d].spec.link for belongs in design.block_parts for d in belongs
    )
    scales = join_words(["response" if link == "identity" else link for link in links])
    plural = "s" if len(links) > 1 else ""
    heading = f"Model for the variance (random effects on the {scales} scale{plural})"
    structured = structure_sections(of_generalized(design, fit))
    return [*variance_sections(heading, blocks, parts, None), *structured]


def icc_sentences(fit: GeneralizedFit, design: GeneralizedDesign) -> list[str]:
    """Intraclass correlations on the latent scale, in words."""
    residual = latent_residual(design, fit)
    if residual is None:
        return []
    if is_related(design.blocks):
        return related_sentences(design, fit, residual)
    shares = latent_shares(design, fit)
    given = "" if _is_empty(design) else "given the predictors, "
    out = []
    for icc in shares:
        others = [b.group for b in design.blocks if b.group not in icc.within]
        apart = f" but different {join_words(others)}" if others else ""
        also = f", as they share {join_words(icc.within[1:])} too" if len(icc.within) > 1 else ""
        text = (
            f"{given}{percent(icc.proportion)} of the variance of the {residual.response} (residual"
            f" variance {residual.words}) is due to {icc.group} mean differences; the"
            f" {residual.response}s of two rows of one {icc.group}{apart} correlate"
            f" {share(icc.correlation)} on average{also}."
        )
        out.append(text[0].upper() + text[1:])
    return out


def related_sentences(
    design: GeneralizedDesign, fit: GeneralizedFit, residual: LatentResidual
) -> list[str]:
    """Shares in the variance of the latent response, of memberships and of related levels."""
    if any(d != 0 for belongs in design.block_parts for d in belongs):
        return []
    found = shares_in_words(design.blocks, fit.random_covariance, residual.variance)
    note = (
        f"Shares are of the variance of the {residual.response}; its residual variance is "
        f"{residual.words}."
    )
    return [*found, note]


def _is_empty(design: GeneralizedDesign) -> bool:
    whole = whole_design(design)
    return is_unconditional(whole) or set(whole.names) <= {INTERCEPT}


def _criterion(fit: GeneralizedFit, design: GeneralizedDesign) -> Section:
    name = "REML-type criterion" if fit.method == "reml" else "-2 log-likelihood"
    line = f"{name} {fit.criterion:.2f}    AIC {fit.aic:.2f}    BIC {fit.bic:.2f}"
    what = "rows" if fit.frequency_total is None else "observations, which the rows stand for"
    sentences = [
        f"{parameter_words(design, fit)}. AIC and BIC count all of them; BIC takes N ="
        f" {fit.n_observations} {what}."
    ]
    if fit.penalty:
        sentences.append(
            f"Penalised estimates: {fit.penalty}. The -2 log-likelihood is given without the"
            " penalty, at the penalised estimates; AIC and BIC are then only rough guides."
        )
    return Section("Fit", lines=(line,), sentences=tuple(sentences))


def approximation_section(fit: GeneralizedFit) -> Section:
    """How the integral over the random effects was computed, how well, and what was tried."""
    how = fit.approximation
    steps = (step for step in how.steps if step not in how.sentence)
    return Section("Approximation", sentences=(how.sentence, *steps))
