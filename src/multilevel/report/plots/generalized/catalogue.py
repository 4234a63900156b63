"""The pictures of generalized fits by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.report.packages import require

if TYPE_CHECKING:
    from plotnine import ggplot

#: Name -> what it shows, and the options it takes.
PICTURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "expected": ("expected response along a predictor", ("predictor", "conf_level")),
    "clusters": ("expected response of each cluster", ("predictor", "group")),
    "categories": ("probabilities of the categories, stacked", ("predictor", "kind")),
    "caterpillar": ("random effects with intervals", ("group", "term")),
    "calibration": ("observed against expected responses", ("n_bins",)),
    "rootogram": ("observed and expected counts", ("seed",)),
    "quantile_residuals": ("randomised quantile residuals", ("seed",)),
}


def draw(name: str, evidence: GeneralizedEvidence, options: Mapping[str, Any]) -> ggplot:
    """Draw one picture.

    Raises
    ------
    InferenceError : an unknown picture or option, or one that this fit cannot give.
    MissingPackageError : plotnine is not installed.
    """
    if name not in PICTURES:
        listed = "; ".join(f"{key!r}: {text}" for key, (text, _) in PICTURES.items())
        raise InferenceError(
            f"A picture must be one of {listed}.", repr(name), 'write plot("expected")'
        )
    unknown = [key for key in options if key not in PICTURES[name][1]]
    if unknown:
        raise InferenceError(
            f"The picture {name!r} takes the options {', '.join(PICTURES[name][1])}.",
            f"{unknown[0]}={options[unknown[0]]!r}",
            f"leave {unknown[0]} out",
        )
    require("plotnine", "Pictures")
    from multilevel.report.plots.generalized import checks, curves

    functions: dict[str, Any] = {
        "expected": curves.expected_curve,
        "clusters": curves.cluster_curves,
        "categories": curves.category_areas,
        "caterpillar": caterpillar,
        "calibration": checks.calibration_picture,
        "rootogram": checks.rootogram,
        "quantile_residuals": checks.quantile_picture,
    }
    picture: ggplot = functions[name](evidence, **options)
    return picture


def caterpillar(
    evidence: GeneralizedEvidence, group: str | None = None, term: str | None = None
) -> ggplot:
    """Conditional modes of one grouping factor in ascending order, one panel for each term."""
    from multilevel.report.plots.effects import effects_picture
    from multilevel.report.plots.generalized.curves import block_number

    t = block_number(evidence, group)
    variances = np.einsum("jaa->ja", evidence.effect_covariances[t])
    words = f"Conditional modes ({evidence.family.link} scale)"
    return effects_picture(evidence.design.blocks[t], evidence.effects[t], variances, words, term)


def pictures_for(evidence: GeneralizedEvidence) -> tuple[str, ...]:
    """Names of the pictures that suit a fit, in the order of a report."""
    from multilevel.interpret.generalized.settings import Settings

    settings = Settings(evidence, np.zeros(1, dtype=np.intp))
    numeric = any(
        settings.observed(name) is not None
        for _, grid in settings.sources.values()
        for name in grid.variables
    )
    family = evidence.family
    found = []
    if numeric:
        found.append("categories" if evidence.categories else "expected")
    if numeric and evidence.design.blocks and not evidence.categories:
        found.append("clusters")
    if evidence.design.blocks:
        found.append("caterpillar")
    if not evidence.categories and family.response != "interval":
        found.append("rootogram" if family.response == "count" else "calibration")
    return (*found, "quantile_residuals")
