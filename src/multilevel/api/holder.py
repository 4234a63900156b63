"""What every group of methods of a fitted model holds on to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multilevel.estimate.posterior import evaluated

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.gaussian.objective import GaussianObjective


class FitHolder:
    """The frozen problem and its fit; groups of methods inherit from it.

    Attributes
    ----------
    fit : the frozen numbers (``multilevel.estimate.records.Fit``).
    """

    _prepared: Prepared
    _labels: dict[str, str]
    fit: Fit
    _evaluated: GaussianObjective | None = None

    @property
    def design(self) -> Design:
        """The arrays that were analysed, with labels."""
        return self._prepared.design

    def _objective(self) -> GaussianObjective:
        """The objective factorised at the estimates; made once and kept (never pickled)."""
        if self._evaluated is None:
            self._evaluated = evaluated(self._prepared, self.fit)
        self._evaluated.ensure(self.fit.theta)
        return self._evaluated
