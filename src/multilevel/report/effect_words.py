"""What the columns of effect-size tables are called in a report."""

from __future__ import annotations

import pandas as pd

from multilevel.interpret.explained_variance import WORDS
from multilevel.interpret.level_parts import ROWS

_COMPONENTS = {
    "least_squares": "of the cluster's own estimate",
    "prediction": "of the prediction (EBLUP)",
    "proportion": "share of the variance",
    "correlation": "correlation of two rows",
    "marginal": "fixed effects (marginal)",
    "conditional": "fixed and random effects (conditional)",
}
_MEASURES = {
    "total": "squared correlation",
    "nakagawa": "Nakagawa & Schielzeth",
    "rights_sterba": "Rights & Sterba",
    "snijders_bosker": "Snijders & Bosker",
    "reduction": "reduction of the variance",
}
_WITHIN = "within clusters"


def table_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A table of effect sizes with its measures, components and piles in words."""
    out = table.copy()
    if "component" in out.columns:
        out["component"] = [component_words(str(c)) for c in out["component"]]
    if "measure" in out.columns:
        out["measure"] = [_MEASURES.get(m, m.replace("_", " ")) for m in out["measure"]]
        out["group"] = [_WITHIN if g == ROWS else g for g in out["group"]]
        out = out.rename(columns={"group": "variance", "component": "comes from"})
    empty = [name for name in out.columns if out[name].dtype.kind == "O" and not any(out[name])]
    return out.drop(columns=empty)


def component_words(component: str) -> str:
    """``least_squares`` as ``of the cluster's own estimate``; ``f school`` as its source."""
    if component in _COMPONENTS:
        return _COMPONENTS[component]
    source, _, where = component.partition(" ")
    if source not in WORDS:
        return component.replace("_", " ")
    if not where:
        return WORDS[source]
    return f"{WORDS[source]} {_WITHIN if where == ROWS else f'between levels of {where}'}"
