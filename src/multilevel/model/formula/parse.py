"""One formula in, one frozen Model out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from multilevel.errors import ModelError
from multilevel.model.formula.compile import compile_sum, expression_of, term_labels
from multilevel.model.formula.functions import RESPONSE_PAIRS
from multilevel.model.formula.scan import Token, Tokens, matching, refuse, scan
from multilevel.model.formula.terms import check_repeats, find_bar, random_terms
from multilevel.model.specification import Model, RandomTerm, check_method


@dataclass
class _Parts:
    """Right-hand side, sorted by kind."""

    fixed: list[tuple[Token | None, Tokens]] = field(default_factory=list)
    random: list[RandomTerm] = field(default_factory=list)
    offsets: list[str] = field(default_factory=list)


def parse_formula(text: str, method: str = "reml") -> Model:
    """Read a formula such as ``"y ~ x * z + (1 + x | school/class)"``.

    Left of ``~`` stands the response: a column, an expression, ``cbind(successes, failures)`` or
    ``interval(lower, upper)``. Right of it stand

    * fixed effects, joined by ``+ - * : / ^``, with functions such as ``log(x)``, ``I(x^2)``,
      ``C(z, contr.sum)``, ``poly(x, 2)``, ``bs(x, df=5)``, ``within(x, g)``, ``between(x, g)``;
    * random terms ``(effects | factor)``; ``||`` for independent effects; ``a/b`` for b nested in
      a; ``a:b`` for combinations; ``cs(...)``, ``diag(...)``, ``id(...)``, ``us(...)`` for the
      covariance structure;
    * ``offset(expression)``: a known part of the mean.

    An intercept is part of the fixed effects and of every random term unless ``0`` is written.
    Names may hold dots; names with other characters stand in backticks.

    Parameters
    ----------
    text : the formula.
    method : ``"reml"`` or ``"ml"``.

    Returns
    -------
    Model : with nested random terms expanded: ``(1 | a/b)`` is ``(1 | a) + (1 | a:b)``.

    Raises
    ------
    FormulaError : a formula that cannot be understood; points at the character.
    ModelError : an unknown method, or a formula that is not text.
    """
    if not isinstance(text, str):
        raise ModelError(
            "A formula must be text.", type(text).__name__, 'write it in quotes: "y ~ x + (1 | g)"'
        )
    return _parse(text, check_method(method))


def has_memberships(formula: str) -> bool:
    """Whether a random term of the formula is ``mm(...)``: rows with several levels.

    Raises
    ------
    FormulaError : text with ``mm(`` that is not a formula.
    """
    if not isinstance(formula, str) or "mm(" not in formula.replace(" ", ""):
        return False
    return any(term.membership is not None for term in _parse(formula, "ml").random)


@lru_cache(maxsize=256)
def _parse(text: str, method: str) -> Model:
    tokens = scan(text)
    tilde = _tilde(tokens, text)
    response = tokens[:tilde]
    pair = _response_pair(response, text)
    if not pair:
        _check_response(response, tokens[tilde], text)
    parts = _Parts()
    for sign, chunk in _summands(tokens[tilde + 1 :], tokens[tilde], text):
        _sort(sign, chunk, parts, text)
    random = tuple(parts.random)
    fixed = _fixed_text(parts, text)
    check_repeats(random, text)
    return Model(
        formula=text,
        response=_source(response, text),
        fixed=fixed,
        random=random,
        offsets=tuple(parts.offsets),
        method=check_method(method),
        response_parts=pair,
    )


def _response_pair(response: Tokens, text: str) -> tuple[str, ...]:
    """The two expressions of ``cbind(a, b)`` or ``interval(a, b)``; empty for others."""
    is_pair = (
        len(response) > 2
        and response[0].text in RESPONSE_PAIRS
        and not response[0].is_quoted
        and response[1].is_open()
        and matching(response, text)[1] == len(response) - 1
    )
    if not is_pair:
        return ()
    depth = 0
    parts: list[list[Token]] = [[]]
    for token in response[2:-1]:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.text == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    if len(parts) != 2:
        refuse(
            f"{response[0].text}(...) takes two columns.",
            f"{len(parts)}",
            "write cbind(successes, failures) or interval(lower, upper)",
            text,
            response[0].start,
        )
    for part in parts:
        expression_of(tuple(part), text, response[0].start)
    return tuple(_source(tuple(part), text) for part in parts)


def _source(tokens: Tokens, text: str) -> str:
    """Return what the user wrote for these tokens."""
    return " ".join(text[tokens[0].start : tokens[-1].stop].split())


def _tilde(tokens: Tokens, text: str) -> int:
    """Return the index of the one ``~``."""
    places = [i for i, token in enumerate(tokens) if token.is_operator("~")]
    if not places:
        refuse(
            "A formula has a ~ between response and predictors.",
            "no ~",
            "write it like y ~ x + (1 | g)",
            text or " ",
            len(text.rstrip()),
        )
    if len(places) > 1:
        refuse("A formula has one ~.", "a second ~", "remove it", text, tokens[places[1]].start)
    inside = [i for i, j in matching(tokens, text).items() if i < places[0] < j]
    if inside:
        refuse("The ~ stands outside all brackets.", "~ inside brackets", "move the bracket", text,
               tokens[places[0]].start)  # fmt: skip
    return places[0]


def _check_response(response: Tokens, tilde: Token, text: str) -> None:
    """Check what stands left of ``~``."""
    if not response:
        refuse(
            "The response stands left of ~.",
            "nothing",
            "write the outcome column, like y ~ x + (1 | g)",
            text,
            tilde.start,
        )
    bar = find_bar(response)
    if bar:
        refuse(
            "Random terms stand right of ~.",
            "a bar in the response",
            "move the random term to the right-hand side",
            text,
            response[bar.first].start,
        )
    expression_of(response, text, tilde.start)


def _summands(tokens: Tokens, tilde: Token, text: str) -> list[tuple[Token | None, Tokens]]:
    """Cut the right-hand side at its outer ``+`` and ``-``."""
    if not tokens:
        refuse(
            "The predictors stand right of ~.",
            "nothing",
            "write y ~ 1 for a model without predictors",
            text,
            tilde.start,
        )
    out: list[tuple[Token | None, Tokens]] = []
    sign: Token | None = None
    current: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.is_operator("+", "-"):
            if current:
                out.append((sign, tuple(current)))
            elif sign is not None or out:
                refuse("Every sign needs a term before it.", f"{token.text!r} twice in a row",
                       "remove one", text, token.start)  # fmt: skip
            sign, current = token, []
        else:
            current.append(token)
    if not current:
        last = sign or tilde
        refuse("A sum must end with a term.", f"nothing after {last.text!r}", "remove it", text,
               last.start)  # fmt: skip
    out.append((sign, tuple(current)))
    return out


def _sort(sign: Token | None, chunk: Tokens, parts: _Parts, text: str) -> None:
    """Put one summand where it belongs."""
    is_negative = sign is not None and sign.text == "-"
    bar = find_bar(chunk)
    first = chunk[0]
    is_offset = first.text == "offset" and not first.is_quoted and len(chunk) > 1
    if bar is not None:
        terms = random_terms(chunk, bar, text)
        if is_negative:
            refuse("A random term is added.", "a minus sign before it", "leave the term out", text,
                   first.start)  # fmt: skip
        parts.random.extend(terms)
    elif is_offset and chunk[1].is_open() and matching(chunk, text)[1] == len(chunk) - 1:
        if is_negative:
            refuse("An offset is added.", "a minus sign before it",
                   "write offset(-x)", text, first.start)  # fmt: skip
        expression_of(chunk[2:-1], text, first.start)
        parts.offsets.append(_source(chunk[2:-1], text))
    else:
        offsets = [t for t in chunk if t.kind == "name" and t.text == "offset" and not t.is_quoted]
        if offsets and len(chunk) > 1:
            refuse("An offset stands on its own, joined by +.", "offset inside another term",
                   "write + offset(x)", text, offsets[0].start)  # fmt: skip
        parts.fixed.append((sign, chunk))


def _fixed_text(parts: _Parts, text: str) -> str:
    """Join the fixed part as the user wrote it, and check it as a whole."""
    if not parts.fixed:
        return "1"
    written = ""
    joined: list[Token] = []
    for sign, chunk in parts.fixed:
        if sign is not None and (written or sign.text == "-"):
            joined.append(sign)
            written += f" {sign.text} " if written else sign.text
        written += _source(chunk, text)
        joined.extend(chunk)
    compiled = compile_sum(tuple(joined), text)
    term_labels(compiled)
    return written
