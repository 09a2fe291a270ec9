"""In which order exercises are done."""

from __future__ import annotations

import graphlib
from pathlib import Path

import pytest

from grader.card import Card
from grader.curriculum import builds_on, due_exercises, next_exercise, path_to
from grader.exercise import Exercise
from grader.store import DAY, Standing
from grader.verdict import Status


def exercise(slug, level="core", minutes=20, after=(), track="maths"):
    made = Exercise(track, slug, Path(), Path())
    made.__dict__["card"] = Card(title=slug, level=level, minutes=minutes, hints=(), follow_ups=(), after=after)
    return made


SUM = exercise("sum", "warm-up", 30)
MEAN = exercise("mean", "core", 10, ("sum",))
SPREAD = exercise("spread", "core", 20, ("mean", "sum"))
ROOT = exercise("root", "core", 20)
LIMIT = exercise("limit", "stretch", 5, ("elsewhere",))
ALL = (LIMIT, SPREAD, MEAN, ROOT, SUM)


def path(*exercises):
    return {exercise.path for exercise in exercises}


NEXT = {
    "the easiest before the shortest": ((), {}, SUM),
    "what is passed makes others ready": ((SUM,), {}, MEAN),
    "of one level the shortest": ((SUM, MEAN), {}, ROOT),  # by name, as both take as long
    "one prerequisite is not enough": ((MEAN,), {"among": (SPREAD, LIMIT)}, LIMIT),
    "all of them are": ((SUM, MEAN), {"among": (SPREAD, LIMIT)}, SPREAD),
    "an unknown prerequisite is none": ((SUM, MEAN, SPREAD, ROOT), {}, LIMIT),
    "not the one just done": ((), {"besides": SUM}, ROOT),
    "waiting ones when no other is left": ((), {"among": (SPREAD, MEAN)}, MEAN),
    "nothing is left": (ALL, {}, None),
    "nothing comes into question": ((), {"among": ()}, None),
}


@pytest.mark.parametrize("case", NEXT)
def test_what_is_next(case):
    passed, options, expected = NEXT[case]
    assert next_exercise(ALL, path(*passed), **options) == expected


def test_tracks_are_told_apart():
    """Passed is a path, and prerequisites are slugs."""
    other = exercise("sum", track="others")
    assert next_exercise((other, MEAN), path(SUM)) == other
    assert next_exercise((SUM, MEAN), path(SUM)) == MEAN


@pytest.mark.parametrize("level", ["warm-up", "core", "stretch"])
def test_by_name_where_all_else_is_alike(level):
    first, second = exercise("a", level), exercise("b", level)
    assert next_exercise((second, first), set()) == first


def test_what_an_exercise_builds_on():
    assert builds_on([SPREAD], ALL) == {SPREAD: [MEAN, SUM], MEAN: [SUM], SUM: []}
    assert builds_on([LIMIT, ROOT], ALL) == {LIMIT: [], ROOT: []}
    assert builds_on([], ALL) == {}


def test_a_circle_is_found():
    one, other = exercise("one", after=("other",)), exercise("other", after=("one",))
    assert builds_on([one], (one, other)) == {one: [other], other: [one]}
    with pytest.raises(graphlib.CycleError):
        path_to([one], (one, other))


def test_the_path_to_an_exercise():
    assert path_to([SPREAD], ALL) == [SUM, MEAN, SPREAD]
    assert path_to([SPREAD, ROOT, LIMIT], ALL) == [SUM, MEAN, ROOT, SPREAD, LIMIT]
    assert path_to([], ALL) == []


def standing(passed_at, days=1):
    return Standing(1, 1, 1, Status.PASSED, 99.0, passed_at, days)


def test_what_is_due_again():
    standings = {
        SUM.path: standing(2 * DAY),
        MEAN.path: standing(1 * DAY),
        ROOT.path: standing(1 * DAY, days=2),  # passed on two days: it waits for a week
        SPREAD.path: standing(None),
    }
    assert due_exercises(ALL, standings, 4 * DAY - 1) == []
    assert due_exercises(ALL, standings, 4 * DAY) == [MEAN]
    assert due_exercises(ALL, standings, 5 * DAY) == [MEAN, SUM]
    assert due_exercises(ALL, standings, 8 * DAY) == [MEAN, ROOT, SUM]  # the one that waited longest first
    assert due_exercises((SUM,), standings, 8 * DAY) == [SUM]


def test_something_passed_when_time_began_waited_longest():
    standings = {SUM.path: standing(0.0), ROOT.path: standing(-1.0), MEAN.path: standing(0.5)}
    assert due_exercises(ALL, standings, 9 * DAY) == [ROOT, SUM, MEAN]
