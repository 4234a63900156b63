"""The syntax that an expression in a formula may have; everything else is refused."""

from __future__ import annotations

import ast

from multilevel.model.formula.functions import BASES, CONTRAST_CALLS, CONTRASTS, FUNCTIONS
from multilevel.model.formula.names import Names
from multilevel.model.formula.scan import Token, refuse

_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.List, ast.Tuple,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.BitAnd, ast.UnaryOp, ast.USub,
    ast.UAdd, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.Attribute,
)  # fmt: skip
_MAX_BASIS = 200


def check_tree(written: str, start: Token, text: str, names: Names) -> None:
    """Refuse Python syntax that formulas do not have."""
    problem = _problem(written, names)
    if problem:
        refuse(
            "A function in a formula takes columns, numbers and arithmetic.",
            problem,
            "write it like log(x), I(x^2) or bs(x, df=4), or make the column before fitting",
            text,
            start.start,
        )


def _problem(written: str, names: Names) -> str:
    """Say what is wrong with an expression, or return an empty text."""
    try:
        tree = ast.parse(written, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "something that is not an expression"
    inside_call = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call | ast.keyword | ast.Compare | ast.List | ast.Tuple)
        for child in ast.iter_child_nodes(node)
    }
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            return f"syntax that formulas do not have ({type(node).__name__})"
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if (is_text or isinstance(node, ast.List | ast.Tuple)) and id(node) not in inside_call:
            return "text or a list where a number is needed"
        if isinstance(node, ast.Attribute) and not _is_contr(node):
            return "a dot that is not part of a name"
        if isinstance(node, ast.keyword) and (node.arg is None or node.arg.startswith("_")):
            return "an argument that the function does not have"
        if isinstance(node, ast.Call):
            problem = _call_problem(node)
            if problem:
                return problem
        if isinstance(node, ast.Name) and not _is_known(node, functions, names):
            return f"the name {node.id!r} where a column is needed"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            base_is_column = any(isinstance(n, ast.Name) for n in ast.walk(node.left))
            if not base_is_column:
                return "a power of a constant"
    return ""


def _is_known(node: ast.Name, functions: set[int], names: Names) -> bool:
    """Whether a name is a column, or a function where it is called."""
    if id(node) in functions:
        return node.id in FUNCTIONS or node.id in CONTRAST_CALLS
    return (
        node.id in names.columns
        or node.id in names.centring
        or node.id in CONTRAST_CALLS
        or node.id == "contr"
    )


def _is_contr(node: ast.Attribute) -> bool:
    """Whether the node is ``contr.<known contrast>``."""
    return isinstance(node.value, ast.Name) and node.value.id == "contr" and node.attr in CONTRASTS


def _call_problem(node: ast.Call) -> str:
    """Say what is wrong with the arguments of one call, or return an empty text."""
    if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.args:
        return f"{node.func.id}() without a column"
    if isinstance(node.func, ast.Name) and node.func.id in BASES:
        sizes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg in ("df", "degree"))]
        for size in sizes:
            if isinstance(size, ast.Constant) and isinstance(size.value, int | float) and (
                not isinstance(size.value, int) or not 0 <= size.value <= _MAX_BASIS
            ):  # fmt: skip
                return f"{node.func.id}() with {size.value} columns"
    return ""
