"""One submission in, one verdict out. Layer 3."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grader import diagnosis, repro, source
from grader.errors import Fault, SubmissionError, UsageError
from grader.exercise import Exercise
from grader.plugin import collect, run
from grader.plugin.run import SuiteRun
from grader.remote.calls import Code, Result, Runner
from grader.remote.submission import Submission, Trial, missing_message, trace
from grader.sandbox import layers, rules
from grader.sandbox.host import Pool
from grader.sandbox.inside.lockdown import Limits
from grader.verdict import Cause, Diagnosis, Outcome, Status, TestResult, Verdict

MAX_OUTPUT = 4000
TIERS = ("sandbox", "restricted", "process")


def quiet(message: str) -> None:
    """The default of `notify`."""


@dataclass(frozen=True)
class Order:
    """What to grade, and how.

    device       "cpu" or "cuda"
    part         this part's tests alone
    performance  with the performance tests
    diagnose     look for the mistake when something fails
    threads      that the submission's operators may use
    timeout      seconds for one call, in place of the card's
    remember     keep the results of the calls: this is a mistake of the catalogue
    first        tests to run first, in this order; the verdict lists them in the suite's
    stop         run nothing more after the first failure: only the status is wanted
    """

    exercise: Exercise
    file: Path
    seed: int = 0
    device: str = "cpu"
    part: str | None = None
    performance: bool = True
    diagnose: bool = True
    threads: int = 1
    timeout: float | None = None
    remember: bool = False
    first: tuple[str, ...] = ()
    stop: bool = False


class Engine:
    """A warm engine: its sandboxes stay open between gradings. A context manager."""

    def __init__(self, *, memory: int = 4 << 30, tier: str | None = None) -> None:
        """
        memory  bytes that one submission may allocate
        tier    "sandbox", "restricted" or "process"; by default the best that works here
        """
        if tier is not None and tier not in TIERS:
            raise UsageError(f"no isolation tier `{tier}`; there are {', '.join(TIERS)}")
        self.limits = Limits(memory=memory)
        self.tiers = [tier] if tier else layers.promising_tiers()
        self.pool = Pool(self.tiers.pop(0))
        self.repro: str | None = None
        self.failed: list[Trial] = []  # the failed tests of the last grading, with their calls
        self.memory = diagnosis.Recall()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.pool.close()

    @property
    def tier(self) -> str:
        return self.pool.tier

    def warm(self, exercise: Exercise) -> None:
        """Start the sandbox that an exercise needs, import the suite meanwhile, and wait.

        A tier that does not work here gives way to the next.
        """
        self.pool.zygote(exercise.packages)
        collect.load(exercise)
        while True:
            try:
                return self.pool.zygote(exercise.packages).wait()
            except Fault:
                if not self.tiers:
                    raise
                self.pool.close()
                self.pool = Pool(self.tiers.pop(0), gpu=self.pool.gpu)

    def name(self, exercise: Exercise, trials: list[Trial]) -> list[Diagnosis]:
        """The mistakes that explain failed tests of an earlier grading."""
        code = Code(exercise.text, f"{exercise.slug}.py")
        runner = Runner(self.pool.zygote(exercise.packages), code, self.limits, timeout=exercise.card.timeout)
        try:
            replay = diagnosis.Replay(exercise, runner, self.memory)
            return diagnosis.name(replay, replay.failing(trials))
        finally:
            runner.close()

    def grade(self, exercise: Exercise, file: Path, *, notify: Callable[[str], None] = quiet, **how: Any) -> Verdict:
        """Grade one file; `how` is what an Order says beyond that.

        Never raises for what is in the file; raises Fault when the kit is broken.
        """
        order = Order(exercise, file, **how)
        started = time.perf_counter()
        if (order.device == "cuda") != self.pool.gpu:  # only a sandbox that is to use the GPU sees it
            self.pool.close()
            self.pool = Pool(self.pool.tier, gpu=order.device == "cuda")
        self.repro, self.failed = None, []
        verdict = Verdict(
            exercise.path, str(file), Status.ERROR, seed=order.seed, device=order.device, isolation=self.tier
        )
        try:
            submission = source.read(file)
        except SubmissionError as error:
            verdict.message = str(error)
        else:
            _Grading(self, order, submission, verdict, notify).run()
        verdict.seconds = round(time.perf_counter() - started, 4)
        return verdict


class _Grading:
    """The state of one grading."""

    def __init__(
        self, engine: Engine, order: Order, file: source.Answer, verdict: Verdict, notify: Callable[[str], None]
    ) -> None:
        self.engine, self.order, self.file, self.verdict, self.notify = engine, order, file, verdict, notify
        self.solution = order.exercise.text
        self.parts = order.exercise.parts
        self.card = order.exercise.card
        if order.part is not None and order.part not in (names := [p.name for p in self.parts]):
            raise UsageError(f"no part `{order.part}` in {order.exercise.path}; its parts are {', '.join(names)}")
        stubs = file.stubs()
        self.stubs = {name: stubs[name] for part in self.parts for name in part.stubs if name in stubs}
        wanted = [part for part in self.parts if order.part in (None, part.name)]
        present = file.names()
        self.missing = [part.name for part in wanted if part.name not in present]
        self.waiting = {part.name for part in self.parts if all(name in self.stubs for name in part.stubs)}
        self.untouched = bool(wanted) and all(part.name in self.waiting for part in wanted)

    def run(self) -> None:
        if self.untouched:
            line = min(self.stubs.values())
            self._only(Status.NOT_STARTED, f"not started: the first stub is in line {line} of {self.file.path.name}")
        elif broken := rules.check(self.file.text, self.file.tree, self.card.forbid):
            self.verdict.rules = broken
            self._only(Status.RULE_BROKEN, "")
        elif len(self.missing) == len(self.parts):
            self._only(Status.ERROR, missing_message(self.missing[0], self.file))
        else:
            self._run_suite()

    def _only(self, status: Status, message: str) -> None:
        self.verdict.status, self.verdict.message = status, message

    def _runner(self, src: Code) -> Runner:
        return Runner(
            self.engine.pool.zygote(self.order.exercise.packages),
            src,
            self.engine.limits,
            device=self.order.device,
            seed=self.order.seed,
            timeout=self.order.timeout or self.card.timeout,
            threads=self.order.threads,
        )

    def _run_suite(self) -> None:
        self.notify("starting the sandbox")
        self.engine.warm(self.order.exercise)
        self.verdict.isolation = self.engine.tier
        filename = self.file.path.name
        mine = Code(self.file.text, filename, tuple(self.card.forbid), tuple(self.stubs))
        runner, reference = self._runner(mine), self._runner(Code(self.solution, filename))
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
            self._only(status, message)
        return bool(message)

    def _test(self, runner: Runner, reference: Runner) -> None:
        order = self.order
        submission = Submission(runner, reference, self.file, self.parts, order.seed)
        suite = SuiteRun(submission, order.seed, order.device, order.part, order.performance)
        suite.first, suite.stop = order.first, order.stop
        suite.missing = {name: missing_message(name, self.file) for name in self.missing}
        run.run(order.exercise, suite)
        if suite.broken:
            self._doubt(suite, reference)
        verdict = self.verdict
        verdict.tests = suite.results
        verdict.points = sum(test.points for test in suite.results)
        verdict.max_points = sum(test.max_points for test in suite.results)
        verdict.status = self._status(suite.results)
        trials = list(suite.trials.values())
        if order.remember:
            self.engine.memory.remember(self.file.text, trials)
        failed = {t.name for t in suite.results if t.outcome is Outcome.FAILED}
        trials = [trial for trial in trials if trial.test in failed and trial.calls]
        if verdict.status is Status.RULE_BROKEN:
            verdict.points = 0
        self.engine.failed = trials
        if trials and order.diagnose and verdict.status is not Status.RULE_BROKEN:
            self.notify("looking for the mistake")
            self._diagnose(runner, reference, trials)

    def _doubt(self, suite: SuiteRun, reference: Runner) -> None:
        """Raises Fault when a test that ended in an exception of its own does so on the solution too."""
        submission = Submission(reference, reference, self.file, self.parts, suite.seed)
        own = replace(suite, submission=submission, only=suite.broken, missing={}, broken={}, trials={})
        run.run(self.order.exercise, own)
        for name, detail in own.broken.items():
            what = f"{name} breaks on the kit's own solution with seed {suite.seed}"
            raise Fault(f"the suite of {self.order.exercise.path} is wrong: {what}: {detail}")

    def _diagnose(self, runner: Runner, reference: Runner, trials: list[Trial]) -> None:
        """Name the mistake, note what depends on earlier calls, and prepare the script that repeats the failure."""
        replay = diagnosis.Replay(self.order.exercise, reference, self.engine.memory)
        failing = replay.failing(trials)
        stateful = diagnosis.stateful(runner, failing)
        for test in self.verdict.tests:
            if test.name in stateful:
                test.message += (
                    "\n\nrun by itself, the same call gives another result: it depends on earlier calls\n\n"
                    "hint: look for a default argument that is changed, a cache, or a global"
                )
        self.verdict.diagnosis = diagnosis.name(replay, failing)
        if failing:
            self.engine.repro = repro.script(self.file.path, failing[0].call)

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


BY_CAUSE = {
    Cause.TIMEOUT: Status.TIMEOUT,
    Cause.OUT_OF_MEMORY: Status.OUT_OF_MEMORY,
    Cause.CRASHED: Status.CRASHED,
    Cause.FLOOD: Status.CRASHED,
}


def _import_hint(loaded: Result) -> str:
    error = loaded.error
    if error is None or "ImportError" not in error.bases:
        return ""
    if "relative import" in error.text:
        return "\n\nhint: the file is graded by itself; import from installed packages only"
    return "\n\nhint: grading runs without this package; the exercise does not need it"
