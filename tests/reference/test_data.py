"""The files that tests compare with are the files described in tests/data/README.md."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
MANIFEST = dict(
    reversed(line.split()) for line in (DATA / "MANIFEST").read_text("utf-8").splitlines()
)


@pytest.mark.parametrize("name", sorted(MANIFEST))
def test_checksum(name):
    digest = hashlib.sha256((DATA / name).read_bytes()).hexdigest()
    assert digest == MANIFEST[name], f"tests/data/{name} is not the file that was described"


def test_every_file_is_described():
    present = {p.name for p in DATA.iterdir()} - {"README.md", "MANIFEST"}
    assert present == set(MANIFEST)
    text = (DATA / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in MANIFEST)
