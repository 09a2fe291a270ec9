"""`grade history`: your attempts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from grader.cli.session import ExerciseName, Session, json_option
from grader.exercise import Exercise
from grader.render.terminal import WORDS
from grader.render.text import cut
from grader.store import Attempt


@click.command()
@click.argument("exercise", type=ExerciseName(), metavar="[SLUG]", required=False)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="how many, the latest first")
@json_option
def history(exercise: Exercise | None, limit: int, as_json: bool) -> None:
    """List your attempts, the latest first; as JSON with their verdicts."""
    session = Session.inside()
    assert session.store is not None
    attempts = session.store.attempts(exercise.path if exercise else None, limit=limit)
    if as_json:
        session.screen.json([_json(attempt) for attempt in attempts])
    elif attempts:
        width = max(len(attempt.exercise) for attempt in attempts)
        session.screen.result("\n".join(cut(_line(attempt, width), session.screen.width) for attempt in attempts))
    else:
        of = f" of `{exercise.slug}`" if exercise else ""
        session.screen.result(f"no attempt{of} yet")


def _line(attempt: Attempt, width: int) -> str:
    when = datetime.fromtimestamp(attempt.at).strftime("%Y-%m-%d %H:%M")
    points = f"{attempt.points} of {attempt.max_points}"
    what = f"{attempt.part} only" if attempt.part else "" if attempt.complete else "without performance"
    return f"{when}  {attempt.exercise:<{width}}  {WORDS[attempt.status]:<13}  {points:>8}  {what}".rstrip()


def _json(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "at": datetime.fromtimestamp(attempt.at, UTC).isoformat(timespec="seconds"),
        "part": attempt.part,
        "complete": attempt.complete,
        "verdict": json.loads(attempt.json),
    }
