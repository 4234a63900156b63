"""Phylogenies: the covariance of species under Brownian motion along a tree.

Two species covary by the length of the path from the root that they share (Felsenstein 1985,
American Naturalist 125:1; Lynch 1991, Evolution 45:1065 for the mixed model).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from multilevel.design.relations import Relation, from_covariance
from multilevel.errors import DesignError

_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|\[[^\]]*\]|[(),:;]|[^\s(),:;\[\]']+)")


@dataclass
class Node:
    """One node of a tree: its name, the length of the branch above it, its children."""

    name: str = ""
    length: float | None = None
    children: list[Node] = field(default_factory=list)


def _refuse(found: str) -> DesignError:
    return DesignError(
        "A phylogeny is a tree in Newick format with the length of every branch.",
        found,
        "write it like ((cat:1,dog:1):2,frog:3);",
    )


def read_newick(text: str) -> Node:
    """Read one tree.

    Raises
    ------
    DesignError : text that is not one Newick tree.
    """
    at, tokens = 0, []
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _refuse(f"{text[at : at + 20]!r} at character {at}")
        at = match.end()
        if not match.group(1).startswith("["):  # comments
            tokens.append(match.group(1))
    root = Node()
    path = [root]
    expects_length = False
    for k, token in enumerate(tokens):
        if token == "(":
            path.append(Node())
            path[-2].children.append(path[-1])
        elif token == ",":
            if len(path) < 2:
                raise _refuse("a comma outside brackets")
            path[-1] = Node()
            path[-2].children.append(path[-1])
        elif token == ")":
            if len(path) < 2:
                raise _refuse("a closing bracket without its opening one")
            path.pop()
        elif token == ":":
            expects_length = True
            continue
        elif token == ";":
            if k < len(tokens) - 1:
                raise _refuse("text behind the semicolon")
        elif expects_length:
            path[-1].length = _length(token)
        else:
            path[-1].name = _name(token)
        expects_length = False
    if len(path) > 1 or not root.children:
        raise _refuse("a bracket that is not closed" if len(path) > 1 else "no brackets")
    return root


def _length(token: str) -> float:
    try:
        value = float(token)
    except ValueError as error:
        raise _refuse(f"the branch length {token!r}") from error
    if not (np.isfinite(value) and value >= 0.0):
        raise _refuse(f"the branch length {token}")
    return value


def _name(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1].replace("''", "'")
    return token.replace("_", " ") if token.strip("_") == "" else token


def from_newick(text: str, *, is_scaled: bool = True) -> Relation:
    """Covariances of the tips of a tree under Brownian motion.

    Parameters
    ----------
    text : the tree in Newick format; names are kept as written.
    is_scaled : divide by the largest distance of a tip from the root, so that the variance is that
        of the most distant species.

    Raises
    ------
    DesignError : not a tree, a branch without length, a species twice, fewer than two species.
    """
    root = read_newick(text)
    tips: list[str] = []
    spans: list[tuple[int, int, float]] = []
    stack: list[tuple[Node, int | None]] = [(root, None)]
    while stack:
        node, first = stack.pop()
        if first is not None:
            spans.append((first, len(tips), node.length or 0.0))
            continue
        if node is not root and node.length is None:
            raise _refuse(f"no branch length above {node.name or 'an inner node'!r}")
        stack.append((node, len(tips)))
        if node.children:
            stack += [(child, None) for child in reversed(node.children)]
        else:
            if not node.name:
                raise _refuse("a species without a name")
            tips.append(node.name)
    V = np.zeros((len(tips), len(tips)))
    for start, stop, length in spans:
        if stop - start < len(tips):  # what all species share is the mean
            V[start:stop, start:stop] += length
    height = float(np.diag(V).max()) if len(tips) else 0.0
    if len(tips) < 2 or height <= 0.0:
        raise _refuse(f"{len(tips)} species, longest path {height:g}")
    sentence = f"shared branch lengths of a tree of {len(tips)} species (Brownian motion)"
    return from_covariance(
        V / height if is_scaled else V, tips, kind="phylogeny", sentence=sentence
    )
