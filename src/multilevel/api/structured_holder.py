"""What every group of methods of a fit with structured residuals holds on to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import frame_of_records
from multilevel.api.result import MultilevelFit
from multilevel.errors import InferenceError
from multilevel.estimate.structured import at_estimates
from multilevel.infer.degrees_of_freedom import DfApproach, check_df, default_df
from multilevel.infer.residual_df import structured_kenward_roger, structured_satterthwaite
from multilevel.infer.residual_intervals import ResidualParameter, residual_parameters
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.variance_share import Evidence
from multilevel.likelihood.residual.objective import StructuredObjective

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.estimate.structured import StructuredPrepared

Array = NDArray[np.float64]


def refuse(what: str, remedy: str) -> NoReturn:
    """Say that a method is not there for such a model.

    Raises
    ------
    InferenceError : always.
    """
    raise InferenceError(
        f"{what} is not available for a model with structured residuals.",
        "a fit with residual= or scale=",
        remedy,
    )


class StructuredHolder(MultilevelFit):
    """The problem with its residual structure, and its fit."""

    def __init__(
        self, structured: StructuredPrepared, prepared: Prepared, fit: Fit, **options: Any
    ) -> None:
        super().__init__(prepared, fit, **options)
        phi = np.zeros(0) if fit.residual is None else fit.residual.phi
        self._structured = at_estimates(structured, phi)
        self._joint: StructuredObjective | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be computed again."""
        return {**super().__getstate__(), "_joint": None}

    @property
    def _psi(self) -> Array:
        record = self.fit.residual
        phi = np.zeros(0) if record is None else record.phi
        return np.concatenate([self.fit.theta, phi])

    def _joint_objective(self) -> StructuredObjective:
        if self._joint is None:
            self._joint = self._structured.objective()
        self._joint.ensure(self._psi)
        return self._joint

    def _approach(self, df: str | None) -> DfApproach:
        name = default_df(self.fit.method) if df is None else check_df(df)
        if name in ("between-within", "containment"):
            self._check_unit_is_a_factor(name)
        if name not in ("satterthwaite", "kenward-roger"):
            return super()._approach(name)
        if self._approaches is None:
            self._approaches = {}
        if name not in self._approaches:
            joint = self._joint_objective()
            if name == "satterthwaite":
                found: DfApproach = structured_satterthwaite(
                    self._structured, self.fit, joint, self._psi
                )
            else:
                found = structured_kenward_roger(
                    self._structured, self._prepared, self.fit, joint, self._psi
                )
            self._approaches[name] = found
        return self._approaches[name]

    def _check_unit_is_a_factor(self, method: str) -> None:
        """Counted degrees of freedom know the levels of the random terms only."""
        term = self._structured.layout.term
        if term is None or not term.factors:
            return
        if term.group not in {block.group for block in self.design.blocks}:
            refuse(
                f"df={method!r} without random effects of {term.group}",
                "write df='satterthwaite' or df='kenward-roger'",
            )

    def _slope_evidence(self) -> Evidence:
        return Evidence(self._prepared, self.fit, self._objective(), self._approach)

    def residual_parameters(self, conf_level: float = 0.95) -> pd.DataFrame:
        """Parameters of the residual structure with Wald intervals.

        Columns ``term, estimate, std_error, conf_low, conf_high, sentence``. ``log_variance(...)``
        is the log of a ratio of variances (per unit of a predictor, or against the reference).
        """
        found = residual_parameters(self._structured, self.fit, check_level(conf_level))
        return frame_of_records(found, ResidualParameter)
