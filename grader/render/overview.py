"""The dashboard and the lists as text. Layer 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from grader.catalog import Entry
from grader.progress import DAY, Standing
from grader.render.text import cut, faint, good, paragraph, plural, strong, warn

BAR = 16
STATE = 10  # columns for `passed` or `28 of 41`
Standings = Mapping[str, Standing]


@dataclass(frozen=True)
class TrackRow:
    track: str
    passed: int
    exercises: int


def tracks(entries: Sequence[Entry], standings: Standings) -> list[TrackRow]:
    """How many exercises of each track are passed."""
    rows = []
    for track in dict.fromkeys(entry.track for entry in entries):
        own = [entry for entry in entries if entry.track == track]
        rows.append(TrackRow(track, sum(_passed(entry, standings) for entry in own), len(own)))
    return rows


def begun(entries: Sequence[Entry], standings: Standings) -> list[Entry]:
    """The exercises that were tried and not passed, the latest first."""
    open_ = [entry for entry in entries if entry.path in standings and not _passed(entry, standings)]
    return sorted(open_, key=lambda entry: -standings[entry.path].last_at)


def dashboard(
    entries: Sequence[Entry],
    standings: Standings,
    due: Sequence[Entry],
    following: Entry | None,
    *,
    now: float,
    width: int,
) -> str:
    rows = tracks(entries, standings)
    total = sum(row.passed for row in rows)
    name_width = max((len(row.track) for row in rows), default=0)
    lines = [strong(f"{total} of {plural(len(entries), 'exercise')} passed"), ""]
    for row in rows:
        full = BAR * row.passed // row.exercises
        lines.append(
            f"  {row.track:<{name_width}}  {good('#' * full)}{'.' * (BAR - full)}  {row.passed} of {row.exercises}"
        )
    lines += _section("due again", [_due_line(entry, standings[entry.path], now) for entry in due[:3]], len(due), width)
    open_ = begun(entries, standings)
    lines += _section(
        "begun", [_begun_line(entry, standings[entry.path], now) for entry in open_[:3]], len(open_), width
    )
    lines += ["", *next_lines(following, width)]
    return "\n".join(lines) + "\n"


def _section(title: str, rows: Sequence[str], count: int, width: int) -> list[str]:
    if not rows:
        return []
    more = [f"  and {count - len(rows)} more"] if count > len(rows) else []
    return ["", strong(title), *("  " + cut(row, width - 2) for row in rows), *more]


def _due_line(entry: Entry, standing: Standing, now: float) -> str:
    then = now if standing.passed_at is None else standing.passed_at
    return f"{entry.slug}  passed {ago(then, now)}"


def _begun_line(entry: Entry, standing: Standing, now: float) -> str:
    points = f"{standing.best} of {standing.max_points} points, " if standing.max_points else ""  # it never loaded
    return f"{entry.slug}  {points}tried {ago(standing.last_at, now)}"


def ago(then: float, now: float) -> str:
    """A stretch of time in words; a clock that was set back counts as no time."""
    seconds = max(0.0, now - then)
    if seconds < 60:
        return "just now"
    for size, noun in ((DAY, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            return f"{plural(int(seconds // size), noun)} ago"
    return "just now"


def next_lines(entry: Entry | None, width: int) -> list[str]:
    """What to do next, and how."""
    if entry is None:
        return [good("every exercise is passed")]
    card = entry.card
    how = f"`grade show {entry.slug}`, write your answer into `{entry.stub_path}`, then `grade {entry.slug}`"
    lead = cut(f"{entry.slug}  {card.title} ({card.level}, {card.minutes} min)", width - 6)
    return [
        f"{strong('next')}  {lead}",
        faint(paragraph("", how, width, by=6)),
    ]


def listing(entries: Sequence[Entry], standings: Standings, width: int) -> str:
    """Every exercise with its level, minutes and standing, by track."""
    slug_width = max((len(entry.slug) for entry in entries), default=0)
    lines = []
    for row in tracks(entries, standings):
        lines += ["", strong(row.track) + f"  {row.passed} of {row.exercises} passed"]
        for entry in entries:
            if entry.track == row.track:
                lines.append(_listed(entry, standings.get(entry.path), slug_width, width, entry.card.title))
    return "\n".join(lines[1:]) + "\n"


def path(order: Sequence[Entry], standings: Standings, width: int) -> str:
    """Exercises in the order to solve them in, with the numbers of what each builds on, and the minutes left."""
    slug_width = max(len(entry.slug) for entry in order)
    numbers = {entry.slug: number for number, entry in enumerate(order, 1)}
    lines = []
    for number, entry in enumerate(order, 1):
        before = ", ".join(str(numbers[slug]) for slug in entry.card.after if slug in numbers)
        after = f"after {before}" if before else ""
        lines.append(f"{number:>3}" + _listed(entry, standings.get(entry.path), slug_width, width - 3, after))
    left = sum(entry.card.minutes for entry in order if not _passed(entry, standings))
    hours, minutes = divmod(left, 60)
    lines += ["", f"{f'{hours} h ' if hours else ''}{minutes} min left" if left else good("all passed")]
    return "\n".join(lines) + "\n"


def _listed(entry: Entry, standing: Standing | None, slug_width: int, width: int, words: str) -> str:
    """An exercise's line, with what fits of some words behind it."""
    card = entry.card
    word, colour = state(standing)
    fixed = f"  {entry.slug:<{slug_width}}  {card.level:<7}  {card.minutes:>2} min  "
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


def _passed(entry: Entry, standings: Standings) -> bool:
    return entry.path in standings and standings[entry.path].passed
