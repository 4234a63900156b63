"""statsmodels ``mixedlm``: dense matrices within each group of one grouping factor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from benchmarks.levels import level_codes
from benchmarks.models import Model

PACKAGE = "statsmodels.formula.api"
LARGEST_DENSE_BYTES = 2e9


def _is_tree(model: Model) -> bool:
    paths = [t.group for t in model.terms]
    return all(b[: len(a)] == a for a, b in pairwise(paths))


def load(columns: dict[str, Any], model: Model) -> Any:
    """A pandas table with integer ids."""
    import pandas as pd

    del model
    return pd.DataFrame(columns)


def refuse(columns: dict[str, Any], model: Model) -> str | None:
    """Crossed factors are one group with a dense (rows, levels) matrix: only if that is small."""
    if any(t.slopes for t in model.terms) and len(model.terms) > 1:
        return "no random slopes beside other factors"
    if len(model.terms) == 1 or _is_tree(model):
        return None
    levels = sum(int(level_codes(columns, t.group).max()) + 1 for t in model.terms)
    size = 8.0 * levels * len(columns[model.response])
    if size > LARGEST_DENSE_BYTES:
        return f"crossed factors need a dense matrix of {size / 1e9:.0f} GB"
    return None


def fit(table: Any, model: Model, threads: int) -> Any:
    """``smf.mixedlm(...).fit()``; variance components for inner or crossed factors."""
    import statsmodels.formula.api as smf

    del threads
    formula = f"{model.response} ~ {' + '.join(model.fixed) or '1'}"
    if len(model.terms) == 1:
        term = model.terms[0]
        inner = "~" + (" + ".join(term.slopes) or "1")
        built = smf.mixedlm(formula, table, groups=term.group[0], re_formula=inner)
    elif _is_tree(model):
        parts = {t.name: f"0 + C({t.group[-1]})" for t in model.terms[1:]}
        outer = model.terms[0].group[0]
        built = smf.mixedlm(formula, table, groups=outer, re_formula="~1", vc_formula=parts)
    else:
        parts = {t.name: f"0 + C({t.group[0]})" for t in model.terms}
        table = table.assign(all_rows=1)
        built = smf.mixedlm(formula, table, groups="all_rows", re_formula="0", vc_formula=parts)
    return built.fit(reml=model.method == "reml")


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """``cov_re`` of the grouping factor, ``vcomp`` of the others by name."""
    names = list(result.model.exog_vc.names) if len(model.terms) > 1 else []
    G = []
    for t, term in enumerate(model.terms):
        if term.name in names:
            G.append([[float(result.vcomp[names.index(term.name)])]])
        elif t == 0:
            G.append(result.cov_re.to_numpy().tolist())
    return {
        "beta": [float(b) for b in result.fe_params],
        "sigma2": float(result.scale),
        "G": G,
        "reported": -2.0 * float(result.llf),
        "converged": bool(result.converged),
    }
