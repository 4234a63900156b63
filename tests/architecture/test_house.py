"""The rules of the house, over every module, and a proof that each rule can fail."""

from __future__ import annotations

import pytest

from tests.architecture import rules
from tests.architecture.source import ROOT, files_of_tests, package_modules, parse

MODULES = package_modules()


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule):
    violations = [line for module in MODULES for line in rule(module)]
    assert not violations, f"{rule.__name__}:\n" + "\n".join(violations)


def test_no_import_cycle():
    cycles = rules.import_cycles(MODULES)
    assert not cycles, "\n".join(cycles)


def test_test_files_are_short():
    long = []
    for file in files_of_tests():
        lines = len(file.read_text("utf-8").splitlines())
        if lines > rules.MAX_TEST_LINES:
            long.append(f"{file.relative_to(ROOT)}:{rules.MAX_TEST_LINES}: {lines} lines")
    assert not long, "\n".join(long)


BAD = {
    "room_ranks": ("multilevel.design.a", "def f():\n    from multilevel.infer import df\n"),
    "sizes": ("multilevel.model.a", "def f():\n" + "    x = 1\n" * 61),
    "broad_excepts": (
        "multilevel.model.a",
        "try:\n    pass\nexcept (ValueError, Exception):\n    pass\n",
    ),
    "prints": ("multilevel.infer.a", "print(1)\n"),
    "asserts": ("multilevel.model.a", "assert True\n"),
    "library_rooms": ("multilevel.infer.a", "from scipy import optimize\n"),
    "docstrings": ("multilevel.model.a", '"""Doc."""\ndef f():\n    return 1\n'),
    "ignored_arguments": ("multilevel.model.a", "def f(x, *, y=1):\n    return x\n"),
    "random_state": ("multilevel.simulate.a", "import numpy as np\nnp.random.default_rng()\n"),
    "silent_rooms": ("multilevel.estimate.a", "import warnings\nwarnings.warn('x')\n"),
    "unfinished": ("multilevel.model.a", "x = 1  # TO" + "DO later\n"),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_rule_finds_a_violation(rule):
    name, text = BAD[rule.__name__]
    found = rule(parse(name, text))
    assert len(found) == 1
    assert found[0].startswith("multilevel/")
    assert ".py:" in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("multilevel.translate.a", "from multilevel.design.records import Design\n"),
        ("multilevel.interpret.a", "import multilevel.simulate.power\n"),
        ("multilevel.model.a", "import importlib\nimportlib.import_module('multilevel.api.fit')\n"),
        ("multilevel.likelihood.blocks.a", "from ...estimate import records\n"),
        ("multilevel.attic.a", "x = 1\n"),
        ("multilevel.infer.a", "from multilevel import fit\n"),
        ("multilevel.infer.a", "import multilevel as mlm\n"),
    ],
)
def test_ranks_forbid_sideways_and_up(name, text):
    assert len(rules.room_ranks(parse(name, text))) == 1


def test_ranks_allow_down_and_own_room():
    text = "from multilevel.errors import ModelError\nfrom .records import Fit\n"
    assert rules.room_ranks(parse("multilevel.estimate.a", text)) == []
    text = "import multilevel as mlm\nfrom multilevel import __version__, fit\n"
    assert rules.room_ranks(parse("multilevel.cli.a", text)) == []


def test_cycle_is_found_through_a_lazy_import():
    first = parse("multilevel.model.a", "from multilevel.model import b\n")
    second = parse("multilevel.model.b", "def f():\n    from multilevel.model.a import g\n")
    assert rules.import_cycles([first, second]) == [
        "import cycle: multilevel.model.a -> multilevel.model.b -> multilevel.model.a"
    ]


def test_signatures_that_were_not_chosen_may_ignore_arguments():
    text = (
        "from typing import Protocol, overload\n"
        "class P(Protocol):\n    def f(self, x): ...\n"
        "class C:\n    def __exit__(self, kind, value, trace):\n        return None\n"
        "@overload\ndef g(x: int) -> int: ...\n"
    )
    assert rules.ignored_arguments(parse("multilevel.model.a", text)) == []
