"""`grade hint SLUG`: one hint at a time."""

from __future__ import annotations

import click

from grader.catalog import Entry
from grader.cli.session import ExerciseName, Session, json_option
from grader.errors import UsageError
from grader.progress import ProgressUnavailable
from grader.render.text import paragraph


@click.command()
@click.argument("entry", type=ExerciseName(), metavar="SLUG")
@click.argument("number", type=click.IntRange(1), required=False)
@click.option("--all", "everything", is_flag=True, help="see every hint again that you took")
@json_option
def hint(entry: Entry, number: int | None, everything: bool, as_json: bool) -> None:
    """Give the next hint and remember that you took it; with NUMBER, see one again."""
    session = Session.anywhere()
    if everything:
        known = len(entry.card.hints)  # there may have been more when they were taken
        numbers = sorted(n for n in taken(entry, session) or () if n <= known)
        if not numbers:
            raise UsageError(
                f"you took no hint for `{entry.slug}` yet\n\nhint: `grade hint {entry.slug}` gives the first"
            )
    else:
        numbers = [choose(entry, number, session)]
    if as_json:
        found = [_json(entry, n) for n in numbers]
        session.screen.json(found if everything else found[0])
        return
    for n in numbers:
        session.screen.result(text(entry, n, session.screen.width))


def choose(entry: Entry, number: int | None, session: Session) -> int:
    """The number of the hint to give, kept as taken. Raises UsageError for one that is not due yet."""
    most, seen = len(entry.card.hints), taken(entry, session)
    following = min(max(seen or (), default=0) + 1, most)
    if number is None:
        if seen and max(seen) >= most:
            session.screen.note(f"that was the last of {most} hints; `grade hint {entry.slug} --all` shows them all")
        number = following
    if number > most:
        raise UsageError(f"`{entry.slug}` has {most} hints, not {number}")
    if seen is not None and number > following:  # where nothing is remembered, every number goes
        raise UsageError(f"hint {number} comes later\n\nhint: `grade hint {entry.slug}` gives hint {following}")
    given = number
    session.keep(lambda store: store.take_hint(entry.path, given))
    return number


def taken(entry: Entry, session: Session) -> set[int] | None:
    """The hints that were taken, or None where nothing can be remembered."""
    if session.store is None:
        return None
    try:
        return set(session.store.hints(entry.path))
    except ProgressUnavailable as error:
        session.complain(error)
        return None


def text(entry: Entry, number: int, width: int) -> str:
    return paragraph(f"hint {number} of {len(entry.card.hints)}: ", entry.card.hints[number - 1], width)


def _json(entry: Entry, number: int) -> dict[str, object]:
    hints = entry.card.hints
    return {"exercise": entry.path, "number": number, "of": len(hints), "text": hints[number - 1]}
