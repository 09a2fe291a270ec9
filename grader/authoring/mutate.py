"""The mutation score of a suite: which mechanical edits of the solution it rejects.

Score = killed / (mutants - equivalent). What was measured is committed in `tests/mutation.json`, with the
hashes of what it was measured on; `grade dev check` refuses a stale or a low score and measures a sample again.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from grader import source
from grader.authoring import mutants as mutator
from grader.authoring import record
from grader.authoring.mutants import Mutant, mutants
from grader.catalog import Entry
from grader.engine import Engine
from grader.errors import UsageError
from grader.plugin import collect, examples
from grader.verdict import Cause, Outcome, Status

AIM = 0.97
CALL_LIMIT = 2.0  # seconds: a mutant that hangs is killed sooner than a learner's answer
BATCH = 12  # mutants that a worker takes at once
SAMPLE = 6  # mutants of an exercise that the gate measures again, others every day

Killers = dict[str, str]  # a mutant's key -> the test that rejects it, or the status; "" for a survivor
Notify = Callable[[Entry, int, int], None]  # an exercise, how many of its mutants are done, of how many


# --- running ---


class Killer:
    """Runs a suite on mutants of its solution, the tests that killed last first, and no further than a failure."""

    def __init__(self, engine: Engine, entry: Entry) -> None:
        verdict = engine.grade(entry, entry.solution, diagnose=False)
        if verdict.status is not Status.PASSED:
            raise UsageError(f"the solution of {entry.path} does not pass: mend that first")
        self.engine, self.entry = engine, entry
        self.order = [test.name for test in sorted(verdict.tests, key=lambda test: test.seconds)]

    def kill(self, texts: list[str]) -> list[str]:
        """For each text the test that rejects it, or the status where no test did; "" for a survivor."""
        with tempfile.TemporaryDirectory(prefix="grade-mutate-") as folder:
            file = Path(folder) / f"{self.entry.slug}.py"
            return [self._kill(file, text) for text in texts]

    def _kill(self, file: Path, text: str) -> str:
        file.write_text(text, encoding="utf-8")
        how: dict[str, Any] = dict(diagnose=False, stop=True, first=tuple(self.order), timeout=CALL_LIMIT)
        verdict = self.engine.grade(self.entry, file, **how)
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
def _killer(entry: Entry) -> Killer:
    return Killer(_engine(), entry)


def _work(entry: Entry, texts: list[str]) -> list[str]:
    return _killer(entry).kill(texts)


def measure(chosen: list[Entry], jobs: int, notify: Notify, cached: Path | None) -> Iterator[tuple[Entry, Killers]]:
    """What kills each mutant of each exercise, as the exercises are done."""
    kept = record.read(cached)
    found: dict[str, Killers] = {}
    batches: list[tuple[Entry, list[Mutant]]] = []
    total = {}
    for entry in chosen:
        known = kept.get(entry.path, {})
        if known.get("hashes") == record.hashes(entry):
            notify(entry, len(known["killers"]), len(known["killers"]))
            yield entry, known["killers"]
            continue
        all_of_it = mutants(_solution(entry))
        found[entry.path], total[entry.path] = {}, len(all_of_it)
        batches += [(entry, all_of_it[start : start + BATCH]) for start in range(0, len(all_of_it), BATCH)]
    if not batches:
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures: dict[Future[list[str]], tuple[Entry, list[Mutant]]] = {
            executor.submit(_work, entry, [mutant.text for mutant in batch]): (entry, batch) for entry, batch in batches
        }
        for future in as_completed(futures):
            entry, batch = futures[future]
            mine = found[entry.path]
            mine.update(zip((mutant.key for mutant in batch), future.result(), strict=True))
            notify(entry, len(mine), total[entry.path])
            if len(mine) == total[entry.path]:
                kept[entry.path] = {"hashes": record.hashes(entry), "killers": mine}
                record.write(cached, kept)
                yield entry, mine


# --- judging ---


@dataclass(frozen=True)
class Score:
    """What came of the mutants of one exercise. `survivors` are those that EQUIVALENT does not explain."""

    exercise: str
    killed: int
    equivalent: tuple[str, ...]  # keys
    survivors: tuple[Mutant, ...]
    stale: tuple[str, ...]  # what is wrong with the entries of EQUIVALENT

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


def judge(entry: Entry, killers: Killers) -> Score:
    solution = _solution(entry)
    alive = {mutant.key: mutant for mutant in mutants(solution) if killers[mutant.key] == ""}
    explained, stale = [], []
    for old, new in equivalents(entry):
        try:
            key = mutator.key(source.edited(solution, old, new, "EQUIVALENT"))
        except ValueError as error:
            stale.append(str(error))
            continue
        if key not in alive:
            stale.append(f"EQUIVALENT lists an edit that is no survivor: {new.strip()!r}")
        explained.append(key)
    survivors = tuple(mutant for key, mutant in alive.items() if key not in explained)
    killed = sum(bool(killer) for killer in killers.values())
    return Score(entry.path, killed, tuple(key for key in alive if key in explained), survivors, tuple(stale))


def equivalents(entry: Entry) -> Iterator[tuple[str, str]]:
    """The (old, new) edits that the suite lists as equivalent."""
    for item in getattr(collect.load(entry), "EQUIVALENT", []):
        for old, news in item.edits.items():
            yield from ((old, new) for new in ([news] if isinstance(news, str) else news))


# --- what is committed ---


def commit(entry: Entry, found: Score) -> None:
    """Keep a score in the file that is committed."""
    tests = collect.collect(entry, examples.collect(_solution(entry))).tests
    figures = {
        "tests": len(tests), "mistakes": len(collect.load(entry).MISTAKES), "mutants": found.mutants,
        "killed": found.killed, "equivalent": list(found.equivalent),
        "survivors": [mutant.key for mutant in found.survivors],
    }  # fmt: skip
    record.keep(entry, figures)


def sample(engine: Engine, entry: Entry, known: dict[str, Any], day: int | None = None) -> list[str]:
    """Measure some mutants again, every day others: what differs from what is committed."""
    drawn = random.Random(f"{entry.path} {int(time.time() // 86400) if day is None else day}")
    solution = _solution(entry)
    population = mutants(solution)
    chosen = drawn.sample(population, min(SAMPLE, len(population)))
    alive = {*known["equivalent"], *known["survivors"]}
    killers = Killer(engine, entry).kill([mutant.text for mutant in chosen])
    return [
        f"a mutant in line {mutant.line(solution)} is {'' if killer else 'not '}killed now:\n{mutant.diff(solution)}"
        for mutant, killer in zip(chosen, killers, strict=True)
        if bool(killer) == (mutant.key in alive)
    ]


def _solution(entry: Entry) -> str:
    return entry.solution.read_text(encoding="utf-8")
