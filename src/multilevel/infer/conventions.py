"""Which parameters and which ``n`` each program puts into AIC, AICc and BIC.

=============  ==========================  =================  =======================
program        parameters under REML       n of BIC           n of AICc
=============  ==========================  =================  =======================
ours, R,       all                         rows               rows
Stata
SAS            variances and covariances   units (see below)  n - p (REML), n (ML)
SPSS           variances and covariances   n - p (REML),      n - p (REML), n (ML)
                                           n (ML)
=============  ==========================  =================  =======================

SAS PROC MIXED counts the levels of the subject effect; ours is the highest of nested factors, and
the factor of the first random term where factors cross. R means ``lme4`` (``nlme`` uses n - p).
Sources: Hurvich & Tsai 1989 (AICc); Schwarz 1978 (BIC); PROC MIXED documentation, option IC;
SPSS Statistics Algorithms, MIXED; lme4 ``logLik.merMod``; Stata ``estat ic``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

import numpy as np

from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.design.records import Design

Program = Literal["ours", "r", "stata", "sas", "spss"]
PROGRAMS: tuple[str, ...] = get_args(Program)


class Counted(Protocol):
    """What information criteria need of a fit.

    Attributes
    ----------
    method : ``"ml"`` or ``"reml"``.
    n, n_parameters, n_fixed : rows, all parameters, fixed effects.
    criterion : -2 log-likelihood, or the REML criterion.
    """

    @property
    def method(self) -> str:
        """The estimator."""
        ...

    @property
    def n(self) -> int:
        """Rows."""
        ...

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        ...

    @property
    def n_fixed(self) -> int:
        """Fixed effects."""
        ...

    @property
    def criterion(self) -> float:
        """-2 log-likelihood, or the REML criterion."""
        ...


@dataclass(frozen=True)
class InformationCriteria:
    """AIC, AICc and BIC of one fit by the rules of one program.

    Attributes
    ----------
    program : whose rules.
    n_parameters : parameters that are counted.
    n_bic, n_aicc : the sample sizes used.
    aic, aicc, bic : the criteria; AICc is NaN where ``n_aicc - n_parameters - 1 <= 0``.
    sentence : the rules in words.
    """

    program: Program
    n_parameters: int
    n_bic: int
    n_aicc: int
    aic: float
    aicc: float
    bic: float
    sentence: str


def check_program(program: str | None) -> Program:
    """The program whose rules are asked for; None means this package's own."""
    if program is None:
        return "ours"
    lowered = str(program).lower()
    if lowered in PROGRAMS:
        return cast(Program, lowered)
    raise InferenceError(
        "as_in must be 'stata', 'sas', 'spss' or 'r'.",
        f"as_in={program!r}",
        "leave it out for this package's rules (all parameters, n rows)",
    )


def n_units(design: Design) -> tuple[int, str]:
    """The number that SAS would use as the n of BIC, and what it counts."""
    if not design.blocks:
        layout = design.residual
        if layout is not None and layout.term is not None and layout.term.factors:
            return len(layout.units), f"units of {layout.term.group}"
        return design.n, "rows"
    top = design.blocks[-1]
    for block in design.blocks[:-1]:
        home = np.zeros(block.n_levels, dtype=top.codes.dtype)
        home[block.codes] = top.codes
        if not np.array_equal(home[block.codes], top.codes):
            first = design.model.random[0].group if design.model.random else top.group
            sizes = {b.group: b.n_levels for b in design.blocks}
            return sizes.get(first, top.n_levels), f"levels of {first}"
    return top.n_levels, f"levels of {top.group}"


def information_criteria(
    design: Design, fit: Counted, program: Program = "ours"
) -> InformationCriteria:
    """AIC, AICc and BIC by the rules of ``program`` (see the module's text)."""
    reml = fit.method == "reml"
    k, n_bic, n_aicc = fit.n_parameters, fit.n, fit.n
    counted, what = "all parameters", "rows"
    if program in ("sas", "spss"):
        if reml:
            k = fit.n_parameters - fit.n_fixed
            n_aicc = fit.n - fit.n_fixed
            counted = "variances and covariances only"
        if program == "sas":
            n_bic, what = n_units(design)
        else:
            n_bic = n_aicc
            what = "rows minus fixed effects" if reml else "rows"
    room = n_aicc - k - 1
    aic = fit.criterion + 2.0 * k
    aicc = aic + 2.0 * k * (k + 1) / room if room > 0 else float("nan")
    bic = fit.criterion + float(np.log(n_bic)) * k
    who = "this package" if program == "ours" else {"r": "R (lme4)"}.get(program, program.upper())
    who = "Stata" if program == "stata" else who
    sentence = f"AIC and BIC as in {who}: {counted} are counted; the n of BIC is {n_bic} ({what})."
    return InformationCriteria(program, k, n_bic, n_aicc, aic, aicc, bic, sentence)
