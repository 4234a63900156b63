"""``mm(school1, school2, weights=[w1, w2])``: rows that belong to several levels at once.

The words are those of brms (Buerkner 2018, R Journal 10:395): ``mm()`` pools the levels of its
columns; ``weights=`` names one column of weights for each; ``scale=False`` keeps them as given.
"""

from __future__ import annotations

from multilevel.model.formula.calls import shown_text
from multilevel.model.formula.scan import Token, Tokens, matching, refuse
from multilevel.model.specification import Membership

NAME = "mm"
_LISTS = ("c", "cbind")
_FLAGS = {"True": True, "TRUE": True, "False": False, "FALSE": False}
_EXAMPLE = "write it like (1 | mm(school1, school2)) or mm(school1, school2, weights=[w1, w2])"


def is_membership(right: Tokens) -> bool:
    """Whether a multiple-membership call stands right of the bar."""
    return (
        len(right) > 1 and right[0].text == NAME and not right[0].is_quoted and right[1].is_open()
    )


def read_membership(right: Tokens, text: str) -> Membership:
    """Read ``mm(...)``; ``right`` holds all tokens right of the bar.

    Raises
    ------
    FormulaError : fewer than two columns, unknown options, weights that do not match.
    """
    end = matching(right, text)[1]
    if end != len(right) - 1:
        _refuse("mm(...) stands alone right of the bar.", shown_text(right), right[end + 1], text)
    columns: list[str] = []
    weights: tuple[str, ...] = ()
    is_scaled = True
    for part in _arguments(right[2:end]):
        if not part:
            _refuse("mm() takes column names.", "an empty place", right[0], text)
        if len(part) > 2 and part[1].text == "=":
            if part[0].text == "weights":
                weights = _names(part[2:], text)
            elif part[0].text == "scale" and len(part) == 3 and part[2].text in _FLAGS:
                is_scaled = _FLAGS[part[2].text]
            else:
                found = shown_text(part)
                _refuse("The options of mm() are weights=[...] and scale=True or False.", found,
                        part[0], text)  # fmt: skip
        elif len(part) == 1 and part[0].kind == "name":
            columns.append(part[0].text)
        else:
            _refuse("mm() takes column names.", shown_text(part), part[0], text)
    if len(columns) < 2:
        _refuse("mm() takes two columns or more.", f"{len(columns)}", right[0], text)
    if len(set(columns)) < len(columns):
        _refuse("Each column of mm() may stand once.", ", ".join(columns), right[0], text)
    if weights and len(weights) != len(columns):
        _refuse(
            "mm() takes one column of weights for each column of levels.",
            f"{len(weights)} weights for {len(columns)} columns", right[0], text,
        )  # fmt: skip
    if not is_scaled and not weights:
        _refuse("scale=False keeps the weights that are given.", "no weights=", right[0], text)
    return Membership(tuple(columns), weights, is_scaled)


def _refuse(must: str, found: str, token: Token, text: str) -> None:
    refuse(must, found, _EXAMPLE, text, token.start)


def _arguments(tokens: Tokens) -> list[Tokens]:
    """Cut the inside of the brackets at its outer commas."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.text == "," and token.kind == "operator":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts]


def _names(tokens: Tokens, text: str) -> tuple[str, ...]:
    """Column names in ``[a, b]``, ``(a, b)``, ``c(a, b)`` or ``cbind(a, b)``."""
    inside = tokens[1:] if tokens[0].kind == "name" and tokens[0].text in _LISTS else tokens
    if len(inside) < 3 or inside[0].kind != "open" or inside[-1].kind != "close":
        _refuse("weights= takes columns in brackets.", shown_text(tokens), tokens[0], text)
    parts = _arguments(inside[1:-1])
    for part in parts:
        if len(part) != 1 or part[0].kind != "name":
            _refuse("weights= takes column names.", shown_text(tokens), tokens[0], text)
    return tuple(part[0].text for part in parts)
