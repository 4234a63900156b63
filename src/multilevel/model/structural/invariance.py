"""Models of measurement invariance: one factor definition in, one text per step out.

Across levels (Jak, Oort & Dolan 2013, Struct. Equ. Modeling 20:265; 2014, Struct. Equ. Modeling
21:31): configural, the same items measure the same latent variables at both levels; weak, loadings
are equal across levels; strong, the between residual variances of the items are zero besides, so
that the items' cluster differences are those of the latent variables (no cluster bias). With three
levels or more, at all of them alike.

Across groups (Meredith 1993, Psychometrika 58:525): configural; weak, equal loadings; strong, equal
intercepts too; strict, equal residual variances and covariances too. With two levels the equalities
hold at each level (intercepts stand at the between level).

The first loading of each latent variable is 1. So its variance is free at each level and in each
group in all steps, and from the strong step its mean is free in all groups but the first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from multilevel.errors import ModelError
from multilevel.model.structural.parse import Parsed, parse_structural

Step = Literal["configural", "weak", "strong", "strict"]
LEVEL_STEPS: tuple[Step, ...] = ("configural", "weak", "strong")
GROUP_STEPS: tuple[Step, ...] = ("configural", "weak", "strong", "strict")
_WORDS = {
    ("levels", "configural"): "the same items measure the same latent variables",
    ("levels", "weak"): "loadings equal across levels",
    ("levels", "strong"): "loadings equal, no residual variance of items between clusters",
    ("groups", "configural"): "the same items measure the same latent variables",
    ("groups", "weak"): "loadings equal across groups",
    ("groups", "strong"): "loadings and intercepts equal",
    ("groups", "strict"): "loadings, intercepts and residual variances equal",
}


@dataclass(frozen=True)
class InvarianceStep:
    """One model of the sequence.

    Attributes
    ----------
    name, words : of the step, and what it holds equal.
    text : the model in the language of ``sem``.
    labels : labels that this step adds to the one before; parameters that share one are equal.
    zeros : items whose between residual variance this step fixes at zero.
    """

    name: Step
    words: str
    text: str
    labels: tuple[str, ...]
    zeros: tuple[str, ...]


@dataclass(frozen=True)
class _Definition:
    loadings: dict[str, list[str]]
    covariances: list[tuple[str, str]]
    items: list[str]


def plan_invariance(
    text: str, *, clusters: Sequence[str], n_groups: int, free: Collection[str] = ()
) -> tuple[InvarianceStep, ...]:
    """The models to compare.

    Parameters
    ----------
    text : ``f =~ y1 + y2 + y3``, one line per latent variable, and residual covariances
        ``y1 ~~ y2``; no levels, labels or numbers.
    clusters : columns of the units from level 2 upwards; none for a single level.
    n_groups : number of groups; 1 compares the levels.
    free : parameters left out of all equalities (partial invariance), in the language of ``sem``:
        ``"f =~ y4"``, ``"y4 ~ 1"``, ``"y4 ~~ y4"`` (across levels: its between residual
        variance).

    Raises
    ------
    FormulaError, ModelError : a text that is not a definition of latent variables.
    """
    definition = _read(text)
    kept = _kept(free, definition, n_groups > 1)
    kind = "groups" if n_groups > 1 else "levels"
    out: list[InvarianceStep] = []
    before: set[str] = set()
    zeros_before: set[str] = set()
    for step in GROUP_STEPS if n_groups > 1 else LEVEL_STEPS:
        writer = _Writer(definition, kept, step, tuple(clusters), n_groups)
        body, labels, zeros = writer.text()
        out.append(
            InvarianceStep(step, _WORDS[kind, step], body,
                           tuple(n for n in labels if n not in before),
                           tuple(n for n in zeros if n not in zeros_before))
        )  # fmt: skip
        before, zeros_before = set(labels), set(zeros)
    return tuple(out)


def _read(text: str) -> _Definition:
    parsed: Parsed = parse_structural(text)
    if parsed.headings or parsed.slopes or parsed.defined or parsed.equalities:
        raise ModelError(
            "The definition of latent variables holds for all levels and groups.",
            "a level heading, a random slope, a definition or a constraint",
            "write lines like f =~ y1 + y2 + y3 only",
        )
    loadings: dict[str, list[str]] = {}
    covariances: list[tuple[str, str]] = []
    for r in parsed.relations:
        if r.op not in ("=~", "~~") or r.modifiers or (r.op == "~~" and r.lhs == r.rhs):
            raise ModelError(
                "The definition of latent variables has lines f =~ y1 + y2 and residual covariances"
                " y1 ~~ y2, without labels or numbers: the steps write these.",
                f"{r.lhs} {'~' if r.op == '~1' else r.op} {r.rhs or '1'}"
                + (" with a label or a number" if r.modifiers else ""),
                "leave it out",
            )
        if r.op == "=~":
            loadings.setdefault(r.lhs, []).append(r.rhs)
        else:
            covariances.append((r.lhs, r.rhs))
    items = list(dict.fromkeys(y for ys in loadings.values() for y in ys))
    if not loadings or set(items) & set(loadings):
        raise ModelError(
            "Invariance is about latent variables measured by observed items.",
            "no line with =~" if not loadings else "a latent variable that is itself an item",
            "write, for example, f =~ y1 + y2 + y3 + y4",
        )
    for pair in covariances:
        if not set(pair) <= set(items):
            raise ModelError("Residual covariances join items.", f"{pair[0]} ~~ {pair[1]}",
                             "latent variables covary by default")  # fmt: skip
    return _Definition(loadings, covariances, items)


def _kept(free: Collection[str], definition: _Definition, has_groups: bool) -> set[str]:
    """The parameters that stay free, written evenly; refuse those that no step restricts."""
    if isinstance(free, str):
        free = (free,)
    known = {f"{f} =~ {y}" for f, ys in definition.loadings.items() for y in ys[1:]}
    known |= {f"{y} ~~ {y}" for y in definition.items}
    if has_groups:
        known |= {f"{y} ~ 1" for y in definition.items}
        known |= {f"{a} ~~ {b}" for a, b in definition.covariances}
    for one in free:
        if " ".join(one.split()) not in known:
            raise ModelError(
                "free names parameters that a step restricts.",
                repr(one),
                f"known: {', '.join(sorted(known))} (the first loading of each latent variable is"
                " its unit)",
            )
    return {" ".join(one.split()) for one in free}


@dataclass
class _Writer:
    """Writes the text of one step."""

    definition: _Definition
    kept: set[str]
    step: Step
    clusters: tuple[str, ...]
    n_groups: int

    def text(self) -> tuple[str, list[str], list[str]]:
        """The text, its labels, and the items without between residual variance."""
        self.labels: list[str] = []
        self.zeros: list[str] = []
        lines: list[str] = []
        upper = ("between",) if len(self.clusters) == 1 else self.clusters
        levels = ("within", *upper) if self.clusters else ("",)
        for number, level in enumerate(levels, 1):
            lines += [f"level: {number if len(levels) > 2 else level}"] if level else []
            lines += self._loadings(level)
            lines += self._residuals(level)
            if level == levels[-1] and self.n_groups > 1:
                lines += self._means()
        return (
            "\n".join(lines), list(dict.fromkeys(self.labels)), list(dict.fromkeys(self.zeros))
        )  # fmt: skip

    def _label(self, kind: str, number: int, level: str, name: str, least: Step) -> str:
        """``label*``, or nothing where the step leaves the parameter free."""
        if GROUP_STEPS.index(self.step) < GROUP_STEPS.index(least) or name in self.kept:
            return ""
        where = f"_{_plain(level)}" if level and self.n_groups > 1 else ""
        label = f"{kind}{number}{where}"
        self.labels.append(label)
        return f"{label}*"

    def _loadings(self, level: str) -> list[str]:
        out, number = [], 0
        for latent, items in self.definition.loadings.items():
            terms = [_quoted(items[0])]
            for item in items[1:]:
                number += 1
                label = self._label("loading", number, level, f"{latent} =~ {item}", "weak")
                terms.append(label + _quoted(item))
            out.append(f"  {_quoted(latent)} =~ {' + '.join(terms)}")
        return out

    def _residuals(self, level: str) -> list[str]:
        out = []
        is_strong = self.n_groups == 1 and level != "within" and self.step == "strong"
        for k, item in enumerate(self.definition.items, 1):
            own = f"{item} ~~ {item}"
            if is_strong and own not in self.kept:
                self.zeros.append(item)
                out.append(f"  {_quoted(item)} ~~ 0*{_quoted(item)}")
            elif self.n_groups > 1:
                label = self._label("residual", k, level, own, "strict")
                out += [f"  {_quoted(item)} ~~ {label}{_quoted(item)}"] if label else []
        for k, (a, b) in enumerate(self.definition.covariances, 1):
            if is_strong and {a, b} & set(self.zeros):
                continue
            name = f"{a} ~~ {b}"
            label = self._label("covariance", k, level, name, "strict") if self.n_groups > 1 else ""
            out.append(f"  {_quoted(a)} ~~ {label}{_quoted(b)}")
        return out

    def _means(self) -> list[str]:
        out = []
        for k, item in enumerate(self.definition.items, 1):
            label = self._label("intercept", k, "", f"{item} ~ 1", "strong")
            out += [f"  {_quoted(item)} ~ {label}1"] if label else []
        if out:
            means = ", ".join(["0"] + ["NA"] * (self.n_groups - 1))
            out += [f"  {_quoted(f)} ~ c({means})*1" for f in self.definition.loadings]
        return out


def _plain(name: str) -> str:
    """A name as a part of a label."""
    return "".join(c if c.isalnum() else "_" for c in name)


def _quoted(name: str) -> str:
    """A name as the language reads it."""
    return f"`{name}`"


def step_names(steps: Sequence[InvarianceStep]) -> tuple[str, ...]:
    """Names in order."""
    return tuple(s.name for s in steps)
