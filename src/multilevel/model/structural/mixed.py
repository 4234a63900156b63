"""Structural models whose observed variables have families of their own, and crossed clusters.

The text is that of ``parse_structural``; with several (crossed) cluster columns every one has a
heading of its own, ``level: school``, ``level: neighbourhood``. What a family changes:

* given the random effects, a variable that is not Gaussian has no residual variance of its own, so
  ``y ~~ y`` at its level 1 and residual covariances with it are no parameters;
* ordered categories have thresholds in the place of the intercept ``y ~ 1``;
* its between part is the random intercept of its linear predictor (logit, log, ...); as a
  predictor within clusters the variable itself is meant, in the units of its column;
* a random slope ``s | y ~ x`` varies over the cluster columns under which it is named, the first
  if it is named nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from multilevel.errors import ModelError
from multilevel.model.families.records import Family
from multilevel.model.structural.build import build_structural, fixed_candidates
from multilevel.model.structural.labels import number_parameters
from multilevel.model.structural.parse import Parsed, parse_structural
from multilevel.model.structural.records import (
    Defined,
    LatentScale,
    Parameter,
    RandomSlope,
    StructuralModel,
)

_HEADING = re.compile(r"^(\s*)level\s*:\s*(?P<name>[^\s#!]+)\s*([#!].*)?$", re.IGNORECASE)
_WITHIN = ("within", "1")
#: Families of structural models: one linear predictor each that varies over clusters.
REFUSED = ("nominal", "adjacent", "continuation_ratio", "ordered_beta", "zero_one_inflated_beta")


@dataclass(frozen=True)
class MixedModel:
    """A structural model with families, ready to be laid over data.

    Attributes
    ----------
    text : what the user wrote.
    clusters : cluster columns; empty for a single-level model. Several are crossed.
    families : ``{variable: family}`` of the level-1 variables that are not plain Gaussian.
    models : one per cluster column (one in all without clusters): its within block is that of the
        whole model, its between block that of the column; free parameters are numbered alike.
    parameters, homes : the table of all levels, and the level of each row: ``"within"``,
        ``"between"``, or the cluster column where there are several.
    free_names : (q_s,) names of the free parameters of the table.
    whole : all parameters and definitions as one record (for functions of parameters).
    """

    text: str
    clusters: tuple[str, ...]
    families: dict[str, Family]
    models: tuple[StructuralModel, ...]
    parameters: tuple[Parameter, ...]
    homes: tuple[str, ...]
    free_names: tuple[str, ...]
    whole: StructuralModel

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Level-1 variables whose distribution is modelled."""
        first = self.models[0]
        return tuple(n for n in first.observed("within") if n not in first.fixed_exogenous)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Level-1 predictors that the likelihood is conditional on."""
        first = self.models[0]
        return tuple(n for n in first.observed("within") if n in first.fixed_exogenous)

    @property
    def split(self) -> tuple[str, ...]:
        """Level-1 variables with a between part at one cluster column or more."""
        return tuple(n for n in self.outcomes if any(n in m.both for m in self.models))

    @property
    def slopes(self) -> tuple[RandomSlope, ...]:
        """Slopes that vary over clusters."""
        return self.models[0].random_slopes

    def is_gaussian(self, name: str) -> bool:
        """Whether a variable is normal around its linear predictor."""
        return name not in self.families


def parse_mixed(text: str, clusters: Sequence[str]) -> tuple[Parsed, ...]:
    """Read the text once per cluster column, each time with the levels of that column only.

    Raises
    ------
    FormulaError, ModelError : as ``parse_structural``; a level that is no cluster column.
    """
    if not isinstance(text, str):
        raise ModelError("A structural model is text.", type(text).__name__, "write it in quotes")
    if len(clusters) <= 1:
        return (parse_structural(text, clusters[0] if clusters else None),)
    return tuple(parse_structural(_only(text, name, clusters), name) for name in clusters)


def _only(text: str, cluster: str, clusters: Sequence[str]) -> str:
    """The text with the between levels of other cluster columns left blank."""
    known = {name.lower() for name in clusters}
    here, lines = "", []
    for line in text.replace(";", "\n").split("\n"):
        found = _HEADING.match(line)
        if found:
            here = found["name"].strip("`\"'").lower()
            if here not in known and here not in _WITHIN:
                raise ModelError(
                    "With several cluster columns every level bears the name of its column.",
                    f"level: {found['name']}",
                    f"write level: within, {', '.join(f'level: {n}' for n in clusters)}",
                )
        stays = not here or here in _WITHIN or here == cluster.lower()
        lines.append(line if stays or ":=" in line or "==" in line else "")
    return "\n".join(lines)


def mixed_candidates(parsed: Sequence[Parsed], families: Mapping[str, Family]) -> tuple[str, ...]:
    """Predictors that may be conditioned on: candidates at every cluster column, without family."""
    found = [set(fixed_candidates(p)) for p in parsed]
    split = {n for p in parsed for n in set(p.observed("within")) & set(p.observed("between"))}
    names = dict.fromkeys(n for p in parsed for n in fixed_candidates(p))
    within = {n for p in parsed for n in p.observed("within")}
    return tuple(
        n for n in names
        if n not in families and n not in split
        and all(n in f for f, p in zip(found, parsed, strict=True)
                if n in within or n in p.observed("between"))
    )  # fmt: skip


def build_mixed(
    parsed: Sequence[Parsed],
    text: str,
    clusters: Sequence[str],
    families: Mapping[str, Family],
    fixed: Sequence[str],
    latent_scale: LatentScale = "loading",
) -> MixedModel:
    """Complete the relations by the defaults of ``build_structural`` and by those of families.

    Raises
    ------
    FormulaError, ModelError : relations that the model does not have (see the module).
    """
    _check_families(parsed, families)
    names = tuple(clusters) or ("",)
    labels = ("between",) if len(names) == 1 else names
    bare = [replace(p, defined=[], equalities=[]) for p in parsed]
    built = [
        build_structural(p, cluster=c, fixed=fixed, latent_scale=latent_scale)
        for p, c in zip(bare, names, strict=True)
    ]
    split = {n for model in built for n in model.both} | set(built[0].slope_names)
    rows: list[Parameter] = []
    homes: list[str] = []
    has_mean: set[str] = set()
    absent = _absent_slopes(parsed)
    at = dict(zip(labels, absent, strict=True))
    for home, block in _blocks(built, labels if clusters else ()):
        for p in block:
            changed = _changed(p, home, families, split, has_mean, at.get(home, frozenset()))
            if changed is not None:
                rows.append(replace(changed, free=-1))
                homes.append(home)
    numbered, _ = number_parameters(parsed[0], rows, ("",))
    free = _free_names(numbered, homes)
    defined = tuple(Defined(n, e, source) for n, e, source, _ in parsed[0].defined)
    models = tuple(
        replace(
            model,
            text=text,
            parameters=tuple(
                p for p, h in zip(numbered, homes, strict=True) if h in ("within", label)
            ),
            free_names=free,
        )
        for model, label in zip(built, labels, strict=True)
    )
    whole = replace(models[0], parameters=numbered, defined=defined, cluster=", ".join(clusters))
    return MixedModel(
        text, tuple(clusters), dict(families), models, numbered, tuple(homes), free, whole
    )


def _blocks(
    built: Sequence[StructuralModel], labels: Sequence[str]
) -> list[tuple[str, tuple[Parameter, ...]]]:
    """Level name and rows of every level, the within level first."""
    out = [("within", built[0].block("within", 0))]
    out += [(name, m.block("between", 0)) for m, name in zip(built, labels, strict=False)]
    return out


def _absent_slopes(parsed: Sequence[Parsed]) -> list[frozenset[str]]:
    """Per cluster column the random slopes that do not vary over it."""
    slopes = {s.name for s in parsed[0].slopes}
    named = [slopes & set(p.names("between")) for p in parsed]
    nowhere = slopes - set().union(*named)
    return [frozenset(slopes - own - (nowhere if k == 0 else set())) for k, own in enumerate(named)]


def _changed(
    p: Parameter,
    home: str,
    families: Mapping[str, Family],
    split: set[str],
    has_mean: set[str],
    absent: frozenset[str],
) -> Parameter | None:
    """One row of the table as families and crossed levels have it; None where it is none."""
    if absent & {p.lhs, p.rhs}:
        return replace(p, value=0.0, origin="default", label="")
    mine = {n for n in (p.lhs, p.rhs) if n in families}
    if home == "within" and p.op == "~~" and mine:
        if p.origin == "written" and not p.is_variance and p.value != 0.0:
            name = sorted(mine)[0]
            raise ModelError(
                "Residuals of variables that are not Gaussian do not covary: given the random "
                "effects there are none.",
                f"{p.name} at the within level, {name} is {families[name].label}",
                f"let both depend on a latent variable, f =~ {p.lhs} + {p.rhs}, or regress one on "
                "the other",
            )
        return None
    if p.op != "~1" or (p.lhs not in split and p.lhs not in families):
        return p
    is_ordered = p.lhs in families and families[p.lhs].option("mean_intercept") == "no"
    if is_ordered:
        if p.origin == "written" and p.value != 0.0:
            raise ModelError(
                "Ordered categories have thresholds in the place of an intercept.",
                f"{p.name} ({home})",
                "leave it out",
            )
        return replace(p, value=0.0, origin="default", label="")
    if p.lhs not in split:
        return p
    if home == "within" or p.lhs in has_mean:
        if p.origin == "written" and p.value != 0.0:
            raise ModelError(
                "A variable on several levels has its mean at one of them, the first that is no "
                "level: within.",
                f"{p.name} ({home})",
                "write it at that level only",
            )
        return replace(p, value=0.0)
    has_mean.add(p.lhs)
    return p


def _free_names(parameters: Sequence[Parameter], homes: Sequence[str]) -> tuple[str, ...]:
    n = 1 + max((p.free for p in parameters), default=-1)
    names = [""] * n
    for p, home in zip(parameters, homes, strict=True):
        if p.is_free and not names[p.free]:
            names[p.free] = p.label or f"{p.name} [{home}]"
    return tuple(names)


def _check_families(parsed: Sequence[Parsed], families: Mapping[str, Family]) -> None:
    within = set(parsed[0].observed("within"))
    for p in parsed:
        level_2 = set(p.observed("between")) - within
        for name in families:
            if name in level_2:
                raise ModelError(
                    "Variables with a family are outcomes of level 1.",
                    f"{name} stands at a cluster level only",
                    "treat it as a predictor (leave it out of families=); binary level-2 "
                    "predictors need no family",
                )
    for name, family in families.items():
        if name not in within:
            raise ModelError(
                "families= names level-1 variables of the model.",
                f"{name!r}; the model has {', '.join(sorted(within))}",
                "correct the name, or leave it out",
            )
        if family.name in REFUSED or family.option("zero") or family.response == "interval":
            raise ModelError(
                "A family of a structural model has one linear predictor that varies over "
                "clusters.",
                f"{name} with the {family.label} family",
                "use gaussian, binomial, ordinal, poisson, negative_binomial, gamma or beta",
            )
    for p in parsed:
        pairs = [(r.lhs, r.rhs) for r in p.relations if r.op == "~" and r.level == "within"]
        for lhs, rhs in pairs + [(s.outcome, s.predictor) for s in p.slopes]:
            if rhs in families and families[rhs].response == "ordered":
                raise ModelError(
                    "An ordinal variable is an outcome within clusters, not a predictor.",
                    f"{lhs} ~ {rhs} at the within level",
                    f"leave {rhs} out of families= to treat its codes as numbers, or use 0/1 "
                    "columns for its categories",
                )


def within_order(model: MixedModel) -> tuple[str, ...]:
    """The outcomes, causes before effects.

    Raises
    ------
    ModelError : within-level variables that cause each other.
    """
    edges: dict[str, set[str]] = {}
    for p in model.models[0].block("within", 0):
        if p.op == "~":
            edges.setdefault(p.lhs, set()).add(p.rhs)
        elif p.op == "=~":
            edges.setdefault(p.rhs, set()).add(p.lhs)
    for s in model.slopes:
        edges.setdefault(s.outcome, set()).add(s.predictor)
    done: list[str] = []
    open_: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in open_:
            raise ModelError(
                "With families= variables do not cause themselves.",
                f"a loop through {' and '.join(open_[open_.index(name) :])} at the within level",
                "take one relation of the loop out",
            )
        open_.append(name)
        for cause in sorted(edges.get(name, ())):
            visit(cause)
        open_.pop()
        done.append(name)

    for name in (*model.outcomes, *model.models[0].latent_within):
        visit(name)
    wanted = set(model.outcomes)
    return tuple(n for n in done if n in wanted)


def residual_partners(model: MixedModel, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each outcome those before it in ``order`` that its residual hangs together with."""
    groups = {name: {name} for name in order}
    for p in model.models[0].block("within", 0):
        known = p.lhs in groups and p.rhs in groups
        if p.op == "~~" and p.lhs != p.rhs and known and (p.is_free or p.value != 0.0):
            joined = groups[p.lhs] | groups[p.rhs]
            for name in joined:
                groups[name] = joined
    return {
        name: tuple(n for n in order[: list(order).index(name)] if n in groups[name])
        for name in order
    }
