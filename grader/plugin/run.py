"""Runs the tests of a suite on one submission."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

import pytest

from grader import place
from grader.compare import Mismatch
from grader.cost import TooCostly
from grader.errors import Fault
from grader.failure import Failure, message
from grader.order import Order
from grader.plugin import collect, lean
from grader.plugin.collect import Test
from grader.remote.calls import call_seed, in_words
from grader.remote.submission import CallFailed, Submission, Trial, Waiting
from grader.verdict import Cause, Details, Metered, Outcome, Place, TestResult


@dataclass
class SuiteRun:
    """One grading: what to run, and the results as they come."""

    submission: Submission
    order: Order
    missing: dict[str, Details] = field(default_factory=dict)  # part -> what to say
    only: Container[str] | None = None  # names of tests; None means all
    results: list[TestResult] = field(default_factory=list)
    trials: dict[str, Trial] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # tests that ended in an exception of their own
    fault: str = ""

    def __post_init__(self) -> None:
        self._result: dict[str, TestResult] = {}

    def plan(self, tests: list[Test]) -> list[Test]:
        """The tests that are wanted; each has a result from now on, which says that it was not run."""
        wanted = [test for test in tests if _wanted(test, self.order) and self._chosen(test.unrun.name)]
        self.results = [replace(test.unrun) for test in wanted]
        for result in self.results:
            result.put(self._part(result.part))
        self._result = {result.name: result for result in self.results}
        rank = {name: number for number, name in enumerate(self.order.first)}
        return sorted(wanted, key=lambda test: rank.get(test.unrun.name, len(rank)))

    def _chosen(self, name: str) -> bool:
        return self.only is None or name in self.only

    def _part(self, name: str) -> Place:
        return place.of_part(self.submission._file, name)

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
        if (details := self.missing.get(test.unrun.part)) is not None:
            raise CallFailed(Cause.MISSING, details)

    def report(self, test: Test, call: pytest.CallInfo[None]) -> None:
        """After each phase of a test."""
        result = self._result[test.unrun.name]
        result.seconds += call.duration
        trial = self.trials.get(result.name) or Trial(result.name)
        if call.excinfo is not None:
            self._record(result, trial, call.excinfo.value)
            result.message = message(result)
        elif call.when == "call":
            result.outcome, result.points = Outcome.PASSED, result.max_points
            result.message, result.cause, result.details = "", None, None
        if call.when == "call":
            result.costs = [Metered(cost.figures(), [*cost.checks]) for _, cost in trial.metered]

    def failed(self, test: Test) -> bool:
        return self._result[test.unrun.name].outcome is Outcome.FAILED

    def _record(self, result: TestResult, trial: Trial, error: BaseException) -> None:
        result.outcome, result.points = Outcome.FAILED, 0
        if isinstance(error, Failure):
            try:
                result.details = error.details
            except Exception as other:  # what came back defies its description
                error = other
        else:
            result.details = Details(str(error))
        if isinstance(error, Waiting):
            result.outcome, result.cause = Outcome.SKIPPED, Cause.WAITING
            return
        if isinstance(error, _Skipped):
            result.outcome, result.cause, result.max_points = Outcome.SKIPPED, Cause.NO_GPU, 0
            return
        if isinstance(error, CallFailed):
            result.cause = error.cause
            frames = error.error.frames if error.error else ()
            lines = self.submission._file.text.split("\n")
            if frames and (raised := place.of_line(lines, frames[-1][0])):
                result.put(raised)
        elif isinstance(error, TooCostly):
            result.cause = Cause.COST
        elif isinstance(error, Fault | KeyboardInterrupt):
            self.fault = str(error)
        else:
            result.cause = Cause.WRONG
            if not isinstance(error, Mismatch):
                self._break(result, error)
        if trial.calls and result.category != "examples":
            result.call = in_words(trial.calls[-1][0])
            result.calls = 1 if isinstance(error, CallFailed) else len(trial.calls)

    def _break(self, result: TestResult, error: BaseException) -> None:
        """The test ended in an exception of its own."""
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        result.details = Details(f"the result is not of the form that the statement asks for\n{detail[:500]}")
        self.broken[result.name] = detail


class _Skipped(Exception):
    """The test does not apply here."""


def _wanted(test: Test, order: Order) -> bool:
    result = test.unrun
    return order.part in (None, result.part) and (order.performance or result.category != "performance")


def max_points(order: Order) -> int:
    """What an order's tests are worth, without running any. Raises Fault when the suite is broken."""
    wanted = [test for test in collect.collect(order.exercise).tests.values() if _wanted(test, order)]
    return sum(test.unrun.max_points for test in wanted if order.device == "cuda" or not test.gpu)


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
