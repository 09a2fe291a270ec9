"""Where in a file a failure lies: counted as an editor counts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from grader import place, source
from grader.errors import SubmissionError
from grader.sandbox import rules
from grader.verdict import BrokenRule, Place

TEXT = '''"""A statement."""
import math as maths
from os import path as where

half = lambda x: x / 2
one, (two, three) = 1, (2, 3)


@staticmethod
def double(x):
    return 2 * x


class Doubler:
    def call(self, x):
        return double(x)
'''
LINES = TEXT.split("\n")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("double", Place(10, 1, 11)),
        ("Doubler", Place(14, 1, 16)),
        ("half", Place(5, 1, 5)),
        ("three", Place(6, 1, 6)),
        ("maths", Place(2, 1, 2)),
        ("where", Place(3, 1, 3)),
        ("call", place.TOP),
        ("statement", place.TOP),
    ],
)
def test_of_a_part(name, found):
    assert place.of_part(source.parse(Path("x.py"), TEXT), name) == found


def test_the_last_of_several_definitions_is_the_one_that_counts():
    answer = source.parse(Path("x.py"), "def f(): return 1\ndef f():\n    return 2\n")
    assert place.of_part(answer, "f") == Place(2, 1, 3)


@pytest.mark.parametrize(("line", "found"), [(11, Place(11, 5, 11)), (4, Place(4, 1, 4)), (0, None), (18, None)])
def test_of_a_line_that_the_sandbox_named(line, found):
    assert place.of_line(LINES, line) == found


def test_columns_count_characters():
    text = "θθ = 1; β = 2"
    second = ast.parse(text).body[1]
    assert second.col_offset == 10  # bytes
    assert place.of_node([text], second) == Place(1, 9, 1)


def test_a_broken_rule_knows_its_place():
    text = "def f(x):\n    é = 1; return sorted(\n        x\n    )\n"
    (broken,) = rules.check(text, ast.parse(text), ("sorting",))
    assert broken == BrokenRule("sorting", 2, "é = 1; return sorted(", 19, 2)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\ndef f(:\n    pass\n", Place(2, 7, 2)),
        ("def f():\n    x = (1,\n", Place(2, 9, 2)),
        ("θ = 1 1\n", Place(1, 7, 1)),
        ("return 1\n", Place(1, 1, 1)),
    ],
)
def test_a_syntax_error_knows_its_place(text, found):
    with pytest.raises(SubmissionError) as caught:
        source.parse(Path("x.py"), text)
    assert caught.value.place == found


def test_an_empty_file_has_no_place():
    with pytest.raises(SubmissionError) as caught:
        source.parse(Path("x.py"), "\n")
    assert caught.value.place is None
