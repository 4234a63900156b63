"""Methods of a generalized fit: robust standard errors, the covariance of all parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from multilevel.api.frames import square_frame
from multilevel.api.generalized.means import (
    GeneralizedMeansMethods,
    GeneralizedRobust,
    counted_tests,
    effects_frame,
    without_error,
)
from multilevel.infer.generalized.terms import chosen_effects
from multilevel.infer.means_tests import coefficient_hypothesis


class GeneralizedCovarianceMethods(GeneralizedMeansMethods):
    """Covariances: robust ones of fixed effects, the joint one of all parameters."""

    def vcov_robust(
        self, type: GeneralizedRobust | None = None, cluster: Any = None
    ) -> pd.DataFrame:
        """Cluster-robust (sandwich) covariance of the fixed effects of the mean, (p, p).

        ``type`` is ``"CR1"`` (default) or ``"CR0"``; ``cluster`` the name of a grouping factor or
        one id per analysed row (default: the coarsest factor). Crossed factors are refused.
        """
        found = self._robust(type, cluster)
        effects = chosen_effects(self.design, self.fit, None, found.vcov)
        out = square_frame(effects.vcov_beta, effects.names)
        out.attrs["sentence"] = found.sentence
        return out

    def robust(
        self,
        type: GeneralizedRobust | None = None,
        cluster: Any = None,
        conf_level: float = 0.95,
        *,
        part: str | None = None,
    ) -> pd.DataFrame:
        """Fixed effects of a part with cluster-robust standard errors; t with clusters - 1 df."""
        covariance = self._robust(type, cluster)
        effects = chosen_effects(self.design, self.fit, part, covariance.vcov)
        found = counted_tests(
            effects,
            self._with_df(effects, None, covariance),
            coefficient_hypothesis(effects.names),
            conf_level,
        )
        return without_error(effects_frame(found))

    @property
    def vcov(self) -> pd.DataFrame:
        """Joint covariance of all parameters, labelled: fixed effects part by part, then the
        entries of the covariance factors ``Lambda`` (``G = Lambda Lambda'``) of each group."""
        return square_frame(self.fit.vcov, self._parameter_labels())

    def _parameter_labels(self) -> tuple[str, ...]:
        out = list(self.design.parameter_names)
        for block in self.design.blocks:
            curved = block.structure.curve_labels()
            for k, basis in enumerate(block.structure.basis):
                if k in curved:
                    out.append(f"{curved[k]} | {block.group}")
                    continue
                rows, cols = np.nonzero(basis)
                a, b = int(rows[0]), int(cols[0])
                names = block.names[a] if a == b else f"{block.names[a]}, {block.names[b]}"
                out.append(f"Lambda({names} | {block.group})")
        return tuple(out)
