"""What a grading says. The JSON form is stable and versioned: see docs/verdict.md."""

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
    message: str = ""
    seconds: float = 0.0
    cause: Cause | None = None


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
    output: str = ""  # what the learner's code printed, capped
    tests: list[TestResult] = field(default_factory=list)
    diagnosis: list[Diagnosis] = field(default_factory=list)
    rules: list[BrokenRule] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED

    def to_json(self) -> dict[str, Any]:
        """The object that `grade SLUG --json` prints."""
        return {"version": VERSION, **asdict(self)}


def from_json(data: dict[str, Any]) -> Verdict:
    """The inverse of `Verdict.to_json`. Raises KeyError, TypeError or ValueError on other data."""
    if data["version"] != VERSION:
        raise ValueError(f"verdict version {data['version']!r}, expected {VERSION}")
    rest = {key: value for key, value in data.items() if key != "version"}
    rest["status"] = Status(rest["status"])
    rest["tests"] = [_test(test) for test in rest["tests"]]
    rest["diagnosis"] = [Diagnosis(**item) for item in rest["diagnosis"]]
    rest["rules"] = [BrokenRule(**item) for item in rest["rules"]]
    return Verdict(**rest)


def _test(data: dict[str, Any]) -> TestResult:
    cause = data["cause"]
    return TestResult(
        **{
            **data,
            "outcome": Outcome(data["outcome"]),
            "cause": None if cause is None else Cause(cause),
        }
    )
