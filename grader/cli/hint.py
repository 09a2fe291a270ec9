"""`grade hint SLUG`: one hint at a time."""

from __future__ import annotations

import click

from grader.cli.session import ExerciseName, Session, json_option
from grader.errors import UsageError
from grader.exercise import Exercise
from grader.render.text import paragraph
from grader.store import StoreUnavailable


@click.command()
@click.argument("exercise", type=ExerciseName(), metavar="SLUG")
@click.argument("number", type=click.IntRange(1), required=False)
@click.option("--all", "everything", is_flag=True, help="see every hint again that you took")
@json_option
def hint(exercise: Exercise, number: int | None, everything: bool, as_json: bool) -> None:
    """Give the next hint and remember that you took it; with NUMBER, see one again."""
    session = Session.anywhere()
    if everything:
        known = len(exercise.card.hints)  # there may have been more when they were taken
        numbers = sorted(n for n in taken(exercise, session) or () if n <= known)
        if not numbers:
            raise UsageError(
                f"you took no hint for `{exercise.slug}` yet\n\nhint: `grade hint {exercise.slug}` gives the first"
            )
    else:
        numbers = [choose(exercise, number, session)]
    if as_json:
        found = [_json(exercise, n) for n in numbers]
        session.screen.json(found if everything else found[0])
        return
    for n in numbers:
        session.screen.result(text(exercise, n, session.screen.width))


def choose(exercise: Exercise, number: int | None, session: Session) -> int:
    """The number of the hint to give, kept as taken. Raises UsageError for one that is not due yet."""
    most, seen = len(exercise.card.hints), taken(exercise, session)
    following = min(max(seen or (), default=0) + 1, most)
    if number is None:
        if seen and max(seen) >= most:
            session.screen.note(f"that was the last of {most} hints; `grade hint {exercise.slug} --all` shows them all")
        number = following
    if number > most:
        raise UsageError(f"`{exercise.slug}` has {most} hints, not {number}")
    if seen is not None and number > following:  # where nothing is remembered, every number goes
        raise UsageError(f"hint {number} comes later\n\nhint: `grade hint {exercise.slug}` gives hint {following}")
    given = number
    session.keep(lambda store: store.take_hint(exercise.path, given))
    return number


def taken(exercise: Exercise, session: Session) -> set[int] | None:
    """The hints that were taken, or None where nothing can be remembered."""
    if session.store is None:
        return None
    try:
        return set(session.store.hints(exercise.path))
    except StoreUnavailable as error:
        session.complain(error)
        return None


def text(exercise: Exercise, number: int, width: int) -> str:
    return paragraph(f"hint {number} of {len(exercise.card.hints)}: ", exercise.card.hints[number - 1], width)


def _json(exercise: Exercise, number: int) -> dict[str, object]:
    hints = exercise.card.hints
    return {"exercise": exercise.path, "number": number, "of": len(hints), "text": hints[number - 1]}
