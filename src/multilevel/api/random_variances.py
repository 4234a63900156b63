"""Methods about variances between clusters that differ by group, predictor or cluster."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records, square_frame
from multilevel.api.holder import FitHolder
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.random_scale import (
    RandomScaleEffect,
    level_covariance,
    random_scale_effects,
    require_scale,
)
from multilevel.interpret.row_variances import row_shares


class RandomVarianceMethods(FitHolder):
    """Which clusters, and which rows, vary more."""

    def random_scale_effects(self, conf_level: float = 0.95) -> pd.DataFrame:
        """Effects of ``random_scale=`` on the spread of each random effect, in percent per unit.

        Columns ``group, effect, term, estimate, std_error, statistic, p_value`` (of the log
        standard deviation, Wald z), ``sd_ratio, sd_ratio_low, sd_ratio_high, percent_sd``,
        ``percent_variance, percent_variance_low, percent_variance_high, sentence``.

        Raises
        ------
        InferenceError : a model without ``random_scale=``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb(), random_scale="~ sector")
        >>> m.random_scale_effects()["percent_variance"].round(0).tolist()
        [9.0]
        """
        found = random_scale_effects(self.design, self.fit, check_level(conf_level))
        out = frame_of_records(require_scale(found), RandomScaleEffect)
        out.attrs["sentence"] = " ".join(one.sentence for one in found)
        return out

    def cluster_random_covariance(
        self, level: Hashable, group: str | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``G`` of the random effects of one cluster, and their correlations.

        The same in all clusters unless the model has ``random_scale=`` (standard deviations at the
        predictors of the cluster) or ``by=`` (the matrix of its group).

        Parameters
        ----------
        level : label of the cluster.
        group : grouping factor; the coarsest if not given.
        """
        found = level_covariance(self.design, self.fit, group, level)
        names = list(found.effects)
        return square_frame(found.covariance, names), square_frame(found.correlation, names)

    def row_variances(self, data: Any = None, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Variances and the intraclass correlation as functions of predictors and cluster.

        Parameters
        ----------
        data : rows to answer for; None takes the analysed rows.

        Returns
        -------
        Frame ``location_variance, residual_variance, residual_sd, icc, std_error, conf_low,
        conf_high`` (of the icc), one row per row of ``data``; NaN where a predictor is missing.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school, by=sector)", mlm.load_hsb())
        >>> m.row_variances({"ses": [0, 0], "sector": [0, 1], "school": [1224, 1308]}).shape
        (2, 7)
        """
        found = row_shares(self._prepared, self.fit, data, check_level(conf_level))
        index = data.index if isinstance(data, pd.DataFrame) else None
        arrays = {k: v for k, v in vars(found).items() if isinstance(v, np.ndarray)}
        out = pd.DataFrame(arrays, index=index)
        out.attrs["sentence"] = found.sentence
        return out
