"""The documented form of the verdict is the form that is printed."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest

from grader.catalog import content
from grader.cli.exit_code import ExitCode
from grader.verdict import BrokenRule, Cause, Diagnosis, Outcome, Status, TestResult, Verdict, from_json

TEXT = (content() / "docs" / "verdict.md").read_text(encoding="utf-8")
EXAMPLE = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])


def test_the_example_is_a_verdict_with_every_field():
    assert list(EXAMPLE) == ["version", *(f.name for f in fields(Verdict))]
    for key, kind in (("tests", TestResult), ("diagnosis", Diagnosis), ("rules", BrokenRule)):
        assert list(EXAMPLE[key][0]) == [f.name for f in fields(kind)]
    assert from_json(EXAMPLE).to_json() == EXAMPLE


@pytest.mark.parametrize("word", [*Status, *Outcome, *Cause])
def test_every_word_is_documented(word):
    assert f"`{word}`" in TEXT


def test_exit_codes():
    assert {code.name: int(code) for code in ExitCode} == {
        "PASSED": 0, "NOT_PASSED": 1, "USAGE": 2, "FAULT": 3, "INTERRUPTED": 130,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"status": "fine"}, {"tests": [{"name": "x"}]}, {"points": None, "extra": 1}], ids=str
)
def test_other_data_is_refused(change):
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json({**EXAMPLE, **change})
