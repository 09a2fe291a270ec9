"""The documented form of the verdict is the form that is printed."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest

from grader.catalog import content
from grader.cli.exit_code import ExitCode
from grader.verdict import (
    BrokenRule,
    Cause,
    Cells,
    Details,
    Diagnosis,
    Limit,
    Metered,
    Outcome,
    Status,
    TestResult,
    Verdict,
    from_json,
)  # fmt: skip

TEXT = (content() / "docs" / "verdict.md").read_text(encoding="utf-8")
OLD = content() / "tests" / "data" / "verdict-0.1.0.json"
EXAMPLE = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])


def names(kind):
    return [f.name for f in fields(kind)]


def test_the_example_is_a_verdict_with_every_field():
    assert list(EXAMPLE) == ["version", *names(Verdict)]
    for key, kind in (("tests", TestResult), ("diagnosis", Diagnosis), ("rules", BrokenRule)):
        assert list(EXAMPLE[key][0]) == names(kind)
    details = [test["details"] for test in EXAMPLE["tests"]]
    costs = [metered for test in EXAMPLE["tests"] for metered in test["costs"]]
    assert all(list(metered) == names(Metered) for metered in costs)
    assert list(details[0]["cells"]) == names(Cells)
    assert from_json(EXAMPLE).to_json() == EXAMPLE


@pytest.mark.parametrize("field", [*names(Details), *names(Cells), *names(Limit), *names(Metered)])
def test_every_field_of_a_check_is_documented(field):
    assert f"`{field}`" in TEXT


def test_only_what_was_said_is_printed():
    test = TestResult("T::t", "t", "f", "values", Outcome.FAILED, 0, 1)
    test.details = Details("is wrong", got="0", cells=Cells([2], [0], [0, 1], [1], [[1, "nan"]], [[1, 2.5]], False))
    test.costs = [Metered({"flops": 0}, [Limit("flops", 0, 0.0, when="T doubles")])]
    verdict = Verdict("a/b", "b.py", Status.FAILED, tests=[test])
    (said,) = verdict.to_json()["tests"]
    assert said["details"] == {
        "headline": "is wrong",
        "got": "0",
        "cells": {
            "shape": [2], "rows": [0], "columns": [0, 1], "worst": [1],
            "expected": [[1, "nan"]], "got": [[1, 2.5]], "sampled": False,
        },
    }  # fmt: skip
    assert said["costs"] == [
        {
            "counted": {"flops": 0},
            "allowed": [{"metric": "flops", "at_most": 0, "got": 0.0, "when": "T doubles"}],
            "solution": {},
        }
    ]
    assert from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict


def test_a_verdict_of_an_older_kit_is_read():
    old = json.loads(OLD.read_text(encoding="utf-8"))
    assert not {"digests", "kit", "line"} & old.keys()
    verdict = from_json(old)
    assert (verdict.status, verdict.points, verdict.max_points) == (Status.FAILED, 2, 24)
    first, *_, last = verdict.tests
    assert first.message.startswith("a worked example prints something else\nexample   >>> ")
    assert (first.cause, first.line, first.details, first.call, first.costs) == (Cause.WRONG, None, None, "", [])
    assert (last.outcome, last.points) == (Outcome.PASSED, 1)
    assert (verdict.digests, verdict.kit, verdict.line) == ({}, "", None)
    new = verdict.to_json()
    assert {key: new[key] for key in old if key != "tests"} == {key: old[key] for key in old if key != "tests"}


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
