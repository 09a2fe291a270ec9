"""A verdict as remarks on lines of the learner's file, which an editor or a forge shows beside them. Layer 4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from grader.render.terminal import about, plainest_first
from grader.render.text import cut, safe
from grader.verdict import BrokenRule, Details, Status, TestResult, Verdict

VALUE, LINE, PATH = 60, 300, 4096  # characters of a quoted value, of what is to stand on one line, of a file's name


@dataclass(frozen=True)
class Remark:
    severity: Literal["error", "note"]
    line: int
    column: int
    end_line: int
    title: str
    line_text: str  # all that fits on one line, the title aside
    text: str  # all there is to say
    part: str = ""


def remarks(verdict: Verdict) -> list[Remark]:
    """What is wrong, the plainest first: a broken rule, a file that does not load, or the failing tests.

    A file that was not started is no error, and is said so.
    """
    if verdict.rules:
        return [_of_rule(rule) for rule in verdict.rules]
    if verdict.message and not verdict.tests:
        severity: Literal["error", "note"] = "note" if verdict.status is Status.NOT_STARTED else "error"
        line, column, end_line = _place(verdict)
        said = safe(verdict.message)
        return [Remark(severity, line, column, end_line, "", " ".join(_first(said)), said)]
    return [_of_test(test) for test in plainest_first(verdict.tests)]


def _first(text: str) -> Iterator[str]:
    """The first paragraph; where it announces a traceback, the exception too."""
    head, *more = text.strip().split("\n\n")
    yield cut(" ".join(head.split()), LINE)
    if more and more[0].startswith("in your code:"):
        yield "(" + cut(more[0].rsplit("\n", 1)[-1], LINE) + ")"


def _of_rule(rule: BrokenRule) -> Remark:
    name = cut(rule.rule, VALUE)
    text = f"`{cut(rule.source.strip(), VALUE)}` breaks it"
    return Remark(
        "error", rule.line, rule.column or 1, rule.end_line or rule.line, f"the rules exclude {name}", text, text
    )


def _of_test(test: TestResult) -> Remark:
    return Remark(
        "error", *_place(test), cut(about(test), LINE), summary(test), safe(test.message), cut(test.part, VALUE)
    )


def _place(of: TestResult | Verdict) -> tuple[int, int, int]:
    line = of.line or 1
    return line, of.column or 1, of.end_line or line


def summary(test: TestResult) -> str:
    """What a test found, on one line."""
    if test.details is None:
        return cut(test.message, LINE)
    return cut(" ".join(safe("; ".join(_words(test.details))).split()), LINE)


def _words(details: Details) -> Iterator[str]:
    yield details.headline.split("\n", 1)[0] or details.trace.rsplit("\n", 1)[-1]
    if details.where:
        yield details.where
    elif details.expected and details.got:
        yield f"expected {cut(details.expected, VALUE)}, got {cut(details.got, VALUE)}"
    elif details.allowed:
        yield f"allowed {cut(details.allowed, VALUE)}, got {cut(details.got, VALUE)}"
    if details.looks_like:
        yield f"looks like {details.looks_like}"
