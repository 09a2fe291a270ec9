"""Every attack gets the verdict that its answer deserves, learns nothing, harms nothing and leaves nothing."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

import pytest

from grader.cli.exit_code import ExitCode
from grader.verdict import Cause, Status

from . import CASES
from .case import RIGHT, WRONG, Case, combinations
from .play import SECRET, Played, best_tier, disclosed, fill_in, play, play_case, tiers_of
from .table import README, committed, outcome, summary

BEST = best_tier() if sys.platform == "linux" else "process"
isolated = pytest.mark.skipif(BEST == "process", reason="no isolation here, and the process tier makes no claim")
MOST_PRINTED = 300_000  # characters of a verdict as JSON


@functools.cache
def control(case: Case) -> Played:
    """The answer at the heart of an attack, without the attack."""
    return _control(case.exercise, case.as_bad_as or WRONG[case.exercise], case.performance)


@functools.cache
def _control(exercise: str, code: str, performance: bool) -> Played:
    return play(exercise, code, BEST, *([] if performance else ["--no-performance"]))


@isolated
@pytest.mark.parametrize("exercise", RIGHT)
def test_controls(exercise):
    right, wrong = play(exercise, RIGHT[exercise], BEST), _control(exercise, WRONG[exercise], performance=False)
    assert (right.code, right.status) == (ExitCode.PASSED, Status.PASSED)
    assert (wrong.code, wrong.status) == (ExitCode.NOT_PASSED, Status.FAILED)
    assert 0 < len(wrong.passed) < len(right.passed)
    assert right.left == wrong.left == ()


TO_PLAY = [(case, tier) for case in CASES for tier in tiers_of(case, BEST)]


@isolated
@pytest.mark.parametrize(("case", "tier"), TO_PLAY, ids=[f"{case.name}-{tier}" for case, tier in TO_PLAY])
def test_attack(case, tier):
    played = play_case(case, tier)
    assert played.stderr == ""
    assert played.code in (ExitCode.NOT_PASSED, *([ExitCode.PASSED] if case.limit else []))
    assert played.verdict["isolation"] == tier
    assert played.status in case.status
    check_what_it_earned(case, played)
    check_what_it_tried(case, played, tier)
    check_what_can_be_read(case, played)
    assert played.left == ()
    assert played.seconds < case.seconds


def check_what_it_earned(case: Case, played: Played) -> None:
    honest = control(case)
    assert honest.code == ExitCode.NOT_PASSED
    more = played.passed - honest.passed - set(case.earns)
    if case.limit:
        assert more, "it is stopped by now: say so in its record"
    else:
        assert more == set()
        assert played.verdict["points"] <= honest.verdict["points"] + len(case.earns)


def check_what_it_tried(case: Case, played: Played, tier: str) -> None:
    """An attack that did not get as far as trying would prove nothing."""
    output = played.verdict["output"]
    for name in case.refused if tier in case.promised_by else ():
        assert re.search(rf"^{re.escape(name)}: refused", output, re.MULTILINE), output
    assert case.prints in output
    said = [played.verdict["message"], *(test["message"] for test in played.verdict["tests"])]
    assert any(case.message in message for message in said)


def check_what_can_be_read(case: Case, played: Played) -> None:
    assert disclosed(played, fill_in(case)) == []
    assert SECRET not in played.readable
    assert played.stdout.isascii()
    assert control_characters(played.stdout) == set()
    assert len(played.stdout) < MOST_PRINTED


def control_characters(text: str) -> set[str]:
    """What a terminal might obey, but for the newline."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


SHOWN = [case for case in CASES if case.terminal]


@isolated
@pytest.mark.parametrize("case", SHOWN, ids=[case.name for case in SHOWN])
def test_terminal(case):
    """The same attack as a person reads it."""
    played = play_case(case, BEST, as_json=False)
    assert (played.code, played.stderr, played.left) == (ExitCode.NOT_PASSED, "", ())
    assert control_characters(played.stdout) == set()
    assert not played.stdout.startswith("passed")
    assert max(map(len, played.stdout.splitlines())) <= 80
    assert len(played.stdout.splitlines()) < 300
    assert disclosed(played, fill_in(case)) == []


def test_the_time_of_a_submission_is_limited_in_all(grade, monkeypatch):
    """Sleeping for just less than the limit in every call does not take all day."""
    monkeypatch.setattr("grader.remote.calls.PATIENCE", 0.2)
    monkeypatch.setattr("grader.remote.calls.SHORT_LIMIT", 0.1)
    verdict = grade("combination_sum", combinations("import time", inside="time.sleep(0.15)"), performance=False)
    assert sum(test.cause is Cause.TIMEOUT for test in verdict.tests) > len(verdict.tests) // 2


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_table_says_what_is_asserted():
    """docs/security.md names every case, the README sums up; `python -m tests.adversarial.table` writes both anew."""
    assert summary() in README.read_text(encoding="utf-8")
    rows = committed()
    assert list(rows) == [case.name for case in CASES]
    for case in CASES:
        says, stopped_by, sandbox, restricted = rows[case.name]
        assert (says, stopped_by) == (case.says, case.stopped_by)
        assert sandbox in {outcome(case, "sandbox", status) for status in case.status}
        assert restricted in {outcome(case, "restricted", status) for status in case.status}
