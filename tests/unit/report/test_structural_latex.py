"""LaTeX reports of structural models: balanced, special characters escaped, tables in shape."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

TEXT = """
level: 1
  `y%` ~ p_1*x_1
level: 2
  `y%` ~ q*x_1 + `a & b`   # 50% of it
  x_1 ~ r*`a & b`
  ind_1 := r * q^2
"""
ITEMS = "f =~ i_1 + i_2 + `i#3`"


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(60), 6)
    out = {"g_1": g, "x_1": rng.normal(size=360) + rng.normal(size=60)[g]}
    out["y%"] = 0.5 * out["x_1"] + rng.normal(size=60)[g] + rng.normal(size=360)
    out["a & b"] = rng.normal(size=60)[g]
    f = rng.normal(size=60)[g] + rng.normal(size=360)
    for name in ("i_1", "i_2", "i#3"):
        out[name] = f + rng.normal(size=360) + 0.3 * rng.normal(size=60)[g]
    out["$h"] = np.where(g % 2, "odd {1}", "even_2")
    return pd.DataFrame(out)


@pytest.fixture(scope="module", params=["paths", "groups", "mediation", "invariance", "latent"])
def page(request, tmp_path_factory):
    data, path = _table(), tmp_path_factory.mktemp("tex") / "report.tex"
    if request.param == "paths":
        mlm.sem(TEXT, data, cluster="g_1").report(path, pictures=False)
    elif request.param == "groups":
        text = "level: 1\n`y%` ~ x_1\nlevel: 2\n`y%` ~ `a & b`"
        mlm.sem(text, data, cluster="g_1", group="$h").report(path, pictures=False)
    elif request.param == "mediation":
        found = mlm.mediate(x="a & b", m="x_1", y="y%", data=data, cluster="g_1", n_draws=200)
        found.report(path, pictures=False)
    elif request.param == "invariance":
        mlm.invariance(ITEMS, data, cluster="g_1").report(path)
    else:
        renamed = data.rename(columns={"y%": "y_2"})
        formula = "y_2 ~ x_1 + between(x_1, g_1, latent=True) + (1 | g_1)"
        mlm.fit(formula, renamed).report(path, pictures=False)
    return path.read_text("utf-8")


def test_it_is_one_document_with_closed_environments(page):
    assert page.startswith("\\documentclass")
    assert page.rstrip().endswith("\\end{document}")
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", page):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    bare = re.sub(r"\\[{}]", "", page)
    depth = 0
    for char in bare:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0


def test_special_characters_are_escaped(page):
    body = page[page.index("\\begin{document}") :]
    text = re.sub(r"\\begin\{tabular\}\{\w+\}", "", body)
    text = re.sub(r"\\[%&#_$~^]", "", text)
    for line in text.splitlines():
        if line.rstrip().endswith("\\\\"):
            line = line.replace(" & ", "")  # the columns of a table
        line = line.replace("$-$", "")
        assert not re.search(r"[%#_$&^~]", line), line


def test_tables_have_as_many_cells_as_columns(page):
    found = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", page, re.DOTALL)
    assert found
    for columns, body in found:
        rows = [r for r in body.splitlines() if r.rstrip().endswith("\\\\")]
        assert len(rows) > 1
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1, row


def test_the_model_as_written_is_there(page):
    part = page[page.index("The model as written") :]
    assert "level: " in part
    assert "\\textasciitilde" in part
