"""Generalized fits whose rows have several levels, or whose levels are correlated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pandas as pd

from multilevel.api.effects import sentence_frame
from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.api.related import refuse
from multilevel.infer.conventions import InformationCriteria
from multilevel.interpret.generalized.intraclass import GeneralizedIcc
from multilevel.interpret.generalized.latent import ObservationLevel
from multilevel.interpret.generalized.related import related_latent_shares

PICTURES = ("expected", "categories", "caterpillar", "calibration", "rootogram",
            "quantile_residuals")  # fmt: skip


class RelatedOutcomeFit(GeneralizedMultilevelFit):
    """A generalized model with ``mm()`` or ``related=``, made by ``multilevel.fit``.

    All that ``GeneralizedMultilevelFit`` offers and that holds for such a model works the same;
    what is not derived for it raises ``InferenceError``.

    Examples
    --------
    >>> import multilevel as mlm
    >>> data = {
    ...     "y": [0, 1, 1, 1, 0, 0, 1, 0, 0, 1],
    ...     "sheep": ["a", "a", "b", "b", "c", "c", "d", "d", "a", "b"],
    ... }
    >>> family = mlm.pedigree(
    ...     {"id": ["a", "b", "c", "d"], "sire": ["", "", "a", "b"], "dam": ["", "", "b", ""]}
    ... )
    >>> m = mlm.fit(
    ...     "y ~ 1 + (1 | sheep)", data, family="binomial", related={"sheep": family}
    ... )
    >>> m.icc()["component"].tolist()
    ['heritability']
    """

    def icc(
        self,
        scale: str = "latent",
        *,
        level: ObservationLevel = "lognormal",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Share of each factor in the latent variance of a row, with intervals.

        Frame ``group, component, scale, category, estimate, std_error, conf_low, conf_high``.
        ``component`` is ``"heritability"`` (pedigrees and phylogenies), ``"one membership"``
        (``mm()``: a row that has one level only) or ``"proportion"``; ``"average row"`` is the
        share in the analysed rows, inbreeding and weights included.

        Parameters
        ----------
        scale : ``"latent"``.
        level : form of the observation-level variance of log links, as in
            ``GeneralizedMultilevelFit.icc``.
        """
        if scale != "latent":
            refuse(f"icc({scale!r})", 'write icc("latent")')
        return sentence_frame(
            related_latent_shares(self._evidence(), conf_level, level), GeneralizedIcc
        )

    def information_criteria(self, as_in: str | None = None) -> InformationCriteria:
        """AIC, AICc and BIC by the rules of ``"stata"`` or ``"r"``."""
        if as_in is not None and str(as_in).lower() in ("sas", "spss"):
            refuse(f"as_in={as_in!r} (whose n counts independent subjects)", "leave as_in out")
        return super().information_criteria(as_in)

    def bootstrap(self, n_boot: int = 1000, **options: Any) -> pd.DataFrame:
        """Refit the model to responses drawn from it; ``kind`` must be ``"parametric"``."""
        _check_parametric(options.get("kind"))
        return super().bootstrap(n_boot, **options)

    def confint(self, method: Any = "wald", **options: Any) -> pd.DataFrame:
        """Wald, profile and (parametric) bootstrap intervals."""
        _check_parametric(options.get("kind"))
        return super().confint(method, **options)

    def plot(self, name: str, **options: Any) -> Any:
        """Draw any picture of a generalized fit but ``"clusters"``."""
        if name not in PICTURES:
            refuse(f"plot({name!r})", f"choose one of {', '.join(map(repr, PICTURES))}")
        return super().plot(name, **options)


def _check_parametric(kind: Any) -> None:
    if kind not in (None, "parametric"):
        refuse(f"A bootstrap of kind {kind!r}", "write kind='parametric'")


#: Methods without a sound answer here, and what to use.
INSTEAD = {
    "vcov_robust": "use coefficients(): no set of independent clusters is known here",
    "robust": "use coefficients(): no set of independent clusters is known here",
    "design_effects": "write icc(), which has the shares of the latent variance",
    "influence": "fit again without the rows in question",
    "within_between": "fit with within(x, g) and between(x, g) on the main level of each row",
    "variance_function": "write icc(), which averages over the rows",
}


def _refusing(name: str, remedy: str) -> Callable[..., NoReturn]:
    def method(_self: RelatedOutcomeFit, *_args: Any, **_options: Any) -> NoReturn:
        refuse(f"{name}()", remedy)

    method.__name__ = name
    method.__doc__ = (
        "Not available where rows have several levels or levels are correlated "
        f"(``InferenceError``): {remedy}."
    )
    return method


for _name, _remedy in INSTEAD.items():
    setattr(RelatedOutcomeFit, _name, _refusing(_name, _remedy))
