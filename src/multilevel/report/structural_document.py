"""Reports of structural models and of mediation: their sections and pictures as one document."""

from __future__ import annotations

from collections.abc import Sequence

from multilevel.report.document import Document, Part, Picture
from multilevel.report.layout import Section


def structural_document(
    title: str, call: str, text: str, sections: Sequence[Section], pictures: Sequence[Picture]
) -> Document:
    """The sections of a summary, then the model as written, with pictures after the first section.

    Parameters
    ----------
    title : first line of the summary.
    call : what was asked, in one line.
    text : the model in the language of ``sem``.
    sections : in reading order; empty ones are left out.
    pictures : drawn already.
    """
    parts = [Part(section) for section in sections if not section.is_empty]
    if pictures:
        parts.insert(1, Part(Section("Pictures"), pictures=tuple(pictures)))
    model = Section("The model as written", lines=tuple(text.strip().splitlines()))
    parts.append(Part(model))
    return Document(title, call, tuple(parts))
