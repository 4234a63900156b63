"""A report as one HTML file: style, equations and pictures inside, nothing fetched."""

from __future__ import annotations

import base64
from html import escape

from multilevel.report.document import Document, Part
from multilevel.report.html import grid_html
from multilevel.report.mathml import equations_mathml

_STYLE = """
body{font-family:system-ui,sans-serif;line-height:1.5;color:#222;background:#fff;
 max-width:52em;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin-bottom:.2em}
h2{font-size:1.1em;margin:1.8em 0 .4em;border-bottom:1px solid #ccc;padding-bottom:.2em}
table{border-collapse:collapse;margin:.4em 0;font-variant-numeric:tabular-nums}
th,td{padding:.2em .8em;text-align:left}
thead th{border-bottom:1px solid #222}
tbody tr:last-child td{border-bottom:1px solid #222}
.mlm-number{text-align:right}
code{background:#f4f4f4;padding:.1em .3em}
math{margin:.6em 0;width:fit-content}
figure{margin:1.2em 0}
img{max-width:100%;height:auto}
.scroll{overflow-x:auto}
@media print{body{margin:0;max-width:none}figure,table{break-inside:avoid}}
"""


def document_html(document: Document) -> str:
    """A report as a complete HTML5 page; every text is escaped."""
    body = "\n".join(_part(part) for part in document.parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(document.title)}</h1>\n"
        f"<p><code>{escape(document.formula)}</code></p>\n{body}\n</body>\n</html>\n"
    )


def _part(part: Part) -> str:
    section = part.section
    out = [f"<h2>{escape(section.heading)}</h2>"]
    if part.equations:
        out.append(f'<div class="scroll">{equations_mathml(part.equations)}</div>')
    out += [f"<p><code>{escape(line)}</code></p>" for line in section.lines]
    if section.grid is not None and section.grid.rows:
        out.append(f'<div class="scroll">{grid_html(section.grid)}</div>')
    out += [f"<p>{escape(sentence)}</p>" for sentence in section.sentences]
    for picture in part.pictures:
        data = base64.b64encode(picture.png).decode("ascii")
        alternative = escape(picture.alternative, quote=True)
        out.append(f'<figure><img alt="{alternative}" src="data:image/png;base64,{data}"></figure>')
    return "\n".join(out)
