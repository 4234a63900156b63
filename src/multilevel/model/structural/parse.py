"""Tokens of a structural model to its relations, level by level."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from multilevel.errors import ModelError
from multilevel.model.structural.expression import Expression, ExpressionReader
from multilevel.model.structural.records import Level, Operator, RandomSlope
from multilevel.model.structural.scan import Token, Tokens, refuse, scan

_LEVEL_NAMES: dict[str, Level] = {
    "within": "within", "1": "within", "between": "between", "2": "between",
}  # fmt: skip
Kind = Literal["fixed", "free", "label", "start"]


@dataclass(frozen=True)
class Modifier:
    """``a*``, ``0*``, ``NA*``, ``start(1)*`` or one entry of ``c(...)*``."""

    kind: Kind
    number: float = math.nan
    text: str = ""


@dataclass
class Relation:
    """One pair of variables with its operator, and what stood before the ``*``.

    ``modifiers`` holds one tuple per factor: of length 1, or of one entry per group.
    """

    level: Level
    lhs: str
    op: Operator
    rhs: str
    position: int
    modifiers: list[tuple[Modifier, ...]] = field(default_factory=list)


@dataclass
class Parsed:
    """Everything that a text says, before defaults."""

    text: str
    relations: list[Relation] = field(default_factory=list)
    defined: list[tuple[str, Expression, str, int]] = field(default_factory=list)
    equalities: list[tuple[str, str | float, int]] = field(default_factory=list)
    slopes: list[RandomSlope] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    headings: int = 0
    cluster: str = ""
    higher: tuple[str, ...] = ()

    @property
    def all_levels(self) -> tuple[Level, ...]:
        """Levels that a text may speak of, from rows upwards."""
        return ("within", "between", *self.higher)

    def title(self, level: Level) -> str:
        """What users call a level."""
        return self.cluster if self.higher and level == "between" else level

    def above(self, level: Level) -> frozenset[str]:
        """Names of all levels above one: observed variables, and random slopes that stand there."""
        slopes = {s.name for s in self.slopes}
        own = self.all_levels[self.all_levels.index(level) + 1 :]
        return frozenset(
            n for up in own for n in self.names(up) if n in slopes or n not in self.latent(up)
        )

    def names(self, level: Level) -> tuple[str, ...]:
        """All variables of a level, in order of appearance."""
        found: list[str] = []
        for r in self.relations:
            if r.level == level:
                found += [r.lhs] if r.op == "~1" else [r.lhs, r.rhs]
        if level == "within":
            found += [n for s in self.slopes for n in (s.outcome, s.predictor)]
        return tuple(dict.fromkeys(found))

    def latent(self, level: Level) -> tuple[str, ...]:
        """Latent variables of a level: left of ``=~``, and random slopes.

        Slopes are variables of the second level, and of those above at which they are named.
        """
        own = [r.lhs for r in self.relations if r.level == level and r.op == "=~"]
        slopes = [s.name for s in self.slopes] if level == "between" else []
        if level in self.higher:
            slopes = [s.name for s in self.slopes if s.name in self.names(level)]
        return tuple(dict.fromkeys([*own, *slopes]))

    def observed(self, level: Level) -> tuple[str, ...]:
        """Variables of a level that are not latent there."""
        latent = set(self.latent(level))
        return tuple(n for n in self.names(level) if n not in latent)


def parse_structural(text: str, cluster: str | None = None, higher: tuple[str, ...] = ()) -> Parsed:
    """Read the text of a structural model.

    Parameters
    ----------
    text : statements in the tradition of lavaan and Mplus, one per line or separated by ``;``:

        * ``level: within`` / ``level: between`` (also ``1`` / ``2``, or the cluster's name) opens
          a level;
        * ``f =~ y1 + y2`` a latent variable and its indicators; ``y ~ x`` a regression;
          ``y ~~ z`` a (residual) covariance; ``y ~ 1`` a mean or intercept;
          ``s | y ~ x`` a slope that varies over clusters;
        * before a variable: ``a*`` a label, ``0*`` a fixed value, ``NA*`` free,
          ``start(0.5)*`` a start value, ``c(a1, a2)*`` one of these per group;
        * ``ind := a * b`` a defined parameter; ``a == b`` or ``a == 0.5`` a constraint;
        * ``#`` and ``!`` begin comments.
    cluster : name of the cluster column, accepted as the name of level 2.
    higher : columns of the units above, from below: the names of levels 3, 4, ...

    Raises
    ------
    FormulaError : a text that cannot be understood; points at the character.
    ModelError : something that is not text.
    """
    if not isinstance(text, str):
        raise ModelError("A structural model is text.", type(text).__name__, "write it in quotes")
    reader = _Reader(text, cluster, higher)
    statement: list[Token] = []
    for token in scan(text):
        if token.kind == "end":
            if statement:
                reader.read(tuple(statement), token.start)
            statement = []
        else:
            statement.append(token)
    if not reader.parsed.relations:
        refuse("A structural model has at least one relation.", "none",
               "write, for example, level: within and y ~ x", text, 0)  # fmt: skip
    return reader.parsed


class _Reader:
    """Reads statement after statement; remembers the level."""

    def __init__(self, text: str, cluster: str | None, higher: tuple[str, ...] = ()) -> None:
        self.parsed = Parsed(text, cluster=cluster or "", higher=higher)
        self._level: Level = "within"
        self._names = dict(_LEVEL_NAMES)
        if higher:
            del self._names["between"]
        if cluster:
            self._names.setdefault(cluster.lower(), "between")
        for number, name in enumerate(higher):
            self._names[str(number + 3)] = name
            self._names.setdefault(name.lower(), name)

    def _refuse(self, must: str, found: str, remedy: str, position: int) -> NoReturn:
        refuse(must, found, remedy, self.parsed.text, position)

    def read(self, tokens: Tokens, after: int) -> None:
        """Read one statement; ``after`` is where it ends."""
        if len(tokens) > 1 and tokens[1].is_operator(":") and tokens[0].kind == "name":
            self._heading(tokens, after)
            return
        places = [i for i, t in enumerate(tokens) if t.is_operator("=~", "~", "~~", ":=", "==")]
        if not places:
            self._refuse("A statement has one of =~ ~ ~~ := ==.", "none of them",
                         "write, for example, y ~ x", tokens[0].start)  # fmt: skip
        if len(places) > 1:
            self._refuse("A statement has one operator.", f"a second, {tokens[places[1]].text!r}",
                         "begin a new line", tokens[places[1]].start)  # fmt: skip
        left, operator, right = tokens[: places[0]], tokens[places[0]], tokens[places[0] + 1 :]
        if not left or not right:
            side = "right" if left else "left"
            self._refuse(f"{operator.text} has a left-hand and a right-hand side.",
                         f"nothing on the {side}", "write both sides", operator.start)  # fmt: skip
        if operator.text == ":=":
            self._define(left, right, after)
        elif operator.text == "==":
            self._equate(left, right)
        elif any(t.is_operator("|") for t in left):
            self._slope(left, operator, right)
        else:
            self._relate(left, operator, right)

    def _heading(self, tokens: Tokens, after: int) -> None:
        word = tokens[0].text.lower()
        if word != "level":
            self._refuse("A heading opens a level.", f"{tokens[0].text!r}",
                         "write level: within or level: between (groups: the argument group=)",
                         tokens[0].start)  # fmt: skip
        if len(tokens) != 3 or tokens[2].kind not in ("name", "number", "string"):
            at = tokens[2].start if len(tokens) > 2 else after
            self._refuse("A level heading names one level.", "something else",
                         "write level: within, or the name of a higher level", at)  # fmt: skip
        found = self._names.get(tokens[2].text.lower())
        if found is None:
            self._refuse_level(tokens[2])
        self._level = found
        self.parsed.headings += 1
        if found not in self.parsed.levels:
            self.parsed.levels.append(found)

    def _refuse_level(self, token: Token) -> NoReturn:
        """Say which levels there are; with two cluster columns ``between`` is not one of them."""
        own = self.parsed
        if not own.higher:
            self._refuse(
                "The levels are within (or 1) and between (or 2, or the name of the cluster).",
                f"level {token.text!r}", "write level: within or level: between; for a third level"
                ' name two cluster columns, like cluster=["class", "school"]',
                token.start)  # fmt: skip
        named = [own.cluster, *own.higher]
        listed = ", ".join(f"{name} (or {k + 2})" for k, name in enumerate(named))
        is_vague = token.text.lower() == "between"
        self._refuse(
            f"The levels are within (or 1), {listed}.",
            f"level {token.text!r}" + ", which could be any of the upper levels" * is_vague,
            f"name the level: level: {named[0]} or level: {named[-1]}", token.start)  # fmt: skip

    def _define(self, left: Tokens, right: Tokens, after: int) -> None:
        if len(left) != 1 or left[0].kind != "name":
            self._refuse("The left-hand side of := is one new name.", "something else",
                         "write it like ind := a * b", left[0].start)  # fmt: skip
        name = left[0]
        if any(name.text == d[0] for d in self.parsed.defined):
            self._refuse("Every defined parameter has its own name.", f"{name.text!r} again",
                         "choose another name", name.start)  # fmt: skip
        text = self.parsed.text
        expression = ExpressionReader(right, text, after).read()
        source = " ".join(text[right[0].start : after].split("#")[0].split("!")[0].split())
        self.parsed.defined.append((name.text, expression, source, name.start))

    def _equate(self, left: Tokens, right: Tokens) -> None:
        remedy = "write a == b or a == 0.5; write sums and products as definitions (:=) instead"
        sign = -1.0 if len(right) == 2 and right[0].is_operator("-") else 1.0
        last = right[-1]
        if len(left) != 1 or left[0].kind != "name" or len(right) != (1 if sign > 0 else 2):
            self._refuse("A constraint sets one label equal to another or to a number.",
                         "an expression", remedy, left[0].start)  # fmt: skip
        if last.kind == "number":
            self.parsed.equalities.append((left[0].text, sign * float(last.text), left[0].start))
        elif last.kind == "name" and sign > 0:
            self.parsed.equalities.append((left[0].text, last.text, left[0].start))
        else:
            self._refuse("A constraint sets one label equal to another or to a number.",
                         repr(last.text), remedy, last.start)  # fmt: skip

    def _slope(self, left: Tokens, operator: Token, right: Tokens) -> None:
        good = (
            len(left) == 3
            and left[1].is_operator("|")
            and left[0].kind == left[2].kind == "name"
            and operator.text == "~"
            and len(right) == 1
            and right[0].kind == "name"
        )
        if not good or self._level != "within":
            self._refuse("A random slope is written s | y ~ x, at the within level.",
                         "something else" if not good else "it at the between level",
                         "write one slope per line under level: within", left[0].start)  # fmt: skip
        self.parsed.slopes.append(RandomSlope(left[0].text, left[2].text, right[0].text))

    def _relate(self, left: Tokens, operator: Token, right: Tokens) -> None:
        for target in self._sum(left, operator):
            if target[0] or target[1].kind != "name":
                self._refuse("The left-hand side holds names joined by +.", "something else",
                             "put labels and numbers on the right-hand side",
                             left[0].start)  # fmt: skip
            for factors, last in self._sum(right, operator):
                modifiers = [self._modifier(f) for f in factors]
                self._add(target[1], operator, last, modifiers)

    def _add(
        self, lhs: Token, operator: Token, rhs: Token, modifiers: list[tuple[Modifier, ...]]
    ) -> None:
        """Append one relation, or add modifiers to one that is there."""
        op: Operator = operator.text  # type: ignore[assignment]
        name = rhs.text
        if rhs.kind == "number":
            if rhs.text != "1" or op != "~":
                self._refuse("The right-hand side holds names; 1 stands for the intercept of ~.",
                             repr(rhs.text), "write y ~ 1, or 0*x for a value fixed at zero",
                             rhs.start)  # fmt: skip
            op, name = "~1", ""
        elif op in ("~", "=~") and lhs.text == name:
            self._refuse(f"A variable is not {'regressed on' if op == '~' else 'measured by'} "
                         "itself.", f"{lhs.text} {op} {name}",
                         "write ~~ for its variance", rhs.start)  # fmt: skip
        for r in self.parsed.relations:
            pairs = {(r.lhs, r.rhs), (r.rhs, r.lhs) if op == "~~" else (r.lhs, r.rhs)}
            if r.level == self._level and r.op == op and (lhs.text, name) in pairs:
                if not modifiers:
                    self._refuse("Every relation is written once per level.",
                                 f"{lhs.text} {op} {name} again", "remove one",
                                 rhs.start)  # fmt: skip
                r.modifiers += modifiers
                return
        self.parsed.relations.append(
            Relation(self._level, lhs.text, op, name, rhs.start, modifiers)
        )

    def _sum(self, tokens: Tokens, operator: Token) -> list[tuple[list[Tokens], Token]]:
        """Cut a side at ``+``, each term at ``*``: its factors and its last word."""
        out: list[tuple[list[Tokens], Token]] = []
        term: list[Token] = []
        depth = 0
        for token in [*tokens, Token("operator", "+", tokens[-1].start)]:
            depth += (token.kind == "open") - (token.kind == "close")
            if depth or not token.is_operator("+"):
                term.append(token)
                continue
            if not term:
                self._refuse("Every + stands between two terms.", "nothing before or after +",
                             "remove it", token.start)  # fmt: skip
            out.append(self._factors(term, operator))
            term = []
        return out

    def _factors(self, term: list[Token], operator: Token) -> tuple[list[Tokens], Token]:
        pieces: list[list[Token]] = [[]]
        depth = 0
        for token in term:
            depth += (token.kind == "open") - (token.kind == "close")
            if not depth and token.is_operator("*"):
                pieces.append([])
            else:
                pieces[-1].append(token)
        last = pieces[-1]
        if any(not p for p in pieces) or len(last) != 1 or last[0].kind not in ("name", "number"):
            at = next((p[0].start for p in reversed(pieces) if p), operator.start)
            self._refuse("A term is a variable, with a label or a number before *.",
                         "something else", "write it like a*x or 0*x", at)  # fmt: skip
        return [tuple(p) for p in pieces[:-1]], last[0]

    def _modifier(self, tokens: Tokens) -> tuple[Modifier, ...]:
        first = tokens[0]
        is_call = len(tokens) > 2 and tokens[1].kind == "open" and tokens[-1].kind == "close"
        if not is_call:
            return (self._entry(tokens),)
        if first.text not in ("c", "start", "label"):
            self._refuse("Before * stands a label, a number, NA, start(...), label(...) or c(...).",
                         f"{first.text}(...)", "use one of these", first.start)  # fmt: skip
        entries: list[Modifier] = []
        piece: list[Token] = []
        for token in [*tokens[2:-1], Token("comma", ",", tokens[-1].start)]:
            if token.kind != "comma":
                piece.append(token)
                continue
            if not piece:
                self._refuse("Every comma stands between two entries.", "nothing", "remove it",
                             token.start)  # fmt: skip
            entries.append(self._entry(tuple(piece)))
            piece = []
        wanted = {"start": "fixed", "label": "label"}.get(first.text)
        if wanted and any(e.kind != wanted for e in entries):
            what = "numbers" if first.text == "start" else "names"
            self._refuse(f"{first.text}(...) holds {what}.", "something else",
                         f"write {what} in it", first.start)  # fmt: skip
        if first.text == "start":
            return tuple(Modifier("start", number=e.number) for e in entries)
        return tuple(entries)

    def _entry(self, tokens: Tokens) -> Modifier:
        """One label, number or NA, with its sign."""
        signed = len(tokens) == 2 and tokens[0].is_operator("-") and tokens[1].kind == "number"
        if signed:
            return Modifier("fixed", number=-float(tokens[1].text))
        if len(tokens) == 1 and tokens[0].kind == "number":
            return Modifier("fixed", number=float(tokens[0].text))
        if len(tokens) == 1 and tokens[0].kind in ("name", "string"):
            token = tokens[0]
            if token.text == "NA" and not token.is_quoted:
                return Modifier("free")
            return Modifier("label", text=token.text)
        return self._refuse("Before * stands a label, a number, NA, start(...) or c(...).",
                            "something else", "write it like a*x", tokens[0].start)  # fmt: skip
