"""How reports speak of the levels of a structural model, whatever their number."""

from __future__ import annotations

from multilevel.design.structural import StructuralDesign
from multilevel.model.structural.records import Level, StructuralModel
from multilevel.report.layout import count, join_words

_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}


def model_title(model: StructuralModel) -> str:
    """Title of a summary: number of levels, estimator, clusters."""
    if not model.cluster:
        return "Structural model by maximum likelihood"
    n = len(model.levels)
    return (
        f"{_NUMBERS.get(n, n)}-level structural model by maximum likelihood, clusters:"
        f" {' in '.join(model.clusters)}"
    )


def level_head(model: StructuralModel, level: Level) -> str:
    """Heading of a level without its closing bracket: ``Level 2 (between school``."""
    number = model.levels.index(level) + 1
    if not model.higher or level == "within":
        word = "within" if level == "within" else "between"
        return f"Level {number} ({word} {model.cluster or 'rows'}"
    own = model.clusters[number - 2]
    inside = f", within {model.clusters[number - 1]}" if number < len(model.levels) else ""
    return f"Level {number} ({own}{inside}"


def panel_title(model: StructuralModel, level: Level) -> str:
    """Strip of a path diagram."""
    if not model.cluster:
        return "all rows"
    number = model.levels.index(level) + 1
    if not model.higher or level == "within":
        return f"{number} {'Within' if level == 'within' else 'Between'} {model.cluster}"
    own = model.clusters[number - 2]
    inside = f" within {model.clusters[number - 1]}" if number < len(model.levels) else ""
    return f"{number} {own}{inside}"


def unit_lines(design: StructuralDesign) -> list[str]:
    """How many rows and units there are, and at which levels the variables vary."""
    model = design.model
    rows = count(design.n_rows, "row")
    if not model.cluster:
        return [rows]
    if not model.higher:
        out = [f"{rows} in {design.n_clusters} clusters ({model.cluster})"]
        if model.both:
            out.append(f"On both levels (split into latent parts): {', '.join(model.both)}")
        if model.within_only:
            out.append(f"Within only: {', '.join(model.within_only)}")
        if model.between_only:
            out.append(f"Between only: {', '.join(model.between_only)}")
        return out
    sizes = (design.n_clusters, *design.n_higher)
    units = " in ".join(f"{n} {name}" for n, name in zip(sizes, model.clusters, strict=True))
    out = [f"{rows} in {units}"]
    by_levels: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(n for level in model.levels for n in model.observed(level)):
        at = tuple(model.level_name(x) for x in model.levels if name in model.observed(x))
        by_levels.setdefault(at, []).append(name)
    for at, names in by_levels.items():
        where = f"At {at[0]} only" if len(at) == 1 else f"Split into latent parts at {_and(at)}"
        out.append(f"{where}: {', '.join(names)}")
    return out


def _and(names: tuple[str, ...]) -> str:
    return join_words(list(names))
