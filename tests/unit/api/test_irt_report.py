"""The report of an item response model, and what belongs to the multilevel model behind it."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest

import multilevel as mlm
from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.api.irt_result import ItemResponseFit
from multilevel.api.irt_words import ATTRIBUTES_OF_THE_MODEL, OF_THE_MODEL
from multilevel.errors import InferenceError


@lru_cache(maxsize=4)
def verbal(model, **more):
    if model != "2pl":
        more |= {"n_quad": 1, "accuracy": "none"}
    return mlm.irt(mlm.load_verbagg(), person="id", response="r2", model=model, **more)


def lltm():
    return verbal("lltm_error", features="btype + situ + mode", persons="Anger")


def test_report_holds_items_fit_pictures_and_words(tmp_path):
    text = lltm().report(tmp_path / "report.html").read_text("utf-8")
    formula = "btype + situ + mode + Anger + (1 | id) + (1 | item)"
    words = ["LLTM plus error", "S4wantCurse", "Infit and outfit", "Reliability", "mode[want]"]
    for word in [*words, "Methods paragraph", formula]:
        assert word in text
    assert text.count("data:image/png") == 4
    assert text.index("Infit and outfit") < text.index("Model fit")


@pytest.mark.parametrize("suffix", ["md", "tex", "docx"])
def test_other_formats(tmp_path, suffix):
    for found in (verbal("2pl"), verbal("items")):
        path = found.report(tmp_path / f"report.{suffix}", pictures=False)
        assert path.stat().st_size > 2000
    with pytest.raises(InferenceError, match=r"\.pdf"):
        lltm().report(tmp_path / "report.pdf")


def test_items_without_persons_have_no_wright_map(tmp_path):
    text = verbal("items").report(tmp_path / "items.html").read_text("utf-8")
    assert text.count("data:image/png") == 3
    assert "Persons do not differ" in text


def test_paragraph_and_json_have_the_numbers_of_the_tables():
    found = verbal("2pl")
    items = found.items()
    kept = json.loads(found.to_json())
    assert kept["minus2_loglik"] == found.minus2_loglik
    assert kept["n_par"] == found.n_parameters == 48
    assert [i["item"] for i in kept["items"]] == items.item.tolist()
    assert [i["discrimination"] for i in kept["items"]] == items.discrimination.tolist()
    assert kept["reliability"]["estimate"] == found.reliability().estimate[0]
    assert kept["call"] is None
    text = found.methods_paragraph()
    low = items.loc[items.discrimination.idxmin()]
    assert f"({low['item']}) to" in text
    assert "7584 responses of 316 persons to 24 items" in text
    kept = json.loads(lltm().to_json())
    assert kept["call"].startswith("fit(")
    estimates = lltm().coefficients().estimate
    assert [e["estimate"] for e in kept["effects"]] == estimates.tolist()
    assert json.loads(verbal("items").to_json())["reliability"] is None


def test_questions_to_the_multilevel_model_say_where_to_ask():
    for name in OF_THE_MODEL:
        if name != "table":
            assert hasattr(GeneralizedMultilevelFit, name), name
        with pytest.raises(InferenceError, match=rf"write \.model\.{name}\("):
            getattr(lltm(), name)()
        with pytest.raises(InferenceError, match="items have slopes"):
            getattr(verbal("2pl"), name)()
    for name in ATTRIBUTES_OF_THE_MODEL:
        assert hasattr(GeneralizedMultilevelFit, name) or name == "advice"
        with pytest.raises(InferenceError, match=rf"write \.model\.{name}$"):
            getattr(lltm(), name)
    assert not set(OF_THE_MODEL) & {n for n in vars(ItemResponseFit) if not n.startswith("_")}


def test_compare_takes_models_by_rows():
    small, large = verbal("rasch"), verbal("rasch", dif="Gender")
    table = mlm.compare(small, large).to_frame()
    statistic = small.minus2_loglik - large.minus2_loglik
    assert table["statistic"][1] == pytest.approx(statistic)
    assert table["df"][1] == 24
