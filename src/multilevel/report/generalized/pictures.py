"""Pictures of a generalized fit for its report."""

from __future__ import annotations

from typing import Any

from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.report.document import Picture
from multilevel.report.packages import require
from multilevel.report.plots.generalized.catalogue import PICTURES, draw

#: Pictures along a predictor; models without a numeric one have none.
_CURVES = ("expected", "clusters", "categories")


def pictures_of(evidence: GeneralizedEvidence) -> list[tuple[str, dict[str, Any]]]:
    """Names and options of the pictures that a report shows, in their order."""
    family, blocks = evidence.family, evidence.design.blocks
    is_category = family.response in ("ordered", "nominal")
    found: list[tuple[str, dict[str, Any]]] = [("categories" if is_category else "expected", {})]
    if blocks and not is_category and not is_related(blocks):
        found.append(("clusters", {}))
    found += [("caterpillar", {"group": block.group}) for block in blocks]
    if family.response == "count":
        found.append(("rootogram", {}))
    if family.response != "nominal":
        found.append(("quantile_residuals", {}))
    return found


def drawn_pictures(evidence: GeneralizedEvidence) -> list[Picture]:
    """These pictures, drawn; curves only where there is a predictor to draw along.

    Raises
    ------
    MissingPackageError : plotnine is not installed.
    """
    require("plotnine", "Pictures")
    from multilevel.report.plots.backend import to_png

    out = []
    for name, options in pictures_of(evidence):
        try:
            png = to_png(draw(name, evidence, options))
        except InferenceError:
            if name not in _CURVES:
                raise
            continue  # no numeric predictor
        out.append(Picture(name, PICTURES[name][0].capitalize(), png))
    return out
