"""A report written to a file; the suffix says how."""

from __future__ import annotations

from pathlib import Path

from multilevel.errors import InferenceError
from multilevel.report.document import Document
from multilevel.report.html_page import document_html
from multilevel.report.latex import document_latex
from multilevel.report.markdown import document_markdown
from multilevel.report.packages import require
from multilevel.report.word import document_word

SUFFIXES = (".html", ".md", ".docx", ".tex")


def check_report_path(path: str | Path) -> Path:
    """Return the path if a report can be written there, before anything is computed.

    Raises
    ------
    InferenceError : a suffix other than those of ``SUFFIXES``, or a folder that does not exist.
    MissingPackageError : Word is asked for and python-docx is not installed.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InferenceError(
            f"A report is written as one of {', '.join(SUFFIXES)}.",
            f"the file name {target.name!r}",
            f"write {(target.stem or 'report') + '.html'!r}",
        )
    if not target.parent.is_dir():
        raise InferenceError(
            "The folder of a report must exist.", str(target.parent), "make the folder first"
        )
    if target.suffix.lower() == ".docx":
        require("docx", "Word files", "python-docx")
    return target


def write_document(document: Document, path: str | Path) -> Path:
    """Write a report as HTML, Markdown, Word or LaTeX and return the path.

    Only LaTeX cannot hold pictures: they are written beside it, ``out-1.png`` and so on.
    """
    target = check_report_path(path)
    kind = target.suffix.lower()
    if kind == ".docx":
        target.write_bytes(document_word(document))
        return target
    if kind == ".tex":
        names: list[str] = []
        for part in document.parts:
            for picture in part.pictures:
                names.append(f"{target.stem}-{len(names) + 1}.png")
                target.with_name(names[-1]).write_bytes(picture.png)
        text = document_latex(document, tuple(names))
    else:
        text = document_html(document) if kind == ".html" else document_markdown(document)
    target.write_text(text, encoding="utf-8")
    return target
