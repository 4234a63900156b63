"""Multilevel models that are right, fast and readable.

The public names are loaded when they are first used, so that ``import multilevel`` stays quick.

>>> import multilevel as mlm
>>> hsb = mlm.load_hsb()
>>> result = mlm.fit("mathach ~ ses + (ses | school)", hsb, method="reml")
>>> result.groups
{'school': 160}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "fit": "multilevel.api.fit",
    "MultilevelFit": "multilevel.api.result",
    "LatentMeanFit": "multilevel.api.latent_mean_result",
    "describe": "multilevel.api.describe",
    "compare": "multilevel.api.compare",
    "for_marginaleffects": "multilevel.api.marginal_effects",
    "sem": "multilevel.api.sem",
    "mediate": "multilevel.api.mediate",
    "invariance": "multilevel.api.invariance",
    "InvarianceResult": "multilevel.api.invariance",
    "MediationResult": "multilevel.api.mediation_result",
    "StructuralResult": "multilevel.api.structural_result",
    "read": "multilevel.tables.read",
    "Table": "multilevel.tables.table",
    "to_long": "multilevel.tables.reshape",
    "to_wide": "multilevel.tables.reshape",
    "load_hsb": "multilevel.tables.shipped",
    "load_verbagg": "multilevel.tables.shipped",
    "irt": "multilevel.api.irt",
    "ItemResponseFit": "multilevel.api.irt_result",
    "table": "multilevel.api.table",
    "RelatedFit": "multilevel.api.related",
    "pedigree": "multilevel.api.relationships",
    "phylogeny": "multilevel.api.relationships",
    "relationship": "multilevel.api.relationships",
    "decay": "multilevel.api.relationships",
    "errors": "multilevel.errors",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module (PEP 562)."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'multilevel' has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if home == f"multilevel.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


if TYPE_CHECKING:
    from multilevel import errors as errors
    from multilevel.api.compare import compare as compare
    from multilevel.api.describe import describe as describe
    from multilevel.api.fit import fit as fit
    from multilevel.api.invariance import InvarianceResult as InvarianceResult
    from multilevel.api.invariance import invariance as invariance
    from multilevel.api.irt import irt as irt
    from multilevel.api.irt_result import ItemResponseFit as ItemResponseFit
    from multilevel.api.latent_mean_result import LatentMeanFit as LatentMeanFit
    from multilevel.api.marginal_effects import for_marginaleffects as for_marginaleffects
    from multilevel.api.mediate import mediate as mediate
    from multilevel.api.mediation_result import MediationResult as MediationResult
    from multilevel.api.related import RelatedFit as RelatedFit
    from multilevel.api.relationships import decay as decay
    from multilevel.api.relationships import pedigree as pedigree
    from multilevel.api.relationships import phylogeny as phylogeny
    from multilevel.api.relationships import relationship as relationship
    from multilevel.api.result import MultilevelFit as MultilevelFit
    from multilevel.api.sem import sem as sem
    from multilevel.api.structural_result import StructuralResult as StructuralResult
    from multilevel.api.table import table as table
    from multilevel.tables.read import read as read
    from multilevel.tables.reshape import to_long as to_long
    from multilevel.tables.reshape import to_wide as to_wide
    from multilevel.tables.shipped import load_hsb as load_hsb
    from multilevel.tables.shipped import load_verbagg as load_verbagg
    from multilevel.tables.table import Table as Table
