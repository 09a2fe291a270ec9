"""The mutation score of a suite: which mechanical edits of the solution it rejects.

What was measured is committed in `tests/measured/`, with the
hashes of what it was measured on; `grade dev check` refuses a stale or a low score and measures a sample again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from grader import batch
from grader.authoring import record, score
from grader.authoring.mutants import Mutant, mutants
from grader.authoring.score import Killers, Score
from grader.engine import Engine
from grader.errors import GraderError, UsageError
from grader.exercise import Exercise
from grader.order import Order
from grader.plugin import collect
from grader.verdict import Cause, Outcome, Status

AIM = 0.97
CALL_LIMIT = 2.0  # seconds: a mutant that hangs is killed sooner than a learner's answer
BATCH = 12  # mutants that a worker takes at once
SAMPLE = 6  # mutants of an exercise that the gate measures again, others with every commit

Notify = Callable[[Exercise, int, int], None]  # an exercise, how many of its mutants are done, of how many


# --- running ---


class Killer:
    """Runs a suite on mutants of its solution, the tests that killed last first, and no further than a failure."""

    def __init__(self, engine: Engine, exercise: Exercise) -> None:
        verdict = engine.grade(Order(exercise, exercise.solution, diagnose=False)).verdict
        if verdict.status is not Status.PASSED:
            raise UsageError(f"the solution of {exercise.path} does not pass: mend that first")
        self.engine, self.exercise = engine, exercise
        self.order = [test.name for test in sorted(verdict.tests, key=lambda test: test.seconds)]

    def kill(self, text: str) -> str:
        """The test that rejects a text, or the status where no test did; "" for a survivor."""
        file, first = Path(f"{self.exercise.slug}.py"), tuple(self.order)
        order = Order(self.exercise, file, text, diagnose=False, stop=True, first=first, timeout=CALL_LIMIT)
        verdict = self.engine.grade(order).verdict
        ran = [test for test in verdict.tests if test.cause is not Cause.NOT_RUN]
        killer = next((test.name for test in ran if test.outcome is Outcome.FAILED), "")
        if killer:
            self.order.remove(killer)
            self.order.insert(0, killer)
        return killer or ("" if verdict.status is Status.PASSED else str(verdict.status))


@cache
def _killer(engine: Engine, exercise: Exercise) -> Killer:
    """One for each worker and exercise, which learns what kills."""
    return Killer(engine, exercise)


@dataclass(frozen=True)
class Batch:
    """Mutants that a worker takes at once."""

    exercise: Exercise
    mutants: tuple[Mutant, ...]


def _kill(engine: Engine, batch: Batch) -> Killers:
    killer = _killer(engine, batch.exercise)
    return {mutant.key: killer.kill(mutant.text) for mutant in batch.mutants}


def measure(
    chosen: list[Exercise], jobs: int, notify: Notify, cached: Path | None
) -> Iterator[tuple[Exercise, Killers]]:
    """What kills each mutant of each exercise, as the exercises are done."""
    kept = record.read(cached)
    found: dict[str, Killers] = {}
    batches: list[Batch] = []
    total: dict[str, int] = {}
    for exercise in chosen:
        known = kept.get(exercise.path, {})
        if known and record.same_mutants(known["hashes"], record.hashes(exercise)):
            notify(exercise, len(known["killers"]), len(known["killers"]))
            yield exercise, known["killers"]
            continue
        every = mutants(exercise.text)
        found[exercise.path], total[exercise.path] = {}, len(every)
        batches += [Batch(exercise, tuple(every[start : start + BATCH])) for start in range(0, len(every), BATCH)]
    for done, killers in batch.run(_kill, batches, jobs):
        if isinstance(killers, GraderError):
            raise killers
        name, mine = done.exercise.path, found[done.exercise.path]
        mine.update(killers)
        notify(done.exercise, len(mine), total[name])
        if len(mine) == total[name]:
            kept[name] = {"hashes": record.hashes(done.exercise), "killers": mine}
            record.write(cached, kept)
            yield done.exercise, mine


# --- what is committed ---


def judge(exercise: Exercise, killers: Killers) -> Score:
    return score.judge(exercise.path, exercise.text, mutants(exercise.text), exercise.equivalents, killers)


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
    killer = Killer(engine, exercise)
    return [
        f"a mutant in line {mutant.line(solution)} is {'' if killed else 'not '}killed now:\n{mutant.diff(solution)}"
        for mutant, killed in ((mutant, killer.kill(mutant.text)) for mutant in chosen)
        if bool(killed) == (mutant.key in alive)
    ]
