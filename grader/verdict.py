"""What a grading says. The JSON form is stable and versioned: see docs/verdict.md. Layer 0."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

VERSION = 1


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    PARTIAL = "partial"  # every part that was started passes, others are still stubs
    NOT_STARTED = "not_started"
    RULE_BROKEN = "rule_broken"
    ERROR = "error"  # does not import: syntax, missing name, an exception at import
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Cause(StrEnum):
    """Why a test did not pass."""

    WRONG = "wrong"  # the result is not what the statement asks for
    RAISED = "raised"
    COST = "cost"
    WAITING = "waiting"  # needs a part that is still a stub
    NO_GPU = "no_gpu"
    NOT_RUN = "not_run"
    MISSING = "missing"  # the function is not there
    RULE = "rule"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    FLOOD = "flood"  # printed or returned too much


@dataclass(frozen=True)
class Place:
    """Where in the learner's file: lines and columns count from 1, columns in characters."""

    line: int
    column: int
    end_line: int


@dataclass(frozen=True)
class Cells:
    """Enough of two arrays of one shape for a heat map, as two tables of numbers.

    A row of the table is one index of all axes but the last, counted as the array lies in memory; a column is one
    index of the last axis. Numbers that JSON cannot write are the texts `nan`, `inf` and `-inf`, which `float` reads.
    """

    shape: list[int]  # of the arrays; complex ones have a last axis more: the real and the imaginary part
    rows: list[int]
    columns: list[int]
    worst: list[int]  # the index of the element that is furthest off
    expected: list[list[float | str]]  # (rows, columns)
    got: list[list[float | str]]  # (rows, columns)
    sampled: bool  # whether the arrays hold more than is here


@dataclass(frozen=True)
class Details:
    """What a failed check says, field by field. `grader.failure.text` is its rendering; what is empty was not said."""

    headline: str = ""
    example: str = ""  # the worked example that was run
    allowed: str = ""
    expected: str = ""
    got: str = ""
    where: str = ""
    how_far: str = ""
    tolerance: str = ""  # why it is not the usual one
    looks_like: str = ""
    note: str = ""
    trace: str = ""  # the learner's own frames and the exception
    hint: str = ""
    stateful: bool = False  # run by itself, the call gives another result
    cells: Cells | None = None


@dataclass(frozen=True)
class Limit:
    """What one check allowed, and what it found: a count, or with `when` the factor by which it grew."""

    metric: str
    at_most: float
    got: float
    when: str = ""  # `T doubles`
    why: str = ""  # where the number comes from


@dataclass(frozen=True)
class Metered:
    """One metered call: what was counted, what was allowed, and what the kit's solution takes for the same call."""

    counted: dict[str, int]
    allowed: list[Limit] = field(default_factory=list)
    solution: dict[str, int] = field(default_factory=dict)  # empty where it was not run


@dataclass
class TestResult:
    __test__ = False  # not a test class, whatever pytest thinks of the name

    name: str
    title: str
    part: str
    category: str
    outcome: Outcome
    points: int
    max_points: int
    message: str = ""  # `details` and `call`, rendered
    seconds: float = 0.0
    cause: Cause | None = None
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    details: Details | None = None
    call: str = ""  # the last call, in words
    calls: int = 0  # that led to the failure; `call` is the last of them
    costs: list[Metered] = field(default_factory=list)  # of the metered calls, in order

    @property
    def wrong(self) -> bool:
        """Whether the test found something wrong, which one that was not run did not."""
        return self.outcome is Outcome.FAILED and self.cause is not Cause.NOT_RUN

    def put(self, place: Place) -> None:
        self.line, self.column, self.end_line = place.line, place.column, place.end_line


@dataclass
class Diagnosis:
    """A catalogued mistake that explains failing calls.

    explains  how many, by itself; one of several made at once: how many are not explained without it
    of        how many there are
    together  how many all that are named explain at once; 0 where each is named by itself
    """

    mistake: str
    says: str
    explains: int
    of: int
    together: int = 0


@dataclass
class BrokenRule:
    rule: str
    line: int
    source: str
    column: int | None = None
    end_line: int | None = None


@dataclass
class Verdict:
    exercise: str
    file: str
    status: Status
    points: int = 0
    max_points: int = 0
    seconds: float = 0.0
    seed: int = 0
    device: str = "cpu"
    isolation: str = "process"
    message: str = ""  # what concerns the whole file: a syntax error, an import that failed
    line: int | None = None  # of what `message` says
    column: int | None = None
    end_line: int | None = None
    output: str = ""  # what the learner's code printed, capped
    tests: list[TestResult] = field(default_factory=list)
    diagnosis: list[Diagnosis] = field(default_factory=list)
    rules: list[BrokenRule] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)  # of the submission, the exercise and the engine
    kit: str = ""  # its version

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED

    def put(self, place: Place) -> None:
        self.line, self.column, self.end_line = place.line, place.column, place.end_line

    def to_json(self) -> dict[str, Any]:
        """The object that `grade SLUG --json` prints. Of details and limits it holds what was said."""
        data = {"version": VERSION, **asdict(self)}
        for test in data["tests"]:
            test["details"] = test["details"] and _said(test["details"])
            for metered in test["costs"]:
                metered["allowed"] = [_said(limit) for limit in metered["allowed"]]
        return data


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that are at their default."""
    return {name: value for name, value in fields.items() if value is not None and value is not False and value != ""}


def from_json(data: dict[str, Any]) -> Verdict:
    """The inverse of `Verdict.to_json`; fields that an older kit did not write are at their defaults.

    Raises KeyError, TypeError or ValueError on other data.
    """
    if data["version"] != VERSION:
        raise ValueError(f"verdict version {data['version']!r}, expected {VERSION}")
    rest = {key: value for key, value in data.items() if key != "version"}
    rest["status"] = Status(rest["status"])
    rest["tests"] = [_test(test) for test in rest["tests"]]
    rest["diagnosis"] = [Diagnosis(**item) for item in rest["diagnosis"]]
    rest["rules"] = [BrokenRule(**item) for item in rest["rules"]]
    return Verdict(**rest)


def _test(data: dict[str, Any]) -> TestResult:
    cause, details = data["cause"], data.get("details")
    return TestResult(
        **{
            **data,
            "outcome": Outcome(data["outcome"]),
            "cause": None if cause is None else Cause(cause),
            "details": None if details is None else _details(details),
            "costs": [_metered(item) for item in data.get("costs", [])],
        }
    )


def _details(data: dict[str, Any]) -> Details:
    cells = data.get("cells")
    return Details(**{**data, "cells": None if cells is None else Cells(**cells)})


def _metered(data: dict[str, Any]) -> Metered:
    return Metered(**{**data, "allowed": [Limit(**limit) for limit in data["allowed"]]})
