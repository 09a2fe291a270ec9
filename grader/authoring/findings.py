"""The gate over many exercises: what was found is kept, by the key of everything that it depends on.

What is kept is committed, so that a change to one exercise costs that exercise, here and elsewhere. Every commit
measures some of the others again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict

from grader import batch
from grader.authoring import keys, record
from grader.authoring.check import Finding, check
from grader.errors import Fault, GraderError
from grader.exercise import Exercise


def findings(
    chosen: list[Exercise], again: int | None, jobs: int, notify: Callable[[Finding, bool], None]
) -> Iterator[Finding]:
    """Check exercises in parallel: those whose finding is unknown, and so many of the others, as is their turn.

    `again=None` means all. `notify(finding, known)` hears of each as it is done.
    """
    waiting: dict[str, Exercise] = {}
    # before the measurement, during which files may change
    known_as = {exercise.path: _key(exercise) for exercise in chosen}
    due = {exercise.path for exercise in (chosen if again is None else turn(chosen, again))}
    for exercise in chosen:
        known = _known(exercise)
        if known and known[0] == known_as[exercise.path] and exercise.path not in due:
            notify(known[1], True)
            yield known[1]
        else:
            waiting[exercise.path] = exercise
    for exercise, finding in batch.run(check, waiting.values(), jobs):
        if isinstance(finding, GraderError):
            raise finding
        notify(finding, False)
        _keep(exercise, known_as[exercise.path], finding)
        yield finding


def turn(chosen: list[Exercise], count: int, commit: str | None = None) -> list[Exercise]:
    """So many exercises, others with every commit, so that one commit has one verdict."""
    return random.Random(commit or record.commit()).sample(chosen, min(count, len(chosen)))


def _key(exercise: Exercise) -> str:
    """Empty, which no finding has, where a file cannot be read: the check says which."""
    try:
        return keys.finding(exercise, record.score(exercise))
    except Fault:
        return ""


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
