"""Methods of a generalized fit that make others: simulated responses, refits, updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from multilevel.api.generalized.holder import GeneralizedHolder
from multilevel.api.result import require_certified
from multilevel.estimate.generalized.accuracy import (
    Accuracy,
    check_accuracy,
    fit_generalized,
    with_error,
)
from multilevel.estimate.generalized.prepare import with_outcome
from multilevel.infer.generalized.draws import check_outcome, penalty_names, refitted
from multilevel.simulate.generalized import simulate_outcomes

if TYPE_CHECKING:
    from multilevel.estimate.generalized.prepare import GeneralizedPrepared
    from multilevel.estimate.generalized.records import GeneralizedFit

Array = NDArray[np.float64]
SimulationKind = Literal["new", "conditional"]
SEED, DRAWS = 0, 400  # of the estimated error of the approximation, as in ``fit``


class GeneralizedRowMethods(GeneralizedHolder):
    """Simulate, refit, update."""

    _allow: tuple[str, ...]

    def simulate(
        self,
        n_sim: int = 1,
        seed: int | np.random.Generator | None = None,
        *,
        kind: SimulationKind = "new",
    ) -> Array:
        """Draw responses from the fitted model: (n, n_sim), in the units of ``design.response.y``.

        Counts of successes for binomial responses, codes 0..C-1 for categories, uncensored values
        for censored ones. ``"new"`` draws new random effects for each column; ``"conditional"``
        keeps the modes. The same ``seed`` gives the same numbers.
        """
        return simulate_outcomes(self._prepared, self.fit, n_sim, seed, kind=kind)

    def refit(self, y: Any) -> Self:
        """Fit the same model to another response, (n,) in the order of the analysed rows.

        ``y`` is in the units that ``simulate`` gives. Starts from this fit's estimates, by the
        same approximation; what this fit was told to allow holds for the new one too.

        Raises
        ------
        InferenceError : a value that the family does not allow.
        """
        values = np.asarray(y, dtype=np.float64)
        check_outcome(self.design, values)
        prepared = with_outcome(self._prepared, values)
        fit = refitted(prepared, self.fit)
        if prepared.problem.blocks and self.fit.approximation.error is not None:
            rng = np.random.default_rng(SEED)
            fit = with_error(prepared, fit, fit.approximation.points, rng, DRAWS)
        return self._like(prepared, fit)

    def update(
        self,
        *,
        n_quad: int | tuple[int, ...] | None = None,
        accuracy: str = "report",
        penalty: str | Sequence[str] | None = None,
    ) -> Self:
        """Fit the same model to the same rows with another approximation or penalty.

        Parameters
        ----------
        n_quad : quadrature points per random effect; 1 is Laplace; None chooses as ``fit`` does.
        accuracy : ``"report"``, ``"auto"`` or ``"none"``, as in ``fit``.
        penalty : names as in ``fit``; None keeps this fit's penalty, ``()`` takes it away.
        """
        checked: Accuracy = check_accuracy(accuracy)
        names = penalty_names(self.fit) if penalty is None else penalty
        fit = fit_generalized(
            self._prepared, n_quad=n_quad, accuracy=checked, penalty=names or None
        )
        return self._like(self._prepared, fit)

    def _like(self, prepared: GeneralizedPrepared, fit: GeneralizedFit) -> Self:
        """A result like this one around another fit; not certified ones are refused."""
        require_certified(fit, self._allow, stacklevel=4)
        make = cast(Any, type(self))
        made: Self = make(
            prepared,
            fit,
            labels=self._labels,
            shows_advice=self._shows_advice,
            allow=self._allow,
        )
        return made
