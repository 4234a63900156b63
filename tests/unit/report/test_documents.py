"""Reports in every format: complete, valid, escaped, and true to the fit."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import docx
import numpy as np
import pytest

import multilevel as mlm
from multilevel.cli.main import main
from multilevel.errors import InferenceError
from multilevel.report.effect_words import component_words
from multilevel.report.mathml import equations_latex, tex_text
from tests.unit.report import fits

VOID = {"meta", "img", "br"}
LABEL = 'Score <b>"A&B"</b> 100% $x_1$'


class Checked(HTMLParser):
    """Tags that open and close in order; what was seen."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.text, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_html(path):
    page = Checked()
    page.feed(path.read_text("utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.mark.parametrize("design", ["nested", "three_level", "crossed"])
def test_html_is_one_valid_page(tmp_path, design):
    m = fits.FITS[design]()
    page = read_html(m.report(tmp_path / "out.html"))
    assert page.seen.count("math") == 1
    assert page.seen.count("img") >= 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    text = " ".join(page.text)
    assert "script" not in page.seen
    assert "link" not in page.seen
    for heading in (
        "Design",
        "Model for the means (fixed effects)",
        "Model for the variance (random effects and residual)",
        "Fit",
        "Convergence",
        "Explained variance",
        "Methods paragraph",
    ):
        assert heading in text
    cells = [float(t) for t in page.text if re.fullmatch(r"-?\d+\.\d+", t)]
    assert min(abs(np.array(cells) - m.icc()["estimate"].iloc[0])) <= 5e-4
    assert all(name in text for name in m.design.names)


@pytest.fixture
def labelled():
    fit = fits.three_level()
    return mlm.MultilevelFit(fit._prepared, fit.fit, labels={"x": LABEL})


def test_labels_are_escaped_everywhere(tmp_path, labelled):
    page = read_html(labelled.report(tmp_path / "out.html", pictures=False))
    assert f"x: {LABEL}" in page.text
    assert "b" not in page.seen
    markdown = labelled.report(tmp_path / "out.md", pictures=False).read_text("utf-8")
    assert r"\<b\>" in markdown
    tex = labelled.report(tmp_path / "out.tex", pictures=False).read_text("utf-8")
    assert r"A\&B" in tex
    assert r"100\% \$x\_1\$" in tex


def test_word_holds_the_tables_and_the_pictures(tmp_path):
    m = fits.crossed()
    file = docx.Document(str(m.report(tmp_path / "out.docx")))
    cells = [[[c.text for c in row.cells] for row in table.rows] for table in file.tables]
    means = next(table for table in cells if table[0][0] == "Term")
    assert [row[0] for row in means[1:]] == list(m.design.names)
    estimates = [float(row[1]) for row in means[1:]]
    np.testing.assert_allclose(estimates, m.fit.beta, atol=5e-4)
    assert any(table[0][0] == "Group" for table in cells)
    assert len(file.inline_shapes) >= 4


def test_markdown_tables_are_rectangular(tmp_path):
    text = fits.nested().report(tmp_path / "out.md").read_text("utf-8")
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    assert len(blocks) >= 3
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
        assert len(widths) == 1
    assert text.count("data:image/png;base64,") >= 4


def test_latex_is_balanced_and_finds_its_pictures(tmp_path):
    path = fits.nested().report(tmp_path / "out.tex")
    text = path.read_text("utf-8")
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", text))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    pictures = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]*)\}", text)
    assert len(pictures) >= 4
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_equations_in_latex():
    from multilevel.report.equations import equation_records

    text = equations_latex(equation_records(fits.crossed().design))
    assert r"\gamma_{3}\,\mbox{x:w}" in text
    assert r"U_{1,\mbox{\scriptsize subject}}\,\mbox{x}" in text
    assert tex_text("a_b^2~{c}\\") == (
        r"a\_b\textasciicircum{}2\textasciitilde{}\{c\}\textbackslash{}"
    )


def numbers_of(record) -> list[float]:
    if isinstance(record, dict):
        return [x for value in record.values() for x in numbers_of(value)]
    if isinstance(record, list | tuple):
        return [x for value in record for x in numbers_of(value)]
    return [float(record)] if isinstance(record, int | float) else []


@pytest.mark.parametrize("make", [fits.nested, fits.three_level, fits.crossed, fits.empty])
def test_every_number_of_the_methods_paragraph_is_in_the_fit(make):
    m = make()
    text = m.methods_paragraph().replace(f"multilevel {mlm.__version__}", "multilevel")
    for name in sorted([*m.design.names, *m.groups], key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "NAME", text)
    text = text.replace("p < .001", "")
    known = numbers_of(m.to_dict())
    known += numbers_of(m.coefficients().select_dtypes("number").to_numpy().tolist())
    known += [
        G.iloc[0, 0] / (sum(H.iloc[0, 0] for H in m.random_covariance.values()) + m.fit.sigma2)
        for G in m.random_covariance.values()
    ]
    found = re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)(?:e[-+]\d+)?", text)
    assert len(found) > 5
    for written in found:
        mantissa, _, power = written.partition("e")
        places = len(mantissa.partition(".")[2]) - int(power or 0)
        half = 0.5 * 10.0**-places * (1 + 1e-9)
        assert any(abs(float(written) - value) <= half for value in known), written


def test_methods_paragraph_says_when_not_to_report():
    from dataclasses import replace

    from multilevel.report.methods_paragraph import methods_paragraph

    m = fits.empty()
    doubtful = replace(m.fit, certificate=replace(m.certificate, status="not_certified"))
    assert "must not be reported" in methods_paragraph(doubtful, m.design)


@pytest.mark.parametrize("name", ["out.pdf", "out", "missing/out.html"])
def test_path_that_cannot_be_written(tmp_path, name):
    with pytest.raises(InferenceError, match=r"written as one of|must exist"):
        fits.empty().report(tmp_path / name)


def test_command_line_writes_a_report(tmp_path, capsys):
    data = tmp_path / "data.csv"
    rows = [f"{g},{g % 3 + k * 0.7 + (g * k) % 5}" for g in range(12) for k in range(5)]
    data.write_text("\n".join(["g,y", *rows]))
    out = tmp_path / "out.html"
    assert main(["fit", str(data), "y ~ 1 + (1 | g)", "--report", str(out)]) == 0
    assert "report written to" in capsys.readouterr().err
    assert "Methods paragraph" in " ".join(read_html(out).text)
    assert main(["fit", str(data), "y ~ 1 + (1 | g)", "--report", "x.pdf"]) == 2


def test_effects_come_before_convergence_and_speak_in_words():
    document = fits.nested()._document(pictures=False, df=None)
    headings = [part.section.heading for part in document.parts]
    effects = headings.index("Reliability of cluster estimates")
    assert headings.index("In words") < effects < headings.index("Convergence")
    assert headings.index("Convergence") < headings.index("Engine")
    rows = document.parts[effects].section.grid.rows
    assert {row[2] for row in rows} == {
        "of the cluster's own estimate",
        "of the prediction (EBLUP)",
    }
    explained = document.parts[headings.index("Explained variance")].section.grid
    assert explained.header[:3] == ("measure", "variance", "comes from")
    assert "random intercepts between levels of g" in [row[2] for row in explained.rows]


@pytest.mark.parametrize(
    ("component", "words"),
    [
        ("f rows", "fixed effects within clusters"),
        ("v school:room", "random slopes between levels of school:room"),
        ("marginal", "fixed effects (marginal)"),
        ("sum_of_parts", "sum of parts"),
    ],
)
def test_components_in_words(component, words):
    assert component_words(component) == words
