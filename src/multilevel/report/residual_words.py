"""The residual structure of a Gaussian model in words."""

from __future__ import annotations

import numpy as np

from multilevel.design.records import Design
from multilevel.estimate.records import Fit, ResidualFit
from multilevel.model.scale_power import POWER_OF_MEAN
from multilevel.report.layout import number, percent, share

_LOG = "log_variance("
#: Correlation at one and two steps as functions of ``rho``.
_POWERS = ("ar1", "arh1")
_MOST = 6


def residual_heading(fit: Fit, design: Design) -> str:
    """Name of the structure, with the unit: ``first-order autoregressive within id``."""
    record = fit.residual
    if record is None:
        return ""
    layout = design.residual
    term = None if layout is None else layout.term
    return (
        record.title if term is None or not term.factors else f"{record.title} within {term.group}"
    )


def residual_sentences(fit: Fit, design: Design) -> tuple[str, ...]:
    """What the residual parameters say: variances in percent, correlations at one and two steps."""
    record = fit.residual
    if record is None:
        return ()
    out = []
    values = dict(zip(record.names, record.estimates, strict=True))
    for name, value in list(values.items())[: record.n_variances][:_MOST]:
        if name == POWER_OF_MEAN:
            out.append(
                "The residual standard deviation grows with the mean to the power"
                f" {number(float(value), 2)}."
            )
            continue
        change = float(np.expm1(value))
        more = "larger" if change >= 0.0 else "smaller"
        what = name.removeprefix(_LOG)[:-1]
        out.append(
            f"The residual variance is {percent(abs(change))} {more} for {what} (per unit, or"
            " against the reference)."
        )
    layout = design.residual
    term = None if layout is None else layout.term
    if layout is None or term is None:
        return tuple(out)
    for name, value in values.items():
        if name != "rho" and not name.startswith("rho ["):
            continue
        where = f" ({name[5:-1]})" if name.startswith("rho [") else ""
        if term.structure in _POWERS:
            time, step = term.coordinates[0], f"{layout.time.step:g}"
            out.append(
                f"Residuals of one {term.group} {step} apart in {time} correlate"
                f" {share(float(value))}, twice as far apart {share(float(value) ** 2)}{where}."
            )
        elif term.structure in ("cs", "csh"):
            out.append(
                f"Any two residuals of one {term.group} correlate {share(float(value))}{where}."
            )
    return tuple(out)


def residual_methods_sentence(fit: Fit, design: Design) -> str:
    """A sentence for the methods section with every residual parameter; empty without any."""
    record = fit.residual
    if record is None:
        return ""
    layout = design.residual
    term = None if layout is None else layout.term
    start = ""
    if term is not None:
        apart = f", with parameters of its own for each category of {term.by}" if term.by else ""
        time = f" over {' and '.join(term.coordinates)}" if term.coordinates else ""
        start = f"The residual structure was {residual_heading(fit, design)}{time}{apart}"
    scale = design.model.scale
    if scale is not None:
        depends = f"the log of the residual variance depended on {scale}"
        start = f"{start}, and {depends}" if start else depends[0].upper() + depends[1:]
    listed = "; ".join(_parameters(record))
    if not start:
        return ""
    return f"{start}: {listed}." if listed else f"{start}."


def _parameters(record: ResidualFit) -> list[str]:
    """``rho = 0.61 (SE = 0.15)`` for each parameter."""
    out = []
    for name, value, error in zip(record.names, record.estimates, record.std_errors, strict=True):
        if name.startswith("log_sd("):
            continue
        about = f" (SE = {number(float(error), 3)})" if np.isfinite(error) else ""
        out.append(f"{name} = {number(float(value), 3)}{about}")
    return out
