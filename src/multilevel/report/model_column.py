"""One model of a table of models, whatever its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from multilevel.design.records import Design
from multilevel.estimate.records import Certificate, Fit
from multilevel.interpret.variance import RESIDUAL, VarianceComponent, variance_components
from multilevel.report.residual_words import residual_heading


class TableFit(Protocol):
    """What a table reads from a fit of any family."""

    @property
    def method(self) -> str:
        """``"reml"`` or ``"ml"``."""
        ...

    @property
    def criterion(self) -> float:
        """-2 log-likelihood, or the REML criterion."""
        ...

    @property
    def aic(self) -> float:
        """Criterion + 2 parameters."""
        ...

    @property
    def bic(self) -> float:
        """Criterion + log(rows) parameters."""
        ...

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        ...

    @property
    def n(self) -> int:
        """Rows."""
        ...

    @property
    def certificate(self) -> Certificate:
        """Evidence of convergence."""
        ...


Cell = tuple[float, float]


class Column(Protocol):
    """One model of a table, whatever its family.

    Attributes
    ----------
    name : its column title.
    """

    @property
    def name(self) -> str:
        """The title of the column."""
        ...

    @property
    def fit(self) -> TableFit:
        """The fit."""
        ...

    @property
    def response(self) -> str:
        """The outcome."""
        ...

    @property
    def means(self) -> dict[str, Cell]:
        """Estimate and standard error of each fixed effect."""
        ...

    @property
    def others(self) -> dict[str, dict[str, Cell]]:
        """Heading -> estimates and errors of parts beside means and variances."""
        ...

    @property
    def variances(self) -> dict[str, float]:
        """Variances and covariances of random effects by label."""
        ...

    @property
    def residual(self) -> float | None:
        """The residual variance, or None where it is not a parameter of its own."""
        ...

    @property
    def levels(self) -> dict[str, int]:
        """Number of levels by grouping factor."""
        ...

    @property
    def family(self) -> str:
        """The family and its link in words."""
        ...

    @property
    def computed(self) -> str:
        """How the likelihood was computed; empty where it is exact."""
        ...


@dataclass(frozen=True)
class ModelColumn:
    """One Gaussian model of a table.

    Attributes
    ----------
    name : its column title.
    fit, design : the fit and its design.
    coefficients : its fixed effects, ``term, estimate, std_error``.
    """

    name: str
    fit: Fit
    design: Design
    coefficients: pd.DataFrame
    family: str = "Gaussian (identity link)"
    computed: str = ""

    @property
    def response(self) -> str:
        """The outcome."""
        return self.design.model.response

    @property
    def means(self) -> dict[str, Cell]:
        """Estimate and standard error of each fixed effect."""
        t = self.coefficients
        return {
            str(term): (float(value), float(error))
            for term, value, error in zip(t["term"], t["estimate"], t["std_error"], strict=True)
        }

    @property
    def others(self) -> dict[str, dict[str, Cell]]:
        """Parameters of the residual structure; correlations of one structure share a heading."""
        record = self.fit.residual
        if record is None:
            return {}
        cells = [
            (name, (float(value), float(error)))
            for name, value, error in zip(
                record.names, record.estimates, record.std_errors, strict=True
            )
        ]
        k = record.n_variances
        parts = {
            "Log residual variance, against the reference": dict(cells[:k]),
            f"Residuals: {residual_heading(self.fit, self.design)}": dict(cells[k:]),
        }
        return {heading: found for heading, found in parts.items() if found}

    @property
    def variances(self) -> dict[str, float]:
        """Variances and covariances of random effects by label."""
        found = variance_components(self.design, self.fit)
        return labelled_variances([c for c in found if c.group != RESIDUAL])

    @property
    def residual(self) -> float | None:
        """The residual variance."""
        return self.fit.sigma2

    @property
    def levels(self) -> dict[str, int]:
        """Number of levels by grouping factor."""
        return {b.group: b.n_levels for b in self.design.blocks}


def labelled_variances(components: Sequence[VarianceComponent]) -> dict[str, float]:
    """Variances and covariances by the labels that a table prints."""
    out: dict[str, float] = {}
    for c in components:
        label = f"{c.group}: covariance of {c.term}, {c.term2}"
        out[label if c.term2 else f"{c.group}: variance of {c.term}"] = c.variance
    return out
