"""What every group of methods of a fitted generalized model holds on to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multilevel.likelihood.generalized.choose import make_objective

if TYPE_CHECKING:
    from multilevel.design.generalized import GeneralizedDesign
    from multilevel.estimate.generalized.prepare import GeneralizedPrepared
    from multilevel.estimate.generalized.records import GeneralizedFit
    from multilevel.likelihood.generalized.objective import GeneralizedObjective
    from multilevel.likelihood.generalized.problem import GeneralizedProblem


class GeneralizedHolder:
    """The frozen problem and its fit; groups of methods inherit from it.

    Attributes
    ----------
    fit : the frozen numbers (``multilevel.estimate.generalized.records.GeneralizedFit``).
    """

    _prepared: GeneralizedPrepared
    _labels: dict[str, str]
    _shows_advice: bool
    fit: GeneralizedFit
    _set_objective: GeneralizedObjective | None = None

    @property
    def design(self) -> GeneralizedDesign:
        """The arrays that were analysed, with labels."""
        return self._prepared.design

    @property
    def _problem(self) -> GeneralizedProblem:
        return self._prepared.problem

    def _objective(self) -> GeneralizedObjective:
        """The objective set at the estimates; made once and kept (never pickled)."""
        if self._set_objective is None:
            objective = make_objective(self._problem, self.fit.approximation.points or None)
            objective.set_modes(self.fit.modes)
            objective.value(self.fit.psi)
            self._set_objective = objective
        return self._set_objective
