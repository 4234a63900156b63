"""Every public name exists, is documented, and is in the API pages."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import multilevel
from tests.architecture.source import PACKAGE, ROOT

NAMES = [name for name in multilevel.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_public_name_loads_and_has_a_docstring(name):
    value = getattr(multilevel, name)
    assert inspect.getdoc(value), f"multilevel.{name} has no docstring"


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_in_the_api_pages(name):
    home = multilevel._HOME[name]
    identifier = home if home == f"multilevel.{name}" else f"{home}.{name}"
    pages = "\n".join(p.read_text("utf-8") for p in sorted((ROOT / "docs" / "api").glob("*.md")))
    assert f"::: {identifier}\n" in pages, f"add '::: {identifier}' to a page in docs/api/"


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    typed = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert typed == set(NAMES)


def test_import_is_lazy():
    code = (
        "import multilevel, sys; heavy = {'numpy', 'pandas', 'numba', 'scipy'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"import multilevel loads {done.stderr.strip()}"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lmer'"):
        multilevel.lmer  # noqa: B018
