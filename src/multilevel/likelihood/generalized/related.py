"""Laplace's approximation for rows with several levels and levels that are correlated.

The engine of crossed factors in other coordinates (``related_layout``): everything that it says of
``u`` holds for ``c``, the effects of the levels before ``Lambda``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.joint_error import JointSample, sample_jointly
from multilevel.likelihood.generalized.mode_search import ModePoint
from multilevel.likelihood.generalized.related_layout import lay_out_related
from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage_choice import StoragePlan
from multilevel.likelihood.generalized.storage_related import choose_related

Array = NDArray[np.float64]


class RelatedLaplace(CrossedLaplace):
    """``-2 log L`` by Laplace's approximation for general random effects.

    ``modes`` and ``mode_covariance`` are of ``c`` with ``b = Lambda c``, levels without rows
    included. No set of independent clusters is known: ``cluster_scores`` is None.
    """

    def _lay_out(self, storage: str | None) -> tuple[RowLayout, StoragePlan]:
        layout = lay_out_related(self.problem)
        return layout, choose_related(layout, storage)

    def cluster_scores(self) -> Array | None:
        """None: rows of different levels share random effects."""
        return None

    def posterior_product(self, loads: Array) -> Array:
        """``Var(c | y) loads`` (N, k), unknowns block after block, level after level."""
        self._set_point()
        place = np.concatenate([effects.ravel() for effects in self.storage.effects])
        own = np.empty_like(loads)
        own[place] = loads
        return np.asarray(self.storage.solve(own)[place])

    def _sample(self, point: ModePoint, rng: np.random.Generator, draws: int) -> JointSample:
        return sample_jointly(self.search, self._fixed, self._Z, point, rng, draws)
