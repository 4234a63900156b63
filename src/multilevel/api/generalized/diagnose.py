"""Methods that check a fitted generalized model."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from multilevel.api.effects import sentence_frame
from multilevel.api.generalized.predictions import EvidenceHolder
from multilevel.interpret.advice.record import Advice
from multilevel.interpret.generalized.advice import advise_generalized
from multilevel.interpret.generalized.checks import (
    Check,
    calibration,
    cluster_influence,
    run_checks,
)


class GeneralizedDiagnosticMethods(EvidenceHolder):
    """Dispersion, zeros, distribution, separation, influential clusters, advice."""

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        """What to look at again: errors first, then warnings, then notes."""
        return advise_generalized(self.design, self.fit)

    def checks(self, n_sim: int = 250, *, seed: int | np.random.Generator = 0) -> pd.DataFrame:
        """Checks of the model against its response.

        Parameters
        ----------
        n_sim : simulated data sets (new random effects, new responses).
        seed : of the simulation.

        Returns
        -------
        Frame ``check, statistic, expected, p_value``: ``pearson`` (chi-square over degrees of
        freedom given the random effects; counts and binomial trials), ``uniformity``,
        ``dispersion`` and ``outliers`` (simulated), ``zeros`` (share of zeros; simulated) and
        ``separation`` (share of extreme predictors). ``attrs["sentence"]`` in words.

        Raises
        ------
        InferenceError : fewer than 20 simulations.
        """
        found = run_checks(self._evidence(), n_sim, np.random.default_rng(seed))
        return sentence_frame(found, Check)

    def influence(self) -> pd.DataFrame:
        """What leaving out each level of the coarsest factor would change, to first order.

        Frame ``level, n_rows, cooks_distance, change[...]`` for every fixed effect (parts other
        than the mean in front); ``attrs["sentence"]`` names the most influential level.

        Raises
        ------
        InferenceError : crossed factors, or no random effects.
        """
        found = cluster_influence(self._evidence())
        columns: dict[str, object] = {
            "level": found.levels,
            "n_rows": found.n_rows,
            "cooks_distance": found.cooks_distance,
        }
        for k, name in enumerate(self.design.parameter_names):
            columns[f"change[{name}]"] = found.change[:, k]
        out = pd.DataFrame(columns)
        out.attrs["group"], out.attrs["sentence"] = found.group, found.sentence
        return out

    def calibration(self, n_bins: int = 10) -> pd.DataFrame:
        """Observed against expected responses in bins of equal size.

        Frame ``expected, observed, std_error, n_rows``; expectations with the estimated random
        effects.
        """
        expected, seen, error, sizes = calibration(self._evidence(), n_bins=n_bins)
        out = pd.DataFrame(
            {"expected": expected, "observed": seen, "std_error": error, "n_rows": sizes}
        )
        out.attrs["sentence"] = (
            "Rows in the order of their expected response, in bins; observed is the mean response "
            "of a bin. Estimated random effects are part of the expectation."
        )
        return out
