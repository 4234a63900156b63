"""Text of a structural model to tokens, each with its place in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from multilevel.errors import FormulaError

TokenKind = Literal["name", "number", "string", "operator", "open", "close", "comma", "end"]

MAX_LENGTH = 100_000
MAX_DEPTH = 40

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[^\W\d](?:\w|\.)*|\.(?:[^\W\d]|\.)(?:\w|\.)*")
_OPERATOR = re.compile(r"=~|~~|:=|==|\*\*|[~+\-*/^|:]")
_SPACE = re.compile(r"[^\S\n]+|[#!][^\n]*")
_GOES_ON = {"+", "-", "*", "/", "^", "**", "~", "~~", "=~", ":=", "==", "|", ":"}
_STARTS_INSIDE = {"+", "*", "/", "^", "**"}


@dataclass(frozen=True)
class Token:
    """One word of the text; ``kind="end"`` closes a statement (a line end or a semicolon)."""

    kind: TokenKind
    text: str
    start: int
    is_quoted: bool = False

    def is_operator(self, *texts: str) -> bool:
        """Whether this is one of the given operators."""
        return self.kind == "operator" and self.text in texts


Tokens = tuple[Token, ...]


def refuse(must: str, found: str, remedy: str, text: str, position: int) -> NoReturn:
    """Raise a FormulaError that shows the line and points at its character."""
    at = min(position, len(text))
    start = text.rfind("\n", 0, at) + 1
    stop = text.find("\n", at)
    line = text[start : len(text) if stop < 0 else stop]
    number = text.count("\n", 0, start) + 1
    where = f"{found} (line {number})" if "\n" in text.strip("\n") else found
    raise FormulaError(must, where, remedy, line.replace("\t", " ") or " ", at - start)


def scan(text: str) -> Tokens:
    """Cut the text into tokens.

    Comments begin with ``#`` or ``!``. A statement ends with its line or a semicolon; it goes on
    in the next line inside brackets, after an operator, and before ``+`` or ``*``.

    Raises
    ------
    FormulaError : an unknown character, an unclosed quote or bracket, or more than 100,000
        characters.
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"A structural model may have at most {MAX_LENGTH} characters.",
            f"{len(text)} characters",
            "shorten the text",
        )
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        space = _SPACE.match(text, at)
        if space:
            at = space.end()
            continue
        token, at = _next(text, at)
        tokens.append(token)
    return tuple(_statements(tokens, text))


def _next(text: str, at: int) -> tuple[Token, int]:
    """Read the token that starts at ``at`` and say where the next may start."""
    char = text[at]
    if char in "\n;":
        return Token("end", char, at), at + 1
    if char in "()":
        return Token("open" if char == "(" else "close", char, at), at + 1
    if char == ",":
        return Token("comma", char, at), at + 1
    if char in "\"'`":
        stop = text.find(char, at + 1)
        if stop < 0 or not text[at + 1 : stop].strip():
            refuse(
                "Every quote is closed and holds a name.",
                f"{char} without its partner" if stop < 0 else "nothing between the quotes",
                f"write {char}name{char}",
                text,
                at,
            )
        kind: TokenKind = "name" if char == "`" else "string"
        return Token(kind, text[at + 1 : stop], at, True), stop + 1
    for pattern, kind in ((_NUMBER, "number"), (_NAME, "name"), (_OPERATOR, "operator")):
        found = pattern.match(text, at)
        if found:
            return Token(kind, found.group(), at), found.end()
    return refuse(
        "A structural model has names, numbers and the operators =~ ~ ~~ := == + *.",
        repr(char),
        "put column names with unusual characters in backticks, like `my column`",
        text,
        at,
    )


def _statements(tokens: list[Token], text: str) -> list[Token]:
    """Check the brackets, and drop line ends inside statements."""
    out: list[Token] = []
    waiting: list[Token] = []
    for place, token in enumerate(tokens):
        if token.kind == "open":
            waiting.append(token)
            if len(waiting) > MAX_DEPTH:
                refuse(f"Brackets may be nested {MAX_DEPTH} deep.", "one more",
                       "write it with fewer brackets", text, token.start)  # fmt: skip
        elif token.kind == "close":
            if not waiting:
                refuse("Every closing bracket has its opening bracket.", "')' closes nothing",
                       "remove it", text, token.start)  # fmt: skip
            waiting.pop()
        elif token.kind == "end" and token.text == "\n":
            after = next((t for t in tokens[place + 1 :] if t.kind != "end"), None)
            goes_on = bool(out) and out[-1].is_operator(*_GOES_ON)
            if waiting or goes_on or (after is not None and after.is_operator(*_STARTS_INSIDE)):
                continue
        if token.kind == "end" and (not out or out[-1].kind == "end"):
            continue
        out.append(token)
    if waiting:
        refuse("Every opening bracket is closed.", "'(' is never closed", "add ')'", text,
               waiting[-1].start)  # fmt: skip
    if out and out[-1].kind != "end":
        out.append(Token("end", "", len(text)))
    return out
