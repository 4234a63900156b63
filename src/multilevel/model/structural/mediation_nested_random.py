"""Mediation with three levels or more and slopes that vary over clusters.

As in ``mediation_random``, with ``a_jk = a + u_k + u_jk`` and ``b_jk`` likewise: the covariance of
the two slopes is that of their parts at every level at which they vary, so that the indirect effect
within is ``E(a_jk b_jk) = a b + tau_2 + tau_3`` (Kenny, Korchmaros & Bolger 2003; the parts of two
levels are independent). x is split at its observed means level by level. The product ``b_jk m``
holds the observed m, so that the slope of m for y at every higher level is contextual: b less.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from multilevel.errors import ModelError
from multilevel.model.structural.mediation import MediationPlan, check_different
from multilevel.model.structural.mediation_nested import check_homes


@dataclass(frozen=True)
class _Names:
    """The variables; ``x_at`` what x is called at each level; what a_jk and b_jk are called."""

    x: str
    m: str
    y: str
    x_at: Mapping[int, str]
    slopes: tuple[str, ...]
    has_a: bool
    has_b: bool

    @property
    def a(self) -> str:
        return self.slopes[0]

    @property
    def b(self) -> str:
        return self.slopes[-1]


def plan_nested_random_mediation(
    x: str,
    m: str,
    y: str,
    covariates: Sequence[str],
    homes: Mapping[str, tuple[int, ...]],
    clusters: Sequence[str],
    varying: Collection[int],
    taken: Collection[str],
) -> MediationPlan:
    """Write the model in which a (x to m) and b (m to y) vary, where they exist.

    Parameters
    ----------
    x, m, y, covariates, homes, clusters : as in ``plan_nested_mediation``.
    varying : numbers of the levels, from 2, at which the slopes vary.
    taken : columns of the table; new names avoid them.

    Raises
    ------
    ModelError : as ``plan_nested_mediation``; a design in which neither path varies within.
    """
    names = (x, m, y, *covariates)
    check_different(names)
    check_homes(names, homes, clusters)
    design = "-".join(str(homes[n][0]) for n in (x, m, y))
    has_a = 1 in homes[x] and 1 in homes[m]
    has_b = 1 in homes[m] and 1 in homes[y]
    if not (has_a or has_b):
        raise ModelError(
            "A random slope needs a predictor and an outcome that both vary within clusters.",
            f"in a {design} design neither {x} to {m} nor {m} to {y} has",
            'write slopes="fixed"',
        )
    used = set(taken)
    titles = ["within", *clusters]
    is_split = len(homes[x]) > 1
    x_at = {k: _new(f"{x}_{titles[k - 1]}", used) if is_split else x for k in homes[x]}
    slopes = tuple(
        _new(s, used) for s, there in (("a_random", has_a), ("b_random", has_b)) if there
    )
    own = _Names(x, m, y, x_at, slopes, has_a, has_b)
    keys = {1: "within"} | {k: f"level{k}" for k in range(2, len(clusters) + 2)}
    levels = tuple(key for k, key in keys.items() if all(k in homes[n] for n in (x, m, y)))
    if not levels:
        raise ModelError("Mediation needs a level at which x, m and y all vary.",
                         f"none for {x}, {m} and {y}",
                         "use variables that were not centred at their means")  # fmt: skip
    lines = ["level: 1", *_within(own, homes, covariates)]
    for k in list(keys)[1:]:
        lines += [f"level: {k}", *_upper(own, homes, covariates, k, keys[k], sorted(varying))]
    lines += _definitions(own, levels, sorted(varying))
    shown = {"within": "within"} | {f"level{k}": titles[k - 1] for k in list(keys)[1:]}
    shown |= {f"contextual{k}": f"contextual {titles[k - 1]}" for k in list(keys)[1:]}
    return MediationPlan(
        x, m, y, tuple(covariates), design, levels, "\n".join(lines),
        random=("a",) * has_a + ("b",) * has_b,
        split=tuple(x_at[k] for k in homes[x]) if is_split else (), titles=tuple(shown.items()),
    )  # fmt: skip


def _new(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    used.add(name)
    return name


def _within(
    n: _Names, homes: Mapping[str, tuple[int, ...]], covariates: Sequence[str]
) -> list[str]:
    others = [f"`{c}`" for c in covariates if 1 in homes[c]]
    out = [f"  {n.a} | `{n.m}` ~ `{n.x_at[1]}`"] if n.has_a else []
    out += [f"  {n.b} | `{n.y}` ~ `{n.m}`"] if n.has_b else []
    if 1 in homes[n.m] and others:
        out.append(f"  `{n.m}` ~ {' + '.join(others)}")
    to_y = [f"c_within*`{n.x_at[1]}`"] * (1 in n.x_at) + others if 1 in n.x_at else others
    if 1 in homes[n.y] and to_y:
        out.append(f"  `{n.y}` ~ {' + '.join(to_y)}")
    return out + [f"  `{v}` ~~ `{v}`" for v in (n.m, n.y) if 1 in homes[v]]


def _upper(
    n: _Names,
    homes: Mapping[str, tuple[int, ...]],
    covariates: Sequence[str],
    k: int,
    key: str,
    varying: Sequence[int],
) -> list[str]:
    out: list[str] = []
    if k == varying[-1]:
        out += [f"  {n.a} ~ a_within*1"] * n.has_a + [f"  {n.b} ~ b_within*1"] * n.has_b
    if k in varying:
        out += [f"  {s} ~~ {s}" for s in n.slopes]
        out += [f"  {n.a} ~~ tau_{key}*{n.b}"] * (len(n.slopes) == 2)
    elif k < varying[-1]:
        # a variable skips no level: here the slopes have a part that is zero
        out += [f"  {s} ~~ 0*{s}" for s in n.slopes]
        out += [f"  {n.a} ~~ 0*{n.b}"] * (len(n.slopes) == 2)
        out += [f"  {s} ~~ 0*`{v}`" for s in n.slopes for v in (n.m, n.y) if k in homes[v]]
    others = [f"`{c}`" for c in covariates if k in homes[c]]
    x = [n.x_at[k]] if k in n.x_at else []
    to_m = [f"a_{key}*`{v}`" for v in x] + others
    label = f"context_{key}" if n.has_b else f"b_{key}"
    to_y = [f"{label}*`{n.m}`"] * (k in homes[n.m]) + [f"c_{key}*`{v}`" for v in x] + others
    for name, terms in ((n.m, to_m), (n.y, to_y)):
        if k in homes[name] and terms:
            out.append(f"  `{name}` ~ {' + '.join(terms)}")
    return out + [f"  `{v}` ~~ `{v}`" for v in (n.m, n.y) if k in homes[v]]


def _definitions(n: _Names, levels: Sequence[str], varying: Sequence[int]) -> list[str]:
    out: list[str] = []
    taus = [f"tau_level{k}" for k in varying] if len(n.slopes) == 2 else []
    b = {key: f"b_{key}" for key in levels}
    if n.has_b:
        b = {k: "b_within" if k == "within" else f"(b_within + context_{k})" for k in levels}
    for key in levels:
        indirect = " + ".join([f"a_{key} * {b[key]}", *(taus if key == "within" else [])])
        out += [
            f"indirect_{key} := {indirect}",
            f"direct_{key} := c_{key}",
            f"total_{key} := {indirect} + c_{key}",
        ]
    if "within" in levels:
        out += [f"slope_covariance_{tau.removeprefix('tau_')} := {tau}" for tau in taus]
    for lower, upper in pairwise(levels):
        contrast = upper.replace("level", "contextual")
        out += [
            f"b_{contrast} := {b[upper]} - {b[lower]}",
            f"indirect_{contrast} := indirect_{upper} - indirect_{lower}",
        ]
    return out
