"""Tables of effect sizes of generalized fits, their columns in words."""

from __future__ import annotations

import pandas as pd

from multilevel.report.document import Part, frame_grid
from multilevel.report.layout import Section

_WORDS = {
    "component": {
        "proportion": "share of the variance",
        "correlation": "correlation of two rows",
        "link": "scale of the link",
        "response": "response, predictors 0",
        "ratio": "ratio",
        "f": "fixed effects",
    },
    "measure": {"total": "squared correlation", "latent": "variance on the link scale"},
}
_EXPLAINED = {"marginal": "fixed effects", "conditional": "fixed and random effects"}
#: Ratios within clusters stand under the coefficients already.
AVERAGED = "Ratios averaged over clusters"
_DROPPED = ("sentence", "share", "scale")


def effect_part(heading: str, table: pd.DataFrame) -> Part:
    """A table as a part of a document; columns that say the same in every row are left out."""
    if table.empty:
        note = str(table.attrs.get("sentence", ""))
        return Part(Section(heading, sentences=(note,) if note else ()))
    if heading == AVERAGED:
        table = table[table["component"] == "marginal"]
        if table.empty:
            return Part(Section(""))
        table = table.drop(columns="component")
    shown = table.drop(columns=[name for name in _DROPPED if name in table.columns])
    for column, words in _WORDS.items():
        if column in shown.columns:
            known = words | (_EXPLAINED if heading == "Explained variance" else {})
            shown[column] = [known.get(str(v), str(v).replace("_", " ")) for v in shown[column]]
    texts = [name for name in shown.columns if shown[name].dtype.kind not in "fiu"]
    empty = [name for name in texts if not any(bool(v) for v in shown[name])]
    empty += [
        name for name in shown.columns
        if shown[name].dtype.kind == "f" and shown[name].isna().all()
    ]  # fmt: skip
    return Part(Section(heading, grid=frame_grid(shown.drop(columns=empty))))
