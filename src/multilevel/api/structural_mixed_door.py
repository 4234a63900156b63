"""The door behind ``sem`` of structural models with families or crossed clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from multilevel.api.structural_mixed import MixedStructuralResult
from multilevel.design.structural import Missing, has_missing
from multilevel.design.structural_mixed import build_mixed_design
from multilevel.errors import ModelError
from multilevel.estimate.structural_mixed import fit_mixed
from multilevel.infer.structural import StdErrorType
from multilevel.model.families.records import Family
from multilevel.model.families.request import request_family
from multilevel.model.structural.mixed import build_mixed, mixed_candidates, parse_mixed
from multilevel.model.structural.records import Exogenous, LatentScale
from multilevel.tables.table import Table

FamilyName = str | tuple[str, str]


def are_crossed(table: Table, clusters: Sequence[str]) -> bool:
    """Whether of several cluster columns, lowest first, one is not nested in the next."""
    if len(clusters) < 2:
        return False
    table.check(list(clusters), "as clusters")
    for fine, coarse in pairwise(clusters):
        a, b = table.codes(fine)[0], table.codes(coarse)[0]
        keep = (a >= 0) & (b >= 0)
        pairs = np.unique(np.column_stack([a[keep], b[keep]]), axis=0)
        if len(pairs) > len(np.unique(a[keep])):
            return True
    return False


def checked_families(families: Mapping[str, FamilyName] | None) -> dict[str, Family]:
    """``{variable: family}``; plain Gaussian variables are left out.

    Raises
    ------
    ModelError : something that is no mapping, or an unknown family or link.
    """
    if families is None:
        return {}
    remedy = 'write families={"m": "binomial", "y": ("ordinal", "probit")}'
    if not isinstance(families, Mapping):
        raise ModelError("families maps variables to families.", repr(families), remedy)
    out = {}
    for name, wanted in families.items():
        pair = (wanted, None) if isinstance(wanted, str) else wanted
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ModelError(
                "A family is a name, or a name and a link.", f"{name}: {wanted!r}", remedy
            )
        family = request_family(pair[0], pair[1]).base
        if family.name != "gaussian" or family.link != "identity":
            out[name] = family
    return out


def fit_structural_mixed(
    text: str,
    table: Table,
    *,
    clusters: Sequence[str],
    group: str | None,
    families: Mapping[str, Family],
    missing: Missing,
    exogenous: Exogenous,
    latent_scale: LatentScale,
    std_errors: StdErrorType,
    n_quad: int | tuple[int, ...] | None,
    seed: int,
    is_nested: bool,
) -> MixedStructuralResult:
    """Fit the model; parameters and errors as ``sem``, the options checked.

    ``is_nested`` : labels of a cluster column may repeat in different clusters of the next.
    """
    if group is not None:
        raise ModelError(
            "Models with families= or crossed clusters have one group.",
            f"group={group!r}",
            "use the group as a predictor, or fit the groups one by one",
        )
    if std_errors == "expected":
        raise ModelError(
            "Models with families= or crossed clusters have observed or robust standard errors.",
            "std_errors='expected'",
            'write std_errors="observed" or "robust"',
        )
    if std_errors == "robust" and len(clusters) > 1:
        raise ModelError(
            "Robust standard errors of models with families= or crossed clusters need one cluster "
            "column.",
            f"{len(clusters)}: {', '.join(clusters)}",
            'write std_errors="observed"',
        )
    parsed = parse_mixed(text, clusters)
    fixed = () if exogenous == "modelled" else mixed_candidates(parsed, families)
    if exogenous == "auto" and missing == "fiml":
        within = set(parsed[0].observed("within"))
        holes = set(has_missing(table, [n for n in fixed if n in within], (), ()))
        fixed = tuple(n for n in fixed if n not in holes)
    model = build_mixed(parsed, text, clusters, families, fixed, latent_scale)
    design = build_mixed_design(model, table, missing=missing, is_nested=is_nested)
    fit = fit_mixed(design, n_quad=n_quad, seed=seed)
    return MixedStructuralResult(fit, std_errors)
