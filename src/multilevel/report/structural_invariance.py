"""Comparison of invariance models as sections, ready for terminal and notebook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.infer.structural_fit import FitMeasures
from multilevel.infer.structural_invariance import ConstraintTest, InvarianceTest
from multilevel.model.structural.invariance import InvarianceStep
from multilevel.report.layout import Grid, Section, number
from multilevel.report.summary import p_text


def invariance_sections(
    steps: Sequence[InvarianceStep],
    measures: Sequence[FitMeasures],
    tests: Sequence[InvarianceTest],
    faults: Sequence[ConstraintTest],
    sentences: Sequence[str],
    notes: Sequence[str],
    *,
    is_scaled: bool,
) -> list[Section]:
    """Answer, models, difference tests, constraints at fault, notes."""
    out = [
        Section("Answer", sentences=tuple(sentences)),
        Section("Models", lines=tuple(f"{s.name}: {s.words}" for s in steps),
                grid=_models(steps, measures, is_scaled)),
        Section(f"Against the step before{' (scaled, MLR)' if is_scaled else ''}",
                grid=_tests(tests)),
    ]  # fmt: skip
    if faults:
        out.append(
            Section(
                "Constraints of the step that fails, by score tests",
                grid=_faults(faults),
            )
        )
    out.append(Section("Notes", sentences=tuple(notes)))
    return out


def _models(
    steps: Sequence[InvarianceStep], measures: Sequence[FitMeasures], is_scaled: bool
) -> Grid:
    has_between = any(np.isfinite(m.srmr_between) for m in measures)
    header = ["Step", "chi2", "df", "p", "CFI", "TLI", "RMSEA", "SRMR w" if has_between else "SRMR"]
    higher = [name for name, _ in measures[0].srmr_higher]
    header += ["SRMR 2" if higher else "SRMR b"] * has_between
    header += [f"SRMR {k}" for k, _ in enumerate(higher, 3)] + ["AIC", "BIC"]
    body = []
    for step, m in zip(steps, measures, strict=True):
        robust = is_scaled and np.isfinite(m.model.scaled)
        chi2 = m.model.scaled if robust else m.model.statistic
        p = m.model.p_value_scaled if robust else m.model.p_value
        row = [step.name, number(chi2, 2), str(m.model.df), p_text(p) if m.model.df else ""]
        row += [
            _three(x)
            for x in (
                (m.cfi_robust, m.tli_robust, m.rmsea_robust) if robust else (m.cfi, m.tli, m.rmsea)
            )
        ]
        row.append(_three(m.srmr_within))
        row += [_three(m.srmr_between)] * has_between
        row += [_three(value) for _, value in m.srmr_higher]
        body.append((*row, number(m.aic, 1), number(m.bic, 1)))
    return Grid(tuple(header), tuple(body))


def _three(value: float) -> str:
    """Three decimals; measures of fit need no more however small."""
    return f"{value:.3f}" if np.isfinite(value) else ""


def _tests(tests: Sequence[InvarianceTest]) -> Grid:
    header = ("Step", "chi2", "df", "p", "CFI change", "RMSEA change", "holds")
    body = tuple(
        (t.step, number(t.statistic, 2), str(t.df), p_text(t.p_value),
         f"{t.change_cfi:+.3f}", f"{t.change_rmsea:+.3f}", "yes" if t.holds else "no")
        for t in tests
    )  # fmt: skip
    return Grid(header, body)


def _faults(faults: Sequence[ConstraintTest]) -> Grid:
    has_group = any(t.group for t in faults)
    has_level = any(t.level for t in faults)
    header = ["Parameter"] + ["Level"] * has_level + ["Group"] * has_group
    n_words = len(header)
    header += ["Held at", "Expected change", "chi2(1)", "p"]
    body = tuple(
        tuple(
            [t.parameter] + [t.level] * has_level + [t.group] * has_group
            + [number(t.value, 3), f"{t.expected_change:+.3f}", f"{t.statistic:.2f}",
               p_text(t.p_value)]
        )
        for t in faults[:10]
    )  # fmt: skip
    return Grid(tuple(header), body, n_words)
