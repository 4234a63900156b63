"""The fitted generalized model that users hold. Methods are one call each into the rooms below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import square_frame
from multilevel.api.generalized.compare import GeneralizedComparisonMethods
from multilevel.api.generalized.covariances import GeneralizedCovarianceMethods
from multilevel.api.generalized.interpretation import InterpretationMethods
from multilevel.api.generalized.intervals import GeneralizedIntervalMethods
from multilevel.api.generalized.rows import GeneralizedRowMethods
from multilevel.api.generalized.words import WordsMethods
from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.estimate.generalized.prepare import GeneralizedPrepared
    from multilevel.estimate.generalized.records import Approximation, GeneralizedFit
    from multilevel.estimate.records import Certificate
    from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class GeneralizedMultilevelFit(
    GeneralizedComparisonMethods,
    GeneralizedCovarianceMethods,
    GeneralizedIntervalMethods,
    GeneralizedRowMethods,
    WordsMethods,
    InterpretationMethods,
):
    """A fitted generalized multilevel model; printing it gives the summary.

    ``multilevel.fit`` makes it where ``family`` is not Gaussian. Rows always means the analysed
    rows: those of the table that have every variable of the model.

    Attributes
    ----------
    fit : the frozen numbers (``multilevel.estimate.generalized.records.GeneralizedFit``).
    design : the frozen arrays (``multilevel.design.generalized.GeneralizedDesign``).
    """

    def __init__(
        self,
        prepared: GeneralizedPrepared,
        fit: GeneralizedFit,
        *,
        labels: Mapping[str, str] | None = None,
        shows_advice: bool = True,
        allow: tuple[str, ...] = (),
    ) -> None:
        self._prepared, self.fit = prepared, fit
        self._labels, self._shows_advice = dict(labels or {}), shows_advice
        self._allow = allow

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be computed again."""
        return {k: v for k, v in self.__dict__.items() if k != "_set_objective"}

    # -- the model for the means ---------------------------------------------------------------

    @property
    def family(self) -> Family:
        """The outcome family with its linear predictors."""
        return self.design.family

    @property
    def fixed_effects(self) -> pd.Series[float]:
        """Estimated fixed effects of the mean, (p,) by term, on the link scale."""
        return pd.Series(
            self.fit.beta, index=list(self.design.parts[0].names), name="estimate", copy=True
        )

    def part(self, name: str) -> pd.DataFrame:
        """Estimates of one part (``"dispersion"``, ``"zero"``, ``"threshold 1"``...): one row per
        term with ``term, estimate, std_error`` on the scale of its predictor.

        The name of an argument of ``fit`` means the parts that it describes: ``"hurdle"``; with
        several parts (``"thresholds"``, or ``"categories"`` of a nominal response) a column
        ``part`` comes first. Raises ``InferenceError`` for a part that the family does not have.
        """
        specs = [part.spec for part in self.design.parts]
        names = [spec.name for spec in specs]
        if name in names:
            return self._part_table(names.index(name))
        argument = "zero" if name == "hurdle" else name
        found = [d for d, spec in enumerate(specs) if argument and spec.argument == argument]
        if name == "categories":
            found = [d for d, spec in enumerate(specs) if spec.name.startswith("category ")]
        if not found or (name == "hurdle" and self.family.option("zero") != "hurdle"):
            raise InferenceError(
                f"The parts of this family are {', '.join(names)}.", repr(name), "choose one"
            )
        tables = [self._part_table(d) for d in found]
        if len(found) == 1:
            return tables[0]
        for d, table in zip(found, tables, strict=True):
            table.insert(0, "part", names[d])
        return pd.concat(tables, ignore_index=True)

    def _part_table(self, d: int) -> pd.DataFrame:
        estimates, errors = self.fit.coefficients(d)
        return pd.DataFrame(
            {"term": self.design.parts[d].names, "estimate": estimates, "std_error": errors}
        )

    @property
    def vcov_fixed(self) -> pd.DataFrame:
        """Covariance of the fixed effects of the mean, (p, p), from the observed information."""
        return square_frame(self.fit.vcov_beta, self.design.parts[0].names)

    # -- the model for the variance ------------------------------------------------------------

    @property
    def random_covariance(self) -> dict[str, pd.DataFrame]:
        """``{group: G}``: covariance matrix of the random effects, on the link scale."""
        pairs = zip(self.design.blocks, self.fit.random_covariance, strict=True)
        return {block.group: square_frame(G, block.names) for block, G in pairs}

    # -- how well, on what ---------------------------------------------------------------------

    @property
    def minus2_loglik(self) -> float:
        """Minus twice the log-likelihood by the approximation, every constant included."""
        return self.fit.criterion

    @property
    def aic(self) -> float:
        """Criterion + 2 parameters."""
        return self.fit.aic

    @property
    def bic(self) -> float:
        """Criterion + log(rows) parameters."""
        return self.fit.bic

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return self.fit.n_parameters

    @property
    def n(self) -> int:
        """Number of analysed rows."""
        return self.fit.n

    @property
    def rows(self) -> NDArray[np.intp]:
        """(n,) positions of the analysed rows in the table."""
        return self.design.mean.rows.kept

    @property
    def groups(self) -> dict[str, int]:
        """``{grouping factor: number of levels}``."""
        return {block.group: block.n_levels for block in self.design.blocks}

    @property
    def certificate(self) -> Certificate:
        """Evidence that the estimates are the optimum."""
        return self.fit.certificate

    @property
    def approximation(self) -> Approximation:
        """How the integral over the random effects was computed, and how well."""
        return self.fit.approximation

    @property
    def is_singular(self) -> bool:
        """Whether the optimum lies on the boundary."""
        return self.fit.certificate.status == "singular"
