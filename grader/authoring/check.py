"""What the gate measures on an exercise, each complaint with what mends it. What it only reads is in `form`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grader.authoring import coverage, mutate, record
from grader.authoring.problem import Problem, shown
from grader.engine import Engine
from grader.errors import Fault
from grader.exercise import Exercise
from grader.mistake import Mistake, plant
from grader.order import Order
from grader.report import Report
from grader.verdict import Outcome, Status, Verdict

SEEDS = 20
COUNTED_SEEDS = 4  # of these with performance tests, for variants: what is counted hardly depends on the inputs
ACCEPTED = (Status.PASSED, Status.PARTIAL)


@dataclass(frozen=True)
class Finding:
    """What the gate measured on one exercise."""

    exercise: str
    tests: int
    mistakes: int
    named: int
    variants: int
    problems: tuple[Problem, ...]


def check(engine: Engine, exercise: Exercise) -> Finding:
    """Points 2 to 6 for one exercise."""
    checks = _Check(exercise, engine)
    try:
        return checks.run()
    except Fault as error:
        return checks.broken(error)


def misfit(exercise: Exercise, mistake: Mistake) -> tuple[str, str] | None:
    """Why a mistake cannot be planted, and what mends that; None where it can."""
    try:
        compile(plant(exercise.text, mistake), exercise.slug, "exec", dont_inherit=True)
    except ValueError as error:
        return f"mistake {error}", "make its lines match the solution's exactly once"
    except SyntaxError as error:
        return f"mistake `{mistake.name}` does not compile: {error}", "plant what a learner could write"
    return None


class _Check:
    def __init__(self, exercise: Exercise, engine: Engine) -> None:
        self.exercise, self.engine = exercise, engine
        self.problems: list[Problem] = []
        self.failed_by: dict[str, str] = {}
        self.tests: list[str] = []
        self.named = 0

    def run(self) -> Finding:
        mistakes = self.exercise.mistakes
        if not self.exercise.parts:
            self._say("the solution has no part", "put code between ### BEGIN SOLUTION and ### END SOLUTION")
            return Finding(self.exercise.path, 0, len(mistakes), 0, 0, tuple(self.problems))
        self._solution()
        self._stub()
        graded = [(mistake, self._mistake(mistake)) for mistake in mistakes if self._fits(mistake)]
        for mistake, report in graded:  # by now the results of all mistakes are known
            self._named(mistake, report)
        for what, mend in coverage.complaints(self.exercise, self._grade, self.failed_by.setdefault):
            self._say(what, mend)
        self._teeth()
        self._mutants()
        variants = self._variants()
        return Finding(self.exercise.path, len(self.tests), len(mistakes), self.named, variants, tuple(self.problems))

    def broken(self, error: Exception) -> Finding:
        """What is found where the suite itself does not work."""
        self._say(str(error), f"mend {shown(self.exercise.suite)}")
        return Finding(self.exercise.path, 0, 0, 0, 0, tuple(self.problems))

    def _say(self, what: str, mend: str) -> None:
        self.problems.append(Problem(self.exercise.path, what, mend))

    def _grade(self, text: str, **how: Any) -> Report:
        return self.engine.grade(Order(self.exercise, Path(f"{self.exercise.slug}.py"), text, **how))

    def _solution(self) -> None:
        """Point 2: the solution passes whatever the seed, on one thread and on two."""
        for seed in range(SEEDS):
            verdict = self._grade(self.exercise.text, seed=seed, threads=1 + seed % 2).verdict
            self.tests = [test.name for test in verdict.tests]
            if verdict.status is not Status.PASSED:
                self._say(
                    f"the solution does not pass with seed {seed}: {_first(verdict)}", "mend the suite or the solution"
                )
                return
        parts = {part.name for part in self.exercise.parts}
        for test in verdict.tests:
            if test.part not in parts and test.category != "examples":
                self._say(f"{test.name} is marked with no part", f"mark it with one of {', '.join(sorted(parts))}")
        for part in parts - {test.part for test in verdict.tests}:
            self._say(f"part `{part}` has no test", "write one")

    def _stub(self) -> None:
        verdict = self._grade(self.exercise.stub_text).verdict
        if verdict.status is not Status.NOT_STARTED:
            self._say(f"the stub is `{verdict.status}`, not `not_started`", "a stub's parts must all be stubs")

    def _fits(self, mistake: Mistake) -> bool:
        if wrong := misfit(self.exercise, mistake):
            self._say(*wrong)
        return wrong is None

    def _mistake(self, mistake: Mistake) -> Report:
        """Point 3, first half: every mistake is rejected, whatever the seed."""
        text = plant(self.exercise.text, mistake)
        report = self._grade(text, diagnose=False, remember=True)
        verdict = report.verdict
        failed = [test for test in verdict.tests if test.outcome is Outcome.FAILED]
        for test in failed:
            self.failed_by.setdefault(test.name, mistake.name)
        if verdict.status in ACCEPTED:
            self._say(f"mistake `{mistake.name}` passes", "write the test that fails it")
            return report
        costs_only = all(test.category == "performance" for test in failed)
        again: dict[str, Any] = dict(
            seed=1, diagnose=False, performance=costs_only, stop=True, first=tuple(t.name for t in failed)
        )
        if self._grade(text, **again).verdict.status in ACCEPTED:
            self._say(f"mistake `{mistake.name}` passes with seed 1", "make the test independent of the seed")
        return report

    def _named(self, mistake: Mistake, report: Report) -> None:
        """Point 3, second half: the diagnosis names it and no other."""
        named = [item.mistake for item in self.engine.name(self.exercise, report.trials)]
        status = report.verdict.status
        if named == [mistake.name] or status is Status.RULE_BROKEN:
            self.named += 1
        elif not named and status not in ACCEPTED:
            self._say(f"mistake `{mistake.name}` is rejected but not named", "let a call show the wrong result")
        elif named:
            self._say(
                f"mistake `{mistake.name}` is named {', '.join(f'`{n}`' for n in named)}",
                "write a test that tells them apart, or make them one mistake",
            )

    def _teeth(self) -> None:
        """Point 4: every test is failed by something."""
        for name in self.tests:
            if name not in self.failed_by and not name.startswith("TestExamples"):
                self._say(f"no mistake fails {name}", "add the mistake that it catches, or remove the test")

    def _mutants(self) -> None:
        """The committed mutation score is true of some mutants, measured again."""
        known = record.current_score(self.exercise)
        for difference in mutate.sample(self.engine, self.exercise, known) if known else ():
            self._say(difference, f"run `grade dev mutate {self.exercise.slug}`")

    def _variants(self) -> int:
        """Point 5: correct answers in other styles pass."""
        files = list(self.exercise.styles.values())
        for file in files:
            text = file.read_text(encoding="utf-8")
            for seed in range(SEEDS):
                verdict = self._grade(text, seed=seed, stop=True, performance=seed < COUNTED_SEEDS).verdict
                if verdict.status is not Status.PASSED:
                    what = f"{file.name} is correct but does not pass with seed {seed}: {_first(verdict)}"
                    self._say(what, "mend the suite: right solutions pass")
                    break
        return len(files)


def _first(verdict: Verdict) -> str:
    """The first thing that went wrong, in a line or two."""
    for test in verdict.tests:
        if test.outcome is not Outcome.PASSED:
            return f"{test.name}: {' | '.join(test.message.splitlines()[:4])}"
    rules = [f"line {rule.line} breaks `{rule.rule}`" for rule in verdict.rules]
    return verdict.message.splitlines()[0] if verdict.message else "; ".join(rules) or str(verdict.status)
