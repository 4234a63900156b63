"""What a structure of random effects needs beside its columns: ``band=``, ``rank=``, a time."""

from __future__ import annotations

from multilevel.model.covariance.curves import FACTORED, TIMED
from multilevel.model.formula.calls import shown_text
from multilevel.model.formula.scan import Token, Tokens, refuse

_OPTION = {"fa": "rank", "rr": "rank", "toep": "band", "toeph": "band"}


def cut_order(right: Tokens, structure: str, text: str) -> tuple[Tokens, int]:
    """Cut ``, band=2``, ``, rank=2`` or ``, 2`` off the grouping factor; 0: none given.

    Raises
    ------
    FormulaError : an option that the structure does not have, or no whole number.
    """
    wanted = _OPTION.get(structure)
    pieces = _at_commas(right)
    kept, order = [pieces[0]], 0
    for piece in pieces[1:]:
        is_named = len(piece) > 1 and piece[0].text in ("band", "rank") and piece[1].text == "="
        is_bare = len(piece) == 1 and piece[0].kind == "number"
        if not (is_named or is_bare):
            kept.append(piece)
            continue
        if wanted is None or (is_named and piece[0].text != wanted) or order:
            refuse(
                "band= belongs to toep and toeph, rank= to fa and rr, each once.",
                shown_text(piece),
                "leave it out",
                text,
                piece[0].start,
            )
        order = _whole(piece[-1], wanted, len(piece) == (3 if is_named else 1), text)
    joined: list[Token] = list(kept[0])
    at = len(pieces[0])
    commas = [t for t in right[at:] if t.is_operator(",")]
    for piece in kept[1:]:
        joined += [commas[0], *piece]
    return tuple(joined), order or (1 if structure in FACTORED else 0)


def _whole(token: Token, name: str, is_alone: bool, text: str) -> int:
    if not is_alone or not token.text.isdigit() or int(token.text) < 1:
        refuse(
            f"{name}= must be a whole number of at least 1.",
            token.text,
            f"write {name}=1",
            text,
            token.start,
        )
    return int(token.text)


def _at_commas(tokens: Tokens) -> list[Tokens]:
    groups: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.is_operator(","):
            groups.append([])
        else:
            groups[-1].append(token)
    return [tuple(group) for group in groups]


def occasions_of(left: Tokens, structure: str, text: str) -> str | None:
    """The columns of a structure in time, ``0 + C(time)``; None for all other structures.

    Raises
    ------
    FormulaError : anything but ``0 + time`` with one column.
    """
    if structure not in TIMED:
        return None
    is_time = (
        len(left) == 3
        and left[0].text in ("0", "-1")
        and left[1].is_operator("+")
        and left[2].kind == "name"
    )
    if not is_time:
        name = next((t.text for t in left if t.kind == "name"), "time")
        refuse(
            f"{structure} correlates the occasions of one column of time.",
            shown_text(left),
            f"write {structure}(0 + {name} | g): an effect for each value of {name}",
            text,
            left[0].start,
        )
    return f"0 + C({text[left[2].start : left[2].stop]})"
