"""The fitted location-scale model that users hold."""

from __future__ import annotations

from multilevel.api.generalized.result import GeneralizedMultilevelFit


class LocationScaleFit(GeneralizedMultilevelFit):
    """A fitted model whose residual variance (or dispersion) has its own formula."""
