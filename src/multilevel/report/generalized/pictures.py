"""Pictures of a generalized fit for its report."""

from __future__ import annotations

import numpy as np

from multilevel.design.generalized import GeneralizedDesign
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.report.document import Picture
from multilevel.report.packages import require


def effect_pictures(
    design: GeneralizedDesign, fit: GeneralizedFit, objective: GeneralizedObjective
) -> list[Picture]:
    """Random effects of every grouping factor in ascending order, with 95% intervals.

    Parameters
    ----------
    objective : set at the estimates; ``b = Lambda u`` and its covariance given the data come
        from its modes.

    Raises
    ------
    MissingPackageError : plotnine is not installed.
    """
    require("plotnine", "Pictures")
    from multilevel.report.plots.backend import to_png
    from multilevel.report.plots.effects import effects_picture

    out = []
    pieces = zip(design.blocks, fit.modes, fit.relative_factors, strict=True)
    for t, (block, u, L) in enumerate(pieces):
        C = L @ objective.mode_covariance(t) @ L.T
        variances = np.maximum(np.einsum("jaa->ja", C), 0.0)
        words = f"Conditional modes on the {design.family.link} scale"
        picture = effects_picture(block, u @ L.T, variances, words)
        text = f"Random effects of {block.group} with intervals"
        out.append(Picture(f"effects of {block.group}", text, to_png(picture)))
    return out
