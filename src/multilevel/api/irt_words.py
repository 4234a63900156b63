"""Reports of item response models, and what has its place in the multilevel model behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from multilevel import __version__
from multilevel.api.irt_frames import squares_frame
from multilevel.errors import InferenceError
from multilevel.interpret.irt.fit import mean_squares
from multilevel.report.irt import ItemReport
from multilevel.report.irt_document import (
    build_item_document,
    drawn_item_pictures,
    item_json,
    item_methods_paragraph,
)
from multilevel.report.write import check_report_path, write_document


class ItemWordsMethods:
    """Methods that write a model down."""

    _report: ItemReport
    model: Any

    def _item_fit_table(self) -> pd.DataFrame:
        moments, item, _ = self._report.source.moments()
        labels = self._report.source.items().items
        return squares_frame(mean_squares(moments, item, len(labels)), "item", labels)

    def methods_paragraph(self) -> str:
        """A paragraph for the methods section, every number of it read from this fit."""
        return item_methods_paragraph(self._report, __version__)

    def report(self, path: str | Path, *, pictures: bool = True) -> Path:
        """Write the model down as one document: .html, .md, .docx or .tex, by the suffix.

        It holds what is modelled, the equations, effects, all items, persons and their
        reliability, variances, the fit of the items, how the likelihood was computed, the Wright
        map, characteristic curves, information, and a methods paragraph.

        Parameters
        ----------
        path : file to write; an existing one is replaced.
        pictures : whether pictures are drawn (some seconds).

        Returns
        -------
        The path.

        Raises
        ------
        InferenceError : an unknown suffix, or a folder that does not exist.
        MissingPackageError : plotnine or python-docx is needed and not installed.

        Examples
        --------
        >>> import multilevel as mlm
        >>> rasch = mlm.irt(mlm.load_verbagg(), person="id", response="r2")
        >>> path = rasch.report("rasch.html")  # doctest: +SKIP
        """
        target = check_report_path(path)
        document = build_item_document(
            self._report,
            tables={"Infit and outfit of the items": self._item_fit_table()},
            pictures=drawn_item_pictures(self._report) if pictures else [],
            version=__version__,
        )
        return write_document(document, target)

    def to_dict(self) -> dict[str, Any]:
        """All numbers under stable keys; those that do not exist are ``None``."""
        return item_json(self._report)

    def to_json(self, indent: int | None = 2) -> str:
        """``to_dict()`` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)


#: What the multilevel model behind an item response model answers.
OF_THE_MODEL = (
    "anova", "average_comparisons", "average_slopes", "bootstrap", "calibration", "checks",
    "comparisons", "confint", "contrast", "design_effects", "diagnose", "fitted", "icc",
    "influence", "johnson_neyman", "marginal_means", "median_ratios", "overdispersion_test",
    "pairwise_comparisons", "part", "predict", "proportional_odds_test", "r2", "random_effects",
    "random_intervals", "random_tests", "ratios", "refit", "residuals", "robust", "simulate",
    "slopes", "table", "test", "update", "within_between",
)  # fmt: skip
#: Attributes of it that are no methods.
ATTRIBUTES_OF_THE_MODEL = (
    "advice", "approximation", "design", "equations", "family", "fixed_effects", "groups",
    "is_singular", "random_covariance", "vcov", "vcov_fixed",
)  # fmt: skip


def _refuse(found: ItemWordsMethods, name: str, call: str) -> NoReturn:
    if found.model is not None:
        raise InferenceError(
            f"{name} belongs to the multilevel model behind an item response model.",
            "an item response model fitted by rows",
            f"write .model.{name}{call}",
        )
    raise InferenceError(
        f"{name} needs a model that is fitted by rows.",
        f"model={found._report.words.model!r}, whose items have slopes",
        "ask items(), persons(), coefficients(), variances(), item_fit(), or fit a model "
        'without slopes, such as model="rasch", and write .model',
    )


def _refusing(name: str) -> Callable[..., NoReturn]:
    def method(self: ItemWordsMethods, *_args: Any, **_options: Any) -> NoReturn:
        _refuse(self, name, "(...)")

    method.__name__ = name
    method.__doc__ = f"Belongs to the multilevel model: ``.model.{name}()`` (``InferenceError``)."
    return method


def _refusing_attribute(name: str) -> property:
    def get(self: ItemWordsMethods) -> NoReturn:
        _refuse(self, name, "")

    return property(get, doc=f"Belongs to the multilevel model: ``.model.{name}``.")


for _name in OF_THE_MODEL:
    setattr(ItemWordsMethods, _name, _refusing(_name))
for _name in ATTRIBUTES_OF_THE_MODEL:
    setattr(ItemWordsMethods, _name, _refusing_attribute(_name))
