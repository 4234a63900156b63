"""The pictures by name, and which of them a fit can give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.report.packages import require
from multilevel.report.plots.columns import main_columns
from multilevel.report.plots.source import PictureSource

if TYPE_CHECKING:
    from plotnine import ggplot

    from multilevel.infer.profile_curve import ProfileCurves
    from multilevel.interpret.autocorrelation import LagCorrelation

#: Name -> what it shows, and the options it takes.
PICTURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "clusters": ("predicted line of each cluster over the data", ("predictor", "group")),
    "slopes": ("simple slopes with 95% bands", ("predictor", "moderator", "df")),
    "johnson_neyman": ("slope along its moderator", ("predictor", "moderator", "df")),
    "caterpillar": ("random effects with intervals", ("group", "term")),
    "variance": ("variance of the outcome along a random slope", ("predictor",)),
    "piles": ("piles of variance across models", ("models", "names")),
    "residuals": ("residuals in four panels", ("group",)),
    "autocorrelation": ("correlation of residuals over time", ("time", "group")),
    "profile": ("profile of each parameter", ("components",)),
    "spaghetti": ("raw data by cluster", ("predictor", "group")),
}

#: Pictures whose bands take the degrees of freedom of the tests.
WITH_BANDS = ("slopes", "johnson_neyman")


def check_picture(name: str, options: Mapping[str, Any]) -> None:
    """Raise unless the picture exists and takes the options, and plotnine is installed."""
    if name not in PICTURES:
        listed = "; ".join(f"{key!r}: {text}" for key, (text, _) in PICTURES.items())
        raise InferenceError(
            f"A picture must be one of {listed}.", repr(name), 'write plot("clusters")'
        )
    unknown = [key for key in options if key not in PICTURES[name][1]]
    if unknown:
        allowed = ", ".join(PICTURES[name][1])
        raise InferenceError(
            f"The picture {name!r} takes the options {allowed}.",
            f"{unknown[0]}={options[unknown[0]]!r}",
            f"leave {unknown[0]} out",
        )
    require("plotnine", "Pictures")


def draw(name: str, source: PictureSource, options: Mapping[str, Any]) -> ggplot:
    """Draw one picture of one fit, at most 10,000 marks.

    Parameters
    ----------
    name : a key of ``PICTURES``; not ``"piles"``, ``"profile"`` or ``"autocorrelation"``.
    source : the fit.
    options : checked by ``check_picture``.

    Raises
    ------
    InferenceError : a model that cannot give this picture.
    """
    from multilevel.report.plots import effects, lines, raw, residual, variance

    functions: dict[str, Any] = {
        "clusters": lines.cluster_lines,
        "slopes": lines.simple_slopes,
        "johnson_neyman": lines.johnson_neyman,
        "caterpillar": effects.caterpillar,
        "variance": variance.variance_function,
        "residuals": residual.residual_panels,
        "spaghetti": raw.spaghetti,
    }
    picture: ggplot = functions[name](source, **options)
    return picture


def draw_piles(sources: Sequence[PictureSource], names: Sequence[str]) -> ggplot:
    """Draw the piles of variance of a sequence of models, the first one first."""
    from multilevel.report.plots.variance import piles

    return piles(sources, names)


def draw_profile(found: ProfileCurves, method: str) -> ggplot:
    """Draw the profiles of the parameters, one panel each."""
    from multilevel.report.plots.profile import profile_panels

    return profile_panels(found, method)


def draw_autocorrelation(series: Mapping[str, Sequence[LagCorrelation]], words: str) -> ggplot:
    """Draw correlations of residuals over time, one panel for each kind of residual."""
    from multilevel.report.plots.autocorrelation import lag_panels

    return lag_panels(series, words)


def pictures_for(source: PictureSource) -> tuple[str, ...]:
    """Names of the pictures that suit a fit, in the order of a report."""
    design = source.design
    predictors = bool(main_columns(design.names)) or any(
        main_columns(b.names) for b in design.blocks
    )
    found = []
    one_level = not is_related(design.blocks)
    if design.blocks and predictors and one_level:
        found.append("clusters")
    if any(":" in name for name in design.names) and _has_pair(design.names):
        found.append("slopes")
    one_variance = source.fit.residual is None or not source.fit.residual.n_variances
    if one_variance and one_level and any(main_columns(b.names) for b in design.blocks):
        found.append("variance")
    if design.blocks:
        found.append("caterpillar")
    return (*found, "residuals")


def _has_pair(names: Sequence[str]) -> bool:
    from multilevel.report.facts import split_interaction

    mains = set(main_columns(names))
    return any(len(p) == 2 and set(p) <= mains for p in map(split_interaction, names))
