"""The package's source as syntax trees, for the tests that keep the rules of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "multilevel"

#: A module imports only from rooms of lower rank, or from its own room.
RANKS = {
    "errors": 0,
    "tables": 1,
    "model": 2,
    "design": 3,
    "translate": 3,
    "likelihood": 4,
    "estimate": 5,
    "infer": 6,
    "interpret": 7,
    "simulate": 7,
    "report": 8,
    "api": 9,
    "__main__": 11,
    "cli": 10,
    "studio": 10,
    "course": 10,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file. ``name`` is dotted; ``room`` is the folder (or file) below the package."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def room(self):
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def rank(self):
        return RANKS.get(self.room, -1)

    @property
    def is_package(self):
        return self.path.endswith("__init__.py")

    @property
    def n_lines(self):
        return len(self.text.splitlines())

    def at(self, node_or_line, message):
        """One violation, with an address that editors can jump to."""
        line = node_or_line if isinstance(node_or_line, int) else node_or_line.lineno
        return f"{self.path}:{line}: {message}"


def parse(name: str, text: str, path: str | None = None) -> Module:
    """A module from its text (also used to prove that each rule can fail)."""
    return Module(name, path or name.replace(".", "/") + ".py", text, ast.parse(text))


def package_modules() -> list[Module]:
    """Every module except the door ``multilevel/__init__.py``, which loads lazily."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = list(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts == ["multilevel"]:
            continue
        found.append(parse(".".join(parts), file.read_text("utf-8"), str(file.relative_to(ROOT))))
    return found


def files_of_tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


def imports(module: Module) -> Iterator[tuple[int, str, str]]:
    """``(line, module, name)`` of every import: top level, lazy, for types, and by string."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                keep = len(parts) - node.level + (1 if module.is_package else 0)
                base = ".".join([*parts[:keep], *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, base, alias.name
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value, ""


def targets(module: Module) -> Iterator[tuple[int, str]]:
    """``(line, dotted)`` of every import, ``from a import b`` given as ``a.b``."""
    for line, base, name in imports(module):
        yield line, f"{base}.{name}" if name else base


def dotted(node: ast.AST) -> str:
    """``np.random.seed`` of an attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""


def functions(tree: ast.AST, owner: ast.ClassDef | None = None, depth: int = 0):
    """``(function, class it belongs to or None, depth)``; depth counts enclosing functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, owner, depth
            yield from functions(node, None, depth + 1)
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, node, depth)
        else:
            yield from functions(node, owner, depth)


def decorators(function: Function) -> set[str]:
    """Last names of the decorators, ``{"overload"}`` for ``@typing.overload``."""
    names = set()
    for node in function.decorator_list:
        target = node.func if isinstance(node, ast.Call) else node
        names.add(dotted(target).rsplit(".", 1)[-1])
    return names


def code_lines(function: Function) -> int:
    """Lines of a function without its decorators and its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def is_protocol(owner: ast.ClassDef | None) -> bool:
    return owner is not None and any(
        dotted(b.value if isinstance(b, ast.Subscript) else b).endswith("Protocol")
        for b in owner.bases
    )


def is_declaration(function: Function, owner: ast.ClassDef | None) -> bool:
    """Whether the function only states a signature (protocol method, overload, abstract)."""
    return is_protocol(owner) or bool(decorators(function) & {"overload", "abstractmethod"})
