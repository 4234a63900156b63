"""Bar terms: ``(1 + x | school/class)`` to random terms on single factors."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from multilevel.model.covariance.structures import FORMULA_NAMES, Structure
from multilevel.model.formula.calls import shown_text
from multilevel.model.formula.compile import compile_columns, compile_sum, term_labels
from multilevel.model.formula.functions import FUNCTIONS
from multilevel.model.formula.membership import is_membership, read_membership
from multilevel.model.formula.scan import Token, Tokens, matching, refuse
from multilevel.model.formula.term_options import cut_order, occasions_of
from multilevel.model.specification import RandomTerm


@dataclass(frozen=True)
class Bar:
    """Where the bars of one chunk are.

    Attributes
    ----------
    first : index of the first bar in the chunk.
    opens : index of the bracket that directly holds it, or -1.
    """

    first: int
    opens: int


def find_bar(chunk: Tokens) -> Bar | None:
    """Return the first bar of a chunk, or None."""
    waiting = [-1]
    for index, token in enumerate(chunk):
        if token.kind == "open":
            waiting.append(index)
        elif token.kind == "close":
            waiting.pop()
        elif token.is_operator("|", "||"):
            return Bar(index, waiting[-1])
    return None


def random_terms(chunk: Tokens, bar: Bar, text: str) -> list[RandomTerm]:
    """Read one bar term, with its structure, and expand its nesting.

    Raises
    ------
    FormulaError : anything that is not one bar term on its own.
    """
    body, prefix = _body(chunk, bar, text)
    bars = [i for i, token in enumerate(body) if token.is_operator("|", "||")]
    if len(bars) != 1:
        _refuse_bars(body, bars, text)
    left, right, symbol = body[: bars[0]], body[bars[0] + 1 :], body[bars[0]]
    if not left:
        refuse(
            "Left of the bar stand the effects that vary.",
            "nothing",
            "write 1 for random intercepts, like (1 | g)",
            text,
            symbol.start,
        )
    if not right:
        refuse(
            "Right of the bar stands the grouping factor.",
            "nothing",
            "write the column that names the groups, like (1 | school)",
            text,
            symbol.start,
        )
    structure = _structure(prefix, symbol, text)
    _refuse_offset(left, text)
    compile_sum(left, text)
    columns = occasions_of(left, structure, text) or text[left[0].start : left[-1].stop].strip()
    start = chunk[0].start
    whole = text[start : chunk[-1].stop]
    right, order = cut_order(right, structure, text)
    right, by = _by(right, text)
    if is_membership(right):
        found = read_membership(right, text)
        return [RandomTerm(columns, (found.label,), structure, whole, start, found, order=order)]
    return [
        RandomTerm(columns, factors, structure, whole, start, by=by, order=order)
        for factors in _nesting(right, text)
    ]


def _by(right: Tokens, text: str) -> tuple[Tokens, str | None]:
    """Cut ``, by=column`` off the grouping factor."""
    depth, comma = 0, -1
    for i, token in enumerate(right):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.is_operator(","):
            comma = i
            break
    if comma < 0:
        return right, None
    rest = right[comma + 1 :]
    is_by = len(rest) == 3 and rest[0].text == "by" and rest[1].is_operator("=")
    if comma == 0 or right[0].text == "mm" or not is_by or rest[2].kind != "name":
        refuse(
            "After a grouping factor a random term takes by= and one column.",
            shown_text(right),
            "write it like (1 | school, by=sector)",
            text,
            right[comma].start,
        )
    return right[:comma], rest[2].text


def check_repeats(terms: tuple[RandomTerm, ...], text: str) -> None:
    """Refuse the same column twice on one factor: two variances that cannot be told apart.

    Raises
    ------
    FormulaError : pointing at the second term.
    """
    seen: dict[frozenset[str], set[str]] = {}
    for term in terms:
        known = seen.setdefault(frozenset(term.factors), set())
        compiled = compile_columns(term.columns)
        names = dict(compiled.display)
        labels = {":".join(sorted(names.get(p, p) for p in label.split(":")))
                  for label in term_labels(compiled)}  # fmt: skip
        repeated = sorted(known & labels)
        if repeated:
            what = "the intercept" if repeated[0] == "1" else repeated[0]
            refuse(
                "An effect may vary once over each grouping factor, because the data cannot "
                "divide its variance between two terms.",
                f"{what} varies twice over {term.group}",
                "leave it out of one term; a term without intercept is written "
                f"(0 + x | {term.group})",
                text,
                term.position,
            )
        known |= labels


def _body(chunk: Tokens, bar: Bar, text: str) -> tuple[Tokens, Token | None]:
    """Return what stands inside the brackets, and the name in front of them."""
    symbol = chunk[bar.first]
    if bar.opens < 0:
        refuse(
            "A random term stands in parentheses.",
            f"{symbol.text!r} outside parentheses",
            "write it like (1 + x | g)",
            text,
            symbol.start,
        )
    end = matching(chunk, text)[bar.opens]
    has_prefix = bar.opens > 0 and chunk[bar.opens - 1].kind == "name"
    start = bar.opens - 1 if has_prefix else bar.opens
    prefix = chunk[start] if has_prefix else None
    if prefix is not None and prefix.text not in FORMULA_NAMES:
        _refuse_prefix(prefix, text)
    if start > 0 or end < len(chunk) - 1:
        joins_rest = [t for t in (*chunk[:start], *chunk[end + 1 :]) if t.is_operator()]
        is_nested = start > 0 and chunk[0].is_open()
        refuse(
            "A random term stands on its own, joined to the formula by +.",
            "a random term inside brackets" if is_nested and not joins_rest else
            "a random term inside a product or another term",
            "add it with +; a slope that varies is written (x | g)",
            text,
            chunk[start].start,
        )  # fmt: skip
    return chunk[bar.opens + 1 : end], prefix


def _refuse_prefix(prefix: Token, text: str) -> None:
    """Refuse a name in front of a bar term that is not a structure."""
    close = difflib.get_close_matches(prefix.text, sorted(FORMULA_NAMES), n=1)
    listed = ", ".join(f"{name} ({what})" for name, what in FORMULA_NAMES.items())
    if prefix.text in FUNCTIONS or prefix.text == "offset":
        refuse(
            "A random term stands on its own, joined to the formula by +.",
            f"a bar inside {prefix.text}()",
            "move the random term out of the function",
            text,
            prefix.start,
        )
    refuse(
        f"The covariance structure of a random term must be one of {listed}.",
        repr(prefix.text),
        f"did you mean {close[0]}(...)?" if close else "write us(1 + x | g) or leave it out",
        text,
        prefix.start,
    )


def _refuse_bars(body: Tokens, bars: list[int], text: str) -> None:
    """Refuse a second bar, beside the first or nested."""
    depth = 0
    depths = []
    for token in body:
        depth += (token.kind == "open") - (token.kind == "close")
        if token.is_operator("|", "||"):
            depths.append(depth)
    is_nested = any(depths)
    refuse(
        "A random term has one bar.",
        "a random term inside another" if is_nested else "two bars",
        "write them one after the other, like (1 | a) + (1 | b)",
        text,
        body[bars[1] if len(bars) > 1 else bars[0]].start,
    )


def _structure(prefix: Token | None, symbol: Token, text: str) -> Structure:
    """Return the structure that prefix and bar ask for."""
    asked = FORMULA_NAMES[prefix.text] if prefix else None
    if symbol.text == "||":
        if asked not in (None, "diagonal"):
            refuse(
                "The double bar means independent effects (a diagonal structure).",
                f"|| inside {prefix.text if prefix else ''}(...)",
                "write a single bar, or leave the structure out",
                text,
                symbol.start,
            )
        return "diagonal"
    return asked or "unstructured"


def _nesting(right: Tokens, text: str) -> list[tuple[str, ...]]:
    """Expand ``a/b/c`` to ``a``, ``a:b``, ``a:b:c``; ``:`` binds tighter than ``/``."""
    for index, token in enumerate(right):
        is_name = index % 2 == 0
        good = (
            token.kind == "name" and token.text != "." if is_name else token.is_operator(":", "/")
        )
        if not good:
            _refuse_factor(token, right, text)
    if len(right) % 2 == 0:
        refuse("Every operator needs a factor on both sides.", f"nothing after {right[-1].text!r}",
               "write the missing factor", text, right[-1].start)  # fmt: skip
    expanded: list[tuple[str, ...]] = []
    current: list[str] = [right[0].text]
    for operator, name in zip(right[1::2], right[2::2], strict=True):
        if operator.text == "/":
            expanded.append(tuple(current))
        if name.text in current:
            refuse("A factor may stand once in a nesting.", f"{name.text!r} again", "remove it",
                   text, name.start)  # fmt: skip
        current.append(name.text)
    expanded.append(tuple(current))
    return expanded


def _refuse_factor(token: Token, right: Tokens, text: str) -> None:
    """Refuse what cannot stand right of the bar."""
    shown = shown_text(right)
    remedy = "write a column name, a/b for b nested in a, or a:b for combinations"
    if token.is_operator("+"):
        remedy = "write one term for each factor, like (1 | a) + (1 | b)"
    if token.is_operator("*"):
        remedy = "write (1 | a) + (1 | b) + (1 | a:b)"
    if token.kind == "open":
        remedy = "make the column before fitting, and name it here"
    refuse("Right of the bar stand column names.", shown, remedy, text, token.start)


def _refuse_offset(left: Tokens, text: str) -> None:
    """Refuse an offset left of the bar."""
    for token in left:
        if token.kind == "name" and token.text == "offset" and not token.is_quoted:
            refuse(
                "An offset is a known part of the mean, so it stands outside random terms.",
                "offset inside a random term",
                "write + offset(...) after the random term",
                text,
                token.start,
            )
