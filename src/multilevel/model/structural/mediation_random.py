"""Mediation with slopes that vary over clusters.

Within clusters, ``m = m_B + a_j (x - xbar_j) + e`` and ``y = y_B + b_j m + c (x - xbar_j) + e``:
the indirect effect is ``E(a_j b_j) = a b + tau_ab``, with tau_ab the covariance of the two slopes
(Kenny, Korchmaros & Bolger 2003, Psychol. Methods 8:115; Bauer, Preacher & Gil 2006, Psychol.
Methods 11:142). x is conditioned on and split at its observed cluster mean, so that m_B is the
latent cluster mean of m and the level-2 slopes of the mean of x are between slopes. The product
``b_j m`` holds the observed m, so that the level-2 slope of m_B for y is contextual; the between
slope is ``b`` more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from multilevel.errors import ModelError
from multilevel.model.structural.mediation import (
    Home,
    MediationPlan,
    design_name,
    variables_by_level,
)


@dataclass(frozen=True)
class _Names:
    """The three variables, and what x, a_j and b_j are called."""

    x: str
    m: str
    y: str
    x_within: str
    x_between: str
    a: str
    b: str


def plan_random_mediation(
    x: str,
    m: str,
    y: str,
    covariates: Sequence[str],
    homes: Mapping[str, Home],
    taken: Collection[str],
) -> MediationPlan:
    """Write the model in which a (x to m) and b (m to y) vary over clusters, where they exist.

    Parameters
    ----------
    x, m, y, covariates, homes : as in ``plan_mediation``; slopes of covariates, and the direct
        effect, are the same in all clusters.
    taken : columns of the table; new names avoid them.

    Raises
    ------
    ModelError : as ``plan_mediation``; a design in which neither path varies within clusters.
    """
    at, levels = variables_by_level(x, m, y, covariates, homes)
    has_a = {x, m} <= set(at["within"])
    has_b = {m, y} <= set(at["within"])
    if not (has_a or has_b):
        raise ModelError(
            "A random slope needs a predictor and an outcome that both vary within clusters.",
            f"in a {design_name(x, m, y, homes)} design neither {x} to {m} nor {m} to {y} has",
            'write slopes="fixed"',
        )
    used = set(taken)
    is_split = homes[x] == "both"
    names = _Names(
        x, m, y,
        _new(f"{x}_within", used) if is_split else x,
        _new(f"{x}_mean", used) if is_split else x,
        _new("a_random", used),
        _new("b_random", used),
    )  # fmt: skip
    lines = ["level: within", *_within(names, at["within"], covariates, has_a, has_b)]
    lines += ["level: between", *_between(names, at["between"], covariates, has_a, has_b)]
    lines += _definitions(levels, has_a and has_b, has_b)
    return MediationPlan(
        x, m, y, tuple(covariates), design_name(x, m, y, homes), levels, "\n".join(lines),
        random=("a",) * has_a + ("b",) * has_b,
        split=(names.x_within, names.x_between) if is_split else (),
    )  # fmt: skip


def _new(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    used.add(name)
    return name


def _within(
    n: _Names, present: Sequence[str], covariates: Sequence[str], has_a: bool, has_b: bool
) -> list[str]:
    others = [f"`{c}`" for c in covariates if c in present]
    out = [f"  {n.a} | `{n.m}` ~ `{n.x_within}`"] * has_a
    out += [f"  {n.b} | `{n.y}` ~ `{n.m}`"] * has_b
    if n.m in present and others:
        out.append(f"  `{n.m}` ~ {' + '.join(others)}")
    to_y = [f"c_within*`{n.x_within}`"] * (n.x in present) + others
    if n.y in present and to_y:
        out.append(f"  `{n.y}` ~ {' + '.join(to_y)}")
    return out + [f"  `{v}` ~~ `{v}`" for v in (n.m, n.y) if v in present]


def _between(
    n: _Names, present: Sequence[str], covariates: Sequence[str], has_a: bool, has_b: bool
) -> list[str]:
    others = [f"`{c}`" for c in covariates if c in present]
    out = [f"  {n.a} ~ a_within*1"] * has_a + [f"  {n.b} ~ b_within*1"] * has_b
    out += [f"  {n.a} ~~ tau_ab*{n.b}"] * (has_a and has_b)
    to_m = [f"a_between*`{n.x_between}`"] * (n.x in present) + others
    to_y = [f"{'context_b' if has_b else 'b_between'}*`{n.m}`"] * (n.m in present)
    to_y += [f"c_between*`{n.x_between}`"] * (n.x in present) + others
    for name, terms in ((n.m, to_m), (n.y, to_y)):
        if name in present and terms:
            out.append(f"  `{name}` ~ {' + '.join(terms)}")
    return out + [f"  `{v}` ~~ `{v}`" for v in (n.m, n.y) if v in present]


def _definitions(levels: Sequence[str], has_both: bool, has_b: bool) -> list[str]:
    out = []
    if "within" in levels and has_both:
        out += [
            "indirect_within := a_within * b_within + tau_ab",
            "direct_within := c_within",
            "total_within := a_within * b_within + tau_ab + c_within",
            "slope_covariance_within := tau_ab",
        ]
    if "between" in levels:
        b = "(b_within + context_b)" if has_b else "b_between"
        out += [
            f"indirect_between := a_between * {b}",
            "direct_between := c_between",
            f"total_between := a_between * {b} + c_between",
        ]
    if len(levels) == 2:
        out += [
            "b_contextual := context_b",
            "indirect_contextual := indirect_between - indirect_within",
        ]
    return out
