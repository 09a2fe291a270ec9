"""Several mistakes at once, as an interviewer plants them: rejected, and named one and all, so that they can be counted."""

from __future__ import annotations

import itertools
import random

import pytest

from grader import catalog
from grader.mistake import plant
from grader.verdict import Status

pytestmark = pytest.mark.slow

HUNTED = [exercise.slug for exercise in catalog.exercises() if exercise.card.composes]
ROUNDS = 6


def parts(slug):
    """The solution, and the mistakes that may be planted together."""
    exercise = catalog.find(slug)
    return exercise.text, [mistake for mistake in exercise.mistakes if not mistake.alone]


def drawn(slug, number):
    """Three or four mistakes, the same in every run."""
    rng = random.Random(f"{slug} {number}")
    return rng.sample(parts(slug)[1], 3 + number % 2)


def named(verdict):
    return sorted(found.mistake for found in verdict.diagnosis)


@pytest.mark.parametrize("slug", HUNTED)
def test_edits_of_two_mistakes_never_meet(slug):
    solution, mistakes = parts(slug)
    for pair in itertools.combinations(mistakes, 2):
        plant(solution, *pair)  # raises ValueError where they do


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("slug", HUNTED)
def test_every_planted_mistake_is_named(slug, number, grade):
    solution, _ = parts(slug)
    planted = drawn(slug, number)
    verdict = grade(slug, plant(solution, *planted))
    assert verdict.status is Status.FAILED
    assert named(verdict) == sorted(mistake.name for mistake in planted)
    for found in verdict.diagnosis:
        assert 0 < found.explains <= found.together <= found.of


def test_one_fewer_when_one_is_mended(grade):
    """What a hunter sees after each find: the count goes down to one, and then the answer passes."""
    solution, _ = parts("gpt")
    left = drawn("gpt", 1)
    while left := left[1:]:
        assert named(grade("gpt", plant(solution, *left))) == sorted(mistake.name for mistake in left)


def test_a_stranger_among_them(grade):
    """A mistake that is not in the catalogue neither hides the others nor gets a name of theirs."""
    solution, mistakes = parts("gpt")
    known = [mistake for mistake in mistakes if mistake.name in ("scale-missing", "temperature-multiplied")]
    text = plant(solution, *known).replace("ignore_index: int = -100", "ignore_index: int = 1")
    verdict = grade("gpt", text)
    assert named(verdict) == ["scale-missing", "temperature-multiplied"]
    assert [found.explains < found.of for found in verdict.diagnosis] == [True, True]
