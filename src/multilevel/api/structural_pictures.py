"""Pictures and reports of structural models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multilevel.errors import InferenceError
from multilevel.infer.structural import (
    StructuralCovariance,
    covariance_if_any,
    defined_values,
    parameter_values,
    z_tests,
)
from multilevel.infer.structural_monte_carlo import defined_draws
from multilevel.report.document import Picture
from multilevel.report.plots.structural import (
    STRUCTURAL_PICTURES,
    check_structural_picture,
    indirect_picture,
    paths_picture,
)
from multilevel.report.structural import structural_title
from multilevel.report.structural_document import structural_document
from multilevel.report.write import check_report_path, write_document

if TYPE_CHECKING:
    from multilevel.estimate.structural import StructuralFit, StructuralProblem
    from multilevel.infer.structural import StdErrorType
    from multilevel.report.layout import Section
    from multilevel.report.plots.backend import ggplot

_N_DRAWS, _SEED = 20_000, 1


class StructuralPictureMethods(ABC):
    """Methods that draw or write a structural model down."""

    problem: StructuralProblem
    fit: StructuralFit
    std_errors: StdErrorType

    @abstractmethod
    def sections(self) -> list[Section]:
        """The summary as its sections."""

    def plot(self, name: str = "paths", **options: Any) -> ggplot:
        """Draw a picture of the model; the plotnine object returned can be changed or saved.

        Parameters
        ----------
        name, options : the picture and what it takes:

            - ``"paths"`` (``group``, a label): boxes and arrows of each level with estimates.
            - ``"indirect"`` (``terms``, names of defined parameters): distribution of each effect,
              20,000 Monte Carlo draws, with its 95% interval. Without ``terms``: those whose name
              begins with ``indirect`` or ``ind``, or all.

        Raises
        ------
        InferenceError : an unknown picture, option, group or term.
        MissingPackageError : plotnine is not installed.

        Examples
        --------
        >>> import multilevel as mlm
        >>> text = "level: 1; mathach ~ ses; level: 2; mathach ~ sector"
        >>> result = mlm.sem(text, mlm.load_hsb(), cluster="school")
        >>> result.plot("paths").labels.title
        'Paths'
        """
        check_structural_picture(name, options)
        if name == "indirect":
            return self._indirect(options.get("terms"))
        labels = self.fit.model.groups
        group = options.get("group", labels[0])
        if group not in labels:
            raise InferenceError(
                f"A group is one of {', '.join(map(repr, labels))}.", repr(group), "name one"
            )
        values, jacobian = parameter_values(self.problem, self.fit)
        tests = z_tests(values, jacobian, self._own_covariance(), 0.95)
        return paths_picture(self.fit.model, tests, labels.index(group))

    def report(self, path: str | Path, *, pictures: bool = True) -> Path:
        """Write the model down as one document: .html, .md, .docx or .tex, by the suffix.

        Parameters
        ----------
        path : file to write; an existing one is replaced.
        pictures : whether pictures are drawn (a second or two).

        Returns
        -------
        The path.

        Raises
        ------
        InferenceError : an unknown suffix, or a folder that does not exist.
        MissingPackageError : plotnine or python-docx is needed and not installed.
        """
        target = check_report_path(path)
        drawn = self.drawn_pictures(None) if pictures else []
        model = self.fit.model
        named = list(model.clusters) if model.higher else model.cluster
        call = f"sem(text, cluster={named!r})" if model.cluster else "sem(text)"
        title = structural_title(self.fit)[0]
        document = structural_document(title, call, model.text, self.sections(), drawn)
        return write_document(document, target)

    def drawn_pictures(self, terms: Sequence[str] | None) -> list[Picture]:
        """Pictures of a report: paths, and indirect effects where parameters are defined."""
        check_structural_picture("paths", {})
        from multilevel.report.plots.backend import to_png

        out = [Picture("paths", STRUCTURAL_PICTURES["paths"][0].capitalize(),
                       to_png(self.plot("paths")))]  # fmt: skip
        if self.fit.model.defined and np.all(np.isfinite(self._own_covariance().vcov)):
            words = STRUCTURAL_PICTURES["indirect"][0].capitalize()
            out.append(Picture("indirect", words, to_png(self._indirect(terms))))
        return out

    def _own_covariance(self) -> StructuralCovariance:
        return covariance_if_any(self.problem, self.fit, self.std_errors)

    def _indirect(self, terms: Sequence[str] | None) -> ggplot:
        defined = [d.name for d in self.fit.model.defined]
        if not defined:
            raise InferenceError(
                "This picture shows defined parameters.", "a model without :=",
                "write, for example, indirect := a * b",
            )  # fmt: skip
        if terms is None:
            terms = [n for n in defined if n.startswith("ind")] or defined
        for term in terms:
            if term not in defined:
                raise InferenceError(
                    f"terms holds names of defined parameters: {', '.join(defined)}.", repr(term),
                    f"write terms=[{defined[0]!r}]",
                )  # fmt: skip
        rng = np.random.default_rng(_SEED)
        draws = defined_draws(self.fit, self._own_covariance(), _N_DRAWS, rng)
        estimates = dict(zip(defined, defined_values(self.fit)[0], strict=True))
        return indirect_picture(
            {t: draws[t] for t in terms}, {t: float(estimates[t]) for t in terms}, 0.95,
            f"{_N_DRAWS} Monte Carlo draws of the estimates, seed {_SEED}.",
        )  # fmt: skip
