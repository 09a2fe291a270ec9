"""The mutation score of a suite: which mechanical edits of the solution it rejects.

Score = killed / (mutants - equivalent). What was measured is committed in `tests/measured/`, with the
hashes of what it was measured on; `grade dev check` refuses a stale or a low score and measures a sample again.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from grader.authoring import mutants as mutator
from grader.authoring import record
from grader.authoring.mutants import Mutant, mutants
from grader.engine import Engine
from grader.errors import UsageError
from grader.exercise import Exercise
from grader.mistake import edited
from grader.plugin import collect
from grader.verdict import Cause, Outcome, Status

AIM = 0.97
CALL_LIMIT = 2.0  # seconds: a mutant that hangs is killed sooner than a learner's answer
BATCH = 12  # mutants that a worker takes at once
SAMPLE = 6  # mutants of an exercise that the gate measures again, others with every commit

Killers = dict[str, str]  # a mutant's key -> the test that rejects it, or the status; "" for a survivor
Notify = Callable[[Exercise, int, int], None]  # an exercise, how many of its mutants are done, of how many


# --- running ---


class Killer:
    """Runs a suite on mutants of its solution, the tests that killed last first, and no further than a failure."""

    def __init__(self, engine: Engine, exercise: Exercise) -> None:
        verdict = engine.grade(exercise, exercise.solution, diagnose=False)
        if verdict.status is not Status.PASSED:
            raise UsageError(f"the solution of {exercise.path} does not pass: mend that first")
        self.engine, self.exercise = engine, exercise
        self.order = [test.name for test in sorted(verdict.tests, key=lambda test: test.seconds)]

    def kill(self, texts: list[str]) -> list[str]:
        """For each text the test that rejects it, or the status where no test did; "" for a survivor."""
        with tempfile.TemporaryDirectory(prefix="grade-mutate-") as folder:
            file = Path(folder) / f"{self.exercise.slug}.py"
            return [self._kill(file, text) for text in texts]

    def _kill(self, file: Path, text: str) -> str:
        file.write_text(text, encoding="utf-8")
        how: dict[str, Any] = dict(diagnose=False, stop=True, first=tuple(self.order), timeout=CALL_LIMIT)
        verdict = self.engine.grade(self.exercise, file, **how)
        ran = [test for test in verdict.tests if test.cause is not Cause.NOT_RUN]
        killer = next((test.name for test in ran if test.outcome is Outcome.FAILED), "")
        if killer:
            self.order.remove(killer)
            self.order.insert(0, killer)
        return killer or ("" if verdict.status is Status.PASSED else str(verdict.status))


@cache
def _engine() -> Engine:
    """One for each worker, for as long as it lives."""
    return Engine()


@cache
def _killer(exercise: Exercise) -> Killer:
    return Killer(_engine(), exercise)


def _work(exercise: Exercise, texts: list[str]) -> list[str]:
    return _killer(exercise).kill(texts)


def measure(
    chosen: list[Exercise], jobs: int, notify: Notify, cached: Path | None
) -> Iterator[tuple[Exercise, Killers]]:
    """What kills each mutant of each exercise, as the exercises are done."""
    kept = record.read(cached)
    found: dict[str, Killers] = {}
    batches: list[tuple[Exercise, list[Mutant]]] = []
    total = {}
    for exercise in chosen:
        known = kept.get(exercise.path, {})
        if known and record.same_mutants(known["hashes"], record.hashes(exercise)):
            notify(exercise, len(known["killers"]), len(known["killers"]))
            yield exercise, known["killers"]
            continue
        all_of_it = mutants(exercise.text)
        found[exercise.path], total[exercise.path] = {}, len(all_of_it)
        batches += [(exercise, all_of_it[start : start + BATCH]) for start in range(0, len(all_of_it), BATCH)]
    if not batches:
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures: dict[Future[list[str]], tuple[Exercise, list[Mutant]]] = {
            executor.submit(_work, exercise, [mutant.text for mutant in batch]): (exercise, batch)
            for exercise, batch in batches
        }
        for future in as_completed(futures):
            exercise, batch = futures[future]
            mine = found[exercise.path]
            mine.update(zip((mutant.key for mutant in batch), future.result(), strict=True))
            notify(exercise, len(mine), total[exercise.path])
            if len(mine) == total[exercise.path]:
                kept[exercise.path] = {"hashes": record.hashes(exercise), "killers": mine}
                record.write(cached, kept)
                yield exercise, mine


# --- judging ---


@dataclass(frozen=True)
class Score:
    """What came of the mutants of one exercise. `survivors` are those that `equivalent.diff` does not explain."""

    exercise: str
    killed: int
    equivalent: tuple[str, ...]  # keys
    survivors: tuple[Mutant, ...]
    stale: tuple[str, ...]  # what is wrong with the blocks of `equivalent.diff`

    @property
    def mutants(self) -> int:
        return self.killed + len(self.equivalent) + len(self.survivors)

    @property
    def score(self) -> float:
        return self.killed / max(1, self.killed + len(self.survivors))

    def plain(self, solution: str) -> dict[str, Any]:
        """As `grade dev mutate --json` prints it."""
        return {
            "exercise": self.exercise, "mutants": self.mutants, "killed": self.killed,
            "equivalent": len(self.equivalent), "score": round(self.score, 4),
            "survivors": [mutant.diff(solution) for mutant in self.survivors],
        }  # fmt: skip


def judge(exercise: Exercise, killers: Killers) -> Score:
    solution = exercise.text
    alive = {mutant.key: mutant for mutant in mutants(solution) if killers[mutant.key] == ""}
    explained, stale = [], []
    for edit in (edit for item in exercise.equivalents for edit in item.edits):
        try:
            key = mutator.key(edited(solution, edit))
        except ValueError as error:
            stale.append(str(error))
            continue
        if key not in alive:
            stale.append(f"an edit is no survivor:\n{edit.new.rstrip()}")
        explained.append(key)
    survivors = tuple(mutant for key, mutant in alive.items() if key not in explained)
    killed = sum(bool(killer) for killer in killers.values())
    return Score(exercise.path, killed, tuple(key for key in alive if key in explained), survivors, tuple(stale))


# --- what is committed ---


def commit(exercise: Exercise, found: Score) -> None:
    """Keep a score in the file that is committed."""
    tests = collect.collect(exercise).tests
    figures = {
        "hashes": record.hashes(exercise), "tests": len(tests), "mistakes": len(exercise.mistakes),
        "mutants": found.mutants,
        "killed": found.killed, "equivalent": list(found.equivalent),
        "survivors": [mutant.key for mutant in found.survivors],
    }  # fmt: skip
    record.keep(exercise, mutation=figures)


def sample(engine: Engine, exercise: Exercise, known: dict[str, Any]) -> list[str]:
    """Measure some mutants again, others with every commit: what differs from what was measured."""
    drawn = random.Random(f"{exercise.path} {record.commit()}")
    solution = exercise.text
    population = mutants(solution)
    chosen = drawn.sample(population, min(SAMPLE, len(population)))
    alive = {*known["equivalent"], *known["survivors"]}
    killers = Killer(engine, exercise).kill([mutant.text for mutant in chosen])
    return [
        f"a mutant in line {mutant.line(solution)} is {'' if killer else 'not '}killed now:\n{mutant.diff(solution)}"
        for mutant, killer in zip(chosen, killers, strict=True)
        if bool(killer) == (mutant.key in alive)
    ]
