"""The gate: six points that every exercise must pass, each complaint with what mends it."""

from __future__ import annotations

import graphlib
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from grader import catalog
from grader.authoring import coverage, mutate, record, sync
from grader.card import Level
from grader.curriculum import builds_on
from grader.engine import Engine
from grader.errors import Fault
from grader.exercise import Exercise
from grader.mistake import Mistake, plant
from grader.plugin import collect
from grader.remote.submission import Trial
from grader.verdict import Outcome, Status, Verdict

SEEDS = 20
COUNTED_SEEDS = 4  # of these with performance tests, for variants: what is counted hardly depends on the inputs
ACCEPTED = (Status.PASSED, Status.PARTIAL)
STYLES = 4  # different correct solutions, at least
CITED = re.compile(r"arXiv:\s*\d{4}\.\d{4,5}|\b(19|20)\d\d\b|LeetCode\s+\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what mends it."""

    exercise: str
    what: str
    mend: str


@dataclass(frozen=True)
class Finding:
    """What the gate measured on one exercise."""

    exercise: str
    tests: int
    mistakes: int
    named: int
    variants: int
    problems: tuple[Problem, ...]


def structure() -> list[Problem]:
    """Point 1: suites and solutions come in pairs, and derived files are as derived."""
    problems = []
    for exercise in catalog.exercises():
        if not exercise.solution.is_file():
            what, mend = "the suite has no solution", f"write {_relative(exercise.solution)}"
            problems.append(Problem(exercise.path, what, mend))
    suites = {exercise.solution for exercise in catalog.exercises()}
    for path in sorted((catalog.content() / "solutions").glob("*/*.py")):
        if path not in suites:
            name = f"{path.parent.name}/{path.stem}"
            problems.append(Problem(name, "the solution has no suite", f"write grader/suites/{name}/"))
    for path in sync.stale():
        problems.append(Problem("derived", f"{_relative(path)} is not what is derived", "grade dev sync"))
    for path in sync.orphans():
        problems.append(Problem("derived", f"{_relative(path)} has no solution", f"delete {_relative(path)}"))
    slugs = [exercise.slug for exercise in catalog.exercises()]
    for slug in sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        problems.append(Problem(slug, "two exercises have this slug", "rename one"))
    return problems


def check(exercise: Exercise) -> Finding:
    """Points 2 to 6 for one exercise."""
    with TemporaryDirectory() as folder, Engine() as engine:
        checks = _Check(exercise, engine, Path(folder))
        try:
            return checks.run()
        except Fault as error:
            return checks.broken(error)


class _Check:
    def __init__(self, exercise: Exercise, engine: Engine, folder: Path) -> None:
        self.exercise, self.engine, self.folder = exercise, engine, folder
        self.solution = exercise.text
        self.problems: list[Problem] = []
        self.failed_by: dict[str, str] = {}
        self.tests: list[str] = []
        self.named = 0

    def run(self) -> Finding:
        mistakes = self.exercise.mistakes
        self._card()
        if not self.exercise.parts:
            self._say("the solution has no part", "put code between ### BEGIN SOLUTION and ### END SOLUTION")
            return Finding(self.exercise.path, 0, len(mistakes), 0, 0, tuple(self.problems))
        self._solution()
        self._stub()
        planted = [(mistake, text) for mistake in mistakes if (text := self._plant(mistake)) is not None]
        graded = [(mistake, self._mistake(mistake, text), self.engine.failed) for mistake, text in planted]
        for mistake, verdict, trials in graded:  # by now the results of all mistakes are known
            self._named(mistake, verdict, trials)
        if len({mistake.name for mistake in mistakes}) < len(mistakes):
            self._say("two mistakes have one name", "rename one")
        for what, mend in coverage.complaints(self.exercise, self._grade, self.failed_by.setdefault):
            self._say(what, mend)
        self._teeth()
        self._mutants()
        variants = self._variants()
        return Finding(self.exercise.path, len(self.tests), len(mistakes), self.named, variants, tuple(self.problems))

    def broken(self, error: Exception) -> Finding:
        """What is found where the suite itself does not work."""
        self._say(str(error), f"mend {_relative(self.exercise.suite)}")
        return Finding(self.exercise.path, 0, 0, 0, 0, tuple(self.problems))

    def _say(self, what: str, mend: str) -> None:
        self.problems.append(Problem(self.exercise.path, what, mend))

    def _grade(self, text: str, **options: object) -> Verdict:
        file = self.folder / f"{self.exercise.slug}.py"
        file.write_text(text, encoding="utf-8")
        return self.engine.grade(self.exercise, file, **options)  # type: ignore[arg-type]

    def _card(self) -> None:
        """Point 6: the card and the statement say what they must."""
        card = self.exercise.card
        mend = f"mend the card in {_relative(self.exercise.suite)}"
        if card.level not in set(Level):
            self._say(f"no level {card.level!r}", mend)
        if len(card.hints) < 3:
            self._say(f"{len(card.hints)} hints; three at least", mend)
        lines = {line.strip() for line in self.solution.splitlines() if len(line.strip()) > 20}
        for number, hint in enumerate(card.hints, 1):
            if any(line in hint for line in lines):
                self._say(f"hint {number} holds a line of the solution", mend)
        if len(card.follow_ups) < 2 or not all(q.strip() and a.strip() for q, a in card.follow_ups):
            self._say("two follow-ups with answers at least", mend)
        for slug in card.after:
            if slug not in {exercise.slug for exercise in catalog.exercises()}:
                self._say(f"`after` names `{slug}`, which is no exercise", mend)
        try:
            graphlib.TopologicalSorter(builds_on([self.exercise], catalog.exercises())).prepare()
        except graphlib.CycleError as error:
            circle = ", ".join(exercise.slug for exercise in error.args[1])
            self._say(f"`after` leads around in a circle: {circle}", mend)
        for name, value in vars(collect.load(self.exercise)).items():
            if getattr(value, "__probe__", False) and not value.__doc__:
                self._say(f"probe `{name}` has no docstring", "say what it gives: it is shown under a failing call")
        if not CITED.search(self.exercise.statement):
            self._say("the statement cites no source", f"name authors and year in {_relative(self.exercise.solution)}")

    def _solution(self) -> None:
        """Point 2: the solution passes whatever the seed, on one thread and on two."""
        for seed in range(SEEDS):
            verdict = self._grade(self.solution, seed=seed, threads=1 + seed % 2)
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
        verdict = self._grade(self.exercise.stub_text)
        if verdict.status is not Status.NOT_STARTED:
            self._say(f"the stub is `{verdict.status}`, not `not_started`", "a stub's parts must all be stubs")

    def _plant(self, mistake: Mistake) -> str | None:
        """The solution with the mistake, if it can be planted."""
        try:
            text = plant(self.solution, mistake)
            compile(text, self.exercise.slug, "exec", dont_inherit=True)
        except ValueError as error:
            self._say(f"mistake {error}", "make its lines match the solution's exactly once")
            return None
        except SyntaxError as error:
            self._say(f"mistake `{mistake.name}` does not compile: {error}", "plant what a learner could write")
            return None
        return text

    def _mistake(self, mistake: Mistake, text: str) -> Verdict:
        """Point 3, first half: every mistake is rejected, whatever the seed."""
        verdict = self._grade(text, diagnose=False, remember=True)
        failed = [test for test in verdict.tests if test.outcome is Outcome.FAILED]
        for test in failed:
            self.failed_by.setdefault(test.name, mistake.name)
        if verdict.status in ACCEPTED:
            self._say(f"mistake `{mistake.name}` passes", "write the test that fails it")
            return verdict
        kept = self.engine.failed
        costs_only = all(test.category == "performance" for test in failed)
        again = dict(seed=1, diagnose=False, performance=costs_only, stop=True, first=tuple(t.name for t in failed))
        if self._grade(text, **again).status in ACCEPTED:
            self._say(f"mistake `{mistake.name}` passes with seed 1", "make the test independent of the seed")
        self.engine.failed = kept
        return verdict

    def _named(self, mistake: Mistake, verdict: Verdict, trials: list[Trial]) -> None:
        """Point 3, second half: the diagnosis names it and no other."""
        named = [item.mistake for item in self.engine.name(self.exercise, trials)]
        if named == [mistake.name] or verdict.status is Status.RULE_BROKEN:
            self.named += 1
        elif not named and verdict.status not in ACCEPTED:
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
        """The committed mutation score is of this suite, high enough, and true of the mutants measured again today."""
        again = f"run `grade dev mutate {self.exercise.slug}`"
        known = record.current_score(self.exercise)
        if known is None:
            self._say("the mutation score is of another suite or solution", again)
            return
        killed, survive = known["killed"], len(known["survivors"])
        if killed < mutate.AIM * (killed + survive):
            self._say(
                f"{survive} mutants survive, {killed} are killed", f"{again}; kill them or list them as equivalent"
            )
        for difference in mutate.sample(self.engine, self.exercise, known):
            self._say(difference, again)

    def _variants(self) -> int:
        """Point 5: correct answers in other styles pass."""
        files = list(self.exercise.styles.values())
        if len(files) < STYLES:
            self._say(
                f"{len(files)} other correct solutions; {STYLES} at least", f"write {_variant_pattern(self.exercise)}"
            )
        for file in files:
            text = file.read_text(encoding="utf-8")
            for seed in range(SEEDS):
                verdict = self._grade(text, seed=seed, stop=True, performance=seed < COUNTED_SEEDS)
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


def _variant_pattern(exercise: Exercise) -> str:
    return f"{_relative(exercise.folder)}/accepted/*.py"


def _relative(path: Path) -> str:
    return str(path.relative_to(catalog.content())) if path.is_relative_to(catalog.content()) else str(path)
