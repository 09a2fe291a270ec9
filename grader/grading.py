"""The way of one submission: read, rules, sandbox, suite, verdict, diagnosis. Layer 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from grader import __version__, diagnosis, digest, failure, place, source
from grader.errors import Fault, SubmissionError, UsageError
from grader.order import Order
from grader.plugin import run
from grader.plugin.run import SuiteRun
from grader.remote.calls import Call, Code, Result, Runner
from grader.remote.submission import Submission, Trial, missing, trace
from grader.report import Report
from grader.sandbox import rules
from grader.verdict import Cause, Outcome, Status, TestResult, Verdict

if TYPE_CHECKING:
    from grader.engine import Engine

MAX_OUTPUT = 4000
BY_CAUSE = {
    Cause.TIMEOUT: Status.TIMEOUT,
    Cause.OUT_OF_MEMORY: Status.OUT_OF_MEMORY,
    Cause.CRASHED: Status.CRASHED,
    Cause.FLOOD: Status.CRASHED,
}


def grade(engine: Engine, order: Order, notify: Callable[[str], None]) -> Report:
    """Grade one submission. Raises UsageError for a part that there is not, Fault when the kit is broken."""
    exercise = order.exercise
    if order.part is not None and order.part not in (names := [part.name for part in exercise.parts]):
        raise UsageError(f"no part `{order.part}` in {exercise.path}; its parts are {', '.join(names)}")
    verdict = Verdict(
        exercise.path, str(order.file), Status.ERROR, seed=order.seed, device=order.device, isolation=engine.tier,
        digests={"exercise": digest.exercise(exercise), "engine": digest.engine()}, kit=__version__,
    )  # fmt: skip
    text = order.text
    try:
        text = source.decode(order.file) if text is None else text
        verdict.digests["submission"] = digest.submission(text)
        answer = source.parse(order.file, text)
    except SubmissionError as error:
        verdict.message, verdict.max_points = str(error), run.max_points(order)
        if error.place:
            verdict.put(error.place)
        return Report(order, verdict, text=text)
    return _Grading(engine, order, answer, verdict, notify).run()


class _Grading:
    """The state of one grading of a file that parses."""

    def __init__(
        self, engine: Engine, order: Order, answer: source.Answer, verdict: Verdict, notify: Callable[[str], None]
    ) -> None:
        self.engine, self.order, self.answer, self.verdict, self.notify = engine, order, answer, verdict, notify
        self.exercise, self.parts = order.exercise, order.exercise.parts
        stubs = answer.stubs()
        self.stubs = {name: stubs[name] for part in self.parts for name in part.stubs if name in stubs}
        wanted = [part for part in self.parts if order.part in (None, part.name)]
        present = answer.names()
        self.missing = [part.name for part in wanted if part.name not in present]
        waiting = {part.name for part in self.parts if all(name in self.stubs for name in part.stubs)}
        self.untouched = bool(wanted) and all(part.name in waiting for part in wanted)
        self.trials: tuple[Trial, ...] = ()
        self.failing: Call | None = None

    def run(self) -> Report:
        if self.untouched:
            line = min(self.stubs.values())
            said = f"not started: the first stub is in line {line} of {self.answer.path.name}"
            self._only(Status.NOT_STARTED, said, line)
        elif broken := rules.check(self.answer.text, self.answer.tree, self.exercise.card.forbid):
            self.verdict.rules = broken
            self._only(Status.RULE_BROKEN, "")
        elif len(self.missing) == len(self.parts):
            self._only(Status.ERROR, failure.text(missing(self.missing[0], self.answer)))
        else:
            self._run_suite()
        return Report(self.order, self.verdict, self.failing, self.trials, self.answer.text)

    def _only(self, status: Status, message: str, line: int | None = None) -> None:
        """No test is run. `line` is where the file is to blame."""
        verdict = self.verdict
        verdict.status, verdict.message, verdict.max_points = status, message, run.max_points(self.order)
        if line is not None and (found := place.of_line(self.answer.text.split("\n"), line)):
            verdict.put(found)

    def _run_suite(self) -> None:
        self.notify("starting the sandbox")
        self.engine.warm(self.exercise)
        self.verdict.isolation = self.engine.tier
        filename = self.answer.path.name
        mine = Code(self.answer.text, filename, self.exercise.card.forbid, tuple(self.stubs))
        runner = self.engine.runner(self.order, mine)
        reference = self.engine.runner(self.order, Code(self.exercise.text, filename))
        try:
            self.notify("running the tests")
            if not self._refused(runner.load()):
                self._test(runner, reference)
        finally:
            runner.close()
            reference.close()
            self.verdict.output = "".join(runner.output)[:MAX_OUTPUT]

    def _refused(self, loaded: Result) -> bool:
        """Whether the file did not even import; the verdict says why."""
        status, message = Status.ERROR, ""
        if loaded.broken:
            status, message = Status.RULE_BROKEN, f"the rules exclude {', '.join(f'`{r}`' for r in loaded.broken)}"
        elif loaded.ended:
            status = BY_CAUSE.get(loaded.ended, Status.CRASHED)
            message = f"the file does not import: {loaded.message}"
        elif loaded.error and loaded.error.kind == "memory":
            status, message = Status.OUT_OF_MEMORY, f"the file does not import\n\n{trace(loaded.error)}"
        elif loaded.error:
            message = f"the file does not import\n\n{trace(loaded.error)}{_import_hint(loaded)}"
        if message:
            frames = loaded.error.frames if loaded.error else ()
            self._only(status, message, frames[-1][0] if frames else None)
        return bool(message)

    def _test(self, runner: Runner, reference: Runner) -> None:
        order, verdict = self.order, self.verdict
        submission = Submission(runner, reference, self.answer, self.parts, order.seed)
        suite = SuiteRun(submission, order, {name: missing(name, self.answer) for name in self.missing})
        run.run(suite)
        if suite.broken:
            self._doubt(suite, reference)
        verdict.tests = suite.results
        verdict.points = sum(test.points for test in suite.results)
        verdict.max_points = sum(test.max_points for test in suite.results)
        verdict.status = self._status(suite.results)
        trials = list(suite.trials.values())
        if order.remember:
            self.engine.recall.remember(self.answer.text, trials)
        failed = {t.name for t in suite.results if t.outcome is Outcome.FAILED}
        self.trials = tuple(trial for trial in trials if trial.test in failed and trial.calls)
        if verdict.status is Status.RULE_BROKEN:
            verdict.points = 0
        elif self.trials and order.diagnose:
            self.notify("looking for the mistake")
            self._compare_costs(suite)
            self._diagnose(runner, reference)

    def _doubt(self, suite: SuiteRun, reference: Runner) -> None:
        """Raises Fault when a test that ended in an exception of its own does so on the solution too."""
        submission = Submission(reference, reference, self.answer, self.parts, self.order.seed)
        own = replace(suite, submission=submission, only=suite.broken, missing={}, broken={}, trials={})
        run.run(own)
        for name, detail in own.broken.items():
            what = f"{name} breaks on the kit's own solution with seed {self.order.seed}"
            raise Fault(f"the suite of {self.exercise.path} is wrong: {what}: {detail}")

    def _compare_costs(self, suite: SuiteRun) -> None:
        """What the solution takes where the answer takes too much: a run of it costs as much as the test."""
        for test in suite.results:
            if test.cause is Cause.COST:
                figures = suite.submission.solution_costs(suite.trials[test.name])
                pairs = zip(test.costs, figures, strict=True)
                test.costs = [replace(metered, solution=solution) for metered, solution in pairs]

    def _diagnose(self, runner: Runner, reference: Runner) -> None:
        """Name the mistake, note what depends on earlier calls, and find the call to repeat."""
        replay = diagnosis.Replay(self.exercise, reference, self.engine.recall)
        failing = replay.failing(self.trials)
        stateful = diagnosis.stateful(runner, failing)
        for test in self.verdict.tests:
            if test.name in stateful and test.details is not None:
                test.details = replace(test.details, stateful=True)
                test.message = failure.message(test)
        self.verdict.diagnosis = diagnosis.name(replay, failing)
        self.failing = failing[0].call if failing else None

    def _status(self, tests: list[TestResult]) -> Status:
        causes = {test.cause for test in tests if test.outcome is Outcome.FAILED}
        if Cause.RULE in causes:
            return Status.RULE_BROKEN
        if self.missing:
            return Status.ERROR
        if not causes:
            waiting = any(test.cause is Cause.WAITING for test in tests) or bool(self.stubs)
            passed = any(test.outcome is Outcome.PASSED for test in tests)
            return Status.PARTIAL if waiting and passed else Status.NOT_STARTED if waiting else Status.PASSED
        if not causes <= BY_CAUSE.keys():
            return Status.FAILED
        failed = [test for test in tests if test.outcome is Outcome.FAILED]
        plainest = min(failed, key=lambda test: test.category == "examples")
        return BY_CAUSE[plainest.cause] if plainest.cause else Status.FAILED


def _import_hint(loaded: Result) -> str:
    error = loaded.error
    if error is None or "ImportError" not in error.bases:
        return ""
    if "relative import" in error.text:
        return "\n\nhint: the file is graded by itself; import from installed packages only"
    return "\n\nhint: grading runs without this package; the exercise does not need it"
