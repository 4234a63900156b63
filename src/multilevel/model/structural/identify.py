"""Is a structural model identified? What counting and scales can tell before any data are seen.

Source: Bollen 1989, Structural Equations with Latent Variables, chapters 4, 7 and 8 (the t-rule
and the scale of latent variables).
"""

from __future__ import annotations

from multilevel.errors import ModelError
from multilevel.model.structural.records import Level, StructuralModel


def check_identified(model: StructuralModel) -> None:
    """Refuse models that no data can identify, and name the parameters at fault.

    Checks, at each level of each group: every latent variable has a unit; means of a variable are
    free at one level only; there are no more free parameters of covariances than covariances.
    These conditions are necessary, not sufficient; the rank of the moments' derivatives, which is
    checked before fitting, sees the rest.

    Raises
    ------
    ModelError : a parameter that is not identified.
    """
    for group in range(len(model.groups)):
        for level in model.levels:
            _check_scales(model, level, group)
            _check_count(model, level, group)
        _check_means(model, group)


def _check_scales(model: StructuralModel, level: Level, group: int) -> None:
    block = model.block(level, group)
    for latent in model.latent(level):
        loadings = [p for p in block if p.op == "=~" and p.lhs == latent]
        variance = next((p for p in block if p.is_variance and p.lhs == latent), None)
        has_unit = any(not p.is_free and p.value != 0.0 for p in loadings)
        has_unit |= variance is not None and not variance.is_free and variance.value != 0.0
        if loadings and not has_unit:
            names = ", ".join(p.name for p in loadings)
            raise ModelError(
                "Every latent variable has a unit.",
                f"{latent} at the {model.level_name(level)} level, with all of {names} and its"
                " variance free",
                f"fix one loading, like {latent} =~ 1*{loadings[0].rhs}, or the variance, "
                f"{latent} ~~ 1*{latent}",
            )


def _check_count(model: StructuralModel, level: Level, group: int) -> None:
    block = model.block(level, group)
    p = len(model.located(level))
    n_fixed = sum(1 for r in block if r.origin == "exogenous" and r.op == "~~")
    room = p * (p + 1) // 2 - n_fixed
    free = {r.free: r for r in block if r.is_free and r.op != "~1"}
    elsewhere = {r.free for r in model.parameters if (r.level, r.group) != (level, group)}
    own = [r for number, r in free.items() if number not in elsewhere]
    if len(own) > room:
        raise ModelError(
            "A level has at most as many free parameters as variances and covariances.",
            f"the {model.level_name(level)} level has {room} for {len(own)} parameters: "
            + ", ".join(r.name for r in own),
            "fix parameters, make some equal by a label, or leave out relations",
        )


def _check_means(model: StructuralModel, group: int) -> None:
    free = {
        level: {r.lhs for r in model.block(level, group) if r.op == "~1" and r.is_free}
        for level in model.levels
    }
    for name in dict.fromkeys(n for names in free.values() for n in sorted(names)):
        found = [model.level_name(level) for level in model.levels if name in free[level]]
        if len(found) > 1 and name not in _latent_only(model):
            raise ModelError(
                f"A variable on {'both' if not model.higher else 'several'} levels has its mean at"
                f" the {'between' if not model.higher else 'highest of its'} level"
                f"{'s' if model.higher else ''}.",
                f"{name} ~ 1 is free at {'both levels' if not model.higher else ', '.join(found)}",
                f"remove {name} ~ 1 at the {found[0]} level, or fix {name} ~ 0*1 at the {found[-1]}"
                " level",
            )


def _latent_only(model: StructuralModel) -> frozenset[str]:
    """Latent variables that are not random slopes: one name may stand for another per level."""
    names = {n for level in model.levels for n in model.latent(level)}
    return frozenset(names - set(model.slope_names))
