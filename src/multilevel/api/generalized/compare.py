"""Methods of a generalized fit that compare it with other models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.holder import GeneralizedHolder
from multilevel.errors import InferenceError
from multilevel.infer.compare import LikelihoodRatio
from multilevel.infer.conventions import InformationCriteria, Program, check_program
from multilevel.infer.generalized.compare import (
    OutcomeCandidate,
    OutcomeComparison,
    compare_outcomes,
    outcome_criteria,
)
from multilevel.infer.generalized.compare_random import (
    ProportionalOddsTest,
    outcome_random_tests,
    overdispersion_test,
    proportional_odds_tests,
)

SEED = 20_240_607  #: Draws for mixtures without a closed form are the same from run to run.


def compare_generalized(
    models: Sequence[GeneralizedHolder],
    labels: Sequence[str],
    *,
    program: Program,
    refit: bool,
    allow: Sequence[str],
    seed: int,
) -> OutcomeComparison:
    """The comparison behind ``multilevel.compare`` for generalized fits."""
    if any(m.fit.method == "reml" for m in models):
        raise InferenceError(
            "Location-scale models are compared by their likelihood.",
            "a REML-type fit",
            'fit with method="ml"',
        )
    candidates = [
        OutcomeCandidate(label, m._prepared, m.fit) for label, m in zip(labels, models, strict=True)
    ]
    rng = np.random.default_rng(seed)
    return compare_outcomes(candidates, rng, program=program, refit=refit, allow=allow)


class GeneralizedComparisonMethods(GeneralizedHolder):
    """Information criteria, and tests of parts of the model."""

    def information_criteria(self, as_in: str | None = None) -> InformationCriteria:
        """AIC, AICc and BIC by the rules of ``"stata"``, ``"sas"``, ``"spss"`` or ``"r"``."""
        return outcome_criteria(self.design, self.fit, check_program(as_in))

    def random_tests(self, *, seed: int = SEED) -> pd.DataFrame:
        """Test each random effect by leaving it out, a slope with its covariances.

        Columns ``term, group, statistic, df, p_naive, p_value, p_exact, distribution, sentence``
        as for Gaussian models; there is no exact distribution here (``p_exact`` is NaN). The
        smaller models are fitted by the same approximation of the likelihood.

        Parameters
        ----------
        seed : of draws where the mixture has no closed form.
        """
        found = outcome_random_tests(self._prepared, self.fit, np.random.default_rng(seed))
        frame = pd.DataFrame([asdict(test) for test in found])
        frame.attrs["sentence"] = " ".join(test.sentence for test in found)
        return frame

    def proportional_odds_test(self, *, seed: int = SEED) -> pd.DataFrame:
        """Test whether each term has the same effect on every threshold (likelihood ratio).

        For ordered responses: against the partial proportional odds model in which the effects of
        the term differ between thresholds, term by term, then all at once. Columns ``term,
        statistic, df, p_value, status, sentence``; a larger model without an optimum (crossing
        thresholds) is a row with its status.
        """
        found = proportional_odds_tests(self._prepared, self.fit, np.random.default_rng(seed))
        frame = frame_of_records(found, ProportionalOddsTest)
        frame.attrs["sentence"] = " ".join(test.sentence for test in found)
        return frame

    def overdispersion_test(self, *, seed: int = SEED) -> pd.DataFrame:
        """Test a Poisson model against the negative binomial (NB2): one row.

        ``alpha = 0`` is on the boundary: ``p_value`` is that of the 50:50 mixture of chi2(0) and
        chi2(1), half of ``p_naive``. Columns as in ``compare(...)`` with ``fewer, more``.
        """
        test = overdispersion_test(self._prepared, self.fit, np.random.default_rng(seed))
        frame = frame_of_records([test], LikelihoodRatio)
        frame.attrs["sentence"] = test.sentence
        return frame
