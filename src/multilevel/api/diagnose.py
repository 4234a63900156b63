"""Methods of a fitted model that check it: robust standard errors, residuals, influence."""

from __future__ import annotations

from typing import Any

import pandas as pd

from multilevel.api.frames import square_frame
from multilevel.api.holder import FitHolder
from multilevel.infer.robust import RobustType, robust_coefficients, robust_covariance


class DiagnosticMethods(FitHolder):
    """Checks of a fit; every table says in ``attrs["sentence"]`` what it holds."""

    def vcov_robust(self, type: RobustType = "CR2", cluster: Any = None) -> pd.DataFrame:
        """Cluster-robust covariance of the fixed effects, (p, p).

        Parameters
        ----------
        type : ``"CR0"`` (HLM's), ``"CR1"`` (times J / (J - 1), Stata's), ``"CR1S"``, ``"CR2"``
            (unbiased if the model is right) or ``"CR3"`` (near the jackknife). With several
            clusterings (crossed factors) ``"CR0"`` and ``"CR1"``.
        cluster : None for the top level, or all crossed top factors; a grouping factor of the
            model; a list of them; or one id per analysed row.

        Raises
        ------
        InferenceError : see the message.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
        >>> round(float(m.vcov_robust("CR0").iloc[0, 0]) ** 0.5, 6)
        0.243628
        """
        found = robust_covariance(self._prepared, self._objective(), type=type, cluster=cluster)
        out = square_frame(found.vcov, self.design.names)
        out.attrs["sentence"] = found.sentence
        return out

    def robust(
        self, type: RobustType = "CR2", cluster: Any = None, *, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Fixed effects with cluster-robust standard errors, t tests and intervals.

        Columns ``term, estimate, std_error, df, statistic, p_value, conf_low, conf_high``. See
        ``vcov_robust`` for the types and the clusters. Degrees of freedom: Satterthwaite
        (Pustejovsky & Tipton 2018); with several clusterings, the fewest clusters minus 1.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> m.robust()[["term", "std_error", "df"]].round(3).to_numpy().tolist()
        [['(Intercept)', 0.188, 158.581], ['ses', 0.12, 142.715]]
        """
        covariance = robust_covariance(
            self._prepared, self._objective(), type=type, cluster=cluster
        )
        found = robust_coefficients(self.fit.beta, covariance, conf_level)
        out = pd.DataFrame(
            {
                "term": list(self.design.names),
                "estimate": found.estimate,
                "std_error": found.std_error,
                "df": found.df,
                "statistic": found.statistic,
                "p_value": found.p_value,
                "conf_low": found.conf_low,
                "conf_high": found.conf_high,
            }
        )
        out.attrs["sentence"] = found.sentence
        out.attrs["conf_level"] = conf_level
        return out
