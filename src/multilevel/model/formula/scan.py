"""Formula text to tokens, each with its place in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from multilevel.errors import FormulaError

TokenKind = Literal["name", "number", "string", "operator", "open", "close"]

MAX_LENGTH = 20_000
MAX_DEPTH = 40
_MAX_DIGITS = 30

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[^\W\d](?:\w|\.)*|\.(?:[^\W\d]|\.)(?:\w|\.)*|\.(?=\W|$)")
_OPERATOR = re.compile(r"\*\*|\|\||==|!=|<=|>=|[~+\-*/:^|,=<>&]")
_QUOTES = {"'": "'", '"': '"'}
_PAIRS = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Token:
    """One word of a formula.

    Attributes
    ----------
    kind : what it is; a name in backticks is a ``"name"`` too.
    text : the name without backticks, the string without quotes, else the characters.
    start, stop : its place in the formula.
    is_quoted : whether the name stood in backticks.
    """

    kind: TokenKind
    text: str
    start: int
    stop: int
    is_quoted: bool = False

    def is_operator(self, *texts: str) -> bool:
        """Whether this is one of the given operators."""
        return self.kind == "operator" and self.text in texts

    def is_open(self) -> bool:
        """Whether this is an opening parenthesis."""
        return self.kind == "open" and self.text == "("


Tokens = tuple[Token, ...]


def refuse(must: str, found: str, remedy: str, text: str, position: int) -> NoReturn:
    """Raise a FormulaError that points at ``position`` of ``text``."""
    raise FormulaError(must, found, remedy, one_line(text), position)


def one_line(text: str) -> str:
    """Replace every white-space character by one blank, so that positions stay."""
    return re.sub(r"\s", " ", text)


def scan(text: str) -> Tokens:
    """Cut a formula into tokens.

    Raises
    ------
    FormulaError : an unknown character, an unclosed quote, brackets that do not match, or a text
        longer than 20,000 characters or nested deeper than 40 brackets.
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"A formula may have at most {MAX_LENGTH} characters.",
            f"{len(text)} characters",
            "put the columns together before writing the formula",
        )
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token = _next_token(text, at)
        tokens.append(token)
        at = token.stop
    result = tuple(tokens)
    matching(result, text)
    return result


def matching(tokens: Tokens, text: str) -> dict[int, int]:
    """Return ``{index of an opening bracket: index of its closing bracket}``."""
    pairs: dict[int, int] = {}
    waiting: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind == "open":
            waiting.append(index)
            if len(waiting) > MAX_DEPTH:
                refuse(
                    f"Brackets may be nested {MAX_DEPTH} deep.",
                    "one more",
                    "write the formula with fewer brackets",
                    text,
                    token.start,
                )
        elif token.kind == "close":
            if not waiting or _PAIRS[tokens[waiting[-1]].text] != token.text:
                refuse(
                    "Every closing bracket must have its opening bracket.",
                    f"{token.text!r} closes nothing",
                    f"remove {token.text!r}, or add the bracket that it should close",
                    text,
                    token.start,
                )
            pairs[waiting.pop()] = index
    if waiting:
        token = tokens[waiting[-1]]
        refuse(
            "Every opening bracket must be closed.",
            f"{token.text!r} is never closed",
            f"add the missing {_PAIRS[token.text]!r}",
            text,
            token.start,
        )
    return pairs


def _next_token(text: str, at: int) -> Token:
    """Read the token that starts at ``at``."""
    char = text[at]
    if char == "`" or char in _QUOTES:
        return _quoted(text, at)
    if char in "()[]":
        return Token("open" if char in "([" else "close", char, at, at + 1)
    number = _NUMBER.match(text, at)
    if number and char.isascii():
        if len(number.group()) > _MAX_DIGITS:
            refuse(
                f"A number may have at most {_MAX_DIGITS} digits.",
                f"{len(number.group())} digits",
                "round the number",
                text,
                at,
            )
        return Token("number", number.group(), at, number.end())
    name = _NAME.match(text, at)
    if name:
        return Token("name", name.group(), at, name.end())
    operator = _OPERATOR.match(text, at)
    if operator:
        return Token("operator", operator.group(), at, operator.end())
    remedy = "put column names with unusual characters in backticks, like `my column`"
    if char == "%":
        remedy = "write a:b instead of a %in% b"
    return refuse("A formula has names, numbers and operators.", repr(char), remedy, text, at)


def _quoted(text: str, at: int) -> Token:
    """Read a name in backticks or a string in quotes."""
    quote = text[at]
    end = text.find(quote, at + 1)
    if end < 0:
        refuse(
            "Every quote must be closed.",
            f"{quote} is never closed",
            f"add the missing {quote}",
            text,
            at,
        )
    inside = text[at + 1 : end]
    if quote == "`":
        if not inside.strip():
            refuse(
                "Backticks hold the name of a column.",
                "nothing between them",
                "write the name between the backticks",
                text,
                at,
            )
        return Token("name", inside, at, end + 1, is_quoted=True)
    return Token("string", inside, at, end + 1)
