"""The gate over many exercises: what was found is kept, by the content of everything that it depends on.

What is kept is committed, so that a change to one exercise costs that exercise, here and elsewhere; it is measured
again in turn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from grader import batch, catalog, source
from grader.authoring import record
from grader.authoring.check import Finding, check
from grader.errors import GraderError
from grader.exercise import Exercise

APART = {"suites", "cli", "render"}  # the folders that no finding depends on


def fingerprint(exercise: Exercise) -> str:
    """What a finding depends on: the exercise's own files, its mutation score and the whole engine."""
    own = [file for file in exercise.folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    own = [exercise.solution, *sorted(own)]
    inside = {path: path.relative_to(catalog.PACKAGE).parts for path in catalog.PACKAGE.rglob("*.py")}
    engine = sorted(path for path, parts in inside.items() if not APART & set(parts))
    score = json.dumps(record.score(exercise))
    return source.fingerprint(score, *(path.read_text(encoding="utf-8") for path in [*own, *engine]))


def findings(
    chosen: list[Exercise], again: int | None, jobs: int, notify: Callable[[Finding, bool], None]
) -> Iterator[Finding]:
    """Check exercises in parallel: those whose finding is unknown, and so many of the others, as is their turn today.

    `again=None` means all. `notify(finding, known)` hears of each as it is done.
    """
    waiting: dict[str, Exercise] = {}
    # before the measurement, during which files may change
    keys = {exercise.path: fingerprint(exercise) for exercise in chosen}
    due = {exercise.path for exercise in (chosen if again is None else turn(chosen, again))}
    for exercise in chosen:
        known = _known(exercise)
        if known and known[0] == keys[exercise.path] and exercise.path not in due:
            notify(known[1], True)
            yield known[1]
        else:
            waiting[exercise.path] = exercise
    for exercise, finding in batch.run(check, waiting.values(), jobs):
        if isinstance(finding, GraderError):
            raise finding
        notify(finding, False)
        _keep(exercise, keys[exercise.path], finding)
        yield finding


def turn(chosen: list[Exercise], count: int, day: int | None = None) -> list[Exercise]:
    """So many exercises, others every day until it was everyone's turn."""
    day = int(time.time() // 86400) if day is None else day
    order = sorted(chosen, key=lambda exercise: source.fingerprint(exercise.path))
    return [order[(day * count + i) % len(order)] for i in range(min(count, len(order)))]


def _known(exercise: Exercise) -> tuple[str, Finding] | None:
    """The finding without a problem that is committed, with the key of what it depended on."""
    try:
        figures = dict(record.finding(exercise) or {})
        return figures.pop("key"), Finding(exercise=exercise.path, problems=(), **figures)
    except (KeyError, ValueError, TypeError):
        return None


def _keep(exercise: Exercise, key: str, finding: Finding) -> None:
    figures = asdict(finding)
    del figures["exercise"], figures["problems"]
    record.keep(exercise, finding=None if finding.problems else {"key": key, **figures})
