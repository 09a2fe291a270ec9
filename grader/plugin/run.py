"""Runs the tests of a suite on one submission."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from textwrap import indent

import pytest

from grader.compare import Mismatch
from grader.cost import TooCostly
from grader.errors import Fault
from grader.order import Order
from grader.plugin import collect, lean
from grader.plugin.collect import Test
from grader.remote.calls import call_seed, in_words
from grader.remote.submission import CallFailed, Submission, Trial, Waiting
from grader.verdict import Cause, Outcome, TestResult

BESIDE = 11 * " "  # under what stands behind `the call`


@dataclass
class SuiteRun:
    """One grading: what to run, and the results as they come."""

    submission: Submission
    order: Order
    missing: dict[str, str] = field(default_factory=dict)  # part -> what to say
    only: Container[str] | None = None  # names of tests; None means all
    results: list[TestResult] = field(default_factory=list)
    trials: dict[str, Trial] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # tests that ended in an exception of their own
    fault: str = ""

    def __post_init__(self) -> None:
        self._result: dict[str, TestResult] = {}

    def plan(self, tests: list[Test]) -> list[Test]:
        """The tests that are wanted; each has a result from now on, which says that it was not run."""
        wanted = [test for test in tests if self._wanted(test.unrun)]
        self.results = [replace(test.unrun) for test in wanted]
        self._result = {result.name: result for result in self.results}
        rank = {name: number for number, name in enumerate(self.order.first)}
        return sorted(wanted, key=lambda test: rank.get(test.unrun.name, len(rank)))

    def _wanted(self, result: TestResult) -> bool:
        if self.only is not None and result.name not in self.only:
            return False
        part, performance = self.order.part, self.order.performance
        return part in (None, result.part) and (performance or result.category != "performance")

    @property
    def device(self) -> str:
        return self.order.device

    def seeded(self, test: str) -> int:
        """The seed of a test's own draws."""
        return call_seed(self.order.seed, test, 0)

    def setup(self, test: Test) -> None:
        """Before a test: its calls are recorded from here on."""
        name = test.unrun.name
        self.trials[name] = self.submission._begin(name)
        if test.gpu and self.device != "cuda":
            raise _Skipped("needs a GPU; there is none, or `--device cuda` was not given")
        if (message := self.missing.get(test.unrun.part)) is not None:
            raise CallFailed(Cause.MISSING, message)

    def report(self, test: Test, call: pytest.CallInfo[None]) -> None:
        """After each phase of a test."""
        result = self._result[test.unrun.name]
        result.seconds += call.duration
        if call.excinfo is not None:
            trial = self.trials.get(result.name)
            self._record(result, call.excinfo.value)
            shown = result.outcome is Outcome.FAILED and result.category != "examples"
            if trial is not None and trial.calls and shown:
                result.message += f"\n\nthe call   {indent(in_words(trial.calls[-1][0]), BESIDE).lstrip()}"
                if len(trial.calls) > 1 and not isinstance(call.excinfo.value, CallFailed):
                    result.message += f"\n{BESIDE}the last of {len(trial.calls)} that this test made"
        elif call.when == "call":
            result.outcome, result.points = Outcome.PASSED, result.max_points
            result.message, result.cause = "", None

    def failed(self, test: Test) -> bool:
        return self._result[test.unrun.name].outcome is Outcome.FAILED

    def _record(self, result: TestResult, error: BaseException) -> None:
        result.outcome, result.points, result.message = Outcome.FAILED, 0, str(error)
        if isinstance(error, Waiting):
            result.outcome, result.cause = Outcome.SKIPPED, Cause.WAITING
        elif isinstance(error, _Skipped):
            result.outcome, result.cause, result.max_points = Outcome.SKIPPED, Cause.NO_GPU, 0
        elif isinstance(error, CallFailed):
            result.cause = error.cause
        elif isinstance(error, TooCostly):
            result.cause = Cause.COST
        elif isinstance(error, Fault | KeyboardInterrupt):
            self.fault = str(error)
        else:
            result.cause = Cause.WRONG
            if not isinstance(error, Mismatch):
                detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                result.message = f"the result is not of the form that the statement asks for\n{detail[:500]}"
                self.broken[result.name] = detail


class _Skipped(Exception):
    """The test does not apply here."""


def run(grading: SuiteRun) -> None:
    """Run the suite of an order; the results are in `grading.results`. Raises Fault when the suite itself is broken."""
    exercise = grading.order.exercise
    suite = collect.collect(exercise)
    suite.grading = grading
    try:
        with lean.own_environment():
            for test in grading.plan([*suite.tests.values()]):
                lean.run(test.item)
                if grading.order.stop and grading.failed(test):
                    break
    except BaseException:
        collect.forget()
        raise
    if grading.fault:
        raise Fault(f"the suite of {exercise.path} did not run: {grading.fault}")
