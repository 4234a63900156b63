"""The report of a generalized fit as a document; the writers turn it into any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from multilevel.design.generalized import GeneralizedDesign
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.degrees_of_freedom import DfMethod
from multilevel.interpret.advice.record import Advice
from multilevel.report.document import Document, Part, Picture
from multilevel.report.generalized.effect_words import effect_part
from multilevel.report.generalized.equations import equation_notes, equation_records
from multilevel.report.generalized.methods_paragraph import methods_paragraph
from multilevel.report.generalized.summary import sections, title
from multilevel.report.layout import Section


def build_generalized_document(
    fit: GeneralizedFit,
    design: GeneralizedDesign,
    *,
    df: DfMethod = "none",
    labels: Mapping[str, str] | None = None,
    pictures: Sequence[Picture] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
    advice: Sequence[Advice] = (),
    version: str = "",
    more: Sequence[Part] = (),
    paragraph: str | None = None,
) -> Document:
    """Lay a generalized fit out as one document.

    Parameters
    ----------
    df : degrees of freedom of the tests of the means.
    pictures : in the order of printing.
    tables : further tables by heading, such as predictions.
    advice : what the part on advice says.
    version : of this package, for the methods paragraph.
    more : further parts, before how the likelihood was computed.
    paragraph : the methods paragraph; None writes the one of every generalized model.
    """
    head = title(design, fit.method.upper())
    parts: list[Part] = []
    for section in sections(fit, design, labels, verbose=True, df=df, advice=advice):
        if section.heading == "Equations":
            notes = "; ".join(equation_notes(design))
            own = Section("Equations", sentences=(f"{notes}.",) if notes else ())
            parts.append(Part(own, equations=equation_records(design)))
        elif section.heading == "Labels":
            parts.append(Part(Section("Labels", sentences=section.lines)))
        elif section.heading == "Engine":
            # Times differ between runs; a report of one fit should not.
            parts.append(Part(Section("Engine", lines=(fit.plan,))))
        else:
            if section.heading == "Approximation":
                # what the model says comes before how it was computed
                parts += more
                parts += [effect_part(name, table) for name, table in (tables or {}).items()]
            parts.append(Part(section))
    if pictures:
        parts.append(Part(Section("Pictures"), pictures=tuple(pictures)))
    said = methods_paragraph(fit, design, df, version) if paragraph is None else paragraph
    parts.append(Part(Section("Methods paragraph", sentences=(said,))))
    formulas = "; ".join(head[1:])
    return Document(head[0], formulas, tuple(p for p in parts if not p.is_empty))
