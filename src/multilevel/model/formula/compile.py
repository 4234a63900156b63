"""A sum of terms, or one expression, as text that formulaic can evaluate safely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from formulaic import Formula
from formulaic.errors import FormulaicError

from multilevel.errors import FormulaError
from multilevel.model.formula.calls import call_text, python_text, refuse_dot, shown_text
from multilevel.model.formula.functions import CENTRING, ELEMENTWISE
from multilevel.model.formula.names import CentringCall, Names
from multilevel.model.formula.scan import Token, Tokens, matching, refuse, scan
from multilevel.model.formula.syntax import check_tree

MAX_POWER = 5
MAX_PRODUCTS = 12
_MAX_TERMS = 20_000


@dataclass(frozen=True)
class Compiled:
    """One formula part, ready for evaluation.

    Attributes
    ----------
    text : the part over plain identifiers, in formulaic's grammar.
    columns : pairs (identifier, column of the table).
    centring : pairs (identifier, centring call whose result it stands for).
    display : pairs (text of a factor as evaluated, text for labels).
    """

    text: str
    columns: tuple[tuple[str, str], ...]
    centring: tuple[tuple[str, CentringCall], ...]
    display: tuple[tuple[str, str], ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns of the table that the part needs, grouping columns of centring included."""
        names = [column for _, column in self.columns]
        for _, call in self.centring:
            names += [column for _, column in call.columns]
            names += call.factors
        return tuple(dict.fromkeys(names))


@lru_cache(maxsize=512)
def compile_columns(text: str) -> Compiled:
    """Compile a right-hand side without bar terms, e.g. ``"1 + x * C(z)"``.

    Raises
    ------
    FormulaError : text that is not such a sum.
    """
    return compile_sum(scan(text), text)


@lru_cache(maxsize=512)
def compile_expression(text: str) -> Compiled:
    """Compile one numeric expression, e.g. ``"log(y)"`` or ``"y / 10"``.

    Raises
    ------
    FormulaError : text that is not one expression.
    """
    return expression_of(scan(text), text, 0)


@lru_cache(maxsize=512)
def term_labels(compiled: Compiled) -> tuple[str, ...]:
    """Return the expanded terms of a sum, as text; ``"1"`` is the intercept.

    Raises
    ------
    FormulaError : a sum that formulaic refuses.
    """
    return tuple(str(term) for term in formula_of(compiled.text))


@lru_cache(maxsize=512)
def formula_of(text: str) -> Formula:
    """Return formulaic's Formula of a compiled sum; treat it as read-only."""
    try:
        return Formula(text)
    except (FormulaicError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as e:
        raise FormulaError(
            "The terms of a formula must be sums and products of columns.",
            f"{text!r}: {e}",
            "write it with + : * and parentheses",
        ) from e


def expression_of(tokens: Tokens, text: str, position: int) -> Compiled:
    """Compile the tokens of one numeric expression."""
    if not tokens:
        refuse("An expression is needed here.", "nothing", "write a column name", text, position)
    names = Names()
    written = python_text(tokens, text, names, ELEMENTWISE | frozenset(CENTRING))
    check_tree(written, tokens[0], text, names)
    if not names.columns and not names.centring:
        refuse(
            "An expression must use a column.",
            shown_text(tokens),
            "write a column name",
            text,
            tokens[0].start,
        )
    names.display[written] = shown_text(tokens)
    return _compiled(written, names)


def compile_sum(tokens: Tokens, text: str) -> Compiled:
    """Compile the tokens of a sum of terms; ``text`` is the whole formula, for messages."""
    names = Names()
    pairs = matching(tokens, text)
    parts: list[str] = []
    before: Token | None = None
    depth, n_products, at = 0, 0, 0
    while at < len(tokens):
        token = tokens[at]
        follower = tokens[at + 1] if at + 1 < len(tokens) else None
        is_call = token.kind == "name" and follower is not None and follower.is_open()
        _check_place(token, before, text)
        if is_call:
            end = pairs[at + 1]
            parts.append(call_text(tokens[at : end + 1], text, names))
            at = end
        elif token.kind == "name":
            if token.text == "." and not token.is_quoted:
                refuse_dot(token, text)
            parts.append(names.of_column(token.text))
        elif token.kind == "number":
            parts.append(_check_number(token, before, follower, depth, text))
        else:
            parts.append(_check_operator(token, text))
        depth += (token.is_open() and not is_call) - (token.kind == "close")
        n_products += token.is_operator("*")
        if n_products > MAX_PRODUCTS:
            refuse(
                f"A formula may have at most {MAX_PRODUCTS} crossings (*).",
                "one more",
                "write the interactions that you need with :",
                text,
                token.start,
            )
        before = tokens[at]
        at += 1
    if before is None or before.kind == "operator":
        position = before.start if before else 0
        refuse("A sum must end with a term.", "nothing after this", "remove it", text, position)
    _check_powers(tokens, text)
    return _compiled(" ".join(parts), names)


def _compiled(text: str, names: Names) -> Compiled:
    return Compiled(
        text, tuple(names.columns.items()), tuple(names.centring.items()),
        tuple(names.display.items()),
    )  # fmt: skip


def _is_operand_end(token: Token | None) -> bool:
    """Whether a term may end with this token."""
    return token is not None and token.kind in ("name", "number", "close")


def _check_place(token: Token, before: Token | None, text: str) -> None:
    """Refuse two terms without an operator, and operators without a term."""
    starts_operand = token.kind in ("name", "number", "string", "open")
    if starts_operand and _is_operand_end(before):
        refuse(
            "Two terms must be joined by an operator.",
            f"{token.text!r} follows {before.text!r}" if before else token.text,
            "put + or : between them; put names with blanks in backticks",
            text,
            token.start,
        )
    if starts_operand:
        return
    at_start = before is None or before.is_open()
    is_sign = token.is_operator("+", "-") and at_start
    if not is_sign and not _is_operand_end(before):
        refuse(
            "Every operator needs a term on both sides.",
            f"nothing before {token.text!r}",
            f"remove {token.text!r}, or write the missing term",
            text,
            token.start,
        )


def _check_number(
    token: Token, before: Token | None, follower: Token | None, depth: int, text: str
) -> str:
    """Allow 0 and 1 as summands, and small whole powers."""
    if before is not None and before.is_operator("^", "**"):
        if token.text.isdigit() and 1 <= int(token.text) <= MAX_POWER:
            return token.text
        refuse(
            f"A power of a sum of terms must be a whole number from 1 to {MAX_POWER}.",
            token.text,
            "write I(x^2) for the square of a column",
            text,
            token.start,
        )
    starts = before is None or before.is_open() or before.is_operator("+", "-")
    ends = follower is None or follower.kind == "close" or follower.is_operator("+", "-")
    is_one = token.text == "1" and starts and ends
    is_zero = token.text == "0" and starts and ends and depth == 0
    if is_zero and before is not None and before.is_operator("-"):
        is_zero = False
    if not is_one and not is_zero:
        refuse(
            "The numbers among the terms are 1 (an intercept) and 0 (none).",
            token.text,
            "write I(2 * x) for arithmetic, offset(...) for a known part",
            text,
            token.start,
        )
    return token.text


def _check_operator(token: Token, text: str) -> str:
    """Refuse symbols that belong inside functions only."""
    if token.kind in ("open", "close") and token.text in "()":
        return token.text
    if token.is_operator("+", "-", "*", "/", ":", "^", "**"):
        return "**" if token.text == "^" else token.text
    remedy = "write comparisons inside I(), like I(x > 3)"
    if token.is_operator("|", "||"):
        remedy = "put parentheses around the random term, like (1 + x | g)"
    if token.is_operator("~"):
        remedy = "write one ~, between response and predictors"
    return refuse(
        "Terms are joined by + - * : / and ^.", repr(token.text), remedy, text, token.start
    )


def _check_powers(tokens: Sequence[Token], text: str) -> None:
    """Refuse powers that would expand to very many terms."""
    powers = [i for i, t in enumerate(tokens) if t.is_operator("^", "**")]
    if not powers:
        return
    n_names = sum(t.kind == "name" for t in tokens)
    size = n_names
    for i in powers:
        size **= int(tokens[i + 1].text) if tokens[i + 1].text.isdigit() else 1
        if size > _MAX_TERMS:
            refuse(
                "A formula may not expand to very many terms.",
                f"up to {size} terms from this power",
                "write the interactions that you need with :",
                text,
                tokens[i].start,
            )
