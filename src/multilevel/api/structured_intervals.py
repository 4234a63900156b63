"""Intervals of a fit with structured residuals."""

from __future__ import annotations

from typing import Any

import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.structured_holder import StructuredHolder, refuse
from multilevel.infer.residual_intervals import ResidualParameter, profiled_parameters
from multilevel.interpret.intraclass import check_level


class StructuredIntervalMethods(StructuredHolder):
    """Intervals of fixed effects and residual parameters."""

    def confint(self, method: str = "wald", **options: Any) -> pd.DataFrame:
        """Wald intervals of the fixed effects and the residual parameters; profile of the latter.

        ``conf_level`` (and, for ``"wald"``, ``df``) as in ``coefficients``. Columns ``term,
        component, estimate, std_error, conf_low, conf_high``. ``"profile"`` gives the residual
        parameters by the criterion that was fitted; bootstrap intervals are not available.
        """
        allowed = {"wald": {"conf_level", "df"}, "profile": {"conf_level"}}.get(method, set())
        stray = ", ".join(sorted(set(options) - allowed))
        if method not in ("wald", "profile") or stray:
            refuse(f"confint({method!r}{', ' + stray if stray else ''})", "write confint('wald')")
        level = check_level(options.get("conf_level", 0.95))
        columns = ["term", "component", "estimate", "std_error", "conf_low", "conf_high"]
        if method == "profile":
            found = profiled_parameters(self._structured, self.fit, level)
            only = frame_of_records(found, ResidualParameter)
            only.insert(1, "component", "residual")
            only.attrs["sentence"] = f"{100 * level:g}% profile intervals of the criterion."
            return only[columns]
        fixed = self.coefficients(df=options.get("df"), conf_level=level)
        fixed.insert(1, "component", "fixed")
        residual = self.residual_parameters(level)
        residual.insert(1, "component", "residual")
        out = pd.concat([fixed[columns], residual[columns]], ignore_index=True)
        out.attrs["sentence"] = (
            f"{100 * level:g}% Wald intervals: residual parameters on their unconstrained scale. "
            + str(fixed.attrs["sentence"])
        )
        return out
