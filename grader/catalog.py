"""Finds the exercises and reads their cards as text. Layer 1.

Nothing is registered anywhere: an exercise is a file in `grader/suites/` with a file of the
same path in `solutions/`. Listing imports no suite, and so neither torch nor pytest.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from grader.errors import Fault, UnknownExercise
from grader.exercise import Exercise

PACKAGE = Path(__file__).resolve().parent
SUITES = PACKAGE / "suites"
PUZZLES = "leetcode"  # the track whose stubs lie at the top level


def content() -> Path:
    """The folder that holds `solutions`, `exercises` and `leetcode`: the clone, or the wheel's copy."""
    clone = PACKAGE.parent
    return clone if (clone / "solutions").is_dir() else PACKAGE / "content"


@dataclass(frozen=True)
class Entry:
    """One exercise: where its files are, and its card."""

    track: str
    slug: str

    @property
    def path(self) -> str:
        """`optimizers/adamw`, the name in verdicts."""
        return f"{self.track}/{self.slug}"

    @property
    def suite(self) -> Path:
        return SUITES / self.track / f"{self.slug}.py"

    @property
    def solution(self) -> Path:
        return content() / "solutions" / self.track / f"{self.slug}.py"

    @property
    def stub(self) -> Path:
        """The stub as it is handed out."""
        return content() / self.stub_path

    @property
    def stub_path(self) -> Path:
        """Where the learner's file lies, relative to a workspace."""
        folder = Path(PUZZLES) if self.track == PUZZLES else Path("exercises") / self.track
        return folder / f"{self.slug}.py"

    @cached_property
    def card(self) -> Exercise:
        return read_card(self.suite)


@cache
def entries() -> tuple[Entry, ...]:
    """Every exercise, by track and level, then by name."""
    found = [
        Entry(track.name, suite.stem)
        for track in sorted(SUITES.iterdir())
        if track.is_dir() and not track.name.startswith(("_", "."))
        for suite in sorted(track.glob("*.py"))
        if not suite.name.startswith(("_", "."))
    ]
    return tuple(found)


def tracks() -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.track for entry in entries()))


def find(name: str) -> Entry:
    """The exercise called `adamw`, `optimizers/adamw` or by the path of its stub.

    Raises UnknownExercise, which names the near ones.
    """
    plain = name.removesuffix(".py").rstrip("/")
    parts = Path(f"{plain}.py").parts
    for entry in entries():
        stub = entry.stub_path.parts
        if plain in (entry.slug, entry.path) or parts[-len(stub) :] == stub:
            return entry
    raise UnknownExercise(name, near(name))


def select(name: str) -> tuple[Entry, ...]:
    """The exercises that a name on the command line means: a slug, a track, or `all`."""
    if name == "all":
        return entries()
    track = tuple(entry for entry in entries() if entry.track == name.rstrip("/"))
    return track or (find(name),)


def near(name: str) -> list[str]:
    """The names closest to one that does not exist."""
    known = [entry.slug for entry in entries()] + list(tracks()) + ["all"]
    slug = name.removesuffix(".py").rsplit("/", 1)[-1].lower().replace("-", "_")
    inside = [k for k in known if len(slug) >= 3 and (slug in k or k in slug)]
    return list(dict.fromkeys(inside + difflib.get_close_matches(slug, known, n=3, cutoff=0.6)))[:3]


def read_card(suite: Path) -> Exercise:
    """The `EXERCISE` of a suite, read as text: its arguments are literals.

    Raises Fault when the suite has no readable card.
    """
    try:
        for node in _card_statements(suite.read_text(encoding="utf-8")):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "EXERCISE"
                and isinstance(node.value, ast.Call)
            ):
                return _checked(Exercise(**{str(k.arg): ast.literal_eval(k.value) for k in node.value.keywords}))
    except (OSError, SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise Fault(f"the card of {suite.name} cannot be read: {error}") from error
    raise Fault(f"{suite.name} has no `EXERCISE = Exercise(...)`")


def _checked(card: Exercise) -> Exercise:
    """The card, whose fields hold what they should. Raises TypeError: `hints=("one")` is no tuple, but a text."""
    texts = {name: getattr(card, name) for name in ("hints", "after", "forbid", "needs")}
    pairs = card.follow_ups if isinstance(card.follow_ups, tuple) else None
    kinds = {
        "title": isinstance(card.title, str),
        "level": isinstance(card.level, str),
        "minutes": type(card.minutes) is int,
        "timeout": type(card.timeout) in (int, float) and 0 < card.timeout < float("inf"),
        "follow_ups": pairs is not None and all(_are_texts(pair) and len(pair) == 2 for pair in pairs),
        **{name: _are_texts(value) for name, value in texts.items()},
    }
    if wrong := [name for name, fits in kinds.items() if not fits]:
        raise TypeError(f"`{wrong[0]}` is {getattr(card, wrong[0])!r:.60}")
    return card


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _card_statements(text: str) -> list[ast.stmt]:
    """The statements that hold the card: parsing these lines alone is forty times as fast as the whole suite."""
    start = text.find("\nEXERCISE = ") + 1
    end = text.find("\n)\n", start) + 2
    try:
        return ast.parse(text[start:end]).body if start > 0 and end > 1 else ast.parse(text).body
    except SyntaxError:
        return ast.parse(text).body
