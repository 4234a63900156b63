from __future__ import annotations

from html.parser import HTMLParser

from multilevel.report.html import summary_html
from tests.unit.report import hand


class Reader(HTMLParser):
    """Collects cells and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_one_block_with_the_numbers_of_the_fit():
    reader = read(summary_html(*hand.cross_level_model()))
    at = reader.cells.index("ses:sector")
    assert reader.cells[at + 1 : at + 4] == ["-1.2500", "0.0500", "-25.00"]
    assert "36.0000" in reader.cells


def test_names_from_the_data_are_escaped():
    name = "<script>alert(1)</script>&"
    of = hand.design(
        f"y ~ `{name}` + (1 | g)",
        {"(Intercept)": hand.ONE, name: hand.SES},
        [hand.block(name, hand.CODES, [hand.ONE], ["(Intercept)"])],
    )
    html = summary_html(hand.fit(of, [1, 2], [0.1, 0.1], [[[1.0]]], 1.0), of, {"y": "<b>"})
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in html
    assert "script" not in read(html).tags


def test_nothing_is_loaded_from_elsewhere():
    html = summary_html(*hand.empty_model(), verbose=True)
    assert "http" not in html
    assert "src=" not in html
