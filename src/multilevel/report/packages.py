"""Packages that only some outputs need: found, or refused with the command that installs them."""

from __future__ import annotations

import importlib.util

from multilevel.errors import MissingPackageError


def require(module: str, purpose: str, package: str = "") -> None:
    """Raise ``MissingPackageError`` with the pip command unless ``module`` can be imported.

    ``purpose`` begins the sentence ("Pictures"); ``package`` is the name on the package index
    where it differs from the name of the module.
    """
    if importlib.util.find_spec(module) is None:
        name = package or module
        raise MissingPackageError(
            f"{purpose} need the package {name}.",
            f"{name} is not installed in this Python",
            f'pip install "{name}"',
        )
