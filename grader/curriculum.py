"""In which order exercises are done: prerequisites, what is next, what is due again. Layer 3."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence

from grader.card import Level
from grader.exercise import Exercise
from grader.store import Standing

LEVELS = tuple(Level)


def next_exercise(
    exercises: Sequence[Exercise],
    passed: set[str],
    *,
    besides: Exercise | None = None,
    among: Sequence[Exercise] | None = None,
) -> Exercise | None:
    """The exercise to do next: not passed, everything it builds on passed, the easiest and shortest first.

    When every exercise left waits for another one, the easiest of them; None when all are passed.
    With `among` only these come into question; what they build on may lie elsewhere.
    """
    known = {exercise.slug: exercise.path for exercise in exercises}
    pool = exercises if among is None else among
    left = [exercise for exercise in pool if exercise.path not in passed and exercise != besides]
    ready = [e for e in left if all(known[slug] in passed for slug in e.card.after if slug in known)]
    return min(ready or left, key=_effort, default=None)


def _effort(exercise: Exercise) -> tuple[int, int, str]:
    return LEVELS.index(Level(exercise.card.level)), exercise.card.minutes, exercise.path


def builds_on(chosen: Sequence[Exercise], exercises: Sequence[Exercise]) -> dict[Exercise, list[Exercise]]:
    """The prerequisites of these exercises, of those, and so on."""
    known = {exercise.slug: exercise for exercise in exercises}
    graph: dict[Exercise, list[Exercise]] = {}
    waiting = list(chosen)
    while waiting:
        exercise = waiting.pop()
        graph[exercise] = [known[slug] for slug in exercise.card.after if slug in known]
        waiting += [other for other in graph[exercise] if other not in graph]
    return graph


def path_to(chosen: Sequence[Exercise], exercises: Sequence[Exercise]) -> list[Exercise]:
    """These exercises and all they build on, each after its prerequisites, otherwise the easiest and shortest first."""
    sorter = graphlib.TopologicalSorter(builds_on(chosen, exercises))
    sorter.prepare()
    order: list[Exercise] = []
    ready: set[Exercise] = set()
    while sorter.is_active():
        ready |= set(sorter.get_ready())
        order.append(min(ready, key=_effort))
        ready.remove(order[-1])
        sorter.done(order[-1])
    return order


def due_exercises(exercises: Sequence[Exercise], standings: Mapping[str, Standing], now: float) -> list[Exercise]:
    """The passed exercises to do again, the one that waited longest first."""
    due = [exercise for exercise in exercises if exercise.path in standings and standings[exercise.path].due(now)]
    return sorted(due, key=lambda exercise: standings[exercise.path].passed_at or 0.0)
