"""Function calls in a formula, as checked Python expressions.

Formulaic evaluates calls with ``eval``. The text that reaches it is written here from tokens:
column names become plain identifiers, functions come from a fixed list, and the syntax tree may
hold arithmetic, comparisons and constants only.
"""

from __future__ import annotations

import difflib

from multilevel.model.formula.functions import (
    CENTRING,
    CONTRAST_CALLS,
    CONTRASTS,
    ELEMENTWISE,
    FUNCTIONS,
    INSTEAD,
)
from multilevel.model.formula.names import CONSTANTS, CentringCall, Names
from multilevel.model.formula.scan import Token, Tokens, matching, refuse
from multilevel.model.formula.syntax import check_tree

_TIGHT = {"^", "**", ":", "="}


def check_function(token: Token, text: str) -> None:
    """Refuse a function that formulas may not use, with the closest name."""
    if token.text in FUNCTIONS and not token.is_quoted:
        return
    close = difflib.get_close_matches(token.text, sorted(FUNCTIONS), n=1)
    remedy = INSTEAD.get(token.text) or (
        f"did you mean {close[0]}()?" if close else "make the column before fitting"
    )
    refuse(
        "A formula may use these functions: " + ", ".join(sorted(FUNCTIONS)) + ".",
        f"{token.text}()",
        remedy,
        text,
        token.start,
    )


def call_text(tokens: Tokens, text: str, names: Names) -> str:
    """Return one call ``f(...)`` as checked Python text and register its names.

    A centring call becomes one identifier. ``tokens`` start at the function's name and end at its
    closing bracket; ``text`` is the whole formula, for messages.

    Raises
    ------
    FormulaError : an unknown function, bad arguments, or syntax that formulas do not have.
    """
    check_function(tokens[0], text)
    if tokens[0].text in CENTRING:
        return names.of_centring(centring_call(tokens, text))
    written = python_text(tokens, text, names, FUNCTIONS)
    check_tree(written, tokens[0], text, names)
    names.display[written] = shown_text(tokens)
    return written


def python_text(tokens: Tokens, text: str, names: Names, allowed: frozenset[str]) -> str:
    """Write tokens as Python; functions must be in ``allowed``."""
    pairs = matching(tokens, text)
    parts: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        follower = tokens[at + 1] if at + 1 < len(tokens) else None
        if token.kind == "name" and follower is not None and follower.is_open():
            written, at = _inner_call(tokens, at, pairs[at + 1], text, names, allowed)
            parts.append(written)
            continue
        parts.append(_word(token, follower, text, names))
        at += 1
    return " ".join(parts)


def _inner_call(
    tokens: Tokens, at: int, end: int, text: str, names: Names, allowed: frozenset[str]
) -> tuple[str, int]:
    """Write the call that starts at ``at``; return its text and the index after it."""
    token = tokens[at]
    if token.text in CONTRAST_CALLS or _is_contrast(token):
        pass
    else:
        check_function(token, text)
        if token.text not in allowed:
            refuse(
                "What is centred must be a number for each row.",
                f"{token.text}() inside a centring function",
                "use a column, or functions such as log()",
                text,
                token.start,
            )
        if token.text in CENTRING:
            return names.of_centring(centring_call(tokens[at : end + 1], text)), end + 1
    inner = python_text(tokens[at + 2 : end], text, names, allowed)
    return f"{token.text}({inner})", end + 1


def _is_contrast(token: Token) -> bool:
    """Whether the token is ``contr.sum`` or one of its sisters."""
    head, _, tail = token.text.partition(".")
    return not token.is_quoted and head == "contr" and tail in CONTRASTS


def _word(token: Token, follower: Token | None, text: str, names: Names) -> str:
    """Write one token that is not a call."""
    if token.kind == "string":
        return repr(token.text)
    if token.kind == "number":
        return _number(token, text)
    if token.kind == "name":
        if not token.is_quoted:
            if token.text == ".":
                refuse_dot(token, text)
            if token.text in CONSTANTS:
                return CONSTANTS[token.text]
            if follower is not None and follower.is_operator("="):
                return token.text if token.text.isidentifier() else "_"
            if token.text in CONTRAST_CALLS or _is_contrast(token):
                return token.text
            if token.text.startswith("contr."):
                refuse(
                    "The contrasts are " + ", ".join(f"contr.{c}" for c in sorted(CONTRASTS)) + ".",
                    token.text,
                    "write one of these; a column of that name goes in backticks",
                    text,
                    token.start,
                )
        return names.of_column(token.text)
    if token.is_operator("|", "||"):
        refuse(
            "A bar belongs to a random term in parentheses, like (1 + x | g).",
            "a bar inside a function",
            "move the random term out of the function",
            text,
            token.start,
        )
    return "**" if token.text == "^" else token.text


def refuse_dot(token: Token, text: str) -> None:
    """Refuse R's ``.`` for "all other columns"."""
    refuse(
        "A formula names every column.",
        "a single dot",
        "write the columns out, joined by +",
        text,
        token.start,
    )


def _number(token: Token, text: str) -> str:
    """Write a number so that Python reads the same value."""
    if token.text.isdigit():
        return str(int(token.text))
    value = float(token.text)
    if value in (float("inf"), float("-inf")):
        refuse("A number must be finite.", token.text, "write a smaller one", text, token.start)
    return repr(value)


def shown_text(tokens: Tokens) -> str:
    """Return tokens as the text of a label: even spacing, no backticks."""
    out = ""
    before: Token | None = None
    for token in tokens:
        quoted = {"string": f"{token.text!r}"}.get(token.kind, token.text)
        unary = before is None or before.kind == "open" or before.kind == "operator"
        if token.is_operator(","):
            out += ", "
        elif token.kind == "operator" and token.text not in _TIGHT and not unary:
            out += f" {quoted} "
        else:
            out += quoted
        before = token
    return out


def centring_call(tokens: Tokens, text: str) -> CentringCall:
    """Read ``within(x, g)`` and its sisters.

    Raises
    ------
    FormulaError : arguments that the function does not have.
    """
    name = tokens[0]
    kind = CENTRING[name.text]
    positional, options = _arguments(tokens, text)
    names = Names()
    needs_group = kind in ("within", "between")
    usage = {
        "within": "within(x, g)",
        "between": "between(x, g) or between(x, g, at=50)",
        "center": "center(x) or center(x, 50)",
        "scale": "scale(x)",
    }[kind]
    most = {"within": 2, "between": 2, "center": 2, "scale": 1}[kind]
    known = {"within": {"rows"}, "between": {"rows", "at"}, "center": {"rows", "at"}}
    if not (2 if needs_group else 1) <= len(positional) <= most or not all(positional):
        refuse(f"Write {usage}.", f"{len(positional)} arguments", usage, text, name.start)
    for option, value in options.items():
        if option not in known.get(kind, {"rows"}):
            refuse(f"Write {usage}.", f"the argument {option!r}", usage, text, value[0].start)
    is_shift = kind == "center" and ("at" in options or len(positional) == 2)
    if is_shift and ("rows" in options or ("at" in options and len(positional) == 2)):
        refuse(
            "A variable is centred at one thing: its mean, or a constant.",
            shown_text(tokens),
            usage,
            text,
            name.start,
        )
    expression = python_text(positional[0], text, names, ELEMENTWISE)
    check_tree(expression, positional[0][0], text, names)
    if not names.columns:
        refuse("What is centred must be a column.", shown_text(positional[0]), usage, text,
               positional[0][0].start)  # fmt: skip
    factors = _group(positional[1], text) if needs_group else ()
    at = _constant(options["at"], text) if "at" in options else None
    if kind == "center" and len(positional) == 2:
        at = _constant(positional[1], text)
    return CentringCall(
        kind, expression, tuple(names.columns.items()), shown_text(positional[0]), factors, at,
        _rows(options.get("rows"), text), shown_text(tokens),
    )  # fmt: skip


def _arguments(tokens: Tokens, text: str) -> tuple[list[Tokens], dict[str, Tokens]]:
    """Split a call's arguments at its commas."""
    groups: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[2:-1]:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.is_operator(","):
            groups.append([])
        else:
            groups[-1].append(token)
    positional: list[Tokens] = []
    options: dict[str, Tokens] = {}
    for group in groups:
        if len(group) > 2 and group[0].kind == "name" and group[1].is_operator("="):
            if group[0].text in options:
                refuse("An argument may be given once.", f"{group[0].text} twice",
                       "remove one", text, group[0].start)  # fmt: skip
            options[group[0].text] = tuple(group[2:])
        else:
            positional.append(tuple(group))
    return positional, options


def _group(tokens: Tokens, text: str) -> tuple[str, ...]:
    """Read the grouping factor ``g`` or ``a:b``."""
    names = tokens[::2]
    joins = tokens[1::2]
    good = all(t.kind == "name" for t in names) and all(t.is_operator(":") for t in joins)
    if not good or len(names) != len(joins) + 1:
        refuse(
            "The second argument is the grouping column.",
            shown_text(tokens),
            "write a column name, or a:b for combinations of two columns",
            text,
            tokens[0].start,
        )
    return tuple(t.text for t in names)


def _constant(tokens: Tokens, text: str) -> float:
    """Read a number, perhaps with a sign."""
    sign = -1.0 if tokens[0].is_operator("-") else 1.0
    rest = tokens[1:] if tokens[0].is_operator("-", "+") else tokens
    if len(rest) != 1 or rest[0].kind != "number":
        refuse(
            "The centring constant must be a number.",
            shown_text(tokens),
            "write a number, like center(x, 50)",
            text,
            tokens[0].start,
        )
    return sign * float(_number(rest[0], text))


def _rows(tokens: Tokens | None, text: str) -> str:
    """Read the ``rows`` option."""
    if tokens is None:
        return "analysis"
    if len(tokens) != 1 or tokens[0].kind != "string" or tokens[0].text not in ("all", "analysis"):
        refuse(
            'The rows of the means must be "analysis" or "all".',
            shown_text(tokens),
            'write rows="all", or leave it out',
            text,
            tokens[0].start,
        )
    return tokens[0].text
