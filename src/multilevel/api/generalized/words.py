"""Methods of a generalized fit that put it into words: summary, equations, JSON, reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from multilevel import __version__
from multilevel.api.generalized.interpretation import InterpretationMethods
from multilevel.errors import InferenceError
from multilevel.infer.generalized.effects import check_generalized_df
from multilevel.report.document import Part
from multilevel.report.generalized.document import build_generalized_document
from multilevel.report.generalized.effect_words import AVERAGED
from multilevel.report.generalized.equations import equation_lines
from multilevel.report.generalized.json import generalized_json
from multilevel.report.generalized.methods_paragraph import methods_paragraph
from multilevel.report.generalized.pictures import drawn_pictures
from multilevel.report.generalized.summary import sections, title
from multilevel.report.html import render_html
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.write import check_report_path, write_document


class WordsMethods(InterpretationMethods):
    """What a generalized fit prints and writes."""

    @property
    def equations(self) -> str:
        """The model as level-by-level equations, plain text; there is no level-1 residual.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ ses + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> print(m.equations)
        Level 1:  logit(P((mathach > 13)_pc = 1)) = beta_0c + beta_1c ses_pc
        Level 2:  beta_0c = gamma_00 + U_0c
                  beta_1c = gamma_10
        p: row, c: school
        """
        return "\n".join(equation_lines(self.design))

    def sections(self, *, verbose: bool = False, df: str | None = None) -> list[Section]:
        """The summary as its sections, to be laid out anew; arguments as in ``summary``."""
        method = check_generalized_df(df)
        advice = self.advice if self._shows_advice else ()
        return sections(self.fit, self.design, self._labels, verbose, method, advice)

    def summary(self, *, verbose: bool = False, width: int = WIDTH, df: str | None = None) -> str:
        """The summary as text; ``verbose`` adds the evidence of convergence and the times.

        ``df`` is ``"none"`` (z tests, the default) or ``"between-within"``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ ses + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> m.summary().splitlines()[4]
        '  Modelled: the probability that mathach > 13 = 1 (against 0).'
        """
        head = title(self.design, self.fit.method.upper())
        return render_text(head, self.sections(verbose=verbose, df=df), width)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(title(self.design, self.fit.method.upper()), self.sections())

    def to_dict(self, df: str | None = None) -> dict[str, Any]:
        """All numbers of the fit under stable keys, ready for JSON; ``df`` as in ``summary``.

        ``approximation`` says how the likelihood was computed, ``response`` what is modelled,
        ``parts`` holds every linear predictor and ``family_parameters`` everything beside the
        means on its natural scale.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ ses + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> found = m.to_dict()
        >>> found["approximation"]["method"], found["approximation"]["n_quad"]
        ('adaptive quadrature', 7)
        >>> found["parts"][0]["ratio"], round(found["fixed"][1]["ratio"], 2)
        ('Odds ratio', 2.02)
        """
        return generalized_json(self.fit, self.design, check_generalized_df(df), self.advice)

    def to_json(self, indent: int | None = 2) -> str:
        """``to_dict()`` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def methods_paragraph(self, df: str | None = None) -> str:
        """A paragraph for the methods section, every number of it read from this fit.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ ses + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> "adaptive Gauss-Hermite quadrature with 7 points" in m.methods_paragraph()
        True
        """
        method = check_generalized_df(df)
        return methods_paragraph(self.fit, self.design, method, __version__)

    def report(self, path: str | Path, *, pictures: bool = True, df: str | None = None) -> Path:
        """Write the fit down as one document: .html, .md, .docx or .tex, by the suffix.

        It holds what is modelled, the equations, the design, every part of the model with its
        ratios and natural parameters, how the likelihood was computed, the evidence of
        convergence, effect sizes, advice, pictures and a methods paragraph.

        Parameters
        ----------
        path : file to write; an existing one is replaced.
        pictures : whether pictures are drawn (some seconds).
        df : ``"none"`` (z tests, the default) or ``"between-within"``.

        Returns
        -------
        The path.

        Raises
        ------
        InferenceError : an unknown suffix, or a folder that does not exist.
        MissingPackageError : plotnine or python-docx is needed and not installed.
        """
        target, method = check_report_path(path), check_generalized_df(df)
        drawn = drawn_pictures(self._evidence()) if pictures else []
        document = build_generalized_document(
            self.fit, self.design, df=method, labels=self._labels, pictures=drawn,
            tables=self._effect_tables() if self.design.blocks else {},
            advice=self.advice if self._shows_advice else (), version=__version__,
            more=self._more_parts(pictures), paragraph=self.methods_paragraph(df),
        )  # fmt: skip
        return write_document(document, target)

    def _more_parts(self, _pictures: bool) -> list[Part]:
        """Parts of the report that only some models have."""
        return []

    def _effect_tables(self) -> dict[str, pd.DataFrame]:
        """Effect sizes by heading; one that this family cannot give says why."""
        wanted: dict[str, Callable[[], pd.DataFrame]] = {
            "Intraclass correlations": self.icc,
            AVERAGED: self.ratios,
            "Median ratios": self.median_ratios,
            "Where 95% of clusters lie": self.random_intervals,
            "Explained variance": self.r2,
        }
        found = {}
        for heading, ask in wanted.items():
            try:
                table = ask()
            except InferenceError as error:
                table = pd.DataFrame()
                table.attrs["sentence"] = f"Not available: {error.must}"
            found[heading] = table
        return found
