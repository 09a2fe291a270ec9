"""`grade reset SLUG`: begin again, with the old file kept."""

from __future__ import annotations

import click

from grader import workspace
from grader.cli.session import ExerciseName, Session
from grader.exercise import Exercise


@click.command()
@click.argument("exercises", type=ExerciseName(), metavar="SLUG...", nargs=-1, required=True)
def reset(exercises: tuple[Exercise, ...]) -> None:
    """Bring stubs back. What you had is kept next to it as `SLUG.py.bak`, `.bak1`, ..."""
    session = Session.inside()
    assert session.workspace is not None
    for exercise in exercises:
        done = workspace.reset(session.workspace, exercise)
        path = session.shown(done.path)
        if not done.changed:
            session.screen.result(f"`{path}` is the stub already")
        elif done.backup is None:
            session.screen.result(f"`{path}` is the stub")
        else:
            session.screen.result(f"`{path}` is the stub again; your old file is `{session.shown(done.backup)}`")
