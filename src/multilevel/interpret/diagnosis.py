"""One readable overview of what the checks of a fit found."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import chi_square_tail, normal_tail

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit
    from multilevel.infer.robust import RobustCovariance
    from multilevel.interpret.heteroscedasticity import VarianceHomogeneity
    from multilevel.interpret.influence import Influence
    from multilevel.interpret.leverage import Leverage
    from multilevel.interpret.normality import Normality
    from multilevel.interpret.residual_diagnostics import EffectResiduals, RowResiduals

Array = NDArray[np.float64]
#: A standardised residual beyond this is rare.
FAR = 3.0
#: Ratios of standard errors within this factor are called equal.
CLOSE = 1.05


@dataclass(frozen=True)
class Finding:
    """What one check found: its ``topic``, a ``sentence``, and the ``call`` that shows more."""

    topic: str
    sentence: str
    call: str


@dataclass(frozen=True)
class Diagnosis:
    """Findings of all checks; printing it gives the overview."""

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Each finding as a paragraph, with the call that shows more."""
        paragraphs = []
        for found in self.findings:
            text = f"{found.topic}: {found.sentence}"
            if found.call:
                text += f" See {found.call}."
            paragraphs.append(textwrap.fill(text, 88, subsequent_indent="  "))
        return "\n".join(paragraphs)

    def __repr__(self) -> str:
        """The overview."""
        return str(self)

    @property
    def sentence(self) -> str:
        """All sentences as one paragraph."""
        return " ".join(found.sentence for found in self.findings)


def gathered(*checks: Callable[[], Finding]) -> list[Finding]:
    """Run the checks; one that this model cannot give says why in its place."""
    out = []
    for check in checks:
        try:
            out.append(check())
        except InferenceError as error:
            out.append(Finding("Not available", f"{error.must} Found: {error.found}.", ""))
    return out


def about_residuals(design: Design, residuals: RowResiduals) -> Finding:
    """Rows far from what the model says."""
    std = residuals.conditional_std
    known = np.isfinite(std)
    far = int(np.sum(np.abs(std[known]) > FAR))
    expected = 2.0 * float(normal_tail(FAR)) * int(known.sum())
    text = (
        f"{far} of {int(known.sum())} rows have a standardised residual beyond {FAR:g}; about "
        f"{expected:.1f} are expected."
    )
    if known.any():
        worst = int(np.nanargmax(np.abs(std)))
        text += (
            f" The largest is {std[worst]:.2f} (row {int(design.rows.kept[worst])} of the table, "
            f"{design.y[worst]:g} against {design.y[worst] - residuals.conditional[worst]:.4g} "
            "fitted)."
        )
    return Finding("Residuals", text, "row_diagnostics()")


def distance_p_values(effect: EffectResiduals) -> Array:
    """Chi-squared p-value of each level's distance, (J,); 1 where nothing is known of it."""
    p = chi_square_tail(effect.distance, np.maximum(effect.rank, 1))
    return np.asarray(np.where(effect.rank > 0, p, 1.0))


def about_effects(effects: Sequence[EffectResiduals]) -> list[Finding]:
    """Levels whose random effects lie far out."""
    out = []
    for effect in effects:
        p = distance_p_values(effect)
        J = len(effect.levels)
        worst = int(np.argmin(p))
        far = int(np.sum(p < 0.05 / J))
        text = (
            f"{far} of {J} levels of {effect.group} lie further out than chance explains "
            f"(p below 0.05 / {J}); the furthest is {effect.levels[worst]}, p = {p[worst]:.2g}."
        )
        out.append(Finding("Random effects", text, "random_effect_diagnostics()"))
    return out


def about_leverage(design: Design, leverage: Leverage) -> Finding:
    """What the fitted values cost, and the row that decides most about its own."""
    top = int(np.argmax(leverage.total))
    text = (
        f"The fitted values amount to {leverage.effective_df:.1f} free parameters. The highest "
        f"leverage is {leverage.total[top]:.2f} (row {int(design.rows.kept[top])} of the table)."
    )
    return Finding("Leverage", text, "row_diagnostics()")


def about_influence(design: Design, fit: Fit, group: str, influence: Influence) -> Finding:
    """The cluster that moves the fixed effects most."""
    cook = influence.cooks_distance
    undefined = int(np.sum(~np.isfinite(cook)))
    if undefined == len(cook):
        text = f"The fixed effects cannot be estimated without any one level of {group}."
        return Finding("Influence", text, f'influence("{group}")')
    worst = int(np.nanargmax(cook))
    k = int(np.argmax(np.abs(influence.dfbetas[worst])))
    text = (
        f"{group} {influence.labels[worst]} moves the fixed effects most (Cook's distance "
        f"{cook[worst]:.3f}): without it {design.names[k]} would be "
        f"{fit.beta[k] - influence.change[worst, k]:.4g} instead of {fit.beta[k]:.4g}, "
        f"{abs(influence.dfbetas[worst, k]):.2f} standard errors away."
    )
    if undefined:
        text += f" {undefined} levels cannot be left out: a fixed effect rests on each of them."
    return Finding("Influence", text, f'influence("{group}")')


def about_normality(found: Sequence[Normality]) -> list[Finding]:
    """One sentence for each set of values."""
    return [Finding("Normality", one.sentence, "normality()") for one in found]


def about_homogeneity(found: VarianceHomogeneity) -> Finding:
    """Whether clusters share one residual variance."""
    return Finding("Equal variances", found.sentence, "heteroscedasticity()")


def about_robust(design: Design, fit: Fit, robust: RobustCovariance) -> Finding:
    """Whether robust standard errors tell another story."""
    model = np.sqrt(np.maximum(np.diag(fit.vcov_beta), 0.0))
    ratio = np.sqrt(np.maximum(np.diag(robust.vcov), 1e-300)) / model
    k = int(np.argmax(np.abs(np.log(ratio))))
    clusters = " and ".join(f"{J} levels of {name}" for name, J in robust.clusters.items())
    start = f"Robust ({robust.type}) standard errors from {clusters} are "
    if abs(np.log(ratio[k])) < np.log(CLOSE):
        text = f"{start}within {100 * (CLOSE - 1):.0f}% of those of the model."
    else:
        text = (
            f"{start}{ratio.min():.2f} to {ratio.max():.2f} times those of the model; "
            f"{design.names[k]} differs most ({ratio[k]:.2f})."
        )
    if ratio[k] > 1.25 or ratio[k] < 0.8:
        text += " A difference of this size says that the model for the variance misses something."
    return Finding("Robust standard errors", text, "robust()")
