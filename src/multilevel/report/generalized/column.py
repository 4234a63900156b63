"""A generalized model as a column of a table of models."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.design.generalized import GeneralizedDesign
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.generalized.natural import natural_parameters, part_tests
from multilevel.interpret.variance import effect_components
from multilevel.report.generalized.words import natural_heading, part_heading
from multilevel.report.model_column import Cell, labelled_variances


@dataclass(frozen=True)
class GeneralizedColumn:
    """One generalized model of a table.

    Attributes
    ----------
    name : its column title.
    fit, design : the fit and its design.
    """

    name: str
    fit: GeneralizedFit
    design: GeneralizedDesign

    @property
    def response(self) -> str:
        """The outcome."""
        return self.design.mean.model.response

    @property
    def means(self) -> dict[str, Cell]:
        """Fixed effects of the mean, or of every category (prefixed by it)."""
        out: dict[str, Cell] = {}
        for d, part in enumerate(self.design.parts):
            shared = part.spec.argument == "formula"
            if d == 0 or shared:
                prefix = f"{part.spec.name}: " if shared else ""
                out |= self._cells(d, prefix)
        return out

    def _cells(self, part: int, prefix: str = "") -> dict[str, Cell]:
        tests = part_tests(self.design, self.fit, part)
        rows = () if tests is None else tests.rows
        return {f"{prefix}{row.term}": (row.estimate, row.std_error) for row in rows}

    @property
    def others(self) -> dict[str, dict[str, Cell]]:
        """Single numbers on their natural scale; parts with predictors on that of their link."""
        out: dict[str, dict[str, Cell]] = {}
        family = self.design.family
        natural = natural_parameters(self.design, self.fit)
        for p in natural:
            heading = natural_heading(family, p.part)
            out.setdefault(heading, {})[p.term] = (p.estimate, p.std_error)
        known = {p.part for p in natural}
        for d, part in enumerate(self.design.parts):
            spec = part.spec
            if d == 0 or spec.argument == "formula" or spec.name in known:
                continue
            if spec.name in ("lower cut", "upper cut"):
                continue
            if spec.argument == "thresholds":
                if "threshold" in known:
                    continue
                heading = f"Model for the thresholds (on the {family.link} scale)"
                c = int(spec.name.split(" ")[1])
                low, high = self.design.response.categories[c - 1 : c + 1]
                out.setdefault(heading, {}).update(self._cells(d, f"{low}|{high}: "))
                continue
            out[part_heading(family, spec.name, spec.link)] = self._cells(d)
        return out

    @property
    def variances(self) -> dict[str, float]:
        """Variances and covariances of random effects by label."""
        blocks = self.design.blocks
        return labelled_variances(effect_components(blocks, self.fit.random_covariance))

    @property
    def residual(self) -> float | None:
        """Residual variances are among the other parts."""
        return None

    @property
    def levels(self) -> dict[str, int]:
        """Number of levels by grouping factor."""
        return {b.group: b.n_levels for b in self.design.blocks}

    @property
    def family(self) -> str:
        """The family and its link in words."""
        return self.design.family.label

    @property
    def computed(self) -> str:
        """How the likelihood was computed."""
        how = self.fit.approximation
        if how.method != "adaptive quadrature":
            return "" if how.method == "none" else how.method
        return f"adaptive quadrature with {' x '.join(map(str, how.points))} points"
