"""The dashboard and the lists as text. Layer 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from grader.exercise import Exercise
from grader.render.text import cut, faint, good, paragraph, plural, strong, warn
from grader.store import DAY, Standing

BAR = 16
STATE = 10  # columns for `passed` or `28 of 41`
Standings = Mapping[str, Standing]


@dataclass(frozen=True)
class TrackRow:
    track: str
    passed: int
    exercises: int


def tracks(exercises: Sequence[Exercise], standings: Standings) -> list[TrackRow]:
    """How many exercises of each track are passed."""
    rows = []
    for track in dict.fromkeys(exercise.track for exercise in exercises):
        own = [exercise for exercise in exercises if exercise.track == track]
        rows.append(TrackRow(track, sum(_passed(exercise, standings) for exercise in own), len(own)))
    return rows


def begun(exercises: Sequence[Exercise], standings: Standings) -> list[Exercise]:
    """The exercises that were tried and not passed, the latest first."""
    open_ = [exercise for exercise in exercises if exercise.path in standings and not _passed(exercise, standings)]
    return sorted(open_, key=lambda exercise: -standings[exercise.path].last_at)


def dashboard(
    exercises: Sequence[Exercise],
    standings: Standings,
    due: Sequence[Exercise],
    following: Exercise | None,
    *,
    now: float,
    width: int,
) -> str:
    rows = tracks(exercises, standings)
    total = sum(row.passed for row in rows)
    name_width = max((len(row.track) for row in rows), default=0)
    lines = [strong(f"{total} of {plural(len(exercises), 'exercise')} passed"), ""]
    for row in rows:
        full = BAR * row.passed // row.exercises
        lines.append(
            f"  {row.track:<{name_width}}  {good('#' * full)}{'.' * (BAR - full)}  {row.passed} of {row.exercises}"
        )
    again = [_due_line(exercise, standings[exercise.path], now) for exercise in due[:3]]
    lines += _section("due again", again, len(due), width)
    open_ = begun(exercises, standings)
    lines += _section(
        "begun", [_begun_line(exercise, standings[exercise.path], now) for exercise in open_[:3]], len(open_), width
    )
    lines += ["", *next_lines(following, width)]
    return "\n".join(lines) + "\n"


def _section(title: str, rows: Sequence[str], count: int, width: int) -> list[str]:
    if not rows:
        return []
    more = [f"  and {count - len(rows)} more"] if count > len(rows) else []
    return ["", strong(title), *("  " + cut(row, width - 2) for row in rows), *more]


def _due_line(exercise: Exercise, standing: Standing, now: float) -> str:
    then = now if standing.passed_at is None else standing.passed_at
    return f"{exercise.slug}  passed {ago(then, now)}"


def _begun_line(exercise: Exercise, standing: Standing, now: float) -> str:
    points = f"{standing.best} of {standing.max_points} points, " if standing.max_points else ""  # it never loaded
    return f"{exercise.slug}  {points}tried {ago(standing.last_at, now)}"


def ago(then: float, now: float) -> str:
    """A stretch of time in words; a clock that was set back counts as no time."""
    seconds = max(0.0, now - then)
    if seconds < 60:
        return "just now"
    for size, noun in ((DAY, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            return f"{plural(int(seconds // size), noun)} ago"
    return "just now"


def next_lines(exercise: Exercise | None, width: int) -> list[str]:
    """What to do next, and how."""
    if exercise is None:
        return [good("every exercise is passed")]
    card = exercise.card
    how = f"`grade show {exercise.slug}`, write your answer into `{exercise.stub_path}`, then `grade {exercise.slug}`"
    lead = cut(f"{exercise.slug}  {card.title} ({card.level}, {card.minutes} min)", width - 6)
    return [
        f"{strong('next')}  {lead}",
        faint(paragraph("", how, width, by=6)),
    ]


def listing(exercises: Sequence[Exercise], standings: Standings, width: int) -> str:
    """Every exercise with its level, minutes and standing, by track."""
    slug_width = max((len(exercise.slug) for exercise in exercises), default=0)
    lines = []
    for row in tracks(exercises, standings):
        lines += ["", strong(row.track) + f"  {row.passed} of {row.exercises} passed"]
        for exercise in exercises:
            if exercise.track == row.track:
                lines.append(_listed(exercise, standings.get(exercise.path), slug_width, width, exercise.card.title))
    return "\n".join(lines[1:]) + "\n"


def path(order: Sequence[Exercise], standings: Standings, width: int) -> str:
    """Exercises in the order to solve them in, with the numbers of what each builds on, and the minutes left."""
    slug_width = max(len(exercise.slug) for exercise in order)
    numbers = {exercise.slug: number for number, exercise in enumerate(order, 1)}
    lines = []
    for number, exercise in enumerate(order, 1):
        before = ", ".join(str(numbers[slug]) for slug in exercise.card.after if slug in numbers)
        after = f"after {before}" if before else ""
        lines.append(f"{number:>3}" + _listed(exercise, standings.get(exercise.path), slug_width, width - 3, after))
    left = sum(exercise.card.minutes for exercise in order if not _passed(exercise, standings))
    hours, minutes = divmod(left, 60)
    lines += ["", f"{f'{hours} h ' if hours else ''}{minutes} min left" if left else good("all passed")]
    return "\n".join(lines) + "\n"


def _listed(exercise: Exercise, standing: Standing | None, slug_width: int, width: int, words: str) -> str:
    """An exercise's line, with what fits of some words behind it."""
    card = exercise.card
    word, colour = state(standing)
    fixed = f"  {exercise.slug:<{slug_width}}  {card.level:<7}  {card.minutes:>2} min  "
    room = width - len(fixed) - STATE - 2
    behind = cut(words, room) if room > 8 else ""
    return (fixed + colour(word) + " " * max(2, STATE + 2 - len(word)) + behind).rstrip()


def state(standing: Standing | None) -> tuple[str, Callable[[str], str]]:
    """Where an exercise stands, in words and their colour."""
    if standing is None:
        return "-", str
    if standing.passed:
        return "passed", good
    return (f"{standing.best} of {standing.max_points}" if standing.max_points else "tried"), warn


def _passed(exercise: Exercise, standings: Standings) -> bool:
    return exercise.path in standings and standings[exercise.path].passed
