"""What to do about a fit that is singular, not certified, noisy or short of clusters."""

from __future__ import annotations

from multilevel.design.records import Design
from multilevel.estimate.records import Fit
from multilevel.interpret.variance import INTERCEPT
from multilevel.report.layout import join_words

_FEW_CLUSTERS = 10


def advice_for(fit: Fit, design: Design) -> tuple[str, ...]:
    """Return advice as sentences, most urgent first; empty for a fit that needs none."""
    out: list[str] = []
    certificate = fit.certificate
    if not certificate.is_certified:
        out.append(
            "Do not report these numbers: they are not shown to be the optimum. Centre and rescale"
            " the predictors, then drop random slopes one at a time, smallest variance first."
        )
    out += _about_singularity(fit)
    if certificate.monte_carlo_error > 0.0:
        out.append(
            f"The criterion carries random error (standard error"
            f" {certificate.monte_carlo_error:.2g}): differences between models of that size mean"
            " nothing."
        )
    for block in design.blocks:
        if block.n_levels < _FEW_CLUSTERS:
            out.append(
                f"{block.group} has only {block.n_levels} levels: its variance is poorly known."
                " With so few, indicator variables for the levels are often the better model."
            )
    return tuple(out)


def _about_singularity(fit: Fit) -> list[str]:
    out = []
    groups = dict.fromkeys(d.group for d in fit.certificate.redundant)
    for group in groups:
        names: list[str] = []
        for direction in fit.certificate.redundant:
            if direction.group == group:
                names += [n for n, w in direction.weights.items() if abs(w) > 0.05]
        names = list(dict.fromkeys(names))
        slopes = [name for name in names if name != INTERCEPT]
        if names == [INTERCEPT]:
            out.append(
                f"The intercept variance of {group} is zero beyond what the model explains."
                f" Keep the term if {group} belongs to the sampling design; the other estimates"
                " are then the same as without it."
            )
        elif len(names) == 1:
            out.append(
                f"Drop the random slope of {names[0]} for {group}: no variance is left for it,"
                " and without it the criterion is the same."
            )
        elif slopes:
            out.append(
                f"The random effects {join_words(names)} of {group} are tied to one another"
                " (a correlation of 1 or -1, or as many variances as the data can support)."
                f" Simplify one term at a time, starting with the slope of {slopes[-1]}, and do"
                " not report the correlation as a finding."
            )
    return out
