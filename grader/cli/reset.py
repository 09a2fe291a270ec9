"""`grade reset SLUG`: begin again, with the old file kept."""

from __future__ import annotations

import click

from grader import workspace
from grader.catalog import Entry
from grader.cli.session import ExerciseName, Session


@click.command()
@click.argument("entries", type=ExerciseName(), metavar="SLUG...", nargs=-1, required=True)
def reset(entries: tuple[Entry, ...]) -> None:
    """Bring stubs back. What you had is kept next to it as `SLUG.py.bak`, `.bak1`, ..."""
    session = Session.inside()
    assert session.workspace is not None
    for entry in entries:
        done = workspace.reset(session.workspace, entry)
        path = session.shown(done.path)
        if not done.changed:
            session.screen.result(f"`{path}` is the stub already")
        elif done.backup is None:
            session.screen.result(f"`{path}` is the stub")
        else:
            session.screen.result(f"`{path}` is the stub again; your old file is `{session.shown(done.backup)}`")
