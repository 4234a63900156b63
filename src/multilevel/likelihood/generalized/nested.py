"""The engine of one grouping factor: Laplace by cluster, with the exact gradient."""

from __future__ import annotations

import numpy as np

from multilevel.likelihood.generalized.cluster_objective import ClusterObjective
from multilevel.likelihood.generalized.correction import Correction
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.quadrature import cluster_correction, estimate_error


class NestedLaplace(ClusterObjective):
    """Laplace approximation of a model with one grouping factor (``GeneralizedObjective``).

    Parameters
    ----------
    problem, compiled, threads : as in ``ClusterObjective``.
    """

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Estimated error at the point last set, by ``quadrature.estimate_error``."""
        return estimate_error(self, rng, draws)

    def correction(self, rng: np.random.Generator, draws: int) -> Correction:
        """The error with its draws, by ``quadrature.cluster_correction``."""
        return cluster_correction(self, rng, draws)
