"""Pictures of item response models: drawn, and refused with reasons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.report.plots.backend import MAX_MARKS, to_png
from multilevel.report.plots.irt import ITEM_PICTURES, _columns

PNG = b"\x89PNG"
ITEMS = [f"i{k}" for k in range(14)]


@pytest.fixture(scope="module")
def fits():
    rng = np.random.default_rng(4)
    theta = rng.normal(size=300)
    noise = rng.logistic(size=(300, 14))
    latent = theta[:, None] + np.linspace(-1.5, 1.5, 14) + noise
    person = np.arange(300)
    binary = pd.DataFrame((latent > 0).astype(int), columns=ITEMS).assign(person=person)
    graded = pd.DataFrame((latent > 0).astype(int) + (latent > 1), columns=ITEMS)
    options = {"person": "person", "items": ITEMS}
    return (
        mlm.irt(binary, model="2pl", **options),
        mlm.irt(graded.assign(person=person), model="graded", **options),
    )


@pytest.mark.parametrize("name", [n for n in ITEM_PICTURES if n != "easiness"])
def test_every_picture_is_drawn(fits, name):
    for fit in fits:
        picture = fit.plot(name)
        assert to_png(picture, dpi=40).startswith(PNG)
        assert len(picture.data) < MAX_MARKS


def test_named_items_have_panels_of_their_own(fits):
    binary, graded = fits
    picture = binary.plot("curves", items=["i2", "i5"])
    assert list(picture.data["item"].cat.categories) == ["i2", "i5"]
    assert set(graded.plot("curves", items=["i0"]).data["category"]) == {"0", "1", "2"}
    assert set(binary.plot("information", items=["i2"]).data["item"]) == {"i2"}


def test_easiness_against_another_model(fits):
    binary, graded = fits
    picture = binary.plot("easiness", other=graded)
    assert len(picture.data) == 14
    assert to_png(picture, dpi=40).startswith(PNG)


def test_labels_of_one_column_do_not_overlap():
    place = np.array([0.0, 0.01, 0.02, 0.5, 0.51])
    column = _columns(place, 0.1)
    assert len(set(column[:3])) == 3
    assert column[3] != column[4]


def test_pictures_that_do_not_exist_are_refused(fits):
    binary, _ = fits
    with pytest.raises(InferenceError, match="picture must be one of"):
        binary.plot("scree")
    with pytest.raises(InferenceError, match="takes the options none"):
        binary.plot("wright", items=["i1"])
    with pytest.raises(InferenceError, match="against that of another"):
        binary.plot("easiness")
    with pytest.raises(InferenceError, match="names items of the model"):
        binary.plot("curves", items=["x"])
