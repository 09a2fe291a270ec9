"""Finds the exercises. Layer 1.

Nothing is registered anywhere: an exercise is a folder in `grader/suites/TRACK/` with a card, and a file of its name
in `solutions/TRACK/`. Listing imports no suite, and so neither torch nor pytest.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from grader.errors import UnknownExercise
from grader.exercise import Exercise

PACKAGE = Path(__file__).resolve().parent
SUITES = PACKAGE / "suites"


def content() -> Path:
    """The folder that holds `solutions`, `exercises` and `leetcode`: the clone, or the wheel's copy."""
    clone = PACKAGE.parent
    return clone if (clone / "solutions").is_dir() else PACKAGE / "content"


@cache
def exercises() -> tuple[Exercise, ...]:
    """Every exercise, by track, then by name."""
    cards = sorted(SUITES.glob("*/*/card.toml"))
    folders = [card.parent for card in cards if not card.parent.name.startswith(("_", "."))]
    return tuple(Exercise(folder.parent.name, folder.name, SUITES, content()) for folder in folders)


def tracks() -> tuple[str, ...]:
    return tuple(dict.fromkeys(exercise.track for exercise in exercises()))


def find(name: str) -> Exercise:
    """The exercise called `adamw`, `optimizers/adamw` or by the path of its stub.

    Raises UnknownExercise, which names the near ones.
    """
    plain = name.removesuffix(".py").rstrip("/")
    parts = Path(f"{plain}.py").parts
    for exercise in exercises():
        stub = exercise.stub_path.parts
        if plain in (exercise.slug, exercise.path) or parts[-len(stub) :] == stub:
            return exercise
    raise UnknownExercise(name, near(name))


def select(name: str) -> tuple[Exercise, ...]:
    """The exercises that a name on the command line means: a slug, a track, or `all`."""
    if name == "all":
        return exercises()
    track = tuple(exercise for exercise in exercises() if exercise.track == name.rstrip("/"))
    return track or (find(name),)


def near(name: str) -> list[str]:
    """The names closest to one that does not exist."""
    known = [exercise.slug for exercise in exercises()] + list(tracks()) + ["all"]
    slug = name.removesuffix(".py").rsplit("/", 1)[-1].lower().replace("-", "_")
    inside = [k for k in known if len(slug) >= 3 and (slug in k or k in slug)]
    return list(dict.fromkeys(inside + difflib.get_close_matches(slug, known, n=3, cutoff=0.6)))[:3]
