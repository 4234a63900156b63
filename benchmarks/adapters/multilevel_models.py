"""This package on structural models, scale effects, related levels and structured effects."""

from __future__ import annotations

from typing import Any

from benchmarks.models import Model

FAMILIES = ("structural", "location_scale", "location_scale_gamma", "related", "occasions")
_ALLOW = ("not_certified",)


def fit(table: Any, model: Model) -> Any:
    """The call that a user makes; structural models with the table of standard errors."""
    import multilevel as mlm

    if model.structural is not None:
        clusters = list(model.structural.cluster)
        found = mlm.sem(
            model.structural.text, table, cluster=clusters if len(clusters) > 1 else clusters[0],
            allow=_ALLOW,
        )  # fmt: skip
        return found, found.parameters()
    if model.relation is not None and model.relation.kind == "pedigree":
        (animal,) = model.relation.columns
        family = table.drop_duplicates(animal)[[animal, *model.relation.others]]
        family.columns = ["id", "sire", "dam"]
        relatives = mlm.pedigree(family)
        return mlm.fit(
            model.formula, table, method=model.method, related={animal: relatives}, allow=_ALLOW
        )
    if model.scale:
        (term,) = model.terms
        return mlm.fit(
            model.formula, table, scale=f"~ {' + '.join(model.scale)} + (1 | {term.name})",
            family="gamma" if model.family.endswith("gamma") else "gaussian", method="ml",
            n_quad=model.points, accuracy="none", allow=_ALLOW,
        )  # fmt: skip
    return mlm.fit(model.formula, table, method=model.method, allow=_ALLOW)


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """What the judges of these models need."""
    if model.structural is not None:
        found, table = result
        return {
            "beta": [], "sigma2": 1.0, "G": [], "parameters": _parameters(table, model),
            "reported": float(found.minus2_loglik),
            "converged": bool(found.certificate.is_certified),
            "message": found.certificate.sentence,
        }  # fmt: skip
    known: dict[str, Any] = {
        "beta": [float(b) for b in result.fixed_effects],
        "sigma2": 1.0 if model.scale else float(result.residual_variance),
        "G": [],
        "converged": bool(result.certificate.is_certified),
        "message": result.certificate.sentence,
        "reported": float(
            result.reml_criterion if model.method == "reml" else result.minus2_loglik
        ),
    }
    (G,) = (block.to_numpy() for block in result.random_covariance.values())
    if model.family == "occasions":
        rho = float(result.structure_parameters()["estimate"].iloc[0])
        return {**known, "extra": [rho, float(G[0, 0]) / known["sigma2"]]}
    known["G"] = [G.tolist()]
    if model.scale:
        known["extra"] = [float(v) for v in result.part("dispersion")["estimate"]]
    return known


def _parameters(table: Any, model: Model) -> list[list[Any]]:
    """Level, left side, operator, right side and value of each line."""
    parts = model.structural
    if parts is None:
        raise SystemExit("a structural model is needed")
    number = {"within": 1, "between": 2, parts.cluster[0]: 2}
    number[parts.cluster[-1]] = len(parts.cluster) + 1
    kept = table[table["op"].isin(["~", "~~", "=~", "~1"])]
    return [
        [number[row["level"]], row["lhs"], row["op"], row["rhs"], float(row["estimate"])]
        for _, row in kept.iterrows()
    ]
